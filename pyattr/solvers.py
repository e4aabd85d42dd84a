"""Solvers of many regressions on one shared Gram matrix; targets are split over threads.

Definitions, methods and accumulators are in ``csrc/coordinate_descent.hpp`` and
``csrc/scale_mixture.hpp``. Results are the same bytes for any number of threads. On the backend
"cuda" (``csrc/device_solvers.hpp``) Gram matrices and products may lie on the device already
(`pyattr.device`); mixtures have the bits of the CPU's, LASSO paths its bound of the duality gap.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyattr.backends import backend, compiled, cpu
from pyattr.device import DeviceArray, is_on_device
from pyattr.errors import bad_value
from pyattr.threads import over_outputs

__all__ = ["HeldOut", "LassoPaths", "MixtureFits", "fit_mixtures", "lasso_paths"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


class HeldOut(NamedTuple):
    """Moments of rows that were not fitted, about the means of those that were.

    Parameters
    ----------
    gram : (n_train, n_train) float32
    cross : (n_targets, n_train) float32
    square : (n_targets,) float64
    patience : int
        A path ends after this many λ without a new least error ...
    rise : float
        ... once the error is above ``1 + rise`` times the least.
    """

    gram: Float32 | DeviceArray
    cross: Float32 | DeviceArray
    square: Float64
    patience: int
    rise: float


class LassoPaths(NamedTuple):
    """Solutions of many targets for falling λ.

    Parameters
    ----------
    weights : (n_targets, n_lambdas, n_train) or (n_targets, n_train) float32
        At every λ, or at the last one fitted.
    gaps : (n_targets, n_lambdas) float64
        Duality gap over the target's mean square; NaN where not fitted.
    errors : (n_targets, n_lambdas) float64
        Held-out mean squared error; NaN where not fitted or nothing was held out.
    n_done : (n_targets,) int32
        How many λ were fitted.
    """

    weights: Float32
    gaps: Float64
    errors: Float64
    n_done: Int32


def lasso_paths(
    gram: Float32 | DeviceArray,
    cross: Float32 | DeviceArray,
    square: Float64,
    lambdas: Float64,
    *,
    tolerance: float = 1e-4,
    n_steps: Int32 | None = None,
    held_out: HeldOut | None = None,
    whole: bool = False,
) -> LassoPaths:
    """Minimise ``Σ residual² / 2m + λ Σ|w|`` for each target at each of its λ.

    Parameters
    ----------
    gram : (n_train, n_train) float32
        Xᵀ X / m of centred rows. With the backend "cuda" it may be on the device.
    cross : (n_targets, n_train) float32
        Xᵀ y / m; may be on the device too.
    square : (n_targets,) float64
        yᵀ y / m.
    lambdas : (n_targets, n_lambdas) float64
        Falling, at least 0.
    tolerance : float
        Bound of the duality gap, in units of `square`.
    n_steps : (n_targets,) int32, optional
        How many of the λ to fit; by default all.
    held_out : HeldOut, optional
        Rows that decide where a path ends.
    whole : bool
        Whether to return the weights at every λ.

    Returns
    -------
    LassoPaths
    """
    n_targets, n_train = cross.shape
    if lambdas.ndim != 2 or (np.diff(lambdas, axis=1) > 0).any() or (lambdas < 0).any():
        raise bad_value("lambdas", "a falling row of numbers of at least 0 a target", lambdas)
    steps = np.full(n_targets, lambdas.shape[1], np.int32) if n_steps is None else n_steps
    shape = (n_targets, lambdas.shape[1], n_train) if whole else (n_targets, n_train)
    weights = np.zeros(shape, np.float32)
    gaps, errors = np.full((2, *lambdas.shape), np.nan)
    n_done = np.zeros(n_targets, np.int32)
    paths = LassoPaths(weights, gaps, errors, n_done)
    given: tuple[Any, ...] = (square, np.ascontiguousarray(lambdas), steps, tolerance, held_out)
    if backend() == "cuda":
        compiled().lasso_paths(gram, cross, *given, *paths, n_train)
        return paths
    # The codes are made once, by the first thread that comes to a dense target, if any does.
    given = (cpu.GramCodes(_on_host(gram)), _on_host(cross), *given, *paths)
    over_outputs(1, n_targets, 1, lambda _b, _e, *part: cpu.lasso_paths(*given, *part))
    return paths


class MixtureFits(NamedTuple):
    """Posteriors of many targets under priors fitted to each of them.

    Parameters
    ----------
    weights, deviations : (n_targets, n_train) float32
        Posterior means and standard deviations.
    proportions : (n_targets, n_components) float32
        Fitted weights of the prior's components.
    noise : (n_targets,) float64
        Fitted noise variance.
    freedom : (n_targets,) float64
        Effective degrees of freedom over the number of rows.
    residual : (n_targets,) float64
        Mean squared residual of the fitted rows.
    sweeps : (n_targets,) int32
        Sweeps done; negative where the tolerance was not reached.
    """

    weights: Float32
    deviations: Float32
    proportions: Float32
    noise: Float64
    freedom: Float64
    residual: Float64
    sweeps: Int32


def fit_mixtures(
    gram: Float32 | DeviceArray,
    cross: Float32 | DeviceArray,
    square: Float64,
    n_rows: int,
    variances: Float32,
    *,
    proportions: Float32 | None = None,
    kept: Float64 | None = None,
    extra_rows: float = 0.0,
    normal: bool = False,
    tolerance: float = 1e-6,
    max_sweeps: int = 300,
) -> MixtureFits:
    """Posterior means under a scale mixture of normals fitted to each target by EM.

    Parameters
    ----------
    gram, cross, square
        As for `lasso_paths`.
    n_rows : int
        Their number m.
    variances : (n_targets, n_components) float32
        Variances of the prior's components, rising from 0; 2 to 16 components.
    proportions : (n_targets, n_components) float32, optional
        Where EM starts; by default all equal.
    kept : (n_points,) float64, optional
        What is left of a score's own precision where the scores are shrunk by a mean factor of
        0, ... 1, evenly spaced (`pyattr.attribution.spectrum.kept_precision`); by default 1:
        mean field.
    extra_rows : float
        How many rows to add at the mean subset, with an output one standard deviation from the
        mean that no score explains. With 1 a fit to few rows never passes for one without noise.
    normal : bool
        One normal prior instead, with its variance fitted too: the second of two components.
    tolerance : float
        Stop when a sweep changes the predictions' mean square by less, in units of `square`.
    max_sweeps : int

    Returns
    -------
    MixtureFits
    """
    (n_targets, n_train), n_components = cross.shape, variances.shape[1]
    if proportions is None:
        proportions = np.full(variances.shape, 1.0 / n_components, np.float32)
    fits = MixtureFits(
        np.zeros((n_targets, n_train), np.float32),
        np.zeros((n_targets, n_train), np.float32),
        proportions.copy(),
        square.copy(),
        np.zeros(n_targets),
        np.zeros(n_targets),
        np.zeros(n_targets, np.int32),
    )
    kept = np.ones(2) if kept is None else kept
    rules = (float(n_rows), kept, extra_rows, normal, max_sweeps, tolerance)
    given: tuple[Any, ...] = (square, variances, *rules, *fits)
    if backend() == "cuda":
        compiled().fit_mixtures(gram, cross, *given, n_train)
        return fits
    given = (_on_host(gram), _on_host(cross), *given)
    over_outputs(1, n_targets, 1, lambda _b, _e, *part: cpu.fit_mixtures(*given, *part))
    return fits


def _on_host(matrix: Float32 | DeviceArray) -> Any:
    if is_on_device(matrix):
        raise bad_value("gram, cross", 'use_backend("cuda") for arrays on a device', backend())
    return matrix
