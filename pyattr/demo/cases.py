"""The provers of the demo that lie about scores, and what three verifiers say of each.

The verifiers train their own models. For provers that lie in a session: `pyattr.demo.sessions`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from pyattr.attribution import Attribution
from pyattr.interface import Retrain
from pyattr.masks import Masks
from pyattr.retraining.ensemble import Ensemble
from pyattr.uses import SummedRetrain, summed
from pyattr.uses.values import target_weights
from pyattr.verification import ClusterDesign, Verdict, verify
from pyattr.verification.cheats import (
    AnotherModel,
    FavouredGroup,
    HalvedScores,
    NoisyScores,
    ScoreLie,
    ZeroedSeller,
)
from pyattr.verification.scores import HasScores, LinearScores

__all__ = ["SELLER_NAMES", "Case", "Judged", "Metered", "Terms", "judge_scores", "score_lies"]

Rows = npt.NDArray[np.float32]
Seeds = npt.NDArray[np.uint64]
Method = Literal["naive", "paper", "gap"]
CaseProgress = Callable[[int, int], None]
"""Called with the number of cases done and planned."""

SELLER_NAMES: Final = ("A", "B", "C", "D", "E")
_FAVOURED, _ZEROED = 1, 2  # sellers B and C
_LIE_GAP = 0.2  # of the lies whose size can be chosen, relative to Var g
_PORTION = 1024  # rows trained between two reports of progress


class Metered:
    """A `Retrain` that counts its trainings and tells how far it is.

    Parameters
    ----------
    ensemble : Ensemble
    progress : callable, optional
        Called with the number of trainings so far.
    """

    def __init__(self, ensemble: Ensemble, progress: Callable[[int], None] | None = None) -> None:
        self.n_train, self.n_targets = ensemble.n_train, ensemble.n_targets
        self.n_trained, self.seconds = 0, 0.0
        self._ensemble, self._progress = ensemble, progress

    def __call__(self, masks: Masks, seeds: Seeds, /) -> Rows:
        """Train one model a row; see `Retrain`."""
        parts, started = [], time.perf_counter()
        for first in range(0, len(masks), _PORTION):
            part = slice(first, first + _PORTION)
            parts.append(self._ensemble(masks[part], seeds[part]))
            self.n_trained += len(parts[-1])
            if self._progress is not None:
                self._progress(self.n_trained)
        self.seconds += time.perf_counter() - started
        return np.concatenate(parts)


class _Remembered:
    """A `Retrain` that trains a row once: every score lie meets a verifier with the same secrets.

    Parameters
    ----------
    retrain : Metered
    """

    def __init__(self, retrain: Metered) -> None:
        self.n_train, self.n_targets = retrain.n_train, retrain.n_targets
        self._retrain = retrain
        self._known: dict[bytes, Rows] = {}

    def __call__(self, masks: Masks, seeds: Seeds, /) -> Rows:
        """Return one row of outputs a mask; see `Retrain`."""
        packed = masks.packed
        keys = [packed[j].tobytes() + int(s).to_bytes(8) for j, s in enumerate(seeds)]
        missing = [j for j, key in enumerate(keys) if key not in self._known]
        if missing:
            trained = self._retrain(masks[np.array(missing)], seeds[missing])
            self._known.update(zip((keys[j] for j in missing), trained, strict=True))
        return np.stack([self._known[key] for key in keys])


@dataclass(frozen=True)
class Case:
    """A prover of the demo.

    Parameters
    ----------
    key : str
        Stable name in ``results.json``.
    title : str
        What it does, in a few words.
    truth : {"honest", "lie", "harmless"}
        "harmless" changes the scores by so little that passing is right.
    interactive : bool
    """

    key: str
    title: str
    truth: Literal["honest", "lie", "harmless"]
    interactive: bool = False


@dataclass(frozen=True)
class Judged:
    """A prover, what it published, and the verdicts.

    Parameters
    ----------
    case : Case
    published : LinearScores
    naive, paper, gap : Verdict
    n_prover : int
        Models that the prover trained, for its scores and for the session.
    seconds : mapping of str to float
        Of each verification.
    """

    case: Case
    published: LinearScores
    naive: Verdict
    paper: Verdict
    gap: Verdict
    n_prover: int
    seconds: Mapping[Method, float]


@dataclass(frozen=True)
class Terms:
    """What all verifiers of the demo have in common.

    Parameters
    ----------
    epsilon, delta : float
    budget : int
        Most trainings of a gap verification, and of an interactive challenge.
    seed : int
        The verifiers' secret.
    threshold : float
        Error that the naive method accepts, as a share of Var f.
    """

    epsilon: float
    delta: float
    budget: int
    seed: int
    threshold: float = 0.75


def score_lies(
    owners: npt.NDArray[np.int64], other: HasScores, other_name: str, seed: int
) -> list[tuple[Case, ScoreLie]]:
    """The lies about scores.

    Parameters
    ----------
    owners : (n_train,) int64
        Seller of each training example.
    other : HasScores
        Scores of another model.
    other_name : str
        What that model is.
    seed : int
        Of the noise.
    """
    favoured = FavouredGroup(np.flatnonzero(owners == _FAVOURED), _LIE_GAP)
    zeroed = ZeroedSeller(np.flatnonzero(owners == _ZEROED))
    b, c = SELLER_NAMES[_FAVOURED], SELLER_NAMES[_ZEROED]
    return [
        (Case("halved", "halves all scores", "lie"), HalvedScores()),
        (Case("favoured", f"favours seller {b}", "lie"), favoured),
        (Case("zeroed", f"zeroes seller {c}", "lie"), zeroed),
        (Case("noisy", "adds noise to scores", "lie"), NoisyScores(_LIE_GAP, seed)),
        (Case("another_model", f"scores of {other_name}", "lie"), AnotherModel(other)),
        (Case("shaved", "scores times 0.9", "harmless"), HalvedScores(0.9)),
    ]


def judge_scores(
    retrain: Metered,
    honest: Attribution,
    lies: Sequence[tuple[Case, ScoreLie]],
    n_prover: dict[str, int],
    terms: Terms,
    progress: CaseProgress,
) -> tuple[list[Judged], Verdict]:
    """Judge the honest scores and every lie about them, by three methods.

    Parameters
    ----------
    retrain : Metered
    honest : Attribution
    lies : sequence of (Case, ScoreLie)
    n_prover : dict of str to int
        Models behind the scores of a case, by key; "honest" is the default.
    terms : Terms
    progress : callable

    Returns
    -------
    judged : list of Judged
        The honest prover first.
    of_mean : Verdict
        Of the honest scores' mean over targets by the gap method, from the same models: what sellers are
        paid by.
    """
    remembered = _Remembered(retrain)
    judged: list[Judged] = []
    planned = 1 + len(lies)

    def judge(case: Case, published: LinearScores) -> None:
        progress(len(judged), planned)
        verdicts, seconds = {}, {}
        for method, budget in _methods(terms):
            started = time.perf_counter()
            verdicts[method] = _verify(remembered, published, terms, method, budget)
            seconds[method] = time.perf_counter() - started
        n_behind = n_prover.get(case.key, n_prover["honest"])
        judged.append(Judged(case, published, **verdicts, n_prover=n_behind, seconds=seconds))

    judge(Case("honest", "honest", "honest"), LinearScores.of(honest))
    for case, lie in lies:
        judge(case, lie(honest))
    known = judged[0].gap.details
    design = ClusterDesign(known["n_clusters"], known["n_leaves"], rho=known["rho"])
    same_models = verify(
        SummedRetrain(remembered, target_weights(None, honest.n_targets)),
        summed(honest),
        epsilon=terms.epsilon,
        delta=terms.delta,
        seed=terms.seed,
        design=design,
    )
    progress(planned, planned)
    return judged, same_models


def _methods(terms: Terms) -> tuple[tuple[Method, int | None], ...]:
    """Each method with its budget."""
    return ("naive", None), ("paper", None), ("gap", terms.budget)


def _verify(
    retrain: Retrain, published: HasScores, terms: Terms, method: Method, budget: int | None
) -> Verdict:
    """Verify on the demo's terms."""
    return verify(
        retrain,
        published,
        epsilon=terms.epsilon,
        delta=terms.delta,
        method=method,
        seed=terms.seed,
        budget=budget,
        threshold=terms.threshold,
    )
