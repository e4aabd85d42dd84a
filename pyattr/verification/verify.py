"""`verify`: train a few models and decide whether an attribution is near-optimal."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value, check_count, check_positive
from pyattr.interface import Retrain
from pyattr.masks import sample_masks, sample_seeds
from pyattr.verification.choose import choose_design, smallest_choice
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.evaluate import Evaluator, Progress
from pyattr.verification.judge import Criterion, judge_gap
from pyattr.verification.naive import NAIVE_SUBSETS, NAIVE_THRESHOLD, judge_naive
from pyattr.verification.paper import verify_paper
from pyattr.verification.pilot import PILOT_TRAININGS, run_pilot
from pyattr.verification.scores import HasScores, LinearScores
from pyattr.verification.stars import StarDesign
from pyattr.verification.verdict import Verdict

__all__ = ["verify"]

Array = npt.NDArray[np.float64]


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
        48 (naive) or 96 (paper, whose plan is in ``verdict.details["n_planned"]``).
    bound : {"chi2", "t", "moment", "betting", "bernstein", "hoeffding", "proof"}
        Confidence bound of the gap method; see `pyattr.verification.bounds`. "proof" asks for one that
        holds at any sample size. Those from "betting" on need `clip`.
    design : ClusterDesign or StarDesign, optional
        Of the gap method: odd pairs in clusters, or stars (p other than 1/2); chosen from a pilot of 8
        trainings, or 24 if seeds matter, if not given.
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

    Examples
    --------
    >>> import numpy as np, pyattr
    >>> truth = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    >>> retrain = lambda masks, seeds: masks.unpack() @ truth
    >>> pyattr.verify(retrain, pyattr.Attribution(scores=truth), seed=1).outcome
    <Outcome.ACCEPT: 'ACCEPT'>
    >>> pyattr.verify(retrain, pyattr.Attribution(scores=truth / 2), seed=1).outcome
    <Outcome.ABORT: 'ABORT'>

    References
    ----------
    Karchmer, Pawelczyk, Neel 2025; gap estimation: `pyattr.verification.gap`.
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
    evaluate = Evaluator(retrain, scores.n_targets, clip, progress)
    if method == "gap":
        return _verify_gap(evaluate, scores, criterion, seed, budget, design)
    if method == "paper":
        verdict = verify_paper(evaluate, scores, criterion, seed, budget)
        return _count(verdict, evaluate, seed)
    if method == "naive":
        n_fresh = check_count("budget", NAIVE_SUBSETS if budget is None else budget, 2)
        mask_seed, run_seed = (int(s) for s in sample_seeds(2, seed))
        masks = sample_masks(n_fresh, scores.n_train, p, mask_seed)
        evaluate.n_planned = n_fresh
        outputs = evaluate(masks, sample_seeds(n_fresh, run_seed))
        verdict = judge_naive(criterion, masks, outputs, scores, threshold)
        return _count(verdict, evaluate, seed)
    raise bad_value("method", "'gap', 'paper' or 'naive'", repr(method))


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
    """Pilot, choose a design, train it, judge."""
    pilot_seed, main_seed = (int(s) for s in sample_seeds(2, seed))
    details = {}
    if design is None:
        design = _choose(evaluate, scores, criterion, pilot_seed, budget)
        details["n_pilot"] = evaluate.n_trained
    elif design.p != criterion.p:
        raise bad_value("design.p", f"p = {criterion.p}", design.p)
    criterion.bound_for(design)  # before anything is trained for a bound that does not fit
    needed = evaluate.n_trained + design.n_evaluations
    if budget is not None and needed > budget:
        raise bad_value("budget", f"at least {needed} trainings for this design", budget)
    evaluate.n_planned = needed
    masks, seeds = design.draw(main_seed, scores.n_train)
    before = evaluate.clipped.copy()
    outputs = evaluate(masks, seeds)
    clipped = (evaluate.clipped - before) / design.n_evaluations
    verdict = judge_gap(criterion, design, masks, outputs, scores, clipped=clipped)
    return _count(verdict, evaluate, seed, **details)


def _choose(
    evaluate: Evaluator,
    scores: LinearScores,
    criterion: Criterion,
    seed: int,
    budget: int | None,
) -> ClusterDesign | StarDesign:
    """Choose a design from a pilot."""
    smallest = PILOT_TRAININGS + smallest_choice(criterion.p)
    if budget is not None and budget < smallest:
        raise bad_value(
            "budget", f"at least {smallest} trainings (pilot and smallest design)", budget
        )
    spare = None if budget is None else budget // 4
    pilot = run_pilot(evaluate, scores.n_train, criterion.p, seed, spare)
    noise = pilot.noise(criterion.p, scores)
    known = scores.variance(criterion.p)
    epsilon = criterion.epsilon
    if not criterion.relative:
        epsilon = float(np.min(epsilon / np.maximum(known, 1e-300)))
    rest = None if budget is None else budget - evaluate.n_trained
    n = scores.n_targets
    alpha = criterion.delta / (n if criterion.simultaneous else 1)
    return choose_design(noise, epsilon, alpha, criterion, rest, scores)
