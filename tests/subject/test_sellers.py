"""Who owns which example: dealt by a rule, or read from a file that is checked."""

from __future__ import annotations

import numpy as np
import pytest

from pyattr.subject.sellers import deal_to_sellers, read_sellers

LABELS = np.random.default_rng(0).integers(0, 10, 1000)


@pytest.mark.parametrize("skew", ["none", "label"])
@pytest.mark.parametrize("n_sellers", [2, 7, 50, 1000])
def test_every_example_has_an_owner_and_shares_are_as_equal_as_can_be(n_sellers, skew):
    owners = deal_to_sellers(LABELS, n_sellers, skew)
    assert owners.shape == LABELS.shape
    held = np.bincount(owners, minlength=n_sellers)
    assert len(held) == n_sellers
    assert held.min() >= 1
    assert held.max() - held.min() <= 1


def test_with_a_skew_a_seller_has_few_classes_and_without_all():
    def n_classes(skew):
        owners = deal_to_sellers(LABELS, 10, skew)
        return [len(np.unique(LABELS[owners == k])) for k in range(10)]

    # 100 examples of 10 equal classes: one is missing with probability 10 * 0.9^100 = 3e-4.
    assert n_classes("none") == [10] * 10
    # A run as long as a class is on average covers two, three where one is short.
    assert max(n_classes("label")) <= 3


def test_sorting_by_label_keeps_the_order_within_one():
    owners = deal_to_sellers(LABELS, 50, "label")
    for label in range(10):
        assert (np.diff(owners[label == LABELS]) >= 0).all()
    below = owners[LABELS == 3].max()
    assert below <= owners[LABELS == 4].min()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1,), "sellers: expected a whole number of at least 2, got 1"),
        ((1001,), "sellers: expected at most 1000, one an example, got 1001"),
        ((5, "size"), "seller_skew: expected 'none' or 'label', got 'size'"),
    ],
)
def test_a_deal_that_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        deal_to_sellers(LABELS, *arguments)


@pytest.mark.parametrize("heading", ["", "seller\n", '"the seller"\n'])
def test_files_say_who_owns_what(tmp_path, heading):
    owners = np.arange(12) % 5
    np.save(tmp_path / "o.npy", owners.astype(np.uint8))
    (tmp_path / "o.csv").write_text(heading + "".join(f"{k}\n" for k in owners))
    for name in ("o.npy", "o.csv"):
        read = read_sellers(tmp_path / name, 12)
        assert read.dtype == np.int64
        np.testing.assert_array_equal(read, owners)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("o.csv", "0\n1\n", "expected one entry for each of 3 examples, got 2"),
        ("o.csv", "0\n2\n2\n", "expected sellers numbered 0, 1, 2, … without gaps"),
        ("o.csv", "0\nx\n1\n", "expected the number of a seller, got .*line 2: 'x'"),
        ("o.csv", "seller\n0\n-1\n1\n", "expected the number of a seller, got .*line 3: '-1'"),
        ("o.csv", f"0\n{10**19}\n1\n", "expected the number of a seller, got .*line 2: '1000"),
        ("o.csv", "", "expected a non-empty vector of integers"),
        ("o.csv", "-1\n0\n1\n1\n", "expected the number of a seller, got .*line 1: '-1'"),
        ("o.csv", "0.0\n0\n1\n1\n", r"expected the number of a seller, got .*line 1: '0\.0'"),
        ("o.csv", "0,1,1\n", "expected the number of a seller, got .*line 1: '0,1,1'"),
        ("o.csv", "0\n0\n0\n", r"expected at least 2 of them in .*o\.csv, got 1"),
        ("o.csv", b"\xff\xfe0\n", r"expected .*o\.csv to be text in UTF-8, got .*byte 0xff"),
        ("o.npy", "not one", "expected an array of integers as numpy.save writes it, got .*o.npy"),
        ("o.txt", "0\n1\n2\n", r"expected a number, or a \.npy or \.csv file"),
    ],
)
def test_files_that_say_anything_else_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=rf"^sellers: .*{words}"):
        read_sellers(tmp_path / name, 3)


def test_arrays_of_anything_else_are_refused(tmp_path):
    for owners in (np.zeros(3), np.zeros((3, 1), int), np.array(["0", "1", "2"])):
        np.save(tmp_path / "o.npy", owners)
        with pytest.raises(ValueError, match=r"sellers: .*expected a non-empty vector of integers"):
            read_sellers(tmp_path / "o.npy", 3)
