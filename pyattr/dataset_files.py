"""The files that datasets are published in: download, idx, CIFAR-10 binary and CIFAR-10 pickle.

The files come from the network or from strangers, so nothing in them is run or extracted, and
every size is checked before memory is taken for it.
"""

from __future__ import annotations

import gzip
import importlib
import io
import math
import pickle
import pickletools
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pyattr.errors import bad_value
from pyattr.optional import install_line

__all__ = ["download", "is_cached", "read_cifar10", "read_idx"]

UInt8 = NDArray[np.uint8]

_CACHE: Final = "pyattr"
_MAX_IDX_BYTES: Final = 1 << 28

_CIFAR_RECORD: Final = 1 + 3 * 32 * 32
_CIFAR_MAX_MEMBER: Final = 1 << 25  # the official ones have 31 MB
_CIFAR_MAX_MEMBERS: Final = 64
_CIFAR_BINARY: Final = tuple(
    f"cifar-10-batches-bin/{name}.bin"
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
)
_CIFAR_PICKLE: Final = tuple(
    f"cifar-10-batches-py/{name}"
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
)
_CIFAR_OPCODES: Final = frozenset(
    {"PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "GLOBAL", "REDUCE", "BUILD"}
    | {"INT", "BININT", "BININT1", "BININT2", "BINSTRING", "SHORT_BINSTRING"}
    | {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"}
    | {"EMPTY_DICT", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"}
)


def download(url: str, name: str, sha256: str, advice: str) -> Path:
    """Fetch a file once into the user's cache and check it.

    Parameters
    ----------
    url : str
        Where it lies, with a slash at the end.
    name : str
        Its name there and in the cache.
    sha256 : str
        Its digest, in hexadecimal.
    advice : str
        What the user can do instead, for the error message.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        If it cannot be fetched.
    RuntimeError
        If it is another file.
    """
    try:
        pooch = importlib.import_module("pooch")
    except ImportError as error:
        raise FileNotFoundError(
            f"{name}: no local file, and no pooch to download it: {advice}, or {install_line('datasets')}"
        ) from error
    cache = pooch.os_cache(_CACHE)
    try:
        fetched = pooch.retrieve(url + name, f"sha256:{sha256}", fname=name, path=cache)
    except OSError as error:
        raise FileNotFoundError(
            f"{name}: no local file, and {url} not reached: {advice}"
        ) from error
    except ValueError as error:
        raise RuntimeError(f"{name}: {url} returned a file of another SHA-256") from error
    return Path(fetched)


def is_cached(name: str) -> bool:
    """Whether a file of this name was downloaded before.

    Parameters
    ----------
    name : str
        As for `download`.
    """
    try:
        pooch = importlib.import_module("pooch")
    except ImportError:
        return False
    return (Path(pooch.os_cache(_CACHE)) / name).is_file()


def read_idx(path: Path, n_dims: int) -> UInt8:
    """Read a gzip-compressed idx file of unsigned bytes.

    Parameters
    ----------
    path : Path
        The file: two zero bytes, 8 for unsigned bytes, the number of dimensions, the dimensions
        as big-endian uint32, the bytes.
    n_dims : int
        Number of dimensions wanted.

    Returns
    -------
    (...) uint8
        `n_dims` dimensions.

    Raises
    ------
    ValueError
        If the file is not a complete gzip file, or header and length do not fit.

    References
    ----------
    LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section "file formats".
    """
    try:
        with gzip.open(path) as file:
            header = file.read(4 + 4 * n_dims)
            if len(header) != 4 + 4 * n_dims or header[:4] != bytes([0, 0, 8, n_dims]):
                raise bad_value(str(path), f"an idx header of {n_dims} dimensions", header.hex())
            shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
            n_bytes = math.prod(shape)
            if n_bytes > _MAX_IDX_BYTES:
                raise bad_value(str(path), f"at most {_MAX_IDX_BYTES} bytes", n_bytes)
            body = file.read(n_bytes + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise bad_value(str(path), "a complete gzip file", error) from error
    if len(body) != n_bytes:
        more = "more" if len(body) > n_bytes else len(body)
        raise bad_value(str(path), f"{n_bytes} bytes after the header", more)
    return np.frombuffer(body, np.uint8).reshape(shape)


def read_cifar10(path: Path) -> tuple[UInt8, UInt8, UInt8, UInt8]:
    """Read the binary or the Python archive of CIFAR-10.

    Parameters
    ----------
    path : Path
        ``cifar-10-binary.tar.gz`` or ``cifar-10-python.tar.gz``. Of the latter's pickles only
        plain containers and byte arrays are understood; everything else is refused.

    Returns
    -------
    train_images, train_labels, test_images, test_labels : uint8
        Images (n, 3072): all red, then green, then blue, row by row. Labels (n,), 0 to 9.

    Raises
    ------
    ValueError
        If a batch is missing, twice there, too large, or not of the expected form.
    """
    members = _read_members(path, {*_CIFAR_BINARY, *_CIFAR_PICKLE})
    for names, parse in ((_CIFAR_BINARY, _parse_binary), (_CIFAR_PICKLE, _parse_pickle)):
        if set(names) == set(members):
            batches = [parse(f"{path}: {name}", members[name]) for name in names]
            train_images = np.concatenate([images for images, _ in batches[:-1]])
            train_labels = np.concatenate([labels for _, labels in batches[:-1]])
            return train_images, train_labels, *batches[-1]
    raise bad_value(str(path), "the six batches of CIFAR-10, once", sorted(members) or "none")


def _read_members(path: Path, wanted: set[str]) -> dict[str, bytes]:
    """Read regular files of fixed names from a tar file, in memory, with capped sizes."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for n_seen, member in enumerate(archive, start=1):
                if n_seen > _CIFAR_MAX_MEMBERS or member.size > _CIFAR_MAX_MEMBER:
                    raise bad_value(str(path), "few members of ordinary size", member.name)
                if member.name not in wanted:
                    continue
                content = archive.extractfile(member) if member.isreg() else None
                if content is None or member.name in found:
                    raise bad_value(f"{path}: {member.name}", "one regular file", "another")
                found[member.name] = content.read()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise bad_value(str(path), "a complete tar.gz file", error) from error
    return found


def _parse_binary(name: str, content: bytes) -> tuple[UInt8, UInt8]:
    if not content or len(content) % _CIFAR_RECORD:
        raise bad_value(name, f"records of {_CIFAR_RECORD} bytes", f"{len(content)} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_RECORD)
    return _checked(name, records[:, 1:], records[:, 0])


def _parse_pickle(name: str, content: bytes) -> tuple[UInt8, UInt8]:
    try:
        _check_opcodes(content)
        batch = _BatchUnpickler(content).load()
    except Exception as error:  # a hostile pickle can raise anything at all
        raise bad_value(name, "a pickled CIFAR-10 batch and nothing else", error) from error
    data = batch.get(b"data") if isinstance(batch, Mapping) else None
    labels = batch.get(b"labels") if isinstance(batch, Mapping) else None
    if not isinstance(data, _PickledArray) or not isinstance(labels, list):
        raise bad_value(name, "a dictionary with data and labels", type(batch).__name__)
    if not all(type(label) is int and 0 <= label < 10 for label in labels):
        raise bad_value(name, "labels from 0 to 9", "others")
    return _checked(name, data.images(name), np.array(labels, dtype=np.uint8))


def _checked(name: str, images: UInt8, labels: UInt8) -> tuple[UInt8, UInt8]:
    if len(images) != len(labels) or labels.max(initial=0) > 9:
        raise bad_value(name, "one label from 0 to 9 for each image", "others")
    return images, labels


def _check_opcodes(content: bytes) -> None:
    """Refuse what Python 2 did not write into the archive, before any of it takes effect.

    The compiled unpickler allocates its memo by the largest index, not by what is stored.
    """
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name not in _CIFAR_OPCODES:
            raise pickle.UnpicklingError(f"{opcode.name} is not allowed")
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > len(content):
            raise pickle.UnpicklingError(f"memo entry {argument} is not allowed")


class _PickledDtype:
    """Stands in for numpy.dtype: remembers its name."""

    __slots__ = ("name",)

    def __init__(self, name: object, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and flags: single bytes have none."""


class _PickledArray:
    """Stands in for numpy.ndarray and its `_reconstruct`: remembers shape, dtype and bytes."""

    __slots__ = ("state",)

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def images(self, name: str) -> UInt8:
        """Return the (n, 3072) bytes, if that is what was pickled."""
        match self.state:
            case (1, (int(rows), 3072), _PickledDtype() as dtype, False, bytes(body)) if (
                dtype.name in (b"u1", "u1") and rows >= 1 and len(body) == rows * 3072
            ):
                return np.frombuffer(body, np.uint8).reshape(rows, 3072)
        raise bad_value(name, "data (n, 3072) uint8", "another array")


class _BatchUnpickler(pickle.Unpickler):
    """Unpickler that can name three globals only, each replaced by an inert class of ours."""

    _ALLOWED: Final = {
        ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy", "ndarray"): _PickledArray,
        ("numpy", "dtype"): _PickledDtype,
    }

    def __init__(self, content: bytes) -> None:
        # The archive was written by Python 2, whose strings are bytes.
        super().__init__(io.BytesIO(content), encoding="bytes")

    def find_class(self, module: str, name: str) -> type:
        """Refuse every global but three.

        Raises
        ------
        pickle.UnpicklingError
            If another is asked for.
        """
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed") from None
