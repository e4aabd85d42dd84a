"""What each lie about scores would have cost each seller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyattr.attribution import Attribution
from pyattr.uses.pricing import Payments, payments_of
from pyattr.uses.values import Array, weighted_sum
from pyattr.verification.cheats import (
    FavouredGroup,
    HalvedScores,
    NoisyScores,
    ScoreLie,
    ZeroedSeller,
    added_gap,
)

__all__ = ["LieCosts", "lie_costs", "usual_lies"]

LIE_GAP = 0.2  # of the lies whose size can be chosen, relative to Var g


@dataclass(frozen=True)
class LieCosts:
    """Payments by honest scores and by lies about them.

    Parameters
    ----------
    titles : tuple of str
        Of the lies.
    added_gap : (n_lies,) float64
        Gap that each adds to the best scores at the target where it adds most, relative to Var g: what a
        verifier sees of it. Nearly as much relative to Var f where the scores explain most of it.
    added_gap_of_sum : (n_lies,) float64
        The same of the weighted sum of the targets, where that is verified.
    honest : (n_sellers,) float64
    paid : (n_lies, n_sellers) float64
        NaN where the rule "signed" pays nobody: a lie makes the values sum to 0 or less.
    """

    titles: tuple[str, ...]
    added_gap: Array
    added_gap_of_sum: Array
    honest: Array
    paid: Array

    @property
    def cost(self) -> Array:
        """What each seller would have been paid less, (n_lies, n_sellers) float64."""
        return self.honest - self.paid


def usual_lies(payments: Payments, gap: float = LIE_GAP, seed: int = 0) -> list[ScoreLie]:
    """Halved scores, noise, a favoured group and a zeroed seller: those with most to gain and to lose.

    Favoured is the seller that is paid least, zeroed the one that is paid most.

    Parameters
    ----------
    payments : Payments
        By honest scores.
    gap : float
        Of noise and favour, relative to Var g.
    seed : int
        Of the noise.
    """
    sellers = payments.sellers
    least, most = int(np.argmin(payments.paid)), int(np.argmax(payments.paid))
    return [
        HalvedScores(),
        FavouredGroup(sellers.members(least), gap, payments.basis.weights),
        ZeroedSeller(sellers.members(most)),
        NoisyScores(gap, seed),
    ]


def lie_costs(
    attribution: Attribution,
    payments: Payments,
    lies: Sequence[ScoreLie] | None = None,
) -> LieCosts:
    """Pay by the same rule for lies about the scores.

    Parameters
    ----------
    attribution : Attribution
        The honest scores, as `payments` was made from.
    payments : Payments
    lies : sequence of ScoreLie, optional
        `usual_lies` if not given.

    Returns
    -------
    LieCosts
    """
    least, most = (int(find(payments.paid)) for find in (np.argmin, np.argmax))
    names = payments.sellers.names
    chosen = usual_lies(payments) if lies is None else lies
    titles = [lie.description for lie in chosen]
    if lies is None:
        titles[1] = f"favours {names[least]}"
        titles[2] = f"zeroes {names[most]}"
    weights = payments.basis.weights
    honest = weighted_sum(attribution.scores, weights)
    paid, gaps, sums = [], [], []
    for lie in chosen:
        published = lie(attribution)
        values = weighted_sum(published.scores, weights)
        paid.append(_paid(payments, values))
        gaps.append(_largest(added_gap(attribution, published), attribution.variance(0.5)))
        sums.append(_largest(np.sum((values - honest) ** 2), np.sum(honest**2)))
    return LieCosts(tuple(titles), np.array(gaps), np.array(sums), payments.paid, np.array(paid))


def _paid(payments: Payments, values: Array) -> Array:
    """What each seller is paid by other values, NaN if there is no such payment."""
    if payments.rule == "signed" and not values.sum() > 0.0:
        return np.full(len(payments.sellers), np.nan)
    made = payments_of(payments.rule, values, payments.budget, payments.unit_price)
    return payments.sellers.total(made)


def _largest(added: npt.ArrayLike, variance: npt.ArrayLike) -> float:
    """Largest ratio where there is any variance; p cancels out."""
    top, bottom = np.atleast_1d(added), np.atleast_1d(variance)
    return float(np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0.0).max())
