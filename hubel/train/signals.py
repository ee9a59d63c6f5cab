"""Ctrl-C and SIGTERM as a wish that the loop grants after its step."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["StopRequest", "catch_signals"]


class StopRequest:
    """Whether somebody asked the process to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int = 0

    def __bool__(self) -> bool:
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """128 + signal: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signal


@contextlib.contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Note SIGINT and SIGTERM instead of dying of them; a second Ctrl-C does interrupt."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may set handlers
        return

    def note(number: int, frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = number

    former = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
