"""What a job's workers train: made in each process anew, from the job alone."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyattr.datasets import Dataset, load
from pyattr.errors import bad_value
from pyattr.interface import Retrain
from pyattr.jobs.job import OWN, Job
from pyattr.masks import Masks

if TYPE_CHECKING:
    from pyattr.retraining.recipes import RecordedRetrain

__all__ = ["OwnRetrain", "Source", "dataset_of"]

_OWN_BLOCK = 32  # models to a chunk where nothing says how many are trained together


@dataclass(frozen=True)
class OwnRetrain:
    """A job's own ``module:callable``, with what the job says of it."""

    retrain: Retrain
    record: dict[str, Any]
    n_train: int
    n_targets: int
    block: int = _OWN_BLOCK

    def __call__(self, masks: Masks, seeds: NDArray[np.uint64], /) -> NDArray[np.floating]:
        """Train one model a row."""
        return self.retrain(masks, seeds)

    def recipe_record(self) -> dict[str, Any]:
        """What the job says of it."""
        return self.record


@dataclass(frozen=True)
class Source:
    """Makes the trainer of a job; can be pickled."""

    job: Job

    def __call__(self) -> RecordedRetrain | OwnRetrain:
        """Load the data and make the trainer.

        Raises
        ------
        ValueError
            If the recipe is wrong; the message names the key.
        FileNotFoundError, RuntimeError
            If data or a package is missing.
        """
        job = self.job
        if job.recipe["kind"] == OWN:
            return _own(job)
        # Loads torch, which one's own retrain may not need.
        from pyattr.retraining.recipes import Examples, make_recipe, make_retrain

        settings = {key: job.recipe[key] for key in job.recipe if key not in ("kind", "device")}
        try:
            recipe = make_recipe(job.recipe["kind"], settings)
        except ValueError as error:
            raise ValueError(f"recipe.{error}") from error
        data = dataset_of(job)
        examples = Examples(
            data.train_images, data.train_labels, data.test_images, data.test_labels
        )
        return make_retrain(recipe, examples, job.recipe.get("device", "cpu"))

    def platform(self) -> dict[str, Any]:
        """Platform class of this process; of one's own retrain nothing is known."""
        if self.job.recipe["kind"] == OWN:
            return {}
        from pyattr.retraining.platform import platform_class

        return platform_class(self.job.recipe.get("device", "cpu"))


def dataset_of(job: Job) -> Dataset:
    """Load the dataset of a job that has one.

    Raises
    ------
    ValueError
        If a key of ``[data]`` is wrong.
    FileNotFoundError, RuntimeError
        If files or a package are missing.
    """
    data = job.data
    if data is None:
        raise bad_value("data", "a table", "none")
    try:
        return load(
            data.name, data.n_train, data.n_targets, data.seed, data.flip_fraction, data.path
        )
    except ValueError as error:
        raise ValueError(f"data.{str(error).replace('n_test:', 'n_targets:', 1)}") from error


def _own(job: Job) -> OwnRetrain:
    module, _, name = job.recipe["retrain"].partition(":")
    if job.folder not in sys.path:
        sys.path.insert(0, job.folder)  # modules beside the job file
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        expected = "'module:callable' that can be imported"
        raise bad_value("recipe.retrain", expected, f"{module}:{name} ({error})") from error
    if not callable(found):
        raise bad_value("recipe.retrain", "a callable", type(found).__name__)
    record: dict[str, Any] = {
        key: job.recipe[key] for key in ("kind", "retrain", "settings") if key in job.recipe
    }
    return OwnRetrain(found, record, job.recipe["n_train"], job.recipe["n_targets"])
