"""How a command ends: outcomes by their own exit codes, and nothing else by one of these."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import click

from pyattr.errors import ProtocolError, Rejected
from pyattr.verification.verdict import Outcome

__all__ = ["EXIT_CODES", "FAILED", "INTERRUPTED", "SessionCommand", "sentence"]

EXIT_CODES: Final = {Outcome.ACCEPT: 0, Outcome.ABORT: 1, Outcome.INCONCLUSIVE: 2}
FAILED: Final = 3
INTERRUPTED: Final = 130  # as shells report a command ended by Ctrl-C


def sentence(error: Exception, names: Iterable[str] = ()) -> str:
    """An error's message on one line, for the user; arguments by the names of their options."""
    words = " ".join(str(error).split())
    for name in names:
        if words.startswith(f"{name}: "):
            return f"--{name.replace('_', '-')}{words.removeprefix(name)}"
    return words


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
        except (click.exceptions.Exit, SystemExit):
            raise
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted; the same command goes on from here.", err=True)
            sys.exit(INTERRUPTED)
        except click.ClickException as error:
            _fail(error)
        except (ValueError, OSError, RuntimeError, ProtocolError, Rejected, ImportError) as error:
            _fail(click.ClickException(sentence(error, ctx.params)))
        except Exception:  # a fault of this program
            traceback.print_exc()
            sys.exit(FAILED)


def _fail(error: click.ClickException) -> NoReturn:
    error.show()
    sys.exit(FAILED)
