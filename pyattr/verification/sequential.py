"""Gap verification in rounds that stops as soon as every target is decided.

Round k trains the clusters up to the k-th look (`pyattr.verification.spending`) and judges all that has been
trained so far. Limits hold at all looks together, so the narrowest so far is kept on either side: a target
whose upper limit was once at most ε keeps it, and many targets need not all be accepted by the same look.

*False acceptance.* A target whose gap is above ε is accepted only if its upper limit fails at some look:
probability δ over all looks, and overall acceptance needs that target's limit to fail, whatever the number of
targets (`pyattr.verification.judge`). The number of rounds may depend on the data in any way: a limit that
was never looked at cannot fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from pyattr.masks import Masks
from pyattr.verification.bounds import Interval, Levels
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.conclusion import Findings, conclude
from pyattr.verification.criterion import Criterion
from pyattr.verification.evaluate import Evaluator
from pyattr.verification.judge import find_gap
from pyattr.verification.scores import LinearScores
from pyattr.verification.spending import Looks
from pyattr.verification.stars import StarDesign
from pyattr.verification.verdict import Outcome, Verdict

__all__ = ["Prospect", "find_in_blocks", "prospect", "verify_in_rounds"]

Array = npt.NDArray[np.float64]

_BLOCK = 1 << 20  # outputs judged at once: two dozen float64 arrays of that size
_MOST = 10**9  # trainings: more is never worth a figure


def verify_in_rounds(
    evaluate: Evaluator,
    scores: LinearScores,
    criterion: Criterion,
    seed: int,
    design: ClusterDesign | StarDesign,
    looks: Looks,
) -> Verdict:
    """Train round by round until every target is decided or the last look is reached.

    Parameters
    ----------
    evaluate : Evaluator
    scores : LinearScores
    criterion : Criterion
    seed : int
        Of the design: rounds together are the design drawn at once, row by row.
    design : ClusterDesign or StarDesign
        With as many clusters as the last look has; stars have one look alone.
    looks : Looks
    """
    rounds = _Rounds(evaluate, scores.n_train, seed, design)
    levels = looks.levels(criterion.levels(criterion.delta, scores.n_targets))
    kept: Findings | None = None
    verdict: Verdict | None = None
    for count, level in zip(looks.counts, levels, strict=True):
        rounds.extend(count)
        latest = find_in_blocks(
            criterion,
            replace(design, n_clusters=count),
            rounds.masks,
            rounds.outputs,
            scores,
            level,
            clipped=evaluate.clipped_shares,
        )
        verdict = conclude(criterion, latest if kept is None else narrowed(kept, latest))
        sound = unbarred(latest)
        kept = sound if kept is None else narrowed(kept, sound)
        if verdict.outcome is not Outcome.INCONCLUSIVE:
            break
    assert verdict is not None  # there is at least one look
    return _explained(verdict, criterion, looks, levels, len(rounds.outputs))


class _Rounds:
    """Rows of a design that grows by clusters.

    Parameters
    ----------
    evaluate : Evaluator
    n_train : int
    seed : int
    design : ClusterDesign or StarDesign
    """

    def __init__(
        self, evaluate: Evaluator, n_train: int, seed: int, design: ClusterDesign | StarDesign
    ) -> None:
        self._evaluate, self._n_train, self._seed, self._design = evaluate, n_train, seed, design
        self._n_clusters = 0
        self._masks: list[Masks] = []
        self._outputs: list[npt.NDArray[np.float32]] = []

    @property
    def masks(self) -> Masks:
        """All rows so far."""
        return self._masks[0]

    @property
    def outputs(self) -> npt.NDArray[np.float32]:
        """Outputs of all rows so far, (n, n_targets)."""
        return self._outputs[0]

    def extend(self, n_clusters: int) -> None:
        """Train the clusters up to n_clusters."""
        if isinstance(self._design, ClusterDesign):
            rows = self._design.draw(self._seed, self._n_train, self._n_clusters, n_clusters)
        else:
            rows = self._design.draw(self._seed, self._n_train)
        # One array each: the parts before are let go.
        self._outputs = [np.concatenate([*self._outputs, self._evaluate(*rows)])]
        self._masks = [Masks.concatenate([*self._masks, rows[0]])]
        self._n_clusters = n_clusters


def find_in_blocks(
    criterion: Criterion,
    design: ClusterDesign | StarDesign,
    masks: Masks,
    outputs: npt.NDArray[np.float32],
    scores: LinearScores,
    levels: Levels,
    *,
    clipped: Array | None = None,
    block: int | None = None,
) -> Findings:
    """`find_gap` for any number of targets in bounded memory: so many targets at once.

    Parameters
    ----------
    criterion, design, masks, outputs, scores, levels, clipped
        As for `find_gap`.
    block : int, optional
        Targets at once; by default as many as keep temporary arrays to some 200 MB.

    Returns
    -------
    Findings
        The same for every block but for rounding; the default depends on sizes alone.
    """
    n = scores.n_targets
    step = max(1, _BLOCK // len(masks)) if block is None else block
    parts = []
    for first in range(0, n, step):
        own = slice(first, min(first + step, n))
        part = LinearScores(np.ascontiguousarray(scores.scores[:, own]), scores.intercept[own])
        shares = None if clipped is None else clipped[own]
        parts.append(
            find_gap(criterion, design, masks, outputs[:, own], part, levels, clipped=shares)
        )
    found: Findings = parts[0] if len(parts) == 1 else _joined(parts)
    return found


def _joined(parts: Sequence[Any]) -> Any:
    """Figures of blocks of targets as those of all: arrays one after the other, all else as it is."""
    first = parts[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in fields(first)]
        return replace(first, **{n: _joined([getattr(part, n) for part in parts]) for n in names})
    return first


def unbarred(found: Findings) -> Findings:
    """Findings without the limits that measured tails bar: no later look may rest on them."""
    lower = np.where(found.tails_accuse, 0.0, found.gap.lower)
    upper = np.where(found.tails_accept, np.inf, found.gap.upper)
    return replace(found, gap=Interval(found.gap.estimate, lower, upper))


def narrowed(earlier: Findings, latest: Findings) -> Findings:
    """The latest findings with the narrower of both looks' limits.

    Where these contradict each other (one error, of a small probability each side is allowed) the latest,
    which rest on all that was trained, stand alone.
    """
    lower = np.maximum(earlier.gap.lower, latest.gap.lower)
    upper = np.minimum(earlier.gap.upper, latest.gap.upper)
    sound = lower <= upper
    lower = np.where(sound, lower, latest.gap.lower)
    upper = np.where(sound, upper, latest.gap.upper)
    # Within the limits that reports draw around it.
    estimate = np.minimum(np.maximum(latest.gap.estimate, lower), upper)
    return replace(latest, gap=Interval(estimate, lower, upper))


@dataclass(frozen=True)
class Prospect:
    """What more trainings would bring.

    Parameters
    ----------
    outcome : Outcome
        To be expected if the estimates stay what they are; INCONCLUSIVE if no budget is.
    n_more : int
        Trainings until then, from the width of the limits shrinking as 1/√n. 0 for INCONCLUSIVE.
    """

    outcome: Outcome
    n_more: int


def prospect(verdict: Verdict, n_used: int, dearer: float = 1.0) -> Prospect:
    """Extrapolate an inconclusive verdict of the gap method.

    Acceptance waits for the slowest target, an abort for the fastest.

    Parameters
    ----------
    verdict : Verdict
    n_used : int
        Trainings that its limits rest on.
    dearer : float
        Factor by which a further look takes more trainings for the same width, for its smaller level.
    """
    epsilon, gap, slack = verdict.epsilon, verdict.gap, verdict.details["slack"]
    open_ = np.array([outcome is Outcome.INCONCLUSIVE for outcome in verdict.outcomes])
    # What is not decided though the limits would is barred by a guard, which more trainings leave there.
    barred = open_ & ((verdict.gap_upper <= epsilon) | verdict.details["unacceptable"])
    with np.errstate(divide="ignore", invalid="ignore"):
        to_accept = ((verdict.gap_upper - gap) / (epsilon - gap)) ** 2 * dearer - 1.0
        to_abort = ((gap - verdict.gap_lower) / (gap - slack - epsilon)) ** 2 * dearer - 1.0
    guilty = open_ & (gap - slack > epsilon) & (verdict.gap_lower - slack <= epsilon)
    if guilty.any():
        return _prospect(Outcome.ABORT, float(to_abort[guilty].min()), n_used)
    if barred.any() or not (gap[open_] < epsilon).all():
        return Prospect(Outcome.INCONCLUSIVE, 0)
    return _prospect(Outcome.ACCEPT, float(to_accept[open_].max()), n_used)


def _prospect(outcome: Outcome, growth: float, n_used: int) -> Prospect:
    """So much more of what was used, at least two trainings."""
    n_more = n_used * growth
    if not n_more < _MOST:
        return Prospect(Outcome.INCONCLUSIVE, 0)
    return Prospect(outcome, max(2, 2 * int(np.ceil(n_more / 2.0))))


def _explained(
    verdict: Verdict, criterion: Criterion, looks: Looks, levels: Sequence[Levels], n_used: int
) -> Verdict:
    """Add how δ was spent and, where it was not enough, what more trainings would bring."""
    total = criterion.levels(criterion.delta, verdict.n_targets)
    split = {
        **verdict.delta_split,
        "upper limit of each target": total.upper,
        "lower limit of each target": total.lower,
    }
    if len(levels) > 1:
        split |= {
            f"upper limit at look {k} ({count} clusters)": level.upper
            for k, (count, level) in enumerate(zip(looks.counts, levels, strict=True), start=1)
        }
    n_looks = looks.counts.index(verdict.details["n_clusters"]) + 1
    details = {**verdict.details, "looks": looks.counts, "spending": looks.rule, "n_looks": n_looks}
    reason = verdict.reason
    if verdict.outcome is Outcome.INCONCLUSIVE:
        # A fixed plan would be followed by a larger one, at the same level.
        now, then = levels[n_looks - 1].upper, looks.level_beyond(total.upper)
        dearer = (
            1.0 if len(levels) == 1 else float((stats.norm.isf(then) / stats.norm.isf(now)) ** 2)
        )
        ahead = prospect(verdict, n_used, dearer)
        details |= {"expected_outcome": ahead.outcome, "expected_more_trainings": ahead.n_more}
        reason += (
            "; no number of trainings is likely to change that"
            if ahead.outcome is Outcome.INCONCLUSIVE
            else f"; about {ahead.n_more:,} more trainings might end in {ahead.outcome}"
        )
    return replace(verdict, reason=reason, delta_split=split, details=details)
