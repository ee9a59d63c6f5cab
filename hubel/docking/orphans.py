"""A worker process that outlives the one that started it works for nobody: it ends itself."""

import os
import signal
import threading
from multiprocessing import parent_process

__all__ = ["end_with_parent"]


def end_with_parent() -> None:
    """Ends this process as soon as the one that started it has died, however it died.

    To be called by a process that `multiprocessing` has started, in its main thread. The parent
    holds one end of a pipe that closes when it dies. A thread waits for that; but Vina's search
    keeps Python's lock until it is done, so on POSIX the kernel is asked to signal this process
    too, by SIGIO, whose default is to end it.
    """
    parent = parent_process()
    if parent is None:
        return
    try:
        import fcntl

        signal.signal(signal.SIGIO, signal.SIG_DFL)
        pipe = parent.sentinel
        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    except (ImportError, AttributeError, OSError):  # no POSIX: the thread alone, between searches
        pass

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
