"""`Engine`: on what device, in what arithmetic and memory order a network runs."""

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hubel.config import PRECISIONS, FitConfig
from hubel.errors import UserError
from hubel.world import World

__all__ = [
    "Engine",
    "Forward",
    "choose_engine",
    "exact_engine",
    "keep_freed_memory",
    "out_of_memory",
    "pick_device",
    "precisions_of",
]

_ALONE = World()
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_CUDNN: Any = torch.backends.cudnn  # its types do not know of `conv`
_MODES = {"compiled": "default", "graphs": "reduce-overhead"}

Forward = Callable[[torch.Tensor], Any]
"""What a training calls with inputs (n, c, *spatial): a network, as it is or wrapped."""


@dataclass(frozen=True)
class Engine:
    """Where and how forward and backward run; weights and optimizer stay float32.

    Attributes
    ----------
    device: of the weights and batches.
    precision: "fp32"; "tf32" (float32 with products of 10 bits, on CUDA); "bf16" or "fp16" by
        autocast.
    channels_last: memory order of maps and filters, in two and three dimensions.
    compiled: "" as it is written, "compiled" by torch.compile, "graphs": that and CUDA graphs.
    fused: one kernel for the optimizer's step, where its kind has one.
    """

    device: torch.device
    precision: str = "fp32"
    channels_last: bool = True
    compiled: str = ""
    fused: bool = True

    @classmethod
    def of(cls, device: torch.device, words: str) -> "Engine":
        """From what `parse_engine` gives, "bf16,contiguous" for instance."""
        chosen = set(words.split(","))
        return cls(
            device,
            next(p for p in PRECISIONS if p in chosen),
            "contiguous" not in chosen,
            next((mode for mode in _MODES if mode in chosen), ""),
            "unfused" not in chosen,
        )

    @property
    def words(self) -> str:
        """Everything but the device, as --engine takes it: "bf16, channels_last"."""
        layout = "channels_last" if self.channels_last else "contiguous"
        rest = (self.compiled, "" if self.fused else "unfused")
        return ", ".join(word for word in (self.precision, layout, *rest) if word)

    def __str__(self) -> str:
        return f"{self.device}, {self.words}"

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

    def forward_of(self, model: nn.Module, input_shape: tuple[int, ...]) -> Forward:
        """What the training calls: `model`, compiled for inputs (n, c, *spatial) if so chosen.

        Another shape, of an epoch's last batch or of smaller pictures, takes the network as it
        is written: compiling it again would cost more than it saves.
        """
        if not self.compiled:
            return model
        compiled = torch.compile(model, dynamic=False, mode=_MODES[self.compiled])

        def forward(input: torch.Tensor) -> Any:
            return (compiled if tuple(input.shape) == input_shape else model)(input)

        return forward

    def input(self, input: torch.Tensor) -> torch.Tensor:
        """`input` (n, c, *spatial) on the device in the engine's memory order."""
        order = self._memory_format(input.ndim)
        return input.to(self.device, non_blocking=True).contiguous(memory_format=order)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which the network is called."""
        dtype = _DTYPES.get(self.precision, torch.bfloat16)
        return torch.autocast(self.device.type, dtype, enabled=self.precision in _DTYPES)

    @contextlib.contextmanager
    def products(self) -> Iterator[None]:
        """Float32 products of CUDA in full, or in TF32 if that is the precision, meanwhile.

        torch's own default is a mixture: TF32 in convolutions and not in matrices.
        """
        if self.device.type != "cuda":
            yield
            return
        places: tuple[Any, ...] = (torch.backends.cuda.matmul, _CUDNN.conv)
        former = [place.fp32_precision for place in places]
        try:
            for place in places:
                place.fp32_precision = "tf32" if self.precision == "tf32" else "ieee"
            yield
        finally:
            for place, value in zip(places, former, strict=True):
                place.fp32_precision = value

    def exact(self) -> "Engine":
        """The same device in float32: for figures that are reported."""
        return Engine(self.device, "fp32", self.channels_last)


def pick_device(name: str, world: World = _ALONE) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one. Raises `UserError`.

    Of several processes on a machine each takes the GPU of its number.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and world.local_size > 1:
        gpus = torch.cuda.device_count()
        if name != "cuda" or world.local_size > gpus:
            raise UserError(
                f"--device '{name}' cannot be used by {world.local_size} processes: each takes a "
                f"GPU of its own, and there are {gpus}; give --device auto or cpu, or torchrun a "
                f"smaller --nproc-per-node"
            )
        name = f"cuda:{world.local_rank}"
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
        device = pick_device(config.device)
    except UserError:
        device = pick_device("auto")
    return Engine(device)


def precisions_of(device: torch.device) -> list[str]:
    """What `device` computes in faster than by emulation, the most exact first.

    fp16 needs the loss scaled and pays on GPUs only; fp32 is everywhere.
    """
    if device.type == "cuda":
        ampere = torch.cuda.get_device_capability(device) >= (8, 0)  # the first with both
        return ["fp32", *(("tf32", "fp16", "bf16") if ampere else ("fp16",))]
    if device.type == "cpu" and _cpu_multiplies_bf16():
        return ["fp32", "bf16"]
    return ["fp32"]


def choose_engine(config: FitConfig, world: World = _ALONE) -> Engine:
    """The engine that `config` asks for; for "auto" the likely best, before any measurement.

    Raises `UserError` for an engine that the device has not got.
    """
    device = pick_device(config.device, world)
    if config.engine == "auto":
        have = precisions_of(device)
        return Engine(device, "bf16" if "bf16" in have else have[-1])
    engine = Engine.of(device, config.engine)
    have = precisions_of(device)
    if device.type == "cpu" and "bf16" not in have:
        have.append("bf16")  # emulated: slow, and yet some want to see what it does
    if engine.precision not in have:
        raise UserError(
            f"--engine '{engine.precision}': {device} does not train in it; choose from "
            f"{', '.join(have)}, or auto, which measures"
        )
    if engine.compiled == "graphs" and device.type != "cuda":
        raise UserError(
            f"--engine 'graphs' are CUDA graphs, and the device is {device}; choose compiled, or "
            f"auto, which measures"
        )
    return engine


def out_of_memory(error: Exception) -> bool:
    """Whether `error` says that memory is too small, of a CPU or a GPU.

    Not every such error has a type of its own; "illegal memory access" is none of them.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = ("out of memory", "not enough memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


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
