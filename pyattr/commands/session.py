"""`pyattr session`: a session by files that two parties send each other, each in a folder of its own.

Each command does what its side can do and stops; run again, it does the same again and changes nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import numpy as np

from pyattr.commands.failure import SessionCommand, SessionGroup
from pyattr.commands.options import (
    EXIT_CODES,
    FILE,
    CommandError,
    job_of,
    job_options,
    one_line,
    place_options,
    placed_job,
)
from pyattr.commands.terms import (
    agreed_terms,
    check_same,
    check_subject,
    stated_terms,
    subject_of,
    terms_options,
)

if TYPE_CHECKING:
    from pyattr.protocol import Manifest
    from pyattr.protocol.signing import PublicKey, SigningKey
    from pyattr.transport.job import Job
    from pyattr.transport.side import ProverSide, VerifierSide

__all__ = ["FOLDER", "keygen", "session"]

Command = TypeVar("Command", bound=Callable[..., Any])

FOLDER = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


@click.command("keygen", cls=SessionCommand)
@click.argument("file", type=click.Path(path_type=Path))
def keygen(file: Path) -> None:
    """Make a key pair: FILE, which stays with you, and FILE.pub for the other party.

    \b
    Example:
      pyattr keygen verifier.key
    """
    from pyattr.protocol.signing import write_key_pair

    public = write_key_pair(file)
    click.echo(f"{file}.pub: {public.hex}")


@click.group("session", cls=SessionGroup)
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
    from pyattr.protocol.signing import PublicKey, SigningKey

    return SigningKey.load(key), PublicKey.load(peer)


def _manifest(directory: Path, key: PublicKey) -> Manifest:
    """The terms of the session in a directory, from a verifier's own or another's invitation."""
    from pyattr.protocol.audit import manifest_of
    from pyattr.protocol.encoding import frame_size
    from pyattr.protocol.signing import sealed_size, unseal
    from pyattr.transport.directory import SessionReader

    with SessionReader(directory) as reader:
        return manifest_of(unseal(reader.read_message(0, sealed_size(frame_size({}))), key))


@session.command("init")
@FOLDER
@_keys
@terms_options
@click.option(
    "--sampling",
    type=click.Choice(["uniform", "weighted"]),
    default="uniform",
    show_default=True,
    help="Of spot checks.",
)
@job_options
@_LEDGER
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
        click.echo(f"{directory}: invitation, claim {manifest.claim()[:16]}")


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
    from pyattr.transport.side import VerifierSide

    own, theirs = _read_keys(key, peer)
    with SessionDirectory(directory, "verifier", create=terms is not None) as kept:
        yield VerifierSide(kept, job.retrain, own, theirs, Ledger.at(ledger), terms)


@contextmanager
def _resumed(
    directory: Path, key: Path, peer: Path, ledger: Path | None, place: dict[str, Any]
) -> Iterator[VerifierSide]:
    """The verifier of a session that was begun, with data that are still what they were."""
    from pyattr.protocol.signing import SigningKey

    manifest = _manifest(directory, SigningKey.load(key).public)
    job = placed_job(manifest.subject.recipe, **place)
    check_subject(job, manifest)
    with _verifier(directory, key, peer, job, ledger) as side:
        yield side


@session.command("commit")
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
        click.echo(f"{directory}: commitment, session {side.end.session[:16]}")
        click.echo(
            f"agreed: ε = {manifest.epsilon:g}, δ = {manifest.delta:g} in {manifest.attempts} sessions, "
            f"b = {manifest.clip:g}, {manifest.design.n_outputs} trainings"
        )


@contextmanager
def _prover(
    directory: Path, key: Path, peer: Path, attribution: Path, job: Job, agreed: dict[str, Any]
) -> Iterator[ProverSide]:
    from pyattr.attribution import load_attribution
    from pyattr.interface import Retrain
    from pyattr.protocol import Prover
    from pyattr.transport.directory import SessionDirectory
    from pyattr.transport.side import ProverSide

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


@session.command("challenge")
@FOLDER
@_keys
@place_options
@_LEDGER
def challenge(directory: Path, key: Path, peer: Path, ledger: Path | None, **place: Any) -> None:
    """Verifier: ask for outputs on fresh subsets; this spends the session's share of δ.

    \b
    Example:
      pyattr session challenge DIR --key verifier.key --peer prover.key.pub
    """
    with _resumed(directory, key, peer, ledger, place) as side:
        _need(side.advance(stop=3), 3, "a commitment (1-commitment.dsse)")
        click.echo(f"{directory}: challenge, session {side.end.session[:16]}")


@session.command("respond")
@FOLDER
@_keys
@_ATTRIBUTION
@place_options
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
        click.echo(f"{directory}: outputs of {side.end.n_retrained} trainings")
        if n_messages == 6:
            click.echo(f"{directory}: the verifier decided {side.end.outcome}")


@session.command("verify")
@FOLDER
@_keys
@place_options
@_LEDGER
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(
    directory: Path, key: Path, peer: Path, ledger: Path | None, as_json: bool, **place: Any
) -> None:
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
            _tell(side, as_json, one_line(error))
        _need(n_messages, 6, "outputs (3-outputs-commitment.dsse, 4-outputs.dsse)")
        _tell(side, as_json)


def _tell(side: VerifierSide, as_json: bool, reason: str | None = None) -> None:
    """Print a verdict, and end with its exit code."""
    verdict = side.end.verdict
    figures = {
        "outcome": verdict.outcome.value,
        "reason": reason or verdict.reason,
        "session": side.end.session,
        "gap_upper": [float(f"{g:.4g}") if np.isfinite(g) else None for g in verdict.gap_upper],
        "epsilon": verdict.epsilon,
        "delta": verdict.delta,
        "n_retrained": verdict.n_retrained,
        "n_prover_retrained": verdict.n_prover_retrained,
        "n_checked": verdict.details.get("n_checked"),
    }
    if as_json:
        click.echo(json.dumps(figures, indent=2))
    else:
        click.echo(f"{figures['outcome']}: {figures['reason']}")
        click.echo(f"{verdict.n_retrained} trainings here, {verdict.n_prover_retrained} there")
    sys.exit(EXIT_CODES[verdict.outcome.value])
