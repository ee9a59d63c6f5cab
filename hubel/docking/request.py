"""What a docking was asked for: all that its results depend on, as a person gave it."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hubel.errors import UserError
from hubel.python_file import file_sha256, is_own_file

__all__ = ["CONTRIBUTIONS", "DockRequest"]

CONTRIBUTIONS = ("none", "gradient", "masking")
_MOST, _LARGEST_SEED = 1000, 2**31 - 1


@dataclass(frozen=True)
class DockRequest:
    """A docking's settings.

    Attributes
    ----------
    receptor: a PDB or mmCIF file.
    ligands: a file of ligands; None where poses are given.
    scorer: a run of `rank_poses`, or a file of published weights; None ranks by Vina alone.
    model: "file.py:NAME" where the run learned a network of the person's own: a run alone may not
        have a file executed.
    center, size: the box's middle and sides in Å; None where it is found otherwise.
    autobox: a file whose first ligand the box is put around.
    pocket: the box is put around the largest pocket.
    poses: a file of poses that are scored in place of new ones.
    crystal: a file whose first ligand is where the ligand really sits.
    minimise: take each pose to Vina's nearest minimum first.
    exhaustiveness, num_poses, seed: of Vina's search; the seed also of conformers and rotations.
    orientations: in how many the network looks at each pose.
    device: what the network runs on: "auto", "cpu", "cuda", "cuda:1", "mps".
    contributions: how atoms' contributions are found, "none", "gradient" or "masking".
    keep_waters, without: residues of the receptor, as `read_receptor` has them.
    """

    receptor: str
    ligands: str | None = None
    scorer: str | None = None
    model: str | None = None
    center: tuple[float, float, float] | None = None
    size: tuple[float, float, float] | None = None
    autobox: str | None = None
    pocket: bool = False
    poses: str | None = None
    crystal: str | None = None
    minimise: bool = False
    exhaustiveness: int = 8
    num_poses: int = 9
    seed: int = 1
    orientations: int = 8
    contributions: str = "gradient"
    device: str = "auto"
    keep_waters: bool = False
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.ligands is None) == (self.poses is None):
            raise UserError(
                "name a file of ligands to dock, or give --poses, a file of poses to score"
                if self.ligands is None
                else "--poses scores poses as they are, and LIGAND is docked: give one of them"
            )
        places = [self.center is not None, self.autobox is not None, self.pocket]
        if sum(places) > 1:
            raise UserError("--center, --autobox and --pocket each say where: give one of them")
        if not any(places) and self.poses is None and self.crystal is None:
            raise UserError(
                "say where to dock: --center X Y Z, --autobox LIGAND (a file), or --pocket"
            )
        if self.size is not None and self.center is None:
            raise UserError("--size is of the box about --center: give that too, or leave it out")
        if self.model is not None and self.scorer is None:
            raise UserError(
                f"--model '{self.model}' is of the run that scores: give that as --scorer too, or "
                f"leave it out"
            )
        if self.contributions not in CONTRIBUTIONS:
            raise UserError(
                f"--contributions '{self.contributions}' is not known: {', '.join(CONTRIBUTIONS)}"
            )
        for option, value in (
            ("--exhaustiveness", self.exhaustiveness),
            ("--num-poses", self.num_poses),
            ("--seed", self.seed),
            ("--orientations", self.orientations),
        ):
            most = _LARGEST_SEED if option == "--seed" else _MOST
            if not 1 <= value <= most:
                raise UserError(f"{option} must be from 1 to {most}, got {value}")

    def to_json(self) -> dict[str, Any]:
        """All settings, and of each file its sha256: equal ones give equal results."""
        files = (self.receptor, self.ligands, self.autobox, self.poses, self.crystal, self.scorer)
        digests = {name: _digest(Path(name)) for name in files if name is not None}
        if self.model is not None and is_own_file(self.model):
            digests[self.model] = file_sha256(self.model)
        return {
            **asdict(self),
            "center": None if self.center is None else list(self.center),
            "size": None if self.size is None else list(self.size),
            "without": list(self.without),
            "sha256": digests,
        }


def _digest(path: Path) -> str:
    """Of a file; of a run its network's and those of what it sees and of its result, which holds
    the consensus.
    """
    names = ("model.safetensors", "preprocess.json", "result.json")
    files = [path / name for name in names] if path.is_dir() else [path]
    try:
        digests = []
        for one in files:
            with one.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        return " ".join(digests)
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror or error}") from None
