"""What two parties call the examples they train on."""

from __future__ import annotations

import pytest

from pyattr.subject.data import Data

pytest.importorskip("sklearn")


def words(**changed):
    data = Data(name="digits", **{"n_train": 60, "n_targets": 5, **changed})
    return data.words(data.load())


def test_words_are_those_of_the_dataset():
    assert words() == {
        "dataset": "digits",
        "n_train": 60,
        "n_test": 5,
        "dataset_seed": 0,
        "flip_fraction": 0.0,
    }
    assert words(n_train=None)["n_train"] == 1000  # as loaded, not as asked for


@pytest.mark.parametrize(
    ("changed", "more"),
    [
        ({"seed": 3}, {"dataset_seed": 3}),
        ({"flip_fraction": 1}, {"flip_fraction": 1.0}),
        ({"pool": 2}, {"pool": 2}),
        ({"sellers": 5}, {"sellers": 5, "seller_skew": "none"}),
        (
            {"sellers": 5, "seller_skew": "label"},
            {"sellers": 5, "seller_skew": "label"},
        ),
        # Where files lie is a machine's affair; what they hold is in the digest of the records.
        ({"sellers": "owners.csv"}, {}),
        ({"feed": "ffcv"}, {}),
    ],
)
def test_whatever_decides_what_is_trained_on_is_among_the_words(changed, more):
    found = words(**changed)
    assert found == {**words(), **more}
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in {**words(), **more}.items()
    }
