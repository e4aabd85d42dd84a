"""Files that survive a crash whole, in a directory that others may have filled.

Every name is looked up in an open directory, never through a path, and a symbolic link in its place
is refused. A file is written beside its place, flushed to the disk and then renamed: a reader sees
the whole content or none, and what was written before a power cut is there after it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyattr.errors import ProtocolError, bad_value

__all__ = [
    "PRIVATE",
    "BusyError",
    "ConflictError",
    "exists",
    "make_directories",
    "open_regular",
    "open_subdirectory",
    "opened",
    "read_capped",
    "remove_stale",
    "take_lock",
    "write_once",
    "write_whole",
]

PRIVATE: Final = 0o600
_SHARED: Final = 0o644
_READ_SIZE: Final = 1 << 20


class ConflictError(RuntimeError):
    """A file is there already and says something else."""


class BusyError(RuntimeError):
    """Another process holds the lock."""


def make_directories(path: Path) -> None:
    """Make a directory and its parents, each known to the disk, for the owner alone.

    Directories that are there stay as they are.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        with opened(folder.parent) as parent:
            os.fsync(parent)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a directory; the descriptor is closed at the end of the block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_subdirectory(directory: int, name: str, *, create: bool) -> int:
    """Open a directory inside another.

    Parameters
    ----------
    directory : int
        Descriptor of the outer one.
    name : str
    create : bool
        Make it, for the owner alone, if it is not there.

    Returns
    -------
    int
        Descriptor, to be closed by the caller.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ProtocolError
        If something else than a directory stands in its place.
    """
    if create and not exists(directory, name):
        os.mkdir(name, mode=0o700, dir_fd=directory)
    if create:  # a process that died may have made it without this
        os.fsync(directory)
    return _open(directory, name, os.O_RDONLY | os.O_DIRECTORY)


def exists(directory: int, name: str) -> bool:
    """Whether an entry of this name is there, of whatever type."""
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _open(directory: int, name: str, flags: int, mode: int = PRIVATE) -> int:
    """Open an entry; a link, or a file where a directory is wanted, is refused."""
    if not name or "/" in name or name in (".", ".."):
        raise bad_value("name", "the name of a file, without a folder", repr(name))
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EISDIR):
            raise ProtocolError(
                f"{name}: expected no link or other special file, got one"
            ) from error
        raise


def open_regular(directory: int, name: str) -> int:
    """Open a regular file for reading.

    Returns
    -------
    int
        Descriptor, to be closed by the caller.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ProtocolError
        If it is not a regular file.
    """
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    descriptor = _open(directory, name, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ProtocolError(f"{name}: expected a regular file, got another kind")
    return descriptor


def read_capped(directory: int, name: str, most_bytes: int, *, private: bool = False) -> bytes:
    """Read a regular file of limited size.

    Parameters
    ----------
    directory : int
        Descriptor of its directory.
    name : str
    most_bytes : int
        Checked before memory is taken for the content.
    private : bool
        Insist that nobody but the owner can read or write it.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ProtocolError
        If it is larger, or not a regular file.
    PermissionError
        If it should be private and is not.
    """
    descriptor = open_regular(directory, name)
    try:
        status = os.fstat(descriptor)
        if status.st_size > most_bytes:
            raise ProtocolError(
                f"{name}: expected at most {most_bytes} bytes, got {status.st_size}"
            )
        if private and status.st_mode & 0o077:
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            raise PermissionError(f"{name}: expected mode 0600, got {mode}: others may know it")
        return _read(descriptor, name, most_bytes)
    finally:
        os.close(descriptor)


def _read(descriptor: int, name: str, most_bytes: int) -> bytes:
    """Read to the end, which may have moved since the size was looked up."""
    content = bytearray()
    while part := os.read(descriptor, min(_READ_SIZE, most_bytes + 1 - len(content))):
        content += part
        if len(content) > most_bytes:
            raise ProtocolError(f"{name}: expected at most {most_bytes} bytes, got more")
    return bytes(content)


def write_once(
    directory: int, name: str, content: bytes, *, temporary: str, private: bool = False
) -> None:
    """Write a file that never changes; the same content again is fine.

    Parameters
    ----------
    directory : int
        Descriptor of its directory.
    name : str
    content : bytes
    temporary : str
        Prefix of the file that it is written to first; see `remove_stale`.
    private : bool
        Mode 0600 from the first moment; otherwise 0644, less the process's umask.

    Raises
    ------
    ConflictError
        If the file is there with another content.
    ProtocolError
        If something else than a regular file stands in its place.
    """
    if not exists(directory, name):
        unique = f"{temporary}{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = _open(directory, unique, flags, PRIVATE if private else _SHARED)
        try:
            write_whole(descriptor, content)
        finally:
            os.close(descriptor)
        os.rename(unique, name, src_dir_fd=directory, dst_dir_fd=directory)
    elif not _holds(directory, name, content):
        raise ConflictError(f"{name}: expected the content it has, got another")
    os.fsync(directory)  # again if it was there: who wrote it may have died before this


def _holds(directory: int, name: str, content: bytes) -> bool:
    try:
        return read_capped(directory, name, len(content)) == content
    except ProtocolError:
        if stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            return False  # larger
        raise


def write_whole(descriptor: int, content: bytes) -> None:
    """Write all bytes and wait until the disk has them."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def remove_stale(directory: int, temporary: str) -> None:
    """Remove what a killed process left unfinished: all files whose names begin with `temporary`."""
    for name in os.listdir(directory):
        if name.startswith(temporary):
            os.unlink(name, dir_fd=directory)


def take_lock(directory: int, name: str) -> int:
    """Lock a directory for one purpose, as long as this process lives or keeps the file open.

    Returns
    -------
    int
        Descriptor of the lock file; closing it gives the lock back.

    Raises
    ------
    BusyError
        If another process holds it.
    """
    descriptor = _open(directory, name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise BusyError(f"{name}: expected no other process at work here, got one") from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
