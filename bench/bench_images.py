"""Images: the feed of a training against torch's DataLoader, ResNet-9 against a plain loop, on processors.

Claim: with the same augmentation FFCV with pyattr's operation feeds at least 4 times as many images a
second as a DataLoader, and the twin in memory no fewer; all give the same bytes (checked).

Aim: ResNet-9 on half-subsets of 1,000 Fashion-MNIST images trains at least 1.3 times as many models a second
as the plain loop, at test accuracy within 2% (checked). The gain is one model a thread against one model on
all threads, no graph of gradients, and normalisation and rectifier in few passes over memory. It is larger at
an eighth of the width than at a quarter, where torch's convolutions, the same on both sides and close to the
processor's peak, take six sevenths of a step and use two threads well.

Run: ``python bench/bench_images.py [--threads N] [--rounds N] [--parts feed resnet9]``. Peers are timed in
turn in one run; models an hour on a graphics card are not measured here. The DataLoader works in this
process and with one worker for each thread; the plain loop runs with one thread and with all, its tensors
channels first (torch's default) and last; the fastest counts. The peers get their random numbers for
nothing: drawn before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness

N_IMAGES, BATCH = 20_000, 500  # of the feed; 32 x 32 in colour
N_TRAIN, N_TEST, N_MODELS, N_PLAIN, N_ACCURACY = 1000, 1000, 4, 2, 16


def bench_feed(n_threads: int, rounds: int) -> dict[str, Any]:
    """One pass over shuffled images, augmented."""
    import numpy as np
    from plain_images import AugmentedImages, batches

    from pyattr.augmentation import Augmentation
    from pyattr.retraining.ffcv_loader import BetonImages, write_beton
    from pyattr.retraining.images import ImagesInMemory, Schedule

    images = np.random.default_rng(0).integers(0, 256, (N_IMAGES, 32, 32, 3), np.uint8)
    labels, fill = np.arange(N_IMAGES) % 10, np.array([125, 123, 114], np.uint8)
    augmentation = Augmentation(flip=True, translate=2, cutout=4)
    everything = np.ones(N_IMAGES, bool)
    schedule = Schedule.of(everything, 1, N_IMAGES // BATCH, BATCH, augmentation)
    draws = np.concatenate([schedule.draws(step, 32, 32) for step in range(len(schedule.rows))])
    plain = AugmentedImages(images, labels, schedule.rows.reshape(-1), draws, 4, fill)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "images.beton")
        write_beton(path, images, labels)
        sources = {"ffcv": BetonImages(path), "in memory": ImagesInMemory(images)}

        def ours(source: Any) -> Callable[[], list[int]]:
            return lambda: [int(batch[-1, -1, -1, 0]) for batch in source.batches(schedule, fill)]

        def theirs(n_workers: int) -> Callable[[], list[int]]:
            return lambda: [int(x[-1, -1, -1, 0]) for x, _ in batches(plain, BATCH, n_workers)]

        for source in sources.values():
            for batch, (x, _) in zip(
                source.batches(schedule, fill), batches(plain, BATCH, 0), strict=True
            ):
                assert batch.tobytes() == x.numpy().tobytes()
        peers: dict[str, Callable[[], object]] = {
            name: ours(source) for name, source in sources.items()
        }
        for n_workers in (0, n_threads):
            peers[f"DataLoader, workers: {n_workers}"] = theirs(n_workers)
        times = harness.measure(peers, rounds)
    rates = {name: N_IMAGES / time["median_s"] for name, time in times.items()}
    fastest = max(rate for name, rate in rates.items() if name.startswith("DataLoader"))
    ratio = {name: rates[name] / fastest for name in sources}
    return {"images_per_s": rates, "speed_up": ratio, "times": times, "batch_size": BATCH}


def bench_resnet9(n_threads: int, rounds: int) -> dict[str, Any]:
    """ResNet-9 of two widths on random halves."""
    return {
        f"width {multiplier}": compare_resnet9(multiplier, n_threads, rounds)
        for multiplier in (0.125, 0.25)
    }


def compare_resnet9(multiplier: float, n_threads: int, rounds: int) -> dict[str, Any]:
    """Models a second and accuracy of one width."""
    import numpy as np
    import torch
    from bench_retraining import on_threads
    from plain_images import AugmentedImages, network, train_one

    from pyattr import datasets
    from pyattr.masks import sample_masks, sample_seeds
    from pyattr.retraining.ensemble import Ensemble, ResNet9Recipe

    data = datasets.load("fashion-mnist", N_TRAIN, N_TEST)
    recipe = ResNet9Recipe(
        epochs=8.0, batch_size=50, learning_rate=0.5, translate=1, cutout=0,
        width_multiplier=multiplier, channels=1, height=28, width=28,
    )  # fmt: skip
    test = data.test_images, data.test_labels
    ensemble = Ensemble(recipe, data.train_images, data.train_labels, *test, n_threads=n_threads)
    pool, trainer = ensemble._pool, ensemble._trainer
    images, n_steps = pool.source.images, recipe.n_steps(N_TRAIN)
    mean, deviation = float(pool.mean[0]), float(pool.deviation[0])

    def normalise(pixels: Any) -> Any:
        return ((pixels.float() / 255.0 - mean) / deviation).permute(0, 3, 1, 2)

    x_test = (torch.from_numpy(data.test_images).view(-1, 1, 28, 28) - mean) / deviation

    def plain(bits: Any, seeds: Any, channels_last: bool) -> Any:
        logits = []
        for chosen, (rows, draws), seed in zip(bits, items, seeds.tolist(), strict=False):
            del chosen
            torch.manual_seed(seed)
            shown = AugmentedImages(images, data.train_labels, rows, draws, 0, pool.fill)
            net = network(1, round(64 * multiplier), data.n_classes)
            net = train_one(net, shown, recipe, normalise, channels_last)
            with torch.no_grad():
                logits.append(torch.cat([net(part) for part in x_test.split(250)]).numpy())
        return np.stack(logits)

    n = max(N_MODELS, N_ACCURACY)
    masks, seeds = sample_masks(n, N_TRAIN, seed=1), sample_seeds(n, 1)
    bits, items = masks.unpack(), []
    for chosen, seed in zip(bits, seeds.tolist(), strict=True):
        schedule = trainer.schedule(chosen, seed)
        draws = np.concatenate([schedule.draws(step, 28, 28) for step in range(n_steps)])
        items.append((schedule.rows.reshape(-1), draws))
    few = masks[:N_MODELS], seeds[:N_MODELS]
    peers: dict[str, Callable[[], object]] = {"pyattr": lambda: ensemble(*few)}
    for threads in sorted({1, n_threads}):
        for layout in ("first", "last"):
            at = bits[:N_PLAIN], seeds[:N_PLAIN], layout == "last"
            peers[f"plain loop, channels {layout}, threads: {threads}"] = on_threads(
                threads, lambda at=at: plain(*at)
            )
    times = harness.measure(peers, rounds)
    sizes = {name: N_MODELS if name == "pyattr" else N_PLAIN for name in peers}
    rates = {name: sizes[name] / time["median_s"] for name, time in times.items()}
    by_default = {name: rate for name, rate in rates.items() if "first" in name}
    few = masks[:N_ACCURACY], seeds[:N_ACCURACY]
    accuracy = {
        "pyattr": float(ensemble.accuracy(*few).mean()),
        "plain loop": float(
            (plain(bits[:N_ACCURACY], few[1], True).argmax(-1) == data.test_labels).mean()
        ),
    }
    assert abs(accuracy["pyattr"] - accuracy["plain loop"]) < 0.02, accuracy
    return {
        "recipe": ensemble.recipe_record()["recipe"],
        "models_per_s": rates,
        "speed_up": rates["pyattr"] / max(by_default.values()),
        "speed_up_over_channels_last": rates["pyattr"] / max(list(rates.values())[1:]),
        "accuracy": accuracy,
        "times": times,
        "models_timed": sizes,
    }


PARTS = {"feed": bench_feed, "resnet9": bench_resnet9}


def main() -> None:
    """Run the parts and write the results; other parts keep what was written before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    arguments = parser.parse_args()
    harness.set_threads(arguments.threads)
    path = harness.RESULTS / "images.json"
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    for part in arguments.parts:
        results[part] = PARTS[part](arguments.threads, arguments.rounds)
        print(part, json.dumps(results[part], indent=1))
        harness.write("images", results, arguments.threads)


if __name__ == "__main__":
    main()
