"""Functions on the cube with known Fourier weights: the oracle of the verification tests."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtri

from pyattr import Attribution, Masks
from pyattr.kernels import random_words

NOISE_STREAM = 1000


def _hash(masks: Masks) -> np.ndarray:
    """A number for every mask, (n_masks,) uint64; two masks share one with probability 2^-64."""
    packed = masks.packed.astype(np.uint64)
    odd = np.random.default_rng(1).integers(2**63, size=packed.shape[1], dtype=np.uint64) * 2 + 1
    return (packed * odd).sum(axis=1, dtype=np.uint64)


@dataclass
class CubeFunction:
    """``f(x, s) = Σ_S c_S φ_S(x) + noise · N(0, 1)(x, s)``, a `retrain` callable of several targets.

    `terms` maps subsets S to coefficients of shape (n_targets,) in the p-biased orthonormal basis. The
    noise of two masks is independent also where they share a seed, but for `seed_effect`: a normal
    number of that standard deviation that depends on the seed alone.
    """

    n_train: int
    terms: dict[tuple[int, ...], np.ndarray]
    p: float = 0.5
    noise: float = 0.0
    n_targets: int = 1
    seed_effect: float = 0.0
    calls: int = field(default=0, compare=False)

    def __call__(self, masks: Masks, seeds: np.ndarray) -> np.ndarray:
        self.calls += len(masks)
        bits = masks.unpack()
        phi = ((bits - self.p) / np.sqrt(self.p * (1 - self.p))).astype(np.float64)
        out = np.zeros((len(masks), self.n_targets))
        linear = np.zeros((self.n_train, self.n_targets))
        for subset, weight in self.terms.items():
            if len(subset) == 1:
                linear[subset[0]] += weight
            else:
                out += np.prod(phi[:, list(subset)], axis=1)[:, None] * np.asarray(weight)
        out += phi @ linear
        if self.noise:
            out += self.noise * self._normals(seeds ^ _hash(masks))
        if self.seed_effect:
            out += self.seed_effect * self._normals(seeds)
        return out.astype(np.float32)

    def _normals(self, keys: np.ndarray) -> np.ndarray:
        words = random_words(keys, NOISE_STREAM, 0, self.n_targets)
        return ndtri((words + 0.5) / 2**32)

    def weight(self, degree: int) -> np.ndarray:
        """B_k, (n_targets,)."""
        parts = [
            np.square(c) * np.ones(self.n_targets)
            for s, c in self.terms.items()
            if len(s) == degree
        ]
        return np.sum(parts, axis=0) if parts else np.zeros(self.n_targets)

    @property
    def variance(self) -> np.ndarray:
        """Var f over masks and seeds."""
        degrees = {len(s) for s in self.terms} - {0}
        weight = sum((self.weight(k) for k in degrees), np.zeros(self.n_targets))
        return weight + self.noise**2 + self.seed_effect**2

    @property
    def best(self) -> Attribution:
        """The best linear attribution."""
        scores = np.zeros((self.n_train, self.n_targets))
        for subset, weight in self.terms.items():
            if len(subset) == 1:
                scores[subset[0]] += np.asarray(weight) / np.sqrt(self.p * (1 - self.p))
        constant = self.terms.get((), np.zeros(self.n_targets)) * np.ones(self.n_targets)
        return Attribution(scores=scores, intercept=constant - self.p * scores.sum(axis=0))


def smooth_function(
    n_train: int = 60,
    *,
    quadratic: float = 0.0,
    cubic: float = 0.0,
    noise: float = 0.0,
    constant: float = 0.0,
    p: float = 0.5,
    n_targets: int = 1,
    seed: int = 0,
) -> CubeFunction:
    """Linear weight 1 spread over all examples; given weights at degrees 2 and 3 over many subsets."""
    rng = np.random.default_rng(seed)

    def spread(weight: float, n_terms: int) -> np.ndarray:
        raw = rng.standard_normal((n_terms, n_targets))
        return raw * np.sqrt(weight / np.sum(raw**2, axis=0))

    terms: dict[tuple[int, ...], np.ndarray] = {(): np.full(n_targets, constant)}
    terms |= {(i,): c for i, c in enumerate(spread(1.0, n_train))}
    for degree, weight in ((2, quadratic), (3, cubic)):
        if weight:
            subsets = {tuple(sorted(rng.choice(n_train, degree, replace=False))) for _ in range(30)}
            terms |= dict(zip(sorted(subsets), spread(weight, len(subsets)), strict=True))
    return CubeFunction(n_train, terms, p, noise, n_targets)


def with_gap(function: CubeFunction, gap: float, seed: int = 100) -> Attribution:
    """An attribution whose true gap is `gap` times Var f, in a random direction."""
    rng = np.random.default_rng(seed)
    best = function.best
    change = rng.standard_normal(best.scores.shape)
    pq = function.p * (1 - function.p)
    change *= np.sqrt(gap * function.variance / (pq * np.sum(change**2, axis=0)))
    scores = best.scores + change
    return Attribution(scores=scores, intercept=best.intercept - function.p * change.sum(axis=0))
