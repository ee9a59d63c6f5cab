"""Predicted against measured: the time of a step and the most memory, over many networks.

For each network, input, batch size and mode (inference, a training step of the default recipe with
its optimizer and lookahead, on whole pictures) one process predicts with an empty cache of timings
and then measures, so both see the machine in the same minute; another process, in which nothing was
predicted, measures the memory. The engine is the likely best on this machine, unmeasured.

    python benchmarks/cost.py --json cost.json            # all: about half an hour on two cores
    python benchmarks/cost.py --only resnet18 --repeats 5
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from common import machine, parser

from hubel.config import FitConfig
from hubel.cost.probe import Timings
from hubel.engine import Engine, choose_engine, keep_freed_memory
from hubel.models import ModelSpec
from hubel.network import network_of
from hubel.train.forecast import forecast
from hubel.train.freezing import make_freezing
from hubel.train.lookahead import Lookahead
from hubel.train.optimizers import use_precision
from hubel.train.setup import optimizer_for

# Small pictures in large batches, large ones in small: what two cores are asked to do.
CASES = {
    "lenet5": ("3x32x32", (64, 256)),
    "simple": ("3x32x32", (64, 256)),
    "resnet18": ("3x32x32", (32, 128)),
    "googlenet": ("3x32x32", (16, 64)),
    "alexnet": ("3x224x224", (8, 32)),
    "vgg11": ("3x224x224", (2, 8)),
    "vgg16_bn": ("3x224x224", (2, 8)),
    "resnet34": ("3x224x224", (4, 16)),
    "resnet50": ("3x224x224", (4, 16)),
    "densenet121": ("3x224x224", (4, 16)),
    "vit_tiny": ("3x224x224", (4, 16)),
    "vit_small": ("3x224x224", (4, 16)),
    "mobilenet_v3": ("3x224x224", (8, 32)),
    "efficientnet_b0": ("3x224x224", (4, 16)),
    "convnext_tiny": ("3x224x224", (2, 8)),
    "resnet18-3d": ("1x32x32x32", (4, 16)),
}
_SECONDS = 4.0  # of measuring one case, three steps at least


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    shape: tuple[int, ...]
    batch_size: int
    training: bool

    @classmethod
    def of(cls, words: str) -> "Case":
        """From what `words` gives, for a worker."""
        name, shape, batch_size, mode = words.split(",")
        return cls(name, tuple(map(int, shape.split("x"))), int(batch_size), mode == "training")

    @property
    def words(self) -> str:
        mode = "training" if self.training else "inference"
        return f"{self.name},{'x'.join(map(str, self.shape))},{self.batch_size},{mode}"


class Step:
    """The real thing: network, optimizer and batch of a case, as `hubel fit` has them."""

    def __init__(self, case: Case, engine: Engine) -> None:
        classes = 10 if case.shape[-1] < 96 else 1000
        name = case.name.removesuffix("-3d")
        spec = ModelSpec(name, case.shape[0], classes, case.shape[1:])
        self.case, self.engine, self.config = case, engine, FitConfig()
        self.config = replace(self.config, batch_size=case.batch_size)
        _, self.model = network_of(spec)
        engine.place(self.model)
        self.model.train(case.training)
        freezing = make_freezing(self.model, self.config)
        self.optimizer = optimizer_for(self.model, self.config, freezing, case.shape)
        use_precision(self.optimizer, engine.precision)
        # Slow copies take memory that inference has not.
        self.lookahead = Lookahead(self.model, self.config.lookahead) if case.training else None
        self.steps = 0
        self.input = engine.input(torch.randn(case.batch_size, *case.shape))
        self.target = torch.zeros(case.batch_size, dtype=torch.int64)

    def run(self) -> None:
        if not self.case.training:
            with torch.inference_mode(), self.engine.autocast():
                self.model(self.engine.input(self.input)).float()
            return
        with self.engine.autocast():
            output = self.model(self.engine.input(self.input))
        smoothing = self.config.label_smoothing
        loss = F.cross_entropy(output.float(), self.target, label_smoothing=smoothing)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.lookahead is not None:
            self.steps += 1
            self.lookahead.after_step(self.steps, 0.5)


def time_case(case: Case) -> dict[str, float]:
    """Predict, then measure, in this process."""
    engine = choose_engine(FitConfig())
    with tempfile.TemporaryDirectory() as folder:
        timings = Timings(engine, Path(folder))
        _ = timings.probe  # before the network takes memory, as in `hubel cost`
        step = Step(case, engine)
        start_s = time.perf_counter()
        found = forecast(step.config, step.model, case.shape, engine, timings)
        took_s = time.perf_counter() - start_s
    step.model.train(case.training)
    step.run()
    step.run()
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < _SECONDS:
        start_s = time.perf_counter()
        step.run()
        seconds.append(time.perf_counter() - start_s)
    time_s = found.step_s if case.training else found.inference_s
    most = found.step_bytes if case.training else found.inference_bytes
    return {
        "predicted_s": time_s.value,
        "measured_s": statistics.median(seconds),
        "fastest_s": min(seconds),
        "slowest_s": max(seconds),
        "predicted_bytes": most.value,
        "replayed_share": found.replayed_share,
        "replayed_batch_size": found.scaled_from,
        "probe_s": found.probe_s,
        "prediction_took_s": took_s,
    }


def memory_case(case: Case) -> dict[str, float]:
    """The most memory of a process that makes three steps, by the system's own count."""
    step = Step(case, choose_engine(FitConfig()))
    for _ in range(3):
        step.run()
    status = Path("/proc/self/status").read_text()
    most = re.search(r"VmHWM:\s+(\d+) kB", status)
    if most is None:
        sys.exit("the system does not tell a process's most memory (VmHWM)")
    return {"measured_bytes": int(most[1]) * 1024}


def _worker(kind: str, case: Case) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", kind, "--case", case.words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case.words}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True)
class Row:
    """A case, measured so many times."""

    case: Case
    rounds: list[dict[str, float]]
    measured_bytes: float

    def middle(self, name: str) -> float:
        return statistics.median(one[name] for one in self.rounds)

    @property
    def ratios(self) -> list[float]:
        return [one["predicted_s"] / one["measured_s"] for one in self.rounds]

    @property
    def memory_ratio(self) -> float:
        return self.middle("predicted_bytes") / self.measured_bytes

    def line(self) -> str:
        mode = "training" if self.case.training else "inference"
        predicted, measured = self.middle("predicted_s"), self.middle("measured_s")
        memory = f"{self.middle('predicted_bytes') / 1e6:.0f}/{self.measured_bytes / 1e6:.0f} MB"
        ends = f"{min(self.ratios):.2f}-{max(self.ratios):.2f}"
        return (
            f"{self.case.name:15} {self.case.batch_size:5} {mode:9} {1e3 * predicted:7.1f} ms "
            f"{1e3 * measured:6.1f} ms {statistics.median(self.ratios):6.2f} {ends:>10} "
            f"{memory:>13} {self.memory_ratio:6.3f}"
        )


def verdict(rows: list[Row]) -> str:
    """Shares of cases within a distance, and the memory's errors."""
    times = [statistics.median(row.ratios) for row in rows]
    memory = [row.memory_ratio for row in rows]
    shares = {
        within: sum(abs(r - 1) <= within for r in times) / len(times)
        for within in (0.10, 0.15, 0.20)
    }
    return (
        f"{len(rows)} cases; time within "
        + ", ".join(f"{within:.0%}: {share:.0%}" for within, share in shares.items())
        + f"; median ratio {statistics.median(times):.3f}\n"
        f"memory: median error {statistics.median(abs(m - 1) for m in memory):.1%}, "
        f"lowest ratio {min(memory):.3f}, highest {max(memory):.3f}"
    )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--only", action="append", default=[], help="a network; may be repeated")
    options.add_argument("--worker", choices=("time", "memory"), help=argparse.SUPPRESS)
    options.add_argument("--case", help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.worker:
        keep_freed_memory()
        case = Case.of(args.case)
        print(json.dumps(time_case(case) if args.worker == "time" else memory_case(case)))
        return
    cases = [
        Case(name, tuple(map(int, shape.split("x"))), batch_size, training)
        for name, (shape, batch_sizes) in CASES.items()
        for batch_size in batch_sizes
        for training in (False, True)
        if not args.only or name in args.only
    ]
    rows: list[Row] = []
    print(f"{'network':15} {'batch':>5} {'mode':9} {'predicted':>10} {'measured':>9} {'ratio':>6}"
          f" {'range':>10} {'memory':>13} {'ratio':>6}")  # fmt: skip
    for case in cases:
        rounds = [_worker("time", case) for _ in range(args.repeats)]
        rows.append(Row(case, rounds, _worker("memory", case)["measured_bytes"]))
        print(rows[-1].line(), flush=True)
    print(verdict(rows))
    if args.json is not None:
        written = [
            {"case": r.case.words, "rounds": r.rounds, "measured_bytes": r.measured_bytes}
            for r in rows
        ]
        args.json.write_text(json.dumps({"machine": machine(), "rows": written}, indent=2) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    main()
