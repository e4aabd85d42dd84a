"""Listening for a prover's application: sockets, TLS, and connections that say nothing.

uvicorn waits for ever for the headers of a request, so that whoever opens connections and sends
nothing on them could use them all up: `_PatientProtocol` ends such connections.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyattr.errors import bad_value
from pyattr.optional import install_line
from pyattr.transport.server import Limits

try:
    import h11
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as error:
    raise ImportError(f"serving needs {error.name}: {install_line('session')}") from error

__all__ = ["Address", "is_loopback", "listen", "server_of"]

_HEADERS_CAP = 2**14


@dataclass(frozen=True)
class Address:
    """Where to listen.

    Parameters
    ----------
    host : str
    port : int
        0 for any that is free.
    certificate, certificate_key : Path, optional
        PEM files; with them TLS.

    Raises
    ------
    ValueError
        If only one of the files is given.
    """

    host: str = "127.0.0.1"
    port: int = 8750
    certificate: Path | None = None
    certificate_key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.certificate_key is None):
            raise bad_value("certificate", "a certificate and its key, or neither", "one of them")


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine can reach a host by this name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(address: Address) -> tuple[socket.socket, str]:
    """Open the socket.

    Returns
    -------
    socket : socket
    url : str
        What it can be reached by.

    Raises
    ------
    OSError
        If the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    opened = socket.create_server((address.host, address.port), family=family)
    host = f"[{address.host}]" if ":" in address.host else address.host
    scheme = "http" if address.certificate is None else "https"
    return opened, f"{scheme}://{host}:{opened.getsockname()[1]}"


def server_of(app: Callable[..., Any], address: Address, limits: Limits) -> uvicorn.Server:
    """A server; ``server.run(sockets=[…])`` answers requests until the process is told to end.

    Parameters
    ----------
    app : callable
        An ASGI application.
    address : Address
    limits : Limits
    """
    config = uvicorn.Config(
        app,
        http=_patient_protocol(limits.header_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=max(1, round(limits.header_seconds)),
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=_HEADERS_CAP,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.certificate_key,
    )
    return uvicorn.Server(config)


def _patient_protocol(seconds: float) -> type[asyncio.Protocol]:
    """A protocol that waits so long for the headers of a request."""
    return type("PatientProtocol", (_PatientProtocol,), {"header_seconds": seconds})


class _PatientProtocol(H11Protocol):
    """Closes a connection on which the headers of a request do not come to an end."""

    header_seconds: float
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Start the clock where a request is awaited, and stop it where one is there."""
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.header_seconds, self.transport.close)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
