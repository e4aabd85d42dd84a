"""What a session's folder holds, and what it proves by itself: nothing is trained and nothing written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pyattr.attribution import Attribution
from pyattr.datasets import Dataset, at_hand, load
from pyattr.errors import ProtocolError
from pyattr.protocol.audit import Audit
from pyattr.protocol.manifest import Manifest
from pyattr.protocol.records import records_digest
from pyattr.transport.directory import MESSAGES
from pyattr.transport.evidence import (
    audit_directory,
    stated_attribution,
    stated_decision,
    stated_manifest,
)

__all__ = ["Message", "Record", "dataset_at_hand", "read"]

_SENDERS: Final = ("verifier", "prover", "verifier", "prover", "prover", "verifier")
_SAY: Final = (
    "all terms; digests of its randomness and of the key of its spot checks",
    "digest of the scores; its randomness",
    "which subsets to train: a seed that follows from the randomness of both",
    "Merkle root of all outputs",
    "the outputs, the scores, and what opens both commitments",
    "the outcome, and nothing that it rests on",
)


@dataclass(frozen=True)
class Message:
    """One of a session's messages.

    Parameters
    ----------
    name, sender, says : str
    n_bytes : int or None
        None if it is not there.
    """

    name: str
    sender: str
    says: str
    n_bytes: int | None


@dataclass(frozen=True)
class Record:
    """A session's folder.

    Parameters
    ----------
    messages : tuple of Message
        All six, there or not.
    holder : {"verifier", "prover", "neither"}
        Whose private file lies in it.
    manifest : Manifest
    decision : str or None
        As signed; None before there is one.
    audit : Audit or None
        None if the session is not over or the folder is not the verifier's.
    why_no_audit : str
    scores : Attribution or None
        Those that were opened, once the session is over.
    """

    messages: tuple[Message, ...]
    holder: str
    manifest: Manifest
    decision: str | None
    audit: Audit | None
    why_no_audit: str
    scores: Attribution | None

    @property
    def n_present(self) -> int:
        """Messages that are there."""
        return sum(message.n_bytes is not None for message in self.messages)


def read(folder: Path) -> Record:
    """Read a folder, and audit it as far as it goes without training.

    Raises
    ------
    ValueError
        If a message is not what it should be.
    OSError
        If it cannot be read.
    """
    try:
        return _read(folder)
    except ProtocolError as error:
        raise ValueError(f"{folder}: {error}") from error


def _read(folder: Path) -> Record:
    files = [folder / name for name in MESSAGES]
    sizes = [file.stat().st_size if file.is_file() else None for file in files]
    messages = tuple(map(Message, MESSAGES, _SENDERS, _SAY, sizes))
    decision = None if sizes[-1] is None else stated_decision(folder)
    holders = [
        role for role in ("verifier", "prover") if (folder / f"private-{role}.json").exists()
    ]
    holder = holders[0] if holders else "neither"
    audit, why = None, ""
    if decision is None:
        # The verifier's secret would tell which answers it checks, before they are sent.
        why = "the session is not over, and what a verifier knows is secret until then"
    elif holder != "verifier":
        why = "private-verifier.json is not here; a verifier shows it when the session is over"
    else:
        audit = audit_directory(folder)
    scores = None if decision is None or None in sizes else stated_attribution(folder)
    return Record(messages, holder, stated_manifest(folder), decision, audit, why, scores)


def dataset_at_hand(manifest: Manifest) -> Dataset | None:
    """The data that a manifest's recipe names, if they lie here and have the digests that it states."""
    recipe: Mapping[str, Any] = manifest.subject.recipe
    name = recipe.get("dataset")
    if not isinstance(name, str) or not at_hand(name):
        return None
    sizes = [recipe.get(key) for key in ("n_train", "n_test", "dataset_seed", "flip_fraction")]
    try:
        dataset = load(name, *sizes)  # type: ignore[arg-type]  # load checks what a peer wrote
    except (ValueError, TypeError, OSError, RuntimeError):
        return None
    train = records_digest(dataset.train_images, dataset.train_labels)
    targets = records_digest(dataset.test_images, dataset.test_labels)
    same = (train, targets) == (manifest.subject.train, manifest.subject.targets)
    shape = (dataset.n_train, dataset.n_test) == (manifest.n_train, manifest.n_targets)
    return dataset if same and shape else None


def finite(value: float) -> float | None:
    """A figure as JSON has it."""
    return float(value) if np.isfinite(value) else None
