"""Tiny sample sets written to disk, for the tests of the data formats."""

import gzip
import struct
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = [
    "cifar_binary_records",
    "class_folders",
    "encoded",
    "exif_block",
    "idx_bytes",
    "png",
    "python2_batch",
    "python2_names",
    "write_idx_set",
]


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """`image` as the bytes of a file of `format`."""
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png(colour: tuple[int, int, int] = (10, 20, 30), size: tuple[int, int] = (4, 3)) -> bytes:
    """A one-coloured PNG of (width, height) `size`."""
    return encoded(Image.new("RGB", size, colour), "PNG")


def exif_block(orientation: int) -> bytes:
    """An EXIF block that holds nothing but the orientation."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return b"Exif\0\0" + tiff


def class_folders(root: Path, counts: Mapping[str, int]) -> Path:
    """Folders below `root`, each with that many PNGs of distinct colours: {"train/cat": 3}."""
    shade = 0
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            shade += 1
            colour = (shade % 256, shade // 256 % 256, 7)
            (root / folder / f"{i:03}.png").write_bytes(png(colour))
    return root


def idx_bytes(array: npt.NDArray[np.uint8]) -> bytes:
    """`array` in the idx format: two zero bytes, the type, the dimensions, the sizes, the data."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.tobytes()


def write_idx_set(
    folder: Path,
    train: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]],
    test: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None = None,
    gz: bool = False,
) -> Path:
    """The files of an MNIST-like set: (images, labels) of train and, as t10k, of test."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pair in (("train", train), ("t10k", test)):
        if pair is None:
            continue
        for what, array in zip(("images", "labels"), pair, strict=True):
            path = folder / f"{name}-{what}-idx{array.ndim}-ubyte{'.gz' if gz else ''}"
            content = idx_bytes(array)
            path.write_bytes(gzip.compress(content) if gz else content)
    return folder


def cifar_binary_records(
    labels: npt.NDArray[np.uint8], pixels: npt.NDArray[np.uint8], coarse: bool = False
) -> bytes:
    """CIFAR binary records: a label byte (two with `coarse`), then 3×32×32 planes."""
    heads = labels[:, None]
    if coarse:
        heads = np.concatenate([labels[:, None] // 5, labels[:, None]], axis=1)
    rows = np.concatenate([heads, pixels.reshape(len(labels), 3072)], axis=1)
    return rows.astype(np.uint8).tobytes()


def python2_batch(
    labels: npt.NDArray[np.uint8],
    pixels: npt.NDArray[np.uint8],
    label_key: bytes = b"labels",
) -> bytes:
    """A CIFAR batch as Python 2 wrote it (protocol 2), opcode by opcode.

    The same opcodes, in the same order, as in the published archives.
    """
    count = len(labels)
    out = b"\x80\x02}q\x01(" + _short(b"batch_label") + b"q\x02" + _short(b"a batch") + b"q\x03"
    out += _short(label_key) + b"q\x04]q\x05"
    for start in range(0, count, 1000):
        part = labels[start : start + 1000]
        out += b"(" + b"".join(b"K" + bytes([int(v)]) for v in part) + b"e"
    out += _short(b"data") + b"q\x06cnumpy.core.multiarray\n_reconstruct\nq\x07"
    out += b"cnumpy\nndarray\nq\x08K\x00\x85" + _short(b"b") + b"\x87Rq\t(K\x01"
    out += b"J" + struct.pack("<i", count) + b"M\x00\x0c\x86cnumpy\ndtype\nq\n"
    out += _short(b"u1") + b"K\x00K\x01\x87Rq\x0b(K\x03" + _short(b"|") + b"NNN"
    out += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    out += b"T" + struct.pack("<i", count * 3072) + pixels.tobytes() + b"tb"
    names = [
        _short(b"leptodactylus_s_%06d.png" % i) + b"r" + struct.pack("<I", 14 + i)
        for i in range(count)
    ]
    return out + _short(b"filenames") + b"q\x0c]q\r(" + b"".join(names) + b"eu."


def python2_names(key: bytes, names: list[str]) -> bytes:
    """A CIFAR meta file: a dictionary with one list of names."""
    items = b"".join(_short(n.encode()) + b"q" + bytes([10 + i]) for i, n in enumerate(names))
    return b"\x80\x02}q\x01" + _short(key) + b"q\x02]q\x03(" + items + b"es."


def _short(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text


def write_poses(folder, *, receptors=None, poses=None, folds=True, empty=None, per_receptor=6):
    """A folder with receptors.npz and poses.npz: twelve receptors of forty atoms with six poses
    each, a third of them good: these have oxygens where the others have carbons.

    `receptors` and `poses` change arrays (a function of the array) or leave them out (None);
    `empty` is a pose without atoms.
    """
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    num_receptors, num_poses = 12, 12 * per_receptor
    receptor_of = np.repeat(np.arange(num_receptors), per_receptor)
    label = (np.arange(num_poses) % 3 == 0).astype(np.uint8)
    rows = []
    for i in range(num_poses):
        places = rng.normal(size=(8, 3)).astype(np.float32)
        places[0] = (2.0, 0.0, 0.0)
        types = np.array([*[13 if label[i] else 2] * 5, 5, 6, 3], np.uint8)
        if i == empty:
            places, types = places[:0], types[:0]
        rows.append((places, types))
    pockets = []
    for _ in range(num_receptors):
        away = rng.normal(size=(40, 3))
        away *= (rng.uniform(4, 9, 40) / np.linalg.norm(away, axis=1))[:, None]
        away[0] = (4.5, 0.0, 0.0)
        types = np.where(np.arange(40) == 0, 7, 2).astype(np.uint8)
        pockets.append((away.astype(np.float32), types))

    def columns(molecules):
        return {
            "xyz": np.concatenate([places for places, _ in molecules]),
            "type": np.concatenate([types for _, types in molecules]),
            "offset": np.cumsum([0, *(len(types) for _, types in molecules)]),
        }

    tables = {
        "receptors": {**columns(pockets), "name": np.array([f"r{i}" for i in range(12)])},
        "poses": {
            **columns(rows),
            "receptor": receptor_of,
            "label": label,
            "rmsd": np.where(label, 1.0, 5.0).astype(np.float32),
            "vina": (-8 + rng.normal(size=num_poses) - label).astype(np.float32),
            "name": np.array([f"r{r}/pose{i}" for i, r in enumerate(receptor_of)]),
            "fold": receptor_of % 3,
        },
    }
    if not folds:
        del tables["poses"]["fold"]
    for name, changes in (("receptors", receptors or {}), ("poses", poses or {})):
        for column, change in changes.items():
            if change is None:
                del tables[name][column]
            else:
                tables[name][column] = change(tables[name][column])
        np.savez(folder / f"{name}.npz", **tables[name])
    return folder
