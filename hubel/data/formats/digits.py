"""`digits`: scikit-learn's 1,797 handwritten digits of 8×8 pixels, embedded.

They are the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak
1998, UCI Machine Learning Repository). Pixels count 0 to 16 and are scaled to 0 to 255.
"""

import numpy as np

from hubel.data.arraysource import Part, array_source
from hubel.data.paths import exists, expanded
from hubel.data.source import FORMATS, Format, Source
from hubel.errors import UserError

__all__ = ["Digits"]

_NAME = "digits"


class Digits(Format):
    """The embedded handwritten digits."""

    def describe(self) -> str:
        return "'digits', 1,797 handwritten digits of 8×8 that come with scikit-learn"

    def matches(self, spec: str) -> bool:
        return spec == _NAME and not exists(expanded(spec))

    def open(self, spec: str) -> Source:
        if spec != _NAME:
            raise UserError(f"the embedded set of digits is called '{_NAME}', got '{spec}'")
        from sklearn.datasets import load_digits  # takes most of a second

        loaded = load_digits()
        pixels = np.rint(loaded.images * (255 / 16)).astype(np.uint8)[:, :, :, None]
        labels = loaded.target.astype(np.int64)
        return array_source(_NAME, None, [Part("", pixels, labels)], where=_NAME, version="1")


FORMATS.register(_NAME)(Digits())
