"""The directory of a session: whole files or none after kill -9, and nothing followed or overwritten."""

from __future__ import annotations

import os
import random
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kill_points import killed_at_each_point
from safetensors.numpy import save

from pyattr.errors import ProtocolError
from pyattr.masks import sample_masks, sample_seeds
from pyattr.protocol.journal import Block, Journal
from pyattr.transport.block_file import decode_block
from pyattr.transport.directory import MESSAGES, SessionDirectory, SessionReader
from pyattr.transport.durable import BusyError, ConflictError

CAP = 1 << 20
SECRET = b'{"secret":"00"}'


def content(number):
    return random.Random(number).randbytes(1000 + number)


def block(number, n=4):
    outputs = np.random.default_rng(number).standard_normal((n, 3), dtype=np.float32)
    return Block(f"{number:064x}", outputs)


def work_in(path):
    """What one side writes: run again after a crash, it goes on."""
    with SessionDirectory(path, "verifier", create=True) as directory:
        directory.write_private(SECRET)
        directory.write_message(0, content(0))
        for k in range(len(directory.read_blocks("verifier", CAP)), 2):
            directory.append_block(k, block(k))
        directory.write_message(1, content(1))


def check_whole(path, complete):
    """Whatever is there is there whole."""
    if not path.exists():
        assert not complete
        return
    with SessionReader(path) as reader:
        present = [number for number in range(len(MESSAGES)) if reader.has_message(number)]
        assert present == list(range(len(present)))
        for number in present:
            assert reader.read_message(number, CAP) == content(number)
        blocks = reader.read_blocks("verifier", CAP)
        for k, read in enumerate(blocks):
            assert read.digest == block(k).digest
            assert read.outputs.tobytes() == block(k).outputs.tobytes()
        if present:
            assert reader.read_private("verifier", CAP) == SECRET
    if complete:
        assert (len(present), len(blocks)) == (2, 2)
        assert not list(path.rglob(".tmp-*"))


def modes(path):
    """No file that was ever private can be read by others, unfinished ones included."""
    for entry in path.rglob("*"):
        mode = stat.S_IMODE(entry.stat().st_mode)
        private = entry.name.startswith(("private", "lock", ".tmp-v")) or "trainings" in str(entry)
        if entry.name.startswith(".tmp-") and entry.parent == path:
            continue  # of a message or of the secret; see test_private_from_the_first_moment
        assert mode == (0o700 if entry.is_dir() else 0o600 if private else 0o644), entry


def test_killed_at_each_call_to_the_system_then_resumed(tmp_path):
    def path(point):
        return tmp_path / str(point) / "session"

    for point in killed_at_each_point(lambda k: work_in(path(k))):
        check_whole(path(point), complete=False)
        if path(point).exists():
            modes(path(point))
        work_in(path(point))
        check_whole(path(point), complete=True)
    assert point > 200  # so many deaths


CHILD = """
import itertools, sys
from pathlib import Path
from pyattr.transport.directory import MESSAGES, SessionDirectory
print("ready", flush=True)
for k in itertools.count():
    with SessionDirectory(Path(sys.argv[1]) / str(k), "prover", create=True) as directory:
        for number in range(len(MESSAGES)):
            directory.write_message(number, bytes([number]) * (1 << 22))
"""


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_moment(tmp_path, seed):
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(random.Random(seed).uniform(0.0, 0.3))
        child.send_signal(signal.SIGKILL)
    for path in tmp_path.iterdir():
        with SessionDirectory(path, "prover") as directory:
            there = [directory.has_message(number) for number in range(len(MESSAGES))]
            assert there == sorted(there, reverse=True)
            for number in range(sum(there)):
                assert directory.read_message(number, 1 << 22) == bytes([number]) * (1 << 22)
        assert not list(path.glob(".tmp-*"))


def test_trainings_survive_and_are_not_repeated(tmp_path):
    """The journal and its directory together: at most the block in hand is trained twice."""
    calls = [(sample_masks(n, 20, seed=n), sample_seeds(n, seed=n)) for n in (5, 9, 3)]

    def outputs_of(masks, seeds):
        return masks.unpack().astype(np.float32)[:, :2] + (seeds % np.uint64(9))[:, None]

    def train_in(point):
        def retrain(masks, seeds):
            with (tmp_path / f"{point}.log").open("ab", buffering=0) as log:
                log.write(b"x" * len(masks))
            return outputs_of(masks, seeds).astype(np.float32)

        with SessionDirectory(tmp_path / str(point), "prover", create=True) as directory:
            known = directory.read_blocks("prover", CAP)
            journal = Journal(retrain, known, directory.append_block, portion=4)
            return [journal(*call) for call in calls]

    for point in killed_at_each_point(train_in, step=5):
        for outputs, call in zip(train_in(point), calls, strict=True):
            np.testing.assert_array_equal(outputs, outputs_of(*call))
        assert 17 <= (tmp_path / f"{point}.log").stat().st_size <= 17 + 4
        with SessionReader(tmp_path / str(point)) as reader:
            audit = Journal(None, reader.read_blocks("prover", CAP), portion=4)
        for call in calls:
            np.testing.assert_array_equal(audit(*call), outputs_of(*call))
    assert point > 200


def test_private_from_the_first_moment(tmp_path, monkeypatch):
    """Modes are looked at when a file is made, not when it is done; the umask cannot widen them."""
    made = {}
    real = os.open

    def watch(name, flags, mode=0o777, **keywords):
        descriptor = real(name, flags, mode, **keywords)
        if flags & os.O_CREAT:
            made[name] = stat.S_IMODE(os.fstat(descriptor).st_mode)
        return descriptor

    monkeypatch.setattr(os, "open", watch)
    before = os.umask(0)
    try:
        with SessionDirectory(tmp_path / "s", "verifier", create=True) as directory:
            made.clear()
            directory.write_private(SECRET)
            directory.append_block(0, block(0))
            assert list(made.values()) == [0o600, 0o600]
            made.clear()
            directory.write_message(0, b"public")
            assert list(made.values()) == [0o644]
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "s" / "trainings-verifier").stat().st_mode) == 0o700


def test_flushed_before_it_has_its_name_and_the_folder_after(tmp_path, monkeypatch):
    """What kill -9 cannot show, since the system outlives it: the order that a power cut needs."""
    calls = []
    for name in ("write", "fsync", "rename"):
        real = getattr(os, name)

        def call(first, *others, real=real, name=name, **keywords):
            is_folder = isinstance(first, int) and stat.S_ISDIR(os.fstat(first).st_mode)
            calls.append(f"{name} {'folder' if is_folder else 'file'}")
            return real(first, *others, **keywords)

        monkeypatch.setattr(os, name, call)
    whole = ["write file", "fsync file", "rename file", "fsync folder"]
    with SessionDirectory(tmp_path / "s", "verifier", create=True) as directory:
        assert calls == ["fsync folder"]  # of the parent, which has a new entry
        for write in (
            lambda: directory.write_message(0, b"message"),
            lambda: directory.write_private(b"secret"),
            lambda: directory.append_block(0, block(0)),
        ):
            calls.clear()
            write()
            assert calls[-4:] == whole
            assert set(calls[:-4]) <= {"fsync folder"}  # of the folder for blocks, new too
            calls.clear()
            write()  # who wrote it may have died before the last step
            assert calls == ["fsync folder"]


def test_the_same_again_is_fine_and_another_is_not(tmp_path):
    with SessionDirectory(tmp_path, "verifier") as directory:
        for _ in range(2):
            directory.write_message(0, b"first")
            directory.write_private(b"secret")
            directory.append_block(0, block(0))
        for other in (b"other", b"firs", b"first and more", b""):
            with pytest.raises(ConflictError, match="0-invitation"):
                directory.write_message(0, other)
        with pytest.raises(ConflictError):
            directory.write_private(b"secrets")
        with pytest.raises(ConflictError):
            directory.append_block(0, block(1))
        assert directory.read_message(0, 5) == b"first"
        assert directory.read_own_private(6) == b"secret"
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_secret_that_others_can_read_is_refused_by_its_owner(tmp_path):
    with SessionDirectory(tmp_path, "prover") as directory:
        directory.write_private(b"secret")
        (tmp_path / "private-prover.json").chmod(0o640)
        with pytest.raises(PermissionError, match="expected mode 0600, got 0640"):
            directory.read_own_private(CAP)
        assert directory.read_private("prover", CAP) == b"secret"  # an auditor was shown it


def make_link(path, target):
    path.symlink_to(target)


def make_pipe(path, target):
    os.mkfifo(path)


def make_socket(path, target):
    here = Path.cwd()
    os.chdir(path.parent)  # its name must be short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def make_folder(path, target):
    path.mkdir()


@pytest.mark.parametrize("make", [make_link, make_pipe, make_socket, make_folder])
def test_what_is_no_file_is_refused(tmp_path, make):
    victim, path = tmp_path / "victim", tmp_path / "session"
    victim.write_bytes(b"precious")
    path.mkdir()
    make(path / MESSAGES[0], victim)
    make(path / "private-verifier.json", victim)
    with SessionDirectory(path, "verifier") as directory:
        for attempt in (
            lambda: directory.read_message(0, CAP),
            lambda: directory.write_message(0, b"precious"),
            lambda: directory.write_message(0, b"p"),
            lambda: directory.write_private(b"precious"),
            lambda: directory.read_own_private(CAP),
        ):
            with pytest.raises(ProtocolError, match="expected"):
                attempt()
    assert victim.read_bytes() == b"precious"


def test_links_in_place_of_folders_and_locks_are_refused(tmp_path):
    outside, path = tmp_path / "outside", tmp_path / "session"
    outside.mkdir()
    path.mkdir()
    (path / "trainings-prover").symlink_to(outside)
    with pytest.raises(ProtocolError, match="trainings-prover: expected"):
        SessionDirectory(path, "prover")
    with (
        SessionReader(path) as reader,
        pytest.raises(ProtocolError, match="trainings-prover: expected"),
    ):
        reader.read_blocks("prover", CAP)
    assert list(outside.iterdir()) == []
    (path / "lock-verifier").symlink_to(outside / "made")
    with pytest.raises(ProtocolError, match="lock-verifier"):
        SessionDirectory(path, "verifier")
    assert list(outside.iterdir()) == []


def test_a_dangling_link_is_not_written_through(tmp_path):
    path = tmp_path / "session"
    path.mkdir()
    (path / MESSAGES[1]).symlink_to(tmp_path / "made")
    with SessionDirectory(path, "prover") as directory, pytest.raises(ProtocolError):
        directory.write_message(1, b"message")
    assert not (tmp_path / "made").exists()


def test_stale_links_of_temporary_names_are_removed_and_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "session"
    victim.write_bytes(b"precious")
    path.mkdir()
    (path / ".tmp-prover-1").symlink_to(victim)
    (path / ".tmp-verifier-1").write_bytes(b"of the other side, which may be at work")
    with SessionDirectory(path, "prover"):
        pass
    assert sorted(p.name for p in path.iterdir()) == [".tmp-verifier-1", "lock-prover"]
    assert victim.read_bytes() == b"precious"


def test_size_is_checked_before_memory_is_taken(tmp_path):
    with (tmp_path / MESSAGES[0]).open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with SessionReader(tmp_path) as reader:
        tracemalloc.start()
        with pytest.raises(ProtocolError, match="expected at most 1000 bytes"):
            reader.read_message(0, 1000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100_000
    (tmp_path / MESSAGES[0]).write_bytes(b"x" * 1000)
    with SessionReader(tmp_path) as reader:
        assert len(reader.read_message(0, 1000)) == 1000
        with pytest.raises(ProtocolError, match="999 bytes, got 1000"):
            reader.read_message(0, 999)


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / MESSAGES[0]
    path.write_bytes(b"x" * 10)
    real = os.read

    def grows(descriptor, size):
        with path.open("ab") as file:
            file.write(b"y" * 10)
        return real(descriptor, size)

    monkeypatch.setattr(os, "read", grows)
    with SessionReader(tmp_path) as reader, pytest.raises(ProtocolError, match="got more"):
        reader.read_message(0, 15)


def test_one_process_of_a_side_at_a_time(tmp_path):
    command = [sys.executable, "-c", LOCKED, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"locked\n"
        with pytest.raises(BusyError, match="lock-prover: expected no other process"):
            SessionDirectory(tmp_path, "prover")
        with SessionDirectory(tmp_path, "verifier") as other:  # the other side may work
            other.write_message(0, b"invitation")
        with SessionReader(tmp_path) as reader:  # and anyone may look
            assert reader.read_message(0, CAP) == b"invitation"
        child.send_signal(signal.SIGKILL)
    with SessionDirectory(tmp_path, "prover") as mine:  # a dead process holds nothing
        assert mine.role == "prover"


LOCKED = """
import sys
from pyattr.transport.directory import SessionDirectory
held = SessionDirectory(sys.argv[1], "prover")
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_journal_with_a_gap_or_something_else_in_it_is_refused(tmp_path):
    folder = tmp_path / "trainings-prover"

    def read(most_bytes=CAP):
        with SessionReader(tmp_path) as reader:
            return reader.read_blocks("prover", most_bytes)

    assert read() == ()
    with SessionDirectory(tmp_path, "prover") as directory:
        for k in range(3):
            directory.append_block(k, block(k))
    sizes = [file.stat().st_size for file in sorted(folder.iterdir())]
    assert len(read(sum(sizes))) == 3
    with pytest.raises(ProtocolError, match="expected at most"):
        read(sum(sizes) - 1)  # all together
    (folder / "000001.safetensors").rename(folder / "000003.safetensors")
    with pytest.raises(ProtocolError, match="expected 000001"):
        read()
    digest, outputs = np.zeros(32, np.uint8), np.zeros((2, 2), np.float32)
    for wrong in (
        b"",
        b"\xff" * 100,
        save({"outputs": outputs}),
        save({"digest": digest, "outputs": outputs, "more": outputs}),
        save({"digest": digest[:31], "outputs": outputs}),
        save({"digest": digest, "outputs": outputs.astype(np.float64)}),
        save({"digest": digest, "outputs": outputs[0]}),
    ):
        (folder / "000001.safetensors").write_bytes(wrong)
        (folder / "000003.safetensors").unlink(missing_ok=True)
        with pytest.raises(ProtocolError, match=r"000001\.safetensors: expected"):
            read()


def test_names_and_numbers_are_checked(tmp_path):
    for number in (-1, len(MESSAGES), 0.5):
        with SessionReader(tmp_path) as reader, pytest.raises(ValueError, match="number"):
            reader.read_message(number, CAP)
    with SessionReader(tmp_path) as reader:
        with pytest.raises(ValueError, match="role: expected 'prover' or 'verifier'"):
            reader.read_private("../prover", CAP)
        with pytest.raises(FileNotFoundError):
            reader.read_message(0, CAP)
    with pytest.raises(ValueError, match="role"):
        SessionDirectory(tmp_path, "auditor")
    with pytest.raises(FileNotFoundError):
        SessionDirectory(tmp_path / "none", "prover")
    with (
        SessionDirectory(tmp_path, "prover") as directory,
        pytest.raises(ValueError, match="block"),
    ):
        directory.append_block(1_000_000, block(0))


def test_a_link_to_the_directory_itself_is_the_callers_business(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with SessionDirectory(tmp_path / "link", "prover", create=True) as directory:
        directory.write_message(1, b"message")
    assert (tmp_path / "real" / MESSAGES[1]).read_bytes() == b"message"


VALID = save({"digest": np.arange(32, dtype=np.uint8), "outputs": np.ones((3, 2), np.float32)})


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_any_bytes_are_a_block_or_refused(data):
    """A journal that is shown to an auditor comes from a stranger."""
    content = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    more = data.draw(st.binary(max_size=8))
    for changed in (bytes(content), bytes(content[:cut]), bytes(content) + more, more):
        try:
            read = decode_block("block", changed)
        except ProtocolError:
            continue
        assert len(bytes.fromhex(read.digest)) == 32
        assert read.outputs.dtype == np.float32
        assert read.outputs.ndim == 2
