"""What payments and selections rest on: values of examples, and how far a verdict says they may be wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyattr.attribution import Attribution
from pyattr.errors import bad_value
from pyattr.uses.certificate import Certificate, accepts, why_not_about
from pyattr.uses.values import Array, summed, target_weights, weighted_sum
from pyattr.verification import Verdict

__all__ = ["Basis", "percent"]


@dataclass(frozen=True)
class Basis:
    """Values, and a ball around them that holds those of the best linear attribution.

    Parameters
    ----------
    values : (n_train,) float64
        Weighted sum over targets of each example's scores.
    weights : (n_targets,) float64
    radius : float
        ``√(Σ_i (v_i - v*_i)²)`` is at most this; infinite for unverified scores.
    confidence : float
        Least probability of that, given `assumption`; 0 for unverified scores.
    assumption : str
        What the verdict's bound rests on, or why there is no certificate.
    p : float, optional
        Share of the subsets that the verdict is about.
    """

    values: Array
    weights: Array
    radius: float
    confidence: float
    assumption: str
    p: float | None = None

    @property
    def verified(self) -> bool:
        """Whether a verdict accepted these very scores."""
        return math.isfinite(self.radius)

    @classmethod
    def of(
        cls,
        attribution: Attribution,
        weights: npt.ArrayLike | None,
        verdict: Verdict | Certificate | None,
        allow_unverified: bool,
    ) -> Basis:
        """Check that the scores may be used, and say how far they can be trusted.

        Parameters
        ----------
        attribution : Attribution
        weights : (n_targets,) array_like, optional
            Those of the sum that was verified, if one was; else of the mean over targets.
        verdict : Verdict or Certificate, optional
        allow_unverified : bool

        Raises
        ------
        ValueError
            If no ACCEPT about these very scores is given and `allow_unverified` is false.
        """
        certificate = Certificate.of(verdict) if isinstance(verdict, Verdict) else verdict
        doubt = _doubt(attribution, certificate, weights)
        if certificate is None or doubt:
            if not allow_unverified:
                expected = "ACCEPT about these very scores, or unverified ones to be allowed"
                raise bad_value("verdict", expected, doubt)
            chosen = target_weights(weights, attribution.n_targets)
            values = weighted_sum(attribution.scores, chosen)
            return cls(values, chosen, math.inf, 0.0, f"unverified: {doubt}")
        given = certificate.weights if weights is None else weights
        chosen = target_weights(given, attribution.n_targets)
        values = weighted_sum(attribution.scores, chosen)
        if certificate.weights is not None:  # the float32 sums that were judged
            sums = summed(attribution, certificate.weights).scores[:, 0]
            values = certificate.scale(chosen) * sums.astype(float)
        return cls(
            values,
            chosen,
            certificate.error_of_sum(chosen),
            certificate.confidence,
            certificate.assumption,
            certificate.p,
        )


def percent(share: float) -> str:
    """A share in percent, rounded down to a tenth: "at least 99.6%" must not be read as certainty."""
    return f"{math.floor(1000.0 * share + 1e-6) / 10.0:g}%"


def _doubt(
    attribution: Attribution, certificate: Certificate | None, weights: npt.ArrayLike | None
) -> str:
    """Why scores are not verified; "" if they are."""
    if certificate is None:
        return "no verdict"
    doubt = why_not_about(certificate, attribution)
    if doubt:
        return doubt
    if not accepts(certificate):
        return f"{certificate.outcome} of method {certificate.method!r}"
    if not np.isfinite(certificate.errors()).all():  # no verifier writes such a one
        return "an ACCEPT without limits"
    if weights is not None and certificate.weights is not None:
        chosen = target_weights(weights, attribution.n_targets)
        if not certificate.is_about_sum(chosen):
            return "a verdict about a sum with other weights"
    return ""
