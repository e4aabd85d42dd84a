"""What a verification says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value, check_count
from pyattr.notebook import card
from pyattr.verification.bounds import Interval
from pyattr.verification.labelled import to_dataframe, to_xarray
from pyattr.verification.scores import LinearScores

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["Outcome", "Verdict", "decide", "overall"]

Array = npt.NDArray[np.float64]


class Outcome(StrEnum):
    """The three outcomes; only ACCEPT is acceptance."""

    ACCEPT = "ACCEPT"
    ABORT = "ABORT"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Verdict:
    """Outcome of a verification, overall and per target, with the evidence for it.

    Parameters
    ----------
    outcome : Outcome
        ACCEPT if every target is accepted, ABORT if one is aborted or a check failed, else
        INCONCLUSIVE.
    reason : str
        Why, in a sentence.
    method, bound : str
        What was estimated, and the confidence bound used.
    epsilon, delta : float
        The gap certified, and the probability of a false certificate.
    gap, gap_lower, gap_upper : (n_targets,) float64
        Estimate and one-sided limits, relative to Var f unless `relative` is false.
    outcomes : tuple of Outcome
        Per target.
    n_retrained : int
        Models the verifier trained.
    n_prover_retrained : int
        Models the prover trained for this verification; 0 if there was no prover.
    delta_split : mapping
        How delta was divided.
    details : mapping
        Figures of the method: design, kurtosis, share of outputs clipped, …
    relative : bool
        Whether gaps and epsilon are relative to Var f.
    p : float
        Probability that an example is in a mask.
    judged : LinearScores, optional
        The attribution that the verdict is about; None if it is not known.

    Examples
    --------
    >>> bool(Verdict.failed("gap", 0.05, 0.05, "output 3 differs", n_targets=1))
    False
    """

    outcome: Outcome
    reason: str
    method: str
    bound: str
    epsilon: float
    delta: float
    gap: Array
    gap_lower: Array
    gap_upper: Array
    outcomes: tuple[Outcome, ...]
    n_retrained: int = 0
    n_prover_retrained: int = 0
    delta_split: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    relative: bool = True
    p: float = 0.5
    judged: LinearScores | None = field(default=None, compare=False)

    def __bool__(self) -> bool:
        """True for ACCEPT alone, so that a forgotten comparison never accepts."""
        return self.outcome is Outcome.ACCEPT

    @property
    def n_targets(self) -> int:
        """Number of targets decided."""
        return len(self.outcomes)

    def pay_error(self, n_members: int) -> Array:
        """How far the summed scores of a group may be from those of the best linear attribution.

        ``√(n_members · gap_upper / (p (1-p)))`` in output units, (n_targets,) float64: Cauchy-Schwarz on
        ``Σ_i p(1-p)(a_i - a*_i)² ≤ gap``. Limits that rest on near-normality may be short where they are
        far below epsilon; `pyattr.uses` takes epsilon in their place.

        Relative gaps are taken times the *upper* limit of Var f: a limit of their ratio says nothing of the
        gap beside a mere estimate of Var f. So a target's error fails to be covered with the
        probabilities of both limits.

        Parameters
        ----------
        n_members : int
            Examples of the group, at least 1.

        Returns
        -------
        (n_targets,) float64
            In units of the output; infinite where nothing is known.

        Raises
        ------
        ValueError
            If `n_members` is not that, or the verdict is one of another method: it has no limits of the gap.
        """
        n_members = check_count("n_members", n_members, 1)
        if self.method != "gap":
            raise bad_value("verdict", "one of method 'gap'", f"one of method {self.method!r}")
        # A check that failed says nothing of Var f either.
        unit = np.asarray(self.details.get("variance_upper", np.inf)) if self.relative else 1.0
        error: Array = np.sqrt(n_members * self.gap_upper * unit / (self.p * (1.0 - self.p)))
        return error

    @classmethod
    def failed(
        cls, method: str, epsilon: float, delta: float, reason: str, n_targets: int, **more: Any
    ) -> Verdict:
        """ABORT because a check failed, with no statement about the gap."""
        return cls(
            outcome=Outcome.ABORT,
            reason=reason,
            method=method,
            bound="none",
            epsilon=epsilon,
            delta=delta,
            gap=np.full(n_targets, np.nan),
            gap_lower=np.zeros(n_targets),
            gap_upper=np.full(n_targets, np.inf),
            outcomes=(Outcome.ABORT,) * n_targets,
            **more,
        )

    def __repr__(self) -> str:
        unit = " Var f" if self.relative else ""
        worst = int(np.nanargmax(self.gap_upper)) if self.n_targets else 0
        return (
            f"Verdict({self.outcome}: {self.reason}; gap ≤ {self.gap_upper[worst]:.3g}{unit} at the "
            f"worst of {self.n_targets} targets, ε = {self.epsilon:g}, {self.n_retrained} models "
            f"trained, bound {self.bound})"
        )

    def _repr_html_(self) -> str:
        unit = " Var f" if self.relative else ""
        worst = int(np.nanargmax(self.gap_upper)) if self.n_targets else 0
        numbers = (self.gap[worst], self.gap_lower[worst], self.gap_upper[worst])
        gap, lower, upper = (f"{number:.3g}" for number in numbers)
        count = Counter(outcome.value for outcome in self.outcomes)
        there = f", {self.n_prover_retrained:,} by the prover" if self.n_prover_retrained else ""
        facts = {
            "largest upper limit": f"target {worst}: gap {gap}{unit}, limits {lower} and {upper}",
            "allowed": f"ε = {self.epsilon:g}{unit}, δ = {self.delta:g}",
            "targets": ", ".join(f"{n:,} {outcome}" for outcome, n in count.items()),
            "trainings": f"{self.n_retrained:,}{there}",
            "method": f"{self.method}, bound {self.bound}",
        }
        if not np.isfinite(self.gap_upper[worst]):
            facts.pop("largest upper limit")
        return card("Verdict", facts, self.reason, self.outcome.value)

    def to_dataframe(self, target: npt.ArrayLike | None = None) -> pd.DataFrame:
        """What is decided of each target, as a pandas table.

        Parameters
        ----------
        target : (n_targets,) array_like, optional
            Labels of the targets, for the index ``target``; 0, 1, … if not given.

        Returns
        -------
        pandas.DataFrame
            Columns ``gap``, ``gap_lower``, ``gap_upper`` (float64) and ``outcome`` (the word).

        Raises
        ------
        ValueError
            If there is another number of labels.
        RuntimeError
            If pandas is missing; the message says which line installs it.
        """
        return to_dataframe(self, target)

    def to_xarray(self, target: npt.ArrayLike | None = None) -> xr.Dataset:
        """What is decided of each target, as an xarray dataset with the dimension ``target``.

        Parameters
        ----------
        target : (n_targets,) array_like, optional
            Coordinate, as labels in `to_dataframe`.

        Returns
        -------
        xarray.Dataset
            The columns of `to_dataframe`; attributes ``outcome``, ``reason``, ``method``, ``bound``,
            ``epsilon``, ``delta``, ``n_retrained``, ``n_prover_retrained`` and ``relative`` (0 or 1).

        Raises
        ------
        ValueError
            If there is another number of labels.
        RuntimeError
            If xarray is missing; the message says which line installs it.
        """
        return to_xarray(self, target)


def decide(
    gap: Interval, epsilon: float, slack: Array, vacuous: npt.NDArray[np.bool_]
) -> list[Outcome]:
    """Outcome of every target from the interval of its gap.

    Parameters
    ----------
    gap : Interval
    epsilon : float
    slack : (n_targets,) float64
        Weight that the estimate may contain beyond the gap: taken off before anyone is accused.
    vacuous : (n_targets,) bool
        Targets whose acceptance would mean nothing.
    """
    outcomes = []
    for lower, upper, empty in zip(gap.lower - slack, gap.upper, vacuous, strict=True):
        if empty:
            outcomes.append(Outcome.INCONCLUSIVE)
        elif upper <= epsilon:
            outcomes.append(Outcome.ACCEPT)
        elif lower > epsilon:
            outcomes.append(Outcome.ABORT)
        else:
            outcomes.append(Outcome.INCONCLUSIVE)
    return outcomes


def overall(outcomes: Sequence[Outcome]) -> Outcome:
    """ABORT if any target is, ACCEPT if all are, else INCONCLUSIVE."""
    if any(outcome is Outcome.ABORT for outcome in outcomes):
        return Outcome.ABORT
    if outcomes and all(outcome is Outcome.ACCEPT for outcome in outcomes):
        return Outcome.ACCEPT
    return Outcome.INCONCLUSIVE
