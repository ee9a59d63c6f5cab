"""Pictures with boxes: what the formats that read them share.

A format reads its files into `Picture`s; `boxed_source` finds what is wrong with them and makes
the source. One rule for each fault, whatever the format:

- A picture that is missing, named twice, or named by a path that leaves the folder of the data
  (absolute, or by "..") is passed over. Links within the folder are followed.
- A box is mended or passed over as `hubel.data.boxes.mended` says; its picture stays.
- A class is learned from train. A box of a class that train lacks is passed over.
- A picture without a box is a legitimate negative and stays.

Each leaves a `Fault` with its file; only a set of which nothing is left is an error.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hubel.data.annotation_files import inside, printable
from hubel.data.boxes import Boxes, Fault, mended
from hubel.data.filesource import MAX_FILE_BYTES, FileSource, readable_name
from hubel.data.paths import expanded
from hubel.data.pictures import probe_picture
from hubel.data.source import SPLITS, SourceInfo, UnreadableSampleError
from hubel.errors import UserError

__all__ = [
    "BoxedSource",
    "Object",
    "Picture",
    "boxed_source",
    "picture_size",
    "told_size",
]

_MAX_SIDE = 1_000_000  # a larger width or height in an annotation is taken for none
_HEAD_BYTES = 1 << 16  # most headers lie in it; of other files all is read


@dataclass(frozen=True)
class Object:
    """One annotated object as its file has it.

    Attributes
    ----------
    name: of its class, made by `class_name`.
    corners: left, top, right, bottom in pixels of the picture, not yet checked.
    difficult: neither asked for nor held against a prediction.
    where: its file and line or number, for a fault.
    """

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool
    where: str


@dataclass
class Picture:
    """One annotated picture as its file has it.

    Attributes
    ----------
    name: relative to the folder of the data, with forward slashes; not yet checked.
    where: the file and line that name it, for a fault.
    split: "train", "val", "test" or "".
    size: (height, width) where the annotation gives it (`told_size`).
    """

    name: str
    where: str
    split: str = ""
    size: tuple[int, int] | None = None
    objects: list[Object] = field(default_factory=list)


class BoxedSource(FileSource):
    """Picture files with boxes. Made by `boxed_source`.

    Attributes
    ----------
    boxes, faults: as in `Source`.
    told_sizes: int32 (n, 2), height and width as the annotations give them; 0 where they
        give none.
    """

    def __init__(
        self,
        path: Path,
        root: Path,
        info: SourceInfo,
        names: Sequence[str],
        targets: npt.NDArray[np.int64],
        splits: npt.NDArray[np.str_],
        notes: list[str],
        boxes: Boxes,
        faults: Sequence[Fault],
        told_sizes: npt.NDArray[np.int32],
    ) -> None:
        super().__init__(path, root, info, names, targets, splits, notes)
        self.boxes: Boxes = boxes
        self.faults = faults
        self.told_sizes = told_sizes

    def stamp(self) -> str:
        digest = hashlib.blake2b(super().stamp().encode(), digest_size=16)
        boxes = self.boxes
        for column in (boxes.starts, boxes.corners, boxes.classes, boxes.difficult):
            digest.update(column.tobytes())
        return digest.hexdigest()

    def wrong_sizes(self, sizes: npt.NDArray[np.int32]) -> list[Fault]:
        """Faults of the pictures whose annotation gives another size than they have.

        Opening a set does not look into every picture; whoever has decoded them knows their
        `sizes` (n, 2), 0 where a picture is unreadable.
        """
        known = (sizes > 0).all(axis=1) & (self.told_sizes > 0).all(axis=1)
        wrong = np.flatnonzero(known & (sizes != self.told_sizes).any(axis=1))
        faults = []
        for i in wrong.tolist():
            (height, width), (own_height, own_width) = self.told_sizes[i], sizes[i]
            turned = (height, width) == (own_width, own_height)
            faults.append(
                Fault(
                    self.ids[i],
                    f"its annotation is for {width}×{height} pixels, the picture "
                    f"{'as shown (EXIF orientation applied) ' if turned else ''}has "
                    f"{own_width}×{own_height}; its boxes may be misplaced",
                )
            )
        return faults


def boxed_source(
    format: str,
    spec: str,
    root: Path,
    pictures: Sequence[Picture],
    faults: Sequence[Fault],
    notes: Sequence[str] = (),
    classes: Sequence[str] | None = None,
) -> BoxedSource:
    """The source of `pictures`, whose faults follow those that the format found.

    Parameters
    ----------
    format: the registered name of the format.
    spec: what the user called the data.
    root: the folder that the pictures' names are relative to and must not leave.
    classes: the class list where the format's files give one; otherwise it is the sorted
        names of train's boxes (of all, where there is no train). One class is enough.

    Raises `UserError` where no picture or no box to learn from is left.
    """
    faults = list(faults)
    pictures = _present(pictures, root, faults)
    if not pictures:
        raise UserError(f"DATA '{spec}' has no annotated picture that can be used{_first(faults)}")
    found = [_mended_objects(picture, root, faults) for picture in pictures]
    splits = [picture.split for picture in pictures]
    table = _class_list(found, splits, classes)
    number = {name: k for k, name in enumerate(table)}
    rows: list[list[tuple[int, Sequence[float], bool]]] = []
    for picture, objects in zip(pictures, found, strict=True):
        rows.append([])
        for o in objects:
            if o.name in number:
                rows[-1].append((number[o.name], o.corners, o.difficult))
            else:
                lacking = "has no box in train" if classes is None else "is not in the class list"
                faults.append(
                    Fault(
                        o.where,
                        f"class '{o.name}' (in {picture.split or 'the data'}) {lacking}; "
                        f"the box is passed over",
                    )
                )
    boxes = Boxes.of(rows, len(rows))
    split_column = np.array(splits, dtype=np.str_)
    learned = (split_column == "train") | (not (split_column == "train").any())
    if not boxes.counts[learned].any():
        where = "train" if "train" in splits else "any picture"
        asked = [picture for picture, is_one in zip(pictures, learned, strict=True) if is_one]
        raise UserError(
            f"DATA '{spec}' has no box to learn from in {where}{_unreadable(asked, root)}"
            f"{_first(faults)}"
        )
    notes = [*notes, *_absent(boxes, split_column, table)]
    if faults:
        noun = "fault" if len(faults) == 1 else "faults"
        notes.append(f"{len(faults):,} {noun} in the annotations{_first(faults)}")
    return BoxedSource(
        expanded(spec),
        root,
        SourceInfo(format, 2, tuple(table), labels="boxes"),
        [picture.name for picture in pictures],
        _largest(boxes),
        split_column,
        notes,
        boxes,
        faults,
        np.array([picture.size or (0, 0) for picture in pictures], np.int32),
    )


def _present(pictures: Sequence[Picture], root: Path, faults: list[Fault]) -> list[Picture]:
    """Those that exist, each once, with their names in plain form."""
    kept: dict[str, Picture] = {}
    for picture in pictures:
        name = inside(picture.name)
        shown = printable(picture.name)
        if name is None:
            said = f"'{shown}' lies outside the folder of the data and is not read"
        # Strings and os.path: pathlib would double the time for 60,000 pictures.
        elif not os.path.isfile(f"{root}/{name}"):  # noqa: PTH113
            slash = " (write paths with /)" if "\\" in name else ""
            said = f"its picture '{shown}' is missing{slash}; it is passed over"
        elif name in kept:
            other = kept[name]
            said = f"names picture '{shown}' again (first in {other.where}"
            said += f", split {other.split}" if other.split != picture.split else ""
            said += "); it is passed over here"
        else:
            picture.name = name
            kept[name] = picture
            continue
        faults.append(Fault(picture.where, said))
    return list(kept.values())


def _mended_objects(picture: Picture, root: Path, faults: list[Fault]) -> list[Object]:
    """The objects whose box is fit to learn from.

    None of a picture whose size nothing tells: it is unreadable, which the cache will say.
    """
    if not picture.objects:
        return []
    size = picture.size or picture_size(f"{root}/{picture.name}")
    if size is None:
        return []
    kept = []
    for o in picture.objects:
        corners, said = mended(o.corners, size)
        if said:
            done = "passed over" if corners is None else "mended"
            faults.append(Fault(o.where, f"box of class '{o.name}': {said}; {done}"))
        if corners is not None:
            kept.append(Object(o.name, corners, o.difficult, o.where))
    return kept


def _class_list(
    found: Sequence[Sequence[Object]], splits: Sequence[str], classes: Sequence[str] | None
) -> list[str]:
    if classes is not None:
        return list(classes)
    learned = "train" if "train" in splits else None
    return sorted(
        {
            o.name
            for objects, split in zip(found, splits, strict=True)
            if learned in (None, split)
            for o in objects
        }
    )


def _largest(boxes: Boxes) -> npt.NDArray[np.int64]:
    """The class of the largest box of each sample (n,); 0 where it has none."""
    targets = np.zeros(len(boxes.starts) - 1, np.int64)
    area = np.prod(boxes.corners[:, 2:] - boxes.corners[:, :2], axis=1)
    order = np.argsort(area, kind="stable")  # of what is written twice, the last stays
    targets[boxes.samples[order]] = boxes.classes[order]
    return targets


def _absent(boxes: Boxes, splits: npt.NDArray[np.str_], table: Sequence[str]) -> list[str]:
    """A note for each split that lacks boxes of a class."""
    notes = []
    for split in SPLITS if splits[0] else ("",):
        if not (splits == split).any():
            continue
        present = np.bincount(boxes.classes[splits[boxes.samples] == split], minlength=len(table))
        names = [table[k] for k in np.flatnonzero(present == 0).tolist()]
        if names:
            shown = ", ".join(f"'{name}'" for name in names[:3])
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            noun, verb = ("class", "has") if len(names) == 1 else ("classes", "have")
            notes.append(f"{noun} {shown}{more} {verb} no box in {split or 'the data'}")
    return notes


def _first(faults: Sequence[Fault]) -> str:
    return f" (first: {faults[0].where}: {faults[0].reason})" if faults else ""


def _unreadable(pictures: Sequence[Picture], root: Path) -> str:
    """How many of `pictures` cannot be read, with the first and its reason; "" if all can."""
    broken = []
    for picture in pictures:
        try:
            _probed_size(f"{root}/{picture.name}")
        except UnreadableSampleError as error:
            broken.append((picture.name, str(error)))
        except OSError as error:
            broken.append((picture.name, f"cannot be read: {error.strerror or error}"))
    if not broken:
        return ""
    name, reason = broken[0]
    shown = printable(readable_name(name))
    return (
        f": {len(broken):,} of its {len(pictures):,} pictures cannot be read; the first is "
        f"'{shown}': {reason}"
    )


def told_size(height: object, width: object) -> tuple[int, int] | None:
    """(height, width) that an annotation gives, numbers or text; None where it makes no sense.

    >>> told_size("480", 640), told_size(0, 0), told_size(None, "wide")
    ((480, 640), None, None)
    """
    sides = []
    for value in (height, width):
        try:
            side = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return None
        if not (1 <= side <= _MAX_SIDE and side == int(side)):
            return None
        sides.append(int(side))
    return sides[0], sides[1]


def picture_size(file: str) -> tuple[int, int] | None:
    """(height, width) of a picture file as shown, by its header; None if it is unreadable."""
    try:
        return _probed_size(file)
    except (OSError, UnreadableSampleError):
        return None


def _probed_size(file: str) -> tuple[int, int]:
    """As `picture_size`; raises `UnreadableSampleError` or `OSError`."""
    with open(file, "rb") as opened:  # noqa: PTH123
        content = opened.read(_HEAD_BYTES)
        try:
            return probe_picture(content).size
        except UnreadableSampleError:
            rest = opened.read(MAX_FILE_BYTES)
            if not rest:
                raise
            return probe_picture(content + rest).size
