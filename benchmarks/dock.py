"""`hubel dock` on crystal complexes: how often the first pose is right, by Vina and by hubel.

    python benchmarks/dock.py --scorer RUN_OR_WEIGHTS … [--complexes 20] [--exhaustiveness 8]
        [--data FOLDER] [--keep FOLDER] [--json FILE]

Complexes of the posebusters_complexes set, evenly spaced by name. Of each ligand only its SMILES is
given, so that nothing of the crystal's pose is left in bond lengths, angles or rings; the box is
put around the crystal's ligand. Each is one `hubel dock` in a process of its own, from files to
report; further scorers score the same poses (--poses). A pose is right within 2 Å by symmetry-aware
RMSD. --keep holds the folders: a second call goes on there.
"""

import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from common import hubel, machine, parser
from rdkit import Chem

from hubel.stats import wilson_interval


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--scorer", required=True, nargs="+")
    options.add_argument("--complexes", type=int, default=20)
    options.add_argument("--exhaustiveness", type=int, default=8)
    options.add_argument("--data", type=Path, default=None)
    options.add_argument("--keep", type=Path, default=None)
    args = options.parse_args()
    home = args.data or Path(os.environ.get("HUBEL_DATA", Path.home() / ".cache" / "hubel-data"))
    folders = sorted(f for f in (home / "posebusters_complexes").iterdir() if f.is_dir())
    chosen = [folders[int(i)] for i in np.linspace(0, len(folders) - 1, args.complexes)]
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        place = args.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        for folder in chosen:
            first, *others = args.scorer
            rows.append(docked(folder, place, first, args.exhaustiveness))
            rows[-1]["others"] = [
                scored(folder, place, scorer, number) for number, scorer in enumerate(others)
            ]
            print(sentence(rows[-1]), flush=True)
    print(table(rows, [Path(scorer).name for scorer in args.scorer]))
    if args.json:
        document = {"machine": machine(), "scorer": args.scorer, "rows": rows}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


def docked(folder: Path, place: Path, scorer: str, exhaustiveness: int) -> dict:
    """One complex: the RMSDs of its poses in the order of each scorer."""
    crystal = folder / f"{folder.name}_ligand.sdf"
    molecule = next(iter(Chem.SDMolSupplier(str(crystal))))
    ligand = place / f"{folder.name}.smi"
    ligand.write_text(f"{Chem.MolToSmiles(molecule)} {folder.name}\n")
    started = time.perf_counter()
    found = hubel(
        "dock", str(folder / f"{folder.name}_protein.pdb.gz"), str(ligand),
        "--crystal", str(crystal), "--scorer", scorer,
        "--exhaustiveness", str(exhaustiveness), "--output", str(place / folder.name),
    )  # fmt: skip
    poses = found["ligands"][0]["poses"]
    return {
        "complex": folder.name,
        "heavy_atoms": molecule.GetNumHeavyAtoms(),
        "seconds": time.perf_counter() - started,
        "plausible": sum(pose["plausible"] for pose in poses),
        "error": found["ligands"][0]["error"],
        **orders(poses),
    }


def scored(folder: Path, place: Path, scorer: str, number: int) -> dict:
    """The same poses by another scorer."""
    poses = place / folder.name / "ligands" / "00001.sdf"
    found = hubel(
        "dock", str(folder / f"{folder.name}_protein.pdb.gz"), "--poses", str(poses),
        "--crystal", str(folder / f"{folder.name}_ligand.sdf"), "--scorer", scorer,
        "--contributions", "none", "--output", str(place / f"{folder.name}-{number}"),
    )  # fmt: skip
    return orders(found["ligands"][0]["poses"])


def orders(poses: list[dict]) -> dict:
    """RMSDs, the first pose's first, by each way to rank."""
    keys = {
        "vina": lambda pose: pose["vina"],
        "network": lambda pose: -pose["probability"],
        "consensus": lambda pose: -pose["consensus"],
    }
    return {name: [p["rmsd"] for p in sorted(poses, key=key)] for name, key in keys.items()}


def sentence(row: dict) -> str:
    """One complex in a line: the RMSD of the first pose by each scorer, and the best there is."""
    if row["error"]:
        return f"{row['complex']}: {row['error']}"
    firsts = ", ".join(f"{name} {row[name][0]:.2f}" for name in ("vina", "network", "consensus"))
    return (
        f"{row['complex']}: {row['heavy_atoms']} atoms, first pose {firsts} Å, best "
        f"{min(row['vina']):.2f} Å, {row['plausible']} of {len(row['vina'])} plausible, "
        f"{row['seconds']:.0f} s"
    )


def table(rows: list[dict], scorers: list[str]) -> str:
    """For how many complexes a right pose is first, or among three, by each scorer."""
    ranked = {"vina": [row["vina"] for row in rows]}
    for number, scorer in enumerate(scorers):
        own = rows if number == 0 else [row["others"][number - 1] for row in rows]
        for name in ("network", "consensus"):
            ranked[f"{scorer}, {name}"] = [row[name] for row in own]
    width = max(map(len, ranked))
    lines = [f"{'scorer':{width}} {'top-1':>24} {'top-3':>24}   of {len(rows)} complexes"]
    for name, found in ranked.items():
        cells = []
        for k in (1, 3):
            right = sum(min(rmsds[:k], default=np.inf) < 2 for rmsds in found)
            low, high = wilson_interval(right, len(rows))
            cells.append(f"{right:2d} = {right / len(rows):.2f} [{low:.2f}–{high:.2f}]")
        lines.append(f"{name:{width}} {cells[0]:>24} {cells[1]:>24}")
    right = sum(min(rmsds, default=np.inf) < 2 for rmsds in ranked["vina"])
    lines.append(f"{right} of {len(rows)} have a right pose among those that Vina made")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
