"""The job file: TOML, checked before anything is trained, with errors that name key and line."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from pyattr.attribution.estimators import check_lambdas
from pyattr.errors import bad_value, check_count, check_probability, did_you_mean, one_of
from pyattr.jobs.job import OWN, Job, Models
from pyattr.jobs.misfits import NONE, misfit, no_toml, refuse_unknown, shown, unknown_key
from pyattr.jobs.places import placed
from pyattr.subject.data import Data
from pyattr.subject.own_code import is_name

__all__ = ["KINDS", "load_job"]

KINDS: Final = ("softmax", "mlp", "resnet9", OWN)
"""Names of `pyattr.retraining.recipes`, which takes long to import, and one's own."""

_OF_IMAGES: Final = "resnet9"  # the recipe that reads images, not rows of features
_OWN_KEYS: Final = ("kind", "retrain", "n_train", "n_targets", "settings")
_MAX_SEED: Final = (1 << 64) - 1
_MOST_MODELS: Final = 1 << 31  # rows of `sample_masks`, rounded up to chunks
_MOST_CHUNK: Final = 1 << 20


def load_job(path: str | os.PathLike[str]) -> Job:
    """Read and check a job file.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Job

    Raises
    ------
    ValueError
        If it is not TOML, or a key is missing, unknown or wrong; the message names file, line and key.
    OSError
        If it cannot be read.
    """
    file = Path(path)
    text, values = _read(file)
    place = {"folder": str(file.absolute().parent), "file": str(file), "text": text}
    with placed(str(file), text):
        refuse_unknown(values, Job)
        try:
            job = msgspec.convert({**values, **place}, Job)
        except msgspec.ValidationError as error:
            raise misfit(error, values, Job) from error
        _check(job)
    return job


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8-sig")  # editors of Windows begin files with a mark
    except UnicodeDecodeError as error:
        raise bad_value(
            str(file), "a TOML file, in UTF-8", f"other bytes ({error.reason})"
        ) from error
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise no_toml(str(file), text, error) from error


def _check(job: Job) -> None:
    """Check what types do not say."""
    for name in ("bank", "out"):
        if not getattr(job, name):
            raise bad_value(name, "the name of a folder", repr(""))
    kind = job.recipe.get("kind", NONE)
    if kind not in KINDS:
        got = shown(kind) + did_you_mean(kind, KINDS) if "kind" in job.recipe else kind
        raise bad_value("recipe.kind", one_of(KINDS), got)
    if kind == OWN:
        if job.data is not None:
            expected = f"no such table with recipe.kind = '{OWN}', which loads its own data"
            raise bad_value("data", expected, "one")
        _check_own(job.recipe)
    elif job.data is None:
        expected = f"a table that says what to train on, unless recipe.kind is '{OWN}'"
        raise bad_value("data", expected, NONE)
    else:
        if not isinstance(job.recipe.get("device", ""), str):
            raise bad_value("recipe.device", "'cpu' or 'cuda'", shown(job.recipe["device"]))
        _check_data(job.data, kind)
    _check_models(job.models)
    if job.fit.lambdas is not None:
        try:
            check_lambdas(job.fit.lambdas, job.fit.method)
        except ValueError as error:
            raise ValueError(f"fit.{error}") from error


def _check_models(models: Models) -> None:
    _check_range("models.count", models.count, 2, _MOST_MODELS)
    _check_range("models.held_out", models.held_out, 0, _MOST_MODELS)
    check_probability("models.p", models.p)
    if models.design == "complement" and models.p != 0.5:
        raise bad_value("models.p", "1/2 with the complement design", models.p)
    if models.chunk is not None:
        _check_range("models.chunk", models.chunk, 1, _MOST_CHUNK)
        if models.design == "complement" and models.chunk % 2:
            expected = "an even number with the complement design"
            raise bad_value("models.chunk", expected, models.chunk)
    _check_range("models.seed", models.seed, 0, _MAX_SEED)
    if models.held_out_seed is not None:
        _check_range("models.held_out_seed", models.held_out_seed, 0, _MAX_SEED)
    elif models.seed == _MAX_SEED:
        raise bad_value("models.seed", "a smaller one, or models.held_out_seed", models.seed)
    if models.second_seed == models.seed:
        raise bad_value("models.held_out_seed", "another than models.seed", models.seed)


def _check_range(key: str, value: int, least: int, most: int) -> None:
    check_count(key, value, least)
    if value > most:
        raise bad_value(key, f"at most {most:,}", value)


def _check_data(data: Data, kind: str) -> None:
    check_count("data.pool", data.pool, 1)
    if data.feed == "ffcv" and kind != _OF_IMAGES:
        expected = f"'memory' unless recipe.kind is '{_OF_IMAGES}'"
        raise bad_value("data.feed", expected, repr(data.feed))
    if isinstance(data.sellers, int):
        check_count("data.sellers", data.sellers, 2)
    elif data.seller_skew != "none":
        got = NONE if data.sellers is None else "a file, which says who owns what"
        raise bad_value("data.sellers", "a number to go with data.seller_skew", got)


def _check_own(recipe: dict[str, Any]) -> None:
    for name in recipe:
        if name not in _OWN_KEYS:
            error = unknown_key(f"recipe.{name}", _OWN_KEYS)
            advice = (
                "" if "mean" in str(error) else "; settings of one's own go into recipe.settings"
            )
            raise ValueError(f"{error}{advice}")
    retrain = recipe.get("retrain", NONE)
    if not is_name(retrain):
        got = shown(retrain) if "retrain" in recipe else NONE
        raise bad_value("recipe.retrain", "'module:callable'", got)
    for name in ("n_train", "n_targets"):
        check_count(f"recipe.{name}", recipe.get(name, NONE), 1)
    if not isinstance(recipe.get("settings", {}), dict):
        raise bad_value("recipe.settings", "a table", shown(recipe["settings"]))
