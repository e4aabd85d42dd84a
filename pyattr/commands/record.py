"""`pyattr session audit` and `show`: what a session's folder proves to anyone, and what it says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pyattr.commands.failure import Command
from pyattr.commands.options import (
    ERROR,
    EXIT_CODES,
    FILE,
    FOLDER,
    json_option,
    place_options,
    placed_job,
)
from pyattr.commands.output import answer
from pyattr.commands.terms import check_subject
from pyattr.errors import bad_value

if TYPE_CHECKING:
    pass

__all__ = ["audit_command", "show"]

# What can be done once so many messages are there.
_NEXT: Final = (
    "verifier: pyattr session init",
    "prover: pyattr session commit",
    "verifier: pyattr session challenge",
    "prover: pyattr session respond",
    "prover: pyattr session respond",
    "verifier: pyattr session verify",
    "anyone: pyattr session audit",
)


@click.command("audit", cls=Command)
@FOLDER
@click.option("--prover-key", type=FILE, help="Public key file; else the manifest's.")
@click.option("--verifier-key", type=FILE, help="Public key file; else the manifest's.")
@click.option("--rerun", metavar="N|all", help="Train again: N at random, or judge all again.")
@place_options
@json_option
def audit_command(
    directory: Path,
    prover_key: Path | None,
    verifier_key: Path | None,
    rerun: str | None,
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
    from pyattr.protocol.keys import PublicKey
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
    checks = [{"check": c.name, "holds": c.holds, "found": c.found} for c in result.checks]
    figures = {"holds": result.holds, "outcome": outcome, "n_believed": result.n_believed}
    lines = [f"{'ok  ' if c.holds else 'FAIL'} {c.name}: {c.found}" for c in result.checks]
    words = "\n".join([*lines, conclusion(result, outcome)])
    answer("pyattr-session-audit/1", {**figures, "checks": checks}, words)
    if not result.holds or outcome is None:
        sys.exit(ERROR)
    sys.exit(EXIT_CODES["INCONCLUSIVE" if result.n_believed else outcome])


@click.command("show", cls=Command)
@FOLDER
@json_option
def show(directory: Path) -> None:
    """Anyone: what a folder holds, whose turn it is, and the terms that it states.

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
    after = _NEXT[sum(name in present for name in MESSAGES)]
    lines = [
        f"{len(present)} of {len(MESSAGES)} messages: {', '.join(present) or 'none'}",
        f"decision: {decision or 'none yet'}",
        f"next: {after}",
        *(f"  {name}: {value!r}" for name, value in terms.items() if not isinstance(value, dict)),
        *(f"  {name}: {value!r}" for name, value in terms.get("subject", {}).items()),
    ]
    record = {"messages": present, "decision": decision, "next": after, "manifest": terms}
    answer("pyattr-session-show/1", record, "\n".join(lines))
