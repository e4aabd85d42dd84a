"""What a prover, or anyone who may look at the verifier's machine, learns about the spot checks: nothing."""

from __future__ import annotations

import logging
import stat

import msgspec
from two_parties import exchange, header, verifier_with

from pyattr.protocol import Prover, Verifier
from pyattr.protocol.checks import SecretChecks
from pyattr.protocol.randomness import secret_of
from pyattr.verification.clusters import ClusterDesign
from transport.parties import FUNCTION, Parties

DESIGN = ClusterDesign(200)


# Draws its spot checks by another key than the one it sealed.
OtherRows = verifier_with(_checks=lambda steps: SecretChecks(bytes(32), steps._session.parent))


def verifier(kind, retrain=FUNCTION, progress=None):
    terms = {"n_train": 60, "n_targets": 2, "epsilon": 0.2, "design": DESIGN, "clip": 10.0}
    return kind(retrain, secret=secret_of(1), progress=progress, **terms)


class Watched:
    """A retrain that keeps what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, masks, seeds):
        self.asked.append(seeds.tolist())
        return FUNCTION(masks, seeds)


def test_nothing_that_leaves_the_verifier_depends_on_which_rows_it_checks():
    seen = []
    for kind in (Verifier, OtherRows):
        watched, told = Watched(), []
        prover = Prover(FUNCTION, FUNCTION.best, secret=secret_of(2))
        end = verifier(kind, watched, lambda *progress, told=told: told.append(progress))
        messages = exchange(prover, end)
        assert end.verdict
        seen.append((watched.asked, messages, told))
    (rows, *first), (other_rows, *second) = seen
    assert rows != other_rows
    assert first == second


def fresh(kind):
    return Prover(FUNCTION, FUNCTION.best, secret=secret_of(2)), verifier(kind)


def test_nothing_is_said_of_the_spot_checks_before_they_are_drawn():
    """The rows are drawn after the last message of the prover that they could be read from."""
    prover, end = fresh(Verifier)
    exchange(prover, end, 3)
    assert end._steps._asked is None
    assert "n_checked" not in end._steps._method.details


def test_the_folder_of_a_verifier_shows_others_the_messages_alone(tmp_path, caplog, capfd):
    parties = Parties(tmp_path, design=DESIGN)
    with caplog.at_level(logging.DEBUG):
        parties.play()
    assert not [record for record in caplog.records if record.name.startswith("pyattr")]
    assert capfd.readouterr() == ("", "")
    for path in (tmp_path / "verifier").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if not path.name.endswith(".dsse"):
            assert mode & 0o077 == 0, path
    ledger = stat.S_IMODE((tmp_path / "ledger.jsonl").stat().st_mode)
    assert ledger & 0o077 == 0
    for data in parties.messages("verifier").values():
        assert b"n_checked" not in data


def test_a_decision_has_the_size_of_its_word():
    """Acceptance, abort and their reasons: the message tells the word and nothing else."""
    messages = exchange(*fresh(Verifier))
    fields = msgspec.structs.asdict(header(messages[5]))
    assert set(fields) == {"session", "parent", "outcome"}
