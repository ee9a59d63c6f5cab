"""A scorer of poses by cross-validation on the CSAR set, beside Vina and together with it.

    python benchmarks/csar.py [--model NAME] [--budget 60m] [--folds 1 2 3] [--data FOLDER]
        [--keep FOLDER] [--json FILE] [-- more words for hubel fit]

Each fold is one `hubel fit FOLDER/csar_poses --fold K/3 --budget …` and one `hubel evaluate`, in
processes of their own; no receptor is in two folds. Figures are over all poses of the folds that
were run, each scored by the network that never saw its receptor: the area under the ROC curve, and
the share of ligands whose first pose is good, with intervals by bootstrap over ligands. Vina's
scores are those of the data set. --keep holds the runs: folds that are there are not run again, so
they may be run one by one, and a last call with all of them puts them together.
"""

import csv
import json
import os
import tempfile
from pathlib import Path

import numpy as np
from common import hubel, machine, parser

from hubel.metrics.ranking import ligand_auc, roc_auc, roc_auc_interval, top_good
from hubel.stats import bootstrap_interval


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="auto")
    options.add_argument("--budget", default="60m")
    options.add_argument("--folds", nargs="+", type=int, choices=(1, 2, 3), default=[1, 2, 3])
    options.add_argument("--data", type=Path, default=None)
    options.add_argument("--keep", type=Path, default=None)
    options.add_argument("words", nargs="*", help="more words for hubel fit, after --")
    args = options.parse_args()
    home = args.data or Path(os.environ.get("HUBEL_DATA", Path.home() / ".cache" / "hubel-data"))
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    rows: list[dict] = []
    runs = []
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        place = args.keep or Path(temporary)
        for fold in args.folds:
            run = place / f"fold-{fold}"
            scores = run / "evaluation" / "test" / "poses.csv"
            if not scores.exists():
                words = ("--fold", f"{fold}/3", "--budget", args.budget, "--model", args.model)
                if run.exists():
                    hubel("fit", "--resume", str(run))
                else:
                    hubel(
                        "fit", str(home / "csar_poses"), *words, *args.words, "--output", str(run)
                    )
                hubel("evaluate", str(run))
            with scores.open() as file:
                rows += csv.DictReader(file)
            found = json.loads((run / "result.json").read_text())
            facts = ("model", "epochs", "engine", "samples_seen", "seconds")
            runs.append({"fold": fold, **{key: found[key] for key in facts}})
            runs[-1]["val"] = found["metrics"]
            print(
                f"fold {fold}: {found['model']}, {found['epochs']} epochs, {found['seconds']:.0f} "
                f"s, {found['engine']}, validation AUC {found['metrics']['auc']:.3f}",
                flush=True,
            )
    figures = scored(rows)
    print(table(figures, len(rows), len({row["ligand"] for row in rows})))
    if args.json:
        document = {"machine": machine(), "budget": args.budget, "runs": runs, "figures": figures}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


def scored(rows: list[dict]) -> dict[str, dict]:
    """The figures of each scorer over all rows of poses.csv."""
    good = np.array([row["good"] == "1" for row in rows])
    _, ligands = np.unique([row["ligand"] for row in rows], return_inverse=True)
    signs = {"network": 1.0, "docking": -1.0, "consensus": 1.0}
    figures = {}
    for name, sign in signs.items():
        scores = sign * np.array([float(row[name]) for row in rows])
        first = top_good(scores, good, ligands, 1)
        three = top_good(scores, good, ligands, 3)
        figures[name] = {
            "auc": roc_auc(scores, good),
            "auc_interval": roc_auc_interval(scores, good, ligands, 0),
            "ligand_auc": float(ligand_auc(scores, good, ligands).mean()),
            "top1": float(first.mean()),
            "top1_interval": _interval(first),
            "top3": float(three.mean()),
            "top3_interval": _interval(three),
        }
    return figures


def _interval(values: np.ndarray) -> tuple[float, float]:
    ones = np.ones(len(values), np.int64)
    return bootstrap_interval(ones, lambda counts: counts @ values / len(values))


def table(figures: dict[str, dict], num_poses: int, num_ligands: int) -> str:
    """One line a scorer."""
    lines = [f"{num_poses} poses of {num_ligands} ligands"]
    lines.append(f"{'scorer':10} {'AUC':>22} {'in ligand':>9} {'top-1':>22} {'top-3':>22}")
    for name, f in figures.items():
        shown = [
            f"{f[key]:.3f} [{f[key + '_interval'][0]:.3f}–{f[key + '_interval'][1]:.3f}]"
            for key in ("auc", "top1", "top3")
        ]
        lines.append(
            f"{name:10} {shown[0]:>22} {f['ligand_auc']:9.3f} {shown[1]:>22} {shown[2]:>22}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
