"""ResNet-9 by hand on a processor: torch's own gradients, statistics and logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

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


def in_doubles(model, x, target):
    """The loss of a model as a function of its weights, and these, in float64."""
    statistics = model._network.statistics(torch.device("cpu"))
    for room in (statistics.means, statistics.variances):
        room[:] = [numbers.double() for numbers in room]

    def loss(flat):
        weights = model._network.split(flat)
        logits = model._network.forward(weights, statistics, x.double(), train=True)
        return -(target.double() * functional.log_softmax(logits, 1)).sum() / len(x)

    return loss, model._flat.double().requires_grad_()


@pytest.mark.parametrize(("channels", "width", "size"), [(1, 8, 12), (3, 8, 13), (1, 24, 17)])
def test_gradients_are_those_of_torch_in_doubles(channels, width, size):
    by_hand, _, x, target = both(channels, width, size)
    by_hand._differentiate(x, target)
    loss, weights = in_doubles(by_hand, x, target)
    (exact,) = torch.autograd.grad(loss(weights), weights)
    # What must differ: another target.
    (other,) = torch.autograd.grad(in_doubles(by_hand, x, target.flip(1))[0](weights), weights)
    split = by_hand._network.split
    for k, (ours, right, wrong) in enumerate(
        zip(split(by_hand._gradient), split(exact), split(other), strict=True)
    ):
        largest = float(right.abs().max())
        assert largest > 1e-5, k
        np.testing.assert_allclose(ours, right, rtol=0, atol=2e-5 * largest, err_msg=str(k))
        assert float((ours - wrong).abs().max()) > 1e-2 * largest, k


def test_gradients_are_differences_of_the_loss():
    by_hand, _, x, target = both()
    by_hand._differentiate(x, target)
    loss, weights = in_doubles(by_hand, x, target)
    generator = torch.Generator().manual_seed(1)
    for k, gradient in enumerate(by_hand._network.split(by_hand._gradient)):
        direction = torch.zeros_like(weights)
        part = by_hand._network.split(direction)[k]
        with torch.no_grad():
            part.copy_(torch.randn(part.shape, generator=generator)).add_(gradient.sign())
            step = 1e-6 * direction
            slope = float(loss(weights + step) - loss(weights - step)) / 2e-6
            expected = float((part * gradient).sum())
        assert slope == pytest.approx(expected, rel=1e-4, abs=1e-7), k


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
