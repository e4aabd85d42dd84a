"""Sessions made again by someone who was shown the verifier's secret and trainings."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from cube import smooth_function
from two_parties import exchange, header, verifier_with

from pyattr.errors import ProtocolError, Rejected
from pyattr.protocol import Prover, Subject, Verifier
from pyattr.protocol.audit import audit, open_output
from pyattr.protocol.checks import SecretChecks
from pyattr.protocol.encoding import encode
from pyattr.protocol.journal import Block, Journal
from pyattr.protocol.manifest import subject_digest
from pyattr.protocol.merkle import verify_opening
from pyattr.protocol.randomness import secret_of
from pyattr.verification.cheats import AnswersFromScores, HalvedScores
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.scores import LinearScores
from pyattr.verification.verdict import Outcome

FUNCTION = smooth_function(60, cubic=0.01, n_targets=2)
SECRET = secret_of(7)


def journal_of(retrain, blocks):
    """A journal of what is said of nothing, which keeps its blocks in a list."""
    subject = subject_digest(Subject())
    return Journal(retrain, sink=lambda number, block: blocks.append(block), subject=subject)


def recorded(attribution=FUNCTION.best, retrain=FUNCTION, seed=3, **terms):
    """A session's messages, the verifier's own trainings, and the verifier."""
    blocks = []
    journal = journal_of(FUNCTION, blocks)
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
    n = sum(len(block.outputs) for block in blocks)
    assert result.n_believed == n
    assert result.verdict.outcome is verifier.outcome
    assert result.verdict.reason == verifier.verdict.reason
    again = audit(messages, SECRET, blocks, retrain=FUNCTION)
    assert again.holds
    assert again.n_believed == 0
    if n:
        assert again.checks[-1].name == "decision: the same with the auditor's trainings"
        some = audit(messages, SECRET, blocks, FUNCTION, n_repeated=4)
        assert some.holds
        assert some.checks[-1].found == "4 of 4 alike"
        assert some.n_believed == n - 4
        assert audit(messages, SECRET, blocks, FUNCTION, n_repeated=n).n_believed == 0


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

    journal = journal_of(invents, blocks)
    verifier = Verifier(journal, n_train=60, n_targets=2, epsilon=0.2, secret=SECRET)
    messages = exchange(Prover(FUNCTION, FUNCTION.best, secret=secret_of(3)), verifier)
    assert verifier.outcome is Outcome.ABORT
    assert audit(messages, SECRET, blocks).holds
    result = audit(messages, SECRET, blocks, FUNCTION)
    assert not result.holds
    assert result.checks[-1].name == "decision: the same with the auditor's trainings"
    n = sum(len(block.outputs) for block in blocks)
    assert not audit(messages, SECRET, blocks, FUNCTION, n_repeated=n).holds


@pytest.mark.parametrize(("share", "check"), [(0.9, "spot check"), (0.5, "drift")])
def test_a_false_abort_within_the_tolerance_is_seen_by_judging_again(share, check):
    """The verifier's trainings are within τ of the auditor's; the prover's are too, and on both sides."""
    tau, blocks = 1e-3, []

    def noisy(masks, seeds):
        signs = 2.0 * (seeds[:, None] >> np.uint64(33) & np.uint64(1)) - 1.0
        return FUNCTION(masks, seeds) + np.float32(0.3 * tau * signs)

    def shifted(masks, seeds):
        return FUNCTION(masks, seeds) + np.float32(share * tau if len(blocks) else 0.0)

    terms = {"epsilon": 0.2, "tolerance": tau, "design": ClusterDesign(60)}
    journal = journal_of(shifted, blocks)
    verifier = Verifier(journal, n_train=60, n_targets=2, secret=SECRET, **terms)
    prover = Prover(noisy, FUNCTION.best, tolerance=tau, secret=secret_of(3))
    messages = exchange(prover, verifier)
    assert verifier.outcome is Outcome.ABORT
    assert verifier.verdict.details["check"] == check
    assert audit(messages, SECRET, blocks).holds
    assert not audit(messages, SECRET, blocks, FUNCTION).holds


def test_an_invented_pilot_is_seen():
    """A forged pilot leads to another b and another design; only training it again shows it."""
    blocks = []

    def invents(masks, seeds):
        return FUNCTION(masks, seeds) * np.float32(1.0 if len(blocks) else 40.0)

    verifier = Verifier(
        journal_of(invents, blocks), n_train=60, n_targets=2, epsilon=0.2, secret=SECRET
    )
    messages = exchange(Prover(FUNCTION, FUNCTION.best, secret=secret_of(3)), verifier)
    assert audit(messages, SECRET, blocks).holds
    assert not audit(messages, SECRET, blocks, FUNCTION).holds


def test_trainings_to_repeat_are_counted_from_1():
    messages, blocks, _ = recorded()
    for n in (0, -5):
        with pytest.raises(ValueError, match="n_repeated: expected a whole number of at least 1"):
            audit(messages, SECRET, blocks, FUNCTION, n_repeated=n)


def test_spot_checks_of_the_verifiers_choice_are_seen():
    chooses = verifier_with(_checks=lambda steps: SecretChecks(bytes(32), steps._session.parent))
    blocks = []
    journal = journal_of(FUNCTION, blocks)
    verifier = chooses(
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


def test_one_output_can_be_shown_to_someone_who_has_only_the_signed_root():
    messages, _, verifier = recorded(design=ClusterDesign(64), clip=10.0)
    root, asked = header(messages[3]), header(messages[2])
    masks, seeds = ClusterDesign(64).draw(int(asked.seed, 16), 60)
    outputs = FUNCTION(masks, seeds)
    for leaf in (0, 1, 77, 127):
        opening, row = open_output(messages, leaf)
        verify_opening(root.root, root.n_leaves, opening, row)
        assert np.array_equal(np.frombuffer(row, "<f4"), outputs[leaf] + np.float32(0.0))
        changed = (outputs[leaf] + np.float32(1e-6)).tobytes()
        with pytest.raises(Rejected, match="outputs commitment"):
            verify_opening(root.root, root.n_leaves, opening, changed)
    assert verifier.verdict
    with pytest.raises(ValueError, match="index"):
        open_output(messages, 128)
    with pytest.raises(ProtocolError):
        open_output([*messages[:4], messages[3]], 0)


def test_a_machine_that_disagreed_with_itself_is_named_and_nobody_accused():
    blocks, calls = [], []

    def unsteady(masks, seeds):
        calls.append(1)
        return FUNCTION(masks, seeds) + np.float32(1e-3 * len(calls))

    journal = journal_of(unsteady, blocks)
    terms = {"epsilon": 0.2, "design": ClusterDesign(64), "clip": 10.0}
    verifier = Verifier(journal, n_train=60, n_targets=2, secret=SECRET, **terms)
    messages = exchange(Prover(FUNCTION, FUNCTION.best, secret=secret_of(3)), verifier)
    assert verifier.outcome is Outcome.INCONCLUSIVE
    result = audit(messages, SECRET, blocks, FUNCTION)
    assert result.holds
    assert result.checks[-1].found.startswith(
        "the verifier's machine disagreed with itself; here A"
    )
