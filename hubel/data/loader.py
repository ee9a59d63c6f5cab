"""`Loader`: batches made by tensor operations in the training process.

No sample is touched by Python on its own: a chunk of a few batches is gathered from the
store, augmented, normalised and cut. What a sample looks like depends on (seed, epoch,
sample) alone, so an epoch can be entered at any batch and goes on bit for bit.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from hubel.data.augment import Augment, mixup_partners
from hubel.data.mosaic import MosaicDraws, mosaic, mosaic_draws
from hubel.data.posed import PoseStore, Posing
from hubel.data.preprocess import Preprocess
from hubel.data.store import Store
from hubel.data.targets import NO_OBJECT, PoseTargets, Targets
from hubel.randomness import generator, stream_seed
from hubel.world import World

__all__ = [
    "Batch",
    "Loader",
    "Transform",
    "batches_of",
    "evaluation_batch",
    "resident",
    "samples_at_once",
]

_MOST_AT_ONCE, _PIXELS_AT_ONCE = 512, 1 << 20
_RESIDENT = 0.2  # of the free memory of a GPU, for the pixels of the whole set
_CHUNK_BYTES = 8 << 20  # float input made at once: a few batches, small enough for the cache

Transform = Callable[[torch.Tensor, int], torch.Tensor]
"""transform(picture uint8 (h, w, c), seed) -> picture of the same type and layout."""


def batches_of(num_samples: int, batch_size: int) -> int:
    """Batches in an epoch over `num_samples`; the last may be smaller, none is dropped.

    A single sample that is left over joins the batch before it: batch norm may need two.

    >>> [batches_of(n, 8) for n in (1, 8, 9, 10)]
    [1, 1, 1, 2]
    """
    whole, left = divmod(num_samples, batch_size)
    return whole if left == 0 or (left == 1 and whole > 0) else whole + 1


def samples_at_once(size: tuple[int, ...]) -> int:
    """Samples of a spatial size that a network takes at once where it does not learn: up to 512,
    and 2**20 pixels or voxels in all, because its maps and its answers grow with these.

    >>> [samples_at_once(size) for size in ((28, 28), (288, 384), (64, 64, 64), (2000, 3000))]
    [512, 9, 4, 1]
    """
    return max(1, min(_MOST_AT_ONCE, _PIXELS_AT_ONCE // math.prod(size)))


def evaluation_batch(store: Store) -> int:
    """Samples of `store` that an evaluation takes at once."""
    return samples_at_once(store.size)


@dataclass(frozen=True)
class Batch:
    """What the loop sees.

    Attributes
    ----------
    input: float32 (n, c, *spatial), channels-last in memory.
    target: as the rows of `Targets`: int64 (n,) classes (float32 (n, num_classes)
        probabilities after mixup), float32 (n, most, 5) boxes (four times as many rows with
        mosaics), uint8 (n, *spatial) masks, float32 (n, 4) poses.
    ids: int64 (n,), indices of the samples in their source.
    whole: samples of the batch in all processes; 0 where there is one process.
    """

    input: torch.Tensor
    target: torch.Tensor
    ids: torch.Tensor
    whole: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def split(self, parts: int, whole: int, least: int | None = None) -> list["Batch"]:
        """Micro-batches of nearly equal size, in order, none empty, together this batch.

        A batch of `whole` samples gives `parts`, a smaller one as many fewer. None is of one
        sample unless those of a whole batch are: batch norm may need two. Of several processes
        each makes as many as the one with the `least` samples of this batch.
        """
        n = len(self) if least is None else least
        singles = 2 * parts > whole
        parts = min(parts, -(-n * parts // whole), n if singles else max(n // 2, 1))
        columns = [t.tensor_split(parts) for t in (self.input, self.target, self.ids)]
        return [Batch(*c) for c in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Loader:
    """Batches of samples `indices` of a store.

    Attributes
    ----------
    store, targets: pixels and targets of the whole source.
    indices: the samples of this split.
    num_classes: length of a mixed target.
    augment: applied to training batches; None for evaluation. Its mosaics are of boxes only.
    posing: how training batches of poses are moved, in place of `augment`.
    transform: a person's own transform of one picture, called before `augment`.
    mixup: Beta parameter; 0 is off. Of classes only.
    balanced: draw every class equally often (with replacement), an epoch as long as the split.
        Of classes, and of poses, where every ligand is drawn equally often too.
    difficulty, hard_share: an epoch visits `hard_share` (at least one half) of the samples;
        those left out are drawn anew each epoch from the easier ones, twice as many as are
        left out, by `difficulty` (n,) of the samples of this split.
    device: where batches are put.
    world: of every batch, this process makes its share only.
    resident: the store's pixels on the device, if they lie there; see `resident`.
    """

    store: Store
    targets: Targets
    indices: npt.NDArray[np.int64]
    preprocess: Preprocess
    batch_size: int
    seed: int
    num_classes: int
    augment: Augment | None = None
    posing: Posing | None = None
    transform: Transform | None = None
    mixup: float = 0.0
    balanced: bool = False
    difficulty: npt.NDArray[np.float32] | None = None
    hard_share: float = 1.0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    world: World = field(default_factory=World)
    resident: torch.Tensor | None = None

    def __len__(self) -> int:
        """Batches in an epoch; see `batches_of`."""
        return batches_of(self._visited, self.batch_size)

    @property
    def _visited(self) -> int:
        """Samples that an epoch visits."""
        return len(self.indices) - self._left_out

    @property
    def _left_out(self) -> int:
        """Samples that it does not."""
        return int((1 - self.hard_share) * len(self.indices))

    @property
    def largest(self) -> int:
        """Samples in a batch, but for a last one."""
        return min(self.batch_size, self._visited)

    def order(self, epoch: int) -> torch.Tensor:
        """Positions (n,) in `indices` in the order in which `epoch` visits them."""
        stream = generator(self.seed, "order", epoch)
        n = len(self.indices)
        if self.difficulty is not None and self._left_out:
            easy = torch.from_numpy(self.difficulty).argsort(stable=True)[: 2 * self._left_out]
            draw = torch.randperm(len(easy), generator=stream)[: self._left_out]
            visited = torch.ones(n, dtype=torch.bool)
            visited[easy[draw]] = False
            positions = visited.nonzero()[:, 0]
            return positions[torch.randperm(len(positions), generator=stream)]
        if not self.balanced:
            return torch.randperm(n, generator=stream)
        indices = torch.from_numpy(self.indices)
        if isinstance(self.targets, PoseTargets):
            weights = self.targets.weights(indices)
        else:
            targets = self.targets.rows(indices)
            weights = (1.0 / targets.bincount(minlength=self.num_classes).clamp_min(1))[targets]
        return torch.multinomial(weights.double(), n, replacement=True, generator=stream)

    def evaluation(self, orientation: int = 0) -> Iterator[Batch]:
        """Every sample once, in order, never augmented; of them this process's share.

        Poses are seen as they stand in orientation 0, in each other one turned in a way of its
        own.
        """
        share = self.world.share(len(self.indices))
        indices = torch.from_numpy(self.indices)[share]
        draws = None
        if orientation:
            turned = Posing(turned=True, translate=0.0)
            draws = turned.draws(len(self.indices), self.seed, -orientation)[share]
        for start in range(0, len(indices), self.batch_size):
            part = slice(start, start + self.batch_size)
            ids = indices[part]
            target = self.targets.rows(ids).to(self.device)
            pixels = self._pixels(ids, None if draws is None else draws[part])
            yield Batch(self.preprocess(pixels), target, ids)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The training batches of `epoch` from batch number `start` on."""
        order = self.order(epoch)
        indices = torch.from_numpy(self.indices)
        n = len(indices)
        moves = self.posing or self.augment
        draws = moves.draws(n, self.seed, epoch) if moves else None
        mixing = mixup_partners(n, self.mixup, self.seed, epoch) if self.mixup else None
        mosaics = None
        if self.augment and self.augment.mosaic and self.targets.kind == "boxes":
            mosaics = mosaic_draws(n, self.augment.mosaic, self.seed, epoch)

        values = int(np.prod(self.store.size)) * self.store.in_channels
        batches = max(1, _CHUNK_BYTES // (4 * values * self.batch_size))  # in one chunk
        # Chunks lie on a fixed grid: entering mid-epoch must not move their borders.
        first = start - start % batches
        # Where each batch begins; the last ends with the epoch.
        borders = [*range(0, len(self) * self.batch_size, self.batch_size), len(order)]
        for batch in range(first, len(self), batches):
            whole = [
                slice(borders[number], borders[number + 1])
                for number in range(batch, min(batch + batches, len(self)))
            ]
            shares = [self._share(cut) for cut in whole]
            positions = torch.cat([order[share] for share in shares])
            rows = None
            if draws is not None and self.posing is not None:
                # By visit: a pose that is drawn several times is seen in as many ways.
                rows = torch.cat([draws[share] for share in shares])
            elif draws is not None:
                rows = draws[positions]
            input, target = self._samples(positions, rows, mosaics, epoch)
            if mixing is not None:
                partners, parts = mixing[0][positions], mixing[1][positions].to(self.device)
                others = None if draws is None else draws[partners]
                other, label = self._samples(partners, others, mosaics, epoch)
                shape = (-1, *(1,) * (input.ndim - 1))
                input = torch.lerp(other, input, parts.view(shape))
                one_hot = F.one_hot(target, self.num_classes).float()
                other_hot = F.one_hot(label, self.num_classes).float()
                target = torch.lerp(other_hot, one_hot, parts[:, None])
            chunk = Batch(input, target, indices[positions])
            at = 0
            for number, (share, cut) in enumerate(zip(shares, whole, strict=True), batch):
                mine = slice(at, at + share.stop - share.start)
                at = mine.stop
                if number >= start:
                    size = cut.stop - cut.start
                    yield Batch(chunk.input[mine], chunk.target[mine], chunk.ids[mine], size)

    def _share(self, whole: slice) -> slice:
        """This process's part of the batch that has `whole` of an epoch's samples."""
        share = self.world.share(whole.stop - whole.start)
        return slice(whole.start + share.start, whole.start + share.stop)

    def _pixels(self, ids: torch.Tensor, draws: torch.Tensor | None = None) -> torch.Tensor:
        """Stored pixels (b, *size, c) of samples `ids`, on the device; poses moved by `draws`."""
        if isinstance(self.store, PoseStore):
            return self.store.made(ids, self.device, draws)
        if self.resident is not None:
            return self.resident.index_select(0, ids.to(self.device, non_blocking=True))
        return _sent(self.store.gather(ids), self.device)

    def _samples(
        self,
        positions: torch.Tensor,
        rows: torch.Tensor | None,
        mosaics: MosaicDraws | None,
        epoch: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Network input (b, c, *spatial) and targets of the samples at `positions` (b,) of this
        split, augmented for `epoch` by `rows` (b, columns) of the table of draws.
        """
        if self.posing is not None:
            ids = torch.from_numpy(self.indices)[positions]
            pixels = self._pixels(ids, rows)
            return self.preprocess(pixels), self.targets.rows(ids).to(self.device)
        pixels, target = self._stored(positions, epoch)
        if mosaics is not None:
            pixels, target = self._with_mosaics(pixels, target, positions, mosaics, epoch)
        if self.augment is not None and rows is not None:
            rows = rows.to(self.device)
            pixels, target = self.augment.both(pixels, target, self.targets.kind, rows)
        return self.preprocess(pixels), target

    def _stored(self, positions: torch.Tensor, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Stored pixels (b, *size, c), after a person's own transform, and targets of the samples
        at `positions` (b,) of this split, on the device.
        """
        ids = torch.from_numpy(self.indices)[positions]
        target = self.targets.rows(ids).to(self.device)
        if self.transform is None:
            return self._pixels(ids), target
        own = [
            self.transform(picture, stream_seed(self.seed, "transform", epoch, int(i)))
            for picture, i in zip(self.store.gather(ids), ids, strict=True)
        ]
        return _sent(torch.stack(own), self.device), target

    def _with_mosaics(
        self,
        pixels: torch.Tensor,
        rows: torch.Tensor,
        positions: torch.Tensor,
        draws: MosaicDraws,
        epoch: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`pixels` (b, h, w, c), those that `draws` says made of four, and boxes (b, 4 * most, 5)
        out of `rows` (b, most, 5).
        """
        rows = torch.cat([rows, torch.full_like(rows, NO_OBJECT).repeat(1, 3, 1)], dim=1)
        made = draws.made[positions].nonzero()[:, 0]
        if not len(made):
            return pixels, rows
        leading = positions[made]
        four = torch.cat([leading[:, None], draws.partners[leading]], dim=1)  # (m, 4)
        stored, boxes = self._stored(four.flatten(), epoch)
        mixed, boxes = mosaic(
            stored.unflatten(0, (-1, 4)),
            boxes.unflatten(0, (-1, 4)),
            draws.centers[leading].to(self.device),
        )
        made = made.to(self.device)
        return pixels.index_copy(0, made, mixed), rows.index_copy(0, made, boxes)


def resident(store: Store, device: torch.device) -> torch.Tensor | None:
    """All pixels of `store` on the GPU `device`, if they take no more than a share of what is
    free there; None otherwise. A batch is then made without the CPU.
    """
    if device.type != "cuda" or store.pixels is None:
        return None
    free, _ = torch.cuda.mem_get_info(device)
    if store.pixels.nbytes > _RESIDENT * free:
        return None
    return store.pixels.to(device)


def _sent(pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`pixels` on `device`; to a GPU from pinned memory, so that nobody waits for the way."""
    if device.type == "cuda":
        pixels = pixels.pin_memory()
    return pixels.to(device, non_blocking=True)
