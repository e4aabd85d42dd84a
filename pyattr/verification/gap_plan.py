"""What a gap verification will train: a design that was given, or one chosen from its first trainings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pyattr.errors import bad_value
from pyattr.verification.bounds import PROOF
from pyattr.verification.clusters import LEAST_CLUSTERS, ClusterDesign, highest_rho
from pyattr.verification.criterion import Criterion
from pyattr.verification.evaluate import Evaluator
from pyattr.verification.opening import OPENING_TRAININGS, open_clusters
from pyattr.verification.plan import choose_clusters, smallest_design
from pyattr.verification.scores import LinearScores
from pyattr.verification.spending import EXTENSION_SHARE, FINAL_SHARE, LEAST_LOOK, Looks
from pyattr.verification.stars import StarDesign

__all__ = ["GapPlan", "fixed_plan", "opened_plan"]


@dataclass(frozen=True)
class GapPlan:
    """What will be trained and when it is judged.

    Parameters
    ----------
    design : ClusterDesign or StarDesign
        With as many clusters as the last look has.
    looks : Looks
    bound : str
        Bound that the looks are made for.
    n_opening, n_lost : int
        Trainings made to choose the design, and those of them that it cannot use.
    """

    design: ClusterDesign | StarDesign
    looks: Looks
    bound: str
    n_opening: int = 0
    n_lost: int = 0


def fixed_plan(
    design: ClusterDesign | StarDesign, criterion: Criterion, budget: int | None
) -> GapPlan:
    """A design that was given: all of it, and one look."""
    if design.p != criterion.p:
        raise bad_value("design.p", f"p = {criterion.p}", design.p)
    needed = design.n_evaluations
    if budget is not None and needed > budget:
        raise bad_value("budget", f"at least {needed} trainings for this design", budget)
    return GapPlan(design, Looks((design.n_clusters,), 1), criterion.bound_for(design))


def opened_plan(
    evaluate: Evaluator,
    scores: LinearScores,
    criterion: Criterion,
    seed: int,
    budget: int | None,
    own: bool,
) -> GapPlan:
    """Choose clusters, leaves and looks from the first trainings; `own` if the design contains them."""
    _check(criterion, budget)
    epsilon = criterion.epsilon
    if not criterion.relative:
        epsilon = float(np.min(epsilon / np.maximum(scores.variance(criterion.p), 1e-300)))
    spare = None if budget is None else budget // 4
    opening = open_clusters(evaluate, scores, criterion.p, seed, epsilon, spare)
    rest = None if budget is None else budget - opening.n_trained
    n = scores.n_targets
    final = FINAL_SHARE if own else 1.0 - EXTENSION_SHARE
    alpha = final * criterion.levels(criterion.delta, n).upper
    least = max(LEAST_CLUSTERS, opening.n_clusters) if own else LEAST_CLUSTERS
    if criterion.bound == PROOF:
        single = highest_rho(criterion.p) == 1.0 and not opening.seeds_matter(epsilon)
        criterion = replace(criterion, bound="moment" if single else "betting")
    design = choose_clusters(opening.noise, epsilon, alpha, n, criterion, rest, least)
    lost = opening.lost(design) if own else opening.n_trained
    most = design.n_clusters
    if budget is not None:
        most = max(most, (budget - lost) // (2 * design.n_leaves))
    bound = criterion.bound_for(design)
    looks = Looks.plan(design.n_clusters, most, bound, max(LEAST_LOOK, least))
    whole = replace(design, n_clusters=looks.counts[-1])
    return GapPlan(whole, looks, bound, opening.n_trained, lost)


def _check(criterion: Criterion, budget: int | None) -> None:
    """Refuse what would be refused anyway, before anything is trained."""
    smallest = OPENING_TRAININGS + smallest_design(criterion.p)
    if budget is not None and budget < smallest:
        raise bad_value(
            "budget", f"at least {smallest} trainings (opening and smallest design)", budget
        )
    if criterion.bound not in (PROOF, "moment"):
        criterion.bound_for(ClusterDesign(LEAST_CLUSTERS, 2, criterion.p, highest_rho(criterion.p)))
