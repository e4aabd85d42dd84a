"""Verdicts of known limits, for tests of what is made of them."""

from __future__ import annotations

import numpy as np

from pyattr import Attribution, Outcome, Verdict
from pyattr.verification.scores import LinearScores


def verdict_of(scores: Attribution, radius: float, **changes: object) -> Verdict:
    """An ACCEPT at p = 1/2 that bounds ``√(Σ (a - a*)²)`` by a radius at each target."""
    n = scores.n_targets
    gap = np.full(n, radius**2 / 4.0)
    fields = {
        "outcome": Outcome.ACCEPT,
        "reason": "all is well",
        "method": "gap",
        "bound": "chi2",
        "epsilon": max(float(gap.max()), 1e-3),
        "delta": 0.05,
        "gap": gap / 2.0,
        "gap_lower": np.zeros(n),
        "gap_upper": gap,
        "outcomes": (Outcome.ACCEPT,) * n,
        "relative": False,
        "delta_split": {"upper limit of each target": 0.05 / n},
        "details": {"assumption": "all is as stated", "finite_sample": True},
        "judged": LinearScores.of(scores),
    }
    return Verdict(**fields | changes)
