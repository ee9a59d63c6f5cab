"""Slow weights: against their definition, and what they leave alone."""

import pytest
import torch
from torch import nn

from hubel.train.lookahead import Lookahead


def test_slow_weights_follow_the_definition():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    fast = model[0].weight
    lookahead = Lookahead(model, every=2)
    slow = fast.detach().clone()
    for step in range(1, 9):
        done = (step - 1) / 8
        with torch.no_grad():
            fast.add_(torch.randn_like(fast))
            model[1].running_mean.add_(1.0)
        explored = fast.detach().clone()
        lookahead.after_step(step, done)
        if step % 2:
            assert torch.equal(fast, explored)
            continue
        kept = 0.95**2 * done**3
        slow = kept * slow + (1 - kept) * explored
        torch.testing.assert_close(fast.detach(), slow)
    assert float(model[1].running_mean[0]) < 8  # buffers are pulled back too
    assert model[1].num_batches_tracked == 0


def test_at_first_it_changes_nothing_and_at_the_end_most_is_the_past():
    lookahead = Lookahead(nn.Linear(2, 2), every=5)
    assert lookahead.kept(0.0) == 0.0
    assert lookahead.kept(1.0) == pytest.approx(0.7738, abs=1e-4)


def test_what_is_left_in_the_end_are_the_slow_weights():
    model = nn.Linear(3, 2)
    lookahead = Lookahead(model, 5)
    slow = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    lookahead.finish(4)  # before the first pull
    assert torch.equal(model.weight.detach(), slow + 1.0)
    lookahead.finish(5)
    assert torch.equal(model.weight.detach(), slow)


def test_slow_weights_are_restored():
    model = nn.Linear(3, 2)
    first = Lookahead(model, 5)
    saved = {name: tensor.clone() + 1 for name, tensor in first.slow.items()}
    second = Lookahead(model, 5)
    second.load(saved)
    assert all(torch.equal(second.slow[name], saved[name]) for name in saved)
    assert not torch.equal(model.weight, saved["weight"])


def test_what_is_frozen_stays_to_the_bit():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    model[0].weight.requires_grad_(False)
    lookahead = Lookahead(model, 1)
    assert "0.weight" not in lookahead.slow
    before = model[0].weight.clone()
    lookahead.after_step(1, 0.9)
    assert torch.equal(model[0].weight, before)
