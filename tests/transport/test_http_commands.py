"""`pyattr serve` and `pyattr verify` as processes, on digits, and their exit codes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from http_parties import keep_secret, stored
from two_parties import exchange

import pyattr
from pyattr.commands import serve as commands
from pyattr.commands.failure import INTERRUPTED, Command
from pyattr.commands.options import ERROR, EXIT_CODES
from pyattr.commands.terms import subject_of
from pyattr.masks import sample_masks, sample_seeds
from pyattr.protocol import Prover, Verifier
from pyattr.protocol.hashing import message_hash
from pyattr.protocol.keys import SigningKey, write_key_pair
from pyattr.protocol.randomness import secret_of
from pyattr.protocol.signing import seal
from pyattr.transport.job import image_job
from pyattr.verification.verdict import Outcome

ROOT = Path(pyattr.__file__).parents[1]
JOB = ["--dataset", "digits", "--n-train", "200", "--n-test", "4"]
TOKEN = "sixteen-letters-or-more"


class Parties:
    """Keys, attribution and secrets in files, and what the messages must be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("prover", "verifier"):
            write_key_pair(path / name)
        (path / "token").write_text(f"{TOKEN}\n")
        (path / "token").chmod(0o600)
        job = image_job("digits", "softmax", 200, 4)
        masks, seeds = sample_masks(1200, 200, seed=1), sample_seeds(1200, seed=2)
        attribution = pyattr.fit_datamodel(masks, job.retrain(masks, seeds), method="ridge")
        attribution.save(path / "scores")
        keys = {name: SigningKey.load(path / name) for name in ("prover", "verifier")}
        words = {"subject": subject_of(job), "p": 0.5}
        prover = Prover(
            job.retrain,
            attribution,
            key=keys["prover"].public.hex,
            verifier_key=keys["verifier"].public.hex,
            secret=secret_of(1),
            **words,
        )
        verifier = Verifier(
            job.retrain,
            n_train=200,
            n_targets=4,
            epsilon=0.3,
            key=keys["verifier"].public.hex,
            prover_key=keys["prover"].public.hex,
            secret=secret_of(2),
            **words,
        )
        messages = exchange(prover, verifier)
        self.verdict = verifier.verdict
        self.place = message_hash(messages[0])
        senders = ["prover" if number in (1, 3, 4) else "verifier" for number in range(6)]
        self.messages = [seal(m, keys[s]) for m, s in zip(messages, senders, strict=True)]

    def secrets(self, trial: str) -> None:
        keep_secret(self.path / trial / "host" / self.place, "prover", secret_of(1))
        keep_secret(self.path / trial / "verifier", "verifier", secret_of(2))

    def serve(self, trial: str, *more: str) -> list[str]:
        return self.command(
            "serve", "--attribution", "scores", "--key", "prover", "--verifier-key", "verifier.pub",
            "--state", f"{trial}/host", "--token-file", "token", "--port", "0", "--epsilon", "0.3",
            *JOB, *more,
        )  # fmt: skip

    def verify(self, trial: str, url: str, *more: str) -> list[str]:
        return self.command(
            "verify", "--prover", url, "--key", "verifier", "--prover-key", "prover.pub",
            "--state", f"{trial}/verifier", "--ledger", f"{trial}/ledger", "--token-file", "token",
            "--epsilon", "0.3", "--seconds", "100", *JOB, *more,
        )  # fmt: skip

    def command(self, name: str, *arguments: str) -> list[str]:
        source = f"from pyattr.commands.serve import {name}_command as run; run()"
        return [sys.executable, "-c", source, *arguments]

    @contextmanager
    def process(self, command: list[str]):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command,
            cwd=self.path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture(scope="module")
def parties(tmp_path_factory):
    return Parties(tmp_path_factory.mktemp("parties"))


def url_of(process):
    """Where a server says that it listens."""
    for line in process.stderr:
        if found := re.search(r"listening on (\S+), key [0-9a-f]{64}", line):
            return found[1]
    raise AssertionError("the server ended")


def test_two_processes_killed_in_the_middle_end_as_one_process_does(parties):
    parties.secrets("killed")
    host = parties.path / "killed" / "host" / parties.place
    with parties.process(parties.serve("killed")) as server:
        url = url_of(server)
        with parties.process(parties.verify("killed", url)) as verifier:
            until = time.monotonic() + 100
            while not (host / "2-challenge.dsse").exists():
                assert time.monotonic() < until
                assert verifier.poll() is None, verifier.stderr.read()
                time.sleep(0.001)
            server.kill()
            verifier.kill()
    assert not (host / "5-decision.dsse").exists()
    port = url.rpartition(":")[2]
    with parties.process(parties.serve("killed", "--port", port)) as server:
        with parties.process(parties.verify("killed", url)) as verifier:
            assert url_of(server) == url
            out, err = verifier.communicate(timeout=100)
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=30)
    assert verifier.returncode == EXIT_CODES[parties.verdict.outcome.value] == 0, err
    assert out == f"ACCEPT: {parties.verdict.reason}\n"
    assert f"{parties.verdict.n_retrained} trainings here" in err
    assert stored(parties.path / "killed" / "verifier") == parties.messages
    assert stored(host) == parties.messages
    assert "closed with ACCEPT" in said
    assert TOKEN not in out + err + said


def invoke(command: click.Command, arguments: list[str], path: Path):
    """Run a command here; returns exit code and what it said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        result = CliRunner().invoke(command, arguments[3:])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--no-such-option"], "No such option"),
        (["--n-train", "many"], "not a valid integer"),
        (["--epsilon", "-1"], "--epsilon: expected"),
        (["--attempts", "0"], "--attempts: expected"),
        (["--source", "no_such_module:job"], "source: expected"),
        (["--calibration", "scores"], "--calibration: expected"),
        (["--key", "missing"], "no such file"),
        (["--key", "prover.pub"], "chmod 600"),
        (["--token-file", "scores"], "--token-file: expected"),
        (["--prover", "http://elsewhere"], "https"),
    ],
)
def test_what_is_no_verdict_has_an_exit_code_of_its_own(parties, more, message):
    command = parties.verify("errors", "http://127.0.0.1:9", *more)
    code, said = invoke(commands.verify_command, command, parties.path)
    assert (code, message in said) == (ERROR, True), said
    assert "Traceback" not in said


def test_the_options_of_a_session_that_began_are_kept(parties):
    parties.secrets("terms")
    command = parties.verify("terms", "http://127.0.0.1:9", "--seconds", "0.1")
    code, said = invoke(commands.verify_command, command, parties.path)
    assert (code, "expected an answer in time" in said) == (ERROR, True), said
    for more, name in (
        (["--epsilon", "0.4"], "epsilon"),
        (["--clip", "3"], "clip"),
        (["--dataset-seed", "1"], "train"),
    ):
        code, said = invoke(commands.verify_command, [*command, *more], parties.path)
        assert (code, f"--{name}: expected" in said or f"{name}: expected" in said) == (3, True), (
            said
        )


def test_a_server_for_other_machines_needs_a_token(parties):
    command = parties.serve("open", "--host", "0.0.0.0")
    command = [word for word in command if word not in ("--token-file", "token")]
    code, said = invoke(commands.serve_command, command, parties.path)
    assert (code, "--token-file: expected a token" in said) == (ERROR, True), said
    assert not (parties.path / "open").exists()


@pytest.mark.parametrize(
    ("content", "mode"), [(b"short", 0o600), (b"x" * 300, 0o600), (b"a token of words", 0o600),
                          (b"x" * 16, 0o644), (b"\xff" * 20, 0o600), (b"", 0o600)],
)  # fmt: skip
def test_a_token_is_long_and_private(tmp_path, content, mode):
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ValueError, match="token_file: expected"):
        commands.read_token(path)


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (KeyboardInterrupt, INTERRUPTED),
        (click.Abort, INTERRUPTED),
        (ZeroDivisionError, ERROR),
        (AssertionError, ERROR),
        (RuntimeError, ERROR),
        (click.UsageError("x"), ERROR),
    ],
)
def test_nothing_that_goes_wrong_looks_like_an_outcome(raised, code):
    @click.command("test", cls=Command)
    def command() -> None:
        raise raised

    assert CliRunner().invoke(command, []).exit_code == code
    assert set(EXIT_CODES) == {outcome.value for outcome in Outcome}
    assert code not in EXIT_CODES.values()
