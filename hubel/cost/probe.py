"""What this machine can do, measured once in about two seconds, and remembered."""

import dataclasses
import hashlib
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from hubel.conv.measure import measure_peaks
from hubel.cost.calls import Call
from hubel.cost.replay import Timed, replay
from hubel.data.cache_folder import default_folder
from hubel.engine import Engine
from hubel.errors import UserError
from hubel.runs import write_atomic

__all__ = ["Probe", "Timings", "dtype_of"]

_MOST_TIMINGS = 20_000  # in the file: a few megabytes
_ADAM_ELEMENTS = 4 << 20


def dtype_of(engine: Engine) -> torch.dtype | None:
    """The dtype to which the engine's autocast lowers; None where it does not."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(engine.precision)


@dataclass(frozen=True)
class Probe:
    """Figures of one device in one arithmetic."""

    flops_per_s: float
    """The best of a few products and convolutions."""
    bytes_per_s: float
    """Read and written by a large copy."""
    step_s: float
    """Of a training step whatever the network: loss, optimizer and autograd at their least."""
    adam_s: float
    """A step of AdamW for one parameter among many."""
    adam_tensor_s: float
    """The same for one tensor among many, however small."""
    base_bytes: int
    """Memory of the process with torch and its libraries loaded; 0 on other devices."""

    def roofline_s(self, macs: int, num_bytes: int) -> float:
        """The least time for this work (Williams, Waterman & Patterson 2009)."""
        return max(2 * macs / self.flops_per_s, num_bytes / self.bytes_per_s)


class Timings:
    """The probe's figures and the operations timed so far, in one file for each engine.

    The file's name tells device, versions and threads: with others it is another file. One that
    cannot be read is begun anew.
    """

    def __init__(self, engine: Engine, folder: Path | None = None, *, again: bool = False) -> None:
        self.engine = engine
        facts = _facts(engine)
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        self.path = (folder or default_folder() / "timings") / f"{name}.json"
        self.measured_s = 0.0
        self._facts = facts
        self._probe: Probe | None = None
        self._calls: dict[str, list[float]] = {}
        if not again:
            self._read()

    def _read(self) -> None:
        try:
            found = json.loads(self.path.read_text())
            calls = {str(k): [float(s) for s in v] for k, v in found["calls"].items()}
            if found["facts"] == self._facts and all(len(v) == 3 for v in calls.values()):
                self._probe, self._calls = Probe(**found["probe"]), calls
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return  # not there, or not what was written: everything is measured again

    @property
    def probe(self) -> Probe:
        """Measured at its first use."""
        if self._probe is None:
            started = time.perf_counter()
            with self.engine.products():
                self._probe = _measured(self.engine)
            self.measured_s += time.perf_counter() - started
        return self._probe

    def of(self, calls: list[Call], limit_s: float) -> dict[Call, Timed]:
        """Timings of `calls`; those that are not known yet are measured, in about `limit_s`."""
        keys = {call: hashlib.sha256(call.key.encode()).hexdigest()[:24] for call in calls}
        new = [call for call in keys if keys[call] not in self._calls]
        if new:
            started = time.perf_counter()
            with self.engine.products():
                for call, timed in replay(new, self.engine.device, limit_s).items():
                    self._calls[keys[call]] = list(dataclasses.astuple(timed))
            self.measured_s += time.perf_counter() - started
        return {c: Timed(*self._calls[k]) for c, k in keys.items() if k in self._calls}

    def save(self) -> None:
        """Keep what was measured for the next time, where the folder can be written."""
        if not self.measured_s:
            return
        kept = dict(list(self._calls.items())[-_MOST_TIMINGS:])
        found = {"facts": self._facts, "probe": dataclasses.asdict(self.probe), "calls": kept}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, json.dumps(found).encode())
        except (OSError, UserError):
            return  # it is measured again next time


def _facts(engine: Engine) -> dict[str, str]:
    if engine.device.type == "cuda":
        processor = torch.cuda.get_device_name(engine.device)
    else:
        info = Path("/proc/cpuinfo")
        text = info.read_text() if info.is_file() else ""
        named = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
        processor = named[1] if named else platform.processor()
    return {
        "device": engine.device.type,
        "processor": processor,
        "precision": engine.precision,
        "threads": str(torch.get_num_threads()),
        "cores": str(os.cpu_count()),
        "torch": torch.__version__,
        "format": "2",
    }


def _measured(engine: Engine) -> Probe:
    step_s = _step_s(engine)
    # Before anything large: by now libraries and threads are there.
    base_bytes = _resident() if engine.device.type == "cpu" else 0
    adam_s = _adam_s(engine.device, 4, _ADAM_ELEMENTS) / (4 * _ADAM_ELEMENTS)
    adam_tensor_s = _adam_s(engine.device, 200, 16) / 200
    dtype = dtype_of(engine) or torch.float32
    peaks = measure_peaks(dtype, engine.device.type, each_s=0.2)
    return Probe(peaks.flops_per_s, peaks.bytes_per_s, step_s, adam_s, adam_tensor_s, base_bytes)


def _median_s(function: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Of `rounds` runs after a third as many that do not count."""
    times = []
    for number in range(rounds + rounds // 3):
        start_s = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= rounds // 3:
            times.append(time.perf_counter() - start_s)
    return statistics.median(times)


def _adam_s(device: torch.device, tensors: int, elements: int) -> float:
    parameters = [nn.Parameter(torch.ones(elements, device=device)) for _ in range(tensors)]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    return _median_s(torch.optim.AdamW(parameters, fused=True).step, device, 6)


def _step_s(engine: Engine) -> float:
    network = nn.Linear(4, 4).to(engine.device)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    input = torch.ones(2, 4, device=engine.device)
    target = torch.zeros(2, dtype=torch.int64, device=engine.device)

    def step() -> None:
        with engine.autocast():
            output = network(input)
        nn.functional.cross_entropy(output.float(), target, label_smoothing=0.1).backward()
        optimizer.step()
        optimizer.zero_grad()

    return _median_s(step, engine.device, 60)


def _resident() -> int:
    """Memory of this process in bytes, as the system counts it; 0 where it does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
