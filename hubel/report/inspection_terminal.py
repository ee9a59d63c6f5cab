"""An inspection as a person reads it in a terminal, from 60 columns up."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hubel.data.inspection import Headline, Inspection
from hubel.data.measure_boxes import BoxFacts, quantiles
from hubel.data.measure_masks import MaskFacts
from hubel.data.source import SPLITS
from hubel.errors import printable
from hubel.report.words import integer, percent, plural

__all__ = ["terminal_summary"]

MARKS = {"error": ("✗", "bold red"), "warning": ("!", "bold yellow"), "info": ("·", "dim")}
ALL_CLASSES = 24
"""Up to this many classes are listed one by one; of more, the ends of the order by size."""
AT_ENDS = 8
EXAMPLES = 5
BAR, SHORT_BAR = 16, 8


def terminal_summary(inspection: Inspection) -> RenderableType:
    """Findings, classes, facts, and the first broken files and copies."""
    parts: list[RenderableType] = [_title(inspection), Text("")]
    parts += [_finding(headline) for headline in inspection.headlines]
    masks = inspection.masks
    table = _classes(inspection) if masks is None else _shares(inspection, masks)
    parts += [Text(""), table, Text(""), _facts(inspection)]
    if inspection.problems:
        shown = [(p.id, p.reason) for p in inspection.problems[:EXAMPLES]]
        parts += _listing("Cannot be read", shown, len(inspection.problems))
    if inspection.faults:
        shown = [(f.where, f.reason) for f in inspection.faults[:EXAMPLES]]
        parts += _listing("Annotations at fault", shown, len(inspection.faults))
    if inspection.exact.groups:
        groups = [
            (_place(inspection, int(g[0])), f"= {_places(inspection, g[1:])}")
            for g in inspection.exact.groups[:EXAMPLES]
        ]
        parts += _listing("Exact copies", groups, len(inspection.exact.groups))
    near = inspection.near
    if near is not None and len(near.pairs):
        pairs = [
            (
                _place(inspection, int(a)),
                f"≈ {_place(inspection, int(b))} ({alike:.2f}{', mirrored' if flip else ''})",
            )
            for (a, b), alike, flip in zip(
                near.pairs[:EXAMPLES], near.alike, near.mirrored, strict=False
            )
        ]
        parts += _listing("Look the same", pairs, len(near.pairs))
    return Group(*parts)


def _title(inspection: Inspection) -> Text:
    text = Text(printable(inspection.name), style="bold", overflow="fold")
    facts = (
        f"  {inspection.format}, {plural(inspection.num_samples, inspection.noun)}, "
        f"{plural(len(inspection.classes), 'class', 'classes')}"
    )
    return text.append(facts, style="not bold")


def _finding(headline: Headline) -> RenderableType:
    mark, style = MARKS[headline.severity]
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    words = Text(printable(headline.text), style="" if headline.severity == "info" else "bold")
    if headline.remedy:
        words.append(f" {headline.remedy}", style="not bold dim")
    grid.add_row(Text(mark, style=style), words)
    return grid


def _order(inspection: Inspection) -> tuple[list[int], int]:
    """The classes that are listed, and how many between `AT_ENDS` of them are not."""
    order: list[int] = list(range(len(inspection.classes)))
    if len(order) <= ALL_CLASSES:
        return order, 0
    order.sort(key=lambda k: -int(inspection.counts[0, k]))
    return order[:AT_ENDS] + order[-AT_ENDS:], len(order) - 2 * AT_ENDS


def _by_split(inspection: Inspection) -> tuple[Table, list[int]]:
    """A table whose first columns are the class and each split that has samples."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("class", overflow="ellipsis", no_wrap=True, max_width=30)
    splits = [row for row in range(len(SPLITS)) if inspection.num_of_split[row]]
    for row in splits:
        table.add_column(SPLITS[row], justify="right", no_wrap=True)
    return table, splits


def _classes(inspection: Inspection) -> Table:
    counts = inspection.counts
    order, hidden = _order(inspection)
    table, splits = _by_split(inspection)
    table.add_column("boxes" if inspection.boxes is not None else "", no_wrap=True)
    most = max(1, int(counts[0].max()))
    for place, k in enumerate(order):
        if hidden and place == AT_ENDS:
            table.add_row(Text(f"… {hidden:,} between", style="dim"))
        bar = "█" * max(int(counts[0, k] > 0), round(BAR * int(counts[0, k]) / most))
        table.add_row(
            Text(printable(inspection.classes[k])),
            *(integer(int(counts[row, k])) for row in splits),
            Text(bar, style="blue"),
        )
    table.add_section()
    totals = (Text(integer(int(counts[row].sum())), style="bold") for row in splits)
    table.add_row(Text("all", style="bold"), *totals)
    return table


def _shares(inspection: Inspection, masks: MaskFacts) -> Table:
    """The share of each split's pixels that a class has, and how many samples it is seen in."""
    order, hidden = _order(inspection)
    table, splits = _by_split(inspection)
    table.add_column(f"in {inspection.noun}s", justify="right", no_wrap=True)
    table.add_column(f"of {inspection.unit}s", no_wrap=True)
    shares = masks.shares()
    most = max(1e-12, float(shares[0].max()))
    for place, k in enumerate(order):
        if hidden and place == AT_ENDS:
            table.add_row(Text(f"… {hidden:,} between", style="dim"))
        bar = "█" * max(int(shares[0, k] > 0), round(SHORT_BAR * float(shares[0, k]) / most))
        table.add_row(
            Text(printable(inspection.classes[k])),
            *(percent(float(shares[row, k])) for row in splits),
            integer(int(masks.samples[:, k].sum())),
            Text(bar, style="blue"),
        )
    table.add_section()
    ignored = masks.ignored_shares()
    if masks.ignored.any():
        table.add_row(
            Text("ignored", style="bold"),
            *(Text(percent(float(ignored[row])), style="bold") for row in splits),
        )
    return table


def _box_rows(boxes: BoxFacts) -> list[tuple[str, str]]:
    """Boxes a picture, their sizes and their shapes."""
    without = int(boxes.without.sum())
    rows = [
        (
            "boxes each",
            f"{'0 to ' if without else 'up to '}{len(boxes.per_picture) - 1}, median "
            f"{boxes.median_per_picture:g}; {plural(without, 'picture')} without an object",
        )
    ]
    if boxes.difficult:
        rows.append(("difficult", plural(boxes.difficult, "box", "boxes")))
    sizes = (f"{name} {percent(share)}" for name, share in boxes.shares_by_size().items())
    rows.append(("box sizes", f"{', '.join(sizes)} (COCO's: from 32² and 96² pixels)"))
    for name, values, of in (
        ("box sides", boxes.sides, " of the picture's"),
        ("box shapes", boxes.ratios, " width / height"),
    ):
        found = quantiles(values)
        if found is not None:
            rows.append(
                (
                    name,
                    f"median {found['50%']:.2g}{of}, nine in ten {found['5%']:.2g} to "
                    f"{found['95%']:.2g}",
                )
            )
    return rows


def _facts(inspection: Inspection) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    sizes = inspection.sizes
    if len(sizes.sizes) == 1:
        size = f"all {_times(sizes.smallest)}"
    else:
        median = "×".join(f"{m:g}" for m in sizes.median)
        size = f"{_times(sizes.smallest)} to {_times(sizes.largest)}, median {median}"
    if tuple(sizes.smallest) != sizes.stored or len(sizes.sizes) > 1:
        size += f"; stored at {_times(sizes.stored)}"
    size += f" ({inspection.axes})"
    rows: list[tuple[str, str]] = [("sizes", size)]
    rows.append(("channels", _of_all(((str(k), v) for k, v in inspection.channels.items()))))
    if inspection.num_of_split[0]:
        rows.append(("mean", ", ".join(f"{m:.4g}" for m in inspection.pixels.mean) + " (train)"))
        rows.append(("std", ", ".join(f"{s:.4g}" for s in inspection.pixels.std)))
    balance = inspection.balance
    few = balance.ratio is not None and balance.ratio < 10
    ratio = "–" if balance.ratio is None else f"{balance.ratio:{'.2g' if few else ',.0f'}}"
    if inspection.boxes is not None:
        rows += _box_rows(inspection.boxes)
    if inspection.counts[0].any():
        rows.append(("balance", f"largest / smallest {ratio}, evenness {balance.evenness:.3f}"))
    if inspection.files is not None:
        rows.append(("files", _of_all(inspection.files.formats.items())))
        rows.append(("modes", _of_all(inspection.files.modes.items())))
    if inspection.num_readable < inspection.num_samples:
        share = inspection.num_readable / inspection.num_samples
        rows.append(("readable", f"{inspection.num_readable:,} ({percent(share)})"))
    rows += [("note", note) for note in inspection.notes]
    for name, value in rows:
        table.add_row(name, Text(printable(value), overflow="fold"))
    return table


def _of_all(counts: Iterable[tuple[str, int]]) -> str:
    """ "JPEG" where all are alike, "JPEG 50, PNG 3" where not."""
    pairs = list(counts)
    if len(pairs) == 1:
        return pairs[0][0]
    return ", ".join(f"{name} ({count:,})" for name, count in pairs)


def _listing(title: str, rows: list[tuple[str, str]], total: int) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(""), Text(title, style="bold")]
    for first, second in rows:
        line = Text(printable(first), overflow="fold").append(f"  {printable(second)}", style="dim")
        parts.append(Padding(line, (0, 0, 0, 2)))
    if total > len(rows):
        parts.append(Text(f"  … and {total - len(rows):,} more: --json lists all", style="dim"))
    return parts


def _place(inspection: Inspection, i: int) -> str:
    """The id, led by the split where the id does not say it."""
    split, name = str(inspection.split_of[i]), inspection.ids[i]
    return name if not split or name.startswith(f"{split}/") else f"[{split}] {name}"


def _places(inspection: Inspection, indices: Iterable[int]) -> str:
    places = [_place(inspection, int(i)) for i in indices]
    return ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")


def _times(size: Iterable[int]) -> str:
    return "×".join(str(side) for side in size)
