"""Trainers of many small models on the processor, each on its own examples.

Methods, layouts of weights and accumulators are in ``csrc/softmax_regression.hpp`` and
``csrc/network_sgd.hpp``. Row j of a result depends on row j of the arguments alone, and its bits are
the same on every x86-64 processor. A call runs on the calling thread, without the interpreter's lock.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyattr.backends import cpu

__all__ = [
    "LinearShape",
    "NetworkProblem",
    "NetworkShape",
    "SoftmaxProblem",
    "fit_softmax_regressions",
    "linear_logits",
    "network_logits",
    "train_networks",
]

_LANES = 16  # kProductLanes of csrc/small_products.hpp

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]


def _whole_lanes(size: int) -> int:
    return -(-size // _LANES) * _LANES


class LinearShape(NamedTuple):
    """Sizes of a linear model, and how its weights lie in one vector."""

    n_features: int
    n_classes: int

    def flat(self, weights: Float32, bias: Float32 | np.float32) -> Float32:
        """Lay out weights as the kernels take them.

        Parameters
        ----------
        weights : (..., n_features, n_classes) float32
            Or of a shape that broadcasts to it.
        bias : (..., n_classes) float32
            Likewise.

        Returns
        -------
        (..., n_weights) float32
        """
        width, lead = _whole_lanes(self.n_features), weights.shape[:-2]
        n_bias = _whole_lanes(self.n_classes)
        flat = np.zeros((*lead, self.n_classes * width + n_bias), np.float32)
        by_class = flat[..., : self.n_classes * width].reshape(*lead, self.n_classes, width)
        by_class[..., : self.n_features] = np.swapaxes(weights, -1, -2)
        flat[..., : self.n_classes * width] = by_class.reshape(*lead, -1)
        flat[..., self.n_classes * width :][..., : self.n_classes] = bias
        return flat

    def rows(self, features: Float32) -> Float32:
        """Lay out examples (n, n_features) to be trained on."""
        surplus = _whole_lanes(self.n_features) - self.n_features
        return np.pad(features, ((0, 0), (0, surplus)))

    def turned(self, features: Float32) -> Float32:
        """Lay out examples (n, n_features) to be evaluated."""
        surplus = _whole_lanes(len(features)) - len(features)
        return np.ascontiguousarray(np.pad(features, ((0, surplus), (0, 0))).T)


class SoftmaxProblem(NamedTuple):
    """What all softmax regressions of a pool share.

    Parameters
    ----------
    shape : LinearShape
    rows : (n_examples, …) float32
        `LinearShape.rows` of the examples along the pool's principal axes.
    labels : (n_examples,) int32
    spectrum, l2 : (n_weights,) float32
        Second moment of the pool along each weight's axis, and its penalty; `LinearShape.flat`.
    floor : float
        Added to the penalty in the steps' lengths.
    start, safety, decay : float
        First curvature over the included fraction; how much of the measured one counts; how much of
        the last one is left at least.
    n_steps : int
    """

    shape: LinearShape
    rows: Float32
    labels: Int32
    spectrum: Float32
    l2: Float32
    floor: float
    start: float
    safety: float
    decay: float
    n_steps: int


def fit_softmax_regressions(
    problem: SoftmaxProblem, bits: NDArray[np.bool_], initial: Float32
) -> Float32:
    """Fit one model a row by accelerated full-batch gradient steps.

    Parameters
    ----------
    problem : SoftmaxProblem
    bits : (n_models, n_examples) bool
    initial : (n_models, n_weights) float32
        `LinearShape.flat` of the initial weights.

    Returns
    -------
    (n_models, n_weights) float32
    """
    weights = initial.copy()
    cpu.fit_softmax_regressions(
        problem.rows,
        problem.labels,
        *problem.shape,
        np.ascontiguousarray(bits).view(np.uint8),
        problem.spectrum,
        problem.l2,
        problem.floor,
        problem.start,
        problem.safety,
        problem.decay,
        problem.n_steps,
        weights,
    )
    return weights


def linear_logits(shape: LinearShape, turned: Float32, n_targets: int, weights: Float32) -> Float32:
    """Logits of linear models.

    Parameters
    ----------
    shape : LinearShape
    turned : (n_features, …) float32
        `LinearShape.turned` of the targets.
    n_targets : int
    weights : (n_models, n_weights) float32

    Returns
    -------
    (n_models, n_targets, n_classes) float32
    """
    out = np.empty((len(weights), n_targets, shape.n_classes), np.float32)
    cpu.linear_logits(turned, n_targets, shape.n_classes, weights, out)
    return out


class NetworkShape(NamedTuple):
    """Sizes of a network with one hidden layer, and how its weights lie in one vector.

    The last of the `n_inputs` is the constant 1.
    """

    n_inputs: int
    n_hidden: int
    n_classes: int

    def flat(self, first: Float32, second: Float32) -> Float32:
        """Lay out weights, with biases 0, as the kernels take them.

        Parameters
        ----------
        first : (n_models, n_inputs - 1, n_hidden) float32
        second : (n_models, n_classes, n_hidden) float32

        Returns
        -------
        (n_models, n_weights) float32
        """
        width = _whole_lanes(self.n_hidden)
        rows = np.zeros((len(first), self.n_inputs + self.n_classes, width), np.float32)
        rows[:, : self.n_inputs - 1, : self.n_hidden] = first
        rows[:, self.n_inputs :, : self.n_hidden] = second
        bias = np.zeros((len(first), _whole_lanes(self.n_classes)), np.float32)
        return np.concatenate([rows.reshape(len(first), -1), bias], axis=1)


class NetworkProblem(NamedTuple):
    """What all networks of a pool share.

    Parameters
    ----------
    shape : NetworkShape
    rows : (n_examples, n_inputs) float32
    labels : (n_examples,) int32
    rates : (n_steps,) float32
        Learning rates.
    momentum, decay : float
    """

    shape: NetworkShape
    rows: Float32
    labels: Int32
    rates: Float32
    momentum: float
    decay: float


def train_networks(problem: NetworkProblem, examples: Int32, initial: Float32) -> Float32:
    """Train one network a row by momentum SGD.

    Parameters
    ----------
    problem : NetworkProblem
    examples : (n_models, n_steps, batch_size) int32
        Indices of the examples in each batch.
    initial : (n_models, n_weights) float32
        `NetworkShape.flat` of the initial weights.

    Returns
    -------
    (n_models, n_weights) float32
    """
    weights = initial.copy()
    cpu.train_networks(
        problem.rows,
        problem.labels,
        problem.shape.n_hidden,
        problem.shape.n_classes,
        problem.rates,
        problem.momentum,
        problem.decay,
        np.ascontiguousarray(examples),
        weights,
    )
    return weights


def network_logits(shape: NetworkShape, rows: Float32, weights: Float32) -> Float32:
    """Logits of networks.

    Parameters
    ----------
    shape : NetworkShape
    rows : (n_targets, n_inputs) float32
    weights : (n_models, n_weights) float32

    Returns
    -------
    (n_models, n_targets, n_classes) float32
    """
    out = np.empty((len(weights), len(rows), shape.n_classes), np.float32)
    cpu.network_logits(rows, shape.n_hidden, shape.n_classes, weights, out)
    return out
