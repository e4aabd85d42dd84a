"""What a verifier fixes before a session, as its arguments and as the manifest that states them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pyattr.errors import bad_value, check_count, check_probability
from pyattr.interface import Retrain
from pyattr.protocol.challenges import design_of
from pyattr.protocol.manifest import Manifest
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.judge import Criterion

__all__ = ["Terms", "agreed_size", "arguments_of"]

# Fields of a manifest that are no arguments of the same name and value.
_OTHERWISE: Final = (
    "protocol",
    "prover",
    "verifier",
    "design",
    "design_agreed",
    "clip",
    "clip_agreed",
)


def agreed_size(name: str, given: int | None, retrain: Retrain) -> int:
    """A size as given, or as `retrain` tells its own.

    Raises
    ------
    ValueError
        If neither says, or both and not the same.
    """
    own: int | None = getattr(retrain, name, None)
    size = own if given is None else given
    if size is None:
        raise bad_value(name, "a number, since retrain does not tell its own", None)
    if own is not None and size != own:
        raise bad_value(name, f"{own}, as retrain has", given)
    return check_count(name, size, 1)


@dataclass(frozen=True)
class Terms:
    """What a verifier fixed before the session.

    Parameters
    ----------
    criterion : Criterion
    n_train, n_targets : int
    pilot, fresh : int
        Seeds of the verifier's own trainings, which the prover never learns.
    budget : int or None
        Most trainings of a challenge; with the paper's method, of the fresh subsets as well.
    tolerance : float
        Largest difference between equivalent outputs.
    spot_check_share : float
        Share of delta for missing corrupted outputs.
    sampling : {"uniform", "weighted"}
        How spot checks are chosen (`pyattr.verification.spot_check`).
    most_checks : int, optional
        Spot checks that the tolerance was calibrated for: with more, an honest prover would fail too often.
    """

    criterion: Criterion
    n_train: int
    n_targets: int
    pilot: int
    fresh: int
    budget: int | None
    tolerance: float
    spot_check_share: float
    sampling: str = "uniform"
    most_checks: int | None = None

    def __post_init__(self) -> None:
        if self.sampling not in ("uniform", "weighted"):
            raise bad_value("sampling", "'uniform' or 'weighted'", repr(self.sampling))
        check_probability("spot_check_share", self.spot_check_share)
        if not 0.0 <= self.tolerance < np.inf:
            raise bad_value("tolerance", "a finite number of at least 0", self.tolerance)

    @property
    def delta_checks(self) -> float:
        """Chance that spot checks miss more corrupted outputs than the interval covers."""
        return self.spot_check_share * self.criterion.delta

    @property
    def delta_interval(self) -> float:
        """What is left of delta."""
        return self.criterion.delta - self.delta_checks

    def stated(self, method: str, clip: float, **said: Any) -> Manifest:
        """The manifest that states these terms.

        Parameters
        ----------
        method : str
        clip : float
            b, a float32.
        **said
            Fields of `Manifest` that a method does not look at; ``delta`` is that of all attempts.
        """
        criterion = self.criterion
        words: dict[str, Any] = {
            "n_train": self.n_train,
            "n_targets": self.n_targets,
            "p": float(criterion.p),
            "clip": clip,
            "method": method,
            "epsilon": float(criterion.epsilon),
            "bound": criterion.bound,
            "relative": bool(criterion.relative),
            "nonlinearity": float(criterion.nonlinearity),
            "intercept": criterion.intercept,
            "simultaneous": bool(criterion.simultaneous),
            "budget": self.budget,
            "tolerance": float(self.tolerance),
            "spot_check_share": float(self.spot_check_share),
            "sampling": self.sampling,
        }
        return Manifest(**words, **said)


def arguments_of(manifest: Manifest) -> dict[str, Any]:
    """Arguments of a `Verifier` that states this manifest."""
    words: dict[str, Any] = {
        name: getattr(manifest, name)
        for name in manifest.__struct_fields__
        if name not in _OTHERWISE
    }
    given = design_of(manifest.design, manifest.p) if manifest.design_agreed else None
    return words | {
        "design": given if isinstance(given, ClusterDesign) else None,
        "clip": manifest.clip if manifest.clip_agreed else None,
        "prover_key": manifest.prover,
        "key": manifest.verifier,
    }
