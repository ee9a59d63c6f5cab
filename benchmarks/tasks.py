"""What each task reaches on real data within a budget, from scratch, nothing else said.

    python benchmarks/tasks.py [--sets bccd camvid …] [--budget 30m] [--data FOLDER]
        [--repeats SEEDS] [--json FILE]

Each set and seed is one `hubel fit SET --budget …` with its defaults and one `hubel evaluate`, in
processes of their own, with an empty cache: everything is inside the budget but the evaluation,
which touches the test split (the validation split of tinyimagenet12_boxes, which has no other)
once. The folder of the sets is $HUBEL_DATA, else ~/.cache/hubel-data. CamVid's masks have no
legend: its eleven classes are named here, and the twelfth value is none.
"""

import json
import os
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from common import hubel, machine, parser

_CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "signsymbol", "fence", "car",
    "pedestrian", "bicyclist", "void",
)  # fmt: skip


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    options.add_argument("--budget", default="30m")
    options.add_argument("--data", type=Path, default=None)
    args = options.parse_args()
    home = args.data or Path(os.environ.get("HUBEL_DATA", Path.home() / ".cache" / "hubel-data"))
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    rows: dict[str, list[dict]] = {name: [] for name in args.sets}
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        places = {name: SETS[name][0](home, Path(temporary, name)) for name in args.sets}
        for seed in range(args.repeats):
            for name in args.sets:
                row = fitted(places[name], args.budget, seed)
                row["figures"] = {key: row["metrics"][key] for key in SETS[name][1]}
                rows[name].append(row)
                shown = ", ".join(f"{k} {v:.4f}" for k, v in row["figures"].items())
                print(
                    f"{name}, seed {seed}: {shown}, {row['epochs']} passes, "
                    f"{row['images_per_s']:.0f} images/s, {row['wall_s']:.0f} s, {row['engine']}",
                    flush=True,
                )
    print(table(rows))
    if args.json:
        document = {"machine": machine(), "budget": args.budget, "runs": rows}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


def fitted(spec: str, budget: str, seed: int) -> dict:
    """One fit within `budget` from nothing, and its evaluation."""
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as folder:
        os.environ["HUBEL_CACHE"] = str(Path(folder, "cache"))  # of the commands below
        run, started = str(Path(folder, "run")), time.perf_counter()
        found = hubel("fit", spec, "--budget", budget, "--seed", str(seed), "--output", run)
        wall_s = time.perf_counter() - started
        judged = hubel("evaluate", run)
    facts = ("model", "epochs", "images_per_s", "engine")
    return {
        "seed": seed,
        "wall_s": wall_s,
        **{key: found[key] for key in facts},
        "split": judged["split"],
        "n": judged["n"],
        "metrics": judged["metrics"],
    }


def table(rows: dict[str, list[dict]]) -> str:
    """One line a set and figure: mean, lowest and highest, and the goal."""
    lines = [f"{'set':22} {'figure':10} {'mean':>7} {'low':>7} {'high':>7} {'n':>3} {'goal':>6}"]
    for name, found in rows.items():
        for key, goal in SETS[name][1].items():
            values = [row["figures"][key] for row in found]
            lines.append(
                f"{name:22} {key:10} {statistics.mean(values):7.4f} {min(values):7.4f} "
                f"{max(values):7.4f} {len(values):3} {goal:6.2f}"
            )
    return "\n".join(lines)


def _camvid(home: Path, place: Path) -> str:
    place.mkdir()
    for folder in (home / "camvid").iterdir():
        if folder.is_dir():
            (place / folder.name).symlink_to(folder)
    (place / "classes.txt").write_text("\n".join(_CAMVID) + "\n")
    return str(place)


def _tinyimagenet(home: Path, place: Path) -> str:
    with zipfile.ZipFile(home / "tinyimagenet12_boxes" / "tinyimagenet12_boxes.zip") as archive:
        archive.extractall(place)
    (folder,) = (p for p in place.rglob("train.csv"))
    return str(folder.parent)


def _as_it_is(name: str) -> Callable[[Path, Path], str]:
    return lambda home, place: str(home / name)


SETS: dict[str, tuple[Callable[[Path, Path], str], dict[str, float]]] = {
    "bccd": (_as_it_is("bccd"), {"map50": 0.80}),
    "camvid": (_camvid, {"miou": 0.50}),
    "tinyimagenet12_boxes": (_tinyimagenet, {"top1": 0.72, "mean_iou": 0.62}),
    "modelnet10_voxels": (_as_it_is("modelnet10_voxels/modelnet10_30.npz"), {"top1": 0.91}),
}
"""How each set is laid out to be read, and the figures with their goals for 30 minutes."""


if __name__ == "__main__":
    main()
