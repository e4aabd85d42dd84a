"""One small run of the demo, shared by the tests of demo, report and command line."""

from __future__ import annotations

import copy
import functools
from typing import Any

from pyattr import demo

# With 200 images one target of eight hinges on a few of them: a challenge large enough to see that is not
# accepted.
CONFIG = demo.DemoConfig(n_train=400, n_test=8, n_held_out=40, seed=0)


@functools.cache
def _results() -> tuple[dict[str, Any], list[tuple[str, int, int]]]:
    steps: list[tuple[str, int, int]] = []
    results = demo.run(CONFIG, lambda *step: steps.append(step))
    return results, steps


def results() -> dict[str, Any]:
    """A copy of the results, to change at will."""
    return copy.deepcopy(_results()[0])


def steps() -> list[tuple[str, int, int]]:
    """What was told of the progress."""
    return list(_results()[1])
