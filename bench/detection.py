"""Detection table: every cheat against every method, on digits and softmax regression.

One set of trainings a session serves all published scores: they are fixed before the session's masks are
drawn, and all methods that train themselves take their masks from the session's seed. Session lies
(a prover that answers without training, or fits afterwards) exist in the interactive form alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import provers

import pyattr
from pyattr import datasets
from pyattr.protocol import Prover, Verifier, run
from pyattr.protocol.randomness import secret_of
from pyattr.verification import cheats
from pyattr.verification.evaluate import Recorded
from pyattr.verification.scores import LinearScores

__all__ = ["detection"]

N_TRAIN, MODELS_PER_EXAMPLE, EPSILON = 500, 20, 0.05
LOCAL = {"naive": 48, "paper": 96, "gap": None}
Row = dict[str, Any]


def published(own: provers.Prover, data: datasets.Dataset) -> dict[str, Any]:
    """Every attribution of the table."""
    honest, group = own.honest, np.arange(N_TRAIN // 10)
    known = {"honest": honest}
    lies: dict[str, cheats.ScoreLie] = {
        "a/2": cheats.HalvedScores(),
        "favoured group, gap 0.15": cheats.FavouredGroup(group, 0.15),
        "zeroed seller (10% of the examples)": cheats.ZeroedSeller(group),
        "noise, gap 0.15": cheats.NoisyScores(0.15),
        "noise, gap 1.6 ε": cheats.NoisyScores(1.6 * EPSILON),
        "noise, gap 0.4 ε": cheats.NoisyScores(0.4 * EPSILON),
        "another model": cheats.AnotherModel(
            provers.prover("another softmax", data, MODELS_PER_EXAMPLE).honest
        ),
    }
    return known | {name: lie(honest) for name, lie in lies.items()}


def tally(verdicts: list[pyattr.Verdict]) -> Row:
    """Outcomes of many sessions, with exact intervals of the two rates that matter."""
    n = len(verdicts)
    counts = {o.value: sum(v.outcome is o for v in verdicts) for o in pyattr.Outcome}
    return {
        "sessions": n,
        "outcomes": counts,
        "accepted_95": provers.interval(counts["ACCEPT"], n),
        "aborted_95": provers.interval(counts["ABORT"], n),
        "trainings_median": float(np.median([v.n_retrained for v in verdicts])),
    }


def local(own: provers.Prover, scores: dict[str, Any], n_sessions: int) -> dict[str, Row]:
    """Methods by which the verifier trains itself."""
    verdicts: dict[str, list[pyattr.Verdict]] = {}
    for session in range(n_sessions):
        retrain = Recorded(own.retrain)
        for method, budget in LOCAL.items():
            for name, attribution in scores.items():
                verdicts.setdefault(f"{method}: {name}", []).append(
                    pyattr.verify(
                        retrain, attribution, method=method, budget=budget, seed=20_000 + session
                    )
                )
    table = {name: tally(results) for name, results in verdicts.items()}
    added = {
        name: float(
            cheats.added_gap(scores["honest"], other)[0] / scores_variance(scores["honest"])
        )
        for name, other in scores.items()
    }
    return table | {"added gap / Var g": added}


def scores_variance(attribution: pyattr.Attribution) -> float:
    """Var g of the first target."""
    return float(LinearScores.of(attribution).variance(0.5)[0])


def interactive(own: provers.Prover, scores: dict[str, Any], n_sessions: int) -> dict[str, Row]:
    """The interactive form, honest and with lies that only it can meet."""
    honest, halved = scores["honest"], scores["a/2"]
    answers: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "honest": (honest, lambda retrain: retrain),
        "a/2": (halved, lambda retrain: retrain),
        "a/2, answers from its scores": (halved, lambda _: cheats.AnswersFromScores(halved)),
        "trains half": (honest, lambda retrain: cheats.TrainsFraction(retrain, honest)),
        "a/2, trains 90%": (halved, lambda retrain: cheats.TrainsFraction(retrain, halved, 0.9)),
    }
    verdicts: dict[str, list[pyattr.Verdict]] = {}
    for session in range(n_sessions):
        retrain = Recorded(own.retrain)
        for name, (attribution, answer) in answers.items():
            verifier = Verifier(
                retrain, n_train=N_TRAIN, n_targets=1, secret=secret_of(40_000 + session)
            )
            prover = Prover(answer(retrain), attribution, secret=secret_of(50_000 + session))
            verdict = run(prover, verifier)
            verdicts.setdefault(f"gap interactive: {name}", []).append(verdict)
    return {name: tally(results) for name, results in verdicts.items()}


def rehearsed(own: provers.Prover, n_sessions: int) -> dict[str, Row]:
    """Scores fitted to one session's challenge meet another session's."""
    verdicts = []
    for session in range(n_sessions):
        kept: list[tuple[Any, np.ndarray]] = []

        def spy(masks: Any, seeds: np.ndarray, kept: list[Any] = kept) -> np.ndarray:
            kept.append((masks, own.retrain(masks, seeds)))
            return kept[-1][1]

        pyattr.verify(spy, own.honest, seed=60_000 + session)
        asked = pyattr.Masks.concatenate([masks for masks, _ in kept])
        fitted = cheats.FitsAfterChallenge().refit(asked, np.concatenate([out for _, out in kept]))
        verdicts.append(pyattr.verify(own.retrain, fitted, seed=80_000 + session))
    return {"gap: fitted to another challenge": tally(verdicts)}


def detection(n_sessions: int, save: Callable[[str, Row], None]) -> None:
    """Fill the table and save each part as it is done."""
    data = datasets.load("digits", n_train=N_TRAIN, n_test=1, seed=0)
    own = provers.prover("softmax", data, MODELS_PER_EXAMPLE)
    scores = published(own, data)
    save("local", local(own, scores, n_sessions))
    save("interactive", interactive(own, scores, n_sessions))
    save("rehearsed", rehearsed(own, n_sessions))
