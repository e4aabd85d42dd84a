"""Reading ``.npy`` and ``.npz`` files of others: nothing in them is run, and rows come in blocks.

A ``.npy`` file is mapped, not read. A member of an ``.npz`` archive cannot be mapped, so its rows are
read one block after the other.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from pyattr.errors import bad_value

__all__ = ["BLOCK_BYTES", "Archive", "blocks", "map_array"]

BLOCK_BYTES: Final = 1 << 24

_BROKEN: Final = (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def map_array(path: Path, ndim: int, kinds: str, content: str) -> NDArray[Any]:
    """Map a ``.npy`` file into memory, whatever its name ends in.

    Parameters
    ----------
    path : Path
    ndim : int
        Number of dimensions that it must have.
    kinds : str
        Letters of ``numpy.dtype.kind``, of which its type must be one.
    content : str
        What is in it, for messages.

    Returns
    -------
    array
        Read-only; pages are read when they are used.

    Raises
    ------
    ValueError
        If it is no ``.npy`` file, is cut off, or holds something else.
    FileNotFoundError
        If it is not there.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise bad_value(str(path), "a whole .npy file", error) from error
    if not isinstance(array, np.ndarray):
        raise bad_value(str(path), "a .npy file", "an .npz archive")
    _check(str(path), array.shape, array.dtype, ndim, kinds, content)
    return array


class Archive:
    """An ``.npz`` archive, read member by member.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ValueError
        If it is no ``.npz`` archive.
    FileNotFoundError
        If it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = {info.filename: info.file_size for info in archive.infolist()}
        except zipfile.BadZipFile as error:
            raise bad_value(str(path), "an .npz archive", error) from error
        self._sizes = {
            name.removesuffix(".npy"): size for name, size in members.items() if name[-4:] == ".npy"
        }

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return sorted(self._sizes)

    def read(self, name: str, ndim: int, kinds: str, content: str) -> NDArray[Any]:
        """Read an array whole; parameters as for `map_array`.

        Raises
        ------
        ValueError
            If it is missing, damaged, or holds something else.
        """
        shape, dtype, rows = self.open(name, ndim, kinds, content)
        result = np.empty(shape, dtype)
        if ndim == 0:
            result[...] = next(rows)[1][0]
            return result
        for place, block in rows:
            result[place] = block
        return result

    def open(
        self, name: str, ndim: int, kinds: str, content: str
    ) -> tuple[tuple[int, ...], np.dtype[Any], Iterator[tuple[slice, NDArray[Any]]]]:
        """Open an array, to read its rows in blocks; parameters as for `map_array`.

        Returns
        -------
        shape : tuple of int
        dtype : numpy.dtype
        rows : iterator of (slice, (n, ...) array)
            Which rows, and them.

        Raises
        ------
        ValueError
            If it is missing, damaged, or holds something else; damage to rows is found on the way.
        """
        where = f"{self.path}: {name}"
        if name not in self._sizes:
            raise bad_value(str(self.path), f"an array {name!r}", f"{self.names}")
        with self._stream(name) as stream:
            shape, fortran, dtype = _header(stream)
            n_bytes = stream.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize
        _check(where, shape, dtype, ndim, kinds, content)
        if n_bytes != self._sizes[name]:
            raise bad_value(where, f"{n_bytes} bytes", self._sizes[name])
        if fortran and ndim > 1:
            raise bad_value(where, "rows in C order", "columns (Fortran order)")
        return shape, dtype, self._rows(name, shape, dtype)

    def _rows(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Iterator[tuple[slice, NDArray[Any]]]:
        n_rows, row_shape = (shape[0], shape[1:]) if shape else (1, ())
        width = int(np.prod(row_shape, dtype=np.int64)) * dtype.itemsize
        with self._stream(name) as stream:
            _header(stream)
            for rows in blocks(n_rows, width):
                wanted = (rows.stop - rows.start) * width
                data = stream.read(wanted)
                if len(data) != wanted:
                    raise EOFError(f"{len(data)} of {wanted} bytes")
                block = np.frombuffer(data, dtype)
                yield rows, block.reshape(rows.stop - rows.start, *row_shape)
            stream.read(1)  # at its end a stream compares the checksum

    @contextmanager
    def _stream(self, name: str) -> Iterator[IO[bytes]]:
        """Open a member; what is wrong with its bytes is a ValueError that names it."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as stream:
                yield stream
        except _BROKEN as error:
            raise bad_value(f"{self.path}: {name}", "a whole array", error) from error


def blocks(n_rows: int, row_bytes: int) -> Iterator[slice]:
    """Ranges of rows that are `BLOCK_BYTES` or one row large."""
    step = max(1, BLOCK_BYTES // max(row_bytes, 1))
    for first in range(0, n_rows, step):
        yield slice(first, min(first + step, n_rows))


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _check(
    where: str, shape: tuple[int, ...], dtype: np.dtype[Any], ndim: int, kinds: str, content: str
) -> None:
    if len(shape) != ndim or dtype.kind not in kinds:
        raise bad_value(where, content, f"shape {shape} {dtype}")
