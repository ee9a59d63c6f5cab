"""Folders of masks: a PNG of classes for every picture, of the same name but for the ending.

Arranged as {train,val,test} with {train,val,test}annot beside (CamVid as in SegNet), as
images/{train,val,test} with masks/{train,val,test}, as {train,val,test}/images with
{train,val,test}/masks, or as images with masks; labels and annotations are other names of
masks. What the values mean is said by classes.txt or legend.csv in the folder
(`hubel.data.legend`); without one the classes are the indices found in train.
"""

import numpy as np

from hubel.data.magic import PICTURE_SUFFIXES
from hubel.data.mask_folders import folder_legend, mask_parts, paired
from hubel.data.masked import MaskedSource, mask_values
from hubel.data.paths import expanded, is_folder
from hubel.data.source import FORMATS, Array, Format, Source
from hubel.errors import UserError

__all__ = ["MaskFolders"]


class MaskFolders(Format):
    """Pictures in one folder and their masks in another."""

    def describe(self) -> str:
        return "DATA/images/*.jpg with DATA/masks/*.png, or DATA/{train,val,test} with …annot"

    def matches(self, spec: str) -> bool:
        root = expanded(spec)
        return is_folder(root) and bool(mask_parts(root))

    def open(self, spec: str) -> Source:
        root = expanded(spec)
        parts = mask_parts(root) if is_folder(root) else []
        if not parts:
            raise UserError(f"DATA '{spec}' holds no masks; folders of masks are {self.describe()}")
        found = paired(
            root,
            spec,
            parts,
            PICTURE_SUFFIXES,
            "a mask has its picture's name with .png for its ending",
        )

        def values(content: bytes) -> Array:
            return mask_values(content, coloured=False)

        legend = folder_legend(root, spec, found, values)
        return MaskedSource(
            root,
            root,
            "masks",
            found.names,
            found.masks,
            legend,
            np.array(found.splits, np.str_),
            found.notes,
            found.faults,
        )


FORMATS.register("masks")(MaskFolders())
