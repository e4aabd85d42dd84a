"""The bounded types that messages are made of."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

__all__ = [
    "CLIP_HIGHEST",
    "CLIP_LOWEST",
    "MOST_CLUSTERS",
    "MOST_PAIRS",
    "Clip",
    "ClusterParameters",
    "Hex64",
    "Hex256",
    "ResidualParameters",
    "Share",
    "Size",
    "Strict",
]

Hex64 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z", max_length=16)]
Hex256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z", max_length=64)]
Size = Annotated[int, Meta(ge=1, le=2**31)]
Share = Annotated[float, Meta(gt=0.0, lt=1.0)]
# Squares and fourth powers of outputs in this range are finite.
CLIP_LOWEST: Final = 2.0**-40
CLIP_HIGHEST: Final = 2.0**40
MOST_CLUSTERS: Final = 2**24
MOST_PAIRS: Final = 2**28
Clip = Annotated[float, Meta(ge=CLIP_LOWEST, le=CLIP_HIGHEST)]


class Strict(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"
):
    """What all structures on the wire have in common: no field more, none missing."""


class ClusterParameters(Strict, tag="clusters", frozen=True, kw_only=True):
    """Of a `pyattr.verification.gap.ClusterDesign`."""

    n_clusters: Annotated[int, Meta(ge=2, le=MOST_CLUSTERS)]
    n_leaves: Annotated[int, Meta(ge=1, le=2**16)]
    rho: Annotated[float, Meta(gt=0.0, le=1.0)]

    @property
    def n_outputs(self) -> int:
        """Trainings that the design asks for."""
        return 2 * self.n_clusters * self.n_leaves


class ResidualParameters(Strict, tag="pairs", frozen=True, kw_only=True):
    """Of a `pyattr.verification.residual.ResidualDesign`."""

    n_pairs: Annotated[int, Meta(ge=1, le=MOST_PAIRS)]
    rho: Annotated[float, Meta(gt=0.0, le=1.0 / 3.0)]

    @property
    def n_outputs(self) -> int:
        """Trainings that the design asks for."""
        return 6 * self.n_pairs
