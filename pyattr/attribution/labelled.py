"""Attributions as tables with named axes: ``train`` and ``target``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from pyattr.array_checks import axis_labels
from pyattr.optional import optional_module

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from pyattr.attribution.result import Attribution

__all__ = ["to_dataframe", "to_xarray"]


def to_dataframe(
    attribution: Attribution, train: ArrayLike | None, target: ArrayLike | None
) -> pd.DataFrame:
    """See `Attribution.to_dataframe`."""
    labels = _labels(attribution, train, target)
    pandas = optional_module("pandas", "interchange")
    frame: pd.DataFrame = pandas.DataFrame(
        attribution.scores,
        index=pandas.Index(labels["train"], name="train"),
        columns=pandas.Index(labels["target"], name="target"),
        copy=True,
    )
    return frame


def to_xarray(
    attribution: Attribution, train: ArrayLike | None, target: ArrayLike | None
) -> xr.Dataset:
    """See `Attribution.to_xarray`."""
    labels = _labels(attribution, train, target)
    axes = ("train", "target")
    variables: dict[str, Any] = {
        "scores": (axes, attribution.scores.copy()),
        "intercept": ("target", attribution.intercept.copy()),
    }
    if attribution.standard_error is not None:
        variables["standard_error"] = (axes, attribution.standard_error.copy())
    for name, values in attribution.details.items():
        variables[f"details.{name}"] = ("target", values.copy())
    facts = {"method": attribution.method, "design": attribution.design}
    dataset: xr.Dataset = optional_module("xarray", "interchange").Dataset(variables, labels, facts)
    return dataset


def _labels(
    attribution: Attribution, train: ArrayLike | None, target: ArrayLike | None
) -> dict[str, Any]:
    return {
        "train": axis_labels("train", train, attribution.n_train),
        "target": axis_labels("target", target, attribution.n_targets),
    }
