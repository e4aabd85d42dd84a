"""`pyattr keygen`: a key pair in two files."""

from __future__ import annotations

from pathlib import Path

import click

from pyattr.commands.failure import Command
from pyattr.commands.options import json_option
from pyattr.commands.output import answer

__all__ = ["keygen"]


@click.command("keygen", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def keygen(file: Path) -> None:
    """Make a key pair: FILE stays with you, FILE.pub is for the other party.

    \b
    Example:
      pyattr keygen verifier.key
    """
    from pyattr.protocol.keys import write_key_pair

    public = write_key_pair(file)
    record = {"private_file": file, "public_file": f"{file}.pub", "public_key": public.hex}
    answer("pyattr-keygen/1", record, f"{file}.pub: {public.hex}")
