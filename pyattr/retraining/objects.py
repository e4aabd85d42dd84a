"""Where a bank's objects lie: a local folder, or a bucket of an object store.

An object is there whole or not at all, wherever the writer is killed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from pyattr.errors import bad_value
from pyattr.optional import install_line

__all__ = ["Folder", "Objects", "Remote", "objects_at"]


class Objects(Protocol):
    """Objects by name; a name is a relative path with ``/``."""

    @property
    def url(self) -> str:
        """Where they lie, for messages."""

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one of this name; return whether it was written."""

    def replace(self, name: str, data: bytes) -> None:
        """Write an object, over any of this name."""

    def read(self, name: str) -> bytes | None:
        """Return an object, None if there is none."""

    def names(self, folder: str) -> list[str]:
        """Names of the objects right inside a folder, without the folder, sorted."""

    def delete(self, name: str) -> None:
        """Remove an object, if there is one."""


class Folder:
    """Objects as files of a local folder (or one that machines share).

    A file gets its name when its bytes are on the disk. Until then it has none where the file system
    has nameless files (Linux: ``O_TMPFILE``), so that a killed writer leaves nothing behind; elsewhere it
    has a name that begins with a dot, which nobody reads. Names themselves reach the disk when the system
    writes them: a power cut may take the files of the last seconds, whole, and no part of one.

    Parameters
    ----------
    path : Path
        Need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def url(self) -> str:
        """The path."""
        return str(self._path)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one of this name; return whether it was written.

        Raises
        ------
        OSError
            If the disk is full or the folder cannot be written; nothing is left of the object.
        """
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return _create_nameless(folder, path, data) or _create_renamed(path, data)
        except FileExistsError:
            return False
        finally:
            os.close(folder)

    def replace(self, name: str, data: bytes) -> None:
        """Write an object, over any of this name.

        Raises
        ------
        OSError
            As `create`; the old object is then still there.
        """
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _write_temporary(path, data)
        temporary.replace(path)

    def read(self, name: str) -> bytes | None:
        """Return an object, None if there is none."""
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """Names of the objects right inside a folder, without the folder, sorted."""
        try:
            found = [path.name for path in (self._path / folder).iterdir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in found if not name.startswith("."))

    def delete(self, name: str) -> None:
        """Remove an object, if there is one."""
        (self._path / name).unlink(missing_ok=True)


def _create_nameless(folder: int, path: Path, data: bytes) -> bool:
    """Create a file by naming a nameless one; False where the file system cannot.

    Raises
    ------
    FileExistsError
        If there is a file of this name.
    """
    if not hasattr(os, "O_TMPFILE"):
        return False
    try:
        file = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o666)
    except OSError:  # no nameless files here; where nothing can be written, the other way says so
        return False
    try:
        _write_all(file, data)
        # With a folder given, Python calls linkat, which follows the link to the nameless file.
        os.link(f"/proc/self/fd/{file}", path.name, dst_dir_fd=folder, follow_symlinks=True)
    except FileNotFoundError:  # no /proc
        return False
    finally:
        os.close(file)
    return True


def _create_renamed(path: Path, data: bytes) -> bool:
    """Create a file from a temporary one; return whether it was not there before."""
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # no hard links: two writers at once would write the same bytes
        if path.exists():
            return False
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _write_temporary(path: Path, data: bytes) -> Path:
    """Write a file of another name beside `path`, and remove it if that fails."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    file = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        _write_all(file, data)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
    return temporary


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    os.fsync(file)


class Remote:
    """Objects in a bucket, by obstore: S3, Google Cloud, Azure, and memory for tests.

    A store's put is atomic, and with ``mode="create"`` the store itself refuses a second one.

    Parameters
    ----------
    url : str
        As ``s3://bucket/prefix``; keys and regions come from the environment, as each provider names them.

    Raises
    ------
    RuntimeError
        If obstore is not installed.
    ValueError
        If the URL is not one that obstore knows.
    """

    def __init__(self, url: str) -> None:
        try:
            import obstore
            from obstore.exceptions import BaseError
        except ImportError as error:
            message = f"{url}: object stores need obstore: {install_line('cloud')}"
            raise RuntimeError(message) from error
        self._url, self._obstore = url, obstore
        try:
            self._store: Any = obstore.store.from_url(url)
        except (BaseError, ValueError) as error:
            got = f"{url!r} ({_first_line(error)})"
            raise bad_value("bank", "a folder or the URL of a bucket", got) from error

    @property
    def url(self) -> str:
        """The URL."""
        return self._url

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one of this name; return whether it was written.

        Raises
        ------
        OSError
            If the store refuses or cannot be reached; so for all that follow.
        """
        from obstore.exceptions import AlreadyExistsError

        with _as_os_errors(self._url):
            try:
                self._obstore.put(self._store, name, data, mode="create")
            except (AlreadyExistsError, FileExistsError):
                return False
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Write an object, over any of this name."""
        with _as_os_errors(self._url):
            self._obstore.put(self._store, name, data)

    def read(self, name: str) -> bytes | None:
        """Return an object, None if there is none."""
        with _as_os_errors(self._url):
            try:
                return bytes(self._obstore.get(self._store, name).bytes())
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        """Names of the objects right inside a folder, without the folder, sorted."""
        with _as_os_errors(self._url):
            found = self._obstore.list_with_delimiter(self._store, folder)["objects"]
        return sorted(entry["path"].rpartition("/")[2] for entry in found)

    def delete(self, name: str) -> None:
        """Remove an object, if there is one."""
        with _as_os_errors(self._url):
            try:
                self._obstore.delete(self._store, name)
            except FileNotFoundError:
                return


@contextmanager
def _as_os_errors(url: str) -> Iterator[None]:
    """Raise what a store says as the error that a file system would raise."""
    from obstore.exceptions import BaseError

    try:
        yield
    except BaseError as error:
        raise OSError(f"{url}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def objects_at(where: str | os.PathLike[str]) -> Objects:
    """Return the objects at a path or URL.

    Parameters
    ----------
    where : str or path
        A folder, or ``scheme://…`` for an object store.

    Raises
    ------
    ValueError
        If it is a file, or a URL that no store is known for.
    RuntimeError
        If it is a URL and obstore is not installed.
    """
    text = os.fspath(where)
    if "://" in text:
        return Remote(text)
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise bad_value("bank", "a folder or the URL of a bucket", f"the file {path}")
    return Folder(path)
