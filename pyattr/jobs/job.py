"""What a job file says, and where in it a key stands."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from pyattr.jobs.places import placed
from pyattr.subject.data import Data

__all__ = ["NOT_KEYS", "OWN", "Fit", "Job", "Models"]

OWN: Final = "own"


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
        see `pyattr.jobs.chunks.usual_chunk`.
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
    folder, file, text : str
        Of the job file, as it was read; no keys, so no file can say them.
    """

    recipe: dict[str, Any]
    models: Models
    data: Data | None = None
    fit: Fit = Fit()
    bank: str = "bank"
    out: str = "attribution"
    folder: str = ""
    file: str = ""
    text: str = ""

    @property
    def bank_url(self) -> str:
        """Where the bank lies, relative to nothing."""
        return self.bank if "://" in self.bank else str(Path(self.folder, self.bank))

    @property
    def out_folder(self) -> Path:
        """Where results go."""
        return Path(self.folder, self.out)

    def placed(self) -> AbstractContextManager[None]:
        """Put file and line in front of a message that begins with a key of this job."""
        return placed(self.file, self.text, _TABLES)


NOT_KEYS: Final = ("folder", "file", "text")
_TABLES: Final = tuple(name for name in Job.__struct_fields__ if name not in NOT_KEYS)
