"""The confidence bounds of gap estimation, and what each rests on.

Every bound turns independent clusters (`pyattr.verification.gap`) into an upper and a lower limit of
the low-degree weight of a residual. They differ in what they assume:

========= ================================================== ============================== =======
name      limits                                             rests on                       needs
========= ================================================== ============================== =======
chi2      MSB and MSW are scaled χ²; modified large-sample   odd residuals near normal      pairs
t         Student t over the independent U_c                 mean of U_c near normal        -
moment    lower tails of non-negative variables (upper only) E o⁴ ≤ κ (E o²)², κ stated     one leaf
betting   hedged capital                                     outputs clipped to [-b, b]     clip
bernstein empirical Bernstein                                outputs clipped to [-b, b]     clip
hoeffding range alone                                        outputs clipped to [-b, b]     clip
normal    score limits of a U-statistic on recorded rows     the estimate near normal       rows
========= ================================================== ============================== =======

`moment`, `betting`, `bernstein` and `hoeffding` hold at any sample size; they take more trainings,
`moment` about four times as many as `chi2`, the other three thousands, which forward passes (component
attribution) can afford and retrainings seldom can. ``bound="proof"`` asks for the cheapest of the four
that the design and the session allow: `moment` for single complement pairs, else `betting`. `normal` is
the bound of `pyattr.verification.verify_recorded` alone.

References
----------
In the modules that compute them: `pyattr.verification.near_normal`, `pyattr.verification.finite_sample`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from pyattr.verification.finite_sample import (
    bernstein_radius,
    bounded_interval,
    hoeffding_radius,
    moment_factor,
    moment_interval,
)
from pyattr.verification.interval import Interval, Levels, ratio_interval
from pyattr.verification.near_normal import MeanSquares, chi2_interval, t_interval

__all__ = [
    "BOUNDS",
    "PROOF",
    "Bound",
    "Interval",
    "Levels",
    "MeanSquares",
    "bernstein_radius",
    "bounded_interval",
    "chi2_interval",
    "hoeffding_radius",
    "moment_factor",
    "moment_interval",
    "ratio_interval",
    "t_interval",
]

PROOF = "proof"


@dataclass(frozen=True)
class Bound:
    """What a confidence bound rests on.

    Parameters
    ----------
    assumption : str
        To be named in every verdict: "… if `assumption`".
    finite_sample : bool
        Whether the limits hold at any sample size under that condition.
    needs_clip : bool
        Whether outputs must be clipped.
    """

    assumption: str
    finite_sample: bool = True
    needs_clip: bool = False


_CLIPPED = Bound("outputs are clipped to [-clip, clip], as f is defined", needs_clip=True)

BOUNDS = MappingProxyType(
    {
        "chi2": Bound("odd residuals are near normal", finite_sample=False),
        "t": Bound("means over clusters are near normal", finite_sample=False),
        "moment": Bound("the fourth moment of odd residuals is as bounded as stated"),
        "betting": _CLIPPED,
        "bernstein": _CLIPPED,
        "hoeffding": _CLIPPED,
        "normal": Bound("the estimate from recorded rows is near normal", finite_sample=False),
    }
)
