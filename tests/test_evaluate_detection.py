"""Figures of a detector against pycocotools, and its errors against cases made by hand."""

import io
import json
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hubel.data.boxes import Boxes
from hubel.errors import UserError
from hubel.evaluate.box_errors import KINDS, LEFT_OUT, RIGHT, sort_errors
from hubel.evaluate.detection import DetectionEvaluation, evaluate_detection
from hubel.metrics.boxes import Predictions
from hubel.metrics.matching import average_precision, match

CLASSES = ("cat", "dog", "emu")
BOX = (0, 0, 10, 10)
HALF = (0, 0, 10, 5)  # IoU 0.5 with BOX
THIRD = (0, 0, 10, 3)  # IoU 0.3
SLIVER = (0, 0, 10, 0.5)  # IoU 0.05
AWAY = (50, 50, 60, 60)

Truth = list[list[tuple[Any, ...]]]  # per picture: (class, corners, difficult)
Rows = list[list[tuple[float, ...]]]  # per picture: (class, score, left, top, right, bottom)


def columns(truth: Truth, predicted: Rows) -> tuple[Boxes, Predictions]:
    rows = [[(*box, False)[:3] for box in picture] for picture in truth]
    return Boxes.of(rows, len(rows)), Predictions.of(predicted)


def detected(truth: Truth, predicted: Rows, classes: tuple[str, ...] = CLASSES) -> Any:
    ids = [f"test/{i}" for i in range(len(truth))]
    return evaluate_detection(*columns(truth, predicted), classes, ids, split="test")


def random_case(seed: int, num_classes: int = 3, ties: bool = False) -> tuple[Truth, Rows]:
    """Boxes on whole pixels, some difficult; predictions near them, doubled, or anywhere."""
    generator = np.random.default_rng(seed)

    def box() -> Any:
        low = generator.integers(0, 20, 2)
        return np.concatenate([low, low + generator.integers(2, 12, 2)]).astype(float)

    truth: Truth = []
    predicted: Rows = []
    for _ in range(int(generator.integers(1, 6))):
        true = [
            (int(generator.integers(num_classes)), box(), bool(generator.random() < 0.2))
            for _ in range(int(generator.integers(0, 5)))
        ]
        found = []
        for c, corners, _ in true:
            for _ in range(int(generator.integers(0, 3))):
                near = corners + generator.integers(-1, 2, 4)
                near[2:] = np.maximum(near[2:], near[:2] + 1)
                other = int(generator.integers(num_classes))
                found.append((c if generator.random() < 0.8 else other, *near))
        for _ in range(int(generator.integers(0, 3))):
            found.append((int(generator.integers(num_classes)), *box()))
        scores = generator.random(len(found))
        if ties:
            scores = np.round(scores * 4) / 4
        truth.append(true)
        predicted.append(
            [(c, s, *map(float, corners)) for (c, *corners), s in zip(found, scores, strict=True)]
        )
    return truth, predicted


def official(truth: Truth, predicted: Rows, num_classes: int) -> tuple[float, float]:
    """COCO's mAP50-95 and mAP50 by pycocotools' own road: dictionaries, loadRes, summarize."""
    with redirect_stdout(io.StringIO()):
        coco = COCO()
        boxes = [
            (i, c, np.asarray(corners, float), difficult)
            for i, picture in enumerate(truth)
            for c, corners, difficult in picture
        ]
        coco.dataset = {
            "info": {},
            "images": [{"id": i} for i in range(len(truth))],
            "categories": [{"id": c} for c in range(num_classes)],
            "annotations": [
                {
                    "id": k + 1,
                    "image_id": i,
                    "category_id": c,
                    "bbox": [*corners[:2], *(corners[2:] - corners[:2])],
                    "area": float(np.prod(corners[2:] - corners[:2])),
                    "iscrowd": int(difficult),
                }
                for k, (i, c, corners, difficult) in enumerate(boxes)
            ],
        }
        coco.createIndex()
        results = [
            {
                "image_id": i,
                "category_id": c,
                "score": score,
                "bbox": [left, top, right - left, bottom - top],
            }
            for i, picture in enumerate(predicted)
            for c, score, left, top, right, bottom in picture
        ]
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0], evaluation.stats[1]


@given(st.integers(0, 100_000), st.booleans(), st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_average_precision_is_pycocotools(seed: int, ties: bool, num_classes: int) -> None:
    truth, predicted = random_case(seed, num_classes, ties)
    if not any(predicted):  # loadRes takes no empty list
        return
    precision, matches = match(*columns(truth, predicted), num_classes)
    ones = np.ones((1, len(truth)), np.int64)
    own = np.stack([average_precision(m, ones)[0] for m in matches])  # (num_classes, 10)
    assert own == pytest.approx(precision.mean(axis=1).T, abs=1e-6, nan_ok=True)
    map50_95, map50 = official(truth, predicted, num_classes)
    if map50 == -1:
        assert np.isnan(own).all()
    else:
        assert np.nanmean(own) == pytest.approx(map50_95, abs=1e-6)
        assert np.nanmean(own[:, 0]) == pytest.approx(map50, abs=1e-6)


@given(st.integers(0, 100_000))
@settings(deadline=None, max_examples=25)
def test_weights_are_repeated_pictures(seed: int) -> None:
    truth, predicted = random_case(seed)
    weights = np.random.default_rng(seed).integers(0, 3, len(truth))
    _, matches = match(*columns(truth, predicted), 3)
    again = [i for i, times in enumerate(weights) for _ in range(times)]
    if not again or not any(predicted[i] for i in again):
        return
    own = np.stack([average_precision(m, weights[None])[0] for m in matches])
    map50_95, map50 = official([truth[i] for i in again], [predicted[i] for i in again], 3)
    if map50 == -1:
        assert np.isnan(own).all()
    else:
        assert np.nanmean(own) == pytest.approx(map50_95, abs=1e-6)
        assert np.nanmean(own[:, 0]) == pytest.approx(map50, abs=1e-6)


def test_the_evaluation_reports_cocos_figures_with_intervals() -> None:
    truth: Truth = []
    predicted: Rows = []
    for seed in range(8):
        t, p = random_case(seed)
        truth, predicted = truth + t, predicted + p
    e = detected(truth, predicted)
    map50_95, map50 = official(truth, predicted, 3)
    assert e.metrics.map50 == pytest.approx(map50, abs=1e-6)
    assert e.metrics.map50_95 == pytest.approx(map50_95, abs=1e-6)
    for figure, (low, high) in (
        (e.metrics.map50, e.metrics.map50_interval),
        (e.metrics.map50_95, e.metrics.map50_95_interval),
        *((c.ap50, c.ap50_interval) for c in e.per_class),
    ):
        assert 0 <= low < figure < high <= 1
    assert np.mean([c.ap50 for c in e.per_class]) == pytest.approx(map50)
    assert np.mean([c.ap50_95 for c in e.per_class]) == pytest.approx(map50_95)
    for c in e.per_class:
        assert len(c.precision) == 101
        assert list(c.precision) == sorted(c.precision, reverse=True)
        assert np.mean(c.precision) == pytest.approx(c.ap50)
    assert e.num_difficult == sum(box[2] for picture in truth for box in picture) > 0
    assert any(note.startswith(f"{e.num_difficult} difficult boxes count") for note in e.notes)


def test_average_precision_by_hand() -> None:
    """Two boxes; found, wrong, found: precision 1 up to recall 0.5, then 2/3."""
    e = detected(
        [[(0, BOX), (0, AWAY)]],
        [[(0, 0.9, *BOX), (0, 0.8, 20, 20, 30, 30), (0, 0.7, *AWAY)]],
        ("cat",),
    )
    expected = (51 * 1 + 50 * 2 / 3) / 101
    assert e.metrics.map50 == pytest.approx(expected)
    assert e.metrics.map50_95 == pytest.approx(expected)
    assert e.per_class[0].precision == pytest.approx([1] * 51 + [2 / 3] * 50)
    # F1 is 2·2/(3 + 2) with all kept, 2·1/(1 + 2) with the first.
    point = e.operating_point
    assert (point.min_score, point.precision, point.recall) == (0.7, 2 / 3, 1)
    assert point.f1 == pytest.approx(0.8)


KIND_CASES = {
    "classification": ([(0, BOX)], [(1, 0.9, *HALF)], {"classification": 1}),
    "localization": ([(0, BOX)], [(0, 0.9, *THIRD)], {"localization": 1}),
    "both": ([(0, BOX)], [(1, 0.9, *THIRD)], {"both": 1, "missed": 1}),
    "duplicate": ([(0, BOX)], [(0, 0.9, *BOX), (0, 0.8, *HALF)], {"duplicate": 1}),
    "background": ([(0, BOX)], [(0, 0.9, *SLIVER)], {"background": 1, "missed": 1}),
    "background, other class": (
        [(0, BOX)],
        [(1, 0.9, *SLIVER)],
        {"background": 1, "missed": 1},
    ),
    "missed": ([(0, BOX), (1, AWAY)], [(0, 0.9, *BOX)], {"missed": 1}),
    "right at 0.5": ([(0, BOX)], [(0, 0.9, *HALF)], {}),
    "found, so not missed for its localization error": (
        [(0, BOX)],
        [(0, 0.9, *BOX), (0, 0.8, *THIRD)],
        {"localization": 1},
    ),
    "own class near comes before another class found": (
        [(0, BOX), (1, (0, 0, 10, 3))],
        [(0, 0.9, 0, 0, 10, 3)],
        {"localization": 1, "missed": 1},
    ),
    "difficult boxes are neither missed nor found": (
        [(0, BOX, True)],
        [(0, 0.9, *BOX), (0, 0.8, *BOX)],
        {},
    ),
    "a difficult box is no box of another class": (
        [(0, BOX, True)],
        [(1, 0.9, *BOX)],
        {"background": 1},
    ),
}


@pytest.mark.parametrize("case", KIND_CASES)
def test_errors_by_kind(case: str) -> None:
    truth, predicted, expected = KIND_CASES[case]
    boxes, found = columns([truth], [predicted])
    _, matches = match(boxes, found, 3)
    errors = sort_errors(boxes, found, matches, 0.0)
    counts = errors.counts(np.ones(len(found), bool), np.ones(len(boxes), bool))
    assert {kind: n for kind in KINDS if (n := getattr(counts, kind))} == expected
    assert counts.total == sum(expected.values())


def test_errors_are_counted_at_the_operating_point_per_class_and_picture() -> None:
    truth = [[(0, BOX)], [(1, BOX), (1, AWAY)], []]
    predicted = [
        [(0, 0.9, *BOX)],
        [(1, 0.8, *BOX), (0, 0.7, *BOX), (1, 0.1, *AWAY)],
        [(2, 0.05, *BOX), (2, 0.04, *BOX)],
    ]
    e = detected(truth, predicted)
    # Kept 4 of 6: F1 = 2·3/(4 + 3) at 0.1, 2·2/(2 + 3) at 0.8.
    assert e.operating_point.min_score == 0.1
    assert e.operating_point.f1 == pytest.approx(6 / 7)
    assert e.errors.classification == e.errors.total == 1
    assert [c.errors.classification for c in e.per_class] == [1, 0, 0]
    assert [(p.id, p.num_truth, p.num_kept) for p in e.worst] == [("test/1", 2, 3)]
    boxes, found = columns(truth, predicted)
    _, matches = match(boxes, found, 3)
    kinds = sort_errors(boxes, found, matches, 0.5).kinds.tolist()
    assert kinds == [RIGHT, RIGHT, 0, LEFT_OUT, LEFT_OUT, LEFT_OUT]
    assert sort_errors(boxes, found, matches, 0.5).missed.tolist() == [False, False, True]


@given(st.integers(0, 100_000), st.floats(0, 1))
@settings(deadline=None, max_examples=25)
def test_every_prediction_and_box_has_one_place(seed: int, min_score: float) -> None:
    boxes, found = columns(*random_case(seed))
    _, matches = match(boxes, found, 3)
    errors = sort_errors(boxes, found, matches, min_score)
    kinds, low = errors.kinds, found.scores < min_score
    assert (kinds[low] == LEFT_OUT).all()
    assert not errors.missed[boxes.difficult].any()
    # What is kept of the matches of all is what matching the kept alone would give.
    rows = [
        np.column_stack([found.classes, found.scores, found.corners])[found.of_sample(i)]
        for i in range(len(found.starts) - 1)
    ]
    kept = Predictions.of([r[r[:, 1] >= min_score] for r in rows])
    _, alone = match(boxes, kept, 3)
    assert sort_errors(boxes, kept, alone, -np.inf).kinds.tolist() == kinds[~low].tolist()


def test_no_predictions_at_all() -> None:
    e = detected([[(0, BOX)], [(1, BOX), (1, AWAY)], []], [[], [], []])
    assert (e.metrics.map50, e.metrics.map50_95) == (0, 0)
    assert e.operating_point is None
    assert e.errors.missed == e.errors.total == 3
    assert [c.ap50 for c in e.per_class] == [0, 0, None]
    assert [p.id for p in e.worst] == ["test/1", "test/0"]
    assert "the network predicts no box at all" in e.notes
    assert e.notes[0].startswith("1 of 3 classes has no box in this split")
    assert any("interval of mAP50, mAP50-95 has no width" in note for note in e.notes)


def test_no_truth_at_all() -> None:
    e = detected([[], []], [[(0, 0.9, *BOX)], []])
    assert e.metrics.map50 is e.metrics.map50_interval is e.metrics.map50_95 is None
    assert e.operating_point is None
    assert e.errors.background == e.errors.total == 1
    assert e.notes == ("no picture of this split has a box to find: every prediction is an error",)
    assert DetectionEvaluation.from_json(e.to_json()) == e
    nothing = detected([[], []], [[], []])
    assert nothing.metrics.map50 is None
    assert nothing.errors.total == 0


def test_equal_scores_are_kept_together() -> None:
    e = detected([[(0, BOX)]], [[(0, 0.9, *BOX), (0, 0.9, *AWAY)]])
    assert (e.operating_point.precision, e.operating_point.recall) == (0.5, 1)
    assert e.errors.background == e.errors.total == 1


def test_nothing_right_shows_all_errors() -> None:
    e = detected([[(0, BOX)]], [[(0, 0.9, *AWAY), (1, 0.2, *BOX)]])
    assert (e.operating_point.min_score, e.operating_point.f1) == (0.2, 0)
    assert (e.errors.background, e.errors.classification) == (1, 1)


def test_a_prediction_without_area_is_wrong_even_beside_a_difficult_box() -> None:
    e = detected([[(0, BOX), (0, AWAY, True)]], [[(0, 0.9, 5, 5, 5, 5), (0, 0.8, *BOX)]])
    assert e.metrics.map50 == pytest.approx(0.5)
    assert e.errors.background == e.errors.total == 1


def test_predictions_beyond_the_hundredth_are_said() -> None:
    many = [(0, 0.9 - i / 1000, *AWAY) for i in range(101)]
    e = detected([[(0, BOX)]], [[*many, (0, 0.1, *BOX)]])
    assert e.metrics.map50 == 0
    assert any(note.endswith("has it; 2 less sure ones do not") for note in e.notes)


def test_one_class_and_a_perfect_detector() -> None:
    truth = [[(0, BOX), (0, AWAY)], [], [(0, THIRD)]]
    predicted = [[(0, 0.9 - 0.1 * i, *box[1]) for i, box in enumerate(p)] for p in truth]
    e = detected(truth, predicted, ("cell",))
    assert e.metrics.map50 == pytest.approx(1)
    assert e.metrics.map50_95 == pytest.approx(1)
    assert e.errors.total == 0
    assert e.worst == ()
    assert e.operating_point.f1 == 1


def test_nan_is_refused_by_name_and_shapes_are_checked() -> None:
    truth = [[(0, BOX)], [(0, BOX)]]
    with pytest.raises(UserError, match=r"not finite for 1 of 2 pictures, 'test/1' the first"):
        detected(truth, [[(0, 0.9, *BOX)], [(0, np.nan, *BOX)]])
    with pytest.raises(ValueError, match="classes of truth must lie from 0 to 0"):
        detected([[(1, BOX)]], [[]], ("cat",))
    with pytest.raises(ValueError, match=r"same pictures, at least one\. Got 2, 1 and 2"):
        detected(truth, [[]])


@given(st.integers(0, 100_000))
@settings(deadline=None, max_examples=6)
def test_order_changes_nothing_and_json_returns(seed: int) -> None:
    truth, predicted = random_case(seed)
    generator = np.random.default_rng(seed)
    e = detected(truth, predicted)
    order = generator.permutation(len(truth)).tolist()
    other = detected(
        [truth[i] for i in order],
        [[predicted[i][j] for j in generator.permutation(len(predicted[i]))] for i in order],
    )
    assert other.metrics.map50 == pytest.approx(e.metrics.map50)
    assert other.metrics.map50_95 == pytest.approx(e.metrics.map50_95)
    assert other.operating_point == e.operating_point
    assert other.errors == e.errors
    assert [(c.errors, c.precision) for c in other.per_class] == [
        (c.errors, c.precision) for c in e.per_class
    ]
    document = json.loads(json.dumps(e.to_json(), allow_nan=False))
    assert document == e.to_json()
    assert DetectionEvaluation.from_json(document) == e


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    detected(*random_case(1))
    assert capsys.readouterr() == ("", "")
