"""What a session costs beside training: CPU time of each side, and bytes.

10,000 outputs of 100 targets; every training is answered from memory. Steps of a side are timed with
`time.process_time`, one thread, with sealing and unsealing as a transport does it. Of each side's ``cpu_s``:

- ``answers_s``: looking trainings up, in place of training; not in ``cpu_s``;
- ``masks_s``: deriving subsets from the seed;
- ``judgement_s`` (verifier): bounds on the gap, and what corruption they survive;
- ``protocol_s``: the rest: messages, hashes, signatures, checks of form, choice of spot checks.

Bytes are those of sealed messages. ``tensors`` are outputs and scores, as float32; a session sends both once.

Run: ``python bench/bench_session.py [--n-train 100 1000] [--rounds 9]``.
Committed: results/session.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import harness

harness.set_threads(1)  # before NumPy is imported and starts its threads

import numpy as np

import pyattr
from pyattr import kernels
from pyattr.protocol import Prover, Verifier
from pyattr.protocol import method as sessions
from pyattr.protocol.gap_session import GapMethod
from pyattr.protocol.keys import SigningKey
from pyattr.protocol.randomness import secret_of
from pyattr.protocol.signing import seal, unseal
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.scores import LinearScores

N_OUTPUTS, N_TARGETS = 10_000, 100
NAMES = ("invitation", "commitment", "challenge", "outputs commitment", "outputs", "decision")


class Clock:
    """CPU seconds of named parts; a part's time is not counted in the one around it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = [0.0]

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add what runs inside."""
        start = time.process_time()
        self._inside.append(0.0)
        try:
            yield
        finally:
            spent, inner = time.process_time() - start, self._inside.pop()
            self._inside[-1] += spent
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - inner

    @contextlib.contextmanager
    def watch(self, owner: Any, attribute: str, name: str) -> Iterator[None]:
        """Time a function that others call."""
        original = getattr(owner, attribute)

        def timed(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                return original(*arguments, **named)

        setattr(owner, attribute, timed)
        try:
            yield
        finally:
            setattr(owner, attribute, original)


class Recorded:
    """A linear function of the mask that is computed once, and then known by seed and mask."""

    def __init__(self, truth: np.ndarray, clock: Clock) -> None:
        self.truth, self.clock = truth, clock
        self.n_train, self.n_targets = truth.shape
        self.known: dict[tuple[int, int], np.ndarray] = {}

    def __call__(self, masks: pyattr.Masks, seeds: np.ndarray) -> np.ndarray:
        with self.clock.part("answers"):
            # The masks of a pair share a seed and are complements.
            keys = list(zip(seeds.tolist(), masks.packed[:, 0].tolist(), strict=True))
            if not self.known.keys() >= set(keys):
                outputs = masks.unpack().astype(np.float32) @ self.truth
                self.known |= dict(zip(keys, outputs, strict=True))
            return np.stack([self.known[key] for key in keys])


def session(retrain: Recorded, sampling: str) -> dict[str, Any]:
    """One session, the same each time: CPU seconds and bytes."""
    clock, keys = retrain.clock, [SigningKey.generate() for _ in range(2)]
    published = LinearScores(retrain.truth, np.zeros(N_TARGETS, np.float32))
    sizes: list[int] = []
    spent: dict[str, dict[str, float]] = {"prover": {}, "verifier": {}}

    @contextlib.contextmanager
    def side(name: str) -> Iterator[None]:
        clock.seconds = {}
        with clock.part("protocol"):
            yield
        for part, seconds in clock.seconds.items():
            spent[name][part] = spent[name].get(part, 0.0) + seconds

    with side("prover"):
        prover = Prover(retrain, published, secret=secret_of(0))
    with side("verifier"):
        verifier = Verifier(
            retrain,
            design=ClusterDesign(N_OUTPUTS // 2),
            clip=100.0,
            sampling=sampling,
            secret=secret_of(1),
        )
        sent = [seal(verifier.start(), keys[1])]
    ends = {
        "prover": (prover, keys[0], keys[1].public),
        "verifier": (verifier, keys[1], keys[0].public),
    }
    for turn in range(6):
        name = ("prover", "verifier")[turn % 2]
        end, own, theirs = ends[name]
        sizes += map(len, sent)
        with side(name):
            answers = [end.receive(unseal(data, theirs)) for data in sent]
            sent = [seal(data, own) for answer in answers for data in answer]
    figures = {
        "n_checked": verifier.verdict.details.get("n_checked"),
        "outcome": str(verifier.outcome),
    }
    return {"spent": spent, "sizes": dict(zip(NAMES, sizes, strict=True)), **figures}


def cost(n_train: int, sampling: str, rounds: int) -> dict[str, Any]:
    """Medians over sessions, after one that trains."""
    rng = np.random.default_rng(0)
    truth = (rng.standard_normal((n_train, N_TARGETS)) / np.sqrt(n_train)).astype(np.float32)
    clock = Clock()
    retrain = Recorded(truth, clock)
    with (
        clock.watch(ClusterDesign, "draw", "masks"),
        clock.watch(GapMethod, "judge", "judgement"),
        clock.watch(sessions, "retrain_and_compare", "protocol"),
    ):
        runs = [session(retrain, sampling) for _ in range(rounds + 1)][1:]
    result: dict[str, Any] = {name: runs[0][name] for name in ("outcome", "n_checked")}
    for name in ("prover", "verifier"):
        parts = runs[0]["spent"][name].keys() - {"answers"}
        totals = [sum(run["spent"][name][part] for part in parts) for run in runs]
        result[name] = {"cpu_s": statistics.median(totals), "cpu_max_s": max(totals)} | {
            f"{part}_s": statistics.median(run["spent"][name].get(part, 0.0) for run in runs)
            for part in sorted(runs[0]["spent"][name])
        }
    sizes = runs[0]["sizes"]
    outputs, scores = 4 * N_OUTPUTS * N_TARGETS, 4 * (n_train + 1) * N_TARGETS
    total = sum(sizes.values())
    result["bytes"] = sizes | {
        "total": total,
        "raw outputs": outputs,
        "raw scores": scores,
        "beside tensors": total - outputs - scores,
        "total / raw outputs": total / outputs,
        "total / tensors": total / (outputs + scores),
    }
    return result


def main() -> None:
    """Run all sizes and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-train", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    kernels.set_num_threads(1)
    results = {
        f"n_train={n_train}, {sampling} checks": cost(n_train, sampling, options.rounds)
        for n_train in options.n_train
        for sampling in ("uniform", "weighted")
    }
    print(json.dumps(results, indent=2))
    harness.write("session", results, n_threads=1)


if __name__ == "__main__":
    main()
