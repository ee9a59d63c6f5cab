"""From a trained network to its outputs, and from a run folder to its trained network."""

import hashlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
from torch import nn

from hubel.data.loader import Batch
from hubel.data.preprocess import Preprocess
from hubel.engine import Engine
from hubel.errors import UserError
from hubel.models import Model, ModelSpec
from hubel.network import network_of
from hubel.python_file import file_sha256, is_own_file
from hubel.runs import RunFolder, write_atomic
from hubel.tasks import TASKS, Task

__all__ = [
    "Kept",
    "Trained",
    "Validation",
    "batch_outputs",
    "load_trained",
    "named_again",
    "outputs",
    "read_train_digests",
    "read_validation",
    "save_trained",
    "tensors_from_bytes",
    "write_train_digests",
    "write_validation",
]


Kept = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""From a batch's outputs and targets to what is kept of them, one row a sample each."""


@torch.inference_mode()
def batch_outputs(
    model: nn.Module, batches: Iterable[Batch], engine: Engine
) -> Iterator[tuple[torch.Tensor, Batch]]:
    """Of each batch the outputs (b, …) float32, where the batch is, and the batch.

    The network is in evaluation mode meanwhile and in its former mode afterwards.
    """
    training = model.training
    model.eval()
    try:
        for batch in batches:
            with engine.autocast(), engine.products():
                output = model(engine.input(batch.input))
            yield output.float(), batch
    finally:
        model.train(training)


@torch.inference_mode()
def outputs(
    model: nn.Module, batches: Iterable[Batch], engine: Engine, kept: Kept
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is `kept` of the outputs and of the targets of all batches, and the ids (n,), on the
    CPU.
    """
    columns: tuple[list[torch.Tensor], ...] = ([], [], [])
    for output, batch in batch_outputs(model, batches, engine):
        values = (*kept(output, batch.target), batch.ids)
        for column, value in zip(columns, values, strict=True):
            column.append(value.cpu())
    output, target, ids = (torch.cat(column) for column in columns)
    return output, target, ids


@dataclass(frozen=True)
class Trained:
    """A finished network with everything that its use needs."""

    model: Model
    spec: ModelSpec
    task: Task
    classes: tuple[str, ...]
    preprocess: Preprocess


def tensors_from_bytes(content: bytes, what: str) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises `UserError` naming `what` if it is damaged."""
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise UserError(
            f"'{what}' is not a whole safetensors file ({error}); restore it from a copy"
        ) from None


def save_trained(run: RunFolder, model: nn.Module, spec: ModelSpec) -> None:
    """Write model.safetensors, the network's specification in its header."""
    if not run.writes:
        return
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    header = {"hubel": json.dumps(asdict(spec))}
    write_atomic(run.path / "model.safetensors", safetensors.torch.save(tensors, header))


def write_train_digests(run: RunFolder, digests: npt.NDArray[np.bytes_]) -> None:
    """Keep the digests of the training samples (hex, S32), to know a copy wherever it turns up."""
    if not run.writes:
        return
    raw = np.frombuffer(bytes.fromhex(b"".join(digests.tolist()).decode()), np.uint8)
    tensors = {"blake2b_128": torch.from_numpy(raw.reshape(len(digests), -1).copy())}
    write_atomic(run.path / "train_digests.safetensors", safetensors.torch.save(tensors))


def read_train_digests(run: RunFolder) -> npt.NDArray[np.bytes_]:
    """What `write_train_digests` kept: (n,) hex bytes."""
    path = run.path / "train_digests.safetensors"
    if not path.exists():
        return np.empty(0, "S32")
    raw = tensors_from_bytes(path.read_bytes(), str(path))["blake2b_128"].numpy()
    return np.array([row.tobytes().hex().encode() for row in raw], "S32")


@dataclass(frozen=True)
class Validation:
    """What a finished network said of the validation split, in the split's order.

    Attributes
    ----------
    output, target: (n, …), what the task `kept`.
    units: int64 (n,), the number of each sample's group: what stands or falls together.
    """

    output: torch.Tensor
    target: torch.Tensor
    units: torch.Tensor


def write_validation(run: RunFolder, validation: Validation) -> None:
    """Keep it, so that trainings on one split can be compared sample by sample."""
    if run.writes:
        tensors = {name: t.contiguous() for name, t in vars(validation).items()}
        write_atomic(run.path / "validation.safetensors", safetensors.torch.save(tensors))


def read_validation(path: Path) -> Validation:
    """What `write_validation` kept in the file at `path`."""
    return Validation(**tensors_from_bytes(path.read_bytes(), str(path)))


def _read_model(run: RunFolder) -> tuple[bytes, dict[str, Any]]:
    path = run.path / "model.safetensors"
    try:
        content = path.read_bytes()
        with safetensors.safe_open(path, "pt") as file:
            return content, json.loads(file.metadata()["hubel"])
    except FileNotFoundError:
        raise UserError(
            f"the run '{run.path}' has no finished network (model.safetensors); "
            f"hubel fit --resume {run.path} goes on with it"
        ) from None
    except (OSError, safetensors.SafetensorError, TypeError, KeyError, ValueError) as error:
        raise UserError(f"'{path}' is damaged ({error}); restore it from a copy") from None


def named_again(run: RunFolder, name: str, model: str | None) -> str:
    """The name to build the network `name` of `run` by, `model` if it is from a person's file.

    A run may come from anybody, so a file that it names is never executed: the person must give
    `model`, and it must be what the run was trained with. Raises `UserError` otherwise.
    """
    if not is_own_file(name):
        if model not in (None, name):
            raise UserError(
                f"--model '{model}': the run '{run.path}' was trained with '{name}', which it can "
                f"build by itself; leave --model out"
            )
        return name
    advice = f"give --model {shlex.quote(name)}"
    if model is None:
        raise UserError(
            f"the run '{run.path}' was trained with '{name}', and no run may have a file "
            f"executed: if it is your own, {advice}, or for cost and draw that in place of the run"
        )
    if not is_own_file(model) or model.rpartition(":")[2] != name.rpartition(":")[2]:
        raise UserError(
            f"--model '{model}': the run '{run.path}' was trained with '{name}'; {advice}"
        )
    trained_with = run.read_json("run.json").get("model_file_sha256")
    if trained_with is not None and file_sha256(model) != trained_with:
        raise UserError(
            f"--model '{model}': the file is not as it was when the run '{run.path}' was trained "
            f"(sha256 {str(trained_with)[:12]}…); restore it, or train again"
        )
    return model


def load_trained(run: RunFolder, model: str | None = None) -> Trained:
    """The finished network of `run`, on the CPU, in evaluation mode.

    `model` is the `file.py:NAME` that the network is from, if it is from a person's own file.
    """
    facts = run.read_json("run.json")
    content, spec_json = _read_model(run)
    checksum = facts.get("model_sha256")
    path = str(run.path / "model.safetensors")
    _verify(content, checksum, path)
    try:
        spec = ModelSpec(**{**spec_json, "input_size": tuple(spec_json["input_size"])})
    except (TypeError, KeyError) as error:
        raise UserError(f"'{path}' has no specification that hubel knows ({error})") from None
    task = TASKS[str(facts["task"])]
    _, zoo = network_of(replace(spec, name=named_again(run, spec.name, model)))
    classes, preprocess = _labels_and_input(run, spec, task)
    network = task.network(zoo, len(classes), spec.input_shape)
    tensors = tensors_from_bytes(content, path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"'{path}' does not fit its own description: {error}") from None
    return Trained(network.eval(), spec, task, classes, preprocess)


def _labels_and_input(
    run: RunFolder, spec: ModelSpec, task: Task
) -> tuple[tuple[str, ...], Preprocess]:
    """The run's classes and preprocess. Raises `UserError` where they are not the network's."""
    classes = run.read_json("classes.json")
    outputs = task.num_outputs(len(classes))
    fits = outputs == spec.num_classes and len({str(c) for c in classes}) == len(classes)
    if not fits or not all(isinstance(c, str) for c in classes):
        raise UserError(
            f"'{run.path / 'classes.json'}' does not hold the different names of the classes of a "
            f"network with {spec.num_classes} outputs; restore it from a copy"
        )
    try:
        preprocess = Preprocess.from_json(run.read_json("preprocess.json"))
        numbers = np.array([preprocess.mean, preprocess.std], dtype=np.float64)
        fits = (
            preprocess.size == spec.input_size
            and _draws(preprocess, spec)
            and numbers.shape == (2, spec.in_channels)
            and bool(np.isfinite(numbers).all() and (numbers[1] > 0).all())
        )
    except (TypeError, ValueError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        fits = False
    if not fits:
        raise UserError(
            f"'{run.path / 'preprocess.json'}' does not fit the network's input "
            f"{spec.in_channels} × {spec.input_size}: restore it from a copy"
        )
    return tuple(classes), preprocess


def _draws(preprocess: Preprocess, spec: ModelSpec) -> bool:
    """Whether atoms become what the network takes, where they do."""
    drawing = preprocess.drawing
    if drawing is None:
        return True
    return (drawing.num_channels, drawing.size) == (spec.in_channels, spec.input_size)


def _verify(content: bytes, checksum: str | None, path: str) -> None:
    if checksum is not None and hashlib.sha256(content).hexdigest() != checksum:
        raise UserError(
            f"'{path}' does not have the checksum recorded in run.json: it was changed or "
            f"damaged; restore it from a copy, or write it again by hubel fit --resume"
        )
