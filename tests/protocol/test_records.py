"""The digest of a data set notices any other record, order, dtype and shape."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest

from pyattr.protocol.records import record_digest, records_digest


def examples(n=40, n_features=300):
    rng = np.random.default_rng(0)
    images = rng.random((n, n_features), dtype=np.float32)
    return images, rng.integers(0, 10, n)


def plain_hash(label, *parts):
    """The definition, from hashlib alone."""
    digest = hashlib.sha256()
    for part in (b"pyattr/" + label, *parts):
        digest.update(struct.pack("<Q", len(part)) + part)
    return digest.hexdigest()


def test_the_definition():
    image, label = np.array([[0.5, -1.0]], np.float32), np.array(3, np.int64)
    record = plain_hash(
        b"record/1",
        *(b"<f4", struct.pack("<QQ", 1, 2), struct.pack("<ff", 0.5, -1.0)),
        *(b"<i8", b"", struct.pack("<q", 3)),
    )
    assert record_digest(image, label) == record
    expected = plain_hash(b"records/1", record.encode(), record.encode())
    assert records_digest(np.stack([image, image]), np.array([3, 3])) == expected


def test_every_change_of_the_data_is_noticed():
    images, labels = examples()
    swapped = labels.copy()
    i, j = 0, int(np.flatnonzero(labels != labels[0])[0])
    swapped[[i, j]] = swapped[[j, i]]
    one_bit = images.copy()
    one_bit.view(np.uint32)[17, 150] ^= 1  # in the middle, where printed arrays have "..."
    changed = {
        "as it is": (images, labels),
        "two labels swapped": (images, swapped),
        "labels shifted": (images, np.roll(labels, 1)),
        "records shifted": (np.roll(images, 1, axis=0), np.roll(labels, 1)),
        "records reversed": (images[::-1], labels[::-1]),
        "images reversed": (images[::-1], labels),
        "one bit": (one_bit, labels),
        "one record less": (images[:-1], labels[:-1]),
        "one record twice": (images[[*range(40), 39]], labels[[*range(40), 39]]),
        "labels of another dtype": (images, labels.astype(np.int32)),
        "unsigned labels": (images, labels.astype(np.uint64)),
        "images of another dtype": (images.astype(np.float64), labels),
        "images of another shape": (images.reshape(40, 15, 20), labels),
        "labels of another shape": (images, labels[:, None]),
        "the two the other way round": (labels, images),
        "no labels": (images,),
        "zero and minus zero": (np.where(images == images[0, 0], -0.0, images), labels),
        "the bytes as another type": (images.view(np.int32), labels),
    }
    digests = {name: records_digest(*columns) for name, columns in changed.items()}
    assert len(set(digests.values())) == len(changed)
    assert str(images) == str(one_bit)  # what a digest of printed arrays would have missed


def test_a_boundary_between_records_cannot_move():
    flat = np.arange(12, dtype=np.float32)
    shapes = [(1, 12), (2, 6), (3, 4), (12,), (12, 1), (4, 3)]
    assert len({records_digest(flat.reshape(shape)) for shape in shapes}) == len(shapes)


def test_the_layout_in_memory_does_not_matter():
    images, labels = examples()
    expected = records_digest(images, labels)
    for other in (
        np.asfortranarray(images),
        images.astype(">f4"),
        np.repeat(images, 2, axis=1)[:, ::2],
    ):
        assert records_digest(other, labels.astype(">i8")) == expected


@pytest.mark.parametrize(
    "columns",
    [
        (),
        (np.empty((0, 3)),),
        (np.zeros(3), np.zeros(4)),
        (np.array(1.0),),
        (np.array(["a", "b"]),),
        (np.array([{}, None], object),),
        (np.zeros(2, np.complex128),),
    ],
)
def test_what_is_no_list_of_records_is_refused(columns):
    with pytest.raises(ValueError, match=r"(columns|fields): expected"):
        records_digest(*columns)
