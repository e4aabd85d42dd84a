"""How far honest outputs of two instruction sets lie apart, and how often a tolerance is exceeded.

    python bench/bench_platforms.py [--n-rows 4096]

Claim behind `pyattr.protocol.calibration`: differences have heavy tails, yet after 256 rows a fresh
row exceeds c times the largest of them with a probability of about ``1 / (257 c)`` or less; and they
do not lie on one side. Models on digits (300 examples, 32 targets) are trained with the machine's own
instructions and with none of its vector ones, in two processes; rows are then divided 400 times at
random into replayed and fresh ones. They are trained by torch's code, which is made for graphics cards:
the compiled trainers give the same bytes with all instruction sets. There are no times here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import set_threads, write

SETTINGS = {
    "own": {},
    "baseline": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
}
N_TRAIN, N_TARGETS = 300, 32
N_REPLAYED = (64, 128, 256, 512, 1024)
FACTORS = (1, 2, 4, 8)
N_DIVISIONS = 400


def train(model: str, n_rows: int, out: str) -> None:
    """Write one setting's replay: run in a process of its own."""
    import torch

    from pyattr.demo import DemoConfig, dataset_of
    from pyattr.protocol.calibration import replay
    from pyattr.retraining.image_models import image_ensemble
    from pyattr.retraining.mlp_cuda import CardMLPTrainer
    from pyattr.retraining.softmax_cuda import CardSoftmaxTrainer

    config = DemoConfig(model=model, n_train=N_TRAIN, n_test=N_TARGETS)
    ensemble: Any = image_ensemble(model, dataset_of(config))
    trainer = {"mlp": CardMLPTrainer, "softmax": CardSoftmaxTrainer}[model]
    ensemble._trainer = trainer(ensemble._recipe, ensemble._pool, torch.device("cpu"))
    replay(ensemble, N_TRAIN, N_TARGETS, p=0.5, clip=64.0, n_rows=n_rows).save(out)
    print(torch.backends.cpu.get_cpu_capability())


def compare(ours: Any, theirs: Any) -> dict[str, Any]:
    """Quantiles, rates above a tolerance beside 1 / (c (n + 1)), and the drift test."""
    import numpy as np

    from pyattr.protocol.drift import find_drift

    size = np.abs(theirs.outputs.astype(float) - ours.outputs).max(axis=1)
    rng = np.random.default_rng(0)
    exceeded = np.zeros((len(N_REPLAYED), len(FACTORS)))
    for _ in range(N_DIVISIONS):
        order = rng.permutation(size)
        for i, n in enumerate(N_REPLAYED):
            tolerances = np.array(FACTORS) * order[:n].max()
            exceeded[i] += (order[n:, None] > tolerances).mean(axis=0) / N_DIVISIONS
    drift = find_drift(theirs.outputs, ours.outputs)
    shares = (0.5, 0.9, 0.99, 0.999, 1.0)
    return {
        "n_rows": len(size),
        "quantiles": {str(q): float(np.quantile(size, q)) for q in shares},
        "smallest_sd_over_seeds": float(min(ours.seed_sd.min(), theirs.seed_sd.min())),
        "smallest_sd_over_masks": float(ours.outputs.std(axis=0).min()),
        "exceeded": [
            {"n": n, "factor": c, "rate": float(exceeded[i, j]), "stated": 1 / (c * (n + 1))}
            for i, n in enumerate(N_REPLAYED)
            for j, c in enumerate(FACTORS)
        ],
        "drift": {"p_value": drift.p_value, "found": drift.found, "test": drift.test},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-rows", type=int, default=4096)
    parser.add_argument("--train", nargs=2, metavar=("MODEL", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    set_threads(1)
    if options.train:
        train(options.train[0], options.n_rows, options.train[1])
        return
    from pyattr.protocol.calibration import Replay

    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for model in ("mlp", "softmax"):
            replays, instructions = [], {}
            for name, setting in SETTINGS.items():
                out = str(Path(folder) / f"{model}-{name}")
                command = [sys.executable, __file__, "--n-rows", str(options.n_rows)]
                done = subprocess.run(
                    [*command, "--train", model, out],
                    env=os.environ | setting,
                    check=True,
                    capture_output=True,
                    text=True,
                )
                instructions[name] = done.stdout.strip()
                replays.append(Replay.load(out))
            results[model] = {"instructions": instructions, **compare(*replays)}
    print(write("platforms", results, n_threads=1))


if __name__ == "__main__":
    main()
