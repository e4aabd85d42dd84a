from __future__ import annotations

import numpy as np
import pytest

from pyattr.attribution import rows as rows_module
from pyattr.attribution.rows import Rows, dense_blocks
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
def test_kernel_and_blocks_are_the_dense_ones(shape, centre):
    masks = sample_masks(*shape, p=0.4, seed=1)
    dense = masks.unpack().astype(np.float64)
    middle = dense.mean(axis=0) if centre == "mean" else np.full(shape[1], 0.5)
    rows = Rows(masks, np.zeros((shape[0], 1)), "iid")
    # Counts are exact integers; centring costs a few roundings of numbers up to n.
    expected = (dense - middle) @ (dense - middle).T
    np.testing.assert_allclose(rows.kernel(middle), expected, rtol=0, atol=1e-12)
    parts = list(dense_blocks(masks))
    np.testing.assert_array_equal(np.concatenate([bits for _, bits in parts]), dense)
    blocks = list(rows.blocks())
    assert blocks == [which for which, _ in parts]
    assert [which.start for which in blocks[1:]] == [which.stop for which in blocks[:-1]]


def test_outputs_are_standardised_or_half_differences():
    rng = np.random.default_rng(2)
    outputs, mean, scale = rng.normal(size=(20, 4)), np.arange(4.0), np.arange(1.0, 5.0)
    rows = Rows(sample_masks(20, 9, seed=1), outputs, "iid")
    got = rows.outputs(slice(3, 8), slice(1, 3), mean, scale)
    np.testing.assert_allclose(got, (outputs[3:8, 1:3] - [1.0, 2.0]) / [2.0, 3.0])
    pairs = Rows(sample_masks(20, 9, seed=1, design="complement"), outputs, "complement")
    got = pairs.outputs(slice(3, 8), slice(1, 3), mean, scale)
    half = (outputs[6:16:2, 1:3] - outputs[7:16:2, 1:3]) / 2
    np.testing.assert_allclose(got, half / [2.0, 3.0])
    assert pairs.masks == pairs.all_masks[0::2]


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 26])
@pytest.mark.parametrize("design", ["iid", "complement"])
def test_parts_are_disjoint_and_cut_no_pair(design, chunk_bytes, monkeypatch):
    monkeypatch.setattr("pyattr.attribution.rows._CHUNK_BYTES", chunk_bytes)
    masks = sample_masks(26, 9, seed=1, design=design)
    outputs = np.arange(26.0)[:, np.newaxis]
    parts = [list(Rows(masks, outputs, design).chunks_of(5, first)) for first in range(5)]
    chunks = [chunk for part in parts for chunk in part]
    assert len(chunks) > 5 or chunk_bytes > 1
    found = np.concatenate([values[:, 0] for _, values in chunks])
    np.testing.assert_array_equal(np.sort(found), outputs[:, 0])
    for rows, values in chunks:
        chosen = values[:, 0].astype(int)
        assert rows == masks[chosen]
        if design == "complement":
            assert (chosen[0::2] + 1 == chosen[1::2]).all()
            assert (chosen[0::2] % 2 == 0).all()
