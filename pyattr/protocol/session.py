"""Who may send what when: one table, and the links between messages. No input or output.

Both ends keep a `Session` and show it every message they send or receive. What the table does not
allow is a `ProtocolError`, after which the session is dead.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pyattr.errors import ProtocolError
from pyattr.protocol.hashing import equal, message_hash, session_id
from pyattr.protocol.messages import (
    Challenge,
    Commitment,
    Decision,
    Invitation,
    Message,
    Outputs,
    OutputsCommitment,
)

__all__ = ["TRANSITIONS", "Role", "Session", "State"]


class Role(StrEnum):
    """The two ends of a session."""

    PROVER = "prover"
    VERIFIER = "verifier"


class State(StrEnum):
    """Which message was the last; `DEAD` after an error."""

    START = "start"
    INVITED = "invited"
    COMMITTED = "committed"
    CHALLENGED = "challenged"
    ANSWERED = "answered"
    OPENED = "opened"
    CLOSED = "closed"
    DEAD = "dead"


# (state, message sent or received) -> state; the same for both ends.
TRANSITIONS: Final[dict[tuple[State, type[Message]], State]] = {
    (State.START, Invitation): State.INVITED,
    (State.INVITED, Commitment): State.COMMITTED,
    (State.COMMITTED, Challenge): State.CHALLENGED,
    (State.CHALLENGED, OutputsCommitment): State.ANSWERED,
    (State.ANSWERED, Outputs): State.OPENED,
    (State.OPENED, Decision): State.CLOSED,
}


class Session:
    """One end's view of a session.

    Parameters
    ----------
    role : Role
        Whose view.

    Attributes
    ----------
    state : State
    parent : str
        Digest of the last message; "" before the first.
    name : str
        Session id; "" until the prover has committed.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self.state = State.START
        self.parent = ""
        self.name = ""
        self._messages: list[bytes] = []

    @property
    def messages(self) -> tuple[bytes, ...]:
        """All that was sent and received so far, in order."""
        return tuple(self._messages)

    def require(self, *states: State) -> None:
        """Refuse a caller that is out of step.

        Raises
        ------
        RuntimeError
            If the session is in another state, over or dead.
        """
        if self.state not in states:
            expected = " or ".join(states)
            raise RuntimeError(f"session: expected to be {expected}, got {self.state}")

    def kill(self) -> None:
        """End the session after an error."""
        self.state = State.DEAD

    def receive(self, message: Message) -> None:
        """Check that the peer may send this now, and that it belongs to this session.

        The state moves on with `record`, once the whole message has been read.

        Raises
        ------
        ProtocolError
            If it is out of order, from another session, or does not follow the last message.
        """
        if message.sender == self.role or (self.state, type(message)) not in TRANSITIONS:
            kind = type(message).__name__
            raise ProtocolError(f"message: expected what follows {self.state}, got a {kind}")
        if isinstance(message, Invitation):
            return
        if not isinstance(message, Commitment) and not equal(message.session, self.name):
            raise ProtocolError("session: expected this session's id, got another")
        if not equal(message.parent, self.parent):
            raise ProtocolError("parent: expected the digest of the last message, got another")

    def record(self, message: Message, data: bytes) -> None:
        """Move on after a message was sent, or received and read.

        Raises
        ------
        ProtocolError
            If the table does not allow it.
        """
        following = TRANSITIONS.get((self.state, type(message)))
        if following is None:
            raise ProtocolError(f"message: expected what follows {self.state}, got {message!r}")
        if isinstance(message, Commitment):
            self.name = session_id(data)
        self._messages.append(data)
        self.state, self.parent = following, message_hash(data)
