"""Executors: any number of workers, here or on Ray, gives the same bytes; failures stay their row's own."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bank_trainers import CHUNK_ROWS, MANIFEST, Make, is_bad, outputs_of

from pyattr.masks import sample_masks, sample_seeds
from pyattr.retraining.bank import Bank
from pyattr.retraining.bank_format import Status, statuses
from pyattr.retraining.executors import Executor, workers
from pyattr.retraining.outcomes import train_rows
from pyattr.retraining.processes import ProcessPool
from pyattr.retraining.scheduling import Progress, fill
from pyattr.retraining.worker import Done, Lost, Stopped, Task, Work, Worker

TESTS = Path(__file__).parents[1]
SEED = 3
# The seeds of one of these 12 chunks' rows are such that a bad trainer fails at it.
N_CHUNKS = 12


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def made(folder: Path) -> Bank:
    bank = Bank.create(folder, MANIFEST)
    bank.extend(SEED, N_CHUNKS)
    return bank


def alone(folder: Path, trainer: str = "quick") -> Bank:
    """Fill a bank in this process, in order."""
    bank = made(folder)
    worker = Worker(Work(str(folder), Make(trainer)))
    for chunk in range(N_CHUNKS):
        assert isinstance(worker(Task(SEED, chunk)), Done)
    return bank


def bad_rows() -> list[int]:
    seeds = sample_seeds(N_CHUNKS * CHUNK_ROWS, SEED)
    return [row for row, seed in enumerate(seeds) if is_bad(seed)]


def read(bank: Bank) -> np.ndarray:
    return np.concatenate([bank.read(SEED, chunk) for chunk in range(N_CHUNKS)])


def test_there_are_bad_rows():
    chunks = {row // CHUNK_ROWS for row in bad_rows()}
    assert 0 < len(chunks) < 4


@pytest.mark.parametrize(
    ("trainer", "status", "words"),
    [
        ("raising", Status.FAILED, "RuntimeError: cannot train seed"),
        ("diverging", Status.DIVERGED, "the outputs hold NaN or infinity"),
        ("greedy", Status.FAILED, "Memory"),
    ],
)
def test_a_training_that_fails_is_recorded_and_no_other(tmp_path, trainer, status, words):
    bank = alone(tmp_path, trainer)
    outputs, bad = read(bank), bad_rows()
    found = statuses(outputs)
    assert np.flatnonzero(found).tolist() == bad
    assert set(found[bad]) == {status}
    assert np.isnan(outputs[bad]).all()
    assert all(words in bank.failure(SEED, row) for row in bad)
    if trainer != "greedy":
        good = np.setdiff1d(np.arange(len(outputs)), bad)
        masks = sample_masks(len(outputs), MANIFEST.n_train, seed=SEED)
        expected = outputs_of(masks, sample_seeds(len(outputs), SEED))
        np.testing.assert_array_equal(outputs[good], expected[good])


def test_small_subsets_and_missing_classes_are_their_row_s_own():
    bits = np.zeros((5, 40), np.bool_)
    bits[1, 3] = bits[2, 2] = bits[2, 3] = bits[3, ::2] = True  # none, one, both, one class
    bits[4] = True
    from pyattr.masks import Masks

    outputs, failures = train_rows(
        Make("needs_both_classes")(), Masks.pack(bits), np.arange(5, dtype=np.uint64), 5
    )
    assert statuses(outputs).tolist() == [2, 2, 0, 2, 0]
    assert sorted(failures) == [0, 1, 3]
    assert "2 classes; 0 examples" in failures[0][1]
    assert "2 classes; 1 examples" in failures[1][1]


def test_the_built_in_recipes_train_on_any_subset():
    pytest.importorskip("torch")
    from pyattr.masks import Masks
    from pyattr.retraining.recipes import RECIPES, Examples, make_recipe, make_retrain

    rng = np.random.default_rng(0)
    x, y = rng.random((40, 144), dtype=np.float32), np.arange(40) % 2
    bits = np.zeros((4, 30), np.bool_)
    bits[1, 3] = bits[2, ::2] = bits[3] = True  # none, one, one class, all
    examples = Examples(x[:30], y[:30], x[30:], y[30:])
    small = {"width_multiplier": 0.125, "epochs": 1.0, "batch_size": 4}
    for kind in RECIPES:
        settings = small if kind == "resnet9" else {}
        retrain = make_retrain(make_recipe(kind, settings, (12, 12)), examples)
        outputs, failures = train_rows(retrain, Masks.pack(bits), np.arange(4, dtype=np.uint64), 10)
        assert not failures
        assert np.isfinite(outputs).all()
    wild = make_recipe("mlp", {"learning_rate": 1e30})
    retrain = make_retrain(wild, examples)
    outputs, failures = train_rows(retrain, Masks.pack(bits), np.arange(4, dtype=np.uint64), 10)
    assert statuses(outputs).tolist() == [0, 1, 1, 1]
    assert "expected training that ends in finite logits" in failures[3][1]
    with pytest.raises(ValueError, match=r"^image_shape: expected"):
        make_recipe("resnet9", {})


def test_a_failure_where_another_writer_was_first_leaves_nothing(tmp_path):
    """One that another did not meet, as want of memory; the bank is that of the first writer alone."""
    alone(tmp_path / "first")
    bank = alone(tmp_path / "both")
    other = Worker(Work(bank.url, Make("raising")))
    counts = [other(Task(SEED, chunk)).n_failed for chunk in range(N_CHUNKS)]
    assert files_of(tmp_path / "both") == files_of(tmp_path / "first")
    assert counts == [{}] * N_CHUNKS  # of what is stored
    # Of a row that failed for the first writer too, what it said stays.
    bank = alone(tmp_path / "failed", "raising")
    before = files_of(tmp_path / "failed")
    again = Worker(Work(bank.url, Make("raising")))
    assert [again(Task(SEED, chunk)).n_failed for chunk in range(N_CHUNKS)] != [{}] * N_CHUNKS
    assert files_of(tmp_path / "failed") == before


def test_a_trainer_that_never_works_stores_nothing(tmp_path):
    made(tmp_path)
    outcome = Worker(Work(str(tmp_path), Make("broken")))(Task(SEED, 0))
    assert isinstance(outcome, Stopped)
    assert "all of the first 8 trainings failed" in outcome.why
    assert "row 0: ImportError: no such library" in outcome.why
    assert Bank.open(tmp_path).stored(SEED) == []


def test_a_trainer_of_another_shape_stops_everything(tmp_path):
    alone(tmp_path)
    outcome = Worker(Work(str(tmp_path), Make("misshapen")))(Task(SEED, N_CHUNKS))
    assert isinstance(outcome, Stopped)
    assert "outputs: expected shape (8, 5), got (8, 2)" in outcome.why


@pytest.mark.parametrize("n_workers", [1, 3])
def test_any_number_of_processes_gives_the_same_bytes(tmp_path, n_workers):
    alone(tmp_path / "a")
    bank = made(tmp_path / "b")
    tasks = [Task(SEED, chunk) for chunk in np.random.default_rng(0).permutation(N_CHUNKS).tolist()]
    told: list[int] = []
    with workers(Executor("local", n_workers), Work(bank.url, Make("quick"))) as pool:
        fill(pool, tasks, len(tasks), CHUNK_ROWS, lambda progress: told.append(progress.n_done))
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert told == list(range(0, (N_CHUNKS + 1) * CHUNK_ROWS, CHUNK_ROWS))


def test_a_row_that_kills_its_process_is_found_and_recorded(tmp_path):
    bank = made(tmp_path)
    tasks = [Task(SEED, chunk) for chunk in range(N_CHUNKS)]
    with workers(Executor("local", 2), Work(bank.url, Make("dying"))) as pool:
        progress = fill(pool, tasks, len(tasks), CHUNK_ROWS)
    bad, outputs = bad_rows(), read(bank)
    assert np.flatnonzero(statuses(outputs)).tolist() == bad
    assert set(statuses(outputs)[bad]) == {Status.DIED}
    assert all("ended by SIGKILL" in bank.failure(SEED, row) for row in bad)
    assert progress.n_failed == {"died": len(bad)}
    assert progress.n_lost == 3 * len({row // CHUNK_ROWS for row in bad})
    assert progress.n_done == N_CHUNKS * CHUNK_ROWS


def test_a_lost_worker_is_replaced(tmp_path):
    alone(tmp_path / "a")
    bank = made(tmp_path / "b")
    with ProcessPool(Work(bank.url, Make("slow")), 2) as pool:
        killed: list[int] = []

        def kill_one(progress: Progress) -> None:
            if pool.pids and not killed:
                killed.append(pool.pids[0])
                os.kill(killed[0], signal.SIGKILL)

        tasks = [Task(SEED, chunk) for chunk in range(N_CHUNKS)]
        progress = fill(pool, tasks, len(tasks), CHUNK_ROWS, kill_one)
        assert killed[0] not in pool.pids
    assert progress.n_lost <= 1  # none if it was between two chunks
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


class _LosesAll:
    """A pool whose workers never come back."""

    capacity = 2

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.most = 0

    def submit(self, task: Task) -> None:
        self.tasks.append(task)
        self.most = max(self.most, len(self.tasks))

    def wait(self) -> list[Lost]:
        return [Lost(self.tasks.pop(), "gone")]


def test_a_worker_that_cannot_be_started_is_said(tmp_path, monkeypatch):
    """No more processes, say; and not what putting away a process that never was then raises."""

    def refuse(process):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", refuse)
    work = Work(made(tmp_path).url, Make("quick"))
    said = pytest.raises(OSError, match="Resource temporarily unavailable")
    with said, workers(Executor("local", 2), work) as pool:
        fill(pool, [Task(SEED, 0)], 1, CHUNK_ROWS)


def test_a_chunk_that_loses_every_worker_ends_the_run():
    with pytest.raises(RuntimeError, match=r"chunk 0 of seed 3: lost 6 workers, the last: gone"):
        fill(_LosesAll(), [Task(SEED, 0)], 1, CHUNK_ROWS)


class _LosesMany(_LosesAll):
    """A pool that loses a worker over every chunk, until its rows are trained apart."""

    n_waits = 0

    def wait(self) -> list[Done | Lost]:  # type: ignore[override]
        self.n_waits += 1
        task = self.tasks.pop(0)
        return [Done(task) if task.apart else Lost(task, "gone")]


def test_where_no_worker_gets_anywhere_it_is_said_soon():
    """Not once for each of 1000 chunks."""
    pool = _LosesAll()
    lost: list[int] = []
    with pytest.raises(RuntimeError, match="lost 6 workers, the last: gone"):
        fill(
            pool,
            (Task(SEED, k) for k in range(1000)),
            1000,
            1,
            lambda progress: lost.append(progress.n_lost),
        )
    assert lost[-1] <= 6 * pool.capacity


def test_chunks_that_all_lose_workers_are_trained_apart_all_the_same():
    pool = _LosesMany()
    assert fill(pool, (Task(SEED, k) for k in range(100)), 100, 1).n_done == 100
    assert pool.n_waits == 400


class _Instant(_LosesAll):
    """A pool that does nothing, at once."""

    def wait(self) -> list[Done]:  # type: ignore[override]
        return [Done(self.tasks.pop())]


def test_tasks_are_read_as_they_are_handed_out():
    pool, read = _Instant(), 0

    def tasks():
        nonlocal read
        for chunk in range(100_000):
            read += 1
            assert len(pool.tasks) < pool.capacity
            yield Task(SEED, chunk)

    started = time.perf_counter()
    progress = fill(pool, tasks(), 100_000, 1)
    assert progress.n_done == read == 100_000
    assert pool.most == pool.capacity
    assert time.perf_counter() - started < 20  # the driver's own work for 100,000 chunks


def test_time_left_is_told_from_the_second_chunk_on():
    told: list[tuple[int, bool]] = []
    fill(
        _Instant(),
        (Task(SEED, k) for k in range(3)),
        3,
        1,
        lambda progress: told.append((progress.n_done, progress.seconds_left is not None)),
    )
    assert told == [(0, False), (1, False), (2, True), (3, True)]


def test_a_full_bank_is_filled_without_workers(tmp_path):
    with ProcessPool(Work(str(tmp_path), Make("quick")), 2) as pool:
        assert fill(pool, [], 0, CHUNK_ROWS).n_done == 0
        assert pool.pids == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "slurm"}, "executor: expected 'local' or 'ray'"),
        ({"n_workers": 0}, "workers: expected a whole number of at least 1"),
        ({"address": "auto"}, "address: expected none but with the executor 'ray'"),
    ],
)
def test_wrong_executors_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Executor(**arguments)


RAY = """
import sys
from bank_trainers import CHUNK_ROWS, MANIFEST, Make
from pyattr.retraining.bank import Bank
from pyattr.retraining.executors import Executor, workers
from pyattr.retraining.scheduling import fill
from pyattr.retraining.worker import Task, Work

folder, n = sys.argv[1], int(sys.argv[2])
tasks = [Task(3, chunk) for chunk in range(n)]
bank = Bank.create(folder, MANIFEST)
bank.extend(3, n)
with workers(Executor("ray", 2), Work(bank.url, Make("dying"))) as pool:
    assert pool.capacity == 4, pool.capacity
    progress = fill(pool, tasks, n, CHUNK_ROWS)
print("filled", progress.n_done, progress.n_failed, progress.n_lost)
"""


def test_ray_gives_the_same_bytes_and_finds_the_row_that_kills(tmp_path):
    pytest.importorskip("ray")
    environment = os.environ | {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    command = [sys.executable, "-c", RAY, str(tmp_path / "ray"), str(N_CHUNKS)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert ended.returncode == 0, ended.stderr
    bad = bad_rows()
    n_lost = 3 * len({row // CHUNK_ROWS for row in bad})
    said = f"filled {N_CHUNKS * CHUNK_ROWS} {{'died': {len(bad)}}} {n_lost}"
    assert said in ended.stdout.splitlines()
    outputs = read(Bank.open(tmp_path / "ray"))
    assert np.flatnonzero(statuses(outputs)).tolist() == bad
    alone(tmp_path / "alone")
    here, there = files_of(tmp_path / "alone"), files_of(tmp_path / "ray")
    different = {name for name in here.keys() | there.keys() if here.get(name) != there.get(name)}
    died = {f"seed-{SEED}/c.{row // CHUNK_ROWS}.0" for row in bad}
    assert different == died | {f"failures/seed-{SEED}.{row}.json" for row in bad}


def test_a_program_that_starts_workers_while_it_is_imported_is_told_how(tmp_path, monkeypatch):
    """A worker imports the program that started it, which must not start workers again then."""
    this = multiprocessing.current_process()
    monkeypatch.setattr(this, "_inheriting", True, raising=False)  # Python's mark of such a process
    pool = ProcessPool(Work(str(tmp_path), Make("quick")), 1)
    with pytest.raises(RuntimeError, match='under if __name__ == "__main__"'), pool:
        pool.submit(Task(SEED, 0))
