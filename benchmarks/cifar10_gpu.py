"""Seconds to an accuracy on CIFAR-10's original arrays, on a CUDA device.

    python benchmarks/cifar10_gpu.py DATA [--airbench CHECKOUT] [--model swift_m] [--epochs 8]
        [--set NAME=VALUE …] [--runs 5] [--goal 0.94] [--repeats R] [--json FILE]

DATA is the published archive (cifar-10-binary.tar.gz, cifar-10-python.tar.gz), its folder, or
"cifar10" where hubel has downloaded it. A round is a process that makes one fit that is not
counted, then --runs fits, each with a seed of its own; with --airbench (see airbench.py)
rounds alternate with the recipe's, which does the same: one warm-up, then --runs runs.

For hubel `seconds` is what the recipe's own clock counts: the training as the run's log has it,
without the validation after each epoch, plus the judging of the 10,000 test pictures over the
recipe's views; opening the data and loading the finished network are inside the latter. It differs
from the recipe's clock in three things:

  whitening    inside the recipe's `seconds`, outside hubel's
  compiling    outside the recipe's (its warm-up run has it), inside hubel's where the engine
               chosen is a compiled one that was not compiled already to be measured
  checkpoints  none in the recipe; hubel writes one after each epoch, inside `seconds` but for
               the last (the best weights are kept in the time of the validation, outside)

Whitening and the choice of the engine come before the loop and are inside `wall_s`, which is all
of fit and evaluate in a process that has started. hubel learns from 45,000 pictures and holds
5,000 out; the baseline learns from 50,000.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from airbench import NAME, airbench, script_at, write_arrays
from common import Times, machine, parser, ratio

WARM_UP_SEED = 1_000_000


def main() -> None:
    args = arguments()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("cifar10_gpu.py needs a CUDA device, and torch sees none here")
    if args.case is not None:  # 0 is a seed
        print(json.dumps(hubel(args)))
        return
    script = script_at(args.airbench) if args.airbench else None
    facts = {**machine(), "gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    print(", ".join(f"{key} {value}" for key, value in facts.items()), flush=True)
    rows: dict[str, list[dict]] = {name: [] for name in ([NAME, "hubel"] if script else ["hubel"])}
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        if script:
            write_arrays(Path(args.data), Path(temporary))
        for number in range(args.repeats):
            seed = number * args.runs
            for name in rows if number % 2 == 0 else reversed(rows):
                if script and name == NAME:
                    found = airbench(script, Path(temporary), "cuda", seed, args.runs)
                else:
                    found = in_process(seed)
                rows[name] += found
                for row in found:
                    shown = ", ".join(f"{k} {v}" for k, v in row.items())
                    print(f"{name:16} {shown}", flush=True)
    print(table(rows, args.goal))
    if args.json:
        document = {
            "machine": facts,
            "model": args.model,
            "epochs": args.epochs,
            "settings": args.set,
            "goal": args.goal,
            "runs": rows,
        }
        args.json.write_text(json.dumps(document, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("data")
    options.add_argument("--airbench", type=Path, metavar="CHECKOUT")
    options.add_argument("--model", default="swift_m")
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument(
        "--set", nargs="*", default=[], type=setting, metavar="NAME=VALUE",
        help="further settings of the fit, batch_size=1024 engine=fp16 for instance",
    )  # fmt: skip
    options.add_argument("--runs", type=int, default=5, help="fits that count in a round")
    options.add_argument("--goal", type=float, default=0.94)
    options.add_argument("--case", type=int, metavar="SEED", help="make one round of hubel's")
    return options.parse_args()


def setting(text: str) -> tuple[str, Any]:
    """A setting's name and value, a number or true or false where it reads as one."""
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"write NAME=VALUE, got '{text}'")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def in_process(seed: int) -> list[dict]:
    """A round of hubel's, by this command in a process of its own."""
    words = [sys.executable, __file__, *sys.argv[1:], "--case", str(seed)]
    out = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows: list[dict] = json.loads(out.splitlines()[-1])
    return rows


def hubel(args: argparse.Namespace) -> list[dict]:
    """One row a fit, after one that does not count."""
    import hubel as package
    from hubel.evaluate.run import evaluate_run

    rows = []
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        for seed in (WARM_UP_SEED, *range(args.case, args.case + args.runs)):
            started = time.perf_counter()
            run = package.fit(
                args.data,
                output=Path(temporary, f"run{seed}"),
                model=args.model,
                epochs=args.epochs,
                device="cuda",
                seed=seed,
                **dict(args.set),
            )
            judging = time.perf_counter()
            judged = evaluate_run(run.folder).evaluation.to_json()
            ended = time.perf_counter()
            log = run.folder.log()
            training_s = log[-1]["seconds"] - sum(row["validation_s"] for row in log)
            rows.append(
                {
                    "seed": seed,
                    "test_top1": judged["metrics"]["top1"],
                    "seconds": training_s + ended - judging,
                    "training_s": training_s,
                    "wall_s": ended - started,
                    "engine": run.result["engine"],
                }
            )
    return rows[1:]


def table(rows: dict[str, list[dict]], goal: float) -> str:
    """One line a case: accuracy and seconds, with spreads; how many times faster hubel is."""
    lines = []
    times = {name: Times(tuple(row["seconds"] for row in found)) for name, found in rows.items()}
    for name, found in rows.items():
        values = [row["test_top1"] for row in found]
        low, high = times[name].spread_s
        spread = f", std {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        line = f"{name:16} {statistics.mean(values):.4f}{spread}, n = {len(values)}"
        line += f"  {times[name].median_s:7.3f} s  [{low:.3f}-{high:.3f}]"
        line += f"  {'reaches' if statistics.mean(values) >= goal else 'misses'} {goal:g}"
        if name == NAME:
            line += "   baseline"
        elif NAME in rows:
            middle, lowest, highest = ratio(times[NAME], times[name])
            line += f"   {middle:.2f}x [{lowest:.2f}-{highest:.2f}]"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
