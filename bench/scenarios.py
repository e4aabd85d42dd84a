"""Regressions with a known truth: how masks may be drawn, and what the scores may look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["problem", "sample_rows"]


def sample_scores(kind: str, n_train: int, n_targets: int, generator: Any) -> Any:
    """Unit sum of squares; mixed: 5% heavy-tailed effects with 80% of it and a dense rest."""
    import numpy as np

    few = np.zeros((n_train, n_targets))
    for t in range(n_targets):
        used = generator.choice(n_train, max(1, n_train // 20), replace=False)
        few[used, t] = generator.standard_t(3, len(used))
    dense = generator.standard_normal((n_train, n_targets))
    few, dense = (part / np.sqrt(np.square(part).sum(axis=0)) for part in (few, dense))
    shares = {"sparse": (1.0, 0.0), "mixed": (0.8, 0.2), "dense": (0.0, 1.0)}[kind]
    return np.sqrt(shares[0]) * few + np.sqrt(shares[1]) * dense


def sample_rows(design: str, n_masks: int, n_train: int, p: float, generator: Any) -> Any:
    """Masks as the experiments of others have them: independent, in groups, or in complements."""
    import numpy as np

    if design == "complement":
        half = generator.random((n_masks // 2, n_train)) < p
        return np.stack([half, ~half], axis=1).reshape(-1, n_train)
    own = generator.random((n_masks, n_train)) < p
    if design == "iid":
        return own
    groups = np.repeat(generator.random((n_masks, n_train // 10)) < p, 10, axis=1)
    return np.where(generator.random(own.shape) < 0.7, groups, own)


def problem(
    n_masks: int, n_train: int, n_targets: int, *, kind: str = "mixed", design: str = "iid",
    p: float = 0.5, seed: int = 0,
) -> tuple[Any, Any, Any, Callable[[Any], Any]]:  # fmt: skip
    """Bits, outputs with R² = 1/2 and Var f = 1, scores, and the excess error of other scores."""
    import numpy as np

    generator = np.random.default_rng(seed)
    bits = sample_rows(design, n_masks, n_train, p, generator)
    scores = sample_scores(kind, n_train, n_targets, generator)
    fresh_design = "iid" if design == "complement" else design
    fresh = sample_rows(fresh_design, 8192, n_train, p, generator).astype(np.float32)
    fresh -= fresh.mean(axis=0)
    scores *= np.sqrt(0.5) / (fresh @ scores).std(axis=0)
    outputs = bits @ scores + np.sqrt(0.5) * generator.standard_normal((len(bits), n_targets))

    def excess(found: Any) -> Any:
        return np.square(fresh @ (found - scores)).mean(axis=0)

    return bits, outputs, scores, excess
