"""The loader: nothing dropped, nothing doubled, the same from any batch on."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fakes import MemoryStore, random_pixels, unit_preprocess
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hubel.data import loader as loader_module
from hubel.data.augment import Augment
from hubel.data.loader import Batch, Loader, evaluation_batch, samples_at_once
from hubel.data.targets import Labels
from hubel.world import World


def make_loader(n=37, batch_size=5, size=(6, 6), **changes) -> Loader:
    store = MemoryStore(random_pixels(n, size, 1))
    targets = np.arange(n, dtype=np.int64) % 4
    indices = np.arange(1, n, 2)
    settings_ = {"num_classes": 4, "augment": Augment("alternating", 0.2)}
    return Loader(
        store,
        Labels.of(targets),
        indices,
        unit_preprocess(size, 1),
        batch_size,
        3,
        **{**settings_, **changes},
    )


@given(st.integers(4, 40), st.integers(1, 50))
@settings(max_examples=30, deadline=None)
def test_an_epoch_sees_every_sample_once(n, batch_size):
    loader = make_loader(n, batch_size)
    batches = list(loader.epoch(0))
    assert len(batches) == len(loader)
    alone = len(loader.indices) == 1 or batch_size == 1
    assert alone or all(len(batch) > 1 for batch in batches)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert len(batches[-1]) <= batch_size + 1
    assert max(map(len, batches)) in (loader.largest, loader.largest + 1)
    ids = torch.cat([b.ids for b in batches])
    assert sorted(ids.tolist()) == loader.indices.tolist()
    targets = torch.cat([b.target for b in batches])
    assert torch.equal(targets, loader.targets.rows(ids))
    evaluated = torch.cat([b.ids for b in loader.evaluation()])
    assert evaluated.tolist() == loader.indices.tolist()


@pytest.mark.parametrize("mixup", [0.0, 0.5])
@pytest.mark.parametrize("size", [(6, 6), (4, 4, 4)])
@pytest.mark.parametrize("n", [77, 93, 102])  # 38, 46 and 51 samples: 3 or 1 beyond batches of 5
def test_an_epoch_entered_midway_goes_on_bit_for_bit(monkeypatch, mixup, size, n):
    monkeypatch.setattr(loader_module, "_CHUNK_BYTES", 3 * 5 * 4 * 6 * 6)  # chunks of 3 batches
    loader = make_loader(n, size=size, mixup=mixup)
    whole = list(loader.epoch(2))
    assert len(whole[-1]) == (3 if n == 77 else 6)
    for start in range(len(whole) + 1):
        rest = list(loader.epoch(2, start))
        assert len(rest) == len(whole) - start
        for a, b in zip(rest, whole[start:], strict=True):
            assert torch.equal(a.input, b.input)
            assert torch.equal(a.target, b.target)
            assert torch.equal(a.ids, b.ids)


def test_batch_size_changes_the_batches_and_not_the_pictures():
    by_id = {}
    for batch_size in (1, 4, 100):
        for batch in make_loader(batch_size=batch_size).epoch(1):
            for i, picture in zip(batch.ids.tolist(), batch.input, strict=True):
                by_id.setdefault(i, picture)
                assert torch.equal(by_id[i], picture)


def test_validation_sees_no_augmentation():
    loader = make_loader()
    for batch in loader.evaluation():
        stored = loader.store.pixels[batch.ids].movedim(-1, 1).float() / 255
        torch.testing.assert_close(batch.input, stored)


def test_epochs_come_in_different_orders_and_seeds_too():
    loader = make_loader()
    assert not torch.equal(loader.order(0), loader.order(1))
    assert torch.equal(loader.order(1), loader.order(1))


def test_input_is_channels_last_in_memory():
    store = MemoryStore(random_pixels(8, (6, 6), 3))
    loader = Loader(
        store, Labels.of(np.zeros(8, np.int64)), np.arange(8), unit_preprocess((6, 6), 3), 4, 0, 2
    )
    batch = next(loader.epoch(0))
    assert batch.input.shape == (4, 3, 6, 6)
    assert batch.input.is_contiguous(memory_format=torch.channels_last)


def test_mixup_mixes_inputs_and_targets_by_the_same_share():
    n = 64
    pixels = np.zeros((n, 2, 2, 1), np.uint8)
    targets = np.arange(n) % 2
    pixels[targets == 1] = 255
    loader = Loader(
        MemoryStore(pixels),
        Labels.of(targets),
        np.arange(n),
        unit_preprocess((2, 2), 1),
        16,
        0,
        2,
        mixup=1.0,
    )
    mixed = 0
    for batch in loader.epoch(0):
        torch.testing.assert_close(batch.target.sum(1), torch.ones(16))
        torch.testing.assert_close(batch.input[:, 0, 0, 0], batch.target[:, 1])
        mixed += int(((batch.target > 0) & (batch.target < 1)).any(1).sum())
    assert mixed > 8


def test_balanced_sampling_draws_classes_equally():
    targets = np.array([0] * 900 + [1] * 90 + [2] * 10)
    loader = Loader(
        MemoryStore(np.zeros((1000, 1, 1, 1), np.uint8)),
        Labels.of(targets),
        np.arange(1000),
        unit_preprocess((1, 1), 1),
        100,
        0,
        3,
        balanced=True,
    )
    drawn = torch.cat([b.target for b in loader.epoch(0)])
    counts = drawn.bincount(minlength=3)
    assert counts.sum() == 1000
    assert counts.min() > 270
    assert counts.max() < 400


def test_a_persons_transform_gets_a_seed_of_its_sample():
    seen = {}

    def transform(picture, seed):
        seen.setdefault(seed, 0)
        seen[seed] += 1
        return 255 - picture

    loader = make_loader(transform=transform, augment=None)
    batch = next(loader.epoch(0))
    stored = loader.store.pixels[batch.ids].movedim(-1, 1).float() / 255
    torch.testing.assert_close(batch.input, 1 - stored)
    assert set(seen.values()) == {1}


def test_a_single_sample_left_over_joins_the_batch_before_it():
    sizes = {n: [len(b) for b in make_loader(2 * n, 8).epoch(0)] for n in (1, 8, 9, 15, 17, 25)}
    assert sizes == {1: [1], 8: [8], 9: [9], 15: [8, 7], 17: [8, 9], 25: [8, 8, 9]}


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
@example(3, 4, 8)
@example(5, 8, 16)
def test_parts_have_two_samples_where_those_of_a_whole_batch_have(n, parts, whole):
    n = min(n, whole + 1)
    row = torch.arange(n)
    sizes = [len(part) for part in Batch(row, row, row).split(parts, whole)]
    assert sum(sizes) == n
    assert len(sizes) <= parts
    assert max(sizes) - min(sizes) <= 1
    if n == whole:
        assert len(sizes) == min(parts, n)
    if 2 * parts <= whole and n > 1:
        assert min(sizes) >= 2
        assert max(sizes) <= -(-whole // parts) + 1


def test_a_share_of_the_samples_leaves_no_single_one_over():
    difficulty = np.arange(18, dtype=np.float32)
    loader = make_loader(36, 4, difficulty=difficulty, hard_share=0.75)  # 14 of 18: 4, 4, 4, 2
    assert [len(b) for b in loader.epoch(0)] == [4, 4, 4, 2]
    loader = make_loader(36, 4, difficulty=difficulty, hard_share=0.7)  # 13
    batches = list(loader.epoch(0))
    assert [len(b) for b in batches] == [4, 4, 5]
    assert len(loader) == 3
    assert len(set(torch.cat([b.ids for b in batches]).tolist())) == 13
    assert loader.largest == 4
    assert make_loader(36, 16, difficulty=difficulty, hard_share=0.7).largest == 13


@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 60), st.integers(1, 4))
@example(11, 4, 10, 2)
def test_every_process_cuts_its_share_into_as_many_parts(n, parts, whole, processes):
    """Each part ends in an exchange of gradients: one more in one process would wait for ever."""
    n = min(n, whole + 1)
    worlds = [World(rank, processes, rank, processes) for rank in range(processes)]
    least = worlds[0].least
    rows = [torch.arange(n)[world.share(n)] for world in worlds]
    cut = [Batch(row, row, row).split(parts, least(whole), least(n)) for row in rows]
    assert len({len(found) for found in cut}) == 1
    for row, found in zip(rows, cut, strict=True):
        assert torch.equal(torch.cat([part.ids for part in found]), row)
        sizes = [len(part) for part in found]
        assert min(sizes) >= (2 if 2 * parts <= least(whole) and len(row) > 1 else 1)


def test_split_gives_equal_parts_in_order():
    batch = next(make_loader(batch_size=7).epoch(0))
    parts = batch.split(3, 7)
    assert [len(p) for p in parts] == [3, 2, 2]
    assert torch.equal(torch.cat([p.input for p in parts]), batch.input)
    assert len(batch.split(100, 7)) == 7


@pytest.mark.parametrize(
    ("size", "number"),
    [((8, 8), 512), ((64, 64), 256), ((288, 384), 9), ((64, 64, 64), 4), ((1025, 1024), 1)],
)
def test_samples_at_once_are_bounded_by_their_pixels(size, number):
    assert samples_at_once(size) == number
    assert evaluation_batch(SimpleNamespace(size=size)) == number
