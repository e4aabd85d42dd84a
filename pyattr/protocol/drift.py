"""Whether differences within the tolerance lie on one side: a cheat that no single spot check shows.

A prover may move each output by up to τ and pass every spot check. What it gains is limited by the
verdict itself, whose limits allow every output to be off by τ in the worst way (`judge_gap`); here it is
caught if it does so in earnest. Two directions matter:

- *one side*: all outputs of a target too high, or too low;
- *towards the prediction*: d has the sign opposite to the residual, so that scores seem to fit. To
  first order the gap falls by the mean of ``-2 r d``.

For both, each target is tested by the signs, which no outlier can hide, and by the sum, which weighs
differences by their size; and the sums of all targets are pooled. Honest differences between platforms
have heavy tails (a ReLU that falls on the other side of 0), so nothing is assumed of their size.

*Null hypothesis.* The rows are independent, and in each of them it makes no difference to the law of the
two outputs which party is which. Differences are then as likely as their negatives, given their sizes and
the midpoints of both outputs, from which the residuals are taken. So every test is exact or conservative
for any number of rows: the signs are binomial (rows without a difference left out), and a sum divided by
the root of the sum of squares is a Rademacher sum, with ``P(S ≥ t) ≤ min(exp(-t²/2), 3.18 P(Z ≥ t))``.
Two honest platforms need not be alike in this way: `pyattr.protocol.calibration.calibrate` puts
their replays through the same tests. Rows that were chosen by how much they could hide depend on the
differences only through outputs that τ hardly moves.

References
----------
Threats 20 and 26 of the threat page; method.md, section 4. Efron 1969, "Student's t-test under
symmetry conditions", JASA 64. Bentkus, Dzindzalieta 2015, "A tight Gaussian bound for weighted sums of
Rademacher random variables", Bernoulli 21(2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from scipy.stats import binom

from pyattr.errors import Rejected, bad_value
from pyattr.masks import Masks
from pyattr.protocol.equivalence import canonical
from pyattr.verification.evaluate import Evaluator

__all__ = ["ALARM_RATE", "Drift", "check_drift", "find_drift", "rademacher_tail"]

Array = npt.NDArray[np.float64]
Outputs = npt.NDArray[np.float32]

ALARM_RATE: Final = 1e-3  # of a session with honest differences, over all targets and tests
_GAUSSIAN_FACTOR: Final = 1.0 / (4.0 * ndtr(-np.sqrt(2.0)))


@dataclass(frozen=True)
class Drift:
    """The most one-sided of all tests.

    Parameters
    ----------
    test : str
        What was tested, in words.
    target : int or None
        Of the test; None if it pools all targets.
    p_value : float
        After Bonferroni over all tests and targets: at most `ALARM_RATE` for drift.
    n_rows : int
        Rows compared.
    retrained : bool
        Whether the rows had to be trained a second time.
    """

    test: str
    target: int | None
    p_value: float
    n_rows: int
    retrained: bool = False

    @property
    def found(self) -> bool:
        """Whether the differences lie on one side."""
        return self.p_value <= ALARM_RATE

    def __str__(self) -> str:
        where = "all targets" if self.target is None else f"target {self.target}"
        return f"p = {self.p_value:.2g} ({self.test}, {where}, {self.n_rows} rows)"


def rademacher_tail(t: Array) -> Array:
    """Bound of ``P(Σ a_i ε_i ≥ t)`` for independent fair signs ε and any a with ``Σ a_i² = 1``.

    Parameters
    ----------
    t : array of float64
        1 is returned where it is not above 0.
    """
    positive = np.maximum(t, 0.0)
    bound = np.minimum(np.exp(-(positive**2) / 2.0), _GAUSSIAN_FACTOR * ndtr(-positive))
    capped: Array = np.minimum(bound, 1.0)
    return capped


def find_drift(theirs: Outputs, ours: Outputs, linear: Array | None = None) -> Drift:
    """Test whether a peer's outputs lie on one side of the own ones.

    Parameters
    ----------
    theirs, ours : (n, n_targets) float32
        Of the same rows.
    linear : (n, n_targets) float64, optional
        Predictions of the published scores up to a constant of each target (`LinearScores.linear`); a
        constant if not given.

    Returns
    -------
    Drift
        ``found`` with probability at most `ALARM_RATE` if the differences are honest. It never is with
        fewer than 13 rows, and with 100 targets a drift of all is found from 17 rows on.

    Raises
    ------
    ValueError
        If shapes differ or there is no row.
    """
    if theirs.ndim != 2 or theirs.shape != ours.shape or not theirs.size:
        raise bad_value("theirs", f"outputs of the same rows, shape {ours.shape}", theirs.shape)
    if linear is not None and linear.shape != ours.shape:
        raise bad_value("linear", f"shape {ours.shape}", linear.shape)
    high, low = theirs.astype(np.float64), ours.astype(np.float64)
    difference = _in_units(high - low)
    # The midpoint does not say which party is which; the residual is centred, as the gap's is.
    residual = (high + low) / 2.0 - (0.0 if linear is None else linear)
    towards = -difference * _in_units(residual - residual.mean(axis=0))
    tests = {
        "signs on one side": _signs(difference, two_sided=True),
        "mean on one side": _sums(difference, two_sided=True),
        "pooled mean on one side": _pooled(difference, two_sided=True),
        "signs towards the prediction": _signs(towards),
        "mean towards the prediction": _sums(towards),
        "pooled mean towards the prediction": _pooled(towards),
    }
    best = Drift("no difference", None, 1.0, len(theirs))
    for test, p_values in tests.items():
        least = int(np.argmin(p_values))
        corrected = min(1.0, float(p_values[least]) * p_values.size * len(tests))
        if corrected < best.p_value:
            best = Drift(test, None if "pooled" in test else least, corrected, len(theirs))
    return best


def check_drift(
    evaluate: Evaluator,
    masks: Masks,
    seeds: npt.NDArray[np.uint64],
    theirs: Outputs,
    ours: Outputs,
    linear: Array,
) -> Drift:
    """Reject outputs that passed the spot checks one by one, and lie on one side all the same.

    Before anyone is accused all rows are trained once more: both runs must show it.

    Parameters
    ----------
    evaluate : Evaluator
    masks : Masks
        The n rows that were checked.
    seeds : (n,) uint64
    theirs : (n, n_targets) float32
    ours : (n, n_targets) float32
        `pyattr.protocol.equivalence.SpotCheck.ours`.
    linear : (n, n_targets) float64
        ``scores.linear(masks)`` of the published scores.

    Returns
    -------
    Drift
        Of the last run.

    Raises
    ------
    Rejected
        "drift".
    """
    first = find_drift(theirs, ours, linear)
    if not first.found:
        return first
    second = find_drift(theirs, canonical(evaluate(masks, seeds)), linear)
    if second.found:
        raise Rejected("drift", str(second), f"p > {ALARM_RATE:g} over all tests and targets")
    return Drift(second.test, second.target, second.p_value, second.n_rows, retrained=True)


def _in_units(values: Array) -> Array:
    """Columns divided by their largest size, so that no square underflows."""
    largest = np.abs(values).max(axis=0)
    return values / np.where(largest > 0.0, largest, 1.0)


def _signs(values: Array, two_sided: bool = False) -> Array:
    """Exact sign test of each column, zeros left out; p-values, (n_targets,)."""
    above, below = np.sum(values > 0.0, axis=0), np.sum(values < 0.0, axis=0)
    count = np.maximum(above, below) if two_sided else above
    p_values: Array = binom.sf(count - 1, above + below, 0.5)
    return np.minimum((1 + two_sided) * p_values, 1.0)


def _sums(values: Array, two_sided: bool = False) -> Array:
    """Test of each column's sum in units of the root of its sum of squares; (n_targets,)."""
    root = np.sqrt(np.sum(values**2, axis=0))
    ratio = np.sum(values, axis=0) / np.where(root > 0.0, root, 1.0)
    p_values = rademacher_tail(np.abs(ratio) if two_sided else ratio)
    return np.minimum((1 + two_sided) * p_values, 1.0)


def _pooled(values: Array, two_sided: bool = False) -> Array:
    """`_sums` of the rows' totals, each target in units of its own; (1,).

    The units do not depend on signs, and a row changes sign as a whole when the parties are swapped.
    """
    root = np.sqrt(np.sum(values**2, axis=0))
    rows = np.sum(values / np.where(root > 0.0, root, 1.0), axis=1, keepdims=True)
    return _sums(rows, two_sided)
