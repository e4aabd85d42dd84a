"""Coverage-guided fuzzing of all that reads a peer's bytes or a session's files, with atheris (libFuzzer).

An input is one byte that names a target, and what the target reads:

- ``decode``, ``unseal``: a frame, plain and sealed;
- ``manifest``, ``opening``: JSON;
- ``signed``: a plain frame that its sender signs, so that damage gets behind the signature;
- ``prover ...``, ``verifier ...``: the next message of a running session, in each state that waits for one;
- ``lies``: scores and outputs, any bits as float32, from a prover that is bound to them as it should be;
- ``replay``: the other party's replay, for a calibration;
- ``block``, ``private``, ``ledger``: files of a session's directory, and the ledger.

A finding is any exception but `ProtocolError` (for `opening`: `Rejected`; for `ledger`: `ValueError`; for
blocks of other trainings: `AnotherSessionError`), a warning, a message or replay that is
accepted without being the spelling of what it says, a side that lives on after an error, a verdict after
one that is not ABORT with the check "form", an ACCEPT for other bytes than the honest ones, more than
512 MiB of memory, and more than 20 s for one input. The mutator changes JSON as JSON, floats as floats, and
repairs lengths and, mostly, the digest of tensors.

Run: ``python bench/fuzz_messages.py [--seconds 600] [--corpus DIRECTORY]`` (needs atheris).
Committed: results/fuzzing.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import atheris
import harness
from fuzz_mutations import mutate
from fuzz_targets import NAMES, TARGETS, seeds

_RECORD_EVERY = 2000
_MEMORY_MIB, _INPUT_S = 512, 20
# Instrumented code grows by some KB an input (the same inputs without atheris do not), so that a process
# would reach the limit of memory by itself.
_LEG_S = 60


def work(corpus: Path, seconds: int, seed: int) -> None:
    """Fuzz until the time is over; does not return."""
    ends: Counter[str] = Counter()
    warnings.simplefilter("error")

    def one_input(data: bytes) -> None:
        name = NAMES[data[0] % len(NAMES)] if data else "decode"
        ends[f"{name}: {TARGETS[name](data[1:])}"] += 1
        if ends.total() % _RECORD_EVERY == 0:
            (corpus.parent / "ends.json").write_text(json.dumps(ends))

    arguments = [
        sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-rss_limit_mb={_MEMORY_MIB}",
        f"-timeout={_INPUT_S}", "-max_len=20000", "-print_final_stats=1", f"-seed={seed}",
        f"-artifact_prefix={corpus.parent}/finding-",
    ]  # fmt: skip
    atheris.Setup(arguments, one_input, custom_mutator=mutate)
    atheris.Fuzz()


def leg(folder: Path, seconds: int, seed: int) -> dict[str, Any]:
    """Fuzz in a process of its own, since libFuzzer ends it; what libFuzzer and the targets counted.

    The ends of the last inputs, fewer than 2000, are not counted.
    """
    command = [sys.executable, __file__, "--worker", str(folder / "inputs")]
    command += ["--seconds", str(seconds), "--seed", str(seed)]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:  # libFuzzer ends a process before it can tidy up
        done = subprocess.run(
            command, stderr=subprocess.PIPE, text=True, errors="replace", check=False,
            env=os.environ | {"TMPDIR": scratch},
        )  # fmt: skip
    wall = time.perf_counter() - start
    if done.returncode or list(folder.glob("finding-*")):
        sys.exit(done.stderr[-4000:])
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
    coverage = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stderr)[-1]
    return {
        "executions": int(stats["number_of_executed_units"]),
        "wall_s": wall,
        "coverage": dict(zip(("edges", "features", "corpus"), map(int, coverage), strict=True)),
        "peak_rss_mib": int(stats["peak_rss_mb"]),
        "ends": json.loads((folder / "ends.json").read_text()),
    }


def fuzz(folder: Path, seconds: int, first_seed: int) -> dict[str, Any]:
    """Fuzz for so long, process after process on one corpus; exits with its log where something is found."""
    (folder / "inputs").mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds()):
        (folder / "inputs" / f"seed-{number}").write_bytes(data)
    legs, left = [], seconds
    while left > 0:
        legs.append(leg(folder, min(left, _LEG_S), first_seed + len(legs)))
        left -= _LEG_S
    ends: Counter[str] = Counter()
    for one in legs:
        ends.update(one["ends"])
    return {
        "executions": sum(one["executions"] for one in legs),
        "seconds": seconds,
        "wall_s": round(sum(one["wall_s"] for one in legs), 1),
        "processes": len(legs),
        "coverage": legs[-1]["coverage"],
        "peak_rss_mib": max(one["peak_rss_mib"] for one in legs),
        "findings": 0,
        "ends_of_inputs": dict(sorted(ends.items())),
        "versions": {name: version(name) for name in ("atheris", "msgspec", "cryptography")},
    }


def main() -> None:
    """Fuzz, and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="kept, and gone on with, if given")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.seconds, options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        result = fuzz(options.corpus or Path(temporary), options.seconds, options.seed)
    print(json.dumps(result, indent=2))
    harness.write("fuzzing", result, n_threads=1)


if __name__ == "__main__":
    main()
