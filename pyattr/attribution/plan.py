"""How a fit is computed, by its size: what fits into memory, and of that what is faster."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from pyattr.attribution.device_memory import device_bytes, gram_is_on_device, lack_on_device
from pyattr.attribution.memory import allowed_memory
from pyattr.errors import bad_value

__all__ = ["N_LAMBDAS", "Solver", "gram_bytes", "gram_free_bytes", "in_row_space", "plan_fit"]

Solver: TypeAlias = Literal["auto", "gram", "gram-free"]

# Matrices of 4-byte numbers alive at once, the int32 counts among them; eigendecompositions in
# float64 take a work space of twice the matrix. For the LASSO codes and active sets too.
_MATRICES = {"bayes": 4, "lasso": 9, "ridge": 9, "ols": 9, "influence": 0}
_TARGETS_AT_ONCE = {"bayes": 16, "lasso": 64, "ridge": 64}
N_LAMBDAS = 25  # that ridge tries where none are given
_N_PROBES = 16
_BLOCK = 1 << 26  # of rows, of columns, of products that are not kept


def in_row_space(method: str, n_rows: int, n_train: int) -> bool:
    """Whether a fit on a Gram matrix takes that of the rows, not of the examples."""
    return method == "ridge" and n_rows <= n_train


def gram_bytes(
    method: str,
    n_rows: int,
    n_train: int,
    n_targets: int,
    *,
    row_space: bool = False,
    on_device: bool = False,
) -> int:
    """Bytes of the host's memory that a fit on the Gram matrix takes.

    Parameters
    ----------
    method : {"bayes", "lasso", "ridge", "ols", "influence"}
    n_rows, n_train, n_targets : int
    row_space : bool
        Whether it is the matrix of inner products of rows.
    on_device : bool
        Whether it lies on a device (`pyattr.attribution.device_memory.device_bytes`).

    Returns
    -------
    int
    """
    side = n_rows if row_space else n_train
    n_bytes = 0 if on_device else 4 * _MATRICES[method] * side**2
    n_bytes += 64 * n_train * n_targets
    if method == "ridge" and not row_space:
        n_bytes += 8 * N_LAMBDAS * n_rows  # what each row leaves of itself, for every λ
    return n_bytes + (24 * n_rows * n_targets + n_rows * n_train // 4 if row_space else 0)


def gram_free_bytes(method: str, n_rows: int, n_train: int, n_targets: int) -> int:
    """Bytes that a fit by packed products takes.

    Parameters
    ----------
    method : {"bayes", "lasso", "ridge"}
    n_rows, n_train, n_targets : int

    Returns
    -------
    int
        For lasso with working sets of as many scores as there are rows or examples, if fewer.
    """
    at_once = min(n_targets, _TARGETS_AT_ONCE[method])
    n_bytes = 32 * n_train * n_targets + _BLOCK
    if method in ("ridge", "bayes"):
        n_bytes += (at_once + _N_PROBES) * (40 * n_rows + 40 * n_train)
    if method == "bayes":
        n_bytes += at_once * (20 * n_rows + 240 * n_train)
    if method == "lasso":
        n_bytes += at_once * (32 * n_rows + 40 * n_train) + n_rows * n_train // 4
        n_bytes += 24 * min(n_rows, n_train) ** 2  # of the working set, one target's at a time
    return n_bytes


def plan_fit(
    method: str, n_rows: int, n_train: int, n_targets: int, solver: Solver, limit: int | None
) -> bool:
    """Choose between the Gram matrix and packed products, before anything is computed.

    Parameters
    ----------
    method : {"bayes", "lasso", "ridge", "ols"}
    n_rows, n_train, n_targets : int
    solver : {"auto", "gram", "gram-free"}
    limit : int, optional
        Bytes allowed; by default what is available.

    Returns
    -------
    bool
        Whether to do without the Gram matrix.

    Raises
    ------
    ValueError
        If the solver is unknown, or what it needs, or all that "auto" could choose, is above the
        limit or does not fit on the device; with the bytes of both.
    """
    if solver not in get_args(Solver):
        raise bad_value("solver", " or ".join(map(repr, get_args(Solver))), repr(solver))
    row_space = in_row_space(method, n_rows, n_train)
    size, on_device = (n_rows, n_train, n_targets), gram_is_on_device(method)
    needed = {"gram": gram_bytes(method, *size, row_space=row_space, on_device=on_device)}
    lack = lack_on_device(0 if row_space else device_bytes(method, n_train, n_targets))
    if method in _TARGETS_AT_ONCE:
        needed["gram-free"] = gram_free_bytes(method, *size)
    elif solver == "gram-free":
        raise bad_value("solver", f"'auto' or 'gram' for method {method!r}", repr(solver))
    allowed = allowed_memory(limit)
    fitting = [
        name
        for name, n_bytes in needed.items()
        if n_bytes <= allowed and not (lack and name == "gram")
    ]
    if solver == "auto" and fitting:
        faster = "gram-free" if _products_are_faster(method, *size) else "gram"
        return (faster if faster in fitting else fitting[0]) == "gram-free"
    if solver in fitting:
        return solver == "gram-free"
    sizes = " or ".join(f"{n_bytes} with solver {name!r}" for name, n_bytes in needed.items())
    what = f"{method} with {n_rows} rows, {n_train} examples and {n_targets} targets"
    if lack:
        sizes = f"{sizes} (with 'gram' also {lack})"
    advice = "group examples or take fewer targets at a time"
    got = f"{sizes} for {what}; {advice}"
    raise bad_value("memory", f"at most {allowed:.0f} bytes for solver {solver!r}", got)


def _products_are_faster(method: str, n_rows: int, n_train: int, n_targets: int) -> bool:
    """By times on one core; only ridge has a crossover.

    An eigendecomposition of side n took 1.9e-10 n³ s and the Gram-free fit of 64 targets 6.5e-8 s
    for each pair of row and example. Below side 2,048, about a second, leave-one-out is exact for
    little. For bayes and lasso the Gram matrix was faster at every size measured: 1.9 against 2.4 s
    for bayes with one target, 8,000 rows and examples.
    """
    side = min(n_rows, n_train)
    products = 6.5e-8 * n_rows * n_train * -(-n_targets // _TARGETS_AT_ONCE["ridge"])
    return method == "ridge" and side > 2048 and products < 1.9e-10 * side**3
