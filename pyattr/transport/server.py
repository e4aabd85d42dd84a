"""A prover over HTTP: the routes, what a request may cost, and who may make one.

The messages are those of files, sealed; `pyattr.transport.openapi` describes the interface. A verifier is
known by its signatures. The bearer token only keeps strangers from using up the server.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pyattr.errors import ProtocolError, check_count, check_positive
from pyattr.optional import install_line
from pyattr.transport.answers import REQUEST_CAP, SEALED, Refusal
from pyattr.transport.directory import OUTPUTS, ROOT
from pyattr.transport.durable import BusyError, ConflictError
from pyattr.transport.host import ClaimSpentError, Host, TooManyError
from pyattr.transport.hosted_session import NotThereError
from pyattr.transport.openapi import DESCRIPTION

try:
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route
except ImportError as error:
    raise ImportError(f"serving needs {error.name}: {install_line('session')}") from error

__all__ = ["Limits", "application"]

_LOG: Final = logging.getLogger(__name__)
_PIECE: Final = 1 << 16
_OPEN_PATHS: Final = ("/healthz", "/openapi.json")
_STATUS: Final[dict[type[Exception], int]] = {
    ProtocolError: 400,
    ClaimSpentError: 403,
    NotThereError: 404,
    ConflictError: 409,
    TooManyError: 429,
    BusyError: 503,
}
_RETRY: Final = {429: "60", 503: "5"}  # seconds

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Application = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Parameters
    ----------
    header_seconds : float
        From the first byte of a connection, or of a later request on it, to the end of the headers.
    body_seconds : float
        To the end of the body.
    request_seconds : float
        To the last byte of the answer: bounds the download of outputs.
    connections : int
        At a time.

    Raises
    ------
    ValueError
        If one of them is not positive.
    """

    header_seconds: float = 15.0
    body_seconds: float = 30.0
    request_seconds: float = 3600.0
    connections: int = 64

    def __post_init__(self) -> None:
        for name in ("header_seconds", "body_seconds", "request_seconds"):
            check_positive(name, getattr(self, name))
        check_count("connections", self.connections, 1)


def application(host: Host, limits: Limits | None = None, token: str | None = None) -> _Application:
    """The ASGI application of a prover.

    Parameters
    ----------
    host : Host
    limits : Limits
    token : str, optional
        What requests must bear; everybody may ask if it is not given.
    """
    limits = limits or Limits()
    routes = _Routes(host, limits)
    place = "/v1/sessions/{place}"
    app = Starlette(
        routes=[
            Route("/healthz", routes.health, methods=["GET"]),
            Route("/openapi.json", routes.describe, methods=["GET"]),
            Route("/v1/prover", routes.offer, methods=["GET"]),
            Route("/v1/sessions", routes.begin, methods=["POST"]),
            Route(place, routes.show, methods=["GET"]),
            Route(f"{place}/challenge", routes.challenge, methods=["POST"]),
            Route(f"{place}/outputs-commitment", routes.root, methods=["GET"]),
            Route(f"{place}/outputs", routes.outputs, methods=["GET"]),
            Route(f"{place}/decision", routes.decide, methods=["POST"]),
        ],
        exception_handlers=dict.fromkeys((*_STATUS, HTTPException), _refused)
        | {Exception: _failed},
    )
    app.router.redirect_slashes = False
    return _Guard(app, limits, token)


class _Routes:
    """What is done for each request."""

    def __init__(self, host: Host, limits: Limits) -> None:
        self._host, self._limits = host, limits

    async def health(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def describe(self, request: Request) -> Response:
        return _json(DESCRIPTION)

    async def offer(self, request: Request) -> Response:
        return _json(self._host.terms.offer())

    async def begin(self, request: Request) -> Response:
        sealed = await _message(request, self._limits.body_seconds)
        place, commitment = await run_in_threadpool(self._host.invite, sealed)
        location = {"location": f"/v1/sessions/{place}"}
        return Response(commitment, 201, location, SEALED)

    async def show(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self._host.progress, _place(request)))

    async def challenge(self, request: Request) -> Response:
        sealed = await _message(request, self._limits.body_seconds)
        await run_in_threadpool(self._host.challenge, _place(request), sealed)
        return _json(await run_in_threadpool(self._host.progress, _place(request)), 202)

    async def root(self, request: Request) -> Response:
        return await self._stored(request, ROOT)

    async def outputs(self, request: Request) -> Response:
        return await self._stored(request, OUTPUTS)

    async def decide(self, request: Request) -> Response:
        sealed = await _message(request, self._limits.body_seconds)
        await run_in_threadpool(self._host.decide, _place(request), sealed)
        return Response(status_code=204)

    async def _stored(self, request: Request, number: int) -> Response:
        """Stream a message from the disk."""
        opened = self._host.opened_message(_place(request), number)
        file, size = await run_in_threadpool(opened.__enter__)

        async def pieces() -> AsyncIterator[bytes]:
            try:
                while piece := await run_in_threadpool(file.read, _PIECE):
                    yield piece
            finally:
                opened.__exit__(None, None, None)

        return StreamingResponse(pieces(), headers={"content-length": str(size)}, media_type=SEALED)


class _Guard:
    """Asks for the token, ends what takes too long, and keeps answers out of caches."""

    def __init__(self, app: _Application, limits: Limits, token: str | None) -> None:
        self._app, self._seconds = app, limits.request_seconds
        self._expected = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            return
        has_begun = False

        async def watched(event: MutableMapping[str, Any]) -> None:
            nonlocal has_begun
            if event["type"] == "http.response.start":
                has_begun = True
                event["headers"] = [*event["headers"], *_headers(event["status"])]
            await send(event)

        try:
            async with asyncio.timeout(self._seconds):
                app = self._app if self._allows(scope) else _NO_TOKEN
                await app(scope, receive, watched)
        except TimeoutError:
            if not has_begun:
                await _refusal(503, "request: expected to be answered sooner")(
                    scope, receive, watched
                )
        except (
            Exception
        ) as error:  # the operator is told why; the peer had its answer from `_failed`
            _LOG.error("%s %s failed", scope["method"], scope["path"], exc_info=error)

    def _allows(self, scope: _Scope) -> bool:
        if self._expected is None or scope["path"] in _OPEN_PATHS:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and secrets.compare_digest(given[0], self._expected)


def _headers(status: int) -> list[tuple[bytes, bytes]]:
    headers = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
    if status >= 400:  # the rest of a refused body is not read
        headers.append((b"connection", b"close"))
    return headers


def _place(request: Request) -> str:
    return str(request.path_params["place"])


async def _message(request: Request, seconds: float) -> bytes:
    """The body of a request, never more of it in memory than may be right."""
    if request.headers.get("content-type") != SEALED:
        raise HTTPException(415, f"content-type: expected {SEALED}, got another")
    too_large = HTTPException(413, f"body: expected at most {REQUEST_CAP} bytes, got more")
    length = request.headers.get("content-length", "0")
    if len(length) > 9 or int(length) > REQUEST_CAP:  # the server has checked that these are digits
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                if len(body) + len(piece) > REQUEST_CAP:
                    raise too_large
                body += piece
    except TimeoutError:
        raise HTTPException(408, f"body: expected all of it within {seconds:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "body: expected all of it, got its beginning") from None
    return bytes(body)


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _refusal(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    response = _json(Refusal(error=sentence[:2000]), status)
    for name, value in (headers or {}).items():
        response.headers[name] = value
    return response


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _refusal(error.status_code, error.detail, dict(error.headers or {}))
    status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
    headers = {"retry-after": _RETRY[status]} if status in _RETRY else None
    return _refusal(status, str(error), headers)


async def _failed(request: Request, error: Exception) -> Response:
    return _refusal(500, "server: expected to answer, got an error")


_NO_TOKEN: Final = _refusal(
    401, "authorization: expected the bearer token, got another", {"www-authenticate": "Bearer"}
)
