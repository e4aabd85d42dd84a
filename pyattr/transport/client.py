"""A verifier over HTTP: requests that may be repeated, and a session that goes on wherever it stopped.

Whatever was answered is checked as a file would be: signatures first, sizes before memory is taken.
A server that refuses, is silent or lies about its progress is an error of this session and never a
verdict; a signed message that is wrong is.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from pyattr.errors import ProtocolError, bad_value, check_positive
from pyattr.optional import install_line
from pyattr.protocol.hashing import message_hash
from pyattr.protocol.signing import unseal
from pyattr.transport.answers import JSON_CAP, SEALED, Offer, Progress, Refusal
from pyattr.transport.directory import CHALLENGE, COMMITMENT, DECISION, INVITATION, OUTPUTS, ROOT
from pyattr.transport.verifier_side import VerifierSide
from pyattr.verification.verdict import Verdict

try:
    import httpx
except ImportError as error:
    raise ImportError(f"asking a prover needs {error.name}: {install_line('session')}") from error

__all__ = ["DeadlineError", "ProverClient", "RefusedError", "hold_session", "send_decision"]

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_PASSING: Final = (408, 429, 500, 502, 503, 504)
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 30.0
_LONGEST_POLL: Final = 5.0

_Answer = TypeVar("_Answer", Offer, Progress)


class RefusedError(RuntimeError):
    """The prover's server does not do what it is asked, and asking again will not help."""


class DeadlineError(RuntimeError):
    """The session took longer than it may; it can be taken up again."""


class ProverClient:
    """Asks a prover's server. Every request is repeated until it is answered or time is up.

    Parameters
    ----------
    url : str
        Of the server, without a path.
    token : str, optional
        Sent over TLS, or to this machine, only.
    ca : Path, optional
        PEM file of who vouches for the server, in place of those that the system trusts.
    seconds : float
        For everything together.
    silence_seconds : float
        Longest wait for a connection, or for the next bytes.

    Raises
    ------
    ValueError
        If the URL is none, or the token would be readable on its way.
    OSError
        If `ca` cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca: Path | None = None,
        seconds: float = 24 * 3600.0,
        silence_seconds: float = 30.0,
    ) -> None:
        base = _base(url)
        if token is not None and base.scheme != "https" and base.host not in _LOOPBACK:
            raise bad_value("url", "https where a token is sent to another machine", url)
        self._until = time.monotonic() + check_positive("seconds", seconds)
        headers = {"accept-encoding": "identity"}  # nothing that could expand
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            base_url=base,
            headers=headers,
            timeout=check_positive("silence_seconds", silence_seconds),
            verify=True if ca is None else ssl.create_default_context(cafile=ca),
            trust_env=False,
        )

    def __enter__(self) -> ProverClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def offer(self) -> Offer:
        """What the prover is ready to prove."""
        return _decoded(self._asked("GET", "/v1/prover", JSON_CAP), Offer)

    def begin(self, invitation: bytes, most_bytes: int) -> bytes:
        """Send the invitation; returns the sealed commitment."""
        return self._asked("POST", "/v1/sessions", most_bytes, invitation)

    def challenge(self, place: str, challenge: bytes) -> Progress:
        """Send the challenge."""
        path = f"/v1/sessions/{place}/challenge"
        return _decoded(self._asked("POST", path, JSON_CAP, challenge), Progress)

    def progress(self, place: str) -> Progress:
        """How far the session is, as the prover says."""
        return _decoded(self._asked("GET", f"/v1/sessions/{place}", JSON_CAP), Progress)

    def outputs_commitment(self, place: str, most_bytes: int) -> bytes:
        """The sealed root of all outputs."""
        return self._asked("GET", f"/v1/sessions/{place}/outputs-commitment", most_bytes)

    def outputs(self, place: str, most_bytes: int) -> bytes:
        """All outputs, sealed."""
        return self._asked("GET", f"/v1/sessions/{place}/outputs", most_bytes)

    def decide(self, place: str, decision: bytes) -> None:
        """Send the decision."""
        self._asked("POST", f"/v1/sessions/{place}/decision", JSON_CAP, decision)

    def wait(self, seconds: float) -> None:
        """Pause.

        Raises
        ------
        DeadlineError
            If time would be up before its end.
        """
        if time.monotonic() + seconds > self._until:
            raise DeadlineError("seconds: expected the session to be over, got a prover at work")
        time.sleep(seconds)

    def _asked(self, method: str, path: str, most_bytes: int, body: bytes | None = None) -> bytes:
        """Make a request until there is an answer; all of them may be made again."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._once(method, path, most_bytes, body)
            except (httpx.TransportError, _PassingError) as error:
                if _is_distrust(error):
                    raise RefusedError(f"prover: expected a trusted server, got {error}") from None
                # Spread out: several verifiers may have lost the same server.
                waited = max(pause * random.uniform(0.5, 1.0), getattr(error, "seconds", 0.0))
                try:
                    self.wait(waited)
                except DeadlineError:
                    got = f"{type(error).__name__}: {error}"
                    raise DeadlineError(f"prover: expected an answer in time, got {got}") from None
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _once(self, method: str, path: str, most_bytes: int, body: bytes | None) -> bytes:
        headers = {} if body is None else {"content-type": SEALED}
        with self._http.stream(method, path, content=body, headers=headers) as response:
            if response.is_success:
                return self._body(response, most_bytes)
            sentence = _sentence(self._body(response, JSON_CAP))
            if response.status_code in _PASSING:
                raise _PassingError(sentence, response.headers.get("retry-after", ""))
        raise RefusedError(f"{method} {path}: refused with {response.status_code}: {sentence}")

    def _body(self, response: httpx.Response, most_bytes: int) -> bytes:
        """The body, of which no more is read than may be right."""
        if "content-encoding" in response.headers:
            raise RefusedError("content-encoding: expected none, got one")
        length = response.headers.get("content-length", "")
        too_large = RefusedError(f"answer: expected at most {most_bytes} bytes, got more")
        if length.isdecimal() and int(length[:20]) > most_bytes:
            raise too_large
        body = bytearray()
        for piece in response.iter_raw():
            if len(body) + len(piece) > most_bytes:
                raise too_large
            body += piece
            if time.monotonic() > self._until:
                raise DeadlineError("answer: expected all of it in time, got its beginning")
        return bytes(body)


class _PassingError(Exception):
    """The server is busy, or not there."""

    def __init__(self, sentence: str, retry_after: str) -> None:
        super().__init__(sentence)
        is_short = retry_after.isdecimal() and len(retry_after) < 4
        self.seconds = min(float(retry_after), _LONGEST_PAUSE) if is_short else 0.0


Tell = Callable[[int, int], None]
"""Called with trainings done and planned by the prover, as it says."""


def hold_session(side: VerifierSide, client: ProverClient, tell: Tell | None = None) -> Verdict:
    """Carry a session to its verdict, from wherever it is; `send_decision` is what remains.

    Parameters
    ----------
    side : VerifierSide
        Whose directory keeps what was sent and received.
    client : ProverClient
    tell : callable, optional

    Returns
    -------
    Verdict
        Also where a signed message of the prover is wrong: ABORT then.

    Raises
    ------
    RefusedError, DeadlineError
        If the server leads nowhere. The session can be taken up again.
    ProtocolError
        If an answer is not signed by the prover, or the commitment is wrong, so that nothing was spent yet.
    AttemptsSpentError
        If the claim has had all its sessions; nothing was sent on its account.
    """
    own = side.directory
    place = _place(side)
    if not own.has_message(COMMITMENT):
        side.put(COMMITMENT, client.begin(side.message(INVITATION), side.most_bytes()))
    side.advance(ROOT)
    if not own.has_message(OUTPUTS):
        client.challenge(place, side.message(CHALLENGE))
        _await_outputs(client, place, tell)
    if not own.has_message(ROOT):
        side.put(ROOT, client.outputs_commitment(place, side.most_bytes()))
    if _leads_on(side, OUTPUTS):
        if not own.has_message(OUTPUTS):
            side.put(OUTPUTS, client.outputs(place, side.most_bytes()))
        _leads_on(side, DECISION)
    return side.end.verdict


def send_decision(side: VerifierSide, client: ProverClient) -> None:
    """Tell the prover how the session ended, if its messages were right in form.

    Raises
    ------
    RefusedError, DeadlineError
        If the server does not take it; the verdict stands.
    """
    if side.directory.has_message(DECISION):
        client.decide(_place(side), side.message(DECISION))


def _place(side: VerifierSide) -> str:
    """The session's name at the prover's."""
    return message_hash(unseal(side.message(INVITATION), side.key.public))


def _leads_on(side: VerifierSide, stop: int) -> bool:
    """Read what came; False if it is wrong in form, which ends the session with ABORT."""
    try:
        side.advance(stop)
    except ProtocolError:
        return False
    return True


def _await_outputs(client: ProverClient, place: str, tell: Tell | None) -> None:
    pause = _FIRST_PAUSE / 4
    while (progress := client.progress(place)).state not in ("answered", "closed"):
        if progress.state != "training":
            raise RefusedError(f"prover: expected it to train, got {progress.state}")
        if tell is not None:
            tell(progress.done, progress.planned)
        client.wait(pause)
        pause = min(1.5 * pause, _LONGEST_POLL)
    if tell is not None:
        tell(progress.done, progress.planned)


def _is_distrust(error: BaseException | None) -> bool:
    """Whether TLS itself failed, which it will again."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _base(url: str) -> httpx.URL:
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise bad_value("url", "the URL of a prover", error) from None
    if base.scheme not in ("http", "https") or not base.host or base.path not in ("", "/"):
        raise bad_value("url", "http:// or https://, a host, and no path", repr(url))
    return base


def _decoded(content: bytes, kind: type[_Answer]) -> _Answer:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RefusedError(f"answer: expected a {kind.__name__}, got {error}") from None


def _sentence(content: bytes) -> str:
    """A refusal's reason, in characters that can do nothing to a terminal."""
    try:
        text = msgspec.json.decode(content, type=Refusal).error
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return "no reason given"
    return "".join(char if char.isprintable() else "?" for char in text)
