"""Server and client killed at their calls to the system, and started again: always the same bytes."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_parties import prepare, stored, terms, verify

from pyattr.transport import client, durable, ledger
from pyattr.transport.host import Host
from pyattr.transport.ledger import Ledger
from pyattr.transport.listener import Address, server_of
from pyattr.transport.server import Limits, application

CALLS = ("open", "mkdir", "write", "fsync", "rename", "unlink", "ftruncate")
NEVER = -1


class _Dying:
    """The module `os`, in which a process dies before or after one of its calls, counted from 0."""

    def __init__(self, point: int, log: int) -> None:
        self._point, self._counter, self._log = point, itertools.count(), log

    def __getattr__(self, name: str):
        function = getattr(os, name)
        return self._watched(function) if name in CALLS else function

    def _watched(self, function):
        def call(*arguments, **words):
            self._maybe_die()
            result = function(*arguments, **words)
            self._maybe_die()
            return result

        return call

    def _maybe_die(self) -> None:
        if next(self._counter) == self._point:
            os.write(self._log, b"x")
            os.kill(os.getpid(), signal.SIGKILL)


def forked(work, point: int, log: int) -> int:
    """Start a process that does the work and dies at a point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads that the child does not use
        process = os.fork()
    if process:
        return process
    code = 1
    try:
        durable.os = ledger.os = _Dying(point, log)
        client._FIRST_PAUSE = 0.02  # seconds until it asks again
        with Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
            work()
        code = 0
    finally:
        os._exit(code)


def session(path, opened: socket.socket, server_point: int, client_point: int) -> int:
    """Hold a session whose server and client each die once; returns how many of them did."""
    log, written = os.pipe()
    address, limits = Address(), Limits()

    def serve() -> None:
        host = Host(path / "host", terms())
        server_of(application(host, limits), address, limits).run(sockets=[opened])

    def ask() -> None:
        verify(path, f"http://127.0.0.1:{opened.getsockname()[1]}")

    server, asking = forked(serve, server_point, written), forked(ask, client_point, written)
    try:
        while True:
            process, status = os.wait()
            assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "failed by itself"
            if process == server:
                assert os.WIFSIGNALED(status)
                server = forked(serve, NEVER, written)
            elif os.WIFSIGNALED(status):
                asking = forked(ask, NEVER, written)
            else:
                assert process == asking
                break
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
        os.close(written)
        deaths = os.read(log, 10)
        os.close(log)
    return len(deaths)


def kill_points(step: int = 5) -> Iterator[int]:
    """Some of the points: one lies before a call and the next after it, so an odd step takes both kinds."""
    yield from itertools.count(0, step)


@pytest.mark.skipif(sys.platform != "linux", reason="counts calls of Linux")
def test_killed_anywhere_a_session_goes_on_with_the_same_bytes(tmp_path):
    n_deaths = 0
    with socket.create_server(("127.0.0.1", 0)) as opened:
        for point in kill_points():
            path = tmp_path / f"{point}"
            place, expected = prepare(path, 1)
            deaths = session(path, opened, point, point)
            assert stored(path / "verifier") == expected
            assert stored(path / "host" / place) == expected
            assert not list(path.rglob(".tmp-verifier-*"))
            assert '"outcome":"ACCEPT"' in Ledger.at(path / "ledger.jsonl").path.read_text()
            n_deaths += deaths
            if not deaths:
                break
    assert n_deaths > 40
