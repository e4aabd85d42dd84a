"""kill -9 of workers and drivers at random moments while a bank fills, and what is left of it.

Shared by the test, which kills a few times, and ``bench/bench_kills.py``, which kills hundreds of times.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from bank_driver import SEED
from bank_trainers import MANIFEST, Make

from pyattr.retraining.bank import Bank
from pyattr.retraining.worker import Task, Work, Worker

TESTS = Path(__file__).parent
N_CHUNKS = 1000  # of a bank: more than are trained between two kills
PATIENCE = 60.0  # seconds


@dataclass
class Tally:
    """What was killed, and what was compared afterwards.

    Attributes
    ----------
    worker_deaths, driver_deaths : int
        Processes that were alive and got SIGKILL. A driver's workers die with it and are not counted.
    resumed_runs : int
        Runs that found chunks of an earlier one.
    banks : int
    chunks_at_deaths : int
        Chunks that lay in a bank when its driver died, summed over deaths; each was looked for again.
    chunks : int
        Compared at the end with those of a run that nothing disturbed.
    lost_chunks, changed_chunks, other_files : int
        Chunks that were gone, or had other bytes, after a death or at the end; files of finished banks
        that the undisturbed run has not, or has with other bytes.
    """

    worker_deaths: int = 0
    driver_deaths: int = 0
    resumed_runs: int = 0
    banks: int = 0
    chunks_at_deaths: int = 0
    chunks: int = 0
    lost_chunks: int = 0
    changed_chunks: int = 0
    other_files: int = 0

    @property
    def deaths(self) -> int:
        """Processes killed."""
        return self.worker_deaths + self.driver_deaths

    def record(self) -> dict[str, int]:
        """JSON values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def random_kills(kind: str, scratch: Path, n_kills: int, rng: np.random.Generator) -> Tally:
    """Fill banks, kill so many workers and drivers meanwhile, and compare what there is at the end.

    Parameters
    ----------
    kind : {"local", "ray"}
    scratch : Path
        An empty folder.
    n_kills : int
    rng : numpy.random.Generator
        Who is killed and when, as far as the machine repeats itself.

    Raises
    ------
    RuntimeError
        If a last, undisturbed run does not end well.
    """
    tally = Tally()
    while tally.deaths < n_kills:
        folder, log = scratch / f"bank-{tally.banks}", scratch / f"log-{tally.banks}"
        _Filling(kind, folder, log, tally).disturb(n_kills, rng)
        stored = chunks_of(folder)
        last = start(kind, folder, log, len(stored) + 5)
        tally.resumed_runs += 1
        if last.wait(PATIENCE):
            raise RuntimeError(log.read_text()[-3000:])
        compare(stored, chunks_of(folder), tally)
        expected = undisturbed(scratch / f"expected-{tally.banks}", folder)
        found = files_of(folder)
        tally.other_files += sum(found.get(n) != expected.get(n) for n in found | expected)
        tally.chunks += len(chunks_of(folder))
        tally.banks += 1
    return tally


def compare(before: dict[str, bytes], after: dict[str, bytes], tally: Tally) -> None:
    """Look for every chunk that was there."""
    tally.lost_chunks += len(before.keys() - after.keys())
    tally.changed_chunks += sum(after.get(name, data) != data for name, data in before.items())


class _Filling:
    """A bank that is filled by one driver after another."""

    def __init__(self, kind: str, folder: Path, log: Path, tally: Tally) -> None:
        self._kind, self._folder, self._log, self._tally = kind, folder, log, tally
        self._stored: dict[str, bytes] = {}

    def disturb(self, n_kills: int, rng: np.random.Generator) -> None:
        """Kill until there were so many deaths, or the bank is full."""
        driver = self._start()
        while self._tally.deaths < n_kills and chunks_in(self._folder) < N_CHUNKS:
            if rng.random() < 0.8:
                wait_for_chunk(driver, self._folder, chunks_in(self._folder))
            time.sleep(rng.exponential(0.05))
            workers = [p for p, command in descendants(driver.pid).items() if is_worker(command)]
            if workers and rng.random() < 0.75:
                self._tally.worker_deaths += kill(int(rng.choice(workers)))
            else:
                if self._end(driver, with_family=self._kind == "ray"):
                    self._tally.driver_deaths += 1
                    self._tally.chunks_at_deaths += len(self._stored)
                driver = self._start()
        self._end(driver, with_family=True)

    def _start(self) -> subprocess.Popen[bytes]:
        self._tally.resumed_runs += bool(self._stored)
        return start(self._kind, self._folder, self._log, N_CHUNKS)

    def _end(self, driver: subprocess.Popen[bytes], with_family: bool) -> bool:
        """Kill a driver, and look for what lay in the bank at the death before; whether it was alive.

        Workers of a local driver end by themselves, Ray's daemons too, but not at once.
        """
        family = descendants(driver.pid)
        died = driver.poll() is None and kill(driver.pid)
        driver.wait()
        for pid in family if with_family else ():
            kill(pid)
        before, self._stored = self._stored, chunks_of(self._folder)
        compare(before, self._stored, self._tally)
        return died


def files_of(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def chunks_of(folder: Path) -> dict[str, bytes]:
    """The chunks of a bank, which may not be there yet."""
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in _chunks(folder)}


def chunks_in(folder: Path) -> int:
    """How many there are."""
    return len(list(_chunks(folder)))


def _chunks(folder: Path) -> Iterator[Path]:
    return folder.glob("seed-*/c.*")


def start(kind: str, folder: Path, log: Path, n_chunks: int) -> subprocess.Popen[bytes]:
    """Start a driver with two workers."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    environment = os.environ | {"PYTHONPATH": path, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    script = [sys.executable, str(TESTS / "bank_driver.py")]
    with log.open("ab") as file:
        return subprocess.Popen(
            [*script, kind, str(folder), "slow", str(n_chunks)],
            stdout=file, stderr=file, env=environment,
        )  # fmt: skip


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


def kill(pid: int) -> bool:
    """Kill a process; whether it was there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wait_for_chunk(driver: subprocess.Popen[bytes], folder: Path, more_than: int) -> None:
    """Wait until work is going on."""
    end = time.monotonic() + PATIENCE
    while chunks_in(folder) <= more_than and driver.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def is_worker(command: str) -> bool:
    """Whether a process trains, by its command line."""
    return "spawn_main" in command or command.startswith("ray::")


def undisturbed(folder: Path, like: Path) -> dict[str, bytes]:
    """Files of a bank with the same chunks that one process filled in order."""
    bank = Bank.create(folder, MANIFEST)
    bank.extend(SEED, N_CHUNKS)
    worker = Worker(Work(str(folder), Make("quick")))
    for chunk in sorted(int(path.name.split(".")[1]) for path in _chunks(like)):
        worker(Task(SEED, chunk))
    return files_of(folder)
