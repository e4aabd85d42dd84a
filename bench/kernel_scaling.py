"""How much faster two threads are than one, kernel by kernel, measured in turn in one process.

``speedup`` is of a call after one by the other number of threads: the second core begins with nothing in
its cache, or with lines that the first core wrote last, which may lie in another cache. ``speedup_again`` is
of the call after that.

Beside them what the machine allows: two single-threaded runs of the kernel at once, each on data of its
own, share nothing but the machine. How often they do the kernel's work a second, over one run alone, is
``side_by_side``; what `speedup_again` lacks of it is the code's loss, and what it lacks of 2 the machine's.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import pyattr.masks
from pyattr import exact_sums, kernels, solvers

N_MASKS, N_TRAIN, N_TARGETS = 8000, 4000, 64
N_ROWS, N_CLASSES = 1_000_000, 10
N_FITTED, N_ROWS_FITTED, N_LAMBDAS = 1000, 8000, 20
LEAST_SIDE_BY_SIDE = 0.02  # seconds, beside which a thread's late start is little

Call = Callable[[], object]


def products() -> dict[str, Call]:
    masks = pyattr.masks.sample_masks(N_MASKS, N_TRAIN)
    packed, narrow = masks.packed, pyattr.masks.sample_masks(N_MASKS, 1000).packed
    generator = np.random.default_rng(0)
    weights = generator.standard_normal((N_TRAIN, N_TARGETS), dtype=np.float32)
    residuals = generator.standard_normal((N_MASKS, N_TARGETS), dtype=np.float32)
    step = np.full(N_TARGETS, 2.0**-17)
    steps = exact_sums.to_fixed_point(residuals, np.zeros(N_TARGETS), step)
    return {
        "gram n_train=1000": lambda: exact_sums.gram(narrow, 1000),
        f"gram n_train={N_TRAIN}": lambda: exact_sums.gram(packed, N_TRAIN),
        "packed_matmul": lambda: kernels.packed_matmul(packed, weights),
        "packed_matmul_transposed": lambda: kernels.packed_matmul_transposed(
            packed, residuals, N_TRAIN
        ),
        "exact_matmul_transposed": lambda: exact_sums.exact_matmul_transposed(
            packed, steps, N_TRAIN
        ),
        "sample_masks p=0.5": lambda: pyattr.masks.sample_masks(N_MASKS, N_TRAIN),
        f"sample_masks p=0.5, {10 * N_MASKS:,} masks": lambda: pyattr.masks.sample_masks(
            10 * N_MASKS, N_TRAIN
        ),
        "sample_masks p=0.3": lambda: pyattr.masks.sample_masks(N_MASKS, N_TRAIN, 0.3),
    }


def margins() -> dict[str, Call]:
    generator = np.random.default_rng(0)
    logits = 3 * generator.standard_normal((N_ROWS, N_CLASSES), dtype=np.float32)
    labels, half = generator.integers(0, N_CLASSES, N_ROWS), logits.astype(np.float16)
    words, pools = logits.ravel().view(np.int64), {n: ThreadPoolExecutor(n) for n in (1, 2)}

    def read() -> None:  # the limit of the margins: a reduction of the same logits
        n_threads = kernels.get_num_threads()
        list(pools[n_threads].map(np.max, np.array_split(words, n_threads)))

    return {
        "reading the logits": read,
        "margins logsumexp": lambda: kernels.margins(logits, labels),
        "margins logsumexp, float16": lambda: kernels.margins(half, labels),
        "margins max": lambda: kernels.margins(logits, labels, "max"),
    }


def moments(n_train: int) -> tuple[Any, ...]:
    """Moments of a synthetic regression: its Gram matrix, products and mean squares."""
    generator = np.random.default_rng(0)
    masks = pyattr.masks.sample_masks(N_ROWS_FITTED, n_train).unpack()
    rows = (masks - masks.mean(0)).astype(np.float32)
    effects = generator.standard_normal((n_train, N_TARGETS), dtype=np.float32)
    effects *= generator.random(effects.shape) < 0.05
    signal = rows @ effects
    outputs = signal + signal.std(0) * generator.standard_normal(signal.shape, dtype=np.float32)
    outputs -= outputs.mean(0)
    gram = rows.T @ rows / np.float32(N_ROWS_FITTED)
    cross = np.ascontiguousarray(outputs.T @ rows / np.float32(N_ROWS_FITTED))
    return gram, cross, np.square(outputs, dtype=np.float64).mean(0)


def paths(given: tuple[Any, ...], end: float) -> Call:
    """LASSO paths from the largest λ to `end` times that."""
    largest = np.abs(given[1]).max(axis=1, keepdims=True).astype(np.float64)
    lambdas = largest * np.geomspace(1.0, end, N_LAMBDAS)
    return lambda: solvers.lasso_paths(*given, lambdas)


def fits() -> dict[str, Call]:
    small, large = moments(N_FITTED), moments(2 * N_FITTED)
    scales = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 9)])
    variances = (small[2][:, None] * scales).astype(np.float32)
    return {
        "lasso_paths": paths(small, 0.1),
        f"lasso_paths n_train={2 * N_FITTED}": paths(large, 0.1),
        "lasso_paths to 0.01 of the largest λ": paths(small, 0.01),
        "fit_mixtures": lambda: solvers.fit_mixtures(*small, N_ROWS_FITTED, variances),
    }


def seconds(call: Call, repeats: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def at_once(calls: Sequence[Call], repeats: int) -> float:
    """Seconds a call where every call has a thread and data of its own: the harmonic mean."""
    kernels.set_num_threads(1)
    start = threading.Barrier(len(calls))

    def run(call: Call) -> float:
        start.wait()
        return seconds(call, repeats)

    with ThreadPoolExecutor(len(calls)) as pool:
        return statistics.harmonic_mean(pool.map(run, calls))


def measure(calls: tuple[Call, Call], rounds: int) -> dict[str, Any]:
    first: dict[int, list[float]] = {1: [], 2: []}
    again: dict[int, list[float]] = {1: [], 2: []}
    together: list[float] = []
    for _ in range(rounds + 1):
        for n_threads in first:
            kernels.set_num_threads(n_threads)
            kernels.sample_masks(0, 0, 0, 4096, 4096, 1 << 31)  # starts the threads
            first[n_threads].append(seconds(calls[0]))
            again[n_threads].append(seconds(calls[0]))
        together.append(at_once(calls, max(1, round(LEAST_SIDE_BY_SIDE / again[1][-1]))))
    medians, medians_again = (
        [statistics.median(values[1:]) for values in times.values()] for times in (first, again)
    )
    least = [min(values[1:]) for values in first.values()]
    beside = statistics.median(together[1:])
    return {
        "median_s": medians,
        "min_s": least,
        "again_median_s": medians_again,
        "side_by_side_median_s": beside,
        "speedup": medians[0] / medians[1],
        "speedup_of_least": least[0] / least[1],
        "speedup_again": medians_again[0] / medians_again[1],
        "side_by_side": 2 * medians_again[0] / beside,
    }


def bench_scaling(rounds: int) -> dict[str, Any]:
    """Return for each kernel the times of 1 and 2 threads, of two runs at once, and their ratios."""
    results: dict[str, Any] = {}
    for part in (products, margins, fits):
        ours, others = part(), part()
        results |= {name: measure((ours[name], others[name]), rounds) for name in ours}
    return results
