"""Fenced blocks and command lines of a Markdown page, and what runs or checks them."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click

from pyattr.cli import main

__all__ = [
    "ROOT",
    "Block",
    "blocks",
    "check_command",
    "check_output",
    "commands",
    "inline_commands",
    "pages",
    "run",
]

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(
    r"^(?:<!-- (?:not run: (?P<reason>[^\n]+)|file: (?P<file>[\w.]+)|(?P<run>run)) -->\n+)?"
    r"(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_SEPARATORS = {";", "&&", "||", "|"}
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Parameters
    ----------
    page : str
        Relative to the root of the repository.
    line : int
        Of its first line of code.
    language : str
    code : str
    output : str or None
        What a ``text`` block right after a ``python`` or ``sh`` block says it prints.
    reason : str or None
        Why it is not run, from a comment right before it: ``<!-- not run: reason -->``.
    file : str or None
        What the reader saves it as: ``<!-- file: name -->``.
    run : bool
        Whether all its commands are to be run: ``<!-- run -->``.
    """

    page: str
    line: int
    language: str
    code: str
    output: str | None = None
    reason: str | None = None
    file: str | None = None
    run: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language})"


def pages() -> list[str]:
    """README and every page of the documentation, relative to the root."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return ["README.md", *(str(page.relative_to(ROOT)) for page in found)]


def blocks(page: str) -> list[Block]:
    """Fenced blocks in order; a ``text`` block belongs to the program or command before it."""
    text = (ROOT / page).read_text()
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.M)
        line = text.count("\n", 0, match.start("code")) + 1
        language = match["language"].split()[0] if match["language"].strip() else ""
        before = found[-1] if found else None
        if language == "text" and before and before.language in ("python", "sh"):
            found[-1] = replace(before, output=code)
        marks = {"reason": match["reason"], "file": match["file"], "run": bool(match["run"])}
        found.append(Block(page, line, language, code, **marks))
    return found


def run(block: Block, names: dict[str, object]) -> str:
    """Run a Python block and hold what it prints against the page."""
    printed = io.StringIO()
    # Blank lines put the code where it stands in the page, so that errors name the page's line.
    code = compile("\n" * (block.line - 1) + block.code, block.page, "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    check_output(block, printed.getvalue())
    return printed.getvalue()


def check_output(block: Block, printed: str) -> None:
    """Compare with the page, in which ``...`` stands for anything."""
    if block.output is not None and not doctest.OutputChecker().check_output(
        block.output, printed, _FLAGS
    ):
        raise AssertionError(f"{block}: the page says\n{block.output}\nand it printed\n{printed}")


def commands(block: Block) -> Iterator[list[str]]:
    """Words of every simple command of a ``sh`` block, comments and line ends taken away."""
    for line in block.code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if word not in _SEPARATORS:
                words.append(word)
            elif words:
                yield words
                words = []
        if words:
            yield words


def inline_commands(page: str) -> list[str]:
    """Inline code that is a command line of pyattr with arguments or options."""
    text = _FENCE.sub("", (ROOT / page).read_text())
    return [code for code in re.findall(r"`([^`\n]+)`", text) if re.match(r"pyattr [a-z]", code)]


def check_command(words: list[str], *, values: bool = True) -> click.Command:
    """Parse a command line without running it.

    Parameters
    ----------
    words : list of str
        After ``pyattr``.
    values : bool
        Whether options must have their values, and values of a type that reads no file must fit it.

    Raises
    ------
    click.UsageError
        If a command or option does not exist, or a value is missing or does not fit.
    """
    command: click.Command = main
    context = click.Context(main, info_name="pyattr")
    while isinstance(command, click.Group) and words:
        _, command, words = command.resolve_command(context, list(words))
        context = click.Context(command, parent=context, info_name=command.name)
    if not values:
        known = {name for parameter in command.get_params(context) for name in parameter.opts}
        for word in words:
            if word.startswith("-") and word.partition("=")[0] not in known:
                raise click.NoSuchOption(word, ctx=context)
        return command
    given, rest, _ = command.make_parser(context).parse_args(list(words))
    if rest and not context.allow_extra_args:
        raise click.UsageError(f"unexpected arguments {rest}", ctx=context)
    for parameter in command.get_params(context):
        value = given.get(parameter.name)
        if isinstance(value, str) and not isinstance(parameter.type, click.Path | click.File):
            parameter.type_cast_value(context, value)
    return command
