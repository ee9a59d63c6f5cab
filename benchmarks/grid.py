"""Grids of atoms: hubel's densities against molgrid's, on one CPU thread, and on a GPU.

    python benchmarks/grid.py [--data FOLDER] [--complexes 64] [--molgrid PYTHON] [--repeats N]
        [--json FILE]

Poses of the csar_poses set with the atoms of their receptors, 28 channels of 48×48×48 points. A
case is all complexes, one after the other, atoms in memory, result in memory. molgrid needs an
older NumPy: it is measured where --molgrid names the Python of an environment that has it, in a
process that is asked in turn with hubel. "hubel, with its receptor's atoms chosen" begins with all
atoms of the receptor, as molgrid does. Freed memory stays in the process, as in every fit.
"""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import alternate, machine, parser, table, write_json

from hubel.data.source import open_source
from hubel.engine import keep_freed_memory
from hubel.molecules.channels import ATOM_TYPES
from hubel.molecules.complexes import Complexes
from hubel.molecules.grid import Grid, densities

_WORKER = """
import sys, time
import numpy as np, molgrid
atoms = np.load(sys.argv[1])
maker = molgrid.GridMaker(resolution=0.5, dimension=23.5)
out = np.zeros((28, 48, 48, 48), np.float32)
seen = molgrid.Grid4f(out)
sets = []
for i in range(len(atoms["starts"]) - 1):
    rows = slice(atoms["starts"][i], atoms["starts"][i + 1])
    kept = [np.float32(atoms[name][rows]) for name in ("places", "channels", "radii")]
    grids = molgrid.Grid2f(kept[0]), molgrid.Grid1f(kept[1]), molgrid.Grid1f(kept[2])
    sets.append((molgrid.float3(*map(float, atoms["centres"][i])), grids, kept))
for line in sys.stdin:
    started = time.perf_counter()
    for centre, grids, _ in sets:
        maker.forward(centre, *grids, seen)
    print("took", time.perf_counter() - started, float(out.sum()), flush=True)
"""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--data", type=Path, default=None)
    options.add_argument("--complexes", type=int, default=64)
    options.add_argument("--molgrid", type=Path, default=None)
    args = options.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    home = args.data or Path(os.environ.get("HUBEL_DATA", Path.home() / ".cache" / "hubel-data"))
    source = open_source(home / "csar_poses")
    assert source.poses is not None
    complexes = source.poses.complexes
    step = len(complexes) // args.complexes
    ids = np.arange(0, len(complexes), step)[: args.complexes]
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)

    def one_by_one() -> None:
        for i in ids:
            viewed = complexes.viewed(np.array([i]))
            densities(viewed.atoms, viewed.centers, complexes.num_channels, Grid())

    whole = [complexes.viewed(np.array([i])) for i in ids]

    def drawn_only() -> None:
        for viewed in whole:
            densities(viewed.atoms, viewed.centers, complexes.num_channels, Grid())

    cases = {"hubel, with its receptor's atoms chosen": one_by_one, "hubel, densities": drawn_only}
    baseline = "hubel, with its receptor's atoms chosen"
    if torch.cuda.is_available():
        device = torch.device("cuda")
        batch = complexes.viewed(ids).to(device)

        def on_gpu() -> None:
            densities(batch.atoms, batch.centers, complexes.num_channels, Grid())
            torch.cuda.synchronize()

        cases["hubel, a batch on the GPU"] = on_gpu
    worker = None
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        if args.molgrid:
            file = Path(temporary, "atoms.npz")
            _write_atoms(file, complexes, ids)
            worker = subprocess.Popen(
                [str(args.molgrid), "-c", _WORKER, str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

            def theirs() -> float:
                assert worker is not None
                assert worker.stdin is not None
                assert worker.stdout is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
                said = worker.stdout.readline().split()
                while said and said[0] != "took":  # what the package says when it is imported
                    said = worker.stdout.readline().split()
                if not said:
                    raise SystemExit(f"{args.molgrid} ended: has it molgrid and an older NumPy?")
                seconds, total = map(float, said[1:])
                own = whole[-1]
                grid = densities(own.atoms, own.centers, complexes.num_channels, Grid())
                if abs(float(grid.sum()) - total) > 1e-3 * total:
                    raise SystemExit(f"the last grids differ: {float(grid.sum())} and {total}")
                return seconds

            cases = {"molgrid": theirs, **cases}
            baseline = "molgrid"
        times = alternate(cases, args.repeats)
        if worker is not None:
            worker.kill()
    print(table(times, baseline, len(ids), "complexes"))
    write_json(args.json, "grid", times, baseline, len(ids))


def _write_atoms(file: Path, complexes: Complexes, ids: np.ndarray) -> None:
    """All drawn atoms of each complex, as molgrid wants them."""
    radii = np.array([kind.radius for kind in ATOM_TYPES], np.float32)
    columns: list[list[np.ndarray]] = [[], [], []]
    receptor, ligand = complexes.drawing.receptor_channels, complexes.drawing.ligand_channels
    for i in ids:
        parts = (
            (complexes.receptors.atoms(complexes.receptor_of[i]), receptor, 0),
            (complexes.poses.atoms(i), ligand, len(receptor)),
        )
        found: list[list[np.ndarray]] = [[], [], []]
        for (places, types), channels, first in parts:
            channel = channels.of_type[types]
            drawn = channel >= 0
            found[0].append(places[drawn])
            found[1].append(channel[drawn] + first)
            found[2].append(radii[types[drawn]])
        for column, part in zip(columns, found, strict=True):
            column.append(np.concatenate(part))
    np.savez(
        file,
        places=np.concatenate(columns[0]),
        channels=np.concatenate(columns[1]),
        radii=np.concatenate(columns[2]),
        starts=np.cumsum([0, *map(len, columns[0])]),
        centres=np.array([complexes.center(i) for i in ids]),
    )


if __name__ == "__main__":
    main()
