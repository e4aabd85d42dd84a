"""CPU kernels against NumPy and torch.

One thread of an AMD EPYC (family 26, AVX-512; busy machine), medians of 15 interleaved rounds,
8,000 masks of 4,000 examples, 64 targets, 10^6 rows of 10 logits: masks @ W and its transpose 4-6
times as fast as float32 matrix products of NumPy and torch; margins 8-14 times as fast as torch;
masks 1.6 (p = 1/2) and 2.5-3 (p = 0.3) times, per-seed words 3.4 times as fast as NumPy.

Run: ``python bench/bench_kernels.py [--threads N] [--rounds N]``. Results are checked before
they are timed. NumPy multiplies masks that are already unpacked to float32; unpacking is not timed.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import harness

N_MASKS, N_TRAIN, N_TARGETS = 8000, 4000, 64
N_ROWS, N_CLASSES = 1_000_000, 10
N_SEEDS, N_WORDS = 1000, 10_000


def bench_sampling(rounds: int) -> dict[str, Any]:
    import numpy as np

    import pyattr.masks
    from pyattr import kernels

    def numpy_masks(p: float) -> Any:
        generator = np.random.default_rng(0)
        if p == 0.5:  # the fastest way NumPy has: random bytes are packed masks
            return generator.integers(0, 256, (N_MASKS, N_TRAIN // 8), dtype=np.uint8)
        bits = generator.random((N_MASKS, N_TRAIN), dtype=np.float32) < p
        return np.packbits(bits, axis=1, bitorder="little")

    def numpy_words() -> Any:
        return [
            np.random.Generator(np.random.Philox(seed)).integers(0, 1 << 32, N_WORDS, np.uint32)
            for seed in range(N_SEEDS)
        ]

    results = {}
    for p in (0.5, 0.3):
        drawn = pyattr.masks.sample_masks(N_MASKS, N_TRAIN, p).sizes().mean() / N_TRAIN
        assert abs(drawn - p) < 1e-3
        results[f"sample_masks p={p}"] = harness.measure(
            {
                "pyattr": lambda p=p: pyattr.masks.sample_masks(N_MASKS, N_TRAIN, p),
                "numpy": lambda p=p: numpy_masks(p),
            },
            rounds,
        )
    seeds = pyattr.masks.sample_seeds(N_SEEDS)
    results["random_words"] = harness.measure(
        {"pyattr": lambda: kernels.random_words(seeds, 3, 0, N_WORDS), "numpy": numpy_words}, rounds
    )
    return results


def bench_products(rounds: int, n_threads: int) -> dict[str, Any]:
    import numpy as np
    import torch

    import pyattr.masks
    from pyattr import kernels

    torch.set_num_threads(n_threads)
    masks = pyattr.masks.sample_masks(N_MASKS, N_TRAIN)
    packed, dense = masks.packed, masks.unpack().astype(np.float32)
    generator = np.random.default_rng(0)
    weights = generator.standard_normal((N_TRAIN, N_TARGETS), dtype=np.float32)
    residuals = generator.standard_normal((N_MASKS, N_TARGETS), dtype=np.float32)
    dense_t, weights_t, residuals_t = map(torch.from_numpy, (dense, weights, residuals))
    product = kernels.packed_matmul(packed, weights)
    turned = kernels.packed_matmul_transposed(packed, residuals, N_TRAIN)
    np.testing.assert_allclose(product, dense @ weights, atol=1e-3)
    np.testing.assert_allclose(turned, dense.T @ residuals, atol=1e-3)
    results = {
        "packed_matmul": harness.measure(
            {
                "pyattr": lambda: kernels.packed_matmul(packed, weights),
                "numpy sgemm, dense masks": lambda: dense @ weights,
                "torch sgemm, dense masks": lambda: dense_t @ weights_t,
            },
            rounds,
        ),
        "packed_matmul_transposed": harness.measure(
            {
                "pyattr": lambda: kernels.packed_matmul_transposed(packed, residuals, N_TRAIN),
                "numpy sgemm, dense masks": lambda: dense.T @ residuals,
                "torch sgemm, dense masks": lambda: dense_t.T @ residuals_t,
            },
            rounds,
        ),
    }
    for peers in results.values():
        for peer in peers.values():
            peer["gmac_per_s"] = N_MASKS * N_TRAIN * N_TARGETS / peer["median_s"] / 1e9
    return results


def bench_margins(rounds: int, n_threads: int) -> dict[str, Any]:
    import numpy as np
    import torch

    from pyattr import kernels

    torch.set_num_threads(n_threads)
    generator = np.random.default_rng(0)
    logits = 3 * generator.standard_normal((N_ROWS, N_CLASSES), dtype=np.float32)
    labels = generator.integers(0, N_CLASSES, N_ROWS)
    tensor, index = torch.from_numpy(logits), torch.from_numpy(labels)[:, None]

    def torch_margins() -> torch.Tensor:
        correct = tensor.gather(1, index)
        others = tensor.scatter(1, index, -torch.inf)
        return correct[:, 0] - torch.logsumexp(others, dim=1)

    def torch_cross_entropy() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(tensor, index[:, 0], reduction="none")

    np.testing.assert_allclose(kernels.margins(logits, labels), torch_margins(), atol=1e-5)
    loss = kernels.margins(logits, labels, "cross_entropy")
    np.testing.assert_allclose(loss, torch_cross_entropy(), atol=1e-5)
    return {
        "margins logsumexp": harness.measure(
            {"pyattr": lambda: kernels.margins(logits, labels), "torch": torch_margins}, rounds
        ),
        "margins cross_entropy": harness.measure(
            {
                "pyattr": lambda: kernels.margins(logits, labels, "cross_entropy"),
                "torch": torch_cross_entropy,
            },
            rounds,
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU kernels against NumPy and torch")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    harness.set_threads(arguments.threads)
    from pyattr import kernels

    kernels.set_num_threads(arguments.threads)
    results = bench_sampling(arguments.rounds)
    results |= bench_products(arguments.rounds, arguments.threads)
    results |= bench_margins(arguments.rounds, arguments.threads)
    for name, peers in results.items():
        line = ", ".join(
            f"{peer} {times['median_s'] * 1e3:.2f} ms ({times['ratio']:.1f}x)"
            for peer, times in peers.items()
        )
        print(f"{name}: {line}")
    sizes = {
        "n_masks": N_MASKS, "n_train": N_TRAIN, "n_targets": N_TARGETS, "n_rows": N_ROWS,
        "n_classes": N_CLASSES, "n_seeds": N_SEEDS, "n_words": N_WORDS,
    }  # fmt: skip
    harness.write("kernels", {"sizes": sizes, "peers": results}, arguments.threads)


if __name__ == "__main__":
    main()
