"""The report of `hubel dock`: the ranked poses of ligands in a pocket, to be looked at in 3-D."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hubel.report import words
from hubel.report.molecule_view import (
    RAMP,
    Floats,
    Molecule,
    backbone,
    check_contributions,
    contribution_limit,
    first_look,
    near,
    packed,
    packed_contributions,
)
from hubel.report.page import json_script, render, write_page

__all__ = ["DockedLigand", "Docking", "Pose", "SearchBox", "Verdict", "write_docking_report"]

GOOD_RMSD = 2.0
"""Å: a pose nearer to the crystal's is a good one, by the field's custom."""

SHOWN_WITHIN = 8.0
"""Å from a pose within which the protein's residues are drawn."""

TRACED_WITHIN = 13.0
"""Å from a pose within which the protein's backbone is drawn."""

MAX_LIGANDS = 200
"""A page holds no more, so that it stays fit to be mailed and scrolled: some 10 kB each."""


@dataclass(frozen=True)
class Verdict:
    """One check of a pose's plausibility: its name, whether it passed, and what was found."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, eq=False)
class Pose:
    """One pose and what is thought of it.

    Attributes
    ----------
    rank: from 1, as the docking ranked it.
    molecule: where its atoms are, and what each contributes.
    score: the probability of a good pose, 0 to 1, mean over rotations of the input; None where
        no network was asked.
    score_spread: its standard deviation over those rotations; None with a single one.
    affinity: the predicted pK, mean over rotations.
    vina: the Vina score in kcal/mol; lower is better.
    consensus: of the network and Vina; higher is better.
    rmsd: to the crystal pose in Å, symmetry considered.
    verdicts: of its plausibility; none where that was not checked.
    pocket_contributions: of the atoms of `Docking.pocket`, (n,).
    """

    rank: int
    molecule: Molecule
    score: float | None
    score_spread: float | None = None
    affinity: float | None = None
    vina: float | None = None
    consensus: float | None = None
    rmsd: float | None = None
    verdicts: tuple[Verdict, ...] = ()
    pocket_contributions: Floats | None = None

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The checks that it did not pass."""
        return tuple(v for v in self.verdicts if not v.ok)


@dataclass(frozen=True, eq=False)
class DockedLigand:
    """A ligand with its poses, the best first; without any where none could be made."""

    name: str
    poses: tuple[Pose, ...]
    crystal: Molecule | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def best(self) -> Pose | None:
        """The first pose."""
        return self.poses[0] if self.poses else None


@dataclass(frozen=True)
class SearchBox:
    """Where poses were looked for: centre and edge lengths in Å."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Docking:
    """All that the page is about.

    Attributes
    ----------
    receptor: its name.
    pocket: the protein or the part of it around the poses; the page keeps what is near.
    ligands: in any order; the page puts the most probable first.
    box: None for poses that were given.
    notes: sentences without their full stop: what was changed, skipped or left out.
    settings: how it was made (exhaustiveness, seed, weights, versions, …), in words.
    contributions: a sentence: what an atom's contribution is, and how it was found.
    command: that makes it again.
    """

    receptor: str
    pocket: Molecule
    ligands: tuple[DockedLigand, ...]
    box: SearchBox | None = None
    notes: tuple[str, ...] = ()
    settings: Mapping[str, object] | None = None
    contributions: str | None = None
    command: str | None = None


def write_docking_report(destination: Path, docking: Docking) -> Path:
    """Write the report as one HTML file that needs no network.

    Of more than `MAX_LIGANDS` ligands the most probable are on it, and it says so. Returns
    `destination`. Raises `ValueError` if there is no ligand, or contributions of the pocket are
    not one an atom.
    """
    if not docking.ligands:
        raise ValueError("a report of docking needs at least one ligand.")
    ranked = sorted(docking.ligands, key=_promise)
    shown = ranked[:MAX_LIGANDS]
    poses = [pose for ligand in shown for pose in ligand.poses]
    html = render(
        "docking.html",
        {
            "docking": docking,
            "ligands": shown,
            "num_ligands": len(ranked),
            "first": shown[0],
            "agreement": agreement(shown[0]),
            "recovered": _recovered(ranked),
            "data": json_script(view_data(docking, shown)) if poses else None,
            "facts": [(k, str(v)) for k, v in (docking.settings or {}).items() if v is not None],
            "ramp": RAMP[::8],
            "good_rmsd": GOOD_RMSD,
            "has": {
                field: any(getattr(pose, field) is not None for pose in poses)
                for field in ("score", "score_spread", "affinity", "vina", "consensus", "rmsd")
            }
            | {
                "verdicts": any(pose.verdicts for pose in poses),
                "crystal": any(ligand.crystal for ligand in shown),
                "contributions": any(_limit(ligand) is not None for ligand in shown),
            },
        },
    )
    # A file name may hold bytes that are no text; nothing of them is worth losing the page for.
    return write_page(destination, html.encode(errors="backslashreplace").decode())


def _promise(ligand: DockedLigand) -> tuple[bool, float]:
    """The more promising a ligand, the lower: by the probability of its best pose, or by Vina."""
    best = ligand.best
    if best is None:
        return True, 0.0
    if best.score is not None:
        return False, -best.score
    return False, best.vina or 0.0


def agreement(ligand: DockedLigand) -> str:
    """Whether the scorers put the same pose first, and by how much the first one leads."""
    poses = ligand.poses
    if len(poses) < 2:
        return "There is no other pose to compare it with." if poses else ""
    scored = [(p.score, p) for p in poses if p.score is not None]
    firsts = {}
    if scored:
        firsts["the network"] = max(scored, key=lambda one: one[0])[1].rank
    vina = [p.vina for p in poses if p.vina is not None]
    consensus = [p.consensus for p in poses if p.consensus is not None]
    if len(vina) == len(poses):
        firsts["Vina"] = poses[int(np.argmin(vina))].rank
    if len(consensus) == len(poses):
        firsts["the consensus"] = poses[int(np.argmax(consensus))].rank
    sentences = []
    if len(firsts) > 1 and len(set(firsts.values())) == 1:
        sentences.append(f"The scorers agree: {_list(list(firsts))} put pose {poses[0].rank} first")
    elif len(firsts) > 1:
        said = [f"{name} puts pose {rank} first" for name, rank in firsts.items()]
        sentences.append(f"The scorers disagree: {_list(said)}, so look at these")
    leading = sorted(scored, key=lambda one: -one[0])[:2]
    if all(pose.score_spread is not None for _, pose in leading) and len(leading) == 2:
        (first, best), (next_, second) = leading
        spread = float(np.hypot(best.score_spread or 0.0, second.score_spread or 0.0))
        if first - next_ < spread:
            sentences.append(
                f"The network's lead of pose {best.rank} over pose {second.rank} "
                f"({words.percent(next_)}) is within the spread over rotations"
            )
    return " ".join(sentence + "." for sentence in sentences)


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _recovered(ligands: list[DockedLigand]) -> dict[str, int] | None:
    """Of the ligands with a known crystal pose, how many have a good pose among the first."""
    judged = [d for d in ligands if any(p.rmsd is not None for p in d.poses)]
    if not judged:
        return None

    def within(num_first: int) -> int:
        return sum(
            any(p.rmsd is not None and p.rmsd < GOOD_RMSD for p in d.poses[:num_first])
            for d in judged
        )

    return {"judged": len(judged), "top1": within(1), "top3": within(3)}


def _limit(ligand: DockedLigand) -> float | None:
    poses = ligand.poses
    return contribution_limit(
        *(p.molecule.contributions for p in poses), *(p.pocket_contributions for p in poses)
    )


def view_data(docking: Docking, ligands: list[DockedLigand]) -> dict[str, Any]:
    """What the 3-D view of the page draws: see `hubel.report.molecule_view.packed`."""
    pocket = docking.pocket
    drawn, traced = (
        np.unique(np.concatenate([near(pocket, pose.molecule.places, distance) for pose in poses]))
        for poses in [[p for ligand in ligands for p in ligand.poses]]
        for distance in (SHOWN_WITHIN, TRACED_WITHIN)
    )
    box = docking.box
    return {
        "within": SHOWN_WITHIN,
        "ramp": RAMP,
        "pocket": packed(pocket, atoms=drawn),
        "backbone": [
            [round(float(v), 2) for v in piece.ravel()] for piece in backbone(pocket, traced)
        ],
        "box": None if box is None else {"center": list(box.center), "size": list(box.size)},
        "ligands": [_ligand_data(ligand, pocket, drawn) for ligand in ligands],
    }


def _ligand_data(ligand: DockedLigand, pocket: Molecule, drawn: Any) -> dict[str, Any]:
    limit = _limit(ligand)
    poses = []
    for pose in ligand.poses:
        data: dict[str, Any] = {"rank": pose.rank, "molecule": packed(pose.molecule, limit)}
        if pose.pocket_contributions is not None and limit is not None:
            check_contributions(pose.pocket_contributions, len(pocket.elements))
            beside = np.intersect1d(near(pocket, pose.molecule.places, SHOWN_WITHIN), drawn)
            data["pocket"] = {
                "i": np.searchsorted(drawn, beside).tolist(),
                **packed_contributions(pose.pocket_contributions[beside], limit),
            }
        poses.append(data)
    return {
        "name": ligand.name,
        "limit": limit,
        "look": first_look(ligand.best.molecule.places, pocket.places[drawn])
        if ligand.best
        else None,
        "crystal": packed(ligand.crystal) if ligand.crystal else None,
        "poses": poses,
    }
