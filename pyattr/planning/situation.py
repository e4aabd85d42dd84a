"""What a plan starts from: the model as far as it is known, what is to be certified, and prices."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import stats

from pyattr.attribution import fit_datamodel, held_out_r2
from pyattr.errors import bad_value, check_count, check_positive, check_probability
from pyattr.interface import Retrain
from pyattr.masks import Masks, sample_seeds
from pyattr.verification.choose import stars_only
from pyattr.verification.evaluate import Evaluator, check_outputs
from pyattr.verification.judge import Criterion
from pyattr.verification.paper import CLIP_MARGIN, PILOT, Frame
from pyattr.verification.pilot import run_pilot
from pyattr.verification.scores import LinearScores

__all__ = ["Prices", "Situation"]

HELD_OUT: Final = 0.2  # of recorded outputs, to measure R² on
PLANNED_BOUNDS: Final = ("chi2", "t", "moment")
LEAST_RECORDED: Final = 50


@dataclass(frozen=True)
class Prices:
    """What trainings cost.

    Parameters
    ----------
    verifier_seconds, prover_seconds : float
        Seconds of one training on either side.
    verifier_price, prover_price : float
        Money an hour, at least 0.
    prize : float, optional
        Money that depends on the scores being right.
    """

    verifier_seconds: float = 1.0
    prover_seconds: float = 1.0
    verifier_price: float = 1.0
    prover_price: float = 1.0
    prize: float | None = None

    def __post_init__(self) -> None:
        check_positive("verifier_seconds", self.verifier_seconds)
        check_positive("prover_seconds", self.prover_seconds)
        for name in ("verifier_price", "prover_price", "prize"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < math.inf:
                raise bad_value(name, "a finite amount of at least 0", value)

    def verifier_money(self, n_trainings: float) -> float:
        """Cost of the verifier's trainings."""
        return n_trainings * self.verifier_seconds / 3600.0 * self.verifier_price

    def prover_money(self, n_trainings: float) -> float:
        """Cost of the prover's trainings."""
        return n_trainings * self.prover_seconds / 3600.0 * self.prover_price

    @property
    def prover_trainings(self) -> float:
        """Trainings of the prover that cost as much as one of the verifier; infinity if they are free."""
        own, other = self.verifier_money(1.0), self.prover_money(1.0)
        return own / other if other > 0.0 else math.inf


@dataclass(frozen=True)
class Situation:
    """The model as far as it is known, and what is to be certified.

    Parameters
    ----------
    n_train, n_targets : int
    criterion : Criterion
        ε relative to Var f.
    r2 : float
        Share of Var f that the best linear function explains, in (0, 1].
    seed_share : float
        Share of Var f that comes from seeds, in [0, 1).
    odd_weight : float
        Share of Var f that f has at odd degrees above 1: what an honest residual holds in any case.
    mean : float
        ``|E f|`` in standard deviations of f: the paper's method pays for it.
    noise : float, optional
        Variance of an odd residual from seeds, relative to Var f, if a pilot measured it.

    Raises
    ------
    ValueError
        If a share is out of range, or shares exceed 1 together.
    """

    n_train: int
    n_targets: int
    criterion: Criterion
    r2: float = 0.9
    seed_share: float = 0.0
    odd_weight: float = 0.005
    mean: float = 0.0
    noise: float | None = None

    def __post_init__(self) -> None:
        check_count("n_train", self.n_train, 1)
        check_count("n_targets", self.n_targets, 1)
        if not 0.0 < self.r2 <= 1.0:
            raise bad_value("r2", "a share of Var f in (0, 1]", self.r2)
        for name in ("seed_share", "odd_weight"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise bad_value(name, "a share of Var f in [0, 1)", getattr(self, name))
        if self.r2 + self.seed_share + self.odd_weight > 1.0 + 1e-9:
            total = self.r2 + self.seed_share + self.odd_weight
            expected = "at most 1 with seed_share and odd_weight, all shares of Var f"
            raise bad_value("r2", expected, f"{total:.4g} together")
        if not 0.0 <= self.mean < math.inf:
            raise bad_value("mean", "a number of standard deviations of at least 0", self.mean)
        if not self.criterion.relative:
            raise bad_value("criterion.relative", "true: shares of Var f are planned with", False)

    @property
    def odd_noise(self) -> float:
        """Variance of one odd residual within its cluster, relative to Var f (`Pilot.noise`).

        For p other than 1/2 the whole residual scatters in a pair, not its seed's part alone.
        """
        if self.noise is not None:
            return self.noise
        scatter = self.seed_share if self.criterion.p == 0.5 else 1.0 - self.r2
        return scatter / 2.0

    @property
    def frame(self) -> Frame:
        """What a pilot of the paper's method would find, Var f being 1."""
        n = PILOT * self.n_targets
        highest = float(stats.norm.isf(1.0 / (2.0 * n)))
        clip = CLIP_MARGIN * (self.mean + highest)
        shape = self.n_targets
        return Frame(np.full(shape, self.mean), np.ones(shape), clip)

    @property
    def typical_scores(self) -> LinearScores:
        """Normally distributed scores of one target that explain R²."""
        spread = stats.norm.ppf((np.arange(self.n_train) + 0.5) / self.n_train)
        weight = float(np.sum(spread**2))
        p = self.criterion.p
        size = math.sqrt(self.r2 / (p * (1.0 - p) * weight)) if weight > 0.0 else 0.0
        scores = (spread * size).astype(np.float32)[:, None]
        intercept = np.array([self.mean - p * float(scores.sum())], dtype=np.float32)
        return LinearScores(scores, intercept)

    def with_pilot(self, retrain: Retrain, seed: int) -> Situation:
        """The situation with what 8 trainings, or more if seeds matter, say about seeds and the mean."""
        evaluate = Evaluator(retrain, self.n_targets)
        pilot_seed = int(sample_seeds(1, seed)[0])
        pilot = run_pilot(evaluate, self.n_train, self.criterion.p, pilot_seed)
        noise = pilot.noise(self.criterion.p)
        share = min(2.0 * noise, 0.99 - self.odd_weight) if self.criterion.p == 0.5 else 0.0
        known = replace(self, r2=min(self.r2, 1.0 - share - self.odd_weight), seed_share=share)
        return replace(known, noise=noise, mean=_mean(pilot.outputs))

    def with_recorded(self, masks: Masks, outputs: npt.ArrayLike) -> Situation:
        """The situation with R² and the mean from recorded outputs of independent masks.

        R² is that of a ridge datamodel of 80% of them on the others: with few it is too low.

        Raises
        ------
        ValueError
            If they are fewer than 50, or of another size.
        """
        if masks.n_train != self.n_train:
            raise bad_value("pilot", f"masks of {self.n_train} examples", masks.n_train)
        n_recorded = check_count("recorded outputs", len(masks), LEAST_RECORDED)
        exact = check_outputs(outputs, n_recorded, self.n_targets, "pilot").astype(np.float64)
        n_fitted = round((1.0 - HELD_OUT) * n_recorded)
        fitted = fit_datamodel(
            masks[:n_fitted], exact[:n_fitted].astype(np.float32), method="ridge"
        )
        held_out = held_out_r2(fitted, masks[n_fitted:], exact[n_fitted:])
        r2 = float(np.clip(np.min(np.nan_to_num(held_out)), 1e-3, 1.0))  # NaN: a constant target
        room = 1.0 - self.seed_share - self.odd_weight
        return replace(self, r2=min(r2, room), mean=_mean(exact))


def _mean(outputs: npt.NDArray[np.float64]) -> float:
    """Largest ``|mean| / standard deviation`` over targets; 0 for constant ones."""
    spread = outputs.std(axis=0, ddof=1)
    centre = np.abs(outputs.mean(axis=0))
    return float(np.max(np.where(spread > 0.0, centre / np.where(spread > 0.0, spread, 1.0), 0.0)))


def check_shares(epsilon: float, delta: float, p: float, bound: str) -> Criterion:
    """The criterion of a plan, ε below 1."""
    if bound not in PLANNED_BOUNDS:
        raise bad_value(
            "bound", f"one of {', '.join(PLANNED_BOUNDS)}: no others are planned", repr(bound)
        )
    if stars_only(check_probability("p", p)):
        expected = "one from 0.1 to 0.9: with others `verify` trains stars, which are not planned"
        raise bad_value("p", expected, p)
    return Criterion(epsilon, delta, p, bound)
