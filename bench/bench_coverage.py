"""How often limits of the gap hold, and verdicts are right, on functions whose gap is known.

Functions on the cube {0,1}^40 with known Fourier weights: linear, quadratic-heavy (as much weight at
degree 2 as at 1), cubic-heavy (a third as much at degree 3), sparse parity (four linear terms and one
product of five), majority of nine with a linear rest, and a rare event (five given examples in
together), on which near-normal bounds are expected to be short. Each noise-free and with seed noise of
a quarter of Var f. For every function, design and bound, 1,000 independent sessions: how often the 95%
upper limit of the relative gap is at least the gap (at ε/4 and at 1.5 ε, ε = 0.05); how often verdicts
are ACCEPT at 1.5 ε (at most δ = 0.05 is promised); how often at ε/4, at the given design, and at the one
that is planned. Rates come with exact 95% binomial intervals (Clopper-Pearson). No times are measured.

Repeats are columns: the clusters of all sessions are drawn as one design and dealt out, so that the
library judges 1,000 sessions like 1,000 targets.

Run: ``python bench/bench_coverage.py [--repeats 1000]``. Committed: results/coverage.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import harness
import numpy as np
from scipy import stats
from scipy.special import ndtri

import pyattr
from pyattr import Attribution, ClusterDesign, Masks, Outcome, StarDesign
from pyattr.kernels import random_words
from pyattr.verification.bounded import cluster_range
from pyattr.verification.bounds import BOUNDS, Levels
from pyattr.verification.choose import choose_design
from pyattr.verification.clusters import ClusterTerms
from pyattr.verification.conclusion import conclude
from pyattr.verification.criterion import Criterion
from pyattr.verification.judge import Evidence
from pyattr.verification.scores import LinearScores
from pyattr.verification.stars import StarTerms, star_range
from pyattr.verification.tails import EXCESS_LIMIT, SKEWNESS_LIMIT

N_TRAIN, EPSILON, DELTA = 40, 0.05, 0.05
GAPS = {"quarter of epsilon": EPSILON / 4, "1.5 epsilon": 1.5 * EPSILON}
NOISE_STREAM = 2000
BLOCK = 1 << 16
# Odd multipliers: the noise of two masks is independent also where they share a seed.
SPREAD = np.random.default_rng(1).integers(2**62, size=64, dtype=np.uint64) * 2 + 1


@dataclass(frozen=True)
class Function:
    """``f(x, s) = Σ_i c_i φ_i + rest(φ) + noise``; `rest` has no weight at degrees 0 and 1."""

    linear: np.ndarray
    rest: Callable[[np.ndarray], np.ndarray]
    rest_variance: float
    p: float
    noise: float
    clip: float

    @property
    def variance(self) -> float:
        return float(np.sum(self.linear**2) + self.rest_variance + self.noise**2)

    def outputs(self, masks: Masks, seeds: np.ndarray) -> np.ndarray:
        """Outputs of all rows, clipped (which the clip is chosen to do next to never)."""
        parts = []
        for first in range(0, len(masks), BLOCK):
            bits = masks[first : first + BLOCK].unpack()
            phi = ((bits - self.p) / np.sqrt(self.p * (1 - self.p))).astype(np.float32)
            out = phi @ self.linear.astype(np.float32) + self.rest(phi)
            if self.noise:
                packed = masks[first : first + BLOCK].packed.astype(np.uint64)
                keys = seeds[first : first + BLOCK] ^ (packed @ SPREAD[: packed.shape[1]])
                words = random_words(keys, NOISE_STREAM, 0, 1)[:, 0]
                out = out + self.noise * ndtri((words + 0.5) / 2**32)
            parts.append(np.clip(out, -self.clip, self.clip))
        return np.concatenate(parts).astype(np.float32)[:, np.newaxis]

    def attribution(self, gap: float, direction: str) -> Attribution:
        """Scores with the stated relative gap: a random change, or all scaled up."""
        change = np.random.default_rng(5).standard_normal(N_TRAIN)
        change = self.linear if direction == "scaled" else change
        change = change * np.sqrt(gap * self.variance / np.sum(change**2))
        scores = (self.linear + change) / np.sqrt(self.p * (1 - self.p))
        return Attribution(scores=scores[:, None], intercept=[-self.p * scores.sum()])


def _products(subsets: np.ndarray, weights: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda phi: sum(
        w * np.prod(phi[:, s], axis=1) for s, w in zip(subsets, weights, strict=True)
    )


def _many(degree: int, weight: float) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    rng = np.random.default_rng(degree)
    chosen = {tuple(sorted(rng.choice(N_TRAIN, degree, replace=False))) for _ in range(30)}
    raw = rng.standard_normal(len(chosen))
    weights = raw * np.sqrt(weight / np.sum(raw**2))
    return _products(np.array(sorted(chosen)), weights), weight


def _nonlinear(raw: Callable[[np.ndarray], np.ndarray], on: int, p: float) -> Any:
    """A function of the first `on` bits: its linear coefficients, what is left, and the variance of that."""
    bits = (np.arange(2**on)[:, None] >> np.arange(on)) & 1
    phi = (bits - p) / np.sqrt(p * (1 - p))
    chance = np.prod(np.where(bits == 1, p, 1 - p), axis=1)
    values = raw(bits)
    mean = chance @ values
    slope = (chance * values) @ phi
    left = values - mean - phi @ slope
    powers = 2 ** np.arange(on)
    table = left.astype(np.float32)
    return slope, lambda given: table[(given[:, :on] > 0) @ powers], float(chance @ left**2)


def function_named(name: str, p: float, noisy: bool) -> Function:
    """One of the functions, with or without seed noise."""
    rng = np.random.default_rng(0)
    linear = rng.standard_normal(N_TRAIN)
    linear /= np.linalg.norm(linear)
    rest: Callable[[np.ndarray], np.ndarray] = lambda phi: 0.0  # noqa: E731 - a constant
    weight = 0.0
    if name == "quadratic-heavy":
        rest, weight = _many(2, 1.0)
    elif name == "cubic-heavy":
        rest, weight = _many(3, 1.0 / 3.0)
    elif name == "sparse parity":
        linear = np.where(np.arange(N_TRAIN) < 4, 0.5, 0.0)
        rest, weight = _products(np.arange(4, 9)[None], np.array([0.2])), 0.04
    elif name == "majority-like":
        slope, rest, weight = _nonlinear(lambda b: 2.0 * (b.sum(axis=1) >= 5) - 1.0, 9, p)
        linear = 0.3 * linear
        linear[:9] += slope
    elif name == "rare event":
        slope, rest, weight = _nonlinear(lambda b: 2.5 * b.all(axis=1), 5, p)
        linear[:5] += slope
    total = np.sum(linear**2) + weight
    noise = np.sqrt(total / 3.0) if noisy else 0.0
    return Function(linear, rest, weight, p, noise, 6.0 * float(np.sqrt(total + noise**2)))


FUNCTIONS = (
    "linear",
    "quadratic-heavy",
    "cubic-heavy",
    "sparse parity",
    "majority-like",
    "rare event",
)
LOW = (3 / 7) ** 2  # the largest ρ of odd pairs at p = 0.3
Cell = tuple[ClusterDesign | StarDesign, tuple[str, ...]]
# One leaf is for models that ignore their seed.
NOISE_FREE: list[Cell] = [
    (ClusterDesign(24), ("chi2",)),
    (ClusterDesign(100), ("chi2", "moment")),
    (ClusterDesign(400), ("t",)),
]
ALWAYS: list[Cell] = [
    (ClusterDesign(32, 4), ("chi2",)),
    (ClusterDesign(256, 4), ("t",)),
    (ClusterDesign(128, 4, p=0.3, rho=LOW), ("chi2",)),
    (StarDesign(128, 8, 0.3, 0.05), ("t",)),
    (StarDesign(256, 8, 0.9, 0.1), ("t",)),
]
# The range of clipped outputs is wide against a gap: fewer clusters would have no upper limit at all.
CLIPPED: list[Cell] = [(ClusterDesign(3000), ("betting", "bernstein", "hoeffding"))]
CLIPPED_FUNCTIONS = ("linear", "rare event")


def rate(count: int, n: int) -> dict[str, Any]:
    """A share with its exact 95% interval."""
    found = stats.binomtest(count, n).proportion_ci(0.95, "exact")
    return {"rate": count / n, "interval": [round(found.low, 4), round(found.high, 4)]}


def dealt(values: np.ndarray, repeats: int) -> np.ndarray:
    """Rows of all sessions, (repeats · rows, 1), as one column a session, (rows, repeats)."""
    return np.ascontiguousarray(values.reshape(repeats, -1).T)


def evidence_of(
    design: ClusterDesign | StarDesign,
    bound: str,
    function: Function,
    outputs: np.ndarray,
    masks: Masks,
    attribution: Attribution,
    repeats: int,
) -> Evidence:
    """The evidence of all sessions, one a column."""
    one = LinearScores.of(attribution)
    linear = dealt(one.linear(masks), repeats)
    scores = LinearScores(np.tile(one.scores, repeats), np.tile(one.intercept, repeats))
    criterion = Criterion(
        EPSILON, DELTA, design.p, bound, clip=function.clip, nonlinearity=0.02, kappa=4.0
    )
    stars = isinstance(design, StarDesign)
    terms = (StarTerms if stars else ClusterTerms).of(design, outputs, scores, linear)
    bounded = None
    if BOUNDS[bound].needs_clip:
        measure = star_range if stars else cluster_range
        bounded = measure(design, outputs, linear, scores, function.clip)
    return Evidence(
        criterion, bound, terms, bounded, scores.variance(design.p), Levels(DELTA, DELTA)
    )


def condition(evidence: Evidence, repeats: int) -> dict[str, Any]:
    """Whether what the bound rests on holds, from all sessions pooled."""
    terms, bound = evidence.terms, evidence.bound
    if BOUNDS[bound].needs_clip:
        return {"condition_holds": True}
    if bound == "t":
        pooled = terms.products.ravel()
        skewness = float(stats.skew(pooled)) / np.sqrt(terms.products.shape[0])
        return {
            "condition_holds": bool(skewness <= SKEWNESS_LIMIT),
            "skewness_over_root_C": float(skewness),
        }
    squares = terms.effect_squares.ravel()
    excess = float(np.mean(squares**2) / np.mean(squares) ** 2) - 3.0
    most = evidence.criterion.kappa - 3.0 if bound == "moment" else EXCESS_LIMIT
    return {"condition_holds": bool(excess <= most), "excess_kurtosis": excess}


def run_cell(
    design: ClusterDesign | StarDesign, bounds: tuple[str, ...], function: Function, repeats: int
) -> dict[str, Any]:
    """Rates of one function on one design, for every bound."""
    all_clusters = replace(design, n_clusters=design.n_clusters * repeats)
    masks, seeds = all_clusters.draw(12_345, N_TRAIN)
    outputs = dealt(function.outputs(masks, seeds), repeats)
    found: dict[str, Any] = {}
    for bound in bounds:
        for label, gap in GAPS.items():
            for direction in ("random", "scaled"):
                attribution = function.attribution(gap, direction)
                evidence = evidence_of(
                    design, bound, function, outputs, masks, attribution, repeats
                )
                verdict = conclude(evidence.criterion, evidence.findings(outputs))
                outcomes = verdict.outcomes
                found[f"{bound}, gap {label}, {direction}"] = condition(evidence, repeats) | {
                    "upper_holds": rate(int(np.sum(verdict.gap_upper >= gap)), repeats),
                    "accepts": rate(sum(o is Outcome.ACCEPT for o in outcomes), repeats),
                    "aborts": rate(sum(o is Outcome.ABORT for o in outcomes), repeats),
                    "median_upper": float(np.median(verdict.gap_upper)),
                }
    return found


def run_recorded(function: Function, repeats: int, n_rows: int = 1_000) -> dict[str, Any]:
    """The U-statistic on i.i.d. rows: every session has masks of its own."""
    names = [(label, gap, d) for label, gap in GAPS.items() for d in ("random", "scaled")]
    made = [function.attribution(gap, direction) for _, gap, direction in names]
    together = Attribution(
        scores=np.hstack([a.scores for a in made]),
        intercept=np.concatenate([a.intercept for a in made]),
    )
    verdicts = []
    for session in range(repeats):
        masks = pyattr.sample_masks(n_rows, N_TRAIN, function.p, seed=session)
        outputs = function.outputs(masks, pyattr.sample_seeds(n_rows, session + 10**6))
        repeated = np.repeat(outputs, len(made), axis=1)
        verdicts.append(
            pyattr.verify_recorded(masks, repeated, together, held_out=True, p=function.p)
        )
    return {
        f"normal, gap {label}, {direction}": {
            "condition_holds": True,
            "upper_holds": rate(sum(bool(v.gap_upper[k] >= gap) for v in verdicts), repeats),
            "accepts": rate(sum(v.outcomes[k] is Outcome.ACCEPT for v in verdicts), repeats),
            "aborts": rate(sum(v.outcomes[k] is Outcome.ABORT for v in verdicts), repeats),
            "median_upper": float(np.median([v.gap_upper[k] for v in verdicts])),
        }
        for k, (label, gap, direction) in enumerate(names)
    }


def run_planned(function: Function, bound: str, repeats: int) -> dict[str, Any]:
    """Honest accepts at ε/4 with the design that is planned for the function's own seed noise."""
    attribution = function.attribution(EPSILON / 4, "random")
    scores = LinearScores.of(attribution)
    left = function.rest_variance + function.noise**2 + EPSILON / 4 * function.variance
    scatter = function.noise**2 if function.p == 0.5 else left
    criterion = Criterion(EPSILON, DELTA, function.p, bound, clip=function.clip)
    noise = scatter / function.variance / 2.0
    design = choose_design(noise, EPSILON, DELTA, criterion, None, scores)
    cell = run_cell(design, (criterion.bound_for(design),), function, repeats)
    key = next(k for k in cell if "quarter" in k and "random" in k)
    near = next(k for k in cell if "1.5" in k and "random" in k)
    return {
        "design": str(design),
        "trainings": design.n_evaluations,
        "accepts at a quarter of epsilon": cell[key]["accepts"],
        "accepts at 1.5 epsilon": cell[near]["accepts"],
    }


def shortfalls(results: dict[str, Any]) -> list[str]:
    """Cells that are surely below what is promised: the interval's end is on the wrong side."""
    found = []
    for cell, rates in results["cells"].items():
        for name, values in rates.items():
            bound = name.split(",")[0]
            promised = 0.95 if BOUNDS[bound].finite_sample else 0.93
            if values["condition_holds"] and values["upper_holds"]["interval"][1] < promised:
                found.append(
                    f"{cell}; {name}: upper limit holds in {values['upper_holds']['rate']}"
                )
            if "1.5" in name and values["accepts"]["interval"][0] > DELTA:
                found.append(f"{cell}; {name}: accepts {values['accepts']['rate']}")
    return found


def main() -> None:
    """Run everything and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1_000)
    parser.add_argument("--name", default="coverage")
    options = parser.parse_args()
    results: dict[str, Any] = {"repeats": options.repeats, "cells": {}, "planned": {}}
    for name in FUNCTIONS:
        for noisy in (False, True):
            label = f"{name}, {'seed noise' if noisy else 'noise-free'}"
            cells = ALWAYS if noisy else NOISE_FREE + ALWAYS
            if not noisy and name in CLIPPED_FUNCTIONS:
                cells = cells + CLIPPED
            for design, bounds in cells:
                function = function_named(name, design.p, noisy)
                key = f"{label}; {design}"
                results["cells"][key] = run_cell(design, bounds, function, options.repeats)
                print(key, json.dumps(results["cells"][key])[:300], flush=True)
            function = function_named(name, 0.5, noisy)
            key = f"{label}; recorded, 1000 rows"
            results["cells"][key] = run_recorded(function, options.repeats)
            print(key, json.dumps(results["cells"][key])[:300], flush=True)
        harness.write(options.name, results, n_threads=1)  # a long run keeps what it has
    for name in ("linear", "quadratic-heavy"):
        for noisy in (False, True):
            for p, bound in ((0.5, "chi2"), (0.5, "moment"), (0.3, "chi2")):
                if noisy and bound == "moment":
                    continue  # one leaf, to which half the seed variance looks like a gap
                function = function_named(name, p, noisy)
                key = f"{name}, {'seed noise' if noisy else 'noise-free'}, p = {p}, {bound}"
                results["planned"][key] = run_planned(function, bound, min(options.repeats, 500))
                print(key, results["planned"][key], flush=True)
    results["shortfalls"] = shortfalls(results)
    print("\n".join(results["shortfalls"]) or "no shortfalls")
    harness.write(options.name, results, n_threads=1)


if __name__ == "__main__":
    main()
