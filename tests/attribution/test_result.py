from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save

from pyattr.attribution import Attribution, load_attribution
from pyattr.masks import Masks, sample_masks

METADATA = {
    "format": "pyattr-attribution",
    "version": "1",
    "method": "ridge",
    "design": "iid",
}


def make(n_train=97, n_targets=3, seed=0):
    rng = np.random.default_rng(seed)
    return Attribution(
        scores=rng.normal(size=(n_train, n_targets)),
        intercept=rng.normal(size=n_targets),
        standard_error=rng.random((n_train, n_targets)),
        method="ridge",
        design="iid",
        details={"lambda": rng.random(n_targets), "loo_mse": rng.random(n_targets)},
    )


def assert_same(a, b):
    assert a.method == b.method
    assert a.design == b.design
    assert set(a.details) == set(b.details)
    for name in a.details:
        np.testing.assert_array_equal(a.details[name], b.details[name])
    for name in ("scores", "intercept", "standard_error"):
        first, second = getattr(a, name), getattr(b, name)
        assert (first is None) == (second is None)
        if first is not None:
            assert first.dtype == second.dtype == np.float32
            np.testing.assert_array_equal(first, second)


def test_defaults():
    attribution = Attribution(scores=[1, 2, 3])
    assert attribution.scores.shape == (3, 1)
    assert attribution.scores.dtype == np.float32
    assert (attribution.n_train, attribution.n_targets) == (3, 1)
    np.testing.assert_array_equal(attribution.intercept, [0.0])
    assert attribution.standard_error is None
    assert (attribution.method, attribution.design, dict(attribution.details)) == (
        "given",
        "given",
        {},
    )


def test_is_immutable_and_owns_its_numbers():
    scores = np.ones((4, 2), np.float32)
    attribution = Attribution(scores=scores, intercept=[1.0, 2.0])
    scores[:] = 7
    np.testing.assert_array_equal(attribution.scores, 1)
    with pytest.raises(ValueError, match="read-only"):
        attribution.scores[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        attribution.method = "ols"
    with pytest.raises(TypeError):
        attribution.details["lambda"] = np.ones(2)
    assert dataclasses.replace(attribution, method="mine").method == "mine"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_first_bad_target_is_named(bad):
    scores = np.zeros((5, 4))
    scores[4, 2] = scores[0, 3] = bad
    with pytest.raises(ValueError, match=r"scores: expected finite.* target 2"):
        Attribution(scores=scores)
    with pytest.raises(ValueError, match=r"intercept: expected finite.* target 1"):
        Attribution(scores=np.zeros((5, 3)), intercept=[0.0, bad, bad])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": np.zeros((2, 2, 2))}, "scores"),
        ({"scores": np.zeros((0, 2))}, "scores"),
        ({"scores": np.zeros((2, 0))}, "scores"),
        ({"scores": ["a", "b"]}, "scores"),
        ({"scores": np.zeros((3, 2), complex)}, "scores"),
        ({"scores": np.zeros((3, 2)), "intercept": np.zeros(3)}, "intercept"),
        ({"scores": np.zeros((3, 2)), "intercept": np.zeros((2, 1))}, "intercept"),
        ({"scores": np.zeros((3, 2)), "standard_error": np.zeros((2, 3))}, "standard_error"),
        ({"scores": np.zeros((3, 2)), "standard_error": -np.ones((3, 2))}, "standard_error"),
        ({"scores": np.zeros((3, 2)), "standard_error": np.full((3, 2), np.inf)}, "standard_error"),
        ({"scores": np.zeros((3, 2)), "details": {"lambda": np.zeros(3)}}, "lambda"),
        ({"scores": np.zeros((3, 2)), "details": {"Bad name": np.zeros(2)}}, "details"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Attribution(**arguments)


def test_unknown_standard_errors_are_nan():
    error = np.array([[np.nan, 1.0]])
    np.testing.assert_array_equal(
        Attribution(scores=[[1.0, 2.0]], standard_error=error).standard_error, error
    )


@pytest.mark.parametrize("n_train", [1, 7, 8, 9, 63, 64, 65, 97])
def test_predict(n_train):
    attribution = make(n_train)
    masks = sample_masks(50, n_train, p=0.4, seed=3)
    expected = masks.unpack() @ attribution.scores.astype(np.float64) + attribution.intercept
    predicted = attribution.predict(masks)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="masks"):
        attribution.predict(sample_masks(5, n_train + 1))


def test_variance_is_that_of_predictions_over_the_cube():
    # All 2^6 subsets with their probabilities: an exact expectation.
    p = 0.3
    cube = np.array(np.meshgrid(*[[False, True]] * 6)).reshape(6, -1).T
    weight = np.where(cube, p, 1 - p).prod(axis=1)
    attribution = make(6)
    predicted = attribution.predict(Masks.pack(cube)).astype(np.float64)
    mean = weight @ predicted
    np.testing.assert_allclose(
        attribution.variance(p), weight @ np.square(predicted - mean), rtol=1e-5
    )
    with pytest.raises(ValueError, match="p:"):
        attribution.variance(1.0)


@pytest.mark.parametrize("targets", [1, slice(0, 2), [2, 0], np.array([True, False, True])])
def test_select(targets):
    attribution = make()
    chosen = attribution.select(targets)
    index = np.atleast_1d(np.arange(3)[targets])
    np.testing.assert_array_equal(chosen.scores, attribution.scores[:, index])
    np.testing.assert_array_equal(chosen.intercept, attribution.intercept[index])
    np.testing.assert_array_equal(chosen.standard_error, attribution.standard_error[:, index])
    np.testing.assert_array_equal(chosen.details["lambda"], attribution.details["lambda"][index])
    assert (chosen.method, chosen.design) == ("ridge", "iid")
    with pytest.raises(IndexError):
        attribution.select(3)


def test_save_and_load(tmp_path):
    for number, attribution in enumerate([make(), Attribution([1.0]), make().select(1)]):
        path = tmp_path / f"{number}.safetensors"
        attribution.save(path)
        attribution.save(str(path))  # replaces
        assert_same(load_attribution(path), attribution)
        assert_same(load_attribution(str(path)), attribution)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"{n}.safetensors" for n in range(3)
    ]


@settings(max_examples=25, deadline=None)
@given(
    scores=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=5),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    method=st.text(max_size=20),
)
def test_every_finite_score_survives_the_file(tmp_path_factory, scores, method):
    path = tmp_path_factory.mktemp("file") / "a.safetensors"
    attribution = Attribution(scores=scores, method=method)
    attribution.save(path)
    assert_same(load_attribution(path), attribution)


def test_one_attribution_is_one_file(tmp_path):
    """Else two runs of a job could not be compared by their files, nor a file by its digest."""
    contents = set()
    for k in range(8):  # orders of 4 metadata, all alike by chance with probability 24^-7
        make().save(tmp_path / str(k))
        contents.add((tmp_path / str(k)).read_bytes())
    assert len(contents) == 1
    assert (
        b'{"__metadata__":{"design":"iid","format":"pyattr-attribution","method":' in contents.pop()
    )


def test_failed_save_leaves_nothing_behind(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(OSError, match="folder"):
        make().save(target)  # a file cannot replace a folder
    assert list(tmp_path.iterdir()) == [target]


def tensors():
    return {"scores": np.zeros((4, 2), np.float32), "intercept": np.zeros(2, np.float32)}


BAD_FILES = {
    "extra tensor": lambda: save({**tensors(), "other": np.zeros(2, np.float32)}, METADATA),
    "odd detail name": lambda: save({**tensors(), "details.A b": np.zeros(2)}, METADATA),
    "no scores": lambda: save({"intercept": np.zeros(2, np.float32)}, METADATA),
    "no intercept": lambda: save({"scores": np.zeros((4, 2), np.float32)}, METADATA),
    "float64 scores": lambda: save({**tensors(), "scores": np.zeros((4, 2))}, METADATA),
    "float16 scores": lambda: save({**tensors(), "scores": np.zeros((4, 2), "f2")}, METADATA),
    "int scores": lambda: save({**tensors(), "scores": np.zeros((4, 2), "i4")}, METADATA),
    "flat scores": lambda: save({**tensors(), "scores": np.zeros(8, "f4")}, METADATA),
    "no examples": lambda: save({**tensors(), "scores": np.zeros((0, 2), "f4")}, METADATA),
    "long intercept": lambda: save({**tensors(), "intercept": np.zeros(3, "f4")}, METADATA),
    "error shape": lambda: save({**tensors(), "standard_error": np.zeros((2, 4), "f4")}, METADATA),
    "detail type": lambda: save({**tensors(), "details.lambda": np.zeros(2, "f4")}, METADATA),
    "detail shape": lambda: save({**tensors(), "details.lambda": np.zeros(3)}, METADATA),
    "nan": lambda: save({**tensors(), "scores": np.full((4, 2), np.nan, "f4")}, METADATA),
    "infinite": lambda: save({**tensors(), "intercept": np.full(2, np.inf, "f4")}, METADATA),
    "no metadata": lambda: save(tensors()),
    "other format": lambda: save(tensors(), {**METADATA, "format": "datamodel"}),
    "later version": lambda: save(tensors(), {**METADATA, "version": "2"}),
    "more metadata": lambda: save(tensors(), {**METADATA, "note": ""}),
    "less metadata": lambda: save(tensors(), {k: v for k, v in METADATA.items() if k != "design"}),
    "truncated": lambda: save(tensors(), METADATA)[:-1],
    "longer": lambda: save(tensors(), METADATA) + b"\0",
    "empty": lambda: b"",
    "pickle": lambda: pickle.dumps(tensors()),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused(tmp_path, name):
    path = tmp_path / "a.safetensors"
    path.write_bytes(BAD_FILES[name]())
    with pytest.raises(ValueError, match="expected"):
        load_attribution(path)


def test_the_good_twin_of_the_bad_files_is_read(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({**tensors(), "details.lambda": np.ones(2)}, METADATA))
    assert load_attribution(path).details["lambda"].tolist() == [1.0, 1.0]
    with pytest.raises(FileNotFoundError):
        load_attribution(tmp_path / "missing")
