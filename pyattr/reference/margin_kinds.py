"""Margins: how right a model is about a target, in one number; five kinds of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MARGIN_KINDS", "as_float32", "margins"]

MARGIN_KINDS = ("logsumexp", "max", "probability", "cross_entropy", "correct")


def as_float32(logits: NDArray[Any], kind: str) -> NDArray[np.float32]:
    """Logits (...) float32, or the bits (...) uint16 of float16 or bfloat16, as float32."""
    if kind == "float16":
        return logits.view(np.float16).astype(np.float32)
    if kind == "bfloat16":
        return (logits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return logits


def margins(
    logits: NDArray[np.float32], labels: NDArray[np.int64], kind: str
) -> NDArray[np.float32]:
    """Margins of logits; the kinds are defined in ``csrc/margins.hpp``.

    Parameters
    ----------
    logits : (n_rows, n_classes) float32
        Row r belongs to target ``r % n_targets``.
    labels : (n_targets,) int64
    kind : str
        One of `MARGIN_KINDS`.

    Returns
    -------
    (n_rows,) float32
    """
    z = logits.astype(np.float64)
    rows = np.arange(len(z))
    label = labels[rows % max(len(labels), 1)]
    correct = z[rows, label]
    others = z.copy()
    others[rows, label] = -np.inf
    largest = others.max(axis=1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return _margin(correct, others, largest, kind).astype(np.float32)


def _margin(
    correct: NDArray[np.float64],
    others: NDArray[np.float64],
    largest: NDArray[np.float64],
    kind: str,
) -> NDArray[np.float64]:
    """Margins from z_y (n,), the logits without it (n, n_classes) and their maximum (n,)."""
    if kind == "max":
        return correct - largest
    if kind == "correct":
        undefined = np.isnan(correct) | np.isnan(largest)
        return np.where(undefined, np.nan, correct > largest)
    origin = np.where(np.isfinite(largest), largest, 0.0)
    total = origin + np.log(np.exp(others - origin[:, None]).sum(axis=1))
    margin = correct - np.where(np.isfinite(largest), total, largest)
    if kind == "logsumexp":
        return margin
    if kind == "probability":
        return np.asarray(1.0 / (1.0 + np.exp(-margin)))
    return np.logaddexp(0.0, -margin)
