"""`pyattr doctor`: whether this machine keeps what retraining promises."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from pyattr.commands.failure import Command
from pyattr.commands.options import CommandError, json_option
from pyattr.commands.output import answer
from pyattr.optional import install_line

if TYPE_CHECKING:
    from pyattr.retraining.examination import Examination

__all__ = ["doctor"]


@click.command("doctor", cls=Command)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:<number>.")
@json_option
def doctor(device: str) -> None:
    """Prove on this machine that retraining repeats to the byte.

    Trains the same models twice, alone and in company, on 1 and 2 threads, and says which class of
    equality holds, for softmax regression, the small network and ResNet-9. Takes some ten seconds.
    Ends with 0 if everything that is promised holds, else with 1.

    \b
    Example:
      pyattr doctor --device cuda --json
    """
    try:
        from pyattr.retraining.examination import examine
    except ImportError as error:
        message = f"The doctor needs torch ({error}): {install_line('torch')}."
        raise CommandError(message) from error
    found = examine(device)
    answer("pyattr-doctor/1", found.to_dict(), "\n".join(_lines(found)))
    if not found.promises_hold:
        sys.exit(1)


def _lines(found: Examination) -> Iterator[str]:
    """What was found, for people."""
    yield "Versions"
    for package, version in found.versions.items():
        yield f"  {package:<10}{version or 'not installed'}"
    yield "Extension"
    for level, there in found.extension.items():
        yield f"  {level:<13}{'yes' if there else 'no'}"
    yield f"Platform class ({found.device})"
    for name, value in found.platform_class.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {entry}" for key, entry in value.items()) or "none set"
        yield f"  {name}: {value}"
    yield "Equality"
    for kind, checks in found.equal_bytes.items():
        yield f"  {kind}: {found.sentence(kind)}"
        yield f"    {', '.join(f'{name} {_yes(equal)}' for name, equal in checks.items())}"
    yield f"  FFCV feed: {found.ffcv}"
    yield "All promises hold." if found.promises_hold else "Not all promises hold."


def _yes(equal: bool) -> str:
    return "equal" if equal else "DIFFERENT"
