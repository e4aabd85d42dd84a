"""Influence, memorization and runs as Feldman and Zhang publish them."""

from __future__ import annotations

import tracemalloc
import zipfile

import numpy as np
import pytest

import pyattr
from pyattr.attribution import empirical_influence, memorization
from pyattr.interchange import (
    array_files,
    read_heldout_runs,
    read_influence,
    read_memorization,
    read_stacked_runs,
)

N_RUNS, N_TRAIN, N_TEST = 50, 20, 7
N_IN = 14  # 70%


def runs():
    """Subsets of a fixed size and correctness, and the published estimates from them."""
    rng = np.random.default_rng(0)
    mask = np.zeros((N_RUNS, N_TRAIN), bool)
    for row in mask:
        row[rng.choice(N_TRAIN, N_IN, replace=False)] = True
    train, test = (
        rng.random((N_RUNS, N_TRAIN)) < 0.6 + 0.3 * mask,
        rng.random((N_RUNS, N_TEST)) < 0.8,
    )
    n_in = mask.sum(axis=0)
    inside, outside = (
        test.T.astype(np.float32) @ part / part.sum(axis=0) for part in (mask, ~mask)
    )
    own = (train * mask).sum(axis=0) / n_in - (train * ~mask).sum(axis=0) / (N_RUNS - n_in)
    return mask, train, test, (inside - outside).astype(np.float32), own.astype(np.float32)


@pytest.fixture
def infl_mem(tmp_path):
    *_, influence, own = runs()
    np.savez(tmp_path / "infl_mem.npz", memorization=own, influence=influence)
    return tmp_path / "infl_mem.npz"


@pytest.fixture
def by_class(tmp_path):
    rng = np.random.default_rng(1)
    arrays = {
        "tr_mem": runs()[4],
        "tr_labels": np.arange(N_TRAIN) % 2,
        "tt_labels": np.zeros(N_TEST),
    }
    for label in (0, 1):
        arrays[f"tr_classidx_{label}"] = np.arange(label, N_TRAIN, 2)
        arrays[f"tt_classidx_{label}"] = np.arange(label, N_TEST, 2)
        shape = (N_TRAIN // 2, len(arrays[f"tt_classidx_{label}"]))
        arrays[f"infl_matrix_class{label}"] = rng.standard_normal(shape).astype(np.float32)
    np.savez_compressed(tmp_path / "cifar100_infl_matrix.npz", **arrays)
    return tmp_path / "cifar100_infl_matrix.npz", arrays


@pytest.fixture(params=[1 << 24, 100])
def block_bytes(request, monkeypatch):
    """Everything in one block, and a row in each."""
    monkeypatch.setattr(array_files, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("block_bytes")
def test_influence_has_targets_in_rows_and_scores_have_them_in_columns(infl_mem):
    *_, influence, own = runs()
    read = read_influence(infl_mem)
    np.testing.assert_array_equal(read.attribution.scores, influence.T)
    assert read.attribution.method == "influence"
    assert (read.train.tolist(), read.target.tolist()) == (
        list(range(N_TRAIN)),
        list(range(N_TEST)),
    )
    np.testing.assert_array_equal(read_memorization(infl_mem), own)
    some = read_influence(infl_mem, targets=slice(5, None, -2))
    assert some.target.tolist() == [5, 3, 1]
    np.testing.assert_array_equal(some.attribution.scores, influence[[5, 3, 1]].T)


def test_published_influence_is_what_this_package_computes_from_the_runs(infl_mem, tmp_path):
    mask, train, test, *_ = runs()
    stacked = tmp_path / "runs.npz"
    arrays = {"trainset_correctness": train, "testset_correctness": test}
    np.savez(stacked, trainset_mask=mask, **arrays, total_runs=N_RUNS)
    models = read_stacked_runs(stacked)
    ours = empirical_influence(models.masks, models.outputs)
    np.testing.assert_allclose(ours.scores, read_influence(infl_mem).attribution.scores, atol=1e-6)
    seen = read_stacked_runs(stacked, targets="train")
    own = memorization(seen.masks, seen.outputs)
    np.testing.assert_allclose(own.scores, read_memorization(infl_mem), atol=1e-6)


def test_influence_by_class_is_over_the_images_of_the_class(by_class):
    path, arrays = by_class
    for label in (0, 1):
        read = read_influence(path, label=label)
        np.testing.assert_array_equal(read.attribution.scores, arrays[f"infl_matrix_class{label}"])
        np.testing.assert_array_equal(read.train, arrays[f"tr_classidx_{label}"])
        np.testing.assert_array_equal(read.target, arrays[f"tt_classidx_{label}"])
    some = read_influence(path, label=1, targets=slice(1, 2))
    assert some.target.tolist() == [3]
    assert some.attribution.scores.shape == (10, 1)
    np.testing.assert_array_equal(read_memorization(path), arrays["tr_mem"])


def test_names_that_are_objects_do_not_hinder_memorization(tmp_path):
    own = np.linspace(0, 1, 3)
    names = np.array([b"n01440764_1.JPEG", b"b", None], dtype=object)
    np.savez(tmp_path / "imagenet_index.npz", tr_mem=own, tr_filenames=names)
    np.testing.assert_allclose(read_memorization(tmp_path / "imagenet_index.npz"), own, rtol=1e-6)


def test_classes_that_are_not_there_are_refused(by_class, infl_mem):
    for label in (None, 2):
        with pytest.raises(ValueError, match="label: expected a class with"):
            read_influence(by_class[0], label=label)
    with pytest.raises(ValueError, match="label: expected none"):
        read_influence(infl_mem, label=1)


def rewritten(path, name, change):
    """Put another member in an archive, whatever its checksum."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    members[f"{name}.npy"] = change(members[f"{name}.npy"])
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)


def test_broken_archives_are_refused_by_name(infl_mem):
    good = infl_mem.read_bytes()
    for change in (lambda d: d[:-1], lambda d: d + b"1", lambda d: b"x" + d, lambda d: b""):
        infl_mem.write_bytes(good)
        rewritten(infl_mem, "influence", change)
        with pytest.raises(ValueError, match=r"infl_mem.npz: influence: expected"):
            read_influence(infl_mem)
    turned = bytearray(good)
    turned[good.rindex(b"influence.npy", 0, len(good) // 2) + 400] ^= 1  # a bit of a score
    infl_mem.write_bytes(turned)
    with pytest.raises(ValueError, match="influence: expected a whole array, got Bad CRC-32"):
        read_influence(infl_mem)
    infl_mem.write_bytes(good[: len(good) // 2])
    with pytest.raises(ValueError, match=r"infl_mem.npz: expected an .npz archive"):
        read_influence(infl_mem)
    with pytest.raises(FileNotFoundError):
        read_memorization(infl_mem.with_name("none.npz"))


def test_arrays_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    cases = {
        "C order": np.asfortranarray(np.ones((3, 4), np.float32)),
        "float, got shape": np.ones((3, 4), int),
        r"got shape \(3,\)": np.ones(3),
        "NaN or infinity": np.full((3, 4), np.nan),
        "object": np.array([[{}]], dtype=object),
    }
    for message, array in cases.items():
        np.savez(path, influence=array)
        with pytest.raises(ValueError, match=message):
            read_influence(path)
    np.savez(path, other=np.ones(3))
    with pytest.raises(ValueError, match=r"a.npz: expected an array 'tr_mem', got \['other'\]"):
        read_memorization(path)


def test_indices_that_do_not_fit_their_matrix_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    matrix = np.ones((3, 2), np.float32)
    np.savez(path, infl_matrix_class0=matrix, tr_classidx_0=[1, 2], tt_classidx_0=[0, 1])
    with pytest.raises(ValueError, match=r"infl_matrix_class0: expected \(2, 2\)"):
        read_influence(path, label=0)


def test_targets_that_are_not_wanted_are_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "BLOCK_BYTES", 1 << 20)
    influence = np.ones((400, 20_000), np.float32)  # 32 MB
    np.savez(tmp_path / "a.npz", influence=influence)
    del influence
    tracemalloc.start()
    read_influence(tmp_path / "a.npz", targets=slice(10))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # two blocks, as they were read and as an array, and ten targets twice


def heldout_folder(place, skip=()):
    """As the checkpoints are published: one folder a run, each evaluated in an order of its own."""
    mask, train, test, *_ = runs()
    rng = np.random.default_rng(2)
    for run in range(N_RUNS):
        folder = place / str(run)
        (folder / "checkpoints").mkdir(parents=True)
        if run in skip:
            continue
        seen = rng.permutation(np.flatnonzero(mask[run]))
        removed = rng.permutation(np.flatnonzero(~mask[run]))
        order = rng.permutation(N_TEST)
        np.savez(
            folder / "aux_arrays.npz",
            subsample_idx=rng.permutation(seen),
            index_train=seen,
            correctness_train=train[run, seen],
            index_removed=removed,
            correctness_removed=train[run, removed],
            index_test=order,
            correctness_test=test[run, order].astype(np.int64),
        )
    return place


def test_runs_in_folders_are_put_in_order(tmp_path):
    mask, train, test, *_ = runs()
    folder = heldout_folder(tmp_path / "0.7", skip=[3])
    kept = [run for run in range(N_RUNS) if run != 3]
    for targets, outputs in (("test", test), ("train", train)):
        models = read_heldout_runs(folder, targets=targets)
        assert models.masks == pyattr.Masks.pack(mask[kept])
        np.testing.assert_array_equal(models.outputs, outputs[kept])
        assert models.rows.tolist() == kept
        assert models.n_unfinished == 1


def test_runs_that_do_not_fit_are_refused_by_name(tmp_path):
    folder = heldout_folder(tmp_path / "0.7")
    path = folder / "11" / "aux_arrays.npz"
    with np.load(path) as archive:
        good = dict(archive)
    cases = {
        "subsample_idx": (
            good["subsample_idx"] + 100,
            r"subsample_idx: expected values in \[0, 20",
        ),
        "index_test": (np.zeros(N_TEST, int), "each of 7 images once"),
        "correctness_test": (np.full(N_TEST, 2), "expected 0 and 1"),
    }
    for name, (array, message) in cases.items():
        np.savez(path, **(good | {name: array}))
        with pytest.raises(ValueError, match=rf"11/aux_arrays.npz.*{message}"):
            read_heldout_runs(folder)
    np.savez(path, **{name: array for name, array in good.items() if name != "subsample_idx"})
    with pytest.raises(ValueError, match=r"11/aux_arrays.npz: expected an array 'subsample_idx'"):
        read_heldout_runs(folder)
    (tmp_path / "none" / "0").mkdir(parents=True)
    with pytest.raises(ValueError, match="1 without it"):
        read_heldout_runs(tmp_path / "none")


def test_stacked_runs_that_do_not_fit_are_refused(tmp_path):
    mask, _, test, *_ = runs()
    path = tmp_path / "runs.npz"
    cases = {
        "50 runs": (mask, test[1:]),
        "0 and 1": (mask, test.astype(int) + 1),
        "bool": (mask.astype(int), test),
        "bytes 0 and 1": (np.full((N_RUNS, 3), 2, np.uint8).view(bool), test),
    }
    for message, (subsets, right) in cases.items():
        np.savez(path, trainset_mask=subsets, testset_correctness=right)
        with pytest.raises(ValueError, match=message):
            read_stacked_runs(path)
