"""How much faster two threads are than one, kernel by kernel, measured in turn in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import pyattr.masks
from pyattr import exact_sums, kernels, solvers

N_MASKS, N_TRAIN, N_TARGETS = 8000, 4000, 64
N_ROWS, N_CLASSES = 1_000_000, 10
N_FITTED, N_ROWS_FITTED, N_LAMBDAS = 1000, 8000, 20


def products() -> dict[str, Callable[[], object]]:
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
        "sample_masks p=0.3": lambda: pyattr.masks.sample_masks(N_MASKS, N_TRAIN, 0.3),
    }


def margins() -> dict[str, Callable[[], object]]:
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


def fits() -> dict[str, Callable[[], object]]:
    generator = np.random.default_rng(0)
    masks = pyattr.masks.sample_masks(N_ROWS_FITTED, N_FITTED).unpack()
    rows = (masks - masks.mean(0)).astype(np.float32)
    effects = generator.standard_normal((N_FITTED, N_TARGETS), dtype=np.float32)
    effects *= generator.random(effects.shape) < 0.05
    signal = rows @ effects
    outputs = signal + signal.std(0) * generator.standard_normal(signal.shape, dtype=np.float32)
    outputs -= outputs.mean(0)
    gram = rows.T @ rows / np.float32(N_ROWS_FITTED)
    cross = np.ascontiguousarray(outputs.T @ rows / np.float32(N_ROWS_FITTED))
    square = np.square(outputs, dtype=np.float64).mean(0)
    largest = np.abs(cross).max(axis=1, keepdims=True).astype(np.float64)
    lambdas = largest * np.geomspace(1.0, 0.1, N_LAMBDAS)
    scales = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 9)])
    variances = (square[:, None] * scales).astype(np.float32)
    return {
        "lasso_paths": lambda: solvers.lasso_paths(gram, cross, square, lambdas),
        "fit_mixtures": lambda: solvers.fit_mixtures(gram, cross, square, N_ROWS_FITTED, variances),
    }


def measure(call: Callable[[], object], rounds: int) -> dict[str, Any]:
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds + 1):
        for n_threads, values in times.items():
            kernels.set_num_threads(n_threads)
            kernels.sample_masks(0, 0, 0, 4096, 4096, 1 << 31)  # starts the threads
            start = time.perf_counter()
            call()
            values.append(time.perf_counter() - start)
    medians = {n: statistics.median(values[1:]) for n, values in times.items()}
    least = {n: min(values[1:]) for n, values in times.items()}
    return {
        "median_s": list(medians.values()),
        "min_s": list(least.values()),
        "speedup": medians[1] / medians[2],
        "speedup_of_least": least[1] / least[2],
    }


def bench_scaling(rounds: int) -> dict[str, Any]:
    """Return for each kernel the times of 1 and 2 threads and their ratio."""
    return {
        name: measure(call, rounds)
        for part in (products, margins, fits)
        for name, call in part().items()
    }
