"""The nine layers of ResNet-9 as functions of one flat vector of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

__all__ = [
    "EPSILON",
    "LEAST_SIZE",
    "LOGIT_SCALE",
    "STATISTICS_MOMENTUM",
    "Convolution",
    "Network",
    "Statistics",
]

LEAST_SIZE = 12  # pixels: below it nothing is left for the last convolution
STATISTICS_MOMENTUM = 0.1
EPSILON = 1e-5  # added to variances
LOGIT_SCALE = 0.2
_HALVED = 4  # the convolution whose images are halved
_ALIGNED = 16  # float32 values in 64 bytes


@dataclass(frozen=True)
class Convolution:
    """One convolution, its normalisation and the rectifier behind it.

    Attributes
    ----------
    inputs, outputs, kernel, stride, padding : int
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int


@dataclass
class Statistics:
    """What batch normalisation remembers for evaluation.

    Rules, so that they depend on nothing but the model's own run:

    - In training every batch is normalised by its own mean and (biased) variance; every batch has the same
      number of images, whatever the subset.
    - Evaluation uses the moving average of the batches' means and unbiased variances, each batch weighing
      0.9 times the next. It starts at zero and is divided by 1 - 0.9^n after n batches, so that the
      weights add up to one: no trace of a start value is left.
    - A model that was never trained (empty subset) is evaluated at mean 0 and variance 1.

    Attributes
    ----------
    means, variances : one (channels,) float32 a convolution
    """

    means: list[torch.Tensor]
    variances: list[torch.Tensor]

    def clear(self) -> None:
        """Forget all batches."""
        for tensor in (*self.means, *self.variances):
            tensor.zero_()

    def of_evaluation(self, n_batches: int) -> Statistics:
        """Return what evaluation after `n_batches` uses."""
        if n_batches == 0:
            ones = [torch.ones_like(variance) for variance in self.variances]
            return Statistics([torch.zeros_like(mean) for mean in self.means], ones)
        weight = 1.0 - (1.0 - STATISTICS_MOMENTUM) ** n_batches
        return Statistics([m / weight for m in self.means], [v / weight for v in self.variances])


class Network:
    """Shapes of the layers and the passes through them.

    Convolution, normalisation and rectifier are one unit; two of the units' pairs are bypassed: 3x3 to
    w, 5x5 with stride 2 to 2w, [3x3, 3x3 at 2w], 3x3 to 4w and halving by maxima, [3x3, 3x3 at 4w], 3x3
    without padding to 2w, the maximum over what is left, and a linear layer times 0.2.

    Parameters
    ----------
    channels, n_classes : int
        Of the images, and of the outputs.
    base_width : int
        w, the number of channels of the first layer.

    References
    ----------
    He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2016. The layout is that of the
    CIFAR-10 network of Ilyas et al. 2022, after Page, "How to train your ResNet", 2018.
    """

    def __init__(self, channels: int, n_classes: int, base_width: int) -> None:
        w = base_width
        self.convolutions = (
            Convolution(channels, w, 3, 1, 1),
            Convolution(w, 2 * w, 5, 2, 2),
            Convolution(2 * w, 2 * w, 3, 1, 1),
            Convolution(2 * w, 2 * w, 3, 1, 1),
            Convolution(2 * w, 4 * w, 3, 1, 1),
            Convolution(4 * w, 4 * w, 3, 1, 1),
            Convolution(4 * w, 4 * w, 3, 1, 1),
            Convolution(4 * w, 2 * w, 3, 1, 0),
        )
        # (outputs, kernel, kernel, inputs) as they lie in memory; scale; shift. Last the linear layer.
        shapes: list[tuple[int, ...]] = []
        for layer in self.convolutions:
            shapes += [(layer.outputs, layer.kernel, layer.kernel, layer.inputs)]
            shapes += [(layer.outputs,), (layer.outputs,)]
        self._shapes = (*shapes, (n_classes, 2 * w))
        sizes = [-(-math.prod(shape) // _ALIGNED) * _ALIGNED for shape in self._shapes]
        self._offsets = [sum(sizes[:k]) for k in range(len(sizes))]
        self.n_weights = sum(sizes)

    def multiply_adds(self, height: int, width: int) -> int:
        """Multiplications of one image's way to the logits."""
        total, pixels = math.prod(self._shapes[-1]), [height, width]
        for k, layer in enumerate(self.convolutions):
            reach = layer.kernel - 2 * layer.padding
            pixels = [(n - reach) // layer.stride + 1 for n in pixels]
            total += math.prod(pixels) * layer.inputs * layer.outputs * layer.kernel**2
            if k == _HALVED:
                pixels = [n // 2 for n in pixels]
        return total

    def split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """View a vector (n_weights,) as the tensors that `forward` takes, in its order.

        Convolutions are (outputs, inputs, kernel, kernel) in channels-last order of memory.
        """
        views = []
        for offset, shape in zip(self._offsets, self._shapes, strict=True):
            view = flat[offset : offset + math.prod(shape)].view(shape)
            views.append(view.permute(0, 3, 1, 2) if len(shape) == 4 else view)
        return views

    def initial(self, drawn: torch.Tensor) -> torch.Tensor:
        """Make initial weights of numbers uniform on (-1, 1).

        Parameters
        ----------
        drawn : (n_weights,) float32

        Returns
        -------
        (n_weights,) float32
            Matrices uniform on ±1/√(inputs of a unit), scales 1, shifts 0; padding 0.
        """
        flat = torch.zeros_like(drawn)
        for k, (to, given) in enumerate(zip(self.split(flat), self.split(drawn), strict=True)):
            if to.ndim > 1:
                to.copy_(given).mul_(1.0 / math.sqrt(to[0].numel()))
            elif k % 3 == 1:
                to.fill_(1.0)
        return flat

    def statistics(self, device: torch.device) -> Statistics:
        """Room for what normalisation remembers."""

        def room() -> list[torch.Tensor]:
            return [torch.zeros(layer.outputs, device=device) for layer in self.convolutions]

        return Statistics(room(), room())

    def forward(
        self, weights: Sequence[torch.Tensor], statistics: Statistics, x: torch.Tensor, train: bool
    ) -> torch.Tensor:
        """Logits of a batch.

        Parameters
        ----------
        weights : tensors of `split`
        statistics : Statistics
            Updated in training, used in evaluation.
        x : (n, channels, height, width) float32, channels last in memory
        train : bool

        Returns
        -------
        (n, n_classes)
        """

        def unit(x: torch.Tensor, k: int) -> torch.Tensor:
            layer, (weight, scale, shift) = self.convolutions[k], weights[3 * k : 3 * k + 3]
            x = functional.conv2d(x, weight, None, layer.stride, layer.padding)
            mean, variance = statistics.means[k], statistics.variances[k]
            at = train, STATISTICS_MOMENTUM, EPSILON
            return functional.batch_norm(x, mean, variance, scale, shift, *at).relu_()

        x = unit(unit(x, 0), 1)
        x = x + unit(unit(x, 2), 3)
        x = halved(unit(x, _HALVED))
        x = x + unit(unit(x, 5), 6)
        # Ties share the gradient, so that no order of comparing decides.
        x = unit(x, 7).amax((2, 3))
        return functional.linear(x, weights[-1]) * LOGIT_SCALE


def halved(x: torch.Tensor) -> torch.Tensor:
    """Maxima of 2x2 pixels, (n, c, h, w) to (n, c, h // 2, w // 2); an odd last row or column is left out.

    On CUDA the gradient of torch's own pooling is not written to repeat its bits. The two ways differ
    only where pixels tie for the maximum; behind a rectifier that is at 0, where no gradient passes.
    """
    if x.device.type == "cpu":
        return functional.max_pool2d(x, 2)
    height, width = x.shape[2] // 2, x.shape[3] // 2
    corners = [x[:, :, y : 2 * height : 2, x0 : 2 * width : 2] for y in (0, 1) for x0 in (0, 1)]
    return torch.stack(corners).amax(0)
