"""Fits of many targets: time and error of pyattr and its peers on the same data.

All in one process and in turn. Times are all in: pyattr's with its share of the statistics for 64
targets; scikit-learn's and adelie's Gram matrix for 64 targets is computed once in float32 and its
64th part added. LASSO peers get the loosest tolerance whose duality gap, computed here in float64,
is at most 1e-4 of the target's variance. The measured figures are in results/regression.json.

Run: ``python bench/bench_regression.py [--threads N] [--rounds N] [PART ...]`` with parts paths,
selection, ridge; the default is all. Errors without times are in ``bench_estimators.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import harness
from scenarios import problem

N_TARGETS = 64
GAP = 1e-4
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
PARTS = ("paths", "selection", "ridge")


def gaps_of(gram: Any, cross: Any, square: float, weights: Any, lambdas: Any) -> float:
    """Largest duality gap along a path, in float64, over the target's variance."""
    import numpy as np

    gradient = cross[:, np.newaxis] - gram @ weights
    linear = cross @ weights
    residual = square - linear - (weights * gradient).sum(axis=0)
    largest = np.maximum(np.abs(gradient).max(axis=0), 1e-300)
    scale = np.minimum(1.0, lambdas / largest)
    primal = 0.5 * residual + lambdas * np.abs(weights).sum(axis=0)
    gaps = primal - scale * (square - linear) + 0.5 * scale**2 * residual
    return float(gaps.max() / square)


def loosest(fit: Callable[[float], Any], gap: Callable[[Any], float]) -> float:
    for tolerance in TOLERANCES:
        if gap(fit(tolerance)) <= GAP:
            return tolerance
    return TOLERANCES[-1]


def cpu_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def bench_path(n_masks: int, n_train: int, ratio: float, rounds: int, default: bool) -> Any:
    import numpy as np
    from sklearn.linear_model import lasso_path

    from pyattr import Masks
    from pyattr.attribution.moments import moments, output_scale
    from pyattr.attribution.statistics import SufficientStatistics
    from pyattr.solvers import lasso_paths

    bits, outputs, _, _ = problem(n_masks, n_train, N_TARGETS)
    masks = Masks.pack(bits)
    rows = np.asfortranarray(bits.astype(np.float32))
    rows -= rows.mean(axis=0)
    values = outputs - outputs.mean(axis=0)
    values /= values.std(axis=0)
    gram64 = rows.T.astype(float) @ rows / n_masks
    cross64 = rows.T.astype(float) @ values / n_masks
    steps = np.geomspace(1.0, ratio, 20)
    grid = np.abs(cross64).max(axis=0)[:, np.newaxis] * steps

    def pyattr_paths() -> Any:
        sums = SufficientStatistics.of(masks, values)
        fit = moments(sums, output_scale(sums, True), True)
        lambdas = np.abs(fit.cross).max(axis=1)[:, np.newaxis] * steps
        return lasso_paths(*fit[:3], lambdas, tolerance=GAP, whole=True)

    found = pyattr_paths()
    reached = max(
        gaps_of(gram64, cross64[:, t], 1.0, found.weights[t].T.astype(float), grid[t])
        for t in range(4)
    )
    gram32 = np.ascontiguousarray(gram64 * n_masks, np.float32)
    y32 = np.asfortranarray(values.astype(np.float32))
    cross32 = np.ascontiguousarray((cross64[:, 0] * n_masks).astype(np.float32))

    def sklearn_path(tolerance: float) -> Any:
        return lasso_path(
            rows, y32[:, 0], alphas=grid[0], precompute=gram32, Xy=cross32, tol=tolerance,
            check_input=False,
        )[1]  # fmt: skip

    def gap_of_first(weights: Any) -> float:
        return gaps_of(gram64, cross64[:, 0], 1.0, weights.astype(float), grid[0])

    peers: dict[str, Callable[[], object]] = {"pyattr": pyattr_paths}
    tolerance = loosest(sklearn_path, gap_of_first)
    peers["scikit-learn gram"] = lambda: sklearn_path(tolerance)
    gram_peers = ["scikit-learn gram"]
    result: dict[str, Any] = {
        "pyattr gap": reached,
        "scikit-learn tol": tolerance,
        "scikit-learn gap": gap_of_first(sklearn_path(tolerance)),
        "support at the end": float((found.weights[:, -1] != 0).sum(axis=1).mean()),
    }
    adelie = adelie_path(gram32 / n_masks, cross32 / n_masks, grid[0])
    if adelie is not None:
        tol = loosest(adelie, gap_of_first)
        result |= {"adelie tol": tol, "adelie gap": gap_of_first(adelie(tol))}
        peers["adelie gaussian_cov"] = lambda: adelie(tol)
        gram_peers.append("adelie gaussian_cov")
    if default:
        raw = bits.astype(float)
        peers["scikit-learn default"] = lambda: lasso_path(raw, values[:, 0], alphas=grid[0])
    peers["sgemm Gram"] = lambda: rows.T @ rows
    times = harness.measure(peers, rounds)
    shared = times["sgemm Gram"]["median_s"] / N_TARGETS
    own = times["pyattr"]["median_s"] / N_TARGETS
    result["ms a target"] = {"pyattr": 1e3 * own}
    for name in peers:
        if name not in ("pyattr", "sgemm Gram"):
            extra = shared if name in gram_peers else 0.0
            result["ms a target"][name] = 1e3 * (times[name]["median_s"] + extra)
    result["ratio"] = {name: ms / (1e3 * own) for name, ms in result["ms a target"].items()}
    return result | {"times": times}


def adelie_path(gram: Any, cross: Any, lambdas: Any) -> Callable[[float], Any] | None:
    try:
        import adelie
    except ImportError:
        return None
    import numpy as np

    matrix = adelie.matrix.dense(np.asfortranarray(gram), method="cov", n_threads=1)

    def fit(tolerance: float) -> Any:
        state = adelie.gaussian_cov(
            matrix, cross, lmda_path=lambdas.astype(gram.dtype), tol=tolerance, early_exit=False,
            progress_bar=False, n_threads=1,
        )  # fmt: skip
        weights = state.betas.toarray().T
        if weights.shape[1] < len(lambdas):  # it leaves out the start of the path, where all is 0
            weights = np.pad(weights, ((0, 0), (len(lambdas) - weights.shape[1], 0)))
        return weights

    return fit


def bench_paths(rounds: int) -> dict[str, Any]:
    return {
        f"{n_masks}x{n_train} to {ratio}": bench_path(
            n_masks, n_train, ratio, rounds, n_train == 1000 and n_masks == 8000
        )
        for n_masks, n_train in ((8000, 1000), (8000, 4000), (2000, 1000))
        for ratio in (0.1, 0.01)
    }


def bench_selection(rounds: int) -> dict[str, Any]:
    import numpy as np
    from sklearn.linear_model import LassoCV

    from pyattr import Masks
    from pyattr.attribution import fit_datamodel

    def select(n_masks: int) -> dict[str, Any]:
        bits, outputs, _, excess = problem(n_masks, 1000, N_TARGETS)
        masks, rows = Masks.pack(bits), np.asfortranarray(bits.astype(np.float32))
        peers = {
            "bayes": lambda: fit_datamodel(masks, outputs, "bayes"),
            "lasso": lambda: fit_datamodel(masks, outputs, "lasso"),
        }

        def peer(t: int) -> Any:
            return LassoCV(cv=5, alphas=30, precompute=True).fit(rows, outputs[:, t].astype("f4"))

        times = harness.measure(peers | {"LassoCV": lambda: peer(0)}, min(rounds, 3))
        errors = {name: excess(fit().scores)[:4].mean() for name, fit in peers.items()}
        errors["LassoCV"] = np.mean([excess(peer(t).coef_[:, np.newaxis])[t] for t in range(4)])
        ms = {n: 1e3 * times[n]["median_s"] / (1 if n == "LassoCV" else N_TARGETS) for n in times}
        return {
            "ms a target": ms,
            "LassoCV over bayes": ms["LassoCV"] / ms["bayes"],
            "LassoCV over lasso": ms["LassoCV"] / ms["lasso"],
            "excess error, 4 targets": {name: float(value) for name, value in errors.items()},
        }

    return {f"{n_masks}x1000": select(n_masks) for n_masks in (1000, 8000)}


def bench_ridge(rounds: int) -> dict[str, Any]:
    import numpy as np
    from sklearn.linear_model import RidgeCV

    from pyattr import Masks
    from pyattr.attribution import fit_datamodel

    bits, outputs, _, _ = problem(8000, 1000, N_TARGETS)
    masks, rows, lambdas = Masks.pack(bits), bits.astype(np.float32), np.geomspace(1, 1e5, 20)
    peers = {
        "pyattr": lambda: fit_datamodel(masks, outputs, "ridge", lambdas=lambdas),
        "RidgeCV": lambda: RidgeCV(lambdas, alpha_per_target=True).fit(rows, outputs.astype("f4")),
    }
    np.testing.assert_allclose(peers["pyattr"]().scores.T, peers["RidgeCV"]().coef_, atol=1e-3)
    return harness.measure(peers, min(rounds, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    arguments = parser.parse_args()
    harness.set_threads(arguments.threads)
    from pyattr import kernels

    kernels.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")  # peers that stop at their limit of iterations say so
    path = harness.RESULTS / "regression.json"
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    for part in arguments.parts or PARTS:
        results[part] = globals()[f"bench_{part}"](arguments.rounds)
        harness.write("regression", results, arguments.threads)
        print(part, json.dumps(results[part], indent=1), file=sys.stderr)


if __name__ == "__main__":
    main()
