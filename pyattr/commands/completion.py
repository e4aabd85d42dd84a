"""`pyattr completion`: the script with which a shell completes the words of a command line."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from pyattr.commands.failure import Command

__all__ = ["completion_command"]


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete commands and options.

    \b
    Example:
      eval "$(pyattr completion bash)"      in ~/.bashrc; zsh the same in ~/.zshrc
      pyattr completion fish | source       in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # the choices are those that click has
    program = kind(ctx.find_root().command, {}, "pyattr", "_PYATTR_COMPLETE")
    click.echo(program.source())
