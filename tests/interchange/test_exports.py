"""Attributions as tables, archives, and arguments of other tools."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyattr
from pyattr.attribution import lds
from pyattr.interchange import (
    dattri_lds_arguments,
    dattri_scores,
    pydvl_arguments,
    quanda_explanations,
    quanda_subsets,
    read_npz,
    write_npz,
)

ROOT = Path(__file__).parents[2]
N_TRAIN, N_TARGETS, N_MASKS = 30, 4, 60


@pytest.fixture(scope="module")
def masks():
    return pyattr.sample_masks(N_MASKS, N_TRAIN, seed=0)


@pytest.fixture(scope="module")
def outputs(masks):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((N_MASKS, N_TARGETS))
    return masks.unpack() @ rng.standard_normal((N_TRAIN, N_TARGETS)) + 3 * noise


@pytest.fixture(scope="module")
def attribution(masks, outputs):
    influence = pyattr.empirical_influence(masks, outputs)
    return pyattr.Attribution(
        influence.scores,
        influence.intercept,
        influence.standard_error,
        "influence",
        "iid",
        {"lambda": [1, 2, 3, 4]},
    )


def same(one, other):
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.intercept, other.intercept)
    if one.standard_error is None:
        assert other.standard_error is None
    else:
        np.testing.assert_array_equal(one.standard_error, other.standard_error)
    assert (one.method, one.design) == (other.method, other.design)
    assert one.details.keys() == other.details.keys()
    for name, values in one.details.items():
        np.testing.assert_array_equal(values, other.details[name])
    return True


def test_xarray_names_both_axes(attribution):
    dataset = attribution.to_xarray(target=["a", "b", "c", "d"])
    assert dataset["scores"].dims == ("train", "target")
    assert dataset.sizes == {"train": N_TRAIN, "target": N_TARGETS}
    assert float(dataset["scores"].sel(train=7, target="c")) == attribution.scores[7, 2]
    np.testing.assert_array_equal(dataset["standard_error"], attribution.standard_error)
    np.testing.assert_array_equal(dataset["intercept"], attribution.intercept)
    assert float(dataset["details.lambda"].sel(target="b")) == 2
    assert dataset.attrs == {"method": "influence", "design": "iid"}
    bare = pyattr.Attribution(attribution.scores).to_xarray()
    assert set(bare.data_vars) == {"scores", "intercept"}
    dataset["scores"][0, 0] = 99  # a copy: the attribution stays as it is
    assert attribution.scores[0, 0] != 99


def test_dataframe_names_both_axes(attribution):
    frame = attribution.to_dataframe(train=[f"x{i}" for i in range(N_TRAIN)])
    assert (frame.index.name, frame.columns.name) == ("train", "target")
    assert frame.loc["x7", 2] == attribution.scores[7, 2]
    assert (frame.to_numpy() == attribution.scores).all()
    assert frame.stack().index.names == ["train", "target"]
    frame.iloc[0, 0] = 99
    assert attribution.scores[0, 0] != 99


def test_labels_must_fit(attribution):
    with pytest.raises(ValueError, match=r"train: expected 30 labels, got shape \(4,\)"):
        attribution.to_dataframe(train=range(4))
    with pytest.raises(ValueError, match="target: expected 4 labels"):
        attribution.to_xarray(target=range(3))


@pytest.mark.parametrize(
    ("name", "call", "extra"),
    [
        ("pandas", "to_dataframe", "interchange"),
        ("xarray", "to_xarray", "interchange"),
    ],
)
def test_a_missing_package_says_what_to_install(monkeypatch, attribution, name, call, extra):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RuntimeError, match=rf"needs {name}: pip install '\.\[{extra}\]'"):
        getattr(attribution, call)()


def test_missing_torch_says_what_to_install(monkeypatch, attribution):
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (dattri_scores, quanda_explanations):
        with pytest.raises(RuntimeError, match=r"needs torch: pip install '\.\[torch\]'"):
            call(attribution)


def test_importing_loads_none_of_the_packages():
    code = "import sys, pyattr.interchange; print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(done.stdout.strip("[]\n").replace("'", "").split(", "))
    assert "pyattr.interchange" in loaded
    assert not loaded & {"torch", "pandas", "xarray", "dattri", "quanda", "pydvl"}


def test_npz_comes_back_the_same(tmp_path, attribution):
    path = tmp_path / "scores.archive"
    write_npz(path, attribution)
    assert same(read_npz(path), attribution)
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.archive"]
    with np.load(path, allow_pickle=False) as archive:  # anyone can read it
        np.testing.assert_array_equal(archive["scores"], attribution.scores)
        assert str(archive["method"]) == "influence"
    bare = pyattr.Attribution(attribution.scores)
    write_npz(path, bare)
    assert same(read_npz(path), bare)


def test_npz_of_scores_alone_is_read_and_unknown_arrays_are_not(tmp_path, attribution):
    path = tmp_path / "a.npz"
    np.savez(path, scores=attribution.scores)
    assert same(read_npz(path), pyattr.Attribution(attribution.scores))
    np.savez(path, scores=attribution.scores, score=attribution.scores)
    with pytest.raises(ValueError, match=r"a.npz: expected .* got \['score'\] too"):
        read_npz(path)
    np.savez(path, scores=attribution.scores, intercept=np.ones(3))
    with pytest.raises(ValueError, match=r"intercept: expected \(4,\)"):
        read_npz(path)
    np.savez(path, scores=attribution.scores.T[0])
    with pytest.raises(ValueError, match=r"a.npz: scores: expected \(n_train, n_targets\)"):
        read_npz(path)


def test_a_failed_write_leaves_the_old_npz(tmp_path, attribution, monkeypatch):
    path = tmp_path / "a.npz"
    write_npz(path, attribution)

    def full(file, **arrays):
        file.write(b"begun")
        raise OSError("no space")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        write_npz(path, pyattr.Attribution(attribution.scores * 2))
    assert same(read_npz(path), attribution)
    assert list(tmp_path.iterdir()) == [path]


def test_dattri_takes_training_examples_in_rows(attribution, masks, outputs):
    import torch

    scores = dattri_scores(attribution)
    assert scores.dtype is torch.float32
    np.testing.assert_array_equal(scores.numpy(), attribution.scores)
    score, (values, indices) = dattri_lds_arguments(attribution, masks, outputs)
    assert score.shape == (N_TRAIN + 1, N_TARGETS)
    assert values.shape == outputs.shape
    assert indices.dtype is torch.int64
    # What dattri sums over a subset is the prediction without its intercept.
    sums = np.array([score.numpy()[row].sum(axis=0) for row in indices.numpy()])
    predicted = attribution.predict(masks) - attribution.intercept
    np.testing.assert_allclose(sums, predicted, atol=1e-4)
    with pytest.raises(ValueError, match=r"masks: expected n_train = 30"):
        dattri_lds_arguments(attribution, pyattr.sample_masks(N_MASKS, 5), outputs)
    with pytest.raises(ValueError, match=r"outputs: expected shape \(60, 4\)"):
        dattri_lds_arguments(attribution, masks, outputs[:, :2])


def test_dattri_computes_the_same_lds(attribution, masks, outputs):
    metric = pytest.importorskip("dattri.metric", exc_type=ImportError)
    correlation, _ = metric.lds(*dattri_lds_arguments(attribution, masks, outputs))
    expected = lds(attribution, masks, outputs)
    np.testing.assert_allclose(correlation.numpy(), expected, atol=1e-6)
    assert np.ptp(expected) > 0.01  # targets in another order would show


def test_quanda_takes_targets_in_rows(attribution, masks):
    import torch

    explanations = quanda_explanations(attribution)
    assert explanations.dtype is torch.float32
    assert explanations.shape == (N_TARGETS, N_TRAIN)
    assert explanations.is_contiguous()
    subsets = quanda_subsets(masks)
    assert all(type(i) is int for i in subsets[0])
    # What LinearDatamodelingMetric sums over a subset, and its axes.
    sums = torch.stack([explanations[:, subset].sum(dim=1) for subset in subsets])
    predicted = attribution.predict(masks) - attribution.intercept
    np.testing.assert_allclose(sums.numpy(), predicted, atol=1e-4)
    some = quanda_explanations(attribution, slice(1, 3))
    np.testing.assert_array_equal(some.numpy(), attribution.scores[:, 1:3].T)


def test_pydvl_takes_one_target(attribution):
    arguments = pydvl_arguments(attribution, 2)
    assert arguments["values"].dtype == np.float64
    np.testing.assert_array_equal(arguments["values"], attribution.scores[:, 2])
    np.testing.assert_array_equal(arguments["indices"], np.arange(N_TRAIN))
    assert "variances" not in pydvl_arguments(pyattr.Attribution(attribution.scores), 0)
    for target in (-1, N_TARGETS):
        with pytest.raises(ValueError, match=r"target: expected a number in \[0, 4\)"):
            pydvl_arguments(attribution, target)


def test_pydvl_keeps_values_and_errors(attribution):
    result = pytest.importorskip("pydvl.valuation.result", exc_type=ImportError)
    values = result.ValuationResult(**pydvl_arguments(attribution, 2))
    np.testing.assert_array_equal(values.values, attribution.scores[:, 2])
    np.testing.assert_allclose(values.stderr, attribution.standard_error[:, 2], rtol=1e-6)
    assert values.algorithm == "influence"
    best = int(attribution.scores[:, 2].argmax())
    assert values.get(best).value == attribution.scores[best, 2]
