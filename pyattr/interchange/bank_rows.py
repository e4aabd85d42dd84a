"""Outputs that others recorded into a bank, whose subsets follow from its seed."""

from __future__ import annotations

import numpy as np

from pyattr.errors import bad_value
from pyattr.interchange.recorded_models import RecordedModels
from pyattr.retraining.bank import Bank, Failure
from pyattr.retraining.bank_format import Status, unusable_row

__all__ = ["store_in_bank"]


def store_in_bank(models: RecordedModels, bank: Bank, seed: int) -> list[int]:
    """Store models that were trained elsewhere on the subsets of a bank.

    A bank holds no masks: they follow from its manifest, a seed and the row. So this is for models
    trained by another tool on ``pyattr.sample_masks(n, n_train, p, seed, design)``, row for row.
    Models with subsets of their own stay `RecordedModels`.

    Parameters
    ----------
    models : RecordedModels
        ``rows`` are rows of the bank.
    bank : Bank
    seed : int
        Of their masks.

    Returns
    -------
    list of int
        Chunks stored now. One with an unfinished row, or nothing but diverged ones, is left to be
        trained; one that is there stays as it is.

    Raises
    ------
    ValueError
        If a mask is another than the bank's, sizes differ, or an output is beyond float32. Chunks
        before it are stored.
    OSError
        If the bank cannot be written.
    """
    m = bank.manifest
    sizes = (models.masks.n_train, models.outputs.shape[1])
    if sizes != (m.n_train, m.n_targets):
        raise bad_value("models", f"{(m.n_train, m.n_targets)} examples and targets", sizes)
    finished = np.union1d(models.rows, models.diverged)
    chunks, counts = np.unique(finished // m.chunk_rows, return_counts=True)
    there = bank.stored(seed)
    whole = np.setdiff1d(chunks[counts == m.chunk_rows], there).tolist()
    stored = [chunk for chunk in whole if _store(models, bank, seed, chunk)]
    if stored:
        bank.extend(seed, stored[-1] + 1)
    return stored


def _store(models: RecordedModels, bank: Bank, seed: int, chunk: int) -> bool:
    """Store a chunk all of whose rows were finished."""
    m = bank.manifest
    first = chunk * m.chunk_rows
    here = slice(*np.searchsorted(models.rows, [first, first + m.chunk_rows]))
    places = models.rows[here] - first
    if not places.size:
        return False
    masks, _ = bank.runs(seed, chunk)
    theirs = models.masks[here]
    if masks[places] != theirs:
        unlike = np.flatnonzero((masks[places].packed != theirs.packed).any(axis=1))[0]
        expected = f"the bank's subset of seed {seed} in row {first + places[unlike]}"
        raise bad_value("models", expected, "another")
    outputs = np.tile(unusable_row(Status.DIVERGED, m.n_targets), (m.chunk_rows, 1))
    with np.errstate(over="ignore"):
        outputs[places] = models.outputs[here]
    for row in np.setdiff1d(np.arange(m.chunk_rows), places).tolist():
        said = "the recorded outputs hold NaN or infinity"
        bank.note_failure(Failure(seed, first + row, Status.DIVERGED, said))
    return bank.put(seed, chunk, outputs)
