"""Muon against singular values, torch's own Muon, and itself one by one."""

import pytest
import torch
from torch import nn

from hubel.train.composite import Composite
from hubel.train.muon import Muon, orthogonalised
from hubel.train.optimizers import load_optimizer_tensors, optimizer_tensors, set_rate


def matrices(count: int, rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "columns"), [(24, 200), (200, 24), (1, 9), (32, 33)])
def test_five_steps_bring_singular_values_near_one(rows, columns):
    found = orthogonalised(matrices(3, rows, columns), steps=5)
    values = torch.linalg.svdvals(found)
    if rows != 32:  # a nearly square matrix has values near zero, which five steps do not lift
        assert float(values.min()) > 0.65
    assert float(values.max()) < 1.25


def test_the_directions_are_those_of_the_polar_factor():
    matrix = matrices(1, 20, 100)
    u, _, vh = torch.linalg.svd(matrix[0], full_matrices=False)
    found = orthogonalised(matrix)[0]
    rotated = u.T @ found @ vh.T  # diagonal, if found has the matrix's own directions
    off = rotated - torch.diag(rotated.diagonal())
    assert float(off.abs().max()) < 1e-5
    assert float((rotated.diagonal() - 1).abs().max()) < 0.35


def test_together_is_one_by_one_and_zero_stays_zero():
    batch = matrices(4, 12, 30)
    batch[2] = 0
    alone = torch.cat([orthogonalised(m[None]) for m in batch])
    torch.testing.assert_close(orthogonalised(batch), alone, rtol=1e-5, atol=1e-6)
    assert not orthogonalised(batch)[2].any()
    half = orthogonalised(batch, dtype=torch.bfloat16)
    assert half.dtype == torch.float32
    assert float((half - alone).abs().max()) < 0.05


def test_the_direction_of_a_step_is_that_of_torchs_muon():
    start = matrices(1, 16, 40)[0]
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = Muon([mine], lr=0.1, momentum=0.9)
    reference = torch.optim.Muon([theirs], lr=0.1, momentum=0.9, weight_decay=0.0, nesterov=True)
    for seed in range(3):
        before = mine.detach().clone(), theirs.detach().clone()
        gradient = matrices(1, 16, 40, seed + 1)[0]
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        ours.step()
        reference.step()
        steps = [(p - b).detach().flatten() for p, b in zip((mine, theirs), before, strict=True)]
        # torch's is in bfloat16, and its running gradient is a mean instead of a sum.
        assert float(torch.cosine_similarity(*steps, dim=0)) > (0.99 if seed == 0 else 0.97)
        assert float(steps[0].norm()) == pytest.approx(0.1 * float(start.norm()), rel=1e-4)


def test_a_kept_norm_and_decay():
    filters = nn.Parameter(matrices(1, 8, 27)[0].view(8, 3, 3, 3) * 5)
    dense = nn.Parameter(matrices(1, 8, 27)[0])
    first = float(dense.detach().norm())
    optimizer = Muon(
        [{"params": [filters], "keep_norm": True}, {"params": [dense], "weight_decay": 0.5}], lr=0.1
    )
    filters.grad, dense.grad = torch.zeros_like(filters), torch.zeros_like(dense)
    optimizer.step()
    assert float(filters.detach().norm()) == pytest.approx(8**0.5, rel=1e-5)
    assert float(dense.detach().norm()) == pytest.approx(0.95 * first, rel=1e-5)
    with pytest.raises(ValueError, match="takes matrices and filters"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_parameters_of_one_shape_are_stepped_as_if_alone():
    def train(split: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.randn(6, 4, 3, 3)) for _ in range(3)]
        groups = [[p] for p in parameters] if split else [parameters]
        optimizers = [Muon(group, lr=0.05) for group in groups]
        for _ in range(3):
            for p in parameters:
                p.grad = torch.randn(p.shape)
            for optimizer in optimizers:
                optimizer.step()
        return [p.detach() for p in parameters]

    for together, alone in zip(train(False), train(True), strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def composite() -> tuple[nn.Sequential, Composite]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3)).to(memory_format=torch.channels_last)
    matrix = [model[0].weight]
    rest = [p for p in model.parameters() if p is not model[0].weight]
    optimizer = Composite(
        Muon(matrix, lr=0.1), torch.optim.AdamW([{"params": rest, "lr": 0.01}], fused=True)
    )
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return model, optimizer


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
    for number in numbers:
        set_rate(optimizer, 1 / (number + 1))
        input = torch.randn(4, 5, generator=torch.Generator().manual_seed(number))
        model(input).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_composite_sets_rates_saves_and_goes_on_to_the_bit():
    model, optimizer = composite()
    steps(model, optimizer, range(4))
    assert [g["lr"] for g in optimizer.param_groups] == [0.025, 0.0025]
    tensors = optimizer_tensors(optimizer)
    assert {name.split(".")[1] for name in tensors} == {
        "momentum", "norm", "exp_avg", "exp_avg_sq", "step",
    }  # fmt: skip
    again, restored = composite()
    again.load_state_dict(model.state_dict())
    load_optimizer_tensors(restored, tensors)
    steps(model, optimizer, range(4, 8))
    steps(again, restored, range(4, 8))
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_composite_leaves_out_what_is_frozen_and_works_with_a_scaler():
    model, optimizer = composite()
    before = [p.detach().clone() for p in model.parameters()]
    model[0].weight.requires_grad_(False)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(model(torch.ones(2, 5)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    same = [torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert same == [True, False, False, False]
    plain, reference = composite()
    plain[0].weight.requires_grad_(False)
    plain(torch.ones(2, 5)).sum().backward()
    reference.step()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)
