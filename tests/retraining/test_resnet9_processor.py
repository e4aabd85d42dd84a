"""ResNet-9 by hand on a processor: torch's own gradients, statistics and logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyattr.retraining.resnet9_model import Hyperparameters, Model
from pyattr.retraining.resnet9_network import Network
from pyattr.retraining.resnet9_processor import ProcessorModel

SETTINGS = Hyperparameters(momentum=0.9, weight_decay=5e-4, precision=torch.float32)


def both(channels=1, width=8, size=13, seed=0):
    """A model by hand, one by torch's gradients, at the same weights; a batch and its targets."""
    network = Network(channels, 3, width)
    models = ProcessorModel(network, SETTINGS), Model(network, SETTINGS, torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    initial = network.initial(2 * torch.rand(network.n_weights, generator=generator) - 1)
    for part in network.split(initial):
        if part.ndim == 1:  # scales and shifts of either sign
            part.add_(torch.randn(part.shape, generator=generator))
    for model in models:
        model.begin(initial)
    x = torch.randn(10, size, size, channels, generator=generator).permute(0, 3, 1, 2)
    target = torch.softmax(torch.randn(10, 3, generator=generator), 1)
    return *models, x, target


@pytest.mark.parametrize(("channels", "width", "size"), [(1, 8, 12), (3, 8, 13), (1, 24, 17)])
def test_gradients_are_those_of_torch(channels, width, size):
    by_hand, by_torch, x, target = both(channels, width, size)
    network = by_hand._network
    by_hand._differentiate(x, target)
    by_torch._differentiate(x, target)
    for k, (ours, theirs) in enumerate(
        zip(network.split(by_hand._gradient), network.split(by_torch._gradient), strict=True)
    ):
        largest = float(theirs.abs().max())
        assert largest > 1e-5, k
        np.testing.assert_allclose(ours, theirs, atol=2e-4 * largest, err_msg=str(k))
    # What must differ: another target.
    by_torch._gradient.zero_()
    by_torch._differentiate(x, target.flip(1))
    assert float((by_hand._gradient - by_torch._gradient).abs().max()) > 1e-2


def test_steps_statistics_and_logits_are_those_of_torch():
    by_hand, by_torch, x, target = both()
    for step in range(4):
        by_hand.step(x.roll(step, 2), target, 0.05)
        by_torch.step(x.roll(step, 2), target, 0.05)
    for name in ("means", "variances"):
        for ours, theirs in zip(
            getattr(by_hand.statistics, name), getattr(by_torch.statistics, name), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
    ours, theirs = by_hand.logits(x, 4), by_torch.logits(x, 4)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert float((ours - by_torch.logits(x, 3)).abs().max()) > 1e-2  # of other statistics


def test_the_batch_is_left_as_it_is():
    by_hand, _, x, target = both()
    before = x.clone(), target.clone()
    by_hand.step(x, target, 0.05)
    by_hand.logits(x, 1)
    assert torch.equal(x, before[0])
    assert torch.equal(target, before[1])
