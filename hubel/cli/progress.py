"""What a person sees on stderr while something runs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from hubel.errors import printable

__all__ = ["reporting"]


class _Reporter:
    """Turns the reports of a fit into a progress bar, log lines and notes."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self.console = console
        self.progress = progress
        self.task: TaskID | None = None
        self.what = ""

    def __call__(self, facts: dict[str, Any]) -> None:
        if "note" in facts:
            style = "bold yellow" if "WARNING" in facts["note"] else "yellow"
            # Whole words at a terminal's edge; a pipe keeps one note one line.
            at_once = not self.console.is_terminal
            self.console.print(
                printable(facts["note"]),
                style=style,
                markup=False,
                highlight=False,
                soft_wrap=at_once,
            )
        elif "stage" in facts:
            self._bar(facts["stage"], facts["count"], facts["total"], "")
        elif "row" in facts:
            self._line(facts["row"])
        else:
            words = (
                f"loss {facts['loss']:.3f}  {facts['running']} {facts['share']:.3f}  "
                f"{facts['images_per_s']:,.0f} img/s  {_clock(facts['left_s'])} left"
            )
            self._bar(f"epoch {facts['epoch']}", facts["done"], 1.0, words)

    def _bar(self, what: str, count: float, total: float, words: str) -> None:
        if self.task is None:
            self.task = self.progress.add_task(what, total=total, words=words)
        self.progress.update(self.task, description=what, completed=count, total=total, words=words)

    def _line(self, row: dict[str, Any]) -> None:
        loss = "  n/a" if row["val_loss"] is None else f"{row['val_loss']:.3f}"
        train, val = (_figure(row, split) for split in ("train", "val"))
        self.console.print(
            f"epoch {row['epoch']:>3}  train loss {row['train_loss']:.3f} "
            f"{train}  val loss {loss} {val}  "
            f"{row['images_per_s']:,.0f} img/s",
            markup=False,
            highlight=False,
        )


def _figure(row: dict[str, Any], split: str) -> str:
    """`top1 0.914`: what a row of the log has of a split beside the loss."""
    key = next(k for k in row if k.startswith(f"{split}_") and k != f"{split}_loss")
    return f"{key.removeprefix(f'{split}_')} {row[key]:.3f}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(min(seconds, 359999)), 60)
    return f"{minutes}:{seconds:02d}"


@contextmanager
def reporting() -> Iterator[_Reporter]:
    """A reporter on stderr; its bar vanishes at the end, its lines stay."""
    console = Console(stderr=True, soft_wrap=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[words]}", markup=False),
    )
    shown = sys.stderr.isatty()
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        yield _Reporter(console, progress)
