"""CIFAR-10 and CIFAR-100 as published (Krizhevsky 2009), binary and Python versions.

DATA is "cifar10" or "cifar100" (found where `hubel.data.download.fetch` puts it), one of the
four archives, or a folder that one was extracted to. Binary records are a label byte
(CIFAR-100: the coarse, then the fine label) and 3×32×32 planes. The Python version's batches
are read as data, see `hubel.data.opcodes`. CIFAR-100's classes are the 100 fine ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from hubel.data.arraysource import Part, array_source
from hubel.data.download import PUBLISHED, downloads_folder
from hubel.data.opcodes import array_in, read_opcodes
from hubel.data.paths import expanded, is_file, is_folder
from hubel.data.source import FORMATS, Array, Format, Source
from hubel.data.tarball import MAX_BYTES, read_members
from hubel.data.unpacked import unpacked
from hubel.errors import UserError

__all__ = ["Cifar"]

_VERSION = "cifar-1"  # of what is kept in the cache folder
_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


@dataclass(frozen=True)
class _Layout:
    """One of the four published forms.

    `heads`: label bytes before the pixels of a binary record, the last of which is the class;
    0 for the Python version. `labels`: the key of the labels in a Python batch.
    """

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    heads: int = 0
    labels: str = ""
    names_key: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, *self.test, self.names)


_BATCHES = tuple(f"data_batch_{k}" for k in range(1, 6))

_LAYOUTS = {
    "cifar-10-binary": _Layout(
        "cifar-10-batches-bin",
        tuple(f"{batch}.bin" for batch in _BATCHES),
        ("test_batch.bin",),
        "batches.meta.txt",
        heads=1,
    ),
    "cifar-100-binary": _Layout(
        "cifar-100-binary", ("train.bin",), ("test.bin",), "fine_label_names.txt", heads=2
    ),
    "cifar-10-python": _Layout(
        "cifar-10-batches-py",
        _BATCHES,
        ("test_batch",),
        "batches.meta",
        labels="labels",
        names_key="label_names",
    ),
    "cifar-100-python": _Layout(
        "cifar-100-python",
        ("train",),
        ("test",),
        "meta",
        labels="fine_labels",
        names_key="fine_label_names",
    ),
}
"""By the stem of the published archive."""


class Cifar(Format):
    """CIFAR-10 and CIFAR-100 in their published archives."""

    def describe(self) -> str:
        return "CIFAR's published archive, e.g. cifar-10-binary.tar.gz, or its extracted folder"

    def matches(self, spec: str) -> bool:
        path = expanded(spec)
        if is_file(path):
            return _layout_of_archive(path) is not None
        if is_folder(path):
            return _extracted(path) is not None
        return spec in PUBLISHED

    def open(self, spec: str) -> Source:
        try:
            return self._open(spec)
        except OSError as error:
            raise UserError(f"DATA '{spec}' cannot be read: {error.strerror or error}") from error

    def _open(self, spec: str) -> Source:
        path = expanded(spec)
        if spec in PUBLISHED and not is_file(path) and not is_folder(path):
            path = _downloaded(spec)
        if is_folder(path):
            found = _extracted(path)
            if found is None:
                raise UserError(
                    f"DATA '{spec}' is not a folder of CIFAR; expected {self.describe()}"
                )
            layout, folder = found
            missing = [name for name in layout.files if not is_file(folder / name)]
            if missing:
                raise UserError(
                    f"'{folder}' lacks {', '.join(missing)}; extract the whole archive again"
                )
            files = [folder / name for name in layout.files]
            if layout.heads:
                return _source(path, _mapped(folder, layout), files)
            return _source(
                path, unpacked(files, _VERSION, lambda: _from_folder(files, layout)), files
            )
        named = _layout_of_archive(path) if is_file(path) else None
        if named is None:
            raise UserError(f"DATA '{spec}' is not an archive of CIFAR; expected {self.describe()}")
        return _source(path, unpacked([path], _VERSION, lambda: _from_archive(path, named)), [path])


def _source(path: Path, arrays: Mapping[str, Array], files: list[Path]) -> Source:
    parts = []
    for key in sorted(k for k in arrays if k.endswith("-pixels")):
        split = "train" if "train" in key else "test"
        planes = arrays[key]  # (n, 3, 32, 32)
        labels = np.asarray(arrays[key.replace("-pixels", "-labels")])
        parts.append(Part(split, planes.transpose(0, 2, 3, 1), labels))
    parts.sort(key=lambda part: part.split != "train")
    names = [str(name) for name in arrays["names"].tolist()]
    return array_source("cifar", path, parts, where=f"'{path}'", classes=names, files=files)


def _downloaded(name: str) -> Path:
    """The archive of a published set that is already on this machine."""
    published = PUBLISHED[name]
    folder = downloads_folder()
    other = published.name.replace("binary", "python")
    for file in (folder / published.name, folder / other):
        if is_file(file):
            return file
    raise UserError(
        f"DATA '{name}' is not on this machine. Run the same command with --download, or fetch "
        f"{published.name} ({published.home}) on another machine and put it at "
        f"{folder / published.name}"
    )


def _layout_of_archive(path: Path) -> _Layout | None:
    name = path.name.lower()
    for stem, layout in _LAYOUTS.items():
        if name in (f"{stem}.tar.gz", f"{stem}.tgz", f"{stem}.tar"):
            return layout
    return None


def _extracted(path: Path) -> tuple[_Layout, Path] | None:
    """The form, and the folder of its files: `path` itself or one just below it."""
    for layout in _LAYOUTS.values():
        for folder in (path, path / layout.folder):
            first, names = folder / layout.train[0], folder / layout.names
            if is_file(first) and is_file(names):
                return layout, folder
    return None


def _from_archive(path: Path, layout: _Layout) -> Mapping[str, Array]:
    members = read_members(path, {f"{layout.folder}/{name}" for name in layout.files})
    missing = [name for name in layout.files if f"{layout.folder}/{name}" not in members]
    if missing:
        raise UserError(f"'{path}' lacks {layout.folder}/{missing[0]}; fetch the archive again")
    contents = {PurePosixPath(name).name: content for name, content in members.items()}
    return _arrays(contents, layout)


def _from_folder(files: Sequence[Path], layout: _Layout) -> Mapping[str, Array]:
    for file in files:
        if file.stat().st_size > MAX_BYTES:
            raise UserError(f"'{file}' has more than {MAX_BYTES:,} bytes; it is not a CIFAR batch")
    return _arrays({file.name: file.read_bytes() for file in files}, layout)


def _mapped(folder: Path, layout: _Layout) -> Mapping[str, Array]:
    """Binary files as they lie, memory-mapped; keys in reading order."""
    arrays = {"names": _text_names((folder / layout.names).read_bytes(), layout.names)}
    for split, names in (("train", layout.train), ("test", layout.test)):
        for k, name in enumerate(names):
            _check_records((folder / name).stat().st_size, layout, str(folder / name))
            records = np.memmap(folder / name, np.uint8, "r").reshape(-1, layout.heads + _PIXELS)
            _enter(arrays, f"{split}-{k}", records, layout)
    return arrays


def _arrays(contents: Mapping[str, bytes], layout: _Layout) -> Mapping[str, Array]:
    """Pixels, labels and names out of the files' contents."""
    arrays: dict[str, Array] = {}
    if layout.heads:
        arrays["names"] = _text_names(contents[layout.names], layout.names)
    else:
        meta = _dictionary(contents[layout.names], layout.names)
        arrays["names"] = _names(meta.get(layout.names_key), layout.names)
    for split, names in (("train", layout.train), ("test", layout.test)):
        for k, name in enumerate(names):
            if layout.heads:
                _check_records(len(contents[name]), layout, name)
                records = np.frombuffer(contents[name], np.uint8)
                _enter(arrays, f"{split}-{k}", records.reshape(-1, layout.heads + _PIXELS), layout)
            else:
                pixels, labels = _python_batch(contents[name], layout, name)
                arrays[f"{split}-{k}-pixels"], arrays[f"{split}-{k}-labels"] = pixels, labels
    return arrays


def _enter(arrays: dict[str, Array], key: str, records: Array, layout: _Layout) -> None:
    arrays[f"{key}-pixels"] = records[:, layout.heads :].reshape(-1, 3, _SIDE, _SIDE)
    arrays[f"{key}-labels"] = records[:, layout.heads - 1]


def _check_records(num_bytes: int, layout: _Layout, where: str) -> None:
    record = layout.heads + _PIXELS
    if num_bytes == 0 or num_bytes % record:
        raise UserError(
            f"'{where}' is truncated: {num_bytes:,} bytes are not a multiple of a record's "
            f"{record:,}; fetch the archive again"
        )


def _python_batch(content: bytes, layout: _Layout, where: str) -> tuple[Array, Array]:
    batch = _dictionary(content, where)
    pixels = array_in(batch.get("data"), where)
    labels = batch.get(layout.labels)
    if not isinstance(labels, list) or not all(type(k) is int and 0 <= k < 256 for k in labels):
        raise UserError(f"'{where}' is not a CIFAR batch: '{layout.labels}' are not small numbers")
    if pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise UserError(
            f"'{where}' is not a CIFAR batch: its data have the shape {pixels.shape}, expected "
            f"(n, {_PIXELS})"
        )
    return pixels.reshape(-1, 3, _SIDE, _SIDE), np.array(labels, np.uint8)


def _dictionary(content: bytes, where: str) -> dict[str, object]:
    value = read_opcodes(content, where)
    if not isinstance(value, dict):
        raise UserError(f"'{where}' is not a CIFAR batch: it holds a {type(value).__name__}")
    return {k.decode("latin-1") if isinstance(k, bytes) else str(k): v for k, v in value.items()}


def _text_names(content: bytes, where: str) -> Array:
    return _names(content.decode("utf-8", "replace").split(), where)


def _names(found: object, where: str) -> Array:
    """Class names, from a list of text."""
    if not isinstance(found, list) or not found or not all(isinstance(n, str) for n in found):
        raise UserError(
            f"'{where}' does not list the names of the classes; fetch the archive again"
        )
    return np.array(found, dtype=np.str_)


FORMATS.register("cifar")(Cifar())
