"""Trainers for the tests of the bank: instant, and wrong in every way that trainings go wrong.

Processes that train import this module, so it needs NumPy and pyattr alone.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from dataclasses import dataclass

import numpy as np

from pyattr.retraining import retrain_with
from pyattr.retraining.bank_manifest import Manifest

N_TRAIN, N_TARGETS, CHUNK_ROWS = 40, 5, 8
MANIFEST = Manifest(N_TRAIN, N_TARGETS, 0.5, "iid", CHUNK_ROWS, {"kind": "test"})
KILLER_ROW_SEED = 5  # the row, of any run, that a bad trainer fails at: its seed is 5 modulo 64


def outputs_of(masks, seeds):
    """Outputs that depend on every bit of mask and seed."""
    bits = masks.unpack().astype(np.float64)
    weights = np.random.default_rng(0).standard_normal((masks.n_train, N_TARGETS))
    noise = (seeds % np.uint64(1009)).astype(np.float64) / 1009
    return (bits @ weights + noise[:, None]).astype(np.float32)


def quick(masks, seeds):
    return outputs_of(masks, seeds)


def slow(masks, seeds):
    """Take about as long as it takes to hit it."""
    time.sleep(0.01)
    return outputs_of(masks, seeds)


def noise(masks, seeds):
    """Outputs that no subset explains."""
    rows = [np.random.default_rng(int(seed)).standard_normal(N_TARGETS) for seed in seeds]
    return np.array(rows, np.float32)


def is_bad(seed):
    return int(seed) % 64 == KILLER_ROW_SEED


def bad_rows(seeds):
    return [row for row, seed in enumerate(seeds) if is_bad(seed)]


def raising(masks, seeds):
    if bad_rows(seeds):
        raise RuntimeError(f"cannot train seed {seeds[bad_rows(seeds)[0]]}")
    return outputs_of(masks, seeds)


def diverging(masks, seeds):
    outputs = outputs_of(masks, seeds)
    outputs[bad_rows(seeds), 1] = np.nan
    return outputs


def dying(masks, seeds):
    if bad_rows(seeds):
        os.kill(os.getpid(), signal.SIGKILL)
    return outputs_of(masks, seeds)


def _train_greedily(indices, seed):
    """Train under a limit of memory that one training breaks."""
    if is_bad(seed):
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, before[1]))
        try:
            np.ones(1 << 32)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
    return np.full(N_TARGETS, len(indices))


greedy = retrain_with(_train_greedily)


def _train_on_labels(indices, seed):
    """Refuse a subset without both classes, as scikit-learn does."""
    labels = indices % 2
    if len(set(labels.tolist())) < 2:
        raise ValueError(
            f"This solver needs samples of at least 2 classes; {len(indices)} examples"
        )
    return np.full(N_TARGETS, labels.mean())


needs_both_classes = retrain_with(_train_on_labels)


def broken(masks, seeds):
    raise ImportError("no such library")


def misshapen(masks, seeds):
    return outputs_of(masks, seeds)[:, :2]


@dataclass(frozen=True)
class Make:
    """Makes a trainer of this module by name; can be pickled."""

    name: str

    def __call__(self):
        return globals()[self.name]
