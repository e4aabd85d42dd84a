"""Making a finished session again from its messages and the verifier's opened secret.

A verifier may abort falsely in order not to pay, and a prover may say so falsely. Both are bound: the
prover by its two commitments, the verifier by its invitation, which states the design and seals its part of
the challenge's seed and the key of its spot checks. So whoever is shown the messages, the secret and the
outputs of the verifier's own trainings can make every decision again.

Those outputs are the verifier's word until someone trains them again: it may have invented them. An audit
that trains nothing says so (`Audit.n_believed`). One that judges again uses an auditor's own outputs in
place of the verifier's wherever a decision rests on them, and compares outcomes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pyattr.errors import ProtocolError, check_count
from pyattr.interface import Retrain
from pyattr.masks import Masks
from pyattr.protocol import merkle
from pyattr.protocol.arrays import from_tensor, output_leaves
from pyattr.protocol.encoding import decode_header, decode_tensors, frame_size
from pyattr.protocol.equivalence import SpotCheck, canonical, differs
from pyattr.protocol.journal import AnotherSessionError, Block, Journal, NotRecordedError
from pyattr.protocol.manifest import Manifest, subject_digest
from pyattr.protocol.messages import DECODER, Invitation, Outputs, outputs_layout
from pyattr.protocol.session import State
from pyattr.protocol.verifier import Verifier
from pyattr.verification.verdict import Verdict

__all__ = ["Audit", "Check", "audit", "manifest_of", "open_output"]

N_MESSAGES = 6
Seeds = npt.NDArray[np.uint64]
Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Check:
    """One thing that was made again, and whether it came out the same.

    Parameters
    ----------
    name : str
    holds : bool
    found : str
        What was seen, in a few words.
    """

    name: str
    holds: bool
    found: str


@dataclass
class Audit:
    """What an audit found.

    Parameters
    ----------
    checks : list of Check
        In the order of the session, up to the first that fails.
    verdict : Verdict or None
        The verifier's, made again; None where the session could not be followed so far.
    n_believed : int
        Trainings of the verifier that the verdict may rest on and that nobody has repeated.
    """

    checks: list[Check] = field(default_factory=list)
    verdict: Verdict | None = None
    n_believed: int = 0

    @property
    def holds(self) -> bool:
        """Whether everything came out the same."""
        return self.verdict is not None and all(check.holds for check in self.checks)

    def note(self, name: str, holds: bool, found: str) -> bool:
        """Add a check; returns whether it holds."""
        self.checks.append(Check(name, holds, found))
        return holds


def manifest_of(invitation: bytes) -> Manifest:
    """The terms that a session's first message states.

    Raises
    ------
    ProtocolError
        If it is anything else.
    """
    message, _ = decode_header(invitation, DECODER, frame_size({}))
    if not isinstance(message, Invitation):
        raise ProtocolError(f"message: expected an Invitation, got a {type(message).__name__}")
    return message.manifest


def open_output(messages: Sequence[bytes], leaf: int) -> tuple[merkle.Opening, bytes]:
    """Show one output to someone who has only the prover's signed root: an accusation needs no more.

    Parameters
    ----------
    messages : sequence of bytes
        Of a session, at least up to the outputs.
    leaf : int
        Row of the challenge; of the rows under one leaf, where there are more than `LEAVES`.

    Returns
    -------
    opening : Opening
        For `merkle.verify_opening`, with ``root`` and ``n_leaves`` of the `OutputsCommitment`.
    row : bytes
        The outputs, float32, little-endian.

    Raises
    ------
    ProtocolError
        If the messages are anything else.
    ValueError
        If there is no such leaf.
    """
    manifest = manifest_of(messages[0])
    sizes = manifest.design.n_outputs, manifest.n_train, manifest.n_targets
    layout = outputs_layout(*sizes)
    message, rest = decode_header(messages[4], DECODER, frame_size(layout))
    if not isinstance(message, Outputs):
        raise ProtocolError(f"message: expected Outputs, got a {type(message).__name__}")
    leaves = output_leaves(from_tensor(decode_tensors(rest, layout)["outputs"]))
    context, key = bytes.fromhex(message.session), bytes.fromhex(message.leaf_key)
    opening = merkle.inclusion_proof(leaves, key, leaf, context=context)
    return opening, bytes(leaves[leaf])


@dataclass
class _Asked:
    """A retrain, and what was asked of it."""

    retrain: Retrain
    masks: list[Masks] = field(default_factory=list)
    seeds: list[Seeds] = field(default_factory=list)
    outputs: list[Values] = field(default_factory=list)

    def __call__(self, masks: Masks, seeds: Seeds, /) -> Values:
        outputs = self.retrain(masks, seeds)
        self.masks.append(masks)
        self.seeds.append(seeds)
        self.outputs.append(outputs)
        return outputs


def audit(
    messages: Sequence[bytes],
    secret: bytes,
    blocks: Sequence[Block],
    retrain: Retrain | None = None,
    n_repeated: int | None = None,
) -> Audit:
    """Make a verifier's session again and compare every message that it sent.

    Parameters
    ----------
    messages : sequence of bytes
        All six, in order, without signatures.
    secret : bytes
        Of the verifier.
    blocks : sequence of Block
        The verifier's own trainings, in order, of a `Journal` with the manifest's subject.
    retrain : callable, optional
        Of the auditor, on the data and the platform of the manifest.
    n_repeated : int, optional
        Repeat so many of the verifier's trainings, chosen now and at random. By default, with `retrain`, the
        outputs are judged again, with the auditor's trainings in place of the verifier's.

    Returns
    -------
    Audit

    Raises
    ------
    ValueError
        If `n_repeated` is below 1.
    """
    result = Audit()
    if n_repeated is not None:
        check_count("n_repeated", n_repeated, 1)
    if not result.note("all messages", len(messages) == N_MESSAGES, f"{len(messages)} of 6"):
        return result
    try:
        manifest = manifest_of(messages[0])
        journal = Journal(None, blocks, subject=subject_digest(manifest.subject))
        asked = _Asked(journal)
        verifier = Verifier.of(manifest, asked, secret=secret)
        if not _follow(verifier, messages, result):
            return result
        result.verdict = verifier.verdict
    except (ProtocolError, AnotherSessionError, NotRecordedError, ValueError, MemoryError) as error:
        found = str(error) or type(error).__name__
        result.note("messages that follow from each other", False, found)
        return result
    result.n_believed = sum(map(len, asked.masks))
    if retrain is None or not asked.masks:
        return result
    if n_repeated is None:
        _judge_again(messages, secret, asked, retrain, manifest, result)
    else:
        _repeat(asked, retrain, manifest, n_repeated, result)
    return result


def _follow(verifier: Verifier, messages: Sequence[bytes], result: Audit) -> bool:
    """Give the prover's messages to the verifier, and compare its own."""
    invitation, commitment, challenge, root, outputs, decision = messages
    steps: tuple[tuple[str, Callable[[], tuple[bytes, ...]], tuple[bytes, ...]], ...] = (
        ("invitation: its secrets are those opened", lambda: (verifier.start(),), (invitation,)),
        (
            "challenge: its seed is that of both parties",
            lambda: verifier.receive(commitment),
            (challenge,),
        ),
        ("outputs: committed before they were sent", lambda: verifier.receive(root), ()),
        (
            "decision: follows from outputs and the verifier's trainings",
            lambda: verifier.receive(outputs),
            (decision,),
        ),
    )
    for name, step, sent in steps:
        same = step() == sent
        if not result.note(name, same, "the same bytes" if same else "other bytes"):
            return False
    return True


class _Replaced:
    """The record until the challenge, an auditor's own trainings afterwards."""

    def __init__(self, asked: _Asked, retrain: Retrain) -> None:
        self._record = zip(asked.masks, asked.seeds, asked.outputs, strict=True)
        self._retrain = retrain
        self.verifier: Verifier | None = None

    def __call__(self, masks: Masks, seeds: Seeds, /) -> Values:
        if self.verifier is not None and self.verifier.state is State.OPENED:
            return self._retrain(masks, seeds)
        _, _, outputs = next(self._record)
        return outputs


def _judge_again(
    messages: Sequence[bytes],
    secret: bytes,
    asked: _Asked,
    retrain: Retrain,
    manifest: Manifest,
    result: Audit,
) -> None:
    """Whether an auditor's own trainings lead to the same decision, and the pilot's are alike."""
    replaced = _Replaced(asked, retrain)
    verifier = replaced.verifier = Verifier.of(manifest, replaced, secret=secret)
    verifier.start()
    decisions = [answer for number in (1, 3, 4) for answer in verifier.receive(messages[number])]
    same = decisions[-1] == messages[5]
    found = f"{verifier.outcome}: {verifier.verdict.reason}"
    recorded = None if result.verdict is None else result.verdict.details.get("spot_check")
    if not same and isinstance(recorded, SpotCheck) and recorded.unsteady.any():
        # It accuses nobody but its own machine, and is no acceptance: the session may be held again.
        same, found = True, f"the verifier's machine disagreed with itself; here {found}"
    n_pilot = result.verdict.details.get("n_pilot", 0) if result.verdict is not None else 0
    if n_pilot:
        _repeat(asked, retrain, manifest, None, result, n_pilot)
    result.note("decision: the same with the auditor's trainings", same, found)
    result.n_believed = 0


def _repeat(
    asked: _Asked,
    retrain: Retrain,
    manifest: Manifest,
    n_repeated: int | None,
    result: Audit,
    n_first: int | None = None,
) -> None:
    """Train again what the verifier says it has trained: the first rows, or some that nobody can foresee."""
    masks, seeds = Masks.concatenate(asked.masks), np.concatenate(asked.seeds)
    rows = np.arange(len(masks) if n_first is None else n_first)
    if n_repeated is not None and n_repeated < len(rows):
        rows = np.sort(secrets.SystemRandom().sample(rows.tolist(), n_repeated))
    limit = np.float32(manifest.clip)
    theirs = canonical(np.clip(np.concatenate(asked.outputs)[rows], -limit, limit))
    ours = canonical(np.clip(retrain(masks[rows], seeds[rows]), -limit, limit))
    n_other = int(differs(theirs, ours, manifest.tolerance).sum())
    if manifest.tolerance == 0.0:  # within τ a verifier may have shifted what it says it trained
        result.n_believed -= len(rows)
    found = f"{len(rows) - n_other} of {len(rows)} alike"
    result.note("verifier's own trainings, repeated", n_other == 0, found)
