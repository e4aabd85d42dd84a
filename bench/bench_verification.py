"""What a verdict costs and how often it is right, on real retraining.

Parts (``--parts``, all by default; results/verification.json keeps each cell as it is done):

- ``cost``: a prover trains 20 models per training example of digits and publishes its default datamodel;
  seeded sessions of ``pyattr.verify`` (method "gap", ε = 0.05 Var f, δ = 0.05) test the honest scores and
  half of them, for one target and for 32.
- ``size``: the same at N = 500 and 5,000 on Fashion-MNIST pooled to 7x7 (one target), and on functions of
  the cube, labelled so, at 500, 5,000 and 50,000.
- ``detection``: every cheat against every method, see ``detection.py``.
- ``recorded``: 100,000 recorded models and 100 targets, with the peak memory of the process.
- ``targets``: 10,000 targets, with the peak memory of the process.

Every session has its own masks and seeds; within a session all published scores meet the same ones, so a
training is made once. The paper's method stands beside the cost: its plan by its own (Hoeffding) sizes,
and by its variance formula; both are computed and not run.

Run: ``python bench/bench_verification.py [--parts cost] [--models softmax mlp] [--n-train 500 1000 1500]
[--targets 1 32] [--sessions 100]``.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from typing import Any

import harness
import numpy as np
import provers
from detection import detection

import pyattr
from pyattr import datasets
from pyattr.verification.cheats import HalvedScores
from pyattr.verification.evaluate import Recorded

MODELS_PER_EXAMPLE = 20
BUDGETS = {("softmax", 1): 48, ("softmax", 32): 256, ("mlp", 1): 512, ("mlp", 32): 1024}
EPSILON, DELTA = 0.05, 0.05
POOLED = {500: 20, 5000: 4}  # models an example: the prover, not the verifier, is what N makes dear
CUBES = (500, 5000, 50_000)


def summary(results: list[pyattr.Verdict]) -> dict[str, Any]:
    """Outcomes and cost of one column of sessions."""
    trained = [v.n_retrained for v in results]
    accepted = sum(bool(v) for v in results)
    return {
        "outcomes": {o.value: sum(v.outcome is o for v in results) for o in pyattr.Outcome},
        "accepted_95": provers.interval(accepted, len(results)),
        "trainings_median": float(np.median(trained)),
        "trainings_mean": float(np.mean(trained)),
        "trainings_max": max(trained),
        "leaves": sorted({v.details["n_leaves"] for v in results}),
        "looks_mean": float(np.mean([v.details["n_looks"] for v in results])),
        "gap_mean_over_targets": float(np.mean([v.gap for v in results])),
        "gap_worst_target": float(np.mean([v.gap for v in results], axis=0).max()),
        "upper_worst_median": float(np.median([v.gap_upper.max() for v in results])),
    }


def papers_method(retrain: Any, honest: Any) -> dict[str, Any]:
    """Trainings that the paper's method asks for at the same ε and δ.

    By variance: B̂_1 = (-3 ĥ(0) + 4 ĥ(ρ) - ĥ(2ρ)) / (2ρ) with products of variance (Var f)², so its standard
    error is √26 Var f / (2ρ√n); acceptance at ε/2 with both errors 5% needs 3.29 of them within ε/2.
    """
    verdict = pyattr.verify(retrain, honest, method="paper", seed=1)
    rho = math.sqrt(EPSILON)
    n_pairs = (math.sqrt(26.0) / (2.0 * rho) * 2.0 * 1.645 / (EPSILON / 2.0)) ** 2
    return {
        "trainings_planned_by_its_bounds": verdict.details["n_planned"],
        "trainings_by_its_variance_formula": round(6 * n_pairs),
        "outcome_with_96_trainings": verdict.outcome.value,
    }


def cost(model: str, n_train: int, targets: list[int], n_sessions: int, save: Any) -> None:
    """Verdicts of honest and halved scores over seeded sessions, for several numbers of targets."""
    most = max(targets)
    data = datasets.load("digits", n_train=n_train, n_test=most, seed=0)
    own = provers.prover(model, data, MODELS_PER_EXAMPLE)
    verdicts: dict[int, dict[str, list[pyattr.Verdict]]] = {t: {} for t in targets}
    for session in range(n_sessions):
        shared = Recorded(own.retrain)
        for n_targets in targets:
            honest = pyattr.Attribution(
                scores=own.honest.scores[:, :n_targets], intercept=own.honest.intercept[:n_targets]
            )
            options = {
                "budget": BUDGETS[model, 1 if n_targets == 1 else 32],
                "seed": 10_000 + session,
            }
            retrain = provers.Column(shared, n_targets)
            for name, scores in (("honest", honest), ("halved", HalvedScores()(honest))):
                verdict = pyattr.verify(retrain, scores, **options)
                verdicts[n_targets].setdefault(name, []).append(verdict)
    for n_targets, columns in verdicts.items():
        record: dict[str, Any] = {
            "prover_models": own.n_models,
            "models_per_s": own.models_per_s,
            "sessions": n_sessions,
            "budget": BUDGETS[model, 1 if n_targets == 1 else 32],
        } | {name: summary(results) for name, results in columns.items()}
        if n_targets == 1:
            single = pyattr.Attribution(
                scores=own.honest.scores[:, :1], intercept=own.honest.intercept[:1]
            )
            record["paper"] = papers_method(provers.Column(own.retrain, 1), single)
        save(f"{model}, n_train={n_train}, n_targets={n_targets}", record)


def size(n_sessions: int, save: Any) -> None:
    """Cost over the number of examples."""
    for n_train in CUBES:
        function = provers.CubeFunction(n_train)
        honest = function.honest(0.01)
        results = [pyattr.verify(function, honest, seed=s) for s in range(n_sessions)]
        save(f"cube function standing in, n_train={n_train}", {"honest": summary(results)})
    for n_train, models_per_example in POOLED.items():
        data = datasets.load("fashion-mnist", n_train=n_train, n_test=1, seed=0)
        own = provers.prover("softmax", data.pooled(4), models_per_example)
        columns: dict[str, list[pyattr.Verdict]] = {"honest": [], "halved": []}
        for session in range(n_sessions):
            shared = Recorded(own.retrain)
            for name, scores in (("honest", own.honest), ("halved", HalvedScores()(own.honest))):
                columns[name].append(pyattr.verify(shared, scores, seed=30_000 + session))
        record = {"prover_models": own.n_models, "models_per_s": own.models_per_s}
        save(
            f"fashion-mnist pooled to 7x7, softmax, n_train={n_train}",
            record | {name: summary(results) for name, results in columns.items()},
        )


def targets(save: Any, n_targets: int = 10_000, n_train: int = 1000, n_pairs: int = 500) -> None:
    """Ten thousand targets on 1,000 trainings: outcomes and the process's peak memory."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((n_train, n_targets), dtype=np.float32)
    own = truth + np.float32(0.1) * rng.standard_normal(truth.shape, dtype=np.float32)

    def retrain(masks: Any, seeds: np.ndarray) -> np.ndarray:
        return pyattr.Attribution(scores=truth).predict(masks)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    verdict = pyattr.verify(
        retrain,
        pyattr.Attribution(scores=own),
        seed=1,
        design=pyattr.ClusterDesign(n_pairs),
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    save(
        f"{n_targets} targets, {2 * n_pairs} trainings, n_train={n_train}",
        {
            "outcome": verdict.outcome.value,
            "accepted_targets": sum(o is pyattr.Outcome.ACCEPT for o in verdict.outcomes),
            "gap_upper_worst": float(verdict.gap_upper.max()),
            "peak_mb_before": before // 1024,
            "peak_mb": peak // 1024,
            "outputs_mb": 2 * n_pairs * n_targets * 4 // 2**20,
        },
    )


def recorded(save: Any, n_models: int = 100_000, n_targets: int = 100) -> None:
    """Scores against 100,000 recorded models: seconds and the process's peak memory."""
    for n_train in (1000, 5000):
        rng = np.random.default_rng(0)
        truth = (2.0 / math.sqrt(n_train)) * rng.standard_normal((n_train, n_targets))
        masks = pyattr.sample_masks(n_models, n_train, seed=1)
        outputs = pyattr.Attribution(scores=truth).predict(masks)
        outputs += np.float32(0.4) * rng.standard_normal(outputs.shape, dtype=np.float32)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        honest, halved = (
            pyattr.verify_recorded(
                masks, outputs, pyattr.Attribution(scores=factor * truth), held_out=True
            )
            for factor in (1.0, 0.5)
        )
        seconds = (time.perf_counter() - start) / 2.0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        save(
            f"recorded, {n_models} models, {n_targets} targets, n_train={n_train}",
            {
                "honest": honest.outcome.value,
                "halved": halved.outcome.value,
                "gap_upper_worst": float(honest.gap_upper.max()),
                "seconds_each": seconds,
                "peak_mb_before": before // 1024,
                "peak_mb": peak // 1024,
                "masks_mb": masks.packed.nbytes // 2**20,
                "outputs_mb": outputs.nbytes // 2**20,
            },
        )


def main() -> None:
    """Run all cells and write each down as it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = (
        "recorded",
        "targets",
        "detection",
        "size",
        "cost",
    )  # memory first: a peak is that of the process
    parser.add_argument("--parts", nargs="+", default=list(parts), choices=parts)
    parser.add_argument(
        "--models", nargs="+", default=["softmax", "mlp"], choices=["softmax", "mlp"]
    )
    parser.add_argument("--n-train", nargs="+", type=int, default=[500, 1000, 1500])
    parser.add_argument("--targets", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--detection-sessions", type=int, default=200)
    parser.add_argument("--name", default="verification")
    options = parser.parse_args()
    path = harness.RESULTS / f"{options.name}.json"
    results: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}

    def save(key: str, record: Any) -> None:
        results[key] = record
        print(key, record, flush=True)
        harness.write(options.name, results, n_threads=2)  # a long run keeps what it has

    if "recorded" in options.parts:
        recorded(save)
    if "targets" in options.parts:
        targets(save)
    if "detection" in options.parts:
        detection(options.detection_sessions, lambda key, record: save(f"detection, {key}", record))
    if "size" in options.parts:
        size(options.sessions, save)
    if "cost" in options.parts:
        for model in options.models:
            for n_train in options.n_train:
                cost(model, n_train, options.targets, options.sessions, save)


if __name__ == "__main__":
    main()
