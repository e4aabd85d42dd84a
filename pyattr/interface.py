"""The one interface between models and everything that needs them retrained."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from pyattr.masks import Masks

__all__ = ["Retrain"]


class Retrain(Protocol):
    """``retrain(masks, seeds) -> outputs``: f(x, s) of many (x, s).

    Any callable of this shape works: `pyattr.retrain_with` around a plain train function, an ensemble,
    a cluster, a recorded bank, a simulation.
    """

    def __call__(self, masks: Masks, seeds: npt.NDArray[np.uint64], /) -> npt.NDArray[np.floating]:
        """Train one model a row and return its outputs.

        Parameters
        ----------
        masks : Masks
            (n, n_train): which examples (or groups of examples) each model is trained on.
        seeds : (n,) uint64
            Everything random in run j comes from ``seeds[j]``.

        Returns
        -------
        (n, n_targets) float32
            Row j depends on mask j and seed j alone.
        """
