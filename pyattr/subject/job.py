"""What is trained, described to another party.

A `Job` is a `Retrain` with a description that is complete: digests of the training records and of the
targets, and a recipe of plain values with everything else that an output depends on besides mask and
seed. Two jobs of one description train the same models, within a class of machines to the bit.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from pyattr.errors import check_count
from pyattr.interface import Retrain
from pyattr.protocol.hashing import labelled_hash
from pyattr.protocol.records import records_digest
from pyattr.subject.words import Setting, checked_recipe, checked_text
from pyattr.versions import installed_versions

__all__ = ["Job", "as_job"]

Arrays = Sequence[npt.NDArray[Any]]

_MODEL_TEXT: Final = 128  # characters of a device's name in a platform's
# Of a record, what belongs to the machine or stands elsewhere in the manifest.
_NOT_RECIPE: Final = (
    "recipe", "output", "n_train", "n_targets", "block", "arithmetic", "device", "crc32",
)  # fmt: skip


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
            platform=_torch_platform(record["device"], record["arithmetic"]),
            packages=("torch",),
        )


def as_job(found: object) -> Job | None:
    """A `Job`, or an ensemble described as one; None if it is neither."""
    if isinstance(found, Job):
        return found
    # A class has the methods of its instances.
    if isinstance(found, _DescribesItself) and not isinstance(found, type):
        return Job.of_ensemble(found)
    return None


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


def _torch_platform(device: str, arithmetic: str) -> str:
    """The device's name for people, and a digest of all that decides the last bits of a model."""
    from pyattr.retraining.platform import platform_class

    record = platform_class(device) | {"arithmetic": arithmetic}
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    name = " ".join(str(value) for value in record["device"].values())[:_MODEL_TEXT]
    return f"{name} {labelled_hash('platform/1', text.encode())}"
