"""What a session trains: described completely, rebuilt from its recipe, and never chosen by a peer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyattr.datasets import load
from pyattr.masks import sample_masks, sample_seeds
from pyattr.protocol.records import records_digest
from pyattr.retraining.ensemble import Ensemble, MLPRecipe, SoftmaxRecipe
from pyattr.retraining.image_models import image_ensemble
from pyattr.retraining.softmax import SoftmaxTrainer
from pyattr.subject.words import checked_recipe
from pyattr.transport.job import Job, image_job, imported_job, job_of_recipe

DIGITS = ("digits", "softmax", 60, 5)


def digits(**changed):
    """Digits as arrays, with some replaced; the arguments of an ensemble."""
    data = load("digits", 60, 5)
    arrays = {
        "train_features": data.train_images,
        "train_labels": data.train_labels,
        "test_features": data.test_images,
        "test_labels": data.test_labels,
    }
    return arrays | changed


def ensemble_job(recipe=None, **changed):
    arrays = {name: changed.pop(name, value) for name, value in digits().items()}
    return Job.of_ensemble(Ensemble(recipe or SoftmaxRecipe(), **arrays, **changed))


@pytest.mark.parametrize("model", ["softmax", "mlp"])
def test_a_job_is_made_again_from_its_recipe_and_trains_the_same(model):
    job = image_job("digits", model, 60, 5, dataset_seed=3, flip_fraction=0.1)
    sent = json.loads(json.dumps(dict(job.recipe)))
    again = job_of_recipe(sent)
    assert again.recipe == job.recipe
    assert (again.train, again.targets) == (job.train, job.targets)
    assert (job.n_train, job.n_targets, job.output) == (60, 5, "logsumexp")
    masks, seeds = sample_masks(3, 60), sample_seeds(3)
    assert again.retrain(masks, seeds).tobytes() == job.retrain(masks, seeds).tobytes()
    direct = image_ensemble(model, load("digits", 60, 5, seed=3, flip_fraction=0.1))
    assert direct(masks, seeds).tobytes() == job.retrain(masks, seeds).tobytes()


def test_a_description_fits_a_manifest():
    job = image_job(*DIGITS)
    assert list(job.recipe) == sorted(job.recipe)
    assert {type(value) for value in job.recipe.values()} <= {bool, int, float, str}
    assert job.recipe["l2"] == 1.0
    assert (job.recipe["dataset"], job.recipe["kind"]) == ("digits", "SoftmaxRecipe")
    for digest in (job.train, job.targets):
        assert len(bytes.fromhex(digest)) == 32
    assert len(job.platform) <= 256
    assert len(bytes.fromhex(job.platform.split()[-1])) == 32
    assert list(job.versions) == ["numpy", "pyattr", "python", "torch"]
    assert "device" not in job.recipe  # another machine may take another
    assert "block" not in job.recipe


def test_data_or_labels_that_were_swapped_or_shifted_are_other_data():
    arrays = digits()
    images, labels = arrays["train_features"], arrays["train_labels"]
    swapped = labels.copy()
    i, j = 0, int(np.flatnonzero(labels != labels[0])[0])
    swapped[[i, j]] = swapped[[j, i]]
    owners = np.arange(60) % 3
    jobs = {
        "as it is": ensemble_job(),
        "labels swapped": ensemble_job(train_labels=swapped),
        "labels shifted": ensemble_job(train_labels=np.roll(labels, 1)),
        "examples shifted": ensemble_job(
            train_features=np.roll(images, 1, axis=0), train_labels=np.roll(labels, 1)
        ),
        "pixel": ensemble_job(train_features=np.where(images == images.max(), 0.99, images)),
        "owners": ensemble_job(groups=owners),
        "other owners": ensemble_job(groups=np.roll(owners, 1)),
    }
    assert len({job.train for job in jobs.values()}) == len(jobs)
    assert len({job.targets for job in jobs.values()}) == 1
    assert jobs["owners"].n_train == 3
    moved = ensemble_job(test_labels=np.roll(arrays["test_labels"], 1))
    assert moved.targets != jobs["as it is"].targets
    assert moved.train == jobs["as it is"].train
    flipped = image_job(*DIGITS, flip_fraction=0.1)
    assert flipped.train != image_job(*DIGITS).train
    assert image_job(*DIGITS, dataset_seed=1).train != image_job(*DIGITS).train


def test_the_digest_is_that_of_ones_own_copy():
    """An auditor with the data and without the ensemble gets the same."""
    arrays = digits()
    job = image_job(*DIGITS)
    assert job.train == records_digest(arrays["train_features"], arrays["train_labels"])
    assert job.targets == records_digest(arrays["test_features"], arrays["test_labels"])
    assert job.train != records_digest(
        arrays["train_features"].astype(np.float64), arrays["train_labels"]
    )
    assert job.train != records_digest(
        arrays["train_features"].reshape(-1, 8, 8), arrays["train_labels"]
    )


def test_another_arithmetic_is_another_platform(monkeypatch):
    """Of one version of pyattr, from its source, there may be two that differ in the last bits."""
    before = ensemble_job()
    assert ensemble_job().platform == before.platform
    monkeypatch.setattr(SoftmaxTrainer, "arithmetic", "another")
    after = ensemble_job()
    assert after.platform != before.platform
    assert (after.recipe, after.train) == (before.recipe, before.train)


@pytest.mark.parametrize(
    "recipe",
    [
        SoftmaxRecipe(l2=2.0),
        SoftmaxRecipe(n_steps=31),
        SoftmaxRecipe(init_scale=0.02),
        MLPRecipe(),
        MLPRecipe(hidden=32),
        MLPRecipe(n_steps=149),
        MLPRecipe(batch_size=49),
        MLPRecipe(learning_rate=0.1),
        MLPRecipe(momentum=0.8),
        MLPRecipe(weight_decay=0.0),
        MLPRecipe(init_scale=0.5),
    ],
)
def test_every_hyper_parameter_is_in_the_recipe(recipe):
    other = MLPRecipe() if isinstance(recipe, MLPRecipe) else SoftmaxRecipe()
    same = recipe == other
    assert (ensemble_job(recipe).recipe == ensemble_job(other).recipe) is same
    assert ensemble_job(recipe).recipe != ensemble_job(SoftmaxRecipe()).recipe


def test_the_output_is_told():
    assert ensemble_job(output="max").output == "max"


@pytest.mark.parametrize(
    "change",
    [
        {"n_steps": 31},  # as the other side would like it
        {"l2": 1},  # equal in value, and not the same
        {"grouped": 0},
        {"seed": 0},
        {"kind": "MLPRecipe"},
        {"n_features": 63},
    ],
)
def test_a_recipe_that_differs_in_a_word_is_refused(change):
    recipe = dict(image_job(*DIGITS).recipe)
    job_of_recipe(recipe)
    with pytest.raises(ValueError, match=f"recipe: expected .*{next(iter(change))}"):
        job_of_recipe(recipe | change)


@pytest.mark.parametrize("name", ["l2", "n_steps", "dataset", "flip_fraction", "n_test", "kind"])
def test_a_recipe_that_leaves_a_word_out_is_refused(name):
    recipe = dict(image_job(*DIGITS).recipe)
    del recipe[name]
    with pytest.raises(ValueError, match="recipe: expected"):
        job_of_recipe(recipe)


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "harm:run"},
        {"dataset": "../../etc/passwd"},
        {"model": "harm:run"},
        {"source": "harm:run"},
        {"kind": "harm:run"},
        {"path": "harm"},
        {"n_train": 2**53},
        {"n_train": True},
        {"n_train": 0},
        {"n_train": -1},
        {"n_test": 5.0},
        {"dataset_seed": -1},
        {"flip_fraction": 2.0},
        {"flip_fraction": float("nan")},
    ],
)
def test_a_hostile_recipe_runs_nothing(tmp_path, monkeypatch, change):
    (tmp_path / "harm.py").write_text("raise SystemExit('was imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="expected"):
        job_of_recipe(dict(image_job(*DIGITS).recipe) | change)
    assert "harm" not in sys.modules


MODULE = """
import numpy as np
from pyattr.retraining.ensemble import Ensemble, SoftmaxRecipe
from pyattr.transport.job import Job

x, y = np.eye(12, 3, dtype=np.float32), np.arange(12) % 2


def train(masks, seeds):
    return masks.unpack().astype(np.float32) @ x[:, :2]


job = Job.of(
    train, train=(x, y), targets=(x[:2],), recipe={"rate": 0.1}, output="sum",
    packages=("no-such-package",),
)
ensemble = Ensemble(SoftmaxRecipe(), x[:10], y[:10], x[10:], y[10:])
number = 3
broken = dict


def make_job():
    return job


def make_ensemble():
    return ensemble


def make_nothing():
    return train


def fails():
    raise LookupError("from the user's own code")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "own_training.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_training"
    sys.modules.pop("own_training", None)


def test_a_job_of_ones_own(module):
    job = imported_job(f"{module}:job")
    assert (job.n_train, job.n_targets, job.output) == (12, 2, "sum")
    assert job.retrain(sample_masks(2, 12), sample_seeds(2)).shape == (2, 2)
    assert job.versions["no-such-package"] == "not installed as a package"
    assert imported_job(f"{module}:make_job") is job
    again = job_of_recipe({"rate": 0.1}, source=f"{module}:job")
    assert again is job
    with pytest.raises(ValueError, match=r"recipe: expected {'rate': 0.1}, got {'rate': 0.2}"):
        job_of_recipe({"rate": 0.2}, source=f"{module}:job")
    with pytest.raises(ValueError, match="recipe: expected the words"):
        job_of_recipe({"rate": 0.1})


def test_an_ensemble_of_ones_own(module):
    job = imported_job(f"{module}:ensemble")
    assert (job.n_train, job.n_targets, job.recipe["kind"]) == (10, 2, "SoftmaxRecipe")
    assert imported_job(f"{module}:make_ensemble").train == job.train


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("train", "function"),  # a bare retrain says nothing of its data
        ("number", "int"),
        ("make_nothing", "function"),
        ("Ensemble", "type"),
        ("broken", "type"),
        ("missing", "no .missing"),
    ],
)
def test_what_is_no_job_is_refused(module, name, got):
    with pytest.raises(ValueError, match=f"source: expected .*({got})"):
        imported_job(f"{module}:{name}")


@pytest.mark.parametrize(
    "source",
    ["", "module", "module:", ":name", "a b:c", "module:name()", "no_such_module:x", "a:b:c"],
)
def test_a_source_that_is_none_is_refused(source):
    with pytest.raises(ValueError, match="source: expected 'module:name'"):
        imported_job(source)


def test_errors_of_the_users_code_are_shown_as_they_are(module):
    with pytest.raises(LookupError, match="own code"):
        imported_job(f"{module}:fails")


@pytest.mark.parametrize(
    "recipe",
    [
        {"Rate": 1},
        {"": 1},
        {"a" * 65: 1},
        {"a.b": 1},
        {"rate\n": 1},
        {1: 1},
        {"rate": None},
        {"rate": [1]},
        {"rate": np.float64(1.0)},
        {"rate": float("inf")},
        {"rate": 2**53 + 1},
        {"rate": "x" * 257},
        {f"rate_{k}": k for k in range(65)},
    ],
)
def test_a_recipe_that_no_manifest_can_carry_is_refused(recipe):
    with pytest.raises(ValueError, match="expected"):
        checked_recipe(recipe)


def test_sizes_and_texts_are_checked():
    x = np.eye(4)

    def make(**changed):
        arguments = {"train": (x,), "targets": (x,), "recipe": {}, "output": "sum"}
        return Job.of(lambda masks, seeds: None, **(arguments | changed))

    assert (make().n_train, make(n_train=2).n_train) == (4, 2)
    for wrong in ({"train": ()}, {"targets": (x[:0],)}, {"n_targets": 0}, {"output": "x" * 257}):
        with pytest.raises(ValueError, match="expected"):
            make(**wrong)


def test_the_modules_of_files_load_no_torch():
    code = (
        "import sys; import pyattr.transport.directory, pyattr.transport.ledger, pyattr.transport.job;"
        "print('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
