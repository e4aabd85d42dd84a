"""Batch normalisation and rectifier: the kernels are the definition, the definition is the derivative."""

from __future__ import annotations

import numpy as np
import pytest

from pyattr import kernels, normalisation, reference

# Channels for registers of 16, 8 and single numbers; odd sides; more and fewer than 64 pixels.
SHAPES = [(2, 1, 1, 1), (3, 5, 4, 8), (2, 7, 7, 16), (4, 8, 9, 24), (1, 13, 6, 31), (5, 6, 6, 64)]


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def given(shape):
    """Images, and a normalisation that leaves about half of them above zero."""
    return normal(*shape), np.stack([normal(shape[3], seed=k) for k in (1, 2, 3)])


@pytest.mark.parametrize("shape", SHAPES)
def test_what_touches_each_number_once_is_exact(shape):
    x, by = given(shape)
    before = x.copy()
    bypass = normal(*shape, seed=4)
    for beside in (None, bypass):
        expected = reference.rectify(x, by, beside)
        np.testing.assert_array_equal(normalisation.rectify(x, by, beside), expected)
        own = x.copy()
        assert normalisation.rectify(own, by, beside, out=own) is own
        np.testing.assert_array_equal(own, expected)
    halved = normalisation.rectify_halved(x, by)
    np.testing.assert_array_equal(halved, reference.rectify_halved(x, by))
    gradient = normal(*halved.shape, seed=5)
    np.testing.assert_array_equal(
        normalisation.scatter_halved(x, by, gradient),
        reference.scatter_halved(x, by, gradient),
    )
    np.testing.assert_array_equal(x, before)


def test_the_definition_of_halving_pixel_by_pixel():
    by = np.float32([[0], [1], [0]])
    x = np.float32([[1, 3, -1], [2, 3, 5], [9, 9, 9]]).reshape(1, 3, 3, 1)
    assert reference.rectify_halved(x, by).tolist() == [
        [[[3.0]]]
    ]  # the odd row and column are left
    got = reference.scatter_halved(x, by, np.float32([[[[7]]]]))[0, :, :, 0]
    np.testing.assert_array_equal(got, [[0, 7, 0], [0, 0, 0], [0, 0, 0]])  # the first of two
    np.testing.assert_array_equal(reference.scatter_halved(-x, by, np.float32([[[[7]]]])), 0 * x)


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_are_within_their_bound(shape):
    x, (mean, scale, shift) = given(shape)
    x += np.float32(100) * mean  # far from zero
    own = [mean.copy(), scale.copy()]
    expected = [mean.copy(), scale.copy()]
    by, spread = normalisation.take_moments(x, scale, shift, 1e-5, 0.1, *own)
    exact_by, exact_spread = reference.take_moments(x, scale, shift, 1e-5, 0.1, *expected)
    np.testing.assert_allclose(by, exact_by, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(spread, exact_spread, rtol=1e-5)
    for got, right in zip(own, expected, strict=True):
        np.testing.assert_allclose(got, right, rtol=2e-6, atol=1e-5)


def test_moments_do_not_cancel_where_the_mean_is_large():
    x = np.float32(1000) + np.float32(0.01) * normal(50, 28, 28, 8)
    one, zero = np.ones(8, np.float32), np.zeros(8, np.float32)
    _, spread = normalisation.take_moments(x, one, zero, 0.0, 0.1, one.copy(), zero.copy())
    exact = x.astype(np.float64).var((0, 1, 2))
    np.testing.assert_allclose(spread, exact, rtol=1e-5)
    naive = (x * x).mean((0, 1, 2)) - x.mean((0, 1, 2)) ** 2  # what the origin is there against
    assert np.abs(naive / exact - 1).min() > 0.5


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_the_way_back_is_within_rounding_of_the_definition(shape):
    x, (mean, scale, shift) = given(shape)
    by, spread = reference.take_moments(x, scale, shift, 1e-5, 0.1, mean.copy(), scale.copy())
    gradient = normal(*shape, seed=5)
    expected = reference.normalise_backward(x, by, spread, gradient)
    got = x.copy(), np.empty_like(scale), np.empty_like(shift)
    normalisation.normalise_backward(got[0], by, spread, gradient, *got[1:])
    for ours, right in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, right, atol=2e-6 * max(1.0, np.abs(right).max()))
    # What must differ: the way back that takes the moments for constants.
    constant = by[1] * np.where(reference.normalise(x, by) > 0, gradient, 0)
    assert np.abs(constant - expected[0]).max() > 1e-2


def test_the_definition_is_the_derivative():
    x, (mean, scale, shift) = given((3, 4, 4, 5))
    x, weight = x.astype(np.float64), normal(3, 4, 4, 5, seed=6)

    def loss(x, scale, shift):
        normal_x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
        return (weight * np.maximum(normal_x * scale + shift, 0)).sum()

    single = x.astype(np.float32)
    by, spread = reference.take_moments(single, scale, shift, 1e-5, 0.1, mean.copy(), scale.copy())
    parts = reference.normalise_backward(single, by, spread, weight)
    at = [x, scale.astype(np.float64), shift.astype(np.float64)]
    for k, part in enumerate(parts):
        direction = np.random.default_rng(k).standard_normal(part.shape)
        ends = [
            loss(*[a + sign * 1e-6 * direction if j == k else a for j, a in enumerate(at)])
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose((part * direction).sum(), slope, rtol=1e-4, atol=1e-4)


def test_nan_stays_nan():
    x, by = given((2, 4, 4, 9))
    x[1, 2, 3, 4] = np.nan
    assert np.argwhere(np.isnan(normalisation.rectify(x, by))).tolist() == [[1, 2, 3, 4]]
    assert np.argwhere(np.isnan(normalisation.rectify_halved(x, by))).tolist() == [[1, 1, 1, 4]]


@pytest.mark.parametrize("shape", [(3, 4, 6, 29), (2, 5, 3, 16)])
def test_ties_signed_zeros_and_what_is_not_finite(shape):
    rng, by = np.random.default_rng(0), np.zeros((3, shape[3]), np.float32)
    by[1], by[2] = 1, -0.0
    x = rng.choice(np.float32([-1, -0.0, 0, 1, 1, 2, np.inf, np.nan]), shape)
    halved = normalisation.rectify_halved(x, by)
    gradient = rng.choice(np.float32([-1, 2, np.inf, -np.inf, np.nan]), halved.shape)
    x[0], gradient[0] = 1, np.inf  # the first of four
    pairs = [
        (normalisation.rectify(x, by), reference.rectify(x, by)),
        (normalisation.rectify_halved(x, by), reference.rectify_halved(x, by)),
        (
            normalisation.scatter_halved(x, by, gradient),
            reference.scatter_halved(x, by, gradient),
        ),
    ]
    for ours, right in pairs:
        assert not np.isnan(right).all()
        np.testing.assert_array_equal(ours, right)
        known = ~np.isnan(right)
        np.testing.assert_array_equal(np.signbit(ours[known]), np.signbit(right[known]))


def test_the_reference_backend():
    x, (mean, scale, shift) = given((3, 6, 5, 11))
    remembered = mean.copy(), scale.copy()
    with kernels.use_backend("reference"):
        by, spread = normalisation.take_moments(x, scale, shift, 1e-5, 0.1, *remembered)
        y = normalisation.rectify(x, by)
        halved = normalisation.rectify_halved(x, by)
        back = normalisation.scatter_halved(x, by, halved)
        x_back = x.copy()
        normalisation.normalise_backward(x_back, by, spread, y, scale.copy(), shift.copy())
    np.testing.assert_array_equal(y, normalisation.rectify(x, by))
    np.testing.assert_array_equal(halved, normalisation.rectify_halved(x, by))
    np.testing.assert_array_equal(back, normalisation.scatter_halved(x, by, halved))
    own = x.copy()
    normalisation.normalise_backward(own, by, spread, y, scale.copy(), shift.copy())
    np.testing.assert_allclose(own, x_back, atol=1e-5)


def test_refuses():
    x, by = given((2, 4, 4, 9))
    scale, spread = np.ones(9, np.float32), np.ones(9)
    with pytest.raises(ValueError, match=r"^x: expected shape \(n, height"):
        normalisation.rectify(x[0], by)
    with pytest.raises(ValueError, match=r"^x: expected shape \(n, height"):
        normalisation.rectify_halved(x[0], by)
    with pytest.raises(ValueError, match=r"^by: expected shape \(3, channels\)"):
        normalisation.rectify(x, by[:, :8].copy())
    with pytest.raises(ValueError, match=r"^bypass: expected"):
        normalisation.rectify(x, by, x[:1])
    with pytest.raises(ValueError, match=r"^out: expected"):
        normalisation.rectify(x, by, out=x[:1].copy())
    with pytest.raises(ValueError, match=r"^gradient: expected"):
        normalisation.scatter_halved(x, by, x)
    with pytest.raises(ValueError, match=r"^gradient: expected"):
        normalisation.normalise_backward(x, by, spread, x[:1], scale, scale.copy())
    with pytest.raises(ValueError, match=r"^scale_gradient: expected one number a channel"):
        normalisation.normalise_backward(x, by, spread, x.copy(), scale[:8], scale.copy())
    one = x[:1, :1, :1].copy()
    with pytest.raises(ValueError, match=r"^x: expected at least two pixels"):
        normalisation.take_moments(one, scale, scale, 0.1, 0.1, scale.copy(), scale.copy())
    with pytest.raises(ValueError, match=r"^mean: expected one number a channel"):
        normalisation.take_moments(x, scale, scale, 0.1, 0.1, scale[:8].copy(), scale.copy())
    with pytest.raises(TypeError):  # never converted
        normalisation.rectify(x.astype(np.float64), by)
