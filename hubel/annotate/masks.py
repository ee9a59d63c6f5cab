"""Masks: masks/NAME.png for each picture, and classes.txt.

The value of a pixel is the index of its class, 255 where there is none; the PNG's palette shows
each class in the colour that hubel draws it in. Of a NIfTI volume the mask is masks/NAME.nii.gz,
on the volume's own grid, so that it lies on the scan in a viewer. classes.txt is the legend that
hubel's mask folders read: with the pictures or NIfTI volumes in images/ beside masks/, in the same
folders, the result can be corrected and learned from.

The mask of a .npy volume is masks/NAME.npy, uint8 (depth, height, width), in a layout that hubel
does not read: stacked, such volumes and masks are X and y of an .npz, which it does.
"""

import csv
from collections.abc import Iterable, Sequence
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
from PIL import Image

from hubel.annotate import WRITERS, Annotated, Kind, Places, fresh_folder, write_new
from hubel.colours import class_colour
from hubel.data.legend import IGNORED
from hubel.data.nifti_file import encode_mask, is_nifti

__all__ = ["MaskWriter"]


class MaskWriter:
    """Writes masks/NAME.png, .nii.gz for NIfTI or .npy for other volumes, and classes.txt."""

    name = "masks"
    kinds: tuple[Kind, ...] = ("mask",)

    def describe(self) -> str:
        return "masks/NAME.png of class indices (.nii.gz of NIfTI, .npy of .npy), classes.txt"

    def write(
        self,
        annotated: Iterable[Annotated],
        classes: Sequence[str],
        folder: Path,
        source_root: Path,
    ) -> list[Path]:
        fresh_folder(folder)
        places = Places(source_root)
        written = [write_new(folder / "classes.txt", _legend(classes))]
        # All 256 colours: with fewer, Pillow would choose a depth that cannot hold 255.
        palette = [c for k in range(IGNORED) for c in class_colour(k, classes)] + [255] * 3
        for picture in annotated:
            if picture.mask is None:
                raise ValueError(f"'{picture.path}' has no mask. Choose a writer of boxes instead.")
            content = BytesIO()
            if is_nifti(picture.path):
                suffix = ".nii.gz"
                with picture.path.open("rb") as file:
                    content.write(encode_mask(picture.mask, file))
            elif picture.mask.ndim == 2:
                suffix = ".png"
                image = Image.fromarray(picture.mask)
                image.putpalette(palette)
                image.save(content, "PNG")
            else:
                suffix = ".npy"
                np.save(content, picture.mask, allow_pickle=False)
            place = folder / "masks" / places.of(picture.path, suffix)
            written.append(write_new(place, content.getvalue()))
        return written


def _legend(classes: Sequence[str]) -> str:
    """Lines name,index below a head that names these columns, so that no name is taken for one."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("name", "index"))
    writer.writerows((name, k) for k, name in enumerate(classes))
    return text.getvalue()


WRITERS.register(MaskWriter.name)(MaskWriter())
