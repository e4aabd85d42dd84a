"""Fitting scores to a job's bank, and saying how good they are."""

from __future__ import annotations

import json
import math
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyattr.attribution import (
    Attribution,
    empirical_influence,
    fit_datamodel,
    held_out_r2,
    lds,
    mislabel_auc,
)
from pyattr.datasets import Dataset
from pyattr.errors import bad_value
from pyattr.jobs.job import NOT_KEYS, Fit, Job
from pyattr.jobs.rows import TrainedRows, trained_rows
from pyattr.jobs.source import dataset_of
from pyattr.jobs.training import Part, parts_of, train
from pyattr.masks import Masks
from pyattr.retraining.bank import Bank
from pyattr.retraining.executors import Executor
from pyattr.retraining.scheduling import Progress

__all__ = ["SCHEMA", "attribute", "fit"]

SCHEMA: Final = "pyattr-attribute/1"
_ATTRIBUTION: Final = "attribution.safetensors"
_QUALITY: Final = "quality.json"
_QUANTILES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


def attribute(
    job: Job,
    executor: Executor | None = None,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Train what is missing, fit, and write the attribution and its quality.

    Parameters
    ----------
    job : Job
    executor, tell
        As for `pyattr.jobs.train`.

    Returns
    -------
    dict
        What ``quality.json`` holds.

    Raises
    ------
    ValueError
        If the job is wrong, a chunk of the bank is damaged, or the fit is impossible.
    RuntimeError, OSError
        If training or writing cannot go on.
    """
    job.out_folder.mkdir(parents=True, exist_ok=True)
    return fit(job, train(job, executor, tell))


def fit(job: Job, bank: Bank) -> dict[str, Any]:
    """Fit scores to a bank that is complete, and write them; see `attribute`."""
    try:
        return _fit(job, bank)
    except OSError as error:
        if error.filename is not None or error.strerror is None:
            raise
        said = f"{error.strerror}; the bank is whole, and the same command goes on"
        raise OSError(f"{job.out_folder}: {said}") from error


def _fit(job: Job, bank: Bank) -> dict[str, Any]:
    parts = {part.name: part for part in parts_of(job, bank)}
    started = time.perf_counter()
    with trained_rows(bank, parts["fit"], job.out_folder) as rows:
        if len(rows.masks) < 2:
            raise bad_value("models", "at least 2 that were trained", _said(rows))
        attribution = _estimate(rows.masks, rows.outputs, job.fit, job.models.design)
        fitted = _rows_record(rows) | {"seconds": time.perf_counter() - started}
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "job": {k: v for k, v in msgspec.to_builtins(job).items() if k not in NOT_KEYS},
        "manifest": bank.manifest.record(),
        "fit": fitted | {"method": attribution.method},
        "details": {name: _summary(values) for name, values in attribution.details.items()},
        "platforms": bank.platforms(),
    }
    if "held_out" in parts:
        record["held_out"] = _held_out(bank, parts["held_out"], attribution, job.out_folder)
    record |= _what_the_data_tell(job, attribution)
    attribution.save(job.out_folder / _ATTRIBUTION)
    plain: dict[str, Any] = _plain(record)
    _write_whole(job.out_folder / _QUALITY, plain)
    return plain


def _estimate(masks: Masks, outputs: ArrayLike, how: Fit, design: Any) -> Attribution:
    if how.method == "influence":
        return empirical_influence(masks, outputs, design=design)
    return fit_datamodel(masks, outputs, how.method, lambdas=how.lambdas, design=design)


def _what_the_data_tell(job: Job, attribution: Attribution) -> dict[str, Any]:
    """How well the scores find wrong labels; with sellers what each of them holds."""
    if job.data is None or (job.data.sellers is None and job.data.flip_fraction == 0.0):
        return {}
    data = dataset_of(job)
    owners, flipped = job.data.owners(data, job.folder), data.train_flipped
    if owners is not None:
        return {"sellers": _what_sellers_hold(data, owners)}
    if flipped is None or not 0 < flipped.sum() < flipped.size:
        return {}
    return {"mislabel_auc": mislabel_auc(attribution, flipped)}


def _what_sellers_hold(data: Dataset, owners: NDArray[np.int64]) -> dict[str, Any]:
    """Counts of each seller's examples: all, by label as they were trained on, and those with wrong ones."""
    n_sellers = int(owners.max()) + 1
    counts = {
        name: np.bincount(owners[data.train_labels == label], minlength=n_sellers)
        for label, name in enumerate(data.class_names)
    }
    held: dict[str, Any] = {"n_examples": np.bincount(owners), "n_by_label": counts}
    if data.train_flipped is not None:
        held["n_flipped"] = np.bincount(owners, data.train_flipped).astype(int)
    return held


def _held_out(bank: Bank, part: Part, attribution: Attribution, folder: Path) -> dict[str, Any]:
    """How well the scores predict models that they were not fitted to."""
    with trained_rows(bank, part, folder) as rows:
        outputs = np.array(rows.outputs)
        return _rows_record(rows) | {
            "lds": _summary(lds(attribution, rows.masks, outputs)),
            "r2": _summary(held_out_r2(attribution, rows.masks, outputs)),
        }


def _rows_record(rows: TrainedRows) -> dict[str, Any]:
    return {
        "n_models": rows.n_models,
        "n_used": len(rows.masks),
        "n_failed": rows.n_failed,
        "n_left_out_with_their_complement": rows.n_left_out,
        "failures": [
            {"seed": f.seed, "row": f.row, "status": f.status.name.lower(), "message": f.message}
            for f in rows.failures
        ],
    }


def _said(rows: TrainedRows) -> str:
    first = f"; row {rows.failures[0].row}: {rows.failures[0].message}" if rows.failures else ""
    return f"{len(rows.masks)} of {rows.n_models}{first}"


def _summary(values: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Mean, least, quartiles and largest over targets, and each of them."""
    known = values[np.isfinite(values)]
    if not known.size:
        return {"mean": None, "quantiles": None, "per_target": values}
    quantiles = dict(zip(_QUANTILES, np.quantile(known, _QUANTILES), strict=True))
    return {"mean": known.mean(), "quantiles": quantiles, "per_target": values}


def _plain(value: Any) -> Any:
    """Turn a value into JSON; None for NaN and infinities."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _write_whole(path: Path, record: dict[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            json.dump(record, file, indent=1, ensure_ascii=False, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
