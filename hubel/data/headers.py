"""What the files of a set say of themselves: their types, modes and oddities.

Each file is read once and its header parsed; no pixel is decoded.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.data.cache import Progress
from hubel.data.magic import SUFFIXES
from hubel.data.pictures import probe_picture
from hubel.data.source import Source, UnreadableSampleError

__all__ = ["FileFacts", "Mislabelled", "holds_files", "scan_files"]

EVERY = 256
"""Files between two reports of progress."""


@dataclass(frozen=True)
class Mislabelled:
    """A readable file whose name promises another type than its first bytes show."""

    index: int
    id: str
    promised: str
    found: str


@dataclass(frozen=True)
class FileFacts:
    """What the headers of the readable files say.

    Attributes
    ----------
    formats, modes: counts by format ("JPEG") and by Pillow's mode ("RGB"), most first.
    mislabelled: files of another type than their suffix promises.
    deep: indices of pictures with more than 8 bits a sample; they are stored with 8.
    animated: of files with several frames or pages; the first is taken.
    transparent: of pictures with transparency; they are laid on white.
    turned: of pictures that their EXIF orientation turns; they are stored upright.
    """

    formats: dict[str, int]
    modes: dict[str, int]
    mislabelled: list[Mislabelled]
    deep: list[int]
    animated: list[int]
    transparent: list[int]
    turned: list[int]

    def to_json(self, ids: Any) -> dict[str, Any]:
        """A JSON-ready dictionary; `ids[i]` names sample i."""
        return {
            "formats": self.formats,
            "modes": self.modes,
            "mislabelled": [
                {"id": m.id, "promised": m.promised, "found": m.found} for m in self.mislabelled
            ],
            "deep": [ids[i] for i in self.deep],
            "animated": [ids[i] for i in self.animated],
            "transparent": [ids[i] for i in self.transparent],
            "turned": [ids[i] for i in self.turned],
        }


def holds_files(source: Source) -> bool:
    """Whether each sample of `source` is a picture file (and not a row of an array)."""
    return source.info.spatial_dims == 2 and source.info.size is None


def scan_files(
    source: Source, readable: npt.NDArray[np.bool_], progress: Progress | None = None
) -> FileFacts:
    """The facts of all `readable` (n,) files. One that is gone by now is passed over."""
    formats: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    facts = FileFacts({}, {}, [], [], [], [], [])
    indices = np.flatnonzero(readable).tolist()
    for done, i in enumerate(indices, start=1):
        if progress is not None and (done % EVERY == 0 or done == len(indices)):
            progress("looking into files", done, len(indices))
        try:
            found = probe_picture(source.content(i))
        except UnreadableSampleError:
            continue
        formats[found.format] += 1
        modes[found.mode] += 1
        promised = SUFFIXES.get(PurePosixPath(source.ids[i]).suffix.lower())
        if promised is not None and promised != found.format:
            facts.mislabelled.append(Mislabelled(i, source.ids[i], promised, found.format))
        for odd, where in (
            (found.bits > 8, facts.deep),
            (found.frames > 1, facts.animated),
            (found.has_alpha, facts.transparent),
            (found.orientation != 1, facts.turned),
        ):
            if odd:
                where.append(i)
    facts.formats.update(formats.most_common())
    facts.modes.update(modes.most_common())
    return facts
