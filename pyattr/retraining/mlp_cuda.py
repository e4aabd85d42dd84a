"""Many one-hidden-layer networks at once on a graphics card, each on its own subset and data order.

The code runs on every device of torch; on processors `pyattr.retraining.mlp` trains by the compiled
kernel, of which this is the definition.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pyattr.retraining.model_seed import data_order, uniform_initialisation
from pyattr.retraining.pool import Pool

if TYPE_CHECKING:
    from pyattr.retraining.mlp import MLPRecipe

__all__ = ["CardMLPTrainer", "initial_layers"]

_ALIGNED = 16  # float32 values in 64 bytes
_TEST_CHUNK = 64  # test examples evaluated at a time


class CardMLPTrainer:
    """Trains blocks of models by an `MLPRecipe`.

    A block's weights are two stacks of matrices, (block, n_inputs, hidden) and (block, n_classes, width):
    a constant input carries each bias, and the second layer is transposed so that logits are
    (block, n_classes, batch) and every pass over them runs along the batch.

    Sizes are filled up with zeros (which stay zero and add exact zeros) until every matrix of a stack
    begins at a multiple of 64 bytes: a product may add up in another order where the alignment is another,
    and a model's place in the block must not matter.

    Parameters
    ----------
    recipe : MLPRecipe
    pool : Pool
    device : torch.device
    """

    lanes = 1
    block = 256
    whole_blocks = True
    arithmetic = "torch"

    def __init__(self, recipe: MLPRecipe, pool: Pool, device: torch.device) -> None:
        self._recipe, self._device, self._n_targets = recipe, device, pool.n_targets
        self._n_inputs, self._n_classes = pool.n_features + 1, pool.n_classes
        self._hidden = _round_up(recipe.hidden, _ALIGNED)
        self._width = self._hidden + _ALIGNED  # column `hidden` carries the bias
        mean = pool.train_features.double().mean(0)

        def inputs(features: torch.Tensor) -> torch.Tensor:
            centred = (features.double() - mean).float()
            return torch.cat([centred, centred.new_ones(len(centred), 1)], 1)

        # Inputs and labels side by side: one gather a step fetches both.
        table = torch.cat([inputs(pool.train_features), pool.one_hot()], 1)
        surplus = -table.shape[1] % _ALIGNED
        self._table = torch.nn.functional.pad(table, (0, surplus)).to(device)
        test, surplus = inputs(pool.test_features), -pool.n_targets % _TEST_CHUNK
        self._test = torch.nn.functional.pad(test, (0, 0, 0, surplus)).to(device)

    def logits(self, bits: NDArray[np.bool_], seeds: NDArray[np.uint64]) -> torch.Tensor:
        """Train one block and return its test logits: see `pyattr.retraining.ensemble.Trainer`."""
        recipe, block = self._recipe, len(bits)
        order = data_order(bits, seeds, recipe.n_steps * recipe.batch_size)
        steps = order.reshape(block, recipe.n_steps, -1).transpose(1, 0, 2)
        batches = np.ascontiguousarray(steps).reshape(recipe.n_steps, -1)
        initial = torch.from_numpy(self._initial(seeds)).clone().to(self._device)
        trained = self._train(initial, torch.from_numpy(batches).to(self._device))
        empty = torch.from_numpy(~bits.any(axis=1)).to(self._device)
        for before, after in zip(self._split(initial), self._split(trained), strict=True):
            after[empty] = before[empty]
        return self._evaluate(trained)

    def _sizes(self) -> tuple[int, int]:
        """Weights of one model in each layer."""
        return self._n_inputs * self._hidden, self._n_classes * self._width

    def _split(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """View one vector of all weights as the two stacks of matrices."""
        block = len(flat) // sum(self._sizes())
        cut = block * self._sizes()[0]
        return (
            flat[:cut].view(block, self._n_inputs, self._hidden),
            flat[cut:].view(block, self._n_classes, self._width),
        )

    def _initial(self, seeds: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Initial weights of a block, flat."""
        block, hidden = len(seeds), self._recipe.hidden
        first = np.zeros((block, self._n_inputs, self._hidden), np.float32)
        second = np.zeros((block, self._n_classes, self._width), np.float32)
        drawn = initial_layers(self._recipe, seeds, self._n_inputs - 1, self._n_classes)
        first[:, :-1, :hidden], second[:, :, :hidden] = drawn
        return np.concatenate([first.reshape(-1), second.reshape(-1)])

    def _train(self, initial: torch.Tensor, batches: torch.Tensor) -> torch.Tensor:
        """Run SGD.

        Parameters
        ----------
        initial : (n_weights,) float32
            All weights of the block, see `_split`.
        batches : (n_steps, block * batch_size) int32
            Example indices; model j's are the j-th run of `batch_size`.

        Returns
        -------
        (n_weights,) float32
        """
        recipe = self._recipe
        weights, velocity = initial.clone(), torch.zeros_like(initial)
        (w1, w2), (v1, v2) = self._split(weights), self._split(velocity)
        block, size = len(w1), recipe.batch_size
        units = _Units(w1, w2, size)
        rows = weights.new_empty(block * size, self._table.shape[1])
        x = rows.view(block, size, -1)[..., : self._n_inputs]
        target = rows.view(block, size, -1)[..., self._n_inputs :][..., : self._n_classes].mT
        back, error = torch.empty_like(units.before), torch.empty_like(units.logits)
        add = {"beta": recipe.momentum, "alpha": 1.0 / size}
        for step, batch in enumerate(batches):
            torch.index_select(self._table, 0, batch, out=rows)
            units.forward(x)
            torch.softmax(units.logits, 1, out=error)
            error[..., :size].sub_(target)
            torch.bmm(error[..., :size].mT, w2[..., : self._hidden], out=back)
            torch.ops.aten.threshold_backward(back, units.before, 0, grad_input=back)
            v1.baddbmm_(x.mT, back, **add)
            v2.baddbmm_(error, units.active, **add)
            velocity.add_(weights, alpha=recipe.weight_decay)
            weights.sub_(velocity, alpha=recipe.learning_rate * (1.0 - step / recipe.n_steps))
        return weights

    def _evaluate(self, weights: torch.Tensor) -> torch.Tensor:
        """Test logits (block, n_targets, n_classes) of a block's weights."""
        w1, w2 = self._split(weights)
        units = _Units(w1, w2, _TEST_CHUNK)
        logits = weights.new_empty(len(w1), len(self._test), self._n_classes)
        for a in range(0, len(self._test), _TEST_CHUNK):
            rows = slice(a, a + _TEST_CHUNK)
            units.forward(self._test[rows].expand(len(w1), -1, -1))
            logits[:, rows] = units.logits[..., :_TEST_CHUNK].mT
        return logits[:, : self._n_targets]


def initial_layers(
    recipe: MLPRecipe, seeds: NDArray[np.uint64], n_features: int, n_classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw the initial weights of networks, one a seed.

    Returns
    -------
    first : (n_models, n_features, hidden) float32
    second : (n_models, n_classes, hidden) float32
    """
    hidden, scale = recipe.hidden, recipe.init_scale
    first = uniform_initialisation(seeds, n_features * hidden, plane=0)
    first *= np.float32(scale * np.sqrt(6.0 / n_features))
    second = uniform_initialisation(seeds, n_classes * hidden, plane=1)
    second *= np.float32(scale * np.sqrt(6.0 / hidden))
    return first.reshape(-1, n_features, hidden), second.reshape(-1, n_classes, hidden)


class _Units:
    """Activations of a block on one batch, overwritten batch after batch.

    Attributes
    ----------
    before : (block, batch, hidden) float32
        Inputs of the hidden units.
    active : (block, rows, width) float32
        Their outputs, a column of ones for the bias, zeros.
    logits : (block, n_classes, rows) float32
        Meaningless from column `batch` on.
    """

    def __init__(self, w1: torch.Tensor, w2: torch.Tensor, batch: int) -> None:
        (block, _, hidden), (_, n_classes, width) = w1.shape, w2.shape
        rows = _round_up(batch, _ALIGNED // math.gcd(_ALIGNED, n_classes))
        self.before = w1.new_empty(block, batch, hidden)
        self.active = w1.new_zeros(block, rows, width)
        self.active[:, :batch, hidden] = 1.0
        self.logits = w1.new_empty(block, n_classes, rows)
        self._rectified = self.active[:, :batch, :hidden]
        self._w1, self._w2 = w1, w2[..., : hidden + 1]
        self._inputs = self.active[..., : hidden + 1].mT

    def forward(self, x: torch.Tensor) -> None:
        """Fill the attributes from inputs (block, batch, n_inputs) and the current weights."""
        torch.bmm(x, self._w1, out=self.before)
        torch.clamp_min(self.before, 0.0, out=self._rectified)
        torch.bmm(self._w2, self._inputs, out=self.logits)


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step
