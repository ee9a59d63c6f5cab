"""The page of an inspection: what is in a data set, and what is wrong with it."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hubel.colours import class_colour, css
from hubel.data.inspection import Inspection
from hubel.data.measure_boxes import SIZES, BoxFacts, quantiles
from hubel.data.sentences import plural_of
from hubel.data.source import SPLITS, Source, UnreadableSampleError
from hubel.data.store import Store
from hubel.report import words
from hubel.report.inspection_examples import example_rows
from hubel.report.page import picture_uri, render, write_page

__all__ = ["write_inspection_page"]

Indices = npt.NDArray[np.int64]

MAX_GROUPS = 24
MAX_MEMBERS = 6
MAX_PAIRS = 36
MAX_EMPTY = 24
MAX_ROWS = 500
MAX_ODD = 50
"""Shown of groups of exact copies and their members, near pairs, empty samples, unreadable
files, and readable but odd ones; the JSON document has all."""

THUMB = 96
PAIR = 144
"""Sides in pixels of the pictures in the page."""


@dataclass(frozen=True)
class Shown:
    """One sample on the page; `uri` is None where it cannot be read any more."""

    id: str
    split: str
    label: str
    uri: str | None


@dataclass(frozen=True)
class ShownPair:
    """Two that look the same."""

    first: Shown
    second: Shown
    alike: float
    mirrored: bool

    @property
    def across(self) -> bool:
        """Whether they lie in different splits."""
        return self.first.split != self.second.split


def write_inspection_page(
    destination: Path, inspection: Inspection, store: Store, source: Source
) -> Path:
    """Write the page as one HTML file that needs nothing else; returns `destination`.

    Pictures are shown as they are in the data, not stretched as they are stored. One that
    has become unreadable since is left blank.
    """
    # Altair takes seconds to import.
    from hubel.report import inspection_charts as charts

    album = _Album(inspection, store, source)
    exact, near = inspection.exact, inspection.near
    grid = example_rows(inspection, store, source)
    coloured = inspection.present is not None
    sizes_vary = len(inspection.sizes.sizes) > 1
    html = render(
        "inspection.html",
        {
            "seen": inspection,
            "name": Path(inspection.name).name or inspection.name,
            "noun": inspection.noun,
            "splits": {k: v for k, v in inspection.split_counts().items() if v},
            "balance_chart": charts.class_balance(inspection),
            "class_table": _class_table(inspection),
            "units": plural_of(inspection.unit),
            "box_charts": [] if inspection.boxes is None else charts.box_charts(inspection.boxes),
            "box_facts": [] if inspection.boxes is None else _box_facts(inspection.boxes),
            "num_charted": min(len(inspection.classes), charts.MAX_CHART_CLASSES),
            "sizes_chart": charts.size_scatter(inspection.sizes) if sizes_vary else None,
            "per_class": max(len(row.shown) for row in grid),
            "grid": grid,
            "num_shown": min(len(grid), len(inspection.classes)),
            "legend": [
                (name, css(class_colour(k, inspection.classes)))
                for k, name in enumerate(inspection.classes)
                if coloured
            ],
            "film": ("volumes" if inspection.spatial_dims == 3 else "labelled" if coloured else ""),
            "channel_rows": _channel_rows(inspection),
            "kinds": _kinds(inspection),
            "max_rows": MAX_ROWS,
            "odd_files": _odd_files(inspection),
            "groups": [
                (len(group), [album.show(i, THUMB) for i in _members(group, inspection)])
                for group in _worst_groups(inspection)
            ],
            "pairs": []
            if near is None
            else [
                ShownPair(
                    album.show(int(a), PAIR), album.show(int(b), PAIR), float(alike), bool(flip)
                )
                for (a, b), alike, flip in zip(
                    near.pairs[:MAX_PAIRS], near.alike, near.mirrored, strict=False
                )
            ],
            "num_groups": len(exact.groups),
            "empty": [
                (what, len(indices), [album.show(int(i), THUMB) for i in indices[:MAX_EMPTY]])
                for what, indices in (
                    ("One single value", inspection.pixels.constant),
                    ("Nearly empty", inspection.pixels.faint),
                )
                if len(indices)
            ],
            "facts": _facts(inspection, store),
        },
    )
    return write_page(destination, html)


class _Album:
    """Samples as they are shown, each read at most once."""

    def __init__(self, inspection: Inspection, store: Store, source: Source) -> None:
        self._inspection = inspection
        self._store = store
        self._source = source
        self._uris: dict[tuple[int, int], str | None] = {}

    def show(self, i: int, side: int) -> Shown:
        """Sample `i`, its picture at most `side` pixels wide and high."""
        i = int(i)
        seen = self._inspection
        if (i, side) not in self._uris:
            self._uris[i, side] = self._uri(i, side)
        return Shown(seen.ids[i], str(seen.split_of[i]), seen.label(i), self._uris[i, side])

    def _uri(self, i: int, side: int) -> str | None:
        try:
            pixels = self._source.decode(self._source.content(i), i)
        except (UnreadableSampleError, OSError):
            return None
        if pixels.dtype == np.uint8 and pixels.max(initial=0) <= 1:  # a mask: 0 and 1 alone
            pixels = pixels * np.uint8(255)
        return picture_uri(pixels, max_side=side)


def _worst_groups(inspection: Inspection) -> list[Indices]:
    """Contradicting labels first, then copies across splits, then the rest."""
    conflicting = {int(group[0]) for group in inspection.exact.conflicts}
    groups = sorted(inspection.exact.groups, key=lambda group: int(group[0]) not in conflicting)
    return groups[:MAX_GROUPS]


def _members(group: Indices, inspection: Inspection) -> list[int]:
    """Those shown of a group: one of each split and label first."""
    kinds: set[tuple[str, int]] = set()
    new: list[int] = []
    old: list[int] = []
    for i in group.tolist():
        kind = (str(inspection.split_of[i]), int(inspection.targets[i]))
        (old if kind in kinds else new).append(i)
        kinds.add(kind)
    return (new + old)[:MAX_MEMBERS]


def _class_table(inspection: Inspection) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The heads of the columns after the class, and (class, cells) of each row."""
    splits = [row for row in range(len(SPLITS)) if inspection.num_of_split[row]]
    heads = [SPLITS[row] for row in splits]
    boxes, masks = inspection.boxes, inspection.masks
    if masks is not None:
        shares = masks.shares()
        heads += [f"{inspection.noun}s of {name}" for name in heads]
        cells = [
            [words.percent(float(shares[row, k]), 2) for row in splits]
            + [words.integer(int(masks.samples[row, k])) for row in splits]
            for k in range(len(inspection.classes))
        ]
        if masks.ignored.any():
            hidden = masks.ignored_shares()
            cells.append(
                [words.percent(float(hidden[row]), 2) for row in splits] + [""] * len(splits)
            )
        names = [*inspection.classes, "ignored"][: len(cells)]
        return heads, list(zip(names, cells, strict=True))
    totals = inspection.counts.sum(axis=0)
    heads.append("all")
    columns = [*inspection.counts[splits], totals]
    if boxes is not None:
        heads += ["in pictures", *SIZES]
        columns += [boxes.pictures.sum(axis=0), *boxes.by_size.T]
    return heads, [
        (name, [words.integer(int(column[k])) for column in columns])
        for k, name in enumerate(inspection.classes)
    ]


def _box_facts(boxes: BoxFacts) -> list[tuple[str, str]]:
    facts = [
        ("Boxes", words.integer(int(boxes.counts.sum()))),
        ("Boxes in a picture", f"median {boxes.median_per_picture:g}"),
        ("Pictures without an object", words.integer(int(boxes.without.sum()))),
        *(
            (f"{name.capitalize()} boxes", words.percent(share))
            for name, share in boxes.shares_by_size().items()
        ),
    ]
    for name, values in (("Share of the side", boxes.sides), ("Width over height", boxes.ratios)):
        found = quantiles(values)
        if found is not None:
            facts.append(
                (
                    name,
                    f"median {found['50%']:.2g}, nine in ten {found['5%']:.2g} to "
                    f"{found['95%']:.2g}",
                )
            )
    if boxes.difficult:
        facts.append(("Marked as difficult or a crowd", words.integer(boxes.difficult)))
    return facts


def _channel_rows(inspection: Inspection) -> list[tuple[str, float, float]]:
    names = {1: ["grey"], 3: ["red", "green", "blue"]}.get(
        inspection.in_channels, [str(c) for c in range(inspection.in_channels)]
    )
    return list(zip(names, inspection.pixels.mean, inspection.pixels.std, strict=False))


def _kinds(inspection: Inspection) -> list[tuple[str, int]]:
    """How many samples cannot be read for which kind of reason: "truncated", "its mask", …"""
    counts = Counter(
        re.split(r"[:(']", problem.reason)[0].strip() for problem in inspection.problems
    )
    return counts.most_common()


def _odd_files(inspection: Inspection) -> list[tuple[str, int, list[tuple[str, str]]]]:
    """(what is odd, how many files, the first of them with a remark)."""
    files = inspection.files
    if files is None:
        return []
    wrong = [
        (m.id, f"the name says {m.promised}, the content is {m.found}") for m in files.mislabelled
    ]
    lists = [("of another type than the name says", wrong)]
    for what, indices in (
        ("with more than 8 bits a sample, stored with 8", files.deep),
        ("with several frames or pages, the first taken", files.animated),
        ("with transparent pixels, laid on white", files.transparent),
        ("turned by EXIF, stored upright", files.turned),
    ):
        lists.append((what, [(inspection.ids[i], "") for i in indices]))
    return [(what, len(rows), rows[:MAX_ODD]) for what, rows in lists if rows]


def _facts(inspection: Inspection, store: Store) -> list[tuple[str, str]]:
    sizes, balance = inspection.sizes, inspection.balance
    first = store.gather(torch.zeros(1, dtype=torch.int64))
    stored = f"{_times(sizes.stored)}, {words.plural(inspection.in_channels, 'channel')}"
    facts = [
        ("Where", inspection.name),
        ("Format", inspection.format),
        ("Stored as", f"{stored}, {str(first.dtype).removeprefix('torch.')}"),
        ("Own sizes", f"{_size_words(inspection)} ({inspection.axes})"),
        ("Own channels", _counted((str(k), v) for k, v in inspection.channels.items())),
        ("Largest over smallest class", words.number(balance.ratio, 2)),
        ("Evenness of the classes", words.number(balance.evenness)),
    ]
    if inspection.files is not None:
        facts.append(("File types", _counted(inspection.files.formats.items())))
        facts.append(("Modes", _counted(inspection.files.modes.items())))
    facts.append(("Fingerprint", store.fingerprint))
    return facts


def _size_words(inspection: Inspection) -> str:
    sizes = inspection.sizes
    if len(sizes.sizes) == 1:
        return f"all {_times(sizes.smallest)}"
    median = "×".join(f"{side:g}" for side in sizes.median)
    return (
        f"{words.integer(len(sizes.sizes))} sizes, {_times(sizes.smallest)} to "
        f"{_times(sizes.largest)}, median {median}"
    )


def _counted(pairs: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({words.integer(count)})" for name, count in pairs)


def _times(size: Iterable[int]) -> str:
    return "×".join(str(side) for side in size)
