"""The directory of a session: one file a message, and what each side keeps to itself.

================================  ====  ==========================================================
name                              mode  what
================================  ====  ==========================================================
``0-invitation.dsse`` …           0644  the sealed messages in their order, see `MESSAGES`
``private-<role>.json``           0600  the secret that everything random of that side follows from
``trainings-<role>/NNNNNN.…``     0600  blocks of its journal, ``.safetensors``, in a folder 0700:
                                        how many there are tells how many rows were checked
``lock-<role>``                   0600  held while a process of that side is at work
``.tmp-<role>-…``                 0600  unfinished; left by a process that died, removed by the next
================================  ====  ==========================================================

No name comes from a message, and nothing changes once it is written. The directory may have been
filled by the other side: links and special files are refused, sizes are checked before memory is
taken. See `pyattr.transport.durable` for what survives a crash.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Literal, Self

from pyattr.errors import ProtocolError, bad_value, check_count
from pyattr.protocol.journal import Block
from pyattr.transport import durable
from pyattr.transport.block_file import decode_block, encode_block

__all__ = [
    "CHALLENGE",
    "COMMITMENT",
    "DECISION",
    "INVITATION",
    "MESSAGES",
    "OUTPUTS",
    "ROOT",
    "Role",
    "SessionDirectory",
    "SessionReader",
]

Role = Literal["prover", "verifier"]

MESSAGES: Final = (
    "0-invitation.dsse",
    "1-commitment.dsse",
    "2-challenge.dsse",
    "3-outputs-commitment.dsse",
    "4-outputs.dsse",
    "5-decision.dsse",
)
INVITATION, COMMITMENT, CHALLENGE, ROOT, OUTPUTS, DECISION = range(len(MESSAGES))
_ROLES: Final = ("prover", "verifier")
_MOST_BLOCKS: Final = 1_000_000


class SessionReader:
    """Reads the directory of a session, one's own or another's; writes nothing.

    Parameters
    ----------
    path : str or Path
        The path itself may go through links; what is in the directory may not.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such directory.
    """

    def __init__(self, path: str | Path) -> None:
        self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory; nothing else can be done with it afterwards."""
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    def has_message(self, number: int) -> bool:
        """Whether message `number`, from 0, is there."""
        return durable.exists(self._directory, _message_name(number))

    def read_message(self, number: int, most_bytes: int) -> bytes:
        """Read a sealed message.

        Parameters
        ----------
        number : int
            Its place in the order, from 0.
        most_bytes : int
            Largest size that can be right.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        ProtocolError
            If it is larger, or not a regular file.
        """
        return durable.read_capped(self._directory, _message_name(number), most_bytes)

    @contextmanager
    def opened_message(self, number: int) -> Iterator[BinaryIO]:
        """Open a sealed message, to be read piece by piece.

        Raises
        ------
        FileNotFoundError, ProtocolError
            As `read_message`.
        """
        descriptor = durable.open_regular(self._directory, _message_name(number))
        with os.fdopen(descriptor, "rb") as file:
            yield file

    def read_private(self, role: Role, most_bytes: int) -> bytes:
        """Read what a side kept to itself, and shows to an auditor if it wishes.

        Raises
        ------
        FileNotFoundError, ProtocolError
            As `read_message`.
        """
        return durable.read_capped(self._directory, _private_name(role), most_bytes)

    def read_blocks(self, role: Role, most_bytes: int) -> tuple[Block, ...]:
        """Read the journal of a side.

        Parameters
        ----------
        role : {"prover", "verifier"}
        most_bytes : int
            Largest size of all blocks together.

        Returns
        -------
        tuple of Block
            In order; none if the side has trained nothing.

        Raises
        ------
        ProtocolError
            If a number is left out, the blocks are larger, or a file is not what `SessionDirectory`
            writes.
        """
        name = _trainings_name(role)
        if not durable.exists(self._directory, name):
            return ()
        folder = durable.open_subdirectory(self._directory, name, create=False)
        try:
            return _read_blocks(folder, name, most_bytes)
        finally:
            os.close(folder)


class SessionDirectory(SessionReader):
    """The directory of a session as one side works in it, alone, as long as it is open.

    Parameters
    ----------
    path : str or Path
    role : {"prover", "verifier"}
    create : bool
        Make the directory, for the owner alone, if it is not there.

    Raises
    ------
    BusyError
        If another process of this side is at work in it.
    ProtocolError
        If links or special files stand where this side's own should be.
    FileNotFoundError, NotADirectoryError
        If there is no such directory and none is to be made.
    ValueError
        If the role is another.
    """

    def __init__(self, path: str | Path, role: Role, *, create: bool = False) -> None:
        self.role: Role = _checked(role)
        self._temporary = f".tmp-{role}-"
        self._lock = self._trainings = -1
        if create:
            durable.make_directories(Path(path).absolute())
        super().__init__(path)
        try:
            self._lock = durable.take_lock(self._directory, f"lock-{role}")
            durable.remove_stale(self._directory, self._temporary)
            if durable.exists(self._directory, _trainings_name(role)):
                self._open_trainings()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the directory and let other processes of this side in."""
        for descriptor in (self._trainings, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._trainings = self._lock = -1
        super().close()

    def write_message(self, number: int, sealed: bytes) -> None:
        """Write a message, on the disk when this returns. The same again is fine.

        Raises
        ------
        ConflictError
            If another message is there: nobody says two things in one place.
        """
        name = _message_name(number)
        durable.write_once(self._directory, name, sealed, temporary=self._temporary)

    def write_private(self, content: bytes) -> None:
        """Write what this side keeps to itself, on the disk when this returns.

        Raises
        ------
        ConflictError
            If something else is there.
        """
        name = _private_name(self.role)
        durable.write_once(self._directory, name, content, temporary=self._temporary, private=True)

    def read_own_private(self, most_bytes: int) -> bytes:
        """Read what this side keeps to itself.

        Raises
        ------
        PermissionError
            If others can read it: then the secret is none.
        FileNotFoundError, ProtocolError
            As `read_message`.
        """
        return durable.read_capped(
            self._directory, _private_name(self.role), most_bytes, private=True
        )

    def append_block(self, number: int, block: Block) -> None:
        """Write a block of this side's journal, on the disk when this returns: the journal's sink.

        Raises
        ------
        ConflictError
            If another block is there.
        """
        if self._trainings < 0:
            self._open_trainings()
        durable.write_once(
            self._trainings,
            _block_name(number),
            encode_block(block),
            temporary=self._temporary,
            private=True,
        )

    def _open_trainings(self) -> None:
        name = _trainings_name(self.role)
        self._trainings = durable.open_subdirectory(self._directory, name, create=True)
        durable.remove_stale(self._trainings, self._temporary)


def _read_blocks(folder: int, where: str, most_bytes: int) -> tuple[Block, ...]:
    present = {name for name in os.listdir(folder) if not name.startswith(".")}
    names = [_block_name(number) for number in range(len(present))]
    if present != set(names):
        missing = min(set(names) - present)
        raise ProtocolError(f"{where}: expected {missing}, since there are {len(present)} files")
    blocks, left = [], most_bytes
    for name in names:
        content = durable.read_capped(folder, name, left)
        left -= len(content)
        blocks.append(decode_block(f"{where}/{name}", content))
    return tuple(blocks)


def _checked(role: Role) -> Role:
    if role not in _ROLES:
        raise bad_value("role", " or ".join(map(repr, _ROLES)), repr(role))
    return role


def _message_name(number: int) -> str:
    if check_count("number", number) >= len(MESSAGES):
        raise bad_value("number", f"a message from 0 to {len(MESSAGES) - 1}", number)
    return MESSAGES[number]


def _private_name(role: Role) -> str:
    return f"private-{_checked(role)}.json"


def _trainings_name(role: Role) -> str:
    return f"trainings-{_checked(role)}"


def _block_name(number: int) -> str:
    if check_count("number", number) >= _MOST_BLOCKS:
        raise bad_value("number", f"a block below {_MOST_BLOCKS}", number)
    return f"{number:06d}.safetensors"
