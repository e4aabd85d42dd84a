"""Gap verification in rounds that stops as soon as every target is decided.

Round k trains the clusters up to the k-th look (`pyattr.verification.spending`) and judges all that has been
trained so far. Limits hold at all looks together, so the narrowest so far is kept on either side, and a
target that one look accepts (or aborts) stays so: many targets need not all be accepted by the same look.

*False acceptance.* A target whose gap is above ε is accepted only if its upper limit fails at some look:
probability δ over all looks, and overall acceptance needs that target's limit to fail, whatever the number of
targets (`pyattr.verification.judge`). The number of rounds may depend on the data in any way: a limit that
was never looked at cannot fail.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pyattr.masks import Masks
from pyattr.verification.bounds import Interval, Levels
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.evaluate import Evaluator
from pyattr.verification.judge import Criterion, gap_reason, judge_gap
from pyattr.verification.scores import LinearScores
from pyattr.verification.spending import Looks
from pyattr.verification.verdict import Outcome, Verdict, overall

__all__ = ["Prospect", "judge_in_blocks", "prospect", "verify_in_rounds"]

Array = npt.NDArray[np.float64]

_BLOCK = 1 << 21  # outputs judged at once: a dozen float64 arrays of that size
_MOST = 10**9  # trainings: more is never worth a figure


def verify_in_rounds(
    evaluate: Evaluator,
    scores: LinearScores,
    criterion: Criterion,
    seed: int,
    design: ClusterDesign,
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
    design : ClusterDesign
        With as many clusters as the last look has.
    looks : Looks
    """
    levels = _levels(criterion, looks, scores.n_targets)
    masks: list[Masks] = []
    outputs: list[npt.NDArray[np.float32]] = []
    verdict: Verdict | None = None
    trained = 0
    for count, level in zip(looks.counts, levels, strict=True):
        more, seeds = design.draw(seed, scores.n_train, trained, count)
        masks = [Masks.concatenate([*masks, more])]
        outputs = [np.concatenate([*outputs, evaluate(more, seeds)])]
        so_far, trained = replace(design, n_clusters=count), count
        latest = judge_in_blocks(criterion, so_far, masks[0], outputs[0], scores, level)
        verdict = latest if verdict is None else _both(verdict, latest, criterion)
        if verdict.outcome is not Outcome.INCONCLUSIVE:
            break
    assert verdict is not None  # there is at least one look
    return _explained(verdict, criterion, design, looks, levels)


def _levels(criterion: Criterion, looks: Looks, n_targets: int) -> list[Levels]:
    """Levels of every target's limits at each look."""
    total = criterion.levels(criterion.delta, n_targets)
    lower, upper = looks.levels(total.lower), looks.levels(total.upper)
    return [Levels(low, up) for low, up in zip(lower, upper, strict=True)]


def judge_in_blocks(
    criterion: Criterion,
    design: ClusterDesign,
    masks: Masks,
    outputs: npt.NDArray[np.float32],
    scores: LinearScores,
    levels: Levels,
    block: int | None = None,
) -> Verdict:
    """`judge_gap` for any number of targets in bounded memory: so many targets at once.

    Parameters
    ----------
    criterion, design, masks, outputs, scores, levels
        As for `judge_gap`.
    block : int, optional
        Targets judged at once; by default as many as keep temporary arrays below 200 MB.

    Returns
    -------
    Verdict
        The same bits for every block.
    """
    n = scores.n_targets
    step = max(1, _BLOCK // len(masks)) if block is None else block
    if step >= n:
        return judge_gap(criterion, design, masks, outputs, scores, levels=levels)
    verdicts = []
    for first in range(0, n, step):
        own = slice(first, min(first + step, n))
        part = LinearScores(np.ascontiguousarray(scores.scores[:, own]), scores.intercept[own])
        verdicts.append(
            judge_gap(criterion, design, masks, outputs[:, own], part, levels=levels)
        )
    first_one = verdicts[0]
    details = {
        name: np.concatenate([v.details[name] for v in verdicts])
        if isinstance(value, np.ndarray)
        else value
        for name, value in first_one.details.items()
    }
    gap = Interval(
        *(np.concatenate([getattr(v, name) for v in verdicts]) for name in ("gap", "gap_lower", "gap_upper"))
    )
    outcomes = [outcome for v in verdicts for outcome in v.outcomes]
    return _with(replace(first_one, details=details), criterion, gap, outcomes)


def _with(
    verdict: Verdict, criterion: Criterion, gap: Interval, outcomes: list[Outcome]
) -> Verdict:
    """The verdict with another interval and other outcomes."""
    details = verdict.details
    return replace(
        verdict,
        outcome=overall(outcomes),
        reason=gap_reason(outcomes, details["vacuous"], details["doubtful"], gap, criterion),
        gap=gap.estimate,
        gap_lower=gap.lower,
        gap_upper=gap.upper,
        outcomes=tuple(outcomes),
    )


def _both(earlier: Verdict, latest: Verdict, criterion: Criterion) -> Verdict:
    """What two looks say together: the narrower limits, and every decision of either.

    Where the looks contradict each other (a target accepted by one and aborted by another: either error
    has its δ), ABORT stands.
    """
    lower = np.maximum(earlier.gap_lower, latest.gap_lower)
    upper = np.minimum(earlier.gap_upper, latest.gap_upper)
    # The latest estimate, within the limits that the plots and reports will draw around it.
    estimate = np.minimum(np.maximum(latest.gap, lower), np.maximum(lower, upper))
    outcomes = [
        Outcome.ABORT
        if Outcome.ABORT in pair
        else Outcome.ACCEPT
        if Outcome.ACCEPT in pair
        else Outcome.INCONCLUSIVE
        for pair in zip(earlier.outcomes, latest.outcomes, strict=True)
    ]
    return _with(latest, criterion, Interval(estimate, lower, upper), outcomes)


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


def prospect(verdict: Verdict, n_used: int) -> Prospect:
    """Extrapolate an inconclusive verdict of the gap method.

    Acceptance waits for the slowest target, an abort for the fastest.

    Parameters
    ----------
    verdict : Verdict
    n_used : int
        Trainings that its limits rest on.
    """
    epsilon, gap, slack = verdict.epsilon, verdict.gap, verdict.details["slack"]
    barred = verdict.details["vacuous"] | verdict.details["doubtful"]
    open_ = np.array([o is Outcome.INCONCLUSIVE for o in verdict.outcomes])
    with np.errstate(divide="ignore", invalid="ignore"):
        to_accept = ((verdict.gap_upper - gap) / (epsilon - gap)) ** 2 - 1.0
        to_abort = ((gap - verdict.gap_lower) / (gap - slack - epsilon)) ** 2 - 1.0
    abortable = open_ & ~barred & (gap - slack > epsilon)
    if abortable.any():
        return _prospect(Outcome.ABORT, float(to_abort[abortable].min()), n_used)
    if barred[open_].any() or (gap[open_] >= epsilon).any() or not np.isfinite(gap).all():
        return Prospect(Outcome.INCONCLUSIVE, 0)
    return _prospect(Outcome.ACCEPT, float(to_accept[open_].max()), n_used)


def _prospect(outcome: Outcome, growth: float, n_used: int) -> Prospect:
    """So much more of what was used, at least two trainings."""
    n_more = n_used * growth
    if not n_more < _MOST:
        return Prospect(Outcome.INCONCLUSIVE, 0)
    return Prospect(outcome, max(2, 2 * int(np.ceil(n_more / 2.0))))


def _explained(
    verdict: Verdict,
    criterion: Criterion,
    design: ClusterDesign,
    looks: Looks,
    levels: list[Levels],
) -> Verdict:
    """Add how δ was spent and, where it was not enough, what more trainings would bring."""
    n_clusters = verdict.details["n_clusters"]
    total = criterion.levels(criterion.delta, verdict.n_targets)
    split = {"upper limit of each target": total.upper, "lower limit of each target": total.lower}
    if len(levels) > 1:
        split |= {
            f"upper limit at look {k} ({count} clusters)": level.upper
            for k, (count, level) in enumerate(zip(looks.counts, levels, strict=True), start=1)
        }
    details = {
        **verdict.details,
        "looks": looks.counts,
        "n_looks": looks.counts.index(n_clusters) + 1,
    }
    reason = verdict.reason
    if verdict.outcome is Outcome.INCONCLUSIVE:
        ahead = prospect(verdict, 2 * n_clusters * design.n_leaves)
        details |= {"expected_outcome": ahead.outcome, "expected_more_trainings": ahead.n_more}
        reason += (
            "; no number of trainings is likely to decide that"
            if ahead.outcome is Outcome.INCONCLUSIVE
            else f"; about {ahead.n_more:,} more trainings would end in {ahead.outcome}"
        )
    return replace(verdict, reason=reason, delta_split=split, details=details)
