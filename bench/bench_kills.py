"""200 random kill -9 of workers and drivers over each executor: nothing lost, the same bytes.

Claim: of the banks that were filled so, no chunk that lay in one when a process died was gone or had other
bytes later, and every file has the bytes of a run in one process that nothing disturbed. Workers
(three kills in four) and drivers are killed at moments drawn at random, most of them while chunks are being
written; a driver that died is followed by another, over the same bank. Counts only, no times.

Run: ``python bench/bench_kills.py [--kills 200] [--seed 0] [--executors local ray]``. Ends with 1 if the
claim does not hold. Results keep what other executors gave.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import harness

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def main() -> None:
    import numpy as np
    from random_kills import random_kills

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of each executor")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--executors", nargs="+", choices=["local", "ray"], default=["local", "ray"]
    )
    arguments = parser.parse_args()
    path = harness.RESULTS / "kills.json"
    results: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}
    for kind in arguments.executors:
        with tempfile.TemporaryDirectory() as scratch:
            rng = np.random.default_rng(arguments.seed)
            tally = random_kills(kind, Path(scratch), arguments.kills, rng)
        results[kind] = {"deaths": tally.deaths, "seed": arguments.seed, **tally.record()}
        print(kind, json.dumps(results[kind]))
    print(harness.write("kills", results, n_threads=1))
    faults = ("lost_chunks", "changed_chunks", "other_files")
    sys.exit(any(results[kind][name] for kind in arguments.executors for name in faults))


if __name__ == "__main__":
    main()
