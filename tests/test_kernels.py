"""Every kernel against its definition: bit for bit, or within the bound that the header states."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pyattr import (
    _cpu,
    backends,
    exact_sums,
    kernels,
    normalisation,
    reference,
    solvers,
    trainers,
)
from pyattr.reference import MARGIN_KINDS, Stream

SIZES = [1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 97, 127, 128, 129, 1000]
PANEL_EDGES = [1023, 1024, 1025, 2049]
TARGETS = [1, 3, 4, 5, 8, 9, 15, 16, 17, 33, 129]
UNIT = 2.0**-24  # half an ulp of 1 in float32


def masks_of(n_masks: int, n_train: int, seed: int = 0) -> np.ndarray:
    return reference.sample_masks(seed, Stream.MASKS, 0, n_masks, n_train, 1 << 31)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_within_bound(got: np.ndarray, masks: np.ndarray, values: np.ndarray) -> None:
    """Check the bound of csrc/packed_matmul.hpp: 212 u of the magnitudes, and one rounding."""
    exact = masks.astype(float) @ values.astype(float)
    bound = 213 * UNIT * (masks.astype(float) @ np.abs(values.astype(float)))
    assert (np.abs(got - exact) <= bound + UNIT * np.abs(exact)).all()


# -- random bits -----------------------------------------------------------------------------------


def test_philox_is_the_reference(backend: str) -> None:
    rng = np.random.default_rng(0)
    counters = rng.integers(0, 1 << 32, (1001, 4), dtype=np.uint32)
    keys = rng.integers(0, 1 << 32, (1001, 2), dtype=np.uint32)
    counters[:2], keys[:2] = [[0] * 4, [0xFFFFFFFF] * 4], [[0] * 2, [0xFFFFFFFF] * 2]
    got = kernels.philox4x32(counters, keys)
    assert np.array_equal(got, reference.philox4x32(counters, keys))
    assert got[0].tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize("n_train", SIZES)
@pytest.mark.parametrize("threshold", [0, 1 << 31, 0xF0000000, 1 << 32])
def test_mask_indices_are_the_reference(n_train: int, threshold: int) -> None:
    packed = reference.sample_masks(1, Stream.MASKS, 0, 7, n_train, threshold)
    indices, ends = kernels.mask_indices(packed, n_train)
    expected, expected_ends = reference.mask_indices(packed, n_train)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(ends, expected_ends)
    assert indices.dtype == ends.dtype == np.int64


@pytest.mark.parametrize("n_train", SIZES)
@pytest.mark.parametrize("threshold", [0, 1 << 31, 3 << 30, 0x4CCCCCCD, 1 << 32])
def test_sample_masks_is_the_reference(n_train: int, threshold: int) -> None:
    at = (0xFEDCBA9876543210, Stream.MASKS, 3, 9, n_train, threshold)
    assert np.array_equal(kernels.sample_masks(*at), reference.sample_masks(*at))


@pytest.mark.parametrize("n_train", SIZES)
@pytest.mark.parametrize(
    ("one", "zero"), [(3 << 30, 1 << 30), (0x99999999, 7), (1 << 32, 0), (0, 1 << 32), (1 << 32, 5)]
)
def test_correlate_masks_is_the_reference(n_train: int, one: int, zero: int) -> None:
    at = (masks_of(9, n_train), 11, Stream.CORRELATED, 5, n_train, one, zero)
    assert np.array_equal(kernels.correlate_masks(*at), reference.correlate_masks(*at))


def test_rows_can_be_drawn_alone(backend: str) -> None:
    whole = kernels.sample_masks(1, 0, 0, 20, 200, 0x4CCCCCCD)
    for first in (0, 7, 19):
        alone = kernels.sample_masks(1, 0, first, 1, 200, 0x4CCCCCCD)
        assert np.array_equal(alone, whole[first : first + 1])
    last = (1 << 32) - 1
    assert kernels.sample_masks(1, 0, last, 1, 200, 1 << 31).shape == (1, 32)
    assert np.array_equal(kernels.sample_seeds(1, 2, 5), kernels.sample_seeds(6, 2)[5:])


@pytest.mark.parametrize("n_words", [0, *SIZES])
@pytest.mark.parametrize("n", [0, 1, 70])
def test_random_words_is_the_reference(n: int, n_words: int) -> None:
    seeds = reference.sample_seeds(n, 4)
    at = (seeds, Stream.INIT, 3, n_words)
    got = kernels.random_words(*at)
    assert got.dtype == np.uint32
    assert np.array_equal(got, reference.random_words(*at))


def test_sample_seeds_is_the_reference() -> None:
    assert np.array_equal(kernels.sample_seeds(1000, 77), reference.sample_seeds(1000, 77))


# -- products --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_train", SIZES + PANEL_EDGES)
def test_packed_matmul_is_within_its_bound(n_train: int) -> None:
    for n_masks, n_targets in [(1, 1), (65, 5), (3, 17)]:
        packed, weights = masks_of(n_masks, n_train), normal(n_train, n_targets)
        got = kernels.packed_matmul(packed, weights)
        assert got.dtype == np.float32
        assert_within_bound(got, reference.unpack(packed, n_train), weights)


@pytest.mark.parametrize("n_masks", SIZES + PANEL_EDGES)
def test_packed_matmul_transposed_is_within_its_bound(n_masks: int) -> None:
    for n_train, n_targets in [(1, 1), (97, 5), (520, 17)]:
        packed, residuals = masks_of(n_masks, n_train), normal(n_masks, n_targets)
        masks = reference.unpack(packed, n_train).T
        for dtype in (np.float32, np.float64):
            got = kernels.packed_matmul_transposed(packed, residuals, n_train, dtype)
            assert got.dtype == dtype
            assert_within_bound(got, masks, residuals)


@pytest.mark.parametrize("n_targets", TARGETS)
def test_products_of_any_number_of_targets(n_targets: int) -> None:
    # More outputs than one block of 2,048; every column the same bits as alone.
    packed = masks_of(2100, 130)
    weights, residuals = normal(130, n_targets), normal(2100, n_targets)
    product = kernels.packed_matmul(packed, weights)
    turned = kernels.packed_matmul_transposed(packed, residuals, 130)
    assert_within_bound(product, reference.unpack(packed, 130), weights)
    assert_within_bound(turned, reference.unpack(packed, 130).T, residuals)
    for t in {0, n_targets - 1}:
        alone = kernels.packed_matmul(packed, weights[:, t : t + 1])
        assert alone.tobytes() == product[:, t : t + 1].tobytes()
        alone = kernels.packed_matmul_transposed(packed, residuals[:, t : t + 1], 130)
        assert alone.tobytes() == turned[:, t : t + 1].tobytes()


def test_transposed_product_of_more_than_one_block_of_features() -> None:
    packed, residuals = masks_of(100, 2200), normal(100, 3)
    got = kernels.packed_matmul_transposed(packed, residuals, 2200)
    assert_within_bound(got, reference.unpack(packed, 2200).T, residuals)


def test_small_integers_are_exact(backend: str) -> None:
    weights = np.random.default_rng(3).integers(-8, 9, (1000, 6)).astype(np.float32)
    packed = masks_of(129, 1000)
    masks = reference.unpack(packed, 1000).astype(np.int64)
    got = kernels.packed_matmul(packed, weights)
    assert np.array_equal(got, masks @ weights.astype(np.int64))
    residuals = weights[:129]
    got = kernels.packed_matmul_transposed(packed, residuals, 1000)
    assert np.array_equal(got, masks.T @ residuals.astype(np.int64))


def test_error_does_not_grow_with_the_number_of_masks() -> None:
    # Residuals of mean 3: a plain float32 sum of 1e5 of them is off by far more.
    residuals = normal(100_000, 1) + np.float32(3)
    packed = masks_of(100_000, 64)
    masks = reference.unpack(packed, 64).T
    exact = masks.astype(float) @ residuals.astype(float)
    error = np.abs(kernels.packed_matmul_transposed(packed, residuals, 64) - exact) / exact
    assert error.max() < 5e-7
    plain = np.cumsum(masks * residuals.T, axis=1, dtype=np.float32)[:, -1:]
    assert (np.abs(plain - exact) / exact).max() > 5e-6


# -- margins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MARGIN_KINDS)
@pytest.mark.parametrize("n_classes", [2, 3, 10, 63, 64, 65, 1000])
def test_margins_are_within_their_bound(kind: str, n_classes: int) -> None:
    labels = np.random.default_rng(0).integers(0, n_classes, 13)
    for scale in (0.1, 1, 10, 1000):
        logits = np.float32(scale) * normal(11, 13, n_classes)
        got = kernels.margins(logits, labels, kind)
        expected = reference.margins(logits.reshape(-1, n_classes), labels, kind).reshape(11, 13)
        assert got.dtype == np.float32
        assert got.shape == (11, 13)
        if kind in ("max", "correct"):
            assert np.array_equal(got, expected)
        elif kind == "logsumexp":
            np.testing.assert_allclose(got, expected, rtol=1.3e-7, atol=4e-7)
        else:
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("n_rows", SIZES)
def test_margins_of_any_number_of_rows(n_rows: int) -> None:
    logits, labels = normal(n_rows, 10), np.random.default_rng(1).integers(0, 10, n_rows)
    got = kernels.margins(logits, labels)
    np.testing.assert_allclose(got, reference.margins(logits, labels, "logsumexp"), atol=1e-6)


@pytest.mark.parametrize("kind", MARGIN_KINDS)
@pytest.mark.parametrize("n_classes", [2, 3, 10, 65])
def test_margins_of_16_bit_logits_are_those_of_the_same_numbers(n_classes: int, kind: str) -> None:
    logits, labels = 3 * normal(70, 13, n_classes), np.arange(13) % n_classes
    for half in (logits.astype(np.float16), np.float16(1e-6) * logits.astype(np.float16)):
        expected = kernels.margins(half.astype(np.float32), labels, kind)
        assert kernels.margins(half, labels, kind).tobytes() == expected.tobytes()
    bits = (logits.view(np.uint32) >> 16).astype(np.uint16)
    expected = kernels.margins((bits.astype(np.uint32) << 16).view(np.float32), labels, kind)
    assert kernels.margins(bits, labels, kind).tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.uint16])
def test_every_16_bit_number_is_converted_exactly(backend: str, dtype: type) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    single = reference.as_float32(bits, "float16" if dtype == np.float16 else "bfloat16")
    # The "max" margin of (z, 0) is z - 0, of (0, z) 0 - z.
    pairs = np.zeros((1 << 16, 1, 2), dtype)
    pairs[:, 0, 0] = bits.view(dtype)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        expected = single - np.float32(0)
        lead, lag = (kernels.margins(pairs, [label], "max")[:, 0] for label in (0, 1))
    assert np.array_equal(lead, expected, equal_nan=True)
    assert np.array_equal(lag, -expected, equal_nan=True)


def test_margins_at_the_limits(backend: str) -> None:
    inf, nan = np.inf, np.nan
    # Logits of three classes with label 0, then the margins in the order of MARGIN_KINDS.
    cases = [
        ([1e4, -1e4, -1e4], [2e4 - np.log(2), 2e4, 1, 0, 1]),
        ([-1e4, 1e4, 1e4], [-2e4 - np.log(2), -2e4, 0, 2e4 + np.log(2), 0]),
        ([1e4, 1e4, 1e4], [-np.log(2), 0, 1 / 3, np.log(3), 0]),
        ([3e38, -3e38, 0], [3e38, 3e38, 1, 0, 1]),
        ([0, 0, -inf], [0, 0, 0.5, np.log(2), 0]),
        ([-inf, 0, 0], [-inf, -inf, 0, inf, 0]),
        ([0, -inf, -inf], [inf, inf, 1, 0, 1]),
        ([inf, 0, 0], [inf, inf, 1, 0, 1]),
        ([0, inf, 0], [-inf, -inf, 0, inf, 0]),
        ([-inf, -inf, -inf], [nan, nan, nan, nan, 0]),
        ([nan, 0, 0], [nan] * 5),
        ([0, nan, 0], [nan] * 5),
        ([0, 0, nan], [nan] * 5),
        ([0, nan, inf], [nan] * 5),
        ([0, inf, nan], [nan] * 5),
        ([inf, nan, -inf], [nan] * 5),
    ]
    logits = np.array([[z] for z, _ in cases], np.float32)
    for column, kind in enumerate(MARGIN_KINDS):
        expected = np.array([[values[column]] for _, values in cases])
        np.testing.assert_allclose(
            kernels.margins(logits, [0], kind), expected, rtol=1e-6, atol=1e-6, err_msg=kind
        )


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
def test_exponentials_keep_their_bound_and_sums_are_rounded_once(tmp_path: Path) -> None:
    # Compiled for the baseline, where a fused multiply-add is made of operations on doubles.
    source, program = Path(__file__).parent / "cpp" / "exponential.cpp", tmp_path / "exponential"
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-Wno-psabi", f"-I{source.parents[2]}/csrc"]
    subprocess.run(["g++", *flags, str(source), "-o", str(program)], check=True)
    assert subprocess.run([str(program)], check=False).returncode == 0


# -- the same bytes everywhere ---------------------------------------------------------------------


def everything() -> list[bytes]:
    """Return the results of kernels and solvers on inputs large enough to be split, as bytes."""
    return [*kernel_results(), *solved(), *trained()]


def kernel_results() -> list[bytes]:
    """Return the results of all kernels on inputs large enough to be split, as bytes."""
    n_masks, n_train, n_targets = 2100, 1100, 35
    packed = kernels.sample_masks(1, 0, 0, n_masks, n_train, 0x4CCCCCCD)
    weights, residuals = normal(n_train, n_targets), normal(n_masks, n_targets)
    logits, labels = 5 * normal(400, 129, 10), np.arange(129) % 10
    steps = exact_sums.to_fixed_point(residuals, residuals[0].astype(float), np.full(35, 2.0**-17))
    return [
        packed.tobytes(),
        *(part.tobytes() for part in kernels.mask_indices(packed, n_train)),
        kernels.correlate_masks(packed, 2, 1, 0, n_train, 3 << 30, 12345).tobytes(),
        kernels.random_words(kernels.sample_seeds(300, 5), 3, 0, 1001).tobytes(),
        kernels.packed_matmul(packed, weights).tobytes(),
        kernels.packed_matmul(packed, weights[:, :3]).tobytes(),
        kernels.packed_matmul_transposed(packed, residuals, n_train).tobytes(),
        kernels.packed_matmul_transposed(packed, residuals[:, :3], n_train, np.float64).tobytes(),
        *(kernels.margins(logits, labels, kind).tobytes() for kind in MARGIN_KINDS),
        exact_sums.gram(packed, n_train).tobytes(),
        steps.tobytes(),
        exact_sums.exact_matmul_transposed(packed, steps, n_train).tobytes(),
        *normalised(),
    ]


def normalised() -> list[bytes]:
    """Return what normalisation makes of images with channels for every width of register, as bytes."""
    x, scale, shift = normal(3, 9, 7, 27), normal(27), normal(27)
    mean, variance = normal(27), normal(27)
    by, spread = normalisation.take_moments(x, scale, shift, 1e-5, 0.1, mean, variance)
    y = normalisation.rectify(x, by, bypass=normal(*x.shape))
    halved = normalisation.rectify_halved(x, by)
    spread_out = normalisation.scatter_halved(x, by, normal(*halved.shape))
    back = x.copy(), np.empty_like(scale), np.empty_like(shift)
    normalisation.normalise_backward(back[0], by, spread, normal(*x.shape), *back[1:])
    made = (by, spread, mean, variance, y, halved, spread_out, *back)
    return [result.tobytes() for result in made]


def trained() -> list[bytes]:
    """Return small models, of sizes that fill no register, as bytes."""
    bits, labels = masks_of(3, 70), (np.arange(70) % 11).astype(np.int32)
    linear = trainers.LinearShape(21, 11)
    spectrum = linear.flat(np.full((21, 1), 70, np.float32), np.float32(70))
    problem = trainers.SoftmaxProblem(
        linear,
        linear.rows(normal(70, 21)),
        labels,
        spectrum,
        spectrum / 70,
        1e-4,
        0.25,
        1.5,
        0.9,
        9,
    )
    chosen = reference.unpack(bits, 70)
    fitted = trainers.fit_softmax_regressions(
        problem, chosen, 0 * linear.flat(normal(3, 21, 11), 0)
    )
    network = trainers.NetworkShape(22, 67, 11)
    rates = np.linspace(0.2, 0.0, 5, dtype=np.float32)
    steps = trainers.NetworkProblem(network, normal(70, 22), labels, rates, 0.9, 0.01)
    batches = np.random.default_rng(0).integers(0, 70, (3, 5, 19), dtype=np.int32)
    weights = network.flat(0.1 * normal(3, 21, 67), 0.1 * normal(3, 11, 67))
    networks = trainers.train_networks(steps, batches, weights)
    return [
        fitted.tobytes(),
        trainers.linear_logits(linear, linear.turned(normal(45, 21)), 45, fitted).tobytes(),
        networks.tobytes(),
        trainers.network_logits(network, normal(45, 22), networks).tobytes(),
    ]


def solved() -> list[bytes]:
    """Return what the solvers find for sparse and dense solutions, as bytes."""
    rows, outputs = normal(400, 150), normal(400, 37)
    gram, cross = (rows.T @ rows / 400).astype(np.float32), (outputs.T @ rows / 400)
    cross, square = cross.astype(np.float32), np.square(outputs.astype(float)).mean(axis=0)
    lambdas = np.abs(cross).max(axis=1).astype(float)[:, np.newaxis] * np.geomspace(1, 0.003, 20)
    paths = solvers.lasso_paths(gram, cross, square, lambdas, whole=True)
    assert (paths.weights[:, 1] != 0).mean() < 0.1
    assert (paths.weights[:, -1] != 0).mean() > 0.8
    variances = np.tile(np.float32([0, 0.01, 0.1]), (37, 1))
    fits = solvers.fit_mixtures(gram, cross, square, 400, variances, max_sweeps=20)
    return [result.tobytes() for result in (*paths, *fits)]


@pytest.fixture(scope="module")
def expected_bytes() -> list[bytes]:
    kernels.set_num_threads(1)
    try:
        return everything()
    finally:
        kernels.set_num_threads(os.cpu_count() or 1)


def test_results_do_not_depend_on_the_number_of_threads(
    expected_bytes: list[bytes], n_threads: int
) -> None:
    assert kernels.get_num_threads() == n_threads
    assert everything() == expected_bytes


def module_of_level(folder: Path, level: str) -> ModuleType:
    """Compile the extension for another set of instruction-set levels (csrc/simd.hpp)."""
    import pybind11

    path = folder / f"_cpu{sysconfig.get_config_var('EXT_SUFFIX')}"
    csrc = Path(__file__).parents[1] / "csrc"
    sources = [csrc / f"bind_{name}.cpp" for name in ("cpu", "normalise", "solvers", "trainers")]
    includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-ffp-contract=off", f"-D{level}"]
    command = ["g++", *flags, "-Wno-psabi", *includes, *map(str, sources), "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    spec = importlib.util.spec_from_file_location("_cpu", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
@pytest.mark.parametrize(("level", "most"), [("PYATTR_NO_CLONES", 0), ("PYATTR_AVX2", 1)])
def test_results_do_not_depend_on_the_instruction_set(
    expected_bytes: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    level: str,
    most: int,
) -> None:
    pytest.importorskip("pybind11")
    other = module_of_level(tmp_path, level)
    assert other.__file__ != _cpu.__file__
    assert other.fastest_gram_kernel() <= most
    for module in (backends, kernels, normalisation, solvers, trainers):
        monkeypatch.setattr(module, "cpu", other)
    assert everything() == expected_bytes


# -- arguments -------------------------------------------------------------------------------------


def test_memory_order_and_float_width_are_converted(backend: str) -> None:
    packed, weights, residuals = masks_of(40, 100), normal(100, 6), normal(40, 6)
    expected = kernels.packed_matmul(packed, weights)
    for w in (np.asfortranarray(weights), weights.astype(float), np.repeat(weights, 2, 0)[::2]):
        for x in (np.asfortranarray(packed), np.repeat(packed, 2, 0)[::2]):
            assert np.array_equal(kernels.packed_matmul(x, w), expected)
    expected = kernels.packed_matmul_transposed(packed, residuals, 100)
    got = kernels.packed_matmul_transposed(packed, np.asfortranarray(residuals), 100)
    assert np.array_equal(got, expected)
    logits, labels = normal(5, 4, 3), np.array([0, 2, 1, 1])
    expected = kernels.margins(logits, labels)
    assert np.array_equal(kernels.margins(np.asfortranarray(logits), labels), expected)
    assert np.array_equal(kernels.margins(logits.astype(float), labels.astype(np.uint8)), expected)


def test_numbers_that_begin_at_any_byte_are_copied_for_the_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def astray(array: np.ndarray) -> np.ndarray:  # as read from the middle of a message
        found = np.frombuffer(b"\0" + array.tobytes(), array.dtype, offset=1).reshape(array.shape)
        assert not found.flags.aligned
        return found

    taken: list[np.ndarray] = []

    class Watched:
        def __getattr__(self, name: str) -> Callable[..., object]:
            def call(*arguments: object) -> object:
                taken.extend(a for a in arguments if isinstance(a, np.ndarray))
                return getattr(_cpu, name)(*arguments)

            return call

    for module in (backends, kernels):
        monkeypatch.setattr(module, "cpu", Watched())
    logits, labels, weights = normal(40, 3), np.arange(40) % 3, normal(100, 6)
    for z in (logits, logits.astype(np.float16)):
        expected = kernels.margins(z, labels)
        assert np.array_equal(kernels.margins(astray(z), astray(labels)), expected)
    expected = kernels.packed_matmul(masks_of(4, 100), weights)
    assert np.array_equal(kernels.packed_matmul(masks_of(4, 100), astray(weights)), expected)
    seeds = kernels.sample_seeds(3, 5)
    expected = kernels.random_words(seeds, 3, 0, 9)
    assert np.array_equal(kernels.random_words(astray(seeds), 3, 0, 9), expected)
    assert len(taken) > 20
    assert all(array.flags.aligned for array in taken)


@pytest.mark.parametrize(
    "call",
    [
        lambda: kernels.packed_matmul(masks_of(4, 100), np.ones((100, 2), int)),
        lambda: kernels.packed_matmul(masks_of(4, 100), np.ones((100, 2), complex)),
        lambda: kernels.packed_matmul(masks_of(4, 100), np.full((100, 2), np.nan, np.float32)),
        lambda: kernels.packed_matmul(masks_of(4, 100), np.full((100, 2), 1e39)),
        lambda: kernels.packed_matmul(masks_of(4, 100), normal(64, 2)),
        lambda: kernels.packed_matmul(masks_of(4, 100), normal(100)),
        lambda: kernels.packed_matmul(masks_of(4, 100).astype(np.int64), normal(100, 2)),
        lambda: kernels.packed_matmul(masks_of(4, 100)[0], normal(100, 2)),
        lambda: kernels.packed_matmul_transposed(masks_of(4, 100), normal(5, 2), 100),
        lambda: kernels.packed_matmul_transposed(masks_of(4, 100), normal(4, 2), 129),
        lambda: kernels.packed_matmul_transposed(masks_of(4, 100), normal(4, 2), 100, np.float16),
        lambda: kernels.margins(normal(4, 3), [0, 1, 2, 3]),
        lambda: kernels.margins(normal(4, 3), [0, 1, 2, -1]),
        lambda: kernels.margins(normal(4, 3), [0, 1, 2]),
        lambda: kernels.margins(normal(4, 3), [0.0, 1.0, 2.0, 0.0]),
        lambda: kernels.margins(normal(4, 1), [0, 0, 0, 0]),
        lambda: kernels.margins(normal(4, 3), [0, 1, 2, 0], "other"),
        lambda: kernels.margins(np.ones((4, 3), int), [0, 1, 2, 0]),
        lambda: kernels.sample_masks(1 << 64, 0, 0, 1, 10, 1),
        lambda: kernels.sample_masks(-1, 0, 0, 1, 10, 1),
        lambda: kernels.sample_masks(0, 0, 1 << 32, 1, 10, 1),
        lambda: kernels.sample_masks(0, 0, 0, 1, 0, 1),
        lambda: kernels.sample_masks(0, 0, 0, 1, 10, (1 << 32) + 1),
        lambda: kernels.correlate_masks(masks_of(4, 100), 0, 0, 0, 200, 1, 1),
        lambda: kernels.random_words(np.arange(3), 0, 0, 4),
        lambda: kernels.random_words(np.arange(3, dtype=np.uint64), 1 << 32, 0, 4),
        lambda: kernels.philox4x32(np.zeros((3, 4), np.uint32), np.zeros((2, 2), np.uint32)),
        lambda: kernels.set_num_threads(0),
        lambda: kernels.use_backend("gpu").__enter__(),
    ],
)
def test_wrong_arguments_are_refused(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="expected"):
        call()


def test_the_compiled_module_never_misreads_an_array() -> None:
    packed, weights = masks_of(4, 100), normal(100, 6)
    out = np.empty((4, 6), np.float32)
    _cpu.packed_matmul(packed, weights, out, 0, 4, 0, 6)
    for bad in (np.asfortranarray(weights), weights.astype(float), weights[::2]):
        with pytest.raises((TypeError, ValueError)):
            _cpu.packed_matmul(packed, bad, out, 0, 4, 0, 6)
    read_only = out.copy()
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        _cpu.packed_matmul(packed, weights, read_only, 0, 4, 0, 6)
    for at in [(0, 5, 0, 6), (3, 2, 0, 6), (0, 4, 0, 7)]:
        with pytest.raises(ValueError, match="range"):
            _cpu.packed_matmul(packed, weights, out, *at)
    # A range looks at its own labels, wherever it begins.
    labels, margin = np.array([0, 1, 3]), np.empty(5, np.float32)
    _cpu.margins(normal(5, 3), labels, 0, margin, 0, 2)
    for at in [(0, 5), (1, 3), (2, 4), (4, 5)]:
        bad = labels[::-1].copy() if at == (4, 5) else labels
        bad[1] = -1 if at == (4, 5) else 1
        with pytest.raises(ValueError, match="labels"):
            _cpu.margins(normal(5, 3), bad, 0, margin, *at)


def test_a_wrong_label_is_named_whichever_thread_meets_it(backend: str, n_threads: int) -> None:
    for at in (0, 29_999):
        labels = np.zeros(30_000, np.int64)
        for wrong in (-1, 10):
            labels[at] = wrong
            for n_rows in (30_000, 0):
                logits = np.zeros((n_rows // 30_000, 30_000, 10), np.float32)
                span = rf"got {min(wrong, 0)} to {max(wrong, 0)}"
                with pytest.raises(ValueError, match=rf"labels: .*\[0, 10\).*{span}"):
                    kernels.margins(logits, labels)


def test_empty_inputs_give_empty_results(backend: str) -> None:
    assert kernels.sample_masks(0, 0, 0, 0, 10, 1 << 31).shape == (0, 8)
    assert kernels.packed_matmul(masks_of(0, 10), normal(10, 3)).shape == (0, 3)
    assert kernels.packed_matmul(masks_of(3, 10), normal(10, 0)).shape == (3, 0)
    empty = kernels.packed_matmul_transposed(masks_of(0, 10), normal(0, 3), 10)
    assert np.array_equal(empty, np.zeros((10, 3)))
    assert kernels.margins(normal(0, 4, 3), [0, 1, 2, 0]).shape == (0, 4)
    assert kernels.margins(normal(2, 0, 3), np.zeros(0, int)).shape == (2, 0)
    assert kernels.sample_seeds(0, 1).shape == (0,)
