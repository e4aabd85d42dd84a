"""Sessions over HTTP: the very messages of a session in one process, however often they are asked for."""

from __future__ import annotations

import stat
import time

import httpx
import pytest
from http_parties import (
    FUNCTION,
    PROVER,
    SUBJECT,
    VERIFIER,
    ends,
    prepare,
    running,
    stored,
    terms,
    transcript,
    verify,
)

from pyattr.errors import ProtocolError
from pyattr.protocol import run
from pyattr.protocol.hashing import message_hash
from pyattr.protocol.keys import SigningKey
from pyattr.protocol.manifest import Subject
from pyattr.protocol.signing import seal, unseal
from pyattr.transport.answers import SEALED, Offer, Progress
from pyattr.transport.client import ProverClient, RefusedError
from pyattr.transport.directory import MESSAGES
from pyattr.transport.durable import BusyError
from pyattr.transport.host import Host
from pyattr.transport.ledger import Ledger
from pyattr.transport.terms import Quotas
from pyattr.verification.cheats import HalvedScores
from pyattr.verification.verdict import Outcome

NOBODY = "0" * 64


def post(url, path, body, **headers):
    return httpx.post(url + path, content=body, headers={"content-type": SEALED} | headers)


def error_of(answer):
    """The sentence of a refusal, which is all that one says."""
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    return answer.json()["error"]


def wait_for(url, place, state):
    until = time.monotonic() + 20
    while (found := httpx.get(f"{url}/v1/sessions/{place}").json())["state"] != state:
        assert time.monotonic() < until, found
        time.sleep(0.01)
    return found


def test_the_messages_and_the_verdict_are_those_of_one_process(tmp_path):
    place, expected = prepare(tmp_path, 1)
    seen = []
    with running(tmp_path / "host") as (url, _):
        verdict = verify(tmp_path, url, tell=lambda *told: seen.append(told))
    assert stored(tmp_path / "verifier") == expected
    assert stored(tmp_path / "host" / place) == expected
    alone = run(*ends(1))
    assert verdict.outcome is alone.outcome is Outcome.ACCEPT
    assert (verdict.gap_upper == alone.gap_upper).all()
    assert seen[-1] == (128, 128)
    assert seen == sorted(seen)


def test_a_session_with_a_pilot_is_the_same_too(tmp_path):
    words = {"design": None, "clip": None}
    place, expected = prepare(tmp_path, 2, **words)
    with running(tmp_path / "host") as (url, _):
        assert verify(tmp_path, url, **words).outcome is Outcome.ACCEPT
    assert stored(tmp_path / "host" / place) == expected


def test_halved_scores_are_caught_and_the_ledger_says_so(tmp_path):
    halved = HalvedScores()(FUNCTION.best)
    with running(tmp_path / "host", terms(attribution=halved, agreed={})) as (url, _):
        verdict = verify(tmp_path, url, design=None, clip=None, epsilon=0.1)
    assert verdict.outcome is Outcome.ABORT
    verifier = ends(1, epsilon=0.1)[1]
    verifier.start()
    (entry,) = Ledger.at(tmp_path / "ledger.jsonl").sessions(verifier.manifest.claim())
    assert entry.outcome == "ABORT"


def test_the_same_request_gets_the_same_answer_and_another_one_none(tmp_path):
    place, messages = prepare(tmp_path, 1)
    others = transcript(2)
    invitation, commitment, challenge, root, outputs, decision = messages
    with running(tmp_path / "host") as (url, _):
        path = f"/v1/sessions/{place}"
        for _ in range(2):
            answer = post(url, "/v1/sessions", invitation)
            assert (answer.status_code, answer.content) == (201, commitment)
            assert answer.headers["location"] == path
            assert answer.headers["content-type"] == SEALED
            assert answer.headers["cache-control"] == "no-store"
        for early in ("outputs-commitment", "outputs"):
            assert httpx.get(f"{url}{path}/{early}").status_code == 404
        assert post(url, f"{path}/decision", decision).status_code == 404
        # A challenge that does not follow leaves the session as it is.
        for wrong in (others[2], invitation, decision):
            answer = post(url, f"{path}/challenge", wrong)
            assert answer.status_code == 400
            assert "expected" in error_of(answer)
        assert httpx.get(url + path).json()["state"] == "committed"
        for _ in range(2):
            assert post(url, f"{path}/challenge", challenge).status_code == 202
        assert wait_for(url, place, "answered") == {
            "state": "answered",
            "done": 128,
            "planned": 128,
        }
        assert post(url, f"{path}/challenge", challenge).status_code == 202
        assert post(url, f"{path}/challenge", others[2]).status_code == 409
        for _ in range(2):
            assert httpx.get(f"{url}{path}/outputs-commitment").content == root
            assert httpx.get(f"{url}{path}/outputs").content == outputs
        assert post(url, f"{path}/decision", others[5]).status_code == 400
        for _ in range(2):
            answer = post(url, f"{path}/decision", decision)
            assert (answer.status_code, answer.content) == (204, b"")
        assert post(url, f"{path}/decision", others[5]).status_code == 409
        assert httpx.get(url + path).json()["state"] == "closed"
        assert post(url, "/v1/sessions", invitation).content == commitment


def test_only_what_the_verifier_signed_counts(tmp_path):
    invitation, commitment, *_ = transcript(1)
    manifest = unseal(invitation, VERIFIER.public)
    flipped = bytearray(invitation)
    flipped[200] ^= 1
    forged = [
        seal(manifest, SigningKey.generate()),
        seal(manifest, PROVER),
        commitment,
        bytes(flipped),
        invitation[:-1],
        b"",
        b"\x80\x04pickle",
    ]
    with running(tmp_path / "host") as (url, _):
        for wrong in forged:
            answer = post(url, "/v1/sessions", wrong)
            assert answer.status_code == 400
            assert "expected" in error_of(answer)
    assert [path.name for path in (tmp_path / "host").iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ({"p": 0.4, "design": None}, "p"),
        ({"epsilon": 0.3}, "epsilon"),
        ({"subject": Subject(recipe=SUBJECT.recipe, output="loss")}, "subject.output"),
    ],
)
def test_terms_that_were_not_agreed_are_refused(tmp_path, words, name):
    with running(tmp_path / "host") as (url, _), pytest.raises(RefusedError, match=f"400: {name}:"):
        verify(tmp_path, url, **words)
    assert not (tmp_path / "ledger.jsonl").exists()


def test_no_session_no_answer(tmp_path):
    with running(tmp_path / "host") as (url, _):
        for place in (NOBODY, "..", "%2e%2e", "lock", "A" * 64, "a" * 5000):
            path = f"/v1/sessions/{place}"
            for ending in ("", "/outputs-commitment", "/outputs"):
                assert httpx.get(f"{url}{path}{ending}").status_code == 404
            for ending in ("/challenge", "/decision"):
                assert post(url, path + ending, b"x").status_code == 404


def test_the_offer_is_what_was_agreed(tmp_path):
    with running(tmp_path / "host", terms(clip=0.1)) as (url, _), ProverClient(url) as client:
        offer = client.offer()
    assert offer == Offer(
        key=PROVER.public.hex,
        verifier=VERIFIER.public.hex,
        subject=SUBJECT,
        n_train=60,
        n_targets=2,
        p=0.5,
        clip=0.10000000149011612,
        tolerance=0.0,
        max_trainings=2**20,
    )


def test_quotas_bound_open_sessions_and_sessions_of_a_claim(tmp_path):
    invitations = [transcript(seed, 1)[0] for seed in range(5)]
    with running(tmp_path / "host", quotas=Quotas(open_sessions=2, per_claim=3)) as (url, _):
        assert [post(url, "/v1/sessions", sent).status_code for sent in invitations[:2]] == [
            201,
            201,
        ]
        answer = post(url, "/v1/sessions", invitations[2])
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "60"
        assert "at most 2" in error_of(answer)
        assert post(url, "/v1/sessions", invitations[0]).status_code == 201
    # Sessions that nobody asks about any more do not stand in the way; those of a claim are kept count of.
    quotas = Quotas(open_sessions=1, per_claim=3, idle_seconds=1e-9)
    with running(tmp_path / "host", terms(agreed={}), quotas=quotas) as (url, _):
        assert post(url, "/v1/sessions", invitations[2]).status_code == 201
        answer = post(url, "/v1/sessions", invitations[3])
        assert answer.status_code == 403
        assert "at most 3" in error_of(answer)
        other = transcript(4, 1, epsilon=0.3)[0]  # the same claim, whatever ε is
        assert post(url, "/v1/sessions", other).status_code == 403
    assert len(list((tmp_path / "host").iterdir())) == 1 + 3


def test_a_training_that_fails_goes_on_when_it_is_asked_again(tmp_path, caplog):
    calls = []

    def retrain(masks, seeds):
        calls.append(len(masks))
        if len(calls) == 1:
            raise RuntimeError("secret of the operator")
        return FUNCTION(masks, seeds)

    with running(tmp_path / "host", terms(retrain)) as (url, _):
        with pytest.raises(RefusedError, match="expected it to train, got failed"):
            verify(tmp_path, url)
        assert verify(tmp_path, url).outcome is Outcome.ACCEPT
    assert "secret of the operator" in caplog.text  # the operator's own log


def test_an_error_of_the_server_says_nothing_of_it(tmp_path, caplog, monkeypatch):
    def broken(self, place):
        raise KeyError("/secret/path")

    monkeypatch.setattr(Host, "progress", broken)
    with running(tmp_path / "host") as (url, _):
        answer = httpx.get(f"{url}/v1/sessions/{NOBODY}")
    assert answer.status_code == 500
    assert error_of(answer) == "server: expected to answer, got an error"
    assert "/secret/path" in caplog.text


def test_one_server_for_a_state_directory(tmp_path):
    with running(tmp_path / "host"), pytest.raises(BusyError):
        Host(tmp_path / "host", terms())


def test_sessions_of_another_verifier_are_left_alone(tmp_path):
    lines = []
    with running(tmp_path / "host") as (url, _):
        post(url, "/v1/sessions", transcript(1)[0])
    host = Host(
        tmp_path / "host", terms(verifier=SigningKey.generate().public), report=lines.append
    )
    host.stop()
    assert "of another verifier" in lines[0]


def test_secrets_stay_where_they_are(tmp_path, caplog, capfd):
    place, _ = prepare(tmp_path, 1)
    lines = []
    with running(tmp_path / "host") as (url, host):
        host._report = lines.append
        verify(tmp_path, url)
        answers = [httpx.get(url + path).text for path in ("/v1/prover", f"/v1/sessions/{place}")]
    secrets = [path.read_text() for path in tmp_path.rglob("private-*.json")]
    assert len(secrets) == 2
    said = "".join([*answers, *lines, caplog.text, *capfd.readouterr()])
    assert len(lines) == 3
    for secret in secrets:
        assert secret.split('"')[3] not in said
    for path in tmp_path.rglob("*"):
        if "private" in path.name or "trainings" in path.name or path.name == "ledger.jsonl":
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    # The prover's bar and state end with the outputs: nothing of the checks is in them.
    assert Progress(state="closed", done=128, planned=128) == host.progress(place)


def test_a_signed_message_that_is_wrong_is_a_verdict_and_an_unsigned_one_is_none(tmp_path):
    place, messages = prepare(tmp_path, 1)
    directory = tmp_path / "host" / place
    with running(tmp_path / "host") as (url, _):
        post(url, "/v1/sessions", messages[0])
        post(url, f"/v1/sessions/{place}/challenge", messages[2])
        wait_for(url, place, "answered")
        root = directory / MESSAGES[3]
        root.write_bytes(messages[3][:100] + b"x" + messages[3][101:])
        with pytest.raises(ProtocolError, match="expected"):
            verify(tmp_path, url)
        assert not (tmp_path / "verifier" / MESSAGES[3]).exists()
        root.write_bytes(transcript(2)[3])
        for _ in range(2):  # resumed, it is the same
            assert verify(tmp_path, url).outcome is Outcome.ABORT
    assert '"ABORT"' in (tmp_path / "ledger.jsonl").read_text()
    assert message_hash(unseal(messages[0], VERIFIER.public)) == place
