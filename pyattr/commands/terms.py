"""What two parties agree on before a session: the same options on both sides, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pyattr.commands.options import FILE
from pyattr.errors import bad_value

if TYPE_CHECKING:
    from pyattr.protocol import Manifest, Subject
    from pyattr.protocol.tolerance import Calibration
    from pyattr.transport.job import Job

__all__ = [
    "EXPLAINED",
    "agreed_terms",
    "check_same",
    "check_subject",
    "read_calibration",
    "stated_terms",
    "subject_of",
    "terms_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])

_NAMES = (
    "epsilon",
    "delta",
    "attempts",
    "p",
    "method",
    "nonlinearity",
    "simultaneous",
    "budget",
    "clip",
    "calibration",
)
EXPLAINED = ("pyattr session init", _NAMES[2:])
"""Where the terms that are rarely changed are explained; for `pyattr.commands.failure.Command`."""

_TERMS = (
    click.option(
        "--epsilon",
        type=float,
        default=0.05,
        show_default=True,
        help="Largest gap accepted, as a share of Var f.",
    ),
    click.option(
        "--delta",
        type=float,
        default=0.05,
        show_default=True,
        help="Probability of a false ACCEPT, at most.",
    ),
    click.option(
        "--attempts", type=int, default=1, show_default=True, help="Sessions that share δ."
    ),
    click.option(
        "--p",
        type=float,
        default=0.5,
        show_default=True,
        help="Probability that a subset holds an example.",
    ),
    click.option(
        "--method",
        type=click.Choice(["gap", "paper"]),
        default="gap",
        show_default=True,
        help="How the gap is judged.",
    ),
    click.option(
        "--nonlinearity",
        type=float,
        default=0.02,
        show_default=True,
        help="Share of Var f that is odd and not linear.",
    ),
    click.option(
        "--simultaneous", is_flag=True, help="Upper limits that hold for all targets at once."
    ),
    click.option("--budget", type=int, help="Most trainings of the prover, if agreed."),
    click.option("--clip", type=float, help="b, if agreed: outputs are clipped to [-b, b]."),
    click.option("--calibration", type=FILE, help="Record of `pyattr calibrate compare --json`."),
)


def terms_options(command: Command) -> Command:
    """Add options for what both parties agreed on; the same on both sides."""
    for option in reversed(_TERMS):
        command = option(command)
    return command


def stated_terms(options: dict[str, Any]) -> dict[str, Any]:
    """What `terms_options` say, taken out of a command's options, as arguments of a `Verifier`."""
    terms = {name: options.pop(name) for name in _NAMES}
    file = terms["calibration"]
    found = None if file is None else read_calibration(file)
    return terms | {"calibration": found, "tolerance": 0.0 if found is None else found.tolerance}


def agreed_terms(options: dict[str, Any]) -> dict[str, Any]:
    """What `terms_options` say, as arguments of a `Prover`: all that it will not be talked out of."""
    terms = stated_terms(options)
    own = {name: terms.pop(name) for name in ("p", "clip", "tolerance")}
    fixed = {
        "bound": "chi2",
        "relative": True,
        "intercept": "refit",
        "spot_check_share": 0.2,
        "design_agreed": False,
        "clip_agreed": own["clip"] is not None,
    }
    return own | {"agreed": terms | fixed}


def check_same(manifest: Manifest, terms: Mapping[str, Any]) -> None:
    """Refuse options that are not those that a session began with; see `check_subject` for the subject.

    Raises
    ------
    ValueError
        If a field of the manifest is another; it is named.
    """
    from pyattr.protocol.arrays import as_clip

    given = {**terms, "clip_agreed": terms["clip"] is not None}
    given["clip"] = manifest.clip if terms["clip"] is None else as_clip(terms["clip"])
    for name in sorted((given.keys() & set(manifest.__struct_fields__)) - {"subject"}):
        expected, got = getattr(manifest, name), given[name]
        if expected != got:
            raise bad_value(name, f"{expected!r}, as the session began", repr(got))


def check_subject(job: Job, manifest: Manifest, *, exact: bool = False) -> None:
    """Refuse to train on other data, or where equal bytes cannot be expected.

    An auditor's outputs are to be those that an honest verifier's would have been: `exact`, whatever τ is.

    Raises
    ------
    ValueError
        If this machine's data, recipe or, without a tolerance, platform or versions are others.
    """
    ours, agreed = subject_of(job), manifest.subject
    for name in agreed.__struct_fields__:
        if manifest.tolerance > 0.0 and not exact and name in ("platform", "versions"):
            continue
        if getattr(ours, name) != getattr(agreed, name):
            expected = f"{getattr(agreed, name)!r}, as the manifest says"
            raise bad_value(name, expected, f"{getattr(ours, name)!r} on this machine")


def subject_of(job: Job) -> Subject:
    """What a manifest says of a job."""
    from pyattr.protocol import Subject

    return Subject(
        train=job.train,
        targets=job.targets,
        recipe=dict(job.recipe),
        output=job.output,
        platform=job.platform,
        versions=dict(job.versions),
    )


def read_calibration(file: Path) -> Calibration:
    """Read the record that a tolerance rests on.

    Raises
    ------
    ValueError
        If it is none.
    """
    import msgspec

    from pyattr.protocol.tolerance import Calibration

    try:
        words = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        words.pop("schema", None)  # of the command's output
        return msgspec.convert(words, Calibration)
    except msgspec.MsgspecError as error:
        raise bad_value("calibration", "a record of `pyattr calibrate compare`", error) from error
