from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from pyattr import reference
from pyattr.masks import Masks, sample_masks, sample_seeds

SIZES = [1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 97, 127, 128, 129, 1000]
# Two-sided normal bound for a false alarm rate of 1e-6 a comparison (seeds are fixed).
Z = 4.9


def bools(n_masks: int, n_train: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n_masks, n_train)) < 0.5


def is_mean(bits: np.ndarray, probability: float) -> bool:
    """Whether independent bits may have this mean; false alarm rate 1e-6."""
    spread = np.sqrt(probability * (1 - probability) / bits.size)
    return bool(abs(bits.mean() - probability) <= Z * spread)


@pytest.mark.parametrize("n_train", SIZES)
def test_every_operation_is_that_on_booleans(n_train: int) -> None:
    x = bools(12, n_train)
    masks = Masks.pack(x)
    assert (len(masks), masks.n_masks, masks.n_train) == (12, 12, n_train)
    assert masks.packed.shape == (12, 8 * -(-n_train // 64))
    assert np.array_equal(masks.unpack(), x)
    assert Masks(masks.packed, n_train) == masks
    assert np.array_equal(masks.complement().unpack(), ~x)
    assert masks.complement().complement() == masks
    assert np.array_equal(masks.sizes(), x.sum(axis=1))
    order = np.array([3, -1, 0, 3])
    chosen = np.arange(12) % 3 == 0
    for index in (slice(2, 7), slice(None, None, -1), order, chosen, list(order), list(chosen)):
        assert np.array_equal(masks[index].unpack(), x[index])
    assert np.array_equal(masks[4].unpack(), x[4:5])
    assert np.array_equal(masks[-1].unpack(), x[-1:])
    assert len(masks[[]]) == 0
    assert Masks.concatenate([masks[:5], masks[5:5], masks[5:]]) == masks
    assert Masks.concatenate(list(masks)) == masks
    assert pickle.loads(pickle.dumps(masks)) == masks


def test_expand_gives_each_example_its_players_bit() -> None:
    x = bools(300, 9)
    groups = np.random.default_rng(1).integers(0, 9, 70_000)  # rows in more than one piece
    assert np.array_equal(Masks.pack(x).expand(groups).unpack(), x[:, groups])


def test_masks_cannot_be_changed() -> None:
    source = reference.pack(bools(3, 70))
    masks = Masks(source, 70)
    before = masks.unpack()
    source[:] = 0
    assert np.array_equal(masks.unpack(), before)
    with pytest.raises(ValueError, match="read-only"):
        masks.packed[0, 0] = 1
    with pytest.raises(AttributeError):
        masks.n_train = 3  # type: ignore[misc]
    assert masks != Masks.pack(np.zeros((3, 71), bool))
    assert masks != "masks"
    assert repr(masks) == "Masks(n_masks=3, n_train=70)"


@pytest.mark.parametrize(
    "call",
    [
        lambda: Masks.pack(np.ones((3, 4))),
        lambda: Masks.pack(np.ones(4, bool)),
        lambda: Masks.pack(np.ones((4, 0), bool)),
        lambda: Masks(np.full((2, 8), 255, np.uint8), 63),
        lambda: Masks(np.zeros((2, 8), np.uint8), 65),
        lambda: Masks(np.zeros((2, 8), np.int8), 64),
        lambda: Masks(np.zeros(8, np.uint8), 64),
        lambda: Masks(np.zeros((2, 0), np.uint8), 0),
        lambda: sample_masks(3, 4)[np.array([0.0, 1.0])],
        lambda: sample_masks(3, 4)[np.zeros((2, 2), int)],
        lambda: Masks.concatenate([]),
        lambda: Masks.concatenate([sample_masks(2, 4), sample_masks(2, 5)]),
        lambda: sample_masks(2, 4).expand([0, 4]),
        lambda: sample_masks(2, 4).expand([-1]),
        lambda: sample_masks(2, 4).expand([0.5]),
        lambda: sample_masks(2, 4).expand([]),
        lambda: sample_masks(2, 4, p=0.0),
        lambda: sample_masks(2, 4, p=1.0),
        lambda: sample_masks(2, 4, p=float("nan")),
        lambda: sample_masks(-1, 4),
        lambda: sample_masks(2, 0),
        lambda: sample_masks(2, 4, seed=-1),
        lambda: sample_masks(2, 4, seed=1 << 64),
        lambda: sample_masks(2, 4, design="other"),  # type: ignore[arg-type]
        lambda: sample_masks(3, 4, design="complement"),
        lambda: sample_masks(2, 4, p=0.4, design="complement"),
        lambda: sample_masks(2, 4, design="complement", first_row=1),
        lambda: sample_masks(2, 4, first_row=-1),
        lambda: sample_masks(2, 4).correlate(1.01),
        lambda: sample_masks(2, 4).correlate(float("nan")),
        lambda: sample_masks(2, 4, p=0.2).correlate(-0.26, p=0.2),
        lambda: sample_masks(2, 4).correlate(0.5, p=0.0),
        lambda: sample_seeds(-1),
    ],
)
def test_wrong_arguments_are_refused(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="expected"):
        call()


def test_rows_out_of_range_are_refused() -> None:
    for index in (3, -4, [3]):
        with pytest.raises(IndexError):
            sample_masks(3, 4)[index]


@pytest.mark.parametrize("p", [0.5, 0.3, 0.05, 0.999])
def test_bits_are_bernoulli(p: float, backend: str) -> None:
    x = sample_masks(400, 500, p, seed=3).unpack()
    assert is_mean(x, p)
    assert not is_mean(x, p - 0.02)  # 200,000 bits tell these apart
    # Bits of different columns and of different rows are uncorrelated.
    centred = (x - p) / np.sqrt(p * (1 - p))
    for a, b in [(centred[:, 1:], centred[:, :-1]), (centred[1:], centred[:-1])]:
        assert abs((a * b).mean()) <= Z / np.sqrt(a.size)


@pytest.mark.parametrize(
    ("p", "rho"), [(0.5, 0.6), (0.5, -0.6), (0.3, 0.2), (0.3, -0.4), (0.2, 1.0), (0.5, 0.0)]
)
def test_partners_have_the_stated_correlation(p: float, rho: float, backend: str) -> None:
    masks = sample_masks(400, 500, p, seed=4)
    partners = masks.correlate(rho, p, seed=5)
    x, y = masks.unpack(), partners.unpack()
    assert is_mean(y, p)
    one, zero = p + rho * (1 - p), p * (1 - rho)
    assert is_mean(y[x], one)
    assert is_mean(y[~x], zero)
    assert not is_mean(y[x], one + 0.05 if one < 0.5 else one - 0.05)
    if rho == 1.0:
        assert partners == masks
    else:
        assert masks.correlate(rho, p, seed=6) != partners


def test_extreme_correlations_are_exact() -> None:
    masks = sample_masks(20, 100, seed=1)
    assert masks.correlate(1.0) == masks
    assert masks.correlate(-1.0) == masks.complement()
    # At p != 1/2 the lowest rho never keeps a 1 (p > 1/2: a 0).
    low = sample_masks(200, 100, p=0.25, seed=1)
    assert not (low.correlate(-1 / 3, p=0.25).unpack() & low.unpack()).any()


def test_no_probability_rounds_to_never_or_always() -> None:
    for p, expected in [(1e-300, 2.0**-32), (1 - 1e-16, 1 - 2.0**-32)]:
        assert sample_masks(50, 1000, p) == sample_masks(50, 1000, expected)


def test_correlated_rows_are_addressed_by_first_row() -> None:
    masks = sample_masks(20, 100, seed=1)
    whole = masks.correlate(0.5, seed=2, first_row=10)
    assert masks[7:].correlate(0.5, seed=2, first_row=17) == whole[7:]


def test_a_row_depends_on_the_seed_and_its_number_alone(backend: str) -> None:
    masks = sample_masks(30, 100, p=0.3, seed=1)
    assert sample_masks(10, 100, p=0.3, seed=1) == masks[:10]
    assert sample_masks(10, 100, p=0.3, seed=1, first_row=20) == masks[20:]
    assert sample_masks(30, 100, p=0.3, seed=2) != masks
    assert sample_masks(30, 100, p=0.3, seed=1 + (1 << 32)) != masks


def test_complement_design() -> None:
    masks = sample_masks(20, 97, seed=1, design="complement")
    assert masks[0::2] == sample_masks(10, 97, seed=1)
    assert masks[1::2] == masks[0::2].complement()
    assert sample_masks(8, 97, seed=1, design="complement", first_row=12) == masks[12:]


def test_seeds_are_distinct_and_extend() -> None:
    seeds = sample_seeds(10_000, seed=1)
    assert seeds.dtype == np.uint64
    assert len(np.unique(seeds)) == 10_000  # 64 bits: a repeat has probability 3e-12
    assert np.array_equal(sample_seeds(5, seed=1), seeds[:5])
    assert np.array_equal(sample_seeds(5, seed=1, first_row=20), seeds[20:25])
    assert not np.array_equal(sample_seeds(5, seed=2), seeds[:5])


def test_masks_drawn_once_stay_the_same() -> None:
    # Manifests and recorded banks rely on these bits.
    masks = sample_masks(2, 70, p=0.3, seed=1)
    assert masks.packed.tobytes().hex() == (
        "500028e33c0e0820000000000000000002180606b44002020b00000000000000"
    )
    assert masks.correlate(0.5, p=0.3, seed=2).packed.tobytes().hex() == (
        "02c009513d0010a00000000000000000045c0204b40202320900000000000000"
    )
    assert sample_seeds(2, seed=1).tolist() == [7736173962843137271, 13119164502782024103]


def test_numpy_saves_masks_as_booleans(tmp_path: Path) -> None:
    masks = sample_masks(5, n_train=70, seed=3)
    np.save(tmp_path / "masks.npy", masks)
    read = np.load(tmp_path / "masks.npy")
    np.testing.assert_array_equal(read, masks.unpack(), strict=True)
    assert np.array_equal(Masks.pack(read).packed, masks.packed)
    assert np.asarray(masks, np.uint8).dtype == np.uint8
    with pytest.raises(ValueError, match="copy: expected True or None"):
        np.asarray(masks, copy=False)
