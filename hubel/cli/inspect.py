"""`hubel inspect DATA`: what is in a data set, before anything is trained on it."""

import json as json_module
from typing import Any

import typer

from hubel.cli.options import with_settings
from hubel.cli.progress import reporting

__all__ = ["inspect"]


def _inspect(
    data: str = typer.Argument(
        ..., help="Folder, CSV, IDX, npz … or an embedded set: digits, shapes.", metavar="DATA"
    ),
    html: str | None = typer.Option(None, "--html", help="Write an HTML page to this file."),
    near: bool = typer.Option(True, help="Look for near copies too."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
    *,
    settings: dict[str, Any],
) -> None:
    """Count, measure and check DATA: broken files, copies, leaks between splits."""
    from hubel import api

    with reporting() as report:
        found = api.inspect(data, page=html, near=near, report=report, **settings)
    if json:
        print(json_module.dumps(found.inspection.to_json()))
    else:
        from rich.console import Console

        from hubel.report.inspection_terminal import terminal_summary

        console = Console()
        console.print(terminal_summary(found.inspection))
        if found.page is not None:
            console.print(f"page: {found.page}", markup=False, highlight=False, soft_wrap=True)


_SETTINGS = (
    "img_size", "val_fraction", "cache", "seed",
    "receptor_channels", "ligand_channels", "grid_resolution", "grid_edge",
)  # fmt: skip

inspect = with_settings(_inspect, "settings", _SETTINGS)
