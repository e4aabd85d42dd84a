"""`pyattr session` as two people would use it: folders, copies, keys, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from command_parties import prepare_folder
from two_parties import exchange

import pyattr
from pyattr import jobs
from pyattr.cli import main
from pyattr.commands.terms import subject_of
from pyattr.protocol import Prover, Verifier
from pyattr.protocol.keys import PublicKey, SigningKey
from pyattr.protocol.signing import seal
from pyattr.transport.directory import MESSAGES
from pyattr.transport.job import image_job
from pyattr.transport.secret_file import secret_from

JOB = ("--n-train", "200", "--n-test", "2")
TERMS = ("--epsilon", "0.2", "--attempts", "8")
MODELS = "[models]\ncount = 500\n"


@pytest.fixture(scope="module")
def job():
    return image_job("digits", "softmax", 200, 2)


@pytest.fixture(scope="module")
def root(tmp_path_factory, job):
    """Keys, honest scores and their opposite."""
    return prepare_folder(tmp_path_factory.mktemp("parties"), job)


class Two:
    """Two parties with a folder each, a command at a time."""

    def __init__(self, root, path, scores="honest", in_process=True):
        self.root, self.path, self.in_process = root, path, in_process
        self.scores = str(root / f"{scores}.safetensors")
        self.ledger = ("--ledger", str(path / "ledger.jsonl"))
        (path / "p").mkdir(parents=True)

    def run(self, command, *options):
        party = "p" if command in ("commit", "respond") else "v"
        keys = ("--key", str(self.root / f"{party}.key"))
        keys += ("--peer", str(self.root / f"{'v' if party == 'p' else 'p'}.key.pub"))
        if command in ("audit", "show"):
            keys = ()
        words = ["session", command, str(self.path / party), *keys, *options]
        if self.in_process:
            result = CliRunner().invoke(main, words)
            assert result.exception is None or isinstance(result.exception, SystemExit)
            code, text = result.exit_code, result.stdout if "--json" in options else result.output
        else:
            done = subprocess.run(
                [sys.executable, "-m", "pyattr.cli", *words],
                capture_output=True,
                text=True,
                check=False,
                env=os.environ | {"PYTHONPATH": str(Path(pyattr.__file__).parent.parent)},
            )
            code, text = done.returncode, done.stdout + done.stderr
        for name in MESSAGES:
            for here, there in (("v", "p"), ("p", "v")):
                file = self.path / here / name
                if file.exists() and not (self.path / there / name).exists():
                    shutil.copyfile(file, self.path / there / name)
        return code, text

    def play(self, last="verify"):
        for command, options in (
            ("init", (*JOB, *TERMS, *self.ledger)),
            ("commit", (*JOB, *TERMS, "--attribution", self.scores)),
            ("challenge", self.ledger),
            ("respond", ("--attribution", self.scores)),
            ("verify", self.ledger),
        ):
            code, text = self.run(command, *options)
            if command == last:
                return code, text
            assert code == 0, text
        raise ValueError(last)

    def folder(self, party):
        """Content of a party's folder."""
        files = sorted((self.path / party).rglob("*"))
        return {f.name: f.read_bytes() for f in files if f.is_file()}


def test_an_honest_session_between_processes(root, job, tmp_path):
    """Each command is a process of its own; the messages are those of a session in one process."""
    two = Two(root, tmp_path / "s", in_process=False)
    code, text = two.play()
    assert (code, text.split(":")[0]) == (0, "ACCEPT")
    folder = tmp_path / "s" / "v"
    keys = {party: SigningKey.load(root / f"{party}.key") for party in "pv"}
    secrets = {
        party: secret_from((two.path / party / f"private-{role}.json").read_bytes())
        for party, role in (("p", "prover"), ("v", "verifier"))
    }
    p, v = keys["p"].public.hex, keys["v"].public.hex
    prover = Prover(
        job.retrain,
        pyattr.load_attribution(two.scores),
        subject=subject_of(job),
        key=p,
        verifier_key=v,
        secret=secrets["p"],
    )
    verifier = Verifier(
        job.retrain,
        epsilon=0.2,
        attempts=8,
        subject=subject_of(job),
        prover_key=p,
        key=v,
        secret=secrets["v"],
    )
    for number, message in enumerate(exchange(prover, verifier)):
        sender = "p" if number in (1, 3, 4) else "v"
        assert seal(message, keys[sender]) == (folder / MESSAGES[number]).read_bytes()
    assert stat.S_IMODE((folder / "private-verifier.json").stat().st_mode) == 0o600


def test_every_command_again_changes_nothing(root, tmp_path):
    two = Two(root, tmp_path / "s")
    assert two.play()[0] == 0
    before = two.folder("v"), two.folder("p")
    for command, options, code in (
        ("init", (*JOB, *TERMS, *two.ledger), 0),
        ("commit", (*JOB, *TERMS, "--attribution", two.scores), 0),
        ("challenge", two.ledger, 0),
        ("respond", ("--attribution", two.scores), 0),
        ("verify", two.ledger, 0),
        ("audit", (), 2),
        ("audit", ("--rerun", "all"), 0),
    ):
        assert two.run(command, *options)[0] == code
    assert (two.folder("v"), two.folder("p")) == before


def test_wrong_scores_end_in_abort_and_the_audit_says_the_same(root, tmp_path):
    two = Two(root, tmp_path / "s", "reverse")
    code, text = two.play()
    assert code == 1
    assert text.startswith("ABORT: the lower limit of the gap")
    code, text = two.run("respond", "--attribution", two.scores)
    assert code == 0
    assert "the verifier decided ABORT" in text
    code, text = two.run("audit", "--rerun", "5", "--json")
    assert code == 2  # the rest is the verifier's word
    found = json.loads(text)
    assert found["holds"]
    assert found["checks"][-1]["found"] == "5 of 5 alike"
    code, text = two.run("audit", "--rerun", "all")
    assert code == 1
    assert text.endswith("ABORT stands\n")
    code, text = two.run("show", "--json")
    assert json.loads(text)["decision"] == "ABORT"
    assert two.run("show")[1].startswith("6 of 6 messages")


def test_a_record_that_was_changed_does_not_hold_together(root, tmp_path):
    two = Two(root, tmp_path / "s")
    assert two.play()[0] == 0
    two.run("verify", *two.ledger)
    block = next((two.path / "v" / "trainings-verifier").iterdir())
    data = bytearray(block.read_bytes())
    data[-1] ^= 1
    block.write_bytes(data)
    code, text = two.run("audit", "--rerun", "1000")
    assert code == 3
    assert "FAIL" in text
    decision = two.path / "v" / MESSAGES[5]
    decision.write_bytes(decision.read_bytes().replace(b'"sig":"', b'"sig":"A', 1))
    code, text = two.run("audit")
    assert code == 3
    # Whose session it is, only keys known by other means can say.
    stranger = root / "stranger.key"
    CliRunner().invoke(main, ["keygen", str(stranger)])
    code, text = two.run("audit", "--prover-key", f"{stranger}.pub")
    assert code == 3
    assert "FAIL signature of 1-commitment.dsse" in text


def test_sellers_are_paid_by_the_record_of_an_accepted_session_alone(root, tmp_path):
    def price(folder, scores):
        words = ["price", str(root / f"{scores}.safetensors"), "--verdict", str(folder)]
        result = CliRunner().invoke(main, [*words, "--budget", "100", "--json"])
        return result.exit_code, result.stderr if result.exit_code else result.stdout

    accepted, aborted = Two(root, tmp_path / "s"), Two(root, tmp_path / "t", "reverse")
    assert accepted.play()[0] == 0
    code, text = price(accepted.path / "v", "honest")
    assert code == 0
    record = json.loads(text)
    assert record["verified"]
    # Of the claim: whoever pays for any of its eight sessions is wrong as often as all of them together.
    assert record["confidence"] == pytest.approx(1 - 2 * 0.05)
    assert sum(row["payment"] for row in record["sellers"]) == pytest.approx(100.0)
    code, text = price(accepted.path / "v", "reverse")
    assert code == 3
    assert "got a verdict about other scores" in text
    assert aborted.play()[0] == 1
    code, text = price(aborted.path / "v", "reverse")
    assert code == 3
    assert "got ABORT of method 'gap'" in text
    block = next((accepted.path / "v" / "trainings-verifier").iterdir())
    data = bytearray(block.read_bytes())
    data[-1] ^= 1
    block.write_bytes(data)
    code, text = price(accepted.path / "v", "honest")
    assert code == 3
    assert "expected the record of a session that holds together" in text


def test_a_prover_agrees_to_its_own_terms_only(root, tmp_path):
    two = Two(root, tmp_path / "s")
    two.play("init")
    for options, message in (
        (("--n-train", "199", "--n-test", "2"), "n_train = 199"),
        ((*JOB, "--dataset-seed", "1"), "subject.train: expected"),
        ((*JOB, "--p", "0.4"), "p: expected 0.4, as agreed, got 0.5"),
        ((*JOB, "--epsilon", "0.1"), "epsilon: expected 0.1, as agreed, got 0.2"),
        ((*JOB, "--attempts", "1"), "attempts: expected 1, as agreed, got 8"),
        ((*JOB, "--budget", "64"), "budget: expected 64, as agreed, got None"),
        ((*JOB, "--max-trainings", "4"), "design: expected at most 4 trainings"),
        ((*JOB, "--min-trainings", "9999"), "design: expected at least 9999 trainings"),
        ((*JOB, "--clip", "3"), "clip_agreed: expected True"),
        ((*JOB, "--model", "mlp"), "subject.recipe: expected"),
    ):
        code, text = two.run("commit", *TERMS, *options, "--attribution", two.scores)
        assert code == 3
        assert message in text
        assert "Traceback" not in text
    assert two.run("commit", *JOB, *TERMS, "--attribution", two.scores)[0] == 0


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("challenge", "a commitment"),
        ("respond", "a challenge"),
        ("verify", "a challenge"),
    ],
)
def test_commands_out_of_turn_say_what_is_missing(root, tmp_path, command, missing):
    two = Two(root, tmp_path / "s")
    two.play("init")
    options = ("--attribution", two.scores) if command == "respond" else two.ledger
    if command != "challenge":
        two.run("commit", *JOB, *TERMS, "--attribution", two.scores)
    code, text = two.run(command, *options)
    assert MESSAGES[2] not in two.folder("v")
    assert code == 3
    assert f"expected {missing}" in text


def test_answers_want_a_commitment_of_ones_own(root, tmp_path):
    """What it agrees to, a prover says when it commits."""
    two = Two(root, tmp_path / "s")
    two.play("init")
    code, text = two.run("respond", "--attribution", two.scores)
    assert code == 3
    assert "expected your commitment" in text
    assert MESSAGES[1] not in two.folder("p")


def test_a_folder_keeps_the_terms_it_began_with(root, tmp_path):
    two = Two(root, tmp_path / "s")
    two.play("init")
    before = two.folder("v")
    code, text = two.run("init", *JOB, "--epsilon", "0.001", "--attempts", "8", *two.ledger)
    assert code == 3
    assert "epsilon: expected 0.2, as the session began, got 0.001" in text
    assert two.folder("v") == before


def test_a_clip_of_the_verifiers_choice_is_not_agreed_to(root, tmp_path):
    two = Two(root, tmp_path / "s")
    two.run("init", *JOB, *TERMS, *two.ledger, "--clip", "0.05")
    code, text = two.run("commit", *JOB, *TERMS, "--attribution", two.scores)
    assert code == 3
    assert "clip_agreed: expected False, as agreed, got True" in text


def test_outputs_that_are_still_being_copied_end_nothing(root, tmp_path):
    """Cut short they are no message of the prover's; whole, the session goes on."""
    two = Two(root, tmp_path / "s")
    two.play("respond")
    file = two.path / "v" / MESSAGES[4]
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    code, text = two.run("verify", *two.ledger)
    assert code == 3
    assert "tensors: expected those that the signed header states" in text
    file.write_bytes(whole)
    assert two.run("verify", *two.ledger)[0] == 0


def test_other_data_on_this_machine_are_refused(root, tmp_path, monkeypatch):
    two = Two(root, tmp_path / "s")
    two.play("commit")

    def changed(*args, **kwargs):
        from pyattr.transport import job as module

        made = module.image_job("digits", "softmax", 200, 2)
        return type(made)(**{**made.__dict__, "train": "ab" * 32})

    monkeypatch.setattr("pyattr.transport.job.job_of_recipe", changed)
    code, text = two.run("challenge", *two.ledger)
    assert code == 3
    assert "as the manifest says" in text


def test_sessions_of_a_claim_are_counted(root, tmp_path):
    terms = (*JOB, "--epsilon", "0.2", "--attempts", "1")
    ledger = ("--ledger", str(tmp_path / "one.jsonl"))
    codes = []
    for attempt in range(2):
        two = Two(root, tmp_path / str(attempt), "reverse")
        two.run("init", *terms, *ledger)
        two.run("commit", *terms, "--attribution", two.scores)
        codes.append(two.run("challenge", *ledger))
    assert codes[0][0] == 0
    assert codes[1][0] == 3
    assert "attempts: expected" in codes[1][1]


def test_own_code_as_a_source(root, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from pyattr.transport.job import Job\n"
        "w = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]\n"
        "def train(masks, seeds):\n"
        "    return masks.unpack() @ w\n"
        "def job():\n"
        "    return Job.of(train, train=[w], targets=[w[:1]], recipe={'model': 'sum'}, output='f',\n"
        "                  n_targets=1)\n"
    )
    monkeypatch.chdir(tmp_path)
    weights = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    pyattr.Attribution(scores=weights, intercept=[0.0]).save(tmp_path / "a.safetensors")
    two = Two(root, tmp_path / "s")
    source = ("--source", "mine:job")
    scores = ("--attribution", str(tmp_path / "a.safetensors"))
    assert two.run("init", *source, *two.ledger)[0] == 0
    assert two.run("commit", *source, *scores)[0] == 0
    assert two.run("challenge", *source, *two.ledger)[0] == 0
    assert two.run("respond", *source, *scores)[0] == 0
    assert two.run("verify", *source, *two.ledger)[0] == 0
    code, text = two.run("challenge", *two.ledger)  # without the source nothing is imported
    assert code == 3
    assert "or a source" in text
    sys.modules.pop("mine", None)


def test_a_job_file_as_a_source(root, tmp_path, monkeypatch):
    """A session about sellers: the file that both parties have says who owns what."""
    secrets = iter((b"v" * 32, b"p" * 32))  # the same challenge in every run
    monkeypatch.setattr("pyattr.transport.secret_file.fresh_secret", lambda: next(secrets))
    data = '[data]\nname = "digits"\nn_train = 200\nn_targets = 2\n'
    file = tmp_path / "job.toml"
    file.write_text(data + 'sellers = 20\n[recipe]\nkind = "softmax"\n' + MODELS)
    retrain = jobs.Source(jobs.load_job(file))()
    masks = pyattr.sample_masks(1000, 20, seed=1)
    scores = pyattr.fit_datamodel(masks, retrain(masks, pyattr.sample_seeds(1000, seed=2)))
    scores.save(tmp_path / "a.safetensors")
    two, source = Two(root, tmp_path / "s"), ("--source", str(file))
    published = ("--attribution", str(tmp_path / "a.safetensors"))
    assert two.run("init", *source, *TERMS, *two.ledger)[0] == 0
    assert two.run("commit", *source, *TERMS, *published)[0] == 0
    described = jobs.training_of(jobs.load_job(file)).described()
    assert (described.n_train, described.recipe["sellers"]) == (20, 20)
    code, text = two.run("challenge", *two.ledger)  # the words alone make no sellers
    assert code == 3
    assert "'sellers'" in text
    assert two.run("challenge", *source, *two.ledger)[0] == 0
    assert two.run("respond", *source, *published)[0] == 0
    code, text = two.run("verify", *source, *two.ledger)
    assert (code, text.split(":")[0]) == (0, "ACCEPT")
    file.write_text(
        '[recipe]\nkind = "own"\nretrain = "a:b"\nn_train = 9\nn_targets = 1\n' + MODELS
    )
    code, text = Two(root, tmp_path / "t").run("init", *source, *two.ledger)
    assert code == 3
    assert "data: expected a table, which tells another party what to train on" in text


def test_keys(tmp_path):
    file = tmp_path / "k"
    result = CliRunner().invoke(main, ["keygen", str(file)])
    assert PublicKey.load(tmp_path / "k.pub").hex in result.output
    again = CliRunner().invoke(main, ["keygen", str(file)])
    assert again.exit_code == 3
    assert "exists" in again.output.lower()
