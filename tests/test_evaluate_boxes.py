"""Overlap of boxes, predictions in columns, and the figures of a localizer."""

import json
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubel.data.boxes import Boxes
from hubel.errors import UserError
from hubel.evaluate.localization import LocalizationEvaluation, evaluate_localization
from hubel.metrics.boxes import Predictions, iou, paired_iou
from hubel.stats import wilson_interval

CLASSES = ("cat", "dog", "emu")


def localized(truth: list[Any], predicted: list[Any], **options: Any) -> LocalizationEvaluation:
    """`truth`: lists of (class, corners) or (class, corners, difficult); `predicted`: rows."""
    rows = [[(*box, False)[:3] for box in picture] for picture in truth]
    ids = [f"test/{i}" for i in range(len(truth))]
    return evaluate_localization(
        Boxes.of(rows, len(rows)),
        Predictions.of([[row] for row in predicted]),
        CLASSES,
        ids,
        split="test",
        **options,
    )


# Eighths are exact: corners from sides lose nothing, so that both ways to compute agree.
coordinates = st.integers(0, 800).map(lambda n: n / 8) | st.integers(0, 10).map(float)


@given(st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), max_size=6))
@settings(deadline=None, max_examples=50)
def test_iou_is_cocos(sides: list[tuple[float, ...]]) -> None:
    boxes = np.array(sides).reshape(-1, 4)
    if len(boxes):
        corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
        expected = pycocotools.mask.iou(boxes, boxes, [0] * len(boxes))
        assert iou(corners, corners) == pytest.approx(expected, abs=1e-9)
        assert paired_iou(corners, corners[::-1]) == pytest.approx(
            np.diagonal(iou(corners, corners[::-1]))
        )


def test_iou_by_hand() -> None:
    a = [[0, 0, 4, 4], [1, 1, 1, 3]]
    b = [[0, 0, 4, 4], [2, 0, 6, 4], [4, 0, 8, 4], [1, 1, 1, 3]]
    assert iou(a, b).tolist() == [[1, 8 / 24, 0, 0], [0, 0, 0, 0]]
    assert iou(np.zeros((0, 4)), b).shape == (0, 4)
    assert iou(a, []).shape == (2, 0)


def test_predictions_in_columns() -> None:
    p = Predictions.of([[], [[1, 0.5, 0, 1, 2, 3], [0, 0.25, 4, 5, 6, 7]], np.zeros((0, 6))])
    assert len(p) == 2
    assert p.counts.tolist() == [0, 2, 0]
    assert p.samples.tolist() == [1, 1]
    assert p.scores[p.of_sample(1)].tolist() == [0.5, 0.25]
    assert p.corners.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(Predictions.of([])) == 0
    with pytest.raises(ValueError, match=r"must be \(k, 6\).*Got shape \(1, 5\) instead"):
        Predictions.of([[[1, 2, 3, 4, 5]]])
    with pytest.raises(ValueError, match=r"whole number from 0\. Got values from 0\.5 to 0\.5"):
        Predictions.of([[[0.5, 1, 0, 0, 1, 1]]])


def test_localization_by_hand() -> None:
    box = (0, 0, 4, 4)
    e = localized(
        [[(0, box)], [(0, box)], [(1, box)], [(1, box)]],
        [
            (0, 0.9, 0, 0, 4, 4),  # right, IoU 1
            (0, 0.8, 0, 0, 4, 2),  # right, IoU 0.5, which is enough
            (1, 0.7, 0, 0, 4, 1),  # right class, IoU 0.25
            (0, 0.6, 0, 0, 4, 4),  # wrong class, IoU 1
        ],
    )
    assert (e.metrics.top1, e.metrics.mean_iou, e.metrics.localization_error) == (
        0.75,
        2.75 / 4,
        0.5,
    )
    assert e.metrics.top1_interval == wilson_interval(3, 4)
    assert e.metrics.localization_error_interval == wilson_interval(2, 4)
    low, high = e.metrics.mean_iou_interval
    assert 0.25 <= low < 2.75 / 4 < high <= 1
    cat, dog, emu = e.per_class
    assert (cat.n, cat.top1, cat.mean_iou, cat.localization_error) == (2, 1, 0.75, 0)
    assert (dog.n, dog.top1, dog.mean_iou, dog.localization_error) == (2, 0.5, 0.625, 1)
    assert dog.localization_error_interval == wilson_interval(2, 2)
    assert (emu.n, emu.top1, emu.mean_iou, emu.localization_error) == (0, None, None, None)
    assert [p.id for p in e.worst] == ["test/2", "test/3", "test/1", "test/0"]
    assert (e.worst[1].truth, e.worst[1].prediction, e.worst[1].score) == ("dog", "cat", 0.6)
    assert e.notes == (
        "1 of 3 classes has no picture in this split and is left out of the means over "
        "classes: 'emu'",
    )


def test_the_largest_box_gives_the_class_and_the_nearest_of_it_counts() -> None:
    boxes = [
        (1, (0, 0, 2, 2)),
        (0, (10, 10, 20, 20)),
        (0, (30, 30, 35, 35)),
        (2, (0, 0, 50, 50), True),  # difficult
    ]
    e = localized([boxes], [(0, 1.0, 30, 30, 35, 35)])
    assert (e.worst[0].truth, e.worst[0].iou) == ("cat", 1.0)
    assert localized([boxes], [(1, 1.0, 0, 0, 2, 2)]).metrics.mean_iou == 0


def test_pictures_without_a_box_are_left_out_and_said() -> None:
    box = (0, 0, 4, 4)
    e = localized([[], [(0, box)], [(0, box, True)]], [(0, 1.0, *box)] * 3)
    assert e.n == 1
    assert e.metrics.top1 == 1
    assert "2 of 3 pictures without a box are left out" in e.notes
    assert any("interval of the mean IoU has no width" in note for note in e.notes)
    with pytest.raises(UserError, match="no picture of the split 'test' has a box"):
        localized([[], []], [(0, 1.0, *box)] * 2)


def test_what_is_not_finite_is_refused_by_name() -> None:
    truth = [[(0, (0, 0, 4, 4))]] * 3
    good = (0, 1.0, 0, 0, 4, 4)
    for bad in ((0, np.nan, 0, 0, 4, 4), (0, 1.0, 0, 0, np.inf, 4)):
        with pytest.raises(UserError, match=r"not finite for 1 of 3 pictures, 'test/1' the first"):
            localized(truth, [good, bad, good])
    with pytest.raises(ValueError, match=r"left <= right.*Got \[5\.0, 0\.0, 4\.0, 4\.0\]"):
        localized(truth, [good, good, (0, 1.0, 5, 0, 4, 4)])
    with pytest.raises(ValueError, match="classes of predictions must lie from 0 to 2"):
        localized(truth, [good, good, (3, 1.0, 0, 0, 4, 4)])
    with pytest.raises(ValueError, match=r"must be one box a picture\. Got 0 for 'test/1'"):
        evaluate_localization(
            Boxes.of([[(0, (0, 0, 4, 4), False)]] * 2, 2),
            Predictions.of([[good], []]),
            CLASSES,
            ["test/0", "test/1"],
            split="test",
        )
    with pytest.raises(ValueError, match=r"same pictures, at least one\. Got 0, 0 and 0"):
        localized([], [])


def random_case(seed: int) -> tuple[list[Any], list[Any]]:
    generator = np.random.default_rng(seed)
    truth, predicted = [], []
    for _ in range(int(generator.integers(1, 12))):
        low = generator.uniform(0, 10, 2)
        corners = np.concatenate([low, low + generator.uniform(1, 10, 2)])
        c = int(generator.integers(0, 3))
        truth.append([(c, corners)])
        low = corners[:2] + generator.normal(0, 1, 2)
        size = (corners[2:] - corners[:2]) * generator.uniform(0.5, 1.5, 2)
        said = c if generator.random() < 0.7 else int(generator.integers(0, 3))
        predicted.append((said, generator.random(), *low, *(low + size)))
    return truth, predicted


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=15)
def test_the_order_of_pictures_changes_nothing_and_json_returns(seed: int) -> None:
    truth, predicted = random_case(seed)
    e = localized(truth, predicted)
    order = np.random.default_rng(seed).permutation(len(truth))
    other = localized([truth[i] for i in order], [predicted[i] for i in order])
    assert other.metrics.mean_iou == pytest.approx(e.metrics.mean_iou)
    assert other.metrics.localization_error == e.metrics.localization_error
    assert [(p.iou, p.score) for p in other.worst] == [(p.iou, p.score) for p in e.worst]
    document = json.loads(json.dumps(e.to_json(), allow_nan=False))
    assert document == e.to_json()
    assert LocalizationEvaluation.from_json(document) == e
    # The definition, picture by picture.
    right = [
        t[0][0] == p[0] and iou([np.float32(t[0][1])], [p[2:]])[0, 0] >= 0.5
        for t, p in zip(truth, predicted, strict=True)
    ]
    assert e.metrics.localization_error == pytest.approx(1 - np.mean(right))


def test_a_perfect_localizer() -> None:
    truth = [[(i % 3, (0, 0, 4 + i, 5))] for i in range(9)]
    e = localized(truth, [(t[0][0], 1.0, *t[0][1]) for t in truth])
    assert (e.metrics.top1, e.metrics.mean_iou, e.metrics.localization_error) == (1, 1, 0)
    assert e.metrics.localization_error_interval[1] > 0.1
