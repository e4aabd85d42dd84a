"""Scores in the layout of TRAK's MmapSaver."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.lib.format import open_memmap

from pyattr.interchange import read_trak_scores

N_TRAIN, N_TARGETS = 12, 5
SCORES = np.random.default_rng(0).standard_normal((N_TRAIN, N_TARGETS))


def save_dir(folder, dtype=np.float16, finalized=1, n_targets=N_TARGETS):
    """What TRAKer leaves behind: a map of zeros at first, the scores at the end."""
    (folder / "scores").mkdir(parents=True)
    path = folder / "scores" / "test.mmap"
    array = open_memmap(filename=path, mode="w+", shape=(N_TRAIN, N_TARGETS), dtype=dtype)
    if finalized:
        array[:] = SCORES
    array.flush()
    record = {
        "num_targets": n_targets,
        "scores_path": f"/elsewhere/scores/{path.name}",
        "scores_finalized": finalized,
    }
    (folder / "experiments.json").write_text(json.dumps({"test": record}))
    return folder


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_scores_are_training_examples_by_targets(tmp_path, dtype):
    read = read_trak_scores(save_dir(tmp_path / "trak", dtype), "test")
    np.testing.assert_array_equal(read.scores, SCORES.astype(dtype).astype(np.float32))
    assert read.method == "trak"
    some = read_trak_scores(tmp_path / "trak", "test", targets=slice(1, 3))
    np.testing.assert_array_equal(some.scores, read.scores[:, 1:3])


def test_scores_that_were_not_finalised_are_refused(tmp_path):
    with pytest.raises(ValueError, match="test: expected scores_finalized 1"):
        read_trak_scores(save_dir(tmp_path / "trak", finalized=0), "test")


def test_broken_folders_are_refused_by_name(tmp_path):
    folder = save_dir(tmp_path / "trak")
    with pytest.raises(ValueError, match=r"experiment: expected one of \['test'\], got 'other'"):
        read_trak_scores(folder, "other")
    with pytest.raises(ValueError, match=r"test.mmap: expected 4 targets, got 5"):
        read_trak_scores(save_dir(tmp_path / "four", n_targets=4), "test")
    path = folder / "scores" / "test.mmap"
    path.write_bytes(SCORES.tobytes())  # numbers alone: no .npy file
    with pytest.raises(ValueError, match=r"test.mmap: expected a whole .npy file"):
        read_trak_scores(folder, "test")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"test.mmap"):
        read_trak_scores(folder, "test")
    for text in ("[1", "[]1", '{"test": 3}', "[3]"):
        (folder / "experiments.json").write_text(text)
        with pytest.raises(ValueError, match=r"experiments.json: expected a JSON object"):
            read_trak_scores(folder, "test")
    (folder / "experiments.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"experiments.json"):
        read_trak_scores(folder, "test")


def test_scores_that_are_not_numbers_are_refused(tmp_path):
    folder = save_dir(tmp_path / "trak")
    array = open_memmap(folder / "scores" / "test.mmap", mode="r+")
    array[0, 2] = np.nan
    array.flush()
    with pytest.raises(ValueError, match="NaN or infinity for target 2"):
        read_trak_scores(folder, "test")
