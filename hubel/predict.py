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
    """What the network says of one file; `error` says why it says nothing."""

    path: str
    label: str | None
    probability: float | None
    probabilities: dict[str, float]
    error: str | None = None

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
        errors: dict[Path, str] = {}
        batch = files[start : start + _BATCH]
        for path in batch:
            try:
                arrays.append(trained.preprocess.resize(_read(path, trained)))
            except (UnreadableSampleError, OSError, ValueError, EOFError, MemoryError) as error:
                errors[path] = str(error)
        rows = iter(predict_arrays(trained, arrays, engine)) if arrays else iter(())
        for path in batch:
            if path in errors:
                yield Prediction(str(path), None, None, {}, errors[path])
                continue
            probabilities = next(rows)
            best = int(probabilities.argmax())
            yield Prediction(
                str(path),
                trained.classes[best],
                float(probabilities[best]),
                dict(zip(trained.classes, probabilities.tolist(), strict=True)),
            )


def predict_arrays(trained: Trained, arrays: Sequence[Array], engine: Engine) -> torch.Tensor:
    """Probabilities (n, num_classes) of samples already at the network's size."""
    input = trained.preprocess(torch.from_numpy(np.stack(arrays)))
    with torch.inference_mode(), engine.autocast(), engine.products():
        output = trained.model(engine.input(input))
    return trained.task.probabilities(output).cpu()


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
