"""What each part of the fast recipe buys: the recipe with one part changed in turn, and plain.

    python benchmarks/recipe.py FOLDER [--model swift_m] [--minutes 5 | --epochs 8] [--repeats N]
        [--only NAME …] [--settings WORD …] [--json FILE]

Each case and seed is one `hubel fit` and one `hubel evaluate`, in processes of their own; the
seeds are the outer loop, so that a slow hour of the machine meets every case. With --minutes
all cases have the same wall-clock time, everything included; with --epochs the same number of
passes, which says nothing about the cost of a part. The pictures are decoded before, so that no
case pays for them; the choice of the engine is inside the time, by each case's first seed at least.

The test split (or the validation split where there is no other) is touched once a case and seed,
by evaluate. A difference is that of a case to the whole recipe with the same seed; its interval
is Student's, 95 %.
"""

import json
import math
import os
import statistics
import tempfile
from pathlib import Path

from common import hubel, machine, parser
from scipy.stats import t as student

from hubel.data.cache import open_store
from hubel.data.source import open_source

CASES = {
    "fast": [],
    "no muon": ["--optimizer", "adamw"],
    "no whitening": ["--no-whitening"],
    "no identity": ["--no-identity"],
    "no bias rate": ["--bias-rate", "1"],
    "no lookahead": ["--lookahead", "0"],
    "no smoothing": ["--label-smoothing", "0"],
    "no translation": ["--translate", "0"],
    "random flip": ["--flip", "random"],
    "no flip": ["--flip", "none"],
    "batches of 64": ["--batch-size", "64"],
    "cosine": ["--schedule", "cosine"],
    "no views": ["--tta", "none"],
    "all views": ["--tta", "all"],
    "no progressive": ["--progressive", "1"],
    "ema 0.999": ["--ema", "0.999"],
    "hard share 0.7": ["--hard-share", "0.7"],
    "plain": ["--recipe", "plain"],
}
"""What each case adds to the command line; ema and hard share are parts off by default."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--model", default="swift_m")
    length = options.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=5.0)
    length.add_argument("--epochs", type=int)
    options.add_argument("--only", nargs="+", choices=list(CASES), help="some of the cases")
    options.add_argument("--settings", nargs="*", default=[], help="more words for every fit")
    args = options.parse_args()
    names = ["fast", *(n for n in args.only or CASES if n != "fast")]
    time = (
        ["--epochs", str(args.epochs)]
        if args.epochs is not None
        else ["--budget", f"{args.minutes}m"]
    )
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    rows: dict[str, list[dict]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        os.environ["HUBEL_CACHE"] = str(Path(temporary, "cache"))  # of the commands below, too
        open_store(open_source(args.folder))
        for seed in range(args.repeats):
            for name in names if seed % 2 == 0 else names[::-1]:
                run = str(Path(temporary, f"{name.replace(' ', '-')}-{seed}"))
                fitted = hubel(
                    "fit", str(args.folder), "--model", args.model, *time, *args.settings,
                    *CASES[name], "--seed", str(seed), "--output", run,
                )  # fmt: skip
                judged = hubel("evaluate", run)
                row = {
                    "seed": seed,
                    "top1": judged["metrics"]["top1"],
                    "n": judged["n"],
                    "split": judged["split"],
                    "epochs": fitted["epochs"],
                    "seconds": fitted["seconds"],
                }
                rows[name].append(row)
                print(f"{name:16} " + ", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    print(table(rows))
    if args.json:
        document = {"machine": machine(), "model": args.model, "time": time, "runs": rows}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


def table(rows: dict[str, list[dict]]) -> str:
    """One line a case: mean and deviation of the seeds, and the difference to the whole recipe."""
    lines = [f"{'case':16} {'top-1':>7} {'std':>7} {'n':>3} {'difference, 95 %':>24} {'epochs':>7}"]
    whole = [row["top1"] for row in rows["fast"]]
    for name, found in rows.items():
        values = [row["top1"] for row in found]
        spread = f"{statistics.stdev(values):7.4f}" if len(values) > 1 else f"{'':7}"
        line = f"{name:16} {statistics.mean(values):7.4f} {spread} {len(values):3}"
        if name != "fast":
            line += f" {difference([a - b for a, b in zip(values, whole, strict=True)]):>24}"
        else:
            line += " " * 25
        lines.append(line + f" {statistics.mean(row['epochs'] for row in found):7.1f}")
    return "\n".join(lines)


def difference(values: list[float]) -> str:
    """Mean of the paired differences and its interval."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:+.4f}"
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"


if __name__ == "__main__":
    main()
