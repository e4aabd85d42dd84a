"""The retrain bank: outputs of models, kept for good.

A row is a model: its subset and its seed follow from the manifest, a seed and the row's index
(`Bank.runs`), so nothing but outputs is stored. Rows lie in chunks, and a chunk is there whole or not
at all. What is stored never changes, and depends on the row alone: any number of writers, in any order,
stopped and started again, make the same bytes. The first writer of a chunk wins.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyattr.errors import bad_value
from pyattr.masks import Masks, sample_masks, sample_seeds
from pyattr.retraining.bank_format import (
    Status,
    array_record,
    check_rows,
    checksum,
    decode_chunk,
    encode_chunk,
    group_record,
    read_length,
    read_manifest,
    statuses,
    to_json,
)
from pyattr.retraining.bank_manifest import Manifest
from pyattr.retraining.objects import Objects, objects_at

__all__ = ["Bank", "Failure"]

_GROUP = "zarr.json"
_CHUNK = re.compile(r"c\.(0|[1-9][0-9]*)\.0")

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Failure:
    """A training that gave no outputs.

    Attributes
    ----------
    seed, row : int
        Which one.
    status : Status
    message : str
        What it said.
    """

    seed: int
    row: int
    status: Status
    message: str


class Bank:
    """Outputs of models, by seed and row; `create` or `open` gives one.

    Examples
    --------
    >>> import tempfile
    >>> from pyattr.retraining.bank_manifest import Manifest
    >>> manifest = Manifest(n_train=10, n_targets=2, p=0.5, design="iid", chunk_rows=4, recipe={})
    >>> folder = tempfile.TemporaryDirectory()
    >>> bank = Bank.create(folder.name, manifest)
    >>> bank.put(0, 1, np.ones((4, 2), np.float32))
    True
    >>> bank.missing(0, 3)
    [0, 2]
    >>> folder.cleanup()
    """

    def __init__(self, objects: Objects, manifest: Manifest) -> None:
        self._objects = objects
        self.manifest = manifest

    @classmethod
    def create(cls, where: str | os.PathLike[str], manifest: Manifest) -> Bank:
        """Open the bank of a manifest, and make it if there is none.

        Parameters
        ----------
        where : str or path
            A folder, or the URL of an object store (``s3://bucket/prefix``).
        manifest : Manifest

        Raises
        ------
        ValueError
            If there is a bank of another manifest; the message names what differs.
        OSError
            If it cannot be written.
        """
        objects = objects_at(where)
        with _telling(objects, "be made"):
            data = objects.read(_GROUP)
            if data is None:
                objects.create(_GROUP, group_record(manifest.record()))
        bank = cls.open(where)
        bank.manifest.refuse_other(objects.url, manifest)
        return bank

    @classmethod
    def open(cls, where: str | os.PathLike[str]) -> Bank:
        """Open a bank that is there.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If its manifest is damaged.
        """
        objects = objects_at(where)
        data = objects.read(_GROUP)
        if data is None:
            raise FileNotFoundError(f"{objects.url}: there is no bank")
        place = f"{objects.url}/{_GROUP}"
        fields = read_manifest(place, data)
        try:
            return cls(objects, Manifest(**fields))
        except TypeError as error:
            raise bad_value(place, "the manifest of a bank", sorted(fields)) from error
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error

    @property
    def url(self) -> str:
        """Where it lies."""
        return self._objects.url

    def runs(self, seed: int, chunk: int, n_chunks: int = 1) -> tuple[Masks, NDArray[np.uint64]]:
        """Return masks and training seeds of the rows of some chunks in a row.

        Parameters
        ----------
        seed : int
            Masks are ``sample_masks(n, n_train, p, seed, design)``, seeds ``sample_seeds(n, seed)``.
        chunk, n_chunks : int
            The first chunk and how many.

        Returns
        -------
        masks : Masks
            (n_chunks · chunk_rows, n_train).
        seeds : (n_chunks · chunk_rows,) uint64
        """
        m = self.manifest
        n, first = n_chunks * m.chunk_rows, chunk * m.chunk_rows
        design: Any = m.design
        masks = sample_masks(n, m.n_train, m.p, seed, design, first_row=first)
        return masks, sample_seeds(n, seed, first_row=first)

    def stored(self, seed: int) -> list[int]:
        """Chunks that are there, rising."""
        found = (_CHUNK.fullmatch(name) for name in self._objects.names(_array(seed)))
        return sorted(int(match[1]) for match in found if match)

    def missing(self, seed: int, n_chunks: int) -> list[int]:
        """Chunks below `n_chunks` that are not there, rising."""
        there = set(self.stored(seed))
        return [chunk for chunk in range(n_chunks) if chunk not in there]

    def extend(self, seed: int, n_chunks: int) -> None:
        """Tell other readers of zarr that the seed's array has so many chunks at least.

        The bank itself does not need it: its chunks are what is there.
        """
        m, name = self.manifest, f"{_array(seed)}/{_GROUP}"
        with _telling(self._objects, "be written"):
            data = self._objects.read(name)
            if data is None or read_length(data) < n_chunks * m.chunk_rows:
                record = array_record(n_chunks * m.chunk_rows, m.n_targets, m.chunk_rows)
                self._objects.replace(name, record)

    def put(self, seed: int, chunk: int, outputs: Float32) -> bool:
        """Store a chunk, unless it is there.

        Parameters
        ----------
        seed, chunk : int
        outputs : (chunk_rows, n_targets) float32
            Rows finite, or `unusable_row`.

        Returns
        -------
        bool
            Whether it was stored now.

        Raises
        ------
        ValueError
            If shape, type or a value is another.
        OSError
            If the disk is full or the folder cannot be written. What was stored can still be read.
        """
        shape = (self.manifest.chunk_rows, self.manifest.n_targets)
        if outputs.shape != shape or outputs.dtype != np.float32:
            got = f"{outputs.shape} {outputs.dtype}"
            raise bad_value("outputs", f"{shape} float32", got)
        check_rows("outputs", outputs)
        with _telling(self._objects, f"take chunk {chunk} of seed {seed}"):
            return self._objects.create(_chunk(seed, chunk), encode_chunk(outputs))

    def read(self, seed: int, chunk: int) -> Float32:
        """Read a chunk.

        Returns
        -------
        (chunk_rows, n_targets) float32
            Read-only. Rows of failed trainings are NaN; `statuses` tells which and why.

        Raises
        ------
        KeyError
            If it is not there.
        ValueError
            If it is damaged; the message names it.
        """
        name = _chunk(seed, chunk)
        data = self._objects.read(name)
        if data is None:
            raise KeyError(f"{self.url}/{name}: there is no such chunk")
        m = self.manifest
        return decode_chunk(f"{self.url}/{name}", data, m.chunk_rows, m.n_targets)

    def forget(self, seed: int, chunk: int) -> None:
        """Delete a chunk and what its trainings said, so that it is trained again."""
        first = chunk * self.manifest.chunk_rows
        for row in range(first, first + self.manifest.chunk_rows):
            self._objects.delete(_failure(seed, row))
        self._objects.delete(_chunk(seed, chunk))

    def note_failure(self, failure: Failure) -> None:
        """Keep what a failed training said; before its chunk is stored."""
        record = {
            "seed": failure.seed,
            "row": failure.row,
            "status": failure.status.name.lower(),
            "message": failure.message,
        }
        with _telling(self._objects, f"note the failure of row {failure.row}"):
            self._objects.replace(_failure(failure.seed, failure.row), to_json(record))

    def withdraw(self, chunk: int, failures: Sequence[Failure]) -> list[Failure]:
        """Take back failures of a chunk that another writer, who did not meet them, stored first.

        Returns
        -------
        list of Failure
            Those of rows that failed for that writer too.
        """
        stayed = []
        for failure in failures:
            row = failure.row - chunk * self.manifest.chunk_rows
            if statuses(self.read(failure.seed, chunk))[row] == Status.TRAINED:
                self._objects.delete(_failure(failure.seed, failure.row))
            else:
                stayed.append(failure)
        return stayed

    def failure(self, seed: int, row: int) -> str:
        """Return what a failed training said, "" if that is not known."""
        data = self._objects.read(_failure(seed, row))
        return "" if data is None else str(json.loads(data)["message"])

    def note_platform(self, record: Mapping[str, Any]) -> None:
        """Keep the platform class of a writer."""
        data = to_json(dict(record))
        with _telling(self._objects, "note the platform"):
            self._objects.create(f"platforms/{checksum(data):08x}.json", data)

    def platforms(self) -> list[dict[str, Any]]:
        """Platform classes of all writers so far."""
        names = self._objects.names("platforms")
        found = (self._objects.read(f"platforms/{name}") for name in names)
        return [dict(json.loads(data)) for data in found if data is not None]


def _array(seed: int) -> str:
    return f"seed-{seed}"


def _chunk(seed: int, chunk: int) -> str:
    return f"{_array(seed)}/c.{chunk}.0"


def _failure(seed: int, row: int) -> str:
    return f"failures/{_array(seed)}.{row}.json"


@contextmanager
def _telling(objects: Objects, what: str) -> Iterator[None]:
    """Say in an OSError which bank could not do what, and that the rest of it is whole."""
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        message = f"bank {objects.url} cannot {what}: {said}; what it holds can be read"
        told = OSError(message)
        told.errno = error.errno
        raise told from error
