"""What one writes with torch alone: a data set, a loader and a loop over it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class AugmentedImages(Dataset):
    """Images flipped, shifted and cut out one at a time.

    Parameters
    ----------
    images : (n_images, height, width, channels) uint8
    labels : (n_images,) int
    rows : (n,) int
        Image of each item.
    draws : (n, 5) int
        What happens to it, drawn beforehand: the peer is spared its random numbers.
    square : int
    fill : (channels,) uint8
    """

    def __init__(
        self, images: Any, labels: Any, rows: Any, draws: Any, square: int, fill: Any
    ) -> None:
        self.images, self.labels, self.rows, self.draws = images, labels, rows, draws
        self.square, self.fill = square, fill

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> tuple[Any, int]:
        row = self.rows[item]
        flip, dy, dx, top, left = self.draws[item]
        image = self.images[row]
        height, width = image.shape[:2]
        if flip:
            image = image[:, ::-1]
        out = np.empty_like(image)
        out[:] = self.fill
        y, x = max(dy, 0), max(dx, 0)
        inside = image[y : height + min(dy, 0), x : width + min(dx, 0)]
        y, x = max(-dy, 0), max(-dx, 0)
        out[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        out[top : top + self.square, left : left + self.square] = self.fill
        return torch.from_numpy(out), int(self.labels[row])


def batches(data: AugmentedImages, batch_size: int, n_workers: int) -> Iterator[Any]:
    """The items in their order; a pool of workers that stays is the faster way, so its start is not timed."""
    yield from DataLoader(data, batch_size, num_workers=n_workers)


def network(channels: int, width: int, n_classes: int) -> nn.Module:
    """ResNet-9 of torch's layers."""

    def unit(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> Any:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))

    class Bypassed(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.pair = nn.Sequential(unit(width, width), unit(width, width))

        def forward(self, x: Any) -> Any:
            return x + self.pair(x)

    w = width
    return nn.Sequential(
        unit(channels, w),
        unit(w, 2 * w, 5, 2, 2),
        Bypassed(2 * w),
        unit(2 * w, 4 * w),
        nn.MaxPool2d(2),
        Bypassed(4 * w),
        unit(4 * w, 2 * w, padding=0),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * w, n_classes, bias=False),
    )


def train_one(
    net: nn.Module, data: AugmentedImages, recipe: Any, normalise: Any, channels_last: bool
) -> nn.Module:
    """Train by torch's optimiser and loss at the recipe's rates."""
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    n_steps = len(data) // recipe.batch_size
    sgd = torch.optim.SGD(net.parameters(), 1.0, recipe.momentum, weight_decay=recipe.weight_decay)
    loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    loader = batches(data, recipe.batch_size, 0)
    for rate, (pixels, labels) in zip(recipe.rates(n_steps).tolist(), loader, strict=True):
        x = normalise(pixels)
        x = x.contiguous(memory_format=torch.channels_last) if channels_last else x.contiguous()
        sgd.param_groups[0]["lr"] = rate
        sgd.zero_grad()
        loss(0.2 * net(x), labels).backward()
        sgd.step()
    return net.eval()
