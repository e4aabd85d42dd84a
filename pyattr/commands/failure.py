"""How commands end: outcomes by their own exit codes, everything else by one sentence and another code.

| code | means |
|---|---|
| 0 | done; ACCEPT; what was asked holds |
| 1 | ABORT; what was asked does not hold |
| 2 | INCONCLUSIVE |
| 3 | an error: nothing was decided |
| 130 | interrupted |

`click` uses 1 and 2 for interrupts and wrong options, Python 1 for whatever was not caught: `Command` and
`Group` see to it that neither is taken for an outcome.
"""

from __future__ import annotations

import difflib
import errno
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import click

from pyattr.commands.options import ERROR, CommandError, asked_for, everywhere_options, one_line
from pyattr.commands.output import show_log
from pyattr.errors import ProtocolError, Rejected
from pyattr.optional import install_line

__all__ = ["INTERRUPTED", "Command", "Group"]

INTERRUPTED: Final = 130  # as shells report a command ended by Ctrl-C
_ADVICE: Final = {
    errno.EEXIST: "choose another name: nothing is overwritten",
    errno.EACCES: "choose a place that you may use",
    errno.EPERM: "choose a place that you may use",
    errno.EROFS: "choose a place that can be written to",
    errno.ENOSPC: "make room, and run the same command again",
    errno.ENOENT: "check the path; the folder of a new file has to exist",
}
_EXTRAS: Final = {
    "torch": "torch", "sklearn": "datasets", "pooch": "datasets", "jinja2": "report", "PIL": "report",
    "markupsafe": "report",
    "ray": "ray", "obstore": "cloud", "pandas": "interchange", "xarray": "interchange",
    "cryptography": "session", "securesystemslib": "session", "starlette": "session",
    "uvicorn": "session", "httpx": "session",
}  # fmt: skip
_EXPECTED: Final = (ValueError, OSError, RuntimeError, ProtocolError, Rejected, ImportError)


class Command(click.Command):
    """A command with the options of every command, and the exit codes above.

    Parameters
    ----------
    *arguments, **words
        As for `click.Command`.
    interrupted : str
        What Ctrl-C leaves behind, in a sentence.
    elsewhere : (str, sequence of str), optional
        The command whose help explains some parameters, and these: so the help fits a screen.
    """

    def __init__(
        self,
        *arguments: Any,
        interrupted: str = "Interrupted; the same command starts again.",
        elsewhere: tuple[str, Sequence[str]] = ("", ()),
        **words: Any,
    ) -> None:
        # Of the command's own too, as click remembers what it met first: the group's, or none.
        words.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*arguments, **words)
        self.params += everywhere_options(hidden=True)
        self._interrupted, self._elsewhere = interrupted, elsewhere

    def make_context(self, *arguments: Any, **words: Any) -> click.Context:
        """Parse the command line."""
        with _ended(None, self._interrupted):
            return super().make_context(*arguments, **words)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one line for each option, or for those that another command's help explains."""
        command, names = self._elsewhere
        rows, more = [], []
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Argument):  # the text above says what it is
                continue
            row = parameter.get_help_record(ctx)
            if row is not None and parameter.name in names:
                more.append(parameter.opts[0])
            elif row is not None:
                rows.append(row)
        with formatter.section("Options"):
            formatter.write_dl(rows)
        if more:
            with formatter.section(f"Options that `{command} --help` explains"):
                formatter.write_text(", ".join(more))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _ended(ctx, self._interrupted):
            return super().invoke(ctx)


class Group(click.Group):
    """A group of such commands.

    Parameters
    ----------
    *arguments, **words
        As for `click.Group`.
    outermost : bool
        Whether its help shows the options that every command has.
    """

    command_class = Command

    def __init__(self, *arguments: Any, outermost: bool = False, **words: Any) -> None:
        super().__init__(*arguments, **words)
        self.params += everywhere_options(hidden=not outermost)

    def make_context(self, *arguments: Any, **words: Any) -> click.Context:
        """Parse the command line."""
        with _ended(None, "Interrupted."):
            return super().make_context(*arguments, **words)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; one that does not exist is answered with the nearest that does."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not near:
                raise
            words = f"{error.message.rstrip('.')} (did you mean {near[0]!r}?)"
            raise click.UsageError(words, error.ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Find the command and run it."""
        with _ended(ctx, "Interrupted."):
            return super().invoke(ctx)


@contextmanager
def _ended(ctx: click.Context | None, interrupted: str) -> Iterator[None]:
    """Turn whatever goes wrong into a sentence on standard error and an exit code."""
    try:
        if ctx is not None:
            show_log(ctx)
        yield
    except click.exceptions.Exit:
        raise
    except (KeyboardInterrupt, click.Abort):
        click.echo(interrupted, err=True)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        _fail(error, ctx)
    except BrokenPipeError:  # whoever read the output has enough: not worth a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ERROR)
    except _EXPECTED as error:
        _fail(CommandError(_sentence(error, ctx)), ctx)
    except Exception as error:
        words = f"unexpected {type(error).__name__} ({one_line(error)})"
        advice = "a fault of pyattr; --debug shows where, for a report of it"
        _fail(CommandError(f"{words}: {advice}"), ctx)


def _sentence(error: Exception, ctx: click.Context | None) -> str:
    """An error's message on one line, with what to do; arguments by the names of their options."""
    words = one_line(error)
    if isinstance(error, OSError) and error.errno in _ADVICE and error.filename is not None:
        return f"{words}; {_ADVICE[error.errno]}"
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        package = error.name.partition(".")[0]
        if package in _EXTRAS:
            return f"this needs {package}: {install_line(_EXTRAS[package])}"
    name, colon, rest = words.partition(": ")
    if ctx is None or not colon:
        return words
    for parameter in ctx.command.get_params(ctx):
        if parameter.name in (name, f"n_{name}", name.removeprefix("n_")):
            option = isinstance(parameter, click.Option)
            return f"{parameter.opts[0] if option else parameter.make_metavar(ctx)}: {rest}"
    return words


def _fail(error: click.ClickException, ctx: click.Context | None) -> NoReturn:
    if asked_for("debug", ctx):
        traceback.print_exc()
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
    elif isinstance(error, click.UsageError) and error.ctx is not None:
        words = " ".join(error.format_message().split()).rstrip(".")
        click.echo(f"Error: {words}; see '{error.ctx.command_path} --help'.", err=True)
    else:
        error.show()
    sys.exit(ERROR)
