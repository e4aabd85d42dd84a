"""Choosing data by scores, and what the scores promise of it.

For a linear attribution with values v, the subset S of a given size with the largest predicted output is that
of the largest values: ``Σ_{i∈S} v_i`` is a sum over members, so replacing a member by a more valuable
example raises it. Its *gain* is the prediction less the mean over random subsets of that size:
``Σ_i (s_i - k/N) v_i``, s the indicator of S.

A verdict's radius R (see `pyattr.uses.pricing`) bounds how far that is from the gain by the best linear
attribution: by ``R √(Σ_i (s_i - k/N)²) = R √(k (1 - k/N))``, Cauchy-Schwarz; and what the best subset by the
best linear attribution predicts more than this one, by ``R √(2 min(k, N-k))``, since the two differ in so
many places at most.

Neither says what a model trained on S will do. A verdict is about *typical* subsets: drawn at random, with
probability p. A chosen subset is an extreme one, perhaps of another size, where effects that no linear
function has may rule. So train on it: `pyattr.uses.retrained.measure_selection`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyattr.attribution import Attribution
from pyattr.errors import bad_value, check_count
from pyattr.masks import Masks
from pyattr.uses.basis import Basis
from pyattr.uses.certificate import Certificate
from pyattr.uses.values import Sellers
from pyattr.verification import Verdict

__all__ = ["Selection", "select"]


@dataclass(frozen=True)
class Selection:
    """Examples, or sellers with all their examples, that were chosen.

    Parameters
    ----------
    sellers : Sellers
        What was chosen from; examples one by one if there were no owners.
    chosen : (n_selected,) int64
        Positions in ``sellers.names``, most valuable first.
    basis : Basis
        Values and what they rest on.
    predicted_gain : float
        Predicted weighted output less that of random subsets of as many sellers, in output units.
    gain_error : float
        How far it may be from the best linear attribution's prediction, with `basis.confidence`; inf for
        unverified scores.
    regret : float
        Most that the best linear attribution predicts more for its own best choice; likewise.
    """

    sellers: Sellers
    chosen: npt.NDArray[np.int64]
    basis: Basis
    predicted_gain: float
    gain_error: float
    regret: float

    @property
    def examples(self) -> npt.NDArray[np.int64]:
        """Examples that were chosen, in rising order, (n_examples,) int64."""
        return np.flatnonzero(np.isin(self.sellers.of, self.chosen))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what was chosen, most valuable first."""
        return tuple(self.sellers.names[seller] for seller in self.chosen)

    def mask(self) -> Masks:
        """The choice as a mask over examples, (1, n_train)."""
        return self.masks_of(self.chosen[None, :])

    def masks_of(self, choices: npt.NDArray[np.int64]) -> Masks:
        """Masks over examples of several choices among the same sellers.

        Parameters
        ----------
        choices : (n, n_selected) int64
            Positions in ``sellers.names``.
        """
        bits = np.zeros((len(choices), len(self.sellers)), np.bool_)
        np.put_along_axis(bits, choices, True, axis=1)
        return Masks.pack(bits[:, self.sellers.of])

    def __repr__(self) -> str:
        error = f" ± {self.gain_error:.3g}" if self.basis.verified else ", unverified"
        return (
            f"Selection({len(self.chosen)} of {len(self.sellers)}, predicted gain "
            f"{self.predicted_gain:.4g}{error})"
        )


def select(
    attribution: Attribution,
    n_selected: int,
    *,
    owners: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    verdict: Verdict | Certificate | None = None,
    allow_unverified: bool = False,
) -> Selection:
    """Choose the examples, or the sellers, of the largest values.

    Parameters
    ----------
    attribution : Attribution
    n_selected : int
        How many examples, or sellers if there are owners; fewer than there are.
    owners : (n_train,) array_like, optional
        Seller of each example. Sellers are then chosen whole, by the sums of their values.
    weights : (n_targets,) array_like, optional
        Of the targets; those of the sum that was verified, else equal ones.
    verdict : Verdict or Certificate, optional
        ACCEPT about these very scores.
    allow_unverified : bool
        Choose by scores that nobody accepted, without bounds.

    Returns
    -------
    Selection

    Raises
    ------
    ValueError
        If the scores are not verified and that is not allowed, or an argument is out of range.

    Examples
    --------
    >>> from pyattr import Attribution
    >>> scores = Attribution([0.5, -1.0, 2.0, 0.25])
    >>> select(scores, 2, allow_unverified=True).examples
    array([0, 2])
    """
    sellers = Sellers(owners, attribution.n_train)
    count, n = check_count("n_selected", n_selected, 1), len(sellers)
    if count >= n:
        raise bad_value("n_selected", f"fewer than the {n} there are to choose from", count)
    basis = Basis.of(attribution, weights, verdict, allow_unverified)
    worth = sellers.total(basis.values)
    order = np.argsort(-worth, kind="stable")
    chosen = order[:count].astype(np.int64)
    share = count / n
    # Each of a seller's examples moves the gain by its value times (s - share).
    centred = np.full(n, -share)
    centred[chosen] += 1.0
    return Selection(
        sellers=sellers,
        chosen=chosen,
        basis=basis,
        predicted_gain=float(worth @ centred),
        gain_error=basis.radius * math.sqrt(float(sellers.sizes @ centred**2)),
        regret=basis.radius * math.sqrt(_most_exchanged(sellers.sizes, chosen)),
    )


def _most_exchanged(sizes: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64]) -> float:
    """Most examples by which another choice of as many sellers can differ from this one."""
    others = np.delete(sizes, chosen)
    n_most = min(len(chosen), len(others))
    largest = [np.sort(part)[::-1][:n_most].sum() for part in (sizes[chosen], others)]
    return float(sum(largest))
