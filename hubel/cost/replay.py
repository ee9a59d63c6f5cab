"""How long single operations take on this machine: each made again on tensors of its own.

Operations are timed in turn, in the order in which the network makes them, over and over: so
each finds the caches as the others left them, which is nearer to a real step than the same
operation twenty times in a row (measured here, a fifth of a training step's time).
"""

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from hubel.cost.calls import Call

__all__ = ["Timed", "replay"]

_GROUP_BYTES = 512 << 20  # tensors kept at once: far more than any cache holds
_MOST_ROUNDS = 100  # of operations so short that they fit into the limit


@dataclass(frozen=True)
class Timed:
    """Seconds of one operation: the median of its rounds, and their middle half's ends."""

    seconds: float
    low_s: float
    high_s: float


def replay(calls: Sequence[Call], device: torch.device, limit_s: float) -> dict[Call, Timed]:
    """Time each of `calls` (all different); what cannot be made again is left out.

    Two rounds at least, more while `limit_s` seconds last. A call cannot be made again where it
    looks at the numbers in its tensors, which are all alike here.
    """
    found: dict[Call, Timed] = {}
    groups = list(_groups(calls))
    until = time.perf_counter()
    with torch.inference_mode(False), torch.no_grad():
        for group in groups:
            until += limit_s * sum(map(_weight, group)) / sum(map(_weight, calls))
            found |= _timed_group(group, device, until)
    return found


def _weight(call: Call) -> float:
    """A guess at a call's share of the time: its bytes, and something for calling at all."""
    return call.bytes + 100_000.0


def _groups(calls: Iterable[Call]) -> Iterator[list[Call]]:
    group: list[Call] = []
    held = 0
    for call in calls:
        if group and held + call.bytes > _GROUP_BYTES:
            yield group
            group, held = [], 0
        group.append(call)
        held += call.bytes
    if group:
        yield group


def _timed_group(group: list[Call], device: torch.device, until: float) -> dict[Call, Timed]:
    prepared = []
    for call in group:
        try:
            function = call.prepare(device)
            function()  # the first run starts libraries and touches new memory
        except (RuntimeError, ValueError, TypeError, NotImplementedError, IndexError):
            continue
        prepared.append((call, function))
    rounds: dict[Call, list[float]] = {call: [] for call, _ in prepared}
    for number in range(_MOST_ROUNDS):
        if number >= 2 and time.perf_counter() > until:
            break
        for call, function in prepared:
            _wait(device)
            start_s = time.perf_counter()
            function()
            _wait(device)
            rounds[call].append(time.perf_counter() - start_s)
    return {call: _summary(seconds) for call, seconds in rounds.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _summary(seconds: list[float]) -> Timed:
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timed(statistics.median(seconds), low, high)
