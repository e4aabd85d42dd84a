"""The δ ledger: what the sessions about one claim may err with, all together.

A prover that fails may try again, and each trial has its own chance to pass by luck. So δ belongs to a
claim and not to a session: each session spends its share δ/attempts when its challenge is sent,
whatever comes of it, abandoned ones too, and when the shares are spent there is no other session. By
the union bound a false claim is then accepted in any of them with probability δ at most.

The file has one JSON object a line. A line is on the disk before the challenge is sent, and never
changes; a session that ends adds another line. If the process dies while it writes, the last line is
incomplete: nothing was sent on its account, and the next writer removes it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from pyattr.errors import bad_value, check_count, check_probability
from pyattr.transport.durable import PRIVATE, make_directories, opened, write_whole
from pyattr.verification.verdict import Outcome

__all__ = ["AttemptsSpentError", "Entry", "Ledger", "default_path"]

_Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z", max_length=64)]
_OPEN: Final = "open"


class AttemptsSpentError(ValueError):
    """A claim has had all the sessions that its δ allows."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session that got as far as a challenge.

    Parameters
    ----------
    claim : str
        Digest of what is claimed.
    session : str
        Its session id.
    delta : float
        What all sessions of the claim may err with together, as this one had it.
    attempts : int
        Number of sessions that δ was to be shared by, as this one had it.
    outcome : {"open", "ACCEPT", "ABORT", "INCONCLUSIVE"}
        "open" also stands for a session that was abandoned.
    """

    claim: _Digest
    session: _Digest
    delta: Annotated[float, Meta(gt=0.0, lt=1.0)]
    attempts: Annotated[int, Meta(ge=1, le=2**31)]
    outcome: Literal["open", "ACCEPT", "ABORT", "INCONCLUSIVE"] = _OPEN

    @property
    def share(self) -> Fraction:
        """What this session spends of δ."""
        return Fraction(self.delta) / self.attempts


def default_path() -> Path:
    """Where the ledger lies if nothing else is said.

    ``$XDG_STATE_HOME/pyattr/ledger.jsonl``, or ``~/.local/state`` in place of the variable where it is
    not set or not absolute.

    References
    ----------
    XDG Base Directory Specification, 0.8, sections 2 and 3.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    base = state if state.is_absolute() else Path.home() / ".local" / "state"
    return base / "pyattr" / "ledger.jsonl"


@dataclass(frozen=True)
class Ledger:
    """The ledger of a verifier.

    Parameters
    ----------
    path : Path
        The file; made at the first session, with the directories above it.
    """

    path: Path

    @classmethod
    def at(cls, path: str | Path | None = None) -> Ledger:
        """Use the ledger in this file, by default the user's."""
        return cls(default_path() if path is None else Path(path))

    def begin(self, claim: str, session: str, *, delta: float, attempts: int) -> None:
        """Spend a session's share, before its challenge is sent. The same session again is fine.

        Parameters
        ----------
        claim, session : str
            64 hexadecimal digits.
        delta : float
            What all sessions of the claim may err with together.
        attempts : int
            Number of sessions that share it.

        Raises
        ------
        AttemptsSpentError
            If the shares of all sessions so far and of this one are more than the smallest δ that was
            stated for the claim. With the same terms each time: if there were `attempts` sessions.
        ValueError
            If the session is there with another claim or on other terms, an argument is wrong, or the
            file is not a ledger.
        """
        new = Entry(
            claim=claim,
            session=session,
            delta=check_probability("delta", delta),
            attempts=check_count("attempts", attempts, 1),
        )
        _parsed(_line(new), "session")
        with self._locked() as descriptor:
            entries, end = _entries(self.path, descriptor)
            known = entries.get(session)
            if known is None:
                _check_budget([entry for entry in entries.values() if entry.claim == claim], new)
                _append(descriptor, end, new)
            elif replace(known, outcome=_OPEN) != new:
                raise ValueError(f"session: expected {known}, as it began, got {new}")
            else:
                os.fsync(descriptor)  # who wrote it may have died before this
            with opened(self.path.absolute().parent) as folder:
                os.fsync(folder)  # the file itself may be new

    def finish(self, session: str, outcome: Outcome) -> None:
        """Record how a session ended. The same again is fine.

        Raises
        ------
        ValueError
            If the session never began, or ended otherwise.
        """
        with self._locked() as descriptor:
            entries, end = _entries(self.path, descriptor)
            known = entries.get(session)
            if known is None or known.outcome not in (_OPEN, outcome.value):
                got = "none" if known is None else f"one that ended with {known.outcome}"
                raise ValueError(f"session: expected one that can end with {outcome}, got {got}")
            if known.outcome == _OPEN:
                _append(descriptor, end, replace(known, outcome=outcome.value))

    def sessions(self, claim: str) -> tuple[Entry, ...]:
        """Sessions about a claim, in the order they began."""
        if not self.path.exists():
            return ()
        with self._locked() as descriptor:
            entries, _ = _entries(self.path, descriptor)
        return tuple(entry for entry in entries.values() if entry.claim == claim)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Open the file for reading and appending, alone."""
        make_directories(self.path.absolute().parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _check_budget(earlier: list[Entry], new: Entry) -> None:
    """Refuse a session whose share is no longer there; exact, in fractions."""
    spent = sum((entry.share for entry in earlier), new.share)
    allowed = min(Fraction(entry.delta) for entry in (*earlier, new))
    if spent > allowed:
        raise AttemptsSpentError(
            f"attempts: expected sessions of this claim to spend at most δ = {float(allowed):.6g} "
            f"together, got {len(earlier)} that began, and {float(spent):.6g} with this one"
        )


def _line(entry: Entry) -> bytes:
    return msgspec.json.encode(entry) + b"\n"


def _parsed(line: bytes, where: str) -> Entry:
    try:
        return msgspec.json.decode(line, type=Entry)
    except (msgspec.MsgspecError, ValueError) as error:  # bounds, and bytes that are no text
        raise bad_value(where, "a session of the ledger", error) from error


def _append(descriptor: int, end: int, entry: Entry) -> None:
    """Write a line after the complete ones, and wait until the disk has it."""
    os.ftruncate(descriptor, end)
    write_whole(descriptor, _line(entry))


def _entries(path: Path, descriptor: int) -> tuple[dict[str, Entry], int]:
    """Sessions by id, each as its last line says, and where the last complete line ends."""
    return _parsed_lines(os.pread(descriptor, os.fstat(descriptor).st_size, 0), str(path))


def _parsed_lines(content: bytes, name: str) -> tuple[dict[str, Entry], int]:
    end = content.rfind(b"\n") + 1
    entries: dict[str, Entry] = {}
    for number, line in enumerate(content[:end].split(b"\n")[:-1], start=1):
        where = f"{name}, line {number}"
        entry = _parsed(line, where)
        known = entries.get(entry.session)
        begins = entry.outcome == _OPEN
        if begins and known is not None:
            raise bad_value(where, "a session that begins", f"one that did before: {entry}")
        if not begins and known != replace(entry, outcome=_OPEN):
            raise bad_value(where, f"the end of an open session, as it began: {known}", entry)
        entries[entry.session] = entry
    return entries, end
