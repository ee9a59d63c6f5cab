"""`hubel dock RECEPTOR LIGAND`: poses of ligands in a receptor, generated, scored and ranked."""

import json as json_module
from typing import TYPE_CHECKING

import typer

from hubel.cli.output import only_the_document
from hubel.cli.progress import reporting

if TYPE_CHECKING:
    from hubel.docking.dock import Docked

__all__ = ["dock"]


def dock(
    receptor: str = typer.Argument(
        ..., help="The protein: a PDB or mmCIF file, also .gz.", metavar="RECEPTOR"
    ),
    ligand: str | None = typer.Argument(
        None,
        help="One or many ligands: SDF, MOL2, PDB or SMILES, also .gz.",
        metavar="[LIGAND]",
        show_default=False,
    ),
    scorer: str | None = typer.Option(
        None,
        "--scorer",
        help="What scores: a run of hubel fit on poses, or a file of gnina's published weights; "
        "without it Vina alone ranks.",
        show_default=False,
    ),
    model: str | None = typer.Option(
        None,
        "--model",
        help="Your own network's file.py:NAME, if it is what the run of --scorer trained: a run "
        "alone may not have a file executed.",
        show_default=False,
    ),
    center: tuple[float, float, float] | None = typer.Option(
        None, "--center", help="Middle of the box in Å.", metavar="X Y Z", show_default=False
    ),
    size: tuple[float, float, float] | None = typer.Option(
        None,
        "--size",
        help="Sides of the box about --center in Å.",
        metavar="X Y Z",
        show_default=False,
    ),
    autobox: str | None = typer.Option(
        None, "--autobox", help="Put the box around the ligand in this file.", show_default=False
    ),
    pocket: bool = typer.Option(False, "--pocket", help="Put the box around the largest pocket."),
    poses: str | None = typer.Option(
        None,
        "--poses",
        help="Score the poses in this file, in place of LIGAND's new ones.",
        show_default=False,
    ),
    crystal: str | None = typer.Option(
        None,
        "--crystal",
        help="Where the ligand really sits: RMSDs to it are told, and the box is put around it "
        "where nothing else says where.",
        show_default=False,
    ),
    minimise: bool = typer.Option(
        False, "--minimise", help="Take each pose to Vina's nearest minimum first."
    ),
    exhaustiveness: int = typer.Option(8, "--exhaustiveness", help="Of Vina's search."),
    num_poses: int = typer.Option(9, "--num-poses", help="Poses that are kept of each ligand."),
    seed: int = typer.Option(1, "--seed", help="Of search, conformers and rotations."),
    orientations: int = typer.Option(
        8, "--orientations", help="In how many the network looks at each pose."
    ),
    contributions: str = typer.Option(
        "gradient",
        "--contributions",
        help="Which atoms a score comes from: gradient, masking (slower, exact) or none.",
    ),
    device: str = typer.Option("auto", "--device", help="Of the network: auto, cpu, cuda, mps."),
    keep_waters: bool = typer.Option(False, "--keep-waters", help="Waters belong to the receptor."),
    without: list[str] = typer.Option(
        [],
        "--without",
        help="A residue that is left out of RECEPTOR: GOL, or 'A 401'.",
        show_default=False,
    ),
    processes: int | None = typer.Option(
        None,
        "--processes",
        min=1,
        help="Ligands docked at once (default: one a core).",
        show_default=False,
    ),
    output: str = typer.Option(
        "docked", "--output", help="The folder to write into, new or of the same docking."
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """Dock ligands into a protein, score their poses with a network, and rank them."""
    from hubel import api

    with only_the_document(json), reporting() as report:
        docked = api.dock(
            receptor,
            ligand,
            output=output,
            scorer=scorer,
            model=model,
            center=center,
            size=size,
            autobox=autobox,
            pocket=pocket,
            poses=poses,
            crystal=crystal,
            minimise=minimise,
            exhaustiveness=exhaustiveness,
            num_poses=num_poses,
            seed=seed,
            orientations=orientations,
            contributions=contributions,
            device=device,
            keep_waters=keep_waters,
            without=tuple(without),
            processes=processes,
            report=report,
        )
    if json:
        print(json_module.dumps(docked.to_json()))
    else:
        _show(docked)


def _show(docked: "Docked") -> None:
    """The best pose of each ligand, and where the rest is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hubel.errors import printable

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("ligand", overflow="ellipsis", no_wrap=True, max_width=28)
    for name in ("poses", "good", "±", "pK", "Vina", "RMSD"):
        table.add_column(name, justify="right")
    table.add_column("checks")
    for ligand in docked.ligands[:_MOST_LIGANDS]:
        label = Text(printable(ligand.name))
        if not ligand.poses:
            table.add_row(label, "0", *[""] * 5, "failed: see ranking.csv")
            continue
        best = ligand.poses[0]
        failed = [check.name for check in best.checks if not check.passed]
        table.add_row(
            label,
            str(len(ligand.poses)),
            *(
                "–" if value is None else f"{value:.{digits}f}"
                for value, digits in (
                    (best.probability, 2),
                    (best.spread, 2),
                    (best.affinity, 1),
                    (best.vina, 1),
                    (best.rmsd, 1),
                )
            ),
            f"fails {', '.join(failed)}" if failed else "passed",
        )
    console.print(table)
    if len(docked.ligands) > _MOST_LIGANDS:
        console.print(f"… and {len(docked.ligands) - _MOST_LIGANDS} more", markup=False)
    found = docked.found()
    if found:
        n = found["with_crystal"]
        console.print(
            f"within 2 Å of the crystal's pose: the first of {found['top1']} of {n} ligands, one "
            f"of the first three of {found['top3']} (Vina alone: {found['vina_top1']} and "
            f"{found['vina_top3']})",
            markup=False,
        )
    console.print(f"report: {docked.report}", markup=False, soft_wrap=True)


_MOST_LIGANDS = 40  # in the terminal; ranking.csv and the report have all
