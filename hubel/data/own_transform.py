"""A person's own torchvision transform (v1 or v2), or any callable, as augmentation.

It gets a PIL picture, which both generations of torchvision accept, and gives back a
picture: PIL, uint8 tensor or array, or a float tensor in 0..1 (what ToTensor makes). Its
random draws come from a seed of the sample, so they do not depend on what ran before.
"""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from hubel.data.loader import Transform
from hubel.errors import UserError

__all__ = ["own_transform"]


def own_transform(transform: Callable[[Any], Any]) -> Transform:
    """`transform` in the form that `Loader` calls."""

    def apply(picture: torch.Tensor, seed: int) -> torch.Tensor:
        array = picture.numpy()
        if picture.ndim != 3 or array.dtype != np.uint8 or array.shape[-1] not in (1, 3):
            raise UserError(
                "transform= works on grey and RGB pictures; for other data leave it out and use "
                "the augmentation settings"
            )
        pil = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
        # Old transforms draw from Python's and numpy's global streams, new ones from torch's:
        # each is seeded for this sample and put back as it was.
        python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                random.seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002
                result = transform(pil)
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
        return _as_stored(result, picture)

    return apply


def _as_stored(result: Any, picture: torch.Tensor) -> torch.Tensor:
    """What the transform gave as a uint8 tensor (h, w, c) of the picture's shape."""
    if isinstance(result, torch.Tensor):
        found = result.movedim(0, -1) if result.ndim == 3 else result
        if found.is_floating_point():
            if float(found.min()) < 0 or float(found.max()) > 1:
                raise UserError(
                    "transform= gave values outside 0..1: leave Normalize to hubel, which "
                    "normalises by the training split and keeps that in the run"
                )
            found = (found * 255).round().to(torch.uint8)
    else:
        found = torch.from_numpy(np.array(result))
    if found.ndim == 2:
        found = found[..., None]
    if found.dtype != torch.uint8 or found.shape != picture.shape:
        raise UserError(
            f"transform= must give back a picture of the same size and channels, "
            f"{tuple(picture.shape)} as (h, w, c), got {tuple(found.shape)} {found.dtype}; end it "
            f"with a Resize or a crop to that size"
        )
    return found
