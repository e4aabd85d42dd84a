"""`verify`: train a few models and decide whether an attribution is near-optimal."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import replace
from typing import Any, Final, Literal

from pyattr.errors import bad_value, check_count, check_positive
from pyattr.interface import Retrain
from pyattr.masks import sample_masks, sample_seeds
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.criterion import Criterion
from pyattr.verification.evaluate import Evaluator, Progress, Recorded
from pyattr.verification.gap_plan import fixed_plan, opened_plan
from pyattr.verification.naive import NAIVE_SUBSETS, NAIVE_THRESHOLD, judge_naive
from pyattr.verification.paper import verify_paper
from pyattr.verification.scores import HasScores, LinearScores
from pyattr.verification.sequential import verify_in_rounds
from pyattr.verification.stars import StarDesign
from pyattr.verification.trainings import Trainings
from pyattr.verification.verdict import Verdict

__all__ = ["verify"]

_LOG: Final = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES: Final = 5.0


def verify(
    retrain: Retrain,
    attribution: HasScores,
    *,
    epsilon: float = 0.05,
    delta: float = 0.05,
    p: float = 0.5,
    method: Literal["gap", "paper", "naive"] = "gap",
    seed: int | None = None,
    budget: int | None = None,
    bound: str = "chi2",
    design: ClusterDesign | StarDesign | None = None,
    relative: bool = True,
    nonlinearity: float = 0.02,
    intercept: str = "refit",
    clip: float | None = None,
    simultaneous: bool = False,
    threshold: float = NAIVE_THRESHOLD,
    progress: Progress | None = None,
) -> Verdict:
    """Check that an attribution is within epsilon of the best linear one.

    Parameters
    ----------
    retrain : callable
        ``retrain(masks, seeds) -> (n, n_targets) float32``; see `pyattr.retrain_with`.
    attribution : Attribution
        Scores (n_train, n_targets) in the 0/1 coding, and intercept.
    epsilon : float
        Largest gap ``MSE(a) - min_w MSE(w)`` to accept; a share of Var f unless `relative` is false.
    delta : float
        Probability of accepting if any target's gap is larger, given what the bound rests on.
    p : float
        Probability that an example is in a mask.
    method : {"gap", "paper", "naive"}
        "gap" estimates the gap directly. "paper" is the non-interactive protocol of Karchmer et al.
        2025, which needs many more trainings. "naive" compares the error with `threshold`, and is
        fooled by scaled scores.
    seed : int, optional
        In [0, 2^64). Fixes all masks and training seeds, so the prover must not know it: by default it
        is drawn from the operating system's generator. ``verdict.details["seed"]`` has it.
    budget : int, optional
        Most trainings. By default as many as accept an honest prover with probability 0.95 (gap),
        48 (naive) or 96 (paper, whose plan is in ``verdict.details["n_planned"]``). The gap method trains
        in rounds and stops as soon as every target is decided; a larger budget than planned adds
        rounds. Bounds for clipped outputs are not planned for and need one.
    bound : {"chi2", "t", "moment", "betting", "bernstein", "hoeffding", "proof"}
        Confidence bound of the gap method; see `pyattr.verification.bounds`. "proof" asks for one that
        holds at any sample size. Those from "betting" on need `clip`.
    design : ClusterDesign or StarDesign, optional
        Of the gap method: odd pairs in clusters, or stars (p other than 1/2); all of it is trained and
        judged once. If not given, design and rounds follow from the first 8 trainings, or 24 if seeds
        matter.
    relative : bool
        Whether epsilon is a share of Var f or in squared output units.
    nonlinearity : float
        Share of Var f that f may have at odd degrees above 1; guards honest provers from being
        aborted, and plays no part in acceptance.
    intercept : {"refit", "check"}
        The intercept is a nuisance to be refitted, or certified as well; the default budget is planned
        for the former.
    clip : float, optional
        b: outputs are clipped to [-b, b], by definition of f. The paper's method needs one and takes
        1.25 times the largest output of its pilot if none is given.
    simultaneous : bool
        Let the upper limits of all targets hold at once (gap method), which costs more trainings.
    threshold : float
        Of the naive method.
    progress : callable, optional
        Called as ``progress(done, planned)`` after each block of trainings.

    Returns
    -------
    Verdict
        Outcome ACCEPT, ABORT or INCONCLUSIVE, overall and per target.

    Raises
    ------
    ValueError
        If an argument is out of range, outputs have a wrong shape or are not finite, or the budget
        does not cover the smallest design.

    Notes
    -----
    Progress and outcome are logged at INFO, what was chosen for the caller at WARNING.

    Whatever a failing training raises comes through, with the trainings finished before it (gap method):
    ``verify(error.completed, attribution, seed=..., ...)`` goes on without repeating them.

    References
    ----------
    Karchmer, Pawelczyk, Neel 2025; gap estimation: `pyattr.verification.gap`.

    Examples
    --------
    >>> import numpy as np, pyattr
    >>> truth = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    >>> retrain = lambda masks, seeds: masks.unpack() @ truth
    >>> pyattr.verify(retrain, pyattr.Attribution(scores=truth), seed=1).outcome
    <Outcome.ACCEPT: 'ACCEPT'>
    >>> pyattr.verify(retrain, pyattr.Attribution(scores=truth / 2), seed=1).outcome
    <Outcome.ABORT: 'ABORT'>
    """
    criterion = Criterion(
        epsilon, delta, p, bound, relative, nonlinearity, intercept, clip, simultaneous
    )
    scores = LinearScores.of(attribution)
    _check_players(retrain, scores)
    if budget is not None:
        check_count("budget", budget, 1)
    if design is not None and method != "gap":
        raise bad_value("design", f"none for method {method!r}", "a ClusterDesign")
    check_positive("threshold", threshold)
    seed = secrets.randbits(64) if seed is None else seed
    evaluate = Evaluator(retrain, scores.n_targets, clip, _logged(progress))
    verdict = _judged(evaluate, scores, criterion, method, seed, budget, design, threshold)
    _LOG.info("%r", verdict)
    return replace(verdict, p=criterion.p, judged=scores)


def _judged(
    evaluate: Evaluator,
    scores: LinearScores,
    criterion: Criterion,
    method: str,
    seed: int,
    budget: int | None,
    design: ClusterDesign | StarDesign | None,
    threshold: float,
) -> Verdict:
    """The verdict of one of the methods."""
    if method == "gap":
        verdict = _verify_gap(evaluate, scores, criterion, seed, budget, design)
    elif method == "paper":
        verdict = _count(verify_paper(evaluate, scores, criterion, seed, budget), evaluate, seed)
        if criterion.clip is None and evaluate.n_clipped:
            cut, n = evaluate.clip, evaluate.n_clipped
            _LOG.warning("clip: %.3g, chosen from the pilot, cut off %d outputs; state one", cut, n)
    elif method == "naive":
        n_fresh = check_count("budget", NAIVE_SUBSETS if budget is None else budget, 2)
        mask_seed, run_seed = (int(s) for s in sample_seeds(2, seed))
        masks = sample_masks(n_fresh, scores.n_train, criterion.p, mask_seed)
        evaluate.n_planned = n_fresh
        outputs = evaluate(masks, sample_seeds(n_fresh, run_seed))
        judged = judge_naive(criterion, masks, outputs, scores, threshold)
        verdict = _count(judged, evaluate, seed)
    else:
        raise bad_value("method", "'gap', 'paper' or 'naive'", repr(method))
    return verdict


def _logged(progress: Progress | None) -> Progress:
    """Log how far the trainings are, now and then, and pass it on."""
    last = time.monotonic()

    def tell(done: int, planned: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            _LOG.info("%s of at most %s trainings", f"{done:,}", f"{planned:,}")
        if progress is not None:
            progress(done, planned)

    return tell


def _check_players(retrain: object, scores: LinearScores) -> None:
    """Compare sizes early where `retrain` tells its own."""
    for name, own in (("n_train", scores.n_train), ("n_targets", scores.n_targets)):
        theirs = getattr(retrain, name, own)
        if theirs != own:
            raise bad_value("attribution", f"{name} = {theirs}, as retrain has", own)


def _count(verdict: Verdict, evaluate: Evaluator, seed: int, **details: Any) -> Verdict:
    """Add what was trained to a verdict."""
    clipped = evaluate.n_clipped / max(1, evaluate.n_trained * evaluate.n_targets)
    more = {**verdict.details, "clipped_share": clipped, "seed": seed, **details}
    return replace(verdict, n_retrained=evaluate.n_trained, details=more)


def _verify_gap(
    evaluate: Evaluator,
    scores: LinearScores,
    criterion: Criterion,
    seed: int,
    budget: int | None,
    design: ClusterDesign | StarDesign | None,
) -> Verdict:
    """Open, choose a design, train it in rounds."""
    main_seed, other_seed = (int(s) for s in sample_seeds(2, seed))
    evaluate.trainings = Trainings()
    try:
        if design is None:
            plan = opened_plan(evaluate, scores, criterion, (main_seed, other_seed), budget)
        else:
            plan = fixed_plan(design, criterion, main_seed, budget)
        evaluate.n_planned = plan.n_lost + plan.design.n_evaluations
        resolved = replace(criterion, bound=plan.bound)
        verdict = verify_in_rounds(evaluate, scores, resolved, plan.seed, plan.design, plan.looks)
    except BaseException as error:
        _keep(error, evaluate, seed)
        raise
    return _count(verdict, evaluate, seed, n_opening=plan.n_opening, n_lost=plan.n_lost)


def _keep(error: BaseException, evaluate: Evaluator, seed: int) -> None:
    """Let an exception carry the trainings that were finished before it."""
    if evaluate.trainings:
        error.completed = Recorded(evaluate.retrain, evaluate.trainings)  # type: ignore[attr-defined]
        error.add_note(
            f"{len(evaluate.trainings)} trainings were finished: verify(error.completed, ..., seed={seed}) "
            "goes on from there"
        )
