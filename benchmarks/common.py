"""What benchmarks share: facts of the machine, alternating timing, a table, a JSON file, a verb.

A benchmark measures hubel and a named baseline in the same run, in turn, because a shared
machine is faster in one minute than in the next; it prints both, the ratio and the spread,
and never asserts a time.

    from common import alternate, machine, parser, table, write_json

    times = alternate({"plain loop": plain, "hubel": ours}, repeats=5)
    print(table(times, baseline="plain loop", items=60_000, unit="images"))
    write_json(args.json, "cache", times, baseline="plain loop", items=60_000)
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["Times", "alternate", "hubel", "machine", "parser", "ratio", "table", "write_json"]

PACKAGES = ("hubel", "torch", "torchvision", "numpy", "pillow")


@dataclass(frozen=True)
class Times:
    """Seconds of one case, a value a round, in the order of the rounds."""

    rounds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread_s(self) -> tuple[float, float]:
        """The fastest and the slowest round."""
        return min(self.rounds), max(self.rounds)


def alternate(
    cases: Mapping[str, Callable[[], float | None]], repeats: int, warm_up: bool = True
) -> dict[str, Times]:
    """Run every case once a round, `repeats` rounds, each round in the other direction.

    A case that returns a number has timed itself in seconds (set-up left out); otherwise its
    wall time is taken. `warm_up`: one round more, first, that is not counted.
    """
    found: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(-1 if warm_up else 0, repeats):
        order = list(cases) if number % 2 == 0 else list(cases)[::-1]
        for name in order:
            start_s = time.perf_counter()
            timed_itself = cases[name]()
            took_s = time.perf_counter() - start_s
            if number >= 0:
                found[name].append(took_s if timed_itself is None else timed_itself)
    return {name: Times(tuple(rounds)) for name, rounds in found.items()}


def ratio(baseline: Times, case: Times) -> tuple[float, float, float]:
    """How many times faster `case` is, round against round: median, lowest, highest."""
    ratios = [b / c for b, c in zip(baseline.rounds, case.rounds, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def table(times: Mapping[str, Times], baseline: str, items: int = 0, unit: str = "items") -> str:
    """One line a case: seconds, items a second, times faster than the baseline, with spreads."""
    width = max(len(name) for name in times)
    lines = []
    for name, case in times.items():
        low, high = case.spread_s
        line = f"{name:{width}}  {case.median_s:8.3f} s  [{low:.3f}-{high:.3f}]"
        if items:
            line += f"  {items / case.median_s:12,.0f} {unit}/s"
        if name == baseline:
            line += "   baseline"
        else:
            middle, lowest, highest = ratio(times[baseline], case)
            line += f"   {middle:.2f}x [{lowest:.2f}-{highest:.2f}]"
        lines.append(line)
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What a figure depends on: processor, cores, memory, load, versions."""
    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": _num_cores(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
    if hasattr(os, "getloadavg"):
        facts["load_average_1min"] = round(os.getloadavg()[0], 2)
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = None
    return facts


def parser(description: str | None) -> argparse.ArgumentParser:
    """--repeats and --json, which every benchmark takes."""
    new = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    new.add_argument("--repeats", type=int, default=3, help="rounds that count (default 3)")
    new.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    return new


def hubel(*words: str) -> dict[str, Any]:
    """One verb's JSON document."""
    done = subprocess.run(
        [sys.executable, "-m", "hubel", *words, "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def write_json(
    path: Path | None,
    name: str,
    times: Mapping[str, Times],
    baseline: str,
    items: int = 0,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write machine, times and ratios to `path`; nothing where `path` is None."""
    if path is None:
        return
    result = {
        "benchmark": name,
        "machine": machine(),
        "baseline": baseline,
        "items": items,
        "times_s": {
            case: {**asdict(found), "median": found.median_s, "spread": found.spread_s}
            for case, found in times.items()
        },
        "times_faster": {
            case: dict(zip(("median", "low", "high"), ratio(times[baseline], found), strict=True))
            for case, found in times.items()
            if case != baseline
        },
        **(extra or {}),
    }
    path.write_text(json.dumps(result, indent=2) + "\n")


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None
