"""Pictures of verdicts and attributions, on matplotlib axes.

Each function draws on `ax`, or on axes of a new figure, and returns them; needs
``pip install '.[plots]'``. Colours are those of Okabe and Ito (2008), which the colour-blind tell
apart, and no meaning is in a colour alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyattr.array_checks import axis_labels
from pyattr.attribution import Attribution
from pyattr.errors import bad_value, check_count
from pyattr.masks import Masks
from pyattr.optional import optional_module
from pyattr.verification import Outcome, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_gap", "plot_influences", "plot_predicted"]

Array = NDArray[np.float64]

_BLUE: Final = "#0072B2"
_VERMILION: Final = "#D55E00"
_GREY: Final = "#808080"  # as well seen on white as on black
_MARKS: Final = {
    Outcome.ACCEPT: (_BLUE, "o"),
    Outcome.INCONCLUSIVE: (_GREY, "s"),
    Outcome.ABORT: (_VERMILION, "X"),
}
_ROOM: Final = 1.15  # above the highest limit
_FEW: Final = 40  # targets that have room for their numbers
_POINTS: Final = (4.0, 10.0)  # smallest and usual size of names
_INCHES: Final = (6.4, 4.8, 0.25)  # of a new figure; at least so much for each bar
_IMAGE_POINTS: Final = 18.0  # height of a small picture


def plot_gap(verdict: Verdict, ax: Axes | None = None) -> Axes:
    """Draw each target's gap with its limits, and the ε allowed.

    Parameters
    ----------
    verdict : Verdict
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Targets from the largest upper limit to the smallest; the scale is linear up to ε and logarithmic
        beyond. An upper limit that does not exist is drawn to the upper edge.

    Raises
    ------
    RuntimeError
        If matplotlib is missing; the message says which line installs it.
    """
    axes = _axes(ax)
    unit = " / Var f" if verdict.relative else " (squared output units)"
    axes.set(ylabel=f"gap{unit}", title=f"{verdict.outcome}: {_counts(verdict)}")
    axes.axhline(verdict.epsilon, color=_GREY, linestyle="--", label=f"ε = {verdict.epsilon:g}")
    order = np.argsort(-verdict.gap_upper, kind="stable")
    limits = np.concatenate([verdict.gap, verdict.gap_lower, verdict.gap_upper, [verdict.epsilon]])
    limits = limits[np.isfinite(limits)]
    top = _ROOM * float(limits.max())
    few = len(order) <= _FEW
    for outcome, (color, marker) in _MARKS.items():
        places = np.array([i for i, t in enumerate(order) if verdict.outcomes[t] is outcome], int)
        own = order[places]
        seen = np.isfinite(verdict.gap[own])
        label = f"{outcome} ({places.size})"
        lower, upper = verdict.gap_lower[own][seen], np.minimum(verdict.gap_upper[own][seen], top)
        axes.vlines(places[seen], lower, upper, color=color, alpha=1.0 if few else 0.3)
        if places.size:
            axes.plot(
                places, verdict.gap[own], marker, color=color, label=label, ms=6.0 if few else 2.0
            )
    if not np.isfinite(verdict.gap).any():
        axes.text(
            0.5,
            0.5,
            "a check failed: nothing is said of the gap",
            transform=axes.transAxes,
            ha="center",
        )
    _scale(axes, verdict.epsilon, min(0.0, float(limits.min())), top)
    axes.set_xlim(-0.5, len(order) - 0.5)
    axes.set_xticks(range(len(order)) if few else [], [str(t) for t in order] if few else [])
    axes.set_xlabel("target, from the largest upper limit on")
    axes.legend(frameon=False)
    return axes


def plot_predicted(
    attribution: Attribution,
    masks: Masks,
    outputs: ArrayLike,
    target: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw outputs of models against what the scores predict of them.

    Parameters
    ----------
    attribution : Attribution
    masks : Masks
        Subsets that the models were trained on; held out from the fit, or the picture flatters.
    outputs : (n_masks, n_targets) array_like
    target : int
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        With R² and Pearson's correlation in the title.

    Raises
    ------
    ValueError
        If shapes do not fit, or there is no such target.
    RuntimeError
        If matplotlib is missing; the message says which line installs it.
    """
    target = _target(attribution, target)
    given = np.asarray(outputs, dtype=np.float64)
    expected = (masks.n_masks, attribution.n_targets)
    if given.shape != expected:
        raise bad_value("outputs", f"shape {expected}", f"shape {given.shape}")
    actual = given[:, target]
    predicted = attribution.predict(masks)[:, target].astype(np.float64)
    axes = _axes(ax)
    both = np.concatenate([actual, predicted])
    ends = [float(both.min()), float(both.max())]
    axes.plot(ends, ends, color=_GREY, linestyle="--", label="predicted = trained")
    axes.plot(predicted, actual, ".", color=_BLUE, alpha=0.6, label=f"{masks.n_masks:,} models")
    axes.set(
        xlabel="output predicted by the scores",
        ylabel="output of the trained model",
        title=f"target {target}: {_fit(predicted, actual)}",
        aspect="equal",
    )
    axes.legend(frameon=False)
    return axes


def plot_influences(
    attribution: Attribution,
    target: int = 0,
    k: int = 10,
    images: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the scores that matter most to one target, highest first.

    Parameters
    ----------
    attribution : Attribution
    target : int
    k : int
        Examples of largest absolute score to draw; all of them if there are fewer.
    images : (n_train, height, width) or (n_train, height, width, 3) array_like, optional
        Small pictures of the examples, as `matplotlib.axes.Axes.imshow` takes them.
    labels : (n_train,) array_like, optional
        What the examples are called; their numbers if not given.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A bar for each example, with its standard error where there is one.

    Raises
    ------
    ValueError
        If shapes do not fit, or there is no such target.
    RuntimeError
        If matplotlib is missing; the message says which line installs it.
    """
    target, k = _target(attribution, target), check_count("k", k, 1)
    names = axis_labels("labels", labels, attribution.n_train)
    pictures = None if images is None else _images(images, attribution.n_train)
    scores = attribution.scores[:, target].astype(np.float64)
    largest = np.argsort(-np.abs(scores), kind="stable")[:k]
    chosen = largest[np.argsort(-scores[largest], kind="stable")]
    errors = attribution.standard_error
    axes = _axes(ax, len(chosen))
    places = np.arange(len(chosen))
    axes.barh(
        places,
        scores[chosen],
        xerr=None if errors is None else np.nan_to_num(errors[chosen, target]),
        color=np.where(scores[chosen] >= 0.0, _BLUE, _VERMILION).tolist(),
        error_kw={"ecolor": _GREY},
    )
    axes.axvline(0.0, color=_GREY, linewidth=0.8)
    points = min(_POINTS[1], 0.8 * _points_a_row(axes, len(chosen)))
    if points >= _POINTS[0]:
        axes.set_yticks(places, [str(names[i]) for i in chosen], fontsize=points)
    else:
        axes.set_yticks([])
    axes.set_ylim(len(chosen) - 0.5, -0.5)
    axes.set(
        xlabel="score: change of the output when the example goes in",
        ylabel="training example",
        title=f"target {target}: {len(chosen)} of {attribution.n_train:,} examples",
    )
    if pictures is not None:
        _add_images(axes, pictures[chosen])
    return axes


def _axes(ax: Axes | None, n_rows: int = 1) -> Axes:
    """The axes given, or those of a new figure."""
    if ax is not None:
        return ax
    size = (_INCHES[0], max(_INCHES[1], _INCHES[2] * n_rows))
    figure = optional_module("matplotlib.pyplot", "plots").figure(
        figsize=size, layout="constrained"
    )
    made: Axes = figure.gca()
    return made


def _points_a_row(axes: Axes, n_rows: int) -> float:
    return float(axes.get_window_extent().height) * 72.0 / axes.figure.dpi / n_rows


def _target(attribution: Attribution, target: int) -> int:
    target = check_count("target", target)
    if target >= attribution.n_targets:
        raise bad_value("target", f"one of {attribution.n_targets} from 0 on", target)
    return target


def _counts(verdict: Verdict) -> str:
    n = verdict.n_targets
    accepted = sum(outcome is Outcome.ACCEPT for outcome in verdict.outcomes)
    return f"{accepted} of {n} target{'s' if n != 1 else ''} accepted"


def _scale(axes: Axes, epsilon: float, bottom: float, top: float) -> None:
    """Linear up to ε and logarithmic beyond, with numbers 1, 2 and 5 of each decade."""
    axes.set_yscale("asinh", linear_width=epsilon)
    axes.set_ylim(bottom, top)
    lowest = int(np.floor(np.log10(epsilon / 2.0)))
    decades = range(lowest, max(lowest, int(np.ceil(np.log10(top)))) + 1)
    ticks = [0.0, *(digit * 10.0**e for e in decades for digit in (1, 2, 5))]
    shown = [tick for tick in ticks if tick <= top]
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_yticks([], minor=True)


def _fit(predicted: Array, actual: Array) -> str:
    """R² and correlation in words; constant outputs have neither."""
    spread = float(np.sum(np.square(actual - actual.mean())))
    if spread == 0.0 or np.ptp(predicted) == 0.0:
        return "constant"
    r2 = 1.0 - float(np.sum(np.square(actual - predicted))) / spread
    return f"R² = {r2:.3f}, correlation {np.corrcoef(predicted, actual)[0, 1]:.3f}"


def _images(images: ArrayLike, n_train: int) -> NDArray[Any]:
    array = np.asarray(images)
    if array.ndim not in (3, 4) or len(array) != n_train or array.shape[3:] not in ((), (3,)):
        expected = f"({n_train}, height, width) or ({n_train}, height, width, 3)"
        raise bad_value("images", expected, array.shape)
    return array


def _add_images(axes: Axes, images: NDArray[Any]) -> None:
    """Put pictures left of the tick labels' place, one beside each bar."""
    boxes = optional_module("matplotlib.offsetbox", "plots")
    points = min(_IMAGE_POINTS, 0.9 * _points_a_row(axes, len(images)))
    axes.tick_params(axis="y", pad=points + 6.0, length=0)
    for place, image in enumerate(images):
        picture = boxes.OffsetImage(image, zoom=points / image.shape[0], cmap="gray")
        axes.add_artist(
            boxes.AnnotationBbox(
                picture,
                (0.0, place),
                xybox=(-points / 2.0 - 3.0, 0.0),
                xycoords=("axes fraction", "data"),
                boxcoords="offset points",
                frameon=False,
                pad=0.0,
            )
        )
