"""The findings of an inspection in plain sentences, the most severe first."""

from collections.abc import Iterator
from itertools import chain

import numpy as np

from hubel.data.inspection import Headline, Inspection
from hubel.data.label_findings import annotations, box_findings, mask_findings
from hubel.data.measure import FAINT
from hubel.data.sentences import counted, is_are, named, plural_of, share_of
from hubel.data.source import SPLITS
from hubel.stats import wilson_interval

__all__ = ["headlines"]

SEVERITIES = ("error", "warning", "info")

CORRUPT_SHARE = 0.01
"""More unreadable samples than this share of a split stop a fit."""
NEAR_SHARE = 0.005
"""Near copies of more than this share of an evaluated split are a warning, fewer a note."""
UNEVEN, VERY_UNEVEN = 3.0, 10.0
"""Largest class over smallest that is worth a note, and that is worth a warning."""
FEW_TO_LEARN = 20
"""Training samples of a class below which little can be learned of it."""
JUDGE_BY = {
    "class": "Judge by balanced accuracy and macro F1; --class-weights or --balanced-sampling "
    "help the small ones.",
    "boxes": "Judge by the average precision of each class and not by the boxes found in all.",
    "mask": "Judge by the IoU of each class and its mean, and not by pixel accuracy.",
}
WIDE_INTERVAL = 0.03
"""Half width of the 95 % interval of an accuracy of 90 % that is worth a note."""


def headlines(seen: Inspection) -> list[Headline]:
    """Everything worth saying about a data set, sorted by severity."""
    parts = (
        *(
            _refused,
            _leaks,
            _files,
            annotations,
            _labels,
            _near,
            _classes,
            box_findings,
            mask_findings,
        ),
        *(_empty, _stored, _spare, _judging),
    )
    found = list(chain.from_iterable(part(seen) for part in parts))
    found.sort(key=lambda headline: SEVERITIES.index(headline.severity))
    if all(headline.severity == "info" for headline in found):
        checked = "broken files, " if seen.files is not None else ""
        found.insert(
            0,
            Headline(
                "info",
                f"Nothing is wrong: no {checked}copies across splits, contradicting labels or "
                f"empty {seen.noun}s.",
                "",
            ),
        )
    return found


def _refused(seen: Inspection) -> Iterator[Headline]:
    if seen.refused:
        yield Headline("error", f"A fit refuses these data: {seen.refused}.", "")


def _leaks(seen: Inspection) -> Iterator[Headline]:
    totals = seen.split_counts()
    for name in ("test", "val"):
        count = seen.exact.leaked[name]
        if count:
            remedy = "Take them out of one side; until then judge without them (evaluate does)."
            if seen.split_drawn or name == "val":
                remedy = (
                    "Remove the spare copies, or keep copies on one side by a group column in a "
                    "CSV manifest; evaluate gives its figure without them too."
                )
            yield Headline(
                "error",
                f"Leak: {count:,} of {counted(totals[name], f'{name} {seen.noun}')} "
                f"({share_of(count, totals[name])}) "
                f"{'is an exact copy' if count == 1 else 'are exact copies'} of training "
                f"{seen.noun}s.",
                remedy,
                "copies",
            )
    if seen.exact.val_in_test:
        yield Headline(
            "warning",
            f"{counted(seen.exact.val_in_test, f'test {seen.noun}')} "
            f"{'is an exact copy' if seen.exact.val_in_test == 1 else 'are exact copies'} of "
            f"val {seen.noun}s.",
            "The test split then judges on what the network was chosen by; take them out of val.",
            "copies",
        )


def _files(seen: Inspection) -> Iterator[Headline]:
    broken = seen.num_samples - seen.num_readable
    if broken:
        drawn = seen.split_counts()
        shares = [
            count / (count + (drawn[name] if name else seen.num_readable))
            for name, count in seen.unreadable.items()
        ]
        many = max(shares, default=0.0) > CORRUPT_SHARE
        first = seen.problems[0]
        yield Headline(
            "error" if many else "warning",
            f"{broken:,} of {counted(seen.num_samples, seen.noun)} cannot be read "
            f"(first: {first.id}: {first.reason}).",
            "Mend or remove them; fit refuses a split with more than 1 % of such, unless told "
            "--allow corrupt."
            if many
            else "They are skipped; mend or remove them.",
            "files",
        )
    if seen.files is None:
        return
    wrong = seen.files.mislabelled
    if wrong:
        first_wrong = wrong[0]
        yield Headline(
            "info",
            f"{counted(len(wrong), 'file')} {is_are(len(wrong))} not of the type that the name "
            f"says (first: {first_wrong.id} is {first_wrong.found}).",
            "They are read by content; rename them for programs that go by the name.",
            "files",
        )
    for indices, what, remedy in (
        (
            seen.files.deep,
            "more than 8 bits a sample: stored with 8",
            "If fine differences in grey matter, save the set as float32 .npy.",
        ),
        (
            seen.files.animated,
            "several frames or pages: the first is taken",
            "Save the frame that counts as a file of its own.",
        ),
        (
            seen.files.transparent,
            "transparent pixels: laid on white",
            "Lay them on another ground beforehand if white misleads.",
        ),
        (seen.files.turned, "an EXIF rotation: stored upright", ""),
    ):
        if indices:
            verb = "has" if len(indices) == 1 else "have"
            yield Headline(
                "info", f"{counted(len(indices), 'file')} {verb} {what}.", remedy, "files"
            )


def _labels(seen: Inspection) -> Iterator[Headline]:
    groups = seen.exact.conflicts
    if groups:
        example = groups[0]
        verb = "is" if seen.labels == "class" else "holds"
        first, *rest = example.tolist()
        label = seen.label(first)
        other = next(i for i in rest if seen.label(i) != label)
        yield Headline(
            "error",
            f"{counted(len(groups), seen.noun)} {is_are(len(groups))} there more than once with "
            f"different labels (first: {seen.ids[first]} {verb} '{label}', {seen.ids[other]} "
            f"{verb} '{seen.label(other)}').",
            "Keep the right label and remove the other copies.",
            "copies",
        )


def _near(seen: Inspection) -> Iterator[Headline]:
    if seen.near is None:
        return
    totals = seen.split_counts()
    for name in ("test", "val"):
        count = seen.near.leaked[name]
        if not count:
            continue
        # What hubel draws itself from a set with near copies has some in every split.
        many = count > NEAR_SHARE * totals[name] and (name == "test" or not totals["test"])
        yield Headline(
            "warning" if many else "info",
            f"{count:,} of {counted(totals[name], f'{name} {seen.noun}')} "
            f"({share_of(count, totals[name])}) {'looks' if count == 1 else 'look'} like a "
            f"training {seen.noun}.",
            "Look at the pairs; where they are copies, figures are too good: put copies on one "
            "side by a group column in a CSV manifest."
            if name == "test" or not seen.near.leaked["test"]
            else "",
            "near",
        )
    if seen.near.num_conflicts:
        count = seen.near.num_conflicts
        yield Headline(
            "warning",
            f"{counted(count, 'pair')} of {seen.noun}s that look the same "
            f"{'has' if count == 1 else 'have'} different labels.",
            "One of each pair is likely labelled wrongly: look at them.",
            "near",
        )


def _classes(seen: Inspection) -> Iterator[Headline]:
    for row, name in enumerate(SPLITS):
        absent = [seen.classes[k] for k in np.flatnonzero(seen.counts[row] == 0)]
        if absent and seen.num_of_split[row]:
            what = "nothing can be learned of" if name == "train" else "nothing judges"
            yield Headline(
                "error" if name == "train" else "warning",
                f"{len(absent):,} of {len(seen.classes):,} classes "
                f"{'has' if len(absent) == 1 else 'have'} no {name} {seen.unit} "
                f"({named(absent)}).",
                f"Add some, or take the class away: {what} it.",
                "classes",
            )
    # Of masks, what tells is in how many samples a class is seen, not on how many pixels.
    trained = seen.counts[0] if seen.masks is None else seen.masks.samples[0]
    unit = seen.unit if seen.masks is None else seen.noun
    few = [seen.classes[k] for k in np.flatnonzero((trained > 0) & (trained < FEW_TO_LEARN))]
    if few:
        yield Headline(
            "warning",
            f"{len(few):,} of {len(seen.classes):,} classes "
            f"{'has' if len(few) == 1 else 'have'} fewer than {FEW_TO_LEARN} training "
            f"{plural_of(unit)} ({named(few)}).",
            "Collect more of them; their figures will be little more than chance.",
            "classes",
        )
    ratio = seen.balance.ratio
    if ratio is not None and ratio >= UNEVEN:
        balance = seen.balance
        # Sky covers more than poles in every street: of pixels that is no fault.
        bad = ratio >= VERY_UNEVEN and seen.labels != "mask"
        yield Headline(
            "warning" if bad else "info",
            f"The largest class ('{balance.largest}', {balance.num_largest:,}) has {ratio:,.1f} "
            f"times the training {plural_of(seen.unit)} of the smallest ('{balance.smallest}', "
            f"{balance.num_smallest:,}).",
            JUDGE_BY[seen.labels],
            "classes",
        )


def _empty(seen: Inspection) -> Iterator[Headline]:
    constant, faint = len(seen.pixels.constant), len(seen.pixels.faint)
    if constant:
        yield Headline(
            "warning",
            f"{counted(constant, seen.noun)} {is_are(constant)} of one single value "
            f"(first: {seen.ids[seen.pixels.constant[0]]}).",
            "There is nothing in them to learn from: remove them.",
            "empty",
        )
    if faint:
        yield Headline(
            "warning",
            f"{counted(faint, seen.noun)} {is_are(faint)} nearly empty: standard deviation below "
            f"{100 * FAINT:.1f} % of the range (first: {seen.ids[seen.pixels.faint[0]]}).",
            "Look whether anything can be seen in them.",
            "empty",
        )


def _stored(seen: Inspection) -> Iterator[Headline]:
    sizes = seen.sizes
    if len(sizes.sizes) > 1:
        smaller = int(sizes.counts[(sizes.sizes < sizes.stored).any(axis=1)].sum())
        enlarged = f"; {smaller:,} of them are enlarged on a side" if smaller else ""
        yield Headline(
            "info",
            f"Sizes range from {_times(sizes.smallest)} to {_times(sizes.largest)}: all are "
            f"stretched to {_times(sizes.stored)}{enlarged}.",
            "Choose another size with --img-size.",
            "sizes",
        )
    grey = seen.channels.get(1, 0)
    if seen.in_channels > 1 and grey:
        yield Headline(
            "info",
            f"{grey:,} of {counted(seen.num_readable, seen.noun)} {is_are(grey)} grey among "
            f"{seen.in_channels} channels: stored with the grey repeated.",
            "",
            "pixels",
        )


def _spare(seen: Inspection) -> Iterator[Headline]:
    if seen.exact.num_spare:
        spare = seen.exact.num_spare
        yield Headline(
            "info",
            f"{counted(spare, seen.noun)} {is_are(spare)} spare: exact copies of others, in "
            f"{counted(len(seen.exact.groups), 'group')}.",
            "Remove them, or know that the copied ones weigh more.",
            "copies",
        )
    if seen.near is not None and len(seen.near.pairs):
        yield Headline(
            "info",
            f"{counted(len(seen.near.pairs), 'pair')} of {seen.noun}s look the same, within a "
            f"split or across.",
            "",
            "near",
        )


def _judging(seen: Inspection) -> Iterator[Headline]:
    if seen.labels != "class":
        return
    totals = seen.split_counts()
    name = "test" if totals["test"] else "val"
    count = totals[name]
    if not count:
        return
    low, high = wilson_interval(round(0.9 * count), count)
    half = (high - low) / 2
    if half > WIDE_INTERVAL:
        yield Headline(
            "info",
            f"With {counted(count, f'{name} {seen.noun}')} an accuracy of 90 % is known to about "
            f"±{100 * half:.0f} points only.",
            "Differences smaller than that mean nothing; more judge more finely.",
            "classes",
        )


def _times(size: tuple[int, ...]) -> str:
    return "×".join(str(side) for side in size)
