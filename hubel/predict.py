"""`predict`: what a network says of single files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from hubel.annotate import Annotated
from hubel.annotate.tiles import Tile, merge_boxes, merge_masks, tiles
from hubel.data.loader import samples_at_once
from hubel.data.nifti_file import check_nibabel, decode_volume, is_nifti
from hubel.data.npy import open_npy
from hubel.data.pictures import SUFFIXES, convert_channels, decode_picture
from hubel.data.source import Array, UnreadableSampleError
from hubel.engine import Engine
from hubel.errors import UserError
from hubel.inference import Trained
from hubel.maps import likeliest, resized
from hubel.shapes import format_shape
from hubel.tasks import Answer, AnswersBox, AnswersBoxes, AnswersClass, AnswersMask

__all__ = ["Found", "Prediction", "Reading", "find_files", "predict_arrays", "predict_files"]

_UNREADABLE = (UnreadableSampleError, OSError, ValueError, EOFError, MemoryError)


@dataclass(frozen=True)
class Found:
    """An object: its class, its score in [0, 1], its left, top, right, bottom in pixels."""

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Prediction:
    """What the network says of one file; `error` says why it says nothing.

    Attributes
    ----------
    path: of the file.
    size: of what is in it, (height, width) or (depth, height, width).
    label, probability, probabilities: of a network that gives a sample one class.
    box: what a localizer finds: left, top, right, bottom in pixels of the file's picture.
    objects: what a detector finds, the surest first.
    shares: of a segmenter's classes, how much of the sample each has.
    mask: a segmenter's class of each pixel, uint8 of the shape `size`.
    """

    path: str
    size: tuple[int, ...] | None = None
    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    box: tuple[float, float, float, float] | None = None
    objects: tuple[Found, ...] | None = None
    shares: dict[str, float] | None = None
    mask: npt.NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary of what there is; without the mask."""
        facts = asdict(replace(self, mask=None))
        others = {"mask", "size", "objects", "shares"}
        if self.objects is not None or self.shares is not None:
            others |= {"label", "probability", "probabilities", "box"}
        return {k: v for k, v in facts.items() if k not in others or v not in (None, {})}

    def annotated(self, classes: Sequence[str]) -> Annotated:
        """Its boxes and mask, to be drawn or written; it must be of a readable file."""
        assert self.size is not None  # noqa: S101
        found = list(self.objects or ())
        if self.box is not None:
            found = [Found(self.label or "", self.probability or 0.0, self.box)]
        rows = [[classes.index(f.label), f.score, *f.box] for f in found]
        boxes = None if self.mask is not None else np.array(rows, np.float64).reshape(-1, 6)
        return Annotated(Path(self.path), self.size, boxes=boxes, mask=self.mask)


def find_files(paths: Sequence[str | Path]) -> list[Path]:
    """The picture and volume files that `paths` name; folders are searched, sorted.

    Raises `UserError` for a path that does not exist or a folder without either.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                p
                for p in path.rglob("*")
                if (p.suffix.lower() in (*SUFFIXES, ".npy") or is_nifti(p))
                and p.is_file()
                and not any(part.startswith(".") for part in p.relative_to(path).parts)
            )
            if not inside:
                raise UserError(
                    f"PATH '{path}' is a folder without pictures or volumes; name another"
                )
            found += inside
        elif path.is_file():
            found.append(path)
        elif path.exists():
            raise UserError(f"PATH '{path}' is not a regular file; name a picture or a folder")
        else:
            raise UserError(f"PATH '{path}' does not exist; check the spelling")
    return found


@dataclass(frozen=True)
class Reading:
    """How files are read and answers taken.

    Attributes
    ----------
    min_score: objects below it are left out.
    tile: sides of the parts that pictures are cut into, in pixels of the file; None: whole.
    overlap: pixels that neighbouring parts have in common.
    """

    min_score: float = 0.0
    tile: tuple[int, ...] | None = None
    overlap: int = 0


def predict_files(
    trained: Trained, paths: Sequence[str | Path], engine: Engine, reading: Reading | None = None
) -> Iterator[Prediction]:
    """A prediction for each file, in order; pictures by any decoder, volumes as .npy or NIfTI.

    Raises `UserError` for tiles of another number of sides than the data has, or with a task
    whose answer is of the whole sample; and for NIfTI where nibabel is not installed.
    """
    reading = reading or Reading()
    _check_task(trained)
    files = find_files(paths)
    nifti = next(filter(is_nifti, files), None)
    if nifti is not None:
        check_nibabel(f"PATH '{nifti}'")
    if reading.tile is not None:
        _check_tiles(trained, reading.tile)
        yield from (_in_tiles(trained, path, engine, reading) for path in files)
        return
    at_once = samples_at_once(trained.preprocess.size)
    for start in range(0, len(files), at_once):
        arrays: list[Array] = []
        blank: list[Prediction] = []
        for path in files[start : start + at_once]:
            try:
                pixels = _read(path, trained)
                arrays.append(trained.preprocess.resize(pixels))
                blank.append(Prediction(str(path), pixels.shape[:-1]))
            except _UNREADABLE as error:
                blank.append(Prediction(str(path), error=str(error)))
        readable = [p for p in blank if p.error is None]
        filled: Iterator[Prediction] = iter(())
        if arrays:
            output = predict_arrays(trained, arrays, engine)
            read = _READERS[trained.task.answer]
            filled = iter(read(trained, output, readable, reading.min_score))
        yield from (p if p.error is not None else next(filled) for p in blank)


def _check_task(trained: Trained) -> None:
    """Poses are no files of pixels."""
    if trained.task.answer == "pose":
        raise UserError(
            f"--task {trained.task.name} scores poses: hubel dock PROTEIN --poses FILE --scorer RUN"
        )


def _check_tiles(trained: Trained, tile: tuple[int, ...]) -> None:
    if trained.task.answer not in ("boxes", "mask"):
        raise UserError(
            f"--tile cuts pictures into parts, and --task {trained.task.name} has one answer for "
            f"the whole; leave it out"
        )
    if len(tile) != len(trained.preprocess.size):
        raise UserError(
            f"--tile {format_shape(*tile)} has {len(tile)} sides, the network's input has "
            f"{len(trained.preprocess.size)}; give as many"
        )


def _in_tiles(trained: Trained, path: Path, engine: Engine, reading: Reading) -> Prediction:
    """One file by parts, each brought to the network's size."""
    assert reading.tile is not None  # noqa: S101 — asked only then
    try:
        pixels = _read(path, trained)
    except _UNREADABLE as error:
        return Prediction(str(path), error=str(error))
    size = pixels.shape[:-1]
    blank = Prediction(str(path), size)
    parts = tiles(size, reading.tile, reading.overlap)
    answers = _tile_outputs(trained, pixels, parts, engine)
    if trained.task.answer == "mask":
        task = cast(AnswersMask, trained.task)
        scores = ((t, resized(task.maps(o[None]), t.size)[0].numpy()) for t, o in answers)
        return _masked(trained, blank, merge_masks(scores, size))
    found = []
    for tile, output in answers:
        rows = cast(AnswersBoxes, trained.task).boxes(output[None])[0].double().numpy()
        rows = rows[rows[:, 1] >= reading.min_score]  # a merged box is as large as all its parts
        sides = np.tile(tile.size[::-1], 2)
        found.append((tile, np.hstack([rows[:, :2], rows[:, 2:] * sides])))
    merged = merge_boxes(found, size)
    merged = merged[np.argsort(-merged[:, 1], kind="stable")]
    return _with_objects(trained, blank, merged.tolist(), reading.min_score)


def _tile_outputs(
    trained: Trained, pixels: Array, parts: Sequence[Tile], engine: Engine
) -> Iterator[tuple[Tile, torch.Tensor]]:
    """The network's output for each part, a few at a time."""
    at_once = samples_at_once(trained.preprocess.size)
    for start in range(0, len(parts), at_once):
        some = parts[start : start + at_once]
        arrays = [trained.preprocess.resize(pixels[tile.slices]) for tile in some]
        yield from zip(some, predict_arrays(trained, arrays, engine), strict=True)


def predict_arrays(trained: Trained, arrays: Sequence[Array], engine: Engine) -> torch.Tensor:
    """Outputs (n, …) for samples already at the network's size, on the CPU."""
    input = trained.preprocess(torch.from_numpy(np.stack(arrays)))
    with torch.inference_mode(), engine.autocast(), engine.products():
        output: torch.Tensor = trained.model(engine.input(input))
    return output.float().cpu()


def _classes(
    trained: Trained, output: torch.Tensor, blank: list[Prediction], min_score: float
) -> list[Prediction]:
    rows = cast(AnswersClass, trained.task).probabilities(output)
    return [
        replace(
            p,
            label=trained.classes[int(row.argmax())],
            probability=float(row.max()),
            probabilities=dict(zip(trained.classes, row.tolist(), strict=True)),
        )
        for p, row in zip(blank, rows, strict=True)
    ]


def _boxes(
    trained: Trained, output: torch.Tensor, blank: list[Prediction], min_score: float
) -> list[Prediction]:
    corners = cast(AnswersBox, trained.task).box(output)
    return [
        replace(p, box=_in_pixels(shares, p))
        for p, shares in zip(
            _classes(trained, output, blank, min_score), corners.tolist(), strict=True
        )
    ]


def _objects(
    trained: Trained, output: torch.Tensor, blank: list[Prediction], min_score: float
) -> list[Prediction]:
    found = cast(AnswersBoxes, trained.task).boxes(output)
    return [
        _with_objects(
            trained, p, [[*r[:2], *_in_pixels(r[2:], p)] for r in rows.tolist()], min_score
        )
        for p, rows in zip(blank, found, strict=True)
    ]


def _with_objects(
    trained: Trained, p: Prediction, rows: Sequence[Sequence[float]], min_score: float
) -> Prediction:
    """`rows` are class, score, left, top, right, bottom in pixels, the surest first."""
    return replace(
        p,
        objects=tuple(
            Found(trained.classes[int(number)], score, (left, top, right, bottom))
            for number, score, left, top, right, bottom in rows
            if score >= min_score
        ),
    )


def _masks(
    trained: Trained, output: torch.Tensor, blank: list[Prediction], min_score: float
) -> Iterator[Prediction]:
    # One by one: masks of the files' own sizes are larger than all that they are made from.
    maps = cast(AnswersMask, trained.task).maps(output)
    for p, of_one in zip(blank, maps, strict=True):
        yield _masked(trained, p, likeliest(of_one, p.size or ()))


def _masked(trained: Trained, p: Prediction, mask: npt.NDArray[np.uint8]) -> Prediction:
    counts = np.bincount(mask.ravel(), minlength=len(trained.classes)) / mask.size
    return replace(p, mask=mask, shares=dict(zip(trained.classes, counts.tolist(), strict=True)))


def _in_pixels(shares: Sequence[float], p: Prediction) -> tuple[float, float, float, float]:
    """Corners as shares of the sides in pixels of the file's picture."""
    assert p.size is not None  # noqa: S101 — it was read
    height, width = p.size
    left, top, right, bottom = shares
    return left * width, top * height, right * width, bottom * height


_READERS: dict[
    Answer, Callable[[Trained, torch.Tensor, list[Prediction], float], Iterable[Prediction]]
] = {"class": _classes, "box": _boxes, "boxes": _objects, "mask": _masks}


def _read(path: Path, trained: Trained) -> Array:
    """One file's pixels (*spatial, c) with the network's channels."""
    if is_nifti(path):
        return _read_nifti(path, trained)
    if path.suffix.lower() != ".npy":
        if len(trained.preprocess.size) != 2:
            raise ValueError("a picture, but the network takes volumes: give .npy or NIfTI files")
        return decode_picture(path.read_bytes(), trained.preprocess.in_channels)
    values = open_npy(path)
    dims = len(trained.preprocess.size)
    if values.ndim == dims:
        values = values[..., None]
    channels = trained.preprocess.in_channels
    if values.ndim != dims + 1 or values.shape[-1] != channels:
        raise ValueError(
            f"the array is {values.shape}, the network takes {dims} axes with {channels} "
            f"channel{'s' if channels > 1 else ''} last"
        )
    if (values.dtype == np.uint8) != (trained.preprocess.scale == 255.0):
        wanted = "uint8" if trained.preprocess.scale == 255.0 else "float"
        raise ValueError(f"the array is {values.dtype}, the network was trained on {wanted} values")
    if not np.isfinite(values).all():
        raise ValueError("the array holds values that are not finite")
    return values if values.dtype == np.uint8 else values.astype(np.float32)


def _read_nifti(path: Path, trained: Trained) -> Array:
    """As a training set of such files gives it: uint8 among floats is brought to floats."""
    if len(trained.preprocess.size) != 3:
        raise ValueError("a volume, but the network takes pictures")
    values = decode_volume(path.read_bytes())
    channels = trained.preprocess.in_channels
    if values.shape[-1] not in (1, channels):
        raise ValueError(
            f"the volume has {values.shape[-1]} values a voxel, the network takes {channels}"
        )
    if trained.preprocess.scale != 255.0:
        values = values.astype(np.float32, copy=False)
    elif values.dtype != np.uint8:
        raise ValueError(
            "the volume is not stored as uint8, the network was trained on uint8 values"
        )
    return convert_channels(values, channels)
