"""What pyDVL's results are made of.

pyDVL values data for one utility: ``pydvl.valuation.result.ValuationResult(**pydvl_arguments(a, t))``.
At p = 1/2 empirical influence is its maximum-sample-reuse Banzhaf value.

Tested with pyDVL 0.10.0 where it is installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattr.attribution import Attribution
from pyattr.errors import bad_value

__all__ = ["pydvl_arguments"]


def pydvl_arguments(attribution: Attribution, target: int) -> dict[str, Any]:
    """Keyword arguments of ``ValuationResult`` for one target.

    Parameters
    ----------
    attribution : Attribution
    target : int
        The output that is the utility.

    Returns
    -------
    dict
        ``values`` (n_train,) float64; ``indices`` and ``counts`` (n_train,) int64; ``variances``
        (n_train,) float64 if there are standard errors; ``algorithm``. pyDVL's ``stderr`` is
        √(variances / counts): counts are 1, since the number of models that stands behind a score
        is not in an attribution, and variances the squared standard errors.

    Raises
    ------
    ValueError
        If there is no such target.
    """
    if not 0 <= target < attribution.n_targets:
        raise bad_value("target", f"a number in [0, {attribution.n_targets})", target)
    arguments: dict[str, Any] = {
        "values": attribution.scores[:, target].astype(np.float64),
        "indices": np.arange(attribution.n_train),
        "counts": np.ones(attribution.n_train, np.int64),
        "algorithm": attribution.method,
    }
    if attribution.standard_error is not None:
        errors = attribution.standard_error[:, target].astype(np.float64)
        arguments["variances"] = errors**2
    return arguments
