"""Job files: what is wrong is named by file, line and key."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pyattr.cli import main
from pyattr.datasets import load
from pyattr.jobs import Source, load_job
from pyattr.jobs.source import dataset_of
from pyattr.jobs.training import bank_of
from pyattr.retraining.worker import Done, Task, Work, Worker
from pyattr.subject.words import differing_words

GOOD = """\
bank = "here"

[data]
name = "digits"
n_train = 50
n_targets = 4

[recipe]
kind = "softmax"
n_steps = 10

[models]
count = 64
held_out = 0
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_and_paths(tmp_path):
    job = load_job(write(tmp_path, GOOD))
    assert (job.models.p, job.models.design, job.fit.method) == (0.5, "iid", "bayes")
    assert (job.models.seed, job.models.second_seed) == (0, 1)
    assert job.bank_url == str(tmp_path / "here")
    assert job.out_folder == tmp_path / "attribution"
    away = load_job(write(tmp_path, GOOD.replace("here", "s3://bucket/x")))
    assert away.bank_url == "s3://bucket/x"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("count = 64", 'count = "64"', "line 13: models.count: expected 'int', got 'str'"),
        ("count = 64", "count = 1", "line 13: models.count: expected a whole number of at least 2"),
        ("count = 64", "cuont = 64", "line 13: models.cuont: unknown key; did you mean 'count'?"),
        ("count = 64\n", "", "models.count: needed, and not there"),
        ("held_out = 0", "p = 1.5", "line 14: models.p: expected a probability"),
        ("held_out = 0", 'p = 0.3\ndesign = "complement"', "line 14: models.p: expected 1/2 with"),
        ("held_out = 0", 'chunk = 3\ndesign = "complement"', "line 14: models.chunk: expected an even"),
        ("held_out = 0", 'design = "other"', "line 14: models.design: invalid enum value 'other'"),
        ("held_out = 0", "seed = -1", "line 14: models.seed: expected a number from 0 to"),
        ("held_out = 0", "held_out_seed = 0", "line 14: models.held_out_seed: expected another"),
        ('name = "digits"', 'name = "digits"\npool = 0', "line 5: data.pool: expected a whole number of at"),
        ('name = "digits"', 'name = "digits"\nfeed = "disk"', "line 5: data.feed: invalid enum value 'disk'"),
        ('name = "digits"', 'name = "digits"\nfeed = "ffcv"', "line 5: data.feed: expected 'memory' unless"),
        ("n_train = 50", "sellers = 1", "line 5: data.sellers: expected a whole number of at least 2"),
        ("n_train = 50", "sellers = 2.5", "line 5: data.sellers: expected 'int | str | null'"),
        ("n_train = 50", 'seller_skew = "label"', "data.sellers: expected a number to go with"),
        (
            "n_train = 50",
            'sellers = "o.csv"\nseller_skew = "label"',
            "line 5: data.sellers: .* got a file, which says who owns what",
        ),
        (
            "n_train = 50",
            'sellers = 5\nseller_skew = "size"',
            "line 6: data.seller_skew: invalid enum value 'size'",
        ),
        ("[models]", "[model]", "line 12: model: unknown key; did you mean 'models'?"),
        ('name = "digits"', 'name = "mnist"', "line 4: data.name: invalid enum value 'mnist'"),
        ('bank = "here"', "bank = 3", "line 1: bank: expected 'str', got 'int'"),
        ('bank = "here"', 'folder = "here"', "line 1: folder: expected no such key"),
        ('kind = "softmax"', "", "recipe.kind: expected the name of a recipe, got none"),
        ('kind = "softmax"', 'kind = "own"', "line 3: data: expected a table unless"),
        ("[fit]", "[fit]", None),
        ("[models]", "[fit]\nmethod = 3\n[models]", "line 13: fit.method: expected 'str', got 'int'"),
        ("[models]", "[models", "expected a TOML file, got .* line 12"),
    ],
)  # fmt: skip
def test_errors_name_line_and_key(tmp_path, old, new, words):
    path = write(tmp_path, GOOD.replace(old, new))
    if words is None:
        load_job(path)
        return
    with pytest.raises(ValueError, match=rf"job\.toml.*{words}"):
        load_job(path)


OWN = """\
[recipe]
kind = "own"
retrain = "bank_trainers:quick"
n_train = 40
n_targets = 5

[models]
count = 64
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"bank_trainers:quick"', '"bank_trainers"', "line 3: recipe.retrain: expected 'module:callable'"),
        ("n_train = 40\n", "", "recipe.n_train: expected a whole number of at least 1, got none"),
        ("n_train = 40", "n_trian = 40", "line 4: recipe.n_trian: expected retrain, n_train"),
        ("n_train = 40", "n_train = 40\nsettings = 3", "line 5: recipe.settings: expected a table"),
    ],
)  # fmt: skip
def test_errors_of_an_own_retrain(tmp_path, old, new, words):
    with pytest.raises(ValueError, match=words):
        load_job(write(tmp_path, OWN.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("bank_trainers:quick", "no_such_module:f", r"recipe\.retrain: .*No module named"),
        ("bank_trainers:quick", "bank_trainers:none", r"recipe\.retrain: .*no attribute 'none'"),
        ("bank_trainers:quick", "bank_trainers:N_TRAIN", r"recipe\.retrain: expected a callable"),
    ],
)
def test_an_own_retrain_that_is_not_there(tmp_path, old, new, words):
    with pytest.raises(ValueError, match=words):
        Source(load_job(write(tmp_path, OWN.replace(old, new))))()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("since = 2026-01-31", "since: expected .* text, got 2026-01-31"),
        ("clip = inf", "clip: expected true or false, a finite number, or text, got inf"),
        ("deep = { list = [1, nan] }", r"deep\.list: expected .*, got nan"),
    ],
)
def test_settings_of_one_s_own_that_no_manifest_can_hold(tmp_path, settings, words):
    """A text instead would be another setting with the same bank."""
    path = write(tmp_path, OWN.replace("[models]", f"settings = {{ {settings} }}\n[models]"))
    with pytest.raises(ValueError, match=rf"recipe\.settings\.{words}"):
        bank_of(load_job(path))
    assert not (tmp_path / "bank").exists()


def test_settings_of_one_s_own_are_in_the_manifest(tmp_path):
    path = write(tmp_path, OWN.replace("[models]", 'settings = { a = [1, { b = "é" }] }\n[models]'))
    recipe = bank_of(load_job(path)).manifest.recipe
    assert recipe["settings"] == {"a": [1, {"b": "é"}]}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("n_steps = 10", "n_stepz = 10", r"recipe\.n_stepz: expected a setting of softmax: l2, "),
        ("n_steps = 10", 'n_steps = "10"', r"recipe\.n_steps: expected int as 30, got '10'"),
        ("n_steps = 10", "n_steps = 0", r"recipe\.n_steps: expected a whole number"),
        ("n_steps = 10", "l2 = true", r"recipe\.l2: expected float as 1\.0, got True"),
        ("n_steps = 10", f"l2 = {10**400}", r"recipe\.l2: expected .*1\.0, got '?1000"),
        ('kind = "softmax"', 'kind = "forest"', r"recipe\.kind: expected 'softmax' or 'mlp'"),
        ("n_targets = 4", "n_targets = 0", r"data\.n_targets: expected a whole number"),
        ("n_train = 50", "n_train = 5000", r"data\.n_train: expected at most"),
        (
            "n_train = 50",
            "n_train = 50\nsellers = 51",
            r"data\.sellers: expected at most 50, one an",
        ),
        (
            "n_train = 50",
            'n_train = 50\nsellers = "owners.tsv"',
            r"data\.sellers: expected a number, or a \.npy or \.csv file, got .*owners\.tsv",
        ),
        (
            "n_train = 50",
            "n_train = 50\npool = 3",
            r"data\.pool: expected a common divisor of 8 and 8",
        ),
        ("n_steps = 10", 'device = "tpu"', "device: expected 'cpu'"),
        (
            '"softmax"\nn_steps = 10',
            '"resnet9"',
            r"recipe\.kind: .* below 12 x 12 pixels, .* 8 x 8",
        ),
    ],
)
def test_recipes_and_data_name_the_key(tmp_path, old, new, words):
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=words):
        Source(load_job(write(tmp_path, GOOD.replace(old, new))))()


def test_one_setting_has_one_record(tmp_path):
    """Else parties who write 1 and 1.0, or rely on the default, would refuse each other."""
    pytest.importorskip("torch")
    texts = [
        GOOD.replace("n_steps = 10", f"n_steps = 10\n{more}") for more in ("", "l2 = 1", "l2 = 1.0")
    ]
    recipes = [
        Source(load_job(write(tmp_path, text)))().recipe_record()["recipe"] for text in texts
    ]
    assert not differing_words(recipes[0], recipes[1])
    assert not differing_words(recipes[0], recipes[2])


IMAGES = """\
[data]
name = "fashion-mnist"
path = "{path}"

[recipe]
kind = "resnet9"
width_multiplier = 0.125
epochs = 1
batch_size = 8

[models]
count = 2
held_out = 0
chunk = 2
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "epochs = 1",
            "channels = 1",
            r"recipe\.channels: expected a setting of resnet9: epochs, ",
        ),
        ("epochs = 1", "translate = 90", r"recipe\.translate: expected"),
        ("epochs = 1", 'precision = "half"', r"recipe\.precision: expected bfloat16 or float32"),
        ("[recipe]", "pool = 4\n[recipe]", r"recipe\.kind: .* below 12 x 12 pixels, .* 7 x 7"),
        (
            "[recipe]",
            'feed = "ffcv"\npool = 2\n[recipe]',
            r"data\.feed: expected 'memory' for pixels",
        ),
    ],
)
def test_resnet9_names_the_key(tmp_path, fashion_folder, old, new, words):
    pytest.importorskip("torch")
    text = IMAGES.format(path=fashion_folder).replace(old, new)
    with pytest.raises(ValueError, match=words):
        Source(load_job(write(tmp_path, text)))()


@pytest.mark.parametrize(("pool", "size"), [(1, 28), (2, 14)])
def test_resnet9_takes_the_size_of_images_from_the_data(tmp_path, fashion_folder, pool, size):
    pytest.importorskip("torch")
    text = IMAGES.format(path=fashion_folder).replace("[recipe]", f"pool = {pool}\n[recipe]")
    retrain = Source(load_job(write(tmp_path, text)))()
    record = retrain.recipe_record()
    recipe = record["recipe"]
    assert (recipe["channels"], recipe["height"], recipe["width"]) == (1, size, size)
    assert recipe["kind"] == "ResNet9Recipe"
    assert (retrain.n_train, retrain.n_targets, record["n_features"]) == (30, 12, size * size)


@pytest.mark.filterwarnings("ignore")  # FFCV imports what Python is about to drop
def test_either_feed_of_images_fills_the_same_bank(tmp_path, fashion_folder):
    pytest.importorskip("torch")
    pytest.importorskip("ffcv")
    banks = []
    for feed in ("memory", "ffcv"):
        folder = tmp_path / feed
        folder.mkdir()
        text = IMAGES.format(path=fashion_folder).replace("[recipe]", f'feed = "{feed}"\n[recipe]')
        job = load_job(write(folder, text))
        bank = bank_of(job)
        assert isinstance(Worker(Work(bank.url, Source(job)))(Task(0, 0)), Done)
        banks.append((bank.manifest, bank.read(0, 0).tobytes()))
        assert len(list(job.out_folder.glob("*"))) == (feed == "ffcv")  # one file for all
    assert banks[0] == banks[1]
    (file,) = job.out_folder.glob("*.beton")
    data = bytearray(file.read_bytes())
    image = load("fashion-mnist", path=fashion_folder).train_images[3] * 255
    data[data.index(np.rint(image).astype(np.uint8).tobytes())] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"data\.feed: expected .*\.beton as it was written"):
        Source(job)()
    assert np.isfinite(np.frombuffer(banks[0][1], np.float32)).all()


def test_a_missing_ffcv_says_which_line_to_run(tmp_path, fashion_folder, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "ffcv", None)
    text = IMAGES.format(path=fashion_folder).replace("[recipe]", 'feed = "ffcv"\n[recipe]')
    result = CliRunner().invoke(main, ["attribute", str(write(tmp_path, text))])
    assert result.exit_code == 3
    assert "pip install '.[ffcv]'" in result.output
    assert not (tmp_path / "bank").exists()


def test_data_lie_relative_to_the_job_file(tmp_path, fashion_folder):
    (tmp_path / "images").symlink_to(fashion_folder)
    job = load_job(write(tmp_path, IMAGES.format(path="images")))
    assert dataset_of(job).n_train == 30
