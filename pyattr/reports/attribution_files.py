"""What an attribution's folder holds: the scores, their quality, and the data and bank behind them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from pyattr.attribution import Attribution, load_attribution
from pyattr.datasets import Dataset, at_hand
from pyattr.errors import bad_value
from pyattr.jobs.job import Job
from pyattr.jobs.source import dataset_of
from pyattr.retraining.bank import Bank
from pyattr.retraining.bank_format import Status, statuses

__all__ = ["Failed", "Quality", "Summary", "dataset_at_hand", "fresh_models", "read"]

_ATTRIBUTION: Final = "attribution.safetensors"
_QUALITY: Final = "quality.json"
_MOST_BYTES: Final = 1 << 28
_SHOWN_MODELS: Final = 256


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over targets: its mean, quartiles, and each of them; None where it is not known."""

    mean: float | None
    quantiles: dict[str, float] | None
    per_target: list[float | None]

    @property
    def median(self) -> float | None:
        """Of the targets where it is known."""
        return None if self.quantiles is None else self.quantiles.get("0.5")

    @property
    def values(self) -> NDArray[np.float64]:
        """(n_targets,) float64, NaN where it is not known."""
        return np.array(self.per_target, np.float64)


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A training that gave no outputs."""

    seed: int
    row: int
    status: str
    message: str


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """Models that scores were fitted to."""

    n_models: int
    n_used: int
    n_failed: dict[str, int]
    failures: list[Failed]
    seconds: float
    method: str


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """How well the scores predict models that they were not fitted to."""

    n_used: int
    lds: Summary
    r2: Summary


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """What ``quality.json`` says, as far as it is shown."""

    schema: Literal["pyattr-attribute/1"]
    job: Job
    manifest: dict[str, Any]
    fit: Fitted
    details: dict[str, Summary]
    held_out: HeldOut | None = None
    mislabel_auc: float | None = None


def read(folder: Path) -> tuple[Attribution, Quality | None]:
    """Read scores, and their quality if there is a file of it.

    Raises
    ------
    ValueError
        If a file is not what its name says, or the two do not belong together.
    OSError
        If the scores cannot be read.
    """
    try:
        attribution = load_attribution(folder / _ATTRIBUTION)
    except (SafetensorError, KeyError) as error:
        raise bad_value(str(folder / _ATTRIBUTION), "scores that pyattr saved", error) from error
    file = folder / _QUALITY
    if not file.is_file():
        return attribution, None
    if file.stat().st_size > _MOST_BYTES:
        raise bad_value(str(file), f"at most {_MOST_BYTES} bytes", file.stat().st_size)
    try:
        quality = msgspec.json.decode(file.read_bytes(), type=Quality)
    except msgspec.MsgspecError as error:
        raise bad_value(str(file), "what `pyattr attribute` writes", error) from error
    for summary in _summaries(quality):
        if len(summary.per_target) != attribution.n_targets:
            expected = f"figures of {attribution.n_targets} targets, as in {_ATTRIBUTION}"
            raise bad_value(str(file), expected, len(summary.per_target))
    return attribution, quality


def _summaries(quality: Quality) -> list[Summary]:
    held_out = [] if quality.held_out is None else [quality.held_out.lds, quality.held_out.r2]
    return [*quality.details.values(), *held_out]


def dataset_at_hand(
    attribution: Attribution, quality: Quality | None
) -> tuple[Dataset | None, str]:
    """The job's dataset, if it lies on this machine and is the one that was trained on.

    Returns
    -------
    dataset : Dataset or None
    why : str
        Why there is none.
    """
    if quality is None or quality.job.data is None:
        return None, "nothing here says what the examples look like"
    data = quality.job.data
    if not at_hand(data.name, data.path):
        return None, f"{data.name} is not on this machine"
    try:
        dataset = dataset_of(quality.job)
    except (ValueError, OSError, RuntimeError) as error:
        return None, f"{data.name} cannot be read here ({error})"
    if (dataset.n_train, dataset.n_test) != (attribution.n_train, attribution.n_targets):
        return None, f"{data.name} here has other numbers of examples"
    recipe = quality.manifest.get("recipe")
    stated = recipe.get("crc32") if isinstance(recipe, dict) else None
    found = {
        "train_features": zlib.crc32(dataset.train_images.data),
        "train_labels": zlib.crc32(dataset.train_labels.data),
        "test_features": zlib.crc32(dataset.test_images.data),
        "test_labels": zlib.crc32(dataset.test_labels.data),
    }
    if isinstance(stated, dict) and any(stated.get(k, v) != v for k, v in found.items()):
        return None, f"{data.name} here is not what the models were trained on"
    return dataset, ""


def fresh_models(
    folder: Path, attribution: Attribution, quality: Quality | None, targets: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Predicted and true outputs of some held-out models, if the job's bank lies where it was.

    Parameters
    ----------
    folder : Path
    attribution, quality
        From `read`.
    targets : sequence of int

    Returns
    -------
    predicted, true : (n_models, n_shown) float32
        Or None.
    """
    if quality is None or quality.held_out is None or "://" in quality.job.bank:
        return None
    out = Path(quality.job.out)
    place = folder.absolute()
    if not out.is_absolute() and place.parts[-len(out.parts) :] != out.parts:
        return None
    base = Path(*place.parts[: -len(out.parts)]) if not out.is_absolute() else place.parent
    try:
        bank = Bank.open(base / quality.job.bank)
        seed, m = quality.job.models.second_seed, bank.manifest
        if (m.n_train, m.n_targets) != (attribution.n_train, attribution.n_targets):
            return None
        n_chunks = min(-(-_SHOWN_MODELS // m.chunk_rows), len(bank.stored(seed)))
        if not n_chunks:
            return None
        outputs = np.concatenate([bank.read(seed, chunk) for chunk in range(n_chunks)])
        masks, _ = bank.runs(seed, 0, n_chunks)
    except (OSError, KeyError, ValueError):  # a page without this picture is better than none
        return None
    kept = np.flatnonzero(statuses(outputs) == Status.TRAINED)[:_SHOWN_MODELS]
    shown = list(targets)
    return attribution.select(shown).predict(masks[kept]), outputs[kept][:, shown]
