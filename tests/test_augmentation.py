"""Augmentation: the definition, what is drawn, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from pyattr import kernels, reference
from pyattr.augmentation import Augmentation, augment_images
from pyattr.masks import sample_seeds
from pyattr.reference import Stream

SHAPES = [(1, 1, 1), (2, 3, 1), (5, 4, 3), (28, 28, 1), (32, 32, 3), (7, 9, 2)]


def images(shape, dtype, n=6):
    pixels = np.random.default_rng(0).integers(0, 256, (n, *shape))
    return pixels.astype(dtype)


def every_draw(height, width, square, rng, n=200):
    return np.stack(
        [
            rng.integers(0, 2, n),
            rng.integers(1 - height, height, n),
            rng.integers(1 - width, width, n),
            rng.integers(0, height - square + 1, n),
            rng.integers(0, width - square + 1, n),
        ],
        axis=1,
    ).astype(np.int32)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_is_the_definition(shape, dtype, n_threads):
    rng = np.random.default_rng(1)
    given, fill = images(shape, dtype), np.arange(7, 7 + shape[2]).astype(dtype)
    for square in {0, 1, min(shape[:2]) // 2, min(shape[:2])}:
        draws = every_draw(*shape[:2], square, rng)
        rows = rng.integers(0, len(given), len(draws)).astype(np.int32)
        expected = reference.augment_images(given, rows, draws, square, fill)
        np.testing.assert_array_equal(augment_images(given, rows, draws, square, fill), expected)
        with kernels.use_backend("reference"):
            np.testing.assert_array_equal(
                augment_images(given, rows, draws, square, fill), expected
            )


def test_the_definition_pixel_by_pixel():
    given = images((4, 5, 1), np.uint8, 2)
    draws = np.array([[1, 1, -2, 2, 3]], np.int32)
    (got,) = reference.augment_images(given, np.array([1], np.int32), draws, 1, np.array([9]))
    for y in range(4):
        for x in range(5):
            inside = 0 <= y + 1 < 4 and 0 <= x - 2 < 5 and (y, x) != (2, 3)
            expected = given[1, y + 1, 4 - (x - 2), 0] if inside else 9
            assert got[y, x, 0] == expected


def test_draws_are_the_words_addressed_as_documented():
    augmentation, seed = Augmentation(flip=True, translate=3, cutout=4), 0x0123456789ABCDEF
    epochs, rows = np.array([0, 5, 2**32 - 1]), np.array([2**32 - 1, 7, 0])
    draws = augmentation.draws(seed, epochs, rows, 11, 20)
    for draw, epoch, row in zip(draws.tolist(), epochs, rows, strict=True):
        counters = np.array([[b, epoch, row, Stream.AUGMENT] for b in (0, 1)]).astype(np.uint32)
        key = np.array([[seed & 0xFFFFFFFF, seed >> 32]] * 2, np.uint32)
        first, second = reference.philox4x32(counters, key).astype(object)
        assert draw[0] == first[0] >> 31
        assert draw[1] == (first[1] * 7 >> 32) - 3
        assert draw[2] == (first[2] * 7 >> 32) - 3
        assert draw[3] == second[0] * 8 >> 32
        assert draw[4] == second[1] * 17 >> 32


def test_a_draw_depends_on_seed_epoch_and_image_alone():
    augmentation = Augmentation(flip=True, translate=2, cutout=3)
    rows, epochs = np.arange(50), np.arange(50) % 4
    together = augmentation.draws(9, epochs, rows, 8, 8)
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(
        augmentation.draws(9, epochs[order], rows[order], 8, 8), together[order]
    )
    for other in (
        augmentation.draws(10, epochs, rows, 8, 8),
        augmentation.draws(9, epochs + 1, rows, 8, 8),
    ):
        assert (other != together).any(1).mean() > 0.9


def test_what_is_off_changes_nothing_and_leaves_the_rest_as_it_was():
    epochs, rows = np.zeros(40, int), np.arange(40)
    everything = Augmentation(flip=True, translate=2, cutout=3).draws(1, epochs, rows, 8, 8)
    assert not Augmentation().draws(1, epochs, rows, 8, 8).any()
    for augmentation, columns in [
        (Augmentation(flip=True), [0]),
        (Augmentation(translate=2), [1, 2]),
        (Augmentation(cutout=3), [3, 4]),
    ]:
        draws = augmentation.draws(1, epochs, rows, 8, 8)
        np.testing.assert_array_equal(draws[:, columns], everything[:, columns])
        assert not np.delete(draws, columns, 1).any()


def test_draws_are_uniform():
    # χ² tests at false-alarm rate 1e-6 on fixed seeds; a draw favoured by 10% must fail them.
    augmentation, n = Augmentation(flip=True, translate=2, cutout=3), 20_000
    (seed,) = sample_seeds(1, 5).tolist()
    draws = augmentation.draws(seed, np.arange(n) % 20, np.arange(n) // 20, 8, 9)
    for column, lowest, n_values in [(0, 0, 2), (1, -2, 5), (2, -2, 5), (3, 0, 6), (4, 0, 7)]:
        counts = np.bincount(draws[:, column] - lowest, minlength=n_values)
        assert len(counts) == n_values
        assert scipy.stats.chisquare(counts).pvalue > 1e-6
        favoured = counts + np.eye(n_values)[0] * 0.1 * n
        assert scipy.stats.chisquare(favoured, [favoured.mean()] * n_values).pvalue < 1e-6
    pairs = np.bincount((draws[:, 1] + 2) * 5 + draws[:, 2] + 2, minlength=25)
    assert scipy.stats.chisquare(pairs).pvalue > 1e-6


def test_refuses():
    for options in ({"translate": -1}, {"cutout": 1.5}):
        (name,) = options
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            Augmentation(**options)
    for options in ({"translate": 8}, {"cutout": 9}):
        (name,) = options
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            Augmentation(**options).draws(0, [0], [0], 8, 8)
    given = images((4, 4, 1), np.uint8)
    rows, draws, fill = np.zeros(1, np.int32), np.zeros((1, 5), np.int32), np.zeros(1, np.uint8)
    augment_images(given, rows, draws, 4, fill)
    wrong = [
        ("images", (given.astype(np.float64), rows, draws, 0, fill)),
        ("images", (given[0], rows, draws, 0, fill)),
        ("rows", (given, rows + 6, draws, 0, fill)),
        ("rows", (given, rows - 1, draws, 0, fill)),
        ("draws", (given, rows, draws + 4, 0, fill)),
        ("draws", (given, rows, draws - 4, 0, fill)),
        ("draws", (given, rows, draws[:, :4], 0, fill)),
        ("draws", (given, rows, draws + 1, 4, fill)),
        ("square", (given, rows, draws, 5, fill)),
        ("fill", (given, rows, draws, 0, fill[:0])),
        ("fill", (given, rows, draws, 0, fill.astype(np.float32))),
    ]
    for name, arguments in wrong:
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            augment_images(*arguments)
