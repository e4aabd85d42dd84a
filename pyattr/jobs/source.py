"""What a job's workers train: made in each process anew, from the job alone."""

from __future__ import annotations

import math
import platform as system
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyattr.datasets import Dataset
from pyattr.errors import bad_value
from pyattr.interface import Retrain
from pyattr.jobs.job import OWN, Job
from pyattr.masks import Masks
from pyattr.retraining.bank_manifest import Manifest
from pyattr.subject.own_code import imported
from pyattr.subject.training import Training

if TYPE_CHECKING:
    from pyattr.retraining.ensemble import Ensemble

__all__ = ["OwnRetrain", "Source", "dataset_of", "training_of"]

_OWN_BLOCK = 32  # models to a chunk where nothing says how many are trained together


@dataclass(frozen=True)
class OwnRetrain:
    """A job's own ``module:callable``, with what the job says of it."""

    retrain: Retrain
    record: dict[str, Any]
    n_train: int
    n_targets: int
    block: int = _OWN_BLOCK
    multiply_adds: None = None  # nobody knows

    def __call__(self, masks: Masks, seeds: NDArray[np.uint64], /) -> NDArray[np.floating]:
        """Train one model a row."""
        return self.retrain(masks, seeds)

    def recipe_record(self) -> dict[str, Any]:
        """What the job says of it."""
        return self.record


@dataclass(frozen=True)
class Source:
    """Makes the trainer of a job; can be pickled.

    Attributes
    ----------
    job : Job
    manifest : Manifest, optional
        Of the bank that the trainer is for. Another process reads the data anew, and another machine may
        hold other files, or another pyattr.
    """

    job: Job
    manifest: Manifest | None = None

    def __call__(self) -> Ensemble | OwnRetrain:
        """Load the data and make the trainer.

        Raises
        ------
        ValueError
            If data or recipe are wrong, the message naming file, line and key; or if the recipe trains other
            models than the manifest's.
        FileNotFoundError, RuntimeError
            If data or a package is missing.
        """
        with self.job.placed():
            retrain = _own(self.job) if self.job.data is None else training_of(self.job).retrain()
        if self.manifest is not None:
            made = replace(
                self.manifest,
                n_train=retrain.n_train,
                n_targets=retrain.n_targets,
                recipe=retrain.recipe_record(),
            )
            where = f"a worker on {system.node()} has other data, or another pyattr, than the job"
            self.manifest.refuse_other(where, made)
        return retrain

    def platform(self) -> dict[str, Any]:
        """Platform class of this process; of one's own retrain nothing is known."""
        if self.job.recipe["kind"] == OWN:
            return {}
        from pyattr.retraining.platform import platform_class  # loads torch

        return platform_class(self.job.recipe.get("device", "cpu"))


def training_of(job: Job) -> Training:
    """Data and recipe of a job that has data.

    Raises
    ------
    ValueError
        If it has none: what one's own callable trains on nobody else knows.
    """
    if job.data is None:
        expected = "a table, which tells another party what to train on"
        raise bad_value("data", expected, "none")
    settings = {key: job.recipe[key] for key in job.recipe if key not in ("kind", "device")}
    device = job.recipe.get("device", "cpu")
    # Files of images lie with the results.
    folders = job.folder, str(job.out_folder)
    return Training(job.data, job.recipe["kind"], settings, device, *folders)


def dataset_of(job: Job) -> Dataset:
    """Load the dataset of a job that has one.

    Raises
    ------
    ValueError, FileNotFoundError, RuntimeError
        As `Training.dataset`.
    """
    return training_of(job).dataset()


def _own(job: Job) -> OwnRetrain:
    if job.folder not in sys.path:
        sys.path.insert(0, job.folder)  # modules beside the job file
    source = job.recipe["retrain"]
    found = imported("recipe.retrain", source)
    if not callable(found):
        raise bad_value("recipe.retrain", "a callable", type(found).__name__)
    record: dict[str, Any] = {
        key: job.recipe[key] for key in ("kind", "retrain", "settings") if key in job.recipe
    }
    _check_record("recipe", record)
    return OwnRetrain(found, record, job.recipe["n_train"], job.recipe["n_targets"])


def _check_record(key: str, value: Any) -> None:
    """Refuse what TOML has and JSON has not; a manifest could only hold a text that stands for it."""
    if isinstance(value, dict):
        for name, entry in value.items():
            _check_record(f"{key}.{name}", entry)
    elif isinstance(value, list):
        for entry in value:
            _check_record(key, entry)
    elif not isinstance(value, bool | int | str) and not (
        isinstance(value, float) and math.isfinite(value)
    ):
        raise bad_value(key, "true or false, a finite number, or text", value)
