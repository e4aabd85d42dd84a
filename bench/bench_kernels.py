"""CPU kernels against NumPy, SciPy and torch.

8,000 masks, 64 targets, 10^6 rows of 10 logits; medians of turns taken in one process. Figures are in
``bench/results/kernels_*.json``; on one core of an AMD EPYC (Zen 4, AVX-512), with float32 products
of dense masks by OpenBLAS at the same instruction-set level as peers, they are: Gram matrix of 1,000
and 4,000 examples at AVX2 9.2 and 8.9 times ssyrk, 16 and 17 times sgemm, with VPOPCNTDQ 1.7 times as fast
again; masks @ W, its transpose and the exact fixed-point product at AVX2 3.5 to 4.0 times sgemm. A Gram
matrix of 4,000 examples is 64 MB that the system has to clear: up to half of the time where a peer has
just given back other memory.

Run: ``python bench/bench_kernels.py [--threads N] [--rounds N] [--avx2]``; with ``--avx2`` the
module is compiled anew without AVX-512 and measured in place of the installed one. Results are
checked before they are timed. NumPy multiplies masks that are already unpacked to float32;
unpacking is not timed. ``--scaling`` measures 1 and 2 threads in turn instead
(kernel_scaling.py).

Read bandwidth is that of the fastest of five reductions over the same 40 MB of logits, by as many
threads: some of them are found in the last cache (32 MB here), where ``from memory`` reads 400 MB.
``read_share`` is the rate at which a kernel takes in logits over it; ``moved_share`` counts all that
it has to move, labels (8 bytes) and margins (4 bytes) too.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import harness

N_MASKS, N_TRAIN, N_TARGETS = 8000, 4000, 64
N_ROWS, N_CLASSES = 1_000_000, 10
N_SEEDS, N_WORDS = 1000, 10_000
GRAM_KERNELS = ("carry-save adders", "AVX2 look-up", "VPOPCNTDQ")  # by number in csrc/gram.hpp


def use_avx2() -> None:
    """Compile pyattr._cpu without AVX-512 and import it as such; call before any peer is imported.

    The peers are asked to do without it too.
    """
    import pybind11

    os.environ["OPENBLAS_CORETYPE"] = "Haswell"
    os.environ["MKL_ENABLE_INSTRUCTIONS"] = "AVX2"
    os.environ["ATEN_CPU_CAPABILITY"] = "avx2"
    root = Path(__file__).parents[1]
    folder = Path(tempfile.mkdtemp())
    path = folder / f"_cpu{sysconfig.get_config_var('EXT_SUFFIX')}"
    bound = "cpu", "normalise", "solvers", "trainers"
    sources = [str(root / "csrc" / f"bind_{name}.cpp") for name in bound]
    includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    flags = ["-std=c++17", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-Wno-psabi"]
    flags += ["-ffp-contract=off", "-fno-trapping-math", "-DPYATTR_AVX2"]  # setup.py's
    subprocess.run(["g++", *flags, *includes, *sources, "-o", str(path)], check=True)
    spec = importlib.util.spec_from_file_location("pyattr._cpu", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["pyattr._cpu"] = module


def bench_sampling(rounds: int) -> dict[str, Any]:
    import numpy as np

    import pyattr.masks
    from pyattr import kernels

    def numpy_masks(p: float) -> Any:
        bits = np.random.default_rng(0).random((N_MASKS, N_TRAIN)) < p
        return np.packbits(bits, axis=1, bitorder="little")

    def numpy_masks_float32(p: float) -> Any:
        bits = np.random.default_rng(0).random((N_MASKS, N_TRAIN), dtype=np.float32) < p
        return np.packbits(bits, axis=1, bitorder="little")

    def numpy_bytes() -> Any:  # for p = 1/2 random bytes are packed masks
        return np.random.default_rng(0).bytes(N_MASKS * N_TRAIN // 8)

    def numpy_words() -> Any:
        return [
            np.random.Generator(np.random.Philox(seed)).integers(0, 1 << 32, N_WORDS, np.uint32)
            for seed in range(N_SEEDS)
        ]

    results = {}
    for p in (0.5, 0.3):
        drawn = pyattr.masks.sample_masks(N_MASKS, N_TRAIN, p).sizes().mean() / N_TRAIN
        assert abs(drawn - p) < 1e-3
        peers = {
            "pyattr": lambda p=p: pyattr.masks.sample_masks(N_MASKS, N_TRAIN, p),
            "numpy packbits(random < p)": lambda p=p: numpy_masks(p),
            "numpy, float32": lambda p=p: numpy_masks_float32(p),
        }
        if p == 0.5:
            peers["numpy bytes"] = numpy_bytes
        results[f"sample_masks p={p}"] = harness.measure(peers, rounds)
    seeds = pyattr.masks.sample_seeds(N_SEEDS)
    results["random_words"] = harness.measure(
        {"pyattr": lambda: kernels.random_words(seeds, 3, 0, N_WORDS), "numpy": numpy_words}, rounds
    )
    return results


def bench_products(rounds: int, n_threads: int) -> dict[str, Any]:
    import numpy as np
    import torch

    import pyattr.masks
    from pyattr import exact_sums, kernels

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
    centre, step = np.zeros(N_TARGETS), np.full(N_TARGETS, 2.0**-17)

    def fixed_point() -> Any:
        steps = exact_sums.to_fixed_point(residuals, centre, step)
        return exact_sums.exact_matmul_transposed(packed, steps, N_TRAIN)

    np.testing.assert_allclose(fixed_point() * step, turned, atol=2e-3)
    results = {
        "fixed-point masksᵀY": harness.measure(
            {
                "pyattr": fixed_point,
                "numpy sgemm, dense masks": lambda: dense.T @ residuals,
                "torch sgemm, dense masks": lambda: dense_t.T @ residuals_t,
            },
            rounds,
        ),
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


def bench_gram(rounds: int, n_threads: int, n_train: int) -> dict[str, Any]:
    import numpy as np
    import torch
    from scipy.linalg.blas import ssyrk

    import pyattr.masks
    from pyattr import _cpu, exact_sums

    torch.set_num_threads(n_threads)
    masks = pyattr.masks.sample_masks(N_MASKS, n_train)
    packed, dense = masks.packed, masks.unpack().astype(np.float32)
    tensor, other = torch.from_numpy(dense), dense.copy()  # numpy takes x.T @ x to ssyrk
    assert np.array_equal(exact_sums.gram(packed, n_train), dense.T @ dense)
    peers = {"pyattr": lambda: exact_sums.gram(packed, n_train)}
    fastest = _cpu.fastest_gram_kernel

    def slower(kernel: int) -> Any:
        _cpu.fastest_gram_kernel = lambda: kernel
        try:
            return exact_sums.gram(packed, n_train)
        finally:
            _cpu.fastest_gram_kernel = fastest

    for kernel in reversed(range(fastest())):
        name = f"pyattr, {GRAM_KERNELS[kernel]}"
        peers[name] = lambda kernel=kernel: slower(kernel)
    peers |= {
        "scipy ssyrk, dense masks": lambda: ssyrk(1.0, dense.T),
        "numpy x.T @ x, dense masks": lambda: dense.T @ dense,
        "numpy sgemm, dense masks": lambda: dense.T @ other,
        "torch sgemm, dense masks": lambda: tensor.T @ tensor,
    }
    results = harness.measure(peers, rounds)
    for peer in results.values():
        peer["gmac_per_s"] = N_MASKS * n_train * n_train / peer["median_s"] / 1e9
    return {f"gram n_train={n_train}": results}


def readers(values: Any, n_threads: int) -> dict[str, Callable[[], object]]:
    """Simple reductions of an array, each by `n_threads` threads."""
    import numpy as np
    import torch

    tensor = torch.from_numpy(values)
    large = tensor.repeat(10, 1)
    pool = ThreadPoolExecutor(n_threads)
    floats = np.array_split(values.ravel(), n_threads)
    words = np.array_split(values.ravel().view(np.int64), n_threads)
    return {
        "reading, torch sum": lambda: tensor.sum(),
        "reading, torch max": lambda: tensor.amax(),
        "reading, numpy sum": lambda: list(pool.map(np.sum, floats)),
        "reading, numpy max": lambda: list(pool.map(np.max, floats)),
        "reading, numpy int64 max": lambda: list(pool.map(np.max, words)),
        "from memory, torch sum": lambda: large.sum(),
    }


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

    def torch_max_margins() -> torch.Tensor:
        correct = tensor.gather(1, index)
        return correct[:, 0] - tensor.scatter(1, index, -torch.inf).amax(dim=1)

    def torch_cross_entropy() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(tensor, index[:, 0], reduction="none")

    np.testing.assert_allclose(kernels.margins(logits, labels), torch_margins(), atol=1e-5)
    loss = kernels.margins(logits, labels, "cross_entropy")
    np.testing.assert_allclose(loss, torch_cross_entropy(), atol=1e-5)
    half, bfloat = tensor.half(), tensor.bfloat16()
    half_bits, bfloat_bits = half.numpy(), bfloat.view(torch.uint16).numpy()
    results = {
        "margins logsumexp": harness.measure(
            {
                "pyattr": lambda: kernels.margins(logits, labels),
                "pyattr, float16": lambda: kernels.margins(half_bits, labels),
                "pyattr, bfloat16": lambda: kernels.margins(bfloat_bits, labels),
                "torch": torch_margins,
            }
            | readers(logits, n_threads),
            rounds,
        ),
        "margins max": harness.measure(
            {
                "pyattr": lambda: kernels.margins(logits, labels, "max"),
                "pyattr, float16": lambda: kernels.margins(half_bits, labels, "max"),
                "pyattr, bfloat16": lambda: kernels.margins(bfloat_bits, labels, "max"),
                "torch": torch_max_margins,
            }
            | readers(logits, n_threads),
            rounds,
        ),
        "margins cross_entropy": harness.measure(
            {
                "pyattr": lambda: kernels.margins(logits, labels, "cross_entropy"),
                "torch": torch_cross_entropy,
            },
            rounds,
        ),
    }
    for peers in results.values():
        for name, peer in peers.items():
            n_bytes = half_bits.nbytes if name.endswith("float16") else logits.nbytes
            n_bytes *= 10 if name.startswith("from memory") else 1
            peer["gb_per_s"] = n_bytes / peer["median_s"] / 1e9
            if name.startswith(("pyattr", "torch")):
                n_bytes += labels.nbytes + 4 * N_ROWS
                peer["moved_gb_per_s"] = n_bytes / peer["median_s"] / 1e9
    read = max(
        peer["gb_per_s"]
        for peers in results.values()
        for name, peer in peers.items()
        if name.startswith("reading")
    )
    for peers in results.values():
        for peer in peers.values():
            peer["read_share"] = peer["gb_per_s"] / read
            if "moved_gb_per_s" in peer:
                peer["moved_share"] = peer["moved_gb_per_s"] / read
    return results


def scaling(rounds: int) -> None:
    harness.set_threads(1)  # no library but pyattr is measured
    from kernel_scaling import bench_scaling

    results = bench_scaling(rounds)
    for name, times in results.items():
        one, two = times["median_s"]
        print(
            f"{name}: {one * 1e3:.2f} ms, {two * 1e3:.2f} ms with 2 threads "
            f"({times['speedup']:.2f}x; of the least times {times['speedup_of_least']:.2f}x; called "
            f"again {times['speedup_again']:.2f}x; two runs side by side {times['side_by_side']:.2f}x)"
        )
    harness.write("kernels_scaling", results, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU kernels against NumPy and torch")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--avx2", action="store_true", help="compile and measure without AVX-512")
    parser.add_argument("--scaling", action="store_true", help="measure 1 and 2 threads instead")
    arguments = parser.parse_args()
    if arguments.avx2:
        use_avx2()
    if arguments.scaling:
        return scaling(arguments.rounds)
    harness.set_threads(arguments.threads)
    from pyattr import kernels

    kernels.set_num_threads(arguments.threads)
    results = bench_sampling(arguments.rounds)
    results |= bench_products(arguments.rounds, arguments.threads)
    for n_train in (1000, N_TRAIN):
        results |= bench_gram(max(5, arguments.rounds // 2), arguments.threads, n_train)
    results |= bench_margins(arguments.rounds, arguments.threads)
    for name, peers in results.items():
        line = ", ".join(
            f"{peer} {times['median_s'] * 1e3:.2f} ms ({times['ratio']:.1f}x"
            + (f", {times['read_share']:.0%} of reading" if "read_share" in times else "")
            + (f", {times['moved_share']:.0%} with all)" if "moved_share" in times else ")")
            for peer, times in peers.items()
        )
        print(f"{name}: {line}")
    sizes = {
        "n_masks": N_MASKS, "n_train": N_TRAIN, "n_targets": N_TARGETS, "n_rows": N_ROWS,
        "n_classes": N_CLASSES, "n_seeds": N_SEEDS, "n_words": N_WORDS,
    }  # fmt: skip
    level = "_avx2" if arguments.avx2 else ""
    harness.write(
        f"kernels_{arguments.threads}_threads{level}",
        {"sizes": sizes, "peers": results},
        arguments.threads,
    )
    return None


if __name__ == "__main__":
    main()
