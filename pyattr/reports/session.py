"""The page of a session: who claimed what, how it was decided, and what the record proves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from pyattr.datasets import Dataset
from pyattr.reports import svg
from pyattr.reports.charts import Bar, bars
from pyattr.reports.downloads import Download, json_file
from pyattr.reports.examples import influential
from pyattr.reports.facts import settings
from pyattr.reports.gaps import SHOWN_TARGETS, Gaps
from pyattr.reports.page import fill
from pyattr.reports.session_files import Record, dataset_at_hand, finite, read
from pyattr.transport.evidence import conclusion
from pyattr.verification.verdict import Verdict

__all__ = ["render"]

_SHOWN_SUBJECTS: Final = 4
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
    gaps = None if verdict is None else Gaps.of_verdict(verdict, _named(dataset))
    return fill(
        "session.html",
        r=record,
        m=record.manifest,
        verdict=verdict,
        headline=_headline(record, verdict),
        conclusion=_conclusion(record),
        tiles=_tiles(record, verdict, gaps),
        terms=_terms(record),
        subjects=_subjects(record, [] if gaps is None else gaps.order, dataset),
        has_images=dataset is not None,
        figures=[] if verdict is None else _figures(verdict),
        charts={} if verdict is None or gaps is None else _charts(verdict, gaps),
        n_shown=min(SHOWN_TARGETS, record.manifest.n_targets),
        gaps=gaps,
        downloads=_downloads(record, verdict, gaps),
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


def _tiles(
    record: Record, verdict: Verdict | None, gaps: Gaps | None
) -> list[tuple[str, str, str]]:
    manifest = record.manifest
    asked = manifest.design.n_outputs
    tiles = [(f"{asked:,}", "", "models that the challenge asks the prover to train")]
    if verdict is None or gaps is None:
        tiles += [
            (f"{manifest.epsilon:g}", "", "ε: the gap that is allowed"),
            (f"{manifest.delta:g}", "", f"δ: false acceptances, over {manifest.attempts} attempts"),
        ]
        return tiles
    tiles.insert(0, gaps.tile())
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


def _subjects(record: Record, order: list[int], dataset: Dataset | None) -> list[dict[str, Any]]:
    """Influential examples of the targets that decided."""
    if record.scores is None:
        return []
    chosen = (order or list(range(record.scores.n_targets)))[:_SHOWN_SUBJECTS]
    return influential(record.scores.scores, chosen, dataset)


def _charts(verdict: Verdict, gaps: Gaps) -> dict[str, Any]:
    trained = [
        Bar("prover: answers", verdict.n_prover_retrained, "prover", f"{verdict.n_prover_retrained:,}"),
        Bar("verifier: trains itself", verdict.n_retrained, "verifier", f"{verdict.n_retrained:,}"),
    ]  # fmt: skip
    return gaps.charts() | {
        "trained": svg.both(
            lambda width, name: bars(trained, width, name, "Models trained by each side"), "trained"
        )
    }


def _named(dataset: Dataset | None) -> Callable[[int], str]:
    """What a target is called."""
    if dataset is None:
        return "target {}".format
    labels, names = dataset.test_labels, dataset.class_names
    return lambda target: f"target {target} ({names[int(labels[target])]})"


def _figures(verdict: Verdict) -> list[tuple[str, str]]:
    """Figures of the method that are no arrays."""
    plain = {
        name: value
        for name, value in verdict.details.items()
        if isinstance(value, bool | int | float | str)
    }
    return settings(plain)


def _downloads(record: Record, verdict: Verdict | None, gaps: Gaps | None) -> list[Download]:
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
    if verdict is None or gaps is None:
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
    return [gaps.file(), json_file("session.json", "terms, decision and audit", words)]
