"""Reading the files that options name, with errors that name the option."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pyattr.errors import ProtocolError, bad_value

if TYPE_CHECKING:
    from pyattr.protocol.keys import PublicKey, SigningKey

__all__ = ["called", "private_key", "public_key"]


@contextmanager
def called(name: str, argument: str) -> Iterator[None]:
    """Let errors about the argument of a function be about what the user calls it.

    Parameters
    ----------
    name : str
        Of an option, with ``_`` for ``-``; or a file.
    argument : str
        Name that the function's errors begin with.

    Raises
    ------
    ValueError
        In place of any ValueError or ProtocolError about the argument.
    """
    try:
        yield
    except (ValueError, ProtocolError) as error:
        first, colon, rest = str(error).partition(": ")
        if not colon or first != argument:
            raise
        raise ValueError(f"{name}: {rest}") from error


def private_key(option: str, file: Path) -> SigningKey:
    """Read the private key that an option names."""
    from pyattr.protocol.keys import SigningKey

    with called(option, "path"), _there(option, file, f"`pyattr keygen {file}` makes one"):
        return SigningKey.load(file)


def public_key(option: str, file: Path) -> PublicKey:
    """Read the public key that an option names."""
    from pyattr.protocol.keys import PublicKey

    with called(option, "path"), _there(option, file, "the other party has it and sends it"):
        return PublicKey.load(file)


@contextmanager
def _there(option: str, file: Path, advice: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise bad_value(option, "the file of a key", f"{file}, no such file; {advice}") from error
