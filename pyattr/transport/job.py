"""What a session trains, and the words for it in the manifest.

A `Job` is a `Retrain` with a description that is complete: digests of the training records and of the
targets, and a recipe of plain values with everything else that an output depends on besides mask and
seed. Two jobs of one description train the same models, within a class of machines to the bit.

A recipe that comes from the other side never decides what is imported or which hyper-parameters are
used. Its words choose among what is built in here, and a job whose own recipe differs in anything is
refused; any other code is named by the user.
"""

from __future__ import annotations

import importlib
import inspect
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from pyattr.datasets import load
from pyattr.errors import bad_value, check_count
from pyattr.interface import Retrain
from pyattr.protocol.hashing import labelled_hash
from pyattr.protocol.records import records_digest
from pyattr.transport.recipe import Setting, checked_recipe, checked_text, differing_words
from pyattr.versions import installed_versions

__all__ = ["Job", "image_job", "imported_job", "job_of_recipe"]

Arrays = Sequence[npt.NDArray[Any]]

_SOURCE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
_MODEL_TEXT: Final = 128  # characters of a device's name in a platform's
# Of a record, what belongs to the machine or stands elsewhere in the manifest.
_NOT_RECIPE: Final = (
    "recipe", "output", "n_train", "n_targets", "block", "arithmetic", "device", "crc32",
)  # fmt: skip
# Words of an image job's recipe that decide what is loaded.
_IMAGE_WORDS: Final[dict[str, type]] = {
    "dataset": str, "model": str, "n_train": int, "n_test": int, "dataset_seed": int,
    "flip_fraction": float,
}  # fmt: skip


@runtime_checkable
class _DescribesItself(Protocol):
    """An ensemble, as far as a job needs it; see `pyattr.retraining.ensemble.Ensemble`."""

    @property
    def n_train(self) -> int: ...

    @property
    def n_targets(self) -> int: ...

    def __call__(self, masks: Any, seeds: Any, /) -> npt.NDArray[np.float32]: ...

    def data(self) -> dict[str, npt.NDArray[Any]]: ...

    def recipe_record(self) -> dict[str, Any]: ...


@dataclass(frozen=True, eq=False)
class Job:
    """What is trained, and what a manifest says of it.

    Parameters
    ----------
    retrain : Retrain
    n_train, n_targets : int
        Mask bits and outputs.
    train, targets : str
        Digests of the training records and of the targets, see `pyattr.protocol.records`.
    recipe : dict of str to bool, int, float or str
        Everything else that an output depends on besides mask and seed; keys in order.
    output : str
        What of a model is attributed.
    platform : str
        Class of machines within which equal bytes are expected.
    versions : dict of str to str
        Of what decides the last bits; keys in order.
    """

    retrain: Retrain
    n_train: int
    n_targets: int
    train: str
    targets: str
    recipe: Mapping[str, Setting]
    output: str
    platform: str
    versions: Mapping[str, str]

    @classmethod
    def of(
        cls,
        retrain: Retrain,
        *,
        train: Arrays,
        targets: Arrays,
        recipe: Mapping[str, Setting],
        output: str,
        n_train: int | None = None,
        n_targets: int | None = None,
        platform: str | None = None,
        packages: Sequence[str] = (),
    ) -> Self:
        """Describe a `Retrain` of one's own.

        Parameters
        ----------
        retrain : Retrain
        train : sequence of (n_examples, ...) array
            Columns of the training records, such as features, labels and owners. All of it that a
            training reads, in the very dtype and order.
        targets : sequence of (n, ...) array
            The same for what the outputs are measured on.
        recipe : mapping of str to bool, int, float or str
            Every setting of a training. Names of lower-case letters, digits and underscores.
        output : str
            What an output is, such as "logsumexp".
        n_train, n_targets : int, optional
            By default as `retrain` tells them, else the numbers of records.
        platform : str, optional
            By default the system, the processor's kind and the versions of Python and NumPy.
        packages : sequence of str
            Packages whose versions matter, besides pyattr and NumPy.

        Raises
        ------
        ValueError
            If a setting cannot be written in a manifest, or there are no records.
        """
        train_digest, targets_digest = records_digest(*train), records_digest(*targets)
        return cls(
            retrain,
            _size("n_train", n_train, retrain, train),
            _size("n_targets", n_targets, retrain, targets),
            train_digest,
            targets_digest,
            checked_recipe(recipe),
            checked_text("output", output),
            checked_text("platform", _plain_platform() if platform is None else platform),
            _versions(packages),
        )

    @classmethod
    def of_ensemble(
        cls, ensemble: _DescribesItself, settings: Mapping[str, Setting] | None = None
    ) -> Self:
        """Describe an ensemble, which knows its own data and recipe.

        Parameters
        ----------
        ensemble : Ensemble
        settings : mapping, optional
            More words for the recipe: where the data come from.
        """
        data, record = ensemble.data(), ensemble.recipe_record()
        columns = [data["train_features"], data["train_labels"]]
        if "groups" in data:  # who owns an example is part of its record
            columns.append(data["groups"])
        own = {name: value for name, value in record.items() if name not in _NOT_RECIPE}
        return cls.of(
            ensemble,
            train=columns,
            targets=[data["test_features"], data["test_labels"]],
            recipe={**(settings or {}), **own, **record["recipe"]},
            output=record["output"],
            n_train=ensemble.n_train,
            n_targets=ensemble.n_targets,
            platform=_torch_platform(record["device"]),
            packages=("torch",),
        )


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
    loaded = load(dataset, n_train, n_test, dataset_seed, flip_fraction, path)
    from pyattr.retraining.image_models import image_ensemble  # torch, where it is needed

    settings: dict[str, Setting] = {
        "dataset": dataset,
        "model": model,
        "n_train": check_count("n_train", n_train, 1),
        "n_test": check_count("n_test", n_test, 1),
        "dataset_seed": check_count("dataset_seed", dataset_seed),
        "flip_fraction": float(flip_fraction),
    }
    return Job.of_ensemble(image_ensemble(model, loaded, device=device), settings)


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
    if not _SOURCE.fullmatch(source):
        raise bad_value("source", "'module:name'", repr(source))
    module, _, name = source.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise bad_value("source", "'module:name' that can be imported", error) from error
    job = _as_job(found)
    if job is None and callable(found) and _takes_nothing(found):
        job = _as_job(found())
    if job is None:
        expected = "a Job, an ensemble, or a function without arguments that makes one"
        raise bad_value("source", expected, f"{source}: {type(found).__name__}")
    return job


def job_of_recipe(
    recipe: Mapping[str, Setting],
    *,
    source: str | None = None,
    path: str | Path | None = None,
    device: str = "cpu",
) -> Job:
    """Make the job that a manifest's recipe asks for.

    Parameters
    ----------
    recipe : mapping of str to bool, int, float or str
        Of anyone. Whether data and targets are those of the manifest is for the caller to compare.
    source : str, optional
        ``module:name``, see `imported_job`. Without it the recipe must be that of an `image_job`; no word
        of it is ever imported.
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
        job = imported_job(source)
    differing = differing_words(asked, job.recipe)
    if differing:
        ours = {name: job.recipe.get(name) for name in differing}
        raise bad_value("recipe", f"{ours}", {name: asked.get(name) for name in differing})
    return job


def _as_job(found: object) -> Job | None:
    if isinstance(found, Job):
        return found
    # A class has the methods of its instances.
    if isinstance(found, _DescribesItself) and not isinstance(found, type):
        return Job.of_ensemble(found)
    return None


def _takes_nothing(found: Any) -> bool:
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):  # ValueError: a built-in that does not tell
        return False
    return True


def _size(name: str, given: int | None, retrain: Retrain, columns: Arrays) -> int:
    size = getattr(retrain, name, None) if given is None else given
    return check_count(name, len(columns[0]) if size is None else size, 1)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    versions = installed_versions("pyattr", "numpy", *packages)
    return dict(sorted({**versions, "python": platform.python_version()}.items()))


def _plain_platform() -> str:
    return (
        f"{platform.machine()} {platform.system()}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}"
    )


def _torch_platform(device: str) -> str:
    """The device's name for people, and a digest of the whole record."""
    from pyattr.retraining.platform import platform_class

    record = platform_class(device)
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    name = " ".join(str(value) for value in record["device"].values())[:_MODEL_TEXT]
    return f"{name} {labelled_hash('platform/1', text.encode())}"
