"""The first half of the road in one call: source, store, split and the cheap inspection."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hubel.config import FitConfig
from hubel.data.cache import Progress, open_store
from hubel.data.folds import fold_splits
from hubel.data.leaks import Leaks, leaks
from hubel.data.legend import IGNORED
from hubel.data.posed import PoseSource
from hubel.data.source import Source, open_source
from hubel.data.split import Split, given_split, keep_copies_together, split_source
from hubel.data.store import Store
from hubel.errors import UserError
from hubel.molecules.drawing import Drawing, drawing_of
from hubel.molecules.sequences import alike_receptors
from hubel.shapes import format_shape, per_dim

__all__ = [
    "Data",
    "draw_split",
    "input_size",
    "open_configured",
    "positions_of",
    "prepare_data",
    "restore_split",
    "split_to_inspect",
]

_OF_ATOMS = ("receptor_channels", "ligand_channels", "grid_resolution", "grid_edge")
_CORRUPT_SHARE = 0.01  # of a split: more unreadable samples than this stop a fit


@dataclass(frozen=True)
class Data:
    """A source ready to train on."""

    source: Source
    store: Store
    split: Split
    leaks: Leaks
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """The facts that a run keeps as data.json."""
        info = self.source.info
        return {
            "path": None if self.source.path is None else str(self.source.path.resolve()),
            "format": info.format,
            "fingerprint": self.store.fingerprint,
            "spatial_dims": info.spatial_dims,
            "in_channels": self.store.in_channels,
            "size": list(self.store.size),
            "classes": len(info.classes),
            "samples": len(self.source),
            "splits": {name: len(getattr(self.split, name)) for name in ("train", "val", "test")},
            "unreadable": [{"id": p.id, "reason": p.reason} for p in self.store.problems],
            "leaks": self.leaks.to_json(),
            "notes": self.notes,
        }

    def split_json(self) -> dict[str, list[str]]:
        """The ids of each split, kept in the run as split.json."""
        return {
            name: [self.source.ids[int(i)] for i in getattr(self.split, name)]
            for name in ("train", "val", "test")
        }


def input_size(config: FitConfig, spatial_dims: int) -> tuple[int, ...] | None:
    """--img-size for data of `spatial_dims` dimensions, None if it is left to the data."""
    if config.img_size is None:
        return None
    if len(config.img_size) not in (1, spatial_dims):
        raise UserError(
            f"--img-size {format_shape(*config.img_size)} has {len(config.img_size)} sides, "
            f"the data has {spatial_dims}: give one side for all, or {spatial_dims}"
        )
    sides = config.img_size[0] if len(config.img_size) == 1 else config.img_size
    return per_dim(sides, spatial_dims)


def open_configured(
    config: FitConfig, progress: Progress | None, drawing: Drawing | None = None
) -> tuple[Source, Store]:
    """The source that `config` names and its pixels.

    Poses are drawn as a run's `drawing` says, without one as `config` does.
    """
    source = open_source(config.data)
    asked = [name for name in _OF_ATOMS if name in config.changed_from_default()]
    if isinstance(source, PoseSource):
        source = source.drawn_as(drawing or _drawing(config))
    elif asked:
        raise UserError(
            f"--{asked[0].replace('_', '-')} says how atoms are drawn, and DATA '{source.name}' "
            f"has no poses of molecules; leave it out"
        )
    if config.same_protein < 1:
        source.groups = _proteins(source, config.same_protein)
    size = input_size(config, source.info.spatial_dims)
    return source, open_store(source, size=size, cache=config.cache, progress=progress)


def _drawing(config: FitConfig) -> Drawing:
    return drawing_of(
        config.receptor_channels,
        config.ligand_channels,
        config.grid_resolution,
        config.grid_edge,
    )


def _proteins(source: Source, identity: float) -> npt.NDArray[np.str_]:
    """The group of each pose: its protein, as sequences tell them apart."""
    if source.poses is None or source.poses.sequences is None:
        raise UserError(
            f"--same-protein compares sequences of receptors, and DATA '{source.name}' has none; "
            f"leave it out, or give folders of complexes"
        )
    clusters = alike_receptors(source.poses.sequences, identity)
    source.notes.append(
        f"{len(clusters)} receptors are {len(np.unique(clusters))} proteins at {identity:.0%} of "
        f"identical residues"
    )
    return clusters[source.poses.complexes.receptor_of].astype(np.str_)


def draw_split(source: Source, store: Store, config: FitConfig) -> Split:
    """The data's own split, completed by a draw in which exact copies stay together."""
    usable, splits = store.readable, None
    if config.fold:
        splits = fold_splits(source, config.fold, config.holding_out, usable)
    split = split_source(
        source,
        val_fraction=config.val_fraction,
        seed=config.holding_out,
        usable=usable,
        splits=splits,
    )
    return keep_copies_together(split, source, store.digests)


def split_to_inspect(source: Source, store: Store, config: FitConfig) -> Split:
    """As `draw_split`; where a fit would refuse the data, what they give, and the reason."""
    try:
        return draw_split(source, store, config)
    except UserError as error:
        if not store.readable.any():
            raise
        return given_split(source, store.readable, str(error))


def prepare_data(config: FitConfig, progress: Progress | None = None) -> Data:
    """Open, read once, split, and look for what makes a result worthless.

    Raises `UserError` when more than 1 % of a split is unreadable (unless --allow corrupt),
    and with --strict when any is, or when copies lie across splits.
    """
    source, store = open_configured(config, progress)
    _refuse_corrupt(source, store, config)
    split = draw_split(source, store, config)
    unseen = _unlearned_classes(source, store, split)
    if unseen:
        split = replace(split, notes=[*split.notes, unseen])
    return _with_leaks(source, store, split, config)


def restore_split(
    config: FitConfig,
    ids: dict[str, list[str]],
    drawing: Drawing | None,
    progress: Progress | None,
) -> Data:
    """The same data with the split and the drawing that a run recorded.

    Raises `UserError` if ids are missing.
    """
    source, store = open_configured(config, progress, drawing)
    arrays = positions_of(source, ids)
    split = Split(arrays["train"], arrays["val"], arrays["test"], [])
    return _with_leaks(source, store, split, config)


def positions_of(source: Source, ids: dict[str, list[str]]) -> dict[str, npt.NDArray[np.int64]]:
    """The index of each id in `source`, by split. Raises `UserError` if one is missing."""
    position = {name: i for i, name in enumerate(source.ids)}
    missing = [name for split in ids.values() for name in split if name not in position]
    if missing:
        raise UserError(
            f"DATA '{source.path}' has lost {len(missing)} of the run's samples (first: "
            f"'{missing[0]}'); put them back, or name the data to evaluate on"
        )
    return {
        name: np.array([position[i] for i in split], dtype=np.int64) for name, split in ids.items()
    }


def _with_leaks(source: Source, store: Store, split: Split, config: FitConfig) -> Data:
    found = leaks(source, store, split)
    if config.strict and found.count:
        raise UserError(
            f"--strict: {found.headline()}; remove the copies, or train without --strict"
        )
    notes = [*source.notes, *store.notes, *split.notes]
    if store.problems:
        first = store.problems[0]
        notes.append(
            f"skipped {len(store.problems)} unreadable "
            f"sample{'s' if len(store.problems) > 1 else ''} "
            f"(first: {first.id}: {first.reason}; all are listed in data.json)"
        )
    if found.count:
        notes.append(f"WARNING: {found.headline()}; figures are given with and without them")
    return Data(source, store, split, found, notes)


def _unlearned_classes(source: Source, store: Store, split: Split) -> str:
    """A warning about classes without a pixel in the training masks, "" where there is none.

    Masks in which no pixel has a class teach nothing: raises `UserError`.
    """
    if store.masks is None:
        return ""
    classes, ignored = source.info.classes, 0
    counts = np.zeros(256, np.int64)
    for part in torch.from_numpy(split.train).split(64):
        counts += np.bincount(store.masks.gather(part).numpy().reshape(-1), minlength=256)
        if counts[: len(classes)].all():  # mostly after the first part
            return ""
    ignored = int(counts[IGNORED])
    if ignored == counts.sum():
        raise UserError(
            f"DATA '{source.name}' has no pixel to learn from: in every mask of "
            f"train all are {IGNORED} or of a class that is none; mend the masks or their legend"
        )
    shown = ", ".join(f"'{classes[k]}'" for k in np.flatnonzero(counts[: len(classes)] == 0)[:5])
    where = (
        f", while {ignored / counts.sum():.1%} of the pixels are {IGNORED}, which is no class: if "
        f"that is an object, name it in the legend"
        if ignored
        else ""
    )
    return f"WARNING: no training pixel of {shown}: nothing is learned of it{where}"


def _refuse_corrupt(source: Source, store: Store, config: FitConfig) -> None:
    if not store.problems:
        return
    first = store.problems[0]
    if config.strict:
        raise UserError(
            f"--strict: {len(store.problems)} of {len(source)} samples are unreadable (first: "
            f"{first.id}: {first.reason}); mend or remove them (hubel inspect lists all)"
        )
    for name in np.unique(source.splits):
        inside: npt.NDArray[np.bool_] = source.splits == name
        broken = int((inside & ~store.readable).sum())
        if broken > _CORRUPT_SHARE * inside.sum() and config.allow != "corrupt":
            broken_ids = {source.ids[int(i)] for i in np.flatnonzero(inside & ~store.readable)}
            where = f"split '{name}'" if name else "the data"
            first = next(p for p in store.problems if p.id in broken_ids)
            raise UserError(
                f"{broken} of {int(inside.sum())} samples of {where} are unreadable, more than "
                f"{_CORRUPT_SHARE:.0%} (first: {first.id}: {first.reason}); mend or remove them "
                f"(hubel inspect lists all), or train without them by --allow corrupt"
            )
