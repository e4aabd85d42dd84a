"""Gaps of all targets with their limits: charts, a table and a file, whoever judged them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pyattr.reports import svg
from pyattr.reports.charts import histogram
from pyattr.reports.downloads import Download, csv_file
from pyattr.reports.gap_chart import GapRow, gap_chart
from pyattr.reports.words import CHECKS
from pyattr.reports.words import gap as gap_words
from pyattr.uses import Certificate
from pyattr.verification.verdict import Verdict

__all__ = ["SHOWN_TARGETS", "Gaps"]

SHOWN_TARGETS: Final = 24
SHOWN_ROWS: Final = 40

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gaps:
    """Gaps of all targets, the worst first wherever they are shown.

    Parameters
    ----------
    outcomes : (n_targets,) sequence of str
    gap, lower, upper : (n_targets,) float64
        Estimates, NaN where there is none, and limits; in Var f if relative, else squared output units.
    epsilon : float
    relative : bool
    named : callable
        What a target is called.
    failed : str
        In place of an estimate where there is none: which check failed.
    """

    outcomes: Sequence[str]
    gap: Array
    lower: Array
    upper: Array
    epsilon: float
    relative: bool
    named: Callable[[int], str] = "target {}".format
    failed: str = "no estimate"

    @classmethod
    def of_verdict(cls, verdict: Verdict, named: Callable[[int], str]) -> Gaps:
        """Of a verdict just made."""
        outcomes = [outcome.value for outcome in verdict.outcomes]
        limits = verdict.gap, verdict.gap_lower, verdict.gap_upper
        failed = CHECKS.get(str(verdict.details.get("check")), cls.failed)
        return cls(outcomes, *limits, verdict.epsilon, verdict.relative, named, failed)

    @classmethod
    def of_certificate(cls, kept: Certificate, named: Callable[[int], str]) -> Gaps:
        """Of a verdict from a file, where no number is null."""
        gap, lower = (np.array(values, np.float64) for values in (kept.gap, kept.gap_lower))
        upper = np.array([math.inf if u is None else u for u in kept.gap_upper])
        return cls(kept.outcomes, gap, lower, upper, kept.epsilon, kept.relative, named)

    @property
    def order(self) -> list[int]:
        """Targets, those with the highest upper limits first."""
        order: list[int] = np.argsort(-self.upper, kind="stable").tolist()
        return order

    @property
    def n_left_out(self) -> int:
        """Targets that `rows` leaves out."""
        return max(0, len(self.outcomes) - SHOWN_ROWS)

    def tile(self) -> tuple[str, str, str]:
        """The largest upper limit, as a figure."""
        unit = "" if self.relative else "in squared output units"
        where = "" if len(self.outcomes) == 1 else " at the worst target"
        says = f"upper limit of the gap{where}; ε = {self.epsilon:g} was allowed"
        return gap_words(float(np.max(self.upper))), unit, says

    def charts(self) -> dict[str, Any]:
        """``gap``, and ``uppers`` where there are more targets than it shows."""
        # Where gaps are not relative to Var f they are shown as multiples of ε.
        unit = 1.0 if self.relative else self.epsilon
        what = "gap, as a share of the output’s variance" if self.relative else "gap over ε"
        rows = [self._row(target, unit) for target in self.order[:SHOWN_TARGETS]]
        epsilon = self.epsilon / unit
        charts: dict[str, Any] = {
            "gap": svg.both(
                lambda width, name: gap_chart(rows, epsilon, width, name, "target", what), "gap"
            )
        }
        if len(self.outcomes) > SHOWN_TARGETS:
            charts["uppers"] = histogram(
                self.upper, "uppers", "Upper limits of the gap over targets",
                "upper limit of a target", limit=self.epsilon,
            )  # fmt: skip
        return charts

    def _row(self, target: int, unit: float) -> GapRow:
        title, outcome = self.named(target), self.outcomes[target]
        estimate = float(self.gap[target]) / unit
        if not math.isfinite(estimate):
            return GapRow(title=title, outcome=outcome, failed=self.failed)
        low, high = float(self.lower[target]) / unit, float(self.upper[target]) / unit
        return GapRow(title=title, outcome=outcome, estimate=estimate, low=low, high=high)

    def rows(self) -> list[list[str | int]]:
        """Cells of a table, without its header: target, outcome, gap and limits."""
        columns = self.gap, self.lower, self.upper
        return [
            [t, self.outcomes[t], *(gap_words(float(values[t])) for values in columns)]
            for t in self.order[:SHOWN_ROWS]
        ]

    def file(self) -> Download:
        """All of them."""
        columns = (self.gap.tolist(), self.lower.tolist(), self.upper.tolist())
        rows = zip(range(len(self.outcomes)), self.outcomes, *columns, strict=True)
        header = ["target", "outcome", "gap", "gap_lower", "gap_upper"]
        says = "a row for each target: its gap, limits and outcome"
        return csv_file("gaps.csv", says, header, rows)
