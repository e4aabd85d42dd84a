"""Dishonest provers, one class per lie: what a verification has to withstand.

Score lies change a published attribution; `added_gap` says by how much each worsens it. Session lies
answer a challenge without doing the work.

The gap that a change ``d = a' - a`` adds to an optimal attribution is ``p(1-p) Σ_i d_i²`` (Parseval).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value, check_positive, check_probability
from pyattr.interface import Retrain
from pyattr.masks import Masks
from pyattr.verification.scores import HasScores, LinearScores

__all__ = [
    "AnotherModel",
    "AnswersFromScores",
    "CorruptsWorst",
    "FavouredGroup",
    "FitsAfterChallenge",
    "HalvedScores",
    "NoisyScores",
    "ScoreLie",
    "TrainsFraction",
    "ZeroedSeller",
    "added_gap",
]

Scores = npt.NDArray[np.float32]
Members = npt.NDArray[np.integer] | npt.NDArray[np.bool_]


class ScoreLie(Protocol):
    """A change of published scores."""

    @property
    def description(self) -> str:
        """What the prover does, in a few words."""

    def __call__(self, honest: HasScores) -> LinearScores:
        """Return the dishonest attribution."""


def added_gap(honest: HasScores, published: HasScores, p: float = 0.5) -> npt.NDArray[np.float64]:
    """``p(1-p) Σ_i (a'_i - a_i)²`` per target, in squared output units, (n_targets,) float64."""
    change = np.asarray(published.scores, dtype=np.float64) - honest.scores
    total: npt.NDArray[np.float64] = p * (1.0 - p) * np.sum(change**2, axis=0)
    return total


def _recentred(honest: HasScores, scores: Scores, p: float = 0.5) -> LinearScores:
    """Lie about the scores with an intercept that keeps the mean prediction right.

    Every liar would do so: a wrong mean is seen at once and is no part of the lie.
    """
    shift = p * np.sum(scores.astype(np.float64) - honest.scores, axis=0)
    return LinearScores(scores, (honest.intercept - shift).astype(np.float32))


@dataclass(frozen=True)
class HalvedScores:
    """Publish a factor times the scores: pay less, and still show a low error.

    Parameters
    ----------
    factor : float
        1/2 adds a gap of B_1/4.
    """

    factor: float = 0.5

    @property
    def description(self) -> str:
        """What the prover does."""
        return f"publishes {self.factor:g} a"

    def __call__(self, honest: HasScores) -> LinearScores:
        """Return the scaled attribution."""
        return _recentred(honest, (honest.scores * self.factor).astype(np.float32))


@dataclass(frozen=True)
class FavouredGroup:
    """Add β to the scores of one group, which is paid more than it brought.

    Parameters
    ----------
    members : (n_members,) int or (n_train,) bool
    gap : float
        Gap to add, relative to Var g (about B_1): fixes β for each target.
    towards : (n_targets,) float or float
        What is paid for each target, of which the sign counts: below 0 for a loss.
    """

    members: Members
    gap: float
    towards: npt.ArrayLike = 1.0

    @property
    def description(self) -> str:
        """What the prover does."""
        return "adds β to one seller's scores"

    def __call__(self, honest: HasScores) -> LinearScores:
        """Return the attribution with a favoured group."""
        changed = honest.scores.copy()
        weight = np.sum(honest.scores.astype(np.float64) ** 2, axis=0)
        n_members = changed[self.members].shape[0]
        size = np.copysign(np.sqrt(self.gap * weight / n_members), self.towards)
        changed[self.members] += size.astype(np.float32)
        return _recentred(honest, changed)


@dataclass(frozen=True)
class ZeroedSeller:
    """Set one seller's scores to zero: it is paid nothing.

    Parameters
    ----------
    members : (n_members,) int or (n_train,) bool
    """

    members: Members

    @property
    def description(self) -> str:
        """What the prover does."""
        return "zeroes one seller's scores"

    def __call__(self, honest: HasScores) -> LinearScores:
        """Return the attribution with one seller at zero."""
        changed = honest.scores.copy()
        changed[self.members] = 0.0
        return _recentred(honest, changed)


@dataclass(frozen=True)
class NoisyScores:
    """Add noise to the scores: a prover that did too few trainings, or made the numbers up.

    Parameters
    ----------
    gap : float
        Gap to add, relative to Var g (about B_1).
    seed : int
    """

    gap: float
    seed: int = 0

    @property
    def description(self) -> str:
        """What the prover does."""
        return f"adds noise worth {self.gap:g} Var g"

    def __call__(self, honest: HasScores) -> LinearScores:
        """Return the noisy attribution."""
        check_positive("gap", self.gap)
        generator = np.random.Generator(np.random.Philox(self.seed))
        noise = generator.standard_normal(honest.scores.shape)
        weight = np.sum(honest.scores.astype(np.float64) ** 2, axis=0)
        noise *= np.sqrt(self.gap * weight / np.sum(noise**2, axis=0))
        return _recentred(honest, (honest.scores + noise).astype(np.float32))


@dataclass(frozen=True)
class AnotherModel:
    """Publish the attribution of another model, which was at hand or cheaper to train.

    Parameters
    ----------
    other : HasScores
        Of the same shape.
    """

    other: HasScores

    @property
    def description(self) -> str:
        """What the prover does."""
        return "publishes another model's scores"

    def __call__(self, honest: HasScores) -> LinearScores:
        """Return the other model's attribution."""
        if self.other.scores.shape != honest.scores.shape:
            raise bad_value("other.scores", f"shape {honest.scores.shape}", self.other.scores.shape)
        return LinearScores.of(self.other)


@dataclass(frozen=True)
class TrainsFraction:
    """Train only some of a challenge and predict the rest from the scores.

    A `retrain` callable, to be given to a prover.

    Parameters
    ----------
    retrain : Retrain
        The true one.
    attribution : HasScores
    fraction : float
        Share of rows trained.
    """

    retrain: Retrain
    attribution: HasScores
    fraction: float = 0.5

    @property
    def description(self) -> str:
        """What the prover does."""
        return f"trains {self.fraction:.0%} of the challenge"

    def __call__(self, masks: Masks, seeds: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        """Answer a challenge."""
        check_probability("fraction", self.fraction)
        n_trained = math.ceil(self.fraction * len(masks))
        outputs = LinearScores.of(self.attribution).predict(masks).astype(np.float32)
        outputs[:n_trained] = self.retrain(masks[:n_trained], seeds[:n_trained])
        return outputs


@dataclass(frozen=True)
class AnswersFromScores:
    """Answer every challenge from the published scores: the residual looks like zero.

    A `retrain` callable, to be given to a prover.

    Parameters
    ----------
    attribution : HasScores
        What was published, honest or not.
    """

    attribution: HasScores

    @property
    def description(self) -> str:
        """What the prover does."""
        return "answers from its own linear model"

    def __call__(self, masks: Masks, seeds: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        """Answer a challenge."""
        return LinearScores.of(self.attribution).predict(masks).astype(np.float32)


@dataclass(frozen=True)
class CorruptsWorst:
    """Train everything, and change the outputs that betray the scores most: as few as will do.

    In the pairs of a one-leaf design whose odd residuals at one target are largest, one output is moved so
    that ``y - g/(1-ε)`` becomes 0: nothing that the verifier sums is left of them
    (`pyattr.verification.corruption`). A `retrain` callable, to be given to a prover.

    Parameters
    ----------
    retrain : Retrain
        The true one.
    attribution : HasScores
        What was published.
    n_corrupted : int
        Outputs to change.
    epsilon : float
        Of the verifier, relative to Var f; 0 if it is absolute.
    target : int
    """

    retrain: Retrain
    attribution: HasScores
    n_corrupted: int
    epsilon: float = 0.05
    target: int = 0

    @property
    def description(self) -> str:
        """What the prover does."""
        return f"changes the {self.n_corrupted} outputs that betray it most"

    def __call__(self, masks: Masks, seeds: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        """Answer a challenge."""
        outputs = np.array(self.retrain(masks, seeds), dtype=np.float32)
        predicted = LinearScores.of(self.attribution).linear(masks)[:, self.target]
        true = outputs[:, self.target].astype(np.float64)
        residual = true - predicted / (1.0 - self.epsilon)
        shown = residual[0::2] - residual[1::2]
        worst = np.argsort(-np.abs(shown))[: self.n_corrupted]
        outputs[2 * worst, self.target] = (true[2 * worst] - shown[worst]).astype(np.float32)
        return outputs


@dataclass(frozen=True)
class FitsAfterChallenge:
    """Wait for the challenge, train it, and publish scores that interpolate the answers.

    With more examples than challenged masks the error on the challenge is zero whatever the true gap.
    A prover must be bound to its scores before it sees the challenge.
    """

    @property
    def description(self) -> str:
        """What the prover does."""
        return "fits its scores after the challenge"

    def refit(self, masks: Masks, outputs: npt.NDArray[np.floating]) -> LinearScores:
        """Return the minimum-norm scores that fit the outputs on the masks.

        Parameters
        ----------
        masks : Masks
            n rows.
        outputs : (n, n_targets) float
        """
        bits = masks.unpack().astype(np.float64)
        mean_bits, mean_outputs = bits.mean(axis=0), outputs.mean(axis=0, dtype=np.float64)
        fitted = np.linalg.lstsq(bits - mean_bits, outputs - mean_outputs, rcond=None)[0]
        intercept = mean_outputs - mean_bits @ fitted
        return LinearScores(fitted.astype(np.float32), intercept.astype(np.float32))
