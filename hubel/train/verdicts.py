"""The choice of an engine, and the verdicts that are kept in the cache folder, one file a case."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hubel.config import FitConfig, parse_engine
from hubel.data.cache_folder import default_folder
from hubel.runs import write_atomic
from hubel.world import World

__all__ = ["Choice", "compiled_kinds", "keep_verdict", "kept_verdicts", "verdict_key"]


@dataclass(frozen=True)
class Choice:
    """The engine of a training and how it was chosen; "engine_choice" in run.json.

    Attributes
    ----------
    engine: as --engine takes it.
    how: "asked for", "measured", "measured before" or "not measured: …".
    speedup: against float32 in contiguous order, where that was measured.
    samples: of the step that was timed.
    sample_s: a sample's time in the first step, from which the training's was told.
    seconds: that the measurement took, when it was made.
    candidates: one row for each, as `Measured.to_json`.
    """

    engine: str
    how: str
    speedup: float | None = None
    samples: int = 0
    sample_s: float = 0.0
    seconds: float = 0.0
    candidates: tuple[dict[str, Any], ...] = ()

    def sentence(self) -> str:
        """The line that a person sees."""
        if self.how == "asked for":
            return ""
        words = f"engine: {self.engine.replace(',', ', ')}"
        if self.speedup is not None:
            words += f": {self.speedup:.1f}× fp32"
        return words + ("" if self.how == "measured" else f" ({self.how})")

    def discarded(self) -> list[str]:
        """A line for each candidate that is wrong or failed."""
        return [
            f"engine: {row['engine']} is left out, {row['verdict']}"
            for row in self.candidates
            if row["verdict"].startswith(("wrong", "failed"))
        ]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "candidates": list(self.candidates)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Choice":
        """What `to_json` gave. Raises `ValueError`, `KeyError` or `TypeError` for else."""
        speedup, rows = content["speedup"], tuple(dict(row) for row in content["candidates"])
        if not all(isinstance(row["verdict"] + row["engine"], str) for row in rows):
            raise TypeError("a verdict is a text")
        return cls(
            parse_engine(content["engine"]),
            str(content["how"]),
            None if speedup is None else float(speedup),
            int(content["samples"]),
            float(content["sample_s"]),
            float(content["seconds"]),
            rows,
        )


def compiled_kinds(device: torch.device) -> tuple[str, ...]:
    """The ways to compile a step, the one to try first in front."""
    return ("graphs", "compiled") if device.type == "cuda" else ("compiled",)


def verdict_key(
    config: FitConfig,
    model: nn.Module,
    input_shape: tuple[int, ...],
    device: torch.device,
    world: World,
    compiled: tuple[str, ...],
) -> str:
    """Everything that the verdict depends on, as a text; `compiled` were tried too."""
    return json.dumps(
        {
            "hubel": importlib.metadata.version("hubel"),
            "torch": torch.__version__,
            "device": _device_name(device),
            "threads": torch.get_num_threads(),
            "network": hashlib.sha256(repr(model).encode()).hexdigest(),
            "frozen": [config.freeze, config.whitening],
            "input": [config.batch_size, config.accumulate, *input_shape],
            "optimizer": config.optimizer,
            "processes": world.local_size,
            "compiled": compiled,
        }
    )  # fmt: skip


def _device_name(device: torch.device) -> list[str]:
    if device.type == "cuda":
        return [torch.cuda.get_device_name(device), str(torch.version.cuda)]
    info = Path("/proc/cpuinfo")  # what `platform` knows of a Linux machine is its family
    lines = info.read_text("utf-8", "replace").splitlines() if info.exists() else []
    name = next((line for line in lines if line.startswith("model name")), platform.processor())
    return [device.type, platform.machine(), name, torch.backends.cpu.get_cpu_capability()]


def _verdict_file(key: str, cache: Path | None) -> Path:
    folder = default_folder() / "engine" if cache is None else cache
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def kept_verdicts(
    config: FitConfig,
    model: nn.Module,
    input_shape: tuple[int, ...],
    device: torch.device,
    world: World,
    cache: Path | None,
) -> Iterator[tuple[tuple[str, ...], Choice]]:
    """What is kept: the ways to compile that were tried, none at first, and the choice."""
    kinds = compiled_kinds(device)
    for count in range(1 + len(kinds)):
        key = verdict_key(config, model, input_shape, device, world, kinds[:count])
        choice = _read(_verdict_file(key, cache), key)
        if choice is not None:
            yield kinds[:count], choice


def _read(file: Path, key: str) -> Choice | None:
    """The verdict in `file`; None if there is none, or none that can be trusted."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        choice = Choice.from_json(content["choice"])
        fits = content["key"] == key
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None
    return choice if fits else None


def keep_verdict(key: str, choice: Choice, cache: Path | None) -> None:
    """Keep a verdict. Where the folder cannot be written, the next fit measures again."""
    file = _verdict_file(key, cache)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"key": key, "choice": choice.to_json()}, indent=1, allow_nan=False)
        write_atomic(file, text + "\n")
    except (OSError, ValueError):
        return
