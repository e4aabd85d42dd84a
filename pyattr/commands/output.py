"""What commands write, and where: results on standard output, all else on standard error.

With ``--json`` standard output holds one JSON object and nothing else; the text for people goes to
standard error. Progress bars appear where standard error is a terminal; colours where the output is
one, or FORCE_COLOR is set, and neither ``--no-color`` nor NO_COLOR is.
"""

from __future__ import annotations

import io
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from pyattr.commands.options import asked_for

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, ProgressColumn

__all__ = ["Tell", "answer", "bars", "console", "say", "show_log", "stages"]

Tell = Callable[[str, int, int], None]
"""Called with a stage in words, what is done of it and what is planned."""

_MIN_WIDTH: Final = 80  # columns that tables need


def answer(schema: str, record: Mapping[str, Any], words: RenderableType) -> None:
    """Print what a command found.

    Parameters
    ----------
    schema : str
        Name and version of the record, as ``"plan/1"``: its first key, after "pyattr/".
    record : mapping
        JSON values, tuples and paths included; NaN and infinities become null.
    words : str or rich renderable
        The same for people; "" for nothing.
    """
    if not asked_for("json"):
        _show(words, err=False)
        return
    whole = {"schema": f"pyattr/{schema}"} | {k: v for k, v in record.items() if k != "schema"}
    click.echo(json.dumps(_plain(whole), indent=2, allow_nan=False))
    _show(words, err=True)


def say(words: str) -> None:
    """Tell people what goes on: a line on standard error."""
    click.echo(words, err=True)


def console(*, err: bool) -> Console:
    """A console on one of the two outputs, with colours where they are wanted."""
    from rich.console import Console

    no_color = True if asked_for("no_color") else None
    return Console(stderr=err, highlight=False, no_color=no_color)


def _show(words: RenderableType, *, err: bool) -> None:
    if isinstance(words, str):
        if words:
            click.echo(words, err=err)
        return
    stream = sys.stderr if err else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # a terminal without Greek letters
    printer = console(err=err)
    width = max(printer.width, _MIN_WIDTH)
    printer.print(words, width=width, soft_wrap=width > printer.width)


def _plain(value: Any) -> Any:
    """JSON values alone."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


@contextmanager
def bars(*more: ProgressColumn) -> Iterator[Progress]:
    """Progress bars on standard error, described by their tasks; none where that is no terminal.

    Parameters
    ----------
    *more : ProgressColumn
        What stands to the right of a bar, in place of the time left.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )  # fmt: skip

    columns = (
        TextColumn("{task.description}"),
        BarColumn(None),
        MofNCompleteColumn(),
        *(more or (TimeRemainingColumn(elapsed_when_finished=True),)),
    )
    # FORCE_COLOR makes rich take anything for a terminal: a bar in a file would be no good to anyone.
    with Progress(*columns, console=console(err=True), disable=not sys.stderr.isatty()) as shown:
        yield shown


@contextmanager
def stages() -> Iterator[Tell]:
    """One bar for each stage that is told of."""
    with bars() as shown:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, planned: int) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=planned)
            shown.update(tasks[stage], completed=done, total=planned)

        yield tell


class _Lines(logging.Handler):
    """Log records as lines on standard error, above the bars that are there."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def show_log(ctx: click.Context) -> None:
    """Show warnings of the library on standard error; with ``-v`` what it does, with ``-vv`` more."""
    logger, verbosity = logging.getLogger("pyattr"), asked_for("verbosity", ctx)
    logger.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)])
    handler = ctx.meta.get("pyattr.log")
    if handler is None:
        handler = ctx.meta["pyattr.log"] = _Lines()
        logger.addHandler(handler)
        ctx.find_root().call_on_close(lambda: _hide_log(handler))
    words = "%(asctime)s %(name)s: " if verbosity else "%(levelname)s: "
    handler.setFormatter(logging.Formatter(f"{words}%(message)s", "%H:%M:%S"))


def _hide_log(handler: logging.Handler) -> None:
    logger = logging.getLogger("pyattr")
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
