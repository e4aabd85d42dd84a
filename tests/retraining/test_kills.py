"""kill -9 at random moments loses no stored chunk and changes no byte.

The default run kills a few times; ``PYATTR_KILLS=200 pytest tests/retraining/test_kills.py`` kills 200
times with each executor, ``PYATTR_KILL_SEED`` at other moments.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bank_driver import SEED
from bank_trainers import MANIFEST, Make

from pyattr.retraining.bank import Bank
from pyattr.retraining.worker import Task, Work, Worker

TESTS = Path(__file__).parents[1]
N_CHUNKS = 1000  # more than are trained between two kills
KILLS = {
    "local": int(os.environ.get("PYATTR_KILLS", "4")),
    "ray": int(os.environ.get("PYATTR_KILLS", "1")),
}
PATIENCE = 60.0  # seconds


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def start(kind: str, folder: Path, log: Path, n_chunks: int) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    environment = os.environ | {"PYTHONPATH": path, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    command = [
        sys.executable,
        str(TESTS / "bank_driver.py"),
        kind,
        str(folder),
        "slow",
        str(n_chunks),
    ]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment)


def descendants(pid: int) -> dict[int, str]:
    """Process ids of children, their children and so on, with their command lines."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            if after_name[0] != "Z":
                parents[int(folder.name)] = int(after_name[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, family = {}, {pid}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    for child in family - {pid}:
        try:
            found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def chunks_in(folder: Path) -> int:
    return len(list(folder.glob("seed-*/c.*")))


def wait_for_chunk(driver: subprocess.Popen[bytes], folder: Path, more_than: int) -> None:
    """Wait until work is going on."""
    end = time.monotonic() + PATIENCE
    while chunks_in(folder) <= more_than and driver.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def is_worker(command: str) -> bool:
    return "spawn_main" in command or command.startswith("ray::")


def kill_at_random(
    kind: str, folder: Path, log: Path, n_kills: int, rng: np.random.Generator
) -> int:
    """Kill workers and drivers while a bank fills; return the number of kills."""
    done = 0
    driver = start(kind, folder, log, N_CHUNKS)
    while done < n_kills and chunks_in(folder) < N_CHUNKS:
        if rng.random() < 0.8:
            wait_for_chunk(driver, folder, chunks_in(folder))
        time.sleep(rng.exponential(0.05))
        family = descendants(driver.pid)
        pids = [pid for pid, command in family.items() if is_worker(command)]
        if pids and rng.random() < 0.75:
            kill(int(rng.choice(pids)))
        else:
            kill(driver.pid)
            driver.wait()
            if kind == "ray":  # its daemons end with the driver, but not at once
                for pid in family:
                    kill(pid)
            driver = start(kind, folder, log, N_CHUNKS)
        done += 1
    family = descendants(driver.pid)
    kill(driver.pid)
    driver.wait()
    for pid in family:
        kill(pid)
    return done


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_random_kills_lose_nothing_and_change_no_byte(kind, tmp_path):
    if kind == "ray":
        pytest.importorskip("ray")
    rng = np.random.default_rng(int(os.environ.get("PYATTR_KILL_SEED", "11")))
    n_done = n_banks = 0
    while n_done < KILLS[kind]:
        folder, log = tmp_path / f"bank-{n_banks}", tmp_path / f"log-{n_banks}"
        n_done += kill_at_random(kind, folder, log, KILLS[kind] - n_done, rng)
        n_stored = chunks_in(folder)
        stored = files_of(folder)
        last = start(kind, folder, log, n_stored + 5)
        assert last.wait(PATIENCE) == 0, log.read_text()[-3000:]
        after = files_of(folder)
        # What was stored is still there, and an undisturbed run gives these bytes and no others.
        chunks = {name: data for name, data in stored.items() if "/c." in name}
        assert chunks.items() <= after.items()
        expected = undisturbed(tmp_path / f"expected-{n_banks}", after)
        assert after == expected
        n_banks += 1
    assert n_done == KILLS[kind]


def undisturbed(folder: Path, names: dict[str, bytes]) -> dict[str, bytes]:
    """Files of a bank with the same chunks that one process filled in order."""
    bank = Bank.create(folder, MANIFEST)
    bank.extend(SEED, N_CHUNKS)
    worker = Worker(Work(str(folder), Make("quick")))
    chunks = sorted(int(name.split(".")[1]) for name in names if "/c." in name)
    assert chunks
    for chunk in chunks:
        worker(Task(SEED, chunk))
    return files_of(folder)
