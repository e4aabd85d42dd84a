"""Gap estimation: the low-degree weight of the residual, measured directly.

With ``r = f - g`` the residual of an attribution g, and B_k the weight of r at degree k of the
p-biased Fourier basis,

    gap = MSE(g) - min_w MSE(w) = B_0(r) + B_1(r)        exactly,

because g is linear: subtracting it changes no weight above degree 1. B_0 is the intercept's error, a
nuisance that the verifier refits; B_1 is certified.

**Odd pairs.** At p = 1/2 a mask x and its complement give ``o = (r(x,s) - r(x̄,s)) / 2``, in which
all even degrees and the intercept cancel, and so does what the seed does to both. For other p the two
masks of a pair are √ρ- and (-√ρ)-correlated with a centre, and the even degrees cancel in products
across pairs.

**Clusters.** C independent centres, L leaves each; any two leaves of a cluster are ρ-correlated with
independent seeds. Given the centre they are independent, so a product of two has the mean of the
product of their means over seeds, and

    U = Σ_{l≠l'} o_l o_l' / (L(L-1)),    E U / ρ = B_1 + ρ² B_3 + ρ⁴ B_5 + … ≥ B_1.

*Soundness note.* Every B_k ≥ 0, hence ``E U / ρ ≥ gap`` for every f, every p and every attribution:
an upper confidence limit of ``E U / ρ`` is one of the gap, whatever f is. The slack
``ρ² B_3 + …`` is weight that no linear attribution can remove; it costs the honest completeness and
the dishonest nothing. Accusing is another matter: a lower limit of ``E U / ρ`` bounds the gap from
below only after the slack is taken off, for which the caller states how much odd non-linear weight
f may have (`nonlinearity`). Tests: ``tests/verification/test_gap.py``.

*Relative gaps.* The claim is ``gap ≤ ε Var f``. Near-normal bounds combine the limits of the two
(`pyattr.verification.interval.ratio_interval`), with Student t limits for Var f. Finite-sample bounds
divide the upper limit of the gap by a lower limit of Var f that holds with it: what the scores and
the gap's own limit imply (`output_variance.known_floor`), which costs no share of δ, or for clipped
outputs the limit of their mean square difference at a tenth of the level, whichever is larger. Both
hold together with probability 1 - δ by the union bound.

With ρ = 1 and p = 1/2 the leaves of a cluster are one mask with L seeds. If f ignores its seed one
leaf is enough: ``U = o²``; if it does not, one leaf adds seed variance, which again errs on the safe
side.

References
----------
Noise stability: O'Donnell 2014, section 2.4. The low-degree weight of a residual and its clusters:
this project (see README).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value
from pyattr.verification.bounded import VARIANCE_SHARE, BoundedRange
from pyattr.verification.bounds import (
    BOUNDS,
    Interval,
    Levels,
    MeanSquares,
    bounded_interval,
    chi2_interval,
    moment_interval,
    ratio_interval,
    t_interval,
)
from pyattr.verification.output_variance import VarianceParts, known_floor

__all__ = ["GapEstimate", "GapTerms", "estimate_gap"]

Array = npt.NDArray[np.float64]


class GapTerms(Protocol):
    """What independent clusters say, whatever the design: `ClusterTerms` or `StarTerms`."""

    @property
    def products(self) -> Array:
        """``U_c``, (C, n_targets)."""

    @property
    def independent_products(self) -> Array:
        """``U_c`` without any figure that other clusters share."""

    @property
    def squares(self) -> MeanSquares | None:
        """Mean squares of odd pairs; None for a design without them."""

    @property
    def effect_squares(self) -> Array:
        """What MSB is the mean of, (C, n_targets); empty for a design without it."""

    @property
    def offset(self) -> Array:
        """Mean residual of every cluster, (C, n_targets)."""

    @property
    def rho(self) -> float:
        """Factor of the gap in ``E U``."""

    def variance(self, variance_predicted: Array, levels: Levels) -> tuple[Interval, Array]:
        """Student t limits of Var f, and the correlation of the estimate with that of the gap."""

    def variance_parts(self) -> VarianceParts:
        """Squared standard error of the gap estimate."""


@dataclass(frozen=True)
class GapEstimate:
    """What a design says about the gap of every target.

    Parameters
    ----------
    weight : Interval
        Of ``E U / ρ`` (plus B_0 if the intercept is checked), in squared output units.
    variance : Interval
        Of Var f, over masks and seeds, in squared output units.
    correlation : (n_targets,) float64
        Between the two estimates; -1 where they are taken to err together.
    measured_variance : Interval
        Student t limits of Var f from the outputs, whatever the bound: what guards rest on.
    parts : VarianceParts
        Of the estimate of ``E U / ρ``.
    """

    weight: Interval
    variance: Interval
    correlation: Array
    measured_variance: Interval
    parts: VarianceParts

    @property
    def relative(self) -> Interval:
        """``E U / ρ`` relative to Var f."""
        return ratio_interval(self.weight, self.variance, self.correlation)


def estimate_gap(
    terms: GapTerms,
    variance_predicted: Array,
    levels: Levels,
    bound: str = "chi2",
    check_intercept: bool = False,
    kappa: float = 4.0,
    bounded: BoundedRange | None = None,
    relative: bool = True,
) -> GapEstimate:
    """Estimate the gap of every target.

    Parameters
    ----------
    terms : GapTerms
    variance_predicted : (n_targets,) float64
        Var g over masks.
    levels : Levels
        Of the limits of each target's gap.
    bound : str
        One of `BOUNDS`.
    check_intercept : bool
        Bound B_0 too, at half the levels each, instead of leaving the intercept to be refitted.
    kappa : float
        Of the moment bound: stated bound of ``E o⁴ / (E o²)²``.
    bounded : BoundedRange, optional
        Of the terms, for the bounds that need clipped outputs.
    relative : bool
        Whether a limit of Var f is wanted too; it takes a share of the level of some bounds.

    Returns
    -------
    GapEstimate

    Raises
    ------
    ValueError
        If the bound is unknown or does not fit the design.
    """
    if bound not in BOUNDS:
        raise bad_value("bound", f"one of {', '.join(BOUNDS)}", repr(bound))
    measured, correlation = terms.variance(variance_predicted, levels.swapped())
    if BOUNDS[bound].needs_clip:
        if bounded is None:
            raise bad_value("clip", f"a bound of the outputs for bound {bound!r}", None)
        shared = levels.times(1.0 - VARIANCE_SHARE) if relative else levels
        spread = bounded.variance(bound, levels.times(VARIANCE_SHARE).swapped())
    else:
        shared, spread = levels, measured
    share = shared.times(0.5) if check_intercept else shared
    weight = _weight(terms, bound, share, kappa, bounded).scaled(1.0 / terms.rho)
    variance = spread
    if BOUNDS[bound].finite_sample:
        floor = known_floor(variance_predicted, weight.upper)
        lower = np.maximum(floor, spread.lower) if BOUNDS[bound].needs_clip else floor
        variance = Interval(measured.estimate, lower, spread.upper)
        correlation = np.full_like(correlation, -1.0)
    if check_intercept:
        square = _offset_square(terms, bound, share, bounded)
        weight = Interval(
            weight.estimate + square.estimate, weight.lower, weight.upper + square.upper
        )
    return GapEstimate(weight, variance, correlation, measured, terms.variance_parts())


def _weight(
    terms: GapTerms, bound: str, levels: Levels, kappa: float, bounded: BoundedRange | None
) -> Interval:
    """Limits of ``E U``."""
    if bound == "t":
        return t_interval(terms.products, levels)
    if bounded is not None and BOUNDS[bound].needs_clip:
        return bounded.weight(terms.independent_products, bound, levels)
    if terms.squares is None:
        raise bad_value("bound", "'t' or one for clipped outputs with this design", repr(bound))
    if bound == "chi2":
        return chi2_interval(terms.squares, levels)
    return moment_interval(terms.squares, levels, kappa)


def _offset_square(
    terms: GapTerms, bound: str, levels: Levels, bounded: BoundedRange | None
) -> Interval:
    """``B_0 = (E r)²`` from the mean residuals of clusters."""
    both = Levels(levels.upper / 2.0, levels.upper / 2.0)
    if bounded is not None and BOUNDS[bound].needs_clip:
        if bounded.offset_reach is None:
            raise bad_value("intercept", f"'refit' with bound {bound!r} for this p", "'check'")
        reach = bounded.offset_reach
        unit = np.clip((terms.offset / reach + 1.0) / 2.0, 0.0, 1.0)
        part = bounded_interval(bound, unit, both)
        offset = Interval(
            terms.offset.mean(axis=0), reach * (2 * part.lower - 1), reach * (2 * part.upper - 1)
        )
    else:
        offset = t_interval(terms.offset, both)
    highest = np.maximum(np.abs(offset.lower), np.abs(offset.upper)) ** 2
    return Interval(offset.estimate**2, np.zeros_like(highest), highest)
