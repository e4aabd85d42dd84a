"""`pyattr report`: one HTML page for a folder of results."""

from __future__ import annotations

from pathlib import Path

import click

from pyattr.commands.failure import Command
from pyattr.commands.options import json_option
from pyattr.commands.output import answer, say

__all__ = ["report_command"]


@click.command("report", cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the page goes; else DIR/report.html, of a session ./report.html.",
)
@json_option
def report_command(folder: Path, out: Path | None) -> None:
    """Make one HTML page of an attribution, a session, bench results or a demo.

    DIR is what another command wrote. The page opens in any browser, without network, on phones too;
    figures, pictures and numbers to save are inside it. Nothing is trained or downloaded, and a
    session's folder is left as it is. Prints the page's path.

    \b
    Example:
      pyattr report attribution --out attribution.html
    """
    from pyattr import reports

    file = reports.write(folder, out)
    if out is None and file.parent != folder:
        say("A session's folder is evidence and is not written to.")
    answer("report/1", {"file": file}, str(file))
