"""The verifier's part of a session that estimates the gap directly (method.md, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value
from pyattr.protocol.arrays import as_clip
from pyattr.protocol.method import Asked, Method
from pyattr.protocol.terms import Terms
from pyattr.verification.challenge import (
    ChallengePlan,
    Honest,
    choose_challenge,
    plan_checks,
)
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.corruption import Cover, PairSquares
from pyattr.verification.evaluate import Evaluator
from pyattr.verification.judge import judge_gap
from pyattr.verification.pilot import Pilot, run_pilot
from pyattr.verification.plan import least_clusters, smallest_design
from pyattr.verification.scores import LinearScores
from pyattr.verification.spot_check import check_probabilities
from pyattr.verification.verdict import Outcome, Verdict

__all__ = ["GapMethod", "most_covered"]

CLIP_RANGES: Final = 30.0


def most_covered(accepts: Callable[[int], bool], n_outputs: int) -> int:
    """Largest number of corrupted outputs that still leaves an acceptance, by bisection.

    Any number that is accepted would be sound; a larger one saves spot checks.

    Parameters
    ----------
    accepts : callable
        True for 0.
    n_outputs : int
    """
    low, high = 0, n_outputs - 1
    while low < high:
        middle = (low + high + 1) // 2
        if accepts(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _wide_clip(outputs: npt.NDArray[np.float64]) -> float:
    """A b that leaves f as it is: its largest pilot output and thirty times its pilot range more.

    A pilot of 4 pairs sees little of f. With three ranges, b cut off more than 1% of a normal f with mean 0
    in 2.4% of pilots; with thirty, all 4 pairs have to lie within 0.05 standard deviations of the mean,
    which they do in 2 of 10^6. A larger b costs nothing here: influences are bounded by the outputs.

    Parameters
    ----------
    outputs : (n_pilot, n_targets) float64
    """
    highest = np.abs(outputs).max(axis=0) + CLIP_RANGES * np.ptp(outputs, axis=0)
    return float(highest.max()) or 1.0


class GapMethod(Method):
    """Clusters of odd pairs, and spot checks for more corruption than the verdict covers.

    Parameters
    ----------
    evaluate : Evaluator
    terms : Terms
    design : ClusterDesign, optional
        Chosen from a pilot of 8 to 32 trainings if not given. The verifier does not know the scores then, so
        for p other than 1/2 it plans for residuals as large as f itself: more clusters than needed.
    """

    name = "gap"

    def __init__(
        self, evaluate: Evaluator, terms: Terms, design: ClusterDesign | None = None
    ) -> None:
        super().__init__(evaluate, terms)
        p, budget = terms.criterion.p, terms.budget
        if design is not None and design.p != p:
            raise bad_value("design.p", f"p = {p}", design.p)
        at_once = terms.n_targets if terms.criterion.simultaneous else 1
        self._least = least_clusters(terms.n_train, terms.delta_interval, at_once)
        needed = smallest_design(p, self._least) if design is None else design.n_evaluations
        if budget is not None and budget < needed:
            raise bad_value("budget", f"at least {needed} trainings of a challenge", budget)
        self._given = design
        self._plan: ChallengePlan | None = None

    def _choose(self) -> ClusterDesign:
        """A pilot, unless design and clip are both given."""
        terms, design = self.terms, self._given
        pilot = None
        if design is None or self.evaluate.clip is None:
            pilot = run_pilot(self.evaluate, terms.n_train, terms.criterion.p, terms.pilot)
            self.details["n_pilot"] = len(pilot.masks)
            if self.evaluate.clip is None:
                self.evaluate.clip = as_clip(_wide_clip(pilot.outputs))
        plan = self._plan = self._planned(pilot)
        needed = plan.design.n_evaluations
        if terms.budget is not None and terms.budget < needed:  # as seeds turned out to matter
            expected = f"at least {needed} trainings of a challenge, as seeds matter"
            raise bad_value("budget", expected, terms.budget)
        most = terms.most_checks
        if most is not None and plan.n_checks > most:
            raise bad_value(
                "calibration", f"one for {plan.n_checks} spot checks, or a larger budget", most
            )
        self.criterion.bound_for(plan.design)  # better now than after the prover has done its work
        return plan.design

    def _planned(self, pilot: Pilot | None) -> ChallengePlan:
        """What to ask for, and how its answers will be checked."""
        terms, criterion = self.terms, self.terms.criterion
        n, weighted = terms.n_targets, terms.sampling == "weighted"
        alpha = terms.delta_interval / (n if criterion.simultaneous else 1)
        miss = terms.delta_checks
        if self._given is not None:
            honest = Honest.of(criterion.epsilon, n, relative=criterion.relative)
            return plan_checks(self._given, criterion, alpha, miss, honest, weighted)
        if pilot is None:
            raise RuntimeError("design: expected a pilot where none is given")
        epsilon = criterion.epsilon
        if not criterion.relative:
            epsilon = float(np.min(epsilon / np.maximum(pilot.spread, 1e-300)))
        noise = pilot.noise(criterion.p)
        honest = Honest.of(epsilon, n, noise=noise, relative=criterion.relative)
        return choose_challenge(
            noise,
            epsilon,
            alpha,
            miss,
            criterion,
            honest,
            terms.budget,
            weighted=weighted,
            least=self._least,
        )

    def judge(
        self, scores: LinearScores, outputs: npt.NDArray[np.float32], asked: Asked
    ) -> Verdict:
        """Judge the outputs as they are, find what corruption the verdict survives, check for the rest.

        If even the outputs as they are do not lead to acceptance, nothing is retrained: a prover gains
        nothing by lying there.
        """
        plan, terms = self._plan, self.terms
        if plan is None:
            raise RuntimeError("judge: expected choose_design to have run")
        masks, _ = plan.design.draw(asked.seed, terms.n_train)
        at_clip = np.abs(outputs) >= np.float32(self.clip)
        clipped: npt.NDArray[np.float64] = np.asarray(at_clip.mean(axis=0), dtype=np.float64)
        self.details["challenge_clipped_share"] = float(clipped.mean())

        def judged(n_corrupted: int) -> Verdict:
            return judge_gap(
                self.criterion,
                plan.design,
                masks,
                outputs,
                scores,
                delta=terms.delta_interval,
                n_corrupted=n_corrupted,
                tolerance=terms.tolerance,
                clipped=clipped,
            )

        verdict = judged(0)
        if not verdict:
            return verdict
        # A verdict that had to turn to another bound does not rest on what the truncated sums assume.
        if plan.truncation is not None and verdict.bound == terms.criterion.bound:
            linear = scores.linear(masks)
            squares = PairSquares.of(
                self.criterion, plan.design, outputs, scores, linear, terms.tolerance
            )
            cover = Cover(squares, plan.truncation, terms.criterion.epsilon)
            return self._check_by_influence(verdict, plan.design, scores, outputs, cover, asked)
        covered = 0
        if terms.criterion.intercept == "refit":  # nothing bounds what one output does to the mean
            covered = most_covered(lambda w: bool(judged(w)), len(outputs))
        rows = self.uniform_checks(len(outputs), covered, asked)
        return self.settle(judged(covered), plan.design, scores, outputs, rows, asked)

    def _check_by_influence(
        self,
        verdict: Verdict,
        design: ClusterDesign,
        scores: LinearScores,
        outputs: npt.NDArray[np.float32],
        cover: Cover,
        asked: Asked,
    ) -> Verdict:
        """Spot checks for any set of outputs that could hide a gap above ε."""
        hiding = cover.n_hiding
        if hiding == 0:
            reason = (
                "the outputs suffice if all are true, and not if any is corrupted: ask for more"
            )
            outcomes = (Outcome.INCONCLUSIVE,) * verdict.n_targets
            return replace(verdict, outcome=Outcome.INCONCLUSIVE, outcomes=outcomes, reason=reason)
        if self.terms.sampling == "weighted":
            shares = cover.shares
            chances = check_probabilities(np.repeat(shares, 2), self.terms.delta_checks)
            rows = asked.checks.weighted(chances)
            upper = cover.upper_by_share(shares)
        else:
            covered = min(hiding, len(outputs)) - 1
            rows = self.uniform_checks(len(outputs), covered, asked)
            upper = cover.upper_by_count(min(covered, design.n_clusters))
        details = {
            **verdict.details,
            "n_corrupted_covered": hiding - 1,
            "sampling": self.terms.sampling,
        }
        if self.criterion.relative:  # the checks are for what hides a gap, not for what hides Var f
            most = np.maximum(verdict.details["variance_upper"], cover.squares.unit(cover.epsilon))
            details["variance_upper"] = most
        upper = np.maximum(upper, verdict.gap_upper)
        settled = replace(verdict, gap_upper=upper, details=details)
        return self.settle(settled, design, scores, outputs, rows, asked)
