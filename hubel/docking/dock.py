"""`dock`: from two files to a folder of ranked poses, many ligands at once, to be gone on with.

The folder: request.json (what was asked, with the files' sha256), ligands/NNNNN.sdf and .json (a
ligand's poses; the second says that it is done), ligands/NNNNN_receptor.pdb (contributions as
B-factors), poses.sdf (the best pose of each ligand), ranking.csv, ranking.json, report.html.
"""

import csv
import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from hubel.data.poses import GOOD_RMSD
from hubel.data.sentences import counted
from hubel.docking.orphans import end_with_parent
from hubel.docking.ranked import RankedLigand, RankedPose, read_ranked, write_ranked
from hubel.docking.request import DockRequest
from hubel.docking.site import DockEntry, Site, entries_of, open_site
from hubel.errors import UserError
from hubel.molecules.receptors import write_receptor
from hubel.runs import write_atomic

__all__ = ["Docked", "dock"]

B_FACTOR = 100.0
"""B-factors are this many times the contributions: a PDB file has two digits after the point."""

_COLUMNS = (
    "entry", "ligand", "rank", "probability", "spread", "affinity_pK", "vina_kcal_mol",
    "consensus", "rmsd_angstrom", "plausible", "failed_checks", "error",
)  # fmt: skip

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Docked:
    """What a docking found, and where it lies.

    `ligands` are in the order of their file; `notes` are sentences about what was changed,
    skipped or left out.
    """

    folder: Path
    request: DockRequest
    receptor: str
    box: tuple[tuple[float, float, float], tuple[float, float, float], str]
    ligands: tuple[RankedLigand, ...]
    notes: tuple[str, ...]

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    def to_json(self) -> dict[str, Any]:
        """{output, receptor, box, ligands, found, notes}, JSON-ready."""
        center, size, origin = self.box
        return {
            "output": str(self.folder),
            "report": str(self.report),
            "receptor": self.receptor,
            "box": {"center": list(center), "size": list(size), "origin": origin},
            "ligands": [ligand.to_json() for ligand in self.ligands],
            "notes": list(self.notes),
            **self.found(),
        }

    def found(self) -> dict[str, Any]:
        """Where a crystal pose is known: for how many ligands a pose within 2 Å of it is first, or
        among the first three, by hubel's ranking and by Vina's.
        """
        known = [one for one in self.ligands if one.poses and one.poses[0].rmsd is not None]
        if not known:
            return {}

        def good(poses: list[RankedPose], k: int) -> bool:
            return any(pose.rmsd is not None and pose.rmsd < GOOD_RMSD for pose in poses[:k])

        by_vina = [sorted(one.poses, key=lambda pose: pose.vina) for one in known]
        return {
            "with_crystal": len(known),
            "top1": sum(good(list(one.poses), 1) for one in known),
            "top3": sum(good(list(one.poses), 3) for one in known),
            "vina_top1": sum(good(poses, 1) for poses in by_vina),
            "vina_top3": sum(good(poses, 3) for poses in by_vina),
        }


def dock(
    request: DockRequest, folder: Path, report: Report, *, processes: int | None = None
) -> Docked:
    """Dock, score and rank as `request` says into `folder`, and go on there if it holds a part.

    Results do not depend on `processes` (by default one a core, no more than ligands).

    Raises `UserError` for what the user can mend; a fault of one ligand stands in its row.
    """
    known = request.to_json()
    entries, notes = entries_of(request)
    for note in notes:
        report({"note": note})
    _check_folder(folder, known)
    kept = folder / "ligands"
    done = {e.ligand.entry: read_ranked(kept, e.ligand.entry) for e in entries}
    left = [e for e in entries if (one := done[e.ligand.entry]) is None or one.error is not None]
    if len(left) < len(entries):
        report({"note": f"{len(entries) - len(left)} of {len(entries)} ligands are done already"})
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(processes or cores or 1, max(len(left), 1))
    site = open_site(request, cpu=max(1, (cores or 1) // workers))
    # Only now, when nothing of the request is at fault any more, is the folder taken.
    kept.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "request.json", json.dumps(known, indent=1) + "\n")
    for note in site.receptor_notes:
        report({"note": f"receptor: {note}"})
    report({"stage": "docking", "count": len(entries) - len(left), "total": len(entries)})
    ready = len(entries) - len(left)
    for ligand in _each(request, site, left, workers):
        _write_b_factors(site, ligand, kept)
        write_ranked(ligand, kept)
        done[ligand.entry] = ligand
        ready += 1
        report({"stage": "docking", "count": ready, "total": len(entries)})
        report({"note": _sentence(ligand)})
    found = tuple(one for e in entries if (one := done[e.ligand.entry]) is not None)
    docked = Docked(
        folder,
        request,
        site.receptor.name,
        (site.box.center, site.box.size, site.box.origin),
        found,
        (*(f"receptor: {n}" for n in site.receptor_notes), *notes),
    )
    write_atomic(folder / "ranking.csv", _table(found))
    write_atomic(folder / "ranking.json", json.dumps(docked.to_json(), indent=1) + "\n")
    write_atomic(folder / "poses.sdf", _best_poses(kept, found))
    _write_page(docked, site)
    if not any(ligand.poses for ligand in found):
        raise UserError(
            f"none of {counted(len(found), 'ligand')} could be docked (first: {found[0].name}: "
            f"{found[0].error}); '{folder / 'ranking.csv'}' has every reason"
        )
    return docked


def _check_folder(folder: Path, known: dict[str, Any]) -> None:
    """Raises `UserError` where `folder` is neither this docking's nor free."""
    path = folder / "request.json"
    if path.exists():
        try:
            there = json.loads(path.read_text())
        except (OSError, ValueError):
            there = None
        # Files may lie elsewhere by now: what they hold is what counts.
        if not isinstance(there, dict) or _facts(there) != _facts(known):
            raise UserError(
                f"--output '{folder}' holds a docking with other settings or files; name another "
                f"folder, or give the same to go on there"
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--output '{folder}' is not an empty folder; name a new one")


def _facts(known: dict[str, Any]) -> dict[str, Any]:
    """The settings that are not left to be None, files' digests in place of their names."""
    digests = known.get("sha256", {})
    named = {k: digests.get(v, v) if isinstance(v, str) else v for k, v in known.items()}
    return {k: v for k, v in named.items() if k != "sha256" and v is not None}


def _each(
    request: DockRequest, site: Site, left: list[DockEntry], workers: int
) -> Iterator[RankedLigand]:
    """The ligands as they are done."""
    if workers == 1:
        yield from map(site.ranked, left)
        return
    # Fresh processes: Vina and torch keep threads that a fork would break.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin_worker, (request, site.cpu)) as pool:
        waited = [pool.submit(_in_worker, entry.ligand.entry) for entry in left]
        try:
            for future in as_completed(waited):
                yield future.result()
        except BrokenProcessPool:
            raise UserError(
                "a process that docked has died, for want of memory perhaps; the same command goes "
                "on, --processes 1 with less memory"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():  # a search cannot be interrupted
                process.terminate()
            raise


_worker: dict[str, Any] = {}
"""A worker process's site and entries, which its function cannot be given with every ligand."""


def _begin_worker(request: DockRequest, cpu: int) -> None:
    end_with_parent()
    _worker["site"] = open_site(request, cpu)
    _worker["entries"] = {entry.ligand.entry: entry for entry in entries_of(request)[0]}


def _in_worker(number: int) -> RankedLigand:
    ranked: RankedLigand = _worker["site"].ranked(_worker["entries"][number])
    return ranked


def _sentence(ligand: RankedLigand) -> str:
    if ligand.error is not None:
        return f"WARNING: {ligand.name}: {ligand.error}"
    best = ligand.poses[0]
    words = [f"{ligand.name}: Vina {best.vina:.1f} kcal/mol"]
    if best.probability is not None:
        words.append(f"good with probability {best.probability:.2f} ± {best.spread:.2f}")
    if best.rmsd is not None:
        words.append(f"{best.rmsd:.1f} Å from the crystal's")
    if not best.plausible:
        words.append("fails " + ", ".join(c.name for c in best.checks if not c.passed))
    return ", ".join(words) + f" ({ligand.seconds:.0f} s)"


def _write_b_factors(site: Site, ligand: RankedLigand, folder: Path) -> None:
    """The receptor with the contributions to the best pose's score, where they are known."""
    if not ligand.poses or ligand.poses[0].receptor_atoms is None:
        return
    factors = np.zeros(len(site.receptor.types))
    for i, value in ligand.poses[0].receptor_atoms:
        factors[i] = np.clip(B_FACTOR * value, -99.99, 999.99)
    try:
        write_receptor(site.receptor, folder / f"{ligand.entry:05d}_receptor.pdb", factors)
    except UserError:  # chains of long names, more atoms than a PDB file can number
        write_receptor(site.receptor, folder / f"{ligand.entry:05d}_receptor.cif", factors)


def _table(ligands: tuple[RankedLigand, ...]) -> str:
    """One line a pose, and one for a ligand without any."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for ligand in ligands:
        if not ligand.poses:
            empty = [""] * (len(_COLUMNS) - 3)
            rows.writerow([ligand.entry, ligand.name, *empty, ligand.error])
        for rank, pose in enumerate(ligand.poses, 1):
            numbers = (
                pose.probability, pose.spread, pose.affinity, pose.vina, pose.consensus, pose.rmsd,
            )  # fmt: skip
            rows.writerow(
                [
                    ligand.entry,
                    ligand.name,
                    rank,
                    *("" if number is None else f"{number:.6g}" for number in numbers),
                    str(pose.plausible).lower(),
                    " ".join(c.name for c in pose.checks if not c.passed),
                    "",
                ]
            )
    return file.getvalue()


def _best_poses(folder: Path, ligands: tuple[RankedLigand, ...]) -> str:
    """The first entry of each ligand's file."""
    entries = []
    for ligand in ligands:
        if ligand.poses:
            text = (folder / f"{ligand.entry:05d}.sdf").read_text()
            entries.append(text.partition("$$$$\n")[0] + "$$$$\n")
    return "".join(entries)


def _write_page(docked: Docked, site: Site) -> None:
    from hubel.docking.page import page_of
    from hubel.report.docking import write_docking_report

    if any(ligand.poses for ligand in docked.ligands):
        write_docking_report(docked.report, page_of(docked, site, _versions()))


def _versions() -> dict[str, str]:
    found = {}
    for package in ("hubel", "vina", "meeko", "rdkit", "gemmi", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
