"""CUDA kernels as shares of what the device can do, and a whole fit.

This has not been run on a GPU yet: there are no results to state.

What is measured, each after its result was checked on a part against the CPU:

- Gram: masks as int8 per second, against a dense int8 product of torch (``torch._int_mm``) and the
  wanted share of 40%; counted as n² m multiply-adds, as the dense product would do, and as the half
  that is computed.
- exact masksᵀY: three int8 slices, against the same rate.
- masks @ W in float32, against torch's float32 product of dense masks (TF32 off); 60% wanted.
- margins, against the bandwidth of a copy (bytes read and written); 80% wanted.
- mixtures: one sweep of all coordinates, in multiply-adds per second, against the float32 product.
- a fit: 300,000 masks, 50,000 examples, 1,000 targets, from host memory to scores in host memory;
  60 s wanted. Outputs are random with a planted effect; a smaller one with ``--small``.

Run: ``python bench/bench_cuda.py [--rounds N] [--small]`` where there is a CUDA device, torch, and
pyattr built with nvcc. Writes ``bench/results/cuda.json``; without a device it says so and exits 2.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import harness
import numpy as np

from pyattr import Attribution, SufficientStatistics, device, fit_statistics, kernels
from pyattr.masks import Masks, sample_masks
from pyattr.solvers import fit_mixtures

KERNEL_SIZES = {"n_masks": 100_000, "n_train": 10_000, "n_targets": 1_000}
FIT_SIZES = {"n_masks": 300_000, "n_train": 50_000, "n_targets": 1_000}
SMALL_SIZES = {"n_masks": 20_000, "n_train": 2_000, "n_targets": 128}
N_ROWS, N_CLASSES = 10_000_000, 10
PREDICTED = 4096  # rows by which a fit is judged


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Median wall seconds of a call and all that it launched, after one that is thrown away."""
    times = []
    for _ in range(rounds + 1):
        device.synchronize()
        start = time.perf_counter()
        call()
        device.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def limits(torch: Any, rounds: int) -> dict[str, float]:
    """Measure what the device does at best: int8 and float32 products, and a copy."""
    torch.backends.cuda.matmul.allow_tf32 = False
    n = 8192

    def timed(call: Callable[[], object]) -> float:
        def done() -> None:
            call()
            torch.cuda.synchronize()

        return seconds(done, rounds)

    left = torch.ones((n, n), dtype=torch.int8, device="cuda")
    right = torch.ones((n, n), dtype=torch.int8, device="cuda").t()
    dense = torch.ones((n, n), dtype=torch.float32, device="cuda")
    source = torch.ones(1 << 29, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return {
        "int8_macs_per_s": n**3 / timed(lambda: torch._int_mm(left, right)),
        "float32_macs_per_s": n**3 / timed(lambda: dense @ dense),
        "copy_bytes_per_s": 2 * source.numel() / timed(lambda: target.copy_(source)),
    }


def bench_exact(limit: dict[str, float], sizes: dict[str, int], rounds: int) -> dict[str, Any]:
    m, n, t = sizes["n_masks"], sizes["n_train"], sizes["n_targets"]
    masks = sample_masks(m, n, seed=1)
    values = np.random.default_rng(0).integers(-(1 << 20), 1 << 20, (m, t)).astype(np.int32)
    packed, steps = device.to_device(masks.packed), device.to_device(values)
    counts = device.to_device(np.zeros((n, n), np.int32))
    sums = device.to_device(np.zeros((n, t), np.int64))
    device.gram(packed, n, counts)
    device.exact_matmul_transposed(packed, steps, n, sums)
    check_exact_sums(masks, values, counts, sums)
    gram = seconds(lambda: device.gram(packed, n, counts), rounds)
    product = seconds(lambda: device.exact_matmul_transposed(packed, steps, n, sums), rounds)
    return {
        "gram": {
            "seconds": gram,
            "share_of_int8": m * n**2 / gram / limit["int8_macs_per_s"],
            "share_of_int8_of_half": m * n**2 / 2 / gram / limit["int8_macs_per_s"],
            "wanted": 0.4,
        },
        "exact_matmul_transposed": {
            "seconds": product,
            "share_of_int8_of_three_slices": 3 * m * n * t / product / limit["int8_macs_per_s"],
        },
    }


def check_exact_sums(masks: Masks, values: Any, counts: Any, sums: Any) -> None:
    """Compare the first 64 examples with float64 products of whole numbers: exact below 2^53."""
    few = 64
    dense = np.unpackbits(masks.packed[:, : few // 8], axis=1, bitorder="little").astype(np.float64)
    assert np.array_equal(counts.numpy()[:few, :few], dense.T @ dense)
    assert np.array_equal(sums.numpy()[:few, :4], dense.T @ values[:, :4].astype(np.float64))


def bench_products(limit: dict[str, float], sizes: dict[str, int], rounds: int) -> dict[str, Any]:
    m, n, t = sizes["n_masks"], sizes["n_train"], sizes["n_targets"]
    masks = sample_masks(m, n, seed=2)
    weights = np.random.default_rng(0).standard_normal((n, t), dtype=np.float32)
    packed, w = device.to_device(masks.packed), device.to_device(weights)
    out = device.to_device(np.zeros((m, t), np.float32))
    device.packed_matmul(packed, w, out)
    with kernels.use_backend("cpu"):
        assert np.array_equal(out.numpy()[:64], kernels.packed_matmul(masks.packed[:64], weights))
    taken = seconds(lambda: device.packed_matmul(packed, w, out), rounds)
    share = m * n * t / taken / limit["float32_macs_per_s"]
    return {"packed_matmul": {"seconds": taken, "share_of_float32": share, "wanted": 0.6}}


def bench_margins(limit: dict[str, float], rounds: int) -> dict[str, Any]:
    logits = np.random.default_rng(0).standard_normal((N_ROWS, N_CLASSES), dtype=np.float32)
    labels = np.arange(1000) % N_CLASSES
    z, out = device.to_device(logits), device.to_device(np.zeros(N_ROWS, np.float32))
    device.margins(z, labels, out)
    with kernels.use_backend("cpu"):
        few = logits[:1000].reshape(1, 1000, N_CLASSES)
        assert np.array_equal(out.numpy()[:1000], kernels.margins(few, labels)[0])
    taken = seconds(lambda: device.margins(z, labels, out), rounds)
    rate = (logits.nbytes + 4 * N_ROWS) / taken
    share = rate / limit["copy_bytes_per_s"]
    return {"margins": {"seconds": taken, "share_of_copy": share, "wanted": 0.8}}


def bench_sweep(limit: dict[str, float], sizes: dict[str, int], rounds: int) -> dict[str, Any]:
    """One sweep: the difference between fits of two numbers of sweeps."""
    n, t = sizes["n_train"], sizes["n_targets"]
    gram = 0.25 * np.eye(n, dtype=np.float32) + np.float32(1e-4)
    cross = np.random.default_rng(0).standard_normal((t, n), dtype=np.float32) * np.float32(0.01)
    on_device, widths = device.to_device(gram), np.tile(np.geomspace(1e-6, 1e-2, 10), (t, 1))
    variances = widths.astype(np.float32)
    variances[:, 0] = 0.0

    def fit(n_sweeps: int) -> Callable[[], object]:
        return lambda: fit_mixtures(
            on_device, cross, np.ones(t), 10 * n, variances, max_sweeps=n_sweeps, tolerance=0.0
        )

    taken = (seconds(fit(8), rounds) - seconds(fit(2), rounds)) / 6
    share = n**2 * t / taken / limit["float32_macs_per_s"]
    return {"mixture_sweep": {"seconds": taken, "share_of_float32": share, "n_train": n}}


def planted(sizes: dict[str, int], n_masks: int, seed: int) -> tuple[Masks, Any]:
    """Masks and outputs: 200 examples of every target have effects, R² = 1/2."""
    n, t = sizes["n_train"], sizes["n_targets"]
    rng = np.random.default_rng(0)
    scores = np.zeros((n, t), np.float32)
    for target in range(t):
        at = rng.choice(n, 200, replace=False)
        scores[at, target] = rng.standard_normal(200) / np.sqrt(200 / 4)
    masks = sample_masks(n_masks, n, seed=seed)
    outputs = kernels.packed_matmul(masks.packed, scores)
    return masks, outputs + np.random.default_rng(seed).standard_normal((n_masks, t), np.float32)


def fit(masks: Masks, outputs: Any) -> tuple[Attribution, dict[str, float]]:
    """Fit from host memory to scores in host memory, and the seconds of its stages."""
    start = time.perf_counter()
    sums = SufficientStatistics.of(masks, outputs)
    summed = time.perf_counter()
    result = fit_statistics(sums)
    return result, {"sums": summed - start, "fit": time.perf_counter() - summed}


def bench_fit(sizes: dict[str, int]) -> dict[str, Any]:
    masks, outputs = planted(sizes, sizes["n_masks"], 1)
    start = time.perf_counter()
    result, stages = fit(masks, outputs)
    taken = time.perf_counter() - start
    fresh, truth = planted(sizes, PREDICTED, 2)
    predicted = kernels.packed_matmul(fresh.packed, result.scores) + result.intercept
    error = np.square(truth - predicted).mean() / truth.var(axis=0).mean()
    return {"seconds": taken, "wanted": 60.0, "stages": stages, "held_out_error": float(error)}


def missing() -> str | None:
    """What a run would need and does not have."""
    if not kernels.extension_levels()["cuda_device"]:
        return "bench_cuda: expected pyattr built with CUDA and a CUDA device, got none"
    try:
        import torch
    except ImportError:
        return "bench_cuda: expected torch for the limits, got none"
    return None if torch.cuda.is_available() else "bench_cuda: expected torch with CUDA, got none"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="a small fit alone, to try it out")
    arguments = parser.parse_args()
    lack = missing()
    if lack:
        print(lack, file=sys.stderr)
        return 2
    import torch

    with kernels.use_backend("cuda"):
        if arguments.small:
            print(bench_fit(SMALL_SIZES))
            return 0
        limit = limits(torch, arguments.rounds)
        results: dict[str, Any] = {
            "device": torch.cuda.get_device_name(),
            "cuda": torch.version.cuda,
            "driver": torch._C._cuda_getDriverVersion(),
            "limits": limit,
        }
        results |= bench_exact(limit, KERNEL_SIZES, arguments.rounds)
        results |= bench_products(limit, KERNEL_SIZES, arguments.rounds)
        results |= bench_margins(limit, arguments.rounds)
        results |= bench_sweep(limit, KERNEL_SIZES, max(1, arguments.rounds // 3))
        torch.cuda.empty_cache()
        results["fit"] = bench_fit(FIT_SIZES)
    for name, value in results.items():
        print(f"{name}: {value}")
    print(harness.write("cuda", results, kernels.get_num_threads()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
