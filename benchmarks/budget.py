"""What hubel's defaults reach on the held-out test split within a time.

    python benchmarks/budget.py FOLDER [--model simple] [--budget 5m] [--repeats SEEDS]

Each seed is one `hubel fit FOLDER --budget B` and one `hubel evaluate`, in processes of their
own. The budget counts everything from the command's start: inspection, cache, training,
validation. The test split is touched once a seed, by evaluate.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import machine, parser


def main() -> None:
    options = parser(__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--model", default="simple")
    options.add_argument("--budget", default="5m")
    args = options.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    rows = []
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        for seed in range(args.repeats):
            run = str(Path(temporary, f"run{seed}"))
            started = time.perf_counter()
            fitted = hubel(
                "fit", str(args.folder), "--model", args.model, "--budget", args.budget,
                "--seed", str(seed), "--output", run,
            )  # fmt: skip
            wall_s = time.perf_counter() - started
            judged = hubel("evaluate", run)
            row = {
                "seed": seed,
                "test_top1": judged["metrics"]["top1"],
                "interval": judged["metrics"]["top1_interval"],
                "n": judged["n"],
                "epochs": fitted["epochs"],
                "images_per_s": fitted["images_per_s"],
                "wall_s": wall_s,
            }
            rows.append(row)
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    accuracies = [row["test_top1"] for row in rows]
    spread = statistics.stdev(accuracies) if len(rows) > 1 else 0.0
    print(f"test top-1 {statistics.mean(accuracies):.4f}, std {spread:.4f}, n = {len(rows)} seeds")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "runs": rows}, indent=2) + "\n")


def hubel(*words: str) -> dict:
    """One verb's JSON document."""
    done = subprocess.run(
        [sys.executable, "-m", "hubel", *words, "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
