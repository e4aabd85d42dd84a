"""What a gap verification will train: a design that was given, or one chosen from its first trainings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pyattr.errors import bad_value
from pyattr.verification.bounds import PROOF
from pyattr.verification.choose import choose_design, smallest_choice, stars_only
from pyattr.verification.clusters import LEAST_CLUSTERS, ClusterDesign, highest_rho
from pyattr.verification.criterion import Criterion
from pyattr.verification.evaluate import Evaluator
from pyattr.verification.opening import OPENING_TRAININGS, open_clusters
from pyattr.verification.pilot import run_pilot
from pyattr.verification.plan import least_clusters
from pyattr.verification.scores import LinearScores
from pyattr.verification.spending import (
    EXTENSION_SHARE,
    FINAL_SHARE,
    LEAST_LOOK,
    MODELLED,
    WALKED,
    Looks,
)
from pyattr.verification.stars import StarDesign

__all__ = ["GapPlan", "fixed_plan", "opened_plan", "planned_level"]


@dataclass(frozen=True)
class GapPlan:
    """What will be trained and when it is judged.

    Parameters
    ----------
    design : ClusterDesign or StarDesign
        With as many clusters as the last look has.
    looks : Looks
    seed : int
        Of the design.
    bound : str
        Bound that the looks are made for.
    n_opening, n_lost : int
        Trainings made to choose the design, and those of them that it cannot use.
    """

    design: ClusterDesign | StarDesign
    looks: Looks
    seed: int
    bound: str
    n_opening: int = 0
    n_lost: int = 0


def fixed_plan(
    design: ClusterDesign | StarDesign, criterion: Criterion, seed: int, budget: int | None
) -> GapPlan:
    """A design that was given: all of it, and one look."""
    if design.p != criterion.p:
        raise bad_value("design.p", f"p = {criterion.p}", design.p)
    needed = design.n_evaluations
    if budget is not None and needed > budget:
        raise bad_value("budget", f"at least {needed} trainings for this design", budget)
    return GapPlan(design, Looks((design.n_clusters,), 1), seed, criterion.bound_for(design))


def opened_plan(
    evaluate: Evaluator,
    scores: LinearScores,
    criterion: Criterion,
    seeds: tuple[int, int],
    budget: int | None,
) -> GapPlan:
    """Choose design and looks from the first trainings.

    Parameters
    ----------
    evaluate : Evaluator
    scores : LinearScores
    criterion : Criterion
    seeds : (int, int)
        Of a design that contains the first trainings, and of what must not share them: limits that rest
        on no model of the residuals (see `pyattr.verification.opening`), and stars, which have no row in
        common with clusters.
    budget : int or None
        Most trainings.
    """
    stars = stars_only(criterion.p)
    at_once = scores.n_targets if criterion.simultaneous else 1
    few = LEAST_CLUSTERS if stars else least_clusters(scores.n_train, criterion.delta, at_once)
    _check(criterion, budget, few)
    epsilon = criterion.epsilon
    if not criterion.relative:
        epsilon = float(np.min(epsilon / np.maximum(scores.variance(criterion.p), 1e-300)))
    if stars:
        return _plan_of_stars(evaluate, scores, criterion, seeds, epsilon, budget)
    spare = None if budget is None else budget // 4
    opening = open_clusters(evaluate, scores, criterion.p, seeds[0], epsilon, spare)
    rest = None if budget is None else budget - opening.n_trained
    if criterion.bound == PROOF:
        single = highest_rho(criterion.p) == 1.0 and not opening.seeds_matter(epsilon)
        criterion = replace(criterion, bound="moment" if single else "betting")
    own = criterion.bound in MODELLED
    least = max(few, opening.n_clusters) if own else few
    alpha = planned_level(criterion, scores.n_targets)
    design = choose_design(opening.noise, epsilon, alpha, criterion, rest, scores, least)
    bound = criterion.bound_for(design)
    if isinstance(design, StarDesign):
        looks = Looks((design.n_clusters,), 1)
        return GapPlan(design, looks, seeds[1], bound, opening.n_trained, opening.n_trained)
    lost = opening.lost(design) if own else opening.n_trained
    if (
        budget is not None and lost + design.n_evaluations > budget
    ):  # few examples, whose seeds matter
        needed = lost + design.n_evaluations
        raise bad_value("budget", f"at least {needed} trainings, for all joint effects", budget)
    most = design.n_clusters
    if budget is not None:
        most = max(most, (budget - lost) // (2 * design.n_leaves))
    looks = Looks.plan(design.n_clusters, most, bound, max(LEAST_LOOK, least))
    whole = replace(design, n_clusters=looks.counts[-1])
    return GapPlan(whole, looks, seeds[0 if own else 1], bound, opening.n_trained, lost)


def planned_level(criterion: Criterion, n_targets: int) -> float:
    """Level of one target's upper limit that the size of a design is planned with."""
    share = FINAL_SHARE if criterion.bound in WALKED else 1.0 - EXTENSION_SHARE
    return share * criterion.levels(criterion.delta, n_targets).upper


def _plan_of_stars(
    evaluate: Evaluator,
    scores: LinearScores,
    criterion: Criterion,
    seeds: tuple[int, int],
    epsilon: float,
    budget: int | None,
) -> GapPlan:
    """Where there are no odd pairs: a pilot of independent masks, then stars."""
    spare = None if budget is None else budget // 4
    noise = run_pilot(evaluate, scores.n_train, criterion.p, seeds[0], spare).noise(
        criterion.p, scores
    )
    lost = evaluate.n_trained
    rest = None if budget is None else budget - lost
    alpha = criterion.levels(criterion.delta, scores.n_targets).upper
    design = choose_design(noise, epsilon, alpha, criterion, rest, scores)
    looks = Looks((design.n_clusters,), 1)
    return GapPlan(design, looks, seeds[1], criterion.bound_for(design), lost, lost)


def _check(criterion: Criterion, budget: int | None, least: int) -> None:
    """Refuse what would be refused anyway, before anything is trained."""
    smallest = OPENING_TRAININGS + smallest_choice(criterion.p, least)
    if budget is not None and budget < smallest:
        raise bad_value(
            "budget", f"at least {smallest} trainings (opening and smallest design)", budget
        )
    if criterion.bound not in (PROOF, "moment") and not stars_only(criterion.p):
        criterion.bound_for(ClusterDesign(LEAST_CLUSTERS, 2, criterion.p, highest_rho(criterion.p)))
