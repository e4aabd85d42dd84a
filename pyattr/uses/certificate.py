"""A verdict bound to the scores it is about, in memory and in a file.

A verdict alone does not say which scores were judged. A `Certificate` carries their digest, so that nobody
pays by other scores than were accepted, be it by mistake. It is not signed: it is worth what whoever made it
is worth. Between parties that do not trust each other, the record of a session is the evidence
(`certificate_of_session` reads one).
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Final, Literal, Self

import msgspec
import numpy as np
import numpy.typing as npt

from pyattr.attribution import Attribution
from pyattr.attribution.file_format import whole_file
from pyattr.errors import bad_value
from pyattr.protocol.hashing import equal, labelled_hash
from pyattr.uses.values import Array, summed, target_weights
from pyattr.verification import Outcome, Verdict

__all__ = ["SCHEMA", "Certificate", "load_certificate", "scores_digest", "why_not_about"]

SCHEMA: Final = "pyattr-verdict/1"
_MOST_BYTES: Final = 1 << 28
_SHOWN: Final = 12  # digits of a digest

Numbers = tuple[float | None, ...]


def scores_digest(scores: npt.NDArray[np.float32]) -> str:
    """Digest of scores: of their shape and of every bit, SHA-256, hexadecimal.

    The intercept is no part of it: neither payments nor selections depend on it.
    """
    data = np.ascontiguousarray(scores, dtype="<f4")
    shape = b"".join(size.to_bytes(8, "little") for size in data.shape)
    return labelled_hash("scores/1", shape, memoryview(data.tobytes()))


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verdict of the gap method, bound to scores.

    Attributes
    ----------
    schema : str
    scores : str
        `scores_digest` of what was judged.
    n_train, n_targets : int
        Its shape.
    weights : tuple of float, optional
        What was judged is the sum of an attribution's targets with these weights; see `summed`.
    outcome, reason, method, bound, assumption, epsilon, delta, relative, p, n_retrained
        As in the `Verdict`.
    simultaneous : bool
        Whether the limits of all targets hold at once.
    finite_sample : bool
        Whether the bound holds at any sample size.
    outcomes, gap, gap_lower, gap_upper : tuple
        For each target; None where there is no number.
    variance, variance_upper : tuple of float
        Var f of each target in squared output units, estimate and upper limit (Student t); of a session the
        limit is at least what makes epsilon times it one of the gap, whatever the prover corrupted.
    """

    schema: Literal["pyattr-verdict/1"] = SCHEMA
    scores: str
    n_train: int
    n_targets: int
    weights: tuple[float, ...] | None
    outcome: Literal["ACCEPT", "ABORT", "INCONCLUSIVE"]
    reason: str
    method: str
    bound: str
    assumption: str
    epsilon: float
    delta: float
    relative: bool
    p: float
    simultaneous: bool
    finite_sample: bool
    n_retrained: int
    outcomes: tuple[Literal["ACCEPT", "ABORT", "INCONCLUSIVE"], ...]
    gap: Numbers
    gap_lower: Numbers
    gap_upper: Numbers
    variance: Numbers
    variance_upper: Numbers

    def __post_init__(self) -> None:
        for name in ("outcomes", "gap", "gap_lower", "gap_upper", "variance", "variance_upper"):
            if len(getattr(self, name)) != self.n_targets:
                raise ValueError(
                    f"{name}: expected {self.n_targets}, got {len(getattr(self, name))}"
                )
        if self.weights is not None and self.n_targets != 1:
            raise ValueError(f"weights: expected one judged target, got {self.n_targets}")
        if not (0.0 < self.p < 1.0 and 0.0 < self.delta < 1.0 and self.epsilon > 0.0):
            raise ValueError("p, delta, epsilon: expected them in their ranges, got others")

    @classmethod
    def of(cls, verdict: Verdict, weights: npt.ArrayLike | None = None) -> Self:
        """Bind a verdict to the scores that it names.

        Parameters
        ----------
        verdict : Verdict
            From `pyattr.verify`, `pyattr.verify_recorded` or a `Verifier`.
        weights : array_like, optional
            If `summed` scores were judged: the weights of the sum.

        Raises
        ------
        ValueError
            If the verdict names none.
        """
        if verdict.judged is None:
            raise bad_value("verdict", "one that names the scores it is about", "one without")
        details, n = verdict.details, verdict.n_targets
        none = np.full(n, np.nan)
        level = verdict.delta_split.get("upper limit of each target", math.inf)
        summed_by = None if weights is None else tuple(np.asarray(weights, np.float64).tolist())
        return cls(
            scores=scores_digest(verdict.judged.scores),
            n_train=verdict.judged.n_train,
            n_targets=n,
            weights=summed_by,
            outcome=verdict.outcome.value,
            reason=verdict.reason,
            method=verdict.method,
            bound=verdict.bound,
            assumption=str(details.get("assumption", "")),
            epsilon=verdict.epsilon,
            delta=verdict.delta,
            relative=verdict.relative,
            p=verdict.p,
            simultaneous=n == 1 or level * n <= verdict.delta * (1.0 + 1e-9),
            finite_sample=bool(details.get("finite_sample", False)),
            n_retrained=verdict.n_retrained,
            outcomes=tuple(outcome.value for outcome in verdict.outcomes),
            gap=_numbers(verdict.gap),
            gap_lower=_numbers(verdict.gap_lower),
            gap_upper=_numbers(verdict.gap_upper),
            variance=_numbers(details.get("variance", none)),
            variance_upper=_numbers(details.get("variance_upper", none)),
        )

    @property
    def confidence(self) -> float:
        """Least probability that all of `errors` hold, given what the bound rests on.

        ``1 - 2 delta`` for relative gaps: δ for the gap, and another for the upper limit of Var f.
        """
        return 1.0 - self.delta * (2.0 if self.relative else 1.0)

    def errors(self) -> Array:
        """Bounds of ``√(Σ_i (a_i - a*_i)²)`` for all targets at once, (n_targets,) float64, output units.

        ``√(gap / (p (1-p)))`` by Parseval, the gap at its upper limit if the bound holds at any sample size,
        and at *epsilon* otherwise: what ACCEPT certifies, and what guards against tails are calibrated for.
        A limit below epsilon that rests on near-normality may be short where a rare subset has a large
        residual, as with few sellers the empty one has.

        Limits that hold for each target alone are replaced by the largest of them, which is a limit for all:
        the target whose gap is largest has one too, and that fails with probability δ.
        """
        upper = np.full(self.n_targets, self.epsilon)
        if self.finite_sample:
            limits = np.array([math.inf if u is None else u for u in self.gap_upper])
            upper = limits if self.simultaneous else np.full_like(limits, limits.max())
        unit = np.ones_like(upper)
        if self.relative:
            unit = np.array([math.inf if v is None else v for v in self.variance_upper])
        result: Array = np.sqrt(np.maximum(upper, 0.0) * unit / (self.p * (1.0 - self.p)))
        return result

    def error_of_sum(self, weights: Array) -> float:
        """Bound of ``√(Σ_i (v_i - v*_i)²)`` for weighted sums of scores, in weighted output units.

        ``Σ_t |weights[t]| · errors[t]``, by Minkowski; of sums that were judged as such, theirs.

        Raises
        ------
        ValueError
            If another sum was judged.
        """
        if self.weights is None:
            return float(np.abs(weights) @ self.errors())
        return abs(self.scale(weights)) * float(self.errors()[0])

    def is_about_sum(self, weights: Array) -> bool:
        """Whether the sum with these weights, or a multiple of it, was judged."""
        return self._scale(weights) != 0.0

    def scale(self, weights: Array) -> float:
        """The c with ``weights = c · self.weights``.

        Raises
        ------
        ValueError
            If there is none.
        """
        scale = self._scale(weights)
        if scale == 0.0:
            raise bad_value("weights", "those of the sum that was verified", "others")
        return scale

    def _scale(self, weights: Array) -> float:
        """The same, or 0."""
        own = target_weights(self.weights, len(self.weights or ()))
        at = int(np.argmax(np.abs(own)))
        if weights.shape != own.shape:
            return 0.0
        scale = float(weights[at] / own[at])
        return scale if np.allclose(weights, scale * own, rtol=1e-12, atol=0.0) else 0.0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file; a reader sees the old file or the whole new one."""
        with whole_file(Path(path)) as file:
            file.write(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def load_certificate(path: str | os.PathLike[str]) -> Certificate:
    """Read a file that `Certificate.save` wrote.

    Raises
    ------
    ValueError
        If it is anything else.
    OSError
        If it cannot be read.
    """
    file = Path(path)
    if file.stat().st_size > _MOST_BYTES:
        raise bad_value("verdict", f"a file of at most {_MOST_BYTES} bytes", file.stat().st_size)
    try:
        return msgspec.json.decode(file.read_bytes(), type=Certificate)
    except msgspec.MsgspecError as error:
        got = f"{file}, which is none ({str(error).replace('`', '')})"
        raise bad_value("verdict", f"a file of {SCHEMA}", got) from error


def why_not_about(certificate: Certificate, attribution: Attribution) -> str:
    """Which other scores a certificate is about; "" if it is about these, or a weighted sum of them."""
    scores = attribution.scores
    if certificate.weights is not None:
        if len(certificate.weights) != attribution.n_targets:
            return "a verdict about a sum of other targets"
        scores = summed(attribution, certificate.weights).scores
    own = scores_digest(scores)
    if equal(certificate.scores, own):
        return ""
    judged, own = certificate.scores[:_SHOWN], own[:_SHOWN]
    return f"a verdict about other scores ({judged}…, and these have the digest {own}…)"


def accepts(certificate: Certificate) -> bool:
    """Whether it certifies anything: the gap method's ACCEPT."""
    return certificate.method == "gap" and certificate.outcome == Outcome.ACCEPT.value


def _numbers(values: Any) -> Numbers:
    array = np.asarray(values, dtype=np.float64)
    return tuple(float(x) if math.isfinite(x) else None for x in array)
