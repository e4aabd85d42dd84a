"""How good scores are: rank correlation, held-out R², detection of wrong labels.

None of these is a verification: LDS and AUC do not change when all scores are halved, and none
comes with a bound against a dishonest prover.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from pyattr.attribution.checks import check_outputs, refuse_not_finite, two_dimensional
from pyattr.attribution.result import Attribution
from pyattr.errors import bad_value, check_count

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["held_out_r2", "lds", "lds_ceiling", "mislabel_auc"]

Float64 = NDArray[np.float64]


def lds(attribution: Attribution, masks: Masks, outputs: ArrayLike) -> Float64:
    """Linear datamodelling score: rank correlation of predicted and true outputs.

    Parameters
    ----------
    attribution : Attribution
        Scores under test.
    masks : Masks
        Subsets that the scores were *not* fitted on.
    outputs : (n_masks, n_targets) array_like
        Outputs of the models trained on them.

    Returns
    -------
    (n_targets,) float64
        Spearman's coefficient; NaN where the predictions or the outputs are all equal.

    Raises
    ------
    ValueError
        If shapes do not fit or a value is not finite.

    References
    ----------
    Park et al. 2023 (arXiv 2303.14186), the linear datamodeling score.
    """
    return _spearman(attribution.predict(masks), _fresh_outputs(attribution, masks, outputs))


def lds_ceiling(outputs_a: ArrayLike, outputs_b: ArrayLike, n_averaged: int = 1) -> Float64:
    """LDS that a perfect predictor of the mean output would reach: the noise ceiling.

    The same subsets are trained twice with independent seeds. The correlation of the two runs is
    the reliability r of one run, the share of its variance that the subset explains. Outputs
    averaged over k runs have reliability ``r_k = k r / (1 + (k - 1) r)`` (Spearman-Brown), and
    what is free of noise correlates with them at ``√r_k`` (Spearman's correction for attenuation).
    Rank correlations are taken to product-moment ones and back by ``ρ_S = 6/π asin(ρ/2)``, which
    holds for normal outputs.

    Parameters
    ----------
    outputs_a, outputs_b : (n_masks, n_targets) array_like
        Outputs of the same subsets under two sets of independent seeds.
    n_averaged : int
        Number of seeds k over which the outputs that LDS is measured on were averaged.

    Returns
    -------
    (n_targets,) float64
        From 0 to 1; 0 where the two runs do not correlate, NaN where outputs are all equal. It is
        the ceiling for any function of the subset; linear ones may have a lower one.

    Raises
    ------
    ValueError
        If shapes do not fit or a value is not finite.

    References
    ----------
    Spearman, "The proof and measurement of association between two things", 1904; Spearman and
    Brown, British Journal of Psychology 1910; Kruskal, "Ordinal measures of association", JASA
    1958, for the normal relation.
    """
    first = _finite_matrix("outputs_a", outputs_a)
    second = _finite_matrix("outputs_b", outputs_b)
    if first.shape != second.shape:
        raise bad_value("outputs_b", f"shape {first.shape} as outputs_a", second.shape)
    n_averaged = check_count("n_averaged", n_averaged, minimum=1)
    single = np.maximum(2.0 * np.sin(np.pi / 6.0 * _spearman(first, second)), 0.0)
    averaged = n_averaged * single / (1.0 + (n_averaged - 1) * single)
    return np.asarray(6.0 / np.pi * np.arcsin(np.sqrt(averaged) / 2.0))


def held_out_r2(attribution: Attribution, masks: Masks, outputs: ArrayLike) -> Float64:
    """Share of the outputs' variance that the scores predict on fresh subsets.

    Parameters
    ----------
    attribution : Attribution
        Scores under test.
    masks : Masks
        Subsets that the scores were *not* fitted on.
    outputs : (n_masks, n_targets) array_like
        Outputs of the models trained on them.

    Returns
    -------
    (n_targets,) float64
        ``1 - Σ(f - g)² / Σ(f - mean f)²``: at most 1, below 0 for scores worse than a constant,
        NaN where the outputs are all equal.

    Raises
    ------
    ValueError
        If shapes do not fit or a value is not finite.
    """
    values = _fresh_outputs(attribution, masks, outputs).astype(np.float64)
    residual = np.square(values - attribution.predict(masks)).sum(axis=0)
    total = np.square(values - values.sum(axis=0) / max(1, len(values))).sum(axis=0)
    total[(values == values[:1]).all(axis=0)] = np.nan
    return np.asarray(1.0 - residual / total)


def mislabel_auc(scores: Attribution | ArrayLike, flipped: ArrayLike) -> float:
    """Area under the ROC curve of finding wrong labels.

    Parameters
    ----------
    scores : (n_train,) array_like or Attribution
        Suspicion of each example, higher is worse: memorization (self-influence) values, say. Of
        an attribution the suspicion is minus the mean score over targets: a wrongly labelled
        example lowers the outputs on test examples.
    flipped : (n_train,) array_like of bool
        Which labels are wrong.

    Returns
    -------
    float
        Probability that a wrong label is more suspicious than a right one, ties counting half.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, or all or no labels are wrong.
    """
    if isinstance(scores, Attribution):
        suspicion = -scores.scores.mean(axis=1, dtype=np.float64)
    else:
        suspicion = np.asarray(scores)
    wrong = np.asarray(flipped)
    if suspicion.ndim != 1:
        raise bad_value("scores", "one number for each example", suspicion.shape)
    refuse_not_finite("scores", suspicion[:, np.newaxis])
    if wrong.dtype != np.bool_ or wrong.shape != suspicion.shape:
        raise bad_value("flipped", f"{suspicion.shape} bool", f"{wrong.shape} {wrong.dtype}")
    n_wrong = int(wrong.sum())
    n_right = wrong.size - n_wrong
    if not n_wrong or not n_right:
        raise bad_value("flipped", "some wrong and some right labels", f"{n_wrong} wrong")
    # Mann and Whitney's U from the sum of the ranks of the wrong labels
    above = float(rankdata(suspicion)[wrong].sum()) - n_wrong * (n_wrong + 1) / 2
    return above / (n_wrong * n_right)


def _fresh_outputs(
    attribution: Attribution, masks: Masks, outputs: ArrayLike
) -> NDArray[np.floating[Any]]:
    values = check_outputs(masks, outputs)
    if values.shape[1] != attribution.n_targets:
        raise bad_value("outputs", f"{attribution.n_targets} targets", values.shape[1])
    return values


def _finite_matrix(name: str, outputs: ArrayLike) -> NDArray[Any]:
    values = two_dimensional(name, outputs)
    refuse_not_finite(name, values)
    return values


def _spearman(first: NDArray[Any], second: NDArray[Any]) -> Float64:
    """Rank correlation of columns, NaN where one is constant.

    `scipy.stats.spearmanr` would form the matrix of all pairs of columns.
    """
    if not len(first):
        return np.full(first.shape[1], np.nan)
    a = rankdata(first, axis=0) - (len(first) + 1) / 2
    b = rankdata(second, axis=0) - (len(second) + 1) / 2
    norm = np.sqrt(np.einsum("jt,jt->t", a, a) * np.einsum("jt,jt->t", b, b))
    norm[norm == 0.0] = np.nan
    return np.asarray(np.einsum("jt,jt->t", a, b) / norm)
