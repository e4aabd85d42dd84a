"""`verify_recorded`: decide on published scores from published outputs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from pyattr.errors import bad_value
from pyattr.masks import Masks
from pyattr.verification.bounds import RECORDED, Interval, Levels, ratio_interval
from pyattr.verification.cluster_design import Leak
from pyattr.verification.conclusion import Findings, conclude
from pyattr.verification.criterion import Criterion
from pyattr.verification.evaluate import check_outputs
from pyattr.verification.recorded import BLOCK_ROWS, Features, RecordedSums, recorded_sums
from pyattr.verification.scores import HasScores, LinearScores
from pyattr.verification.verdict import Verdict

__all__ = ["verify_recorded"]

Array = npt.NDArray[np.float64]

LEAST_ROWS = 100
LEAST_EXAMPLES = 30
_CHUNK_BYTES = 1 << 26  # residuals of the targets in work, float32
_FALSE_ALARM = 1e-4  # of "no gap can have led to this estimate", over all targets
FALSE_ALARM = 1e-6  # of refusing independent rows for pairs that are alike
_P_ERRORS = 5.0  # standard errors by which the share of 1s may differ from p
_TAIL_SHARE = 0.05  # most that kurtosis may be relative to the number of rows


def verify_recorded(
    masks: Masks,
    outputs: npt.NDArray[np.floating[Any]],
    attribution: HasScores,
    *,
    held_out: bool,
    epsilon: float = 0.05,
    delta: float = 0.05,
    p: float = 0.5,
    relative: bool = True,
    clip: float | None = None,
    simultaneous: bool = False,
) -> Verdict:
    """Check scores against recorded models, without training any.

    .. warning::
       The rows must have played **no part** in making the scores: not in fitting them, not in choosing
       among them. On rows of a fit every attribution looks better than it is. Nothing in the data can
       prove that they were held out; `held_out` is your word for it.

    Parameters
    ----------
    masks : Masks
        n masks, each drawn independently with probability p; at least 100, over at least 30 examples.
        To tell a gap of ε from 0, n should be several times ``√n_train / ε`` times the share of Var f
        that the best linear attribution leaves.
    outputs : (n, n_targets) float array
        Outputs of the models trained on them; a memory map will do.
    attribution : Attribution
        Scores (n_train, n_targets) in the 0/1 coding, and intercept.
    held_out : bool
        Must be True: states that no row was used for the scores.
    epsilon, delta, relative, simultaneous
        As for `pyattr.verify`.
    p : float
        Probability that an example is in a mask.
    clip : float, optional
        b: outputs are clipped to [-b, b]; a target with more than 1% clipped is inconclusive.

    Returns
    -------
    Verdict
        ``method`` "gap", ``bound`` "normal", no training. The intercept is left to be refitted. A target is
        INCONCLUSIVE, too, where its estimate is so far below 0 that the rows cannot have been held out.

    Raises
    ------
    ValueError
        If an argument is out of range, `held_out` is not True, shapes do not fit, an output is not
        finite, the share of 1s in the masks is not p, or more rows are equal or complements than chance
        explains.

    Notes
    -----
    Memory: residuals of as many targets as fit 64 MiB (at least one), (n_train, targets) sums, and no more
    than 8,192 rows unpacked; time: three passes over the packed masks for each such group of targets.
    Subsets of a fixed size ``p n_train`` change the estimate by 1/n_train of itself.

    References
    ----------
    `pyattr.verification.recorded` has the estimator and its limits.

    Examples
    --------
    >>> import numpy as np, pyattr
    >>> truth = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    >>> masks = pyattr.sample_masks(2000, 50, seed=1)
    >>> noise = np.random.default_rng(0).standard_normal((2000, 1))
    >>> outputs = masks.unpack() @ truth + noise
    >>> good = pyattr.Attribution(scores=truth)
    >>> pyattr.verify_recorded(masks, outputs, good, held_out=True).outcome
    <Outcome.ACCEPT: 'ACCEPT'>
    >>> half = pyattr.Attribution(scores=truth / 2)
    >>> pyattr.verify_recorded(masks, outputs, half, held_out=True).outcome
    <Outcome.ABORT: 'ABORT'>
    """
    criterion = Criterion(
        epsilon,
        delta,
        p,
        RECORDED,
        relative,
        clip=clip,
        simultaneous=simultaneous,
        nonlinearity=0.0,
    )
    scores = LinearScores.of(attribution)
    values = _checked(masks, outputs, scores, p)
    if held_out is not True:
        raise bad_value(
            "held_out",
            "True: rows that the scores were fitted to or chosen by cannot verify them",
            held_out,
        )
    n, n_targets = len(masks), scores.n_targets
    levels = Levels(delta / n_targets, delta / (n_targets if simultaneous else 1))
    features = Features.of(masks, p)
    step = max(1, _CHUNK_BYTES // (4 * n))
    chunks = [
        _chunk(features, values, scores, clip, slice(first, min(first + step, n_targets)))
        for first in range(0, n_targets, step)
    ]
    sums = _joined([chunk[0] for chunk in chunks], n)
    moments, clipped = (np.concatenate([chunk[k] for chunk in chunks], axis=-1) for k in (1, 2))
    variance = _variance(moments, n, levels.swapped())
    weight = sums.interval(levels)
    gap = ratio_interval(weight, variance, np.full(n_targets, -1.0)) if relative else weight
    found = _findings(sums, gap, variance, moments, clipped, scores, criterion, levels)
    return replace(conclude(criterion, found), judged=scores)


def _checked(
    masks: Masks, outputs: npt.NDArray[np.floating[Any]], scores: LinearScores, p: float
) -> npt.NDArray[np.floating[Any]]:
    """Outputs as a matrix, once everything fits."""
    if not isinstance(masks, Masks):
        raise bad_value("masks", "pyattr.Masks", type(masks).__name__)
    if len(masks) < LEAST_ROWS:
        raise bad_value("masks", f"at least {LEAST_ROWS} rows", len(masks))
    if masks.n_train < LEAST_EXAMPLES:
        raise bad_value("masks", f"at least {LEAST_EXAMPLES} examples", masks.n_train)
    if scores.n_train != masks.n_train:
        raise bad_value("attribution", f"n_train = {masks.n_train}, as masks have", scores.n_train)
    values = np.asanyarray(outputs)
    if values.ndim == 1 and scores.n_targets == 1:
        values = values[:, np.newaxis]
    if values.shape != (len(masks), scores.n_targets):
        expected = f"shape ({len(masks)}, {scores.n_targets})"
        raise bad_value("outputs", expected, f"shape {np.shape(outputs)}")
    share = float(masks.sizes().mean()) / masks.n_train
    error = math.sqrt(p * (1.0 - p) / (len(masks) * masks.n_train))
    if abs(share - p) > _P_ERRORS * error + 0.5 / masks.n_train:
        raise bad_value("p", f"the share of 1s in the masks, {share:.4g}", p)
    _check_independent(masks, p)
    return values


def _check_independent(masks: Masks, p: float) -> None:
    """Refuse banks with masks drawn again, or complements: both shift the estimate."""
    n, n_train = len(masks), masks.n_train
    both = np.concatenate([masks.packed, masks.complement().packed])
    rows = np.ascontiguousarray(both).view(np.dtype((np.void, both.shape[1]))).ravel()
    _, counts = np.unique(rows, return_counts=True)
    n_alike = int(np.sum(counts * (counts - 1) // 2)) // 2  # each pair is seen from both sides
    chance = (p * p + (1.0 - p) ** 2) ** n_train + (2.0 * p * (1.0 - p)) ** n_train
    most = int(stats.poisson.isf(FALSE_ALARM, n * (n - 1) / 2.0 * chance))
    if n_alike > most:
        raise bad_value(
            "masks",
            f"independent rows, of which at most {most} pairs are equal or complements",
            f"{n_alike} such pairs",
        )


def _chunk(
    features: Features,
    values: npt.NDArray[np.floating[Any]],
    scores: LinearScores,
    clip: float | None,
    columns: slice,
) -> tuple[RecordedSums, Array, Array]:
    """Sums for some targets, the moments of their outputs, and the shares that were clipped."""
    masks, n = features.masks, len(features.masks)
    part = LinearScores(np.ascontiguousarray(scores.scores[:, columns]), scores.intercept[columns])
    residuals = np.empty((n, part.n_targets), np.float32)
    about = values[:, columns].mean(axis=0, dtype=np.float64)
    centre = about - part.linear_mean(features.p)
    clipped = np.zeros(part.n_targets)
    sums = np.zeros((3, part.n_targets))  # of the outputs' first, second and fourth powers
    for first in range(0, n, BLOCK_ROWS):
        rows = slice(first, min(first + BLOCK_ROWS, n))
        block = check_outputs(values[rows, columns], rows.stop - rows.start, part.n_targets)
        output = block.astype(np.float64)
        if clip is not None:
            clipped += np.sum(np.abs(output) > clip, axis=0)
            output = np.clip(output, -clip, clip)
        residual = output - part.linear(masks[rows])
        residuals[rows] = residual - centre
        moved = output - about
        sums += [np.sum(moved**power, axis=0) for power in (1, 2, 4)]
    residuals -= residuals.mean(axis=0, dtype=np.float64).astype(np.float32)
    moments = np.vstack([sums / n, about])
    return recorded_sums(features, residuals), moments, clipped / n


def _joined(parts: list[RecordedSums], n: int) -> RecordedSums:
    """One after the other."""
    names = ("estimate", "residual_variance", "degenerate", "linear", "kurtosis")
    return RecordedSums(
        n, *(np.concatenate([getattr(part, name) for part in parts]) for name in names)
    )


def _variance(moments: Array, n: int, levels: Levels) -> Interval:
    """Student t limits of Var f over rows, from moments about a point near the mean."""
    mean, second, fourth, _ = moments
    estimate = (second - mean**2) * n / (n - 1.0)
    error = np.sqrt(np.maximum(fourth - second**2, 0.0) / (n - 1.0))
    down, up = stats.t.ppf([1.0 - levels.lower, 1.0 - levels.upper], n - 1)
    return Interval(estimate, estimate - down * error, estimate + up * error)


def _findings(
    sums: RecordedSums,
    gap: Interval,
    variance: Interval,
    moments: Array,
    clipped: Array,
    scores: LinearScores,
    criterion: Criterion,
    levels: Levels,
) -> Findings:
    n_targets = scores.n_targets
    heavy = sums.kurtosis > _TAIL_SHARE * sums.n
    far = stats.norm.isf(_FALSE_ALARM / n_targets) * np.sqrt(sums.noise)
    split = {
        "upper limit of each target": levels.upper,
        "lower limit of each target": levels.lower,
    }
    if criterion.relative:
        split["limits of Var f (Student t), taken to err with the gap's"] = levels.upper
    return Findings(
        bound=RECORDED,
        gap=gap,
        variance=variance,
        mean_square=moments[1] - moments[0] ** 2 + (moments[3] + moments[0]) ** 2,
        explained=scores.variance(criterion.p),
        slack=np.zeros(n_targets),
        tails_accept=heavy,
        tails_accuse=heavy,
        tails_noticed=heavy,
        tails=f"kurtosis above {_TAIL_SHARE:g} of the number of rows",
        impossible=sums.estimate < -far,
        clipped=clipped,
        delta_split=split,
        details={
            "design": "recorded",
            "n_rows": sums.n,
            "variance_parts": sums.parts(),
            "leak": Leak(0.0, 0.0),
            "residual_variance": sums.residual_variance,
            "kurtosis": sums.kurtosis,
        },
    )
