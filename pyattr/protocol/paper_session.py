"""The verifier's part of Algorithm 1: residual estimation on a prover's outputs.

The rule ``MSE ≤ B̂_{≥2} + ε/2`` decides correctly if either side of it is accurate to ε/4. The quarter
of B̂_{≥2} is planned as 3/16 for its own error and 1/16 for corruption that spot checks may miss; at
the end as much corruption is allowed for as the accuracy reached leaves, at most ε/8.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value
from pyattr.protocol.arrays import as_clip
from pyattr.protocol.challenges import row_blocks
from pyattr.protocol.method import Asked, Method
from pyattr.protocol.terms import Terms
from pyattr.verification.evaluate import Evaluator
from pyattr.verification.judge import VARIANCE_FLOOR
from pyattr.verification.paper import (
    DEFAULT_BUDGET,
    Frame,
    error_width,
    fit_budget,
    fresh_error,
    judge_paper,
    pilot_frame,
)
from pyattr.verification.residual import (
    N_MEANS,
    PaperPlan,
    ResidualDesign,
    ResidualSums,
    output_influence,
    plan_paper,
    residual_radius,
)
from pyattr.verification.scores import LinearScores
from pyattr.verification.verdict import Verdict

__all__ = ["PaperMethod", "planned_pairs", "room_for_corruption"]

# Share of ε/4 that the residual's own error is planned to fill; corruption gets the rest.
RESIDUAL_SHARE: Final = 0.75
SMALLEST_BUDGET: Final = 8


def planned_pairs(
    epsilon: float, alpha: float, half_width: float, clip: float, p: float
) -> PaperPlan:
    """Sample sizes of a challenge whose scores are not known yet: useful ones stay where f does.

    Parameters
    ----------
    epsilon : float
        In squared output units.
    alpha : float
        Level of each of the five means.
    half_width, clip : float
        Bounds of ``|f - centre|`` and of ``|f|``.
    p : float
    """
    return plan_paper(RESIDUAL_SHARE * epsilon, alpha, half_width, 2.0 * clip, p)


def room_for_corruption(
    design: ResidualDesign, epsilon: float, alpha: float, half_width: float
) -> tuple[float, int]:
    """What the accuracy reached leaves of ε/4, at most ε/8, and how many corrupted outputs fit into it."""
    room = min(epsilon / 4.0 - residual_radius(design, half_width, alpha), epsilon / 8.0)
    fitting = int(max(room, 0.0) / output_influence(design, half_width))
    return room, min(fitting, design.n_evaluations - 1)


class PaperMethod(Method):
    """Pairs at three correlations, spot checks, and fresh subsets for the squared error.

    Parameters
    ----------
    evaluate : Evaluator
    terms : Terms
        A budget below the plan makes every verdict INCONCLUSIVE; 96 trainings if none is given.
    """

    name = "paper"

    def __init__(self, evaluate: Evaluator, terms: Terms) -> None:
        super().__init__(evaluate, terms)
        if terms.sampling != "uniform":
            raise bad_value("sampling", "'uniform' with the paper's method", repr(terms.sampling))
        self._budget = DEFAULT_BUDGET if terms.budget is None else terms.budget
        if self._budget < SMALLEST_BUDGET:
            raise bad_value("budget", f"at least {SMALLEST_BUDGET} trainings", self._budget)
        self._frame: Frame | None = None
        self._plan: PaperPlan | None = None

    @property
    def _alpha(self) -> float:
        return self.terms.delta_interval / (N_MEANS * self.terms.n_targets)

    def _choose(self) -> ResidualDesign:
        """Pilot of 32 trainings; the plan's pairs, or as many as the budget covers."""
        terms, criterion = self.terms, self.terms.criterion
        nothing = LinearScores(
            np.zeros((terms.n_train, terms.n_targets), np.float32),
            np.zeros(terms.n_targets, np.float32),
        )
        frame = pilot_frame(self.evaluate, nothing, criterion.p, terms.pilot)
        self.evaluate.clip = as_clip(frame.clip)
        self._frame = frame = replace(frame, clip=self.evaluate.clip)
        self.details["n_pilot"] = self.evaluate.n_trained
        unit = max(float(frame.variance.min()), VARIANCE_FLOOR) if criterion.relative else 1.0
        epsilon = criterion.epsilon * unit
        plan = planned_pairs(epsilon, self._alpha, frame.half_width, frame.clip, criterion.p)
        self._plan = plan
        return fit_budget(plan, self._budget).design

    def judge(
        self, scores: LinearScores, outputs: npt.NDArray[np.float32], asked: Asked
    ) -> Verdict:
        """Residual from the prover's outputs, error from own trainings, then spot checks."""
        if self._frame is None or self._plan is None:
            raise RuntimeError("judge: expected choose_design to have run")
        terms, frame, planned = self.terms, self._frame, self._plan.design
        criterion = self.criterion
        design = fit_budget(self._plan, self._budget).design
        sums = ResidualSums(design, frame.centre)
        for start, masks, _ in row_blocks(design, asked.seed, terms.n_train):
            sums.add(outputs[start : start + len(masks)], start)
        unit = max(float(sums.variance().min()), VARIANCE_FLOOR) if criterion.relative else 1.0
        epsilon = criterion.epsilon * unit
        influence = output_influence(design, frame.half_width)
        room, covered = room_for_corruption(design, epsilon, self._alpha, frame.half_width)
        width = error_width(scores, frame.clip)
        needed = plan_paper(epsilon, self._alpha, frame.half_width, width, criterion.p).n_fresh
        # Without room the verdict is INCONCLUSIVE whatever the error is.
        n_fresh = max(2, min(needed, self._budget - len(outputs))) if room > 0.0 else 2
        error = fresh_error(self.evaluate, scores, criterion.p, terms.fresh, n_fresh)
        self.details |= {"n_corrupted_covered": covered, "output_influence": influence}
        verdict = judge_paper(
            criterion,
            sums,
            error,
            n_fresh,
            frame.half_width,
            width,
            n_planned=self.details["n_pilot"] + planned.n_evaluations + needed,
            delta=terms.delta_interval,
            corruption=covered * influence,
        )
        if not verdict:
            return verdict
        rows = self.uniform_checks(len(outputs), covered, asked)
        return self.settle(verdict, design, scores, outputs, rows, asked)
