"""Atoms as densities on a cube of points, the input of a network that looks at poses.

The density is that of libmolgrid (Sunseri and Koes 2020, Journal of Chemical Information and
Modeling 60, pp. 1079-1084): at distance x radii from an atom exp(-2x²) up to one radius, from
there to one and a half the parabola 4e⁻²(1.5 - x)² that continues it smoothly, then nothing.
Atoms of a channel add up. Only points within reach of an atom are touched. Densities can be
differentiated with respect to the atoms' places.

On a CPU loops that numba compiles do the work, elsewhere tensor operations.
"""

from dataclasses import dataclass
from typing import Any

import torch

from hubel.molecules.grid_loops import REACH, TAIL, compiled_loops

__all__ = ["Atoms", "Grid", "atom_sums", "densities", "random_rotations"]


@dataclass(frozen=True)
class Grid:
    """A cube of points about a centre.

    Attributes
    ----------
    resolution: Å between neighbours.
    points: along each side; 48 points 0.5 Å apart are 23.5 Å.
    """

    resolution: float = 0.5
    points: int = 48

    @property
    def edge(self) -> float:
        """Å from the first point of a side to the last."""
        return self.resolution * (self.points - 1)


@dataclass(frozen=True)
class Atoms:
    """The atoms of several samples, those of a sample in a row.

    Attributes
    ----------
    places: (a, 3) in Å, floating.
    radii: (a,) in Å, of the same type.
    channels: int64 (a,).
    samples: int64 (a,): the number of the sample that each belongs to.
    """

    places: torch.Tensor
    radii: torch.Tensor
    channels: torch.Tensor
    samples: torch.Tensor


def densities(
    atoms: Atoms, centers: torch.Tensor, num_channels: int, grid: Grid | None = None
) -> torch.Tensor:
    """(n, num_channels, x, y, z), points along each side, of the type of the places.

    `centers` (n, 3) are the middles of the cubes, in Å. What lies outside is left out.
    """
    grid = grid or Grid()
    origins = centers - grid.edge / 2
    shape = (len(centers), num_channels, *[grid.points] * 3)
    if atoms.places.device.type == "cpu":
        made: torch.Tensor = _Compiled.apply(
            atoms.places, atoms.radii, atoms.channels, atoms.samples, origins, shape, grid
        )
        return made
    return _by_tensors(atoms, origins, shape, grid)


def atom_sums(
    atoms: Atoms, centers: torch.Tensor, field: torch.Tensor, grid: Grid | None = None
) -> torch.Tensor:
    """(a,) for each atom the sum over the points of its own density times `field`
    (n, num_channels, x, y, z).

    Of a score's gradient by the densities it is what the score changes by, to first order, where
    the atom's density grows by all of itself.
    """
    grid = grid or Grid()
    origins = centers - grid.edge / 2
    if atoms.places.device.type == "cpu":
        found = torch.zeros(len(atoms.places), dtype=atoms.places.dtype)
        columns = _numpy(atoms.places, atoms.radii, atoms.channels, atoms.samples, origins)
        compiled_loops().weigh(*columns, grid.resolution, *_numpy(field), found.numpy())
        return found
    if len(atoms.places) == 0:
        return atoms.places.new_zeros(0)
    index, value = _windows(atoms, origins, tuple(field.shape), grid)
    return (value * field.reshape(-1)[index]).flatten(1).sum(1)


def random_rotations(number: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """(number, 3, 3) float64, uniform over all rotations: of normal quaternions."""
    q = torch.randn(number, 4, generator=generator, dtype=torch.float64)
    w, x, y, z = (q / q.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=1).view(number, 3, 3)


class _Compiled(torch.autograd.Function):
    """Densities on a CPU, and how the places' gradient comes out of theirs."""

    @staticmethod
    def forward(
        ctx: Any,
        places: torch.Tensor,
        radii: torch.Tensor,
        channels: torch.Tensor,
        samples: torch.Tensor,
        origins: torch.Tensor,
        shape: tuple[int, ...],
        grid: Grid,
    ) -> torch.Tensor:
        out = places.new_empty(shape)
        ctx.save_for_backward(places, radii, channels, samples, origins)
        ctx.resolution = grid.resolution
        columns = _numpy(places, radii, channels, samples, origins)
        compiled_loops().make(*columns, grid.resolution, out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        places = ctx.saved_tensors[0]
        found = torch.zeros_like(places, memory_format=torch.contiguous_format)
        columns = _numpy(*ctx.saved_tensors)
        gradient = gradients[0].contiguous().numpy()
        compiled_loops().pull(*columns, ctx.resolution, gradient, found.numpy())
        return found, None, None, None, None, None, None


def _numpy(*tensors: torch.Tensor) -> list[Any]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _by_tensors(
    atoms: Atoms, origins: torch.Tensor, shape: tuple[int, ...], grid: Grid
) -> torch.Tensor:
    """The same in tensor operations: each atom in a window as wide as the largest needs."""
    out = atoms.places.new_zeros(shape)
    if len(atoms.places) == 0:
        return out
    index, value = _windows(atoms, origins, shape, grid)
    return out.view(-1).index_add(0, index.flatten(), value.flatten()).view(shape)


def _windows(
    atoms: Atoms, origins: torch.Tensor, shape: tuple[int, ...], grid: Grid
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each atom the places in the flat grids that it may touch, and its density there, zero
    beyond its reach and beyond its grid: (a, width, width, width) both.
    """
    places, radii = atoms.places, atoms.radii.to(atoms.places.dtype)
    width = int(2 * REACH * float(radii.max()) / grid.resolution) + 1
    inside = places - origins[atoms.samples].to(places.dtype)
    first = ((inside.detach() - REACH * radii[:, None]) / grid.resolution).ceil().long()
    steps = torch.arange(width, device=places.device)
    points = first[:, :, None] + steps  # (a, 3, width)
    apart = (points * grid.resolution - inside[:, :, None]) / radii[:, None, None]
    square = apart.square()
    x, y, z = square.unbind(1)
    q = x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]  # in radii, squared
    tail = TAIL * (REACH - q.clamp_min(1).sqrt()).clamp_min(0).square()
    value = torch.where(q <= 1, torch.exp(-2 * q.clamp_max(1)), tail)

    num_channels, side = shape[1], grid.points
    there = (points >= 0) & (points < side)
    px, py, pz = points.clamp(0, side - 1).unbind(1)
    row = atoms.samples * num_channels + atoms.channels
    index = ((row[:, None] * side + px)[:, :, None] * side + py[:, None, :])[..., None] * side
    index = index + pz[:, None, None, :]
    tx, ty, tz = there.unbind(1)
    value = value * (tx[:, :, None, None] & ty[:, None, :, None] & tz[:, None, None, :])
    return index, value
