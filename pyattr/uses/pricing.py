"""Payments by verified scores, under a budget and a stated rule.

The value of example i is ``v_i = Σ_t w_t a_it``; m(i) is its payment, B the budget, P the sum of all
``max(v_j, 0)``.

============= ===================================== ==================================================
rule          m(i)                                  what it rewards
============= ===================================== ==================================================
proportional  ``B · max(v_i, 0) / P``               data that help, against other data; harm is free
price         ``min(c, B/P) · max(v_i, 0)``         the same at a price c a point that was agreed on
signed        ``B · v_i / Σ_j v_j``                 help less harm: who harms owes; needs ``Σ_j v_j > 0``
============= ===================================== ==================================================

All three pay examples, and a seller the sum of its own: to split or merge sellers, or to trade examples
between them, changes nobody's sum. (A rule that clips the *sums of sellers* at 0 would be gamed: a seller
gains by moving its harmful examples to another name.) ``proportional`` and ``signed`` spend the budget,
whatever the scores' scale: halving all of them changes no payment. ``price`` spends at most the budget, and
where it spends less halved scores halve every payment: it rests on the scores' scale, which a verdict
certifies too. ``signed`` is the Shapley value of the linear game ``v(S) = Σ_{i∈S} v_i``, scaled to the
budget. Under all rules noise in the scores is paid: verify, and look at the limits. Copies of an example
share what it brings only as far as the retrained models say so.

Limits of a payment
-------------------
A verdict gives a radius R with ``Σ_i (v_i - v*_i)² ≤ R²``, where v* are the values by the best linear
attribution. Let x be a seller's sum of n examples, y that of the N - n others (of positive parts, except
under ``signed``: clipping at 0 moves no two numbers apart, so the bound holds for them too). By Cauchy
and Schwarz ``(x - x*)²/n + (y - y*)²/(N - n) ≤ R²``, and the share ``θ = x*/(x* + y*)`` of a point of
this ellipse satisfies

    (x (1 - θ) - y θ)² ≤ R² (n (1 - θ)² + (N - n) θ²)

whose solutions are the limits (as Fieller's of a ratio): exact under ``signed``, wider than need be under the
others. They are *vacuous* if the ellipses reach totals of 0, ``|x + y| ≤ R √N``: shares of what may be
nothing can be anything. Limits of all sellers hold at once, since they follow from one event.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from pyattr.attribution import Attribution
from pyattr.errors import bad_value, check_positive
from pyattr.uses.basis import Basis
from pyattr.uses.certificate import Certificate
from pyattr.uses.values import Array, Sellers
from pyattr.verification import Verdict

__all__ = ["RULES", "Payments", "Rule", "price"]

Rule: TypeAlias = Literal["proportional", "price", "signed"]
RULES: Final[tuple[Rule, ...]] = get_args(Rule)


@dataclass(frozen=True)
class Payments:
    """What each example and each seller is paid.

    Parameters
    ----------
    rule : {"proportional", "price", "signed"}
    budget : float
    unit_price : float, optional
        c of the rule "price".
    sellers : Sellers
    basis : Basis
        Values, weights and what they rest on.
    examples : (n_train,) float64
        Payment of each example.
    paid : (n_sellers,) float64
        Of each seller.
    lower, upper : (n_sellers,) float64
        What each would be paid by the best linear attribution lies between these, for all sellers at once
        with probability `basis.confidence`; -inf, 0, the budget or inf where nothing is known.
    value_error : (n_sellers,) float64
        ``R √n``: how far each seller's summed value may be off, in weighted output units.
    """

    rule: Rule
    budget: float
    unit_price: float | None
    sellers: Sellers
    basis: Basis
    examples: Array
    paid: Array
    lower: Array
    upper: Array
    value_error: Array

    @property
    def spent(self) -> float:
        """Sum of all payments."""
        return float(self.examples.sum())

    @property
    def vacuous(self) -> bool:
        """Whether shares of the budget cannot be bounded: the total may be 0 within the error."""
        return not self._total > self.basis.radius * math.sqrt(self.basis.values.size)

    @property
    def _total(self) -> float:
        return float(earning(self.rule, self.basis.values).sum())

    def __repr__(self) -> str:
        limits = "no limits" if not self.basis.verified else f"vacuous={self.vacuous}"
        return (
            f"Payments(rule={self.rule!r}, n_sellers={len(self.sellers)}, spent={self.spent:.6g} of "
            f"{self.budget:g}, {limits})"
        )


def price(
    attribution: Attribution,
    budget: float,
    *,
    rule: Rule = "proportional",
    owners: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    unit_price: float | None = None,
    verdict: Verdict | Certificate | None = None,
    allow_unverified: bool = False,
) -> Payments:
    """Payments for each example and each seller, with limits that a verdict guarantees.

    Parameters
    ----------
    attribution : Attribution
    budget : float
        Above 0.
    rule : {"proportional", "price", "signed"}
        See `pyattr.uses.pricing`.
    owners : (n_train,) array_like, optional
        Seller of each example; every example is its own if not given, as with masks over sellers.
    weights : (n_targets,) array_like, optional
        Of the targets in an example's value; those of the sum that was verified, else equal ones.
    unit_price : float, optional
        c: money for a point of weighted output, for the rule "price".
    verdict : Verdict or Certificate, optional
        ACCEPT about these very scores.
    allow_unverified : bool
        Pay by scores that nobody accepted, without limits.

    Returns
    -------
    Payments

    Raises
    ------
    ValueError
        If the scores are not verified and that is not allowed, an argument is out of range, or under the rule
        "signed" the values do not sum to more than 0.

    Examples
    --------
    >>> from pyattr import Attribution
    >>> scores = Attribution([2.0, -1.0, 1.0, 1.0])
    >>> paid = price(scores, 100.0, owners=["a", "a", "b", "b"], allow_unverified=True)
    >>> dict(zip(paid.sellers.names, paid.paid.tolist()))
    {'a': 50.0, 'b': 50.0}
    """
    budget = check_positive("budget", budget)
    if rule not in RULES:
        raise bad_value("rule", " or ".join(map(repr, RULES)), repr(rule))
    if (unit_price is None) == (rule == "price"):
        expected = "a price of a point" if rule == "price" else f"none under rule {rule!r}"
        raise bad_value("unit_price", expected, unit_price)
    if unit_price is not None:
        unit_price = check_positive("unit_price", unit_price)
    sellers = Sellers(owners, attribution.n_train)
    basis = Basis.of(attribution, weights, verdict, allow_unverified)
    examples = payments_of(rule, basis.values, budget, unit_price)
    lower, upper = _limits(rule, basis, sellers, budget, unit_price)
    return Payments(
        rule=rule,
        budget=budget,
        unit_price=unit_price,
        sellers=sellers,
        basis=basis,
        examples=examples,
        paid=sellers.total(examples),
        lower=lower,
        upper=upper,
        value_error=basis.radius * np.sqrt(sellers.sizes),
    )


def earning(rule: Rule, values: Array) -> Array:
    """What payments are proportional to: values, but for the rule "signed" their positive parts."""
    return values if rule == "signed" else np.maximum(values, 0.0)


def payments_of(rule: Rule, values: Array, budget: float, unit_price: float | None) -> Array:
    """Payment of each example; see the table above.

    Parameters
    ----------
    rule : {"proportional", "price", "signed"}
    values : (n_train,) float64
    budget : float
    unit_price : float or None

    Returns
    -------
    (n_train,) float64
        Zeros if no value is positive, except under "signed".

    Raises
    ------
    ValueError
        If the values do not sum to more than 0 under "signed".
    """
    earned = earning(rule, values)
    total = float(earned.sum())
    if rule == "signed" and not total > 0.0:
        raise bad_value("rule", "values that sum to more than 0 for 'signed'", f"{total:.6g}")
    if not total > 0.0:
        return np.zeros_like(values)
    share = earned / total
    if unit_price is None:
        return budget * share
    return min(unit_price * total, budget) * share


def _limits(
    rule: Rule, basis: Basis, sellers: Sellers, budget: float, unit_price: float | None
) -> tuple[Array, Array]:
    """Limits of every seller's payment."""
    n_sellers = len(sellers)
    signed = rule == "signed"
    if not basis.verified:
        ends = (-math.inf, math.inf) if signed else (0.0, budget)
        return np.full(n_sellers, ends[0]), np.full(n_sellers, ends[1])
    earned = sellers.total(earning(rule, basis.values))
    low, high = share_limits(earned, sellers.sizes, basis.radius, bounded=not signed)
    lower, upper = budget * low, budget * high
    if unit_price is None:
        return lower, upper
    error = basis.radius * np.sqrt(sellers.sizes)
    return (
        np.minimum(lower, unit_price * np.maximum(earned - error, 0.0)),
        np.minimum(upper, unit_price * (earned + error)),
    )


def share_limits(
    earned: Array, sizes: npt.NDArray[np.int64], radius: float, *, bounded: bool
) -> tuple[Array, Array]:
    """Least and largest share of each seller, over all values within a radius.

    Parameters
    ----------
    earned : (n_sellers,) float64
        Sums of the sellers' values, or of their positive parts.
    sizes : (n_sellers,) int64
        Examples of each.
    radius : float
        R, Euclidean, over all examples.
    bounded : bool
        Whether shares lie in [0, 1], as those of positive parts do.

    Returns
    -------
    lower, upper : (n_sellers,) float64
        Solutions of ``(T² - R²N) θ² - 2 (x T - R²n) θ + x² - R²n ≤ 0`` with ``T = x + y``, which is the
        inequality above multiplied out.
    """
    total, n = float(earned.sum()), float(sizes.sum())
    square = radius * radius
    a = total**2 - square * n
    b, c = earned * total - square * sizes, earned**2 - square * sizes
    if a <= 0.0 and not bounded:
        return np.full(earned.shape, -np.inf), np.full(earned.shape, np.inf)
    root = np.sqrt(np.maximum(b * b - a * c, 0.0))
    # Both roots without cancellation: their product is c/a, their sum 2b/a.
    q = b + np.where(b >= 0.0, root, -root)
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = np.stack([q / a, c / q])
    if not bounded:
        roots = np.where(np.isfinite(roots), roots, 0.0)  # q = 0: both roots are 0
        return roots.min(axis=0), roots.max(axis=0)
    # The solutions within [0, 1]; the measured share is one of them.
    inside = (roots >= 0.0) & (roots <= 1.0)
    lowest = np.where(inside, roots, np.inf).min(axis=0)
    highest = np.where(inside, roots, -np.inf).max(axis=0)
    own = earned / total if total > 0.0 else np.zeros_like(earned)
    lower = np.where(c <= 0.0, 0.0, np.minimum(lowest, own))
    upper = np.where(a - 2.0 * b + c <= 0.0, 1.0, np.maximum(highest, own))
    return lower, upper
