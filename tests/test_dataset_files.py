from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from pyattr.dataset_files import read_cifar10, read_idx

NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def idx(array):
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def images_and_labels(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 3072), np.uint8), rng.integers(0, 10, n, np.uint8)


def binary_batch(n, seed=0):
    images, labels = images_and_labels(n, seed)
    return np.column_stack([labels, images]).tobytes()


def python2_string(value):
    return (
        b"U" + bytes([len(value)]) + value
        if len(value) < 256
        else (b"T" + struct.pack("<i", len(value)) + value)
    )


def python2_batch(n, seed=0, dtype=b"u1", labels=None, fortran=b"\x89", columns=3072):
    """A batch as Python 2's cPickle wrote it with protocol 2, opcode by opcode."""
    images, numbers = images_and_labels(n, seed)
    numbers = labels if labels is not None else numbers
    array = b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08",
            b"K\x00\x85U\x01b\x87q\x09Rq\x0a(K\x01M", struct.pack("<H", n),
            b"M", struct.pack("<H", columns), b"\x86cnumpy\ndtype\nq\x0b",
            python2_string(dtype), b"K\x00K\x01\x87q\x0cRq\x0d",
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb", fortran,
            python2_string(images.tobytes()), b"tb",
        ]
    )  # fmt: skip
    return b"".join(
        [
            b"\x80\x02}q\x01(",
            python2_string(b"batch_label"), python2_string(b"training batch 1 of 5"),
            python2_string(b"labels"), b"](", *(b"K" + bytes([k]) for k in numbers), b"e",
            python2_string(b"data"), array,
            python2_string(b"filenames"), b"](", *n * [python2_string(b"a.png")], b"e",
            b"u.",
        ]
    )  # fmt: skip


def archive(path, members):
    with tarfile.open(path, "w:gz") as file:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if info.isreg():
                info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def binary_members(n=4):
    return [
        ("cifar-10-batches-bin/readme.html", b"hello"),
        *((f"cifar-10-batches-bin/{name}.bin", binary_batch(n, k)) for k, name in enumerate(NAMES)),
    ]


def pickle_members(n=4):
    return [(f"cifar-10-batches-py/{name}", python2_batch(n, k)) for k, name in enumerate(NAMES)]


@pytest.mark.parametrize("shape", [(0,), (5,), (3, 4, 2)])
def test_idx(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(idx(array)))
    np.testing.assert_array_equal(read_idx(path, len(shape)), array)


GOOD = idx(np.arange(12, dtype=np.uint8).reshape(3, 4))
BAD_IDX = {
    "empty": gzip.compress(b""),
    "short header": gzip.compress(GOOD[:9]),
    "one byte short": gzip.compress(GOOD[:-1]),
    "one byte long": gzip.compress(GOOD + b"\0"),
    "first byte": gzip.compress(b"\1" + GOOD[1:]),
    "signed bytes": gzip.compress(b"\0\0\x09" + GOOD[3:]),
    "other dimensions": gzip.compress(idx(np.zeros(12, np.uint8))),
    "huge": gzip.compress(struct.pack(">4B2I", 0, 0, 8, 2, 2**32 - 1, 2**32 - 1)),
    "zero times huge": gzip.compress(struct.pack(">4B2I", 0, 0, 8, 2, 0, 2**32 - 1) + b"x"),
    "not compressed": GOOD,
    "truncated gzip": gzip.compress(GOOD)[:-9],
    "wrong checksum": gzip.compress(GOOD)[:-8] + bytes(8),
    "broken stream": gzip.compress(GOOD)[:10] + b"\xff" * 30,
}


@pytest.mark.parametrize("name", BAD_IDX)
def test_bad_idx_is_refused(tmp_path, name):
    path = tmp_path / "a.gz"
    path.write_bytes(BAD_IDX[name])
    with pytest.raises(ValueError, match=r"a\.gz: expected"):
        read_idx(path, 2)


@pytest.mark.parametrize("members", [binary_members, pickle_members])
def test_cifar(tmp_path, members):
    read = read_cifar10(archive(tmp_path / "c.tar.gz", members()))
    expected = [images_and_labels(4, k) for k in range(6)]
    np.testing.assert_array_equal(read[0], np.concatenate([images for images, _ in expected[:5]]))
    np.testing.assert_array_equal(read[1], np.concatenate([labels for _, labels in expected[:5]]))
    np.testing.assert_array_equal(read[2], expected[5][0])
    np.testing.assert_array_equal(read[3], expected[5][1])
    assert {array.dtype for array in read} == {np.dtype(np.uint8)}


def link(name):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


def changed(members, content, which=1):
    members[which] = (members[which][0], content)
    return members


BAD_ARCHIVES = {
    "nothing": list,
    "one missing": lambda: binary_members()[:-1],
    "both kinds": lambda: binary_members() + pickle_members(),
    "twice": lambda: [*binary_members(), binary_members()[1]],
    "link": lambda: [*binary_members()[:-1], (link("cifar-10-batches-bin/test_batch.bin"), b"")],
    "other folder": lambda: [(f"../{name}", content) for name, content in binary_members()],
    "record cut": lambda: changed(binary_members(), binary_batch(4)[:-1]),
    "empty batch": lambda: changed(binary_members(), b""),
    "label 10": lambda: changed(binary_members(), b"\x0a" + binary_batch(4)[1:]),
    "too large": lambda: [("large", bytes((1 << 25) + 1)), *binary_members()],
    "too many": lambda: [*((f"{k}", b"") for k in range(64)), *binary_members()],
    "pickle cut": lambda: changed(pickle_members(), python2_batch(4)[:-1]),
    "pickle of a number": lambda: changed(pickle_members(), pickle.dumps(7)),
    "pickle of nothing": lambda: changed(pickle_members(), pickle.dumps({})),
    "object array": lambda: changed(pickle_members(), python2_batch(4, dtype=b"O8")),
    "columns": lambda: changed(pickle_members(), python2_batch(4, columns=3071)),
    "fortran order": lambda: changed(pickle_members(), python2_batch(4, fortran=b"\x88")),
    "pickled label 10": lambda: changed(pickle_members(), python2_batch(4, labels=[0, 1, 2, 10])),
    "labels missing": lambda: changed(pickle_members(), python2_batch(4, labels=[0, 1, 2])),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_bad_archives_are_refused(tmp_path, name):
    path = archive(tmp_path / "c.tar.gz", BAD_ARCHIVES[name]())
    with pytest.raises(ValueError, match=r"c\.tar\.gz.*expected"):
        read_cifar10(path)
    assert list(tmp_path.iterdir()) == [path]  # nothing was extracted


@pytest.mark.parametrize("cut", [0, 1, 100, 2000])
def test_broken_archives_are_refused(tmp_path, cut):
    path = archive(tmp_path / "c.tar.gz", binary_members())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="expected"):
        read_cifar10(path)


class RunsCommand:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def through(path, module, name):
    """A pickle that calls a global by name."""
    return f"c{module}\n{name}\n".encode() + python2_string(f"touch {path}".encode()) + b"\x85R."


def test_hostile_pickles_run_nothing(tmp_path):
    proof = tmp_path / "proof"
    hostile = [
        pickle.dumps({b"data": RunsCommand(proof), b"labels": [1]}, 2),
        through(proof, "os", "system"),
        through(proof, "posix", "system"),
        through(proof, "builtins", "eval"),
        through(proof, "__builtin__", "eval"),
        through(proof, "numpy.core.multiarray", "scalar"),
        through(proof, "numpy", "load"),
        through(proof, "numpy.testing", "runstring"),
        through(proof, "numpy", "ndarray.__reduce__"),
        through(proof, "numpy", "core.os.system"),
        pickle.dumps(RunsCommand(proof), 4),
        b"Pperson\n.",  # a persistent id
        b"\x80\x02\x82\x01.",  # an extension code
        # State set on a stand-in itself instead of an instance
        b"cnumpy\nndarray\n}(U\x06imagesK\x01ub.",
        b"cnumpy\ndtype\nN}(U\x08__init__K\x01u\x86b.",
    ]
    # The first of them does run where nothing stops it: the test can fail.
    with pytest.raises(AttributeError), io.BytesIO(hostile[0]) as file:
        pickle.load(file).no_such_method()
    assert proof.exists()
    proof.unlink()
    for content in hostile:
        path = archive(tmp_path / "c.tar.gz", changed(pickle_members(), content))
        with pytest.raises(ValueError, match="pickled CIFAR-10 batch"):
            read_cifar10(path)
        assert not proof.exists()
    path = archive(tmp_path / "c.tar.gz", pickle_members())
    assert len(read_cifar10(path)[0]) == 20  # the stand-ins are as they were


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "memo entry 2147483647 is not allowed"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".", "pickled CIFAR-10 batch"),
        (b"Pperson\n.", "PERSID is not allowed"),
        (b"\x80\x02\x82\x01.", "EXT1 is not allowed"),
        (b"cos\nsystem\n.", "os.system is not allowed"),
    ],
)
def test_pickles_are_refused_before_they_take_memory(tmp_path, content, message):
    path = archive(tmp_path / "c.tar.gz", changed(pickle_members(), content))
    with pytest.raises(ValueError, match=message):
        read_cifar10(path)
