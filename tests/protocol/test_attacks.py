"""What a peer may try: order, replays, poisonous messages, scores fitted late (damage: test_damage.py)."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from cube import smooth_function
from hypothesis import given, settings
from hypothesis import strategies as st
from two_parties import decode, exchange, header, verifier_with

from pyattr.errors import ProtocolError, Rejected
from pyattr.protocol import Prover, Subject, Verifier, run
from pyattr.protocol.arrays import attribution_tensors, from_tensor, to_tensor
from pyattr.protocol.challenges import row_blocks
from pyattr.protocol.encoding import MAGIC, decode_tensors, encode, join_frame, tensor_bytes
from pyattr.protocol.hashing import message_hash, tensors_hash
from pyattr.protocol.messages import Decision, Outputs, outputs_layout
from pyattr.protocol.randomness import challenge_seed, secret_of
from pyattr.protocol.session import State
from pyattr.protocol.words import ResidualParameters
from pyattr.verification.cheats import FitsAfterChallenge, HalvedScores
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.scores import LinearScores
from pyattr.verification.verdict import Outcome

FUNCTION = smooth_function(60, n_targets=2)
HONEST = FUNCTION.best
CLIP = 10.0
TERMS = {"design": ClusterDesign(24), "clip": CLIP, "epsilon": 0.2}


def pair(attribution=HONEST, kind=Prover, **changes):
    return kind(FUNCTION, attribution), Verifier(FUNCTION, **TERMS | changes)


# --- scores chosen after the challenge ------------------------------------------------------------


class LateProver(Prover):
    """Commits to anything, then fits its scores to the answers and reveals those."""

    def _outputs(self, design, seed, clip):
        outputs = super()._outputs(design, seed, clip)
        _, masks, _ = next(row_blocks(design, seed, 60))
        self._scores = FitsAfterChallenge().refit(masks, outputs)
        return outputs


# Omits step 4's comparison with the commitment.
TrustingVerifier = verifier_with(_check_opening=lambda steps, message, tensors: None)


def test_scores_fitted_after_the_challenge_are_caught_by_the_commitment():
    nothing = HalvedScores(0.01)(HONEST)
    verdict = run(*pair(nothing, LateProver))
    assert verdict.outcome is Outcome.ABORT
    assert verdict.details["check"] == "commitment"
    assert verdict.n_retrained == 0


def test_without_the_commitment_they_would_pass():
    # 24 odd pairs and 60 examples: the fit leaves no residual, so every interval is at 0, and the
    # outputs are true, so every spot check passes. The true gap is near (60 - 24)/60 of Var f.
    nothing = HalvedScores(0.01)(HONEST)
    prover = LateProver(FUNCTION, nothing, secret=secret_of(1))
    verifier = TrustingVerifier(FUNCTION, **TERMS, secret=secret_of(2))
    verdict = run(prover, verifier)
    assert verdict.outcome is Outcome.ACCEPT
    change = prover._scores.scores - HONEST.scores
    true_gap = np.sum(change.astype(np.float64) ** 2, axis=0) / 4 / FUNCTION.variance
    assert (true_gap > 2 * TERMS["epsilon"]).all()
    assert (verdict.gap_upper < 1e-6).all()


@pytest.mark.parametrize("what", ["scores", "intercept", "salt"])
def test_any_change_of_what_was_committed_is_caught(what):
    prover, verifier = pair()
    challenge = verifier.receive(prover.receive(verifier.start())[0])[0]
    if what == "salt":
        prover._secrets = dataclasses.replace(prover._secrets, salt=bytes(32))
    else:
        changed = {name: getattr(prover._scores, name).copy() for name in ("scores", "intercept")}
        changed[what].flat[0] = np.nextafter(changed[what].flat[0], np.float32(np.inf))
        prover._scores = LinearScores(**changed)
    root, outputs = prover.receive(challenge)
    assert verifier.receive(root) == ()
    verifier.receive(outputs)
    assert verifier.verdict.details["check"] == "commitment"
    assert verifier.outcome is Outcome.ABORT


# --- values ---------------------------------------------------------------------------------------


class Answers(Prover):
    """Sends given outputs."""

    change = staticmethod(lambda outputs: outputs)

    def _outputs(self, design, seed, clip):
        return self.change(super()._outputs(design, seed, clip))


def put(value):
    def change(outputs):
        outputs = outputs.copy()
        outputs[5, 1] = value
        return outputs

    return change


BAD_OUTPUTS = [np.nan, np.inf, -np.inf, CLIP * 1.000001, -CLIP * 1.000001, 3e38, -0.0]


@pytest.mark.parametrize("value", BAD_OUTPUTS, ids=str)
def test_outputs_that_are_no_numbers_in_range_end_in_abort(value):
    prover, verifier = pair(kind=type("_", (Answers,), {"change": staticmethod(put(value))}))
    verdict = run(prover, verifier)
    assert verdict.outcome is Outcome.ABORT
    assert verdict.details["check"] == "outputs"
    assert prover.outcome is Outcome.ABORT
    assert verdict.n_retrained == 0


def test_a_negative_zero_of_the_own_function_is_no_offence():
    weights = np.array([[1.0], [-1.0], [1.0], [-1.0]], np.float32)

    def retrain(masks, seeds):
        return -(masks.unpack() @ weights)

    masks, _ = ClusterDesign(24).draw(0, 4)
    assert np.signbit(retrain(masks, None)[retrain(masks, None) == 0]).any()
    prover = Prover(retrain, LinearScores(-weights, np.zeros(1, np.float32)))
    verdict = run(prover, Verifier(retrain, n_train=4, n_targets=1, **TERMS))
    assert verdict.outcome is Outcome.ACCEPT
    assert verdict.details["n_hardware_faults"] == 0


def test_outputs_at_the_bound_are_in_range():
    change = staticmethod(lambda outputs: np.full_like(outputs, CLIP))
    verdict = run(*pair(kind=type("_", (Answers,), {"change": change})))
    assert verdict.details.get("check") != "outputs"


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, 1e12], ids=str)
@pytest.mark.parametrize("name", ["scores", "intercept"])
def test_scores_that_are_no_use_end_in_abort(name, value):
    prover, verifier = pair()
    changed = {n: getattr(prover._scores, n).copy() for n in ("scores", "intercept")}
    changed[name].flat[-1] = value
    prover._scores = LinearScores(**changed)
    verdict = run(prover, verifier)
    assert verdict.outcome is Outcome.ABORT
    assert verdict.details["check"] == "scores"


@given(
    outputs=st.lists(st.floats(-CLIP, CLIP, width=32), min_size=1, max_size=96),
    scale=st.sampled_from([0.0, 1e-40, 1e-20, 1.0, 1e4, 1e8]),
)
@settings(max_examples=60, deadline=None)
def test_no_content_makes_the_verifier_stumble(outputs, scale):
    prover = type(
        "_",
        (Answers,),
        {"change": staticmethod(lambda true: np.resize(np.float32(outputs), true.shape) + 0.0)},
    )
    scores = LinearScores((HONEST.scores * scale).astype(np.float32), HONEST.intercept)
    verdict = run(*pair(scores, prover))
    assert verdict.outcome is not Outcome.ACCEPT


# --- order, replays, sizes ------------------------------------------------------------------------


def refused(end, data, state=State.DEAD):
    with pytest.raises(ProtocolError):
        end.receive(data)
    assert end.outcome is Outcome.ABORT
    assert end._session.state is state
    with pytest.raises(RuntimeError):
        end.receive(data)


def test_messages_of_another_session_are_refused():
    """Each message of one session given to the party of another that waits for one of its kind."""
    for position in range(1, 6):
        foreign = exchange(*pair(), position + 1)[position]
        prover, verifier = pair()
        exchange(prover, verifier, position + 1)
        victim = verifier if header(foreign).sender == "prover" else prover
        refused(victim, foreign)


def test_messages_out_of_order_or_repeated_are_refused():
    """Every message but the next, given to either party at every point of a session."""
    messages = exchange(*fixed_pair())
    for n_seen in range(1, 7):
        for position, message in enumerate(messages):
            for side in (0, 1):
                ends = fixed_pair()
                assert exchange(*ends, n_seen) == messages[:n_seen]
                victim = ends[side]
                if victim.state not in AWAITED[side]:
                    with pytest.raises(RuntimeError):
                        victim.receive(message)
                elif position != AWAITED[side][victim.state]:
                    refused(victim, message)


def fixed_pair():
    """The same two parties each time."""
    prover = Prover(FUNCTION, HONEST, secret=secret_of(1))
    return prover, Verifier(FUNCTION, **TERMS, secret=secret_of(2))


AWAITED = (
    {State.START: 0, State.COMMITTED: 2, State.OPENED: 5},
    {State.INVITED: 1, State.CHALLENGED: 3, State.ANSWERED: 4},
)


def test_a_session_made_again_from_its_secrets_sends_the_same_bytes():
    assert exchange(*fixed_pair()) == exchange(*fixed_pair())
    other = exchange(Prover(FUNCTION, HONEST), fixed_pair()[1])
    assert other[0] == exchange(*fixed_pair())[0]
    assert other[1:] != exchange(*fixed_pair())[1:]


def test_other_scores_or_terms_have_another_challenge_whatever_the_randomness():
    """Both secrets again: whoever could commit to other scores under the same seed would know the rows."""

    def seed_of(attribution=HONEST, **changes):
        prover = Prover(FUNCTION, attribution, secret=secret_of(1))
        verifier = Verifier(FUNCTION, **TERMS | changes, secret=secret_of(2))
        messages = exchange(prover, verifier)
        return header(messages[1]).randomness, header(messages[2]).seed

    (own, seed), *others = (
        seed_of(),
        seed_of(HalvedScores()(HONEST)),
        seed_of(delta=0.04),
    )
    assert all(other_own == own and other != seed for other_own, other in others)
    assert seed_of() == (own, seed)


def test_a_decision_that_skips_the_answer_is_refused():
    prover, verifier = pair()
    messages = exchange(prover, verifier, 5)
    challenge = header(messages[2])
    link = message_hash(messages[2])
    forged = Decision(session=challenge.session, parent=link, outcome="ACCEPT")
    refused(prover, encode(forged))


def test_a_session_is_used_once():
    prover, verifier = pair()
    run(prover, verifier)
    with pytest.raises(RuntimeError, match="session: expected to be start, got closed"):
        verifier.start()
    with pytest.raises(RuntimeError):
        verifier.receive(b"")
    with pytest.raises(RuntimeError):
        prover.receive(b"")
    with pytest.raises(RuntimeError, match="session: expected to be invited"):
        pair()[1].receive(b"")


@pytest.mark.parametrize("drop", [1, 47])
def test_missing_answers_are_refused(drop):
    change = staticmethod(lambda outputs: outputs[:-drop])
    prover, verifier = pair(kind=type("_", (Answers,), {"change": change}))
    root = exchange(prover, verifier, 4)[3]
    refused(verifier, root)
    assert verifier.verdict.outcome is Outcome.ABORT


def test_a_root_for_all_with_answers_for_some_is_refused():
    prover, verifier = pair()
    messages = exchange(prover, verifier, 5)
    refused(verifier, messages[4][:-8])


def test_answers_of_another_type_are_refused():
    tensors = attribution_tensors(LinearScores.of(HONEST))
    for shape in [(2, 48), (96,), (1, 48, 2)]:
        prover, verifier = pair()
        true = header(exchange(prover, verifier, 5)[4])
        message = Outputs(**{name: getattr(true, name) for name in true.__struct_fields__})
        outputs = to_tensor(np.zeros(shape, np.float32))
        refused(verifier, encode(message, tensors | {"outputs": outputs}))


def test_outputs_changed_after_their_root_was_sent_are_caught():
    """Also where the change is to a row that would not be checked, and nothing else would show it."""
    prover, verifier = pair()
    message = exchange(prover, verifier, 5)[4]
    opened, rest = decode(message)
    tensors = decode_tensors(rest, outputs_layout(48, 60, 2))
    outputs = from_tensor(tensors["outputs"]).copy()
    outputs[-1, 0] += np.float32(1e-6)
    tensors["outputs"] = to_tensor(outputs)
    changed = msgspec.structs.replace(opened, tensors=tensors_hash(tensor_bytes(tensors)))
    decision = header(verifier.receive(encode(changed, tensors))[0])
    assert decision.outcome == "ABORT"
    assert verifier.verdict.details["check"] == "outputs commitment"
    # A change that the header does not state is none of the prover's: no message of this session.
    prover, verifier = pair()
    message = exchange(prover, verifier, 5)[4]
    refused(verifier, message[:-1] + bytes([message[-1] ^ 1]))


@pytest.mark.parametrize("size", [(59, 2), (60, 1)])
def test_other_sizes_are_refused(size):
    function = smooth_function(size[0], n_targets=size[1])
    prover = Prover(function, function.best)
    refused(prover, pair()[1].start())


def test_the_largest_message_follows_from_what_was_agreed():
    for position in (1, 3, 4):
        prover, verifier = pair()
        message = exchange(prover, verifier, position + 1)[position]
        assert len(message) <= verifier.largest_message()
        refused(verifier, message + bytes(verifier.largest_message() - len(message) + 1))


# --- what the prover refuses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prover_terms", "verifier_terms"),
    [
        ({"p": 0.4}, {}),
        ({"clip": 5.0}, {}),
        ({}, {"tolerance": 1e-6}),
        ({"tolerance": 1e-6}, {"tolerance": 2e-6}),
        ({"tolerance": 1e-6}, {"tolerance": 1e-30}),
        ({"agreed": {"epsilon": 0.2}}, {"epsilon": 0.2000001}),
        ({"agreed": {"delta": 0.05}}, {"delta": 0.06}),
        ({"agreed": {"nonlinearity": 0.02}}, {"nonlinearity": 0.0}),
        ({"agreed": {"method": "gap"}}, {"method": "paper", "design": None}),
        ({"agreed": {"attempts": 1}}, {"attempts": 2}),
        ({"max_trainings": 47}, {}),
        ({"min_trainings": 49}, {}),
        ({"key": "ab" * 32}, {}),
        ({"verifier_key": "ab" * 32}, {}),
        ({"verifier_key": "ab" * 32}, {"key": "ac" * 32}),
        ({"subject": Subject(recipe={"steps": 3})}, {}),
        ({"subject": Subject(train="ab" * 32)}, {"subject": Subject(train="ac" * 32)}),
        ({"subject": Subject(targets="ab" * 32)}, {"subject": Subject(train="ab" * 32)}),
        (
            {"subject": Subject(versions={"torch": "1"})},
            {"subject": Subject(versions={"torch": "2"})},
        ),
    ],
)
def test_a_manifest_that_was_not_agreed_is_refused(prover_terms, verifier_terms):
    prover = Prover(FUNCTION, HONEST, **prover_terms)
    verifier = Verifier(FUNCTION, **TERMS | verifier_terms)
    refused(prover, verifier.start())
    assert prover.n_retrained == 0


def test_a_challenge_that_is_too_large_is_refused_before_anything_is_promised():
    prover, verifier = Prover(FUNCTION, HONEST, max_trainings=47), Verifier(FUNCTION, **TERMS)
    with pytest.raises(ProtocolError, match="design: expected at most 47 trainings, got 48"):
        prover.receive(verifier.start())
    assert prover.n_retrained == 0


def test_a_clip_that_cuts_outputs_off_is_not_answered():
    prover = Prover(FUNCTION, HONEST)
    verifier = Verifier(FUNCTION, **TERMS | {"clip": 1.0})
    challenge = exchange(prover, verifier, 3)[2]
    with pytest.raises(ProtocolError, match="clip: expected one that cuts off at most 1%"):
        prover.receive(challenge)
    # Agreed to, it is the definition of f.
    agreed = Prover(FUNCTION, HONEST, clip=1.0)
    assert len(exchange(agreed, Verifier(FUNCTION, **TERMS | {"clip": 1.0}))) == 6


def test_a_clip_that_cuts_one_target_off_is_not_answered():
    """Of 40 targets, one is clipped at 4%: all outputs together stay below 1%."""
    function = smooth_function(60, n_targets=40)
    reach = np.sort(np.abs(function(*ClusterDesign(500).draw(3, 60))[:, 0]))
    scale = np.ones(40, np.float32)
    scale[1:] = 0.3

    def retrain(masks, seeds):
        return function(masks, seeds) * scale

    scores = LinearScores(function.best.scores * scale, function.best.intercept * scale)
    terms = {"n_train": 60, "n_targets": 40, "epsilon": 0.2, "design": ClusterDesign(200)}
    prover, verifier = Prover(retrain, scores), Verifier(retrain, clip=float(reach[-40]), **terms)
    with pytest.raises(ProtocolError, match="clip: expected one that cuts off at most 1%"):
        exchange(prover, verifier, 5)


def test_only_fields_of_a_manifest_can_be_agreed_on():
    with pytest.raises(ValueError, match="agreed: expected fields of a manifest, got eps"):
        Prover(FUNCTION, HONEST, agreed={"eps": 0.1})


def test_a_design_is_fixed_before_the_provers_randomness_is_known():
    """Another one in the challenge is refused, though it asks for no more."""
    refused(*forged(design=lambda c: msgspec.structs.replace(c.design, n_clusters=23)))


def test_what_was_agreed_is_answered():
    subject = Subject(train="ab" * 32, recipe={"model": "f"})
    prover = Prover(FUNCTION, HONEST, p=0.5, clip=CLIP, max_trainings=48, subject=subject)
    assert run(prover, Verifier(FUNCTION, **TERMS, subject=subject))
    assert prover.n_retrained == 48


def forged(**fields):
    """A prover that waits for a challenge, and one that was changed."""
    prover, verifier = pair()
    first = verifier.start()
    (second,) = prover.receive(first)
    (third,) = verifier.receive(second)
    challenge = header(third)
    data = {name: getattr(challenge, name) for name in challenge.__struct_fields__}
    for name, value in fields.items():
        data[name] = value(challenge) if callable(value) else value
    return prover, encode(type(challenge)(**data))


def test_subsets_of_the_verifiers_choice_are_refused():
    """It can neither name a seed, nor open another randomness than it sealed."""
    refused(*forged(seed="00" * 8))
    refused(*forged(randomness="00" * 32))
    other = challenge_seed(bytes(32), bytes(32), "00" * 32)
    refused(*forged(randomness="00" * 32, seed=other))
    prover, same = forged()
    assert len(prover.receive(same)) == 2


def test_a_design_that_does_not_exist_is_refused():
    for fields in ({"rho": 0.5}, {"n_leaves": 2**16, "n_clusters": 2**24}):

        def changed(challenge, fields=fields):
            return msgspec.structs.replace(challenge.design, **fields)

        refused(*forged(design=changed))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"budget": 47}, "design: expected at most 47 trainings"),
        (
            {"design": ResidualParameters(n_pairs=8, rho=0.25)},
            "design: expected one of method 'gap'",
        ),
        ({"method": "paper"}, "design: expected one of method 'paper'"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(changes, reason):
    _, verifier = pair()
    manifest = header(verifier.start()).manifest
    with pytest.raises(ValueError, match=reason):
        msgspec.structs.replace(manifest, **changes)


@pytest.mark.parametrize("name", ["nonlinearity", "tolerance"])
def test_a_claim_has_one_digest_whatever_the_sign_of_0(name):
    prover, verifier = pair()
    invitation = header(verifier.start())
    manifest = msgspec.structs.replace(invitation.manifest, **{name: 0.0})
    data = encode(msgspec.structs.replace(invitation, manifest=manifest))
    head = data[12:].replace(f'"{name}":0.0'.encode(), f'"{name}":-0.0'.encode())
    assert head != data[12:]
    refused(prover, join_frame(MAGIC, head))


def test_a_clip_between_two_float32_is_refused():
    prover, verifier = pair()
    invitation = header(verifier.start())
    manifest = msgspec.structs.replace(invitation.manifest, clip=0.1)
    refused(prover, encode(msgspec.structs.replace(invitation, manifest=manifest)))


# --- results that cannot be mistaken --------------------------------------------------------------


def test_nothing_but_a_verdict_reads_as_acceptance():
    prover, verifier = pair()
    assert verifier.outcome is Outcome.ABORT
    with pytest.raises(RuntimeError, match="verdict: expected the session to be over, got start"):
        _ = verifier.verdict
    exchange(prover, verifier, 5)
    assert verifier.outcome is Outcome.ABORT
    assert prover.outcome is Outcome.ABORT


def test_an_error_of_the_own_machine_is_not_a_verdict():
    class Breaks:
        def __call__(self, masks, seeds):
            raise MemoryError("out of memory")

    verifier = Verifier(Breaks(), n_train=60, n_targets=2)
    with pytest.raises(MemoryError):
        verifier.start()
    assert verifier.outcome is Outcome.ABORT
    with pytest.raises(RuntimeError):
        _ = verifier.verdict
    with pytest.raises(RuntimeError, match="got dead"):
        verifier.start()


def test_the_peer_learns_one_of_three_words():
    for attribution, outcome in ((HONEST, "ACCEPT"), (HalvedScores(-1.0)(HONEST), "ABORT")):
        prover, verifier = pair(attribution)
        decision = exchange(prover, verifier)[5]
        fields = header(decision)
        assert fields.outcome == outcome
        assert fields.__struct_fields__ == ("session", "parent", "outcome")
        assert prover.receive(decision) == ()
        assert prover.outcome == outcome


def test_what_was_accepted_cannot_be_had_otherwise():
    prover, verifier = pair()
    messages = exchange(prover, verifier)
    accepted = verifier.accepted()
    assert list(accepted.messages) == messages
    assert np.array_equal(accepted.scores.scores, HONEST.scores)
    assert accepted.verdict is verifier.verdict
    assert accepted.session == prover.session
    assert accepted.manifest.epsilon == 0.2
    for attribution, kind, check in (
        (HalvedScores(-1.0)(HONEST), Prover, "gap"),
        (HONEST, LateProver, "commitment"),
    ):
        prover, verifier = pair(attribution, kind)
        run(prover, verifier)
        with pytest.raises(Rejected) as caught:
            verifier.accepted()
        assert caught.value.check == check
    with pytest.raises(RuntimeError):
        pair()[1].accepted()


def test_faults_of_either_machine():
    class FailsOnce:
        """Wrong in one row of its first call, right afterwards."""

        calls = 0

        def __call__(self, masks, seeds):
            outputs = FUNCTION(masks, seeds)
            self.calls += 1
            if self.calls == 1:
                outputs[0] += 0.5
            return outputs

    machine = FailsOnce()
    verifier = Verifier(machine, n_train=60, n_targets=2, **TERMS)
    verdict = run(Prover(FUNCTION, HONEST), verifier)
    assert verdict.outcome is Outcome.ACCEPT
    assert verdict.details["n_hardware_faults"] == 1
    assert verdict.n_retrained == verdict.details["n_checked"] + 1

    class NeverTheSame:
        """Another result in every call."""

        calls = 0

        def __call__(self, masks, seeds):
            self.calls += 1
            return FUNCTION(masks, seeds) + np.float32(1e-3 * self.calls)

    verifier = Verifier(NeverTheSame(), n_train=60, n_targets=2, **TERMS)
    verdict = run(Prover(FUNCTION, HONEST), verifier)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "own two runs disagree" in verdict.reason


def test_challenges_and_salts_are_fresh():
    sessions = [list(map(header, exchange(*pair(), 5))) for _ in range(5)]
    for position, names in ((0, ("randomness", "checks")), (1, ("randomness", "digest"))):
        for name in names:
            assert len({getattr(session[position], name) for session in sessions}) == 5
    for position, name in ((2, "seed"), (3, "root"), (4, "salt"), (4, "leaf_key")):
        assert len({getattr(session[position], name) for session in sessions}) == 5


@pytest.mark.parametrize("data", [None, "text", bytearray(b"x"), memoryview(b"x")])
def test_only_bytes_are_messages(data):
    prover, verifier = pair()
    verifier.start()
    for end in (prover, verifier):
        with pytest.raises(TypeError, match="data: expected bytes"):
            end.receive(data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": 0.0},
        {"delta": 1.0},
        {"p": 0.0},
        {"method": "naive"},
        {"tolerance": -1.0},
        {"tolerance": float("nan")},
        {"spot_check_share": 0.0},
        {"spot_check_share": 1.0},
        {"clip": 0.0},
        {"budget": 0},
        {"n_train": 61},
        {"n_targets": 3},
        {"design": ClusterDesign(8, 2, p=0.4, rho=0.2)},
        {"method": "paper"},
    ],
    ids=str,
)
def test_wrong_terms_are_refused_at_once(wrong):
    with pytest.raises(ValueError, match=r"expected .*, got"):
        Verifier(FUNCTION, **TERMS | wrong)


def test_sizes_have_to_be_known():
    with pytest.raises(ValueError, match="n_train: expected a number"):
        Verifier(lambda masks, seeds: FUNCTION(masks, seeds))
    with pytest.raises(ValueError, match="attribution: expected n_train = 60"):
        Prover(FUNCTION, smooth_function(59, n_targets=2).best)
