"""What the folder of a finished session proves to someone who took no part in it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pyattr.attribution import Attribution
from pyattr.errors import ProtocolError
from pyattr.interface import Retrain
from pyattr.protocol.arrays import from_tensor
from pyattr.protocol.audit import Audit, Check, audit, manifest_of
from pyattr.protocol.encoding import decode_header, decode_tensors, frame_size
from pyattr.protocol.keys import PublicKey
from pyattr.protocol.manifest import Manifest
from pyattr.protocol.messages import DECODER, Decision, Outputs, outputs_layout
from pyattr.protocol.signing import peek, sealed_size, unseal
from pyattr.transport.directory import DECISION, INVITATION, MESSAGES, OUTPUTS, SessionReader
from pyattr.transport.prover_side import ProverSide
from pyattr.transport.secret_file import PRIVATE_CAP, secret_from

__all__ = [
    "audit_directory",
    "conclusion",
    "stated_attribution",
    "stated_decision",
    "stated_manifest",
]

_PLAIN: Final = sealed_size(frame_size({}))
_TRAININGS_CAP: Final = 2**32


def stated_manifest(path: str | Path) -> Manifest:
    """The terms in a folder's invitation, whoever signed it.

    Raises
    ------
    ProtocolError
        If it is no invitation.
    OSError
        If there is none.
    """
    with SessionReader(path) as reader:
        return manifest_of(peek(reader.read_message(INVITATION, _PLAIN)))


def stated_decision(path: str | Path) -> str:
    """The outcome in a folder's decision, whoever signed it.

    Raises
    ------
    ProtocolError, OSError
        As `stated_manifest`.
    """
    with SessionReader(path) as reader:
        message, _ = decode_header(peek(reader.read_message(DECISION, _PLAIN)), DECODER, _PLAIN)
    if not isinstance(message, Decision):
        raise ProtocolError(f"message: expected a Decision, got a {type(message).__name__}")
    return message.outcome


def stated_attribution(path: str | Path) -> Attribution:
    """The scores in a folder's outputs, whoever signed them.

    Raises
    ------
    ProtocolError, OSError
        As `stated_manifest`.
    """
    manifest = stated_manifest(path)
    n_outputs = manifest.design.n_outputs
    layout = outputs_layout(n_outputs, manifest.n_train, manifest.n_targets)
    with SessionReader(path) as reader:
        sealed = reader.read_message(OUTPUTS, _outputs_size(manifest))
    message, rest = decode_header(peek(sealed), DECODER, frame_size(layout))
    if not isinstance(message, Outputs):
        raise ProtocolError(f"message: expected Outputs, got a {type(message).__name__}")
    tensors = decode_tensors(rest, layout)
    try:
        return Attribution(from_tensor(tensors["scores"]), from_tensor(tensors["intercept"]))
    except ValueError as error:
        raise ProtocolError(str(error)) from None


def conclusion(result: Audit, outcome: str | None) -> str:
    """An audit in a sentence.

    Parameters
    ----------
    result : Audit
    outcome : str or None
        The decision that stands in the record.
    """
    if not result.holds:
        return "the record does not hold together"
    if result.n_believed:
        trainings = f"{result.n_believed} trainings are what the verifier says"
        return f"{outcome} follows from the record, if {trainings}; --rerun all repeats them"
    return f"{outcome} stands"


def audit_directory(
    path: str | Path,
    prover: PublicKey | None = None,
    verifier: PublicKey | None = None,
    *,
    retrain: Retrain | None = None,
    n_repeated: int | None = None,
) -> Audit:
    """Audit the folder of a verifier, with its private file and its trainings.

    Parameters
    ----------
    path : str or Path
    prover, verifier : PublicKey, optional
        Whose signatures count; those that the manifest names if not given, which shows only that the
        record is of two such keys.
    retrain, n_repeated
        As for `pyattr.protocol.audit.audit`.

    Returns
    -------
    Audit
        Signatures first, then what `pyattr.protocol.audit.audit` finds.

    Raises
    ------
    OSError
        If a file is missing.
    ProtocolError
        If one is not what it should be.
    """
    manifest = stated_manifest(path)
    keys = {
        "prover": prover or _named(manifest.prover),
        "verifier": verifier or _named(manifest.verifier),
    }
    with SessionReader(path) as reader:
        secret = secret_from(reader.read_private("verifier", PRIVATE_CAP))
        blocks = reader.read_blocks("verifier", _TRAININGS_CAP)
        messages: list[bytes] = []
        for number, name in enumerate(MESSAGES):
            role = "prover" if number in ProverSide.own else "verifier"
            most = _PLAIN if number != OUTPUTS else _outputs_size(manifest)
            try:
                messages.append(unseal(reader.read_message(number, most), keys[role]))
            except ProtocolError as error:
                return Audit([Check(f"signature of {name}", False, str(error))])
    signed = Check("signatures", True, f"{keys['prover'].hex[:16]}, {keys['verifier'].hex[:16]}")
    result = audit(messages, secret, blocks, retrain, n_repeated)
    return Audit([signed, *result.checks], result.verdict, result.n_believed)


def _named(key: str) -> PublicKey:
    """A key that a manifest names."""
    try:
        return PublicKey(key)
    except ValueError as error:
        raise ProtocolError(f"manifest: expected the keys of both parties, got {error}") from None


def _outputs_size(manifest: Manifest) -> int:
    """Largest size of the outputs that the manifest states."""
    n_outputs = manifest.design.n_outputs
    return sealed_size(frame_size(outputs_layout(n_outputs, manifest.n_train, manifest.n_targets)))
