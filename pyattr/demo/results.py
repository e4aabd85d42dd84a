"""What the demo writes down: plain JSON values, everything that the report shows.

Shapes are named in words; a number that does not exist (an interval after a failed check) is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pyattr.attribution import Attribution
from pyattr.demo.cases import SELLER_NAMES, Judged
from pyattr.reports.words import in_words
from pyattr.uses import Certificate, price
from pyattr.uses.pricing import payments_of
from pyattr.uses.values import target_weights, weighted_sum
from pyattr.verification import Outcome, Verdict
from pyattr.verification.cheats import added_gap
from pyattr.verification.scores import HasScores

__all__ = ["case_record", "findings", "payments", "plain"]

Array = npt.NDArray[np.float64]

POT: Final = 100.0  # currency units: the budget
P: Final = 0.5
_DETAILS: Final = (
    "n_clusters", "n_leaves", "rho", "n_opening", "n_lost", "n_looks", "n_pilot", "n_planned",
    "n_pairs", "n_fresh", "n_checked", "n_corrupted_covered", "nonlinearity", "clip", "threshold",
    "error", "excess_kurtosis", "check",
)  # fmt: skip
_DIGITS = 6  # significant


def plain(value: Any) -> Any:
    """Turn a value into JSON: 6 significant digits, None for NaN and infinities.

    Raises
    ------
    TypeError
        If it has no JSON form.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"value: expected one with a JSON form, got {type(value).__name__}")


def _decisive(verdict: Verdict) -> int | None:
    """Target that a verdict rests on: the surest culprit of an ABORT, else the largest upper limit."""
    if not np.isfinite(verdict.gap).any():
        return None
    if verdict.outcome is Outcome.ABORT:
        guilty = np.array([outcome is Outcome.ABORT for outcome in verdict.outcomes])
        return int(np.argmax(np.where(guilty, verdict.gap_lower, -np.inf)))
    return int(np.nanargmax(verdict.gap_upper))


def _verdict_record(verdict: Verdict) -> dict[str, Any]:
    """One verdict."""
    details = {key: verdict.details[key] for key in _DETAILS if key in verdict.details}
    if details.get("n_planned", 0) > 2**53:  # JSON readers disagree about such integers
        details["n_planned"] = float(details["n_planned"])
    record = {
        "outcome": verdict.outcome,
        "reason": verdict.reason,
        "method": verdict.method,
        "bound": verdict.bound,
        "epsilon": verdict.epsilon,
        "delta": verdict.delta,
        "n_retrained": verdict.n_retrained,
        "n_prover_retrained": verdict.n_prover_retrained,
        "decisive_target": _decisive(verdict),
        "gap": verdict.gap,
        "gap_lower": verdict.gap_lower,
        "gap_upper": verdict.gap_upper,
        "outcomes": list(verdict.outcomes),
        "details": details,
    }
    result: dict[str, Any] = plain(record)
    return result


def case_record(
    judged: Judged, honest: HasScores, honest_gap: Array, variance: Array
) -> dict[str, Any]:
    """One prover with its verdicts and, from outside the game, its true gap.

    Parameters
    ----------
    judged : Judged
    honest : HasScores
    honest_gap : (n_targets,) float64
        Gap of the honest scores, relative to Var f, measured apart from all verifications.
    variance : (n_targets,) float64
        Var f.
    """
    true_gap = np.maximum(honest_gap, 0.0) + added_gap(honest, judged.published, P) / variance
    gap = _verdict_record(judged.gap)
    target = gap["decisive_target"]
    shown = true_gap[target] if target is not None else np.median(true_gap)
    record: dict[str, Any] = {
        "key": judged.case.key,
        "title": judged.case.title,
        "truth": judged.case.truth,
        "interactive": judged.case.interactive,
        "true_gap": plain(true_gap),
        "true_gap_shown": plain(float(shown)),
        "naive": _verdict_record(judged.naive),
        "paper": _verdict_record(judged.paper),
        "gap": gap,
        "n_prover": judged.n_prover,
        "seconds": plain(judged.seconds),
    }
    return record


def findings(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the whole table says, in numbers and in one sentence.

    Parameters
    ----------
    cases : sequence of dict
        From `case_record`.
    """

    def keys(truth: str, method: str, outcome: str) -> list[str]:
        return [c["key"] for c in cases if (c["truth"], c[method]["outcome"]) == (truth, outcome)]

    lies = [case["key"] for case in cases if case["truth"] == "lie"]
    honest = [case["key"] for case in cases if case["truth"] == "honest"]
    caught, fooled = keys("lie", "gap", "ABORT"), keys("lie", "naive", "ACCEPT")
    accepted = keys("honest", "gap", "ACCEPT")
    first = (
        "The honest scores were verified"
        if accepted == honest
        else "The honest scores were not accepted in every form"
    )
    everyone = "all" if len(caught) == len(lies) else f"{in_words(len(caught))} of"
    second = f"{everyone} {in_words(len(lies))} lies were caught"
    passed = "all" if len(fooled) == len(lies) else in_words(len(fooled))
    third = f"a naive check passed {passed} of them"
    return {
        "headline": f"{first}, {second}; {third}",
        "honest": honest,
        "honest_accepted": accepted,
        "lies": lies,
        "lies_caught": caught,
        "lies_accepted": keys("lie", "gap", "ACCEPT"),
        "lies_naive_accepted": fooled,
        "as_expected": accepted == honest and caught == lies,
    }


def payments(
    judged: Sequence[Judged],
    honest: Attribution,
    of_mean: Verdict,
    owners: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """What each seller would be paid for each published attribution; see `pyattr.uses.pricing`.

    The value of an image is the mean of its scores over targets.

    Parameters
    ----------
    judged : sequence of Judged
        The honest prover first.
    honest : Attribution
        Its scores.
    of_mean : Verdict
        Of their mean over targets.
    owners : (n_train,) int64
        Seller of each example.

    Returns
    -------
    dict
        ``at_price``: by the rule "price", in currency units, at the price a score point at which honest
        scores cost the whole budget of 100. ``of_pot``: the budget, by the rule "proportional". ``limits``
        of the honest payments at that price, null where `of_mean` is no ACCEPT.
    """
    weights = target_weights(None, honest.n_targets)
    values = [weighted_sum(one.published.scores, weights) for one in judged]
    unit_price = POT / max(float(np.maximum(values[0], 0.0).sum()), 1e-12)
    paid = price(
        honest,
        POT,
        rule="price",
        unit_price=unit_price,
        owners=[SELLER_NAMES[owner] for owner in owners],
        verdict=Certificate.of(of_mean, weights),
        allow_unverified=True,
    )
    rows = [
        {"key": one.case.key, "title": one.case.title, "truth": one.case.truth}
        | {"at_price": plain(_paid(owners, payments_of("price", value, POT, unit_price)))}
        | {"of_pot": plain(_paid(owners, payments_of("proportional", value, POT, None)))}
        for one, value in zip(judged, values, strict=True)
    ]
    sizes = np.bincount(owners, minlength=len(SELLER_NAMES))
    at = [paid.sellers.names.index(name) for name in SELLER_NAMES]
    verified = paid.basis.verified
    return {
        "sellers": [
            {"name": name, "n_examples": int(size)}
            for name, size in zip(SELLER_NAMES, sizes, strict=True)
        ],
        "pot": POT,
        "price": plain(unit_price),
        "rows": rows,
        "limits": {
            "outcome": of_mean.outcome.value,
            "verified": verified,
            "confidence": paid.basis.confidence,
            "vacuous": paid.vacuous,
            "error": plain(unit_price * paid.value_error[at]),
            "lower": plain(paid.lower[at]) if verified else None,
            "upper": plain(paid.upper[at]) if verified else None,
        },
    }


def _paid(owners: npt.NDArray[np.int64], examples: Array) -> Array:
    """Sum of each seller's examples, (n_sellers,) float64."""
    return np.bincount(owners, examples, minlength=len(SELLER_NAMES)).astype(np.float64)
