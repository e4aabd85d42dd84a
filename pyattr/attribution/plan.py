"""How a fit is computed, by its size: what fits into memory, and of that what is faster."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from pyattr.attribution.memory import allowed_memory
from pyattr.errors import bad_value

__all__ = ["Solver", "gram_bytes", "gram_free_bytes", "plan_fit"]

Solver: TypeAlias = Literal["auto", "gram", "gram-free"]

# Matrices of 4-byte numbers alive at once, the int32 counts among them; eigendecompositions in
# float64 take a work space of twice the matrix.
_MATRICES = {"bayes": 3, "lasso": 7, "ridge": 9, "ols": 9, "influence": 0}
_BLOCK_ROWS = 1 << 15
_LANES = 16


def gram_bytes(method: str, n_rows: int, n_train: int, n_targets: int) -> int:
    """Bytes that a fit on the Gram matrix takes.

    Parameters
    ----------
    method : {"bayes", "lasso", "ridge", "ols", "influence"}
    n_rows, n_train, n_targets : int

    Returns
    -------
    int
        Ridge by leave-one-out takes the Gram matrix of the rows if they are fewer: `plan_fit`.
    """
    return 4 * _MATRICES[method] * n_train**2 + 64 * n_train * n_targets


def gram_free_bytes(method: str, n_rows: int, n_train: int, n_targets: int) -> int:
    """Bytes that a fit on packed products takes, rows and targets being n_rows and n_targets."""
    return 0


def plan_fit(
    method: str,
    n_rows: int,
    n_train: int,
    n_targets: int,
    solver: Solver,
    limit: int | None,
) -> bool:
    """Choose between the Gram matrix and packed products, before anything is computed.

    Returns
    -------
    bool
        Whether to do without the Gram matrix.

    Raises
    ------
    ValueError
        If the solver is unknown or what it needs, or all that could be chosen, is above the limit.
    """
    if solver not in get_args(Solver):
        raise bad_value("solver", " or ".join(map(repr, get_args(Solver))), repr(solver))
    return False
