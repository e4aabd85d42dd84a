"""Recorded outputs in a file of NumPy arrays, as a pilot."""

from __future__ import annotations

import zipfile

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value
from pyattr.masks import Masks

__all__ = ["read_recorded"]


def read_recorded(path: str) -> tuple[Masks, npt.NDArray[np.float32]]:
    """Read ``masks`` (n, n_train) bool or 0/1, and ``outputs`` (n, n_targets) float, from an npz file.

    Raises
    ------
    ValueError
        If the file is no npz file, or lacks one of them.
    OSError
        If it cannot be read.
    """
    expected = "an npz file with arrays masks (n, n_train) and outputs (n, n_targets)"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            masks, outputs = arrays["masks"], arrays["outputs"]
    except (ValueError, KeyError, AttributeError, TypeError, zipfile.BadZipFile):
        raise bad_value("pilot", expected, path) from None
    if masks.ndim != 2 or not np.isin(masks, (0, 1)).all():
        raise bad_value("pilot", "masks of zeros and ones, (n, n_train)", masks.shape)
    return Masks.pack(masks.astype(np.bool_)), outputs[:, None] if outputs.ndim == 1 else outputs
