"""Named tensors from a file of weights, as data: nothing in the file is ever executed.

.safetensors holds tensors and no code. .pt and .pth hold a pickle, which is a program; torch
reads it with `weights_only`, which follows instructions that make tensors and refuses every
other name. Before that the archive is looked at: torch stores its members uncompressed, so
one that is compressed is not torch's, and a few kilobytes cannot inflate to gigabytes.
"""

import hashlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from hubel.errors import UserError, printable
from hubel.inference import tensors_from_bytes

__all__ = ["Weights", "read_weights"]

_PICKLED = (".pt", ".pth")
_WRAPPERS = (
    "state_dict", "model", "model_state_dict",
    "state_dict_ema", "model_ema", "ema_state_dict", "ema",
)  # fmt: skip
"""Under which training scripts keep the weights beside their other state; averages of the
weights only where there are no others."""
_SHELLS = re.compile(r"^(?:module\.|_orig_mod\.)+")
"""What DataParallel, torch.compile and AveragedModel put before each name."""


@dataclass(frozen=True)
class Weights:
    """The tensors of a file by name, on the CPU, and the sha256 of the whole file."""

    tensors: dict[str, torch.Tensor]
    sha256: str


def read_weights(path: Path, sha256_prefix: str = "", option: str = "--pretrained") -> Weights:
    """The tensors in the .safetensors, .pt or .pth file `path`, which `option` named.

    Raises `UserError` if there is none, if its sha256 does not begin with `sha256_prefix`, if
    it is damaged, holds code, is compressed, or is not a table of tensors by name.
    """
    shown = f"{option} '{path}'"
    if path.suffix not in (".safetensors", *_PICKLED):
        raise UserError(
            f"{shown} ends in '{path.suffix}'; give a .safetensors, .pt or .pth file of weights"
        )
    if not path.is_file():
        what = "is not a plain file" if path.exists() else "does not exist"
        raise UserError(f"{shown} {what}; give a file of weights")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if not digest.startswith(sha256_prefix):
                raise UserError(
                    f"{shown} is damaged: its sha256 begins with "
                    f"{digest[: len(sha256_prefix)]}, the published one with {sha256_prefix}; "
                    f"delete it and fetch it again"
                )
            file.seek(0)
            size = path.stat().st_size
            if path.suffix == ".safetensors":
                tensors: Any = tensors_from_bytes(file.read(), str(path))
            else:
                _check_archive(file, shown)
                tensors = _unpickled(file, shown)
    except OSError as error:
        raise UserError(
            f"{shown} cannot be read: {error.strerror or error}; give a file that you may read"
        ) from None
    table = _table(tensors, shown)
    _check_tensors(table, size, shown)
    return Weights(table, digest)


def _check_archive(file: IO[bytes], shown: str) -> None:
    """Refuse an archive with more in it than its size; leaves `file` at its beginning."""
    is_archive = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    if not is_archive:  # torch's format before 1.6: tensors are read straight from the file
        return
    try:
        members = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise UserError(
            f"{shown} is damaged: the archive has no whole table of contents; fetch it again"
        ) from None
    size = file.seek(0, 2)
    declared = sum(member.file_size for member in members)
    if declared > size or any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise UserError(
            f"{shown} has {size:,} bytes and declares {declared:,} in compressed "
            f"members, which torch never writes: refused; save the weights again by torch.save"
        )
    if any("/code/" in m.filename or m.filename.endswith("/constants.pkl") for m in members):
        raise UserError(
            f"{shown} is a TorchScript program, not weights: refused, nothing was "
            f"executed; save model.state_dict() by torch.save"
        )
    file.seek(0)


def _unpickled(file: IO[bytes], shown: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's age, to be told as an error or not
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damage shows as almost any of them
        text = str(error)
        named = re.search(r"GLOBAL ([\w.]+)", text)
        if "weights_only" in text.lower() or named:
            which = f" ('{printable(named[1])}')" if named else ""
            raise UserError(
                f"{shown} holds more than tensors{which}, which may be code: "
                f"refused, nothing was executed; save model.state_dict() by torch.save, or as "
                f".safetensors"
            ) from None
        reason = printable(text.splitlines()[0][:120]) if text else type(error).__name__
        raise UserError(
            f"{shown} is not a whole file of torch's ({reason}); fetch it again"
        ) from None


def _check_tensors(table: Mapping[str, torch.Tensor], size: int, where: str) -> None:
    """Only ordinary tensors, none of which is larger than the file: a view that repeats one
    number a billion times takes no room there."""
    for name, tensor in table.items():
        shown = f"{where}: tensor '{printable(name)}'"
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not plain or tensor.is_quantized or tensor.is_complex():
            raise UserError(
                f"{shown} is sparse, quantised, complex or empty of data; save it as an ordinary "
                f"tensor of floats"
            )
        if tensor.numel() * tensor.element_size() > size:
            raise UserError(
                f"{shown} declares {tensor.numel() * tensor.element_size():,} bytes, the file has "
                f"{size:,}: refused; save model.state_dict()"
            )


def _table(found: Any, shown: str) -> dict[str, torch.Tensor]:
    """The tensors by name, out of the wrappers that training scripts put around them."""
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if (
        not isinstance(found, Mapping)
        or not found
        or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in found.items())
    ):
        raise UserError(f"{shown} is not a table of tensors by name; save model.state_dict()")
    # AveragedModel counts its averages beside the weights.
    return {_SHELLS.sub("", name): t for name, t in found.items() if name != "n_averaged"}
