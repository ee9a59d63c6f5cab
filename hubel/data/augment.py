"""Augmentation of whole batches, in two or three dimensions, on any device.

Every draw comes from a table with one row a sample, made from (seed, epoch): the same
sample gets the same augmentation in the same epoch whatever the batch, the number of
workers or the point of a resume. Pixels stay in their stored type and layout
(b, *spatial, c); mixup alone works on the network's input and on targets. Boxes and masks
move with their pictures.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from hubel.config import FitConfig
from hubel.data.targets import NO_OBJECT, Kind
from hubel.randomness import generator

__all__ = ["Augment", "mixup_partners"]

# Columns of the table of draws.
_FLIP, _BRIGHT, _CONTRAST, _SATURATION, _ANGLE, _AREA, _RATIO, _SHIFT = range(8)
_CUTOUT = _SHIFT + 3
_CROP = _CUTOUT + 3
_COLUMNS = _CROP + 3


@dataclass(frozen=True)
class Augment:
    """What may happen to a training picture.

    Attributes
    ----------
    flip: "none", "random" (each epoch by a coin) or "alternating" (a coin for the first
        epoch, then the other way round every second epoch, so that any two successive
        epochs show both ways; Jordan 2024, arXiv 2404.00498, §3.6). The last axis is
        mirrored.
    translate: largest shift as a share of each side; the border is filled by reflection.
    resized_crop: smallest share of the area that a random crop keeps; 1 is off. Aspect
        ratio 3/4 to 4/3 (Szegedy et al. 2015, arXiv 1409.4842, §6).
    rotate: largest rotation, degrees, in the plane of the last two axes.
    jitter: brightness, contrast and saturation are scaled by 1 ± jitter.
    cutout: side of the square (cube) set to `fill`, as a share of the side (DeVries &
        Taylor 2017, arXiv 1708.04552).
    fill: value of a cut-out pixel for each channel (the training mean).
    """

    flip: str = "none"
    translate: float = 0.0
    resized_crop: float = 1.0
    rotate: float = 0.0
    jitter: float = 0.0
    cutout: float = 0.0
    fill: tuple[float, ...] = (0.0,)

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
        )

    def draws(self, num_samples: int, seed: int, epoch: int) -> torch.Tensor:
        """The table of draws in [0, 1), (num_samples, columns), for one epoch."""
        table = torch.rand(num_samples, _COLUMNS, generator=generator(seed, "augment", epoch))
        if self.flip == "alternating":
            first = torch.rand(num_samples, generator=generator(seed, "flip")) < 0.5
            table[:, _FLIP] = (first ^ bool(epoch % 2)).float()
        return table

    def __call__(self, pixels: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Augmented copies of `pixels` (b, *spatial, c); `draws` (b, columns) are their rows."""
        labels = torch.zeros(len(pixels), dtype=torch.int64, device=pixels.device)
        return self.both(pixels, labels, "class", draws)[0]

    def both(
        self, pixels: torch.Tensor, target: torch.Tensor, kind: Kind, draws: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`pixels` as by calling, and their targets (rows of `Targets` of that kind) moved alike.

        A box is cut off at the picture's border; one of which less than a quarter is left is no
        object any more, unless it is its picture's only one.
        """
        size = tuple(pixels.shape[1:-1])
        if self.rotate > 0 or self.resized_crop < 1:
            theta = self._warps(size, draws)
            if kind == "boxes":
                target = _warped_boxes(target, theta)
            elif kind == "mask":
                target = _warped(target.unsqueeze(-1), theta, "nearest").squeeze(-1)
            pixels = _warped(pixels, theta, "bilinear")
        if self.flip != "none" or self.translate > 0:
            shifts, mirrored = self._moves(size, draws)
            if kind == "boxes":
                target = _moved_boxes(target, shifts, mirrored, size)
            elif kind == "mask":
                target = _moved(target.unsqueeze(-1), shifts, mirrored).squeeze(-1)
            pixels = _moved(pixels, shifts, mirrored)
        if kind == "boxes":
            target = _cut_off(target)
        if self.jitter > 0:
            pixels = self._jitter(pixels, draws)
        if self.cutout > 0:
            pixels = self._cut(pixels, draws)
        return pixels, target

    def _moves(
        self, size: tuple[int, ...], draws: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Pixels to shift by along each axis, (b,) each, and whether then to mirror, (b,)."""
        shifts = []
        for axis, side in enumerate(size):
            reach = min(round(self.translate * side), side - 1)
            shifts.append((draws[:, _SHIFT + axis] * (2 * reach + 1)).long() - reach)
        mirrored = draws[:, _FLIP] >= 0.5
        return shifts, mirrored if self.flip != "none" else torch.zeros_like(mirrored)

    def _warps(self, size: tuple[int, ...], draws: torch.Tensor) -> torch.Tensor:
        """Rotation and resized crop in one, so that pixels blur only once: (b, dims, dims + 1),
        from places in the result to places in the picture, -1..1, as `affine_grid` takes it.
        """
        dims = len(size)
        area = 1 - draws[:, _AREA] * (1 - self.resized_crop)
        log_ratio = (2 * draws[:, _RATIO] - 1) * torch.log(torch.tensor(4 / 3))
        ratio = torch.exp(log_ratio if self.resized_crop < 1 else 0 * log_ratio)
        scale = area.pow(1 / dims)[:, None].repeat(1, dims)  # (b, dims), x first as in grids
        scale[:, 0] = (scale[:, 0] * ratio.sqrt()).clamp_max(1)
        scale[:, 1] = (scale[:, 1] / ratio.sqrt()).clamp_max(1)
        angle = (2 * draws[:, _ANGLE] - 1) * torch.pi / 180 * self.rotate
        # Sides differ, so the rotation acts in pixels and not in the grid's -1..1.
        aspect = size[-2] / size[-1]
        theta = torch.zeros(len(draws), dims, dims + 1, device=draws.device)
        cos, sin = torch.cos(angle), torch.sin(angle)
        theta[:, 0, 0], theta[:, 0, 1] = scale[:, 0] * cos, -scale[:, 1] * sin * aspect
        theta[:, 1, 0], theta[:, 1, 1] = scale[:, 0] * sin / aspect, scale[:, 1] * cos
        if dims == 3:
            theta[:, 2, 2] = scale[:, 2]
        if self.resized_crop < 1:
            free = 1 - scale
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
        fill = torch.tensor(self.fill, device=pixels.device).to(pixels.dtype)
        return torch.where(inside.unsqueeze(-1), fill, pixels)


_KEPT = 0.25
"""Of a box's area: with less in the picture it is no object any more."""


def _moved(
    pixels: torch.Tensor, shifts: list[torch.Tensor], mirrored: torch.Tensor
) -> torch.Tensor:
    """Exact moves of pixels (b, *size, c): one gather with an index for each axis."""
    batch, *size, channels = pixels.shape
    index = torch.arange(batch, device=pixels.device)
    for axis, (side, shift) in enumerate(zip(size, shifts, strict=True)):
        position = (torch.arange(side, device=pixels.device) + shift[:, None]).abs()  # (b, side)
        position = torch.where(position >= side, 2 * (side - 1) - position, position)
        if axis == len(size) - 1:
            position = torch.where(mirrored[:, None], side - 1 - position, position)
        position = position.view(batch, *(1,) * axis, side)
        index = index.unsqueeze(-1) * side + position  # (b, *size[: axis + 1])
    flat = pixels.reshape(-1, channels)
    return flat.index_select(0, index.reshape(-1)).view(pixels.shape)


def _moved_boxes(
    rows: torch.Tensor, shifts: list[torch.Tensor], mirrored: torch.Tensor, size: tuple[int, ...]
) -> torch.Tensor:
    """Where boxes (b, most, 5) are after `_moved`; they may leave the picture."""
    down, right = (s[:, None, None] / side for s, side in zip(shifts, size, strict=True))
    x, y = rows[..., 1::2], rows[..., 2::2]  # (b, most, 2): left and right, top and bottom
    x = torch.where(mirrored[:, None, None], 1 - x.flip(-1), x) - right
    return torch.cat([rows[..., :1], torch.stack([x, y - down], dim=-1).flatten(2)], dim=-1)


def _warped(pixels: torch.Tensor, theta: torch.Tensor, mode: str) -> torch.Tensor:
    """`pixels` (b, *size, c) read where `theta` says, the border reflected."""
    values = pixels.movedim(-1, 1).float()  # (b, c, *size)
    grid = F.affine_grid(theta, list(values.shape), align_corners=False)
    warped = F.grid_sample(values, grid, mode, padding_mode="reflection", align_corners=False)
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


def _cut_off(rows: torch.Tensor) -> torch.Tensor:
    """Boxes (b, most, 5) inside the picture; without those of which too little is inside."""
    inside = torch.cat([rows[..., :1], rows[..., 1:].clamp(0, 1)], dim=-1)
    if rows.shape[1] > 1:
        gone = _areas(inside) < _KEPT * _areas(rows)
        inside[..., 0] = torch.where(gone, NO_OBJECT, inside[..., 0])
    return inside


def _areas(rows: torch.Tensor) -> torch.Tensor:
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
