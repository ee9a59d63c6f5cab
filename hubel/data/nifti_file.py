"""NIfTI files: a volume's grid in space, and its voxels, by nibabel.

The NIfTI-1 and NIfTI-2 standards, nifti.nimh.nih.gov. Whatever way a scanner stored it, a volume
comes with its axes as (depth, height, width), towards the patient's head, front and right: the
closest canonical orientation (RAS+) that nibabel finds, its axes in reverse.

A file says how large it is; no more than that is decompressed, and nothing above `MAX_BYTES`.

No torch here: the processes that build the cache import this module. nibabel is imported where
it is used, because it belongs to an extra.
"""

import gzip
import math
from collections.abc import Callable
from dataclasses import dataclass
from gzip import GzipFile
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt

from hubel.data.source import Array, UnreadableSampleError
from hubel.errors import UserError

__all__ = [
    "MAX_BYTES",
    "NIFTI_SUFFIXES",
    "VoxelGrid",
    "check_nibabel",
    "decode_volume",
    "encode_mask",
    "is_nifti",
    "read_grid",
    "volume_values",
]

NIFTI_SUFFIXES = (".nii.gz", ".nii")
MAX_BYTES = 1 << 30
"""Of the voxels of one file, as stored."""

_Read = TypeVar("_Read")

_MOST_CHANNELS = 4
_MM = {"meter": 1000.0, "micron": 0.001}
_HEADERS = {348: (344, b"n+1\0", b"ni1\0"), 540: (4, b"n+2\0", b"ni2\0")}
"""By the size of the header: where its magic word stands, a single file's, a pair's."""
_PLACED = (
    "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x",
    "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip
"""What a header says of where voxels lie."""


@dataclass(frozen=True)
class VoxelGrid:
    """Where the voxels of a file lie.

    Attributes
    ----------
    size: (depth, height, width) in voxels.
    in_channels: values of a voxel, from a fourth axis.
    spacing: (depth, height, width) of a voxel in mm.
    affine: float64 (4, 4): mm (right, front, head) of a voxel from its (width, height, depth).
    """

    size: tuple[int, ...]
    in_channels: int
    spacing: tuple[float, ...]
    affine: npt.NDArray[np.float64]

    def differs(self, other: "VoxelGrid") -> str:
        """How the place of `other`'s voxels differs from this one's, in words; "" where not.

        Corners may lie apart by half the shortest side of a voxel: headers are rounded.
        """
        if self.size != other.size:
            return f"{_times(other.size)} voxels (depth×height×width) against {_times(self.size)}"
        corners = [(*c, 1.0) for c in product(*((0, side - 1) for side in self.size[::-1]))]
        apart = (self.affine - other.affine) @ np.array(corners).T
        most = float(np.linalg.norm(apart[:3], axis=0).max())
        if most > min(self.spacing) / 2:
            return f"their headers place them up to {most:.3g} mm apart"
        return ""


@dataclass(frozen=True)
class _Header:
    """What a file says of itself; `turned` brings its array to the closest RAS+ axes, `turned_back`
    does the opposite. `fields` are all that its header says.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    grid: VoxelGrid
    turned: Callable[[Array], Array]
    turned_back: Callable[[Array], Array]
    fields: Any


def is_nifti(path: Path) -> bool:
    """Whether the name of `path` ends as those of NIfTI files do."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def check_nibabel(what: str) -> None:
    """Raise `UserError` about `what`, "PATH 'a.nii'", where nibabel is not installed."""
    try:
        import nibabel  # noqa: F401
    except ImportError:
        raise UserError(
            f"{what} holds NIfTI, which hubel reads by nibabel, and that is not installed: pip "
            f"install 'hubel[medical]'"
        ) from None


def encode_mask(mask: npt.NDArray[np.uint8], volume: IO[bytes]) -> bytes:
    """A .nii.gz of `mask` (depth, height, width) on the grid of the volume in the file `volume`.

    Its axes are stored in the order and direction of the volume's, and all that the volume's
    header says of their place is repeated: whatever puts the volume somewhere puts the mask there.
    Raises `UnreadableSampleError`.
    """
    with _plain(volume) as stream:
        found = _guarded(lambda: _header(stream))
    if mask.shape != found.grid.size or mask.dtype != np.uint8:
        raise ValueError(
            f"mask must be uint8 of shape {found.grid.size}, as its volume. Got {mask.dtype} of "
            f"shape {mask.shape} instead."
        )
    stored = found.turned_back(mask.transpose(2, 1, 0))
    header = type(found.fields)()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(stored.shape)
    for name in _PLACED:
        header[name] = found.fields[name]
    header["scl_slope"], header["scl_inter"] = 1, 0
    head = header.template_dtype.itemsize
    header["vox_offset"] = head + 4
    # After the header four bytes say whether extensions follow: none does.
    return gzip.compress(header.binaryblock + bytes(4) + stored.tobytes(order="F"), mtime=0)


def read_grid(file: IO[bytes]) -> VoxelGrid:
    """The grid of the volume in `file`, from its header. Raises `UnreadableSampleError`."""
    with _plain(file) as stream:
        return _guarded(lambda: _header(stream)).grid


def decode_volume(content: bytes) -> Array:
    """The voxels in a file's bytes, (depth, height, width, c): uint8 where they are stored so,
    otherwise float32, scaled as the header says. Raises `UnreadableSampleError`.
    """
    values = volume_values(content)
    if values.dtype == np.uint8:
        return values
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise UnreadableSampleError("has values that are NaN or infinite")
    return values


def volume_values(content: bytes) -> Array:
    """As `decode_volume`, but in the stored type; in float64 where the header scales them."""

    def read() -> Array:
        with _plain(BytesIO(content)) as stream:
            header = _header(stream)
            count = math.prod(header.shape)
            # What the header took has been read: the rest of the way to the voxels comes first.
            _taken(stream, header.offset - stream.tell())
            held = _taken(stream, count * header.dtype.itemsize)
            stream.read(1)  # at a gzip file's end its checksum is compared
        raw: Array = np.frombuffer(held, header.dtype).reshape(header.shape, order="F")
        if (header.slope, header.inter) != (1.0, 0.0):
            raw = raw.astype(np.float64) * header.slope + header.inter
        volume = header.turned(raw)
        volume = volume.reshape(*volume.shape[:3], header.grid.in_channels)
        found: Array = np.ascontiguousarray(volume.transpose(2, 1, 0, 3))
        return found.astype(found.dtype.newbyteorder("="), copy=False)

    return _guarded(read)


def _guarded(read: Callable[[], _Read]) -> _Read:
    """What `read` gives; whatever is met in a damaged file is one error with its reason."""
    try:
        return read()
    except UnreadableSampleError:
        raise
    except Exception as error:
        raise UnreadableSampleError(f"damaged NIfTI: {error}") from error


def _plain(file: IO[bytes]) -> IO[bytes]:
    """`file`, decompressed where it is gzipped."""
    gzipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return GzipFile(fileobj=file) if gzipped else file  # type: ignore[return-value]


def _taken(stream: IO[bytes], num_bytes: int) -> bytes:
    found = stream.read(num_bytes)
    if len(found) < num_bytes:
        raise UnreadableSampleError(f"ends early: {len(found):,} of {num_bytes:,} bytes are there")
    return found


def _header(stream: IO[bytes]) -> _Header:
    from nibabel.affines import voxel_sizes
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.orientations import (
        apply_orientation,
        inv_ornt_aff,
        io_orientation,
        ornt_transform,
    )

    head = stream.read(4)
    lengths = {int.from_bytes(head, order) for order in ("little", "big")} & set(_HEADERS)
    if len(head) < 4 or not lengths:
        raise UnreadableSampleError("is no NIfTI file")
    length = lengths.pop()
    head += _taken(stream, length - 4)
    at, single, pair = _HEADERS[length]
    magic = head[at : at + 4]
    if magic != single:
        said = "is the header of a pair .hdr/.img" if magic == pair else "is no NIfTI file"
        raise UnreadableSampleError(f"{said}; save it as one .nii")
    # Without nibabel's checks, which mend what they can and print a line for each.
    header = (Nifti1Header if length == 348 else Nifti2Header)(head, check=False)

    shape = tuple(int(side) for side in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise UnreadableSampleError(f"is no volume: its shape is {_times(shape)}")
    channels = shape[3] if len(shape) == 4 else 1
    if channels > _MOST_CHANNELS:
        raise UnreadableSampleError(
            f"is a series of {channels} volumes; save each as a file of its own"
        )
    dtype = header.get_data_dtype()
    if dtype.kind not in "uif":
        raise UnreadableSampleError(f"its voxels are {dtype}; they must be numbers")
    offset = int(header["vox_offset"])
    num_bytes = math.prod(shape) * dtype.itemsize
    if num_bytes > MAX_BYTES:
        raise UnreadableSampleError(
            f"too large: its {_times(shape)} voxels need {num_bytes:,} bytes, the limit is "
            f"{MAX_BYTES:,}"
        )
    if not length <= offset <= MAX_BYTES:
        raise UnreadableSampleError(f"its voxels begin at byte {offset}, which cannot be")
    slope, inter = header.get_slope_inter()

    affine = np.asarray(header.get_best_affine(), np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) == 0:
        raise UnreadableSampleError("its header does not say where its voxels lie")
    affine[:3] *= _MM.get(header.get_xyzt_units()[0], 1.0)
    orientation = io_orientation(affine)
    sides, spacing = np.zeros(3, int), np.zeros(3)
    sides[orientation[:, 0].astype(int)] = shape[:3]
    spacing[orientation[:, 0].astype(int)] = voxel_sizes(affine)
    grid = VoxelGrid(
        tuple(int(side) for side in sides[::-1]),
        channels,
        tuple(float(mm) for mm in spacing[::-1]),
        affine @ inv_ornt_aff(orientation, shape[:3]),
    )

    def turned(raw: Array) -> Array:
        found: Array = apply_orientation(raw, orientation)
        return found

    def turned_back(canonical: Array) -> Array:
        as_they_are = [[axis, 1] for axis in range(3)]
        found: Array = apply_orientation(canonical, ornt_transform(as_they_are, orientation))
        return found

    one = slope is None
    return _Header(
        shape,
        dtype,
        offset,
        1.0 if one else float(slope),
        0.0 if one else float(inter),
        grid,
        turned,
        turned_back,
        header,
    )


def _times(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))
