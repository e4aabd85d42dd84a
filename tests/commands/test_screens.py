"""What every command has in common: help, exit codes, colours, bars, completion, and no time lost."""

from __future__ import annotations

import logging
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import pyattr
from pyattr.cli import COMMANDS, main
from pyattr.commands.failure import INTERRUPTED, Command, Group
from pyattr.commands.options import ERROR, EXIT_CODES
from pyattr.commands.output import bars, console

ROOT = Path(pyattr.__file__).parents[1]
LINES, COLUMNS = 40, 96


def every_command(group=main, path=()):
    """Paths of all commands, groups included, from the outermost on."""
    yield path
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        else:
            yield (*path, name)


PATHS = sorted(every_command())


def found(path):
    command, context = main, click.Context(main)
    for name in path:
        command = command.get_command(context, name)
    return command


def shell(command, **environment):
    """Run `python -m pyattr.cli` in a shell, as `pyattr`."""
    words = {"PYTHONPATH": str(ROOT), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    alias = 'pyattr() { "$PYTHON" -m pyattr.cli "$@"; }\n'
    return subprocess.run(
        ["bash", "-c", alias + command],
        env={**kept, **words, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_fits_a_screen_and_has_an_example(path):
    result = CliRunner().invoke(main, [*path, "--help"], terminal_width=COLUMNS)
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    assert re.search(r"^  Example", result.stdout, re.M)
    assert re.search(r"^    .*pyattr " + " ".join(path), result.stdout, re.M)
    assert CliRunner().invoke(main, [*path, "-h"]).exit_code == 0


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_ends_and_speaks_alike(path):
    command = found(path)
    assert isinstance(command, Command | Group)
    flags = {name for parameter in command.params for name in parameter.opts}
    assert flags >= {"--verbose", "--no-color", "--debug"}
    if isinstance(command, Command) and path != ("completion",):
        assert "--json" in flags
    result = CliRunner().invoke(main, [*path, "--no-such-option"])
    assert result.exit_code == ERROR
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: No such option")
    assert " ".join((*path, "--help'")) in result.stderr


def test_options_that_another_help_explains_are_there():
    for name in ("serve", "verify"):
        shown = CliRunner().invoke(main, [name, "--help"]).stdout
        explained = CliRunner().invoke(main, ["session", "init", "--help"]).stdout
        for option in ("--attempts", "--method", "--clip", "--calibration"):
            assert shown.count(option) == 1
            assert re.search(rf"^  {option} .*[a-z]", explained, re.M)


def test_a_command_is_registered_by_one_line(monkeypatch):
    registered = {**COMMANDS, "again": "pyattr.commands.plan:plan_command"}
    monkeypatch.setattr("pyattr.cli.COMMANDS", registered)
    assert CliRunner().invoke(main, ["again", "--n-train", "500"]).exit_code == 0
    assert "again" in CliRunner().invoke(main, ["--help"]).stdout


def test_without_a_command_help_is_printed_and_nothing_succeeds():
    result = CliRunner().invoke(main, [])
    assert result.exit_code == ERROR
    assert "Usage: " in result.stderr


def test_exit_codes_are_documented():
    text = CliRunner().invoke(main, ["--help"]).stdout
    page = (ROOT / "docs" / "commands.md").read_text()
    codes = {int(code): words for code, words in re.findall(r"^\| (\d+) \| (.+) \|$", page, re.M)}
    assert sorted(codes) == [0, 1, 2, ERROR, INTERRUPTED]
    for outcome, code in EXIT_CODES.items():
        assert outcome in codes[code]
        assert re.search(rf"\b{code}\b[^;]*{outcome}", text)


# --- what is not caught ----------------------------------------------------------------------------


def ending(raised, *arguments):
    @click.command("test", cls=Command)
    def command():
        raise raised

    return CliRunner().invoke(command, list(arguments))


def test_a_fault_is_one_sentence_that_says_how_to_see_more(monkeypatch):
    result = ending(ZeroDivisionError("division by zero"))
    assert result.exit_code == ERROR
    assert result.stderr == (
        "Error: unexpected ZeroDivisionError (division by zero): a fault of pyattr; --debug shows where, "
        "for a report of it\n"
    )
    assert "Traceback" in ending(ZeroDivisionError(), "--debug").stderr
    monkeypatch.setenv("PYATTR_DEBUG", "1")
    assert "Traceback" in ending(ZeroDivisionError()).stderr
    monkeypatch.setenv("PYATTR_DEBUG", "0")
    assert "Traceback" not in ending(ZeroDivisionError()).stderr


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (FileExistsError(17, "File exists", "k"), "k: file exists; choose another name"),
        (PermissionError(13, "Permission denied", "d"), "d: permission denied; choose a place"),
        (OSError(28, "No space left on device", "b"), "make room, and run the same command again"),
        (ModuleNotFoundError("No module", name="torch"), "this needs torch: pip install '.[torch]' in"),
        (ModuleNotFoundError("No module named 'x'", name="x"), "No module named 'x'"),
        (ValueError("two\nlines"), "Error: two lines\n"),
        (RuntimeError(""), "Error: RuntimeError\n"),
    ],
)  # fmt: skip
def test_what_can_go_wrong_says_what_to_do(raised, words):
    result = ending(raised)
    assert result.exit_code == ERROR
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" in ending(raised, "--debug").stderr


def test_interrupts_say_what_is_left():
    result = CliRunner().invoke(_interrupted, [])
    assert (result.exit_code, result.stderr) == (INTERRUPTED, "Interrupted; half is there.\n")


@click.command("test", cls=Command, interrupted="Interrupted; half is there.")
def _interrupted():
    raise KeyboardInterrupt


def test_a_reader_that_has_enough_is_no_outcome():
    done = shell("pyattr session --help > /dev/full; echo $?")
    assert done.stdout == f"{ERROR}\n"
    done = shell(
        "set -o pipefail; pyattr plan --n-train 9999 --json | head -c 1; echo ${PIPESTATUS[0]}"
    )
    assert done.stdout.removeprefix("{").strip() in ("0", str(ERROR))
    assert "Traceback" not in done.stderr


# --- terminals, pipes, colours ---------------------------------------------------------------------


@click.command("bars", cls=Command)
def _with_bars():
    with bars() as shown:
        task = shown.add_task("stage", total=3)
        for _ in range(3):
            time.sleep(0.06)
            shown.advance(task)
    console(err=False).print("[bold red]red[/]")


SOURCE = "from test_screens import _with_bars as run; run()"


def in_terminal(arguments=(), **environment):
    """Run the command above in a terminal of its own; returns what it wrote."""
    mine, theirs = pty.openpty()
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    words = {"PYTHONPATH": path, "TERM": "xterm-256color", "COLUMNS": "80"}
    with subprocess.Popen(
        [sys.executable, "-c", SOURCE, *arguments],
        env={**kept, **words, **environment},
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(mine, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            written += part
        assert process.wait(60) == 0, written
    os.close(mine)
    return written.decode()


def piped(*arguments, **environment):
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", SOURCE, *arguments],
        env={**kept, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, done.stderr


RED = re.compile(r"\x1b\[[0-9;]*31[0-9;]*m")


def test_bars_and_colours_appear_in_a_terminal():
    written = in_terminal()
    assert "stage" in written
    assert "3/3" in written
    assert RED.search(written)


def test_bars_are_silent_and_colours_off_in_a_pipe():
    assert piped() == ("red\n", "")


def test_colours_are_off_on_request_and_on_by_force():
    for written in (in_terminal(["--no-color"]), in_terminal(NO_COLOR="1")):
        assert "3/3" in written
        assert not RED.search(written)
    out, err = piped(FORCE_COLOR="1")
    assert RED.search(out)
    assert err == ""  # a bar in a file is no good to anyone
    assert not RED.search(piped(FORCE_COLOR="1", NO_COLOR="1")[0])
    assert not RED.search(piped("--no-color", FORCE_COLOR="1")[0])


# --- the log ---------------------------------------------------------------------------------------


def test_log_lines_follow_the_flags_and_are_gone_afterwards():
    @click.command("test", cls=Command)
    def command():
        log = logging.getLogger("pyattr.verification.verify")
        log.debug("detail")
        log.info("progress")
        log.warning("chosen")

    said = CliRunner().invoke(command, [])
    assert (said.stdout, said.stderr) == ("", "WARNING: chosen\n")
    said = CliRunner().invoke(command, ["-v"]).stderr.splitlines()
    assert [line.split(": ")[-1] for line in said] == ["progress", "chosen"]
    assert re.fullmatch(r"\d\d:\d\d:\d\d pyattr\.verification\.verify: progress", said[0])
    assert len(CliRunner().invoke(command, ["-v", "--verbose"]).stderr.splitlines()) == 3
    logger = logging.getLogger("pyattr")
    assert logger.level == logging.NOTSET
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]


def test_flags_hold_before_a_command_and_after():
    plan = ["plan", "--n-train", "500", "--pilot", "none.npz"]
    for words in (["--debug", *plan], [*plan, "--debug"]):
        assert "Traceback" in CliRunner().invoke(main, words).stderr
    assert "Traceback" not in CliRunner().invoke(main, plan).stderr


# --- completion ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pyattr", "se"], {"select", "serve", "session"}),
        (["pyattr", "session", "ch"], {"challenge"}),
        (["pyattr", "plan", "--pri"], {"--prize"}),
        (["pyattr", "demo", "--model", ""], {"softmax", "mlp"}),
        (["pyattr", "serve", "--meth"], {"--method"}),
    ],
)
def test_bash_completes(words, expected, tmp_path):
    program = tmp_path / "pyattr"
    program.write_text(f"#!{sys.executable}\nfrom pyattr.cli import main\nmain()\n")
    program.chmod(0o755)
    listed = " ".join(f'"{word}"' for word in words)
    # What bash does on Tab: it sets the words and calls the function that `complete` names.
    script = f"""
        export PATH={tmp_path}:$PATH
        eval "$(pyattr completion bash)"
        COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}
        $(complete -p pyattr | sed 's/.*-F \\([^ ]*\\) .*/\\1/') pyattr
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = shell(script)
    assert done.stderr == ""
    assert set(done.stdout.split()) == expected


def test_zsh_and_fish_get_scripts_of_their_own():
    for name, word in (("zsh", "compdef"), ("fish", "complete --no-files --command pyattr")):
        script = CliRunner().invoke(main, ["completion", name])
        assert script.exit_code == 0
        assert word in script.stdout
        assert "_PYATTR_COMPLETE" in script.stdout
        if shutil.which(name):
            subprocess.run([name, "-n", "-c", script.stdout], check=True)


# --- no time lost ----------------------------------------------------------------------------------

SLOW = ("numpy", "scipy", "torch", "rich", "safetensors", "msgspec", "pyattr.kernels")


@pytest.mark.parametrize(
    "words", [["--help"], ["serve", "--help"], ["completion", "bash"], ["--version"]]
)
def test_help_and_completion_load_nothing_slow(words):
    code = (
        "import sys\nfrom pyattr.cli import main\n"
        f"main({words!r}, standalone_mode=False)\n"
        f"print([m for m in {SLOW} if m in sys.modules], file=sys.stderr)"
    )
    done = shell('"$PYTHON" -c "$CODE"', CODE=code)
    assert done.stderr == "[]\n"


def test_help_is_there_at_once():
    """In processor time, which other work on the machine does not lengthen much: 0.1 s when idle."""
    before = os.times()
    done = shell("pyattr --help")
    after = os.times()
    assert done.returncode == 0
    spent = after.children_user - before.children_user
    assert spent + after.children_system - before.children_system < 0.6
