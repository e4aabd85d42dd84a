"""The words of a session for what it trains, and the `Job` that they ask for.

A recipe that comes from the other side never decides what is imported or which hyper-parameters are
used. Its words choose among what is built in here, and a job whose own recipe differs in anything is
refused; any other code is named by the user.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pyattr.errors import bad_value, check_count
from pyattr.subject.data import Data
from pyattr.subject.job import Job, as_job
from pyattr.subject.own_code import imported
from pyattr.subject.training import Training
from pyattr.subject.words import Setting, checked_recipe, differing_words

__all__ = ["Job", "image_job", "imported_job", "job_of_recipe"]

# Words of an image job's recipe that decide what is loaded.
_IMAGE_WORDS: Final[dict[str, type]] = {
    "dataset": str, "model": str, "n_train": int, "n_test": int, "dataset_seed": int,
    "flip_fraction": float,
}  # fmt: skip
# What a `Training` calls them in its messages.
_FIELDS: Final = {
    "data.name": "dataset",
    "data.n_targets": "n_test",
    "data.seed": "dataset_seed",
    "recipe.kind": "model",
}


def image_job(
    dataset: str,
    model: str,
    n_train: int,
    n_test: int,
    *,
    dataset_seed: int = 0,
    flip_fraction: float = 0.0,
    path: str | Path | None = None,
    device: str = "cpu",
) -> Job:
    """Train models of a kind on an image dataset, as the demo does.

    Parameters
    ----------
    dataset : {"digits", "fashion-mnist", "cifar10"}
    model : {"softmax", "mlp"}
    n_train, n_test, dataset_seed, flip_fraction, path
        As for `pyattr.datasets.load`; `path` is this machine's affair and no part of the recipe.
    device : str
        "cpu" or "cuda": part of the platform, not of the recipe.

    Raises
    ------
    ValueError, FileNotFoundError, RuntimeError
        As `pyattr.datasets.load`, or if there is no such model or device.
    """
    chosen: Any = dataset  # whatever the other side calls it
    data = Data(
        name=chosen,
        n_train=check_count("n_train", n_train, 1),
        n_targets=check_count("n_test", n_test, 1),
        seed=check_count("dataset_seed", dataset_seed),
        flip_fraction=float(flip_fraction),
        path=None if path is None else str(path),
    )
    try:
        return Training(data, model, device=device).described()
    except ValueError as error:
        name, colon, said = str(error).partition(": ")
        own = _FIELDS.get(name, name.removeprefix("data."))
        raise ValueError(f"{own}{colon}{said}") from error


def imported_job(source: str) -> Job:
    """Import what the user names; it runs as the user's own code.

    Parameters
    ----------
    source : str
        ``module:name`` of a `Job`, of an ensemble, or of a function without arguments that makes one of
        them.

    Raises
    ------
    ValueError
        If it cannot be found, or is none of these.
    """
    found = imported("source", source)
    job = as_job(found)
    if job is None and callable(found) and _takes_nothing(found):
        job = as_job(found())
    if job is None:
        expected = "a Job, an ensemble, or a function without arguments that makes one"
        raise bad_value("source", expected, f"{source}: {type(found).__name__}")
    return job


def job_of_recipe(
    recipe: Mapping[str, Setting],
    *,
    source: str | Job | None = None,
    path: str | Path | None = None,
    device: str = "cpu",
) -> Job:
    """Make the job that a manifest's recipe asks for.

    Parameters
    ----------
    recipe : mapping of str to bool, int, float or str
        Of anyone. Whether data and targets are those of the manifest is for the caller to compare.
    source : str or Job, optional
        ``module:name``, see `imported_job`, or what it would give. Without it the recipe must be that of an
        `image_job`; no word of it is ever imported.
    path : str or Path, optional
        Where the dataset lies on this machine.
    device : str

    Raises
    ------
    ValueError
        If there is no such job, or its recipe is not the same in every word.
    FileNotFoundError, RuntimeError
        As `image_job`.
    """
    asked = checked_recipe(recipe)
    if source is None:
        words = {name: asked.get(name) for name in _IMAGE_WORDS}
        if any(type(words[name]) is not kind for name, kind in _IMAGE_WORDS.items()):
            raise bad_value("recipe", f"the words {', '.join(_IMAGE_WORDS)}, or a source", words)
        chosen: dict[str, Any] = words
        job = image_job(**chosen, path=path, device=device)
    else:
        job = source if isinstance(source, Job) else imported_job(source)
    differing = differing_words(asked, job.recipe)
    if differing:
        ours = {name: job.recipe.get(name) for name in differing}
        raise bad_value("recipe", f"{ours}", {name: asked.get(name) for name in differing})
    return job


def _takes_nothing(found: Any) -> bool:
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):  # ValueError: a built-in that does not tell
        return False
    return True
