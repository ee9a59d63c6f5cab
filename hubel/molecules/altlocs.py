"""Residues that a crystal shows in several places: the likeliest of each is kept."""

from collections.abc import Sequence
from typing import Any

__all__ = ["keep_likeliest"]


def _mean_occupancy(atoms: Sequence[Any]) -> float:
    return float(sum(atom.occ for atom in atoms)) / len(atoms)


def keep_likeliest(model: Any) -> list[str]:
    """Leaves each residue of a gemmi model in its likeliest place; the note that says so, if any
    atom was left out.
    """
    residues = left_out = 0
    for chain in model:
        # Several kinds of residue at one number: a mutation in a part of the crystal.
        by_number: dict[tuple[str, str], list[int]] = {}
        for row, residue in enumerate(chain):
            if any(atom.has_altloc() for atom in residue):
                by_number.setdefault((str(residue.seqid), residue.segment), []).append(row)
        drop = []
        for rows in by_number.values():
            best = max(rows, key=lambda row: (_mean_occupancy(list(chain[row])), -row))
            drop += [row for row in rows if row != best]
            residues += len(rows) > 1
        for row in sorted(drop, reverse=True):
            left_out += len(chain[row])
            del chain[row]
        for residue in chain:
            gone = _other_places(residue)
            for row in reversed(gone):
                del residue[row]
            left_out += len(gone)
            residues += bool(gone)
            for atom in residue:
                atom.altloc = "\0"
    if not left_out:
        return []
    return [
        f"residues in several places (altlocs): {residues}, the likeliest place of each was kept"
        f" and {left_out} atoms left out"
    ]


def _other_places(residue: Any) -> list[int]:
    """The rows of the atoms that are not in the residue's likeliest place."""
    by_letter: dict[str, list[Any]] = {}
    for atom in residue:
        if atom.has_altloc():
            by_letter.setdefault(atom.altloc, []).append(atom)
    if not by_letter:
        return []
    best = max(by_letter, key=lambda letter: (_mean_occupancy(by_letter[letter]), -ord(letter)))

    # The chosen letter first, then the occupancy: an atom may lack the chosen place.
    def rank(row: int) -> tuple[bool, float]:
        atom = residue[row]
        return not atom.has_altloc() or atom.altloc == best, atom.occ

    keep: dict[str, int] = {}
    for row, atom in enumerate(residue):
        # Another place's hydrogen would protonate this one.
        if atom.is_hydrogen() and atom.has_altloc() and atom.altloc != best:
            continue
        if atom.name not in keep or rank(row) > rank(keep[atom.name]):
            keep[atom.name] = row
    kept = set(keep.values())
    return [row for row in range(len(residue)) if row not in kept]
