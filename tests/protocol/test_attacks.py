"""What a peer may try: order, replays, damaged and poisonous messages, scores fitted late."""

from __future__ import annotations

import numpy as np
import pytest
from cube import smooth_function
from hypothesis import given, settings
from hypothesis import strategies as st

from pyattr.errors import ProtocolError
from pyattr.protocol import Prover, Verifier, run
from pyattr.protocol.arrays import attribution_tensors, to_tensor
from pyattr.protocol.challenges import design_of, row_blocks
from pyattr.protocol.encoding import encode
from pyattr.protocol.hashing import message_hash
from pyattr.protocol.messages import DECODER, Decision, Response
from pyattr.protocol.session import State
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


def up_to_response(prover, verifier):
    challenge = verifier.receive(prover.start())
    return challenge, prover.receive(challenge)


def header(data):
    return DECODER.decode(data[12 : 12 + int.from_bytes(data[8:12], "little")])


# --- scores chosen after the challenge ------------------------------------------------------------


class LateProver(Prover):
    """Commits to anything, then fits its scores to the answers and reveals those."""

    def _outputs(self, challenge):
        outputs = super()._outputs(challenge)
        _, masks, _ = next(row_blocks(design_of(challenge), int(challenge.seed, 16), 60))
        self._scores = FitsAfterChallenge().refit(masks, outputs)
        return outputs


class TrustingVerifier(Verifier):
    """Omits step 4's comparison with the commitment."""

    def _check_opening(self, response, tensors):
        pass


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
    prover = LateProver(FUNCTION, nothing)
    verifier = TrustingVerifier(FUNCTION, **TERMS, seed=1)
    verdict = run(prover, verifier)
    assert verdict.outcome is Outcome.ACCEPT
    change = prover._scores.scores - HONEST.scores
    true_gap = np.sum(change.astype(np.float64) ** 2, axis=0) / 4 / FUNCTION.variance
    assert (true_gap > 2 * TERMS["epsilon"]).all()
    assert (verdict.gap_upper < 1e-6).all()


@pytest.mark.parametrize("what", ["scores", "intercept", "salt"])
def test_any_change_of_what_was_committed_is_caught(what):
    prover, verifier = pair()
    challenge = verifier.receive(prover.start())
    if what == "salt":
        prover._salt = bytes(32)
    else:
        changed = {name: getattr(prover._scores, name).copy() for name in ("scores", "intercept")}
        changed[what].flat[0] = np.nextafter(changed[what].flat[0], np.float32(np.inf))
        prover._scores = LinearScores(**changed)
    verifier.receive(prover.receive(challenge))
    assert verifier.verdict.details["check"] == "commitment"
    assert verifier.outcome is Outcome.ABORT


# --- values ---------------------------------------------------------------------------------------


class Answers(Prover):
    """Sends given outputs."""

    change = staticmethod(lambda outputs: outputs)

    def _outputs(self, challenge):
        return self.change(super()._outputs(challenge))


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
    prover, verifier = pair()
    other_prover, other_verifier = pair()
    _, response = up_to_response(prover, verifier)
    other_challenge, other_response = up_to_response(other_prover, other_verifier)
    decision = verifier.receive(response)
    third_prover, third_verifier = pair()
    third_verifier.receive(third_prover.start())
    refused(third_verifier, other_response)
    refused(third_prover, other_challenge)
    refused(other_prover, decision)
    assert verifier.verdict.details.get("check") is None
    assert third_verifier.verdict.details["check"] == "form"


def test_messages_out_of_order_or_repeated_are_refused():
    prover, verifier = pair()
    commitment = prover.start()
    refused(Verifier(FUNCTION, **TERMS), b"")
    challenge = verifier.receive(commitment)
    refused(pair()[1], challenge)  # its own kind of message
    response = prover.receive(challenge)
    refused(pair()[1], response)  # nothing was committed
    again, _ = pair()
    again.start()
    refused(again, response)  # a prover's message to a prover
    refused(verifier, commitment)  # once only


def test_a_decision_before_the_answer_is_refused():
    prover, verifier = pair()
    challenge = verifier.receive(prover.start())
    session = header(challenge).session
    early = Decision(session=session, parent=header(challenge).parent, outcome="ACCEPT")
    refused(prover, encode(early))


def test_a_decision_that_skips_the_answer_is_refused():
    prover, verifier = pair()
    challenge, _ = up_to_response(prover, verifier)
    link = message_hash(challenge)
    forged = Decision(session=header(challenge).session, parent=link, outcome="ACCEPT")
    refused(prover, encode(forged))


def test_a_session_is_used_once():
    prover, verifier = pair()
    run(prover, verifier)
    with pytest.raises(RuntimeError, match="session: expected to be start, got closed"):
        prover.start()
    with pytest.raises(RuntimeError):
        verifier.receive(b"")
    with pytest.raises(RuntimeError):
        prover.receive(b"")
    with pytest.raises(RuntimeError, match="session: expected to be committed"):
        pair()[0].receive(b"")


@pytest.mark.parametrize("drop", [1, 47])
def test_missing_answers_are_refused(drop):
    change = staticmethod(lambda outputs: outputs[:-drop])
    prover, verifier = pair(kind=type("_", (Answers,), {"change": change}))
    _, response = up_to_response(prover, verifier)
    refused(verifier, response)
    assert verifier.verdict.outcome is Outcome.ABORT


def test_answers_of_another_type_are_refused():
    prover, verifier = pair()
    challenge = verifier.receive(prover.start())
    message = Response(
        session=header(challenge).session, parent=message_hash(challenge), salt="00" * 32
    )
    tensors = attribution_tensors(LinearScores.of(HONEST))
    for shape in [(2, 48), (96,), (1, 48, 2)]:
        outputs = to_tensor(np.zeros(shape, np.float32))
        fresh_prover, fresh = pair()
        fresh.receive(fresh_prover.start())
        refused(fresh, encode(message, tensors | {"outputs": outputs}))


@pytest.mark.parametrize("size", [(59, 2), (60, 1)])
def test_other_sizes_are_refused(size):
    function = smooth_function(size[0], n_targets=size[1])
    prover = Prover(function, function.best)
    refused(pair()[1], prover.start())


def test_the_largest_message_follows_from_what_was_agreed():
    prover, verifier = pair()
    refused(pair()[1], pair()[0].start() + bytes(10**6))
    _, response = up_to_response(prover, verifier)
    refused(verifier, response + bytes(10**6))


# --- what the prover refuses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prover_terms", "verifier_terms"),
    [
        ({"p": 0.4}, {}),
        ({"clip": 5.0}, {}),
        ({"max_trainings": 47}, {}),
    ],
)
def test_a_challenge_that_was_not_agreed_is_refused(prover_terms, verifier_terms):
    prover = Prover(FUNCTION, HONEST, **prover_terms)
    verifier = Verifier(FUNCTION, **TERMS | verifier_terms)
    challenge = verifier.receive(prover.start())
    refused(prover, challenge)
    assert prover.n_retrained == 0


def test_a_challenge_that_was_agreed_is_answered():
    prover = Prover(FUNCTION, HONEST, p=0.5, clip=CLIP, max_trainings=48)
    assert run(prover, Verifier(FUNCTION, **TERMS))
    assert prover.n_retrained == 48


def forge(challenge, **fields):
    data = {name: getattr(challenge, name) for name in challenge.__struct_fields__}
    return encode(type(challenge)(**data | fields))


def test_a_design_that_does_not_exist_is_refused():
    for fields in ({"rho": 0.5}, {"n_leaves": 2**16, "n_clusters": 2**24}):
        prover, verifier = pair()
        challenge = header(verifier.receive(prover.start()))
        words = {n: getattr(challenge.design, n) for n in challenge.design.__struct_fields__}
        refused(prover, forge(challenge, design=type(challenge.design)(**words | fields)))


def test_a_clip_between_two_float32_is_refused():
    prover, verifier = pair()
    challenge = header(verifier.receive(prover.start()))
    refused(prover, forge(challenge, clip=0.1))


# --- random damage to a running session -----------------------------------------------------------


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damage_ends_in_an_error_of_form_or_no_acceptance(data):
    prover, verifier = pair(seed=1)
    messages = [prover.start()]
    messages.append(verifier.receive(messages[0]))
    messages.append(prover.receive(messages[1]))
    position = data.draw(st.sampled_from([0, 1, 2]))
    damaged = bytearray(messages[position])
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] ^= data.draw(st.integers(1, 255))
    if position == 1:
        victim, _ = pair()
        victim.start()
    else:
        victim = verifier if position == 2 else pair()[1]
    try:
        victim.receive(bytes(damaged))
    except ProtocolError:
        assert victim.outcome is Outcome.ABORT
    else:
        # A nonce or digest is as good as another until the opening; anything later is caught.
        # One output that is merely wrong may stay unchecked where it could hide nothing.
        if position == 2 and "check" not in victim.verdict.details:
            assert victim.outcome is not Outcome.ABORT
            assert victim.verdict.details.get("n_corrupted_covered", 0) >= bool(victim.verdict)
        elif position == 2:
            assert victim.verdict.outcome is Outcome.ABORT
            assert victim.verdict.details["check"] in (
                "commitment",
                "scores",
                "outputs",
                "spot check",
            )
        else:
            assert position == 0


# --- results that cannot be mistaken --------------------------------------------------------------


def test_nothing_but_a_verdict_reads_as_acceptance():
    prover, verifier = pair()
    assert verifier.outcome is Outcome.ABORT
    with pytest.raises(RuntimeError, match="verdict: expected the session to be over, got start"):
        _ = verifier.verdict
    verifier.receive(prover.start())
    assert verifier.outcome is Outcome.ABORT
    assert prover.outcome is Outcome.ABORT


def test_an_error_of_the_own_machine_is_not_a_verdict():
    class Breaks:
        def __call__(self, masks, seeds):
            raise MemoryError("out of memory")

    prover, _ = pair()
    verifier = Verifier(Breaks(), n_train=60, n_targets=2)
    commitment = prover.start()
    with pytest.raises(MemoryError):
        verifier.receive(commitment)
    assert verifier.outcome is Outcome.ABORT
    with pytest.raises(RuntimeError):
        _ = verifier.verdict
    with pytest.raises(RuntimeError, match="got dead"):
        verifier.receive(commitment)


def test_the_peer_learns_one_of_three_words():
    for attribution, outcome in ((HONEST, "ACCEPT"), (HalvedScores(-1.0)(HONEST), "ABORT")):
        prover, verifier = pair(attribution, seed=1)
        _, response = up_to_response(prover, verifier)
        decision = verifier.receive(response)
        fields = header(decision)
        assert fields.outcome == outcome
        assert fields.__struct_fields__ == ("session", "parent", "outcome")
        prover.receive(decision)
        assert prover.outcome == outcome


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
    challenges = [header(pair()[1].receive(pair()[0].start())) for _ in range(5)]
    assert len({challenge.seed for challenge in challenges}) == 5
    assert len({challenge.nonce for challenge in challenges}) == 5
    commitments = [header(pair()[0].start()) for _ in range(5)]
    assert len({commitment.digest for commitment in commitments}) == 5


@pytest.mark.parametrize("data", [None, "text", bytearray(b"x"), memoryview(b"x")])
def test_only_bytes_are_messages(data):
    prover, verifier = pair()
    prover.start()
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
