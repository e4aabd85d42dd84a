"""The page of a session says what its record proves, and nothing that is secret yet."""

from __future__ import annotations

import dataclasses
import json
import shutil

import msgspec
import numpy as np
import pytest

from pyattr import reports
from pyattr.reports import session
from pyattr.reports.session_files import dataset_at_hand, read
from pyattr.transport.directory import MESSAGES
from pyattr.transport.evidence import audit_directory, stated_attribution, stated_manifest
from pyattr.transport.secret_file import secret_from
from pyattr.verification.verdict import Verdict
from reports import folders
from reports.page import check_every_page


@pytest.fixture(scope="module")
def page():
    return check_every_page(reports.render(folders.session()))


def test_gaps_are_those_of_the_audit(page):
    verdict = audit_directory(folders.session()).verdict
    rows = page.csv("gaps.csv")
    assert [row["outcome"] for row in rows] == ["ACCEPT"] * 3
    for name in ("gap", "gap_lower", "gap_upper"):
        np.testing.assert_allclose(
            [float(r[name]) for r in rows], getattr(verdict, name), rtol=1e-6
        )
    record = page.json("session.json")
    assert record["decision"] == record["verdict"]["outcome"] == "ACCEPT"
    assert record["verdict"]["n_retrained"] == verdict.n_retrained
    assert record["audit"]["holds"]
    assert record["audit"]["n_believed"] == verdict.n_retrained
    assert (
        page.text("h1")
        == "The scores were accepted: their gap is at most 0.2 at every one of 3 targets."
    )
    assert verdict.reason in page.words


def test_parties_claim_and_recipe_are_named(page):
    manifest = stated_manifest(folders.session())
    for words in (manifest.prover, manifest.verifier, manifest.subject.train, "SoftmaxRecipe"):
        assert words in page.words
    assert "ε = 0.2" in page.words
    assert "over 8 attempts" in page.words


def test_examples_are_those_of_the_published_scores(page):
    scores = stated_attribution(folders.session()).scores
    record = read(folders.session())
    np.testing.assert_array_equal(record.scores.scores, scores)
    worst = int(np.argmax(audit_directory(folders.session()).verdict.gap_upper))
    best = int(np.argmax(scores[:, worst]))
    assert page.all("img")[1]["alt"] == f"training image {best}"
    assert len(page.all("img")) == 3 * (1 + 2 * 5)


def test_a_refused_session_says_why():
    page = check_every_page(reports.render(folders.session("reverse")))
    assert page.text("h1") == "The scores were refused."
    assert "the lower limit of the gap" in page.words
    assert {row["outcome"] for row in page.csv("gaps.csv")} == {"ABORT"}
    assert "ABORT follows from the record" in page.words


def test_no_page_holds_the_secret(page):
    for folder, html in (
        (folders.session(), page.html),
        (folders.session(last="challenge"), reports.render(folders.session(last="challenge"))),
    ):
        for role in ("verifier", "prover"):
            secret = secret_from((folder / f"private-{role}.json").read_bytes())
            assert secret.hex() not in html


def test_before_the_decision_nothing_is_judged():
    page = check_every_page(reports.render(folders.session(last="respond")))
    assert page.text("h1") == "A session that is not decided yet: 5 of 6 messages."
    assert "gaps.csv" not in page.files()
    assert "audit" not in page.json("session.json")
    assert page.all("img") == []  # not even the scores, which the verifier has not judged


def test_the_provers_folder_is_not_audited(tmp_path):
    shutil.copytree(folders.session(), tmp_path / "p", ignore=shutil.ignore_patterns("*verifier*"))
    page = check_every_page(reports.render(tmp_path / "p"))
    assert page.text("h1").startswith("The scores were accepted")
    assert "Not audited: private-verifier.json is not here" in page.words
    assert "folder of the prover" in page.words
    assert "gaps.csv" not in page.files()
    assert page.all("img")  # the scores are the prover's own


def test_a_record_that_was_changed_is_said_to_be(tmp_path):
    shutil.copytree(folders.session(), tmp_path / "v")
    block = next((tmp_path / "v" / "trainings-verifier").iterdir())
    data = bytearray(block.read_bytes())
    data[-1] ^= 1
    block.write_bytes(data)
    page = check_every_page(reports.render(tmp_path / "v"))
    assert page.text("h1") == "The record does not hold together; its decision says ACCEPT."
    assert "✕ fails" in page.words
    assert not page.json("session.json")["audit"]["holds"]


def test_a_damaged_message_is_an_error(tmp_path):
    shutil.copytree(folders.session(), tmp_path / "v")
    (tmp_path / "v" / MESSAGES[0]).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"/v: "):
        reports.render(tmp_path / "v")


def test_data_are_shown_only_if_they_are_the_manifests():
    manifest = stated_manifest(folders.session())
    assert dataset_at_hand(manifest).n_train == 200
    other = msgspec.structs.replace(manifest.subject, train="0" * 64)
    assert dataset_at_hand(msgspec.structs.replace(manifest, subject=other)) is None
    for wrong in ({"n_train": "many"}, {"dataset": "../x"}, {"dataset_seed": -1}):
        recipe = dict(sorted((manifest.subject.recipe | wrong).items()))
        other = msgspec.structs.replace(manifest.subject, recipe=recipe)
        assert dataset_at_hand(msgspec.structs.replace(manifest, subject=other)) is None


def test_many_targets_have_a_small_page(monkeypatch):
    """10,000 targets: the chart shows the worst, a histogram all, the CSV every one."""
    record = read(folders.session())
    rng = np.random.default_rng(0)
    n, verdict = 10_000, record.audit.verdict
    gaps = rng.random(n) * 0.1
    many = dataclasses.replace(
        verdict,
        gap=gaps,
        gap_lower=gaps - 0.01,
        gap_upper=gaps + 0.05,
        outcomes=(verdict.outcomes[0],) * n,
    )
    audit = dataclasses.replace(record.audit, verdict=many)
    manifest = msgspec.structs.replace(record.manifest, n_targets=n)
    wide = dataclasses.replace(record, audit=audit, manifest=manifest, scores=None)
    monkeypatch.setattr(session, "read", lambda folder: wide)
    page = check_every_page(session.render(folders.session()))
    assert len(page.html) < 1_000_000
    assert len(page.csv("gaps.csv")) == n
    worst = int(np.argmax(gaps))
    assert f"target {worst}" in page.html
    assert "Upper limits of all 10,000 targets" in page.words
    assert json.dumps(page.json("session.json"))


def test_a_failed_check_has_no_gap(monkeypatch):
    record = read(folders.session("reverse"))
    reason = "output 7 is not what training gives"
    failed = Verdict.failed("gap", 0.2, 0.05, reason, 3, details={"check": "spot check"})
    audit = dataclasses.replace(record.audit, verdict=failed)
    monkeypatch.setattr(session, "read", lambda folder: dataclasses.replace(record, audit=audit))
    page = check_every_page(session.render(folders.session("reverse")))
    assert reason in page.words
    assert "spot check failed" in page.text("text")
    assert [row["gap"] for row in page.csv("gaps.csv")] == ["", "", ""]
    assert page.json("session.json")["verdict"]["largest_upper_limit"] is None
