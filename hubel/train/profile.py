"""Where a training's time goes: each moment belongs to the mark that ends it."""

import time
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["NoProfile", "Profile"]

PARTS = ("data", "forward", "backward", "optimizer", "evaluation", "checkpoint", "other")


class NoProfile:
    """What the loop marks when nobody asked: nothing is measured, nothing waits."""

    def begin(self) -> None:
        """Nothing."""

    def mark(self, part: str) -> None:
        """Nothing."""


class Profile(NoProfile):
    """Seconds by part of the loop.

    On a GPU each mark waits for the device, so that the time lands where it was spent; the
    parts no longer overlap then, and the whole takes somewhat longer than without a profile.
    """

    def __init__(
        self, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._device = device
        self._clock = clock
        self._last = clock()

    def begin(self) -> None:
        """From here on."""
        self._last = self._clock()

    def mark(self, part: str) -> None:
        """What has passed since the last mark was `part`."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = self._clock()
        self.seconds[part] += now - self._last
        self._last = now

    def shares(self) -> dict[str, float]:
        """The part of the whole that each took."""
        whole = sum(self.seconds.values())
        return {part: seconds / whole if whole else 0.0 for part, seconds in self.seconds.items()}

    def sentence(self) -> str:
        """The shares in one line."""
        return "profile: " + ", ".join(
            f"{part} {100 * share:.1f} %" for part, share in self.shares().items()
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: profile.json."""
        return {
            "seconds": {part: round(s, 6) for part, s in self.seconds.items()},
            "shares": {part: round(share, 6) for part, share in self.shares().items()},
        }
