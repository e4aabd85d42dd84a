"""Many models at once against one at a time, N = 1000, p = 1/2.

Claim: on 2 free cores and digits at least 15 times (softmax regression) and 20 times (network) the models/s
of the plain loop, at test accuracy within 1%. The network on Fashion-MNIST gains less: its 784 inputs make
1 GFLOP of matrix products a model, which the plain loop runs almost as fast.

Run: ``python bench/bench_retraining.py [--threads N] [--rounds N] [--parts ensembles framework writes
executors] [--data digits fashion-mnist] [--peers-python PATH]``. Results keep what other parts wrote; what
the parts but ``ensembles`` claim stands in ``bank_costs``, with the peers' environment. Peers
are timed in turn in one run, each training models on random halves and taking their margins at all test
examples; the plain loops run with one thread and with all of them, and the faster one counts. Softmax
regression against scikit-learn's ``LogisticRegression(C=1)``, the network against ``nn.Sequential`` and
``torch.optim.SGD`` with the same steps, batch size, rate, momentum and decay. Test accuracies are means
over the same masks.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from collections.abc import Callable
from typing import Any

import bank_costs
import harness

N_TRAIN, N_TEST = 1000, 797
N_ACCURACY = 64
PARTS = ["ensembles", "framework", "writes", "executors"]
# Models a timed call: of the ensemble, of the plain loop.
SIZES = {"digits": (256, 8), "fashion-mnist": (64, 4)}


def sklearn_loop(data: Any) -> Callable[[Any, Any], Any]:
    """Logits of softmax regressions trained one at a time."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    def train(bits: Any, seeds: Any) -> Any:
        logits = []
        for chosen in bits:
            model = LogisticRegression(C=1.0, max_iter=100)
            model.fit(data.train_images[chosen], data.train_labels[chosen])
            logits.append(model.decision_function(data.test_images))
        return np.array(logits, np.float32)

    return train


def torch_loop(data: Any, recipe: Any) -> Callable[[Any, Any], Any]:
    """Logits of networks trained one at a time."""
    import numpy as np
    import torch

    mean = data.train_images.mean(0)
    x, y = torch.from_numpy(data.train_images - mean), torch.from_numpy(data.train_labels)
    test = torch.from_numpy(data.test_images - mean)
    n_seen = recipe.n_steps * recipe.batch_size

    def one(chosen: Any, seed: int) -> Any:
        torch.manual_seed(seed)
        net = torch.nn.Sequential(
            torch.nn.Linear(x.shape[1], recipe.hidden),
            torch.nn.ReLU(),
            torch.nn.Linear(recipe.hidden, data.n_classes),
        )
        rate, n_steps = recipe.learning_rate, recipe.n_steps
        sgd = torch.optim.SGD(
            net.parameters(), rate, recipe.momentum, weight_decay=recipe.weight_decay
        )
        members = torch.from_numpy(np.flatnonzero(chosen))
        epochs = math.ceil(n_seen / len(members))
        order = torch.cat([members[torch.randperm(len(members))] for _ in range(epochs)])
        for step, batch in enumerate(order[:n_seen].view(n_steps, -1)):
            sgd.param_groups[0]["lr"] = rate * (1 - step / n_steps)
            loss = torch.nn.functional.cross_entropy(net(x[batch]), y[batch])
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        with torch.no_grad():
            return net(test).numpy()

    return lambda bits, seeds: np.stack(
        [one(*run) for run in zip(bits, seeds.tolist(), strict=True)]
    )


def on_threads(n_threads: int, call: Callable[[], object]) -> Callable[[], object]:
    """Limit the libraries' threads during a call."""
    import torch
    from threadpoolctl import threadpool_limits

    def limited() -> object:
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        try:
            with threadpool_limits(n_threads):
                return call()
        finally:
            torch.set_num_threads(before)

    return limited


def compare(
    data: Any, recipe: Any, plain: Callable[[Any, Any], Any], n_threads: int, rounds: int
) -> dict[str, Any]:
    """Time one recipe against its plain loop."""
    from pyattr.kernels import margins
    from pyattr.masks import sample_masks, sample_seeds
    from pyattr.retraining.ensemble import Ensemble

    test = data.test_images, data.test_labels
    ensemble = Ensemble(recipe, data.train_images, data.train_labels, *test, n_threads=n_threads)
    n_ensemble, n_plain = SIZES[data.name]
    masks, seeds = sample_masks(n_ensemble, N_TRAIN, seed=1), sample_seeds(n_ensemble, 1)
    bits = masks.unpack()[:n_plain]
    few = seeds[:n_plain]
    peers: dict[str, Callable[[], object]] = {}
    for threads in sorted({1, n_threads}, reverse=True):
        one = ensemble.with_threads(threads)
        peers[f"pyattr, threads: {threads}"] = lambda one=one: one(masks, seeds)
    for threads in sorted({1, n_threads}):
        loop = on_threads(threads, lambda: margins(plain(bits, few), data.test_labels))
        peers[f"plain loop, threads: {threads}"] = loop
    times = harness.measure(peers, rounds)
    sizes = {name: n_ensemble if name.startswith("pyattr") else n_plain for name in peers}
    rates = {name: sizes[name] / time["median_s"] for name, time in times.items()}
    own, *_ = rates.values()
    on_one = [rates[f"{name}, threads: 1"] for name in ("pyattr", "plain loop")]
    fastest_plain = max(rate for name, rate in rates.items() if name.startswith("plain"))
    masks, seeds = masks[:N_ACCURACY], seeds[:N_ACCURACY]
    ours = ensemble.accuracy(masks, seeds).mean()
    theirs = (plain(masks.unpack(), seeds).argmax(-1) == data.test_labels).mean()
    assert abs(ours - theirs) < 0.01, (ours, theirs)
    return {
        "recipe": ensemble.recipe_record()["recipe"],
        "models_per_s": rates,
        "speed_up": own / fastest_plain,
        "speed_up_on_one_thread": on_one[0] / on_one[1],
        "accuracy": {"pyattr": float(ours), "plain loop": float(theirs)},
        "times": times,
        "models_timed": sizes,
    }


def main() -> None:
    """Run the parts and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--data", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--peers-python", help="Python of an environment with the peers")
    parser.add_argument("--folder", help="where banks are written; else the temporary folder")
    arguments = parser.parse_args()
    harness.set_threads(arguments.threads)
    path = harness.RESULTS / "retraining.json"
    results: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}
    if "ensembles" in arguments.parts:
        results |= ensembles(arguments)
    results |= costs(arguments)
    print(harness.write("retraining", results, arguments.threads))


def costs(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure what training costs beside the training."""
    folder, rounds = arguments.folder or tempfile.gettempdir(), arguments.rounds
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "framework": lambda: bank_costs.framework(folder, rounds, arguments.peers_python),
        "writes": lambda: bank_costs.writes(folder, rounds),
        "executors": lambda: bank_costs.executors(folder, min(rounds, 5), arguments.threads),
    }
    results = {}
    for name in parts:
        if name not in arguments.parts:
            continue
        results[name] = parts[name]()
        print(name, json.dumps(results[name], indent=1))
    return results


def ensembles(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare many models at once with one at a time."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    from pyattr import datasets
    from pyattr.retraining.ensemble import MLPRecipe, SoftmaxRecipe

    warnings.simplefilter("ignore", ConvergenceWarning)  # 100 steps are scikit-learn's default
    results: dict[str, Any] = {}
    for name in arguments.data:
        data = datasets.load(name, N_TRAIN, N_TEST)
        pairs = {"softmax": SoftmaxRecipe(), "mlp": MLPRecipe()}
        for kind, recipe in pairs.items():
            plain = sklearn_loop(data) if kind == "softmax" else torch_loop(data, recipe)
            at = arguments.threads, arguments.rounds
            result = results[f"{kind} {name}"] = compare(data, recipe, plain, *at)
            rates = ", ".join(
                f"{key} {value:.0f}/s" for key, value in result["models_per_s"].items()
            )
            print(
                f"{kind} {name}: {result['speed_up']:.1f}x ({rates}; "
                f"on one thread {result['speed_up_on_one_thread']:.1f}x), {result['accuracy']}"
            )
    return results


if __name__ == "__main__":
    main()
