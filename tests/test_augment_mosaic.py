"""Mosaics of four pictures: what each quarter shows, and where its objects are."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes import MemoryStore, random_pixels, unit_preprocess

from hubel.config import FitConfig
from hubel.data import loader as loader_module
from hubel.data.augment import Augment
from hubel.data.boxes import Boxes
from hubel.data.loader import Loader
from hubel.data.mosaic import mosaic, mosaic_draws
from hubel.data.source import SourceInfo
from hubel.data.targets import BoxTargets
from hubel.errors import UserError
from hubel.train.settle import settle_task

NONE = [-1.0] * 5


def four(size, n=1, channels=1):
    return torch.from_numpy(random_pixels(4 * n, size, channels)).unflatten(0, (n, 4))


def no_boxes(n=1):
    return torch.full((n, 4, 1, 5), -1.0)


def test_in_the_middle_each_quarter_is_half_a_picture():
    pixels = four((12, 16), n=2, channels=3)
    made, rows = mosaic(pixels, no_boxes(2), torch.full((2, 2), 0.5))
    assert made.shape == (2, 12, 16, 3)
    assert made.dtype == torch.uint8
    assert rows.tolist() == [[NONE] * 4] * 2
    for k in range(4):
        half = F.avg_pool2d(pixels[:, k].movedim(-1, 1).float(), 2).movedim(1, -1)
        top, left = 6 * (k // 2), 8 * (k % 2)
        quarter = made[:, top : top + 6, left : left + 8]
        assert (quarter.float() - half).abs().max() <= 0.51


@pytest.mark.parametrize("centre", [(0.25, 0.75), (0.3, 0.4), (0.7, 0.5)])
def test_quarters_meet_in_the_centre_and_are_covered(centre):
    shades = torch.tensor([10, 60, 110, 160], dtype=torch.uint8)
    pixels = shades.view(1, 4, 1, 1, 1).expand(1, 4, 20, 40, 1)
    made, _ = mosaic(pixels, no_boxes(), torch.tensor([centre]))
    down, right = round(20 * centre[0]), round(40 * centre[1])
    expected = torch.empty(20, 40, dtype=torch.uint8)
    expected[:down, :right], expected[:down, right:] = 10, 60
    expected[down:, :right], expected[down:, right:] = 110, 160
    assert torch.equal(made[0, ..., 0], expected)


def test_boxes_are_where_their_objects_are():
    """Four black pictures with one white box each; a mosaic of them shows where it comes."""
    torch.manual_seed(0)
    height, width, n = 64, 96, 50
    sides = torch.tensor([width, height, width, height])
    for _ in range(n):
        shown = int(torch.randint(4, (1,)))
        corner = torch.rand(2) * 0.6
        box = torch.cat([corner, corner + 0.2 + 0.2 * torch.rand(2)])
        left, top, right, bottom = (box * sides).round().int().tolist()
        box = torch.tensor([left, top, right, bottom]) / sides
        pixels = torch.zeros(1, 4, height, width, 1, dtype=torch.uint8)
        pixels[0, shown, top:bottom, left:right] = 255
        rows = no_boxes().repeat(1, 1, 2, 1)
        rows[0, shown, 1] = torch.cat([torch.tensor([7.0]), box])
        made, found = mosaic(pixels, rows, 0.25 + torch.rand(1, 2) / 2)
        assert found.shape == (1, 8, 5)
        others = [k for k in range(8) if k != 2 * shown + 1]
        assert (found[0, others] == -1).all()
        row = found[0, 2 * shown + 1]
        inside = made[0, ..., 0] >= 128
        if row[0] == -1:  # most of it was cut off
            assert int(inside.sum()) < 0.3 * 0.75**2 * float((box[2:] - box[:2]).prod()) * 6144
            continue
        assert row[0] == 7
        down, across = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        seen = torch.stack([across[0], down[0], across[-1] + 1, down[-1] + 1])
        assert (row[1:] * sides - seen).abs().max() <= 1.0


def test_a_box_is_cut_off_or_dropped_below_a_quarter_of_its_area():
    rows = torch.full((1, 4, 3, 5), -1.0)
    # Centre (1/2, 1/4): the top left quarter is 1/4 wide and 1/2 high, its picture half size.
    # So its left half is cut off: of the picture, the right half is seen.
    rows[0, 0, 0] = torch.tensor([0.0, 0.125, 0.0, 0.625, 1.0])  # a quarter of it is right of 1/2
    rows[0, 0, 1] = torch.tensor([1.0, 0.125, 0.0, 0.62, 1.0])  # less
    rows[0, 0, 2] = torch.tensor([2.0, 0.5, 0.5, 1.0, 1.0])  # all of it
    _, found = mosaic(four((16, 16)), rows, torch.tensor([[0.5, 0.25]]))
    expected = torch.tensor([[0.0, 0.0, 0.0, 0.0625, 0.5], NONE, [2.0, 0.0, 0.25, 0.25, 0.5]])
    torch.testing.assert_close(found[0, :3], expected)
    assert (found[0, 3:] == -1).all()


def test_draws_are_of_the_seed_and_the_epoch():
    draws = mosaic_draws(4000, 0.3, 5, 1)
    assert 0.26 < float(draws.made.float().mean()) < 0.34
    assert draws.partners.shape == (4000, 3)
    assert 0 <= int(draws.partners.min())
    assert int(draws.partners.max()) < 4000
    assert float(draws.centers.min()) >= 0.25
    assert float(draws.centers.max()) <= 0.75
    again, next_one = mosaic_draws(4000, 0.3, 5, 1), mosaic_draws(4000, 0.3, 5, 2)
    assert torch.equal(again.partners, draws.partners)
    assert not torch.equal(next_one.partners, draws.partners)


# In the loader


def make_loader(batch_size=5, share=0.5, n=21, **changes) -> Loader:
    store = MemoryStore(random_pixels(n, (8, 8), 1))
    box = (0, (1.0, 2.0, 5.0, 6.0), False)
    targets = BoxTargets.of(Boxes.of([[box] * (i % 3) for i in range(n)], n), store)
    indices = np.arange(1, n, 2)
    settings = {"augment": Augment("random", 0.2, mosaic=share), **changes}
    return Loader(store, targets, indices, unit_preprocess((8, 8), 1), batch_size, 3, 2, **settings)


def test_a_sample_is_in_the_same_mosaic_whatever_the_batch(monkeypatch):
    monkeypatch.setattr(loader_module, "_CHUNK_BYTES", 1)  # a batch at a time
    by_id = {}
    for batch_size in (1, 4, 100):
        for batch in make_loader(batch_size).epoch(1):
            assert batch.target.shape[1:] == (8, 5)
            for i, picture, rows in zip(batch.ids.tolist(), batch.input, batch.target, strict=True):
                known = by_id.setdefault(i, (picture, rows))
                assert torch.equal(known[0], picture)
                assert torch.equal(known[1], rows)
    assert len(by_id) == 10


def test_an_epoch_entered_midway_goes_on_bit_for_bit(monkeypatch):
    monkeypatch.setattr(loader_module, "_CHUNK_BYTES", 1)
    loader = make_loader(3, transform=lambda picture, seed: picture + seed % 7)
    whole = list(loader.epoch(2))
    for start in range(len(whole)):
        for a, b in zip(loader.epoch(2, start), whole[start:], strict=True):
            assert torch.equal(a.input, b.input)
            assert torch.equal(a.target, b.target)


def test_the_share_says_how_many_and_the_others_stay_as_they_were():
    plain = {int(b.ids): b for b in make_loader(1, 0.0).epoch(0)}
    changed = 0
    draws = mosaic_draws(10, 0.5, 3, 0)
    for batch in make_loader(1, 0.5).epoch(0):
        before = plain[int(batch.ids)]
        made = bool(draws.made[int(batch.ids) // 2])
        assert torch.equal(batch.input, before.input) is not made
        if not made:
            assert torch.equal(batch.target[:, :2], before.target)
            assert (batch.target[:, 2:, 0] == -1).all()
        changed += made
    assert 0 < changed < 10


def test_partners_are_of_the_same_split():
    """Validation pictures are white; none is seen in training."""
    pixels = np.zeros((40, 8, 8, 1), np.uint8)
    pixels[20:] = 255
    store = MemoryStore(pixels)
    targets = BoxTargets.of(Boxes.of([[]] * 40, 40), store)
    loader = Loader(
        store,
        targets,
        np.arange(20),
        unit_preprocess((8, 8), 1),
        7,
        0,
        2,
        augment=Augment(mosaic=1.0),
    )
    assert all(float(batch.input.max()) == 0 for batch in loader.epoch(0))
    assert all(batch.target.shape[1] == 1 for batch in loader.evaluation())


@pytest.mark.parametrize(("task", "labels"), [("classify", "class"), ("localize", "boxes")])
def test_mosaics_are_for_detection(task, labels):
    boxes = Boxes.of([[(0, (0, 0, 1, 1), False)]] * 2, 2) if labels == "boxes" else None
    info = SourceInfo("folders", 2, ("a", "b"), labels=labels)
    source = SimpleNamespace(info=info, boxes=boxes)
    with pytest.raises(UserError, match=rf"^--mosaic .* --task {task} does not; leave it out$"):
        settle_task(FitConfig(data="x", task=task, mosaic=0.5), source)
