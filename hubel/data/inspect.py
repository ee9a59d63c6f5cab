"""Look at a data set before anything is trained on it. The user's files are only read."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hubel.data.boxed import BoxedSource
from hubel.data.boxes import Fault
from hubel.data.cache import Progress
from hubel.data.duplicates import CopyGroups, group_copies, groups_of_copies
from hubel.data.findings import headlines
from hubel.data.headers import holds_files, scan_files
from hubel.data.inspection import Balance, ExactCopies, Headline, Inspection, NearPairs, SizeFacts
from hubel.data.leaks import Leaks, conflicting, leaks
from hubel.data.measure import measure_pixels
from hubel.data.measure_boxes import measure_boxes
from hubel.data.measure_masks import measure_masks
from hubel.data.near import near_copies
from hubel.data.poses import GOOD
from hubel.data.sentences import counted
from hubel.data.source import SPLITS, Source
from hubel.data.split import Split
from hubel.data.store import Store

__all__ = ["Headline", "Inspection", "Leaks", "examples", "inspect", "leaks", "sample_grid"]

Indices = npt.NDArray[np.int64]


def inspect(
    source: Source,
    store: Store,
    split: Split,
    *,
    near: bool = True,
    progress: Progress | None = None,
) -> Inspection:
    """Count, measure and check a data set.

    Parameters
    ----------
    near: also look for near copies; it takes the longest (about 20 s for 60,000 pictures on
        two cores).
    progress: called with ("measuring", done, total) and the like.

    Of pictures with masks `store` says which masks cannot be read, as it does of pictures: these
    are problems; faults are the annotations that were mended or passed over.
    """
    classes = source.info.classes
    readable = np.flatnonzero(store.readable)
    pixels = measure_pixels(store, readable, split.train, progress)
    split_of = np.full(len(source), "", "<U5")
    counts = np.zeros((len(SPLITS), len(classes)), np.int64)
    num_of_split = np.zeros(len(SPLITS), np.int64)
    for row, name in enumerate(SPLITS):
        members = getattr(split, name)
        split_of[members] = name
        num_of_split[row] = len(members)
        counts[row] = np.bincount(source.targets[members], minlength=len(classes))
    faults = _faults(source, store)
    boxes = masks = None
    if source.boxes is not None:
        boxes = measure_boxes(source.boxes, store, split_of, len(classes))
        counts = boxes.counts
    elif store.masks is not None:
        masks = measure_masks(store.masks, store.readable, split_of, len(classes), progress)
        counts = masks.counts
    # What samples are compared by: their class, or the set of classes in them.
    facts = boxes or masks
    kinds = source.targets if facts is None else _kinds(facts.present)
    copies = group_copies(store.digests, store.readable)
    own, channel_counts = np.unique(store.channels[readable], return_counts=True)
    where, num_unreadable = np.unique(source.splits[~store.readable], return_counts=True)
    files = scan_files(source, store.readable, progress) if holds_files(source) else None
    seen = Inspection(
        name=source.name,
        format=source.info.format,
        spatial_dims=source.info.spatial_dims,
        classes=classes,
        labels=source.info.labels,
        num_samples=len(source),
        num_readable=len(readable),
        num_of_split=num_of_split,
        counts=counts,
        boxes=boxes,
        masks=masks,
        unreadable=dict(zip(where.tolist(), num_unreadable.tolist(), strict=True)),
        split_drawn=bool((source.splits[split.test] == "").any()),
        sizes=_size_facts(store, readable),
        in_channels=store.in_channels,
        channels=dict(zip(own.tolist(), channel_counts.tolist(), strict=True)),
        pixels=pixels,
        balance=_balance(classes, counts[0]),
        files=files,
        problems=list(store.problems),
        faults=faults,
        exact=_exact_copies(kinds, copies, split_of),
        near=_near_pairs(source, store, copies, split_of, progress) if near else None,
        refused=split.refused,
        notes=[*_pose_notes(source), *source.notes, *store.notes, *split.notes],
        headlines=[],
        ids=source.ids,
        targets=source.targets,
        split_of=split_of,
    )
    return replace(seen, headlines=headlines(seen))


def _pose_notes(source: Source) -> list[str]:
    """What poses are of, in sentences."""
    if source.poses is None:
        return []
    ligands, receptors = source.poses.ligand_of, source.poses.complexes.receptor_of
    num_ligands = len(np.unique(ligands))
    without = num_ligands - len(np.unique(ligands[source.targets == GOOD]))
    of = f"{counted(len(source), 'pose')} of {counted(num_ligands, 'ligand')}"
    notes = [f"{of} in {counted(len(np.unique(receptors)), 'receptor')}"]
    if without:
        notes.append(f"{without} of the ligands have no good pose")
    for what, column in (
        ("docking score", source.poses.docking_score),
        ("affinity", source.poses.affinity),
        ("RMSD", source.poses.rmsd),
    ):
        known = int(np.isfinite(column).sum())
        if known < len(source):
            notes.append(f"{len(source) - known:,} poses have no {what}")
    return notes


def sample_grid(source: Source, store: Store, per_class: int, seed: int = 0) -> list[Indices]:
    """For each class up to `per_class` readable samples, drawn at random, ascending."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(np.flatnonzero(store.readable))
    targets = source.targets[shuffled]
    order = np.argsort(targets, kind="stable")
    borders = np.searchsorted(targets[order], np.arange(1, len(source.info.classes)))
    return [np.sort(part[:per_class]) for part in np.split(shuffled[order], borders)]


def examples(
    present: npt.NDArray[np.bool_], usable: npt.NDArray[np.bool_], per_class: int, seed: int = 0
) -> list[Indices]:
    """For each class up to `per_class` usable samples that hold it, drawn at random, ascending.

    `present` (n, k) says what each of the n samples holds. The rarest class chooses first, and
    none takes a sample that is shown already while there are others.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(np.flatnonzero(usable))
    taken = np.zeros(len(usable), np.int64)
    chosen: list[Indices] = [np.zeros(0, np.int64)] * present.shape[1]
    for k in np.argsort(present[usable].sum(axis=0), kind="stable").tolist():
        holding = shuffled[present[shuffled, k]]
        fresh_first = holding[np.argsort(taken[holding], kind="stable")]
        chosen[k] = np.sort(fresh_first[:per_class])
        taken[chosen[k]] += 1
    return chosen


def _kinds(present: npt.NDArray[np.bool_]) -> Indices:
    """One number (n,) for each set of classes that occurs."""
    return np.unique(present, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _size_facts(store: Store, readable: Indices) -> SizeFacts:
    own = store.sizes[readable].astype(np.int64)
    sizes, counts = np.unique(own, axis=0, return_counts=True)
    by_area = np.argsort(sizes.prod(axis=1), kind="stable")
    by_count = np.argsort(-counts, kind="stable")
    return SizeFacts(
        stored=tuple(store.size),
        smallest=tuple(sizes[by_area[0]].tolist()),
        median=tuple(np.median(own, axis=0).tolist()),
        largest=tuple(sizes[by_area[-1]].tolist()),
        sizes=sizes[by_count],
        counts=counts[by_count],
    )


def _balance(classes: tuple[str, ...], counts: Indices) -> Balance:
    most, least = int(counts.argmax()), int(counts.argmin())
    shares = counts[counts > 0] / max(1, int(counts.sum()))
    entropy = float(-(shares * np.log(shares)).sum())
    return Balance(
        largest=classes[most],
        num_largest=int(counts[most]),
        smallest=classes[least],
        num_smallest=int(counts[least]),
        ratio=float(counts[most] / counts[least]) if counts[least] else None,
        # abs: the entropy of a single class comes as -0.0.
        evenness=abs(entropy) / float(np.log(len(classes))) if len(classes) > 1 else 1.0,
    )


def _faults(source: Source, store: Store) -> list[Fault]:
    """What is wrong with annotations, as far as the pictures' own sizes tell."""
    found = list(source.faults)
    if isinstance(source, BoxedSource):
        found += source.wrong_sizes(store.sizes)
    return found


def _exact_copies(
    kinds: Indices, copies: CopyGroups, split_of: npt.NDArray[np.str_]
) -> ExactCopies:
    groups = groups_of_copies(copies, np.ones(len(copies.first), np.bool_))
    groups.sort(key=lambda group: _rank(split_of[group]))
    in_train = copies.also(split_of == "train")
    in_val = copies.also(split_of == "val")
    return ExactCopies(
        groups=groups,
        num_spare=sum(len(group) - 1 for group in groups),
        leaked={name: int((in_train & (split_of == name)).sum()) for name in ("val", "test")},
        val_in_test=int((in_val & (split_of == "test")).sum()),
        conflicts=conflicting(copies, kinds),
    )


def _rank(splits: npt.NDArray[np.str_]) -> int:
    """How bad it is that these splits hold the same: train with test first."""
    found = set(splits.tolist())
    for rank, both in enumerate(({"train", "test"}, {"train", "val"}, {"val", "test"})):
        if both <= found:
            return rank
    return 3


def _near_pairs(
    source: Source,
    store: Store,
    copies: CopyGroups,
    split_of: npt.NDArray[np.str_],
    progress: Progress | None,
) -> NearPairs:
    found = near_copies(
        store,
        copies.first,
        source.targets[copies.first],
        mirrored=source.info.flip_safe,
        progress=progress,
    )
    # A pair stands for the groups of exact copies that its two samples belong to.
    groups = copies.group[found.pairs]
    trained = copies.holds(split_of == "train")
    resembles = np.zeros(len(copies.first), np.bool_)
    for one, other in ((0, 1), (1, 0)):
        resembles[groups[trained[groups[:, other]], one]] = True
    leaked = {}
    for name in ("val", "test"):
        members = np.flatnonzero((split_of == name) & (copies.group >= 0))
        group = copies.group[members]
        leaked[name] = int((resembles[group] & ~trained[group]).sum())
    ranks = np.array([_rank(splits) for splits in split_of[found.pairs]], np.int64)
    order = np.lexsort((-found.alike, ranks))
    labels = source.targets[found.pairs]
    return NearPairs(
        pairs=found.pairs[order],
        alike=found.alike[order],
        mirrored=found.mirrored[order],
        leaked=leaked,
        # Two views of a street may well hold different things.
        num_conflicts=int((labels[:, 0] != labels[:, 1]).sum())
        if source.info.labels == "class"
        else 0,
        num_compared=found.num_compared,
    )
