"""From a folder of 60,000 JPEG files to an accuracy, by the clock on the wall.

    python benchmarks/cifar10.py FOLDER [--model swift_m] [--budget 5m 30m] [--goal 0.908]
        [--airbench CHECKOUT [--share 0.8]] [--repeats SEEDS] [--json FILE]

FOLDER holds {train,test}/CLASS/*. Each case and seed is one `hubel fit` with nothing but its
network, budget and seed set and one `hubel evaluate`, in processes of their own, with an empty
cache: importing torch, inspection, decoding, choice of the engine, training and validation are
all inside the budget, whose clock starts once Python has started and read the command line;
`wall_s`, what a stopwatch beside the first command shows, has that start too. hubel learns from
nine tenths of the training split (the rest is its validation); the test split is touched once,
by evaluate, whose time stands apart.

With --airbench, a checkout of github.com/KellerJordan/cifar10-airbench (see airbench.py for
exactly what is run, in bfloat16 and channels last): before each seed's budgets the recipe trains
on all of the training split, given as arrays decoded from the same files before the clock starts;
then hubel gets --share of the seconds that the recipe has just needed by its own clock, which
counts neither start nor reading nor the evaluation after each epoch, while hubel's counts all but
the start of Python. The shares printed at the end are of `wall_s`, which counts all.
--goal marks the cases whose mean reaches it.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from airbench import NAME, airbench, script_at, write_arrays
from common import hubel, machine, parser

from hubel.config import parse_duration


def main() -> None:
    args = arguments()
    script = script_at(args.airbench) if args.airbench else None
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    shared = f"{args.share:g} of its time"
    names = [*((NAME, shared) if script else ()), *args.budget]
    rows: dict[str, list[dict]] = {name: [] for name in names}

    def done(name: str, row: dict) -> None:
        rows[name].append(row)
        print(f"{name:16} " + ", ".join(f"{k} {v}" for k, v in row.items()), flush=True)

    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        if script:
            write_arrays(args.folder, Path(temporary))
        for seed in range(args.repeats):
            if script:
                done(NAME, airbench(script, Path(temporary), "cpu", seed)[0])
                budget = f"{args.share * rows[NAME][-1]['seconds']:.1f}s"
                done(shared, fitted(args.folder, args.model, budget, seed, Path(temporary)))
            for budget in args.budget if seed % 2 == 0 else args.budget[::-1]:
                done(budget, fitted(args.folder, args.model, budget, seed, Path(temporary)))
    print(table(rows, args.goal))
    if args.json:
        document = {"machine": machine(), "model": args.model, "goal": args.goal, "runs": rows}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--model", default="swift_m")
    options.add_argument("--budget", nargs="*", default=["5m", "30m"])
    options.add_argument("--goal", type=float, help="test top-1 to be reached, of 1")
    options.add_argument("--airbench", type=Path, metavar="CHECKOUT")
    options.add_argument("--share", type=float, default=0.8)
    args = options.parse_args()
    for budget in args.budget:
        try:
            parse_duration(budget)
        except ValueError as error:
            options.error(f"--budget '{budget}': {error}")
    return args


def fitted(folder: Path, model: str, budget: str, seed: int, temporary: Path) -> dict:
    """One fit within `budget` from nothing, and what it reached on the test split."""
    cache, run = temporary / "fresh", temporary / "run"
    os.environ["HUBEL_CACHE"] = str(cache)  # of the commands below
    started = time.perf_counter()
    found = hubel(
        "fit", str(folder), "--model", model, "--budget", budget, "--seed", str(seed),
        "--output", str(run),
    )  # fmt: skip
    wall_s = time.perf_counter() - started
    started = time.perf_counter()
    judged = hubel("evaluate", str(run))
    row = {
        "seed": seed,
        "test_top1": judged["metrics"]["top1"],
        "n": judged["n"],
        "seconds": wall_s,
        "wall_s": wall_s,
        "budget": budget,
        "evaluate_s": time.perf_counter() - started,
        "epochs": found["epochs"],
        "images_per_s": found["images_per_s"],
        "engine": found["engine"],
    }
    shutil.rmtree(cache)
    shutil.rmtree(run)
    return row


def table(rows: dict[str, list[dict]], goal: float | None) -> str:
    """One line a case: accuracy and seconds, means and spreads; the ratio to the baseline's."""
    lines = [f"{'case':16} {'top-1':>7} {'std':>7} {'low':>7} {'high':>7} {'n':>3} {'seconds':>8}"]
    for name, found in rows.items():
        values = [row["test_top1"] for row in found]
        spread = f"{statistics.stdev(values):7.4f}" if len(values) > 1 else f"{'':7}"
        seconds = statistics.mean(row["seconds"] for row in found)
        line = f"{name:16} {statistics.mean(values):7.4f} {spread} {min(values):7.4f}"
        line += f" {max(values):7.4f} {len(values):3} {seconds:8.1f}"
        if name == NAME:
            line += "   baseline"
        elif NAME in rows:
            shares = [a["seconds"] / b["seconds"] for a, b in zip(found, rows[NAME], strict=True)]
            line += f"   {statistics.mean(shares):.2f} [{min(shares):.2f}-{max(shares):.2f}]"
            line += " of its time"
        if goal is not None:
            line += f"   {'reaches' if statistics.mean(values) >= goal else 'misses'} {goal:g}"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
