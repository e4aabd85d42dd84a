"""Many one-hidden-layer networks, each on its own subset with its own data order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pyattr import trainers
from pyattr.errors import bad_value, check_count, check_positive
from pyattr.retraining.mlp_cuda import CardMLPTrainer, initial_layers
from pyattr.retraining.model_seed import data_order
from pyattr.retraining.pool import Pool

__all__ = ["MLPRecipe", "MLPTrainer"]


@dataclass(frozen=True)
class MLPRecipe:
    """A network with one hidden layer of rectified units, by momentum SGD.

    Every model takes the same number of steps of `batch_size` examples, read from its own stream: the
    pool's shuffled order restricted to the subset, a new shuffle each epoch, wrapping at epochs
    (`pyattr.retraining.model_seed.data_order`). Per step, with g the mean gradient of the batch's
    cross-entropy: ``v = momentum v + g + weight_decay w``, ``w = w - rate v``, biases included; the rate
    falls linearly from `learning_rate` to 0 (step t of n has learning_rate (1 - t/n)). This is
    ``torch.optim.SGD`` with these arguments.

    Features are centred by the mean of the *whole pool*, whatever the mask. Initial weights are uniform on
    ±init_scale √(6 / n_in) in each layer (He), biases 0. With an empty subset the model stays there.

    Attributes
    ----------
    hidden, n_steps, batch_size : int
    learning_rate, momentum, weight_decay, init_scale : float
    """

    hidden: int = 64
    n_steps: int = 150
    batch_size: int = 50
    learning_rate: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 0.01
    init_scale: float = 0.25

    pool = staticmethod(Pool.of)

    def __post_init__(self) -> None:
        for name in ("hidden", "n_steps", "batch_size"):
            check_count(name, getattr(self, name), 1)
        check_positive("learning_rate", self.learning_rate)
        check_positive("init_scale", self.init_scale)
        if not 0.0 <= self.momentum < 1.0:
            raise bad_value("momentum", "a number in [0, 1)", self.momentum)
        if not 0.0 <= self.weight_decay < np.inf:
            raise bad_value("weight_decay", "a finite number of at least 0", self.weight_decay)

    def multiply_adds(self, pool: Pool) -> int:
        """Multiplications of a training, roughly."""
        step = 3 * self.batch_size  # forth, and back to weights and activations
        n_weights = self.hidden * (pool.n_features + pool.n_classes)
        return (self.n_steps * step + pool.n_targets) * n_weights

    def trainer(self, pool: Pool, device: torch.device) -> MLPTrainer | CardMLPTrainer:
        """Prepare what all models share."""
        if device.type == "cpu":
            return MLPTrainer(self, pool)
        return CardMLPTrainer(self, pool, device)


class MLPTrainer:
    """Trains models by an `MLPRecipe` on processors, one after another.

    A constant input carries the biases of the hidden units. Outputs have the same bits on every x86-64
    processor: neither torch nor a BLAS computes anything here.

    Parameters
    ----------
    recipe : MLPRecipe
    pool : Pool
    """

    lanes = 1
    block = 32
    whole_blocks = False
    arithmetic = "compiled 2"

    def __init__(self, recipe: MLPRecipe, pool: Pool) -> None:
        self._recipe = recipe
        self._shape = trainers.NetworkShape(pool.n_features + 1, recipe.hidden, pool.n_classes)
        train = pool.train_features.numpy().astype(np.float64)
        # NumPy adds up the rows in an order that depends on the array's shape alone: no BLAS.
        mean = train.mean(axis=0)

        def inputs(features: NDArray[np.float64]) -> NDArray[np.float32]:
            rows = np.ones((len(features), self._shape.n_inputs), np.float32)
            rows[:, :-1] = features - mean
            return rows

        steps = np.arange(recipe.n_steps)
        self._problem = trainers.NetworkProblem(
            shape=self._shape,
            rows=inputs(train),
            labels=pool.train_labels.numpy().astype(np.int32),
            rates=(recipe.learning_rate * (1.0 - steps / recipe.n_steps)).astype(np.float32),
            momentum=recipe.momentum,
            decay=recipe.weight_decay,
        )
        self._targets = inputs(pool.test_features.numpy().astype(np.float64))

    def logits(self, bits: NDArray[np.bool_], seeds: NDArray[np.uint64]) -> torch.Tensor:
        """Train one block and return its test logits: see `pyattr.retraining.ensemble.Trainer`."""
        recipe, shape = self._recipe, self._shape
        layers = initial_layers(recipe, seeds, shape.n_inputs - 1, shape.n_classes)
        initial = shape.flat(*layers)
        order = data_order(bits, seeds, recipe.n_steps * recipe.batch_size)
        batches = order.reshape(len(bits), recipe.n_steps, recipe.batch_size)
        trained = trainers.train_networks(self._problem, batches, initial)
        empty = ~bits.any(axis=1)
        trained[empty] = initial[empty]
        return torch.from_numpy(trainers.network_logits(shape, self._targets, trained))
