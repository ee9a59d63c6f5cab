"""Is the fast recipe better than the textbook's on data that it was not made for?

    python benchmarks/recipe_fair.py DATA [DATA …] [--model swift_m] [--budget 3m]
        [--repeats SEEDS] [--json FILE]

On each DATA (whatever hubel reads; a .zip is unpacked first, and where it has no test split its
val becomes that) `hubel fit` trains the same network within the same budget, once as it comes
and once with --recipe plain, no other flag changed: one fit and one `hubel evaluate` a case and
seed, in processes of their own, seed by seed, every other seed in the other direction. The pictures
are decoded before, so that no case pays for them; the choice of the engine is inside the
budget (at most a twentieth), by each case's first seed at least.

A difference is fast less plain with the same seed; its interval is Student's, 95 %. It is said
to exceed the spread if its mean is larger than the range, highest less lowest, of either case.
"""

import json
import os
import statistics
import tempfile
import zipfile
from pathlib import Path

from common import hubel, machine, parser
from recipe import difference

from hubel.data.cache import open_store
from hubel.data.source import open_source

CASES = {"plain": ["--recipe", "plain"], "fast": []}
BASELINE = "plain"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("data", nargs="+")
    options.add_argument("--model", default="swift_m")
    options.add_argument("--budget", default="3m")
    args = options.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    found = {}
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        os.environ["HUBEL_CACHE"] = str(Path(temporary, "cache"))  # of the commands below, too
        for data in args.data:
            found[data] = compared(data, args.model, args.budget, args.repeats, Path(temporary))
    print("\n".join(table(data, rows) for data, rows in found.items()))
    if args.json:
        document = {
            "machine": machine(),
            "model": args.model,
            "budget": args.budget,
            "runs": found,
        }
        args.json.write_text(json.dumps(document, indent=2) + "\n")


def compared(
    data: str, model: str, budget: str, repeats: int, temporary: Path
) -> dict[str, list[dict]]:
    """One row a seed, of each case."""
    spec = unpacked(Path(data), temporary) if data.endswith(".zip") else data
    open_store(open_source(spec))
    rows: dict[str, list[dict]] = {name: [] for name in CASES}
    for seed in range(repeats):
        for name in CASES if seed % 2 == 0 else reversed(CASES):
            with tempfile.TemporaryDirectory(dir=temporary) as folder:
                run = str(Path(folder, "run"))
                fitted = hubel(
                    "fit", spec, "--model", model, "--budget", budget, *CASES[name],
                    "--seed", str(seed), "--output", run,
                )  # fmt: skip
                judged = hubel("evaluate", run)
            row = {
                "seed": seed,
                "top1": judged["metrics"]["top1"],
                "n": judged["n"],
                "split": judged["split"],
                "epochs": fitted["epochs"],
                "samples_seen": fitted["samples_seen"],
                "seconds": fitted["seconds"],
                "engine": fitted["engine"],
            }
            rows[name].append(row)
            print(f"{name:6} " + ", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    return rows


def unpacked(archive: Path, temporary: Path) -> str:
    """The folder of a zip file's contents."""
    folder = temporary / archive.stem
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    if (folder / "val").is_dir() and not (folder / "test").exists():
        (folder / "val").rename(folder / "test")  # it would choose the best epoch otherwise
    return str(folder)


def table(data: str, rows: dict[str, list[dict]]) -> str:
    """A line a case, then the difference and whether it exceeds the seeds' spread."""
    lines = [data]
    ranges = []
    for name, found in rows.items():
        values = [row["top1"] for row in found]
        ranges.append(max(values) - min(values))
        deviation = f", std {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        lines.append(
            f"  {name:6} {statistics.mean(values):.4f} [{min(values):.4f}-{max(values):.4f}]"
            f"{deviation}, n = {len(values)} seeds, "
            f"{statistics.mean(row['epochs'] for row in found):.1f} epochs"
        )
    fast, plain = ([row["top1"] for row in rows[name]] for name in ("fast", BASELINE))
    differences = [a - b for a, b in zip(fast, plain, strict=True)]
    lines.append(f"  fast - plain {difference(differences)}")
    if len(differences) > 1:
        word = "exceeds" if statistics.mean(differences) > max(ranges) else "does not exceed"
        lines[-1] += f"; it {word} the seeds' spread of {max(ranges):.4f}"
    return "\n".join(lines)


if __name__ == "__main__":
    main()
