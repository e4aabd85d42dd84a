"""Fits by products with the packed masks: those of the Gram matrix, in far less memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.linalg

from pyattr.attribution import active_sets, fit_datamodel, fit_statistics, message_passing
from pyattr.attribution.centred_rows import CentredRows
from pyattr.attribution.lanczos import Lanczos, random_signs
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.masks import Masks, sample_masks

SHAPES = [("iid", 400, 100), ("iid", 60, 100), ("complement", 300, 100), ("group", 200, 100)]


def sample(design, n_masks, n_train, n_targets=6, kind="sparse", seed=0, noise=1.0):
    """Masks, outputs with R² near 1/2, scores, and the design that the fit is told."""
    rng = np.random.default_rng(seed)
    bits = sample_masks(n_masks, n_train, seed=seed).unpack()
    if design == "complement":
        bits[1::2] = ~bits[0::2]
    if design == "group":
        groups = np.repeat(rng.random((n_masks, n_train // 10)) < 0.5, 10, axis=1)
        bits = np.where(rng.random(bits.shape) < 0.7, groups, bits)
    scores = rng.normal(size=(n_train, n_targets))
    if kind == "sparse":
        scores *= rng.random(scores.shape) < 0.1
    scores *= 2.0 * noise / np.maximum(np.linalg.norm(scores, axis=0), 1e-9)
    outputs = 3.0 + bits @ scores + noise * rng.normal(size=(n_masks, n_targets))
    return Masks.pack(bits), outputs, scores, "complement" if design == "complement" else "iid"


def both(masks, outputs, method, design, **options):
    return [
        fit_datamodel(masks, outputs, method, design=design, solver=solver, **options)
        for solver in ("gram", "gram-free")
    ]


@pytest.mark.parametrize(("shape", "n_rows"), [((130, 70), 64), ((130, 70), 1 << 20)])
def test_centred_rows_are_the_dense_ones(shape, n_rows, monkeypatch):
    monkeypatch.setattr("pyattr.attribution.centred_rows._BLOCK_SIZE", 3 * n_rows)
    masks = sample_masks(2100, shape[1], p=0.4, seed=1)
    dense = masks.unpack() - masks.unpack().mean(axis=0)
    rows = CentredRows(masks, masks.unpack().mean(axis=0))
    rng = np.random.default_rng(1)
    values, weights = rng.normal(size=(2100, 3)), rng.normal(size=(shape[1], 3))
    np.testing.assert_allclose(rows.times(weights), dense @ weights, atol=1e-4)
    np.testing.assert_allclose(rows.transposed_times(values), dense.T @ values, atol=1e-3)
    expected = dense.T @ (dense @ weights) / 2100
    np.testing.assert_allclose(rows.gram_times(weights), expected, atol=1e-4)


def test_lanczos_sees_the_spectrum():
    rng = np.random.default_rng(2)
    factor = rng.normal(size=(40, 30))
    matrix = factor @ factor.T  # of rank 30: starts are exhausted before 40 steps
    start = rng.normal(size=(40, 3))
    lanczos = Lanczos(lambda vectors: matrix @ vectors, start)
    lanczos.advance(12)
    lanczos.advance(28)
    values, weights = lanczos.spectra()
    np.testing.assert_allclose(weights.sum(axis=1), np.square(start).sum(axis=0))
    inverse = np.linalg.inv(matrix + 5.0 * np.eye(40))
    expected = np.einsum("it,ij,jt->t", start, inverse, start)
    np.testing.assert_allclose((weights / (values + 5.0)).sum(axis=1), expected, rtol=1e-6)
    # A caller's masks are not the probes, whatever their seed was.
    masks = 2.0 * sample_masks(3, 40, seed=0).unpack().T - 1.0
    assert np.abs(masks.T @ random_signs(40, 3)).max() < 30
    # Hutchinson: mean over signs estimates the trace; 400 of them, sd about 0.5%.
    signs = Lanczos(lambda vectors: matrix @ vectors, random_signs(40, 400))
    signs.advance(31)
    values, weights = signs.spectra()
    trace = (weights / (values + 5.0)).sum(axis=1).mean()
    assert abs(trace / np.trace(inverse) - 1.0) < 0.03


@pytest.mark.parametrize("shape", SHAPES)
def test_ridge_is_that_of_the_gram_matrix(shape):
    masks, outputs, _, design = sample(*shape, kind="dense")
    for lam in (0.3, 30.0):
        gram, free = both(masks, outputs, "ridge", design, lambdas=[lam])
        size = np.abs(gram.scores).max()
        np.testing.assert_allclose(free.scores, gram.scores, rtol=0, atol=2e-4 * size)
        np.testing.assert_allclose(free.intercept, gram.intercept, rtol=1e-3)
    free = fit_datamodel(masks, outputs, "ridge", design=design, solver="gram-free")
    sums = SufficientStatistics.of(masks, outputs, design=design)
    exact = fit_statistics(sums, "ridge")
    # 16 probes: the degrees of freedom left are within a few per cent, λ within a step of the grid.
    np.testing.assert_allclose(free.details["gcv_mse"], exact.details["gcv_mse"], rtol=0.1)
    ratio = np.abs(np.log(free.details["lambda"] / exact.details["lambda"]))
    assert np.median(ratio) < np.log(2.5)
    assert (free.details["gram_free"] == 1).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_lasso_is_that_of_the_gram_matrix(shape, monkeypatch):
    masks, outputs, _, design = sample(*shape)
    gram, free = both(masks, outputs, "lasso", design)
    np.testing.assert_allclose(free.details["lambda_max"], gram.details["lambda_max"], rtol=1e-5)
    # Both selection paths end at a duality gap of 1e-3; where two λ are equally good they may differ.
    error = "held_out_error"
    np.testing.assert_allclose(free.details[error], gram.details[error], rtol=2e-3)
    same = np.isclose(free.details["lambda"], gram.details["lambda"], rtol=1e-5)
    assert same.sum() >= 5
    size = np.abs(gram.scores).max()
    np.testing.assert_allclose(free.scores[:, same], gram.scores[:, same], atol=0.01 * size)
    # Targets in several groups are fitted alike.
    monkeypatch.setattr(active_sets, "_TARGETS_AT_ONCE", 4)
    parts = fit_datamodel(masks, outputs, "lasso", design=design, solver="gram-free")
    np.testing.assert_allclose(parts.scores, free.scores, atol=0.01 * size)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_duality_gap_is_that_of_the_whole_problem(shape, monkeypatch):
    masks, outputs, _, design = sample(*shape)
    fit = fit_datamodel(masks, outputs, "lasso", design=design, solver="gram-free")
    assert gaps(fit, masks, outputs, design).max() < 1.2e-4
    np.testing.assert_allclose(
        fit.details["duality_gap"], gaps(fit, masks, outputs, design), rtol=0.1, atol=1e-6
    )
    # Without the coordinates that the gradient asks for, the gap says so.
    monkeypatch.setattr(active_sets, "_MOST_ROUNDS", 1)
    monkeypatch.setattr(active_sets, "_PATH_STEP", 1)
    lambdas = [float(fit.details["lambda"].min())]
    short = fit_datamodel(
        masks, outputs, "lasso", design=design, solver="gram-free", lambdas=lambdas
    )
    assert short.details["duality_gap"].max() > 1e-3
    np.testing.assert_allclose(
        short.details["duality_gap"], gaps(short, masks, outputs, design), rtol=0.1
    )


def gaps(fit, masks, outputs, design):
    """Duality gaps over the target's mean square, dense and in float64."""
    if design == "iid":
        x, y = masks.unpack() - masks.unpack().mean(axis=0), outputs - outputs.mean(axis=0)
    else:
        x, y = masks.unpack()[0::2] - 0.5, (outputs[0::2] - outputs[1::2]) / 2
    lam, w = fit.details["lambda"], fit.scores.astype(float)
    residual = y - x @ w
    rest, inner = np.square(residual).mean(axis=0), (residual * y).mean(axis=0)
    scale = np.minimum(1.0, lam / np.abs(x.T @ residual / len(x)).max(axis=0))
    gap = rest / 2 + lam * np.abs(w).sum(axis=0) - scale * (inner - scale * rest / 2)
    return gap / np.square(y).mean(axis=0)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize(
    "shape", [("iid", 600, 300), ("iid", 200, 300), ("complement", 600, 300), ("group", 400, 300)]
)
def test_bayes_is_as_good_as_on_the_gram_matrix(shape, kind):
    masks, outputs, scores, design = sample(*shape, n_targets=20, kind=kind)
    gram, free = both(masks, outputs, "bayes", design)
    fresh = sample(shape[0], 3000, shape[2], 1, seed=1)[0].unpack().astype(float)
    fresh -= fresh.mean(axis=0)
    errors = [1.0 + np.square(fresh @ (fit.scores - scores)).mean() for fit in (gram, free)]
    assert errors[1] < 1.02 * errors[0]
    # No scores at all would be worse.
    assert 1.0 + np.square(fresh @ scores).mean() > 1.05 * errors[0]
    z = (free.scores - scores) / free.standard_error
    assert 0.7 < np.sqrt(np.square(z).mean()) < 1.3
    own = free.details["held_out_error"].mean()
    expected = errors[1] if design == "iid" else errors[1] - 0.5
    assert 0.85 < own / expected < 1.15


def test_bayes_that_does_not_converge_says_so(monkeypatch):
    masks, outputs, _, _ = sample("iid", 200, 100)
    monkeypatch.setattr(message_passing, "_MOST_STEPS", 3)
    with pytest.raises(ValueError, match=r"'gram-free', or method 'ridge' or 'lasso'.*target 0"):
        fit_datamodel(masks, outputs, solver="gram-free")


def test_bayes_recovers_from_moves_that_are_too_long(monkeypatch):
    """With moves of twice the length, residuals grow past the target and start again shorter."""
    masks, outputs, scores, _ = sample("group", 200, 100, kind="dense")
    plain = fit_datamodel(masks, outputs, solver="gram-free")
    monkeypatch.setattr(message_passing, "_LENGTH", 1.9)
    long = fit_datamodel(masks, outputs, solver="gram-free")
    errors = [np.square(fit.scores - scores).sum() for fit in (plain, long)]
    assert errors[1] < 1.05 * errors[0]


@pytest.mark.parametrize("method", ["ridge", "lasso", "bayes"])
def test_many_examples_without_their_gram_matrix(method):
    n_train, n_masks, n_targets = 20_000, 1500, 2
    masks = sample_masks(n_masks, n_train, seed=3)
    rng = np.random.default_rng(3)
    used = rng.choice(n_train, (20, n_targets), replace=False)
    signal = np.stack([masks.unpack()[:, u] @ np.linspace(1, 2, 20) for u in used.T], axis=1)
    outputs = signal + signal.std(axis=0) / 3 * rng.normal(size=signal.shape)
    limit = 400_000_000  # the counts alone would be 4 n_train² = 1.6e9
    tracemalloc.start()
    try:
        result = fit_datamodel(masks, outputs, method, memory_limit=limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit
    expected = {"ridge": 0.0, "lasso": 1.0, "bayes": 1.0}[method]  # ridge: 1,500² of the rows
    np.testing.assert_array_equal(result.details["gram_free"], expected)
    if method == "ridge":
        return
    for t, u in enumerate(used.T):
        assert np.abs(result.scores[u, t] - np.linspace(1, 2, 20)).max() < 1.0
        assert set(np.argsort(-np.abs(result.scores[:, t]))[:10]) <= set(u)


def test_outputs_on_disk(tmp_path):
    masks, outputs, _, _ = sample("iid", 300, 60)
    np.save(tmp_path / "outputs.npy", outputs)
    on_disk = np.load(tmp_path / "outputs.npy", mmap_mode="r")
    for method in ("ridge", "lasso", "bayes"):
        for solver in ("gram", "gram-free"):
            expected = fit_datamodel(masks, outputs, method, solver=solver)
            got = fit_datamodel(masks, on_disk, method, solver=solver)
            np.testing.assert_array_equal(got.scores, expected.scores)


def test_ridge_with_a_hopeless_lambda_says_so(monkeypatch):
    masks, outputs, _, _ = sample("iid", 100, 100, kind="dense")
    monkeypatch.setattr("pyattr.attribution.conjugate_gradients._MOST_STEPS", 16)
    with pytest.raises(ValueError, match=r"lambdas: .*no convergence in 16 steps.*target 0"):
        fit_datamodel(masks, outputs, "ridge", lambdas=[1e-9], solver="gram-free")


def test_tridiagonal_of_nothing_is_zero():
    lanczos = Lanczos(lambda vectors: vectors, np.zeros((5, 1)))
    lanczos.advance(3)
    values, weights = lanczos.spectra()
    assert not weights.any()
    np.testing.assert_array_equal(values, scipy.linalg.eigvalsh(np.zeros((3, 3)))[np.newaxis])
