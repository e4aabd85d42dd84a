"""Digests: what must change them, and what must not collide."""

from __future__ import annotations

import itertools

import pytest

from pyattr.protocol.encoding import Tensor
from pyattr.protocol.hashing import (
    SALT_BYTES,
    commit,
    equal,
    keystream,
    labelled_hash,
    message_hash,
    session_id,
)

SALT = bytes(range(SALT_BYTES))
SCORES = Tensor("F32", (2, 3), bytes(range(24)))
INTERCEPT = Tensor("F32", (3,), bytes(12))


def test_different_lists_of_parts_never_collide():
    lists = [(), (b"",), (b"", b""), (b"ab",), (b"a", b"b"), (b"ab", b""), (b"", b"ab")]
    lists += [("é".encode(),), (b"e\xcc\x81",)]
    digests = {labelled_hash("x", *parts) for parts in lists}
    assert len(digests) == len(lists)


def test_a_digest_serves_one_purpose():
    part = b"a" * 32
    assert len({message_hash(part), session_id(part), labelled_hash("x", part)}) == 3
    # A label cannot be stretched into its first part.
    assert labelled_hash("xy", b"z") != labelled_hash("x", b"yz")


def test_commitment_changes_with_everything_in_it():
    def of(scores=SCORES, intercept=INTERCEPT, salt=SALT):
        return commit(salt, {"scores": scores, "intercept": intercept})

    flipped = bytes([1, *range(1, 24)])
    variants = [
        of(),
        of(scores=Tensor("F32", (2, 3), flipped)),
        of(scores=Tensor("F32", (3, 2), SCORES.data)),
        of(scores=Tensor("F32", (6,), SCORES.data)),
        of(intercept=Tensor("F32", (1, 3), INTERCEPT.data)),
        of(salt=bytes(SALT_BYTES)),
        commit(SALT, {"scores": SCORES}),
        commit(SALT, {"score": SCORES, "intercept": INTERCEPT}),
    ]
    assert all(a != b for a, b in itertools.combinations(variants, 2))
    assert commit(SALT, {"intercept": INTERCEPT, "scores": SCORES}) == of()


def test_commitment_needs_its_salt():
    with pytest.raises(ValueError, match="salt: expected 32 bytes, got 31"):
        commit(SALT[1:], {"scores": SCORES})


def test_a_keystream_serves_one_purpose_and_one_key():
    key, other = bytes(32), bytes([1, *bytes(31)])
    streams = [keystream("a", 64, key), keystream("b", 64, key), keystream("a", 64, other)]
    streams += [keystream("a", 64, key, b""), keystream("a", 64, b"", key)]
    assert len(set(streams)) == 5
    assert keystream("a", 100, key)[:64] == streams[0]


def test_equal():
    assert equal("ab", "ab")
    assert not equal("ab", "ac")
    assert not equal("ab", "abc")
    assert not equal("", "ab")
