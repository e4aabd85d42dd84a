"""Images in memory and on a device: what is kept, what is normalised, the bytes of an augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyattr import reference
from pyattr.augmentation import Augmentation
from pyattr.retraining.augmented_tensor import augment_tensor
from pyattr.retraining.images import ImagePool, ImagesInMemory, Schedule

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (1500, 4, 5, 3), np.uint8)  # more than one chunk
FEATURES = (BYTES.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2).reshape(1500, -1)
LABELS = np.arange(1500) % 3
SIZE = (3, 4, 5)


def pool(x, size=SIZE):
    return ImagePool.of(x, LABELS, FEATURES[:7], LABELS[:7], size)


def test_multiples_of_1_255_are_kept_as_bytes_and_nothing_else_is():
    kept = ImagesInMemory.of_features(FEATURES, *SIZE)
    np.testing.assert_array_equal(kept.images, BYTES)
    for x in (FEATURES * np.float32(1.1), FEATURES - np.float32(0.5), FEATURES * np.float32(1e30)):
        floats = ImagesInMemory.of_features(x, *SIZE)
        assert floats.dtype == np.float32
        np.testing.assert_array_equal(
            floats.images, x.reshape(-1, *SIZE).transpose(0, 2, 3, 1), strict=True
        )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mean_deviation_and_fill_are_the_whole_pools(dtype):
    made = pool(FEATURES if dtype == np.uint8 else np.nextafter(FEATURES, np.float32(2)))
    exact = BYTES.reshape(-1, 3) / 255
    assert made.source.dtype == dtype
    np.testing.assert_allclose(made.mean, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(made.deviation, exact.std(0), rtol=1e-6)
    one = 255 if dtype == np.uint8 else 1
    np.testing.assert_allclose(made.fill, np.rint(255 * exact.mean(0)) / 255 * one, rtol=1e-6)


def test_a_channel_of_one_colour_is_not_divided_by_0():
    grey = BYTES.copy()
    grey[..., 1] = 77
    made = pool(ImagesInMemory(grey))
    assert made.deviation[1] == 1.0
    assert made.mean[1] == pytest.approx(77 / 255)


def test_the_checksum_is_that_of_the_features_however_they_are_kept():
    import zlib

    expected = zlib.crc32(FEATURES.tobytes())
    assert pool(FEATURES).crc32()["train_features"] == expected
    assert pool(ImagesInMemory(BYTES)).crc32()["train_features"] == expected
    kept = pool(ImagesInMemory(BYTES))
    np.testing.assert_array_equal(kept.arrays()["train_features"], FEATURES)
    assert {name: zlib.crc32(a.tobytes()) for name, a in kept.arrays().items()} == kept.crc32()
    assert pool(ImagesInMemory(BYTES[::-1])).crc32()["train_features"] != expected


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_batches_are_the_definition(dtype):
    source = ImagesInMemory(BYTES[:40].astype(dtype))
    augmentation, fill = Augmentation(flip=True, translate=2, cutout=2), np.array([1, 2, 3], dtype)
    schedule = Schedule.of(np.arange(40) % 4 > 0, 6, 5, 16, augmentation)
    for step, batch in enumerate(source.batches(schedule, fill)):
        rows, draws = schedule.rows[step], schedule.draws(step, 4, 5)
        expected = reference.augment_images(source.images, rows, draws, 2, fill)
        np.testing.assert_array_equal(batch, expected, strict=True)
        assert (rows % 4 > 0).all()
    assert step == 4


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 4, 3), (28, 28, 1), (32, 32, 3)])
def test_images_on_a_device_are_augmented_to_the_same_bytes(shape, dtype, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    height, width, channels = shape
    images = RNG.integers(0, 256, (9, *shape)).astype(dtype)
    rows, fill = RNG.integers(0, 9, 300).astype(np.int32), np.arange(channels).astype(dtype)
    square = min(height, width) // 2
    draws = np.stack(
        [
            RNG.integers(0, 2, 300),
            RNG.integers(1 - height, height, 300),
            RNG.integers(1 - width, width, 300),
            RNG.integers(0, height - square + 1, 300),
            RNG.integers(0, width - square + 1, 300),
        ],
        1,
    ).astype(np.int32)
    on_device = [torch.from_numpy(a).to(device) for a in (images, rows.astype(np.int64), draws)]
    got = augment_tensor(*on_device, square, torch.from_numpy(fill).to(device)).cpu().numpy()
    expected = reference.augment_images(images, rows, draws, square, fill)
    np.testing.assert_array_equal(got, expected, strict=True)


def test_refuses():
    wrong = [
        ("train_features", FEATURES[:, :-1]),
        ("train_features", FEATURES.astype(np.float64)),
        ("train_features", np.full_like(FEATURES, np.nan)),
        ("train_features", ImagesInMemory(BYTES[:, :, :4])),
        ("train_labels", ImagesInMemory(BYTES[:9])),
    ]
    for name, x in wrong:
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            pool(x)
    with pytest.raises(ValueError, match=r"^test_features: expected 48 features"):
        pool(FEATURES, (3, 4, 4))
