"""What a session is about and by which rules: fixed before it begins, and signed by both parties.

Nothing is negotiated. The verifier states the manifest in its invitation; the prover goes on only if
it agrees with what was agreed beforehand, and its commitment carries the manifest's digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from pyattr.protocol.hashing import labelled_hash
from pyattr.protocol.tolerance import Calibration
from pyattr.protocol.words import (
    Clip,
    ClusterParameters,
    ResidualParameters,
    Share,
    Size,
    Strict,
)

__all__ = [
    "MOST_NUMBERS",
    "MOST_TARGETS",
    "PROTOCOL",
    "Key",
    "Manifest",
    "Subject",
    "subject_digest",
]

PROTOCOL: Final = "pyattr/session/2"

MOST_NUMBERS: Final = 2**31
"""In the scores or the outputs of a session: 8 GiB."""
MOST_TARGETS: Final = 2**20

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(max_length=256)]
Digest = Annotated[str, Meta(pattern=r"\A([0-9a-f]{64})?\Z", max_length=64)]
Key = Digest
"""An Ed25519 public key of 32 bytes, or "" in a session without signatures."""
Number = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Setting = bool | Number | float | Text
Positive = Annotated[float, Meta(gt=0.0, le=2.0**80)]
NotNegative = Annotated[float, Meta(ge=0.0, le=2.0**80)]


def _check_sorted(name: str, words: dict[str, Setting] | dict[str, str]) -> None:
    """One spelling for each manifest."""
    if list(words) != sorted(words):
        raise ValueError(f"{name}: expected keys in order, got {list(words)}")


def _check_zeros(name: str, values: Iterable[object]) -> None:
    """-0 equals 0 and is written otherwise: with both, one claim would have two digests."""
    if "-0.0" in map(repr, values):
        raise ValueError(f"{name}: expected 0, which is written one way, got -0")


class Subject(Strict, tag="subject", frozen=True, kw_only=True):
    """What is trained: everything that an output depends on beside mask and seed.

    Parameters
    ----------
    train, targets : str
        Digests of the training records and of the targets; see `pyattr.transport.job`. "" where the parties
        know the data by other means.
    recipe : dict of str to bool, int, float or str
        How a model is trained; keys in order.
    output : str
        What of a model is attributed, such as a kind of margin.
    platform : str
        Class of machines within which both parties expect equal bytes.
    versions : dict of str to str
        Of the libraries that decide the last bits; keys in order.
    """

    train: Digest = ""
    targets: Digest = ""
    recipe: Annotated[dict[Name, Setting], Meta(max_length=64)] = msgspec.field(
        default_factory=dict
    )
    output: Text = ""
    platform: Text = ""
    versions: Annotated[dict[Name, Text], Meta(max_length=32)] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_sorted("recipe", self.recipe)
        _check_sorted("versions", self.versions)
        _check_zeros("recipe", self.recipe.values())


def subject_digest(subject: Subject) -> str:
    """Digest of all that is said of what is trained."""
    return labelled_hash("subject/2", msgspec.json.encode(subject))


class Manifest(Strict, tag="manifest", frozen=True, kw_only=True):
    """Terms of a session.

    Parameters
    ----------
    protocol : str
        `PROTOCOL`.
    subject : Subject
    n_train, n_targets : int
    p : float
        Probability that an example is in a mask.
    clip : float
        b: f is clipped to [-b, b] by definition. A float32.
    clip_agreed : bool
        Whether b was agreed beforehand; else it follows from the verifier's pilot.
    method : {"gap", "paper"}
    epsilon, delta : float
        Of the claim; `delta` is shared by `attempts`.
    attempts : int
        Sessions of this claim that may be begun; each has ``delta / attempts``.
    bound, relative, nonlinearity, intercept, simultaneous
        As for `pyattr.verify`.
    budget : int or None
        Most trainings of the challenge.
    design : ClusterParameters or ResidualParameters
        What the challenge will ask for: known before any randomness is.
    design_agreed : bool
        Whether it was agreed beforehand; else it follows from the verifier's pilot.
    tolerance : float
        τ: largest difference between equivalent outputs; 0 asks for equal bytes.
    calibration : Calibration or None
        What τ rests on; signed sessions with τ > 0 need one.
    spot_check_share : float
        Share of delta for corrupted outputs that spot checks miss.
    sampling : {"uniform", "weighted"}
        How spot checks are chosen.
    prover, verifier : str
        Public keys; "" in a session without signatures.
    """

    protocol: Literal["pyattr/session/2"] = PROTOCOL
    subject: Subject
    n_train: Size
    n_targets: Annotated[int, Meta(ge=1, le=MOST_TARGETS)]
    p: Share
    clip: Clip
    clip_agreed: bool
    method: Literal["gap", "paper"]
    epsilon: Positive
    delta: Share
    attempts: Annotated[int, Meta(ge=1, le=10_000)]
    bound: Name
    relative: bool
    nonlinearity: NotNegative
    intercept: Literal["refit", "check"]
    simultaneous: bool
    budget: Annotated[int, Meta(ge=1, le=2**40)] | None
    design: ClusterParameters | ResidualParameters
    design_agreed: bool
    tolerance: NotNegative
    calibration: Calibration | None
    spot_check_share: Share
    sampling: Literal["uniform", "weighted"]
    prover: Key
    verifier: Key

    def __post_init__(self) -> None:
        _check_zeros("nonlinearity", [self.nonlinearity])
        _check_zeros("tolerance", [self.tolerance])
        kind = ClusterParameters if self.method == "gap" else ResidualParameters
        if not isinstance(self.design, kind):
            raise ValueError(f"design: expected one of method {self.method!r}, got {self.design}")
        most = MOST_NUMBERS if self.budget is None else self.budget
        if self.design.n_outputs > most:
            raise ValueError(f"design: expected at most {most} trainings, got {self.design}")
        for name, rows in (("n_train", self.n_train), ("design", self.design.n_outputs)):
            if rows * self.n_targets > MOST_NUMBERS:
                raise ValueError(
                    f"{name}: expected at most {MOST_NUMBERS} numbers in a message, got {rows} rows "
                    f"of {self.n_targets}"
                )
        self._check_tolerance()

    def _check_tolerance(self) -> None:
        found = self.calibration
        if found is None:
            if self.tolerance > 0.0 and self.prover:
                raise ValueError(f"calibration: expected one for τ = {self.tolerance}, got none")
            return
        said, asked = found.terms, (self.n_train, self.n_targets, self.p)
        if (said.n_train, said.n_targets, said.p) != asked:
            raise ValueError(f"calibration: expected one of {asked}, got {said}")
        if said.clip < self.clip:
            raise ValueError(f"calibration: expected one with b ≥ {self.clip}, got {said.clip}")
        if found.tolerance != self.tolerance:
            raise ValueError(
                f"tolerance: expected the calibrated {found.tolerance}, got {self.tolerance}"
            )

    def claim(self) -> str:
        """Digest of what is claimed: by it the sessions are counted that share one δ.

        Data, recipe, output and p alone: whoever takes part, on which machines, by which method and with
        which ε, it is the same claim.
        """
        subject = msgspec.structs.replace(self.subject, platform="", versions={})
        said = (subject, self.n_train, self.n_targets, self.p)
        return labelled_hash("claim/2", msgspec.json.encode(said))
