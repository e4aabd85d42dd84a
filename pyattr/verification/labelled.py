"""Verdicts as tables with a named axis: ``target``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from pyattr.array_checks import axis_labels
from pyattr.optional import optional_module

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from pyattr.verification.verdict import Verdict

__all__ = ["to_dataframe", "to_xarray"]

_FACTS = (
    "reason", "method", "bound", "epsilon", "delta", "n_retrained", "n_prover_retrained",
)  # fmt: skip


def to_dataframe(verdict: Verdict, target: ArrayLike | None) -> pd.DataFrame:
    """See `Verdict.to_dataframe`."""
    labels = axis_labels("target", target, verdict.n_targets)
    pandas = optional_module("pandas", "interchange")
    index = pandas.Index(labels, name="target")
    frame: pd.DataFrame = pandas.DataFrame(_columns(verdict), index=index)
    return frame


def to_xarray(verdict: Verdict, target: ArrayLike | None) -> xr.Dataset:
    """See `Verdict.to_xarray`."""
    labels = {"target": axis_labels("target", target, verdict.n_targets)}
    variables = {name: ("target", values) for name, values in _columns(verdict).items()}
    facts = {"outcome": verdict.outcome.value, "relative": int(verdict.relative)}
    facts |= {name: getattr(verdict, name) for name in _FACTS}
    dataset: xr.Dataset = optional_module("xarray", "interchange").Dataset(variables, labels, facts)
    return dataset


def _columns(verdict: Verdict) -> dict[str, Any]:
    """Copies of what a verdict says of each target."""
    columns: dict[str, Any] = {
        name: np.array(getattr(verdict, name), dtype=np.float64)
        for name in ("gap", "gap_lower", "gap_upper")
    }
    return columns | {"outcome": np.array([outcome.value for outcome in verdict.outcomes])}
