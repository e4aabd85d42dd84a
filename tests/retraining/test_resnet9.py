"""ResNet-9: the same steps as torch's own layers and SGD; rules of batch normalisation and subsets."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pyattr.masks import Masks, sample_masks, sample_seeds
from pyattr.reference import augment_images
from pyattr.retraining.ensemble import Ensemble, ResNet9Recipe
from pyattr.retraining.images import ImagesInMemory
from pyattr.retraining.model_seed import data_order, uniform_initialisation
from pyattr.retraining.platform import check_equal_bytes, deterministic, map_single_threaded
from pyattr.retraining.resnet9_cuda import fastest
from pyattr.retraining.resnet9_network import Network

N, N_TEST, SIZE = 60, 12, 12
SMALL = ResNet9Recipe(
    epochs=1.0,
    share=1.0,
    batch_size=10,
    learning_rate=0.1,
    translate=1,
    cutout=3,
    width_multiplier=0.125,
    channels=1,
    height=SIZE,
    width=SIZE,
)


def striped(n, channels=1, seed=0, n_classes=3):
    """Images like Fashion-MNIST in the small: noise on a pattern of the class, in bytes / 255."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    y, x = np.mgrid[:SIZE, :SIZE]
    patterns = np.stack(
        [(y % 4 < 2), (x % 4 < 2), ((x - SIZE / 2) ** 2 + (y - SIZE / 2) ** 2 < 16)]
    )
    images = 140 * patterns[labels][:, None] + rng.integers(0, 110, (n, channels, SIZE, SIZE))
    return (images.astype(np.float32) / np.float32(255)).reshape(n, -1), labels


X, Y = striped(N + N_TEST)


def ensemble(recipe=SMALL, x=X, **options):
    return Ensemble(recipe, x[:N], Y[:N], x[N:], Y[N:], **options)


class PlainResNet9(nn.Module):
    """The network of torch's own layers."""

    def __init__(self, channels, width, n_classes):
        super().__init__()

        def unit(inputs, outputs, kernel=3, stride=1, padding=1):
            convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

        w = width
        self.units = nn.ModuleList(
            [
                unit(channels, w),
                unit(w, 2 * w, 5, 2, 2),
                unit(2 * w, 2 * w),
                unit(2 * w, 2 * w),
                unit(2 * w, 4 * w),
                unit(4 * w, 4 * w),
                unit(4 * w, 4 * w),
                unit(4 * w, 2 * w, padding=0),
            ]
        )
        self.linear = nn.Linear(2 * w, n_classes, bias=False)

    def forward(self, x):
        u = self.units
        x = u[1](u[0](x))
        x = x + u[3](u[2](x))
        x = nn.functional.max_pool2d(u[4](x), 2)
        x = x + u[6](u[5](x))
        return 0.2 * self.linear(nn.functional.adaptive_max_pool2d(u[7](x), 1).flatten(1))


def plain_logits(recipe, x, bits, seed, forget=True):
    """One model by torch's layers, loss, optimiser and schedule, in float64.

    With ``forget=False`` normalisation keeps the share of its start values, as torch's layer does.
    """
    seeds, c = np.array([seed], np.uint64), recipe.channels
    net = PlainResNet9(c, round(8 * recipe.width_multiplier) * 8, 3).double()
    begin = 0
    sizes = [-(-p.numel() // 16) * 16 for p in net.parameters()]
    drawn = uniform_initialisation(seeds, sum(sizes))[0].astype(np.float64)
    with torch.no_grad():
        for p, size in zip(net.parameters(), sizes, strict=True):
            if p.ndim > 1:
                values = torch.from_numpy(drawn[begin : begin + p.numel()]) / np.sqrt(p[0].numel())
                outputs, inputs, *kernel = p.shape
                if kernel:
                    values = values.view(outputs, *kernel, inputs).permute(0, 3, 1, 2)
                p.copy_(values.reshape(p.shape))
            begin += size
    images = x.reshape(-1, c, SIZE, SIZE).transpose(0, 2, 3, 1).astype(np.float64)
    pool = images[:N]
    mean, deviation = pool.mean((0, 1, 2)), pool.std((0, 1, 2))
    fill = np.rint(255 * mean) / 255

    def inputs(pixels):
        return torch.from_numpy((pixels - mean) / deviation).permute(0, 3, 1, 2)

    n, size = recipe.n_steps(N), recipe.batch_size
    order = data_order(bits[None], seeds, n * size)[0]
    epochs = np.arange(n * size) // bits.sum()
    sgd = torch.optim.SGD(net.parameters(), 1.0, recipe.momentum, weight_decay=recipe.weight_decay)
    loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    for step in range(n):
        rows = slice(step * size, (step + 1) * size)
        draws = recipe.augmentation.draws(seed, epochs[rows], order[rows], SIZE, SIZE)
        pixels = augment_images(pool, order[rows], draws, recipe.cutout, fill)
        at = (step + 0.5) / n
        sgd.param_groups[0]["lr"] = recipe.learning_rate * min(at / 0.2, (1 - at) / 0.8)
        sgd.zero_grad()
        loss(net(inputs(pixels)), torch.from_numpy(Y[order[rows]])).backward()
        sgd.step()
    left = 0.9**n if forget else 0.0
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean /= 1 - left
            layer.running_var -= left if forget else 0.0
            layer.running_var /= 1 - left
    net.eval()
    with torch.no_grad():
        return net(inputs(images[N:])).numpy()


@pytest.mark.parametrize("channels", [1, 3])
def test_takes_the_steps_of_torch(channels):
    recipe = ResNet9Recipe(**{**vars(SMALL), "channels": channels})
    x, _ = striped(N + N_TEST, channels)
    masks, seeds = sample_masks(2, N, seed=1), sample_seeds(2, 1)
    logits = ensemble(recipe, x).logits(masks, seeds)
    for bits, seed, ours in zip(masks.unpack(), seeds.tolist(), logits, strict=True):
        np.testing.assert_allclose(ours, plain_logits(recipe, x, bits, seed), atol=2e-4)
    # What must differ: normalisation that keeps its start values, and another model's augmentation.
    assert np.abs(ours - plain_logits(recipe, x, bits, seed, forget=False)).max() > 1e-2
    assert np.abs(ours - plain_logits(recipe, x, bits, seed + 1)).max() > 1e-2


def test_subsets_of_one_two_or_without_a_class_are_trained_like_any_other():
    bits = np.zeros((4, N), bool)
    bits[0, 7] = True
    bits[1, [3, 50]] = True
    bits[2] = Y[:N] == 1
    bits[3] = True
    seeds = sample_seeds(4, 2)
    logits = ensemble().logits(Masks.pack(bits), seeds)
    for j in range(4):
        expected = plain_logits(SMALL, X, bits[j], int(seeds[j]))
        np.testing.assert_allclose(logits[j], expected, atol=5e-4, err_msg=str(j))


def test_the_empty_subset_stays_at_its_initialisation():
    never = ResNet9Recipe(**{**vars(SMALL), "learning_rate": 1e-30, "weight_decay": 0.0})
    empty, seeds = Masks.pack(np.zeros((2, N), bool)), sample_seeds(2)
    logits = ensemble().logits(empty, seeds)
    np.testing.assert_array_equal(logits, ensemble(never).logits(empty, seeds))
    # At mean 0 and variance 1: torch's own layers in evaluation, untouched.
    net = PlainResNet9(1, 8, 3).eval()
    drawn = uniform_initialisation(seeds, ensemble()._trainer.network.n_weights)
    initial = ensemble()._trainer.network.initial(torch.from_numpy(drawn[0]))
    for p, own in zip(net.parameters(), ensemble()._trainer.network.split(initial), strict=True):
        p.data.copy_(own)
    x = (X - X[:N].astype(np.float64).mean()) / X[:N].astype(np.float64).std()
    with torch.no_grad():
        out = net(torch.from_numpy(x[N:].astype(np.float32)).view(-1, 1, SIZE, SIZE)).numpy()
    np.testing.assert_allclose(logits[0], out, atol=1e-5)


def test_every_subset_takes_the_same_steps_in_the_order_of_the_pool():
    trainer = ensemble()._trainer
    bits = np.ones(N, bool)
    without = bits.copy()
    without[7] = False
    whole, rest = trainer.schedule(bits, 5), trainer.schedule(without, 5)
    few = trainer.schedule(np.arange(N) == 3, 5)
    assert whole.rows.shape == rest.rows.shape == few.rows.shape == (6, 10)
    seen = whole.rows[whole.rows != 7]
    np.testing.assert_array_equal(seen, rest.rows.reshape(-1)[: len(seen)])
    # The one image of a subset of one is augmented anew each time it comes.
    np.testing.assert_array_equal(few.epochs.reshape(-1), np.arange(60))
    draws = np.concatenate([few.draws(step, SIZE, SIZE) for step in range(6)])
    assert len(np.unique(draws, axis=0)) > 50


def test_equal_bytes_whatever_the_company_and_threads():
    recipe = ResNet9Recipe(**{**vars(SMALL), "epochs": 0.4})
    assert all(check_equal_bytes(ensemble(recipe)).values())


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 12, 12), (3, 32, 32), (1, 13, 18)])
def test_multiply_adds_are_those_that_torch_counts(channels, height, width):
    network = Network(channels, 10, 8)
    weights = network.split(network.initial(torch.rand(network.n_weights)))
    with FlopCounterMode(display=False) as counter:
        images = torch.rand(3, channels, height, width)
        network.forward(weights, network.statistics(torch.device("cpu")), images, True)
    assert counter.get_total_flops() == 2 * 3 * network.multiply_adds(height, width)


def test_learns():
    recipe = ResNet9Recipe(**{**vars(SMALL), "epochs": 4.0})
    masks, seeds = sample_masks(3, N, seed=3), sample_seeds(3, 3)
    assert ensemble(recipe).accuracy(masks, seeds).mean() > 0.9
    shuffled = Ensemble(recipe, X[:N], np.random.default_rng(0).permutation(Y[:N]), X[N:], Y[N:])
    assert shuffled.accuracy(masks, seeds).mean() < 0.7


def test_bytes_and_floats_give_nearly_the_same_model():
    # The same numbers, once as multiples of 1/255 kept in bytes, once a hair beside them.
    beside = X.copy()
    beside[0, 0] += np.float32(1e-6)
    exact, floats = ensemble(), ensemble(x=beside)
    assert exact._pool.source.dtype == np.uint8
    assert floats._pool.source.dtype == np.float32
    masks, seeds = sample_masks(2, N), sample_seeds(2)
    np.testing.assert_allclose(exact(masks, seeds), floats(masks, seeds), atol=1e-2)
    assert exact.recipe_record()["crc32"] != floats.recipe_record()["crc32"]


def test_record_is_json_and_its_checksums_are_those_of_the_features():
    record = ensemble().recipe_record()
    assert json.loads(json.dumps(record)) == record
    assert record["recipe"]["kind"] == "ResNet9Recipe"
    in_memory = ImagesInMemory.of_features(X[:N], 1, SIZE, SIZE)
    from_source = Ensemble(SMALL, in_memory, Y[:N], X[N:], Y[N:])
    assert from_source.recipe_record() == record


def test_groups():
    groups = np.arange(N) // 5
    players, seeds = sample_masks(2, N // 5, seed=2), sample_seeds(2, 2)
    grouped = ensemble(groups=groups)(players, seeds)
    assert grouped.tobytes() == ensemble()(players.expand(groups), seeds).tobytes()


def test_goes_to_another_process_as_it_is():
    masks, seeds = sample_masks(1, N), sample_seeds(1)
    there = pickle.loads(pickle.dumps(ensemble()))
    assert there(masks, seeds).tobytes() == ensemble()(masks, seeds).tobytes()


def test_a_diverged_model_is_refused():
    recipe = ResNet9Recipe(**{**vars(SMALL), "learning_rate": 1e30})
    with pytest.raises(ValueError, match=r"^recipe: .*finite.* row 0"):
        ensemble(recipe)(sample_masks(1, N), sample_seeds(1))


def captured(trainer):
    """A lane of the trainer; without a CUDA device its steps are run instead of replayed."""
    with torch.inference_mode(False), torch.enable_grad():
        return trainer._captured()


@pytest.mark.parametrize("on_card", [True, False])
def test_the_captured_step_is_the_step(on_card):
    # Without a CUDA device a lane runs its step instead of replaying it: on the processor, the bytes
    # of the path that gets its batches from the source.
    trainer = ensemble()._trainer
    if not on_card:  # as when images come from a file
        object.__setattr__(trainer._tensors, "images", None)
    masks, seeds = sample_masks(3, N, seed=4), sample_seeds(3, 4)
    bits = masks.unpack()
    bits[2] = False

    def by_lane(j):
        with torch.inference_mode(False), torch.enable_grad():
            lane = trainer._captured()
            lane.train(torch.ones(trainer.network.n_weights), trainer.schedule(~bits[j], 1))
            drawn = uniform_initialisation(seeds[j : j + 1], trainer.network.n_weights)[0]
            schedule = trainer.schedule(bits[j], int(seeds[j])) if bits[j].any() else None
            return lane.train(trainer.network.initial(torch.from_numpy(drawn)), schedule).numpy()

    with deterministic():
        lanes = map_single_threaded(by_lane, range(3), 2)
    assert np.stack(lanes).tobytes() == ensemble().logits(Masks.pack(bits), seeds).tobytes()


class _Lane:
    """Takes a second a step for each lane beyond the second."""

    def __init__(self, clock, shared):
        self.clock, self.shared = clock, shared
        shared.append(self)

    def run(self, n_steps):
        self.clock[0] += n_steps * (1.0 if len(self.shared) > 2 else 1.0 / len(self.shared))


def test_lanes_are_added_while_they_pay(monkeypatch):
    clock, made = [0.0], []
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    assert len(fastest(lambda: _Lane(clock, made), (1, 2, 4, 8))) == 2
    assert len(made) == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0.0),
        ("share", -1.0),
        ("batch_size", 1),
        ("learning_rate", np.inf),
        ("momentum", 1.0),
        ("weight_decay", -0.1),
        ("warmup", 1.0),
        ("label_smoothing", 1.0),
        ("translate", 12),
        ("cutout", 13),
        ("width_multiplier", 0.0),
        ("channels", 0),
        ("height", 11),
        ("precision", "float16"),
    ],
)
def test_refuses(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        ResNet9Recipe(**{**vars(SMALL), name: value})


def test_refuses_images_of_another_size():
    with pytest.raises(ValueError, match=r"^train_features: expected 144 features"):
        Ensemble(SMALL, X[:N, :100], Y[:N], X[N:], Y[N:])
    with pytest.raises(ValueError, match=r"^test_features: expected 144 features"):
        Ensemble(SMALL, X[:N], Y[:N], X[N:, :100], Y[N:])
    source = ImagesInMemory(np.zeros((N, SIZE, SIZE, 3), np.uint8))
    with pytest.raises(ValueError, match=r"^train_features: expected 144 features"):
        Ensemble(SMALL, source, Y[:N], X[N:], Y[N:])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda():
    recipe = ResNet9Recipe(**{**vars(SMALL), "precision": "float32"})
    masks, seeds = sample_masks(5, N, seed=1), sample_seeds(5, 1)
    on_card = ensemble(recipe, device="cuda")
    np.testing.assert_allclose(on_card(masks, seeds), ensemble()(masks, seeds), atol=1e-2)
    assert all(check_equal_bytes(on_card).values())
    assert all(check_equal_bytes(ensemble(device="cuda")).values())
