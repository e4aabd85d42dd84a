"""The page of an attribution says what its files say, whatever their size."""

from __future__ import annotations

import json
import shutil
import time

import numpy as np
import pytest

import pyattr
from pyattr import datasets, reports
from pyattr.datasets import at_hand
from pyattr.jobs import load_job
from pyattr.jobs.source import dataset_of
from reports import folders
from reports.page import check_every_page


@pytest.fixture(scope="module")
def page():
    return check_every_page(reports.render(folders.attribution()))


@pytest.fixture(scope="module")
def attribution():
    return pyattr.load_attribution(folders.attribution() / "attribution.safetensors")


def copied(tmp_path, change):
    """The folder without its bank, with another quality.json."""
    shutil.copytree(folders.attribution(), tmp_path / "elsewhere")
    file = tmp_path / "elsewhere" / "quality.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))
    return tmp_path / "elsewhere"


def test_numbers_are_those_of_the_files(page, attribution):
    record = json.loads((folders.attribution() / "quality.json").read_text())
    rows = page.csv("targets.csv")
    assert [float(row["r2"]) for row in rows] == pytest.approx(
        record["held_out"]["r2"]["per_target"]
    )
    assert [float(row["intercept"]) for row in rows] == pytest.approx(
        attribution.intercept.tolist()
    )
    scores = [[float(row[f"target_{t}"]) for t in range(8)] for row in page.csv("scores.csv")]
    np.testing.assert_allclose(scores, attribution.scores, rtol=1e-6)
    assert page.json("quality.json")["held_out"]["r2"] == record["held_out"]["r2"]
    median = record["held_out"]["r2"]["quantiles"]["0.5"]
    assert page.text("h1").startswith(f"The scores explain {100 * median:.0f}% ")
    assert "Nothing on this page was verified" in page.words


def test_examples_are_shown_as_images(page, attribution):
    data = dataset_of(load_job(folders.attribution().parent / "job.toml"))
    shown = page.csv("examples.csv")
    first = shown[0]
    best = int(np.argmax(attribution.scores[:, 0]))
    assert (first["target"], first["side"], int(first["example"])) == ("0", "helpful", best)
    assert first["label"] == data.class_names[int(data.train_labels[best])]
    assert len(page.all("img")) == 6 * (1 + 2 * 5)
    assert "wrong label" in page.words  # a tenth of the labels was changed


def test_points_are_models_of_the_bank(page, attribution):
    """R² of the very models that are drawn is what the page says of all held-out ones: they are all."""
    from pyattr.reports.attribution_files import fresh_models, read

    scores, quality = read(folders.attribution())
    predicted, true = fresh_models(folders.attribution(), scores, quality, [3, 5])
    assert predicted.shape == true.shape == (64, 2)
    r2 = 1 - ((true - predicted) ** 2).mean(axis=0) / true.var(axis=0)
    np.testing.assert_allclose(r2, quality.held_out.r2.values[[3, 5]], atol=1e-5)
    assert page.html.count("of the trained model") == 4


def test_a_folder_moved_away_has_no_points(tmp_path):
    page = check_every_page(reports.render(copied(tmp_path, lambda record: None)))
    assert "of the trained model" not in page.html
    assert page.all("img")


def test_other_data_are_not_shown(tmp_path):
    def other(record):
        record["manifest"]["recipe"]["crc32"]["train_labels"] ^= 1

    page = check_every_page(reports.render(copied(tmp_path, other)))
    assert page.all("img") == []
    assert "digits here is not what the models were trained on" in page.words


def test_nothing_is_downloaded(tmp_path, monkeypatch):
    def elsewhere(record):
        record["job"]["data"]["name"] = "cifar10"

    def refuse(*_):
        raise AssertionError("asked the network")

    monkeypatch.setattr(datasets, "download", refuse)
    monkeypatch.setattr(datasets, "is_cached", lambda name: False)
    page = check_every_page(reports.render(copied(tmp_path, elsewhere)))
    assert page.all("img") == []
    assert "cifar10 is not on this machine" in page.words
    assert not at_hand("unknown")
    assert not at_hand("fashion-mnist", tmp_path / "nowhere")
    assert at_hand("digits")


def test_scores_alone_have_a_page(tmp_path):
    pyattr.Attribution(scores=[[1.0, -2.0], [0.5, 0.25]]).save(tmp_path / "attribution.safetensors")
    page = check_every_page(reports.render(tmp_path))
    assert page.text("h1") == "Scores of 2 training examples for 2 targets."
    assert [row["score"] for row in page.csv("examples.csv")][:2] == ["1", "0.5"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda r: r.pop("fit"),
            "quality.json: expected what `pyattr attribute` writes, got .*fit",
        ),
        (lambda r: r.update(schema="other"), "quality.json: expected what"),
        (lambda r: r["held_out"]["r2"]["per_target"].pop(), "expected figures of 8 targets"),
    ],
)
def test_damaged_files_are_named(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        reports.render(copied(tmp_path, change))


def test_damaged_scores_are_named(tmp_path):
    (tmp_path / "attribution.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"attribution\.safetensors"):
        reports.render(tmp_path)


@pytest.mark.parametrize("shape", [(5000, 100), (500, 10_000)])
def test_large_attributions_have_small_pages(shape, tmp_path):
    rng = np.random.default_rng(0)
    scores = pyattr.Attribution(
        scores=rng.standard_normal(shape, np.float32),
        details={name: rng.random(shape[1]) for name in ("lambda", "held_out_error", "support")},
    )
    scores.save(tmp_path / "attribution.safetensors")
    summary = {"mean": 0.5, "quantiles": dict.fromkeys(("0.0", "0.25", "0.5", "0.75", "1.0"), 0.5)}
    summary["per_target"] = rng.random(shape[1]).tolist()
    record = json.loads((folders.attribution() / "quality.json").read_text())
    record["held_out"] |= {"r2": summary, "lds": summary}
    record["details"] = {"lambda": summary, "held_out_error": summary}
    (tmp_path / "quality.json").write_text(json.dumps(record))
    started = time.process_time()
    html = reports.render(tmp_path)
    assert time.process_time() - started < 10  # 1 s where nothing else runs
    page = check_every_page(html)
    assert len(html) < 2_000_000
    assert len(page.elements) < 4000
    assert len(page.csv("targets.csv")) == shape[1]
    assert "scores.csv" not in page.files()
    best = page.csv("examples.csv")[0]
    assert int(best["example"]) == int(np.argmax(scores.scores[:, 0]))
