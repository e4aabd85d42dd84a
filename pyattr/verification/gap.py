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

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value
from pyattr.verification.bounds import (
    BOUNDS,
    Interval,
    Levels,
    chi2_interval,
    moment_interval,
    ratio_interval,
    t_interval,
)
from pyattr.verification.clusters import ClusterTerms

__all__ = ["GapEstimate", "estimate_gap"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GapEstimate:
    """What a cluster design says about the gap of every target.

    Parameters
    ----------
    weight : Interval
        Of ``E U / ρ`` (plus B_0 if the intercept is checked), in squared output units.
    variance : Interval
        Of Var f, over masks and seeds, in squared output units.
    correlation : (n_targets,) float64
        Between the two estimates.
    """

    weight: Interval
    variance: Interval
    correlation: Array

    @property
    def relative(self) -> Interval:
        """``E U / ρ`` relative to Var f."""
        return ratio_interval(self.weight, self.variance, self.correlation)


def estimate_gap(
    terms: ClusterTerms,
    variance_predicted: Array,
    levels: Levels,
    bound: str = "chi2",
    check_intercept: bool = False,
    kappa: float = 4.0,
) -> GapEstimate:
    """Estimate the gap of every target.

    Parameters
    ----------
    terms : ClusterTerms
    variance_predicted : (n_targets,) float64
        Var g over masks.
    levels : Levels
        Of the limits of each target's gap.
    bound : {"chi2", "t", "moment"}
    check_intercept : bool
        Bound B_0 too, at half the levels each, instead of leaving the intercept to be refitted.
    kappa : float
        Of the moment bound: stated bound of ``E o⁴ / (E o²)²``.

    Returns
    -------
    GapEstimate

    Raises
    ------
    ValueError
        If the bound is unknown or does not fit the design.
    """
    share = levels.halved() if check_intercept else levels
    if bound == "chi2":
        weight = chi2_interval(terms.squares, share)
    elif bound == "t":
        weight = t_interval(terms.products, share)
    elif bound == "moment":
        weight = moment_interval(terms.squares, share, kappa)
    else:
        raise bad_value("bound", f"one of {', '.join(BOUNDS)}", repr(bound))
    weight = weight.scaled(1.0 / terms.design.rho)
    if check_intercept:
        offset = t_interval(terms.offset, Levels(share.upper / 2.0, share.upper / 2.0))
        highest = np.maximum(np.abs(offset.lower), np.abs(offset.upper)) ** 2
        square = offset.estimate**2
        weight = Interval(weight.estimate + square, weight.lower, weight.upper + highest)
    variance, correlation = terms.variance(variance_predicted, levels.swapped())
    return GapEstimate(weight, variance, correlation)
