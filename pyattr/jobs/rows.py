"""Reading a bank back: subsets and outputs of the models that were trained."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyattr.jobs.training import Part
from pyattr.masks import Masks
from pyattr.reference import row_bytes
from pyattr.retraining.bank import Bank, Failure
from pyattr.retraining.bank_format import Status, statuses

__all__ = ["TrainedRows", "trained_rows"]

Scalar = TypeVar("Scalar", bound=np.generic)

_MOST_TOLD = 20  # failures whose words go into the results


@dataclass(frozen=True, eq=False)
class TrainedRows:
    """Models of a part that gave outputs.

    Attributes
    ----------
    masks : Masks
        (n, n_train), on disk.
    outputs : (n, n_targets) float32
        On disk.
    n_models : int
        Trained or not.
    n_failed : dict of status name to int
    n_left_out : int
        Complements of failed models, which are of no use without them.
    failures : list of Failure
        The first ones.
    """

    masks: Masks
    outputs: NDArray[np.float32]
    n_models: int
    n_failed: dict[str, int]
    n_left_out: int
    failures: list[Failure]


@contextmanager
def trained_rows(bank: Bank, part: Part, folder: Path) -> Iterator[TrainedRows]:
    """Gather a part's rows in nameless files, which memory need not hold.

    A failed training leaves its row out: nothing stands in for its outputs.

    Parameters
    ----------
    bank : Bank
    part : Part
        All its chunks are in the bank.
    folder : Path
        Where the files are made.

    Raises
    ------
    KeyError
        If a chunk is not there.
    ValueError
        If one is damaged; the message names it.
    """
    m = bank.manifest
    n_models = part.n_chunks * m.chunk_rows
    codes = np.empty(n_models, np.uint8)
    kept = np.empty(n_models, np.bool_)
    # Subsets follow from the seed, yet those of many models and examples would not fit in memory either.
    with tempfile.TemporaryFile(dir=folder) as file, tempfile.TemporaryFile(dir=folder) as subsets:
        for chunk in range(part.n_chunks):
            outputs = bank.read(part.seed, chunk)
            rows = slice(chunk * m.chunk_rows, (chunk + 1) * m.chunk_rows)
            codes[rows] = statuses(outputs)
            kept[rows] = _usable(codes[rows], m.design)
            file.write(outputs[kept[rows]].tobytes())
            masks, _ = bank.runs(part.seed, chunk)
            subsets.write(masks.packed[kept[rows]].tobytes())
        n_kept = int(kept.sum())
        yield TrainedRows(
            Masks(_read_back(subsets, np.uint8, (n_kept, row_bytes(m.n_train))), m.n_train),
            _read_back(file, np.float32, (n_kept, m.n_targets)),
            n_models,
            {s.name.lower(): int(n) for s in Status if s and (n := (codes == s).sum())},
            int((~kept & (codes == Status.TRAINED)).sum()),
            _told(bank, part, codes),
        )


def _read_back(file: IO[bytes], dtype: type[Scalar], shape: tuple[int, int]) -> NDArray[Scalar]:
    """What was written to a file, without reading it."""
    file.flush()
    return np.memmap(file, dtype, "r", shape=shape) if shape[0] else np.empty(shape, dtype)


def _usable(codes: NDArray[np.uint8], design: str) -> NDArray[np.bool_]:
    """Rows to fit to: trained, and in the complement design both rows of the pair."""
    trained: NDArray[np.bool_] = codes == Status.TRAINED
    if design == "complement":
        trained = np.repeat(trained.reshape(-1, 2).all(axis=1), 2)
    return trained


def _told(bank: Bank, part: Part, codes: NDArray[np.uint8]) -> list[Failure]:
    rows = np.flatnonzero(codes)[:_MOST_TOLD].tolist()
    return [
        Failure(part.seed, row, Status(int(codes[row])), bank.failure(part.seed, row))
        for row in rows
    ]
