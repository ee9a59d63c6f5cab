"""Hard examples: what an epoch visits, and that the proxy tells hard from easy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import MemoryStore, unit_preprocess

from hubel.data.loader import Loader
from hubel.data.targets import Labels
from hubel.engine import Engine
from hubel.errors import UserError
from hubel.runs import RunFolder
from hubel.tasks import TASKS
from hubel.train.selection import difficulty, select

ENGINE = Engine(torch.device("cpu"))


def two_classes(n: int = 256, side: int = 12) -> tuple[Loader, np.ndarray]:
    """Bright and dark pictures, every eighth of them with the other's label."""
    rng = np.random.default_rng(0)
    targets = np.arange(n) % 2
    pixels = rng.integers(0, 60, (n, side, side, 3)) + 150 * targets[:, None, None, None]
    wrong = np.arange(n) % 16 < 2
    labels = np.where(wrong, 1 - targets, targets)
    loader = Loader(
        MemoryStore(pixels.astype(np.uint8)),
        Labels.of(labels),
        np.arange(n),
        unit_preprocess((side, side), 3),
        batch_size=16,
        seed=0,
        num_classes=2,
    )
    return loader, wrong


def test_an_epoch_leaves_out_some_of_the_easier_half():
    loader, _ = two_classes(64)
    difficulty = np.arange(64, dtype=np.float32)[::-1].copy()
    selected = replace(loader, difficulty=difficulty, hard_share=0.75)
    assert len(selected) == 3
    orders = [selected.order(epoch) for epoch in range(40)]
    assert all(len(order) == 48 == len(order.unique()) for order in orders)
    visits = torch.cat(orders).bincount(minlength=64)
    assert bool((visits[:32] == 40).all())  # the hard half, always
    assert bool((visits[32:] > 8).all())  # the easy half, every other time
    assert bool((visits[32:] < 32).all())
    assert torch.equal(selected.order(3), orders[3])
    ids = torch.cat([batch.ids for batch in selected.epoch(0)])
    assert torch.equal(ids, orders[0])


def test_the_proxy_finds_the_wrong_labels_hard_and_a_resume_asks_it_no_more(tmp_path):
    loader, wrong = two_classes()
    run = RunFolder.create(tmp_path / "run")
    task = TASKS["classify"]
    selected = select(loader, 0.8, run, task, ENGINE, 2)
    losses = selected.difficulty
    assert losses is not None
    assert losses[wrong].mean() > losses[~wrong].mean() + 0.2
    again = select(loader, 0.8, run, task, ENGINE, 99)  # 99 outputs: a proxy would show
    assert np.array_equal(again.difficulty, losses)
    assert select(loader, 1.0, run, task, ENGINE, 2) is loader


def test_the_proxy_has_a_batch_of_its_own():
    loader, _ = two_classes()
    found = [
        difficulty(replace(loader, batch_size=size), TASKS["classify"], ENGINE, 2)
        for size in (1, 16)  # 1 is what `--batch-size auto` has before it is measured
    ]
    assert np.array_equal(*found)


def test_what_it_cannot_do_is_said(tmp_path):
    loader, _ = two_classes(32, side=6)
    run = RunFolder.create(tmp_path / "run")
    with pytest.raises(UserError, match=r"--hard-share needs pictures of at least 9 pixels .* 6×6"):
        select(loader, 0.8, run, TASKS["classify"], ENGINE, 2)
    with pytest.raises(UserError, match="--hard-share and --balanced-sampling both choose"):
        select(replace(loader, balanced=True), 0.8, run, TASKS["classify"], ENGINE, 2)
