"""Job files: what is wrong is named by file, line and key."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pyattr.cli import main
from pyattr.datasets import load
from pyattr.jobs import Source, load_job
from pyattr.jobs.job import Fit, Models
from pyattr.jobs.job_file import KINDS
from pyattr.jobs.source import dataset_of
from pyattr.jobs.training import bank_of
from pyattr.retraining.worker import Done, Task, Work, Worker
from pyattr.subject.data import Data
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


NAMES = "expected 'cifar10', 'digits' or 'fashion-mnist'"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("count = 64", 'count = "64"', 13, "models.count: expected a whole number, got '64'"),
        ("count = 64", "count = 64.0", 13, "models.count: expected a whole number, got 64.0"),
        ("count = 64", "count = true", 13, "models.count: expected a whole number, got true"),
        (
            "count = 64",
            "count = 1",
            13,
            "models.count: expected a whole number of at least 2, got 1",
        ),
        (
            "count = 64",
            "cuont = 64",
            13,
            "models.cuont: expected one of the keys count, held_out, p, design, seed, held_out_seed, chunk, "
            "got another; did you mean 'count'?",
        ),
        ("count = 64\n", "", 12, "models.count: expected a whole number, got none"),
        (
            "held_out = 0",
            "p = 1.5",
            14,
            "models.p: expected a probability strictly between 0 and 1, got 1.5",
        ),
        ("held_out = 0", 'p = "half"', 14, "models.p: expected a number, got 'half'"),
        ("held_out = 0", 'p = 0.3\ndesign = "complement"', 14, "models.p: expected 1/2 with"),
        ("held_out = 0", 'chunk = 3\ndesign = "complement"', 14, "models.chunk: expected an even"),
        (
            "held_out = 0",
            "chunk = 9_000_000",
            14,
            "models.chunk: expected at most 1,048,576, got 9000000",
        ),
        (
            "held_out = 0",
            'design = "compliment"',
            14,
            "models.design: expected 'complement' or 'iid', got 'compliment'; "
            "did you mean 'complement'?",
        ),
        (
            "held_out = 0",
            "seed = -1",
            14,
            "models.seed: expected a whole number of at least 0, got -1",
        ),
        ("held_out = 0", f"seed = {2**64}", 14, "models.seed: expected "),
        (
            "held_out = 0",
            f"seed = {2**64 - 1}",
            14,
            "models.seed: expected a smaller one, or models.held_out",
        ),
        ("held_out = 0", "held_out_seed = 0", 14, "models.held_out_seed: expected another"),
        (
            'name = "digits"',
            'name = "digits"\npool = 0',
            5,
            "data.pool: expected a whole number of at",
        ),
        (
            'name = "digits"',
            'name = "digits"\nfeed = "disk"',
            5,
            "data.feed: expected 'ffcv' or 'memory', got 'disk'",
        ),
        (
            'name = "digits"',
            'name = "digits"\nfeed = "ffcv"',
            5,
            "data.feed: expected 'memory' unless",
        ),
        ("n_train = 50", "sellers = 1", 5, "data.sellers: expected a whole number of at least 2"),
        (
            "n_train = 50",
            "sellers = 2.5",
            5,
            "data.sellers: expected a whole number or text in quotation marks, got 2.5",
        ),
        ("n_train = 50", 'seller_skew = "label"', 3, "data.sellers: expected a number to go with"),
        (
            "n_train = 50",
            'sellers = "o.csv"\nseller_skew = "label"',
            5,
            "data.sellers: expected a number to go with data.seller_skew, got a file, which says who owns",
        ),
        (
            "n_train = 50",
            'sellers = 5\nseller_skew = "lable"',
            6,
            "data.seller_skew: expected 'label' or 'none', got 'lable'; did you mean 'label'?",
        ),
        (
            "[models]",
            "[model]",
            12,
            "model: expected one of the keys recipe, models, data, fit, bank, out, got another; "
            "did you mean 'models'?",
        ),
        ("[models]", "[[models]]", 12, "models: expected a table, got several tables"),
        ("[models]\ncount = 64\nheld_out = 0\n", "", None, "models: expected a table, got none"),
        ('"digits"', '"digitz"', 4, f"data.name: {NAMES}, got 'digitz'; did you mean 'digits'?"),
        ('"digits"', '"CIFAR10"', 4, f"data.name: {NAMES}, got 'CIFAR10'; did you mean 'cifar10'?"),
        ('"digits"', '"imagenet"', 4, f"data.name: {NAMES}, got 'imagenet'"),
        ('name = "digits"', "", 3, f"data.name: {NAMES}, got none"),
        ('bank = "here"', "bank = 3", 1, "bank: expected text in quotation marks, got 3"),
        ('bank = "here"', 'bank = ""', 1, "bank: expected the name of a folder, got ''"),
        ('bank = "here"', 'folder = "here"', 1, "folder: expected one of the keys recipe, models"),
        (
            'bank = "here"',
            f"bank = {'[' * 30}1{']' * 30}",
            1,
            "bank: expected text in quotation marks, got [[",
        ),
        (
            'kind = "softmax"',
            "",
            8,
            "recipe.kind: expected 'softmax', 'mlp', 'resnet9' or 'own', got none",
        ),
        (
            'kind = "softmax"',
            'kind = "Softmaxx"',
            9,
            "recipe.kind: expected 'softmax', 'mlp', 'resnet9' or 'own', got 'Softmaxx'; "
            "did you mean 'softmax'?",
        ),
        (
            'kind = "softmax"',
            "kind = 3",
            9,
            "recipe.kind: expected 'softmax', 'mlp', 'resnet9' or 'own', got 3",
        ),
        (
            'kind = "softmax"',
            'kind = "own"',
            3,
            "data: expected no such table with recipe.kind = 'own'",
        ),
        ("n_steps = 10", "device = 3", 10, "recipe.device: expected 'cpu' or 'cuda', got 3"),
        (
            GOOD[GOOD.index("[data]") : GOOD.index("[recipe]")],
            "",
            None,
            "data: expected a table that says what",
        ),
        (
            "[models]",
            '[fit]\nmethod = "lass"\n[models]',
            13,
            "fit.method: expected 'bayes', 'influence', 'lasso', 'ols' or 'ridge', got 'lass'; "
            "did you mean 'lasso'?",
        ),
        (
            "[models]",
            '[fit]\nmethod = "ridge"\nlambdas = [1, "b"]\n[models]',
            14,
            "fit.lambdas: expected a list of numbers, got [1, 'b']",
        ),
        (
            "[models]",
            '[fit]\nmethod = "ridge"\nlambdas = [\n  1.0,\n  -1.0,\n]\n[models]',
            14,
            "fit.lambdas: expected finite numbers above 0 in one dimension, got [1.0, -1.0]",
        ),
        (
            "[models]",
            "[fit]\nlambdas = [1.0]\n[models]",
            13,
            "fit.lambdas: expected none for method 'bayes'",
        ),
        (
            "[models]",
            "[models",
            12,
            "expected TOML, got '[models' (expected ']' at the end of a table declaration at column 8)",
        ),
        (
            '"digits"',
            "digits",
            4,
            "expected TOML, got 'name = digits' (invalid value at column 8); text stands in quotation marks",
        ),
        (
            "n_targets = 4",
            "n_train = 4",
            6,
            "expected TOML, got 'n_train = 4' (this key is there already at column 12)",
        ),
        (
            "held_out = 0\n",
            "held_out",
            14,
            "expected TOML, got 'held_out' (expected '=' after a key",
        ),
    ],
)
def test_errors_name_line_key_what_was_expected_and_what_came(tmp_path, old, new, line, said):
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ValueError, match="expected") as caught:
        load_job(path)
    where = path if line is None else f"{path}, line {line}"
    assert str(caught.value).startswith(f"{where}: {said}")


VALUES = (
    '"x"', '""', '"a\\u0000`$.[0]"', "3", "-1", "1.5", "nan", "-inf", "true", "[]", "[1]", "[[1]]", "{}",
    "{ a = 1 }", "[{ a = 1 }]", "2020-01-01", "07:32:00", f"{10**30}",
)  # fmt: skip
KEYS = [
    *(f"data.{name}" for name in Data.__struct_fields__),
    *(f"models.{name}" for name in Models.__struct_fields__),
    *(f"fit.{name}" for name in Fit.__struct_fields__),
    *("recipe.kind", "recipe.device", "recipe.n_steps", "bank", "out", "folder", "file", "text"),
    *(
        "data",
        "models",
        "fit",
        "recipe",
        "else",
        '"a.b"',
        "data.else",
        '"`"',
        "models.'é - at `$.p'",
    ),
]


def refused(path):
    try:
        load_job(path)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("key", KEYS)
def test_whatever_a_key_says_is_taken_or_refused_by_file_and_key(tmp_path, key):
    good = {"data.name": '"digits"', "recipe.kind": '"softmax"', "models.count": "64"}
    n_refused = 0
    for value in VALUES:
        keys = {name: said for name, said in good.items() if not name.startswith(f"{key}.")}
        lines = [f"{name} = {said}" for name, said in (keys | {key: value}).items()]
        path = write(tmp_path, "\n".join(lines) + "\n")
        said = refused(path)
        if said is not None:
            found = re.fullmatch(
                r"(.*?)(, line \d+)?: ([^:]+): expected .*, got .*", said, re.DOTALL
            )
            assert found, said
            assert found[1] == str(path)
            n_refused += 1
    assert n_refused > 2 or key.startswith("recipe.n")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "job.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(
        ValueError, match=r"job\.toml: expected a TOML file, in UTF-8, got other bytes"
    ):
        load_job(path)
    path.write_bytes(
        b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()
    )  # as editors of Windows do
    assert load_job(path).models.count == 64


def test_kinds_are_those_there_are():
    pytest.importorskip("torch")
    from pyattr.retraining.recipes import RECIPES

    assert {*KINDS} == {*RECIPES, "own"}


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
        ("n_train = 40", "n_trian = 40", "line 4: recipe.n_trian: expected one of the keys kind, "),
        ("n_train = 40", "n_train = 40\nepochs = 3", "line 5: recipe.epochs: .* go into recipe.settings"),
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
        (
            "bank_trainers:quick",
            "bank_trainers:none",
            r"recipe\.retrain: .*bank_trainers has no 'none'",
        ),
        (
            "bank_trainers:quick",
            "bank_trainers:quikc",
            r"line 3: recipe\.retrain: .*did you mean 'quick'",
        ),
        (
            "bank_trainers:quick",
            "broken:f",
            r"line 3: recipe\.retrain: .*invalid syntax \(broken\.py, line 2\)",
        ),
        (
            "bank_trainers:quick",
            "zero:f",
            r"line 3: .*ZeroDivisionError: division by zero, in .*zero\.py, line 1",
        ),
        ("bank_trainers:quick", "bank_trainers:N_TRAIN", r"recipe\.retrain: expected a callable"),
    ],
)
def test_an_own_retrain_that_is_not_there(tmp_path, old, new, words):
    (tmp_path / "broken.py").write_text("x = 3\ndef f(:\n")
    (tmp_path / "zero.py").write_text("1 / 0\n")
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
        (
            "n_steps = 10",
            "n_stepz = 10",
            r"line 10: recipe\.n_stepz: expected a setting of softmax: l2, .* did you mean 'n_steps'",
        ),
        (
            "n_steps = 10",
            'n_steps = "10"',
            r"line 10: recipe\.n_steps: expected a whole number, such as 30, got '10'",
        ),
        ("n_steps = 10", "n_steps = 0", r"recipe\.n_steps: expected a whole number"),
        ("n_steps = 10", f"l2 = {10**400}", r"recipe\.l2: expected .*1\.0, got '?1000"),
        (
            "n_steps = 10",
            "l2 = true",
            r"line 10: recipe\.l2: expected a number, such as 1\.0, got true",
        ),
        ("n_targets = 4", "n_targets = 0", r"line 6: data\.n_targets: expected a whole number"),
        ("n_train = 50", "n_train = 5000", r"line 5: data\.n_train: expected at most"),
        (
            "n_train = 50",
            'n_train = 50\nsellers = "no.csv"',
            r"line 6: data\.sellers: .* a file that is there",
        ),
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
        ("n_steps = 10", 'device = "tpu"', r"line 10: recipe\.device: expected 'cpu'"),
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


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("n_steps = 10", "n_steps = 11", "job.toml, line 10: recipe.n_steps: expected 10 as"),
        ("held_out = 0", "p = 0.25", "job.toml, line 14: models.p: expected 0.5 as"),
        ("held_out = 0", "chunk = 8", "job.toml, line 14: models.chunk: expected 32 as"),
        ("n_train = 50", "n_train = 51", "job.toml, line 5: data.n_train: expected 50 as"),
        ("n_targets = 4", "n_targets = 5", "job.toml, line 6: data.n_targets: expected 4 as"),
        ("n_steps = 10\n", "", "here: recipe.recipe.n_steps: expected 10 as"),
        (
            'kind = "softmax"\nn_steps = 10',
            'kind = "mlp"',
            "job.toml, line 9: recipe.kind: expected 'SoftmaxRecipe' as",
        ),
        ('"here"', '"s3:/here"', None),
        ('"here"', '"ftp://here"', "job.toml, line 1: bank: expected a folder or the URL"),
    ],
)
def test_a_bank_of_another_job_is_refused_by_key_and_line(tmp_path, old, new, said):
    pytest.importorskip("torch")
    bank_of(load_job(write(tmp_path, GOOD)))
    job = load_job(write(tmp_path, GOOD.replace(old, new)))
    if said is None:  # another bank
        assert bank_of(job).url != str(tmp_path / "here")
        return
    with pytest.raises(ValueError, match=re.escape(said)):
        bank_of(job)


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
