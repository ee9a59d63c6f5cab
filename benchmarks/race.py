"""Whether a race within a quarter of the time chooses what training everything in full would.

    python benchmarks/race.py DATA [--models A,B,…] [--full 3m] [--share 0.25] [--seeds 1]
        [--objective top1] [--keep FOLDER] [--json FILE]

First every candidate is trained in full, `hubel fit DATA --model M --budget FULL`, on the split of
the race, and judged on the validation and on the test split: the table. Then `hubel compare` has
SHARE of what all of that was given. Its choice is right if it is the one with the best test figure
of the table, or if that figure of its own lies within the best one's 95 % interval. What the race
itself costs is all of its time in which no training ran: planning, starting, the winner's
evaluation, the page.

--keep holds the trainings of the table, as runs, and the race: a second call with other shares
replays against the same table. First the table, then the race; nothing else may run meanwhile.
"""

import json
import tempfile
from pathlib import Path

from common import hubel, machine, parser

from hubel.config import parse_duration
from hubel.stats import wilson_interval

_MODELS = "simple,swift_s,swift_m,resnet18,mobilenet_v3,densenet121,vgg11_bn,googlenet"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("data")
    options.add_argument("--models", default=_MODELS)
    options.add_argument("--full", default="3m")
    options.add_argument("--share", type=float, default=0.25)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--objective", default="top1")
    options.add_argument("--keep", type=Path, default=None)
    args = options.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    models = [name.strip() for name in args.models.split(",")]
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        place = args.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        table = [trained(args, model, place) for model in models]
        budget_s = args.share * parse_duration(args.full) * len(models) * args.seeds
        raced = race(args, budget_s, place)
    verdict = judged(table, raced)
    print("\n".join(lines(table, raced, verdict, budget_s)))
    if args.json:
        document = {
            "machine": machine(), "data": args.data, "full": args.full, "budget_s": budget_s,
            "table": table, "race": raced, "verdict": verdict,
        }  # fmt: skip
        args.json.write_text(json.dumps(document, indent=2) + "\n")


def trained(args, model: str, place: Path) -> dict:
    """One candidate in full, with every seed: its means, and the test samples."""
    rows = []
    for seed in range(args.seeds):
        run = place / "full" / f"{model}-{seed}"
        kept = run / "evaluation" / "test" / "evaluation.json"
        if not kept.exists():
            hubel(
                "fit", args.data, "--model", model, "--budget", args.full, "--seed", str(seed),
                "--split-seed", "0", "--output", str(run),
            )  # fmt: skip
            hubel("evaluate", str(run), "--split", "test")
        found = json.loads((run / "result.json").read_text())
        test = json.loads(kept.read_text())
        rows.append((found["metrics"][args.objective], test["metrics"][args.objective], test["n"]))
        print(f"{model}, seed {seed}: val {rows[-1][0]:.4f}, test {rows[-1][1]:.4f}", flush=True)
    return {
        "model": model,
        "val": sum(row[0] for row in rows) / len(rows),
        "test": sum(row[1] for row in rows) / len(rows),
        "n": rows[0][2] * len(rows),
    }


def race(args, budget_s: float, place: Path) -> dict:
    """The race's document, without what is long in it, and what it cost beside the trainings."""
    folder = place / f"race-{budget_s:.0f}"
    words = ("--resume", str(folder)) if (folder / "race.json").exists() else (
        args.data, "--models", args.models, "--budget", f"{budget_s:.0f}s",
        "--seeds", str(args.seeds), "--objective", args.objective, "--output", str(folder),
    )  # fmt: skip
    found = hubel("compare", *words)
    jobs = [json.loads(path.read_text()) for path in (folder / "ledger").glob("r*.json")]
    training_s = sum(job["facts"].get("wall_s", 0.0) for job in jobs)
    keys = ("choice", "first", "alike", "standings", "sentences", "seconds")
    return {**{key: found[key] for key in keys}, "training_s": training_s}


def judged(table: list[dict], raced: dict) -> dict:
    """Whether the choice is as good as the best of the table."""
    best = max(table, key=lambda row: row["test"])
    chosen = next(row for row in table if row["model"] == raced["choice"])
    low, high = wilson_interval(round(best["test"] * best["n"]), best["n"])
    return {
        "best": best["model"],
        "best_interval": [low, high],
        "chosen": chosen["model"],
        "chosen_test": chosen["test"],
        "same": chosen is best,
        "within": low <= chosen["test"],
        "overhead": 1 - raced["training_s"] / raced["seconds"],
    }


def lines(table: list[dict], raced: dict, verdict: dict, budget_s: float) -> list[str]:
    reached = {row["name"]: row for row in raced["standings"]}
    said = ["", f"{'network':16}{'val, full':>10}{'test, full':>11}{'race: rung':>11}{'score':>9}"]
    for row in sorted(table, key=lambda r: -r["test"]):
        one = reached.get(row["model"], {"rung": None, "score": None})
        rung = "out" if one["rung"] is None else str(one["rung"] + 1)
        score = "–" if one["score"] is None else f"{one['score']:.4f}"
        said.append(f"{row['model']:16}{row['val']:10.4f}{row['test']:11.4f}{rung:>11}{score:>9}")
    low, high = verdict["best_interval"]
    said += [
        "",
        f"best in full: {verdict['best']} ({low:.4f}–{high:.4f}); the race within {budget_s:.0f} s "
        f"takes {verdict['chosen']} ({verdict['chosen_test']:.4f} in full): "
        + ("the same" if verdict["same"] else "within" if verdict["within"] else "MISSED"),
        f"the race took {raced['seconds']:.0f} s, {100 * verdict['overhead']:.1f} % of it beside "
        f"the trainings",
    ]
    return said


if __name__ == "__main__":
    main()
