"""How far two honest parties' outputs lie apart: replays on both sides, and the tolerance from them.

Within one platform class outputs are equal to the byte. Elsewhere both parties train the same public
list of rows before the session, exchange what came out, and compute the same τ from both:

1. ``largest`` is the largest difference of any output. If all bytes are equal, τ = 0.
2. Else ``τ = factor * largest`` with ``factor = max(1, n_checks / (alarm * (n_rows + 1)))``, so that any of
   `n_checks` honest spot checks exceeds τ with probability at most `alarm`.
3. τ above a tenth of the seed-to-seed standard deviation of any target is refused.
4. Differences that lie on one side are refused (`pyattr.protocol.drift`): the drift test of a
   session would blame an honest prover for them.

*What step 2 rests on.* A row of the session and the replayed rows are exchangeable, each with a fresh
mask and seed. So it exceeds the largest of n replayed rows with probability at most ``1 / (n + 1)``,
whatever the distribution. Factor 1 rests on nothing else, and is reached at
``n_rows ≥ n_checks / alarm``. A larger factor c takes ``x P(X > x)`` not to grow above the largest
difference, which gives ``1 / (c (n + 1))``: a tail as heavy as 1/x. It has to be that heavy. Most
differences are a few units in the last place, and a few come from a branch taken otherwise, such as a
ReLU on the other side of 0: for networks on digits, AVX-512 against no vector instructions, the median
of 4,096 rows was 1e-6 and the largest 1e-3. From 64 of those rows, 4 times the largest was exceeded by
7.3e-3 of the others (1/(4·65) is 3.8e-3); from 256, by 6.1e-4 (9.7e-4); see
``bench/results/platforms.json``. So τ > 0 needs `LEAST_ROWS`.
τ = 0 rests on the platform class, not on step 2: where few rows differ, few replays may show none.

*Why step 3.* What lies within τ passes. Were τ like the spread over seeds, a prover could train with the
seeds that suit it, or send a mean over seeds without training at all. A model that does not depend on
its seed has spread 0, so that there any τ > 0 is refused: such parties need one platform class. That is
stricter than soundness asks for. The verdict's limits allow every output to be off by τ, and move the
root of the gap by about ``τ / sd f``; so ``τ ≤ sqrt(ε) sd(f) / 10``, sd over masks, would cost an honest
prover about a fifth of ε and hide nothing. Softmax regressions on digits are such a case (spread over
seeds 3e-5, over masks 0.3, largest difference 5e-3). The rule here is the strict one.

*What a liar can do.* The rows are known beforehand, so a prover may replay them honestly, or with noise
to raise τ: up to the limit of step 3, and τ stands in the manifest for everyone to see. What τ can hide
is in the verdict's limits already.

References
----------
method.md, section 4; threats 19 and 20 of the threat page. Wilks 1941, "Determination of sample sizes for
setting tolerance limits", Annals of Mathematical Statistics 12.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from pyattr.array_checks import check_below
from pyattr.attribution.file_format import write_file
from pyattr.errors import ProtocolError, bad_value, check_count, check_positive, check_probability
from pyattr.interface import Retrain
from pyattr.masks import sample_masks, sample_seeds
from pyattr.protocol.arrays import as_clip
from pyattr.protocol.drift import find_drift
from pyattr.protocol.equivalence import canonical
from pyattr.protocol.hashing import labelled_hash
from pyattr.protocol.tolerance import LEAST_ROWS, SEED_SHARE, Calibration, ReplayTerms
from pyattr.verification.evaluate import Evaluator, Progress

__all__ = [
    "ALARM",
    "LEAST_ROWS",
    "MOST_BYTES",
    "N_CHECKS",
    "SEED_SHARE",
    "Calibration",
    "Replay",
    "ReplayTerms",
    "calibrate",
    "replay",
]

Outputs = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

N_CHECKS: Final = 100
ALARM: Final = 0.05
MOST_BYTES: Final = 1 << 26  # of a replay's file
_HEADER_CAP: Final = 2048
_REPEATS: Final = 32
_FORMAT: Final = "pyattr-replay/1"


class _Format(msgspec.Struct, forbid_unknown_fields=True):
    """The file's metadata: terms under the name of the format."""

    terms: str = msgspec.field(name=_FORMAT)


class _FileHeader(msgspec.Struct, forbid_unknown_fields=True):
    """Header of the safetensors file; what it says of the tensors follows from the terms."""

    metadata: _Format = msgspec.field(name="__metadata__")
    other_seeds: msgspec.Raw
    outputs: msgspec.Raw


@dataclass(frozen=True, eq=False)
class Replay:
    """One party's outputs of the public rows.

    As a file it is safetensors with ``outputs`` and ``other_seeds``, both F32, and one entry of
    metadata: the terms as JSON.

    Parameters
    ----------
    terms : ReplayTerms
    outputs : (n_rows, n_targets) float32
    other_seeds : (n_repeats, n_targets) float32
        Of the first masks once more, with other seeds.
    """

    terms: ReplayTerms
    outputs: Outputs
    other_seeds: Outputs

    @property
    def digest(self) -> str:
        """Of the file."""
        return labelled_hash("replay/1", self.to_bytes())

    @property
    def seed_sd(self) -> Array:
        """Standard deviation of each target over seeds, (n_targets,), from pairs with one mask."""
        pairs = self.outputs[: self.terms.n_repeats].astype(np.float64) - self.other_seeds
        sd: Array = np.sqrt(np.mean(pairs**2, axis=0) / 2.0)
        return sd

    def to_bytes(self) -> bytes:
        """Content of the file."""
        content: bytes = save(*self._content())
        return content

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        write_file(Path(path), *self._content())

    def _content(self) -> tuple[dict[str, Outputs], dict[str, str]]:
        tensors = {"outputs": self.outputs, "other_seeds": self.other_seeds}
        return tensors, {_FORMAT: msgspec.json.encode(self.terms).decode()}

    @classmethod
    def from_bytes(cls, data: bytes) -> Replay:
        """Read the content of a file from anyone.

        Parameters
        ----------
        data : bytes

        Raises
        ------
        ProtocolError
            If it is anything but what `to_bytes` writes, or an output is no number in [-b, b].
        """
        if len(data) > MOST_BYTES:
            raise ProtocolError(f"replay: expected at most {MOST_BYTES} bytes, got {len(data)}")
        start = 8 + int.from_bytes(data[:8], "little")
        if not 8 < start <= min(8 + _HEADER_CAP, len(data)):
            raise ProtocolError(f"replay: expected a header of at most {_HEADER_CAP} bytes")
        try:
            header = msgspec.json.decode(data[8:start], type=_FileHeader)
            terms = msgspec.json.decode(header.metadata.terms, type=ReplayTerms)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ProtocolError(f"replay: expected a header with terms, got {error}") from None
        if len(data) - start != terms.n_bytes:
            got = len(data) - start
            raise ProtocolError(f"replay: expected {terms.n_bytes} bytes of outputs, got {got}")
        values = np.frombuffer(data, dtype="<f4", offset=start).astype(np.float32, copy=False)
        rows = values.reshape(-1, terms.n_targets)  # safetensors sorts tensors of a type by name
        read = cls(terms, rows[terms.n_repeats :], rows[: terms.n_repeats])
        if read.to_bytes() != data:
            raise ProtocolError("replay: expected its canonical spelling, got another")
        if not bool((np.abs(values) <= np.float32(terms.clip)).all()):  # false for NaN
            raise ProtocolError(f"replay: expected outputs in ±{terms.clip:g}, got others")
        if np.any(np.signbit(values) & (values == 0.0)):
            raise ProtocolError("replay: expected 0 written one way, got -0")
        return read

    @classmethod
    def load(cls, path: str | Path) -> Replay:
        """Read a file from anyone.

        Raises
        ------
        ProtocolError
            As `from_bytes`; at most `MOST_BYTES` are read.
        OSError
            If there is no such file.
        """
        with Path(path).open("rb") as file:
            return cls.from_bytes(file.read(MOST_BYTES + 1))


def replay(
    retrain: Retrain,
    n_train: int,
    n_targets: int,
    *,
    p: float,
    clip: float,
    n_rows: int = LEAST_ROWS,
    n_repeats: int = _REPEATS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Replay:
    """Train the public rows.

    Parameters
    ----------
    retrain : callable
        ``retrain(masks, seeds) -> (n, n_targets) float32``.
    n_train, n_targets : int
    p : float
    clip : float
        b of the session, rounded as there (`as_clip`).
    n_rows : int
        Masks; at least 2. Fewer than `LEAST_ROWS` serve where all bytes are equal.
    n_repeats : int
        Masks trained with a second seed: the standard deviation over seeds is known to one part in
        ``sqrt(2 n_repeats)``.
    seed : int
        In [0, 2^64); public, and the same on both sides.
    progress : callable, optional

    Returns
    -------
    Replay

    Raises
    ------
    ValueError
        If an argument is out of range, the outputs are not numbers, or the file would be too large.
    """
    n_rows = check_count("n_rows", n_rows, 2)
    terms = ReplayTerms(
        n_train=check_count("n_train", n_train, 1),
        n_targets=check_count("n_targets", n_targets, 1),
        n_rows=n_rows,
        n_repeats=min(check_count("n_repeats", n_repeats, 2), n_rows),
        p=check_probability("p", p),
        clip=as_clip(check_positive("clip", clip)),
        seed=f"{check_below('seed', seed, 64):016x}",
    )
    if terms.n_bytes + _HEADER_CAP + 8 > MOST_BYTES:
        raise bad_value("n_rows", f"outputs of fewer than {MOST_BYTES} bytes", terms.n_bytes)
    mask_seed, run_seed = (int(s) for s in sample_seeds(2, seed))
    masks = sample_masks(n_rows, n_train, p, mask_seed)
    seeds = sample_seeds(n_rows + terms.n_repeats, run_seed)
    evaluate = Evaluator(retrain, n_targets, terms.clip, progress, n_planned=len(seeds))
    outputs = canonical(evaluate(masks, seeds[:n_rows]))
    return Replay(terms, outputs, canonical(evaluate(masks[: terms.n_repeats], seeds[n_rows:])))


def calibrate(
    ours: Replay, theirs: Replay, *, n_checks: int = N_CHECKS, alarm: float = ALARM
) -> Calibration:
    """Find the tolerance from both parties' replays; which is whose makes no difference.

    Parameters
    ----------
    ours, theirs : Replay
    n_checks : int
        Spot checks of a session.
    alarm : float
        Most probability that one of them exceeds τ though both parties are honest.

    Returns
    -------
    Calibration
        For the manifest.

    Raises
    ------
    ValueError
        If they are not replays of the same rows, or no tolerance is defensible; the message says what to do.

    Examples
    --------
    >>> retrain = lambda masks, seeds: masks.sizes()[:, None].astype(np.float32)
    >>> ours, theirs = (replay(retrain, 10, 1, p=0.5, clip=16.0, n_rows=8) for _ in range(2))
    >>> calibrate(ours, theirs).tolerance
    0.0
    """
    n_checks, alarm = check_count("n_checks", n_checks, 1), check_probability("alarm", alarm)
    if ours.terms != theirs.terms:
        raise bad_value("theirs", f"a replay of the same rows, {ours.terms}", theirs.terms)
    terms = ours.terms
    differences = [
        np.abs(theirs.outputs.astype(np.float64) - ours.outputs).max(),
        np.abs(theirs.other_seeds.astype(np.float64) - ours.other_seeds).max(),
    ]
    largest = float(max(differences))  # 0 only for equal bytes: there is no -0
    factor = 1.0 if largest == 0.0 else max(1.0, n_checks / (alarm * (terms.n_rows + 1)))
    seed_sd = np.minimum(ours.seed_sd, theirs.seed_sd)
    if largest > 0.0:
        _check_defensible(largest, factor, seed_sd, terms.n_rows)
        _check_balanced(ours, theirs)
    digests = sorted((ours.digest, theirs.digest))
    return Calibration(
        tolerance=factor * largest,
        largest=largest,
        factor=factor,
        smallest_sd=float(seed_sd.min()),
        n_checks=n_checks,
        alarm=alarm,
        terms=terms,
        replays=(digests[0], digests[1]),
    )


def _check_defensible(largest: float, factor: float, seed_sd: Array, n_rows: int) -> None:
    """Refuse a tolerance from too few rows, or too near the spread over seeds."""
    if n_rows < LEAST_ROWS:
        raise bad_value(
            "n_rows",
            f"at least {LEAST_ROWS} rows on both sides, since outputs are not equal to the byte",
            n_rows,
        )
    target = int(np.argmin(seed_sd))
    limit = SEED_SHARE * seed_sd[target]
    if factor * largest <= limit:
        return
    advice = "train on one platform class, where outputs are equal to the byte"
    if largest <= limit:
        advice = f"replay more rows, so that the factor {factor:.3g} falls, or {advice}"
    raise bad_value(
        "tolerance",
        f"at most {limit:.3g}, a tenth of the standard deviation over seeds (target {target}); {advice}",
        f"{factor * largest:.3g}",
    )


def _check_balanced(ours: Replay, theirs: Replay) -> None:
    """Refuse platforms that differ in one direction."""
    drift = find_drift(theirs.outputs, ours.outputs)
    if drift.found:
        raise bad_value(
            "theirs",
            "differences on either side; train on one platform class, or find out what differs",
            f"{drift}",
        )
