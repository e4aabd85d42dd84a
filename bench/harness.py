"""Measure peers in turn and write down what was measured on what.

Peers are run in turn, so that a machine that slows down slows all of them, in an order drawn anew
for each round, so that none always pays for what the same other left behind (caches, freed memory
that the system has to clear); the median, least and largest wall time of each are kept. Results
go to ``bench/results/<name>.json`` with commit, device, versions and thread count.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["environment", "measure", "set_threads", "write"]

RESULTS = Path(__file__).parent / "results"
CODE = ("csrc", "pyattr", "bench", ":!bench/results")  # results are written as cells are done
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def set_threads(n_threads: int) -> None:
    """Give every library the same number of threads; call before any of them is imported.

    Parameters
    ----------
    n_threads : int
    """
    if "numpy" in sys.modules or "torch" in sys.modules:
        raise RuntimeError("set_threads: expected to run before numpy and torch, got them imported")
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(n_threads)


def measure(peers: Mapping[str, Callable[[], object]], rounds: int = 9) -> dict[str, Any]:
    """Time every peer once a round, in turn, after one round that is thrown away.

    Parameters
    ----------
    peers : mapping from name to a call without arguments
        The first is the one that the others are compared with.
    rounds : int

    Returns
    -------
    dict
        For each name ``median_s``, ``min_s``, ``max_s`` (wall seconds) and ``ratio``: median over
        the first peer's median.
    """
    times: dict[str, list[float]] = {name: [] for name in peers}
    turns, shuffle = list(peers.items()), random.Random(0).shuffle
    gc.disable()
    try:
        for round_number in range(rounds + 1):
            shuffle(turns)
            for name, call in turns:
                start = time.perf_counter()
                call()
                if round_number:
                    times[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    medians = {name: statistics.median(values) for name, values in times.items()}
    own = medians[next(iter(peers))]
    return {
        name: {
            "median_s": medians[name],
            "min_s": min(values),
            "max_s": max(values),
            "ratio": medians[name] / own,
        }
        for name, values in times.items()
    }


def _git(*arguments: str) -> str:
    root = Path(__file__).parents[1]
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment(
    n_threads: int, packages: tuple[str, ...] = ("numpy", "scipy", "torch")
) -> dict[str, Any]:
    """Describe the code and the machine: commit, device, versions, threads."""
    return {
        "commit": _git("rev-parse", "HEAD") or None,
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", *CODE)),
        "device": _processor(),
        "n_cores": os.cpu_count(),
        "n_threads": n_threads,
        "platform": platform.platform(),
        "versions": {"python": platform.python_version(), "pyattr": _version("pyattr")}
        | {package: _version(package) for package in packages},
    }


def write(name: str, results: object, n_threads: int) -> Path:
    """Write ``results/<name>.json`` and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    record = {"environment": environment(n_threads), "results": results}
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path
