"""kill -9 before and after every call to the system, on either side, at every step of a session."""

from __future__ import annotations

import shutil

import pytest
from kill_points import killed_at_each_point

from pyattr.protocol.randomness import secret_of
from pyattr.transport import secret_file
from pyattr.verification.clusters import ClusterDesign
from transport.parties import TURNS, Parties

TERMS = {"design": ClusterDesign(24)}  # a pilot for b, and no search for a design
STEP = 7  # every so many calls: 7 has nothing to do with how many there are to a file


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    """The folders before each step of an undisturbed session, and after the last."""
    root = tmp_path_factory.mktemp("undisturbed")
    parties, kept = Parties(root / "session", **TERMS), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secret_file, "fresh_secret", lambda: secret_of(1))
        for number, role in enumerate((*TURNS, None)):
            kept.append(shutil.copytree(root / "session", root / str(number)))
            if role is not None:
                parties.step(role)
    return kept


@pytest.mark.parametrize("number", range(len(TURNS)), ids=lambda n: f"{n} {TURNS[n]}")
def test_a_killed_side_goes_on_to_the_same_bytes(number, snapshots, tmp_path, monkeypatch):
    """Its messages, the decision and the ledger are those of a session in which nobody was killed."""
    role, after = TURNS[number], Parties(snapshots[number + 1])
    monkeypatch.setattr(secret_file, "fresh_secret", lambda: secret_of(1))
    path = tmp_path / "killed"
    parties = Parties(shutil.copytree(snapshots[number], path), **TERMS)
    n_points = 0
    for _ in killed_at_each_point(lambda _: parties.step(role, deliver=False), STEP):
        seen = parties.messages(role)  # what the other side may have been sent already
        parties.step(role)
        assert parties.messages(role) == after.messages(role)
        assert seen.items() <= after.messages(role).items()
        assert parties.ledger.sessions(parties.claim) == after.ledger.sessions(after.claim)
        n_points += 1
        shutil.rmtree(path)
        shutil.copytree(snapshots[number], path)
    assert n_points >= 20
