"""What a user's own module might look like; type-checked strictly by tests/test_types.py, and run there."""

from __future__ import annotations

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import pyattr
from pyattr import Attribution, Masks, Outcome, Verdict, fit_datamodel, retrain_with, verify

WEIGHTS: NDArray[np.float64] = np.linspace(-1.0, 1.0, 60)


def train(indices: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """One output of a model that adds up weights."""
    return np.array([WEIGHTS[indices].sum()])


def published() -> Attribution:
    retrain = retrain_with(train)
    masks = pyattr.sample_masks(300, n_train=60, seed=1)
    assert_type(masks, Masks)
    assert_type(masks.unpack(), NDArray[np.bool_])
    outputs = retrain(masks, pyattr.sample_seeds(300, seed=2))
    assert_type(outputs, NDArray[np.float32])
    return fit_datamodel(masks, outputs, method="ols")


def decide(scores: Attribution) -> Verdict:
    verdict = verify(retrain_with(train), scores, epsilon=0.05, seed=3)
    assert_type(verdict.outcome, Outcome)
    assert_type(verdict.gap_upper, NDArray[np.float64])
    assert_type(verdict.n_retrained, int)
    assert_type(bool(verdict), bool)
    return verdict


def wrong(scores: Attribution) -> None:
    """Every line is an error, and a strict checker complains of an ignore that ignores nothing."""
    pyattr.verifiy  # type: ignore[attr-defined]  # noqa: B018
    verify(retrain_with(train), scores, method="magic")  # type: ignore[arg-type]
    verify(retrain_with(train), scores, epsilon="0.05")  # type: ignore[arg-type]
    verify(train, scores)  # type: ignore[arg-type]
    scores.scores = WEIGHTS  # type: ignore[misc, assignment]
    decide(scores).outcome = Outcome.ACCEPT  # type: ignore[misc]
    pyattr.sample_masks("300", n_train=60)  # type: ignore[arg-type]


if __name__ == "__main__":
    found = decide(published())
    assert found.outcome is Outcome.ACCEPT
    assert pyattr.plan(60).method("gap local").verifier_trainings > 0
    print(found.outcome)
