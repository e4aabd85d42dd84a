"""Kill a process with SIGKILL before and after each of its calls to the system, one after the other."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator

MODULES = {"posix", "fcntl"}
_write = os.write


def _write_in_pieces(descriptor: int, data: bytes | memoryview) -> int:
    """Write a third, as a system may: so that there are moments when a file is half written."""
    return _write(descriptor, data[: max(1, len(data) // 3)])


def _die_at(point: int) -> None:
    """End this process at a call to the system or at a return from one, counted from 0."""
    counter = itertools.count()

    def profile(frame: object, event: str, argument: object) -> None:
        is_system = getattr(argument, "__module__", "") in MODULES
        if is_system and event in ("c_call", "c_return") and next(counter) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    os.write = _write_in_pieces
    sys.setprofile(profile)


def killed_at_each_point(work: Callable[[int], None], step: int = 1) -> Iterator[int]:
    """Run ``work(point)`` in a process that is killed at point 0, step, …, until it comes to its end.

    Yields after each death (and the end), so that the caller can look at what is left.
    """
    for point in itertools.count(0, step):
        with warnings.catch_warnings():
            # Threads of the numerical libraries are not used in the child.
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process == 0:
            code = 1
            try:
                _die_at(point)
                work(point)
                code = 0
            finally:
                sys.setprofile(None)
                os._exit(code)
        _, status = os.waitpid(process, 0)
        yield point
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "the work failed by itself"
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
