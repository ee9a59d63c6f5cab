"""Metrics of a classifier against scikit-learn and against their definitions."""

import json
import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from hubel.errors import UserError
from hubel.evaluate.calibration import Calibration, calibrate
from hubel.evaluate.classification import Evaluation, evaluate_classification
from hubel.stats import wilson_interval


def guesses(n: int, num_classes: int, seed: int = 0, skill: float = 2.0) -> tuple[Any, Any]:
    """Probabilities (n, num_classes) and targets (n,) of a classifier of some skill."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, num_classes, n)
    logits = generator.normal(size=(n, num_classes))
    logits[np.arange(n), targets] += skill
    p = np.exp(logits)
    return p / p.sum(axis=1, keepdims=True), targets


def evaluation(p: Any, targets: Any, **options: Any) -> Evaluation:
    p = np.asarray(p)
    classes = [f"class {i}" for i in range(p.shape[1])]
    ids = [f"test/{i:05d}" for i in range(len(p))]
    return evaluate_classification(p, targets, classes, ids, split="test", **options)


@pytest.mark.parametrize("num_classes", [2, 10, 37])
def test_figures_are_scikit_learns(num_classes: int) -> None:
    p, t = guesses(500, num_classes)
    e = evaluation(p, t)
    predicted = p.argmax(axis=1)
    labels = list(range(num_classes))
    assert np.array_equal(
        e.confusion, sklearn.metrics.confusion_matrix(t, predicted, labels=labels)
    )
    precision, recall, f1, n = sklearn.metrics.precision_recall_fscore_support(
        t, predicted, labels=labels
    )
    assert [s.precision for s in e.per_class] == pytest.approx(precision.tolist())
    assert [s.recall for s in e.per_class] == pytest.approx(recall.tolist())
    assert [s.f1 for s in e.per_class] == pytest.approx(f1.tolist())
    assert [s.n for s in e.per_class] == n.tolist()
    m = e.metrics
    assert m.top1 == pytest.approx(sklearn.metrics.accuracy_score(t, predicted))
    assert m.macro_f1 == pytest.approx(f1.mean())
    assert m.balanced_accuracy == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(t, predicted)
    )
    assert m.loss == pytest.approx(sklearn.metrics.log_loss(t, p, labels=labels))
    assert m.top1_interval == wilson_interval(e.num_correct, 500)
    if num_classes >= 10:
        assert m.top5 == pytest.approx(sklearn.metrics.top_k_accuracy_score(t, p, k=5))
        assert m.top5_interval == wilson_interval(round(m.top5 * 500), 500)


def test_rows_are_truth_and_columns_prediction() -> None:
    # Two of class 0 taken for class 1, none the other way round.
    p = [[0.2, 0.8], [0.4, 0.6], [0.9, 0.1], [0.3, 0.7]]
    e = evaluation(p, [0, 0, 0, 1])
    assert e.confusion == ((1, 2), (0, 1))
    document = e.to_json()
    assert document["confusion"]["rows"] == "truth"
    assert document["confusion"]["columns"] == "prediction"
    assert document["confusion"]["counts"] == [[1, 2], [0, 1]]
    assert document["confusion"]["by_row"] == [[1 / 3, 2 / 3], [0.0, 1.0]]
    assert document["confusion"]["classes"] == ["class 0", "class 1"]
    assert document["most_confused"] == [
        {"truth": "class 0", "prediction": "class 1", "n": 2, "share": 2 / 3}
    ]
    assert document["mistakes"] == [
        {
            "id": "test/00000",
            "truth": "class 0",
            "prediction": "class 1",
            "probability": 0.8,
            "truth_probability": 0.2,
        },
        {
            "id": "test/00001",
            "truth": "class 0",
            "prediction": "class 1",
            "probability": 0.6,
            "truth_probability": 0.4,
        },
    ]
    assert document["per_class"][0] == {
        "class": "class 0",
        "n": 3,
        "num_predicted": 1,
        "precision": 1.0,
        "recall": 1 / 3,
        "f1": 0.5,
        "recall_interval": list(wilson_interval(1, 3)),
    }
    assert document["metrics"]["loss"] == pytest.approx(
        -(math.log(0.2) + math.log(0.4) + math.log(0.9) + math.log(0.7)) / 4
    )


def test_top5_only_from_ten_classes_up() -> None:
    nine, ten = (evaluation(*guesses(40, k, skill=0.5)).to_json()["metrics"] for k in (9, 10))
    assert "top5" not in nine
    assert "top5_interval" not in nine
    assert 0 < ten["top5"] < 1


def test_ties_go_to_the_lower_class_in_top1_and_top5() -> None:
    """A network that says the same of all must not have every class among its first five."""
    e = evaluation(np.full((6, 12), 1 / 12), np.arange(6))
    assert e.metrics.top1 == pytest.approx(1 / 6)
    assert e.metrics.top5 == pytest.approx(5 / 6)


def definition_of_ece(confidences: np.ndarray, correct: np.ndarray, num_bins: int) -> float:
    """Guo et al. 2017, equation 3, bin by bin."""
    total = 0.0
    for b in range(num_bins):
        inside = (confidences > b / num_bins) & (confidences <= (b + 1) / num_bins)
        if inside.any():
            gap = abs(correct[inside].mean() - confidences[inside].mean())
            total += inside.sum() / len(confidences) * gap
    return total


@given(
    st.lists(
        st.tuples(st.floats(0.001, 1.0) | st.sampled_from([1 / 3, 0.2, 0.6, 1.0]), st.booleans()),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from([1, 2, 5, 15]),
)
@settings(deadline=None)
def test_ece_is_its_definition(pairs: list[tuple[float, bool]], num_bins: int) -> None:
    confidences = np.array([c for c, _ in pairs])
    correct = np.array([hit for _, hit in pairs])
    result = calibrate(confidences, correct, num_bins)
    assert result.ece == pytest.approx(definition_of_ece(confidences, correct, num_bins), abs=1e-12)
    assert sum(b.n for b in result.bins) == len(pairs)
    for b in result.bins:
        assert (b.confidence is None) == (b.accuracy is None) == (b.n == 0)
        if b.confidence is not None:
            assert b.low - 1e-12 <= b.confidence <= b.high + 1e-12


def test_ece_by_hand() -> None:
    # Ten predictions at 0.95, eight right; ten at 0.55, five right: (0.15 + 0.05) / 2.
    confidences = np.repeat([0.95, 0.55], 10)
    correct = np.array([True] * 8 + [False] * 2 + [True] * 5 + [False] * 5)
    result = calibrate(confidences, correct)
    assert result.ece == pytest.approx(0.10)
    assert len(result.bins) == 15
    assert result.bins[14].accuracy == 0.8
    assert result.bins[8].n == 10
    with pytest.raises(ValueError, match="one equal length of at least 1"):
        calibrate(np.zeros(0), np.zeros(0, dtype=bool))


def test_a_class_that_the_split_lacks_has_no_figures() -> None:
    p = np.eye(4)[[0, 1, 2, 2, 3, 3]] * 0.9 + 0.025
    e = evaluation(p, [0, 1, 1, 2, 2, 2])  # class 3: predicted twice, never true
    absent = e.per_class[3]
    assert (absent.n, absent.num_predicted) == (0, 2)
    assert absent.precision is absent.recall is absent.f1 is absent.recall_interval is None
    present = [s for s in e.per_class if s.n]
    assert e.metrics.macro_f1 == pytest.approx(np.mean([s.f1 for s in present]))
    assert e.metrics.balanced_accuracy == pytest.approx(np.mean([s.recall for s in present]))
    assert e.by_row()[3] is None
    assert e.notes == (
        "1 of 4 classes has no sample in this split and is left out of the means over "
        "classes: 'class 3'",
    )


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    e = evaluation([[0.9, 0.1], [0.8, 0.2]], [0, 1])
    assert e.per_class[1].precision is None
    assert (e.per_class[1].recall, e.per_class[1].f1) == (0.0, 0.0)
    assert e.metrics.macro_f1 == pytest.approx((2 / 3 + 0) / 2)


def test_macro_f1_interval_is_that_of_resampled_samples() -> None:
    """By drawing samples one by one, as the definition has it, and sklearn's F1 of each."""
    p, t = guesses(300, 4, skill=1.0)
    predicted = p.argmax(axis=1)
    generator = np.random.default_rng(1)
    drawn = []
    for _ in range(400):
        pick = generator.integers(0, 300, 300)
        drawn.append(sklearn.metrics.f1_score(t[pick], predicted[pick], average="macro"))
    low, high = evaluation(p, t).metrics.macro_f1_interval
    spread = np.std(drawn)
    assert low == pytest.approx(np.quantile(drawn, 0.025), abs=0.4 * spread)
    assert high == pytest.approx(np.quantile(drawn, 0.975), abs=0.4 * spread)
    assert evaluation(p, t, seed=1).metrics.macro_f1_interval != (low, high)
    assert evaluation(p, t).metrics.macro_f1_interval == (low, high)


def test_no_mistake_still_leaves_an_interval() -> None:
    e = evaluation(np.eye(3)[[0, 1, 2, 2]], [0, 1, 2, 2])
    assert e.metrics.macro_f1 == 1.0
    assert e.metrics.macro_f1_interval == wilson_interval(4, 4)
    assert e.metrics.loss == 0.0
    assert e.mistakes == e.most_confused == ()
    assert "nothing to resample" in e.notes[0]


def test_a_zero_probability_of_the_truth_stays_finite() -> None:
    e = evaluation(np.eye(2, dtype=np.float32)[[0, 0]], [0, 1])
    assert e.metrics.loss == pytest.approx(-math.log(float(np.finfo(np.float32).tiny)) / 2)


def test_mistakes_are_the_most_confident_first() -> None:
    p, t = guesses(400, 3, skill=0.5)
    e = evaluation(p, t)
    assert len(e.mistakes) == 36
    shown = [m.probability for m in e.mistakes]
    predicted = p.argmax(axis=1)
    wrong = np.flatnonzero(predicted != t)
    assert shown == sorted(p.max(axis=1)[wrong].tolist(), reverse=True)[:36]
    for m in e.mistakes:
        i = int(m.id.removeprefix("test/"))
        assert m.truth == f"class {t[i]}" != m.prediction == f"class {predicted[i]}"
        assert m.truth_probability == p[i, t[i]]


def test_most_confused_pairs_fall_in_number() -> None:
    e = evaluation(*guesses(2000, 8, skill=0.5))
    counts = np.array(e.confusion)
    np.fill_diagonal(counts, 0)
    assert [pair.n for pair in e.most_confused] == sorted(counts.ravel(), reverse=True)[:20]
    assert e.most_confused[0].share == pytest.approx(
        e.most_confused[0].n / e.per_class[e.classes.index(e.most_confused[0].truth)].n
    )


def test_leaks_give_the_figure_with_and_without() -> None:
    p, t = guesses(50, 3, skill=1.0)
    correct = p.argmax(axis=1) == t
    leaked = np.zeros(50, dtype=bool)
    leaked[np.flatnonzero(correct)[:10]] = True  # what training saw is right more often
    e = evaluation(p, t, leaked=leaked)
    assert e.leaks is not None
    assert e.leaks.n_leaked == 10
    assert e.leaks.with_leaked.top1 == e.metrics.top1
    rest = correct[~leaked]
    document = e.to_json()["leaks"]
    assert document["without_leaked"] == {
        "n": 40,
        "top1": rest.mean(),
        "top1_interval": list(wilson_interval(int(rest.sum()), 40)),
    }
    assert evaluation(p, t, leaked=np.zeros(50, dtype=bool)).to_json()["leaks"] is None
    assert evaluation(p, t).leaks is None
    everything = evaluation(p, t, leaked=np.ones(50, dtype=bool)).to_json()["leaks"]
    assert everything["without_leaked"] == {"n": 0, "top1": None, "top1_interval": None}
    with pytest.raises(ValueError, match=r"leaked must have shape \(50,\). Got \(3,\) instead"):
        evaluation(p, t, leaked=[True, False, True])


@pytest.mark.parametrize("num_classes", [2, 3, 12])
@pytest.mark.parametrize("n", [1, 30])
def test_json_is_plain_and_comes_back(num_classes: int, n: int) -> None:
    leaked = np.arange(n) == 0
    e = evaluation(*guesses(n, num_classes), leaked=leaked)
    text = json.dumps(e.to_json(), allow_nan=False)
    assert Evaluation.from_json(json.loads(text)) == e
    assert json.loads(text) == e.to_json()
    assert list(e.to_json())[:3] == ["split", "n", "metrics"]
    assert Calibration.from_json(e.to_json()["calibration"]) == e.calibration


def test_single_precision_is_taken_as_it_is() -> None:
    p, t = guesses(200, 5)
    double = evaluation(p, t).metrics
    single = evaluation(p.astype(np.float32), t).metrics
    assert (single.top1, single.macro_f1) == (double.top1, double.macro_f1)
    assert single.loss == pytest.approx(double.loss, rel=1e-6)
    assert evaluation(p.astype(np.float16), t).metrics.loss == pytest.approx(double.loss, rel=1e-2)


def test_a_network_of_nan_is_the_users_to_mend() -> None:
    p, t = guesses(5, 3)
    p[3] = np.nan
    with pytest.raises(
        UserError, match=r"no finite probabilities for 1 of 5 samples, 'test/00003' .* lower --lr"
    ):
        evaluation(p, t)


@pytest.mark.parametrize(
    ("p", "t", "message"),
    [
        (np.zeros((0, 2)), [], r"n at least 1 .* Got shape \(0, 2\)"),
        ([[1.0]], [0], r"at least 2. Got shape \(1, 1\)"),
        ([[0.5, 0.5]], [0, 1], r"must be 1 long.* Got \(2,\) and 1"),
        ([[0.5, 0.5]], [2], r"must lie from 0 to 1. Got values from 2 to 2"),
        ([[0.5, 0.5]], [-1], r"Got values from -1 to -1"),
        ([[1.5, -0.5]], [0], r"must not be negative .* -0.5"),
        ([[2.0, 1.0]], [0], r"each row must sum to 1.* from 3.0 to 3.0"),
    ],
)
def test_what_is_no_prediction_is_refused(p: Any, t: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluation(p, t)
