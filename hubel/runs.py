"""The run folder: its layout, atomic writes, checksums and lock.

    run/
      run.json           what this is: task, model, environment, command
      config.json        the settings of the fit
      classes.json       class names, in the order of the network's outputs
      preprocess.json    from stored pixels to network input
      pretrained.json    what the weights began from and its sha256 (with --pretrained)
      data.json          the data's fingerprint, counts, problems, copies across splits
      split.json         the sample ids of each split
      train_digests.safetensors  of the training samples, to know a copy wherever it turns up
      difficulty.safetensors  of the training samples to a proxy (with --hard-share)
      log.jsonl          one line an epoch
      profile.json       where the time went (with --profile)
      untrained.json     loss, and class probabilities, before the first step
      checkpoints/       r00-step-0000000120[-epoch]/ (safetensors, JSON, manifest), latest
      best/              the weights of the best epochs, each with its manifest
      model.safetensors  the finished network
      validation.safetensors  its outputs on the validation split, and the targets
      result.json        what `hubel fit --json` prints
      evaluation/        one folder a split: evaluation.json, report.html, figures/

Everything is JSON, JSON lines, safetensors or HTML: readable without hubel, and without
pickle. A file is replaced by rename, never written over, so that a crash or a full disk
leaves the old one whole.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from hubel.errors import UserError

__all__ = [
    "RunFolder",
    "RunInUseError",
    "WatchedRun",
    "folder_intact",
    "write_atomic",
    "write_checked_folder",
]

_MANIFEST = "manifest.json"

# What the other verbs rely on in each file: its type and keys.
_CONTENT: dict[str, tuple[type, tuple[str, ...]]] = {
    "run.json": (dict, ("task", "model", "params", "engine", "seed", "custom_transform",
                        "created", "command", "environment")),
    "config.json": (dict, ("data", "model", "seed")),
    "classes.json": (list, ()),
    "preprocess.json": (dict, ("size", "mean", "std", "scale")),
    "data.json": (dict, ("path", "format", "fingerprint", "splits")),
    "split.json": (dict, ("train", "val", "test")),
    "untrained.json": (dict, ("loss", "expected_loss")),
    "result.json": (dict, ("run", "model", "epochs", "seconds", "images_per_s", "metrics")),
}  # fmt: skip


def _fsync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable; some systems cannot, and need not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content` so that a reader sees the old file or the new one, whole.

    `UserError` if something stands there that is no plain file: a device or a pipe would be
    replaced, not written to.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"'{path}' is not a plain file and cannot be replaced; give another name")
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write_durably(temporary, data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def write_checked_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` as a new `folder` with a manifest of their sha256, all or nothing.

    An older folder of that name is replaced. Raises `OSError` when the disk is full, before
    anything is written, with everything as it was.
    """
    needed = sum(len(content) for content in files.values()) + (64 << 10)
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise OSError(28, f"no space: {needed:,} bytes are needed, {free:,} are free", str(folder))
    fresh = folder.with_name(f".new-{folder.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir()
        sums = {}
        for name, content in files.items():
            _write_durably(fresh / name, content)
            sums[name] = hashlib.sha256(content).hexdigest()
        _write_durably(fresh / _MANIFEST, json.dumps({"sha256": sums}, indent=1).encode())
        _fsync_folder(fresh)
        if folder.exists():
            old = folder.with_name(f".old-{folder.name}")
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
            fresh.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    _fsync_folder(folder.parent)


def folder_intact(folder: Path) -> str:
    """ "" if every file of a checked folder has the sum of its manifest, else what is wrong."""
    try:
        sums = json.loads((folder / _MANIFEST).read_text())["sha256"]
        for name, expected in sums.items():
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    return f"{name} does not have the checksum of its manifest"
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


class RunInUseError(UserError):
    """Another process holds the run."""


class RunFolder:
    """One run on disk. Opening it reads nothing; each method reads or writes one file."""

    writes = True  # False for a `WatchedRun`, of which another process keeps the files

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._made_here = False

    @classmethod
    def create(cls, path: str | Path) -> "RunFolder":
        """A new, empty run folder. Raises `UserError` where there is something already."""
        folder = cls(Path(path).expanduser())
        try:
            folder._made_here = not folder.path.exists()
            folder.path.mkdir(parents=True, exist_ok=True)
            if any(folder.path.iterdir()):
                fix = (
                    f"go on with it by --resume {folder.path}, or name another folder"
                    if folder.has("config.json")
                    else "name a new or empty folder"
                )
                raise UserError(f"--output '{folder.path}' is not empty; {fix}")
            folder.folder("checkpoints")
        except OSError as error:
            raise UserError(
                f"--output '{folder.path}' cannot be written: {error.strerror or error}; "
                f"name a folder that you may write to"
            ) from None
        return folder

    def discard(self) -> None:
        """Remove what a failed start left: all of it, and the folder if `create` made it.

        Only for a folder that `create` gave: it was empty then, so nothing in it is another's.
        """
        for child in list(self.path.iterdir()):
            if child.is_dir():
                shutil.rmtree(child, ignore_errors=True)
            else:
                child.unlink(missing_ok=True)
        if self._made_here:
            self.path.rmdir()

    def sweep(self) -> None:
        """Remove the half-written leftovers of a kill; call it with the run locked."""
        for pattern in (".new-*", ".old-*"):
            for leftover in self.path.rglob(pattern):
                shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.path.glob(".*.*"):
            if leftover.suffix[1:].isdigit():
                leftover.unlink(missing_ok=True)

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """An existing run. Raises `UserError` where there is none."""
        folder = cls(Path(path).expanduser())
        if not folder.has("config.json"):
            what = (
                "is not a run folder: there is no config.json in it"
                if folder.path.exists()
                else "does not exist"
            )
            raise UserError(f"RUN '{folder.path}' {what}; give the folder that hubel fit wrote")
        return folder

    def has(self, name: str) -> bool:
        """Whether the run holds a file or folder of that name."""
        return (self.path / name).exists()

    def folder(self, name: str) -> Path:
        """The path of a folder inside the run, made if it is not there."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def read_json(self, name: str) -> Any:
        """The content of a JSON file of the run. Raises `UserError` if it is missing or broken."""
        path = self.path / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            fix = (
                f"it is not finished, hubel fit --resume {self.path} goes on with it"
                if name == "result.json"
                else "it is not whole; restore it from a copy"
            )
            raise UserError(f"the run '{self.path}' has no {name}: {fix}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"'{path}' cannot be read: {error}; restore it from a copy") from None
        kind, keys = _CONTENT.get(name, (object, ()))
        missing = "" if isinstance(content, kind) else f"a {kind.__name__}"
        if not missing and isinstance(content, dict):
            missing = ", ".join(f"'{key}'" for key in keys if key not in content)
        if missing:
            raise UserError(
                f"'{path}' is not what hubel wrote there: {missing} is missing; "
                f"restore it from a copy"
            )
        return content

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file of the run atomically; NaN and infinity are refused."""
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomic(self.path / name, text + "\n")

    def log(self) -> list[dict[str, Any]]:
        """The rows of log.jsonl; a last line that a crash cut short is left out."""
        path = self.path / "log.jsonl"
        rows = []
        for line in path.read_text("utf-8", "replace").splitlines() if path.exists() else []:
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
        return rows

    def append_log(self, row: Mapping[str, Any]) -> None:
        """One more line of log.jsonl."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def keep_log(self, epochs: int) -> None:
        """Cut the log back to the rows of the first `epochs` epochs, as a resume needs."""
        rows = [json.dumps(row) for row in self.log() if row["epoch"] <= epochs]
        write_atomic(self.path / "log.jsonl", "".join(row + "\n" for row in rows))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process. Raises `UserError` with the PID of another holder.

        The operating system drops the lock with the process, however it ends.
        """
        lock = filelock.FileLock(self.path / ".lock")
        holder = self.path / ".holder"
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            try:
                pid = holder.read_text().strip() or "unknown"
            except OSError:
                pid = "unknown"
            raise RunInUseError(
                f"run '{self.path}' is in use by process {pid}; wait for it or stop it first"
            ) from None
        except OSError as error:
            raise UserError(
                f"run '{self.path}' cannot be written: {error.strerror or error}; "
                f"give yourself the right to write there"
            ) from None
        try:
            holder.write_text(str(os.getpid()))
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


class WatchedRun(RunFolder):
    """A run that another process writes: it is read as any other, and left alone."""

    writes = False

    def folder(self, name: str) -> Path:
        """The path of a folder inside the run."""
        return self.path / name

    def discard(self) -> None:
        """Nothing."""

    def sweep(self) -> None:
        """Nothing."""

    def write_json(self, name: str, content: Any) -> None:
        """Nothing."""

    def append_log(self, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def keep_log(self, epochs: int) -> None:
        """Nothing."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nothing: the other process holds it."""
        yield
