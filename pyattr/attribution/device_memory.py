"""Memory that a fit takes on the CUDA device, compared with what is free there before it starts."""

from __future__ import annotations

from pyattr.backends import backend
from pyattr.device import free_memory
from pyattr.errors import bad_value

__all__ = ["check_device_memory", "device_bytes", "gram_is_on_device", "lack_on_device"]

# Matrices of 4-byte numbers: counts of all rows, and for lasso of a fold; and what is made of them.
_COUNTS = {"bayes": 1, "lasso": 2, "ridge": 1, "ols": 1}
_MADE = {"bayes": 1, "lasso": 4, "ridge": 0, "ols": 0}
_SWEPT = 4096  # targets that are swept together
_SWEPT_MATRICES = 5  # of their columns: products, weights, gradients, variances, and one to move


def gram_is_on_device(method: str) -> bool:
    """Whether a fit takes its Gram matrix from the device and needs none on the host."""
    return backend() == "cuda" and _MADE.get(method, 0) > 0


def device_bytes(method: str, n_train: int, n_targets: int, *, counted: bool = False) -> int:
    """Bytes of the device's memory that a fit on the Gram matrix takes on the backend "cuda".

    Parameters
    ----------
    method : {"bayes", "lasso", "ridge", "ols"}
    n_train, n_targets : int
    counted : bool
        Whether the counts are there already.

    Returns
    -------
    int
        0 on other backends.
    """
    if backend() != "cuda":
        return 0
    n_matrices = _MADE[method] + (0 if counted else _COUNTS[method])
    columns = 2 * n_targets + _SWEPT_MATRICES * min(n_targets, _SWEPT)
    return 4 * n_matrices * n_train**2 + (4 * n_train * columns if _MADE[method] else 0)


def lack_on_device(n_bytes: int) -> str | None:
    """What the device lacks, in words; None if it has enough or nothing is wanted of it."""
    n_free = free_memory() if n_bytes else 0
    return f"{n_bytes} bytes on the device, which has {n_free}" if n_bytes > n_free else None


def check_device_memory(what: str, n_bytes: int, advice: str) -> None:
    """Refuse a computation that does not fit on the device.

    Parameters
    ----------
    what : str
        What the memory is for, with its size.
    n_bytes : int
        What is needed; 0 if the device is not used.
    advice : str
        What needs less.

    Raises
    ------
    ValueError
        If `n_bytes` is above what is free.
    """
    lack = lack_on_device(n_bytes)
    if lack:
        raise bad_value("device memory", "enough free", f"{lack}, for {what}; {advice}")
