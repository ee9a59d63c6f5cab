"""`hubel models`: the architectures, and what each of them is."""

import json as json_module
import textwrap
from typing import TYPE_CHECKING, Any

import typer

from hubel.errors import UserError
from hubel.shapes import format_shape

if TYPE_CHECKING:
    from hubel.models import Architecture

__all__ = ["models"]


def models(
    name: str | None = typer.Argument(None, help="Explain this one.", metavar="NAME"),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """List the networks with paper, year, parameters and MACs, or explain one."""
    from hubel.models import MODELS

    if name is not None and ":" in name:
        raise UserError(
            f"'{name}' is not one of hubel's own networks, which this verb explains; hubel cost "
            f"{name} and hubel draw {name} take it"
        )
    if name is not None:
        architecture = MODELS[name]
        if json:
            print(json_module.dumps(_facts(name, architecture), allow_nan=False))
        else:
            print("\n".join(_explained(name, architecture)))
        return
    every = sorted(
        ((n, MODELS[n]) for n in MODELS.names()), key=lambda m: (m[1].year, m[1].title, m[1].macs)
    )
    if json:
        print(json_module.dumps([_facts(n, a) for n, a in every], allow_nan=False))
        return
    print(f"{'model':<20} {'year':<5} {'parameters':>12} {'GMACs':>8} {'input':>11}  smallest side")
    for n, a in every:
        small = "" if a.smallest_small is None else f", small stem {a.smallest_small}"
        size = format_shape(*a.input_shape)
        print(
            f"{n:<20} {a.year:<5} {a.num_params:>12,} {a.macs / 1e9:>8.3f} {size:>11}  "
            f"{a.smallest}{small}"
        )
    print(
        "\nCounts are those of the published network (hubel models NAME); FLOPs are twice"
        "\nthe MACs. torchvision:NAME, timm:NAME and your own file.py:CLASS are taken"
        "\nwherever a network is trained, costed or drawn."
    )


def _explained(name: str, a: "Architecture") -> list[str]:
    lines = [name, *textwrap.wrap(f"{a.title}. {a.authors}, {a.year}. {a.source}.", 78), ""]
    lines += [*textwrap.wrap(a.idea, 78), ""]
    facts = [
        ("blocks", a.blocks),
        ("introduced", a.introduced),
        (
            "counts",
            f"{a.num_params:,} parameters; {a.macs:,} MACs, {2 * a.macs:,} FLOPs for "
            f"{format_shape(*a.input_shape)} and {a.num_classes} classes",
        ),
        ("smallest input", f"{a.smallest} pixels a side with the paper's stem"),
    ]
    if a.smallest_small is not None:
        facts.append(("small stem", f"for pictures below 96 pixels; from {a.smallest_small}"))
    if a.torchvision is not None:
        facts.append(("in torchvision", a.torchvision))
    for what, words in facts:
        lines += textwrap.wrap(f"{what:<15} {words}", 78, subsequent_indent=" " * 16)
    return lines


def _facts(name: str, a: "Architecture") -> dict[str, Any]:
    """Of --json; counts for the published input, FLOPs = 2·MACs."""
    return {
        "name": name,
        "title": a.title,
        "authors": a.authors,
        "year": a.year,
        "source": a.source,
        "idea": a.idea,
        "blocks": a.blocks,
        "introduced": a.introduced,
        "params": a.num_params,
        "macs": a.macs,
        "flops": 2 * a.macs,
        "input": list(a.input_shape),
        "num_classes": a.num_classes,
        "smallest": a.smallest,
        "smallest_small": a.smallest_small,
        "torchvision": a.torchvision,
    }
