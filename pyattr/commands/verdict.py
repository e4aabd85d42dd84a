"""How commands tell a verdict, and the exit code that goes with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

from pyattr.commands.options import EXIT_CODES
from pyattr.commands.output import answer, say

if TYPE_CHECKING:
    from pyattr.transport.verifier_side import VerifierSide

__all__ = ["end_with_verdict"]

_DIGITS = 4  # significant


def end_with_verdict(side: VerifierSide, reason: str | None = None) -> NoReturn:
    """Print a verifier's verdict and end with its exit code.

    Parameters
    ----------
    side : VerifierSide
        With a verdict.
    reason : str, optional
        In place of the verdict's own.
    """
    verdict = side.end.verdict
    outcome, words = verdict.outcome.value, reason or verdict.reason
    record = {
        "outcome": outcome,
        "reason": words,
        "session": side.end.session,
        "gap_upper": [float(f"{gap:.{_DIGITS}g}") for gap in verdict.gap_upper],
        "epsilon": verdict.epsilon,
        "delta": verdict.delta,
        "n_retrained": verdict.n_retrained,
        "n_prover_retrained": verdict.n_prover_retrained,
        "n_checked": verdict.details.get("n_checked"),
    }
    answer("pyattr-session-verify/1", record, f"{outcome}: {words}")
    say(
        f"Session {side.end.session}: {verdict.n_retrained} trainings here, "
        f"{verdict.n_prover_retrained} there."
    )
    sys.exit(EXIT_CODES[outcome])
