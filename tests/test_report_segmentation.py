"""From maps to an evaluation, a batch at a time, and to the page and the words about it."""

import base64
import io
import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import hubel.maps
from hubel.colours import class_colour
from hubel.data.source import UnreadableSampleError
from hubel.evaluate.segmentation import (
    MAX_WORST,
    SegmentationEvaluation,
    confusion_counts,
    evaluate_label_maps,
)
from hubel.evaluate.segmenting import evaluate_maps
from hubel.maps import likeliest
from hubel.report.segmentation import most_taken, write_segmentation_report

CLASSES = ("road", "tree", "<b>sky")
FACTS = {"run": "a run", "task": "segment", "command": "hubel fit x"}


def case(n=7, size=(12, 16), seed=0):
    """True masks as a store, and maps at half their size that are right more often than not."""
    stream = torch.Generator().manual_seed(seed)
    small = torch.randint(3, (n, *[s // 4 for s in size]), generator=stream)
    for axis in range(1, small.ndim):
        small = small.repeat_interleave(4, axis)
    truth = small.to(torch.uint8)
    truth.view(n, -1)[:, :5] = 255
    half = small[(slice(None), *[slice(None, None, 2)] * len(size))]
    maps = F.one_hot(half, 3).movedim(-1, 1).float()
    maps = (2 * maps + 2 * torch.rand(maps.shape, generator=stream)).softmax(1)
    stored = truth.unsqueeze(-1)
    store = SimpleNamespace(size=size, gather=lambda indices: stored[indices])
    return maps, store, truth.numpy()


def judged(maps, store, order, batch=3, mask_classes=CLASSES, classes=CLASSES):
    ids = torch.tensor(order)
    batches = zip(maps[ids].split(batch), ids.split(batch), strict=True)
    names = [f"test/{i}.png" for i in range(len(maps))]
    return evaluate_maps(batches, store, mask_classes, names, classes, split="test")


def label_maps(truths, predictions, ids):
    pictures = zip(ids, truths, predictions, strict=True)
    return evaluate_label_maps(pictures, CLASSES, split="test").evaluation


@pytest.mark.parametrize("size", [(12, 16), (8, 8, 12)])
def test_batches_give_the_evaluation_of_the_whole(size):
    maps, store, truth = case(size=size)
    order = [4, 0, 2, 6, 1]
    found = judged(maps, store, order)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    whole = F.interpolate(maps, size, mode=mode, align_corners=False).argmax(1).numpy()
    ids = [f"test/{i}.png" for i in order]
    wanted = label_maps(truth[order], whole[order], ids)
    e = found.evaluation
    assert e.metrics == wanted.metrics
    assert e.per_class == wanted.per_class
    assert e.worst == wanted.worst
    counts = confusion_counts(e.confusion)
    assert counts[:, 2].tolist() == [c.num_true for c in e.per_class]
    assert counts[:, 1].tolist() == [c.num_predicted for c in e.per_class]
    assert list(found.worst) == [p.id for p in e.worst]
    for name, (t, p) in found.worst.items():
        i = int(name[5:-4])
        assert np.array_equal(t, truth[i])
        assert np.array_equal(p, whole[i])
    document = json.loads(json.dumps(e.to_json()))
    assert SegmentationEvaluation.from_json(document) == e


def test_only_the_worst_are_kept():
    maps, store, _ = case(n=2 * MAX_WORST + 9)
    found = judged(maps, store, list(range(len(maps))), batch=10)
    assert found.evaluation.n == 2 * MAX_WORST + 9
    assert list(found.worst) == [p.id for p in found.evaluation.worst]
    assert len(found.worst) == MAX_WORST


def test_classes_go_by_their_names():
    maps, store, truth = case()
    order = list(range(7))
    # The masks count in another order, and in one class that the network does not know.
    other = judged(maps, store, order, mask_classes=("tree", "road", "car"))
    swapped = np.array([1, 0, 255], np.uint8)[np.minimum(truth, 2)]
    swapped[truth == 255] = 255
    whole = np.stack([likeliest(m, (12, 16)) for m in maps])
    ids = [f"test/{i}.png" for i in order]
    wanted = label_maps(swapped, whole, ids)
    assert other.evaluation.metrics == wanted.metrics
    assert "pixels of 'car', which the network does not know, are not judged" in (
        other.evaluation.notes
    )


def test_the_likeliest_class_is_taken_after_the_maps_are_enlarged():
    maps = torch.tensor([[[0.9, 0.0]], [[0.1, 0.45]], [[0.0, 0.55]]])  # (3, 1, 2)
    assert likeliest(maps, (1, 2)).tolist() == [[0, 2]]
    # Between the two, at a quarter and at three quarters of the way.
    assert likeliest(maps, (1, 4)).tolist() == [[0, 0, 2, 2]]
    assert likeliest(maps, (1, 4)).dtype == np.uint8


@pytest.mark.parametrize(
    ("any_size", "size"), [((5, 7), (33, 20)), ((33, 20), (5, 7)), ((3, 4, 5), (17, 9, 11))]
)
def test_of_large_pictures_it_is_taken_band_by_band(any_size, size, monkeypatch):
    maps = torch.rand(3, *any_size, generator=torch.Generator().manual_seed(0))
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    whole = F.interpolate(maps[None], size, mode=mode, align_corners=False)[0]
    limit = 4 * 3 * math.prod(size[1:]) + 1  # four rows and no more
    bands = list(hubel.maps._bands(maps, size, 4))
    assert all(band.numel() <= limit for band in bands)
    torch.testing.assert_close(torch.cat(bands, dim=1), whole, rtol=0, atol=1e-5)
    heights = []
    bands_of = hubel.maps._bands
    monkeypatch.setattr(hubel.maps, "_MOST_VALUES", limit)
    monkeypatch.setattr(hubel.maps, "_bands", lambda *a: heights.append(a[2]) or bands_of(*a))
    np.testing.assert_array_equal(likeliest(maps, size), whole.argmax(0).numpy())
    assert heights == [4]
    monkeypatch.setattr(hubel.maps, "_MOST_VALUES", 1)  # a row at a time is the least
    np.testing.assert_array_equal(likeliest(maps, size), whole.argmax(0).numpy())


def test_what_is_taken_for_what():
    maps, store, _ = case()
    e = judged(maps, store, list(range(7))).evaluation
    taken = most_taken(e)
    assert taken
    assert taken == sorted(taken, key=lambda t: -t.share)
    row = e.confusion[CLASSES.index(taken[0].truth)]
    assert taken[0].pixels == row[CLASSES.index(taken[0].prediction)]
    assert taken[0].share == taken[0].pixels / sum(row)


@pytest.mark.parametrize(("size", "word"), [((12, 16), "picture"), ((8, 8, 12), "volume")])
def test_the_page(tmp_path, size, word):
    maps, store, _ = case(size=size)
    found = judged(maps, store, list(range(7)))
    gone = found.evaluation.worst[0].id

    def picture(name):
        if name == gone:
            raise UnreadableSampleError("gone")
        return np.full((*[2 * s for s in size], 3), 90, np.uint8)

    page = write_segmentation_report(
        tmp_path / "report.html",
        found.evaluation,
        maps=found.worst,
        run_facts=FACTS,
        history=[],
        picture=picture,
        figures_dir=tmp_path,
    ).read_text()
    assert page.count("data:image/") == 6 + page.count('href="data:,"')
    assert "not readable any more" in page
    assert f"{found.evaluation.metrics.miou:.3f}" in page
    assert f"7 {word}s" in page
    assert "<b>sky" not in page
    assert "&lt;b&gt;sky" in page


def test_an_occupancy_grid_is_seen(tmp_path):
    maps, store, _ = case(n=1, size=(8, 8, 12))
    found = judged(maps, store, [0])
    grid = np.ones((8, 8, 12, 1), np.uint8)
    grid[:, :4] = 0
    page = write_segmentation_report(
        tmp_path / "report.html",
        found.evaluation,
        maps=found.worst,
        run_facts=FACTS,
        history=[],
        picture=lambda name: grid,
        figures_dir=tmp_path,
    ).read_text()
    (uri,) = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', page)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri)))).astype(int)
    volume = shown[: (len(shown) - 8) // 3]
    assert (volume > 240).mean() > 0.3
    assert (volume < 15).mean() > 0.3
    # The classes lie over it in their colours, half of which is the volume's black or white.
    for k in range(3):
        under = np.array([[[0]], [[255]]])
        tints = (np.array(class_colour(k)) + under) / 2
        off = np.abs(shown[len(volume) :, :, None] - tints.reshape(2, 3)).max(axis=-1).min(axis=-1)
        assert (off < 25).mean() > 0.05
