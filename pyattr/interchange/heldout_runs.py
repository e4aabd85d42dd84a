"""The models behind Feldman and Zhang's estimates: which images each saw, and which it got right.

Runs are published in two layouts. A folder ``<run>/aux_arrays.npz`` for each model, with

=========================  =========  ==============================================================
array                      shape      holds
=========================  =========  ==============================================================
``subsample_idx``          (k,)       training images of the model
``correctness_<split>``    (n,)       0 or 1; splits train (seen), removed (the others) and test
``index_<split>``          (n,)       which images these are
=========================  =========  ==============================================================

or one archive with a row for each model: ``trainset_mask`` (n_models, n_train) bool, and
``trainset_correctness`` and ``testset_correctness``.

Checked against the README of google-research/heldout-influence-estimation and, for stacked runs, the
description of Zenodo record 14687826 and the variables of ``mnist_infl_mem.py``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pyattr import reference
from pyattr.errors import bad_value
from pyattr.interchange.array_files import Archive
from pyattr.interchange.recorded_models import RecordedModels, nameless_map, pack_bits
from pyattr.masks import Masks

__all__ = ["read_heldout_runs", "read_stacked_runs"]

StrPath = str | os.PathLike[str]
Targets = Literal["test", "train"]

_FILE: Final = "aux_arrays.npz"
_DTYPE: Final = np.float16  # 0 and 1 are all there is
_SPLITS: Final = {"test": ("test",), "train": ("train", "removed")}


def read_heldout_runs(folder: StrPath, *, targets: Targets = "test") -> RecordedModels:
    """Read a folder of runs.

    Parameters
    ----------
    folder : str or path
        One share of a subset, as ``cifar100-inception/0.7``: its folders are named by number.
    targets : {"test", "train"}
        Outputs are correctness on test images, or on all training images, seen or not (for
        `pyattr.attribution.memorization`).

    Returns
    -------
    RecordedModels
        ``rows`` are the numbers of the runs; a folder without the file counts as unfinished.
        Outputs are float16 in a nameless file.

    Raises
    ------
    ValueError
        If there is no run, or a file is damaged or does not fit the first one; it is named.
    """
    place = Path(folder)
    runs = sorted(int(entry.name) for entry in place.iterdir() if entry.name.isdecimal())
    finished = [run for run in runs if (place / str(run) / _FILE).exists()]
    if not finished:
        raise bad_value(str(place), f"folders <number>/{_FILE}", f"{len(runs)} without it")
    first = Archive(place / str(finished[0]) / _FILE)
    n_train = sum(len(_ids(first, split)) for split in _SPLITS["train"])
    n_targets = n_train if targets == "train" else len(_ids(first, "test"))
    packed = np.empty((len(finished), reference.row_bytes(n_train)), np.uint8)
    outputs = nameless_map(_DTYPE, (len(finished), n_targets))
    for row, run in enumerate(finished):
        archive = Archive(place / str(run) / _FILE)
        packed[row] = reference.pack(_mask(archive, n_train)[np.newaxis])[0]
        outputs[row] = _correctness(archive, targets, n_targets)
    return _models(Masks(packed, n_train), outputs, finished, len(runs) - len(finished))


def read_stacked_runs(path: StrPath, *, targets: Targets = "test") -> RecordedModels:
    """Read an archive with a row for each run.

    Parameters
    ----------
    path : str or path
    targets : {"test", "train"}
        As for `read_heldout_runs`.

    Returns
    -------
    RecordedModels
        Outputs are float16 in a nameless file.

    Raises
    ------
    ValueError
        If an array is missing, damaged, or of another shape or type.
    FileNotFoundError
        If the file is not there.
    """
    archive, name = Archive(Path(path)), f"{targets}set_correctness"
    (n_runs, n_train), _, bits = archive.open("trainset_mask", 2, "b", "(n_runs, n_train) bool")
    shape, _, rows = archive.open(name, 2, "biuf", "(n_runs, n_targets) of 0 and 1")
    if shape[0] != n_runs or not n_runs:
        raise bad_value(f"{path}: {name}", f"{n_runs} runs, as trainset_mask has", shape[0])
    masks = pack_bits(f"{path}: trainset_mask", n_runs, n_train, bits)
    outputs = nameless_map(_DTYPE, (n_runs, shape[1]))
    for part, block in rows:
        outputs[part] = _binary(f"{path}: {name}", block)
    return _models(masks, outputs, list(range(n_runs)), 0)


def _models(
    masks: Masks, outputs: NDArray[Any], rows: list[int], n_unfinished: int
) -> RecordedModels:
    outputs.flags.writeable = False
    none = np.empty(0, np.int64)
    return RecordedModels(masks, outputs, np.array(rows, np.int64), none, n_unfinished)


def _ids(archive: Archive, split: str) -> NDArray[np.int64]:
    return archive.read(f"index_{split}", 1, "iu", "(n,) int").astype(np.int64)


def _mask(archive: Archive, n_train: int) -> NDArray[np.bool_]:
    chosen = archive.read("subsample_idx", 1, "iu", "(n,) int").astype(np.int64)
    mask = np.zeros(n_train, np.bool_)
    if chosen.size and (chosen.min() < 0 or chosen.max() >= n_train):
        got = f"{chosen.min()} to {chosen.max()}"
        raise bad_value(f"{archive.path}: subsample_idx", f"values in [0, {n_train})", got)
    mask[chosen] = True
    return mask


def _correctness(archive: Archive, targets: Targets, n_targets: int) -> NDArray[np.float16]:
    """Correctness by image, whatever the order it was evaluated in."""
    splits = _SPLITS[targets]
    image = np.concatenate([_ids(archive, split) for split in splits])
    names = [f"correctness_{split}" for split in splits]
    right = np.concatenate([archive.read(name, 1, "biuf", "(n,) of 0 and 1") for name in names])
    if not np.array_equal(np.sort(image), np.arange(n_targets)) or right.size != n_targets:
        got = f"{image.size} indices and {right.size} values"
        raise bad_value(f"{archive.path}: {names}", f"each of {n_targets} images once", got)
    ordered = np.empty(n_targets, _DTYPE)
    ordered[image] = _binary(str(archive.path), right)
    return ordered


def _binary(name: str, values: NDArray[Any]) -> NDArray[np.float16]:
    if not ((values == 0) | (values == 1)).all():
        raise bad_value(name, "0 and 1", "other values")
    return values.astype(_DTYPE)
