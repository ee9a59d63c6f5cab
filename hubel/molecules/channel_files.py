"""Channels out of files, in the layout of gnina's and libmolgrid's maps of types (recmap, ligmap).

A channel a line: the names of its types, as smina calls them, with blanks between. From a `#` on a
line is a remark; empty lines count for nothing.
"""

from collections.abc import Mapping
from pathlib import Path

from hubel.errors import UserError, printable, suggestion
from hubel.molecules.channels import (
    ATOM_TYPES,
    ELEMENT_CHANNELS,
    HYDROGENS,
    LIGAND_CHANNELS,
    RECEPTOR_CHANNELS,
    Channels,
)

__all__ = [
    "LIGAND_SETS",
    "RECEPTOR_SETS",
    "channels_from_smina",
    "read_channels",
    "smina_names",
]

RECEPTOR_SETS = {"default": RECEPTOR_CHANNELS, "elements": ELEMENT_CHANNELS}
LIGAND_SETS = {"default": LIGAND_CHANNELS, "elements": ELEMENT_CHANNELS}

_LARGEST = 65_536  # bytes; all names there are make less than one thousand

_OF_SMINA = {kind.smina: kind.name for kind in ATOM_TYPES}


def read_channels(where: str, sets: Mapping[str, Channels], option: str) -> Channels:
    """Those of `sets` that `where` names, or of the file there.

    Raises `UserError`, which names `option` and the line at fault.
    """
    if where in sets:
        return sets[where]
    known = " and ".join(f"'{name}'" for name in sets)
    try:
        with Path(where).expanduser().open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name; no home folder
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{option} '{printable(where)}' cannot be read: {reason}; name a file with a channel a "
            f"line, or one of the ready sets {known}"
        ) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = None
    if text is None or len(content) > _LARGEST:
        raise UserError(
            f"{option} '{printable(where)}' is not a text of at most {_LARGEST:,} bytes; write a "
            f"channel a line, or name one of the ready sets {known}"
        )
    return _parsed(text, f"{option} '{printable(where)}'")


def _parsed(text: str, where: str) -> Channels:
    groups: list[tuple[str, ...]] = []
    line_of: dict[str, int] = {}
    hydrogens = [kind.smina for kind in ATOM_TYPES[:HYDROGENS]]
    for number, line in enumerate(text.splitlines(), 1):
        names = line.partition("#")[0].split()
        for name in names:
            if name in hydrogens:
                raise UserError(
                    f"{where} line {number}: '{name}' is never drawn, because hydrogens are read "
                    f"only to tell donors; leave it out"
                )
            if name not in _OF_SMINA:
                raise UserError(
                    f"{where} line {number}: '{printable(name)}' is no atom type; "
                    f"{suggestion(name, (k for k in _OF_SMINA if k not in hydrogens))}"
                )
            if name in line_of:
                raise UserError(
                    f"{where} line {number}: '{name}' stands in line {line_of[name]} already, and "
                    f"a type has one channel; take it out of one"
                )
            line_of[name] = number
        if names:
            groups.append(tuple(names))
    if not groups:
        raise UserError(
            f"{where} names no atom type; write a channel a line, such as 'Nitrogen "
            f"NitrogenXSAcceptor'"
        )
    return channels_from_smina(groups)


def channels_from_smina(groups: "list[tuple[str, ...]] | list[list[str]]") -> Channels:
    """For each channel the names that smina has for its types. Raises `ValueError` for others."""
    return Channels(tuple(tuple(_OF_SMINA.get(name, name) for name in group) for group in groups))


def smina_names(channels: Channels) -> list[list[str]]:
    """What `channels_from_smina` makes the same channels of."""
    names = {kind.name: kind.smina for kind in ATOM_TYPES}
    return [[names[name] for name in group] for group in channels.groups]
