"""Results as a person reads them, on stdout."""

from typing import Any

from rich.console import Console

__all__ = ["percent", "show_result"]


def percent(share: float) -> str:
    """`94.2 %`."""
    return f"{100 * share:.1f} %"


def show_result(result: dict[str, Any]) -> None:
    """The closing lines of a fit."""
    metrics = result["metrics"]
    low, high = metrics["top1_interval"]
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{percent(metrics['top1'])} of {metrics['n']} validation samples "
        f"(95 % interval {100 * low:.1f}–{100 * high:.1f})",
        style="bold",
        markup=False,
    )
    console.print(
        f"{result['model']}, {result['epochs']} epochs (best: {result['best_epoch']}), "
        f"{result['seconds']:.0f} s, {result['images_per_s']:,.0f} images/s, {result['engine']}",
        markup=False,
    )
    console.print(f"run: {result['run']}", markup=False)
    console.print(f"next: hubel evaluate {result['run']}", markup=False)
