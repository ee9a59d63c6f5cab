"""Figures of a segmenter against scikit-learn, scipy, and cases made by hand."""

import json
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from hubel.evaluate.boundary import boundary_f
from hubel.evaluate.segmentation import (
    SegmentationEvaluation,
    confusion_counts,
    evaluate_label_maps,
    evaluate_segmentation,
    map_confusion,
)

CLASSES = ("road", "tree", "sky")


def maps(seed: int, dims: int = 2, n: int = 4, num_classes: int = 3) -> tuple[Any, Any]:
    """Truths with blobs and ignored pixels, and predictions of some skill; sizes differ."""
    generator = np.random.default_rng(seed)
    truths, predictions = [], []
    for _ in range(n):
        size = tuple(generator.integers(4, 16, dims))
        truth = generator.integers(0, num_classes, [-(-s // 4) for s in size])
        for axis in range(dims):
            truth = truth.repeat(4, axis)
        truth = truth[tuple(slice(s) for s in size)].copy()
        wrong = generator.random(size) < 0.2
        prediction = np.where(wrong, generator.integers(0, num_classes, size), truth)
        truth[generator.random(size) < 0.1] = 255
        truths.append(truth.astype(np.uint8))
        predictions.append(prediction)
    return truths, predictions


def segmented(truths: Any, predictions: Any, classes: Any = CLASSES) -> SegmentationEvaluation:
    ids = [f"test/{i}" for i in range(len(truths))]
    pictures = zip(ids, map(np.asarray, truths), map(np.asarray, predictions), strict=True)
    return evaluate_label_maps(pictures, classes, split="test").evaluation


@given(st.integers(0, 100_000), st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=15)
def test_figures_are_scikit_learns(seed: int, dims: int) -> None:
    truths, predictions = maps(seed, dims)
    e = segmented(truths, predictions)
    judged = [t != 255 for t in truths]
    t = np.concatenate([x[j] for x, j in zip(truths, judged, strict=True)])
    p = np.concatenate([x[j] for x, j in zip(predictions, judged, strict=True)])
    present = np.unique(t)
    options: Any = {"labels": present, "average": None, "zero_division": 0}
    iou = sklearn.metrics.jaccard_score(t, p, **options)
    dice = sklearn.metrics.f1_score(t, p, **options)
    assert [c.iou for c in e.per_class if c.iou is not None] == pytest.approx(iou.tolist())
    assert [c.dice for c in e.per_class if c.dice is not None] == pytest.approx(dice.tolist())
    assert e.metrics.miou == pytest.approx(iou.mean())
    assert e.metrics.mean_dice == pytest.approx(dice.mean())
    assert e.metrics.pixel_accuracy == pytest.approx(sklearn.metrics.accuracy_score(t, p))
    assert [c.num_true for c in e.per_class] == np.bincount(t, minlength=3).tolist()
    assert [c.num_predicted for c in e.per_class] == np.bincount(p, minlength=3).tolist()


def test_confusion_of_maps_is_scikit_learns_and_gives_the_counts() -> None:
    truths, predictions = maps(0)
    confusion = []
    for t, p in zip(truths, predictions, strict=True):
        j = t != 255
        confusion.append(sklearn.metrics.confusion_matrix(t[j], p[j], labels=range(3)))
        assert map_confusion(t, p, 3).tolist() == confusion[-1].tolist()
    assert segmented(truths, predictions).confusion == tuple(map(tuple, sum(confusion).tolist()))
    counts = confusion_counts(confusion)
    assert counts.shape == (4, 3, 3)
    for own, t, p in zip(counts, truths, predictions, strict=True):
        j = t != 255
        for k in range(3):
            agree = (t == p) & (t == k)
            assert own[k].tolist() == [agree[j].sum(), (p[j] == k).sum(), (t[j] == k).sum()]
    ids = ["a", "b", "c", "d"]
    e = evaluate_segmentation(counts, CLASSES, ids, split="test")
    assert e.metrics.miou == segmented(truths, predictions).metrics.miou
    assert e.metrics.boundary_f is None
    assert e.metrics.boundary_f_interval is None


def test_by_hand_with_intervals_and_the_worst_picture_first() -> None:
    truths = [[[0, 0, 1, 1]], [[0, 0, 0, 1]]]
    predictions = [[[0, 0, 1, 1]], [[0, 1, 1, 1]]]
    e = segmented(truths, predictions, ("road", "tree"))
    road, tree = e.per_class
    assert (road.iou, tree.iou) == (3 / 5, 3 / 5)
    assert (road.dice, tree.dice) == (6 / 8, 6 / 8)
    assert (e.metrics.miou, e.metrics.pixel_accuracy) == (3 / 5, 6 / 8)
    assert [(p.id, p.miou, p.pixel_accuracy) for p in e.worst] == [
        ("test/1", pytest.approx(1 / 3), 0.5),
        ("test/0", 1.0, 1.0),
    ]
    low, high = e.metrics.miou_interval
    assert 1 / 3 <= low < 3 / 5 < high <= 1
    assert e.notes == ()


def test_a_class_the_split_lacks_is_left_out_and_said() -> None:
    truth = np.array([[0, 0, 1, 1]])
    prediction = np.array([[0, 2, 1, 1]])
    e = segmented([truth], [prediction])
    assert e.metrics.miou == (1 / 2 + 1) / 2
    sky = e.per_class[2]
    assert (sky.num_true, sky.num_predicted, sky.iou, sky.boundary_f) == (0, 1, None, None)
    # Its outline would be a third class, of boundary F 0.
    assert e.metrics.boundary_f == np.mean([boundary_f(truth, prediction, 3)[:2].mean()])
    assert e.notes[0] == (
        "1 of 3 classes has no pixel in this split and is left out of the means over classes: 'sky'"
    )
    assert "interval of mIoU, Dice, pixel accuracy, boundary F has no width" in e.notes[1]


def test_ignored_pixels_count_nowhere() -> None:
    truth = np.array([[0, 1, 255, 255]], np.uint8)
    for there in (0, 1, 255):
        assert map_confusion(truth, [[0, 1, there, there]], 2).tolist() == [[1, 0], [0, 1]]
    e = segmented([truth, np.full((2, 2), 255)], [truth, np.zeros((2, 2))], ("road", "tree"))
    assert e.metrics.miou == 1
    assert [p.id for p in e.worst] == ["test/0"]
    assert "1 of 2 masks have no class at all" in e.notes


def test_no_truth_at_all() -> None:
    e = segmented([np.full((2, 2), 255)], [np.zeros((2, 2))], ("road",))
    assert e.metrics.miou is e.metrics.pixel_accuracy_interval is e.metrics.boundary_f is None
    assert e.worst == ()
    assert e.per_class[0].iou is None
    assert SegmentationEvaluation.from_json(e.to_json()) == e


def test_one_class_fills_the_picture() -> None:
    e = segmented([np.zeros((3, 3), int)] * 2, [np.zeros((3, 3), int)] * 2, ("road",))
    assert (e.metrics.miou, e.metrics.mean_dice, e.metrics.pixel_accuracy) == (1, 1, 1)
    assert e.metrics.boundary_f is None  # nothing has an outline


def slow_boundary_f(t: Any, p: Any, num_classes: int, tolerance: float) -> list[float]:
    """The definition with scipy's distance transform, on maps without ignored pixels."""
    theta = tolerance * np.sqrt(np.sum(np.square(t.shape)))
    cross = scipy.ndimage.generate_binary_structure(t.ndim, 1)
    result = []
    for c in range(num_classes):
        lines = [
            (x == c) & ~scipy.ndimage.binary_erosion(x == c, cross, border_value=1) for x in (t, p)
        ]
        if not lines[0].any() and not lines[1].any():
            result.append(np.nan)
        elif not lines[0].any() or not lines[1].any():
            result.append(0.0)
        else:
            far = [scipy.ndimage.distance_transform_edt(~line) for line in lines]
            near = [(d < theta) | (d == 0) for d in far]
            precision, recall = near[0][lines[1]].mean(), near[1][lines[0]].mean()
            total = precision + recall
            result.append(2 * precision * recall / total if total else 0.0)
    return result


@given(st.integers(0, 100_000), st.sampled_from([2, 3]), st.sampled_from([0.0075, 0.1, 0.3]))
@settings(deadline=None, max_examples=30)
def test_boundary_f_is_its_definition(seed: int, dims: int, tolerance: float) -> None:
    generator = np.random.default_rng(seed)
    size = tuple(generator.integers(1, 14, dims))
    smooth = [scipy.ndimage.gaussian_filter(generator.random((3, *size)), 1) for _ in range(2)]
    t, p = (s.argmax(axis=0) for s in smooth)
    expected = slow_boundary_f(t, p, 4, tolerance)
    assert boundary_f(t, p, 4, tolerance=tolerance) == pytest.approx(expected, nan_ok=True)


def test_boundary_f_by_hand() -> None:
    """An outline shifted by 3 pixels: found within a tolerance of more than 3, not of 3."""
    t = np.zeros((30, 40), int)  # the diagonal is 50
    t[:, 20:] = 1
    p = np.zeros_like(t)
    p[:, 23:] = 1
    assert boundary_f(t, p, 2, tolerance=3.5 / 50).tolist() == [1, 1]
    assert boundary_f(t, p, 2, tolerance=3 / 50).tolist() == [0, 0]
    assert boundary_f(t, p, 2).tolist() == [0, 0]
    assert boundary_f(t, t, 2).tolist() == [1, 1]
    # A hidden outline is not judged, and what hides it has none.
    hidden = t.copy()
    hidden[:, 18:25] = 255
    assert np.isnan(boundary_f(hidden, p, 2)).all()


def test_boundary_mean_is_over_pictures() -> None:
    counts = np.array([[[1, 1, 1], [1, 1, 1]]] * 3)
    boundary = [[1.0, 0.5], [np.nan, 0.25], [np.nan, np.nan]]
    e = evaluate_segmentation(
        counts, ("road", "tree"), ["a", "b", "c"], split="test", boundary=boundary
    )
    assert e.metrics.boundary_f == (0.75 + 0.25) / 2
    assert e.metrics.boundary_f_interval == (0.25, 0.75)
    assert [c.boundary_f for c in e.per_class] == [1.0, 0.375]
    assert [p.boundary_f for p in e.worst] == [0.75, 0.25, None]


@given(st.integers(0, 100_000))
@settings(deadline=None, max_examples=8)
def test_order_changes_nothing_and_json_returns(seed: int) -> None:
    truths, predictions = maps(seed)
    e = segmented(truths, predictions)
    order = np.random.default_rng(seed).permutation(len(truths))
    other = segmented([truths[i] for i in order], [predictions[i] for i in order])
    for name in ("miou", "mean_dice", "pixel_accuracy", "boundary_f"):
        assert getattr(other.metrics, name) == pytest.approx(getattr(e.metrics, name))
    assert sorted(p.miou for p in other.worst) == [p.miou for p in e.worst]
    document = json.loads(json.dumps(e.to_json(), allow_nan=False))
    assert document == e.to_json()
    assert SegmentationEvaluation.from_json(document) == e
    judged = [np.where(t == 255, 0, t) for t in truths]
    perfect = segmented(judged, judged)
    assert perfect.metrics.miou == perfect.metrics.mean_dice == 1
    assert perfect.metrics.pixel_accuracy == 1
    assert perfect.metrics.boundary_f in (1, None)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape\. Got \(1, 2\) and \(2, 1\)"):
        map_confusion([[0, 1]], [[0], [1]], 2)
    with pytest.raises(ValueError, match=r"one shape\. Got \(1, 2\) and \(2, 1\)"):
        boundary_f([[0, 1]], [[0], [1]], 2)
    with pytest.raises(ValueError, match="truth must lie from 0 to 1, or be 255"):
        map_confusion([[0, 2]], [[0, 1]], 2)
    with pytest.raises(ValueError, match="prediction must lie from 0 to 1"):
        map_confusion([[0, 1]], [[0, 255]], 2)
    with pytest.raises(ValueError, match=r"num_classes\)\. Got \(2, 3\) instead"):
        confusion_counts(np.zeros((2, 3)))
    good = np.array([[[1, 1, 1], [0, 0, 0]]])
    for counts, message in (
        (good[:, :1], r"counts must be \(n, num_classes, 3\) = \(1, 2, 3\)"),
        (good * [2, 1, 1], "the intersection must lie from 0 to the smaller"),
        (good * [1, 2, 1], "count the same pixels of a picture. Got 2 and 1 for 'a'"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_segmentation(counts, ("road", "tree"), ["a"], split="test")
    with pytest.raises(ValueError, match=r"boundary must be \(n, num_classes\) = \(1, 2\)"):
        evaluate_segmentation(good, ("road", "tree"), ["a"], split="test", boundary=[[1.0]])
    with pytest.raises(ValueError, match="at least one picture"):
        segmented([], [])
