"""`pyattr serve` and `pyattr verify`: a session over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from pyattr.commands.failure import Command
from pyattr.commands.keys import called, private_key, public_key
from pyattr.commands.options import (
    FILE,
    CommandError,
    job_of,
    job_options,
    json_option,
    one_line,
)
from pyattr.commands.output import answer, bar, say
from pyattr.commands.terms import (
    EXPLAINED,
    agreed_terms,
    check_same,
    check_subject,
    stated_terms,
    subject_of,
    terms_options,
)
from pyattr.commands.token import read_token
from pyattr.commands.verdict import end_with_verdict
from pyattr.errors import bad_value

if TYPE_CHECKING:
    from pyattr.transport.client import ProverClient

__all__ = ["serve_command", "verify_command"]

_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_JOB: Final = (
    "source",
    "dataset",
    "model",
    "n_train",
    "n_test",
    "dataset_seed",
    "path",
    "device",
)
_INTERRUPTED: Final = "Interrupted; the same command goes on from here."
_FOLDER: Final = click.Path(file_okay=False, path_type=Path)


@click.command("serve", cls=Command, interrupted=_INTERRUPTED, elsewhere=EXPLAINED)
@click.option("--attribution", type=FILE, required=True, help="What is to be verified.")
@click.option("--key", type=_FILE, required=True, help="Your private key.")
@click.option("--verifier-key", type=_FILE, required=True, help="The verifier's public key.")
@click.option("--state", type=_FOLDER, required=True, help="Folder for all sessions.")
@terms_options
@click.option(
    "--max-trainings", type=int, default=2**20, show_default=True, help="Largest challenge."
)
@click.option(
    "--min-trainings", type=int, default=16, show_default=True, help="Smallest challenge."
)
@click.option("--open-sessions", type=int, default=4, show_default=True, help="Sessions at a time.")
@click.option(
    "--per-claim", type=int, default=100, show_default=True, help="Sessions of one claim, ever."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="INTEGER",
    default=8750,
    show_default=True,
    help="0 for any that is free.",
)
@click.option("--token-file", type=FILE, help="Bearer token that requests must have.")
@click.option("--tls-cert", type=FILE, help="Certificate, PEM.")
@click.option("--tls-key", type=FILE, help="Its private key, PEM.")
@job_options
@json_option
def serve_command(**options: Any) -> None:
    """Answer a verifier over HTTP.

    Sessions are kept in a folder and go on after a restart. Needs a token to listen on more than this
    machine; TLS by certificate and key, or by a server in front of this one.

    \b
    Example:
      pyattr serve --attribution scores.safetensors --dataset digits \\
        --key prover.key --verifier-key verifier.key.pub --state sessions
    """
    from pyattr.transport.listener import Address, is_loopback, listen, server_of
    from pyattr.transport.server import Limits, application

    token = read_token(options.pop("token_file"))
    where = _taken(options, "host", "port", "tls_cert", "tls_key")
    address = Address(where["host"], where["port"], where["tls_cert"], where["tls_key"])
    if not is_loopback(address.host) and token is None:
        raise bad_value("token_file", "a token, to be reached from other machines", "none")
    if not is_loopback(address.host) and address.certificate is None:
        say("Without --tls-cert, others on the way can read the token and outputs.")
    limits = Limits()
    with _host(options) as host:
        server = server_of(application(host, limits, token), address, limits)
        try:
            opened, url = listen(address)
        except OSError as error:
            taken = f"cannot listen on port {address.port} of {address.host} ({one_line(error)})"
            raise CommandError(f"--port: {taken}; --port 0 takes one that is free") from error
        key = host.terms.key.public.hex
        say(f"listening on {url}, key {key}")
        answer("pyattr-serve/1", {"url": url, "key": key}, "")
        server.run(sockets=[opened])


@contextmanager
def _host(options: dict[str, Any]) -> Iterator[Any]:
    from pyattr.attribution import load_attribution
    from pyattr.transport.host import Host
    from pyattr.transport.terms import Quotas, Terms

    attribution = load_attribution(options.pop("attribution"))
    quotas = Quotas(**_taken(options, "open_sessions", "per_claim"))
    root = options.pop("state")
    key = private_key("key", options.pop("key"))
    verifier = public_key("verifier_key", options.pop("verifier_key"))
    job = job_of(**_taken(options, *_JOB))
    agreed = agreed_terms(options)
    terms = Terms(
        job.retrain, attribution, key, verifier, subject=subject_of(job), **agreed, **options
    )
    host = Host(root, terms, quotas, say)
    try:
        yield host
    finally:
        host.stop()


def _taken(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Remove some options from a command's, and return them."""
    return {name: options.pop(name) for name in names}


@click.command("verify", cls=Command, interrupted=_INTERRUPTED, elsewhere=EXPLAINED)
@click.option("--prover", metavar="URL", required=True, help="Where `pyattr serve` listens.")
@click.option("--key", type=_FILE, required=True, help="Your private key.")
@click.option("--prover-key", type=_FILE, required=True, help="The prover's public key.")
@click.option("--state", type=_FOLDER, required=True, help="Folder for this session.")
@click.option("--ledger", type=_FILE, help="δ ledger; by default the user's.")
@click.option("--token-file", type=FILE, help="Bearer token, as the prover has it.")
@click.option("--ca", type=FILE, help="Who vouches for the server, PEM; else the system's.")
@click.option(
    "--seconds",
    type=float,
    default=86400.0,
    show_default=True,
    help="Time limit of the whole session.",
)
@terms_options
@click.option(
    "--sampling",
    type=click.Choice(["uniform", "weighted"]),
    default="uniform",
    help="How spot checks are drawn.",
)
@job_options
@json_option
def verify_command(**options: Any) -> None:
    """Verify a prover's attribution over HTTP.

    Exits with 0 for ACCEPT, 1 for ABORT, 2 for INCONCLUSIVE, 3 if there is no verdict. The same command
    goes on with a session that was interrupted. Without another party, see `pyattr check`.

    \b
    Example:
      pyattr verify --prover http://127.0.0.1:8750 --dataset digits --key verifier.key \\
        --prover-key prover.key.pub --state session
    """
    from pyattr.transport.client import DeadlineError, ProverClient

    connection = _taken(options, "ca", "seconds")
    url, token = options.pop("prover"), read_token(options.pop("token_file"))
    with called("prover", "url"):
        opened = ProverClient(url, token=token, **connection)
    try:
        with opened as client:
            _verify(client, options)
    except DeadlineError as error:
        advice = "is `pyattr serve` running there? The same command goes on"
        raise CommandError(f"{one_line(error)}; {advice}") from error


def _verify(client: ProverClient, options: dict[str, Any]) -> NoReturn:
    """Hold the session, and end with the exit code of its outcome."""
    from pyattr.transport.client import DeadlineError, RefusedError, hold_session, send_decision
    from pyattr.transport.directory import SessionDirectory
    from pyattr.transport.ledger import Ledger
    from pyattr.transport.verifier_side import VerifierSide

    key = private_key("key", options.pop("key"))
    prover = public_key("prover_key", options.pop("prover_key"))
    state, ledger = options.pop("state"), Ledger.at(options.pop("ledger"))
    job = job_of(**_taken(options, *_JOB))
    terms = stated_terms(options) | options
    terms |= {"n_train": job.n_train, "n_targets": job.n_targets, "subject": subject_of(job)}
    with SessionDirectory(state, "verifier", create=True) as directory, bar("prover") as tell:
        # No progress of own trainings: how many rows are checked is nobody's to see.
        side = VerifierSide(directory, job.retrain, key, prover, ledger, terms)
        check_same(side.end.manifest, terms)
        check_subject(job, side.end.manifest)
        hold_session(side, client, tell)
        try:
            send_decision(side, client)
        except (RefusedError, DeadlineError) as error:
            say(f"The prover was not told: {error}")
    end_with_verdict(side)
