"""Who owns which training example, where mask bits stand for sellers.

The result is what `pyattr.retraining.ensemble.Ensemble` takes as `groups`: one number an example, sellers
numbered from 0 without gaps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyattr.errors import bad_value, check_count
from pyattr.retraining.retrain import check_groups

__all__ = ["SellerSkew", "deal_to_sellers", "read_sellers"]

SellerSkew: TypeAlias = Literal["none", "label"]

_FEWEST: Final = 2  # with one, a model has all examples or none
_MOST_DIGITS: Final = 18  # of a number in int64


def deal_to_sellers(
    labels: ArrayLike, n_sellers: int, skew: SellerSkew = "none"
) -> NDArray[np.int64]:
    """Deal examples to sellers in runs whose lengths differ by one at most.

    The example at place r of n goes to seller ``r * n_sellers // n``. Nothing is drawn: a dataset of
    `pyattr.datasets.load` comes in a random order already.

    Parameters
    ----------
    labels : (n_examples,) int
    n_sellers : int
        From 2 to n_examples.
    skew : {"none", "label"}
        Places are those of the examples as they come, so that all sellers have about the same mixture; or
        those after sorting by label (and by index within one), so that a seller has one class or a few
        neighbouring ones.

    Returns
    -------
    (n_examples,) int64

    Raises
    ------
    ValueError
        If an argument is wrong.

    Examples
    --------
    >>> deal_to_sellers([1, 0, 1, 0, 0], 2)
    array([0, 0, 0, 1, 1])
    >>> deal_to_sellers([1, 0, 1, 0, 0], 2, "label")
    array([1, 0, 1, 0, 0])
    """
    column = np.asarray(labels)
    n_sellers = check_count("sellers", n_sellers, _FEWEST)
    if n_sellers > column.size:
        raise bad_value("sellers", f"at most {column.size}, one an example", n_sellers)
    if skew not in ("none", "label"):
        raise bad_value("seller_skew", "'none' or 'label'", repr(skew))
    order = np.argsort(column, kind="stable") if skew == "label" else np.arange(column.size)
    owners = np.empty(column.size, np.int64)
    owners[order] = np.arange(column.size) * n_sellers // column.size
    return owners


def read_sellers(path: Path, n_examples: int) -> NDArray[np.int64]:
    """Read the owner of each training example.

    Parameters
    ----------
    path : Path
        A ``.npy`` file of (n_examples,) integers, or a ``.csv`` file with one a line; a first line that
        begins with a letter is a heading.
    n_examples : int

    Returns
    -------
    (n_examples,) int64

    Raises
    ------
    ValueError
        If it holds anything else, or sellers are not numbered 0, 1, 2, … without gaps, or there is one alone.
    OSError
        If it cannot be read.
    """
    if path.suffix in (".npy", ".csv") and not path.exists():
        raise bad_value("sellers", "a number, or a file that is there", path)
    if path.suffix == ".npy":
        try:
            owners = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            expected = "an array of integers as numpy.save writes it"
            raise bad_value("sellers", expected, f"{path}, which is none") from error
    elif path.suffix == ".csv":
        owners = _column(path)
    else:
        raise bad_value("sellers", "a number, or a .npy or .csv file", path)
    try:
        checked = check_groups(owners, n_examples)
    except ValueError as error:
        said = str(error).removeprefix("groups: ").replace("groups", "sellers")
        raise ValueError(f"sellers: {path}: {said}") from error
    if not checked.any():
        raise bad_value("sellers", f"at least {_FEWEST} of them in {path}", 1)
    return checked


def _column(path: Path) -> NDArray[np.int64]:
    """Whole numbers, one a line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise bad_value("sellers", f"{path} to be text in UTF-8", error) from error
    heading = bool(lines) and lines[0].lstrip(" '\"")[:1].isalpha()
    owners = []
    for number, line in enumerate(lines[heading:], 1 + heading):
        if not line.strip().isdecimal() or len(line) > _MOST_DIGITS:
            got = f"{path}, line {number}: {line[:80]!r}"
            raise bad_value("sellers", "the number of a seller", got)
        owners.append(int(line))
    return np.array(owners, np.int64)
