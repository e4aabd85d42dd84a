"""The words of a calibration: which rows were replayed, and the tolerance that came of it.

No numerics here, so that a manifest may hold a `Calibration`. What they mean: `pyattr.protocol.calibration`.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pyattr.protocol.words import Clip, Hex64, Hex256, Share, Size

__all__ = ["LEAST_ROWS", "SEED_SHARE", "Calibration", "ReplayTerms"]

LEAST_ROWS: Final = 256
"""Of a calibration that ends in τ > 0."""
SEED_SHARE: Final = 0.1
"""Of the standard deviation over seeds: the most that a tolerance may be."""

Rows = Annotated[int, Meta(ge=2, le=2**24)]
# Outputs lie in [-b, b] with b in [2^-40, 2^40], so no difference is larger than 2^41.
Spread = Annotated[float, Meta(ge=0.0, le=2.0**41)]


class ReplayTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows a replay trains; all of it public.

    Parameters
    ----------
    n_train, n_targets : int
    n_rows : int
        Masks, each trained with a seed of its own.
    n_repeats : int
        The first so many masks are trained with a second seed as well; at most `n_rows`.
    p : float
        Probability that an example is in a mask.
    clip : float
        b.
    seed : str
        64 bits in hexadecimal: masks and training seeds follow from it.
    """

    n_train: Size
    n_targets: Size
    n_rows: Rows
    n_repeats: Rows
    p: Share
    clip: Clip
    seed: Hex64

    def __post_init__(self) -> None:
        if self.n_repeats > self.n_rows:
            raise ValueError(f"n_repeats: expected at most {self.n_rows}, got {self.n_repeats}")

    @property
    def n_bytes(self) -> int:
        """Size of all outputs."""
        return 4 * (self.n_rows + self.n_repeats) * self.n_targets


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tolerance and what it rests on; part of the manifest.

    Parameters
    ----------
    tolerance : float
        τ = ``factor * largest``: 0 asks for equal bytes.
    largest : float
        Largest difference between the two parties' outputs.
    factor : float
        Room for rows that were not replayed; at least 1.
    smallest_sd : float
        Smallest standard deviation of a target over seeds.
    n_checks : int
        Spot checks of a session that the factor allows for.
    alarm : float
        Most probability that any of so many honest rows exceeds τ > 0.
    terms : ReplayTerms
        Which rows were replayed.
    replays : tuple of str
        Digests of both parties' replays, in order: who holds them finds the same calibration.
    """

    tolerance: Spread
    largest: Spread
    factor: Annotated[float, Meta(ge=1.0, le=2.0**40)]
    smallest_sd: Spread
    n_checks: Size
    alarm: Share
    terms: ReplayTerms
    replays: tuple[Hex256, Hex256]

    def __post_init__(self) -> None:
        if self.tolerance != self.factor * self.largest:
            product = self.factor * self.largest
            raise ValueError(
                f"tolerance: expected factor · largest, {product}, got {self.tolerance}"
            )
        if self.tolerance > 0.0 and self.terms.n_rows < LEAST_ROWS:
            raise ValueError(f"n_rows: expected at least {LEAST_ROWS}, got {self.terms.n_rows}")
        if self.tolerance > SEED_SHARE * self.smallest_sd:
            limit = f"at most {SEED_SHARE} of the spread over seeds, {self.smallest_sd}"
            raise ValueError(f"tolerance: expected {limit}, got {self.tolerance}")
        if "-0.0" in map(repr, (self.tolerance, self.largest, self.smallest_sd)):
            raise ValueError("tolerance: expected 0, which is written one way, got -0")
