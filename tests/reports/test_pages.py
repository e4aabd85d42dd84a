"""Every page loads nothing, can be read without seeing it, and escapes what its folder says."""

from __future__ import annotations

import json

import pytest

from pyattr import reports
from pyattr.masks import sample_masks
from pyattr.protocol import Verifier
from pyattr.protocol.keys import SigningKey
from pyattr.protocol.manifest import Subject
from pyattr.protocol.signing import seal
from pyattr.reports.downloads import csv_file
from pyattr.transport.directory import MESSAGES
from reports import folders
from reports.page import ATTACK, check_every_page

FOLDERS = {
    "attribution": folders.attribution,
    "attribution checked": folders.checked,
    "sellers": folders.sellers,
    "session": folders.session,
    "session refused": lambda: folders.session("reverse"),
    "session begun": lambda: folders.session(last="challenge"),
    "bench": folders.bench,
    "demo": folders.demo,
}


@pytest.mark.parametrize("make", FOLDERS.values(), ids=FOLDERS.keys())
def test_what_holds_for_every_page(make):
    page = check_every_page(reports.render(make()))
    assert page.files()
    assert "prefers-color-scheme: dark" in page.html
    assert "@media print" in page.html
    assert ":focus-visible" in page.html


def hostile_demo(folder):
    results = json.loads((folders.demo() / "results.json").read_text())
    results["cases"][1]["title"] = results["payments"]["rows"][1]["title"] = ATTACK
    results["payments"]["sellers"][0]["name"] = ATTACK
    results["dataset"]["name"] = results["examples"][0]["label"] = ATTACK
    results["examples"][0]["helpful"][0]["seller"] = ATTACK
    (folder / "results.json").write_text(json.dumps(results))


def hostile_attribution(folder):
    record = json.loads((folders.attribution() / "quality.json").read_text())
    record["job"]["recipe"] = {"kind": ATTACK}
    record["job"]["data"] = None
    record["manifest"]["recipe"] = {ATTACK: ATTACK, "nested": {"more": ATTACK}}
    record["fit"]["method"] = ATTACK
    record["fit"]["n_failed"] = {ATTACK: 1}
    failure = {"seed": 0, "row": 1, "status": ATTACK, "message": ATTACK}
    record["fit"]["failures"] = [failure]
    (folder / "quality.json").write_text(json.dumps(record))
    scores = (folders.attribution() / "attribution.safetensors").read_bytes()
    (folder / "attribution.safetensors").write_bytes(scores)


def hostile_session(folder):
    subject = Subject(recipe={"dataset": ATTACK, "model": ATTACK}, output=ATTACK, platform=ATTACK)
    keys = SigningKey.generate(), SigningKey.generate()
    verifier = Verifier(
        lambda masks, seeds: masks.unpack()[:, :2].astype("float32"),
        epsilon=0.2,
        n_train=sample_masks(1, 40).n_train,
        n_targets=2,
        subject=subject,
        prover_key=keys[0].public.hex,
        key=keys[1].public.hex,
    )
    (folder / MESSAGES[0]).write_bytes(seal(verifier.start(), keys[1]))


def hostile_bench(folder):
    record = json.loads(json.dumps(folders.BENCH))
    peers = record["results"]["peers"]
    peers[ATTACK] = {ATTACK: peers["kernel b"]["pyattr"], "b": peers["kernel b"]["slow"]}
    record["results"][ATTACK] = ATTACK
    record["environment"]["device"] = record["environment"]["commit"] = ATTACK
    (folder / "hostile.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    "make", [hostile_demo, hostile_attribution, hostile_session, hostile_bench]
)
def test_hostile_words_are_escaped(make, tmp_path):
    make(tmp_path)
    html = reports.render(tmp_path)
    assert "<script" not in html
    assert "<img src=https" not in html
    assert "&lt;script&gt;" in html
    page = check_every_page(html)  # no element or attribute came from them
    assert "onerror" in page.words


def test_no_spreadsheet_runs_a_name():
    content = csv_file("a.csv", "", ["name"], [["=1+1"], ["@x"], ["-2"], [-2.5], ["fine"]]).content
    assert content.decode().split() == ["name", "'=1+1", "'@x", "'-2", "-2.5", "fine"]
