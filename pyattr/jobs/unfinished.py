"""Trainings of a check that has not ended, on the disk: interrupted anywhere, it goes on from them.

They lie in a folder beside the verdict that is to be, ``<verdict>.unfinished-<digest>``, which is a
`pyattr.transport.directory.SessionDirectory` of a verifier: the seed, which nobody else may know, and the
trainings in the order they were asked for (`pyattr.protocol.journal`). The digest is of everything that
decides which trainings these are and what is concluded from them; another check has another folder, and none
ever sees trainings that were drawn for other scores.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Final, Self

import msgspec

from pyattr.errors import ProtocolError
from pyattr.interface import Retrain
from pyattr.protocol.journal import AnotherSessionError, Journal
from pyattr.transport.directory import SessionDirectory
from pyattr.transport.durable import BusyError, opened

__all__ = ["Unfinished"]

_ROLE: Final = "verifier"
_MOST_BYTES: Final = 1 << 36
_MOST_PRIVATE: Final = 1 << 10
_DIGITS: Final = 16  # of the digest, in the folder's name


class _Private(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the verifier keeps to itself."""

    seed: int

    def __repr__(self) -> str:
        return "_Private()"


class Unfinished:
    """The trainings of one check; as a context, its folder is open and no other process's.

    A folder in which nothing was trained is taken away at the end.

    Parameters
    ----------
    kept : Path
        Where the verdict will be.
    digest : str
        Of the check.

    Attributes
    ----------
    folder : Path

    Raises
    ------
    RuntimeError
        If another process makes the same check, or the folder is not what this class writes.
    OSError
        If it cannot be read or written.
    """

    def __init__(self, kept: Path, digest: str) -> None:
        self._name = f"{kept.stem}.unfinished-"
        self._digest = digest
        self.folder = kept.with_name(f"{self._name}{digest[:_DIGITS]}")
        self._journal: Journal | None = None

    def __enter__(self) -> Self:
        try:
            self._directory = SessionDirectory(self.folder, _ROLE, create=True)
        except BusyError as error:
            expected = "no other process that makes this very check"
            raise RuntimeError(f"{self.folder}: expected {expected}, got one") from error
        try:
            self._blocks = self._directory.read_blocks(_ROLE, _MOST_BYTES)
        except BaseException as error:
            self._directory.close()
            self._advise(error)
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._directory.close()
        if not self.n_trained:
            self.remove()
        elif error is not None:
            self._advise(error)

    @property
    def n_kept(self) -> int:
        """Trainings that earlier runs left."""
        return sum(len(block.outputs) for block in self._blocks)

    @property
    def n_trained(self) -> int:
        """All trainings that are kept."""
        own = 0 if self._journal is None else self._journal.n_trained
        return self.n_kept + own

    @property
    def others(self) -> list[Path]:
        """Folders of other checks that would have written the same verdict."""
        found = self.folder.parent.glob(f"{self._name}*")
        return sorted(folder for folder in found if folder != self.folder)

    def seed(self, given: int | None) -> int:
        """The seed of the check: the one given, or drawn when it began."""
        try:
            content = self._directory.read_own_private(_MOST_PRIVATE)
            return msgspec.json.decode(content, type=_Private).seed
        except FileNotFoundError:
            seed = secrets.randbits(64) if given is None else given
            self._directory.write_private(msgspec.json.encode(_Private(seed)))
            return seed
        except msgspec.DecodeError as error:
            raise ProtocolError(f"the seed in it: expected a number, got {error}") from error

    def recorded(self, retrain: Retrain, portion: int) -> Journal:
        """A `Retrain` that keeps what it trains, and trains nothing that is kept.

        Parameters
        ----------
        retrain : Retrain
        portion : int
            Most trainings that are lost when the process dies; even.
        """
        append = self._directory.append_block
        self._journal = Journal(retrain, self._blocks, append, portion, self._digest)
        return self._journal

    def remove(self) -> None:
        """Take the folder away: all of it is gone at once for whoever looks, whatever happens meanwhile."""
        with opened(self.folder.parent) as parent:
            os.fsync(parent)  # of a verdict in the same folder too, so one of both is there
        gone = self.folder.with_name(f".{self.folder.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        self.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _advise(self, error: BaseException) -> None:
        """Say what to do with a folder that cannot be gone on from."""
        if isinstance(error, ProtocolError | AnotherSessionError):
            raise RuntimeError(
                f"{self.folder}: {error}; take this folder away, and the check begins anew"
            ) from error
