"""The NumPy definitions, checked against published vectors and against other definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp
from scipy.stats import chi2

from pyattr import reference
from pyattr.reference import Stream

# Random123's kat_vectors for philox4x32-10: counter, key, words.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def words(text: str) -> np.ndarray:
    return np.array([[int(word, 16) for word in text.split()]], np.uint32)


def one_word(seed: int, block: int, plane: int, row: int, stream: int, word: int) -> int:
    counter = np.array([[block, plane, row, stream]], np.uint32)
    key = np.array([[seed & 0xFFFFFFFF, seed >> 32]], np.uint32)
    return int(reference.philox4x32(counter, key)[0, word])


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_words(counter: str, key: str, expected: str) -> None:
    assert np.array_equal(reference.philox4x32(words(counter), words(key)), words(expected))


def test_bits_are_addressed_as_documented() -> None:
    seed, first_row, n_train = 0x0123456789ABCDEF, 40, 300
    packed = reference.sample_masks(seed, Stream.MASKS, first_row, 3, n_train, 1 << 31)
    masks = reference.unpack(packed, n_train)
    for row, i in [(0, 0), (0, 31), (0, 32), (1, 127), (1, 128), (2, 200), (2, 299)]:
        word = one_word(seed, i // 128, 0, first_row + row, Stream.MASKS, (i % 128) // 32)
        assert masks[row, i] == bool(word >> (i % 32) & 1)


@pytest.mark.parametrize("threshold", [1, 3 << 30, 5 << 29, 0x4CCCCCCD, 0xFFFFFFFF, 1 << 31])
def test_a_bit_compares_a_uniform_number_with_the_threshold(threshold: int) -> None:
    # With u_k = 1 - (the bit of plane k - 1) as the binary digits of a uniform u, x = [u < t]:
    # P(x = 1) = t / 2^32 exactly, whatever t.
    n_train, seed = 64, 5
    got = reference.unpack(reference.sample_masks(seed, 0, 0, 2, n_train, threshold), n_train)
    for row in range(2):
        for i in range(0, n_train, 5):
            planes = [one_word(seed, 0, k, row, 0, i // 32) >> (i % 32) & 1 for k in range(32)]
            u = sum((1 - bit) << (31 - k) for k, bit in enumerate(planes))
            assert got[row, i] == (u < threshold)


def test_ends_of_the_threshold_are_exact() -> None:
    assert not reference.unpack(reference.sample_masks(1, 0, 0, 3, 70, 0), 70).any()
    assert reference.unpack(reference.sample_masks(1, 0, 0, 3, 70, 1 << 32), 70).all()


def test_seeds_are_the_first_two_words() -> None:
    seeds = reference.sample_seeds(3, seed=9, first_row=2)
    low, high = (one_word(9, 0, 0, 4, Stream.SEEDS, k) for k in (0, 1))
    assert int(seeds[2]) == low | high << 32


def test_random_words_are_uniform() -> None:
    # chi-square of 256 byte values over 4e5 bytes; false alarm rate 1e-6, fixed seed.
    def statistic(data: np.ndarray) -> float:
        counts = np.bincount(data.view(np.uint8).ravel(), minlength=256)
        return float(((counts - counts.mean()) ** 2).sum() / counts.mean())

    data = reference.random_words(np.arange(10, dtype=np.uint64), Stream.INIT, 0, 10_000)
    bound = chi2.ppf(1 - 1e-6, 255)
    assert statistic(data) < bound
    assert statistic(data & np.uint32(0xFEFFFFFF)) > bound  # one bit of 32 stuck: must be seen


def test_pack_is_packbits_in_whole_words() -> None:
    masks = np.random.default_rng(0).random((5, 97)) < 0.5
    packed = reference.pack(masks)
    assert packed.shape == (5, 16)
    assert np.array_equal(packed[:, :13], np.packbits(masks, axis=1, bitorder="little"))
    assert not packed[:, 13:].any()
    assert np.array_equal(reference.unpack(packed, 97), masks)


def test_products_are_those_of_the_unpacked_masks() -> None:
    rng = np.random.default_rng(1)
    masks = rng.random((20, 70)) < 0.5
    weights = rng.standard_normal((70, 3)).astype(np.float32)
    residuals = rng.standard_normal((20, 3)).astype(np.float32)
    packed = reference.pack(masks)
    expected = [sum(weights[i].astype(float) for i in np.flatnonzero(row)) for row in masks]
    np.testing.assert_allclose(reference.packed_matmul(packed, weights), expected, rtol=2e-6)
    expected = [residuals[column].sum(axis=0, dtype=float) for column in masks.T]
    got = reference.packed_matmul_transposed(packed, residuals, 70)
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_margins_agree_with_scipy() -> None:
    rng = np.random.default_rng(2)
    logits = (3 * rng.standard_normal((60, 5))).astype(np.float32)
    labels = rng.integers(0, 5, 6)
    rows, y = np.arange(60), labels[np.arange(60) % 6]
    log_p = log_softmax(logits.astype(float), axis=1)[rows, y]
    others = np.array([np.delete(z, c) for z, c in zip(logits.astype(float), y, strict=True)])
    expected = {
        "logsumexp": logits[rows, y] - logsumexp(others, axis=1),
        "max": logits[rows, y] - others.max(axis=1),
        "probability": np.exp(log_p),
        "cross_entropy": -log_p,
        "correct": logits.argmax(axis=1) == y,
    }
    assert set(expected) == set(reference.MARGIN_KINDS)
    for kind, values in expected.items():
        got = reference.margins(logits, labels, kind)
        np.testing.assert_allclose(got, values, rtol=3e-6, atol=1e-6)
