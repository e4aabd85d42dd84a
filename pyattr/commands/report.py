"""`pyattr report`: one HTML page for a folder of results."""

from __future__ import annotations

from pathlib import Path

import click

from pyattr.commands.options import one_line

__all__ = ["report_command"]

_EXTRAS = {
    "jinja2": "report", "PIL": "report", "cryptography": "session", "securesystemslib": "session",
}  # fmt: skip


@click.command("report")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the page goes; else DIR/report.html, of a session ./report.html.",
)
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

    try:
        file = reports.write(folder, out)
    except ImportError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0], "report,session")
        raise click.ClickException(f"{one_line(error)}: pip install 'pyattr[{extra}]'") from error
    except (ValueError, OSError) as error:
        words = one_line(error)
        for name, shown in (("folder: ", "DIR: "), ("out: ", "--out: ")):
            if words.startswith(name):
                words = shown + words.removeprefix(name)
        raise click.ClickException(words) from error
    if out is None and file.parent != folder:
        click.echo("A session's folder is evidence and is not written to.", err=True)
    click.echo(file)
