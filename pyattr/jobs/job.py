"""The job file: TOML, checked before anything is trained, with errors that name key and line."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from pyattr.errors import bad_value, check_count, check_probability
from pyattr.subject.data import Data
from pyattr.subject.own_code import is_name

__all__ = ["OWN", "Fit", "Job", "Models", "load_job"]

OWN: Final = "own"
_OF_IMAGES: Final = "resnet9"  # the recipe that reads images, not rows of features
_MAX_SEED: Final = (1 << 64) - 1


class Models(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Table ``[models]``: which subsets are trained.

    Attributes
    ----------
    count : int
        Models to fit scores to. Whole chunks are trained, so up to `chunk` - 1 more.
    held_out : int
        Fresh models that show how well the scores predict.
    p : float
        Share of a subset.
    design : {"iid", "complement"}
    seed, held_out_seed : int
        Row j of either part is row j of ``sample_masks(…, seed=…)`` and ``sample_seeds(…, seed=…)``;
        by default 0 and one more than `seed`.
    chunk : int, optional
        Models stored together: what a killed worker loses at most. By default that of the bank, else
        as many as the recipe trains at a time.
    """

    count: int
    held_out: int = 256
    p: float = 0.5
    design: Literal["iid", "complement"] = "iid"
    seed: int = 0
    held_out_seed: int | None = None
    chunk: int | None = None

    @property
    def second_seed(self) -> int:
        """Seed of the held-out models."""
        return self.seed + 1 if self.held_out_seed is None else self.held_out_seed


class Fit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Table ``[fit]``: the estimator.

    Attributes
    ----------
    method : {"bayes", "lasso", "ridge", "ols", "influence"}
        As `pyattr.fit_datamodel` and `pyattr.empirical_influence`.
    lambdas : list of float, optional
        Candidates, for lasso and ridge.
    """

    method: Literal["bayes", "lasso", "ridge", "ols", "influence"] = "bayes"
    lambdas: list[float] | None = None


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A job file.

    Attributes
    ----------
    recipe : dict
        Table ``[recipe]``: `kind`, `device` and the settings of a recipe of `pyattr.retraining.recipes`;
        or ``kind = "own"`` with `retrain` ("module:callable"), `n_train`, `n_targets` and any `settings`
        that determine its outputs.
    models : Models
    data : Data, optional
        Table ``[data]``. Not with one's own retrain.
    fit : Fit
    bank : str
        Folder, relative to the job file, or URL of an object store.
    out : str
        Folder for the attribution and its quality.
    folder : str
        Of the job file; not a key.
    """

    recipe: dict[str, Any]
    models: Models
    data: Data | None = None
    fit: Fit = Fit()
    bank: str = "bank"
    out: str = "attribution"
    folder: str = ""

    @property
    def bank_url(self) -> str:
        """Where the bank lies, relative to nothing."""
        return self.bank if "://" in self.bank else str(Path(self.folder, self.bank))

    @property
    def out_folder(self) -> Path:
        """Where results go."""
        return Path(self.folder, self.out)


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
    text = file.read_text(encoding="utf-8")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise bad_value(str(file), "a TOML file", error) from error
    try:
        if "folder" in values:
            raise bad_value("folder", "no such key", repr(values["folder"]))
        values["folder"] = str(file.absolute().parent)
        job = msgspec.convert(values, Job)
        _check(job)
    except msgspec.ValidationError as error:
        key, told = _words(str(error))
        raise ValueError(f"{_place(file, text, key)}: {told}") from error
    except ValueError as error:
        key, _, told = str(error).partition(": ")
        raise ValueError(f"{_place(file, text, key)}: {told}") from error
    return job


def _check(job: Job) -> None:
    """Check what types do not say."""
    models, recipe = job.models, job.recipe
    check_count("models.count", models.count, 2)
    check_count("models.held_out", models.held_out)
    check_probability("models.p", models.p)
    if models.design == "complement" and models.p != 0.5:
        raise bad_value("models.p", "1/2 with the complement design", models.p)
    if models.chunk is not None:
        check_count("models.chunk", models.chunk, 1)
        if models.design == "complement" and models.chunk % 2:
            expected = "an even number with the complement design"
            raise bad_value("models.chunk", expected, models.chunk)
    for name, seed in (("seed", models.seed), ("held_out_seed", models.second_seed)):
        if not 0 <= seed <= _MAX_SEED:
            raise bad_value(f"models.{name}", "a number from 0 to 2^64 - 1", seed)
    if models.second_seed == models.seed:
        raise bad_value("models.held_out_seed", "another than models.seed", models.seed)
    if not isinstance(recipe.get("kind"), str):
        raise bad_value("recipe.kind", "the name of a recipe", recipe.get("kind", "none"))
    if (recipe["kind"] == OWN) != (job.data is None):
        expected = f"a table unless recipe.kind is '{OWN}', which loads its own data"
        raise bad_value("data", expected, "one" if job.data is not None else "none")
    if recipe["kind"] == OWN:
        _check_own(recipe)
    if job.data is not None:
        _check_data(job.data, recipe["kind"])


def _check_data(data: Data, kind: str) -> None:
    check_count("data.pool", data.pool, 1)
    if data.feed == "ffcv" and kind != _OF_IMAGES:
        expected = f"'memory' unless recipe.kind is '{_OF_IMAGES}'"
        raise bad_value("data.feed", expected, repr(data.feed))
    if isinstance(data.sellers, int):
        check_count("data.sellers", data.sellers, 2)
    elif data.seller_skew != "none":
        got = "none" if data.sellers is None else "a file, which says who owns what"
        raise bad_value("data.sellers", "a number to go with data.seller_skew", got)


def _check_own(recipe: dict[str, Any]) -> None:
    for name in recipe:
        if name not in ("kind", "retrain", "n_train", "n_targets", "settings"):
            expected = "retrain, n_train, n_targets or settings, of one's own"
            raise bad_value(f"recipe.{name}", expected, "another key")
    if not is_name(recipe.get("retrain")):
        raise bad_value("recipe.retrain", "'module:callable'", repr(recipe.get("retrain", "none")))
    for name in ("n_train", "n_targets"):
        check_count(f"recipe.{name}", recipe.get(name, "none"), 1)
    if not isinstance(recipe.get("settings", {}), dict):
        raise bad_value("recipe.settings", "a table", recipe["settings"])


# Names of keys, to guess which one was meant.
_NAMES: Final = sorted(
    {name for table in (Job, Data, Models, Fit) for name in table.__struct_fields__} - {"folder"}
)


def _words(message: str) -> tuple[str, str]:
    """Split what msgspec says into the key and the rest, in the words of this package."""
    said, _, path = message.partition(" - at `$")
    key = path.strip("`").removeprefix(".")
    said = said.replace("`", "'")
    for pattern in (r"missing required field '(.*)'", r"unknown field '(.*)'"):
        found = re.search(pattern, said)
        if found:
            key = f"{key}.{found[1]}" if key else found[1]
            if "missing" in said:
                return key, "needed, and not there"
            near = difflib.get_close_matches(found[1], _NAMES, 1)
            return key, f"unknown key; did you mean {near[0]!r}?" if near else "unknown key"
    return key, said[:1].lower() + said[1:]


def _place(file: Path, text: str, key: str) -> str:
    """File, line and key, the line if the key stands in the file by itself."""
    table, name = "", key.rpartition(".")
    for number, line in enumerate(text.splitlines(), 1):
        header = re.fullmatch(r"\s*\[([^\[\]]+)\]\s*(#.*)?", line)
        if header:
            table = header[1].strip()
            if table == key:
                return f"{file}, line {number}: {key}"
        elif table == name[0] and re.match(rf"\s*{re.escape(name[2])}\s*=", line):
            return f"{file}, line {number}: {key}"
    return f"{file}: {key}"
