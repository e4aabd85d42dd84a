"""The solvers on CUDA against the CPU's, and arrays that stay on the device."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from conftest import has_gpu
from test_kernels import normal
from test_solvers import gap_of, path_to, problem

from pyattr import device, device_sums, exact_sums, kernels
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.masks import Masks, sample_masks
from pyattr.solvers import HeldOut, fit_mixtures, lasso_paths

pytestmark = pytest.mark.timeout(900)  # the first test waits for the module to be compiled
SIZES = [1, 2, 15, 17, 127, 128, 129, 300]


def widths(n_targets, n_components=4):
    variances = np.array([0.0, 0.001, 0.03, 1.0, 4.0], np.float32)[:n_components]
    return np.tile(variances, (n_targets, 1))


def assert_same_bits(got, expected):
    for name, one, other in zip(got._fields, got, expected, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


# -- scale mixtures --------------------------------------------------------------------------------


@pytest.mark.parametrize("n_train", SIZES)
@pytest.mark.parametrize("extra_rows", [0.0, 1.0])
def test_mixtures_have_the_bits_of_the_cpu(cuda, n_train, extra_rows):
    given = problem(n_train, n_targets=5)[2]
    for kept in (None, 1.0 - 0.7 * np.linspace(0.0, 1.0, 257), np.array([1.0, 0.5, 0.0])):
        at = {"kept": kept, "extra_rows": extra_rows, "max_sweeps": 60}
        expected = fit_mixtures(*given, 300, widths(5), **at)
        with kernels.use_backend("cuda"):
            assert_same_bits(fit_mixtures(*given, 300, widths(5), **at), expected)


def test_a_normal_prior_has_the_bits_of_the_cpu(cuda):
    given = problem(80, n_rows=400)[2]
    start, only = np.tile(np.float32([0, 0.05]), (5, 1)), np.tile(np.float32([0, 1]), (5, 1))
    at = {"proportions": only, "normal": True, "tolerance": 1e-9, "max_sweeps": 400}
    expected = fit_mixtures(*given, 400, start, **at)
    with kernels.use_backend("cuda"):
        assert_same_bits(fit_mixtures(*given, 400, start, **at), expected)


def test_columns_that_are_done_are_put_aside(cuda):
    # 130 targets in three tiles of columns; nearly constant ones converge at once.
    gram, cross, square = problem(140, n_targets=130, n_rows=200)[2]
    cross[5:100] *= np.float32(1e-3)
    cross[7], square[7] = 0, 0
    at = (gram, cross, square, 200, widths(130))
    expected = fit_mixtures(*at, max_sweeps=30)
    assert len(set(expected.sweeps.tolist())) > 10
    assert (expected.sweeps < 0).any()
    with kernels.use_backend("cuda"):
        assert_same_bits(fit_mixtures(*at, max_sweeps=30), expected)


def test_constant_columns_have_the_bits_of_the_cpu(cuda):
    gram, cross, square = problem(20)[2]
    gram[7], gram[:, 7], cross[:, 7] = 0, 0, 0
    expected = fit_mixtures(gram, cross, square, 300, widths(5))
    with kernels.use_backend("cuda"):
        assert_same_bits(fit_mixtures(gram, cross, square, 300, widths(5)), expected)


# -- LASSO -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_train", "ratio"), [(n, 0.1) for n in SIZES] + [(n, 0.003) for n in (1, 17, 129)]
)
def test_lasso_paths_reach_their_duality_gap(cuda, n_train, ratio):
    rows, values, given = problem(n_train, n_targets=3)
    lambdas = path_to(given[1], ratio, 6)
    on_cpu = lasso_paths(*given, lambdas, tolerance=1e-6, whole=True)
    with kernels.use_backend("cuda"):
        paths = lasso_paths(*given, lambdas, tolerance=1e-6, whole=True)
        last = lasso_paths(*given, lambdas, tolerance=1e-6)
    assert (paths.gaps <= 1e-6).all()
    assert (paths.n_done == 6).all()
    np.testing.assert_array_equal(last.weights, paths.weights[:, -1])
    for t, k in np.ndindex(lambdas.shape):
        lam = lambdas[t, k]
        gap, theirs = (
            gap_of(rows, values[:, t], weights[t, k].astype(float), lam)
            for weights in (paths.weights, on_cpu.weights)
        )
        assert gap <= 1e-6 + 2e-6  # the statement itself is about float32 moments
        assert theirs <= 1e-6 + 2e-6
        # A tenth away from the solution the gap is far above the bound.
        wrong = gap_of(rows, values[:, t], 0.9 * paths.weights[t, k].astype(float), lam)
        assert wrong > 1e-5 or not paths.weights[t, k].any()


def test_lasso_lambda_max_and_constant_columns(cuda):
    gram, cross, square = problem(40)[2]
    gram[7], gram[:, 7], cross[:, 7] = 0, 0, 0
    cross[2], square[2] = 0, 0
    largest = np.abs(cross).max(axis=1).astype(float)[:, np.newaxis]
    with kernels.use_backend("cuda"):
        assert (lasso_paths(gram, cross, square, largest).weights == 0).all()
        paths = lasso_paths(gram, cross, square, path_to(cross, 0.01))
    assert (paths.weights[:, 7] == 0).all()
    assert (paths.weights[2] == 0).all()
    assert not np.signbit(paths.weights[paths.weights == 0]).any()
    assert (paths.gaps <= 1e-4).all()


def test_held_out_errors_ends_of_paths_and_compaction(cuda):
    n_targets = 70
    gram, cross, square = problem(33, n_targets=n_targets, n_rows=60, noise=5.0)[2]
    rows, values, held = problem(33, n_targets=n_targets, n_rows=50, seed=5, noise=5.0)
    lambdas = path_to(cross, 0.03, 12)
    steps = np.full(n_targets, 12, np.int32)
    steps[:12] = np.arange(12)
    with kernels.use_backend("cuda"):
        whole = lasso_paths(gram, cross, square, lambdas, whole=True)
        at = {"held_out": HeldOut(*held, 3, 0.0), "n_steps": steps}
        paths = lasso_paths(gram, cross, square, lambdas, **at)
        part = slice(64, 65)
        alone = lasso_paths(
            gram, cross[part], square[part], lambdas[part],
            held_out=HeldOut(held[0], held[1][part].copy(), held[2][part], 3, 0.0),
        )  # fmt: skip
    for one, many in zip(alone, paths, strict=True):
        np.testing.assert_array_equal(one[0], many[64])
    assert (paths.n_done < steps).sum() > 20
    for t in range(n_targets):
        expected = np.square(values[:, t, np.newaxis] - rows @ whole.weights[t].T).mean(axis=0)
        done = paths.n_done[t]
        np.testing.assert_allclose(paths.errors[t, :done], expected[:done], rtol=2e-3)
        assert np.isnan(paths.errors[t, done:]).all()
        if done < steps[t]:
            assert done == paths.errors[t, :done].argmin() + 4
        if done:
            np.testing.assert_array_equal(paths.weights[t], whole.weights[t, done - 1])
        else:
            assert not paths.weights[t].any()


# -- arrays on the device --------------------------------------------------------------------------


def test_device_arrays_come_and_go(cuda):
    with kernels.use_backend("cuda"):
        for values in (np.arange(12.0).reshape(3, 4), np.zeros((0, 5), np.int32), np.float32([7])):
            array = device.to_device(values)
            assert array.shape == values.shape
            assert array.dtype == values.dtype
            assert device.is_on_device(array)
            assert not device.is_on_device(values)
            np.testing.assert_array_equal(array.numpy(), values)
            interface = array.__cuda_array_interface__
            assert interface["shape"] == values.shape
            assert interface["typestr"] == values.dtype.str
            assert interface["version"] == 3
            assert interface["stream"] == 1  # whoever takes it waits for our launches
        turned = device.to_device(np.arange(6.0).reshape(2, 3).T)
        np.testing.assert_array_equal(turned.numpy(), np.arange(6.0).reshape(2, 3).T)
        copy = turned.copy()
        del turned
        np.testing.assert_array_equal(copy.numpy(), np.arange(6.0).reshape(2, 3).T)
        assert device.free_memory() > 1 << 20


def test_solvers_take_matrices_that_lie_on_the_device(cuda):
    gram, cross, square = problem(60)[2]
    lambdas = path_to(cross, 0.05)
    with kernels.use_backend("cuda"):
        on_device = device.to_device(gram), device.to_device(cross), square
        expected = lasso_paths(gram, cross, square, lambdas)
        assert_same_bits(lasso_paths(*on_device, lambdas), expected)
        fits = fit_mixtures(*on_device, 300, widths(5))
        assert_same_bits(fits, fit_mixtures(gram, cross, square, 300, widths(5)))
        held = HeldOut(*on_device, 3, 0.0)
        assert (lasso_paths(*on_device, lambdas, held_out=held).n_done > 0).all()
        with pytest.raises(ValueError, match=r"gram: expected <f4 \(60, 60\), got <f8"):
            lasso_paths(device.to_device(gram.astype(float)), cross, square, lambdas)
        with pytest.raises(ValueError, match=r"cross: expected <f4 \(5, 60\), got <f8"):
            lasso_paths(gram, device.to_device(cross.astype(float)), square, lambdas)
        with pytest.raises(TypeError, match="gram: expected float32"):
            lasso_paths(gram.astype(float), cross, square, lambdas)
        with pytest.raises(ValueError, match="2 to 16 components"):
            fit_mixtures(gram, cross, square, 300, np.ones((5, 17), np.float32))
        with pytest.raises(ValueError, match="kept: expected at least 2 numbers, got 1"):
            fit_mixtures(gram, cross, square, 300, widths(5), kept=np.ones(1))
    with pytest.raises(ValueError, match="use_backend"):
        lasso_paths(*on_device, lambdas)
    with pytest.raises(RuntimeError, match="use_backend"):
        device.to_device(gram)


class Foreign:
    """An array of another library: what it says of itself and nothing else."""

    def __init__(self, array, **changes):
        self.array, self.shape = array, array.shape
        self.__cuda_array_interface__ = array.__cuda_array_interface__ | changes


def test_arrays_of_other_libraries(cuda):
    gram, cross, square = problem(33)[2]
    lambdas = path_to(cross, 0.1)
    with kernels.use_backend("cuda"):
        array = device.to_device(gram)
        expected = lasso_paths(gram, cross, square, lambdas)
        for strides in (None, (132, 4)):
            got = lasso_paths(Foreign(array, strides=strides), cross, square, lambdas)
            assert_same_bits(got, expected)
        with pytest.raises(ValueError, match="C order"):
            lasso_paths(Foreign(array, strides=(4, 132)), cross, square, lambdas)


def test_addresses_that_a_device_cannot_read_words_from(cuda):
    """A view into the middle of other bytes: on a device it would end all work there."""

    def shifted(array, n_bytes):
        address, read_only = array.__cuda_array_interface__["data"]
        return Foreign(array, data=(address + n_bytes, read_only))

    with kernels.use_backend("cuda"):
        packed = device.to_device(sample_masks(9, 70, 0.5, seed=1).packed)
        weights, out = (device.to_device(np.ones((n, 3), np.float32)) for n in (70, 9))
        counts = device.to_device(np.zeros((70, 70), np.int32))
        device.packed_matmul(Foreign(packed), weights, out)
        with pytest.raises(ValueError, match="packed: expected an address that is a multiple of 8"):
            device.packed_matmul(shifted(packed, 4), weights, out)
        with pytest.raises(ValueError, match="packed: expected an address that is a multiple of 8"):
            device.gram(shifted(packed, 1), 70, counts)
        with pytest.raises(
            ValueError, match="weights: expected an address that is a multiple of 4"
        ):
            device.packed_matmul(packed, shifted(weights, 2), out)


@pytest.mark.gpu
def test_device_memory_is_given_back():
    if not has_gpu():
        pytest.skip("needs pyattr._cuda and a CUDA device")
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs torch with CUDA, to ask how much memory is free")
    gram, cross, square = problem(300, n_targets=80)[2]
    with kernels.use_backend("cuda"):
        fit_mixtures(gram, cross, square, 300, widths(80), max_sweeps=3)
        free = torch.cuda.mem_get_info()[0]
        for _ in range(3):
            fit_mixtures(gram, cross, square, 300, widths(80), max_sweeps=3)
            array = device.to_device(np.zeros(1 << 24))
            del array
            gc.collect()
        assert torch.cuda.mem_get_info()[0] >= free - (1 << 22)
        with pytest.raises(RuntimeError, match="out of memory"):
            device.to_device(np.broadcast_to(np.float32(0), (1 << 38,)))


def test_kernels_between_device_arrays_have_the_bits_of_the_cpu(cuda):
    rng = np.random.default_rng(0)
    packed = sample_masks(300, 200, seed=3).packed
    values = rng.integers(1 - (1 << 21), 1 << 21, (300, 5)).astype(np.int32)
    weights = rng.standard_normal((200, 5)).astype(np.float32)
    counts = exact_sums.gram(packed, 200)
    sums = exact_sums.exact_matmul_transposed(packed, values, 200)
    product = kernels.packed_matmul(packed, weights)
    with kernels.use_backend("cuda"):
        bits, out = device.to_device(packed), device.to_device(np.ones((200, 200), np.int32))
        device.gram(bits, 200, out)
        np.testing.assert_array_equal(out.numpy(), counts + 1)
        out = device.to_device(np.ones((200, 5), np.int64))
        device.exact_matmul_transposed(bits, device.to_device(values), 200, out)
        np.testing.assert_array_equal(out.numpy(), sums + 1)
        out = device.to_device(np.ones((300, 5), np.float32))
        device.packed_matmul(bits, device.to_device(weights), out)
        np.testing.assert_array_equal(out.numpy(), product)
        with pytest.raises(ValueError, match=r"counts: expected <i4 \(200, 200\)"):
            device.gram(bits, 200, out)
        with pytest.raises(ValueError, match=r"packed: expected \|u1 \(300, 40\)"):
            device.gram(bits, 300, out)


@pytest.mark.parametrize("n_classes", [2, 10, 100])  # 100: too many for shared memory
def test_margins_between_device_arrays_have_the_bits_of_the_cpu(cuda, n_classes):
    logits = np.random.default_rng(0).standard_normal((70, 7, n_classes)).astype(np.float32)
    labels = np.arange(7) % n_classes
    for kind in ("logsumexp", "max", "correct"):
        expected = kernels.margins(logits, labels, kind)
        with kernels.use_backend("cuda"):
            np.testing.assert_array_equal(kernels.margins(logits, labels, kind), expected)
            out = device.to_device(np.zeros(490, np.float32))
            device.margins(device.to_device(logits.reshape(490, -1)), labels, out, kind)
            device.synchronize()
            np.testing.assert_array_equal(out.numpy(), expected.reshape(-1))
            for wrong in ({"kind": "none"}, {"labels": labels + n_classes}):
                with pytest.raises(ValueError, match="expected"):
                    device.margins(
                        device.to_device(logits[0]), wrong.get("labels", labels), out,
                        wrong.get("kind", kind),
                    )  # fmt: skip


# -- sums on the device ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk_rows", [64, 100, 1 << 15])
def test_device_sums_are_the_statistics_of_the_cpu(cuda, dtype, chunk_rows):
    masks = sample_masks(700, 130, seed=1)
    outputs = np.random.default_rng(0).standard_normal((700, 35)).astype(dtype)
    expected = SufficientStatistics.of(masks, outputs)
    scale = expected.scale
    with kernels.use_backend("cuda"):
        sums = device_sums.DeviceSums(130, scale.centre, scale.step, chunk_rows)
        for rows in (slice(0, 350), slice(350, 350), slice(350, 700)):
            sums.add(masks.packed[rows], outputs[rows])
        got = sums.finish()
        np.testing.assert_array_equal(got.counts.numpy(), expected.counts)
        np.testing.assert_array_equal(got.cross_steps, expected.cross_steps)
        np.testing.assert_array_equal(got.total_steps, expected.total_steps)
        np.testing.assert_array_equal(got.square_steps, expected.square_steps)
        np.testing.assert_array_equal(got.counts.diagonal(), expected.column_counts)


def test_many_rows_are_checked_before_their_squares_overflow(cuda, monkeypatch):
    monkeypatch.setattr(device_sums, "_UNCHECKED_ROWS", 100)
    masks, outputs = sample_masks(300, 10, seed=1), np.ones((300, 2))
    with kernels.use_backend("cuda"):
        sums = device_sums.DeviceSums(10, np.zeros(2), np.full(2, 2.0**-20))
        for first in range(0, 300, 60):
            sums.add(masks.packed[first : first + 60], outputs[first : first + 60])
        np.testing.assert_array_equal(sums.finish().square_steps, 300 << 40)
        monkeypatch.setattr(device_sums, "_MAX_SQUARE", 99 << 40)
        sums = device_sums.DeviceSums(10, np.zeros(2), np.full(2, 2.0**-20))
        sums.add(masks.packed[:100], outputs[:100])
        with pytest.raises(ValueError, match="a sum of squares below"):
            sums.add(masks.packed[:1], outputs[:1])


@pytest.mark.parametrize("n_constant", [0, 5])
def test_the_centred_gram_matrix_has_the_bits_of_the_cpu(cuda, n_constant):
    bits = sample_masks(300, 70, seed=1).unpack()
    bits[:, :n_constant] = True
    masks = Masks.pack(bits)
    statistics = SufficientStatistics.of(masks, np.random.default_rng(0).random((300, 3)))
    expected = statistics.centred_gram(np.float32) / np.float32(300)
    row, rows = np.linspace(-1, 1, 70).astype(np.float32), normal(9, 70)
    with kernels.use_backend("cuda"):
        counts = device.to_device(statistics.counts)
        gram = device_sums.centred_gram(counts, 300)
        np.testing.assert_array_equal(gram.numpy(), expected)
        np.testing.assert_array_equal(gram.diagonal(), np.diagonal(expected))
        exact = rows.astype(float) @ expected
        np.testing.assert_allclose(device_sums.gram_product(gram, rows), exact, atol=1e-5)
        device_sums.add_outer(gram, row)
        np.testing.assert_array_equal(gram.numpy(), expected + np.multiply.outer(row, row))
        twice = device_sums.combined_counts(counts, counts, 1)
        np.testing.assert_array_equal(twice.numpy(), 2 * statistics.counts)
        none = device_sums.combined_counts(counts, counts, -1)
        assert not none.numpy().any()
        np.testing.assert_array_equal(counts.numpy(), statistics.counts)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e9])
def test_outputs_outside_the_scale_are_refused_by_target(cuda, bad):
    outputs = np.zeros((500, 40))
    outputs[499, 33] = outputs[3, 38] = bad
    with kernels.use_backend("cuda"):
        sums = device_sums.DeviceSums(10, np.zeros(40), np.full(40, 2.0**-10))
        sums.add(sample_masks(500, 10).packed, outputs)
        with pytest.raises(ValueError, match="finite values of target 33 within 2048 of 0"):
            sums.finish()


def test_wrong_rows_are_refused(cuda):
    packed = sample_masks(5, 10).packed
    with kernels.use_backend("cuda"):
        sums = device_sums.DeviceSums(10, np.zeros(2), np.ones(2))
        for outputs in (np.zeros((4, 2)), np.zeros((5, 3)), np.zeros((5, 2), np.int32)):
            with pytest.raises(ValueError, match="outputs: expected"):
                sums.add(packed, outputs)
        with pytest.raises(ValueError, match="packed: expected"):
            sums.add(packed[:, :4], np.zeros((5, 2)))
        for centre, step in (([0.0], [3.0]), ([np.nan], [1.0]), ([0.0, 0.0], [1.0])):
            with pytest.raises(ValueError, match="expected"):
                device_sums.DeviceSums(10, np.array(centre), np.array(step))
        with pytest.raises(ValueError, match="n_train: expected"):
            device_sums.DeviceSums(0, np.zeros(2), np.ones(2))
