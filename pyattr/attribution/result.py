"""What every attribution method returns: scores, an intercept, and how to save them.

Scores are in the 0/1 coding: ``scores[i, t]`` is the change of the predicted output `t` when
training example `i` goes in, and the prediction is ``g(x) = intercept + Σ_i x_i scores[i]``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyattr.attribution.checks import refuse_not_finite, two_dimensional
from pyattr.attribution.file_format import DETAIL, read_tensors, write_tensors
from pyattr.attribution.labelled import to_dataframe, to_xarray
from pyattr.errors import bad_value, check_probability
from pyattr.kernels import packed_matmul
from pyattr.notebook import card

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from pyattr.masks import Masks

__all__ = ["Attribution", "load_attribution"]

Targets: TypeAlias = int | slice | list[int] | NDArray[np.integer[Any]] | NDArray[np.bool_]


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Attribution:
    """One score per training example and target; immutable.

    ``scores[i, t]`` is what output t gains, in units of the output, when example i is in the subset:
    predictions are ``intercept + Σ_i x_i scores[i]`` with x_i = 1 for an example that is in and 0 for one
    that is not, which other docstrings call the 0/1 coding.

    Parameters
    ----------
    scores : (n_train, n_targets) array_like
        In units of the output; (n_train,) means one target. Copied to float32, finite.
    intercept : (n_targets,) array_like, optional
        Prediction for the empty training set; zeros if not given. A scalar serves all targets.
    standard_error : (n_train, n_targets) array_like, optional
        Standard error of each score; NaN where it cannot be estimated.
    method : str
        Name of the estimator; "given" for scores that came from elsewhere.
    design : str
        Masks that the scores were fitted on: "iid", "complement", "leave-one-out", or "given".
    details : mapping of str to (n_targets,) array_like
        Small per-target facts about the fit, such as the chosen ``lambda``; kept as float64.

    Raises
    ------
    ValueError
        If a shape does not fit, or a value is NaN or outside the range of float32; the message
        names the first bad target.
    """

    scores: NDArray[np.float32]
    intercept: NDArray[np.float32]
    standard_error: NDArray[np.float32] | None
    method: str
    design: str
    details: Mapping[str, NDArray[np.float64]]

    def __init__(
        self,
        scores: ArrayLike,
        intercept: ArrayLike | None = None,
        standard_error: ArrayLike | None = None,
        method: str = "given",
        design: str = "given",
        details: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        matrix = _finite("scores", two_dimensional("scores", scores))
        if min(matrix.shape) < 1:
            raise bad_value("scores", "at least one example and one target", matrix.shape)
        n_targets = matrix.shape[1]
        fields = {
            "scores": matrix,
            "intercept": _intercept(0.0 if intercept is None else intercept, n_targets),
            "standard_error": None
            if standard_error is None
            else _standard_error(standard_error, matrix.shape),
            "method": method,
            "design": design,
            "details": MappingProxyType(
                {name: _detail(name, value, n_targets) for name, value in (details or {}).items()}
            ),
        }
        for name, value in fields.items():
            # A frozen dataclass sets its own fields this way; afterwards nothing can.
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return (
            f"Attribution(n_train={self.n_train}, n_targets={self.n_targets}, "
            f"method={self.method!r}, design={self.design!r})"
        )

    def _repr_html_(self) -> str:
        least, most = float(self.scores.min()), float(self.scores.max())
        facts = {
            "scores": f"{self.n_train:,} examples, {self.n_targets:,} targets",
            "method": self.method,
            "masks": self.design,
            "range of scores": f"{least:.3g} to {most:.3g} output units",
        }
        columns: dict[str, NDArray[Any]] = dict(self.details)
        if self.standard_error is not None:
            columns = {"standard error": self.standard_error, **columns}
        for name, values in columns.items():
            known = values[np.isfinite(values)]
            if known.size and np.isin(known, (0.0, 1.0)).all():  # yes or no
                facts[name] = f"{int(known.sum()):,} of {self.n_targets:,} targets"
            else:
                facts[name] = f"median {np.median(known):.3g}" if known.size else "not known"
        return card("Attribution", facts)

    @property
    def n_train(self) -> int:
        """Number of training examples."""
        return int(self.scores.shape[0])

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        return int(self.scores.shape[1])

    def predict(self, masks: Masks) -> NDArray[np.float32]:
        """Predict the outputs of models trained on the given subsets.

        Parameters
        ----------
        masks : Masks
            n_masks subsets of the same n_train examples.

        Returns
        -------
        (n_masks, n_targets) float32
            ``intercept + masks @ scores``.

        Raises
        ------
        ValueError
            If the masks are over another number of examples.
        """
        if masks.n_train != self.n_train:
            raise bad_value("masks", f"n_train = {self.n_train}", masks.n_train)
        return np.add(packed_matmul(masks.packed, self.scores), self.intercept)

    def variance(self, p: float) -> NDArray[np.float64]:
        """Variance of the prediction over random subsets.

        Parameters
        ----------
        p : float
            Probability that an example is in the subset, strictly between 0 and 1.

        Returns
        -------
        (n_targets,) float64
            ``p (1 - p) Σ_i scores[i]²``, in squared units of the output.
        """
        p = check_probability("p", p)
        squares = np.einsum("ij,ij->j", self.scores, self.scores, dtype=np.float64)
        return np.asarray(p * (1.0 - p) * squares)

    def select(self, targets: Targets) -> Attribution:
        """Keep some targets only.

        Parameters
        ----------
        targets : int, slice, list of int or (n_targets,) bool
            Which targets, in the order wanted.

        Returns
        -------
        Attribution
            With the chosen columns.

        Raises
        ------
        IndexError
            If a target does not exist.
        """
        index = np.atleast_1d(np.arange(self.n_targets)[targets])
        return Attribution(
            scores=self.scores[:, index],
            intercept=self.intercept[index],
            standard_error=None if self.standard_error is None else self.standard_error[:, index],
            method=self.method,
            design=self.design,
            details={name: value[index] for name, value in self.details.items()},
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file; a reader sees the old file or the whole new one.

        Parameters
        ----------
        path : str or path
            File to write or replace.
        """
        tensors: dict[str, NDArray[Any]] = {"scores": self.scores, "intercept": self.intercept}
        if self.standard_error is not None:
            tensors["standard_error"] = self.standard_error
        tensors |= {f"details.{name}": value for name, value in self.details.items()}
        write_tensors(Path(path), tensors, self.method, self.design)

    def to_dataframe(
        self, train: ArrayLike | None = None, target: ArrayLike | None = None
    ) -> pd.DataFrame:
        """Scores as a pandas table.

        Parameters
        ----------
        train : (n_train,) array_like, optional
            Labels of the examples, for the index ``train``; 0, 1, … if not given.
        target : (n_targets,) array_like, optional
            Labels of the targets, for the columns ``target``.

        Returns
        -------
        pandas.DataFrame
            (n_train, n_targets) float32; a copy. ``.stack()`` makes one row of each score.

        Raises
        ------
        ValueError
            If there is another number of labels.
        RuntimeError
            If pandas is missing; the message says which line installs it.
        """
        return to_dataframe(self, train, target)

    def to_xarray(
        self, train: ArrayLike | None = None, target: ArrayLike | None = None
    ) -> xr.Dataset:
        """Everything as an xarray dataset with dimensions ``train`` and ``target``.

        Parameters
        ----------
        train, target : array_like, optional
            Coordinates, as labels in `to_dataframe`.

        Returns
        -------
        xarray.Dataset
            ``scores``, ``intercept``, ``standard_error`` if there is one and ``details.<name>``;
            attributes ``method`` and ``design``. A copy.

        Raises
        ------
        ValueError
            If there is another number of labels.
        RuntimeError
            If xarray is missing; the message says which line installs it.
        """
        return to_xarray(self, train, target)


def load_attribution(path: str | os.PathLike[str]) -> Attribution:
    """Read a file that `Attribution.save` wrote, trusting nothing in it.

    Parameters
    ----------
    path : str or path
        A safetensors file; no code in it is ever run.

    Returns
    -------
    Attribution

    Raises
    ------
    ValueError
        If the file is not a whole attribution: a tensor missing or unknown, or of another type
        or shape, or a value that is not finite.
    FileNotFoundError
        If there is no such file.
    """
    tensors, metadata = read_tensors(Path(path))
    return Attribution(
        scores=tensors["scores"],
        intercept=tensors["intercept"],
        standard_error=tensors.get("standard_error"),
        method=metadata["method"],
        design=metadata["design"],
        details={match[1]: tensors[key] for key in tensors if (match := DETAIL.fullmatch(key))},
    )


def _finite(name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    """Copy to read-only float32, refusing what float32 cannot hold."""
    with np.errstate(over="ignore"):
        result = np.array(values, dtype=np.float32, order="C")
    refuse_not_finite(name, result)
    result.setflags(write=False)
    return result


def _intercept(values: ArrayLike, n_targets: int) -> NDArray[np.float32]:
    result = np.asarray(values)
    if result.ndim == 0:
        result = np.full(n_targets, result)
    if result.shape != (n_targets,) or result.dtype.kind not in "biuf":
        raise bad_value("intercept", f"({n_targets},) real", f"{result.shape} {result.dtype}")
    return _finite("intercept", result)


def _standard_error(values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
    result = np.array(two_dimensional("standard_error", values), dtype=np.float32, order="C")
    if result.shape != shape:
        raise bad_value("standard_error", f"shape {shape}", result.shape)
    if np.isinf(result).any() or (result < 0).any():
        raise bad_value("standard_error", "numbers of at least 0, or NaN", "others")
    result.setflags(write=False)
    return result


def _detail(name: str, values: ArrayLike, n_targets: int) -> NDArray[np.float64]:
    if not DETAIL.fullmatch(f"details.{name}"):
        raise bad_value("details", "names of lower-case letters, digits and _", repr(name))
    result = np.array(values, dtype=np.float64)
    if result.shape != (n_targets,):
        raise bad_value(f"details[{name!r}]", f"shape ({n_targets},)", result.shape)
    result.setflags(write=False)
    return result
