"""The command line: which commands there are. Each is a module of `pyattr.commands`, imported when needed."""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import Any, Final

import click

from pyattr import __version__
from pyattr.commands.failure import Group

__all__ = ["COMMANDS", "main"]

COMMANDS: Final = MappingProxyType(
    {
        "attribute": "pyattr.commands.jobs:attribute_command",
        "calibrate": "pyattr.commands.calibrate:calibrate",
        "check": "pyattr.commands.check:check_command",
        "completion": "pyattr.commands.completion:completion_command",
        "demo": "pyattr.commands.demo:demo_command",
        "doctor": "pyattr.commands.doctor:doctor",
        "keygen": "pyattr.commands.keygen:keygen",
        "plan": "pyattr.commands.plan:plan_command",
        "price": "pyattr.commands.uses:price_command",
        "report": "pyattr.commands.report:report_command",
        "select": "pyattr.commands.uses:select_command",
        "serve": "pyattr.commands.serve:serve_command",
        "session": "pyattr.commands.session:session",
        "verify": "pyattr.commands.serve:verify_command",
        "worker": "pyattr.commands.jobs:worker_command",
    }
)
"""Where each command is defined. A new one needs a line here; its module imports NumPy and all that
is slower inside functions alone, so that ``--help`` and completion do not wait for it."""


class _Commands(Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: Any = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_Commands,
    outermost=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)
@click.version_option(__version__, prog_name="pyattr", message="%(prog)s %(version)s")
def main() -> None:
    """Data attribution that can be verified.

    Publish how far each training example moved a model, and let a laptop check it.

    \b
    Example:
      pyattr demo --n-train 500 --out my-demo
      pyattr plan --n-train 50000 --n-targets 100
      pyattr attribute job.toml

    \b
    Exit codes: 0 done, or ACCEPT; 1 ABORT, or what was asked does not hold; 2 INCONCLUSIVE;
    3 an error, nothing decided; 130 interrupted.
    """


if __name__ == "__main__":
    main()
