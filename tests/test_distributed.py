"""Several processes train as one does. Real processes, started by torchrun."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import safetensors.torch
import torch
from fakes import MemoryStore, random_pixels, unit_preprocess

import hubel
from hubel.data.augment import Augment
from hubel.data.loader import Loader
from hubel.data.targets import Labels
from hubel.errors import UserError
from hubel.train import fit as fit_module
from hubel.world import World, read_world

SETTINGS = {
    "model": "simple", "batch_size": 15, "epochs": 2, "threads": 1, "engine": "fp32",
    "dropout": 0.0, "optimizer": "sgd", "mixup": 0.2, "checkpoint_every": 0.0,
}  # fmt: skip


# Who has which samples


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 5, 9, 10, 64])
def test_shares_are_even_and_complete(size, count):
    worlds = [World(rank, size, rank, size) for rank in range(size)]
    shares = [range(count)[world.share(count)] for world in worlds]
    if count < 2 * size:
        assert all(list(s) == list(range(count)) for s in shares)
    else:
        assert [i for s in shares for i in s] == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert min(map(len, shares)) == worlds[0].least(count)
    # The mean over processes of weighted means is the mean; each sample counts once.
    values = torch.rand(count, dtype=torch.float64)
    means = [
        world.weights(len(s), count)[0] * values[list(s)].mean()
        for world, s in zip(worlds, shares, strict=True)
    ]
    torch.testing.assert_close(sum(means) / size, values.mean())
    counted = [w.weights(len(s), count)[1] * len(s) for w, s in zip(worlds, shares, strict=True)]
    assert sum(counted) == count


@pytest.mark.parametrize("mixup", [0.0, 0.4])
@pytest.mark.parametrize("n", [53, 57])  # 5 and 1 beyond batches of 8
def test_all_processes_together_see_what_one_sees(mixup, n):
    pixels = random_pixels(n, (9, 9), 3)
    targets = torch.arange(n).numpy() % 4

    def batches(world, start):
        loader = Loader(
            MemoryStore(pixels), Labels.of(targets), torch.arange(n).numpy(),
            unit_preprocess((9, 9), 3), 8, 3, 4, augment=Augment("random", 0.2, jitter=0.3),
            mixup=mixup, world=world,
        )  # fmt: skip
        return list(loader.epoch(2, start)), list(loader.evaluation())

    for start in (0, 4):
        alone, evaluation = batches(World(), start)
        assert sum(len(b) for b in alone) == n - 8 * start
        parts = [batches(World(rank, 3, rank, 3), start) for rank in range(3)]
        for whole, *shares in zip(alone, *(train for train, _ in parts), strict=True):
            if len(whole) < 6:
                shares = shares[:1]
            for name in ("input", "target", "ids"):
                together = torch.cat([getattr(s, name) for s in shares])
                assert torch.equal(together, getattr(whole, name))
            assert {s.whole for s in shares} == {len(whole)}
        assert len(alone[-1]) == (5 if n == 53 else 9)
        ids = torch.cat([b.ids for _, evaluated in parts for b in evaluated])
        assert torch.equal(ids, torch.cat([b.ids for b in evaluation]))


# What torchrun says


def test_the_environment_of_torchrun():
    assert read_world({}) == World()
    found = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert read_world(found) == World(3, 4, 1, 2)
    assert not read_world(found).first


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"RANK": "0"}, r"RANK is set in the environment and WORLD_SIZE is not; .*torchrun"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, r"RANK is set .* and LOCAL_RANK is not"),
        ({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, r"RANK=2, WORLD_SIZE=2, .* name no"),
        ({"RANK": "x", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, r"RANK=x, WORLD_SIZE=2"),
    ],
)
def test_an_environment_that_makes_no_sense(found, message):
    with pytest.raises(UserError, match=message):
        read_world(found)


# Real processes


def torchrun(*words, processes=2):
    """What `torchrun` gives: exit code, stdout and stderr."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    environment["PYTHONPATH"] = str(Path(hubel.__file__).parents[1])  # for a script elsewhere
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone",
         "--nproc-per-node", str(processes), *map(str, words)],
        capture_output=True, text=True, timeout=250, env=environment, check=False,
    )  # fmt: skip


def options(settings):
    return [w for k, v in settings.items() for w in (f"--{k.replace('_', '-')}", str(v))]


def script(tmp_path, body):
    """A Python file for torchrun; `rank` is there."""
    file = tmp_path / "script.py"
    start = "import os, signal, sys, torch, hubel\nrank = int(os.environ['RANK'])\n"
    file.write_text(start + textwrap.dedent(body))
    return file


def weights(path):
    return safetensors.torch.load_file(path / "model.safetensors")


TWO_HEADS = """
from torch import nn
from hubel.models import Model, Outputs

class Net(Model):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.body = nn.Conv2d(in_channels, 8, 3, stride=2)
        self.head = nn.Linear(8, num_classes)
        self.auxiliary = nn.Linear(8, num_classes)

    def forward_features(self, input):
        return [self.body(input).relu()]

    def forward_head(self, features):
        pooled = features[-1].mean((2, 3))
        if not self.training:
            return self.head(pooled)
        return Outputs(self.head(pooled), (self.auxiliary(pooled),), 0.3)
"""


@pytest.mark.parametrize("heads", [1, 2])
def test_two_processes_train_as_one_does(pictures, tmp_path, heads):
    settings = {**SETTINGS, "epochs": 3 - heads}
    if heads == 2:
        (tmp_path / "net.py").write_text(TWO_HEADS)
        settings["model"] = f"{tmp_path / 'net.py'}:Net"
        del settings["dropout"]
    alone = hubel.fit(pictures, output=tmp_path / "one", **settings)
    done = torchrun(
        "-m", "hubel", "fit", pictures, "--output", tmp_path / "two", *options(settings), "--json"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"metrics"') == 1
    together = hubel.load(tmp_path / "two")
    assert together.result["samples_seen"] == alone.result["samples_seen"]
    assert together.result["metrics"]["n"] == alone.result["metrics"]["n"]
    assert together.folder.read_json("run.json")["environment"]["processes"] == 2
    assert together.folder.read_json("split.json") == alone.folder.read_json("split.json")
    for a, b in zip(alone.folder.log(), together.folder.log(), strict=True):
        for name in ("train_loss", "val_loss", "lr", "train_top1"):
            assert a[name] == pytest.approx(b[name], rel=1e-4), name
    mine, theirs = weights(alone.path), weights(together.path)
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=0, atol=1e-5)
    if heads == 2:
        first = next((alone.path / "checkpoints").glob("r00-step-0000000000*"))
        assert not torch.equal(weights(first)["auxiliary.weight"], mine["auxiliary.weight"])


def test_what_the_processes_tell_each_other(tmp_path):
    file = script(
        tmp_path,
        """
        from hubel.train.distributed import joined
        with joined() as group:
            assert group.most(rank, -rank) == [1, 0]
            assert group.total(torch.tensor(2.0), torch.tensor(rank)) == [4, 1]
            assert group.text("gründlich" if rank == 0 else "") == "gründlich"
            assert group.text("") == ""
            assert torch.stack(group.each(torch.tensor([rank, 5]))).tolist() == [[0, 5], [1, 5]]
            rows = torch.arange(5)[group.world.share(5)]
            a, b = group.gathered(5, rows, rows[:, None] * 1.5)
            assert a.tolist() == [0, 1, 2, 3, 4]
            assert b[:, 0].tolist() == [0, 1.5, 3, 4.5, 6]
            norm = torch.nn.BatchNorm2d(2)
            norm(torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(rank)))
            different = group.each(norm.running_mean)
            assert not torch.equal(*different)
            group.share_buffers(norm, None)
            assert torch.equal(norm.running_mean, different[0])
            assert group.threads() >= 1
        """,
    )
    done = torchrun(file)
    assert done.returncode == 0, done.stderr


def test_one_failing_process_ends_all(pictures, tmp_path):
    file = script(
        tmp_path,
        f"""
        from hubel.cli.main import main
        from hubel.train import loop
        real, calls = loop.set_rate, []
        def failing(optimizer, factor):
            calls.append(1)
            if rank == 1 and len(calls) == 3:
                sys.exit("the machine is on fire")
            return real(optimizer, factor)
        loop.set_rate = failing
        sys.argv = ["hubel", "fit", {str(pictures)!r}, "--output", {str(tmp_path / "run")!r},
                    *{options(SETTINGS)!r}]
        main()
        """,
    )
    done = torchrun(file)
    assert done.returncode == 1
    assert "the machine is on fire" in done.stderr
    assert "hubel: another process of this training has ended" in done.stderr
    assert not (tmp_path / "run").exists()  # nothing was trained yet


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_a_resume_ends_in_the_same_bytes(pictures, tmp_path):
    settings = {**SETTINGS, "dropout": 0.3, "ema": 0.9}
    undisturbed = torchrun(
        "-m", "hubel", "fit", pictures, "--output", tmp_path / "whole", *options(settings)
    )
    assert undisturbed.returncode == 0, undisturbed.stderr
    file = script(
        tmp_path,
        f"""
        from hubel.cli.main import main
        from hubel.train import loop
        real, calls = loop.set_rate, []
        def pressing(optimizer, factor):
            calls.append(1)
            if rank == 1 and len(calls) == 6:
                os.kill(os.getpid(), signal.SIGINT)
            return real(optimizer, factor)
        loop.set_rate = pressing
        sys.argv = ["hubel", "fit", {str(pictures)!r}, "--output", {str(tmp_path / "run")!r},
                    *{options(settings)!r}]
        main()
        """,
    )
    stopped = torchrun(file)
    assert stopped.returncode != 0
    assert "hubel: stopped in epoch 2, everything is saved" in stopped.stderr
    resumed = torchrun("-m", "hubel", "fit", "--resume", tmp_path / "run")
    assert resumed.returncode == 0, resumed.stderr
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole"))
    assert a == b


NETWORK = """
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.stages = nn.ModuleList([
            nn.Sequential(nn.Conv2d(in_channels, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            nn.Sequential(nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        ])
        self.never = nn.Linear(3, 3)
        self.head = nn.Linear(8, num_classes)

    def forward(self, input):
        for stage in self.stages:
            input = stage(input)
        return self.head(input.mean((2, 3)))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [{}, {"freeze": "2", "unfreeze_epochs": "1"}, {"freeze": "1"}], ids=str
)
def test_batch_norm_and_parameters_without_a_gradient(pictures, tmp_path, more):
    """Every process trains the same weights, and what is saved is what was evaluated."""
    (tmp_path / "net.py").write_text(NETWORK)
    settings = {**SETTINGS, "model": f"{tmp_path / 'net.py'}:Net", "epochs": 3, **more}
    del settings["dropout"]
    file = script(
        tmp_path,
        f"""
        from hubel.cli.main import main
        from hubel.train import fit
        real = fit.predicted
        def look(t, model, engine):
            result = real(t, model, engine)
            for tensor in t.model.state_dict().values():
                first, second = t.group.each(tensor)
                assert torch.equal(first, second)
            return result
        fit.predicted = look
        sys.argv = ["hubel", "fit", {str(pictures)!r}, "--output", {str(tmp_path / "run")!r},
                    *{options(settings)!r}]
        main()
        """,
    )
    done = torchrun(file)
    assert done.returncode == 0, done.stderr
    run = hubel.load(tmp_path / "run")
    first, *_, last = run.folder.log()
    assert last["train_loss"] < first["train_loss"]
    (newest,) = (run.path / "checkpoints").glob(f"*-{last['step']:010d}-epoch")
    state = safetensors.torch.load_file(newest / "model.safetensors")
    (mean,) = [v for k, v in state.items() if k.endswith("stages.1.1.running_mean")]
    assert mean.abs().sum() > 0


def test_a_resume_by_another_number_of_processes_says_so():
    class Two:
        alone = False
        world = World(0, 2, 0, 2)

    class Stub:
        engine, group = "cpu", Two()

    state = {"threads": torch.get_num_threads(), "torch": torch.__version__, "engine": "cpu",
             "processes": 1}  # fmt: skip
    heard = fit_module._differences(Stub(), state)
    assert heard == [
        "processes is 2 here and was 1 in the run: the result will not be the same to the bit"
    ]


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_as_one_process_does(pictures, tmp_path):
    alone = hubel.fit(pictures, output=tmp_path / "one", device="cuda", **SETTINGS)
    done = torchrun(
        "-m", "hubel", "fit", pictures, "--output", tmp_path / "two", *options(SETTINGS)
    )
    assert done.returncode == 0, done.stderr
    mine, theirs = weights(alone.path), weights(tmp_path / "two")
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=0, atol=1e-4)
