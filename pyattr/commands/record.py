"""`pyattr session audit` and `show`: what a session's folder proves to anyone, and what it says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyattr.commands.failure import SessionCommand
from pyattr.commands.options import ERROR, EXIT_CODES, FILE, place_options, placed_job
from pyattr.commands.session import FOLDER
from pyattr.commands.terms import check_subject
from pyattr.errors import bad_value

if TYPE_CHECKING:
    pass

__all__ = ["audit_command", "show"]


@click.command("audit", cls=SessionCommand)
@FOLDER
@click.option("--prover-key", type=FILE, help="Public key file; else the manifest's.")
@click.option("--verifier-key", type=FILE, help="Public key file; else the manifest's.")
@click.option("--rerun", metavar="N|all", help="Train again: N at random, or judge all again.")
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def audit_command(
    directory: Path,
    prover_key: Path | None,
    verifier_key: Path | None,
    rerun: str | None,
    as_json: bool,
    **place: Any,
) -> None:
    """Anyone: derive the decision again from the verifier's folder.

    Needs its private-verifier.json and trainings-verifier, which a verifier shows once the session is over.
    The verifier's own trainings are its word until --rerun repeats them. The exit code is that of the
    decision if it stands, 2 if it rests on the verifier's word, 3 if anything does not hold.

    \b
    Example:
      pyattr session audit DIR --rerun all
    """
    from pyattr.protocol.signing import PublicKey
    from pyattr.transport.evidence import audit_directory, conclusion, stated_manifest

    keys = [None if file is None else PublicKey.load(file) for file in (prover_key, verifier_key)]
    retrain, n_repeated = None, None
    if rerun is not None:
        if rerun != "all" and not rerun.isdecimal():
            raise bad_value("rerun", "a number or 'all'", repr(rerun))
        n_repeated = None if rerun == "all" else int(rerun)
        manifest = stated_manifest(directory)
        job = placed_job(manifest.subject.recipe, **place)
        check_subject(job, manifest, exact=True)
        retrain = job.retrain
    result = audit_directory(directory, *keys, retrain=retrain, n_repeated=n_repeated)
    outcome = None if result.verdict is None else result.verdict.outcome.value
    if as_json:
        checks = [{"check": c.name, "holds": c.holds, "found": c.found} for c in result.checks]
        figures = {"holds": result.holds, "outcome": outcome, "n_believed": result.n_believed}
        click.echo(json.dumps({**figures, "checks": checks}))
    else:
        for check in result.checks:
            click.echo(f"{'ok  ' if check.holds else 'FAIL'} {check.name}: {check.found}")
        click.echo(conclusion(result, outcome))
    if not result.holds or outcome is None:
        sys.exit(ERROR)
    sys.exit(EXIT_CODES["INCONCLUSIVE" if result.n_believed else outcome])


@click.command("show", cls=SessionCommand)
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(directory: Path, as_json: bool) -> None:
    """Anyone: what a folder holds, and the terms that it states.

    \b
    Example:
      pyattr session show DIR
    """
    import msgspec

    from pyattr.transport.directory import MESSAGES, SessionReader
    from pyattr.transport.evidence import stated_decision, stated_manifest

    with SessionReader(directory) as reader:
        present = [name for n, name in enumerate(MESSAGES) if reader.has_message(n)]
    manifest = stated_manifest(directory) if MESSAGES[0] in present else None
    decision = stated_decision(directory) if MESSAGES[5] in present else None
    terms = {} if manifest is None else msgspec.to_builtins(manifest)
    if as_json:
        click.echo(json.dumps({"messages": present, "decision": decision, "manifest": terms}))
        return
    click.echo(f"{len(present)} of {len(MESSAGES)} messages: {', '.join(present) or 'none'}")
    click.echo(f"decision: {decision or 'none yet'}")
    for name, value in terms.items():
        if not isinstance(value, dict):
            click.echo(f"  {name}: {value!r}")
    for name, value in terms.get("subject", {}).items():
        click.echo(f"  {name}: {value!r}")
