"""Provers of the verification bench: real retraining with honest scores, and a stand-in for large sizes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from scipy import stats

import pyattr
from pyattr import datasets
from pyattr.masks import Masks
from pyattr.retraining.ensemble import Ensemble, MLPRecipe, SoftmaxRecipe

__all__ = ["Column", "CubeFunction", "Prover", "interval", "prover"]

RECIPES = {
    "softmax": SoftmaxRecipe(),
    "mlp": MLPRecipe(),
    "another softmax": SoftmaxRecipe(l2=300.0),
}
BLOCK = 2048


@dataclass
class Prover:
    """An ensemble, the attribution that a user would get of it, and what that took."""

    retrain: Ensemble
    honest: pyattr.Attribution
    n_models: int
    models_per_s: float


def prover(model: str, data: datasets.Dataset, models_per_example: int) -> Prover:
    """Train models on i.i.d. masks and fit `pyattr.fit_datamodel`'s default."""
    images = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    retrain = Ensemble(RECIPES[model], *images)
    n_models = models_per_example * retrain.n_train
    masks = pyattr.sample_masks(n_models, retrain.n_train, seed=1)
    start = time.perf_counter()
    parts = [
        retrain(
            masks[a : a + BLOCK], pyattr.sample_seeds(len(masks[a : a + BLOCK]), 2, first_row=a)
        )
        for a in range(0, n_models, BLOCK)
    ]
    rate = n_models / (time.perf_counter() - start)
    return Prover(retrain, pyattr.fit_datamodel(masks, np.concatenate(parts)), n_models, rate)


@dataclass
class Column:
    """The first few targets of a retrain function."""

    retrain: object
    n_targets: int

    def __call__(self, masks: Masks, seeds: np.ndarray) -> np.ndarray:
        return self.retrain(masks, seeds)[:, : self.n_targets]


class CubeFunction:
    """A stand-in for retraining at sizes out of reach: linear, 2% quadratic and 0.5% cubic weight."""

    def __init__(self, n_train: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.n_train = n_train
        linear = rng.standard_normal(n_train)
        self.scores = (2.0 * linear / np.linalg.norm(linear)).astype(np.float32)[:, None]
        self.terms = [
            (rng.choice(n_train, (60, degree)), np.sqrt(weight / 60))
            for degree, weight in ((2, 0.02), (3, 0.005))
        ]

    def __call__(self, masks: Masks, seeds: np.ndarray) -> np.ndarray:
        out = pyattr.Attribution(scores=self.scores).predict(masks)[:, 0].astype(np.float64)
        signs = 2.0 * masks.unpack() - 1.0
        for subsets, size in self.terms:
            out += size * np.prod(signs[:, subsets], axis=2).sum(axis=1)
        return out.astype(np.float32)[:, None]

    def honest(self, gap: float, seed: int = 1) -> pyattr.Attribution:
        """Scores with a gap of so much Var f (1.025) in a random direction."""
        change = np.random.default_rng(seed).standard_normal(self.scores.shape)
        change *= 2.0 * np.sqrt(1.025 * gap) / np.linalg.norm(change)
        return pyattr.Attribution(scores=self.scores + change.astype(np.float32))


def interval(count: int, n: int) -> list[float]:
    """Clopper-Pearson 95% interval of a rate."""
    low = stats.beta.ppf(0.025, count, n - count + 1) if count else 0.0
    high = stats.beta.ppf(0.975, count + 1, n - count) if count < n else 1.0
    return [round(float(low), 4), round(float(high), 4)]
