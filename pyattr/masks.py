"""Masks: which training examples each model is trained on, packed eight to a byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pyattr import kernels, reference
from pyattr.errors import bad_value, check_count, check_probability
from pyattr.reference import Stream

__all__ = ["Masks", "sample_masks", "sample_seeds"]

_UNPACKED_BYTES = 1 << 24  # room for unpacked rows when a mask has to be rebuilt bit by bit
_LISTED = 1 << 16  # bits of masks that are listed at a time, or one mask


def _threshold(probability: float) -> int:
    return round(probability * 2**32)


class Masks:
    """Subsets of `n_train` examples, one a row; immutable.

    Parameters
    ----------
    packed : (n_masks, row_bytes) uint8
        ``row_bytes = 8 * ceil(n_train / 64)``; example i is bit ``i % 8`` of byte ``i // 8``
        (``numpy.packbits(..., bitorder="little")``), bits from `n_train` on are 0. Copied unless
        it is read-only and in C order already.
    n_train : int
        At least 1.

    Raises
    ------
    ValueError
        If the shape or dtype is another, or a bit from `n_train` on is set.

    Examples
    --------
    >>> masks = sample_masks(4, 100, p=0.5, seed=1)
    >>> masks
    Masks(n_masks=4, n_train=100)
    >>> masks.unpack().shape
    (4, 100)
    >>> masks[1:3] == Masks.pack(masks.unpack()[1:3])
    True
    """

    __slots__ = ("_n_train", "_packed")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, packed: NDArray[np.uint8], n_train: int) -> None:
        self._n_train = n_train = check_count("n_train", n_train, 1)
        array = np.asarray(packed)
        if array.dtype != np.uint8 or array.ndim != 2:
            got = f"{array.ndim}-dimensional {array.dtype}"
            raise bad_value("packed", "a uint8 array (n_masks, row_bytes)", got)
        if array.shape[1] != reference.row_bytes(n_train):
            expected = f"{reference.row_bytes(n_train)} bytes a row for n_train {n_train}"
            raise bad_value("packed", expected, array.shape[1])
        if array.flags.writeable or not array.flags.c_contiguous:
            array = array.copy(order="C")
            array.flags.writeable = False
        if n_train % 64:
            tail = array.view(np.dtype("<u8"))[:, -1] >> np.uint64(n_train % 64)
            if tail.any():
                raise bad_value("packed", f"bits from {n_train} on to be 0", "a 1")
        self._packed = array

    @classmethod
    def _own(cls, packed: NDArray[np.uint8], n_train: int) -> Masks:
        """Wrap an array that nobody else holds and whose tail is 0, without another look at it."""
        packed.flags.writeable = False
        masks = cls.__new__(cls)
        masks._n_train, masks._packed = check_count("n_train", n_train, 1), packed
        return masks

    @classmethod
    def pack(cls, masks: ArrayLike) -> Masks:
        """Make masks from booleans.

        Parameters
        ----------
        masks : (n_masks, n_train) bool
            Which examples are in.

        Returns
        -------
        Masks

        Raises
        ------
        ValueError
            If it is no matrix of booleans with a column or more.
        """
        array = np.asarray(masks)
        if array.dtype != np.bool_ or array.ndim != 2:
            got = f"{array.ndim}-dimensional {array.dtype}"
            raise bad_value("masks", "a bool array (n_masks, n_train), as .astype(bool) makes", got)
        check_count("n_train", array.shape[1], 1)
        return cls._own(reference.pack(array), array.shape[1])

    @classmethod
    def concatenate(cls, parts: Sequence[Masks]) -> Masks:
        """Put the rows of several masks over the same examples one after the other.

        Parameters
        ----------
        parts : sequence of Masks
            One or more.

        Returns
        -------
        Masks

        Raises
        ------
        ValueError
            If there are none, or they are over different numbers of examples.
        """
        sizes = {part.n_train for part in parts}
        if len(sizes) != 1:
            raise bad_value("parts", "one or more masks of one n_train", sorted(sizes))
        return cls._own(np.concatenate([part.packed for part in parts]), sizes.pop())

    def unpack(self) -> NDArray[np.bool_]:
        """Return the masks as (n_masks, n_train) bool."""
        return reference.unpack(self._packed, self._n_train)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """What NumPy makes of the masks: (n_masks, n_train) bool, so that `numpy.save` takes them."""
        if copy is False:
            raise ValueError(
                "copy: expected True or None, since packed masks are no array, got False"
            )
        return self.unpack().astype(dtype or np.bool_, copy=False)

    def indices(self) -> Iterator[NDArray[np.int64]]:
        """Yield the examples of one mask after the other, rising, (n_included,) int64."""
        step = max(1, _LISTED // self._n_train)  # some at a time: a call of the kernel costs too
        for first in range(0, self.n_masks, step):
            packed = self._packed[first : first + step]
            indices, ends = kernels.mask_indices(packed, self._n_train)
            begin = 0
            for end in ends.tolist():
                yield indices[begin:end]
                begin = end

    @property
    def packed(self) -> NDArray[np.uint8]:
        """The bits, (n_masks, row_bytes) uint8, read-only."""
        return self._packed

    @property
    def n_masks(self) -> int:
        """Number of masks."""
        return int(self._packed.shape[0])

    @property
    def n_train(self) -> int:
        """Number of examples a mask chooses from."""
        return self._n_train

    def __len__(self) -> int:
        return self.n_masks

    def __iter__(self) -> Iterator[Masks]:
        return (self[j] for j in range(self.n_masks))

    def __getitem__(self, index: int | slice | ArrayLike) -> Masks:
        """Return the chosen rows: by int (one row), slice, integer array or bool array."""
        if isinstance(index, (int, np.integer)) and not isinstance(index, bool):
            if not -self.n_masks <= index < self.n_masks:
                raise IndexError(f"index: expected a row of {self.n_masks}, got {index}")
            row = int(index) % self.n_masks
            return type(self)(self._packed[row : row + 1], self._n_train)
        if isinstance(index, slice):
            return type(self)(self._packed[index], self._n_train)
        chosen = np.asarray(index)
        if chosen.ndim == 1 and chosen.size == 0:
            chosen = chosen.astype(np.intp)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iub":
            got = f"{chosen.ndim}-dimensional {chosen.dtype}"
            raise bad_value("index", "an int, a slice, or a vector of ints or bools", got)
        return type(self)._own(self._packed[chosen], self._n_train)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Masks):
            return NotImplemented
        return self._n_train == other._n_train and np.array_equal(self._packed, other._packed)

    def __repr__(self) -> str:
        return f"Masks(n_masks={self.n_masks}, n_train={self._n_train})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._packed, self._n_train)

    def sizes(self) -> NDArray[np.int64]:
        """Return the number of examples in each mask, (n_masks,) int64."""
        words = self._packed.view(np.uint64)
        counts: NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
        return counts

    def complement(self) -> Masks:
        """Return the masks with every bit turned: x̄ = 1 - x."""
        turned = ~self._packed
        if self._n_train % 64:
            keep = np.uint64((1 << self._n_train % 64) - 1)
            turned.view(np.dtype("<u8"))[:, -1] &= keep
        return self._own(turned, self._n_train)

    def correlate(self, rho: float, p: float = 0.5, seed: int = 0, first_row: int = 0) -> Masks:
        """Draw a ρ-correlated partner of every mask.

        Bit i of the partner is kept with probability ρ, else drawn afresh from Bernoulli(p):
        Bernoulli(p + ρ(1-p)) where x_i = 1, Bernoulli(p(1-ρ)) where x_i = 0 (probabilities rounded
        to multiples of 2^-32). The second form is defined for negative ρ too.

        Parameters
        ----------
        rho : float
            In [-min(p/(1-p), (1-p)/p), 1].
        p : float
            The probability these masks were drawn with.
        seed : int
            In [0, 2^64).
        first_row : int
            Counter of the first row's random bits; rows with the same seed and counter share them.

        Returns
        -------
        Masks
            Same shape. ``rho=1`` gives the masks themselves, ``rho=-1`` their complements.

        References
        ----------
        O'Donnell, *Analysis of Boolean Functions*, 2014, definition 2.40 and section 8.4.
        """
        p = check_probability("p", p)
        lowest = -min(p / (1 - p), (1 - p) / p)
        if not lowest <= rho <= 1.0:
            raise bad_value("rho", f"a number in [{lowest:.6g}, 1] for p = {p}", rho)
        one = _threshold(min(max(p + rho * (1 - p), 0.0), 1.0))
        zero = _threshold(min(max(p * (1 - rho), 0.0), 1.0))
        stream, n = Stream.CORRELATED, self._n_train
        drawn = kernels.correlate_masks(self._packed, seed, stream, first_row, n, one, zero)
        return self._own(drawn, n)

    def expand(self, groups: ArrayLike) -> Masks:
        """Turn masks over groups of examples into masks over the examples.

        Parameters
        ----------
        groups : (n_examples,) int
            ``groups[e]`` is the group (bit of these masks) that example e belongs to.

        Returns
        -------
        Masks
            (n_masks, n_examples): an example is in when its group is.

        Raises
        ------
        ValueError
            If a group is none of these masks' bits.
        """
        group = np.asarray(groups)
        if group.ndim != 1 or group.dtype.kind not in "iu" or group.size == 0:
            got = f"shape {group.shape} {group.dtype}"
            raise bad_value("groups", "a non-empty vector of ints", got)
        if group.min() < 0 or group.max() >= self._n_train:
            got = f"{group.min()} to {group.max()}"
            raise bad_value("groups", f"values in [0, {self._n_train})", got)
        packed = np.empty((self.n_masks, reference.row_bytes(group.size)), np.uint8)
        step = max(1, _UNPACKED_BYTES // group.size)
        for j in range(0, self.n_masks, step):
            bits = reference.unpack(self._packed[j : j + step], self._n_train)
            packed[j : j + step] = reference.pack(bits[:, group])
        return self._own(packed, group.size)


def sample_masks(
    n_masks: int,
    n_train: int,
    p: float = 0.5,
    seed: int = 0,
    design: Literal["iid", "complement"] = "iid",
    first_row: int = 0,
) -> Masks:
    """Draw random masks: every example is in with probability p, independently.

    Parameters
    ----------
    n_masks, n_train : int
    p : float
        Strictly between 0 and 1; rounded to a multiple of 2^-32 strictly between them.
    seed : int
        In [0, 2^64). Row j depends on the seed and j alone.
    design : {"iid", "complement"}
        "complement": rows 2j and 2j + 1 are complements, row 2j being row j of the "iid" design.
        Needs p = 1/2 and an even `n_masks`.
    first_row : int
        Counter of the first row: a long list of masks can be drawn in parts.

    Returns
    -------
    Masks
        The same bits on every machine.

    Raises
    ------
    ValueError
        If an argument is out of range, or the complement design is asked for what it does not have.
    """
    p = check_probability("p", p)
    n_masks, n_train = check_count("n_masks", n_masks), check_count("n_train", n_train, 1)
    threshold = min(max(_threshold(p), 1), 2**32 - 1)
    if design == "iid":
        drawn = kernels.sample_masks(seed, Stream.MASKS, first_row, n_masks, n_train, threshold)
        return Masks._own(drawn, n_train)
    if design != "complement":
        raise bad_value("design", "'iid' or 'complement'", repr(design))
    if p != 0.5:
        raise bad_value("p", "1/2 with the complement design", p)
    if n_masks % 2:
        raise bad_value("n_masks", "an even number with the complement design", n_masks)
    if first_row % 2:
        raise bad_value("first_row", "an even number with the complement design", first_row)
    half = sample_masks(n_masks // 2, n_train, p, seed, first_row=first_row // 2)
    pairs = np.stack([half.packed, half.complement().packed], axis=1)
    return Masks._own(pairs.reshape(n_masks, -1), n_train)


def sample_seeds(n: int, seed: int = 0, first_row: int = 0) -> NDArray[np.uint64]:
    """Draw the seeds of n training runs.

    Parameters
    ----------
    n : int
    seed : int
        In [0, 2^64). Entry j depends on the seed and j alone.
    first_row : int
        Counter of the first entry.

    Returns
    -------
    (n,) uint64
        The same on every machine.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    return kernels.sample_seeds(n, seed, first_row)
