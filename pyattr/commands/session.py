"""`pyattr session`: a session by files that two parties send each other, each in a folder of its own.

Each command does what its side can do and stops; run again, it does the same again and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pyattr.commands.failure import Group
from pyattr.commands.keys import private_key, public_key
from pyattr.commands.options import (
    FILE,
    FOLDER,
    CommandError,
    job_of,
    job_options,
    json_option,
    one_line,
    place_options,
    placed_job,
)
from pyattr.commands.output import answer
from pyattr.commands.record import audit_command, show
from pyattr.commands.terms import (
    agreed_terms,
    check_same,
    check_subject,
    stated_terms,
    subject_of,
    terms_options,
)
from pyattr.commands.verdict import end_with_verdict

if TYPE_CHECKING:
    from pyattr.protocol import Manifest
    from pyattr.protocol.keys import PublicKey, SigningKey
    from pyattr.transport.job import Job
    from pyattr.transport.prover_side import ProverSide
    from pyattr.transport.verifier_side import VerifierSide

__all__ = ["session"]

_INTERRUPTED: Final = "Interrupted; the same command goes on from here."

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("session", cls=Group)
def session() -> None:
    """Verify scores by files that two parties exchange.

    Each party keeps a folder and copies what the other sends into it. After a crash, run the same
    command again. The exit code is 0 for ACCEPT, 1 for ABORT, 2 for INCONCLUSIVE, 3 for errors.

    \b
    Example, by turns (V verifier, P prover), with --key and --peer for each:
      V: pyattr session init DIR           P: pyattr session commit DIR --attribution FILE
      V: pyattr session challenge DIR      P: pyattr session respond DIR --attribution FILE
      V: pyattr session verify DIR         anyone: pyattr session audit DIR
    """


session.add_command(audit_command)
session.add_command(show)


def _keys(command: Command) -> Command:
    """Add options for the own key and the other party's."""
    peer = click.option(
        "--peer", type=FILE, required=True, envvar="PYATTR_PEER", help="Their public key file."
    )
    key = click.option(
        "--key", type=FILE, required=True, envvar="PYATTR_KEY", help="Your private key file."
    )
    return key(peer(command))


_LEDGER = click.option(
    "--ledger", type=click.Path(path_type=Path), help="δ ledger; by default the user's."
)
_ATTRIBUTION = click.option(
    "--attribution", type=FILE, required=True, help="Scores, as Attribution.save writes them."
)


def _read_keys(key: Path, peer: Path) -> tuple[SigningKey, PublicKey]:
    return private_key("key", key), public_key("peer", peer)


def _manifest(directory: Path, key: PublicKey) -> Manifest:
    """The terms of the session in a directory, from a verifier's own or another's invitation."""
    from pyattr.protocol.audit import manifest_of
    from pyattr.protocol.encoding import frame_size
    from pyattr.protocol.signing import sealed_size, unseal
    from pyattr.transport.directory import SessionReader

    with SessionReader(directory) as reader:
        if not reader.has_message(0):
            raise CommandError(
                "directory: expected an invitation (0-invitation.dsse), got none; the verifier's "
                "`pyattr session init` writes it"
            )
        return manifest_of(unseal(reader.read_message(0, sealed_size(frame_size({}))), key))


@session.command("init", interrupted=_INTERRUPTED)
@FOLDER
@_keys
@terms_options
@click.option(
    "--sampling",
    type=click.Choice(["uniform", "weighted"]),
    default="uniform",
    show_default=True,
    help="How spot checks are drawn.",
)
@job_options
@_LEDGER
@json_option
def init(directory: Path, key: Path, peer: Path, ledger: Path | None, **options: Any) -> None:
    """Verifier: train a pilot and write the invitation, with all terms.

    \b
    Example:
      pyattr session init DIR --key verifier.key --peer prover.key.pub --n-train 500
    """
    terms = stated_terms(options) | {"sampling": options.pop("sampling")}
    job = job_of(**options)
    terms |= {"n_train": job.n_train, "n_targets": job.n_targets, "subject": subject_of(job)}
    with _verifier(directory, key, peer, job, ledger, terms) as side:
        manifest = side.end.manifest
        check_same(manifest, terms)
        check_subject(job, manifest)
        record = {"directory": directory, "claim": manifest.claim()}
        words = f"{directory}: invitation, claim {manifest.claim()[:16]}"
        answer("pyattr-session-init/1", record, words)


@contextmanager
def _verifier(
    directory: Path,
    key: Path,
    peer: Path,
    job: Job,
    ledger: Path | None,
    terms: dict[str, Any] | None = None,
) -> Iterator[VerifierSide]:
    from pyattr.transport.directory import SessionDirectory
    from pyattr.transport.ledger import Ledger
    from pyattr.transport.verifier_side import VerifierSide

    own, theirs = _read_keys(key, peer)
    with SessionDirectory(directory, "verifier", create=terms is not None) as kept:
        yield VerifierSide(kept, job.retrain, own, theirs, Ledger.at(ledger), terms)


@contextmanager
def _resumed(
    directory: Path, key: Path, peer: Path, ledger: Path | None, place: dict[str, Any]
) -> Iterator[VerifierSide]:
    """The verifier of a session that was begun, with data that are still what they were."""
    manifest = _manifest(directory, private_key("key", key).public)
    job = placed_job(manifest.subject.recipe, **place)
    check_subject(job, manifest)
    with _verifier(directory, key, peer, job, ledger) as side:
        yield side


@session.command("commit", interrupted=_INTERRUPTED)
@FOLDER
@_keys
@_ATTRIBUTION
@terms_options
@click.option(
    "--max-trainings", type=int, default=2**20, show_default=True, help="Largest challenge."
)
@click.option(
    "--min-trainings", type=int, default=16, show_default=True, help="Smallest challenge."
)
@job_options
@json_option
def commit(
    directory: Path,
    key: Path,
    peer: Path,
    attribution: Path,
    max_trainings: int,
    min_trainings: int,
    **options: Any,
) -> None:
    """Prover: agree to the terms and bind yourself to the scores.

    The options say what was agreed: an invitation to anything else is refused.

    \b
    Example:
      pyattr session commit DIR --key prover.key --peer verifier.key.pub \\
        --attribution scores.safetensors --n-train 500
    """
    sizes = {"max_trainings": max_trainings, "min_trainings": min_trainings}
    agreed = agreed_terms(options) | sizes
    job = job_of(**options)
    with _prover(directory, key, peer, attribution, job, agreed) as side:
        _need(side.advance(stop=2), 2, "an invitation (0-invitation.dsse)")
        manifest = _manifest(directory, side.peer)
        stated = {
            name: getattr(manifest, name) for name in ("epsilon", "delta", "attempts", "clip")
        }
        record = {"directory": directory, "session": side.end.session, **stated}
        words = (
            f"{directory}: commitment, session {side.end.session[:16]}\n"
            f"agreed: ε = {manifest.epsilon:g}, δ = {manifest.delta:g} in {manifest.attempts} sessions, "
            f"b = {manifest.clip:g}, {manifest.design.n_outputs} trainings"
        )
        answer(
            "pyattr-session-commit/1", record | {"n_trainings": manifest.design.n_outputs}, words
        )


@contextmanager
def _prover(
    directory: Path, key: Path, peer: Path, attribution: Path, job: Job, agreed: dict[str, Any]
) -> Iterator[ProverSide]:
    from pyattr.attribution import load_attribution
    from pyattr.interface import Retrain
    from pyattr.protocol import Prover
    from pyattr.transport.directory import SessionDirectory
    from pyattr.transport.prover_side import ProverSide

    own, theirs = _read_keys(key, peer)
    scores, subject = load_attribution(attribution), subject_of(job)

    def make(retrain: Retrain, secret: bytes) -> Prover:
        return Prover(
            retrain,
            scores,
            subject=subject,
            key=own.public.hex,
            verifier_key=theirs.hex,
            secret=secret,
            **agreed,
        )

    with SessionDirectory(directory, "prover", create=True) as kept:
        yield ProverSide(kept, job.retrain, own, theirs, make, subject)


def _need(n_messages: int, needed: int, missing: str) -> None:
    if n_messages < needed:
        raise CommandError(f"directory: expected {missing}, got none")


@session.command("challenge", interrupted=_INTERRUPTED)
@FOLDER
@_keys
@place_options
@_LEDGER
@json_option
def challenge(directory: Path, key: Path, peer: Path, ledger: Path | None, **place: Any) -> None:
    """Verifier: ask for outputs on fresh subsets; this spends the session's share of δ.

    \b
    Example:
      pyattr session challenge DIR --key verifier.key --peer prover.key.pub
    """
    with _resumed(directory, key, peer, ledger, place) as side:
        _need(side.advance(stop=3), 3, "a commitment (1-commitment.dsse)")
        record = {"directory": directory, "session": side.end.session}
        words = f"{directory}: challenge, session {side.end.session[:16]}"
        answer("pyattr-session-challenge/1", record, words)


@session.command("respond", interrupted=_INTERRUPTED)
@FOLDER
@_keys
@_ATTRIBUTION
@place_options
@json_option
def respond(directory: Path, key: Path, peer: Path, attribution: Path, **place: Any) -> None:
    """Prover: train the challenge and send outputs and scores.

    Interrupted, it goes on where it was. What was agreed to is in the invitation by now.

    \b
    Example:
      pyattr session respond DIR --key prover.key --peer verifier.key.pub \\
        --attribution scores.safetensors
    """
    from pyattr.transport.directory import SessionReader

    with SessionReader(directory) as reader:
        if not reader.has_message(1):  # what it agrees to, a prover says when it commits
            raise CommandError("directory: expected your commitment (1-commitment.dsse), got none")
    manifest = _manifest(directory, _read_keys(key, peer)[1])
    job = placed_job(manifest.subject.recipe, **place)
    check_subject(job, manifest)
    # Whether b was agreed on is what `commit` compared; one that was not may still cut off too much.
    clip = manifest.clip if manifest.clip_agreed else None
    terms = {"p": manifest.p, "clip": clip, "tolerance": manifest.tolerance}
    most = manifest.design.n_outputs
    with _prover(directory, key, peer, attribution, job, terms | {"max_trainings": most}) as side:
        n_messages = side.advance()
        _need(n_messages, 5, "a challenge (2-challenge.dsse)")
        outcome = side.end.outcome if n_messages == 6 else None
        record = {"directory": directory, "n_trainings": side.end.n_retrained, "decision": outcome}
        words = f"{directory}: outputs of {side.end.n_retrained} trainings"
        if outcome is not None:
            words += f"\n{directory}: the verifier decided {outcome}"
        answer("pyattr-session-respond/1", record, words)


@session.command("verify", interrupted=_INTERRUPTED)
@FOLDER
@_keys
@place_options
@_LEDGER
@json_option
def verify(directory: Path, key: Path, peer: Path, ledger: Path | None, **place: Any) -> None:
    """Verifier: judge the outputs, spot-check them, and decide.

    \b
    Example:
      pyattr session verify DIR --key verifier.key --peer prover.key.pub; echo $?
    """
    from pyattr.errors import ProtocolError

    with _resumed(directory, key, peer, ledger, place) as side:
        if not side.directory.has_message(2):  # asking spends δ: it has a command of its own
            raise CommandError("directory: expected a challenge (2-challenge.dsse), got none")
        try:
            n_messages = side.advance()
        except ProtocolError as error:
            if side.end.state != "dead":
                raise
            end_with_verdict(side, one_line(error))
        _need(n_messages, 6, "outputs (3-outputs-commitment.dsse, 4-outputs.dsse)")
        end_with_verdict(side)
