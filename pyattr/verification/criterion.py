"""What is to be certified, with which confidence, by which bound."""

from __future__ import annotations

from dataclasses import dataclass

from pyattr.errors import bad_value, check_positive, check_probability
from pyattr.verification.bounds import BOUNDS, PROOF, RECORDED
from pyattr.verification.clusters import ClusterDesign, highest_rho
from pyattr.verification.interval import Levels
from pyattr.verification.stars import StarDesign

__all__ = ["Criterion"]


@dataclass(frozen=True)
class Criterion:
    """What is to be certified, and on which assumptions.

    Parameters
    ----------
    epsilon : float
        Largest acceptable gap; relative to Var f unless `relative` is false.
    delta : float
        Probability of a false certificate, over all targets.
    p : float
        Probability that an example is in a mask.
    bound : {"chi2", "t", "moment", "betting", "bernstein", "hoeffding", "proof", "normal"}
        Confidence bound of the gap method; see `pyattr.verification.bounds`. "proof" is "moment" for
        single complement pairs and "betting" for other designs: both hold at any sample size.
    relative : bool
        Whether epsilon is a share of Var f.
    nonlinearity : float
        Share of Var f that f may have at odd degrees above 1. Acceptance does not rest on it: it is
        taken off the lower limit before anyone is accused.
    intercept : {"refit", "check"}
        Leave the intercept to be refitted, or bound its error too.
    clip : float, optional
        b: f is clipped to [-b, b] by definition.
    simultaneous : bool
        Let the upper limits of all targets hold at once, at delta / n_targets each. Overall
        acceptance does not need it (see `judge_gap`).
    kappa : float
        Of the moment bound: what ``E o⁴ / (E o²)²`` is stated not to exceed for odd residuals as large
        as ε; 3 for linear o. A target whose sample exceeds it is inconclusive.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    epsilon: float = 0.05
    delta: float = 0.05
    p: float = 0.5
    bound: str = "chi2"
    relative: bool = True
    nonlinearity: float = 0.02
    intercept: str = "refit"
    clip: float | None = None
    simultaneous: bool = False
    kappa: float = 4.0

    def __post_init__(self) -> None:
        check_positive("epsilon", self.epsilon)
        if self.relative and self.epsilon >= 1.0:  # scores of 0 have a gap of 1 at most
            raise bad_value("epsilon", "a share of Var f below 1", self.epsilon)
        if check_probability("delta", self.delta) > 0.5:
            raise bad_value("delta", "at most 1/2: limits are above estimates", self.delta)
        check_probability("p", self.p)
        if self.bound not in (*BOUNDS, PROOF):
            raise bad_value("bound", f"one of {', '.join((*BOUNDS, PROOF))}", repr(self.bound))
        if not 0.0 <= self.nonlinearity < 1.0:
            raise bad_value("nonlinearity", "a share of Var f in [0, 1)", self.nonlinearity)
        if self.intercept not in ("refit", "check"):
            raise bad_value("intercept", "'refit' or 'check'", repr(self.intercept))
        if self.clip is not None:
            check_positive("clip", self.clip)
        if self.bound == "moment" and highest_rho(self.p) < 1.0:
            raise bad_value("bound", f"'chi2' or 't' for p = {self.p}", "'moment'")
        if not self.kappa >= 1.0:
            raise bad_value("kappa", "a number of at least 1", self.kappa)

    def levels(self, delta: float, n_targets: int) -> Levels:
        """Levels of each target's limits where delta is for all of them (see `judge_gap`)."""
        return Levels(delta / n_targets, delta / (n_targets if self.simultaneous else 1))

    def bound_for(self, design: ClusterDesign | StarDesign) -> str:
        """Name of the bound that a verdict on this design rests on.

        Parameters
        ----------
        design : ClusterDesign or StarDesign
            "proof" is resolved, and "chi2" becomes "t" for stars, whose terms are no squares.

        Raises
        ------
        ValueError
            If the bound does not fit the design, or needs clipped outputs and no clip is given.
        """
        paired = isinstance(design, ClusterDesign)
        single = isinstance(design, ClusterDesign) and design.n_leaves == 1
        name = self.bound
        if name == PROOF:
            name = "moment" if single else "betting"
        elif name == "chi2" and not paired:
            name = "t"
        if name == "moment" and not single:
            raise bad_value("bound", "'chi2' or 't' for a design of several leaves", "'moment'")
        if name == RECORDED:
            raise bad_value(
                "bound", "another for designs: 'normal' is for recorded rows", "'normal'"
            )
        if BOUNDS[name].needs_clip and self.clip is None:
            raise bad_value("clip", f"a bound of the outputs for bound {name!r}", None)
        # The residual of a mask alone is bounded only where its complement is a mask as likely.
        if BOUNDS[name].needs_clip and self.intercept == "check" and highest_rho(self.p) < 1.0:
            raise bad_value("intercept", f"'refit' with bound {name!r} for p = {self.p}", "'check'")
        return name
