"""The digest of a data set, record by record: what a manifest says was trained on.

A record is one row of each of several arrays: the features and the label of an example. Its digest
covers the bytes, the dtype and the shape of each, and the digest of the set covers all records in
their order. So a label that moved, an index that shifted and an array of another type are other sets.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value
from pyattr.protocol.hashing import labelled_hash

__all__ = ["record_digest", "records_digest"]

_KINDS: Final = "biuf"  # what is its bytes: no objects, no text of several encodings


def record_digest(*fields: npt.NDArray[Any]) -> str:
    """Digest of one record.

    Parameters
    ----------
    fields : (...) array
        Any shape, of booleans, integers or floats. Values are hashed little-endian in C order, whatever
        the layout in memory.

    Raises
    ------
    ValueError
        If a field has another dtype.
    """
    parts = []
    for field in fields:
        plain = np.asarray(field)
        if plain.dtype.kind not in _KINDS:
            raise bad_value("fields", "arrays of booleans, integers or floats", plain.dtype)
        little = plain.dtype.newbyteorder("<")
        shape = b"".join(size.to_bytes(8, "little") for size in plain.shape)
        parts += [little.str.encode(), shape, plain.astype(little, copy=False).tobytes()]
    return labelled_hash("record/1", *parts)


def records_digest(*columns: npt.NDArray[Any]) -> str:
    """Digest of a list of records.

    Parameters
    ----------
    columns : (n, ...) array
        Record i is row i of each; see `record_digest`.

    Raises
    ------
    ValueError
        If there is no record, or the columns differ in length.

    Examples
    --------
    >>> images, labels = np.eye(3, dtype=np.float32), np.arange(3)
    >>> records_digest(images, labels) == records_digest(images.copy(), labels)
    True
    >>> records_digest(images, labels) == records_digest(images, labels[::-1])
    False
    """
    lengths = {len(column) if np.ndim(column) else 0 for column in columns}
    if len(lengths) != 1 or lengths == {0}:
        raise bad_value("columns", "arrays of one length, at least 1", sorted(lengths))
    records = zip(*columns, strict=True)
    return labelled_hash("records/1", *(record_digest(*r).encode() for r in records))
