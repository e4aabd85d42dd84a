"""Initial weights and data order: what a model's own seed decides."""

from __future__ import annotations

import numpy as np
import scipy.stats

from pyattr import reference
from pyattr.masks import sample_masks, sample_seeds
from pyattr.reference import Stream
from pyattr.retraining.model_seed import data_order, uniform_initialisation


def slow_order(bits, seed, length):
    """The definition: sort the pool by each epoch's words, then leave out what is not in the subset."""
    stream, plane = [], 0
    while bits.any() and len(stream) < length:
        words = reference.random_words(np.array([seed]), Stream.ORDER, plane, len(bits))[0]
        pool = np.argsort(words, kind="stable")
        stream += [i for i in pool if bits[i]]
        plane += 1
    return np.array(stream[:length] or [0] * length)


def test_order_is_the_pools_order_restricted_to_the_subset():
    bits = sample_masks(9, 33, seed=2).unpack()
    bits[3] = False
    bits[4] = np.arange(33) == 32
    bits[5] = True
    seeds = sample_seeds(9, 2)
    order = data_order(bits, seeds, 100)
    assert order.dtype == np.int32
    for j in range(9):
        np.testing.assert_array_equal(order[j], slow_order(bits[j], seeds[j], 100))


def test_leaving_one_out_keeps_the_order_of_the_others():
    bits = np.ones((2, 50), bool)
    bits[1, 7] = False
    seeds = np.array([5, 5], np.uint64)
    whole, without = data_order(bits, seeds, 500)
    np.testing.assert_array_equal(whole[whole != 7][:400], without[:400])


def test_order_does_not_depend_on_other_rows():
    bits, seeds = sample_masks(6, 40, 0.3, seed=1).unpack(), sample_seeds(6, 1)
    together = data_order(bits, seeds, 70)
    for j in range(6):
        np.testing.assert_array_equal(
            data_order(bits[j : j + 1], seeds[j : j + 1], 70)[0], together[j]
        )


def test_first_example_is_uniform():
    # χ² test at false-alarm rate 1e-6 on a fixed seed.
    first = data_order(np.ones((4000, 8), bool), sample_seeds(4000, 3), 1)[:, 0]
    counts = np.bincount(first, minlength=8)
    assert scipy.stats.chisquare(counts).pvalue > 1e-6
    assert scipy.stats.chisquare(counts + np.array([150] + 7 * [0])).pvalue < 1e-6


def test_initialisation_is_uniform_and_its_planes_differ():
    seeds = sample_seeds(50, 4)
    drawn = uniform_initialisation(seeds, 200)
    assert drawn.dtype == np.float32
    # Kolmogorov-Smirnov at false-alarm rate 1e-6 on a fixed seed; a range of ±0.9 must fail it.
    uniform = scipy.stats.uniform(-1, 2)
    assert scipy.stats.kstest(drawn.ravel(), uniform.cdf).pvalue > 1e-6
    assert scipy.stats.kstest(0.9 * drawn.ravel(), uniform.cdf).pvalue < 1e-6
    assert not np.intersect1d(drawn[0], uniform_initialisation(seeds, 200, plane=1)[0]).size
    np.testing.assert_array_equal(drawn[7:9, :50], uniform_initialisation(seeds[7:9], 50))


def test_initialisation_is_the_midpoint_of_the_words_cell():
    seeds = sample_seeds(3, 1)
    words = reference.random_words(seeds, Stream.INIT, 0, 64)
    exact = ((words >> 8).astype(np.float64) + 0.5) * 2.0**-23 - 1.0
    np.testing.assert_array_equal(uniform_initialisation(seeds, 64).astype(np.float64), exact)
