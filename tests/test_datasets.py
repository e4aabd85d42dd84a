from __future__ import annotations

import gzip
import http.server
import io
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from idx_files import idx
from sklearn.datasets import load_digits

from pyattr import datasets
from pyattr.datasets import load

FASHION = Path("/usr/share/datasets/fashion-mnist")


def rows(images):
    return {image.tobytes() for image in images}


def assert_consistent(data, n_features):
    assert data.train_images.shape == (data.n_train, n_features)
    assert data.test_images.shape == (data.n_test, n_features)
    assert np.prod(data.image_shape) == n_features
    assert data.train_images.dtype == data.test_images.dtype == np.float32
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert data.n_classes == len(data.class_names) == 10
    for images in (data.train_images, data.test_images):
        assert images.min() == 0.0
        assert images.max() == 1.0
    for labels in (data.train_labels, data.test_labels):
        assert labels.min() >= 0
        assert labels.max() <= 9


def assert_equal(a, b):
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_digits():
    data = load("digits")
    assert_consistent(data, 64)
    assert (data.name, data.n_train, data.n_test, data.image_shape) == ("digits", 1000, 797, (8, 8))
    assert data.train_flipped is None
    bunch = load_digits()
    label_of = dict(zip(map(bytes, bunch.data.astype(np.uint8)), bunch.target, strict=True))
    for images, labels in (
        (data.train_images, data.train_labels),
        (data.test_images, data.test_labels),
    ):
        assert [label_of[bytes((16 * x).astype(np.uint8))] for x in images] == labels.tolist()
    together = np.concatenate([data.train_images, data.test_images])
    assert rows(together) == rows((bunch.data / 16).astype(np.float32))
    # Shuffled: every class is there in either part, about equally often.
    assert np.bincount(data.train_labels).min() > 70


def test_digits_are_pinned():
    """Both parties of a session must hold the same data: the order never changes."""
    data = load("digits", 5, 5, seed=7, flip_fraction=0.4)
    assert data.train_labels.tolist() == [5, 4, 9, 5, 4]
    assert data.train_flipped.tolist() == [True, False, False, False, True]
    assert data.test_labels.tolist() == [2, 5, 1, 0, 6]
    assert data.train_images.sum(axis=1).tolist() == [24.0625, 19.6875, 21.9375, 18.0, 20.9375]


def test_sizes_are_nested_and_seeds_differ():
    whole, part = load("digits", 900, 800, seed=3), load("digits", 100, 50, seed=3)
    np.testing.assert_array_equal(whole.train_images[:100], part.train_images)
    np.testing.assert_array_equal(whole.test_labels[:50], part.test_labels)
    assert load("digits", 1797).n_test == 0
    other = load("digits", 900, 800, seed=4)
    assert (whole.train_labels != other.train_labels).mean() > 0.8
    assert_equal(whole, load("digits", 900, 800, seed=3))


def test_flips():
    clean = load("digits", 1000, seed=1)
    flipped = load("digits", 1000, seed=1, flip_fraction=0.3)
    np.testing.assert_array_equal(flipped.train_images, clean.train_images)
    np.testing.assert_array_equal(flipped.test_labels, clean.test_labels)
    wrong = flipped.train_labels != clean.train_labels
    np.testing.assert_array_equal(wrong, flipped.train_flipped)
    assert wrong.sum() == 300
    # Each of the 9 other classes is as likely: a chi-squared statistic with 8 degrees of freedom
    # exceeds 40 with probability 3e-6.
    step = (flipped.train_labels - clean.train_labels)[wrong] % 10
    count = np.bincount(step, minlength=10)[1:]
    assert np.square(count - 300 / 9).sum() / (300 / 9) < 40
    assert load("digits", 100, flip_fraction=1.0).train_flipped.all()


def test_fashion_mnist_from_a_folder(fashion_folder):
    data = load("fashion-mnist", path=fashion_folder)
    assert_consistent(data, 784)
    assert (data.n_train, data.n_test, data.image_shape) == (30, 12, (28, 28))
    part = load("fashion-mnist", n_train=7, n_test=3, path=str(fashion_folder))
    np.testing.assert_array_equal(part.train_images, data.train_images[:7])
    np.testing.assert_array_equal(part.test_labels, data.test_labels[:3])


def test_pixels_are_pooled(fashion_folder):
    data = load("fashion-mnist", path=fashion_folder, flip_fraction=0.2)
    half = data.pooled(2)
    assert (half.image_shape, half.train_images.dtype) == ((14, 14), np.float32)
    for name in ("train_images", "test_images"):
        images, small = getattr(data, name), getattr(half, name)
        square = images.reshape(-1, 28, 28)[:, 4:6, 10:12].astype(np.float64).mean(axis=(1, 2))
        np.testing.assert_allclose(small.reshape(-1, 14, 14)[:, 2, 5], square, rtol=1e-6)
    assert half.train_flipped is data.train_flipped
    assert half.train_labels is data.train_labels
    assert_equal(data.pooled(1), data)
    for size in (3, 0, 29):
        with pytest.raises(ValueError, match=r"^size: expected"):
            data.pooled(size)


def test_colours_are_pooled_apart(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 3, 32, 32), np.uint8)
    part = images, np.arange(20, dtype=np.uint8) % 10
    monkeypatch.setattr(datasets, "read_cifar10", lambda path: (*part, *part))
    data = load("cifar10", path=__file__)
    small = data.pooled(4)
    assert small.image_shape == (3, 8, 8)
    expected = data.train_images.reshape(20, 3, 8, 4, 8, 4).mean(axis=(3, 5))
    np.testing.assert_allclose(small.train_images.reshape(20, 3, 8, 8), expected, rtol=1e-5)


def test_wrong_fashion_mnist_is_refused(fashion_folder, tmp_path):
    def folder(**replaced):
        for file in fashion_folder.iterdir():
            content = replaced.get(file.name.split("-ubyte")[0].replace("-", "_"))
            (tmp_path / file.name).write_bytes(
                file.read_bytes() if content is None else gzip.compress(idx(content))
            )
        return tmp_path

    for replaced in (
        {"train_labels_idx1": np.zeros(29, np.uint8)},
        {"train_labels_idx1": np.full(30, 10, np.uint8)},
        {"t10k_images_idx3": np.zeros((12, 28, 27), np.uint8)},
        {
            "t10k_images_idx3": np.zeros((0, 28, 28), np.uint8),
            "t10k_labels_idx1": np.zeros(0, "u1"),
        },
        {"t10k_labels_idx1": np.zeros((12, 1), np.uint8)},
    ):
        with pytest.raises(ValueError, match="expected"):
            load("fashion-mnist", path=folder(**replaced))
    (folder() / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels"):
        load("fashion-mnist", path=tmp_path)


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian package dataset-fashion-mnist missing")
def test_real_fashion_mnist():
    data = load("fashion-mnist", n_train=20_000, seed=1)
    assert_consistent(data, 784)
    assert (data.n_train, data.n_test) == (20_000, 10_000)
    assert np.bincount(data.test_labels).tolist() == 10 * [1000]
    # A class of 6,000 in 60,000 is in 2,000 ± 35 of 20,000 drawn; the bound is 7 of these.
    assert np.abs(np.bincount(data.train_labels) - 2000).max() < 250
    # Images belong to their labels: means of classes classify two thirds of the test images.
    means = np.array([data.train_images[data.train_labels == k].mean(axis=0) for k in range(10)])
    distance = np.square(means).sum(axis=1) - 2 * data.test_images @ means.T
    assert (distance.argmin(axis=1) == data.test_labels).mean() > 0.65


def test_cifar10(tmp_path):
    file = tmp_path / "cifar-10-binary.tar.gz"
    rng = np.random.default_rng(5)
    with tarfile.open(file, "w:gz") as archive:
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            records = rng.integers(0, 256, (200, 3073), np.uint8)
            records[:, 0] %= 10
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = records.size
            archive.addfile(info, io.BytesIO(records.tobytes()))
    data = load("cifar10", path=file)
    assert_consistent(data, 3072)
    assert (data.n_train, data.n_test, data.image_shape) == (1000, 200, (3, 32, 32))
    assert_equal(data, load("cifar10", path=tmp_path))  # its folder
    label_of = {
        image.tobytes(): label for label, image in zip(records[:, 0], records[:, 1:], strict=True)
    }
    pixels = np.rint(255 * data.test_images).astype(np.uint8)
    assert [label_of[image.tobytes()] for image in pixels] == data.test_labels.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mnist"}, "name"),
        ({"name": "digits", "n_train": 0}, "n_train"),
        ({"name": "digits", "n_train": 1798}, "n_train"),
        ({"name": "digits", "n_train": 1000, "n_test": 798}, "n_test"),
        ({"name": "digits", "seed": -1}, "seed"),
        ({"name": "digits", "seed": 2**64}, "seed"),
        ({"name": "digits", "flip_fraction": 1.1}, "flip_fraction"),
        ({"name": "digits", "flip_fraction": float("nan")}, "flip_fraction"),
        ({"name": "digits", "path": "here"}, "path"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"{message}: expected"):
        load(**arguments)


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder at 127.0.0.1, and counts."""

    def __init__(self, folder):
        self.paths = []
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments):
                super().__init__(*arguments, directory=folder)

            def log_message(self, *_):
                server.paths.append(self.path)

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def fashion_server(fashion_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "_DEBIAN_FASHION", tmp_path / "missing")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Server(fashion_folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setattr(datasets, "_FASHION_URL", url)
        yield server
        server.shutdown()
        thread.join()


def test_download_is_checked_and_kept(fashion_server, fashion_folder, monkeypatch):
    with pytest.raises(RuntimeError, match="another SHA-256"):
        load("fashion-mnist")  # the server's files are not the authors'
    pooch = pytest.importorskip("pooch")
    pinned = {name: pooch.file_hash(fashion_folder / name) for name in datasets._FASHION_FILES}
    monkeypatch.setattr(datasets, "_FASHION_FILES", pinned)
    data = load("fashion-mnist")
    assert_equal(data, load("fashion-mnist", path=fashion_folder))
    n_requests = len(fashion_server.paths)
    load("fashion-mnist")
    assert len(fashion_server.paths) == n_requests == 5


def test_no_file_and_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "_DEBIAN_FASHION", tmp_path / "missing")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Nobody listens at port 9 (discard) of this machine.
    monkeypatch.setattr(datasets, "_FASHION_URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(datasets, "_CIFAR_URL", "http://127.0.0.1:9/")
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist or pass path="):
        load("fashion-mnist")
    with pytest.raises(FileNotFoundError, match="pass path= to the archive"):
        load("cifar10")
    with pytest.raises(FileNotFoundError, match=r"cifar-10-binary\.tar\.gz"):
        load("cifar10", path=tmp_path)


def test_needs_only_numpy_to_import():
    """scikit-learn and pooch are optional: their absence is told in one sentence, when needed."""
    script = """
import sys
sys.modules["sklearn.datasets"] = sys.modules["pooch"] = None  # as if not installed
from pyattr import datasets
for name, error in (("digits", RuntimeError), ("cifar10", FileNotFoundError)):
    try:
        datasets.load(name)
    except error as told:
        assert "pip install" in str(told)
    else:
        raise AssertionError(name)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
