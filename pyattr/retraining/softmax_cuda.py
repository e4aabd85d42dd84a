"""Many softmax regressions at once on a graphics card, each on its own subset.

The code runs on every device of torch; on processors `pyattr.retraining.softmax` trains by the compiled
kernel, of which this is the definition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pyattr.retraining.model_seed import uniform_initialisation
from pyattr.retraining.pool import Pool
from pyattr.retraining.principal_axes import principal_axes

if TYPE_CHECKING:
    from pyattr.retraining.softmax import SoftmaxRecipe

__all__ = ["DECAY", "FLOOR", "SAFETY", "START", "CardSoftmaxTrainer"]

# The step along feature direction d is 1 / (s λ_d + l2 + floor), λ_d the pool's second moment there and
# s the model's own curvature per unit of it. s starts at START times the included fraction (p(1-p) is at
# most 1/4), follows SAFETY times the measured curvature and falls by at most DECAY a step.
START, SAFETY, DECAY, FLOOR = 0.25, 1.5, 0.9, 1e-4


class CardSoftmaxTrainer:
    """Trains blocks of models by a `SoftmaxRecipe`.

    Weights of a block are one matrix, (n_features + 1, n_classes, block) float32 with the model innermost,
    so that logits of all its models are one product with the shared features.

    Parameters
    ----------
    recipe : SoftmaxRecipe
    pool : Pool
    device : torch.device
    """

    lanes = 1
    block = 256
    whole_blocks = True
    arithmetic = "torch"

    def __init__(self, recipe: SoftmaxRecipe, pool: Pool, device: torch.device) -> None:
        self._recipe, self._n_classes, self._device = recipe, pool.n_classes, device
        mean, axes, spectrum = principal_axes(pool.train_features)
        self._train = _with_ones((pool.train_features.double() - mean) @ axes).to(device)
        self._test = _with_ones((pool.test_features.double() - mean) @ axes).to(device)
        self._one_hot = pool.one_hot().to(device)
        # The bias's feature is 1 in every example.
        spectrum = torch.cat([spectrum, spectrum.new_full((1,), pool.n_examples)])
        self._spectrum = spectrum.float()[:, None, None].to(device)
        self._l2 = torch.full_like(self._spectrum, recipe.l2)
        self._l2[-1] = 0.0  # the bias is free

    def logits(self, bits: NDArray[np.bool_], seeds: NDArray[np.uint64]) -> torch.Tensor:
        """Train one block and return its test logits: see `pyattr.retraining.ensemble.Trainer`."""
        n_weights = len(self._spectrum)
        initial = np.zeros((n_weights, self._n_classes, len(bits)), np.float32)
        drawn = uniform_initialisation(seeds, (n_weights - 1) * self._n_classes)
        initial[:-1] = drawn.T.reshape(n_weights - 1, self._n_classes, -1)
        initial *= np.float32(self._recipe.init_scale)
        included = np.ascontiguousarray(bits.T, dtype=np.float32)
        weights = self.fit(
            torch.from_numpy(included).to(self._device), torch.from_numpy(initial).to(self._device)
        )
        logits = torch.mm(self._test, weights.flatten(1)).view(-1, *weights.shape[1:])
        return logits.permute(2, 0, 1)

    def fit(self, included: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
        """Minimise every model's objective.

        Parameters
        ----------
        included : (n_examples, block) float32
            0 or 1.
        initial : (n_weights, n_classes, block) float32

        Returns
        -------
        (n_weights, n_classes, block) float32

        References
        ----------
        Nesterov, 1983; gradient restart: O'Donoghue and Candès, "Adaptive restart for accelerated gradient
        schemes", 2015, equation (12).
        """
        constant = self._label_term(included)
        fraction = included.sum(0) / len(included)
        curvature = START * fraction
        weights, point = initial, initial.clone()
        momentum = torch.ones_like(fraction)
        before: tuple[torch.Tensor, torch.Tensor] | None = None
        for _ in range(self._recipe.n_steps):
            gradient = self._gradient(point, included, constant)
            if before is not None:
                measured = self._measure(point - before[0], gradient - before[1])
                curvature = torch.maximum(SAFETY * measured, DECAY * curvature)
            scale = self._spectrum * curvature + (self._l2 + FLOOR)
            after = point - gradient / scale
            move = after - weights
            uphill = (gradient * move).flatten(0, 1).sum(0) > 0
            momentum = torch.where(uphill, 1.0, momentum)
            following = (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) / 2.0
            before = point, gradient
            point = torch.addcmul(after, move, (momentum - 1.0) / following)
            weights, momentum = after, following
        return weights

    def _label_term(self, included: torch.Tensor) -> torch.Tensor:
        """Σ_n x_n y_n over the subset, the part of the gradient that never changes."""
        chosen = self._one_hot[:, :, None] * included[:, None]
        return torch.mm(self._train.T, chosen.flatten(1))

    def _gradient(
        self, point: torch.Tensor, included: torch.Tensor, constant: torch.Tensor
    ) -> torch.Tensor:
        """Gradient of the objective, shaped like `point`."""
        logits = torch.mm(self._train, point.flatten(1))
        probability = torch.softmax(logits.view(-1, *point.shape[1:]), 1)
        probability.mul_(included[:, None])
        gradient = (self._l2 * point).flatten(1).sub_(constant)
        return gradient.addmm_(self._train.T, probability.flatten(1)).view_as(point)

    def _measure(self, moved: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
        """Curvature of the data term along the last move, per unit of the pool's, (block,)."""
        data = torch.addcmul(changed, self._l2, moved, value=-1.0)
        rise = (moved * data).flatten(0, 1).sum(0)
        unit = (self._spectrum * moved * moved).flatten(0, 1).sum(0)
        return rise / (unit + 1e-30)


def _with_ones(rotated: torch.Tensor) -> torch.Tensor:
    """Append the constant feature of the bias: (n, d) float64 to (n, d + 1) float32."""
    return torch.cat([rotated, rotated.new_ones(len(rotated), 1)], 1).float().contiguous()
