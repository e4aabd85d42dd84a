"""Measured tails against what a bound rests on, and who may not be accepted or accused because of them.

A near-normal bound accepts if it rules out ``E U ≥ ρ ε Var f``. What its condition has to hold for is
therefore a residual *of that size*: an honest residual far below ε may have any shape. So fourth
cumulants are measured against the square of the size at ε, or of the measured size if that is larger.

- `chi2`: acceptance needs a fourth cumulant of at most `EXCESS_LIMIT` = 1 times that square. At a true
  excess kurtosis of 1 the 95% limit was measured to hold in 93% (20 to 400 clusters: a fifth of the
  variance in triple products of normals), at 3 (Laplace) in 85%.
  Accusation needs an excess kurtosis of at most ``1 + 3 √(24/C)``, which a normal sample of C exceeds
  one time in 500.
- `t`: the one-sided limit errs by about ``(2z²+1)/6 · φ(z) · γ/√C`` (Hall), 0.02 at ``γ/√C = 0.18`` and
  level 0.05: acceptance needs skewness γ of the U_c of at most ``0.18 √C``, accusation one of at least
  ``-0.18 √C``.
- `moment`: both need ``mean o⁴ ≤ κ (…)²`` with the stated κ.
- Bounds for clipped outputs need nothing.

A target that fails is INCONCLUSIVE. This is a guard and no proof: tails that a sample does not show, no
sample can be measured for. What hides from a few dozen clusters is in `tests/verification/test_verify.py`
(``test_the_known_limit_of_the_default_bound``) and in ``bench/results/coverage.json``.

References
----------
Box, Andersen 1955 (how kurtosis spreads mean squares) · Hall 1987, "Edgeworth expansion for Student's t
statistic under minimal moment conditions".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyattr.verification.gap import GapTerms
from pyattr.verification.output_variance import divide

__all__ = ["EXCESS_LIMIT", "SKEWNESS_LIMIT", "Tails", "measure_tails"]

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

EXCESS_LIMIT = 1.0
SKEWNESS_LIMIT = 0.18


@dataclass(frozen=True)
class Tails:
    """Targets whose tails the bound does not cover.

    Parameters
    ----------
    against_acceptance, against_accusation : (n_targets,) bool
    noticed : (n_targets,) bool
        Heavier than the bound's condition, though too small to matter at ε.
    what : str
        What was too large, in words.
    """

    against_acceptance: Flags
    against_accusation: Flags
    noticed: Flags
    what: str


def measure_tails(terms: GapTerms, bound: str, threshold: Array, kappa: float) -> Tails:
    """Compare tails with what the bound covers.

    Parameters
    ----------
    terms : GapTerms
    bound : str
    threshold : (n_targets,) float64
        ``ρ ε Var f``: E U at the gap to be ruled out, in squared output units.
    kappa : float
        Of the moment bound.
    """
    squares, products = terms.squares, terms.products
    none = np.zeros(products.shape[1], dtype=np.bool_)
    if bound == "t":
        limit = SKEWNESS_LIMIT * np.sqrt(products.shape[0])
        skewness = _skewness(products)
        heavy = skewness > limit
        return Tails(heavy, skewness < -limit, heavy, f"skewness over clusters above {limit:.3g}")
    if squares is None or bound not in ("chi2", "moment"):
        return Tails(none, none, none, "")
    leaves, n = squares.n_leaves, squares.n_clusters
    effect = terms.effect_squares
    second, fourth = effect.mean(axis=0), np.mean(effect**2, axis=0)
    at_epsilon = np.maximum(leaves * threshold + squares.within, second) ** 2
    if bound == "moment":
        own = fourth > kappa * second**2
        return Tails(fourth > kappa * at_epsilon, own, own, f"kurtosis above kappa = {kappa:g}")
    cumulant = fourth - 3.0 * second**2
    own = cumulant > (EXCESS_LIMIT + 3.0 * np.sqrt(24.0 / n)) * second**2
    heavy = cumulant > EXCESS_LIMIT * at_epsilon
    return Tails(heavy, own, own, f"excess kurtosis above {EXCESS_LIMIT:g}")


def _skewness(values: Array) -> Array:
    """Skewness of every column, 0 where nothing varies."""
    centred = values - values.mean(axis=0)
    return divide(np.mean(centred**3, axis=0), np.mean(centred**2, axis=0) ** 1.5)
