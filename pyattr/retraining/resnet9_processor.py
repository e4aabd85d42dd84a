"""One ResNet-9 in training on a processor: both passes by hand.

Convolutions are torch's (oneDNN); what stands between them passes over memory as seldom as it can
(`pyattr.normalisation`). There is no graph of gradients to build: at small widths building it costs a tenth
of a step. The result is that of `Model`, but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyattr import normalisation
from pyattr.retraining.resnet9_model import Hyperparameters, Model
from pyattr.retraining.resnet9_network import (
    EPSILON,
    LOGIT_SCALE,
    STATISTICS_MOMENTUM,
    Convolution,
    Network,
)

__all__ = ["ProcessorModel"]

Floats = NDArray[np.float32]


@dataclass
class _Unit:
    """A convolution with what stands behind it, and what its way back needs.

    Attributes
    ----------
    layer : Convolution
    weight, weight_gradient : (outputs, inputs, kernel, kernel) float32
    scale, shift, scale_gradient, shift_gradient, mean, variance : (outputs,) float32
        The latter two are what is remembered for evaluation.
    """

    layer: Convolution
    weight: torch.Tensor
    weight_gradient: torch.Tensor
    scale: Floats
    shift: Floats
    scale_gradient: Floats
    shift_gradient: Floats
    mean: Floats
    variance: Floats
    _given: Any = None  # of the last way there: input, product, normalisation

    def forward(
        self, x: torch.Tensor, bypass: torch.Tensor | None = None, halve: bool = False
    ) -> torch.Tensor:
        """Normalise by the batch's own moments; add a bypass, or halve the image."""
        made = self._convolved(x)
        at = self.scale, self.shift, EPSILON, STATISTICS_MOMENTUM, self.mean, self.variance
        by, spread = normalisation.take_moments(made, *at)
        self._given = x, made, by, spread
        if halve:
            return _images(normalisation.rectify_halved(made, by))
        beside = None if bypass is None else _pixels(bypass)
        return _images(normalisation.rectify(made, by, beside))

    def backward(
        self, gradient: torch.Tensor, halve: bool = False, first: bool = False
    ) -> torch.Tensor | None:
        """Write the weights' gradients and return that of the input, unless this unit is the first."""
        (x, made, by, spread), came = self._given, _pixels(gradient)
        if halve:
            came = normalisation.scatter_halved(made, by, came)
        at = self.scale_gradient, self.shift_gradient
        normalisation.normalise_backward(made, by, spread, came, *at)
        stride, padding = [self.layer.stride] * 2, [self.layer.padding] * 2
        shape = None, stride, padding, [1, 1], False, [0, 0], 1
        wanted = [not first, True, False]
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            _images(made), x, self.weight, *shape, wanted
        )
        self.weight_gradient.copy_(of_weight)
        self._given = None
        return None if first else of_x

    def evaluate(
        self, x: torch.Tensor, by: Floats, bypass: torch.Tensor | None = None, halve: bool = False
    ) -> torch.Tensor:
        """Normalise by moments known before."""
        made = self._convolved(x)
        if halve:
            return _images(normalisation.rectify_halved(made, by))
        beside = None if bypass is None else _pixels(bypass)
        return _images(normalisation.rectify(made, by, beside, out=made))

    def _convolved(self, x: torch.Tensor) -> Floats:
        layer = self.layer
        return _pixels(torch.conv2d(x, self.weight, None, layer.stride, layer.padding))


class ProcessorModel(Model):
    """A `Model` on the processor.

    Parameters
    ----------
    network : Network
    settings : Hyperparameters
    """

    def __init__(self, network: Network, settings: Hyperparameters) -> None:
        super().__init__(network, settings, torch.device("cpu"))
        weights, gradients = network.split(self._flat), network.split(self._gradient)
        self._units = []
        for k, layer in enumerate(network.convolutions):
            small = weights[3 * k + 1 : 3 * k + 3] + gradients[3 * k + 1 : 3 * k + 3]
            remembered = self.statistics.means[k], self.statistics.variances[k]
            channels = [numbers.numpy() for numbers in (*small, *remembered)]
            self._units.append(_Unit(layer, weights[3 * k], gradients[3 * k], *channels))
        self._last, self._last_gradient = weights[-1], gradients[-1]

    def _differentiate(self, x: torch.Tensor, target: torch.Tensor) -> None:
        u = self._units
        with torch.no_grad():
            first = u[1].forward(u[0].forward(x))
            first = u[3].forward(u[2].forward(first), bypass=first)
            second = u[4].forward(first, halve=True)
            second = u[6].forward(u[5].forward(second), bypass=second)
            third = u[7].forward(second)
            largest = third.amax((2, 3), keepdim=True)
            features = largest[:, :, 0, 0]
            logits = LOGIT_SCALE * (features @ self._last.T)
            # Of the mean cross-entropy: rows of the target add up to 1.
            gradient = (torch.softmax(logits, 1) - target) * (LOGIT_SCALE / len(x))
            torch.mm(gradient.T, features, out=self._last_gradient)
            # Ties share the gradient, as those of torch's amax do.
            among = (third == largest).float()
            among *= ((gradient @ self._last)[:, :, None, None]) / among.sum((2, 3), keepdim=True)
            self._back(among)

    def _back(self, gradient: torch.Tensor) -> None:
        """From the gradient of the last unit's result to those of all weights."""
        u = self._units
        beside: Any = u[7].backward(gradient)
        inner: Any = u[5].backward(u[6].backward(beside))  # type: ignore[arg-type]
        beside = u[4].backward(inner.add_(beside), halve=True)
        inner = u[2].backward(u[3].backward(beside))  # type: ignore[arg-type]
        inner = u[1].backward(inner.add_(beside))
        u[0].backward(inner, first=True)

    def logits(self, x: torch.Tensor, n_batches: int) -> torch.Tensor:
        """Evaluate after `n_batches` steps, see `Model.logits`."""
        remembered = self.statistics.of_evaluation(n_batches)
        bys = []
        for unit, mean, variance in zip(
            self._units, remembered.means, remembered.variances, strict=True
        ):
            slope = unit.scale / np.sqrt(variance.numpy() + EPSILON)
            bys.append(np.stack([mean.numpy(), slope, unit.shift]).astype(np.float32))
        with torch.no_grad():
            parts = [self._evaluated(part, bys) for part in torch.split(x, self.TEST_CHUNK)]
            return torch.cat(parts)

    def _evaluated(self, x: torch.Tensor, bys: list[Floats]) -> torch.Tensor:
        def unit(x: torch.Tensor, k: int, **how: Any) -> torch.Tensor:
            return self._units[k].evaluate(x, bys[k], **how)

        x = unit(unit(x, 0), 1)
        x = unit(unit(x, 2), 3, bypass=x)
        x = unit(x, 4, halve=True)
        x = unit(unit(x, 5), 6, bypass=x)
        return LOGIT_SCALE * (unit(x, 7).amax((2, 3)) @ self._last.T)


def _pixels(images: torch.Tensor) -> Floats:
    """The same memory as (n, height, width, channels); a copy if channels are not last in it."""
    pixels: Floats = images.permute(0, 2, 3, 1).contiguous().numpy()
    return pixels


def _images(pixels: Floats) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
