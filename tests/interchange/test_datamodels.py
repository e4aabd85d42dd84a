"""MadryLab's datamodels: stores, published matrices, fitted weights, and rows into a bank."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

import pyattr
from pyattr.attribution import held_out_r2
from pyattr.interchange import (
    array_files,
    read_datamodels_arrays,
    read_datamodels_store,
    read_datamodels_weights,
    store_in_bank,
    write_datamodels_store,
)
from pyattr.retraining.bank import Bank
from pyattr.retraining.bank_format import Status, statuses
from pyattr.retraining.bank_manifest import Manifest

N_MODELS, N_TRAIN, N_TARGETS = 40, 70, 3
SPEC = {
    "num_models": N_MODELS,
    "schema": {
        "masks": {"shape": [N_TRAIN], "dtype": "bool_"},
        "margins": {"shape": [N_TARGETS], "dtype": "float16"},
    },
}


def initialize_store(folder, spec=SPEC):
    """As the tool does: an open_memmap of zeros for each key, and flags."""
    folder.mkdir()
    schema = spec["schema"] | {"_completed": {"shape": [], "dtype": "bool_"}}
    for key, entry in json.loads(json.dumps(schema)).items():
        shape = (spec["num_models"], *entry["shape"])
        dtype = getattr(np, entry["dtype"])
        np.lib.format.open_memmap(
            folder / f"{key}.npy", mode="w+", dtype=dtype, shape=shape
        ).flush()
    return folder


def work(folder, index, **values):
    """As a worker does: its row of each array, then its flag."""
    for key, value in {**values, "_completed": 1}.items():
        array = np.load(folder / f"{key}.npy", mmap_mode="r+")
        array[index] = value
        array.flush()


def models(seed=0):
    masks = pyattr.sample_masks(N_MODELS, N_TRAIN, seed=seed)
    truth = np.random.default_rng(seed).standard_normal((N_TRAIN, N_TARGETS))
    return masks, (masks.unpack() @ truth).astype(np.float16)


@pytest.fixture
def store(tmp_path):
    folder = initialize_store(tmp_path / "store")
    masks, outputs = models()
    for row in range(N_MODELS):
        work(folder, row, masks=masks.unpack()[row], margins=outputs[row])
    return folder


@pytest.fixture(params=[1 << 24, 100])
def block_bytes(request, monkeypatch):
    """Everything in one block, and a row or two in each."""
    monkeypatch.setattr(array_files, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("block_bytes")
def test_a_complete_store_is_mapped_not_copied(store):
    masks, outputs = models()
    read = read_datamodels_store(store)
    assert read.masks == masks
    assert read.outputs.dtype == np.float16
    np.testing.assert_array_equal(read.outputs, outputs)
    assert isinstance(read.outputs.base, np.memmap) or isinstance(read.outputs, np.memmap)
    assert read.rows.tolist() == list(range(N_MODELS))
    assert read.n_unfinished == 0
    assert not read.diverged.size


@pytest.mark.usefixtures("block_bytes")
def test_only_completed_and_finite_rows_are_read(tmp_path):
    folder = initialize_store(tmp_path / "store")
    masks, outputs = models()
    outputs[7, 1] = np.nan
    outputs[8, 0] = np.inf
    for row in range(5, 30):
        work(folder, row, masks=masks.unpack()[row], margins=outputs[row])
    started = np.load(folder / "masks.npy", mmap_mode="r+")
    started[33] = True  # a worker that was killed before its flag
    started.flush()
    read = read_datamodels_store(folder)
    kept = [5, 6, *range(9, 30)]
    assert read.rows.tolist() == kept
    assert read.diverged.tolist() == [7, 8]
    assert read.n_unfinished == N_MODELS - 25
    assert read.masks == masks[kept]
    np.testing.assert_array_equal(read.outputs, outputs[kept])
    assert not read.outputs.flags.writeable
    # Targets without the bad output keep the row.
    last = read_datamodels_store(folder, targets=slice(2, 3))
    assert last.rows.tolist() == list(range(5, 30))
    np.testing.assert_array_equal(last.outputs, outputs[5:30, 2:])


def test_large_matrices_are_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "BLOCK_BYTES", 1 << 20)
    masks, outputs = tmp_path / "masks.npy", tmp_path / "margins.npy"
    np.save(masks, np.ones((1000, 32_000), bool))  # 32 MB, 4 MB packed
    np.save(outputs, np.ones((1000, 16_000), np.float16))  # 32 MB
    flags = np.arange(1000) > 0  # one row is left out: the others are copied to a file
    np.save(tmp_path / "_completed.npy", flags)
    tracemalloc.start()
    assert len(read_datamodels_store(tmp_path).rows) == 999
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_published_matrices_need_no_flags(tmp_path):
    masks, outputs = models()
    paths = tmp_path / "train_masks_50pct.npy", tmp_path / "test_margins_50pct.npy"
    for path, array in zip(paths, (masks.unpack(), outputs), strict=True):
        np.save(path, array)
    read = read_datamodels_arrays(*paths)
    assert read.masks == masks
    np.testing.assert_array_equal(read.outputs, outputs)


def test_what_is_read_can_be_fitted_and_verified(tmp_path):
    n, n_train = 3000, 60
    masks = pyattr.sample_masks(n, n_train, seed=5)
    truth = np.random.default_rng(1).standard_normal((n_train, 1))
    noise = np.random.default_rng(2).standard_normal((n, 1))
    write_datamodels_store(tmp_path / "store", masks, masks.unpack() @ truth + noise)
    read = read_datamodels_store(tmp_path / "store")
    fitted = pyattr.fit_datamodel(read.masks[:1000], read.outputs[:1000])
    verdicts = [
        pyattr.verify_recorded(
            read.masks[1000:], read.outputs[1000:], scores, held_out=True, epsilon=0.1
        ).outcome.value
        for scores in (fitted, pyattr.Attribution(fitted.scores / 2, fitted.intercept))
    ]
    assert verdicts == ["ACCEPT", "ABORT"]


def test_a_written_store_is_the_layout_of_the_tool(tmp_path):
    masks, outputs = models()
    write_datamodels_store(tmp_path / "ours", masks, outputs)
    theirs = initialize_store(tmp_path / "theirs")
    for row in range(N_MODELS):
        work(theirs, row, masks=masks.unpack()[row], margins=outputs[row])
    names = sorted(path.name for path in theirs.iterdir())
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == names
    for name in names:
        assert (tmp_path / "ours" / name).read_bytes() == (theirs / name).read_bytes()


def test_a_store_is_not_overwritten_and_float16_must_hold_the_outputs(tmp_path, store):
    masks, outputs = models()
    with pytest.raises(FileExistsError):
        write_datamodels_store(store, masks, outputs)
    big = np.full((N_MODELS, 1), 1e5)
    with pytest.raises(ValueError, match="outputs: expected finite numbers within float16"):
        write_datamodels_store(tmp_path / "big", masks, big)
    with pytest.raises(ValueError, match=r"_completed.npy: expected a whole .npy file"):
        read_datamodels_store(tmp_path / "big")  # cut short, it does not pass for a store
    write_datamodels_store(tmp_path / "wide", masks, big, dtype=np.float32)
    assert read_datamodels_store(tmp_path / "wide").outputs.max() == np.float32(1e5)
    with pytest.raises(ValueError, match="outputs"):
        write_datamodels_store(tmp_path / "short", masks, outputs[1:])
    with pytest.raises(ValueError, match="dtype"):
        write_datamodels_store(tmp_path / "int", masks, outputs, dtype=np.int8)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def archive(path):
    with path.open("wb") as file:
        np.savez(file, a=1)


def save(array):
    return lambda path: np.save(path, array, allow_pickle=True)


BROKEN = {
    "empty": ("masks", lambda path: path.write_bytes(b""), "masks.npy: expected a whole .npy"),
    "cut": ("margins", cut, "margins.npy: expected a whole .npy"),
    "other bytes": ("masks", lambda path: path.write_bytes(b"x" * 999), "masks.npy: expected a w"),
    "archive": ("masks", archive, "masks.npy: expected a .npy"),
    "objects": ("masks", save(np.array([{}])), "masks.npy: expected a whole .npy"),
    "masks of ints": ("masks", save(np.ones((N_MODELS, 2), int)), r"bool, got shape \(40, 2\) int"),
    "logits": ("margins", save(np.ones((N_MODELS, 2, 10), np.float16)), "pyattr.margins makes"),
    "fewer masks": ("masks", save(np.ones((3, 5), bool)), "3 masks, 40 rows of outputs, 40 flags"),
    "fewer flags": ("_completed", save(np.ones(4, bool)), "40 masks, 40 rows of outputs, 4 flags"),
    "no flags set": ("_completed", save(np.zeros(N_MODELS, bool)), "40 unfinished and 0 diverged"),
    "no examples": ("masks", save(np.ones((N_MODELS, 0), bool)), "at least one example"),
    "bytes 2": (
        "masks",
        save(np.full((N_MODELS, 9), 2, np.uint8).view(bool)),
        "masks of bytes 0 and 1",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_stores_are_refused_by_name(store, case):
    key, damage, message = BROKEN[case]
    path = store / f"{key}.npy"
    damage(path)
    with pytest.raises(ValueError, match=message):
        read_datamodels_store(store)


def test_objects_are_never_unpickled(store):
    class Evil:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    np.save(store / "margins.npy", np.array([[Evil()]]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"margins.npy"):
        read_datamodels_store(store)


def test_a_missing_file_is_named(store):
    (store / "_completed.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"_completed.npy"):
        read_datamodels_store(store)


def weights_file(path, scores, intercept, p):
    """As fast_l1 leaves weights: those of standardised masks."""
    import torch

    spread = np.sqrt(p * (1 - p))
    parts = {
        "weight": scores * spread,
        "bias": intercept + p * scores.sum(axis=0),
        "lam": np.full(len(intercept), 0.1),
    }
    torch.save({k: torch.tensor(v, dtype=torch.float32) for k, v in parts.items()}, path)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_weights_predict_in_the_0_1_coding(tmp_path, p):
    rng = np.random.default_rng(0)
    scores, intercept = rng.standard_normal((N_TRAIN, N_TARGETS)), rng.standard_normal(N_TARGETS)
    weights_file(tmp_path / "datamodels.pt", scores, intercept, p)
    read = read_datamodels_weights(tmp_path / "datamodels.pt", p)
    np.testing.assert_allclose(read.scores, scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(read.intercept, intercept, atol=1e-4)
    assert read.details["lambda"].tolist() == pytest.approx([0.1] * N_TARGETS)
    masks = pyattr.sample_masks(500, N_TRAIN, p=p, seed=1)
    outputs = masks.unpack() @ scores + intercept
    assert held_out_r2(read, masks, outputs).min() > 0.999
    # The half that must fail: weights taken for the other coding do not predict.
    raw = read_datamodels_weights(tmp_path / "datamodels.pt", p, standardised=False)
    assert held_out_r2(raw, masks, outputs).max() < 0.9
    some = read_datamodels_weights(tmp_path / "datamodels.pt", p, targets=slice(1, 2))
    np.testing.assert_array_equal(some.scores, read.scores[:, 1:2])


def test_weights_of_another_shape_or_kind_are_refused(tmp_path):
    import torch

    path = tmp_path / "datamodels.pt"
    with pytest.raises(FileNotFoundError, match=r"datamodels.pt"):
        read_datamodels_weights(path, 0.5)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"datamodels.pt: expected tensors weight"):
        read_datamodels_weights(path, 0.5)
    torch.save({"weight": torch.ones(4, 2), "bias": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="lam"):
        read_datamodels_weights(path, 0.5)
    torch.save({"weight": torch.ones(4, 2), "bias": torch.ones(3), "lam": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"\(4, 2\), \(3,\), \(2,\)"):
        read_datamodels_weights(path, 0.5)
    torch.save({"weight": pytest.fail}, path)  # a function: code, not data
    with pytest.raises(ValueError, match=r"datamodels.pt: expected tensors"):
        read_datamodels_weights(path, 0.5)


def bank_of(folder, n_targets=N_TARGETS):
    return Bank.create(folder, Manifest(N_TRAIN, n_targets, 0.5, "iid", 8, {"kind": "elsewhere"}))


def test_models_trained_on_a_banks_subsets_go_into_it(tmp_path):
    folder = initialize_store(tmp_path / "store")
    masks, outputs = models(seed=3)
    outputs[9, 0] = np.nan
    outputs[24:32] = np.inf
    for row in range(N_MODELS):
        if row != 17:
            work(folder, row, masks=masks.unpack()[row], margins=outputs[row])
    bank = bank_of(tmp_path / "bank")
    read = read_datamodels_store(folder)
    # Chunk 2 lacks row 17, and nothing of chunk 3 is finite.
    assert store_in_bank(read, bank, seed=3) == [0, 1, 4]
    assert bank.stored(3) == [0, 1, 4]
    np.testing.assert_array_equal(bank.read(3, 0), outputs[:8].astype(np.float32))
    second = bank.read(3, 1)
    assert statuses(second).tolist() == [0, Status.DIVERGED, *[0] * 6]
    assert "NaN" in bank.failure(3, 9)
    np.testing.assert_array_equal(second[2:], outputs[10:16].astype(np.float32))
    assert store_in_bank(read, bank, seed=3) == []


def test_a_bank_refuses_models_with_other_subsets(tmp_path, store):
    bank = bank_of(tmp_path / "bank")
    read = read_datamodels_store(store)
    with pytest.raises(ValueError, match="the bank's subset of seed 1 in row 0"):
        store_in_bank(read, bank, seed=1)
    assert bank.stored(1) == []
    with pytest.raises(ValueError, match=r"models: expected \(70, 2\) examples and targets"):
        store_in_bank(read, bank_of(tmp_path / "other", n_targets=2), seed=0)
