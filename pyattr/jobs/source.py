"""What a job's workers train: made in each process anew, from the job alone."""

from __future__ import annotations

import importlib
import re
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyattr.datasets import Dataset, load
from pyattr.errors import bad_value
from pyattr.interface import Retrain
from pyattr.jobs.job import OWN, Job
from pyattr.masks import Masks
from pyattr.subject.sellers import deal_to_sellers, read_sellers

if TYPE_CHECKING:
    from pyattr.retraining.ffcv_loader import BetonImages
    from pyattr.retraining.recipes import RecordedRetrain

__all__ = ["OwnRetrain", "Source", "dataset_of", "sellers_of"]

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
        if job.data is None:
            return _own(job)
        # Loads torch, which one's own retrain may not need.
        from pyattr.retraining.recipes import Examples, make_recipe, make_retrain

        settings = {key: job.recipe[key] for key in job.recipe if key not in ("kind", "device")}
        data = dataset_of(job)
        try:
            recipe = make_recipe(job.recipe["kind"], settings, data.image_shape)
        except ValueError as error:
            raise ValueError(f"recipe.{error}") from error
        features = data.train_images if job.data.feed == "memory" else _beton(job, data)
        tests = data.test_images, data.test_labels
        examples = Examples(features, data.train_labels, *tests, sellers_of(job, data))
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
        loaded = load(
            data.name,
            data.n_train,
            data.n_targets,
            data.seed,
            data.flip_fraction,
            None if data.path is None else Path(job.folder, data.path),
        )
        return loaded if data.pool == 1 else loaded.pooled(data.pool)
    except ValueError as error:
        said = re.sub("^n_test:", "n_targets:", re.sub("^size:", "pool:", str(error)))
        raise ValueError(f"data.{said}") from error


def sellers_of(job: Job, data: Dataset) -> NDArray[np.int64] | None:
    """Who owns each training example, (n_examples,) int64; None where masks choose examples.

    Raises
    ------
    ValueError
        If ``data.sellers`` does not fit the data.
    OSError
        If its file cannot be read.
    """
    if job.data is None or job.data.sellers is None:
        return None
    sellers, labels = job.data.sellers, data.train_labels
    try:
        if isinstance(sellers, str):
            return read_sellers(Path(job.folder, sellers), len(labels))
        return deal_to_sellers(labels, sellers, job.data.seller_skew)
    except ValueError as error:
        raise ValueError(f"data.{error}") from error


def _beton(job: Job, data: Dataset) -> BetonImages:
    """Training images in FFCV's format, in a file that is written once and named by what it holds.

    It lies with the results, where all workers of a cluster reach it.
    """
    from pyattr.retraining.ffcv_loader import BetonImages, write_beton
    from pyattr.retraining.images import ImagesInMemory

    *channels, height, width = data.image_shape
    size = channels[0] if channels else 1, height, width
    images = ImagesInMemory.of_features(data.train_images, *size).images
    if images.dtype != np.uint8:
        expected = "'memory' for pixels that are no whole multiples of 1/255"
        raise bad_value("data.feed", expected, "'ffcv'")
    checksum = zlib.crc32(images.data)
    path = job.out_folder / f"train-{zlib.crc32(data.train_labels.data, checksum):08x}.beton"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_beton(path, images, data.train_labels)
    source, found = BetonImages(path), 0
    for chunk in source.chunks():
        found = zlib.crc32(chunk.data, found)
    if found != checksum:
        expected = f"{path} as it was written; delete it, and it is written again"
        raise bad_value("data.feed", expected, "other images")
    return source


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
