"""How much memory a computation takes, from torch's own allocator."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

__all__ = ["extra_bytes"]


def extra_bytes(function: Callable[[], Tensor]) -> int:
    """Most bytes that `function` held at one time on its result's device, the result not counted.

    Scratch memory that a library takes from elsewhere (MKL's packed panels, oneDNN's
    scratchpads) does not pass torch's allocator and is not seen.
    """
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = function()
        if result.is_cuda:
            peak = torch.cuda.max_memory_allocated() - before
            return peak - result.untyped_storage().nbytes()
    # The profiler greets on stderr unless told not to; the variable is read at its first use.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        result = function()
    results: Any = found.profiler
    events = [e for e in results.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most - result.untyped_storage().nbytes()
