"""The verifier's part of a session that estimates the gap directly (method.md, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value
from pyattr.protocol.arrays import as_clip
from pyattr.protocol.method import Method, Terms
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.evaluate import Evaluator
from pyattr.verification.judge import judge_gap
from pyattr.verification.pilot import run_pilot
from pyattr.verification.plan import choose_clusters, smallest_design
from pyattr.verification.scores import LinearScores
from pyattr.verification.verdict import Verdict

__all__ = ["GapMethod", "most_covered"]

CLIP_RANGES: Final = 3.0


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
    """A b that leaves f as it is: its largest pilot output and three times its pilot range more.

    A pilot of 8 sees little of f: 1.25 times its largest output would cut off 7% of a normal f with mean
    0, and an honest prover's scores would not fit what is left (accepted in 32 of 50 sessions).

    Parameters
    ----------
    outputs : (n_pilot, n_targets) float64
    """
    highest = np.abs(outputs).max(axis=0) + CLIP_RANGES * np.ptp(outputs, axis=0)
    return float(highest.max()) or 1.0


class GapMethod(Method):
    """Clusters of odd pairs, and spot checks for more corruption than the interval covers.

    Parameters
    ----------
    evaluate : Evaluator
    terms : Terms
    design : ClusterDesign, optional
        Chosen from a pilot of 8 to 24 trainings if not given. The verifier does not know the scores then, so
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
        needed = smallest_design(p) if design is None else design.n_evaluations
        if budget is not None and budget < needed:
            raise bad_value("budget", f"at least {needed} trainings of a challenge", budget)
        self._clusters = design

    def _choose(self) -> ClusterDesign:
        """A pilot, unless design and clip are both given."""
        design = self._clusters
        if design is None or self.evaluate.clip is None:
            design = self._clusters = self._after_pilot(design)
        self.criterion.bound_for(design)  # better now than after the prover has done its work
        return design

    def _after_pilot(self, design: ClusterDesign | None) -> ClusterDesign:
        """Fix b and choose the design where none was given."""
        terms, criterion = self.terms, self.terms.criterion
        pilot = run_pilot(self.evaluate, terms.n_train, criterion.p, terms.seeds.pilot)
        self.details["n_pilot"] = len(pilot.masks)
        if self.evaluate.clip is None:
            self.evaluate.clip = as_clip(_wide_clip(pilot.outputs))
        if design is not None:
            return design
        epsilon = criterion.epsilon
        if not criterion.relative:
            epsilon = float(np.min(epsilon / np.maximum(pilot.spread, 1e-300)))
        n, share = terms.n_targets, terms.delta_interval
        alpha = share / (n if criterion.simultaneous else 1)
        noise = pilot.noise(criterion.p)
        return choose_clusters(noise, epsilon, alpha, n, criterion, terms.budget)

    def judge(self, scores: LinearScores, outputs: npt.NDArray[np.float32]) -> Verdict:
        """Interval of the gap, widened for w corrupted outputs, then spot checks for more than w.

        If even the outputs as they are do not lead to acceptance, nothing is retrained: a prover gains
        nothing by lying there.
        """
        design, terms = self._clusters, self.terms
        if design is None:
            raise RuntimeError("judge: expected choose_design to have run")
        masks, _ = design.draw(terms.seeds.challenge, terms.n_train)

        def judged(n_corrupted: int) -> Verdict:
            return judge_gap(
                self.criterion,
                design,
                masks,
                outputs,
                scores,
                delta=terms.delta_interval,
                n_corrupted=n_corrupted,
                tolerance=terms.tolerance,
            )

        verdict = judged(0)
        if not verdict:
            return verdict
        covered = most_covered(lambda w: bool(judged(w)), len(outputs))
        return self.settle(judged(covered), design, outputs, covered)
