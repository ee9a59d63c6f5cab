"""`predict`: what a network says of single files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from hubel.data.npy import open_npy
from hubel.data.pictures import SUFFIXES, decode_picture
from hubel.data.source import Array, UnreadableSampleError
from hubel.engine import Engine
from hubel.errors import UserError
from hubel.inference import Trained
from hubel.tasks import Answer, AnswersBox, AnswersBoxes, AnswersClass

__all__ = ["Found", "Prediction", "find_files", "predict_arrays", "predict_files"]

_BATCH = 64


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


def find_files(paths: Sequence[str | Path]) -> list[Path]:
    """The picture and volume files that `paths` name; folders are searched, sorted.

    Raises `UserError` for a path that does not exist or a folder without pictures.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                p
                for p in path.rglob("*")
                if p.suffix.lower() in (*SUFFIXES, ".npy")
                and p.is_file()
                and not any(part.startswith(".") for part in p.relative_to(path).parts)
            )
            if not inside:
                raise UserError(f"PATH '{path}' is a folder without pictures; name another")
            found += inside
        elif path.is_file():
            found.append(path)
        elif path.exists():
            raise UserError(f"PATH '{path}' is not a regular file; name a picture or a folder")
        else:
            raise UserError(f"PATH '{path}' does not exist; check the spelling")
    return found


def predict_files(
    trained: Trained, paths: Sequence[str | Path], engine: Engine, min_score: float = 0.0
) -> Iterator[Prediction]:
    """A prediction for each file, in order; pictures by any decoder, volumes as .npy.

    Objects below `min_score` are left out.
    """
    files = find_files(paths)
    for start in range(0, len(files), _BATCH):
        arrays: list[Array] = []
        blank: list[Prediction] = []
        for path in files[start : start + _BATCH]:
            try:
                pixels = _read(path, trained)
                arrays.append(trained.preprocess.resize(pixels))
                blank.append(Prediction(str(path), pixels.shape[:-1]))
            except (UnreadableSampleError, OSError, ValueError, EOFError, MemoryError) as error:
                blank.append(Prediction(str(path), error=str(error)))
        readable = [p for p in blank if p.error is None]
        filled: Iterator[Prediction] = iter(())
        if arrays:
            output = predict_arrays(trained, arrays, engine)
            filled = iter(_READERS[trained.task.answer](trained, output, readable, min_score))
        yield from (p if p.error is not None else next(filled) for p in blank)


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
    return [
        replace(
            p,
            objects=tuple(
                Found(trained.classes[int(row[0])], row[1], _in_pixels(row[2:], p))
                for row in rows.tolist()
                if row[1] >= min_score
            ),
        )
        for p, rows in zip(blank, cast(AnswersBoxes, trained.task).boxes(output), strict=True)
    ]


def _in_pixels(shares: Sequence[float], p: Prediction) -> tuple[float, float, float, float]:
    """Corners as shares of the sides in pixels of the file's picture."""
    assert p.size is not None  # noqa: S101 — it was read
    height, width = p.size
    left, top, right, bottom = shares
    return left * width, top * height, right * width, bottom * height


_READERS: dict[
    Answer, Callable[[Trained, torch.Tensor, list[Prediction], float], list[Prediction]]
] = {"class": _classes, "box": _boxes, "boxes": _objects}


def _read(path: Path, trained: Trained) -> Array:
    """One file's pixels (*spatial, c) with the network's channels."""
    if path.suffix.lower() != ".npy":
        if len(trained.preprocess.size) != 2:
            raise ValueError("a picture, but the network takes volumes: give .npy files")
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
