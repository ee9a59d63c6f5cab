"""What is worth saying of boxes, of masks, and of annotations at fault."""

from collections.abc import Iterator

from hubel.data.inspection import Headline, Inspection
from hubel.data.sentences import counted, is_are, plural_of, share_of
from hubel.data.source import SPLITS

__all__ = ["annotations", "box_findings", "mask_findings"]

MANY_EMPTY = 0.5
"""More pictures without an object than this share of train are a warning."""
MOSTLY_IGNORED = 0.5
"""More ignored pixels than this share of a split are a warning."""


def annotations(seen: Inspection) -> Iterator[Headline]:
    """Annotations that were mended or passed over."""
    if seen.faults:
        first = seen.faults[0]
        yield Headline(
            "warning",
            f"{counted(len(seen.faults), 'fault')} in the annotations (first: {first.where}: "
            f"{first.reason}).",
            "What could not be mended is passed over; correct the files, which are left as they "
            "are.",
            "annotations",
        )


def box_findings(seen: Inspection) -> Iterator[Headline]:
    """How many pictures hold nothing."""
    if seen.boxes is None:
        return
    for row, name in enumerate(SPLITS):
        count, total = int(seen.boxes.without[row]), int(seen.num_of_split[row])
        if count:
            yield Headline(
                "warning" if name == "train" and count > MANY_EMPTY * total else "info",
                f"{count:,} of {counted(total, f'{name} {seen.noun}')} "
                f"({share_of(count, total)}) {'holds' if count == 1 else 'hold'} no object.",
                "They are learned from as such: annotate what was missed in them, or take them out."
                if name == "train"
                else "",
                "boxes",
            )


def mask_findings(seen: Inspection) -> Iterator[Headline]:
    """How much is ignored, and masks of which all is."""
    if seen.masks is None:
        return
    units = plural_of(seen.unit)
    for row, name in enumerate(SPLITS):
        ignored = int(seen.masks.ignored[row])
        total = ignored + int(seen.masks.counts[row].sum())
        if ignored:
            yield Headline(
                "warning" if ignored > MOSTLY_IGNORED * total else "info",
                f"{share_of(ignored, total)} of the {name} {units} are ignored: neither learned "
                f"from nor judged.",
                "",
                "classes",
            )
    blank = seen.masks.blank
    if len(blank):
        yield Headline(
            "warning",
            f"{counted(len(blank), 'mask')} {is_are(len(blank))} ignored altogether (first: of "
            f"{seen.ids[blank[0]]}).",
            "There is nothing in them to learn from: annotate the samples or take them out.",
            "classes",
        )
