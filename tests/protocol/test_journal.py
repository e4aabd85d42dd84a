"""The journal: the same calls are answered from it, in order, and only what comes after is trained."""

from __future__ import annotations

import numpy as np
import pytest

import pyattr
from pyattr.masks import Masks, sample_masks, sample_seeds
from pyattr.protocol.journal import (
    AnotherSessionError,
    Block,
    Journal,
    NotRecordedError,
    block_digest,
)

N = 20
DIGEST = "ce9baca48bc0d24fb8808fb64703610af405e808ef46405d1159ca14c939ac53"  # computed with hashlib alone


class Counting:
    """A retrain that depends on mask and seed, and remembers how many rows each call had."""

    n_train, n_targets = N, 3

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, masks, seeds, /):
        self.calls.append(len(masks))
        weights = np.random.default_rng(0).standard_normal((N, 3), dtype=np.float32)
        noise = (seeds % np.uint64(97)).astype(np.float32)[:, None] / np.float32(97)
        return masks.unpack() @ weights + noise


def calls(*sizes):
    return [(sample_masks(n, N, seed=i), sample_seeds(n, seed=i)) for i, n in enumerate(sizes)]


def recorded(asked, portion=256, most=None):
    """Run the calls and return what a sink was given, and the outputs."""
    blocks: list[Block] = []

    def sink(number, block):
        assert number == len(blocks)
        if len(blocks) == most:
            raise OSError("disk full")
        blocks.append(block)

    journal = Journal(Counting(), sink=sink, portion=portion)
    outputs = []
    try:
        outputs.extend(journal(*call) for call in asked)
    except OSError:
        assert most is not None
    return blocks, outputs


def test_outputs_are_those_of_the_retrain_and_portions_are_even():
    asked = calls(7, 600, 2)
    retrain = Counting()
    journal = Journal(retrain)
    for call in asked:
        outputs = journal(*call)
        assert outputs.dtype == np.float32
        np.testing.assert_array_equal(outputs, Counting()(*call))
    assert retrain.calls == [7, 256, 256, 88, 2]
    assert (journal.n_train, journal.n_targets) == (N, 3)
    assert (journal.n_trained, journal.n_replayed, journal.n_blocks) == (609, 0, 5)


@pytest.mark.parametrize("n_known", range(8))
def test_replay_from_any_crash_trains_only_what_is_missing(n_known):
    asked = calls(5, 10, 3)  # portions of 4: 4 1, 4 4 2, 3
    expected = [Counting()(*call) for call in asked]
    blocks, _ = recorded(asked, portion=4, most=n_known)
    assert len(blocks) == min(n_known, 6)
    retrain, new = Counting(), []
    journal = Journal(retrain, blocks, lambda number, block: new.append((number, block)), portion=4)
    for call, outputs in zip(asked, expected, strict=True):
        assert journal(*call).tobytes() == outputs.tobytes()
    assert [number for number, _ in new] == list(range(len(blocks), 6))
    assert retrain.calls == [4, 1, 4, 4, 2, 3][len(blocks) :]
    assert journal.n_trained + journal.n_replayed == 18
    # What both runs stored is the whole log, and it answers everything.
    whole = [*blocks, *(block for _, block in new)]
    audit = Journal(None, whole, portion=4)
    for call, outputs in zip(asked, expected, strict=True):
        assert audit(*call).tobytes() == outputs.tobytes()
    assert audit.n_trained == 0


def test_a_block_is_stored_before_its_outputs_are_used():
    blocks, outputs = recorded(calls(2, 2), most=1)
    assert (len(blocks), len(outputs)) == (1, 1)


def test_another_session_is_refused():
    masks, seeds = sample_masks(6, N, seed=0), sample_seeds(6, seed=0)
    blocks, _ = recorded([(masks, seeds)])
    bits = masks.unpack()
    bits[3, 5] ^= True
    other_seeds = seeds.copy()
    other_seeds[5] += np.uint64(1)
    wrong = [
        (Masks.pack(bits), seeds),
        (masks, other_seeds),
        (masks[::-1], seeds),
        (masks[:4], seeds[:4]),
        (Masks(masks.packed, N + 1), seeds),  # the same bytes of another shape
    ]
    for call in wrong:
        retrain = Counting()
        with pytest.raises(AnotherSessionError, match="another session"):
            Journal(retrain, blocks)(*call)
        assert retrain.calls == []
    other = Block(blocks[0].digest, blocks[0].outputs[:, :2])
    with pytest.raises(AnotherSessionError, match="another session"):
        Journal(Counting(), [other])(masks, seeds)
    with pytest.raises(AnotherSessionError, match="another session"):
        Journal(None, [Block(blocks[0].digest, blocks[0].outputs[:4])])(masks, seeds)
    with pytest.raises(AnotherSessionError):
        Journal(Counting(), blocks, portion=4)(masks, seeds)  # portions are part of the order


def test_without_a_retrain_nothing_beyond_the_log_is_answered():
    asked = calls(4, 4)
    blocks, outputs = recorded(asked)
    journal = Journal(None, blocks[:1])
    np.testing.assert_array_equal(journal(*asked[0]), outputs[0])
    with pytest.raises(NotRecordedError, match="expected block 1 to be recorded, got 1"):
        journal(*asked[1])
    assert not hasattr(journal, "n_train")  # nobody tells it


def test_it_is_not_used_again_after_a_failure():
    def fails(masks, seeds):
        raise KeyError("cluster")

    journal = Journal(fails)
    with pytest.raises(KeyError):
        journal(*calls(2)[0])
    with pytest.raises(RuntimeError, match="make it again"):
        journal(*calls(2)[0])


def test_outputs_that_are_none_never_reach_the_log():
    stored = []
    for wrong in (
        lambda masks, seeds: np.full((len(masks), 2), np.nan, np.float32),
        lambda masks, seeds: np.zeros((len(masks) - 1, 2), np.float32),
        lambda masks, seeds: np.zeros((len(masks), 2), np.int64),
    ):
        with pytest.raises(ValueError, match="outputs: expected"):
            Journal(wrong, sink=lambda number, block: stored.append(block))(*calls(4)[0])
    changing = iter([2, 3])

    def changes(masks, seeds):
        return np.zeros((len(masks), next(changing)), np.float32)

    with pytest.raises(ValueError, match="shape"):
        Journal(changes, portion=2)(*calls(4)[0])
    assert stored == []


def test_one_target_may_come_as_a_vector():
    outputs = Journal(lambda masks, seeds: masks.sizes().astype(np.float64))(*calls(4)[0])
    assert (outputs.shape, outputs.dtype) == ((4, 1), np.float32)


@pytest.mark.parametrize("portion", [0, 1, 3, 2.5, -2])
def test_portions_keep_pairs_together(portion):
    with pytest.raises(ValueError, match="portion: expected"):
        Journal(None, portion=portion)


def test_the_digest_is_fixed():
    masks = Masks.pack(np.arange(24).reshape(2, 12) % 3 == 0)
    digest = block_digest(masks, np.array([1, 2**63], np.uint64))
    assert digest == DIGEST
    assert block_digest(masks, np.array([1, 2**63], ">u8")) == digest
    assert block_digest(masks, np.array([1, 2**63], np.uint64), "ab" * 32) != digest


def test_a_whole_verification_is_followed_without_a_training():
    """Killed after any number of blocks and resumed, a verification says the same to the bit."""
    truth = np.linspace(-1, 1, 3 * N, dtype=np.float32).reshape(N, 3)

    def noisy(masks, seeds):
        noise = (seeds[:, None] >> np.arange(3, dtype=np.uint64)) & np.uint64(1)
        return masks.unpack() @ truth + np.float32(0.3) * noise.astype(np.float32)

    scores = pyattr.Attribution(scores=truth)

    def verdict(journal):
        return pyattr.verify(journal, scores, epsilon=0.2, seed=3, budget=400)

    blocks: list[Block] = []
    whole = verdict(Journal(noisy, sink=lambda number, block: blocks.append(block), portion=8))
    assert len(blocks) > 3
    audit = Journal(None, blocks, portion=8)
    for known in (audit, *(Journal(noisy, blocks[:k], portion=8) for k in range(len(blocks)))):
        again = verdict(known)
        assert again.outcome is whole.outcome
        assert again.gap_upper.tobytes() == whole.gap_upper.tobytes()
    assert audit.n_replayed == whole.n_retrained
    with pytest.raises(NotRecordedError):
        verdict(Journal(None, blocks[:-1], portion=8))
