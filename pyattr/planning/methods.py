"""Trainings and bytes of each method, from the functions that the methods themselves plan with."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pyattr.masks import Masks, sample_seeds
from pyattr.planning.situation import Prices, Situation
from pyattr.protocol.arrays import as_clip
from pyattr.protocol.challenges import parameters_of
from pyattr.protocol.encoding import Layout, encode, frame_size
from pyattr.protocol.manifest import MOST_NUMBERS, MOST_TARGETS, Subject
from pyattr.protocol.messages import (
    LEAVES,
    Challenge,
    Commitment,
    Decision,
    Invitation,
    Outputs,
    OutputsCommitment,
    attribution_layout,
    outputs_layout,
)
from pyattr.protocol.paper_session import planned_pairs, room_for_corruption
from pyattr.protocol.terms import Terms
from pyattr.protocol.words import MOST_CLUSTERS, MOST_PAIRS
from pyattr.verification.challenge import Honest, choose_challenge
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.evaluate import Evaluator
from pyattr.verification.gap_plan import planned_level
from pyattr.verification.opening import OPENING_TRAININGS
from pyattr.verification.paper import PILOT, error_width, plan_for
from pyattr.verification.pilot import run_pilot
from pyattr.verification.plan import choose_clusters, least_clusters
from pyattr.verification.residual import N_LEVELS, N_MEANS, ResidualDesign, plan_paper
from pyattr.verification.spot_check import n_checks

__all__ = ["METHODS", "MethodPlan", "planned_methods", "prover_models"]

METHODS: Final = ("paper non-interactive", "paper interactive", "gap local", "gap interactive")
SPOT_CHECK_SHARE: Final = 0.2  # of δ, as `pyattr.Verifier` takes it by default
SESSION_DEFAULTS: Final[dict[str, Any]] = {
    "subject": Subject(),
    "clip_agreed": False,
    "attempts": 1,
    "calibration": None,
    "design_agreed": False,
    "prover": "",
    "verifier": "",
}


@dataclass(frozen=True)
class MethodPlan:
    """What one method costs.

    Parameters
    ----------
    name : str
        One of `METHODS`.
    verifier_trainings : int
        Pilot, own trainings and spot checks. For "gap local" the most: it trains in rounds and stops as
        soon as every target is decided.
    prover_trainings : int
        For the challenge; those for the scores come on top with every method.
    n_bytes : int
        Of all messages, the scores among them.
    verifier_seconds, prover_seconds : float
        Of training.
    money : float
        Of both sides.
    verifier_money : float
    design : ClusterDesign or None
        To be given to `pyattr.verify` or `pyattr.Verifier` as ``design=``.
    """

    name: str
    verifier_trainings: int
    prover_trainings: int
    n_bytes: int
    verifier_seconds: float
    prover_seconds: float
    money: float
    verifier_money: float
    design: ClusterDesign | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        design = self.design
        return {
            "name": self.name,
            "verifier_trainings": self.verifier_trainings,
            "prover_trainings": self.prover_trainings,
            "bytes": self.n_bytes,
            "verifier_seconds": self.verifier_seconds,
            "prover_seconds": self.prover_seconds,
            "money": self.money,
            "verifier_money": self.verifier_money,
            "design": None
            if design is None
            else {
                "n_clusters": design.n_clusters,
                "n_leaves": design.n_leaves,
                "p": design.p,
                "rho": design.rho,
            },
        }


def planned_methods(situation: Situation, prices: Prices) -> list[MethodPlan]:
    """Every method, in the order of `METHODS`."""
    plans = []
    for name, counts in zip(
        METHODS,
        (
            _paper_local(situation),
            _paper_interactive(situation),
            _gap_local(situation),
            _gap_interactive(situation, prices),
        ),
        strict=True,
    ):
        own, other, n_bytes, design = counts
        plans.append(
            MethodPlan(
                name,
                own,
                other,
                n_bytes,
                own * prices.verifier_seconds,
                other * prices.prover_seconds,
                prices.verifier_money(own) + prices.prover_money(other),
                prices.verifier_money(own),
                design,
            )
        )
    return plans


def prover_models(situation: Situation, share: float) -> int:
    """Models a prover needs for a gap of `share` times ε with least squares (``method="ols"``).

    ``m = N (1 + σ² / (share · ε))`` from the gap ``σ² N / (m - N)``, where σ² = 1 - R² is the residual
    variance of single runs relative to Var f. Ridge and empirical Bayes need no more, and far fewer where
    few examples matter.
    """
    residual = max(1.0 - situation.r2, 0.0)
    extra = residual / (share * situation.criterion.epsilon)
    return max(math.ceil(situation.n_train * (1.0 + extra)), situation.n_train + 2)


_Counts = tuple[int, int, int, ClusterDesign | None]


def _paper_local(situation: Situation) -> _Counts:
    plan = plan_for(
        situation.criterion, situation.typical_scores, situation.frame, _one_target(situation)
    )
    return PILOT + plan.n_trainings, 0, _scores_bytes(situation), None


def _one_target(situation: Situation) -> float:
    """δ of one target, for typical scores that stand for all."""
    return situation.criterion.delta / situation.n_targets


def _paper_interactive(situation: Situation) -> _Counts:
    criterion, frame = situation.criterion, situation.frame
    miss = SPOT_CHECK_SHARE * criterion.delta
    alpha = (criterion.delta - miss) / (N_MEANS * situation.n_targets)
    plan = planned_pairs(criterion.epsilon, alpha, frame.half_width, frame.clip, criterion.p)
    width = error_width(situation.typical_scores, frame.clip)
    fresh = plan_paper(criterion.epsilon, alpha, frame.half_width, width, criterion.p).n_fresh
    _, covered = room_for_corruption(plan.design, criterion.epsilon, alpha, frame.half_width)
    checks = n_checks(plan.design.n_evaluations, covered + 1, miss)
    n_bytes = exchanged_bytes(plan.design, situation)
    return PILOT + fresh + checks, plan.design.n_evaluations, n_bytes, None


def _gap_local(situation: Situation) -> _Counts:
    """Of all rounds: a verification stops as soon as every target is decided."""
    criterion, n = situation.criterion, situation.n_targets
    alpha = planned_level(criterion, n)
    at_once = n if criterion.simultaneous else 1
    least = least_clusters(situation.n_train, criterion.delta, at_once)
    design = choose_clusters(
        situation.odd_noise, criterion.epsilon, alpha, n, criterion, None, least
    )
    # The first trainings are rows of the design, but for the second leaves where it has one.
    lost = OPENING_TRAININGS // 2 if design.n_leaves == 1 else 0
    return lost + design.n_evaluations, 0, _scores_bytes(situation), design


def _gap_interactive(situation: Situation, prices: Prices) -> _Counts:
    criterion, n = situation.criterion, situation.n_targets
    at_once = n if criterion.simultaneous else 1
    miss = SPOT_CHECK_SHARE * criterion.delta
    # `choose_clusters` allows for worse; more trainings of the prover, however cheap, stop helping.
    honest = Honest.of(criterion.epsilon, n, noise=situation.odd_noise, explained=situation.r2)
    plan = choose_challenge(
        situation.odd_noise,
        criterion.epsilon,
        criterion.delta - miss,
        miss,
        criterion,
        honest,
        least=least_clusters(situation.n_train, criterion.delta - miss, at_once),
        prover_trainings=max(prices.prover_trainings, 1e-9),
    )
    own = _pilot_trainings(situation) + plan.n_checks
    n_bytes = exchanged_bytes(plan.design, situation)
    return own, plan.design.n_evaluations, n_bytes, plan.design


def _pilot_trainings(situation: Situation) -> int:
    """How many trainings `run_pilot` makes of a model whose seeds matter this much."""
    noise = math.sqrt(situation.seed_share)

    def retrain(masks: Masks, seeds: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        bits = masks.unpack().sum(axis=1) - 4.0
        runs = np.array([np.random.default_rng(int(seed)).standard_normal() for seed in seeds])
        values = math.sqrt(1.0 - situation.seed_share) * bits + noise * runs
        outputs: npt.NDArray[np.float32] = values.astype(np.float32)[:, None]
        return outputs

    evaluate = Evaluator(retrain, 1)
    run_pilot(evaluate, 8, situation.criterion.p, int(sample_seeds(1)[0]))
    return evaluate.n_trained


def _tensor_bytes(layout: Layout) -> int:
    return frame_size(layout) - frame_size({})


def _scores_bytes(situation: Situation) -> int:
    """Published scores and intercepts as safetensors."""
    return _tensor_bytes(attribution_layout(situation.n_train, situation.n_targets))


def _said(
    design: ClusterDesign | ResidualDesign, room: int
) -> tuple[str, ClusterDesign | ResidualDesign]:
    """Method, and the design, or the largest like it that a session of `room` trainings may have."""
    if isinstance(design, ResidualDesign):
        most = min(MOST_PAIRS, room // (2 * N_LEVELS))
        return "paper", replace(design, n_pairs=min(design.n_pairs, most))
    most = min(MOST_CLUSTERS, room // (2 * design.n_leaves))
    return "gap", replace(design, n_clusters=min(design.n_clusters, most))


def exchanged_bytes(design: ClusterDesign | ResidualDesign, situation: Situation) -> int:
    """Size of all messages of a session, without signatures.

    Sessions too large to be held are counted as well: their headers are as long as those of the largest.
    """
    digest, n, t = "0" * 64, situation.n_train, situation.n_targets
    link = {"session": digest, "parent": digest}
    n_targets = min(t, MOST_TARGETS)
    room = MOST_NUMBERS // n_targets
    terms = Terms(situation.criterion, min(n, room), n_targets, 0, 0, None, 0.0, SPOT_CHECK_SHARE)
    method, words = _said(design, room)
    clip = as_clip(situation.frame.clip)
    delta = float(situation.criterion.delta)
    asked = parameters_of(words)
    manifest = terms.stated(method, clip, **SESSION_DEFAULTS, delta=delta, design=asked)
    messages = (
        Invitation(manifest=manifest, randomness=digest, checks=digest),
        Commitment(parent=digest, randomness=digest, digest=digest),
        Challenge(**link, randomness=digest, design=asked, seed="0" * 16),
        OutputsCommitment(**link, root=digest, n_leaves=min(design.n_evaluations, LEAVES)),
        Outputs(**link, salt=digest, leaf_key=digest, tensors=digest),
        Decision(**link, outcome="ACCEPT"),
    )
    tensors = _tensor_bytes(outputs_layout(design.n_evaluations, n, t))
    return sum(len(encode(message)) for message in messages) + tensors
