from __future__ import annotations

import numpy as np
import pytest

from pyattr.attribution import rows as rows_module
from pyattr.attribution.rows import CentredRows, column_counts, dense_blocks, standardise
from pyattr.masks import sample_masks


@pytest.fixture(params=[None, 64])
def _small_blocks(request, monkeypatch):
    """Once with blocks far smaller than the data, so that their seams are crossed."""
    if request.param:
        monkeypatch.setattr(rows_module, "_BLOCK_SIZE", 8 * request.param)
        monkeypatch.setattr(rows_module, "_BLOCK_ROWS", request.param)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (9, 8), (64, 65), (130, 31), (33, 200)])
@pytest.mark.parametrize("centre", ["mean", "half"])
def test_products_equal_the_dense_ones(shape, centre):
    n_masks, n_train = shape
    masks = sample_masks(n_masks, n_train, p=0.4, seed=1)
    dense = masks.unpack().astype(np.float64)
    middle = dense.mean(axis=0) if centre == "mean" else np.full(n_train, 0.5)
    rows = CentredRows(masks, middle)
    expected = dense - middle
    rng = np.random.default_rng(1)
    values, weights = rng.normal(size=(n_masks, 3)), rng.normal(size=(n_train, 3))
    # Counts are exact integers; centring costs a few roundings of numbers up to n.
    np.testing.assert_allclose(rows.gram(), expected.T @ expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(rows.kernel(), expected @ expected.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(rows.transposed_product(values), expected.T @ values, atol=1e-4)
    np.testing.assert_allclose(rows.product(weights), expected @ weights, atol=1e-4)
    np.testing.assert_array_equal(column_counts(masks), dense.sum(axis=0))
    parts = list(dense_blocks(masks))
    np.testing.assert_array_equal(np.concatenate([bits for _, bits in parts]), dense)
    assert [which.start for which, _ in parts[1:]] == [which.stop for which, _ in parts[:-1]]


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1.0, 1e30, 1e200])
def test_standardise(scale):
    rng = np.random.default_rng(2)
    values = scale * (3.0 + rng.normal(size=(500, 2)))
    standard, mean, size = standardise(values)
    np.testing.assert_allclose(standard.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.square(standard).mean(axis=0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(mean + size * standard, values, rtol=1e-5, atol=1e-6 * scale)
    _, zero, root_mean_square = standardise(values, centre=False)
    np.testing.assert_array_equal(zero, 0.0)
    np.testing.assert_allclose(
        root_mean_square / scale, np.sqrt(np.square(values / scale).mean(axis=0)), rtol=1e-6
    )


def test_constant_targets_stay_zero():
    # 0.1 is not a binary fraction: the mean of 1000 of them differs from it.
    standard, mean, size = standardise(np.full((1000, 1), 0.1))
    np.testing.assert_array_equal(standard, 0)
    np.testing.assert_allclose(mean, 0.1)
    np.testing.assert_array_equal(size, 1)
