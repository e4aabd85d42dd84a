"""Sessions made again by someone who was shown the verifier's secret and trainings."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from cube import smooth_function
from two_parties import exchange, header

from pyattr.protocol import Prover, Verifier
from pyattr.protocol.audit import audit
from pyattr.protocol.encoding import encode
from pyattr.protocol.journal import Block, Journal
from pyattr.protocol.randomness import secret_of
from pyattr.verification.cheats import AnswersFromScores, HalvedScores
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.scores import LinearScores
from pyattr.verification.verdict import Outcome

FUNCTION = smooth_function(60, cubic=0.01, n_targets=2)
SECRET = secret_of(7)


def recorded(attribution=FUNCTION.best, retrain=FUNCTION, seed=3, **terms):
    """A session's messages, the verifier's own trainings, and the verifier."""
    blocks = []
    journal = Journal(FUNCTION, sink=lambda number, block: blocks.append(block))
    terms = {"epsilon": 0.2} | terms
    verifier = Verifier(journal, n_train=60, n_targets=2, secret=SECRET, **terms)
    prover = Prover(retrain, attribution, secret=secret_of(seed))
    return exchange(prover, verifier), blocks, verifier


CASES = {
    "honest": {},
    "design and b given": {"design": ClusterDesign(64), "clip": 10.0},
    "design given, b from a pilot": {"design": ClusterDesign(64)},
    "b given, design from a pilot": {"clip": 10.0},
    "weighted": {"design": ClusterDesign(128), "sampling": "weighted"},
    "halved": {"attribution": HalvedScores()(FUNCTION.best)},
    "answers from its scores": {"retrain": AnswersFromScores(FUNCTION.best)},
    "paper": {"method": "paper", "clip": 10.0},
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_session_can_be_made_again_from_its_record(case):
    messages, blocks, verifier = recorded(**case)
    result = audit(messages, SECRET, blocks)
    assert result.holds, result.checks
    assert len(result.checks) == 5
    assert result.verdict.outcome is verifier.outcome
    assert result.verdict.reason == verifier.verdict.reason
    again = audit(messages, SECRET, blocks, retrain=FUNCTION)
    assert again.holds
    n = sum(len(block.outputs) for block in blocks)
    if n:
        assert again.checks[-1].found == f"{n} of {n} alike"
    assert audit(messages, SECRET, blocks, FUNCTION, n_repeated=4).holds


def changed(messages, position, **fields):
    message = msgspec.structs.replace(header(messages[position]), **fields)
    return [*messages[:position], encode(message), *messages[position + 1 :]]


def test_a_false_abort_is_seen():
    messages, blocks, _ = recorded()
    assert header(messages[5]).outcome == "ACCEPT"
    result = audit(changed(messages, 5, outcome="ABORT"), SECRET, blocks)
    assert not result.holds
    assert result.checks[-1].name.startswith("decision")


def test_a_false_abort_on_invented_trainings_is_seen_by_repeating_them():
    """The decision follows from what the verifier says it has trained; it has not trained that."""
    blocks = []

    def invents(masks, seeds):
        return FUNCTION(masks, seeds) + np.float32(1.0 if len(blocks) else 0.0)

    journal = Journal(invents, sink=lambda number, block: blocks.append(block))
    verifier = Verifier(journal, n_train=60, n_targets=2, epsilon=0.2, secret=SECRET)
    messages = exchange(Prover(FUNCTION, FUNCTION.best, secret=secret_of(3)), verifier)
    assert verifier.outcome is Outcome.ABORT
    assert audit(messages, SECRET, blocks).holds
    result = audit(messages, SECRET, blocks, FUNCTION)
    assert not result.holds
    assert result.checks[-1].name == "verifier's own trainings, repeated"


def test_spot_checks_of_the_verifiers_choice_are_seen():
    class Chooses(Verifier):
        def _checks(self):
            from pyattr.protocol.checks import SecretChecks

            return SecretChecks(bytes(32), self._session.parent)

    blocks = []
    journal = Journal(FUNCTION, sink=lambda number, block: blocks.append(block))
    verifier = Chooses(
        journal, n_train=60, n_targets=2, epsilon=0.2, design=ClusterDesign(200), secret=SECRET
    )
    messages = exchange(Prover(FUNCTION, FUNCTION.best, secret=secret_of(3)), verifier)
    assert not audit(messages, SECRET, blocks).holds


def test_another_secret_or_another_session_is_seen():
    messages, blocks, _ = recorded()
    other, other_blocks, _ = recorded(seed=4)
    result = audit(messages, secret_of(8), blocks)
    assert not result.holds
    assert not audit(messages, SECRET, other_blocks).holds
    assert not audit(messages[:5], SECRET, blocks).holds
    assert not audit([*messages[:4], other[4], messages[5]], SECRET, blocks).holds
    assert not audit(messages, SECRET, blocks[:-1]).holds
    tampered = [Block(blocks[0].digest, blocks[0].outputs + 1), *blocks[1:]]
    assert not audit(messages, SECRET, tampered).holds


def test_the_prover_cannot_deny_what_it_sent():
    """Other outputs or scores than those it committed to do not open its messages."""
    messages, blocks, verifier = recorded(HalvedScores()(FUNCTION.best))
    assert verifier.outcome is Outcome.ABORT
    better = recorded(LinearScores.of(FUNCTION.best))[0]
    assert not audit([*messages[:4], better[4], messages[5]], SECRET, blocks).holds
