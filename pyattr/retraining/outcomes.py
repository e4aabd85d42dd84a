"""Training the rows of a chunk so that each one's failure stays its own."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from pyattr.errors import Diverged
from pyattr.interface import Retrain
from pyattr.masks import Masks
from pyattr.retraining.bank_format import Status, unusable_row

__all__ = ["Outcome", "train_apart", "train_rows"]

Float32 = NDArray[np.float32]
Outcome = tuple[Float32, dict[int, tuple[Status, str]]]
"""Outputs (n, n_targets) with `unusable_row` for failed trainings, and what these said, by row."""

_NOT_FINITE = "the outputs hold NaN or infinity"


def train_rows(
    retrain: Retrain, masks: Masks, seeds: NDArray[np.uint64], n_targets: int
) -> Outcome:
    """Train models together; if that fails, one at a time, so that the failure is one row's.

    Parameters
    ----------
    retrain : callable
        Row j of what it returns depends on mask j and seed j alone.
    masks : Masks
        n subsets.
    seeds : (n,) uint64
    n_targets : int

    Raises
    ------
    ValueError
        If it returns another shape: no row is at fault then.
    """
    try:
        outputs = _trained(retrain, masks, seeds, n_targets)
    except _WrongShapeError:
        raise
    except Exception as error:  # of the trainer, which may be the user's
        if len(masks) == 1:
            return _failed(error, n_targets)
        return _joined(
            train_rows(retrain, masks[row], seeds[row : row + 1], n_targets)
            for row in range(len(masks))
        )
    diverged = np.flatnonzero(~np.isfinite(outputs).all(axis=1))
    outputs[diverged] = unusable_row(Status.DIVERGED, n_targets)
    return outputs, {int(row): (Status.DIVERGED, _NOT_FINITE) for row in diverged}


def train_apart(
    make_retrain: Callable[[], Retrain], masks: Masks, seeds: NDArray[np.uint64], n_targets: int
) -> Outcome:
    """Train one row after another in a process apart, so that one that is killed takes no other along.

    Parameters
    ----------
    make_retrain : callable
        Makes the trainer in the new process; it must be importable there.
    masks, seeds, n_targets
        As for `train_rows`.
    """
    rows: list[Outcome] = []
    while len(rows) < len(masks):  # a new process after each one that died
        rows += _in_process(make_retrain, masks[len(rows) :], seeds[len(rows) :], n_targets)
    return _joined(rows)


class _WrongShapeError(ValueError):
    """The trainer does not do what was said of it."""


def _trained(retrain: Retrain, masks: Masks, seeds: NDArray[np.uint64], n_targets: int) -> Float32:
    outputs = np.asarray(retrain(masks, seeds))
    if outputs.shape != (len(masks), n_targets):
        expected = f"shape ({len(masks)}, {n_targets})"
        raise _WrongShapeError(f"outputs: expected {expected}, got {outputs.shape}")
    if outputs.dtype.kind not in "biuf":
        raise _WrongShapeError(f"outputs: expected real numbers, got {outputs.dtype}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinity, and so diverged
        return np.array(outputs, np.float32, order="C")


def _failed(error: Exception, n_targets: int) -> Outcome:
    status = Status.DIVERGED if isinstance(error, Diverged) else Status.FAILED
    return _one(status, f"{type(error).__name__}: {error}", n_targets)


def _one(status: Status, message: str, n_targets: int) -> Outcome:
    return unusable_row(status, n_targets)[np.newaxis], {0: (status, message)}


def _joined(rows: Iterable[Outcome]) -> Outcome:
    outputs: list[Float32] = []
    failures: dict[int, tuple[Status, str]] = {}
    for row, (values, said) in enumerate(rows):
        outputs.append(values)
        if said:
            failures[row] = said[0]
    return np.concatenate(outputs), failures


def _in_process(
    make_retrain: Callable[[], Retrain], masks: Masks, seeds: NDArray[np.uint64], n_targets: int
) -> list[Outcome]:
    """Train rows in one process; those up to the one that it died of, if it did."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, make_retrain, masks, seeds, n_targets)
    process = context.Process(target=_send_outcomes, args=arguments)
    process.start()
    sender.close()
    rows: list[Outcome] = []
    try:
        while len(rows) < len(masks):
            received: Outcome | RuntimeError = receiver.recv()
            if isinstance(received, RuntimeError):
                raise received
            rows.append(received)
    except EOFError:
        process.join()
        rows.append(_one(Status.DIED, _end(process.exitcode), n_targets))
    finally:
        receiver.close()
        process.join()
    return rows


def _send_outcomes(
    sender: Connection,
    make_retrain: Callable[[], Retrain],
    masks: Masks,
    seeds: NDArray[np.uint64],
    n_targets: int,
) -> None:
    try:
        retrain = make_retrain()
        for row in range(len(masks)):
            sender.send(train_rows(retrain, masks[row], seeds[row : row + 1], n_targets))
    except Exception as error:  # no training's own failure
        sender.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _end(exit_code: int | None) -> str:
    """Say how a process ended."""
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = ", as for want of memory" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{hint}"
    return f"the process ended with exit code {exit_code}"
