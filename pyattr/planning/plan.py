"""`plan`: which method to verify with, what it costs, and whether it is worth it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy.typing as npt

from pyattr.errors import check_probability
from pyattr.interface import Retrain
from pyattr.masks import Masks
from pyattr.notebook import grid
from pyattr.planning.methods import MethodPlan, planned_methods, prover_models
from pyattr.planning.quantities import money, number
from pyattr.planning.situation import Prices, Situation, check_shares
from pyattr.verification.plan import HONEST_SHARE, HONEST_SHARE_WORST

__all__ = ["Plan", "plan"]

SCHEMA: Final = "pyattr/plan/1"


@dataclass(frozen=True)
class Plan:
    """What each method costs, and which to take.

    Parameters
    ----------
    situation : Situation
    prices : Prices
    methods : list of MethodPlan
        In the order of `pyattr.planning.methods.METHODS`.
    recommended : str or None
        The method whose trainings cost both sides least; None if verifying is not worth it.
    reason : str
        Why, in a sentence.
    warnings : list of str
        Why an honest prover might not be accepted.
    prover_models : int
        Models for a gap of `prover_share` times ε, by least squares.
    prover_share : float
    """

    situation: Situation
    prices: Prices
    methods: list[MethodPlan]
    recommended: str | None
    reason: str
    warnings: list[str]
    prover_models: int
    prover_share: float

    def __repr__(self) -> str:
        situation = self.situation
        return (
            f"Plan(recommended={self.recommended!r}, n_train={situation.n_train}, "
            f"n_targets={situation.n_targets}, {len(self.methods)} methods)"
        )

    def _repr_html_(self) -> str:
        heads = ("method", "verifier's trainings", "prover's trainings", "money")
        rows = [
            (m.name, number(m.verifier_trainings), number(m.prover_trainings), money(m.money))
            for m in self.methods
        ]
        notes = "".join(f" Warning: {warning}." for warning in self.warnings)
        return grid("Plan", heads, rows, f"{self.reason}.{notes}")

    def method(self, name: str) -> MethodPlan:
        """The plan of one method."""
        return next(method for method in self.methods if method.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        situation, criterion = self.situation, self.situation.criterion
        return {
            "schema": SCHEMA,
            "n_train": situation.n_train,
            "n_targets": situation.n_targets,
            "p": criterion.p,
            "epsilon": criterion.epsilon,
            "delta": criterion.delta,
            "bound": criterion.bound,
            "r2": situation.r2,
            "seed_share": situation.seed_share,
            "odd_weight": situation.odd_weight,
            "recommended": self.recommended,
            "reason": self.reason,
            "warnings": self.warnings,
            "prover_models": self.prover_models,
            "prover_share": self.prover_share,
            "prover_estimator": "ols",
            "methods": [method.to_dict() for method in self.methods],
        }


def plan(
    n_train: int,
    n_targets: int = 1,
    *,
    p: float = 0.5,
    epsilon: float = 0.05,
    delta: float = 0.05,
    bound: str = "chi2",
    pilot: Retrain | tuple[Masks, npt.ArrayLike] | None = None,
    r2: float = 0.9,
    seed_share: float = 0.0,
    odd_weight: float = 0.005,
    mean: float = 0.0,
    verifier_seconds: float = 1.0,
    prover_seconds: float | None = None,
    verifier_price: float = 1.0,
    prover_price: float | None = None,
    prize: float | None = None,
    prover_share: float = 0.2,
    seed: int = 0,
) -> Plan:
    """Plan a verification before anything is trained.

    Parameters
    ----------
    n_train, n_targets : int
    p, epsilon, delta, bound
        As for `pyattr.verify`; ε is a share of Var f.
    pilot : callable or (Masks, array), optional
        A `retrain` callable, of which 8 trainings (more if seeds matter) are made to measure seeds and
        mean; or recorded outputs of independent masks, (n, n_targets), to measure R² and mean.
    r2, seed_share, odd_weight : float
        Shares of Var f: explained by the best linear function, coming from seeds, at odd degrees
        above 1. What a pilot measures replaces the guess.
    mean : float
        ``|E f|`` in standard deviations of f; matters to the paper's methods.
    verifier_seconds, prover_seconds : float
        Of one training; the prover's is the verifier's by default.
    verifier_price, prover_price : float
        Money an hour; the prover's is the verifier's by default.
    prize : float, optional
        Money that depends on the scores being right.
    prover_share : float
        Of ε, that the prover's own gap is planned to be.
    seed : int
        Of a pilot's trainings.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If a value is out of range; shares of Var f must not exceed 1 together.

    Examples
    --------
    >>> costs = plan(1000, 32, r2=0.92)
    >>> costs.recommended, costs.method("gap local").verifier_trainings < 300
    ('gap local', True)
    >>> costs.method("paper non-interactive").verifier_trainings > 10**6
    True
    """
    criterion = check_shares(epsilon, delta, p, bound)
    check_probability("prover_share", prover_share)
    situation = Situation(n_train, n_targets, criterion, r2, seed_share, odd_weight, mean)
    prices = Prices(
        verifier_seconds,
        verifier_seconds if prover_seconds is None else prover_seconds,
        verifier_price,
        verifier_price if prover_price is None else prover_price,
        prize,
    )
    if isinstance(pilot, tuple):
        situation = situation.with_recorded(*pilot)
    elif pilot is not None:
        situation = situation.with_pilot(pilot, seed)
    methods = planned_methods(situation, prices)
    models = prover_models(situation, prover_share)
    recommended, reason = _recommend(situation, prices, methods, models)
    warnings = _warnings(situation, prover_share)
    return Plan(situation, prices, methods, recommended, reason, warnings, models, prover_share)


def _recommend(
    situation: Situation, prices: Prices, methods: list[MethodPlan], models: int
) -> tuple[str | None, str]:
    """The cheapest method, unless none is worth its cost."""
    cost: Callable[[MethodPlan], tuple[float, float]] = lambda m: (m.money, m.verifier_seconds)  # noqa: E731
    best = min(methods, key=cost)
    if situation.r2 <= situation.criterion.epsilon:
        return None, (
            f"not worth it: scores explain {situation.r2:.0%} of the output at best, no more than ε, so "
            "zeros would pass too and every verdict is INCONCLUSIVE"
        )
    if best.verifier_trainings >= models:
        return None, (
            f"not worth it: verifying takes {best.verifier_trainings:,} trainings, attributing it "
            f"oneself {models:,}"
        )
    if prices.prize is not None and best.money >= prices.prize:
        return None, (
            f"not worth it: the cheapest method costs {best.money:,.2f}, the prize is "
            f"{prices.prize:,.2f}"
        )
    return best.name, (
        f"{best.name}: {best.verifier_trainings:,} trainings of the verifier"
        + (f" and {best.prover_trainings:,} of the prover" if best.prover_trainings else "")
        + ", the least cost to both sides together"
    )


def _warnings(situation: Situation, prover_share: float) -> list[str]:
    """Why an honest prover might not be accepted at the planned budget."""
    epsilon = situation.criterion.epsilon
    planned = HONEST_SHARE if situation.n_targets == 1 else HONEST_SHARE_WORST
    filled = prover_share + situation.odd_weight / epsilon
    if filled <= planned + 1e-9:
        return []
    return [
        f"an honest residual fills {filled:.0%} of ε (its gap {prover_share:.0%}, odd non-linear weight "
        f"{situation.odd_weight / epsilon:.0%}); budgets are planned for {planned:.0%}, so the honest may "
        "end INCONCLUSIVE: a larger ε, or more models of the prover, would help"
    ]
