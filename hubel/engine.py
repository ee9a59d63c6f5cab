"""`Engine`: on what device, in what arithmetic and memory order a network runs."""

import ctypes
import os
import platform
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hubel.config import FitConfig
from hubel.errors import UserError

__all__ = ["Engine", "choose_engine", "exact_engine", "keep_freed_memory"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Engine:
    """Where and how forward and backward run; weights and optimizer stay float32.

    Attributes
    ----------
    device: of the weights and batches.
    precision: "fp32", "bf16" or "fp16" (the latter two by autocast).
    channels_last: memory order of maps and filters, in two and three dimensions.
    """

    device: torch.device
    precision: str = "fp32"
    channels_last: bool = True

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{self.device}, {self.precision}, {layout}"

    def _memory_format(self, ndim: int) -> torch.memory_format:
        if self.channels_last and ndim in (4, 5):
            return torch.channels_last if ndim == 4 else torch.channels_last_3d
        return torch.contiguous_format

    def place(self, model: nn.Module) -> None:
        """Move `model` to the device, each filter in the engine's memory order."""
        model.to(self.device)
        for parameter in model.parameters():
            order = self._memory_format(parameter.ndim)
            parameter.data = parameter.data.contiguous(memory_format=order)

    def input(self, input: torch.Tensor) -> torch.Tensor:
        """`input` (n, c, *spatial) on the device in the engine's memory order."""
        order = self._memory_format(input.ndim)
        return input.to(self.device).contiguous(memory_format=order)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which the network is called."""
        return torch.autocast(
            self.device.type, _DTYPES[self.precision], enabled=self.precision != "fp32"
        )

    def exact(self) -> "Engine":
        """The same device in float32: for figures that are reported."""
        return Engine(self.device, "fp32", self.channels_last)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--device '{name}' cannot be used here ({reason}); --device auto takes what there is"
        ) from None
    return device


def _cpu_multiplies_bf16() -> bool:
    """Whether this CPU has bfloat16 products; oneDNN also emulates them, which is slow."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def exact_engine(config: FitConfig) -> Engine:
    """float32 on the run's device, or on what this machine has: a run may have moved."""
    try:
        device = _device(config.device)
    except UserError:
        device = _device("auto")
    return Engine(device, "fp32", config.channels_last)


def choose_engine(config: FitConfig) -> Engine:
    """The engine that `config` asks for; "auto" takes bf16 where the device multiplies in it."""
    device = _device(config.device)
    precision = config.precision
    if precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = device.type == "cpu" and _cpu_multiplies_bf16()
        precision = "bf16" if fast else "fp32"
    if precision == "fp16" and device.type != "cuda":
        raise UserError(
            f"--precision 'fp16' trains on CUDA devices only, got --device '{device}'; "
            f"use bf16 or fp32 here"
        )
    return Engine(device, precision, config.channels_last)


def keep_freed_memory() -> None:
    """Let the allocator keep what a step frees, for the next step.

    By default glibc returns every large block to the system at once, and each step of
    training faults the same pages in again: measured here, a third of a small network's
    time (docs/benchmarks.md). Blocks up to 256 MiB now stay in the process.
    """
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library: nothing to tune
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    if not mallopt(m_mmap_threshold, 256 << 20):
        mallopt(m_mmap_threshold, 32 << 20)  # the most that an older glibc takes
    mallopt(m_trim_threshold, 1 << 30)
