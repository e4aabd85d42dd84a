"""The retrain interface, and the adaptor that turns a plain train function into it."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyattr.errors import Diverged, bad_value, check_count
from pyattr.interface import Retrain
from pyattr.masks import Masks

__all__ = ["PlainRetrain", "Retrain", "check_groups", "check_runs", "retrain_with"]

Train = Callable[[NDArray[np.int64], int], ArrayLike]


def check_groups(groups: ArrayLike, n_examples: int | None = None) -> NDArray[np.int64]:
    """Check who owns which example.

    Parameters
    ----------
    groups : (n_examples,) int
        ``groups[e]`` is the group (mask bit) that example e belongs to; every group from 0 to the
        largest has an example.
    n_examples : int, optional
        The length to insist on.

    Returns
    -------
    (n_examples,) int64

    Raises
    ------
    ValueError
        If they are not that.
    """
    array = np.asarray(groups)
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.size == 0:
        got = f"shape {array.shape} {array.dtype}"
        raise bad_value("groups", "a non-empty vector of integers", got)
    if n_examples is not None and array.size != n_examples:
        raise bad_value("groups", f"one entry for each of {n_examples} examples", array.size)
    found = np.unique(array)
    if found[0] != 0 or found[-1] != found.size - 1:
        got = f"{found.size} different values from {found[0]} to {found[-1]}"
        raise bad_value("groups", "groups numbered 0, 1, 2, … without gaps", got)
    return array.astype(np.int64)


def check_runs(masks: Masks, seeds: ArrayLike, n_train: int | None = None) -> NDArray[np.uint64]:
    """Check the arguments of a `Retrain` and return the seeds.

    Parameters
    ----------
    masks : Masks
        (n, n_train).
    seeds : (n,) uint64
        Other integers are converted when none is negative.
    n_train : int, optional
        The number of mask bits to insist on.

    Returns
    -------
    (n,) uint64

    Raises
    ------
    ValueError
        If the two do not fit each other or `n_train`.
    """
    if not isinstance(masks, Masks):
        raise bad_value("masks", "a pyattr.Masks (Masks.pack makes one)", type(masks).__name__)
    if n_train is not None and masks.n_train != n_train:
        raise bad_value("masks", f"{n_train} bits a row", masks.n_train)
    array = np.asarray(seeds)
    if array.ndim != 1 or array.dtype.kind not in "iu" or len(array) != len(masks):
        got = f"shape {array.shape} {array.dtype}"
        raise bad_value("seeds", f"a vector of {len(masks)} uint64, one a mask", got)
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        raise bad_value("seeds", "integers of at least 0", array.min())
    return array.astype(np.uint64)


@dataclass(frozen=True)
class PlainRetrain:
    """A `Retrain` made of a plain train function; see `retrain_with`."""

    train: Train
    groups: NDArray[np.int64] | None
    n_jobs: int

    def __call__(self, masks: Masks, seeds: NDArray[np.uint64], /) -> NDArray[np.float32]:
        """Train one model a row; see `Retrain`."""
        n_train = None if self.groups is None else int(self.groups.max()) + 1
        checked = check_runs(masks, seeds, n_train)
        if len(masks) == 0:
            raise bad_value("masks", "at least one row", 0)
        rows = zip(itertools.count(), self._subsets(masks), checked.tolist(), strict=False)
        outputs: NDArray[np.float32] | None = None
        with _mapping(self.n_jobs, len(masks)) as mapping:
            for row, output in enumerate(mapping(_Run(self.train), rows)):
                if outputs is None:
                    outputs = np.empty((len(masks), len(output)), np.float32)
                if len(output) != outputs.shape[1]:
                    expected = f"shape {outputs.shape[1:]} as at row 0"
                    raise bad_value("outputs", expected, f"{output.shape} at row {row}")
                outputs[row] = output
        assert outputs is not None
        return outputs

    def _subsets(self, masks: Masks) -> Iterator[NDArray[np.int64]]:
        """Yield the examples of each mask, in rising order, (n_included,) int64."""
        if self.groups is None:
            yield from masks.indices()
            return
        for mask in masks:
            yield np.flatnonzero(mask.unpack()[0][self.groups]).astype(np.int64)


_Row = tuple[int, NDArray[np.int64], int]


@dataclass(frozen=True)
class _Run:
    """Call `train` on one row and check what it returns; a class, since processes pickle it."""

    train: Train

    def __call__(self, row: _Row) -> NDArray[np.float32]:
        _, indices, seed = row
        try:
            returned = self.train(indices, seed)
        except Exception as error:  # the user's code: whatever it raises is named with its row
            message = f"train: {type(error).__name__} at {_where(row)}: {error}"
            raise RuntimeError(message) from error
        try:
            output = np.asarray(returned, dtype=np.float32)
        except (TypeError, ValueError) as error:
            got = f"{type(returned).__name__} at {_where(row)}"
            raise bad_value("outputs", "numbers", got) from error
        if output.ndim == 0:
            output = output[np.newaxis]
        if output.ndim != 1 or output.size == 0:
            got = f"shape {output.shape} at {_where(row)}"
            raise bad_value("outputs", "a non-empty vector", got)
        # The sum of squares tells it in a third of the time, unless it is too large itself.
        if not (math.isfinite(output.dot(output)) or np.isfinite(output).all()):
            got = f"NaN or infinity at {_where(row)}"
            raise Diverged(f"outputs: expected finite numbers, got {got}")
        return output


def _where(row: _Row) -> str:
    number, indices, seed = row
    return f"row {number} (seed {seed}, {len(indices)} examples)"


@contextmanager
def _mapping(n_jobs: int, n_rows: int) -> Iterator[Callable[..., Iterator[NDArray[np.float32]]]]:
    """Provide an ordered map over rows: in this process, or over fresh processes."""
    if n_jobs == 1 or n_rows == 1:
        yield map
        return
    # Threads would share the global generators that train functions seed, so results would depend on
    # n_jobs; a forked child of a process with threads can hang. So: fresh processes.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(n_jobs, n_rows), mp_context=context) as pool:
        chunk = max(1, n_rows // (8 * n_jobs))

        def ordered(run: _Run, rows: Iterable[_Row]) -> Iterator[NDArray[np.float32]]:
            return pool.map(run, rows, chunksize=chunk)

        try:
            yield ordered
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def retrain_with(train: Train, groups: ArrayLike | None = None, n_jobs: int = 1) -> PlainRetrain:
    """Make a `Retrain` from a plain train function.

    Parameters
    ----------
    train : callable
        ``train(indices, seed) -> outputs``: `indices` (n_included,) int64 in rising order, possibly empty;
        `seed` an int in [0, 2^64); `outputs` (n_targets,) finite numbers, or one number. It should depend
        on these two alone.
    groups : (n_examples,) int, optional
        ``groups[e]`` is the group that example e belongs to, its seller say. Mask bits are then groups, and
        `indices` the examples of all groups that are in.
    n_jobs : int
        Processes to train in. With more than one, `train` must be importable (defined at the top level of
        a module), since it is sent to fresh processes. Outputs come back in the order of the rows and do
        not depend on `n_jobs` unless `train` itself does.

    Returns
    -------
    PlainRetrain
        ``retrain(masks, seeds) -> (n, n_targets) float32``. It raises RuntimeError, naming row and seed,
        when `train` fails, and ValueError when outputs are not finite or change shape.

    Raises
    ------
    ValueError
        If `train` is no function, or cannot be sent to other processes and `n_jobs` is above 1, or `groups`
        are not numbered 0, 1, 2, … without gaps.

    Examples
    --------
    >>> from pyattr.masks import sample_masks
    >>> retrain = retrain_with(lambda indices, seed: [len(indices), indices.sum()])
    >>> masks = sample_masks(3, 10)
    >>> bool((retrain(masks, np.arange(3, dtype=np.uint64))[:, 0] == masks.sizes()).all())
    True
    """
    if not callable(train):
        raise bad_value("train", "a function of (indices, seed)", type(train).__name__)
    n_jobs = check_count("n_jobs", n_jobs, 1)
    if n_jobs > 1:
        _check_importable(train)
    return PlainRetrain(train, None if groups is None else check_groups(groups), n_jobs)


def _check_importable(train: Train) -> None:
    try:
        pickle.dumps(train)
    except Exception as error:  # pickling runs the object's own code, which can raise anything
        expected = "a function defined at the top level of a module, when n_jobs is above 1"
        raise bad_value("train", expected, f"{train!r} ({error})") from error
