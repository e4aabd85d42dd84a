"""Merkle tree over salted rows: one digest binds all outputs, and each can be shown alone.

Row i becomes the leaf ``salt_i ‖ i ‖ row``, hashed as RFC 9162 (section 2.1.1) says: leaves behind
a byte 0x00, inner nodes behind 0x01, and n leaves split at the largest power of two below n. Then

- no node passes as a leaf (second preimage): the first byte differs;
- no leaf can be repeated unseen (CVE-2012-2459): an odd node goes up as it is, without a twin;
- no row can be shown at another place: its index is in its leaf;
- no row can be guessed from its leaf: ``salt_i = HMAC-SHA256(key, i)`` is unknown until opened, and
  one salt says nothing about the others. The key is the digest of the caller's salt key and of a
  context, so a root that was copied from another session opens in that session only.

The root alone does not bind the number of leaves (the same path may fit several): it is stated with
the root, as in RFC 9162's signed tree heads, and whoever checks an opening says what it was.

Bytes only: what a row means is the caller's matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pyattr.errors import Rejected, bad_value
from pyattr.protocol.hashing import (
    SALT_BYTES,
    equal,
    keyed_hash,
    labelled_hash,
    tree_leaf,
    tree_node,
)

__all__ = [
    "MOST_LEAVES",
    "Opening",
    "inclusion_proof",
    "inclusion_proofs",
    "root",
    "verify_opening",
]

MOST_LEAVES: Final = 2**31
_CHECK: Final = "outputs commitment"

_Hex256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z", max_length=64)]
Row = bytes | memoryview


class Opening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shows that a row is in the tree, at one place; to be written as JSON.

    Parameters
    ----------
    index : int
        Of the row, from 0.
    n_leaves : int
        Of the tree.
    salt : str
        Of the row's leaf: 32 bytes, hexadecimal.
    path : tuple of str
        Digests of the siblings from the leaf to the root (RFC 9162, section 2.1.3), hexadecimal.
    """

    index: Annotated[int, Meta(ge=0, lt=MOST_LEAVES)]
    n_leaves: Annotated[int, Meta(ge=1, le=MOST_LEAVES)]
    salt: _Hex256
    path: Annotated[tuple[_Hex256, ...], Meta(max_length=31)]


def root(rows: Iterable[Row], salt_key: bytes, *, context: bytes) -> str:
    """Commit to rows, which are read once; memory is O(log n).

    Parameters
    ----------
    rows : iterable of bytes or memoryview
        At least one, at most `MOST_LEAVES`; each contiguous.
    salt_key : bytes
        32 random bytes that serve no other tree.
    context : bytes
        What this tree belongs to, such as a session's id.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ValueError
        If there are no rows or too many, or the key has another length.
    """
    return _tree_head(_leaves(rows, salt_key, context)).hex()


def inclusion_proof(rows: Sequence[Row], salt_key: bytes, index: int, *, context: bytes) -> Opening:
    """Open one row of the tree that `root` commits to; see `inclusion_proofs`."""
    return inclusion_proofs(rows, salt_key, [index], context=context)[0]


def inclusion_proofs(
    rows: Iterable[Row], salt_key: bytes, indices: Iterable[int], *, context: bytes
) -> list[Opening]:
    """Open rows of the tree that `root` commits to.

    The tree is built once for all of them, in O(n) memory.

    Parameters
    ----------
    rows, salt_key, context
        As they were given to `root`.
    indices : iterable of int
        Of the rows to open.

    Returns
    -------
    list of Opening
        In the order of `indices`.

    Raises
    ------
    ValueError
        As from `root`, or if there is no such row.
    """
    levels = [list(_leaves(rows, salt_key, context))]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = zip(below[::2], below[1::2], strict=False)
        levels.append([tree_node(*pair) for pair in pairs] + below[len(below) & ~1 :])
    n_leaves = len(levels[0])
    key = _leaf_key(salt_key, context)
    openings = []
    for index in indices:
        if not 0 <= index < n_leaves:
            raise bad_value("index", f"one of {n_leaves} rows", index)
        path = [levels[level][at].hex() for level, at in _siblings(index, n_leaves)]
        salt = keyed_hash(key, index.to_bytes(8, "little")).hex()
        openings.append(Opening(index=index, n_leaves=n_leaves, salt=salt, path=tuple(path)))
    return openings


def verify_opening(root: str, n_leaves: int, opening: Opening, row: Row) -> None:
    """Check that a row is in a tree, at the place its opening says (RFC 9162, section 2.1.3.2).

    Parameters
    ----------
    root : str
        The commitment.
    n_leaves : int
        Number of rows that was stated together with it.
    opening : Opening
    row : bytes or memoryview

    Raises
    ------
    Rejected
        If it is not.
    """
    try:  # msgspec checks bounds when it decodes and not when a Struct is made
        msgspec.convert(msgspec.to_builtins(opening), Opening)
    except msgspec.MsgspecError as error:
        raise Rejected(_CHECK, str(error), "an opening within its bounds") from None
    if opening.n_leaves != n_leaves:
        raise Rejected(_CHECK, f"{opening.n_leaves} leaves", f"{n_leaves} leaves")
    index = opening.index
    if index >= n_leaves:
        raise Rejected(_CHECK, f"index {index}", f"index below {n_leaves}")
    siblings = list(_siblings(index, n_leaves))
    if len(opening.path) != len(siblings):
        raise Rejected(_CHECK, f"path of {len(opening.path)}", f"path of {len(siblings)}")
    node = tree_leaf(bytes.fromhex(opening.salt), index.to_bytes(8, "little"), row)
    for (level, at), digest in zip(siblings, opening.path, strict=True):
        sibling = bytes.fromhex(digest)
        is_left = at < index >> level
        node = tree_node(sibling, node) if is_left else tree_node(node, sibling)
    if not equal(node.hex(), root):
        raise Rejected(_CHECK, f"root {node.hex()}", f"root {root}")


def _leaf_key(salt_key: bytes, context: bytes) -> bytes:
    if len(salt_key) != SALT_BYTES:
        raise bad_value("salt_key", f"{SALT_BYTES} bytes", len(salt_key))
    return bytes.fromhex(labelled_hash("leaf-salts/1", salt_key, context))


def _leaves(rows: Iterable[Row], salt_key: bytes, context: bytes) -> Iterator[bytes]:
    """Digests of the salted leaves: at least one."""
    key = _leaf_key(salt_key, context)
    i = -1
    for i, row in enumerate(rows):
        if i == MOST_LEAVES:
            raise bad_value("rows", f"at most {MOST_LEAVES}", "more")
        index = i.to_bytes(8, "little")
        yield tree_leaf(keyed_hash(key, index), index, row)
    if i < 0:
        raise bad_value("rows", "at least one", 0)


def _tree_head(leaves: Iterable[bytes]) -> bytes:
    """Root over digests of one leaf or more (RFC 9162, section 2.1.1).

    Complete subtrees wait in a list, one for each 1 in the binary form of the number of leaves so
    far, the largest first. At the end they are joined from the right, which splits each remainder
    at its largest power of two.
    """
    waiting: list[bytes] = []
    for n_before, leaf in enumerate(leaves):
        node = leaf
        while n_before & 1:
            node = tree_node(waiting.pop(), node)
            n_before >>= 1
        waiting.append(node)
    head = waiting.pop()
    while waiting:
        head = tree_node(waiting.pop(), head)
    return head


def _siblings(index: int, n_leaves: int) -> Iterator[tuple[int, int]]:
    """Level and place of each node on the path of a leaf.

    Level by level, neighbours are joined and a last node without one goes up as it is: the same
    tree as the recursive definition's.
    """
    at, last = index, n_leaves - 1
    for level in range(last.bit_length()):
        if at & 1:
            yield level, at - 1
        elif at < last:
            yield level, at + 1
        at, last = at >> 1, last >> 1
