"""The CUDA kernels: what their threads do, on the CPU, everywhere; the kernels with a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import has_gpu
from cuda_module import CSRC
from test_kernels import kernel_results, masks_of, normal

from pyattr import backends, exact_sums, kernels
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.masks import sample_masks
from pyattr.reference import FIXED_POINT_LIMIT

pytestmark = pytest.mark.timeout(900)  # the first test waits for the module to be compiled


@pytest.mark.parametrize("name", ["mma_maps", "emulated_block"])
def test_the_maps_of_tensor_core_fragments_and_the_emulation(tmp_path: Path, name: str) -> None:
    if shutil.which("g++") is None:
        pytest.skip("needs a compiler")
    source, program = CSRC.parent / "tests" / "cpp" / f"{name}.cpp", tmp_path / name
    command = ["g++", "-std=c++17", "-O1", f"-I{CSRC}", str(source), "-o", str(program)]
    subprocess.run(command, check=True)
    assert subprocess.run([str(program)], check=False).returncode == 0


def test_results_have_the_bits_of_the_cpu(cuda: ModuleType) -> None:
    expected = kernel_results()
    before = kernels.get_num_threads()
    with kernels.use_backend("cuda"):
        assert kernels.compiled() is cuda
        assert kernel_results() == expected
    assert kernels.compiled() is not cuda
    assert kernels.get_num_threads() == before


def test_threads_may_count_pairs_of_other_tiles_in_the_same_matrix(cuda: ModuleType) -> None:
    """What another thread adds beside the tiles asked for is not lost."""
    n, rounds = 1500, 60
    out, nobody = np.zeros((n, n), np.int32), np.zeros((-(-n // 64), 0, 64), np.uint32)

    def count() -> None:
        for _ in range(rounds):
            cuda.gram(nobody, 0, out, 0, 1)  # entries of the first 64 examples

    thread = threading.Thread(target=count)
    thread.start()
    added = 0
    while thread.is_alive() or added < rounds:
        out[64:, 64:] += 1
        added += 1
    thread.join()
    assert not out[:64].any()
    assert (out[64:, 64:] == added).all()


@pytest.mark.parametrize("n", [1, 31, 33, 64, 65, 127, 129, 1000])
def test_sizes_around_word_edges(cuda: ModuleType, n: int) -> None:
    packed = masks_of(n, n + 1)
    values = np.random.default_rng(0).integers(-9, 9, (n, 3)).astype(np.int32)
    logits, labels = normal(n, 3), np.arange(n) % 3

    def results() -> list[bytes]:
        return [
            kernels.sample_masks(5, 0, 3, n, n, 0x4CCCCCCD).tobytes(),
            kernels.sample_masks(5, 0, 3, 2, n, 1 << 32).tobytes(),
            kernels.correlate_masks(packed, 5, 1, 2, n + 1, 3 << 30, 7).tobytes(),
            kernels.packed_matmul(packed, normal(n + 1, 2)).tobytes(),
            kernels.packed_matmul_transposed(packed, normal(n, 2), n + 1).tobytes(),
            exact_sums.gram(packed, n + 1, np.ones((n + 1, n + 1), np.int32)).tobytes(),
            exact_sums.exact_matmul_transposed(
                packed, values, n + 1, np.ones((n + 1, 3), np.int64)
            ).tobytes(),
            kernels.margins(logits, labels).tobytes(),
            kernels.margins(logits.astype(np.float16), labels).tobytes(),
            kernels.margins((logits.view(np.uint32) >> 16).astype(np.uint16), labels).tobytes(),
        ]

    expected = results()
    with kernels.use_backend("cuda"):
        assert results() == expected


def test_ranges_are_kept(cuda: ModuleType) -> None:
    packed, weights = masks_of(10, 200), normal(200, 6)
    out = np.full((10, 6), 7, np.float32)
    cuda.packed_matmul(packed, weights, out, 2, 5, 1, 4)
    inside = np.zeros((10, 6), bool)
    inside[2:5, 1:4] = True
    assert np.array_equal(out[inside], kernels.packed_matmul(packed, weights)[inside])
    assert (out[~inside] == 7).all()
    sums = np.full((200, 6), 7, np.int64)
    values = np.arange(60, dtype=np.int32).reshape(10, 6)
    cuda.packed_matmul_transposed(packed, values, sums, 64, 150, 1, 4)
    exact = exact_sums.exact_matmul_transposed(packed, values, 200)
    assert np.array_equal(sums[64:150, 1:4] - 7, exact[64:150, 1:4])
    sums[64:150, 1:4] = 7
    assert (sums == 7).all()


def test_full_panels_and_empty_inputs(cuda: ModuleType) -> None:
    with kernels.use_backend("cuda"):
        packed = kernels.sample_masks(0, 0, 0, 2100, 65, 1 << 32)
        values = np.full((2100, 1), 1 - FIXED_POINT_LIMIT, np.int32)
        got = exact_sums.exact_matmul_transposed(packed, values, 65)
        assert (got == 2100 * (1 - FIXED_POINT_LIMIT)).all()
        assert (exact_sums.gram(packed, 65) == 2100).all()
        assert kernels.packed_matmul(masks_of(3, 10), normal(10, 0)).shape == (3, 0)
        assert (exact_sums.gram(masks_of(0, 10), 10) == 0).all()
        assert kernels.margins(normal(0, 4, 3), [0, 1, 2, 0]).shape == (0, 4)
        with pytest.raises(ValueError, match="NaN or infinity for target 1"):
            exact_sums.to_fixed_point(np.array([[0, np.nan]]), np.zeros(2), np.ones(2))


@pytest.mark.parametrize("n_targets", [1, 31, 33, 70])
def test_products_of_several_panels_and_blocks(cuda: ModuleType, n_targets: int) -> None:
    # Panels of 1,024 summands, blocks of 128 outputs, tiles of 32 targets: more than one of each.
    for packed, n_train in ((masks_of(270, 2100), 2100), (masks_of(2100, 270), 270)):
        weights, residuals = normal(n_train, n_targets), normal(len(packed), n_targets)
        product = kernels.packed_matmul(packed, weights)
        turned = kernels.packed_matmul_transposed(packed, residuals, n_train, np.float64)
        with kernels.use_backend("cuda"):
            got = kernels.packed_matmul_transposed(packed, residuals, n_train, np.float64)
            assert got.tobytes() == turned.tobytes()
            assert kernels.packed_matmul(packed, weights).tobytes() == product.tobytes()


def test_exact_sums_of_many_masks_in_parts(cuda: ModuleType) -> None:
    # 9,000 masks: several stages of copies, and more than one part of the masks for a block.
    packed = masks_of(9000, 200)
    values = np.random.default_rng(1).integers(1 - FIXED_POINT_LIMIT, FIXED_POINT_LIMIT, (9000, 35))
    values = values.astype(np.int32)
    counts = exact_sums.gram(packed, 200)
    sums = exact_sums.exact_matmul_transposed(packed, values, 200)
    with kernels.use_backend("cuda"):
        assert np.array_equal(exact_sums.gram(packed, 200), counts)
        assert np.array_equal(exact_sums.exact_matmul_transposed(packed, values, 200), sums)


def test_ranges_of_tiles_make_up_the_counts(cuda: ModuleType) -> None:
    packed, n_train = masks_of(300, 450), 450
    turned = np.zeros((8, 16, 64), np.uint32)
    for tiles in ((0, 3), (3, 8)):
        cuda.turn_masks(packed, n_train, turned, *tiles)
    out = np.zeros((n_train, n_train), np.int32)
    for tiles in ((0, 1), (1, 4), (4, 4), (4, 8)):
        cuda.gram(turned, 0, out, *tiles)
    assert np.array_equal(out, exact_sums.gram(packed, n_train))


def test_sufficient_statistics_are_those_of_the_cpu(cuda: ModuleType) -> None:
    masks, outputs = sample_masks(300, 70, seed=1), normal(300, 3)
    expected = SufficientStatistics.of(masks, outputs)
    with kernels.use_backend("cuda"):
        got = SufficientStatistics.of(masks, outputs, block_rows=100)
    assert np.array_equal(got.counts.numpy(), expected.counts)
    assert np.array_equal(got.cross_steps, expected.cross_steps)
    assert np.array_equal(got.square_steps, expected.square_steps)


def test_without_a_device_the_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_cuda", None)
    with pytest.raises(RuntimeError, match="got none"), kernels.use_backend("cuda"):
        pass


@pytest.mark.skipif(has_gpu(), reason="needs a machine without a CUDA device")
def test_the_bench_says_that_there_is_no_device() -> None:
    bench = CSRC.parent / "bench" / "bench_cuda.py"
    done = subprocess.run(
        [sys.executable, bench], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(CSRC.parent)},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("bench_cuda: expected pyattr built with CUDA and a CUDA device")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_the_module_can_be_imported_without_a_device() -> None:
    module = pytest.importorskip("pyattr._cuda")
    assert module.device_count() >= 0
    if module.device_count() == 0:
        with pytest.raises(RuntimeError, match="cuda: expected success"):
            module.sample_masks(0, 0, 0, 10, 1 << 31, np.zeros((3, 8), np.uint8), 0, 3)
