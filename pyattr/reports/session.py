"""The page of a session: who claimed what, how it was decided, and what the record proves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from pyattr.datasets import Dataset
from pyattr.reports import svg
from pyattr.reports.charts import Bar, bars, histogram
from pyattr.reports.downloads import Download, csv_file, json_file
from pyattr.reports.examples import influential
from pyattr.reports.facts import settings
from pyattr.reports.gap_chart import GapRow, gap_chart
from pyattr.reports.page import fill
from pyattr.reports.session_files import Record, dataset_at_hand, finite, read
from pyattr.reports.words import gap as gap_words
from pyattr.transport.evidence import conclusion
from pyattr.verification.verdict import Verdict

__all__ = ["render"]

_SHOWN_TARGETS: Final = 24
_SHOWN_SUBJECTS: Final = 4
_SHOWN_ROWS: Final = 40
_TERMS: Final = (
    "p", "method", "bound", "epsilon", "delta", "attempts", "relative", "nonlinearity", "intercept",
    "simultaneous", "clip", "clip_agreed", "budget", "design", "design_agreed", "tolerance",
    "spot_check_share", "sampling", "protocol",
)  # fmt: skip


def render(folder: Path) -> str:
    """Make the page.

    Parameters
    ----------
    folder : Path
        Of either party, or a copy. A verifier's folder is audited once the session is over; the page holds
        nothing of the verifier's secret, but gaps and reasons that the prover was not told.

    Returns
    -------
    str
        A whole HTML document.

    Raises
    ------
    ValueError, OSError
        If a message is damaged or cannot be read.
    """
    record = read(folder)
    verdict = None if record.audit is None else record.audit.verdict
    dataset = None if record.scores is None else dataset_at_hand(record.manifest)
    order = _worst_first(verdict)
    return fill(
        "session.html",
        r=record,
        m=record.manifest,
        verdict=verdict,
        headline=_headline(record, verdict),
        conclusion=_conclusion(record),
        tiles=_tiles(record, verdict),
        terms=_terms(record),
        subjects=_subjects(record, order, dataset),
        has_images=dataset is not None,
        figures=[] if verdict is None else _figures(verdict),
        charts={} if verdict is None else _charts(verdict, order, dataset),
        n_shown=min(_SHOWN_TARGETS, record.manifest.n_targets),
        target_rows=[] if verdict is None else _target_rows(verdict, order),
        n_left_out=max(0, record.manifest.n_targets - _SHOWN_ROWS),
        downloads=_downloads(record, verdict),
    )


def _headline(record: Record, verdict: Verdict | None) -> str:
    """What happened, in a sentence without its full stop."""
    if record.decision is None:
        return f"A session that is not decided yet: {record.n_present} of 6 messages"
    if record.audit is not None and not record.audit.holds:
        return f"The record does not hold together; its decision says {record.decision}"
    n_targets, epsilon = record.manifest.n_targets, record.manifest.epsilon
    if record.decision == "ACCEPT":
        where = "the only target" if n_targets == 1 else f"every one of {n_targets:,} targets"
        return f"The scores were accepted: their gap is at most {epsilon:g} at {where}"
    if record.decision == "ABORT":
        return "The scores were refused"
    return "The session ended without a verdict, which is no acceptance"


def _conclusion(record: Record) -> str:
    if record.audit is None:
        return ""
    said = conclusion(record.audit, record.decision)
    return said.replace("--rerun all", "pyattr session audit --rerun all")


def _tiles(record: Record, verdict: Verdict | None) -> list[tuple[str, str, str]]:
    manifest = record.manifest
    asked = manifest.design.n_outputs
    tiles = [(f"{asked:,}", "", "models that the challenge asks the prover to train")]
    if verdict is None:
        tiles += [
            (f"{manifest.epsilon:g}", "", "ε: the gap that is allowed"),
            (f"{manifest.delta:g}", "", f"δ: false acceptances, over {manifest.attempts} attempts"),
        ]
        return tiles
    unit = "" if verdict.relative else "in squared output units"
    upper = float(np.max(verdict.gap_upper))
    says = f"upper limit of the gap at the worst target; ε = {verdict.epsilon:g} was allowed"
    tiles.insert(0, (gap_words(upper), unit, says))
    tiles.append((f"{verdict.n_retrained:,}", "", "models that the verifier trained itself"))
    tiles.append((f"{manifest.delta:g}", "", f"δ, shared by {manifest.attempts} attempts"))
    return tiles


def _terms(record: Record) -> list[tuple[str, list[tuple[str, str]]]]:
    """All that the manifest says, in groups."""
    words: dict[str, Any] = msgspec.to_builtins(record.manifest)
    subject = words["subject"]
    groups = (
        ("Claim and method", {name: words[name] for name in _TERMS}),
        ("Recipe", subject["recipe"] | {"output": subject["output"]}),
        ("Data", {"n_train": words["n_train"], "n_targets": words["n_targets"]}
         | {f"{name} digest": subject[name] for name in ("train", "targets")}),
        ("Machines", {"platform": subject["platform"]} | subject["versions"]),
        ("Calibration", words["calibration"] or {}),
    )  # fmt: skip
    return [(name, rows) for name, group in groups if (rows := settings(group))]


def _worst_first(verdict: Verdict | None) -> list[int]:
    """Targets by the upper limits of their gaps."""
    if verdict is None:
        return []
    order: list[int] = np.argsort(-verdict.gap_upper, kind="stable").tolist()
    return order


def _subjects(record: Record, order: list[int], dataset: Dataset | None) -> list[dict[str, Any]]:
    """Influential examples of the targets that decided."""
    if record.scores is None:
        return []
    chosen = (order or list(range(record.scores.n_targets)))[:_SHOWN_SUBJECTS]
    return influential(record.scores.scores, chosen, dataset)


def _charts(verdict: Verdict, order: list[int], dataset: Dataset | None) -> dict[str, Any]:
    # Where gaps are not relative to Var f they are shown as multiples of ε.
    unit = 1.0 if verdict.relative else verdict.epsilon
    what = "gap, as a share of the output’s variance" if verdict.relative else "gap over ε"
    rows = [_gap_row(verdict, target, unit, dataset) for target in order[:_SHOWN_TARGETS]]
    epsilon = verdict.epsilon / unit
    trained = [
        Bar("prover: answers", verdict.n_prover_retrained, "prover", f"{verdict.n_prover_retrained:,}"),
        Bar("verifier: trains itself", verdict.n_retrained, "verifier", f"{verdict.n_retrained:,}"),
    ]  # fmt: skip
    charts: dict[str, Any] = {
        "gap": svg.both(
            lambda width, name: gap_chart(rows, epsilon, width, name, "target", what), "gap"
        ),
        "trained": svg.both(
            lambda width, name: bars(trained, width, name, "Models trained by each side"), "trained"
        ),
    }
    if verdict.n_targets > _SHOWN_TARGETS:
        charts["uppers"] = histogram(
            verdict.gap_upper, "uppers", "Upper limits of the gap over targets",
            "upper limit of a target", limit=verdict.epsilon,
        )  # fmt: skip
    return charts


def _gap_row(verdict: Verdict, target: int, unit: float, dataset: Dataset | None) -> GapRow:
    label = "" if dataset is None else dataset.class_names[int(dataset.test_labels[target])]
    title = f"target {target}" + (f" ({label})" if label else "")
    outcome = verdict.outcomes[target].value
    estimate = float(verdict.gap[target]) / unit
    if not math.isfinite(estimate):
        return GapRow(title=title, outcome=outcome, failed="no estimate")
    low, high = float(verdict.gap_lower[target]), float(verdict.gap_upper[target])
    return GapRow(title=title, outcome=outcome, estimate=estimate, low=low / unit, high=high / unit)


def _figures(verdict: Verdict) -> list[tuple[str, str]]:
    """Figures of the method that are no arrays."""
    plain = {
        name: value
        for name, value in verdict.details.items()
        if isinstance(value, bool | int | float | str)
    }
    return settings(plain)


def _target_rows(verdict: Verdict, order: list[int]) -> list[list[str | int]]:
    return [
        [
            target,
            verdict.outcomes[target].value,
            gap_words(float(verdict.gap[target])),
            gap_words(float(verdict.gap_lower[target])),
            gap_words(float(verdict.gap_upper[target])),
        ]
        for target in order[:_SHOWN_ROWS]
    ]


def _downloads(record: Record, verdict: Verdict | None) -> list[Download]:
    words: dict[str, Any] = {
        "manifest": msgspec.to_builtins(record.manifest),
        "messages": [message.name for message in record.messages if message.n_bytes is not None],
        "decision": record.decision,
    }
    if record.audit is not None:
        words["audit"] = {
            "holds": record.audit.holds,
            "n_believed": record.audit.n_believed,
            "checks": [msgspec.to_builtins(check) for check in record.audit.checks],
        }
    if verdict is None:
        return [json_file("session.json", "the terms, and how far the session is", words)]
    words["verdict"] = {
        "outcome": verdict.outcome.value,
        "reason": verdict.reason,
        "method": verdict.method,
        "bound": verdict.bound,
        "n_retrained": verdict.n_retrained,
        "n_prover_retrained": verdict.n_prover_retrained,
        "largest_upper_limit": finite(float(np.max(verdict.gap_upper))),
    }
    columns = (verdict.gap.tolist(), verdict.gap_lower.tolist(), verdict.gap_upper.tolist())
    outcomes = [outcome.value for outcome in verdict.outcomes]
    rows = zip(range(verdict.n_targets), outcomes, *columns, strict=True)
    header = ["target", "outcome", "gap", "gap_lower", "gap_upper"]
    return [
        csv_file("gaps.csv", "a row for each target: its gap, limits and outcome", header, rows),
        json_file("session.json", "terms, decision and audit", words),
    ]
