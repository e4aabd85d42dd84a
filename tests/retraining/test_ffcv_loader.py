"""The FFCV feed gives the bytes of the twin in memory; FFCV itself is installed, or all but one skip."""

from __future__ import annotations

import gc
import importlib.util
import pickle
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pyattr.augmentation import Augmentation
from pyattr.masks import Masks, sample_masks, sample_seeds
from pyattr.retraining.ensemble import Ensemble, ResNet9Recipe
from pyattr.retraining.ffcv_loader import BetonImages, require_ffcv, write_beton
from pyattr.retraining.images import ImagesInMemory, Schedule

needs_ffcv = pytest.mark.skipif(
    importlib.util.find_spec("ffcv") is None, reason="FFCV is not installed, see README"
)
# FFCV imports what Python is about to drop; numba remarks on FFCV's code.
pytestmark = pytest.mark.filterwarnings("ignore")

N, SIZE = 70, 12
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (N, SIZE, SIZE, 3), np.uint8)
LABELS = np.arange(N) % 4
FILL = np.array([3, 250, 100], np.uint8)
EVERYTHING = Augmentation(flip=True, translate=2, cutout=4)


@pytest.fixture(scope="module")
def beton(tmp_path_factory):
    path = tmp_path_factory.mktemp("ffcv") / "images.beton"
    write_beton(path, IMAGES, LABELS)
    return BetonImages(path)


def schedule(seed, bits=None, n_steps=9, batch_size=16, augmentation=EVERYTHING):
    bits = np.ones(N, bool) if bits is None else bits
    return Schedule.of(bits, seed, n_steps, batch_size, augmentation)


def all_bytes(source, what):
    return b"".join(batch.tobytes() for batch in source.batches(what, FILL))


@needs_ffcv
def test_the_bytes_are_those_of_the_twin_in_memory(beton):
    twin = ImagesInMemory(IMAGES)
    one = np.arange(N) == 33  # comes several times in one batch, augmented differently
    half = sample_masks(1, N, seed=3).unpack()[0]
    seen = set()
    for seed, bits in [(1, None), (2, half), (2, one), (1, None), (2**64 - 1, None)]:
        for augmentation in (EVERYTHING, Augmentation(), Augmentation(translate=3)):
            what = schedule(seed, bits, augmentation=augmentation)
            expected = all_bytes(twin, what)
            assert all_bytes(beton, what) == expected
            seen.add(expected)
    assert len(seen) == 12  # twice the same model, else never the same bytes
    assert sum(queue.qsize() for queue in beton._idle.values()) == 1  # one loader served all


@needs_ffcv
def test_what_the_file_holds(beton):
    assert beton.shape == IMAGES.shape
    assert beton.dtype == np.uint8
    np.testing.assert_array_equal(beton.labels, LABELS)
    np.testing.assert_array_equal(np.concatenate([c.copy() for c in beton.chunks()]), IMAGES)


@needs_ffcv
def test_a_batch_of_one_and_grey_images(tmp_path):
    write_beton(tmp_path / "grey.beton", IMAGES[..., :1], LABELS)
    what = schedule(4, batch_size=1, n_steps=5)
    grey, twin = BetonImages(tmp_path / "grey.beton"), ImagesInMemory(IMAGES[..., :1])
    for ours, theirs in zip(
        grey.batches(what, FILL[:1]), twin.batches(what, FILL[:1]), strict=True
    ):
        assert ours.shape == theirs.shape == (1, SIZE, SIZE, 1)
        assert ours.tobytes() == theirs.tobytes()


@needs_ffcv
def test_writing_twice_gives_the_same_file(beton, tmp_path, capfd):
    write_beton(tmp_path / "again.beton", IMAGES, LABELS)
    assert (tmp_path / "again.beton").read_bytes() == beton.path.read_bytes()
    write_beton(tmp_path / "other.beton", IMAGES[::-1], LABELS)
    assert (tmp_path / "other.beton").read_bytes() != beton.path.read_bytes()
    assert capfd.readouterr().err == ""


@needs_ffcv
def test_leaving_early_leaves_no_thread_and_torch_keeps_its_threads(beton):
    before, n_threads = threading.active_count(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        batches = beton.batches(schedule(1, n_steps=50), FILL)
        next(batches)
        batches.close()
        gc.collect()
        assert threading.active_count() == before
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(n_threads)
    assert all_bytes(beton, schedule(1)) == all_bytes(ImagesInMemory(IMAGES), schedule(1))


@needs_ffcv
def test_a_failing_augmentation_comes_out_instead_of_hanging(beton):
    with pytest.raises(ValueError, match=r"^fill: expected"):
        list(beton.batches(schedule(1), FILL[:2]))
    assert all_bytes(beton, schedule(2)) == all_bytes(ImagesInMemory(IMAGES), schedule(2))


@needs_ffcv
def test_resnet9_gives_the_same_bytes_fed_from_the_file(beton):
    recipe = ResNet9Recipe(
        epochs=1.0, share=1.0, batch_size=16, learning_rate=0.1, translate=1, cutout=3,
        width_multiplier=0.125, height=SIZE, width=SIZE,
    )  # fmt: skip
    x = IMAGES.transpose(0, 3, 1, 2).reshape(N, -1).astype(np.float32) / np.float32(255)
    test = x[:5], LABELS[:5]
    in_memory = Ensemble(recipe, x, LABELS, *test)
    from_file = Ensemble(
        recipe, pickle.loads(pickle.dumps(beton)), beton.labels, *test, n_threads=2
    )
    assert from_file.recipe_record() == in_memory.recipe_record()
    bits = sample_masks(4, N, seed=5).unpack()
    bits[1], bits[2] = np.arange(N) == 1, False
    masks, seeds = Masks.pack(bits), sample_seeds(4, 5)
    assert from_file(masks, seeds).tobytes() == in_memory(masks, seeds).tobytes()


@needs_ffcv
def test_refuses(tmp_path, monkeypatch):
    wrong = [
        ("images", (IMAGES.astype(np.float32), LABELS)),
        ("images", (IMAGES[0], LABELS)),
        ("images", (IMAGES[:0], LABELS[:0])),
        ("images", (IMAGES.tolist(), LABELS)),
        ("labels", (IMAGES, LABELS[:5])),
        ("labels", (IMAGES, LABELS - 1)),
    ]
    for name, arguments in wrong:
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            write_beton(tmp_path / "x.beton", *arguments)
    with pytest.raises(FileNotFoundError):
        write_beton(tmp_path / "missing" / "x.beton", IMAGES, LABELS)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=IMAGES.nbytes))
    with pytest.raises(OSError, match="room for"):
        write_beton(tmp_path / "x.beton", IMAGES, LABELS)
    assert not list(tmp_path.iterdir())
    (tmp_path / "noise.beton").write_bytes(bytes(1000))
    for name in ("noise.beton", "missing.beton"):
        with pytest.raises(ValueError, match=r"^path: expected a file that write_beton wrote"):
            BetonImages(tmp_path / name)


def test_a_missing_ffcv_says_which_line_to_run(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ffcv", None)
    with pytest.raises(RuntimeError, match=r"run .*PKG_CONFIG_PATH=.* pip install '\.\[ffcv\]'"):
        require_ffcv()
    with pytest.raises(RuntimeError, match="pip install"):
        write_beton(tmp_path / "x.beton", IMAGES, LABELS)
