"""Checkpoints: everything that the next step depends on, in safetensors and JSON.

A checkpoint is a folder written whole or not at all, with the sha256 of each file, because
neither safetensors nor torch notices a flipped bit. The two newest are kept, and the newest
that lies on an epoch's border: a roll-back goes there, so that where it lands does not
depend on the clock. An old one is deleted only after the new one was read back.
"""

import contextlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from hubel.errors import UserError
from hubel.inference import tensors_from_bytes
from hubel.runs import RunFolder, folder_intact, write_atomic, write_checked_folder

__all__ = ["Checkpoint", "has_progress", "kept_states", "load_checkpoint", "save_checkpoint"]

_KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint holds.

    Attributes
    ----------
    tensors: groups of named tensors ("model", "ema", "optimizer", "generators").
    state: counters, accumulators, best-so-far, versions; JSON-ready.
    """

    tensors: dict[str, dict[str, torch.Tensor]]
    state: dict[str, Any]


def _folders(run: RunFolder) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted((run.path / "checkpoints").glob("r*-step-*"), reverse=True)


def has_progress(run: RunFolder) -> bool:
    """Whether any step of training is saved in `run`."""
    return any("-step-0000000000" not in folder.name for folder in _folders(run))


def kept_states(run: RunFolder) -> list[dict[str, Any]]:
    """The state of every checkpoint that is there and can be read."""
    states = []
    for folder in _folders(run):
        with contextlib.suppress(OSError, ValueError):
            states.append(json.loads((folder / "state.json").read_text()))
    return states


def _on_border(folder: Path) -> bool:
    return folder.name.endswith("-epoch")


def save_checkpoint(
    run: RunFolder, checkpoint: Checkpoint, *, step: int, rollbacks: int, border: bool
) -> None:
    """Write the checkpoint of `step`; `border` says that an epoch has just ended.

    After a roll-back its number leads the name, so that what was saved before, at a higher
    step, is older.
    Raises `UserError` when the disk is full; the checkpoint before is still whole then.
    """
    if not run.writes:
        return
    files = {
        f"{group}.safetensors": safetensors.torch.save(tensors)
        for group, tensors in checkpoint.tensors.items()
        if tensors
    }
    files["state.json"] = json.dumps(checkpoint.state, indent=1, allow_nan=False).encode()
    name = f"r{rollbacks:02d}-step-{step:010d}" + ("-epoch" if border else "")
    folder = run.folder("checkpoints") / name
    try:
        write_checked_folder(folder, files)
        problem = folder_intact(folder)
        if problem:
            shutil.rmtree(folder, ignore_errors=True)
            raise OSError(5, f"read back wrong: {problem}")
        write_atomic(folder.parent / "latest", name + "\n")
    except OSError as error:
        way_on = (
            f"the one before is whole: make room, then hubel fit --resume {run.path}"
            if has_progress(run)
            else "make room, then start again"
        )
        raise UserError(
            f"checkpoint '{folder}' could not be written ({error.strerror or error}); {way_on}"
        ) from None
    # What has a later name than the newest is damaged, or of a timeline that was left.
    folders = [f for f in _folders(run) if f.name <= name]
    keep = set(folders[:_KEEP]) | set([f for f in folders if _on_border(f)][:1])
    for old in _folders(run):
        if old not in keep:
            shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(run: RunFolder, *, border: bool = False) -> tuple[Checkpoint, list[str]] | None:
    """The newest whole checkpoint and notes about damaged ones; None if there never was one.

    With `border`, the newest on an epoch's border. Raises `UserError` if all are damaged.
    """
    notes: list[str] = []
    folders = [f for f in _folders(run) if _on_border(f) or not border]
    for folder in folders:
        problem = folder_intact(folder)
        if not problem:
            tensors = {
                path.stem: tensors_from_bytes(path.read_bytes(), str(path))
                for path in sorted(folder.glob("*.safetensors"))
            }
            state = json.loads((folder / "state.json").read_text())
            return Checkpoint(tensors, state), notes
        notes.append(
            f"checkpoint {folder.name} is damaged ({problem}): went back to the one before"
        )
    if folders:
        raise UserError(
            f"no checkpoint in '{run.path / 'checkpoints'}' is whole ({notes[0]}); "
            f"restore the folder from a copy or train anew"
        )
    return None
