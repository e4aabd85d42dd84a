"""Whole fits on the CUDA backend: counts and Gram matrices stay on the device."""

from __future__ import annotations

import numpy as np
import pytest

from pyattr import fit_datamodel, fit_statistics, kernels
from pyattr.attribution import device_memory, spectrum
from pyattr.attribution.device_memory import device_bytes
from pyattr.attribution.fixed_point import FixedPointScale
from pyattr.attribution.plan import plan_fit
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.device import is_on_device
from pyattr.masks import Masks, sample_masks

pytestmark = pytest.mark.timeout(900)  # the first test waits for the module to be compiled
N_TRAIN = 60


def rows(design="iid", n_masks=260, n_targets=5):
    """Masks, and outputs that a few examples explain."""
    masks = sample_masks(n_masks, N_TRAIN, seed=1)
    if design == "complement":
        bits = masks.unpack()
        bits[1::2] = ~bits[0::2]
        masks = Masks.pack(bits)
    rng = np.random.default_rng(2)
    scores = rng.standard_normal((N_TRAIN, n_targets)) * (rng.random((N_TRAIN, n_targets)) < 0.2)
    return masks, masks.unpack() @ scores + rng.standard_normal((n_masks, n_targets))


def assert_same(got, expected):
    np.testing.assert_array_equal(got.scores, expected.scores)
    np.testing.assert_array_equal(got.intercept, expected.intercept)
    np.testing.assert_array_equal(got.standard_error, expected.standard_error)
    assert got.details.keys() == expected.details.keys()
    for name, value in expected.details.items():
        np.testing.assert_array_equal(got.details[name], value, err_msg=name)


@pytest.mark.parametrize("design", ["iid", "complement"])
@pytest.mark.parametrize("method", ["bayes", "ridge", "ols"])
def test_fits_have_the_bits_of_the_cpu(cuda, method, design):
    given = rows(design)
    expected = fit_datamodel(*given, method, design=design)
    with kernels.use_backend("cuda"):
        assert_same(fit_datamodel(*given, method, design=design), expected)


@pytest.mark.parametrize("design", ["iid", "complement"])
def test_lasso_chooses_the_penalties_of_the_cpu(cuda, design):
    given = rows(design)
    expected = fit_datamodel(*given, "lasso", design=design)
    with kernels.use_backend("cuda"):
        got = fit_datamodel(*given, "lasso", design=design)
    assert (got.details["duality_gap"] <= 1e-4).all()
    np.testing.assert_array_equal(got.details["lambda"], expected.details["lambda"])
    error = expected.details["held_out_error"]
    np.testing.assert_allclose(got.details["held_out_error"], error, rtol=2e-3)
    np.testing.assert_allclose(got.scores, expected.scores, atol=0.02)
    assert np.abs(expected.scores).max() > 1.0


@pytest.mark.parametrize("method", ["bayes", "lasso", "ols"])
def test_the_gram_matrix_does_not_leave_the_device(cuda, monkeypatch, method):
    given = rows()
    monkeypatch.setattr(spectrum, "_MOST_EXACT", N_TRAIN - 1)  # as for many examples
    expected = fit_datamodel(*given, method)
    copied, numpy = [], cuda.DeviceArray.numpy

    def noted(array):
        copied.append(array.shape)
        return numpy(array)

    monkeypatch.setattr(cuda.DeviceArray, "numpy", noted)
    with kernels.use_backend("cuda"):
        got = fit_datamodel(*given, method)
    assert (N_TRAIN, 5) in copied  # masks transposed @ outputs
    # LAPACK runs on the host: least squares takes a copy of the counts.
    assert ((N_TRAIN, N_TRAIN) in copied) == (method == "ols")
    np.testing.assert_allclose(got.scores, expected.scores, atol=0.02)


@pytest.mark.parametrize("design", ["iid", "complement"])
def test_statistics_on_the_device_are_those_of_the_host(cuda, tmp_path, design):
    masks, outputs = rows(design)
    scale, at = FixedPointScale.of(outputs), {"design": design, "squares": True}
    expected = SufficientStatistics.of(masks, outputs, scale=scale, **at)
    part = SufficientStatistics.of(masks[:100], outputs[:100], scale=scale, **at)
    chunks = [(masks[k], outputs[k]) for k in (slice(0, 100), slice(100, 260))]
    others = expected - part

    def assert_saved(statistics, wanted):
        statistics.save(tmp_path / "statistics")
        loaded = SufficientStatistics.load(tmp_path / "statistics")
        assert loaded.scale == wanted.scale
        for name, value in vars(wanted).items():
            if name != "scale":
                np.testing.assert_array_equal(getattr(loaded, name), value, err_msg=name)

    with kernels.use_backend("cuda"):
        got = SufficientStatistics.of(masks, outputs, scale=scale, block_rows=64, **at)
        streamed = SufficientStatistics.of_chunks(iter(chunks), scale, **at)
        few = SufficientStatistics.of(masks[:100], outputs[:100], scale=scale, **at)
        rest = got - few
        assert all(is_on_device(sums.counts) for sums in (got, streamed, rest, rest + few))
        assert_saved(got, expected)
        assert_saved(streamed, expected)
        assert_saved(rest, others)
        assert_saved(rest + few, expected)
        assert_saved(got - part, others)  # one of the two on the host
        assert_same(fit_statistics(expected), fit_statistics(got))
    # And where the backend is another: by a copy.
    assert not is_on_device((got - few).counts)
    assert_saved(got - few, others)
    assert_same(fit_statistics(got), fit_statistics(expected))


def test_statistics_of_no_rows_and_outputs_outside_the_scale(cuda):
    masks, outputs = rows()
    scale = FixedPointScale.of(outputs)
    with kernels.use_backend("cuda"):
        none = SufficientStatistics.of(masks[:0], outputs[:0], scale=scale)
        assert none.n_masks == 0
        assert not none.counts.numpy().any()
        outputs[77, 3] = 1e6
        with pytest.raises(ValueError, match="outputs: expected finite values of target 3"):
            SufficientStatistics.of(masks, outputs, scale=scale)


def test_what_does_not_fit_on_the_device_is_done_without_the_gram_matrix_or_refused(
    cuda, monkeypatch
):
    masks, outputs = rows()
    statistics = SufficientStatistics.of(masks, outputs)
    with kernels.use_backend("cuda"):
        for method, n_matrices in (("bayes", 2), ("lasso", 6)):
            needed, size = device_bytes(method, N_TRAIN, 5), (260, N_TRAIN, 5)
            assert needed > 4 * n_matrices * N_TRAIN**2
            # The Gram matrix is not on the host: no room for it is wanted there.
            on_host = 64 * N_TRAIN * 5
            monkeypatch.setattr(device_memory, "free_memory", lambda n=needed: n)
            assert not plan_fit(method, *size, "gram", on_host)
            assert not plan_fit(method, *size, "auto", on_host)
            monkeypatch.setattr(device_memory, "free_memory", lambda n=needed: n - 1)
            assert plan_fit(method, *size, "auto", None)
            with pytest.raises(ValueError, match=f"also {needed} bytes on the device, which has"):
                fit_datamodel(masks, outputs, method, solver="gram")
        monkeypatch.setattr(device_memory, "free_memory", lambda: 100)
        with pytest.raises(ValueError, match="device memory: expected enough free"):
            SufficientStatistics.of(masks, outputs)
        with pytest.raises(ValueError, match="device memory: expected enough free"):
            fit_statistics(statistics)
        assert SufficientStatistics.of(masks, outputs, gram=False).n_masks == len(masks)
    assert device_bytes("bayes", N_TRAIN, 5) == 0
    assert fit_statistics(statistics).method == "bayes"
