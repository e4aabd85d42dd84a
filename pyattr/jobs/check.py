"""Checking published scores with a job's own models, so that no training is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from pyattr.attribution import Attribution
from pyattr.interface import Retrain
from pyattr.jobs.chunks import usual_chunk
from pyattr.jobs.job import Job
from pyattr.jobs.source import OwnRetrain, Source
from pyattr.jobs.unfinished import Unfinished
from pyattr.protocol.hashing import labelled_hash
from pyattr.retraining.bank_format import to_json
from pyattr.uses import Certificate, SummedRetrain, summed
from pyattr.uses.certificate import scores_digest
from pyattr.verification import verify
from pyattr.verification.evaluate import Progress
from pyattr.versions import installed_versions

if TYPE_CHECKING:
    from pyattr.retraining.ensemble import Ensemble

__all__ = ["Check"]


@dataclass(frozen=True, eq=False)
class Check:
    """A verification of scores by a job's own models.

    Attributes
    ----------
    job : Job
    scores : Attribution
    weights : (n_targets,) array_like, optional
        Verify the sum of the targets with these weights, see `pyattr.uses.summed`.
    seed : int, optional
        As for `pyattr.verify`; drawn if not given, and kept until there is a verdict.
    options : mapping
        More arguments of `pyattr.verify`.
    """

    job: Job
    scores: Attribution
    weights: npt.ArrayLike | None = None
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(
        self,
        kept: Path,
        progress: Progress | None = None,
        say: Callable[[str], None] = lambda words: None,
    ) -> Certificate:
        """Train, judge and write the verdict; what an earlier run of the same check trained is not lost.

        Parameters
        ----------
        kept : Path
            File of the verdict. Trainings lie beside it until it is there, see `pyattr.jobs.unfinished`.
        progress : callable, optional
            As for `pyattr.verify`.
        say : callable
            Called with what people should know about trainings that are kept.

        Returns
        -------
        Certificate

        Raises
        ------
        ValueError
            If job, scores or options are wrong, or outputs are not finite.
        RuntimeError, OSError
            If another process makes the same check, or trainings cannot be kept.
        """
        trainer = Source(self.job)()
        portion = _portion(trainer, self.job)
        retrain: Retrain = trainer
        scores = self.scores
        if self.weights is not None:
            retrain = SummedRetrain(trainer, self.weights)
            scores = summed(scores, self.weights)
        with Unfinished(kept, self._digest(trainer, scores, portion)) as unfinished:
            _tell(unfinished, say)
            verdict = verify(
                unfinished.recorded(retrain, portion),
                scores,
                p=self.job.models.p,
                seed=unfinished.seed(self.seed),
                progress=progress,
                **self.options,
            )
            certificate = Certificate.of(verdict, self.weights)
            certificate.save(kept)
            unfinished.remove()
        return certificate

    def _digest(self, trainer: Ensemble | OwnRetrain, scores: Attribution, portion: int) -> str:
        """Digest of all that decides about trainings and verdict, but for a seed that is drawn."""
        words = {
            "versions": installed_versions("pyattr"),
            "scores": scores_digest(scores.scores),
            "intercept": np.asarray(scores.intercept, np.float64).tolist(),
            "weights": None if self.weights is None else np.asarray(self.weights).tolist(),
            "models": {"p": self.job.models.p, "n_train": trainer.n_train},
            "recipe": trainer.recipe_record(),
            "seed": self.seed,
            "options": dict(self.options),
            "portion": portion,
        }
        return labelled_hash("check/1", to_json(words))


def _portion(trainer: Ensemble | OwnRetrain, job: Job) -> int:
    """Trainings that are stored together, an even number: as many as in a chunk of a large job."""
    large = msgspec.structs.replace(job.models, count=1 << 31)
    chunk = job.models.chunk or usual_chunk(trainer, large)
    return chunk + chunk % 2


def _tell(unfinished: Unfinished, say: Callable[[str], None]) -> None:
    """Say what is there of earlier runs."""
    if unfinished.n_kept:
        say(f"Going on from {unfinished.n_kept:,} trainings in {unfinished.folder}.")
    for folder in unfinished.others:
        say(f"Trainings of another check that has not ended lie in {folder}.")
