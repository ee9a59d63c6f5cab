"""What this machine can do, measured once in about two seconds, and remembered."""

import dataclasses
import hashlib
import json
import os
import platform
import re
import time
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
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[engine.precision]


@dataclass(frozen=True)
class Probe:
    """Figures of one device in one arithmetic."""

    flops_per_s: float
    """The best of a few products and convolutions."""
    bytes_per_s: float
    """Read and written by a large copy."""
    call_s: float
    """Of Python, torch and autograd for one call, over the work that it does."""
    adam_s: float
    """A step of AdamW for one parameter among many."""
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
            self._probe = _measured(self.engine)
            self.measured_s += time.perf_counter() - started
        return self._probe

    def of(self, calls: list[Call], limit_s: float) -> dict[Call, Timed]:
        """Timings of `calls`; those that are not known yet are measured, in about `limit_s`."""
        keys = {call: hashlib.sha256(call.key.encode()).hexdigest()[:24] for call in calls}
        new = [call for call in keys if keys[call] not in self._calls]
        if new:
            started = time.perf_counter()
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
        "format": "1",
    }


def _measured(engine: Engine) -> Probe:
    call_s = _call_s(engine)
    # Before anything large: by now libraries and threads are there.
    base_bytes = _resident() if engine.device.type == "cpu" else 0
    adam_s = _adam_s(engine.device)
    peaks = measure_peaks(dtype_of(engine) or torch.float32, engine.device.type)
    return Probe(peaks.flops_per_s, peaks.bytes_per_s, call_s, adam_s, base_bytes)


def _adam_s(device: torch.device) -> float:
    parameters = [nn.Parameter(torch.ones(_ADAM_ELEMENTS, device=device)) for _ in range(4)]
    optimizer = torch.optim.AdamW(parameters, fused=True)
    times = []
    for _ in range(4):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        start_s = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start_s)
    return min(times[1:]) / (4 * _ADAM_ELEMENTS)


def _call_s(engine: Engine) -> float:
    """Of a layer whose work is nothing: a training step of many of them, by their calls."""
    from hubel.cost.trace import trace

    depth, shape = 40, (1, 4, 4, 4)
    layers = [nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(depth)]
    network = nn.Sequential(*layers)
    found = trace(network, shape, training=True, autocast=dtype_of(engine), channels_last=True)
    operations = [op for layer in found.layers for op in (*layer.forward, *layer.backward)]
    calls = list(dict.fromkeys(op.call for op in operations if op.call is not None))
    timed = replay(calls, engine.device, 0.1)
    work_s = sum(timed[op.call].seconds for op in operations if op.call in timed)
    engine.place(network)
    input = engine.input(torch.ones(shape))
    times = []
    for _ in range(12):
        start_s = time.perf_counter()
        with engine.autocast():
            output = network(input)
        output.float().sum().backward()
        times.append(time.perf_counter() - start_s)
        network.zero_grad()
    return max(0.0, sorted(times)[len(times) // 2] - work_s) / found.num_calls


def _resident() -> int:
    """Memory of this process in bytes, as the system counts it; 0 where it does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
