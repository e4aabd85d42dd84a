"""A bank's rows for the fit: the subsets and outputs of what was trained, and neither held in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pyattr.jobs.rows import trained_rows
from pyattr.jobs.training import Part
from pyattr.masks import sample_masks
from pyattr.retraining.bank import Bank
from pyattr.retraining.bank_format import Status, unusable_row
from pyattr.retraining.bank_manifest import Manifest

CHUNK_ROWS, N_CHUNKS, N_TARGETS, SEED = 32, 16, 3, 5
N_MODELS = CHUNK_ROWS * N_CHUNKS


def outputs_of(failed):
    outputs = np.arange(N_MODELS * N_TARGETS, dtype=np.float32).reshape(N_MODELS, N_TARGETS)
    outputs[failed] = unusable_row(Status.FAILED, N_TARGETS)
    return outputs


def filled(folder, n_train, design, failed):
    bank = Bank.create(folder, Manifest(n_train, N_TARGETS, 0.5, design, CHUNK_ROWS, {}))
    for chunk, outputs in enumerate(np.split(outputs_of(failed), N_CHUNKS)):
        bank.put(SEED, chunk, outputs)
    return bank


@pytest.mark.parametrize("n_train", [1, 64, 100])
@pytest.mark.parametrize(
    ("design", "failed", "left_out"),
    [
        ("iid", [], []),
        ("iid", [0, 37, 511], [0, 37, 511]),
        ("complement", [0, 37], [0, 1, 36, 37]),
        ("iid", list(range(N_MODELS)), list(range(N_MODELS))),
    ],
)
def test_rows_are_those_that_were_trained(tmp_path, n_train, design, failed, left_out):
    bank = filled(tmp_path / "bank", n_train, design, failed)
    kept = np.setdiff1d(np.arange(N_MODELS), left_out)
    with trained_rows(bank, Part("fit", SEED, N_CHUNKS), tmp_path) as rows:
        assert rows.masks == sample_masks(N_MODELS, n_train, seed=SEED, design=design)[kept]
        np.testing.assert_array_equal(rows.outputs, outputs_of(failed)[kept])
        assert (rows.n_models, rows.n_left_out) == (N_MODELS, len(left_out) - len(failed))
        assert rows.n_failed == ({"failed": len(failed)} if failed else {})
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


@pytest.mark.parametrize("failed", [[], [7]])
def test_memory_holds_a_chunk_and_not_the_bank(tmp_path, failed):
    n_train = 200_000
    bank = filled(tmp_path / "bank", n_train, "iid", failed)
    tracemalloc.start()
    try:
        with trained_rows(bank, Part("fit", SEED, N_CHUNKS), tmp_path) as rows:
            assert rows.masks.packed.nbytes > 0.9 * N_MODELS * n_train / 8
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * CHUNK_ROWS * n_train / 8  # of 16 chunks
