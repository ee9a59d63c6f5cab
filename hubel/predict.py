"""`predict`: classes and probabilities of single files."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hubel.data.npy import open_npy
from hubel.data.pictures import SUFFIXES, decode_picture
from hubel.data.source import Array, UnreadableSampleError
from hubel.engine import Engine
from hubel.errors import UserError
from hubel.inference import Trained

__all__ = ["Prediction", "find_files", "predict_arrays", "predict_files"]

_BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """What the network says of one file; `error` says why it says nothing.

    `box` is what a localizer finds: left, top, right, bottom in pixels of the file's picture.
    """

    path: str
    label: str | None
    probability: float | None
    probabilities: dict[str, float]
    error: str | None = None
    box: tuple[float, float, float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


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
    trained: Trained, paths: Sequence[str | Path], engine: Engine
) -> Iterator[Prediction]:
    """A prediction for each file, in order; pictures by any decoder, volumes as .npy."""
    files = find_files(paths)
    for start in range(0, len(files), _BATCH):
        arrays: list[Array] = []
        sizes: list[tuple[int, ...]] = []
        errors: dict[Path, str] = {}
        batch = files[start : start + _BATCH]
        for path in batch:
            try:
                pixels = _read(path, trained)
                arrays.append(trained.preprocess.resize(pixels))
                sizes.append(pixels.shape[:-1])
            except (UnreadableSampleError, OSError, ValueError, EOFError, MemoryError) as error:
                errors[path] = str(error)
        output = predict_arrays(trained, arrays, engine) if arrays else torch.zeros(0, 0)
        rows = iter(
            zip(trained.task.probabilities(output), _boxes(trained, output, sizes), strict=True)
        )
        for path in batch:
            if path in errors:
                yield Prediction(str(path), None, None, {}, errors[path])
                continue
            probabilities, box = next(rows)
            best = int(probabilities.argmax())
            yield Prediction(
                str(path),
                trained.classes[best],
                float(probabilities[best]),
                dict(zip(trained.classes, probabilities.tolist(), strict=True)),
                box=box,
            )


def predict_arrays(trained: Trained, arrays: Sequence[Array], engine: Engine) -> torch.Tensor:
    """Outputs (n, …) for samples already at the network's size, on the CPU."""
    input = trained.preprocess(torch.from_numpy(np.stack(arrays)))
    with torch.inference_mode(), engine.autocast(), engine.products():
        output: torch.Tensor = trained.model(engine.input(input))
    return output.float().cpu()


def _boxes(
    trained: Trained, output: torch.Tensor, sizes: Sequence[tuple[int, ...]]
) -> list[tuple[float, float, float, float] | None]:
    """Of each output, in pixels of the pictures of these sizes; None where the task has none."""
    found: list[tuple[float, float, float, float] | None] = [None] * len(sizes)
    if trained.task.labels != "boxes":
        return found
    for i, (height, width) in enumerate(sizes):
        left, top, right, bottom = output[i, -4:].clamp(0, 1).tolist()
        found[i] = left * width, top * height, right * width, bottom * height
    return found


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
