"""Every command with wrong input: one sentence that says what was wrong, code 3, and nothing done."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hidden_module import command_without

import pyattr
from pyattr.cli import main
from pyattr.commands.options import ERROR
from pyattr.protocol.keys import write_key_pair

ROOT = Path(pyattr.__file__).parents[1]
SIZES = ("--n-train", "200", "--n-test", "2")
SERVE = (
    "serve",
    "--attribution",
    "scores",
    "--key",
    "p",
    "--verifier-key",
    "v.pub",
    "--state",
    "host",
)
VERIFY = (
    "verify",
    "--key",
    "v",
    "--prover-key",
    "p.pub",
    "--state",
    "session",
    "--ledger",
    "ledger",
)
KEYS = ("--key", "v", "--peer", "p.pub")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("v", "p"):
        write_key_pair(tmp_path / name)
    pyattr.Attribution(scores=np.zeros((200, 2))).save("scores")
    Path("junk").write_text("junk")
    return tmp_path


def files():
    """All files but a session's secret, which the next try with the same folder takes up."""
    return {path for path in Path.cwd().rglob("*") if path.is_file() and path.parent.name != "d"}


def refused(*words):
    """The sentence that a command ends with."""
    before = files()
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == ERROR, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert "unexpected" not in result.stderr
    assert files() == before
    return result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sesion"], "No such command 'sesion' (did you mean 'session'?); see"),
        (["xyzzy"], "No such command 'xyzzy'; see"),
        (["session", "begin"], "No such command 'begin'"),
        (["plan"], "Missing option '--n-train'"),
        (["plan", "--n-train", "many"], "'--n-train': 'many' is not a valid integer"),
        (["plan", "--n-train", "9", "--pilot", "junk"], "--pilot: expected an npz file"),
        (["plan", "--n-train", "9", "--pilot", "none"], "none: no such file or directory; check the path"),
        (["demo", "--dataset", "imagenet"], "'imagenet' is not one of 'digits'"),
        (["demo", "--dataset", "fashion-mnist", "--path", "none"], "fashion-mnist: no file none/"),
        (["demo", "--dataset", "cifar10", "--path", "junk"], "junk: expected a complete tar.gz file"),
        (["attribute", "none.toml"], "'JOB.toml': File 'none.toml' does not exist"),
        (["attribute", "junk"], "junk, line 1: expected TOML, got 'junk'"),
        (["attribute", "."], "'JOB.toml': File '.' is a directory"),
        (["worker", "junk", "--shard", "3/3"], "--shard: expected I/K"),
        (["doctor", "--device", "tpu"], "--device: expected 'cpu', 'cuda'"),
        (["keygen", "v"], "v: file exists; choose another name"),
        (["keygen", "none/v"], "none/v: no such file or directory; check the path"),
        (["calibrate", "compare", "junk", "junk"], "junk: expected a header"),
        (["calibrate", "compare", "junk", "none"], "'none' does not exist"),
        (["calibrate", "run", "--clip", "-1", *SIZES, "out"], "--clip: expected"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        ([*SERVE[:2], "none", *SERVE[3:], *SIZES], "'--attribution': File 'none' does not exist"),
        ([*SERVE[:2], "junk", *SERVE[3:], *SIZES], "junk: expected a safetensors file"),
        ([*SERVE, "--key", "none", *SIZES], "--key: expected the file of a key, got none, no such file; "
                                            "`pyattr keygen none` makes one"),
        ([*SERVE, "--key", "v.pub", *SIZES], "--key: expected a private key that its owner alone may read"),
        ([*SERVE, "--verifier-key", "v", *SIZES], "--verifier-key: expected the file of a public key, got v"),
        ([*SERVE, "--n-train", "100"], "--attribution: expected n_train = 100"),
        ([*SERVE, *SIZES, "--port", "99999"], "'--port': 99999 is not in the range"),
        ([*SERVE, *SIZES, "--host", "0.0.0.0"], "--token-file: expected a token"),
        ([*SERVE, *SIZES, "--state", "junk"], "junk"),
        ([*VERIFY, "--prover", "nowhere", *SIZES], "--prover: expected http:// or https://"),
        ([*VERIFY, "--prover", "http://127.0.0.1:9", "--ca", "none", *SIZES], "'--ca': File 'none'"),
        (["session", "show", "none"], "none: no such file or directory"),
        (["session", "audit", "none"], "none: no such file or directory"),
        (["session", "audit", ".", "--rerun", "some"], "--rerun: expected a number or 'all'"),
        (["session", "init", "d", "--key", "v"], "Missing option '--peer'"),
        (["session", "init", "d", "--key", "junk", "--peer", "p.pub"], "--key: expected"),
        (["session", "init", "d", "--key", "v", "--peer", "junk"], "--peer: expected"),
        (["session", "init", "d", *KEYS, *SIZES, "--epsilon", "3"], "--epsilon: expected"),
        (["session", "init", "junk", *KEYS, *SIZES], "junk"),
        (["session", "verify", "none", *KEYS], "none: no such file or directory"),
        (["session", "challenge", ".", *KEYS], "expected an invitation (0-invitation.dsse), got none; the "),
        (["session", "respond", ".", *KEYS, "--attribution", "scores"], "expected your commitment"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused_in_a_sentence(folder, words, said):
    assert said in refused(*words)


def test_a_port_that_is_taken_is_named_with_the_way_out(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, [*SERVE, *SIZES, "--port", str(port)])
    assert result.exit_code == ERROR
    assert (
        f"--port: cannot listen on port {port} of 127.0.0.1 (Address already in use"
        in result.stderr
    )
    assert result.stderr.endswith("--port 0 takes one that is free\n")


def test_a_prover_that_is_not_there_is_asked_about(folder):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    result = CliRunner().invoke(main, [*VERIFY, "--prover", url, "--seconds", "0.2", *SIZES])
    assert result.exit_code == ERROR
    assert "is `pyattr serve` running there? The same command goes on" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/sys/kernel").is_dir(), reason="needs a folder that refuses"
)
@pytest.mark.parametrize("words", [["keygen"], ["session", "init"]])
def test_a_folder_that_cannot_be_written_is_named(folder, words):
    place = Path("/sys/kernel/pyattr") if os.geteuid() == 0 else folder / "closed" / "x"
    if os.geteuid() != 0:
        place.parent.mkdir(mode=0o500)
    more = [*KEYS, *SIZES] if words[0] == "session" else []
    said = refused(*words, str(place), *more)
    assert str(place) in said
    assert "choose a place" in said


TORCH_JOB = """
[data]
name = "digits"
n_train = 50
n_targets = 2
[recipe]
kind = "softmax"
[models]
count = 16
"""


@pytest.mark.parametrize(
    ("module", "words", "advice"),
    [
        ("torch", ["doctor"], "pip install '.[torch]'"),
        ("torch", ["attribute", "job.toml", "--workers", "1"], "pip install '.[torch]'"),
        ("torch", ["demo"], "pip install '.[demo]'"),
        ("torch", ["session", "init", "d", *KEYS, *SIZES], "pip install '.["),
        ("sklearn", ["session", "init", "d", *KEYS, *SIZES], "pip install '.["),
        ("cryptography", ["keygen", "k"], "pip install '.[session]'"),
        ("uvicorn", [*SERVE, *SIZES], "pip install '.[session]'"),
        ("httpx", [*VERIFY, "--prover", "http://127.0.0.1:9", *SIZES], "pip install '.[session]'"),
    ],
)  # fmt: skip
def test_a_missing_package_says_which_line_to_run(folder, module, words, advice):
    Path("job.toml").write_text(TORCH_JOB)
    done = subprocess.run(
        [sys.executable, "-c", command_without(module, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ERROR
    assert done.stderr.startswith("Error: ")
    assert advice in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
