"""From a design to the words of a challenge and back, and the rows that it asks for.

Both sides derive masks and seeds from the challenge with the same counter-based generator, so the
message has the same size whatever is trained.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pyattr.errors import ProtocolError
from pyattr.masks import Masks
from pyattr.protocol.words import ClusterParameters, ResidualParameters
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.residual import ResidualDesign

__all__ = ["Design", "chosen_rows", "design_of", "parameters_of", "row_blocks"]

Design = ClusterDesign | ResidualDesign
Seeds = npt.NDArray[np.uint64]

_BLOCK = 1 << 16  # rows drawn at a time; even, so that pairs stay together
_BLOCK_BYTES = 1 << 26  # of their masks


def parameters_of(design: Design) -> ClusterParameters | ResidualParameters:
    """The words for a design."""
    if isinstance(design, ClusterDesign):
        return ClusterParameters(
            n_clusters=design.n_clusters, n_leaves=design.n_leaves, rho=float(design.rho)
        )
    return ResidualParameters(n_pairs=design.n_pairs, rho=float(design.rho))


def design_of(words: ClusterParameters | ResidualParameters, p: float) -> Design:
    """The design that a challenge asks for.

    Raises
    ------
    ProtocolError
        If there is no such design.
    """
    try:
        if isinstance(words, ClusterParameters):
            return ClusterDesign(words.n_clusters, words.n_leaves, p, words.rho)
        return ResidualDesign(words.n_pairs, words.rho, p)
    except ValueError as error:
        raise ProtocolError(f"design: expected one that exists, got {error}") from None


def row_blocks(design: Design, seed: int, n_train: int) -> Iterator[tuple[int, Masks, Seeds]]:
    """Masks and seeds of all rows in order, with the number of each block's first row.

    A block has at most 2^16 rows, and fewer where masks are long, so that memory stays bounded.
    """
    rows = max(2, min(_BLOCK, 8 * _BLOCK_BYTES // n_train)) & ~1
    # A design is drawn by clusters or by rows.
    unit = 2 * design.n_leaves if isinstance(design, ClusterDesign) else 1
    step = max(1, rows // unit)
    for first in range(0, design.n_evaluations // unit, step):
        stop = min(first + step, design.n_evaluations // unit)
        yield first * unit, *design.draw(seed, n_train, first, stop)


def chosen_rows(
    design: Design, seed: int, n_train: int, rows: npt.NDArray[np.int64]
) -> tuple[Masks, Seeds]:
    """Masks and seeds of some rows.

    Parameters
    ----------
    design : ClusterDesign or ResidualDesign
    seed : int
    n_train : int
    rows : (n,) int64
        Sorted; at least one.
    """
    parts = []
    for start, masks, seeds in row_blocks(design, seed, n_train):
        low, high = np.searchsorted(rows, [start, start + len(masks)])
        if low < high:
            inside = rows[low:high] - start
            parts.append((masks[inside], seeds[inside]))
    return Masks.concatenate([part[0] for part in parts]), np.concatenate([p[1] for p in parts])
