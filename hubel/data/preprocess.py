"""`Preprocess`: from stored pixels to network input, the same in training and ever after."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from hubel.data.posed import PoseStore
from hubel.data.resize import resize
from hubel.data.source import Array
from hubel.data.store import Store
from hubel.errors import UserError
from hubel.molecules.drawing import Drawing

if TYPE_CHECKING:
    from torchvision.transforms import v2

__all__ = ["Preprocess", "fit_preprocess"]

_CHUNK = 2048  # samples whose statistics are taken at once: bounds memory, not the result


@dataclass(frozen=True)
class Preprocess:
    """Resize, scale to 0..1, normalise by the training split's channel statistics.

    Attributes
    ----------
    size: spatial size of the network's input, in pixels or voxels.
    mean, std: per channel, on the 0..1 scale (on the values' own scale for float data).
    scale: what a stored value is divided by: 255 for uint8, 1 for float data.
    drawing: how atoms become the input, where the samples are poses.
    """

    size: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 255.0
    drawing: Drawing | None = None

    @property
    def in_channels(self) -> int:
        """Channels of the network's input."""
        return len(self.mean)

    def resize(self, pixels: Array) -> Array:
        """One decoded sample (*any, c) at this size (*size, c), its type unchanged."""
        return resize(pixels, self.size)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Stored pixels (n, *size, c) as network input (n, c, *size), float32.

        The result is a view in channels-last memory order. Same as `transform` to float
        rounding; written over whole rows because a broadcast over three channels runs ten
        times slower than one over a row of them.
        """
        if (pixels.dtype == torch.uint8) != (self.scale == 255.0):
            raise UserError(
                f"the data holds {str(pixels.dtype).removeprefix('torch.')} values, the network "
                f"was trained on {'uint8' if self.scale == 255.0 else 'floats'}; convert the data"
            )
        if pixels.shape[-1] == 1 < self.in_channels:
            pixels = pixels.expand(*pixels.shape[:-1], self.in_channels)  # grey, for a colour net
        elif pixels.shape[-1] != self.in_channels:
            raise UserError(
                f"the data has {pixels.shape[-1]} channels, the network was trained on "
                f"{self.in_channels}; convert the data"
            )
        if self.scale == 1.0 and not any(self.mean) and set(self.std) == {1.0}:
            return pixels.float().movedim(-1, 1)  # densities are taken as they are
        rows = pixels.reshape(-1, pixels.shape[-2] * pixels.shape[-1])  # (n·…, w·c)
        repeats = pixels.shape[-2]
        mean = torch.tensor(self.mean, device=pixels.device).mul_(self.scale).repeat(repeats)
        std = torch.tensor(self.std, device=pixels.device).mul_(self.scale).repeat(repeats)
        values = rows.to(torch.float32, copy=True).sub_(mean).div_(std)
        return values.view(pixels.shape).movedim(-1, 1)

    def transform(self) -> "v2.Compose":
        """The same as a torchvision pipeline for one 2-D picture (PIL, array or tensor)."""
        if len(self.size) != 2:
            raise ValueError("torchvision's transforms are for pictures, not for volumes")
        from torchvision.transforms import v2  # takes a second: only for those who ask

        return v2.Compose(
            [
                v2.ToImage(),
                v2.Resize(list(self.size), antialias=True),
                v2.ToDtype(torch.float32, scale=self.scale != 1.0),
                v2.Normalize(list(self.mean), list(self.std)),
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_json` reads it back."""
        drawn = {} if self.drawing is None else {"drawing": self.drawing.to_json()}
        return {
            **drawn,
            "size": list(self.size),
            "mean": list(self.mean),
            "std": list(self.std),
            "scale": self.scale,
            "interpolation": "bilinear, antialiased",
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Preprocess":
        """From `to_json`'s dictionary.

        Poses of runs from before drawings could be chosen have none, and were drawn as by default.
        """
        drawing = Drawing.from_json(data["drawing"]) if "drawing" in data else None
        size, mean, std = (tuple(data[name]) for name in ("size", "mean", "std"))
        return cls(size, mean, std, data["scale"], drawing)


def fit_preprocess(store: Store, train: npt.NDArray[np.int64]) -> Preprocess:
    """The statistics of samples `train` of `store`, and of no other.

    Densities of atoms are on a scale of their own, which published networks take: they stay.
    """
    if isinstance(store, PoseStore):
        nothing, one = (0.0,) * store.in_channels, (1.0,) * store.in_channels
        return Preprocess(store.size, nothing, one, 1.0, store.poses.complexes.drawing)
    sums = torch.zeros(2, store.in_channels, dtype=torch.float64)
    count = 0
    scale = 255.0
    for start in range(0, len(train), _CHUNK):
        pixels = store.gather(torch.from_numpy(train[start : start + _CHUNK]))
        scale = 255.0 if pixels.dtype == torch.uint8 else 1.0
        values = pixels.reshape(-1, store.in_channels).to(torch.float64).div_(scale)
        sums[0] += values.sum(0)
        sums[1] += values.square_().sum(0)
        count += len(values)
    mean, square = sums / count
    std = (square - mean**2).clamp_min(0).sqrt()
    # A channel that never changes carries nothing; dividing by 1 keeps it finite.
    std = torch.where(std < 1e-6, torch.ones_like(std), std)
    return Preprocess(store.size, tuple(mean.tolist()), tuple(std.tolist()), scale)
