"""How a command of a session ends: outcomes by their own exit codes, and nothing else by one of these."""

from __future__ import annotations

import sys
import traceback
from typing import Any, Final, NoReturn

import click

from pyattr.commands.options import ERROR, CommandError, one_line
from pyattr.errors import ProtocolError, Rejected

__all__ = ["INTERRUPTED", "SessionCommand", "SessionGroup"]

INTERRUPTED: Final = 130  # as shells report a command ended by Ctrl-C


class SessionCommand(click.Command):
    """A command whose exit codes 0, 1 and 2 are outcomes of a session.

    `click` uses 1 and 2 for interrupts and wrong options, Python 1 for whatever was not caught.
    """

    def make_context(self, *arguments: Any, **words: Any) -> click.Context:
        """Parse the command line."""
        try:
            return super().make_context(*arguments, **words)
        except click.ClickException as error:
            _fail(error)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted; the same command goes on from here.", err=True)
            sys.exit(INTERRUPTED)
        except click.ClickException as error:
            _fail(error)
        except (ValueError, OSError, RuntimeError, ProtocolError, Rejected, ImportError) as error:
            _fail(CommandError(_sentence(error, ctx)))
        except Exception:  # a fault of this program
            traceback.print_exc()
            sys.exit(ERROR)


class SessionGroup(click.Group):
    """A group of such commands."""

    command_class = SessionCommand

    def make_context(self, *arguments: Any, **words: Any) -> click.Context:
        """Parse the command line."""
        try:
            return super().make_context(*arguments, **words)
        except click.ClickException as error:
            _fail(error)


def _sentence(error: Exception, ctx: click.Context) -> str:
    """An error's message on one line; arguments by the names of their options."""
    words = one_line(error)
    name, colon, rest = words.partition(": ")
    return f"--{name.replace('_', '-')}: {rest}" if colon and name in ctx.params else words


def _fail(error: click.ClickException) -> NoReturn:
    error.show()
    sys.exit(ERROR)
