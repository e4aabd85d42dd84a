from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import save

from pyattr import reference
from pyattr.attribution import memory
from pyattr.attribution.fixed_point import FixedPointScale
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.attribution.statistics_file import METADATA
from pyattr.masks import sample_masks

FIELDS = ("counts", "cross_steps", "total_steps", "square_steps")
OPTIONAL = ("pair_square_steps", "cross_square_steps")


def outputs_of(n_masks: int, n_targets: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 5.0 + rng.normal(size=(n_masks, n_targets)) * np.logspace(-3, 3, n_targets)


def assert_equal(one: SufficientStatistics, other: SufficientStatistics) -> None:
    assert one.n_masks == other.n_masks
    assert one.scale == other.scale
    for name in FIELDS:
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b), name
    for name in OPTIONAL:
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None)
        assert a is None or np.array_equal(a, b), name


@pytest.fixture(scope="module")
def sample():
    masks, outputs = sample_masks(1500, 97, p=0.4, seed=1), outputs_of(1500, 5)
    return masks, outputs, SufficientStatistics.of(masks, outputs)


def test_sums_are_those_of_the_whole_numbers(sample, backend, n_threads):
    masks, outputs, expected = sample
    got = SufficientStatistics.of(masks, outputs)
    assert_equal(got, expected)
    x, scale = masks.unpack().astype(np.int64), expected.scale
    q = reference.to_fixed_point(outputs, scale.centre, scale.step)[0].astype(np.int64)
    assert np.array_equal(got.counts, x.T @ x)
    assert np.array_equal(got.cross_steps, x.T @ q)
    assert np.array_equal(got.total_steps, q.sum(axis=0))
    assert np.array_equal(got.square_steps, (q * q).sum(axis=0))
    free = SufficientStatistics.of(masks, outputs, gram=False)
    assert np.array_equal(free.counts, np.diagonal(got.counts))
    assert np.array_equal(free.cross_steps, got.cross_steps)
    assert np.array_equal(free.column_counts, got.column_counts)


def test_order_blocks_and_shards_change_nothing(sample):
    masks, outputs, expected = sample
    order = np.random.default_rng(0).permutation(len(outputs))
    assert_equal(SufficientStatistics.of(masks[order], outputs[order]), expected)
    for block_rows in (1, 7, 64, 1000, 10**6):
        assert_equal(SufficientStatistics.of(masks, outputs, block_rows=block_rows), expected)
    parts = [
        SufficientStatistics.of(masks[rows], outputs[rows], scale=expected.scale)
        for rows in (order[:1], order[1:700], order[700:700], order[700:])
    ]
    assert_equal(parts[3] + parts[1] + parts[2] + parts[0], expected)
    assert_equal(expected - parts[3], parts[0] + parts[1])
    assert (expected - expected).n_masks == 0


@pytest.mark.parametrize("options", [{"gram": False}, {"squares": True}, {"design": "complement"}])
def test_chunks_give_the_sums_of_the_whole(options):
    design = options.get("design", "iid")
    masks, outputs = sample_masks(1500, 97, seed=1, design=design), outputs_of(1500, 5)
    expected = SufficientStatistics.of(masks, outputs, **options)
    edges = [0, 2, 2, 700, 1500] if design == "iid" else [0, 2, 700, 1500]
    chunks = ((masks[a:b], outputs[a:b]) for a, b in itertools.pairwise(edges))
    bounds = [outputs.min(axis=0), outputs.max(axis=0)]
    assert FixedPointScale.of(bounds) == expected.scale
    assert_equal(SufficientStatistics.of_chunks(chunks, expected.scale, **options), expected)
    half = [slice(0, 700), slice(700, 1500)]
    one, other = (
        SufficientStatistics.of(masks[r], outputs[r], scale=expected.scale, **options) for r in half
    )
    assert_equal(one + other, expected)
    assert_equal(expected - one, other)


def test_chunks_need_the_memory_of_one():
    n_train, n_targets, n_rows, n_chunks = 64, 50, 20_000, 6
    scale = FixedPointScale.of([[-6.0] * n_targets, [6.0] * n_targets])

    def chunks():
        for k in range(n_chunks):
            rng = np.random.default_rng(k)
            outputs = rng.standard_normal((n_rows, n_targets), np.float32)
            yield sample_masks(n_rows, n_train, seed=k), outputs

    tracemalloc.start()
    try:
        got = SufficientStatistics.of_chunks(chunks(), scale)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got.n_masks == n_rows * n_chunks
    one = 4 * n_rows * n_targets
    # A chunk, the one before it and the chunk in fixed point; all outputs would be 6 chunks.
    assert peak < 4.5 * one


def test_chunks_that_do_not_belong_together_are_refused(sample):
    masks, outputs, expected = sample
    scale = expected.scale
    with pytest.raises(ValueError, match="at least one"):
        SufficientStatistics.of_chunks([], scale)
    for bad in (
        (masks[:5], outputs[:4]),
        (masks[:5], outputs[:5, :2]),
        (sample_masks(5, 96), outputs[:5]),
    ):
        with pytest.raises(ValueError, match="chunks: expected 97 examples"):
            SufficientStatistics.of_chunks([(masks[:9], outputs[:9]), bad], scale)
    with pytest.raises(ValueError, match="pair 0 not"):
        SufficientStatistics.of_chunks([(masks[:4], outputs[:4])], scale, design="complement")
    with pytest.raises(ValueError, match="memory"):
        SufficientStatistics.of_chunks([(masks, outputs)], scale, memory_limit=1000)


def test_outputs_on_disk(sample, tmp_path):
    masks, outputs, expected = sample
    np.save(tmp_path / "outputs.npy", outputs)
    on_disk = np.load(tmp_path / "outputs.npy", mmap_mode="r")
    assert_equal(SufficientStatistics.of(masks, on_disk, block_rows=100), expected)


def test_float32_outputs_are_those_numbers(sample):
    masks, outputs, _ = sample
    single = outputs.astype(np.float32)
    assert_equal(
        SufficientStatistics.of(masks, single),
        SufficientStatistics.of(masks, single.astype(np.float64)),
    )


def test_rounding_is_within_its_bound(sample):
    masks, outputs, got = sample
    half_range = np.ptp(outputs, axis=0) / 2
    assert (got.scale.step <= half_range * 2.0**-19).all()
    assert (got.scale.step > half_range * 2.0**-20).all()
    rounded = got.scale.centre + got.scale.step * got.scale.steps(outputs)
    error = np.abs(rounded - outputs)
    assert (error <= got.scale.step / 2 * (1 + 1e-9)).all()
    assert (error <= half_range * 2.0**-20 * (1 + 1e-9)).all()
    # The sums: the worst case is n half steps; independent errors give sqrt(n / 12) of them, and
    # 8 times that is passed with probability below 1e-14 for each of 485 sums.
    exact = masks.unpack().T.astype(float) @ (outputs - got.scale.centre)
    assert (np.abs(got.cross - exact) <= 8 * np.sqrt(1500 / 12) * got.scale.step).all()
    assert (np.abs(got.cross - exact) > 0).any()


def test_centred_sums_equal_the_dense_ones(sample):
    masks, outputs, got = sample
    x, y = masks.unpack().astype(np.float64), outputs.astype(np.float64)
    spread = y.std(axis=0)
    np.testing.assert_allclose(got.mean / spread, y.mean(axis=0) / spread, atol=1e-6)
    np.testing.assert_allclose(got.mean_row, x.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(got.total, (y - got.scale.centre).sum(axis=0), atol=1e-1, rtol=1e-5)
    rows, values = x - x.mean(axis=0), y - y.mean(axis=0)
    np.testing.assert_allclose(got.centred_gram(), rows.T @ rows, rtol=0, atol=1e-11)
    assert got.centred_gram(dtype=np.float32).dtype == np.float32
    cross = got.centred_cross() / spread
    np.testing.assert_allclose(cross, rows.T @ values / spread, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(
        got.centred_cross(targets=slice(1, 3)) / spread[1:3], cross[:, 1:3]
    )
    np.testing.assert_allclose(got.centred_square, np.square(values).sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(got.square, np.square(y - got.scale.centre).sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e300, 1e-310, 7])
def test_constant_targets_have_no_variance(value):
    masks = sample_masks(1000, 9, seed=1)
    got = SufficientStatistics.of(masks, np.full((1000, 1), value))
    np.testing.assert_array_equal(got.centred_square, 0)
    np.testing.assert_array_equal(got.centred_cross(), 0)
    np.testing.assert_allclose(got.mean, value)


def test_constant_examples_have_no_variance():
    bits = np.random.default_rng(0).random((50, 3)) < 0.5
    bits[:, 0], bits[:, 2] = True, False
    masks = type(sample_masks(1, 1)).pack(bits)
    got = SufficientStatistics.of(masks, outputs_of(50, 2))
    np.testing.assert_array_equal(got.centred_gram()[[0, 2]], 0)
    np.testing.assert_array_equal(got.centred_cross()[[0, 2]], 0)


@pytest.mark.parametrize(("n_masks", "n_train", "n_targets"), [(1, 1, 1), (2, 65, 0), (3, 1, 4)])
def test_smallest_sizes(n_masks, n_train, n_targets):
    masks, outputs = sample_masks(n_masks, n_train, seed=1), outputs_of(n_masks, n_targets)
    got = SufficientStatistics.of(masks, outputs)
    assert got.centred_gram().shape == (n_train, n_train)
    assert got.centred_cross().shape == (n_train, n_targets)
    assert got.centred_square.shape == got.mean.shape == (n_targets,)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_any_magnitude(scale):
    masks, outputs = sample_masks(200, 5, seed=1), outputs_of(200, 2)
    expected = SufficientStatistics.of(masks, outputs).cross
    got = SufficientStatistics.of(masks, scale * outputs).cross
    np.testing.assert_allclose(got / scale, expected, rtol=1e-3)


def test_extremes_of_the_scale():
    largest = np.finfo(np.float64).max
    got = FixedPointScale.of([[largest], [-largest]])
    assert got.steps(np.array([[largest], [-largest], [0.0]])).ravel().tolist() == [
        1 << 20, -(1 << 20), 0
    ]  # fmt: skip
    assert FixedPointScale.of([[0.0], [1e-310]]).step[0] == 2.0**-1020
    assert FixedPointScale.of([[1.0], [3.0]]) == FixedPointScale.of([[3.0], [2.0], [1.0]])
    assert FixedPointScale.of([[1.0], [3.0]]) != FixedPointScale.of([[1.0], [3.5]])
    with pytest.raises(ValueError, match="at least one row"):
        FixedPointScale.of(np.zeros((0, 3)))


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("given_scale", [False, True])
def test_not_finite_outputs_are_refused_by_target(bad, given_scale, backend):
    masks, outputs = sample_masks(50, 9, seed=1), outputs_of(50, 4)
    scale = FixedPointScale.of(outputs) if given_scale else None
    outputs[17, 2] = outputs[3, 3] = bad
    with pytest.raises(ValueError, match="NaN or infinity for target 2"):
        SufficientStatistics.of(masks, outputs, scale=scale)


def test_outputs_outside_the_scale_are_refused_by_target(backend):
    masks, outputs = sample_masks(50, 9, seed=1), outputs_of(50, 4)
    scale = FixedPointScale.of(outputs)
    half_range = np.ptp(outputs, axis=0) / 2
    SufficientStatistics.of(masks, scale.centre + 1.99 * half_range * np.ones((50, 1)), scale=scale)
    outputs[17, 1] += 10 * half_range[1]
    with pytest.raises(ValueError, match="values of target 1 within"):
        SufficientStatistics.of(masks, outputs, scale=scale)


def test_what_does_not_fit_is_refused_before_it_starts():
    masks, outputs = sample_masks(4, 3000), outputs_of(4, 2)
    with pytest.raises(
        ValueError, match=r"at most 0.03 GB, got 0.0\d+ GB .* 0.036 GB of it .*gram=False"
    ):
        SufficientStatistics.of(masks, outputs, memory_limit=30_000_000)
    free = SufficientStatistics.of(masks, outputs, memory_limit=30_000_000, gram=False)
    assert not free.has_gram
    with pytest.raises(ValueError, match="fewer targets"):
        SufficientStatistics.of(masks, outputs, memory_limit=10_000, gram=False)
    with pytest.raises(ValueError, match="gram=True"):
        free.centred_gram()


def test_available_memory_is_known_here():
    available = memory.available_memory()
    assert available is not None
    assert 1 << 20 < available < 1 << 50


def test_statistics_that_do_not_belong_together_are_refused(sample):
    masks, outputs, all_rows = sample
    other_scale = SufficientStatistics.of(masks, 3 * outputs)
    free = SufficientStatistics.of(masks, outputs, gram=False)
    fewer = SufficientStatistics.of(masks, outputs[:, :2])
    for other in (other_scale, free, fewer):
        with pytest.raises(ValueError, match="same examples, targets"):
            all_rows + other
    part = SufficientStatistics.of(masks[:10], outputs[:10], scale=all_rows.scale)
    with pytest.raises(ValueError, match="masks in all"):
        part - all_rows
    with pytest.raises(ValueError, match="some of the rows"):
        part - SufficientStatistics.of(masks[20:29], outputs[20:29], scale=all_rows.scale)
    with pytest.raises(TypeError):
        part + 1
    with pytest.raises(ValueError, match="1500 rows"):
        SufficientStatistics.of(masks, outputs[:-1])
    with pytest.raises(ValueError, match="block_rows"):
        SufficientStatistics.of(masks, outputs, block_rows=0)


def test_a_sum_of_squares_that_would_overflow_is_refused(sample):
    _, _, got = sample
    doubled = got
    while 2 * doubled.square_steps.max() < 1 << 62:
        doubled = doubled + doubled
    assert doubled.n_masks > 1 << 21  # rows at the extreme would have been refused before
    with pytest.raises(ValueError, match=r"below 2\^62 steps .* for target"):
        doubled + doubled


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"gram": False}, {"squares": True}, {"design": "complement"}]
)
def test_files_hold_everything(tmp_path, options):
    masks = sample_masks(150, 97, seed=1, design=options.get("design", "iid"))
    got = SufficientStatistics.of(masks, outputs_of(150, 5), **options)
    got.save(tmp_path / "s.safetensors")
    assert_equal(SufficientStatistics.load(tmp_path / "s.safetensors"), got)
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


def tensors(**changes):
    good = {
        "counts": np.array([[3, 1], [1, 2]], np.int32),
        "cross_steps": np.array([[5], [-4]]),
        "total_steps": np.array([2]),
        "square_steps": np.array([80]),
        "centre": np.array([0.5]),
        "step": np.array([0.25]),
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


GOOD = {**METADATA, "n_masks": "4"}
BAD_FILES = {
    "pairs that cannot meet": (tensors(counts=np.array([[3, 0], [0, 2]], np.int32)), GOOD),
    "a sum beyond its squares": (tensors(total_steps=np.array([18])), GOOD),
    "counts above n_masks": (tensors(), {**GOOD, "n_masks": "2"}),
    "n_masks too large": (tensors(), {**GOOD, "n_masks": "2147483648"}),
    "n_masks no number": (tensors(), {**GOOD, "n_masks": "+4"}),
    "n_masks with zeros": (tensors(), {**GOOD, "n_masks": "04"}),
    "no n_masks": (tensors(), METADATA),
    "other format": (tensors(), {**GOOD, "format": "pyattr-attribution"}),
    "later version": (tensors(), {**GOOD, "version": "2"}),
    "more metadata": (tensors(), {**GOOD, "note": ""}),
    "negative count": (tensors(counts=np.array([[3, -1], [-1, 2]], np.int32)), GOOD),
    "asymmetric": (tensors(counts=np.array([[3, 1], [2, 2]], np.int32)), GOOD),
    "pairs above singles": (tensors(counts=np.array([[3, 3], [3, 2]], np.int32)), GOOD),
    "int64 counts": (tensors(counts=np.array([[3, 1], [1, 2]])), GOOD),
    "cross too large": (tensors(cross_steps=np.array([[4 << 21], [0]])), GOOD),
    "total too large": (tensors(total_steps=np.array([-4 << 21])), GOOD),
    "negative square": (tensors(square_steps=np.array([-1])), GOOD),
    "square too large": (tensors(square_steps=np.array([1 << 62])), GOOD),
    "step no power of two": (tensors(step=np.array([0.3])), GOOD),
    "step 0": (tensors(step=np.array([0.0])), GOOD),
    "step NaN": (tensors(step=np.array([np.nan])), GOOD),
    "centre infinite": (tensors(centre=np.array([np.inf])), GOOD),
    "no step": (tensors(step=None), GOOD),
    "two targets once": (tensors(total_steps=np.array([1, 2])), GOOD),
    "one tensor more": (tensors(more=np.zeros(1)), GOOD),
    "pairs of odd masks": (tensors(pair_square_steps=np.array([0])), {**GOOD, "n_masks": "5"}),
    "pairs not balanced": (tensors(pair_square_steps=np.array([0])), GOOD),
    "pairs' squares too large": (
        tensors(pair_square_steps=np.array([162]), counts=np.array([[2, 1], [1, 2]], np.int32)),
        GOOD,
    ),
    "squares negative": (tensors(cross_square_steps=np.array([[1], [-1]])), GOOD),
    "squares too large": (tensors(cross_square_steps=np.array([[1], [81]])), GOOD),
    "squares of two targets": (tensors(cross_square_steps=np.zeros((2, 2), int)), GOOD),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused(tmp_path, name):
    path = tmp_path / "s.safetensors"
    path.write_bytes(save(*BAD_FILES[name]))
    with pytest.raises(ValueError, match="expected"):
        SufficientStatistics.load(path)


def test_the_good_twin_of_the_bad_files_is_read(tmp_path):
    path = tmp_path / "s.safetensors"
    path.write_bytes(save(tensors(), GOOD))
    assert SufficientStatistics.load(path).n_masks == 4
    counts = np.array([[2, 1], [1, 2]], np.int32)
    path.write_bytes(save(tensors(pair_square_steps=np.array([160]), counts=counts), GOOD))
    assert SufficientStatistics.load(path).design == "complement"
    path.write_bytes(save(tensors(cross_square_steps=np.array([[0], [80]])), GOOD))
    assert SufficientStatistics.load(path).design == "iid"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="safetensors"):
        SufficientStatistics.load(path)
