"""The result of judging a classifier: plain numbers, and their JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from hubel.evaluate.calibration import Calibration
from hubel.evaluate.plain import lists, tuples

__all__ = [
    "ClassScore",
    "ConfusedPair",
    "Evaluation",
    "Interval",
    "Leaks",
    "Metrics",
    "Mistake",
    "SubsetAccuracy",
]

Interval = tuple[float, float]


@dataclass(frozen=True)
class Metrics:
    """The figures of a whole split. Intervals are of 95 %.

    Attributes
    ----------
    top1, top5: share of samples whose class is the most probable, or among the five most
        probable (from ten classes up, else None); intervals after Wilson.
    loss: mean negative log-likelihood of the true class, in nats.
    macro_f1: mean F1 over the classes that the split has; interval by bootstrap over samples
        (`hubel.stats.bootstrap_interval`).
    balanced_accuracy: mean recall over the classes that the split has.
    ece: expected calibration error, see `hubel.evaluate.calibration`.
    """

    top1: float
    top1_interval: Interval
    top5: float | None
    top5_interval: Interval | None
    loss: float
    macro_f1: float
    macro_f1_interval: Interval
    balanced_accuracy: float
    ece: float


@dataclass(frozen=True)
class ClassScore:
    """One class. `n` samples have it, `num_predicted` were given it.

    None marks what does not exist: everything for a class that the split lacks, and the
    precision of a class that is never predicted.
    """

    name: str
    n: int
    num_predicted: int
    precision: float | None
    recall: float | None
    f1: float | None
    recall_interval: Interval | None


@dataclass(frozen=True)
class ConfusedPair:
    """`n` samples of class `truth` were taken for `prediction`: a `share` of that class."""

    truth: str
    prediction: str
    n: int
    share: float


@dataclass(frozen=True)
class Mistake:
    """A sample given a wrong class, and the probabilities of the wrong and the true one."""

    id: str
    truth: str
    prediction: str
    probability: float
    truth_probability: float


@dataclass(frozen=True)
class SubsetAccuracy:
    """Accuracy over `n` samples; None where there are none."""

    n: int
    top1: float | None
    top1_interval: Interval | None


@dataclass(frozen=True)
class Leaks:
    """The figure with and without the `n_leaked` samples that training had seen."""

    n_leaked: int
    with_leaked: SubsetAccuracy
    without_leaked: SubsetAccuracy


@dataclass(frozen=True)
class Evaluation:
    """A classifier's result on one split.

    Attributes
    ----------
    confusion: [truth][prediction] numbers of samples.
    most_confused: the pairs of classes most often taken for each other, at most 20.
    mistakes: the most confident wrong predictions, at most 36.
    leaks: None where no sample of the split was in the training split too.
    notes: sentences about what the figures leave out.
    """

    split: str
    n: int
    classes: tuple[str, ...]
    metrics: Metrics
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration: Calibration
    most_confused: tuple[ConfusedPair, ...]
    mistakes: tuple[Mistake, ...]
    leaks: Leaks | None
    notes: tuple[str, ...]

    @property
    def num_correct(self) -> int:
        return sum(row[i] for i, row in enumerate(self.confusion))

    def by_row(self) -> list[list[float] | None]:
        """The confusion matrix as shares of each true class; None for an absent class."""
        return [[c / sum(row) for c in row] if sum(row) else None for row in self.confusion]

    def to_json(self) -> dict[str, Any]:
        """A document of JSON's own types; it holds no NaN and no infinity."""
        metrics = asdict(self.metrics)
        if self.metrics.top5 is None:
            del metrics["top5"], metrics["top5_interval"]
        document = {
            "split": self.split,
            "n": self.n,
            "metrics": metrics,
            "per_class": [
                {"class": score["name"], **{k: v for k, v in score.items() if k != "name"}}
                for score in map(asdict, self.per_class)
            ],
            "confusion": {
                "classes": self.classes,
                "rows": "truth",
                "columns": "prediction",
                "counts": self.confusion,
                "by_row": self.by_row(),
            },
            "calibration": self.calibration.to_json(),
            "most_confused": [asdict(pair) for pair in self.most_confused],
            "mistakes": [asdict(mistake) for mistake in self.mistakes],
            "leaks": None if self.leaks is None else asdict(self.leaks),
            "notes": self.notes,
        }
        plain: dict[str, Any] = lists(document)
        return plain

    @staticmethod
    def from_json(document: dict[str, Any]) -> "Evaluation":
        """The evaluation that `to_json` wrote."""
        values = tuples(document)
        metrics = {"top5": None, "top5_interval": None, **values["metrics"]}
        leaks = values["leaks"]
        return Evaluation(
            split=values["split"],
            n=values["n"],
            classes=values["confusion"]["classes"],
            metrics=Metrics(**metrics),
            per_class=tuple(
                ClassScore(name=score["class"], **{k: v for k, v in score.items() if k != "class"})
                for score in values["per_class"]
            ),
            confusion=values["confusion"]["counts"],
            calibration=Calibration.from_json(values["calibration"]),
            most_confused=tuple(ConfusedPair(**pair) for pair in values["most_confused"]),
            mistakes=tuple(Mistake(**mistake) for mistake in values["mistakes"]),
            leaks=None
            if leaks is None
            else Leaks(
                n_leaked=leaks["n_leaked"],
                with_leaked=SubsetAccuracy(**leaks["with_leaked"]),
                without_leaked=SubsetAccuracy(**leaks["without_leaked"]),
            ),
            notes=values["notes"],
        )
