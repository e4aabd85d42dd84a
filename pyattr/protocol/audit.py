"""Making a finished session again from its messages and the verifier's opened secret.

A verifier may abort falsely in order not to pay, and a prover may say so falsely. Both are bound: the
prover by its two commitments, the verifier by the digests in its invitation, from which its part of the
challenge's seed and its spot checks follow. So whoever is shown the messages, the secret and the outputs
of the verifier's own trainings can make every decision again, and whoever has the data can repeat any of
those trainings: nothing else entered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pyattr.errors import ProtocolError
from pyattr.interface import Retrain
from pyattr.masks import Masks
from pyattr.protocol.encoding import decode_header, frame_size
from pyattr.protocol.equivalence import canonical, differs
from pyattr.protocol.journal import AnotherSessionError, Block, Journal, NotRecordedError
from pyattr.protocol.manifest import Manifest
from pyattr.protocol.messages import DECODER, Invitation
from pyattr.protocol.verifier import Verifier
from pyattr.verification.verdict import Verdict

__all__ = ["Audit", "Check", "audit", "manifest_of"]

N_MESSAGES = 6


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
    """

    checks: list[Check] = field(default_factory=list)
    verdict: Verdict | None = None

    @property
    def holds(self) -> bool:
        """Whether everything came out the same."""
        return self.verdict is not None and all(check.holds for check in self.checks)

    def _note(self, name: str, holds: bool, found: str) -> bool:
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


@dataclass
class _Asked:
    """A journal, and what was asked of it."""

    journal: Journal
    masks: list[Masks] = field(default_factory=list)
    seeds: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    outputs: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def __call__(self, masks: Masks, seeds: npt.NDArray[np.uint64], /) -> npt.NDArray[np.float32]:
        outputs = self.journal(masks, seeds)
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
        The verifier's own trainings, in order.
    retrain : callable, optional
        Repeats trainings of the verifier, on a machine of the auditor.
    n_repeated : int, optional
        So many of them, the last first: spot checks come last. All by default.

    Returns
    -------
    Audit
    """
    result = Audit()
    if not result._note("all messages", len(messages) == N_MESSAGES, f"{len(messages)} of 6"):
        return result
    asked = _Asked(Journal(None, blocks))
    try:
        verifier = Verifier.of(manifest_of(messages[0]), asked, secret=secret)
        if _follow(verifier, messages, result):
            result.verdict = verifier.verdict
    except (ProtocolError, AnotherSessionError, NotRecordedError, ValueError) as error:
        result._note("messages that follow from each other", False, str(error))
        return result
    if retrain is not None and asked.masks:
        _repeat(asked, retrain, verifier.manifest, n_repeated, result)
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
            "decision: follows from outputs and spot checks",
            lambda: verifier.receive(outputs),
            (decision,),
        ),
    )
    for name, step, sent in steps:
        same = step() == sent
        if not result._note(name, same, "the same bytes" if same else "other bytes"):
            return False
    return True


def _repeat(
    asked: _Asked, retrain: Retrain, manifest: Manifest, n_repeated: int | None, result: Audit
) -> None:
    """Train again what the verifier says it has trained."""
    masks, seeds = Masks.concatenate(asked.masks), np.concatenate(asked.seeds)
    theirs = canonical(np.concatenate(asked.outputs))
    start = 0 if n_repeated is None else max(0, len(masks) - n_repeated)
    ours = canonical(retrain(masks[start:], seeds[start:]))
    n_other = int(differs(theirs[start:], ours, manifest.tolerance).sum())
    n = len(masks) - start
    result._note("verifier's own trainings, repeated", n_other == 0, f"{n - n_other} of {n} alike")
