"""How wrong the estimators' scores are: where the truth is known, and on real banks of models.

Scenarios: mean excess error over several draws, in units of the outputs' variance, half of which is
noise. Claim: bayes is never more than 2% worse than the better of lasso and ridge.

Bank: error on 2,048 fresh subsets over the variance there, mean over targets, of fits to the first
of the models. Softmax regression on digits with 10% of the labels flipped, and the network on
Fashion-MNIST, its images averaged over 2 x 2 pixels so that 10,048 models take a minute. Claims:
with 1,000 softmax models bayes is at 0.125 or less, and bayes is the best in every cell.

Times are not measured here, and results do not depend on the machine beyond rounding. They are in
results/estimators.json.

Run: ``python bench/bench_estimators.py [--threads N] [scenarios] [bank]``; the default is both.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

import harness
from scenarios import problem

METHODS = ("bayes", "lasso", "ridge")
DESIGNS = (("iid", 0.5), ("iid", 0.2), ("iid", 0.8), ("group", 0.5), ("complement", 0.5))
N_SEEDS = 6
N_TRAIN, N_TARGETS, N_FRESH = 1000, 32, 2048
N_MODELS = (500, 1000, 2000, 4000, 8000)


def bench_scenarios(_n_threads: int) -> dict[str, Any]:
    """Mean excess error of every estimator in every scenario, and bayes' own estimate."""
    cells = {
        f"{design} p={p} {kind} m/N={ratio}": bench_scenario(design, p, kind, ratio)
        for design, p in DESIGNS
        for kind in ("mixed", "sparse", "dense")
        for ratio in (0.5, 1, 2, 4, 8, 16)
    }
    worst = max(cells, key=lambda name: cells[name]["bayes over the better"])
    return {"worst": {worst: cells[worst]["bayes over the better"]}, "cells": cells}


def bench_scenario(design: str, p: float, kind: str, ratio: float) -> dict[str, float]:
    import numpy as np

    from pyattr import Masks
    from pyattr.attribution import fit_datamodel

    n_train, n_targets = 400, 32
    as_drawn = "complement" if design == "complement" else "iid"
    noise = 0.25 if design == "complement" else 0.5  # of a row that is fitted
    errors: dict[str, list[float]] = {name: [] for name in (*METHODS, "bayes' own")}
    for seed in range(N_SEEDS):
        bits, outputs, _, excess = problem(
            int(ratio * n_train), n_train, n_targets, kind=kind, design=design, p=p, seed=seed
        )
        for method in METHODS:
            fit = fit_datamodel(Masks.pack(bits), outputs, method, design=as_drawn)
            errors[method].append(excess(fit.scores).mean())
            if method == "bayes":
                errors["bayes' own"].append(fit.details["held_out_error"].mean() - noise)
    cell = {name: float(np.mean(values)) for name, values in errors.items()}
    return cell | {"bayes over the better": cell["bayes"] / min(cell["lasso"], cell["ridge"])}


def bench_bank(n_threads: int) -> dict[str, Any]:
    return {
        kind: bench_one_bank(kind, n_threads) for kind in ("softmax digits", "mlp fashion-mnist")
    }


def bench_one_bank(kind: str, n_threads: int) -> dict[str, Any]:
    """Train the models of a bank, and fit the first of them by every estimator."""
    import numpy as np

    from pyattr.attribution import fit_datamodel
    from pyattr.masks import sample_masks, sample_seeds

    ensemble = ensemble_of(kind, n_threads)
    n_rows = max(N_MODELS) + N_FRESH
    masks = sample_masks(n_rows, N_TRAIN, seed=0)
    outputs = ensemble(masks, sample_seeds(n_rows, seed=0)).astype(np.float64)
    fresh, values = masks[max(N_MODELS) :], outputs[max(N_MODELS) :]
    variance = values.var(axis=0)
    cells: dict[str, Any] = {}
    for n_models in N_MODELS:
        cell = cells[str(n_models)] = {}
        for method in METHODS:
            fit = fit_datamodel(masks[:n_models], outputs[:n_models], method)
            error = np.square(values - fit.predict(fresh)).mean(axis=0) / variance
            own = fit.details["loo_mse" if method == "ridge" else "held_out_error"]
            cell[method] = {
                "held-out error over Var f": float(error.mean()),
                "own estimate": float((own / variance).mean()),
            }
    return {"recipe": ensemble.recipe_record(), "models": cells}


def ensemble_of(kind: str, n_threads: int) -> Any:
    from pyattr import datasets
    from pyattr.retraining.ensemble import Ensemble, MLPRecipe, SoftmaxRecipe

    if kind == "softmax digits":
        data = datasets.load("digits", N_TRAIN, N_TARGETS, flip_fraction=0.1)
        recipe, train, test = SoftmaxRecipe(), data.train_images, data.test_images
    else:
        data = datasets.load("fashion-mnist", N_TRAIN, N_TARGETS)
        recipe, train, test = MLPRecipe(), *map(halved, (data.train_images, data.test_images))
    labels = data.train_labels, data.test_labels
    return Ensemble(recipe, train, labels[0], test, labels[1], n_threads=n_threads)


def halved(images: Any) -> Any:
    """Means of 2 x 2 pixels of 28 x 28 images, flattened."""
    return images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196)


def main() -> None:
    parts = {"scenarios": bench_scenarios, "bank": bench_bank}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("parts", nargs="*", choices=[*parts, []])
    arguments = parser.parse_args()
    harness.set_threads(1)  # of the libraries: pyattr's own threads divide the work
    from pyattr import kernels

    kernels.set_num_threads(arguments.threads)
    path = harness.RESULTS / "estimators.json"
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    for part in arguments.parts or parts:
        results[part] = parts[part](arguments.threads)
        harness.write("estimators", results, arguments.threads)
        print(part, json.dumps(results[part], indent=1), file=sys.stderr)


if __name__ == "__main__":
    main()
