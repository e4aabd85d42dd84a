"""How many answers a verifier trains again, and whether a prover that corrupts the worst of them is caught.

Three parts, at ε = 0.05 Var f and δ = 0.05, of which 0.01 for spot checks; no times are taken.

- ``checks``: digits softmax regression, a ridge prover with 20 models per training example; checks of honest
  challenges of several sizes, uniform and weighted, and with the rule that credits every corrupted answer
  with its cluster's worst value in [-b, b] (``clusters.ClusterTerms.worst_case``).
- ``corruption``: scores with 1.5 ε Var g added to their gap. The prover knows challenge, rule and true
  outputs, everything but the choice of checks: for every challenge it takes the number w of worst outputs
  to change that gives it the best chance. Whole sessions; the rate of acceptance with exact 95%
  (Clopper-Pearson) limits, and the mean exact chance.
- ``rates``: a set that only just hides a gap, so that the promise is tight: how often checks miss it.

Run: ``python bench/bench_spot_checks.py [--n-train 1000] [--sessions 200]``.
Committed: results/spot_checks.json.
"""

from __future__ import annotations

import argparse
from typing import Any

import harness
import numpy as np
from scipy import stats

import pyattr
from pyattr import datasets
from pyattr.protocol import Prover, Verifier, run
from pyattr.protocol.checks import SecretChecks
from pyattr.protocol.gap_session import most_covered
from pyattr.protocol.randomness import secret_of
from pyattr.retraining.ensemble import Ensemble, SoftmaxRecipe
from pyattr.verification.challenge import Honest, plan_checks
from pyattr.verification.cheats import CorruptsWorst, NoisyScores
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.corruption import Cover, PairSquares
from pyattr.verification.judge import Criterion, judge_gap
from pyattr.verification.scores import LinearScores
from pyattr.verification.spot_check import (
    check_probabilities,
    choose_rows,
    choose_weighted,
    miss_probability,
    n_checks,
)

EPSILON, DELTA, MISS = 0.05, 0.05, 0.01
ALPHA = DELTA - MISS
MODELS_PER_EXAMPLE = 20
BLOCK = 2048
PAIRS = (23, 64, 128, 256, 500)


class Bank:
    """Answers the last requests again without training."""

    def __init__(self, retrain: Any) -> None:
        self.retrain, self.key, self.answer = retrain, None, np.empty(0)

    def __call__(self, masks: pyattr.Masks, seeds: np.ndarray) -> np.ndarray:
        key = (masks.packed.tobytes(), seeds.tobytes())
        if key == self.key:
            return self.answer.copy()
        answer = self.retrain(masks, seeds)
        if len(masks) >= 128:  # a challenge, not its checks
            self.key, self.answer = key, answer.copy()
        return answer


def prover(retrain: Ensemble) -> pyattr.Attribution:
    """The ridge datamodel of 20 models per example."""
    n_models = MODELS_PER_EXAMPLE * retrain.n_train
    masks = pyattr.sample_masks(n_models, retrain.n_train, seed=1)
    seeds = pyattr.sample_seeds(n_models, 2)
    parts = [retrain(masks[a : a + BLOCK], seeds[a : a + BLOCK]) for a in range(0, n_models, BLOCK)]
    return pyattr.fit_datamodel(masks, np.concatenate(parts), method="ridge")


def covers(
    design: ClusterDesign, masks: pyattr.Masks, outputs: np.ndarray, scores: LinearScores
) -> Cover | None:
    """What an acceptance of these outputs survives; None where they are not accepted, or nothing is."""
    criterion = Criterion(EPSILON, DELTA)
    plan = plan_checks(design, criterion, ALPHA, MISS, Honest.of(EPSILON, scores.n_targets))
    if plan.truncation is None or not judge_gap(
        criterion, design, masks, outputs, scores, delta=ALPHA
    ):
        return None
    linear = scores.linear(masks)
    squares = PairSquares.of(criterion, design, outputs, scores, linear)
    cover = Cover(squares, plan.truncation, EPSILON)
    return cover if cover.n_hiding else None


def old_checks(
    design: ClusterDesign, masks: pyattr.Masks, outputs: np.ndarray, scores: LinearScores
) -> int:
    """Checks by the worst value in [-b, b], b 1.25 times the largest output."""
    clip = 1.25 * float(np.abs(outputs).max())
    criterion = Criterion(EPSILON, DELTA, clip=clip)

    def accepts(w: int) -> bool:
        return bool(
            judge_gap(criterion, design, masks, outputs, scores, delta=ALPHA, n_corrupted=w)
        )

    if not accepts(0):
        return 0
    return n_checks(len(outputs), most_covered(accepts, len(outputs)) + 1, MISS)


def count_checks(
    retrain: Ensemble, honest: pyattr.Attribution, n_targets: int, n_challenges: int
) -> dict[str, Any]:
    """Checks of honest challenges, by size of challenge."""
    scores = LinearScores(honest.scores[:, :n_targets], honest.intercept[:n_targets])
    results = {}
    for n_pairs in PAIRS:
        design = ClusterDesign(n_pairs)
        uniform, weighted, old, gaps = [], [], [], []
        for challenge in range(n_challenges):
            masks, seeds = design.draw(1000 + challenge, retrain.n_train)
            outputs = retrain(masks, seeds)[:, :n_targets]
            old.append(old_checks(design, masks, outputs, scores))
            verdict = judge_gap(Criterion(EPSILON, DELTA), design, masks, outputs, scores)
            gaps.append(float(verdict.gap.max()))
            cover = covers(design, masks, outputs, scores)
            if cover is None:
                continue
            hiding = min(cover.n_hiding, design.n_evaluations)
            uniform.append(n_checks(design.n_evaluations, hiding, MISS))
            weighted.append(2.0 * check_probabilities(cover.shares, MISS).sum())
        row = {
            "challenges": n_challenges,
            "covered": len(uniform),
            "worst_gap": float(np.mean(gaps)),
        }
        for name, values in (("uniform", uniform), ("weighted", weighted)):
            row[name] = [float(q) for q in np.quantile(values, [0.5, 0.9])] if values else None
        row["worst_value_in_range"] = float(np.median(old))
        results[f"{2 * n_pairs} answers"] = row
        print(n_targets, 2 * n_pairs, row, flush=True)
    return results


def best_lie(
    design: ClusterDesign,
    masks: pyattr.Masks,
    seeds: np.ndarray,
    truth: Bank,
    published: LinearScores,
) -> tuple[int, float]:
    """Number of outputs to change for the best chance of acceptance, and that chance (uniform checks)."""
    best = (1, 0.0)
    for w in range(1, design.n_clusters, max(1, design.n_clusters // 40)):
        outputs = CorruptsWorst(truth, published, w, EPSILON)(masks, seeds)
        cover = covers(design, masks, outputs, published)
        if cover is not None:
            k = n_checks(len(outputs), min(cover.n_hiding, len(outputs)), MISS)
            best = max(best, (w, miss_probability(len(outputs), w, k)), key=lambda pair: pair[1])
    return best


class Schemer:
    """Answers a challenge with the lie that has the best chance, all but the choice of checks known."""

    def __init__(self, truth: Bank, published: LinearScores, design: ClusterDesign) -> None:
        self.truth, self.published, self.design = truth, published, design
        self.n_train, self.n_targets = truth.retrain.n_train, truth.retrain.n_targets
        self.n_changed, self.chance = 0, 0.0

    def __call__(self, masks: pyattr.Masks, seeds: np.ndarray) -> np.ndarray:
        lie = best_lie(self.design, masks, seeds, self.truth, self.published)
        self.n_changed, self.chance = lie
        return CorruptsWorst(self.truth, self.published, self.n_changed, EPSILON)(masks, seeds)


class NoChecks(SecretChecks):
    """Shows what the verdict would have been."""

    def uniform(self, n_outputs: int, n_checked: int) -> np.ndarray:
        return np.empty(0, dtype=np.int64)


class Careless(Verifier):
    """Checks nothing."""

    def __init__(self, *arguments: Any, **terms: Any) -> None:
        super().__init__(*arguments, **terms)
        self._steps._checks = lambda: NoChecks(bytes(32), "00" * 32)


def rate(count: int, n: int) -> dict[str, Any]:
    """A rate with exact 95% limits."""
    low, high = stats.binomtest(count, n).proportion_ci(0.95, "exact")
    return {"count": count, "of": n, "rate": count / n, "low": float(low), "high": float(high)}


def corrupt(
    retrain: Ensemble, honest: LinearScores, n_pairs: int, n_sessions: int
) -> dict[str, Any]:
    """Sessions with a prover that changes the outputs that betray it most."""
    design, truth = ClusterDesign(n_pairs), Bank(retrain)
    published = NoisyScores(1.5 * EPSILON)(honest)
    outcomes: dict[str, list[str]] = {"uniform": [], "weighted": [], "unchecked": []}
    chances, changed, checked = [], [], []
    for session in range(n_sessions):
        for name, found in outcomes.items():
            schemer = Schemer(truth, published, design)
            kind = Careless if name == "unchecked" else Verifier
            verifier = kind(
                retrain,
                design=design,
                clip=1000.0,
                secret=secret_of(5000 + session),
                epsilon=EPSILON,
                sampling="weighted" if name == "weighted" else "uniform",
            )
            verdict = run(Prover(schemer, published, secret=secret_of(session)), verifier)
            found.append(verdict.outcome.value)
            if name == "uniform":
                chances.append(schemer.chance)
                changed.append(schemer.n_changed)
            if name == "uniform" and "n_checked" in verdict.details:
                checked.append(verdict.details["n_checked"])
    result: dict[str, Any] = {
        f"accepted, {name}": rate(found.count("ACCEPT"), n_sessions)
        for name, found in outcomes.items()
    }
    result["mean exact chance"] = float(np.mean(chances))
    result["sessions with a chance above δ_s"] = rate(
        int(np.sum(np.array(chances) > MISS)), n_sessions
    )
    result["outputs changed, median"] = float(np.median(changed))
    result["checks, median"] = float(np.median(checked)) if checked else None
    result["gap added, Var g"] = 1.5 * EPSILON
    print(n_pairs, result, flush=True)
    return result


def miss_rates(n_draws: int) -> dict[str, Any]:
    """Misses of sets whose influences just reach the slack."""
    rng = np.random.default_rng(7)
    n = 512
    influence = np.maximum(2.0 - 0.4 * rng.chisquare(1, n), 0.0)
    slack = 25.0
    results = {}
    order = {"largest influences": np.argsort(-influence), "random": rng.permutation(n)}
    order["smallest above 0"] = np.argsort(np.where(influence > 0.0, influence, np.inf))
    for name, rows in order.items():
        members = rows[: int(np.searchsorted(np.cumsum(influence[rows]), slack)) + 1]
        hiding = int(np.searchsorted(np.cumsum(-np.sort(-influence)), slack)) + 1
        k = n_checks(n, hiding, MISS)
        chances = check_probabilities(influence / slack, MISS)
        missed = {"uniform": 0, "weighted": 0}
        for _ in range(n_draws):
            uniforms = rng.integers(0, 2**64, n, dtype=np.uint64)
            missed["uniform"] += not np.isin(choose_rows(uniforms, k), members).any()
            missed["weighted"] += not np.isin(choose_weighted(uniforms, chances), members).any()
        results[name] = {
            "members": len(members),
            "checks": {"uniform": k, "weighted, mean": float(chances.sum())},
            **{kind: rate(count, n_draws) for kind, count in missed.items()},
            "promised": MISS,
        }
        print(name, results[name], flush=True)
    return results


def main() -> None:
    """Run all parts and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-train", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--challenges", type=int, default=20)
    parser.add_argument("--draws", type=int, default=20_000)
    options = parser.parse_args()
    results: dict[str, Any] = {"rates": miss_rates(options.draws)}
    data = datasets.load("digits", n_train=options.n_train, n_test=32, seed=0)
    images = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    retrain = Ensemble(SoftmaxRecipe(), *images)
    honest = prover(retrain)
    results["checks"] = {
        f"n_targets={n}": count_checks(retrain, honest, n, options.challenges) for n in (1, 32)
    }
    one = LinearScores(honest.scores[:, :1], honest.intercept[:1])
    single = Ensemble(
        SoftmaxRecipe(),
        data.train_images,
        data.train_labels,
        data.test_images[:1],
        data.test_labels[:1],
    )
    results["corruption"] = {
        f"{2 * n} answers": corrupt(single, one, n, options.sessions) for n in (64, 128)
    }
    harness.write("spot_checks", results, n_threads=2)


if __name__ == "__main__":
    main()
