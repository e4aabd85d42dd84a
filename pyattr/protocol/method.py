"""What the two methods of a verifier share: the spot checks, and the figures of a verdict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pyattr.errors import Rejected
from pyattr.protocol.challenges import Design, chosen_rows
from pyattr.protocol.checks import SecretChecks
from pyattr.protocol.drift import check_drift
from pyattr.protocol.equivalence import SpotCheck, retrain_and_compare
from pyattr.protocol.terms import Terms
from pyattr.verification.evaluate import Evaluator
from pyattr.verification.judge import Criterion
from pyattr.verification.scores import LinearScores
from pyattr.verification.spot_check import n_checks
from pyattr.verification.verdict import Outcome, Verdict

__all__ = ["Asked", "Method"]


@dataclass(frozen=True)
class Asked:
    """What a prover was asked, and how its answers will be checked.

    Parameters
    ----------
    seed : int
        Of the challenge: masks and training seeds follow from it.
    checks : SecretChecks
    """

    seed: int
    checks: SecretChecks


class Method(ABC):
    """A verifier's steps that depend on what it estimates; used for one session.

    Parameters
    ----------
    evaluate : Evaluator
        The verifier's own trainings.
    terms : Terms

    Attributes
    ----------
    name : str
        As `Verifier` knows it.
    design : Design or None
        What the prover was asked for, once `choose_design` has run.
    details : dict
        Figures for the verdict, as they become known.
    """

    name: ClassVar[str]

    def __init__(self, evaluate: Evaluator, terms: Terms) -> None:
        self.evaluate = evaluate
        self.terms = terms
        self.design: Design | None = None
        self.details: dict[str, Any] = {}

    def choose_design(self) -> Design:
        """Train a pilot, fix b, and choose what to ask for: `design` from then on."""
        self.design = self._choose()
        return self.design

    @abstractmethod
    def _choose(self) -> Design: ...

    @abstractmethod
    def judge(
        self, scores: LinearScores, outputs: npt.NDArray[np.float32], asked: Asked
    ) -> Verdict:
        """Decide from outputs that were checked in form, and spot checks.

        Raises
        ------
        Rejected
            If a spot check fails.
        """

    @property
    def clip(self) -> float:
        """b, once `choose_design` has run."""
        if self.evaluate.clip is None:
            raise RuntimeError("clip: expected choose_design to have run")
        return self.evaluate.clip

    @property
    def criterion(self) -> Criterion:
        """The criterion, with b."""
        return replace(self.terms.criterion, clip=self.clip)

    def uniform_checks(self, n_outputs: int, n_covered: int, asked: Asked) -> npt.NDArray[np.int64]:
        """Rows to check for an acceptance that holds with any `n_covered` outputs corrupted.

        More than `n_covered` are missed with probability at most ``delta_checks``.
        """
        k = n_checks(n_outputs, min(n_covered + 1, n_outputs), self.terms.delta_checks)
        return asked.checks.uniform(n_outputs, k)

    def settle(
        self,
        verdict: Verdict,
        design: Design,
        scores: LinearScores,
        outputs: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int64],
        asked: Asked,
    ) -> Verdict:
        """Let an acceptance stand if the rows drawn for it survive spot checks.

        Raises
        ------
        Rejected
            If outputs differ from the verifier's own, or lie on one side of them within the tolerance.
        """
        self.details["n_checked"] = len(rows)
        most = self.terms.most_checks
        if most is not None and len(rows) > most:
            reason = (
                f"{len(rows)} spot checks are needed, and the tolerance was calibrated for {most}"
            )
            outcomes = (Outcome.INCONCLUSIVE,) * verdict.n_targets
            return replace(verdict, outcome=Outcome.INCONCLUSIVE, outcomes=outcomes, reason=reason)
        if not rows.size:  # weighted checks may all stay out, as rarely as a lie is to be missed
            return verdict
        tolerance = self.terms.tolerance
        drawn = chosen_rows(design, asked.seed, self.terms.n_train, rows)
        check = retrain_and_compare(self.evaluate, *drawn, outputs[rows], tolerance)
        self.details["n_hardware_faults"] = check.n_faults
        if check.suspects.size:
            self.details |= {"rows_differing": rows[check.suspects], "spot_check": check}
        settled = _after(check, verdict, tolerance)
        if settled and tolerance > 0.0:
            linear = scores.linear(drawn[0])
            drift = check_drift(self.evaluate, *drawn, outputs[rows], check.ours, linear)
            self.details["drift"] = str(drift)
        return settled

    def complete(self, verdict: Verdict) -> Verdict:
        """Add to a verdict what was trained, and how delta was divided."""
        figures = self._figures()
        figures["details"] = {**verdict.details, **figures["details"]}
        split = {
            **verdict.delta_split,
            "spot checks": self.terms.delta_checks,
            "interval": self.terms.delta_interval,
        }
        return replace(verdict, delta_split=split, **figures)

    def failed(self, rejected: Rejected) -> Verdict:
        """ABORT, because of one check."""
        figures, criterion = self._figures(), self.terms.criterion
        observed, bound = rejected.observed, rejected.bound
        figures["details"] |= {"check": rejected.check, "observed": observed, "bound": bound}
        return Verdict.failed(
            self.name,
            criterion.epsilon,
            criterion.delta,
            str(rejected),
            self.terms.n_targets,
            relative=criterion.relative,
            **figures,
        )

    def _figures(self) -> dict[str, Any]:
        n_outputs = self.evaluate.n_trained * self.terms.n_targets
        return {
            "n_retrained": self.evaluate.n_trained,
            "n_prover_retrained": 0 if self.design is None else self.design.n_evaluations,
            "details": {
                **self.details,
                "clip": self.evaluate.clip,
                "clipped_share": self.evaluate.n_clipped / max(1, n_outputs),
            },
        }


def _after(check: SpotCheck, verdict: Verdict, tolerance: float) -> Verdict:
    """Draw the conclusion from spot checks."""
    n_accused, n_unsteady = int(check.accused.sum()), int(check.unsteady.sum())
    if n_accused:
        allowed = f"|difference| ≤ {tolerance:g}" if tolerance else "equal bytes"
        raise Rejected("spot check", f"{n_accused} of {check.n_checked} outputs differ", allowed)
    if n_unsteady:
        reason = (
            f"spot check: this machine's own two runs disagree at {n_unsteady} of "
            f"{check.n_checked} outputs, so it can neither accept nor accuse"
        )
        outcomes = (Outcome.INCONCLUSIVE,) * verdict.n_targets
        return replace(verdict, outcome=Outcome.INCONCLUSIVE, outcomes=outcomes, reason=reason)
    return verdict
