"""Results as a person reads them, on stdout."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hubel.errors import printable
from hubel.python_file import is_own_file
from hubel.report.words import plural

if TYPE_CHECKING:
    from hubel.evaluate.detection import DetectionEvaluation
    from hubel.evaluate.localization import LocalizationEvaluation
    from hubel.evaluate.ranking import RankingEvaluation
    from hubel.evaluate.result import Evaluation
    from hubel.evaluate.run import AnyEvaluation
    from hubel.evaluate.segmentation import SegmentationEvaluation
    from hubel.predict import Prediction

__all__ = ["percent", "show_judged", "show_predictions", "show_result"]


def percent(share: float) -> str:
    """`94.2 %`."""
    return f"{100 * share:.1f} %"


def show_result(result: dict[str, Any]) -> None:
    """The closing lines of a fit."""
    from hubel.tasks import TASKS

    console = Console(soft_wrap=True, highlight=False)
    headline = TASKS[result["task"]].headline(result["metrics"])
    console.print(headline, style="bold", markup=False)
    console.print(
        f"{result['model']}, {plural(result['epochs'], 'epoch')} (best: {result['best_epoch']}), "
        f"{result['seconds']:.0f} s, {result['images_per_s']:,.0f} images/s, {result['engine']}",
        markup=False,
    )
    console.print(f"run: {result['run']}", markup=False)
    own = f" --model {result['model']}" if is_own_file(result["model"]) else ""
    console.print(f"next: hubel evaluate {result['run']}{own}", markup=False)


def show_judged(evaluation: "AnyEvaluation", report: str) -> None:
    """The figures with their intervals, the classes from worst to best, the report's place."""
    from hubel.evaluate.detection import DetectionEvaluation
    from hubel.evaluate.localization import LocalizationEvaluation
    from hubel.evaluate.ranking import RankingEvaluation
    from hubel.evaluate.segmentation import SegmentationEvaluation

    if isinstance(evaluation, LocalizationEvaluation):
        _show_localization(evaluation, report)
    elif isinstance(evaluation, DetectionEvaluation):
        _show_detection(evaluation, report)
    elif isinstance(evaluation, SegmentationEvaluation):
        _show_segmentation(evaluation, report)
    elif isinstance(evaluation, RankingEvaluation):
        _show_ranking(evaluation, report)
    else:
        _show_classification(evaluation, report)


_MOST_CLASSES = 30  # in the terminal; the report has all
_LEAST_SHARE = 0.001  # of a sample: less of a class is not told


def _show_classification(evaluation: "Evaluation", report: str) -> None:
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


def _show_localization(evaluation: "LocalizationEvaluation", report: str) -> None:
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


def _show_detection(evaluation: "DetectionEvaluation", report: str) -> None:
    """Average precision, the errors by kind, the classes from worst to best, the report's place."""
    from hubel.evaluate.box_errors import KINDS

    console = Console(highlight=False)
    m, point = evaluation.metrics, evaluation.operating_point
    if m.map50 is not None and m.map50_interval is not None:
        low, high = m.map50_interval
        console.print(
            f"mAP50 {m.map50:.3f} on {evaluation.n} samples of split '{evaluation.split}' "
            f"(95 % interval {low:.3f}–{high:.3f}), mAP50-95 {m.map50_95:.3f}",
            style="bold",
            markup=False,
        )
    if point is not None:
        console.print(
            f"at scores from {point.min_score:.2f}: precision {percent(point.precision)}, "
            f"recall {percent(point.recall)}, F1 {point.f1:.3f}",
            markup=False,
        )
    counts = {kind: getattr(evaluation.errors, kind) for kind in KINDS}
    errors = ", ".join(f"{kind} {count}" for kind, count in counts.items() if count)
    console.print(f"errors: {errors or 'none'}", markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="ellipsis", no_wrap=True, max_width=32)
    for name in ("boxes", "AP50", "AP50-95", "missed", "wrong"):
        table.add_column(name, justify="right")
    for c in sorted(evaluation.per_class, key=lambda c: -1.0 if c.ap50 is None else c.ap50)[
        :_MOST_CLASSES
    ]:
        shown = ("–" if f is None else f"{f:.3f}" for f in (c.ap50, c.ap50_95))
        wrong = c.errors.total - c.errors.missed
        table.add_row(Text(printable(c.name)), str(c.n), *shown, str(c.errors.missed), str(wrong))
    console.print(table)
    console.print(f"report: {report}", markup=False, soft_wrap=True)


def _show_ranking(evaluation: "RankingEvaluation", report: str) -> None:
    """Each scorer's figures with their intervals, and the report's place."""
    console = Console(highlight=False)
    network = evaluation.network
    low, high = network.auc_interval
    console.print(
        f"AUC {network.auc:.3f} on {evaluation.n} poses of {evaluation.num_ligands} ligands of "
        f"split '{evaluation.split}' (95 % interval {low:.3f}–{high:.3f})",
        style="bold",
        markup=False,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("scorer")
    for name in ("AUC", "in a ligand", "first good", "95 %", "of three", "95 %"):
        table.add_column(name, justify="right")
    for s in evaluation.scorers:
        table.add_row(
            s.scorer,
            f"{s.auc:.3f}",
            f"{s.ligand_auc:.3f}",
            percent(s.top1),
            _between(s.top1_interval),
            percent(s.top3),
            _between(s.top3_interval),
        )
    table.add_row("any order", "0.500", "0.500", percent(evaluation.random_top1), "", "", "")
    console.print(table)
    for note in evaluation.notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"report: {report}", markup=False, soft_wrap=True)


def _between(interval: tuple[float, float]) -> str:
    """A 95 % interval of a share, in percent."""
    return f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}"


def _show_segmentation(evaluation: "SegmentationEvaluation", report: str) -> None:
    """Overlap with its interval, the classes from worst to best, and the report's place."""
    console = Console(highlight=False)
    m = evaluation.metrics
    if m.miou is None or m.miou_interval is None:
        console.print(
            f"split '{evaluation.split}' has no pixel to judge", style="bold", markup=False
        )
    else:
        console.print(
            f"mIoU {m.miou:.3f} on {evaluation.n} samples of split '{evaluation.split}' "
            f"(95 % interval {m.miou_interval[0]:.3f}–{m.miou_interval[1]:.3f})",
            style="bold",
            markup=False,
        )
    named = {"Dice": m.mean_dice, "boundary F": m.boundary_f}
    second = [f"{name} {figure:.3f}" for name, figure in named.items() if figure is not None]
    if m.pixel_accuracy is not None:
        second.insert(0, f"{percent(m.pixel_accuracy)} of the pixels right")
    console.print(", ".join(second), markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="ellipsis", no_wrap=True, max_width=32)
    for name in ("pixels", "IoU", "Dice", "boundary F"):
        table.add_column(name, justify="right")
    ranked = sorted(evaluation.per_class, key=lambda c: 2.0 if c.iou is None else c.iou)
    for c in ranked[:_MOST_CLASSES]:
        shown = ("–" if f is None else f"{f:.3f}" for f in (c.iou, c.dice, c.boundary_f))
        table.add_row(Text(printable(c.name)), f"{c.num_true:,}", *shown)
    console.print(table)
    if len(ranked) > _MOST_CLASSES:
        console.print(f"… and {len(ranked) - _MOST_CLASSES} better classes", markup=False)
    console.print(f"report: {report}", markup=False, soft_wrap=True)


def show_predictions(predictions: "Sequence[Prediction]") -> None:
    """One line a file."""
    if any(p.objects is not None or p.shares is not None for p in predictions):
        _show_found(predictions)
        return
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


def _show_found(predictions: "Sequence[Prediction]") -> None:
    """How many objects of each class a file has, or what share of it each class has; --json has
    the boxes, --write the masks.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("found", overflow="fold")
    for p in predictions:
        if p.objects is not None:
            counts = Counter(found.label for found in p.objects).most_common()
            said = ", ".join(f"{n} {label}" for label, n in counts) or "none"
        else:
            shares = sorted((p.shares or {}).items(), key=lambda item: -item[1])
            said = ", ".join(f"{percent(s)} {label}" for label, s in shares if s >= _LEAST_SHARE)
        said = f"unreadable: {p.error}" if p.error else said
        table.add_row(Text(printable(p.path)), Text(printable(said)))
    Console(highlight=False).print(table)
