"""The tree against its recursive definition, published roots, and every way to lie about a row."""

from __future__ import annotations

import hashlib
import hmac
import tracemalloc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pyattr.errors import Rejected
from pyattr.protocol import merkle
from pyattr.protocol.hashing import keyed_hash, labelled_hash, tree_leaf, tree_node
from pyattr.protocol.merkle import (
    MOST_LEAVES,
    Opening,
    inclusion_proof,
    inclusion_proofs,
    root,
    verify_opening,
)

KEY = bytes(range(32))
CONTEXT = b"one session"

# Leaves and tree heads for 1 to 8 leaves that implementations of RFC 6962 and 9162 test with.
PUBLISHED_LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
PUBLISHED_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def sha256(data):
    return hashlib.sha256(data).digest()


def split(n):
    """Largest power of two below n."""
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def defined_head(leaves):
    """MTH of RFC 9162, section 2.1.1, word for word."""
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0])
    k = split(len(leaves))
    return sha256(b"\x01" + defined_head(leaves[:k]) + defined_head(leaves[k:]))


def defined_path(m, leaves):
    """PATH of RFC 9162, section 2.1.3.1, word for word."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*defined_path(m, leaves[:k]), defined_head(leaves[k:])]
    return [*defined_path(m - k, leaves[k:]), defined_head(leaves[:k])]


def salted(rows, key=KEY, context=CONTEXT):
    """The leaves as the module's documentation describes them."""
    leaf_key = bytes.fromhex(labelled_hash("leaf-salts/1", key, context))
    indices = [i.to_bytes(8, "little") for i in range(len(rows))]
    salts = [hmac.new(leaf_key, index, hashlib.sha256).digest() for index in indices]
    return [salt + index + row for salt, index, row in zip(salts, indices, rows, strict=True)]


def rows_of(n):
    return [b"row %d" % i for i in range(n)]


def accepts(head, n_leaves, opening, row):
    try:
        verify_opening(head, n_leaves, opening, row)
    except Rejected as rejected:
        if rejected.check != "outputs commitment":
            raise
        return False
    return True


def flipped(digest):
    """Every digit of a hexadecimal digest changed by one bit, one at a time."""
    return [
        digest[:i] + f"{int(digest[i], 16) ^ 1:x}" + digest[i + 1 :] for i in range(len(digest))
    ]


@pytest.mark.parametrize("n", range(1, 9))
def test_tree_heads_are_the_published_ones(n):
    leaves = PUBLISHED_LEAVES[:n]
    assert merkle._tree_head(map(tree_leaf, leaves)).hex() == PUBLISHED_ROOTS[n - 1]
    assert defined_head(leaves).hex() == PUBLISHED_ROOTS[n - 1]


def test_the_commitment_stays_what_it_was():
    # Not computed anew when something changes: roots in old evidence must still open.
    expected = "1e787f3f3322f095d04c3a2d74e4ab17c43fa6f86c4a2af0fabe9d99d7931e1d"
    assert root(rows_of(5), KEY, context=CONTEXT) == expected
    assert defined_head(salted(rows_of(5))).hex() == expected


def test_hmac_is_that_of_rfc_4231():
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert keyed_hash(b"Jefe", b"what do ya want for nothing?").hex() == expected


@pytest.mark.parametrize("n", range(1, 71))
def test_every_row_opens_and_every_changed_field_is_refused(n):
    rows = rows_of(n)
    head = root(iter(rows), KEY, context=CONTEXT)
    leaves = salted(rows)
    assert head == defined_head(leaves).hex()
    openings = inclusion_proofs(rows, KEY, range(n), context=CONTEXT)
    for i, opening in enumerate(openings):
        path = tuple(digest.hex() for digest in defined_path(i, leaves))
        assert opening == Opening(index=i, n_leaves=n, salt=leaves[i][:32].hex(), path=path)
        assert accepts(head, n, opening, rows[i])

        assert not accepts(head, n, opening, rows[i] + b"\x00")
        assert not accepts(head, n, opening, rows[i][:-1])
        assert not accepts(flipped(head)[i % 64], n, opening, rows[i])
        for other in {*range(n + 1), -1, i + MOST_LEAVES} - {i}:
            assert not accepts(head, n, replace(opening, index=other), rows[i])
        for other in {1, n - 1, n + 1, 2 * n, 0, -1, MOST_LEAVES + 1} - {n}:
            assert not accepts(head, n, replace(opening, n_leaves=other), rows[i])
        assert not accepts(head, n, replace(opening, salt=flipped(opening.salt)[i % 64]), rows[i])
        wrong_paths = [(*path, "00" * 32), ("00" * 32, *path), path[1:], path[:-1], path[::-1]]
        wrong_paths += [
            (*path[:level], flipped(digest)[i % 64], *path[level + 1 :])
            for level, digest in enumerate(path)
        ]
        for wrong in wrong_paths:
            if wrong != path:
                assert not accepts(head, n, replace(opening, path=wrong), rows[i])


def test_another_number_of_leaves_is_refused_though_the_path_would_fit():
    # Row 0 of 5 to 8 rows has a path of 3 in each tree: the head alone does not tell them apart.
    rows = rows_of(7)
    head = root(rows, KEY, context=CONTEXT)
    opening = inclusion_proof(rows, KEY, 0, context=CONTEXT)
    for n_leaves in (5, 6, 8):
        claimed = replace(opening, n_leaves=n_leaves)
        assert not accepts(head, 7, claimed, rows[0])
        assert accepts(head, n_leaves, claimed, rows[0])  # so the number must come with the head


def test_a_refusal_says_which_bound_was_passed():
    rows = rows_of(5)
    head = root(rows, KEY, context=CONTEXT)
    opening = inclusion_proof(rows, KEY, 4, context=CONTEXT)
    changes = {
        "observed index 5, allowed index below 5": {"index": 5},
        "observed 6 leaves, allowed 5 leaves": {"n_leaves": 6},
        "observed path of 0, allowed path of 1": {"path": ()},
        f"observed root .{{64}}, allowed root {head}": {"salt": "00" * 32},
    }
    for says, change in changes.items():
        with pytest.raises(Rejected, match=f"outputs commitment: {says}"):
            verify_opening(head, 5, replace(opening, **change), rows[4])


@pytest.mark.parametrize(
    "fault",
    [
        {"salt": "0" * 63},
        {"salt": "0" * 66},
        {"salt": "G" * 64},
        {"salt": "0" * 64 + "\n"},
        {"salt": None},
        {"path": ("0" * 62,) * 3},
        {"path": ("zz" * 32,) * 3},
        {"path": ("00" * 32,) * 32},
        {"path": None},
        {"index": 1.0},
        {"index": "1"},
        {"n_leaves": None},
    ],
    ids=str,
)
def test_an_opening_out_of_its_bounds_is_refused(fault):
    rows = rows_of(8)
    head = root(rows, KEY, context=CONTEXT)
    opening = inclusion_proof(rows, KEY, 1, context=CONTEXT)
    assert accepts(head, 8, opening, rows[1])
    assert not accepts(head, 8, replace(opening, **fault), rows[1])


def test_openings_are_written_as_json_and_read_strictly():
    opening = inclusion_proof(rows_of(5), KEY, 3, context=CONTEXT)
    text = msgspec.json.encode(opening)
    assert msgspec.json.decode(text, type=Opening) == opening
    for wrong in (
        text.replace(b'"index":3', b'"index":-1'),
        text.replace(b'"index":3', b'"index":2147483648'),
        text.replace(b'"n_leaves":5', b'"n_leaves":2147483649'),
        text.replace(b'"n_leaves":5', b'"n_leaves":0'),
        text.replace(b'"salt":"', b'"salt":"0'),
        text[:-1] + b',"more":1}',
    ):
        assert wrong != text
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(wrong, type=Opening)


def test_a_repeated_last_row_changes_the_root():
    # CVE-2012-2459: where odd nodes are paired with themselves, both lists have one root.
    def head_with_twins(nodes):
        while len(nodes) > 1:
            nodes = nodes + nodes[-1:] if len(nodes) & 1 else nodes
            nodes = [tree_node(*pair) for pair in zip(nodes[::2], nodes[1::2], strict=True)]
        return nodes[0]

    for n in range(3, 40, 2):
        leaves = [tree_leaf(row) for row in rows_of(n)]
        repeated = [*leaves, leaves[-1]]
        assert head_with_twins(leaves) == head_with_twins(repeated)  # the attack itself works
        assert merkle._tree_head(leaves) != merkle._tree_head(repeated)
        rows = rows_of(n)
        assert root(rows, KEY, context=CONTEXT) != root([*rows, rows[-1]], KEY, context=CONTEXT)


def test_a_node_is_no_leaf():
    # Second preimage: were leaves hashed without a prefix, two children would be one long leaf.
    leaves = [b"a", b"b", b"c", b"d"]
    nodes = [tree_leaf(leaf) for leaf in leaves]
    pairs = [nodes[0] + nodes[1], nodes[2] + nodes[3]]
    assert merkle._tree_head(map(tree_leaf, pairs)) != merkle._tree_head(nodes)
    assert defined_head(pairs) != defined_head(leaves)

    # The same with an opening: salt and index of the forged leaf are what stands at their places.
    rows = rows_of(2)
    head = root(rows, KEY, context=CONTEXT)
    children = b"".join(sha256(b"\x00" + leaf) for leaf in salted(rows))
    assert sha256(b"\x01" + children).hex() == head
    index = int.from_bytes(children[32:40], "little")
    forged = Opening(index=index, n_leaves=1, salt=children[:32].hex(), path=())
    for claimed in (forged, replace(forged, index=0)):
        assert not accepts(head, 1, claimed, children[40:])


def test_salts_hide_rows_that_can_be_guessed():
    rows = [bytes(400)] * 64
    leaves = list(merkle._leaves(rows, KEY, CONTEXT))
    assert len(set(leaves)) == 64
    # A guess of the row is confirmed with its salt only, and each row has its own.
    openings = inclusion_proofs(rows, KEY, range(64), context=CONTEXT)
    head = root(rows, KEY, context=CONTEXT)
    assert len({opening.salt for opening in openings}) == 64
    assert not accepts(head, 64, replace(openings[0], salt=openings[1].salt), rows[0])
    # Without salts one opened row would confirm a guess of its neighbour.
    assert openings[0].path[0] == leaves[1].hex() != tree_leaf(rows[1]).hex()


def test_the_root_depends_on_key_and_context():
    rows = rows_of(9)
    heads = {
        root(rows, KEY, context=CONTEXT),
        root(rows, KEY, context=b"another session"),
        root(rows, bytes(32), context=CONTEXT),
        root(rows[::-1], KEY, context=CONTEXT),
        root([*rows[:7], rows[7] + rows[8]], KEY, context=CONTEXT),
    }
    assert len(heads) == 5
    assert root(map(memoryview, rows), KEY, context=CONTEXT) in heads


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="rows: expected at least one, got 0"):
        root([], KEY, context=CONTEXT)
    with pytest.raises(ValueError, match="salt_key: expected 32 bytes, got 31"):
        root([b""], KEY[1:], context=CONTEXT)
    for index in (-1, 3):
        with pytest.raises(ValueError, match=f"index: expected one of 3 rows, got {index}"):
            inclusion_proof(rows_of(3), KEY, index, context=CONTEXT)
    with pytest.raises(ValueError, match="rows: expected at least one, got 0"):
        inclusion_proofs([], KEY, [], context=CONTEXT)


def test_more_rows_than_allowed_are_refused(monkeypatch):
    monkeypatch.setattr(merkle, "MOST_LEAVES", 5)
    root(rows_of(5), KEY, context=CONTEXT)
    with pytest.raises(ValueError, match="rows: expected at most 5, got more"):
        root(rows_of(6), KEY, context=CONTEXT)


def test_the_root_takes_memory_of_its_depth_only():
    def peak(n):
        rows = (b"%0400d" % i for i in range(n))
        tracemalloc.start()
        try:
            root(rows, KEY, context=CONTEXT)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(16)
    # 20,000 digests in a list would take more than a megabyte.
    assert peak(20_000) < 20_000


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=300), st.data())
@settings(max_examples=150, deadline=None)
def test_any_rows_open_where_they_are_and_nowhere_else(rows, data):
    n = len(rows)
    index = data.draw(st.integers(0, n - 1))
    head = root(rows, KEY, context=CONTEXT)
    opening = inclusion_proof(rows, KEY, index, context=CONTEXT)
    assert head == defined_head(salted(rows)).hex()
    assert accepts(head, n, opening, rows[index])
    other_row = data.draw(st.binary(max_size=40))
    assert accepts(head, n, opening, other_row) == (other_row == rows[index])
    other_index = data.draw(st.integers(0, n))
    moved = replace(opening, index=other_index)
    assert accepts(head, n, moved, rows[index]) == (other_index == index)
    other_path = data.draw(st.lists(st.sampled_from([*opening.path, "ab" * 32]), max_size=31))
    with_other = replace(opening, path=tuple(other_path))
    assert accepts(head, n, with_other, rows[index]) == (with_other == opening)
