"""Exact sums against their definitions: equal, on every backend and instruction set."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pyattr import _cpu, exact_sums, kernels, reference
from pyattr.reference import FIXED_POINT_LIMIT, Stream

SIZES = [1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 97, 127, 128, 129, 1000]
PANEL_EDGES = [255, 256, 257, 2047, 2048, 2049, 5000]


def masks_of(n_masks: int, n_train: int, threshold: int = 1 << 31) -> np.ndarray:
    return reference.sample_masks(1, Stream.MASKS, 0, n_masks, n_train, threshold)


def whole(*shape: int, limit: int = FIXED_POINT_LIMIT) -> np.ndarray:
    return np.random.default_rng(0).integers(1 - limit, limit, shape).astype(np.int32)


def plain_gram(packed: np.ndarray, n_train: int) -> np.ndarray:
    """Float64 products of whole numbers below 2^53: exact, and fast enough for many sizes."""
    masks = reference.unpack(packed, n_train).astype(float)
    return (masks.T @ masks).astype(np.int32)


@pytest.fixture(params=range(_cpu.fastest_gram_kernel() + 1))
def gram_kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Every kernel that this processor has, by its number in csrc/gram.hpp."""
    monkeypatch.setattr(_cpu, "fastest_gram_kernel", lambda: request.param)
    return int(request.param)


# -- gram ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_train", SIZES)
def test_gram_of_any_number_of_examples(n_train: int, gram_kernel: int) -> None:
    packed = masks_of(300, n_train)
    got = exact_sums.gram(packed, n_train)
    assert got.dtype == np.int32
    assert np.array_equal(got, reference.gram(packed, n_train))


@pytest.mark.parametrize("n_masks", [0, *SIZES, *PANEL_EDGES])
def test_gram_of_any_number_of_masks(n_masks: int, gram_kernel: int) -> None:
    packed = masks_of(n_masks, 130, 0x4CCCCCCD)
    assert np.array_equal(exact_sums.gram(packed, 130), plain_gram(packed, 130))


@pytest.mark.parametrize("n_masks", [0, *SIZES])
@pytest.mark.parametrize("n_train", [1, 64, 130, 257])
def test_intersections_are_the_gram_of_the_other_side(
    n_masks: int, n_train: int, gram_kernel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_sums, "_GRAM_ROWS", 512)  # panels whose seams are crossed
    packed = masks_of(n_masks, n_train, 0x4CCCCCCD)
    got = exact_sums.intersections(packed, n_train)
    assert got.dtype == np.int32
    assert np.array_equal(got, reference.intersections(packed, n_train))
    masks = reference.unpack(packed, n_train).astype(int)
    assert np.array_equal(got, masks @ masks.T)
    assert np.array_equal(exact_sums.column_counts(packed, n_train), masks.sum(axis=0))


def test_intersections_on_every_backend(backend: str, n_threads: int) -> None:
    packed = masks_of(300, 97)
    expected = reference.intersections(packed, 97)
    assert np.array_equal(exact_sums.intersections(packed, 97), expected)


@pytest.mark.parametrize(("n_masks", "n_train"), [(300, 1000), (8200, 4000)])
def test_masks_are_turned_alike_past_the_caches(n_masks: int, n_train: int) -> None:
    """Tiles that begin with a cache line may be written past the caches; others never are."""
    packed = masks_of(n_masks, n_train)
    n_tiles, n_blocks = -(-n_train // 64), 8 * -(-n_masks // 256)
    bits = np.zeros((32 * n_blocks, 64 * n_tiles), np.uint32)
    bits[:n_masks, :n_train] = reference.unpack(packed, n_train)
    words = np.bitwise_or.reduce(
        bits.reshape(n_blocks, 32, -1) << np.arange(32, dtype=np.uint32)[:, None], axis=1
    )
    expected = words.reshape(n_blocks, n_tiles, 64).transpose(1, 0, 2)
    aligned, room = (
        exact_sums._at_line(n_tiles, n_blocks),
        exact_sums._at_line(n_tiles + 1, n_blocks),
    )
    assert aligned.ctypes.data % 64 == 0
    beside = room.ravel()[1 : 1 + aligned.size].reshape(aligned.shape)
    for turned in (aligned, beside):
        for cuts in ([0, n_tiles], [0, 8, n_tiles]):  # the whole; part by part
            turned[:] = 7
            for begin, end in itertools.pairwise(cuts):
                _cpu.turn_masks(packed, n_train, turned, begin, end)
            assert np.array_equal(turned, expected)


def test_gram_where_every_counter_is_full(gram_kernel: int) -> None:
    # All ones: each byte of a panel of 2,048 masks reaches its largest value.
    packed = masks_of(4097, 70, 1 << 32)
    assert (exact_sums.gram(packed, 70) == 4097).all()


def test_gram_adds_to_out(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_sums, "_GRAM_ROWS", 256)
    packed = masks_of(1000, 97)
    total = exact_sums.gram(packed[:300], 97)
    assert exact_sums.gram(packed[300:], 97, out=total) is total
    assert np.array_equal(total, plain_gram(packed, 97))


def test_gram_does_not_depend_on_the_number_of_threads(n_threads: int, gram_kernel: int) -> None:
    assert kernels.get_num_threads() == n_threads
    packed = masks_of(700, 1100)
    assert np.array_equal(exact_sums.gram(packed, 1100), plain_gram(packed, 1100))


# -- fixed point -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (1000, 17), (0, 4), (5, 0)])
def test_to_fixed_point_is_the_reference(dtype: type, shape: tuple[int, int]) -> None:
    outputs = (3 + np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    centre, step = np.linspace(2, 4, shape[1]), np.ldexp(1.0, -np.arange(shape[1]))
    got = exact_sums.to_fixed_point(outputs, centre, step)
    assert got.dtype == np.int32
    assert np.array_equal(got, reference.to_fixed_point(outputs, centre, step)[0])
    assert (np.abs(got * step + centre - outputs) <= step / 2 + 1e-15).all()


@pytest.mark.parametrize("step", [2.0**-1020, 2.0**-20, 1.0, 2.0**1000])
def test_fixed_point_rounds_to_even_and_ends_at_its_limit(backend: str, step: float) -> None:
    inside = np.array([-2097151, -2.5, -1.5, -0.5, -0.0, 0.5, 1.5, 2.5, 2097151, 2097151.25])
    at = (np.zeros(1), np.array([step]))
    got = exact_sums.to_fixed_point(inside[:, None] * step, *at)[:, 0]
    assert got.tolist() == [-2097151, -2, -2, 0, 0, 0, 2, 2, 2097151, 2097151]
    for outside in (2097151.5, -2097151.5, 2.0**23):
        with pytest.raises(ValueError, match=r"outputs: expected values of target 0 within"):
            exact_sums.to_fixed_point(np.array([[0.0], [outside * step]]), *at)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_not_finite_outputs_are_refused_by_target(
    backend: str, n_threads: int, bad: float, dtype: type
) -> None:
    outputs = np.zeros((40_000, 5), dtype)
    outputs[39_999, 2] = outputs[3, 4] = bad
    with pytest.raises(ValueError, match=r"finite numbers, got NaN or infinity for target 2"):
        exact_sums.to_fixed_point(outputs, np.zeros(5), np.ones(5))


# -- products --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_masks", [0, *SIZES, 1023, 1024, 1025, 2049])
def test_exact_product_of_any_number_of_masks(n_masks: int) -> None:
    for n_train, n_targets in [(1, 1), (97, 5), (520, 17)]:
        packed, values = masks_of(n_masks, n_train), whole(n_masks, n_targets)
        got = exact_sums.exact_matmul_transposed(packed, values, n_train)
        assert got.dtype == np.int64
        assert np.array_equal(got, reference.exact_matmul_transposed(packed, values, n_train))


@pytest.mark.parametrize("n_targets", [0, 1, 3, 4, 5, 8, 9, 15, 16, 17, 33, 129])
def test_exact_product_of_any_number_of_targets(n_targets: int, n_threads: int) -> None:
    packed, values = masks_of(300, 2200), whole(300, n_targets)
    got = exact_sums.exact_matmul_transposed(packed, values, 2200)
    assert np.array_equal(got, reference.exact_matmul_transposed(packed, values, 2200))


@pytest.mark.parametrize("sign", [1, -1])
def test_exact_product_where_every_panel_is_full(backend: str, sign: int) -> None:
    # 1,024 times the largest value is 2^31 - 1,024; one more row would not fit int32.
    largest = sign * (FIXED_POINT_LIMIT - 1)
    for n_targets in (1, 5, 16):
        values = np.full((3000, n_targets), largest, np.int32)
        got = exact_sums.exact_matmul_transposed(masks_of(3000, 65, 1 << 32), values, 65)
        assert (got == 3000 * largest).all()


def test_exact_product_adds_to_out(backend: str) -> None:
    packed, values = masks_of(1500, 97), whole(1500, 6)
    total = exact_sums.exact_matmul_transposed(packed[:700], values[:700], 97)
    exact_sums.exact_matmul_transposed(packed[700:], values[700:], 97, out=total)
    assert np.array_equal(total, reference.exact_matmul_transposed(packed, values, 97))


# -- arguments -------------------------------------------------------------------------------------

FROZEN = np.zeros((100, 100), np.int32)
FROZEN.flags.writeable = False


@pytest.mark.parametrize(
    "call",
    [
        lambda: exact_sums.gram(masks_of(4, 100), 200),
        lambda: exact_sums.gram(masks_of(4, 100), 0),
        lambda: exact_sums.gram(masks_of(4, 100), 100, out=np.zeros((100, 100))),
        lambda: exact_sums.gram(masks_of(4, 100), 100, out=np.zeros((99, 99), np.int32)),
        lambda: exact_sums.gram(masks_of(4, 100), 100, out=FROZEN),
        lambda: exact_sums.exact_matmul_transposed(masks_of(4, 100), whole(5, 2), 100),
        lambda: exact_sums.exact_matmul_transposed(masks_of(4, 100), np.ones((4, 2)), 100),
        lambda: exact_sums.exact_matmul_transposed(
            masks_of(4, 100), np.full((4, 1), FIXED_POINT_LIMIT, np.int32), 100
        ),
        lambda: exact_sums.exact_matmul_transposed(
            masks_of(4, 100), np.full((4, 1), -(1 << 31), np.int32), 100
        ),
        lambda: exact_sums.exact_matmul_transposed(
            masks_of(4, 100), whole(4, 2), 100, out=np.zeros((2, 100), np.int64).T
        ),
        lambda: exact_sums.to_fixed_point(np.zeros(4), np.zeros(1), np.ones(1)),
        lambda: exact_sums.to_fixed_point(np.zeros((4, 2), np.int32), np.zeros(2), np.ones(2)),
        lambda: exact_sums.to_fixed_point(np.zeros((4, 2)), np.zeros(1), np.ones(2)),
        lambda: exact_sums.to_fixed_point(np.zeros((4, 2)), np.full(2, np.nan), np.ones(2)),
        lambda: exact_sums.to_fixed_point(np.zeros((4, 2)), np.zeros(2), np.full(2, 3.0)),
        lambda: exact_sums.to_fixed_point(np.zeros((4, 2)), np.zeros(2), np.full(2, -1.0)),
        lambda: exact_sums.to_fixed_point(np.zeros((4, 2)), np.zeros(2), np.full(2, 2.0**-1021)),
    ],
)
def test_wrong_arguments_are_refused(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="expected"):
        call()


def test_the_compiled_gram_checks_its_arguments() -> None:
    packed, turned = masks_of(4, 100), np.zeros((2, 8, 64), np.uint32)
    out = np.zeros((100, 100), np.int32)
    _cpu.turn_masks(packed, 100, turned, 0, 2)
    _cpu.gram(turned, 0, out, 0, 2)
    assert np.array_equal(out, reference.gram(packed, 100))
    with pytest.raises(ValueError, match="turned"):
        _cpu.turn_masks(packed, 100, np.zeros((2, 9, 64), np.uint32), 0, 2)
    with pytest.raises(ValueError, match="range"):
        _cpu.gram(turned, 0, out, 0, 3)
    with pytest.raises(ValueError, match="turned"):
        _cpu.gram(turned, 0, np.zeros((129, 129), np.int32), 0, 2)
    for kernel in (-1, _cpu.fastest_gram_kernel() + 1):
        with pytest.raises(ValueError, match="kernel"):
            _cpu.gram(turned, kernel, out, 0, 2)


@pytest.mark.parametrize("n_blocks", [2040, 2048, 4096])
def test_counts_beyond_16_bits(n_blocks: int, gram_kernel: int) -> None:
    """More masks than `gram` passes at a time; every count is all of them, or twice as many."""
    turned = np.full((2, n_blocks, 64), 0xFFFFFFFF, np.uint32)
    out = np.full((65, 65), 7, np.int32)  # what was there before is not read ...
    _cpu.first_gram(turned, gram_kernel, out, 0, 2)
    assert (out == 32 * n_blocks).all()
    _cpu.gram(turned, gram_kernel, out, 0, 2)  # ... unless it is to be added to
    assert (out == 64 * n_blocks).all()
