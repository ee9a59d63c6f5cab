"""Results as a person reads them, on stdout."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hubel.errors import printable
from hubel.python_file import is_own_file

if TYPE_CHECKING:
    from hubel.evaluate.localization import LocalizationEvaluation
    from hubel.evaluate.result import Evaluation
    from hubel.predict import Prediction

__all__ = ["percent", "show_evaluation", "show_localization", "show_predictions", "show_result"]


def percent(share: float) -> str:
    """`94.2 %`."""
    return f"{100 * share:.1f} %"


def show_result(result: dict[str, Any]) -> None:
    """The closing lines of a fit."""
    metrics = result["metrics"]
    score = _SCORES[result["task"]]
    low, high = metrics[f"{score}_interval"]
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{percent(metrics[score])} of {metrics['n']} validation samples"
        f"{_MEANING[result['task']]} (95 % interval {100 * low:.1f}–{100 * high:.1f})",
        style="bold",
        markup=False,
    )
    console.print(
        f"{result['model']}, {result['epochs']} epochs (best: {result['best_epoch']}), "
        f"{result['seconds']:.0f} s, {result['images_per_s']:,.0f} images/s, {result['engine']}",
        markup=False,
    )
    console.print(f"run: {result['run']}", markup=False)
    own = f" --model {result['model']}" if is_own_file(result["model"]) else ""
    console.print(f"next: hubel evaluate {result['run']}{own}", markup=False)


_SCORES = {"classify": "top1", "localize": "located"}
_MEANING = {"classify": "", "localize": " have the right class and an IoU of at least 0.5"}
_MOST_CLASSES = 30  # in the terminal; the report has all


def show_evaluation(evaluation: "Evaluation", report: str) -> None:
    """Accuracy with its interval, the classes from worst to best, and the report's place."""
    console = Console(highlight=False)
    m = evaluation.metrics
    console.print(
        f"{percent(m.top1)} of {evaluation.n} samples of split '{evaluation.split}' right "
        f"(95 % interval {100 * m.top1_interval[0]:.1f}–{100 * m.top1_interval[1]:.1f})",
        style="bold",
        markup=False,
    )
    second = [f"macro F1 {m.macro_f1:.3f}", f"loss {m.loss:.3f}", f"ECE {m.ece:.3f}"]
    if m.top5 is not None:
        second.insert(0, f"top-5 {percent(m.top5)}")
    console.print(", ".join(second), markup=False)
    if evaluation.leaks is not None and evaluation.leaks.n_leaked:
        rest = evaluation.leaks.without_leaked
        top1 = "none are left" if rest.top1 is None else f"{percent(rest.top1)} of {rest.n}"
        console.print(
            f"{evaluation.leaks.n_leaked} of them are exact copies of training samples; "
            f"without these: {top1}",
            style="bold yellow",
            markup=False,
        )
    else:
        console.print("no exact copy of a training sample is among them", markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="ellipsis", no_wrap=True, max_width=32)
    for name in ("n", "precision", "recall", "F1"):
        table.add_column(name, justify="right")
    scores = sorted(evaluation.per_class, key=lambda s: -1.0 if s.f1 is None else s.f1)
    for score in scores[:_MOST_CLASSES]:
        figures = (score.precision, score.recall, score.f1)
        shown = ("–" if f is None else f"{f:.3f}" for f in figures)
        table.add_row(Text(printable(score.name)), str(score.n), *shown)
    console.print(table)
    if len(scores) > _MOST_CLASSES:
        console.print(f"… and {len(scores) - _MOST_CLASSES} better classes", markup=False)
    console.print(f"report: {report}", markup=False, soft_wrap=True)


def show_localization(evaluation: "LocalizationEvaluation", report: str) -> None:
    """Class and place with their intervals, the classes from worst to best, the report's place."""
    console = Console(highlight=False)
    m = evaluation.metrics
    low, high = m.localization_error_interval
    console.print(
        f"{percent(1 - m.localization_error)} of {evaluation.n} samples of split "
        f"'{evaluation.split}' have the right class and an IoU of at least 0.5 (95 % interval "
        f"{100 * (1 - high):.1f}–{100 * (1 - low):.1f})",
        style="bold",
        markup=False,
    )
    console.print(
        f"right class {percent(m.top1)}, mean IoU {m.mean_iou:.3f} "
        f"({m.mean_iou_interval[0]:.3f}–{m.mean_iou_interval[1]:.3f})",
        markup=False,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="ellipsis", no_wrap=True, max_width=32)
    for name in ("n", "error", "right class", "mean IoU"):
        table.add_column(name, justify="right")
    ranked = sorted(evaluation.per_class, key=lambda c: -(c.localization_error or 0.0))
    for c in ranked[:_MOST_CLASSES]:
        shown = (
            "–" if f is None else f"{f:.3f}" for f in (c.localization_error, c.top1, c.mean_iou)
        )
        table.add_row(Text(printable(c.name)), str(c.n), *shown)
    console.print(table)
    console.print(f"report: {report}", markup=False, soft_wrap=True)


def show_predictions(predictions: "Sequence[Prediction]") -> None:
    """One line a file."""
    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    boxed = any(p.box for p in predictions)
    if boxed:
        table.add_column("left, top, right, bottom", justify="right")
    for p in predictions:
        probability = "" if p.probability is None else f"{p.probability:.3f}"
        label = p.label or f"unreadable: {p.error}"
        box = [", ".join(f"{side:.1f}" for side in p.box or ())] if boxed else []
        table.add_row(Text(printable(p.path)), Text(printable(label)), probability, *box)
    Console(highlight=False).print(table)
