"""Data and a recipe, and the `Retrain` that they make."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyattr.datasets import Dataset
from pyattr.errors import bad_value
from pyattr.subject.data import Data
from pyattr.subject.job import Job

if TYPE_CHECKING:  # torch, which whoever only reads descriptions need not have
    from pyattr.retraining.ensemble import Ensemble
    from pyattr.retraining.ffcv_loader import BetonImages

__all__ = ["Training"]


@dataclass(frozen=True)
class Training:
    """Data and a recipe of `pyattr.retraining.recipes`; can be pickled.

    Attributes
    ----------
    data : Data
    kind : str
        Of the recipe.
    settings : mapping, optional
        What differs from the recipe's defaults. None: what suits images of this size, see
        `pyattr.retraining.image_models`.
    device : str
        "cpu" or "cuda".
    folder : str
        What paths of `data` are relative to.
    scratch : str
        Folder for files of images, where ``data.feed`` writes them: where all workers reach it.
    """

    data: Data
    kind: str
    settings: Mapping[str, Any] | None = None
    device: str = "cpu"
    folder: str = ""
    scratch: str = ""

    def dataset(self) -> Dataset:
        """Load the data; see `retrain` for what it raises."""
        with _named("data."):
            return self.data.load(self.folder)

    def retrain(self, dataset: Dataset | None = None, n_threads: int | None = 1) -> Ensemble:
        """Make the trainer.

        Parameters
        ----------
        dataset : Dataset, optional
            From `dataset`, if it was loaded.
        n_threads : int, optional
            One for a worker that shares the machine with others; None takes all.

        Raises
        ------
        ValueError
            If something is wrong; the message begins with ``data.`` or ``recipe.`` and the name of a field.
        FileNotFoundError, RuntimeError
            If files or a package are missing.
        """
        from pyattr.retraining.image_models import usual_settings
        from pyattr.retraining.recipes import Examples, make_recipe, make_retrain

        data = self.dataset() if dataset is None else dataset
        with _named("data."):
            owners = self.data.owners(data, self.folder)
        with _named("recipe."):
            settings = self.settings
            if settings is None:
                settings = usual_settings(self.kind, data.train_images.shape[1])
            recipe = make_recipe(self.kind, settings, data.image_shape)
        features = data.train_images if self.data.feed == "memory" else self._beton(data)
        tests = data.test_images, data.test_labels
        examples = Examples(features, data.train_labels, *tests, owners)
        return make_retrain(recipe, examples, self.device, n_threads)

    def described(self) -> Job:
        """Make the trainer, on all processors, with what another party is told of it.

        Raises
        ------
        ValueError, FileNotFoundError, RuntimeError
            As `retrain`.
        """
        dataset = self.dataset()
        words = {"model": self.kind, **self.data.words(dataset)}
        return Job.of_ensemble(self.retrain(dataset, n_threads=None), words)

    def _beton(self, data: Dataset) -> BetonImages:
        """Training images in FFCV's format, in a file that is written once and named by what it holds."""
        from pyattr.retraining.ffcv_loader import BetonImages, write_beton
        from pyattr.retraining.images import ImagesInMemory

        *channels, height, width = data.image_shape
        size = channels[0] if channels else 1, height, width
        images = ImagesInMemory.of_features(data.train_images, *size).images
        if images.dtype != np.uint8:
            expected = "'memory' for pixels that are no whole multiples of 1/255"
            raise bad_value("data.feed", expected, "'ffcv'")
        checksum = zlib.crc32(images.data)
        labelled = zlib.crc32(data.train_labels.data, checksum)
        path = Path(self.scratch, f"train-{labelled:08x}.beton")
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


@contextmanager
def _named(table: str) -> Iterator[None]:
    """Begin the message of what is wrong with the table that it stands in."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{table}{error}") from error
