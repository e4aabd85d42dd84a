"""What a verdict costs and how often it is right, on real retraining.

A prover trains 20 models per training example of digits and publishes its datamodel; then seeded
sessions of ``pyattr.verify`` (method "gap", ε = 0.05 Var f, δ = 0.05) test the honest scores and half
of them. The halved scores meet the design that the honest session chose, so that a cache can answer
their session with the same trainings; every session has its own masks and seeds.

Run: ``python bench/bench_verification.py [--models softmax mlp] [--n-train 500 1000 1500] [--sessions 100]``.
Committed: results/verification.json, all cells, 100 sessions each.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import harness
import numpy as np

import pyattr
from pyattr import datasets
from pyattr.masks import Masks
from pyattr.retraining.ensemble import Ensemble, MLPRecipe, SoftmaxRecipe
from pyattr.verification.cheats import HalvedScores

MODELS_PER_EXAMPLE = 20
RECIPES = {"softmax": SoftmaxRecipe(), "mlp": MLPRecipe()}
BUDGETS = {("softmax", 1): 48, ("softmax", 32): 256, ("mlp", 1): 512, ("mlp", 32): 1024}
BLOCK = 2048


class Cached:
    """A retrain function that answers the last few requests again without training."""

    def __init__(self, retrain: Any) -> None:
        self.retrain, self.answers = retrain, {}

    def __call__(self, masks: Masks, seeds: np.ndarray) -> np.ndarray:
        key = (masks.packed.tobytes(), seeds.tobytes())
        if key not in self.answers:
            if len(self.answers) > 4:
                self.answers.clear()
            self.answers[key] = self.retrain(masks, seeds)
        return self.answers[key]


def prover_bank(retrain: Ensemble, n_models: int) -> tuple[Masks, np.ndarray, float]:
    """Masks and outputs of the prover's models, and models per second."""
    masks = pyattr.sample_masks(n_models, retrain.n_train, seed=1)
    start = time.perf_counter()
    parts = [
        retrain(
            masks[a : a + BLOCK], pyattr.sample_seeds(len(masks[a : a + BLOCK]), 2, first_row=a)
        )
        for a in range(0, n_models, BLOCK)
    ]
    return masks, np.concatenate(parts), n_models / (time.perf_counter() - start)


def run_sessions(model: str, n_train: int, n_targets: int, n_sessions: int) -> dict[str, Any]:
    """Verdicts of honest and halved scores over seeded sessions."""
    data = datasets.load("digits", n_train=n_train, n_test=n_targets, seed=0)
    images = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    retrain = Ensemble(RECIPES[model], *images)
    masks, outputs, rate = prover_bank(retrain, MODELS_PER_EXAMPLE * n_train)
    honest = pyattr.fit_datamodel(masks, outputs)
    attributions = {"honest": honest, "halved": HalvedScores()(honest)}
    verdicts: dict[str, list[pyattr.Verdict]] = {name: [] for name in attributions}
    cached = Cached(retrain)
    budget = BUDGETS[model, 1 if n_targets == 1 else 32]
    for session in range(n_sessions):
        options = {"budget": budget, "seed": 10_000 + session}
        accepted = pyattr.verify(cached, honest, **options)
        chosen = pyattr.ClusterDesign(accepted.details["n_clusters"], accepted.details["n_leaves"])
        verdicts["honest"].append(accepted)
        verdicts["halved"].append(
            pyattr.verify(cached, attributions["halved"], design=chosen, **options)
        )
    summary: dict[str, Any] = {"prover_models": len(masks), "models_per_s": rate, "budget": budget}
    for name, results in verdicts.items():
        trained = [v.n_retrained for v in results]
        summary[name] = {
            "outcomes": {o.value: sum(v.outcome is o for v in results) for o in pyattr.Outcome},
            "trainings_median": float(np.median(trained)),
            "trainings_max": max(trained),
            "gap_mean_over_targets": float(np.mean([v.gap for v in results])),
            "gap_worst_target": float(np.mean([v.gap for v in results], axis=0).max()),
            "upper_worst_median": float(np.median([v.gap_upper.max() for v in results])),
        }
    return summary


def main() -> None:
    """Run all cells and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--n-train", nargs="+", type=int, default=[500, 1000, 1500])
    parser.add_argument("--targets", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--name", default="verification")
    options = parser.parse_args()
    results = {}
    for model in options.models:
        for n_train in options.n_train:
            for n_targets in options.targets:
                key = f"{model}, n_train={n_train}, n_targets={n_targets}"
                results[key] = run_sessions(model, n_train, n_targets, options.sessions)
                print(key, results[key], flush=True)
                harness.write(options.name, results, n_threads=2)  # a long run keeps what it has


if __name__ == "__main__":
    main()
