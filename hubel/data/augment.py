"""Augmentation of whole batches, in two or three dimensions, on any device.

Every draw comes from a table with one row a sample, made from (seed, epoch): the same
sample gets the same augmentation in the same epoch whatever the batch, the number of
workers or the point of a resume. Pixels stay in their stored type and layout
(b, *spatial, c); mixup alone works on the network's input and on targets. Boxes and masks
move with their pictures.

What a move brings in from beyond the border is the picture's reflection, and its mask's. It is
the training mean, and no class, where objects have boxes, since a reflected object has none; and
where `scale` shows more than the picture.
"""

import math
from dataclasses import dataclass
from itertools import permutations, product

import torch
import torch.nn.functional as F

from hubel.config import FitConfig
from hubel.data.targets import IGNORED, NO_OBJECT, Kind
from hubel.randomness import generator

__all__ = ["KEPT", "Augment", "areas", "mixup_partners"]

# Columns of the table of draws.
_FLIP, _BRIGHT, _CONTRAST, _SATURATION, _ANGLE, _AREA, _RATIO, _SHIFT = range(8)
_CUTOUT = _SHIFT + 3
_CROP = _CUTOUT + 3
_COLUMNS = _CROP + 3
# Columns from a stream of their own: one more leaves the draws before it as they were.
_SCALE, _TURN, _OTHER_FLIPS = range(_COLUMNS, _COLUMNS + 3)
_MORE_COLUMNS = 4  # the last kind takes two: a volume has two axes besides the last


@dataclass(frozen=True)
class Augment:
    """What may happen to a training picture.

    Attributes
    ----------
    flip: "none", "random" (each epoch by a coin) or "alternating" (a coin for the first
        epoch, then the other way round every second epoch, so that any two successive
        epochs show both ways; Jordan 2024, arXiv 2404.00498, §3.6). The last axis is
        mirrored.
    flip_axes: "last", or "all": unless `flip` is "none", every other axis is mirrored by a
        coin of its own in each epoch.
    turns: "none"; "plane": by a multiple of 90° in the plane of the last two axes (of 180°
        where their sides differ); "all": by any rotation that maps the picture's frame onto
        itself, the 24 of the cube for a cube. Exact: pixels move and none is mixed.
    translate: largest shift as a share of each side.
    scale: objects become 1 - scale to 1 + scale times as large, and the window that is seen
        lies anywhere: within the picture, or about it where it is the larger (Liu et al. 2016,
        arXiv 1512.02325, §3.6; Ghiasi et al. 2021, arXiv 2012.07177, §3).
    resized_crop: smallest share of the area that a random crop keeps; 1 is off. Aspect
        ratio 3/4 to 4/3 (Szegedy et al. 2015, arXiv 1409.4842, §6).
    rotate: largest rotation, degrees, in the plane of the last two axes.
    jitter: brightness, contrast and saturation are scaled by 1 ± jitter.
    cutout: side of the square (cube) set to `fill`, as a share of the side (DeVries &
        Taylor 2017, arXiv 1708.04552).
    fill: value of a cut-out pixel for each channel (the training mean).
    mosaic: share of the pictures with boxes that the loader makes of four
        (`hubel.data.mosaic`) before all else.
    """

    flip: str = "none"
    translate: float = 0.0
    resized_crop: float = 1.0
    rotate: float = 0.0
    jitter: float = 0.0
    cutout: float = 0.0
    fill: tuple[float, ...] = (0.0,)
    flip_axes: str = "last"
    turns: str = "none"
    scale: float = 0.0
    mosaic: float = 0.0

    @classmethod
    def of(cls, config: FitConfig, fill: tuple[float, ...]) -> "Augment":
        """What `config` asks for; its flip must be decided by now."""
        return cls(
            flip=config.flip,
            translate=config.translate,
            resized_crop=config.resized_crop,
            rotate=config.rotate,
            jitter=config.jitter,
            cutout=config.cutout,
            fill=fill,
            flip_axes=config.flip_axes,
            turns="none" if config.turns == "auto" else config.turns,
            scale=config.scale or 0.0,  # a task that wants another has said so by now
            mosaic=config.mosaic,
        )

    def draws(self, num_samples: int, seed: int, epoch: int) -> torch.Tensor:
        """The table of draws in [0, 1), (num_samples, columns), for one epoch."""
        table = torch.rand(num_samples, _COLUMNS, generator=generator(seed, "augment", epoch))
        if self.flip == "alternating":
            first = torch.rand(num_samples, generator=generator(seed, "flip")) < 0.5
            table[:, _FLIP] = (first ^ bool(epoch % 2)).float()
        stream = generator(seed, "augment, later columns", epoch)
        return torch.cat([table, torch.rand(num_samples, _MORE_COLUMNS, generator=stream)], dim=1)

    def __call__(self, pixels: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Augmented copies of `pixels` (b, *spatial, c); `draws` (b, columns) are their rows."""
        labels = torch.zeros(len(pixels), dtype=torch.int64, device=pixels.device)
        return self.both(pixels, labels, "class", draws)[0]

    def both(
        self, pixels: torch.Tensor, target: torch.Tensor, kind: Kind, draws: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`pixels` as by calling, and their targets (rows of `Targets` of that kind) moved alike.

        A box is cut off at the picture's border; of "boxes" one of which less than a quarter is
        left is no object any more, and a "box" stays one whatever is left.
        """
        size = tuple(pixels.shape[1:-1])
        boxed = kind in ("box", "boxes")
        border = ignored = None  # reflected
        if kind == "boxes" or self.scale > 0:
            border = self._fill(pixels)
            ignored = torch.tensor([IGNORED], dtype=target.dtype, device=target.device)
        if self.rotate > 0 or self.resized_crop < 1 or self.scale > 0:
            theta = self._warps(size, draws)
            if boxed:
                target = _warped_boxes(target, theta)
            elif kind == "mask":
                target = _warped(target.unsqueeze(-1), theta, "nearest", ignored).squeeze(-1)
            pixels = _warped(pixels, theta, "bilinear", border)
        if self.flip != "none" or self.translate > 0 or self.turns != "none":
            moves = self._moves(size, draws)
            if boxed:
                target = _moved_boxes(target, moves, size)
            elif kind == "mask":
                target = _moved(target.unsqueeze(-1), moves, ignored).squeeze(-1)
            pixels = _moved(pixels, moves, border)
        if boxed:
            target = _cut_off(target, keep=kind == "box")
        if self.jitter > 0:
            pixels = self._jitter(pixels, draws)
        if self.cutout > 0:
            pixels = self._cut(pixels, draws)
        return pixels, target

    def _moves(self, size: tuple[int, ...], draws: torch.Tensor) -> "_Moves":
        """What a picture is turned, then mirrored, then shifted by."""
        dims, device = len(size), draws.device
        shifts = []
        for axis, side in enumerate(size):
            reach = min(round(self.translate * side), side - 1)
            shifts.append((draws[:, _SHIFT + axis] * (2 * reach + 1)).long() - reach)
        mirrored = torch.zeros(len(draws), dims, dtype=torch.bool, device=device)
        if self.flip != "none":
            mirrored[:, -1] = draws[:, _FLIP] >= 0.5
            if self.flip_axes == "all":
                mirrored[:, :-1] = draws[:, _OTHER_FLIPS : _OTHER_FLIPS + dims - 1] >= 0.5
        if self.turns == "none":
            axes = torch.arange(dims, device=device).expand(len(draws), dims)
            return _Moves(axes, mirrored, shifts)
        turns = _turns(size, self.turns == "all")
        number = (draws[:, _TURN] * len(turns)).long()
        axes = torch.tensor([axes for axes, _ in turns], device=device)[number]
        backwards = torch.tensor([backwards for _, backwards in turns], device=device)[number]
        return _Moves(axes, mirrored ^ backwards, shifts)

    def _warps(self, size: tuple[int, ...], draws: torch.Tensor) -> torch.Tensor:
        """Rotation, resized crop and zoom in one, so that pixels blur only once:
        (b, dims, dims + 1), from places in the result to places in the picture, -1..1, as
        `affine_grid` takes it.
        """
        dims = len(size)
        area = 1 - draws[:, _AREA] * (1 - self.resized_crop)
        log_ratio = (2 * draws[:, _RATIO] - 1) * torch.log(torch.tensor(4 / 3))
        ratio = torch.exp(log_ratio if self.resized_crop < 1 else 0 * log_ratio)
        scale = area.pow(1 / dims)[:, None].repeat(1, dims)  # (b, dims), x first as in grids
        scale[:, 0] = (scale[:, 0] * ratio.sqrt()).clamp_max(1)
        scale[:, 1] = (scale[:, 1] / ratio.sqrt()).clamp_max(1)
        if self.scale > 0:
            scale = scale / (1 + self.scale * (2 * draws[:, _SCALE, None] - 1))
        angle = (2 * draws[:, _ANGLE] - 1) * torch.pi / 180 * self.rotate
        # Sides differ, so the rotation acts in pixels and not in the grid's -1..1.
        aspect = size[-2] / size[-1]
        theta = torch.zeros(len(draws), dims, dims + 1, device=draws.device)
        cos, sin = torch.cos(angle), torch.sin(angle)
        theta[:, 0, 0], theta[:, 0, 1] = scale[:, 0] * cos, -scale[:, 1] * sin * aspect
        theta[:, 1, 0], theta[:, 1, 1] = scale[:, 0] * sin / aspect, scale[:, 1] * cos
        if dims == 3:
            theta[:, 2, 2] = scale[:, 2]
        if self.resized_crop < 1 or self.scale > 0:
            free = 1 - scale  # below zero where the window is larger than the picture
            theta[:, :, dims] = free * (2 * draws[:, _CROP : _CROP + dims].flip(1) - 1)
        return theta

    def _jitter(self, pixels: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Brightness, contrast about the picture's mean, saturation about its grey."""
        shape = (-1, *(1,) * (pixels.ndim - 1))
        factors = 1 + self.jitter * (2 * draws - 1)
        values = pixels.float() * factors[:, _BRIGHT].view(shape)
        mean = values.mean(dim=tuple(range(1, pixels.ndim)), keepdim=True)
        values = mean + (values - mean) * factors[:, _CONTRAST].view(shape)
        if pixels.shape[-1] == 3:
            luma = torch.tensor([0.299, 0.587, 0.114], device=pixels.device)  # ITU-R BT.601
            grey = (values * luma).sum(-1, keepdim=True)
            values = grey + (values - grey) * factors[:, _SATURATION].view(shape)
        return _like(values, pixels)

    def _cut(self, pixels: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """A square whose centre is anywhere in the picture, set to `fill`."""
        batch, *size, _ = pixels.shape
        inside = torch.ones((batch, *(1,) * len(size)), dtype=torch.bool, device=pixels.device)
        for axis, side in enumerate(size):
            width = max(1, round(self.cutout * side))
            start = (draws[:, _CUTOUT + axis] * side).long() - width // 2
            position = torch.arange(side, device=pixels.device)
            hit = (position >= start[:, None]) & (position < start[:, None] + width)
            view = [batch] + [1] * len(size)
            view[axis + 1] = side
            inside = inside & hit.view(view)
        return torch.where(inside.unsqueeze(-1), self._fill(pixels), pixels)

    def _fill(self, pixels: torch.Tensor) -> torch.Tensor:
        """`fill` as a pixel of `pixels`, (c,) or (1,)."""
        return torch.tensor(self.fill, device=pixels.device).to(pixels.dtype)


KEPT = 0.25
"""Of a box's area: with less in the picture it is no object any more."""


@dataclass(frozen=True)
class _Moves:
    """Exact moves of b pictures (b, *size, c): pixel p of the result is pixel q of the picture.

    Attributes
    ----------
    axes: int64 (b, dims): the axis of the picture along which each axis of the result runs.
    mirrored: bool (b, dims): the axes of the result that run backwards.
    shifts: for each axis of the result (b,) pixels that are added to p first.
    """

    axes: torch.Tensor
    mirrored: torch.Tensor
    shifts: list[torch.Tensor]


def _turns(size: tuple[int, ...], every: bool) -> list[tuple[tuple[int, ...], tuple[bool, ...]]]:
    """The rotations by right angles that keep a frame of `size`, as (axes, backwards) of
    `_Moves`; the identity first. Unless `every`, those of the last two axes only.

    >>> len(_turns((8, 8), False)), len(_turns((8, 9), False)), len(_turns((4, 4, 4), True))
    (4, 2, 24)
    """
    dims = len(size)
    found = []
    for axes, backwards in product(permutations(range(dims)), product((False, True), repeat=dims)):
        swaps = sum(axes[i] > axes[j] for i in range(dims) for j in range(i + 1, dims))
        is_rotation = (swaps + sum(backwards)) % 2 == 0  # else it mirrors
        keeps = all(size[axis] == side for axis, side in zip(axes, size, strict=True))
        others = dims - 2
        in_plane = axes[:others] == tuple(range(others)) and not any(backwards[:others])
        if is_rotation and keeps and (every or in_plane):
            found.append((axes, backwards))
    return found


def _moved(pixels: torch.Tensor, moves: _Moves, border: torch.Tensor | None) -> torch.Tensor:
    """`pixels` (b, *size, c) moved: one gather. From beyond their edge comes their reflection, or
    `border` (c,).
    """
    batch, *size, channels = pixels.shape
    device = pixels.device
    steps = [math.prod(size[axis + 1 :]) for axis in range(len(size))]
    strides = torch.tensor(steps, device=device)
    index = torch.arange(batch, device=device) * math.prod(size)
    inside = torch.ones(batch, dtype=torch.bool, device=device)
    for axis, (side, shift) in enumerate(zip(size, moves.shifts, strict=True)):
        position = torch.arange(side, device=device) + shift[:, None]  # (b, side)
        view = (batch, *(1,) * axis, side)
        if border is not None:
            inside = inside.unsqueeze(-1) & ((position >= 0) & (position < side)).view(view)
        position = position.abs()
        position = torch.where(position >= side, 2 * (side - 1) - position, position)
        backwards = moves.mirrored[:, axis, None]
        position = torch.where(backwards, side - 1 - position, position)
        position = position * strides[moves.axes[:, axis], None]
        index = index.unsqueeze(-1) + position.view(view)  # (b, *size[: axis + 1])
    flat = pixels.reshape(-1, channels)
    moved = flat.index_select(0, index.reshape(-1)).view(pixels.shape)
    return moved if border is None else torch.where(inside.unsqueeze(-1), moved, border)


def _moved_boxes(rows: torch.Tensor, moves: _Moves, size: tuple[int, ...]) -> torch.Tensor:
    """Where boxes (b, most, 5) are after `_moved`; they may leave the picture."""
    spans = torch.stack([rows[..., 2::2], rows[..., 1::2]], dim=2)  # (b, most, 2, 2): y, x
    axes = moves.axes[:, None, :, None].expand(spans.shape)
    spans = spans.gather(2, axes)
    spans = torch.where(moves.mirrored[:, None, :, None], 1 - spans.flip(-1), spans)
    shifts = [shift / side for shift, side in zip(moves.shifts, size, strict=True)]
    spans = spans - torch.stack(shifts, dim=-1)[:, None, :, None]
    corners = spans.flip(2).transpose(2, 3).flatten(2)  # left, top, right, bottom
    return torch.cat([rows[..., :1], corners], dim=-1)


def _warped(
    pixels: torch.Tensor, theta: torch.Tensor, mode: str, border: torch.Tensor | None
) -> torch.Tensor:
    """`pixels` (b, *size, c) read where `theta` says. From beyond their edge comes their
    reflection, or `border` (c,).
    """
    values = pixels.movedim(-1, 1).float()  # (b, c, *size)
    grid = F.affine_grid(theta, list(values.shape), align_corners=False)
    if border is None:
        warped = F.grid_sample(values, grid, mode, padding_mode="reflection", align_corners=False)
    else:
        # torch pads with zeros: the border is where values are counted from.
        zero = border.float().view(1, -1, *(1,) * (values.ndim - 2))
        warped = F.grid_sample(values - zero, grid, mode, "zeros", align_corners=False) + zero
    return _like(warped.movedim(1, -1), pixels)


def _warped_boxes(rows: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """The upright boxes around boxes (b, most, 5) after `_warped`; they may leave the picture."""
    left, top, right, bottom = rows[..., 1:].unbind(-1)
    points = torch.stack(
        [torch.stack([x, y], -1) for x in (left, right) for y in (top, bottom)], dim=2
    )  # (b, most, 4, 2)
    inverse = torch.linalg.inv(theta[:, :, :2])
    moved = (2 * points - 1 - theta[:, None, None, :, 2]) @ inverse.mT[:, None]
    moved = (moved + 1) / 2
    return torch.cat([rows[..., :1], moved.amin(2), moved.amax(2)], dim=-1)


def _cut_off(rows: torch.Tensor, *, keep: bool) -> torch.Tensor:
    """Boxes (b, most, 5) inside the picture; unless asked to `keep` all, without those of which too
    little is inside.
    """
    inside = torch.cat([rows[..., :1], rows[..., 1:].clamp(0, 1)], dim=-1)
    if not keep:
        gone = areas(inside) < KEPT * areas(rows)
        inside[..., 0] = torch.where(gone, NO_OBJECT, inside[..., 0])
    return inside


def areas(rows: torch.Tensor) -> torch.Tensor:
    """Of boxes (..., 5), as rows of `BoxTargets`: (...), as shares of the picture's."""
    return (rows[..., 3] - rows[..., 1]) * (rows[..., 4] - rows[..., 2])


def _like(values: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Float `values` in the stored type of `pixels`: rounded and clipped if uint8."""
    if pixels.dtype == torch.uint8:
        return values.round_().clamp_(0, 255).to(torch.uint8)
    return values.to(pixels.dtype)


def mixup_partners(
    num_samples: int, alpha: float, seed: int, epoch: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each sample its partner's position (n,) int64 and its own share (n,) in [0.5, 1].

    Mixup (Zhang et al. 2018, arXiv 1710.09412): shares are Beta(alpha, alpha), folded to
    at least one half so that a sample's own label leads.
    """
    stream = generator(seed, "mixup", epoch)
    partners = torch.randint(num_samples, (num_samples,), generator=stream)
    # Two gammas make a beta; torch draws gammas from a given generator by this function alone.
    concentration = torch.full((2, num_samples), alpha)
    gammas = torch._standard_gamma(concentration, generator=stream)
    share = gammas[0] / gammas.sum(0).clamp_min(1e-20)
    return partners, torch.maximum(share, 1 - share)
