"""Plots: what is drawn is what the numbers say, on the axes given, and it can be read."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import pyattr
from pyattr import Outcome, Verdict
from pyattr.plots import plot_gap, plot_influences, plot_predicted

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

N_TRAIN, N_TARGETS = 30, 5
WEIGHTS = np.random.default_rng(0).standard_normal((N_TRAIN, N_TARGETS)).astype(np.float32)
HONEST = pyattr.Attribution(scores=WEIGHTS)
VERDICT = Verdict(
    outcome=Outcome.ABORT,
    reason="one of each",
    method="gap",
    bound="chi2",
    epsilon=0.05,
    delta=0.05,
    gap=np.array([0.01, 0.3, 0.06]),
    gap_lower=np.array([0.0, 0.2, 0.02]),
    gap_upper=np.array([0.03, 0.5, np.inf]),
    outcomes=(Outcome.ACCEPT, Outcome.ABORT, Outcome.INCONCLUSIVE),
)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(axes):
    """Draw it: nothing may warn."""
    axes.figure.canvas.draw()
    return axes


def points(axes, label):
    (line,) = (line for line in axes.get_lines() if str(line.get_label()).startswith(label))
    return np.column_stack(line.get_data())


def test_axes_given_are_used_and_new_ones_made():
    _, ax = plt.subplots()
    masks = pyattr.sample_masks(20, N_TRAIN, seed=1)
    assert plot_gap(VERDICT, ax=ax) is ax
    assert plot_predicted(HONEST, masks, HONEST.predict(masks), ax=ax) is ax
    assert plot_influences(HONEST, ax=ax) is ax
    assert drawn(plot_gap(VERDICT)) is not ax


def test_gaps_stand_from_the_largest_upper_limit_on():
    axes = drawn(plot_gap(VERDICT))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "1", "0"]
    np.testing.assert_allclose(points(axes, "INCONCLUSIVE"), [[0, 0.06]])
    np.testing.assert_allclose(points(axes, "ABORT"), [[1, 0.3]])
    np.testing.assert_allclose(points(axes, "ACCEPT"), [[2, 0.01]])
    assert set(points(axes, "ε = 0.05")[:, 1]) == {0.05}
    top = axes.get_ylim()[1]
    segments = {
        tuple(np.round(segment.ravel(), 6))
        for collection in axes.collections
        for segment in collection.get_segments()
    }
    assert segments == {(0, 0.02, 0, round(top, 6)), (1, 0.2, 1, 0.5), (2, 0.0, 2, 0.03)}
    assert top > 0.5
    assert "0 of" not in axes.get_title()
    assert axes.get_title() == "ABORT: 1 of 3 targets accepted"


def test_outcomes_are_told_apart_without_colours():
    lines = [line for line in plot_gap(VERDICT).get_lines() if line.get_marker() != "None"]
    assert len({line.get_marker() for line in lines}) == 3
    # Luminance on white and on black: contrast of 3 to 1 and more, for graphics (WCAG 1.4.11).
    for line in lines:
        rgb = np.array(matplotlib.colors.to_rgb(line.get_color()))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        luminance = float(linear @ [0.2126, 0.7152, 0.0722])
        assert 1.05 / (luminance + 0.05) > 3.0
        assert (luminance + 0.05) / 0.05 > 3.0


def test_a_failed_check_says_so_in_place_of_gaps():
    axes = drawn(plot_gap(Verdict.failed("gap", 0.05, 0.05, "output 3 differs", n_targets=3)))
    assert any("nothing is said of the gap" in text.get_text() for text in axes.texts)


def test_many_targets_have_no_numbers_that_cannot_be_read():
    n = 200
    gap = np.linspace(0.0, 0.04, n)
    outcomes = (Outcome.ACCEPT,) * n
    many = replace(
        VERDICT, gap=gap, gap_lower=gap - 0.005, gap_upper=gap + 0.005, outcomes=outcomes
    )
    axes = drawn(plot_gap(many))
    assert not axes.get_xticklabels()
    assert len(points(axes, "ACCEPT")) == n
    assert axes.get_ylim()[0] <= -0.005


def test_predictions_lie_on_the_line_and_wrong_ones_do_not():
    masks = pyattr.sample_masks(200, N_TRAIN, seed=1)
    outputs = masks.unpack() @ WEIGHTS
    axes = drawn(plot_predicted(HONEST, masks, outputs, target=3))
    shown = points(axes, "200 models")
    np.testing.assert_allclose(shown[:, 0], shown[:, 1], atol=1e-4)
    np.testing.assert_allclose(shown[:, 1], outputs[:, 3], atol=1e-5)
    assert "target 3: R² = 1.000, correlation 1.000" in axes.get_title()
    halved = pyattr.Attribution(scores=WEIGHTS / 2)
    assert "correlation 1.000" in plot_predicted(halved, masks, outputs, 3).get_title()
    assert "R² = 1.000" not in plot_predicted(halved, masks, outputs, 3).get_title()
    constant = pyattr.Attribution(scores=np.zeros((N_TRAIN, N_TARGETS)))
    assert "constant" in plot_predicted(constant, masks, outputs).get_title()


def test_the_largest_influences_are_drawn_highest_first():
    error = np.full_like(WEIGHTS, 0.25)
    axes = drawn(plot_influences(replace_error(error), target=2, k=6))
    widths = [bar.get_width() for bar in axes.patches]
    names = [int(label.get_text()) for label in axes.get_yticklabels()]
    scores = WEIGHTS[:, 2]
    np.testing.assert_allclose(widths, scores[names], rtol=1e-6)
    assert widths == sorted(widths, reverse=True)
    assert set(names) == set(np.argsort(-np.abs(scores))[:6].tolist())
    (bars,) = axes.collections
    spans = {round(float(np.ptp(segment[:, 0])), 6) for segment in bars.get_segments()}
    assert spans == {0.5}
    assert len(plot_influences(HONEST, k=1000).patches) == N_TRAIN


def replace_error(error):
    return pyattr.Attribution(scores=WEIGHTS, standard_error=error)


@pytest.mark.parametrize("shape", [(N_TRAIN, 8, 6), (N_TRAIN, 8, 8, 3)])
def test_images_and_labels_stand_beside_their_bars(shape):
    images = np.zeros(shape)
    images += np.arange(N_TRAIN).reshape(-1, *[1] * (len(shape) - 1)) / N_TRAIN
    labels = [f"seller {i}" for i in range(N_TRAIN)]
    axes = drawn(plot_influences(HONEST, k=4, images=images, labels=labels))
    names = [label.get_text() for label in axes.get_yticklabels()]
    shown = [box for box in axes.artists if hasattr(box, "offsetbox")]
    assert len(shown) == len(names) == 4
    for name, box in zip(names, shown, strict=True):
        value = float(np.asarray(box.offsetbox.get_data()).ravel()[0])
        assert name == f"seller {round(value * N_TRAIN)}"


def test_more_bars_make_a_taller_figure_and_smaller_names():
    tall = plot_influences(HONEST, k=N_TRAIN)
    assert tall.figure.get_size_inches()[1] > plt.figure().get_size_inches()[1]
    _, small = plt.subplots(figsize=(3, 1.5))
    assert not drawn(plot_influences(HONEST, k=N_TRAIN, ax=small)).get_yticklabels()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: plot_influences(HONEST, target=5), "target: expected one of 5 from 0 on, got 5"),
        (lambda m: plot_influences(HONEST, target=-1), "target: expected a whole number"),
        (lambda m: plot_influences(HONEST, k=0), "k: expected a whole number of at least 1"),
        (lambda m: plot_influences(HONEST, labels=[1]), "labels: expected 30 labels"),
        (lambda m: plot_influences(HONEST, images=np.zeros((3, 2, 2))), "images: expected"),
        (lambda m: plot_influences(HONEST, images=np.zeros((30, 2, 2, 4))), "images: expected"),
        (lambda m: plot_predicted(HONEST, m, np.zeros((4, 1))), "outputs: expected shape"),
        (lambda m: plot_predicted(HONEST, m, np.zeros((4, 5)), 9), "target: expected"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        call(pyattr.sample_masks(4, N_TRAIN, seed=1))


def test_a_missing_matplotlib_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(RuntimeError, match=r"pip install '\.\[plots\]'"):
        plot_gap(VERDICT)


def test_importing_loads_no_matplotlib():
    code = "import sys, pyattr; pyattr.plots.plot_gap; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
