"""Influence and memorization as Feldman and Zhang publish them.

=========================  ======================  ===================================================
array                      shape                   in
=========================  ======================  ===================================================
``influence``              (n_targets, n_train)    ``infl_mem.npz``, and archives like it
``memorization``           (n_train,)              the same
``tr_mem``                 (n_train,)              ``cifar100_infl_matrix.npz``, ``imagenet_index.npz``
``infl_matrix_class<c>``   (n_c, m_c)              ``cifar100_infl_matrix.npz``: training by test images
``tr_classidx_<c>``        (n_c,)                  the same: which training images these are
``tt_classidx_<c>``        (m_c,)                  the same: which test images
=========================  ======================  ===================================================

Checked against ``mnist-example/mnist_infl_mem.py`` of google-research/heldout-influence-estimation,
which writes the first file, and for the others against public code that reads them.

References
----------
Feldman and Zhang 2020 (arXiv 2008.03703), section 3 and the files at its project page.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyattr.attribution import Attribution
from pyattr.errors import bad_value
from pyattr.interchange.array_files import Archive

__all__ = ["Influence", "read_influence", "read_memorization"]

StrPath = str | os.PathLike[str]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Influence:
    """Published influence, and of which images.

    Attributes
    ----------
    attribution : Attribution
        ``method`` "influence"; no intercept, which the files do not have.
    train : (n_train,) int64
        Row i is training image ``train[i]`` of the whole set.
    target : (n_targets,) int64
        Column t is test image ``target[t]``.
    """

    attribution: Attribution
    train: Indices
    target: Indices


def read_memorization(path: StrPath) -> NDArray[np.float32]:
    """Read the memorization of every training example.

    Parameters
    ----------
    path : str or path
        An archive with ``memorization`` or ``tr_mem``.

    Returns
    -------
    (n_train,) float32

    Raises
    ------
    ValueError
        If the archive has neither, or holds something else under that name.
    FileNotFoundError
        If it is not there.
    """
    archive = Archive(Path(path))
    name = "memorization" if "memorization" in archive.names else "tr_mem"
    return archive.read(name, 1, "f", "(n_train,) float").astype(np.float32)


def read_influence(
    path: StrPath, *, label: int | None = None, targets: slice | None = None
) -> Influence:
    """Read influence scores.

    Parameters
    ----------
    path : str or path
        An archive as in the table.
    label : int, optional
        For archives with one matrix a class: the class. Influence between classes is not in them,
        and is not taken to be zero: the attribution is over the class's training images alone.
    targets : slice, optional
        Columns to read; all if not given. Others are passed over without being held.

    Returns
    -------
    Influence

    Raises
    ------
    ValueError
        If the archive has no such array, or it is damaged or of another shape.
    FileNotFoundError
        If it is not there.
    """
    archive = Archive(Path(path))
    columns = targets or slice(None)
    if "influence" in archive.names:
        if label is not None:
            raise bad_value("label", "none: the file has one matrix for all classes", label)
        return _turned(archive, columns)
    if f"infl_matrix_class{label}" not in archive.names:
        expected = "a class with an array infl_matrix_class<label>"
        raise bad_value("label", expected, f"{label}; {path} has {archive.names}")
    train = archive.read(f"tr_classidx_{label}", 1, "iu", "(n,) int").astype(np.int64)
    target = archive.read(f"tt_classidx_{label}", 1, "iu", "(n,) int").astype(np.int64)
    scores = archive.read(f"infl_matrix_class{label}", 2, "f", "(n_train, n_targets) float")
    if scores.shape != (train.size, target.size):
        expected = f"({train.size}, {target.size}) as its indices say"
        raise bad_value(f"{path}: infl_matrix_class{label}", expected, scores.shape)
    return Influence(Attribution(scores[:, columns], method="influence"), train, target[columns])


def _turned(archive: Archive, columns: slice) -> Influence:
    """Read a matrix of targets by training examples, a block of targets at a time."""
    shape, _, rows = archive.open("influence", 2, "f", "(n_targets, n_train) float")
    n_targets, n_train = shape
    target = np.arange(n_targets)[columns]
    scores = np.empty((n_train, target.size), np.float32)
    for part, block in rows:
        here = np.flatnonzero((target >= part.start) & (target < part.stop))
        scores[:, here] = block[target[here] - part.start].T
    return Influence(Attribution(scores, method="influence"), np.arange(n_train), target)
