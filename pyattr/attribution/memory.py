"""Memory that a computation will need, compared with what there is before it starts."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pyattr.attribution.device_memory import check_device_memory
from pyattr.backends import backend
from pyattr.errors import bad_value

__all__ = ["allowed_memory", "available_memory", "check_memory", "plan_statistics"]

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CGROUP_USE = Path("/sys/fs/cgroup/memory.current")


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping, or None where the system does not say."""
    bounds = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                bounds.append(int(line.split()[1]) * 1024)
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            bounds.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):  # no control group, or its limit is "max"
        bounds.append(int(_CGROUP_LIMIT.read_text()) - int(_CGROUP_USE.read_text()))
    return min(bounds) if bounds else None


def allowed_memory(limit: int | None) -> float:
    """Bytes that may be taken: the limit, or what is available; infinite where nothing says."""
    allowed = available_memory() if limit is None else limit
    return float("inf") if allowed is None else allowed


def check_memory(what: str, n_bytes: int, limit: int | None, advice: str) -> None:
    """Refuse a computation that does not fit.

    Parameters
    ----------
    what : str
        What the memory is for, with its size.
    n_bytes : int
        What is needed.
    limit : int, optional
        Bytes allowed; by default what is available.
    advice : str
        What needs less.

    Raises
    ------
    ValueError
        If `n_bytes` is above the limit.
    """
    allowed = allowed_memory(limit)
    if n_bytes > allowed:
        expected = f"at most {allowed / 1e9:.3g} GB"
        raise bad_value("memory", expected, f"{n_bytes / 1e9:.3g} GB for {what}; {advice}")


def plan_statistics(
    n_train: int,
    n_targets: int,
    block_rows: int,
    gram: bool,
    limit: int | None,
    *,
    squares: bool = False,
) -> None:
    """Refuse sufficient statistics that will not fit.

    Parameters
    ----------
    n_train, n_targets : int
    block_rows : int
        Rows of outputs in memory at a time.
    gram : bool
        Whether pairs of examples are counted.
    limit : int, optional
        Bytes allowed; by default what is available.
    squares : bool
        Whether outputs' squares are summed for every example.

    Raises
    ------
    ValueError
        With the figures.
    """
    counts = 4 * n_train * n_train if gram else 4 * n_train
    sums = (24 if squares else 8) * n_train * n_targets  # of squares: a block's, too
    block = block_rows * (n_train // 8 + 20 * n_targets)
    what = f"{n_train} examples and {n_targets} targets, {counts / 1e9:.3g} GB of it for counts"
    advice = "gram=False keeps no counts of pairs" if gram else "take fewer targets at a time"
    if gram and backend() == "cuda":
        check_device_memory(what, counts + sums, advice)
        counts = 0
    check_memory(what, counts + sums + block, limit, advice)
