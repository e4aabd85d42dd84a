"""Many models at once: equal bytes whatever the company, groups, arguments."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from pyattr.kernels import margins
from pyattr.masks import Masks, sample_masks, sample_seeds
from pyattr.retraining.ensemble import Ensemble, MLPRecipe, SoftmaxRecipe
from pyattr.retraining.platform import check_equal_bytes

RNG = np.random.default_rng(0)
RECIPES = [SoftmaxRecipe(n_steps=4), MLPRecipe(hidden=64, n_steps=6)]


def made(recipe, n=150, n_features=20, n_classes=10, n_targets=29, **options):
    rng = np.random.default_rng(n_features)
    x = rng.standard_normal((n + n_targets, n_features), dtype=np.float32)
    y = np.arange(n + n_targets) % n_classes
    return Ensemble(recipe, x[:n], y[:n], x[n:], y[n:], **options)


def test_multiply_adds_grow_with_what_is_trained():
    def work(recipe, **sizes):
        return made(recipe, **{"n": 100, "n_features": 20, "n_targets": 10} | sizes).multiply_adds

    assert work(SoftmaxRecipe(n_steps=4)) == (4 * 2 * 100 + 10) * 20 * 10
    assert work(SoftmaxRecipe(n_steps=4), n=200) == (4 * 2 * 200 + 10) * 20 * 10
    network = MLPRecipe(hidden=8, n_steps=6, batch_size=5)
    assert work(network) == work(network, n=200) == (6 * 3 * 5 + 10) * 8 * (20 + 10)


@pytest.mark.parametrize("recipe", RECIPES)
def test_full_size_block_gives_equal_bytes(recipe):
    ensemble = made(recipe, n=1000, n_features=64, n_targets=100)
    assert check_equal_bytes(ensemble) == dict.fromkeys(
        ("repeated", "alone", "every_slot", "shuffled", "threads"), True
    )


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("n_features", [1, 7, 81])
@pytest.mark.parametrize(
    "recipe",
    [
        SoftmaxRecipe(n_steps=3),
        MLPRecipe(hidden=33, n_steps=4, batch_size=17),
        MLPRecipe(hidden=1, n_steps=4, batch_size=1),
    ],
)
def test_awkward_sizes_give_equal_bytes(recipe, n_features, n_classes):
    # Without the 64-byte layout of CardMLPTrainer hidden=33, batch_size=17 differs in every check (MKL).
    ensemble = made(recipe, 60, n_features, n_classes, 9)
    assert all(check_equal_bytes(ensemble).values())


@pytest.mark.parametrize("recipe", RECIPES)
def test_one_model_at_every_slot_among_strangers(recipe):
    ensemble = made(recipe)
    n, block = ensemble.n_train, ensemble.block
    masks, seeds = sample_masks(block, n, seed=8), sample_seeds(block, 8)
    alone = ensemble(masks[:1], seeds[:1])
    for slot in range(block):
        # Neighbours differ from slot to slot, and one of them is empty.
        bits = sample_masks(block, n, 0.7, seed=100 + slot).unpack()
        bits[(slot + 1) % block] = False
        bits[slot] = masks[0].unpack()[0]
        own = sample_seeds(block, slot)
        own[slot] = seeds[0]
        together = ensemble(Masks.pack(bits), own)
        assert together[slot].tobytes() == alone.tobytes()


PRINTED = """
import zlib
from test_ensemble import RECIPES, made
from pyattr.masks import sample_masks, sample_seeds
for recipe in RECIPES:
    print(zlib.crc32(made(recipe)(sample_masks(20, 150), sample_seeds(20)).tobytes()))
"""


def test_the_instructions_of_torch_and_blas_do_not_matter():
    slow = {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
    folders = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
    path = {"PYTHONPATH": os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])}
    of_slow = subprocess.run(
        [sys.executable, "-c", PRINTED],
        env=os.environ | slow | path,
        check=True,
        capture_output=True,
        text=True,
        timeout=200,
    )
    masks, seeds = sample_masks(20, 150), sample_seeds(20)
    own = [zlib.crc32(made(recipe)(masks, seeds).tobytes()) for recipe in RECIPES]
    assert own == [int(word) for word in of_slow.stdout.split()]


class _Leaky:
    """A trainer that lets the company or the place reach a model's outputs."""

    whole_blocks = True

    def __init__(self, honest, leak):
        self.block, self._honest, self._leak = honest.block, honest, leak

    def logits(self, bits, seeds):
        logits = self._honest.logits(bits, seeds).clone()
        logits[..., 0] += torch.from_numpy(self._leak(bits))[:, None]
        return logits


@pytest.mark.parametrize(
    ("leak", "unnoticed"),
    [
        (
            lambda bits: np.full(len(bits), 1e-5 * bits.sum(), np.float32),
            {"repeated", "every_slot", "threads"},
        ),
        (lambda bits: np.arange(len(bits), dtype=np.float32) * 1e-4, {"repeated"}),
        (lambda bits: RNG.random(len(bits), dtype=np.float32), set()),
    ],
)
def test_the_check_finds_a_leak(leak, unnoticed):
    leaky = copy.copy(made(RECIPES[1]))
    leaky._trainer = _Leaky(leaky._trainer, leak)
    found = {name for name, equal in check_equal_bytes(leaky).items() if not equal}
    assert {"alone", "shuffled"} <= found
    assert {"repeated", "alone", "every_slot", "shuffled", "threads"} - found <= unnoticed


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_callers_torch_settings_do_not_matter(recipe):
    masks, seeds = sample_masks(5, 150, seed=1), sample_seeds(5, 1)
    expected = made(recipe)(masks, seeds)
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu"):
            assert made(recipe)(masks, seeds).tobytes() == expected.tobytes()
        assert torch.get_num_threads() == 2
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_num_threads(n_threads)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("recipe", RECIPES)
def test_groups_stand_for_all_their_examples(recipe):
    groups = np.random.default_rng(1).permutation(np.arange(150) % 12)
    players, seeds = sample_masks(40, 12, seed=2), sample_seeds(40, 2)
    grouped, single = made(recipe, groups=groups), made(recipe)
    assert grouped.n_train == 12
    assert grouped(players, seeds).tobytes() == single(players.expand(groups), seeds).tobytes()
    assert not np.array_equal(grouped(players, seeds), grouped(players[::-1], seeds))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("output", ["logsumexp", "max", "correct"])
def test_outputs_are_margins_of_the_logits(recipe, output):
    ensemble = made(recipe, output=output)
    masks, seeds = sample_masks(3, 150), sample_seeds(3)
    labels = np.arange(150, 179) % 10
    logits, outputs = ensemble.logits(masks, seeds), ensemble(masks, seeds)
    assert logits.shape == (3, 29, 10)
    assert outputs.shape == (3, ensemble.n_targets)
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs, margins(logits, labels, output))
    share = (logits.argmax(-1) == labels).mean(1)
    np.testing.assert_array_equal(ensemble.accuracy(masks, seeds), share)


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_rows(recipe):
    ensemble = made(recipe)
    masks, seeds = sample_masks(0, 150), sample_seeds(0)
    assert ensemble(masks, seeds).shape == (0, 29)
    assert ensemble.logits(masks, seeds).shape == (0, 29, 10)
    assert ensemble.accuracy(masks, seeds).shape == (0,)


@pytest.mark.parametrize("recipe", RECIPES)
def test_one_target(recipe):
    assert made(recipe, n_targets=1)(sample_masks(2, 150), sample_seeds(2)).shape == (2, 1)


def test_recipe_record_is_json_and_tells_data_apart():
    record = made(RECIPES[1]).recipe_record()
    assert json.loads(json.dumps(record)) == record
    assert record["recipe"]["kind"] == "MLPRecipe"
    assert record["recipe"]["hidden"] == 64
    assert record == made(RECIPES[1], n_threads=1).recipe_record()
    others = [
        made(RECIPES[0]),
        made(MLPRecipe(hidden=64, n_steps=7)),
        made(RECIPES[1], n_features=21),
        made(RECIPES[1], output="max"),
        made(RECIPES[1], groups=np.arange(150)),
    ]
    assert all(record != other.recipe_record() for other in others)


def test_refuses_arguments():
    x, y = RNG.standard_normal((20, 3), dtype=np.float32), np.arange(20) % 2
    good = {
        "recipe": RECIPES[0],
        "train_features": x,
        "train_labels": y,
        "test_features": x[:4],
        "test_labels": y[:4],
    }
    Ensemble(**good)
    hole = x.copy()
    hole[1, 1] = np.nan
    wrong = [
        ("recipe", "softmax"),
        ("train_features", x.astype(np.float64)),
        ("train_features", hole),
        ("train_features", x[0]),
        ("train_features", x[:, :0]),
        ("train_labels", y[:5]),
        ("train_labels", y - 1),
        ("train_labels", y.astype(float)),
        ("test_features", x[:4, :2]),
        ("test_labels", y),
        ("groups", y[:5]),
        ("groups", y * 2),
        ("device", "tpu"),
        ("device", "cuda:x"),
        ("output", "loss"),
        ("n_threads", 0),
    ]
    for name, value in wrong:
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            Ensemble(**(good | {name: value}))
    with pytest.raises(ValueError, match=r"^masks"):
        Ensemble(**good)(sample_masks(2, 21), sample_seeds(2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("recipe", RECIPES)
def test_cuda(recipe):
    masks, seeds = sample_masks(40, 150), sample_seeds(40)
    ensemble = made(recipe, device="cuda")
    np.testing.assert_allclose(ensemble(masks, seeds), made(recipe)(masks, seeds), atol=1e-3)
    assert all(check_equal_bytes(ensemble).values())
