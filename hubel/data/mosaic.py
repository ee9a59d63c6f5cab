"""Mosaic: one training picture made of four, with all their objects.

Bochkovskiy et al. 2020, YOLOv4, arXiv 2004.10934, §3.3. Around a drawn centre each quarter
shows one picture, scaled as a whole until it covers the quarter, with a corner in the centre;
what reaches beyond the quarter's outer edge is cut off. Objects so become a quarter to three
quarters of their size, and lie where the network seldom sees them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from hubel.data.augment import KEPT, areas
from hubel.data.targets import NO_OBJECT
from hubel.randomness import generator

__all__ = ["MosaicDraws", "mosaic", "mosaic_draws"]

_NEAREST = 0.25  # the centre's distance from an edge is at least this share of the side
_FINER = 2  # points that are read along each side of a pixel: a picture shrinks up to 4 times


@dataclass(frozen=True)
class MosaicDraws:
    """For each sample of a split, on the CPU.

    Attributes
    ----------
    made: bool (n,): the samples that are shown in a mosaic.
    partners: int64 (n, 3): positions of the samples in the other three quarters.
    centers: float32 (n, 2): down and right, as shares of the sides, from 1/4 to 3/4.
    """

    made: torch.Tensor
    partners: torch.Tensor
    centers: torch.Tensor


def mosaic_draws(num_samples: int, share: float, seed: int, epoch: int) -> MosaicDraws:
    """The draws of one epoch; `share` of the samples are shown in a mosaic."""
    stream = generator(seed, "mosaic", epoch)
    made = torch.rand(num_samples, generator=stream) < share
    partners = torch.randint(num_samples, (num_samples, 3), generator=stream)
    centers = torch.rand(num_samples, 2, generator=stream)
    return MosaicDraws(made, partners, _NEAREST + (1 - 2 * _NEAREST) * centers)


def mosaic(
    pixels: torch.Tensor, rows: torch.Tensor, centers: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (b, h, w, c) and their boxes (b, 4 * most, 5) out of four each.

    Parameters
    ----------
    pixels: (b, 4, h, w, c), uint8 or float32: top left, top right, bottom left, bottom right.
    rows: float32 (b, 4, most, 5), their boxes as rows of `BoxTargets`.
    centers: float32 (b, 2), as in `MosaicDraws`; moved to the nearest border between pixels.
    """
    batch, _, height, width, channels = pixels.shape
    sides = torch.tensor([height, width], device=pixels.device)
    centers = (centers * sides).round().clamp_min(1).minimum(sides - 1) / sides  # (b, 2)
    after = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], device=pixels.device)  # (4, 2)
    start = after * centers[:, None]  # (b, 4, 2): down, right; where a quarter begins and ends
    stop = torch.where(after == 1, 1.0, centers[:, None])
    factor = (stop - start).amax(-1, keepdim=True)  # (b, 4, 1)
    origin = centers[:, None] - (1 - after) * factor  # where a picture's top left corner comes

    # Which picture each point shows, and where in it: along either axis on its own.
    points = [_points(side, pixels.device) for side in (height, width)]
    beyond = [p >= centers[:, axis, None] for axis, p in enumerate(points)]  # (b, 2 * side)
    number = 2 * beyond[0].long()[:, :, None] + beyond[1].long()[:, None, :]  # (b, 2h, 2w)
    flat = number.flatten(1)
    at = []
    for axis, p in enumerate(points):
        place = p[:, None] if axis == 0 else p[None, :]
        shown = (place - _picked(origin[..., axis], flat, number)) / _picked(
            factor[..., 0], flat, number
        )
        # No nearer to an edge than half a pixel: the pictures lie below one another here.
        edge = 0.5 / pixels.shape[2 + axis]
        at.append(shown.clamp(edge, 1 - edge))
    y = (at[0] + number) / 4
    grid = 2 * torch.stack([at[1], y], dim=-1) - 1
    stack = pixels.reshape(batch, 4 * height, width, channels).movedim(-1, 1).float()
    finer = F.grid_sample(stack, grid, "bilinear", padding_mode="border", align_corners=False)
    made = F.avg_pool2d(finer, _FINER).movedim(1, -1)
    if pixels.dtype == torch.uint8:
        made = made.round_().clamp_(0, 255)
    return made.to(pixels.dtype), _boxes(rows, origin, factor, start, stop)


def _points(side: int, device: torch.device) -> torch.Tensor:
    """Where along a side of `side` pixels the picture is read, as shares of it."""
    return (torch.arange(_FINER * side, device=device) + 0.5) / (_FINER * side)


def _picked(values: torch.Tensor, flat: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    """Of `values` (b, 4) the one of the quarter `number` (b, ...) that each point lies in."""
    return values.gather(1, flat).view(number.shape)


def _boxes(
    rows: torch.Tensor,
    origin: torch.Tensor,
    factor: torch.Tensor,
    start: torch.Tensor,
    stop: torch.Tensor,
) -> torch.Tensor:
    """Boxes (b, 4, most, 5) of the four pictures where they are in their quarters, cut off at
    the edges: (b, 4 * most, 5). Without those of which too little is left.
    """

    def both(pairs: torch.Tensor) -> torch.Tensor:
        """(b, 4, 2) of down and right for all four numbers of a box, (b, 4, 1, 4)."""
        return pairs.flip(-1).repeat(1, 1, 2)[:, :, None]

    corners = rows[..., 1:] * factor[..., None] + both(origin)
    moved = torch.cat([rows[..., :1], corners], dim=-1)
    corners = corners.maximum(both(start)).minimum(both(stop))
    seen = torch.cat([rows[..., :1], corners], dim=-1)
    gone = (rows[..., 0] == NO_OBJECT) | (areas(seen) < KEPT * areas(moved))
    return torch.where(gone[..., None], NO_OBJECT, seen).flatten(1, 2)
