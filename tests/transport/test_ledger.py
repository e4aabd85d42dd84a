"""The δ ledger: every session that got as far as a challenge is counted, killed ones and all."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kill_points import killed_at_each_point

from pyattr.transport import ledger as module
from pyattr.transport.ledger import AttemptsSpentError, Ledger, default_path
from pyattr.verification.verdict import Outcome

CLAIM, OTHER = "c" * 64, "d" * 64
TERMS = {"delta": 0.05, "attempts": 3}


def session(number):
    return f"{number:064x}"


@pytest.fixture
def ledger(tmp_path):
    return Ledger.at(tmp_path / "state" / "ledger.jsonl")


def test_attempts_are_used_up_whatever_came_of_them(ledger):
    ledger.begin(CLAIM, session(0), **TERMS)
    ledger.finish(session(0), Outcome.ABORT)
    ledger.begin(CLAIM, session(1), **TERMS)  # abandoned
    ledger.begin(CLAIM, session(2), **TERMS)
    ledger.finish(session(2), Outcome.ACCEPT)
    before = ledger.path.read_bytes()
    with pytest.raises(AttemptsSpentError, match=r"δ = 0.05 together, got 3 that began"):
        ledger.begin(CLAIM, session(3), **TERMS)
    assert ledger.path.read_bytes() == before
    assert [entry.outcome for entry in ledger.sessions(CLAIM)] == ["ABORT", "open", "ACCEPT"]
    ledger.begin(OTHER, session(4), **TERMS)  # another claim has its own δ
    assert [entry.session for entry in ledger.sessions(OTHER)] == [session(4)]


@pytest.mark.parametrize("attempts", [1, 2, 3, 7, 10, 49, 1000])
@pytest.mark.parametrize("delta", [0.05, 0.1, 0.3, 1e-9])
def test_the_number_of_attempts_is_exact(attempts, delta):
    """In floating point three thirds of 0.1 may be more than 0.1."""
    entries = [
        module.Entry(claim=CLAIM, session=session(k), delta=delta, attempts=attempts)
        for k in range(attempts + 1)
    ]
    module._check_budget(entries[: attempts - 1], entries[attempts - 1])
    with pytest.raises(AttemptsSpentError):
        module._check_budget(entries[:attempts], entries[attempts])


def test_the_same_session_counts_once(ledger):
    for _ in range(5):
        ledger.begin(CLAIM, session(0), **TERMS)
    ledger.finish(session(0), Outcome.INCONCLUSIVE)
    ledger.finish(session(0), Outcome.INCONCLUSIVE)
    ledger.begin(CLAIM, session(0), **TERMS)  # replayed after its end
    assert len(ledger.sessions(CLAIM)) == 1
    assert len(ledger.path.read_bytes().splitlines()) == 2


def test_the_same_session_is_resumed_when_attempts_are_used_up(ledger):
    for k in range(3):
        ledger.begin(CLAIM, session(k), **TERMS)
    ledger.begin(CLAIM, session(1), **TERMS)
    with pytest.raises(AttemptsSpentError):
        ledger.begin(CLAIM, session(3), **TERMS)


def test_other_terms_cannot_buy_another_session(ledger):
    """A session at 0.05 in 1 after two at 0.05/3 would err with 0.083 in all."""
    ledger.begin(CLAIM, session(0), **TERMS)
    ledger.begin(CLAIM, session(1), **TERMS)
    for terms in (
        {"delta": 0.05, "attempts": 1},
        {"delta": 0.05, "attempts": 2},
        {"delta": 0.5, "attempts": 10},  # more than was said before
        {"delta": 0.01, "attempts": 1000},  # less than is spent already
    ):
        with pytest.raises(AttemptsSpentError):
            ledger.begin(CLAIM, session(2), **terms)
    ledger.begin(CLAIM, session(2), delta=0.05, attempts=100)  # a smaller share fits


def test_an_outcome_does_not_change(ledger):
    ledger.begin(CLAIM, session(0), **TERMS)
    ledger.finish(session(0), Outcome.ABORT)
    with pytest.raises(ValueError, match="one that ended with ABORT"):
        ledger.finish(session(0), Outcome.ACCEPT)
    with pytest.raises(ValueError, match="got none"):
        ledger.finish(session(1), Outcome.ACCEPT)


def test_a_session_does_not_change_its_terms(ledger):
    ledger.begin(CLAIM, session(0), **TERMS)
    with pytest.raises(ValueError, match="as it began"):
        ledger.begin(OTHER, session(0), **TERMS)
    with pytest.raises(ValueError, match="as it began"):
        ledger.begin(CLAIM, session(0), delta=0.05, attempts=4)


@pytest.mark.parametrize(
    ("claim", "name", "delta", "attempts"),
    [
        ("c" * 63, session(0), 0.05, 3),
        (CLAIM, "C" * 64, 0.05, 3),
        (CLAIM, session(0) + "\n", 0.05, 3),
        (CLAIM, session(0), 0.0, 3),
        (CLAIM, session(0), 1.0, 3),
        (CLAIM, session(0), 0.05, 0),
        (CLAIM, session(0), 0.05, 1.5),
    ],
)
def test_wrong_arguments_write_nothing(ledger, claim, name, delta, attempts):
    with pytest.raises(ValueError, match="expected"):
        ledger.begin(claim, name, delta=delta, attempts=attempts)
    assert not ledger.path.exists()


def test_a_torn_last_line_is_tolerated_at_every_length(ledger):
    ledger.begin(CLAIM, session(0), **TERMS)
    ledger.finish(session(0), Outcome.ABORT)
    whole = ledger.path.read_bytes()
    for line in (
        ledger_line(session(1)),
        ledger_line(session(0), "ACCEPT"),  # never on the disk as a whole: it did not end so
    ):
        for length in range(len(line)):  # all but the end of the line
            ledger.path.write_bytes(whole + line[:length])
            assert [entry.outcome for entry in ledger.sessions(CLAIM)] == ["ABORT"]
            ledger.begin(CLAIM, session(2), **TERMS)
            assert len(ledger.sessions(CLAIM)) == 2
            assert ledger.path.read_bytes().startswith(whole + ledger_line(session(2)))


def ledger_line(name, outcome="open"):
    entry = {"claim": CLAIM, "session": name, "delta": 0.05, "attempts": 3, "outcome": outcome}
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"\xff\xfe\n",
        ledger_line("0" * 63),
        ledger_line(session(1), "PASSED"),
        ledger_line(session(1)).replace(b"}", b',"more":1}'),
        ledger_line(session(0)),  # began twice
        ledger_line(session(0), "ACCEPT") + ledger_line(session(0), "ABORT"),
        ledger_line(session(0), "ACCEPT").replace(b"0.05", b"0.04"),
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_damaged_ledger_allows_nothing(ledger, line):
    """Lines that are whole and wrong were not left by a crash: counting on would count too few."""
    ledger.begin(CLAIM, session(0), **TERMS)
    damaged = ledger.path.read_bytes() + line
    ledger.path.write_bytes(damaged)
    for attempt in (
        lambda: ledger.begin(CLAIM, session(1), **TERMS),
        lambda: ledger.finish(session(0), Outcome.ACCEPT),
        lambda: ledger.sessions(CLAIM),
    ):
        with pytest.raises(ValueError, match=r"ledger.jsonl, line [23]: expected"):
            attempt()
    assert ledger.path.read_bytes() == damaged


def test_killed_at_each_call_to_the_system(tmp_path):
    """What was sent is counted: a line may be there for a challenge that was not, never the reverse."""

    def ledger_at(point):
        return Ledger.at(tmp_path / str(point) / "state" / "ledger.jsonl")

    def sent(point):
        return tmp_path / f"{point}.sent"

    def work(point):
        ledger = ledger_at(point)
        for k in range(2):
            ledger.begin(CLAIM, session(k), **TERMS)
            with sent(point).open("ab") as file:
                file.write(b"challenge\n")
            ledger.finish(session(k), Outcome.ABORT)

    states = set()
    for point in killed_at_each_point(work):
        ledger = ledger_at(point)
        n_sent = len(sent(point).read_bytes().splitlines()) if sent(point).exists() else 0
        n_counted = len(ledger.sessions(CLAIM))
        assert n_sent <= n_counted <= n_sent + 1
        states.add((n_sent, n_counted))
        for k in range(2):  # it goes on with the same sessions, and they count once
            ledger.begin(CLAIM, session(k), **TERMS)
            ledger.finish(session(k), Outcome.ABORT)
        ledger.begin(CLAIM, session(2), **TERMS)
        with pytest.raises(AttemptsSpentError):
            ledger.begin(CLAIM, session(3), **TERMS)
    assert point > 60  # so many deaths
    assert states == {(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)}


def begin_many(path, first, results):
    ledger, begun = Ledger.at(path), 0
    for k in range(first, first + 20):
        try:
            ledger.begin(CLAIM, session(k), delta=0.05, attempts=25)
            begun += 1
        except AttemptsSpentError:
            pass
    results.put(begun)


def test_two_processes_at_once_do_not_overspend(ledger):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=begin_many, args=(ledger.path, first, results)) for first in (0, 100)
    ]
    for process in processes:
        process.start()
    begun = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sum(begun) == 25
    assert len(ledger.sessions(CLAIM)) == 25
    assert len(ledger.path.read_bytes().splitlines()) == 25


def test_on_the_disk_before_it_returns(ledger, monkeypatch):
    flushed = []
    real = os.fsync

    def fsync(descriptor):
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            flushed.append(status.st_size)
        return real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for k in range(2):
        ledger.begin(CLAIM, session(k), **TERMS)
        assert flushed.pop() == ledger.path.stat().st_size
        ledger.begin(CLAIM, session(k), **TERMS)  # its first writer may have died before it did so
        assert flushed.pop() == ledger.path.stat().st_size


def test_it_is_private_and_links_are_not_followed(ledger, tmp_path):
    before = os.umask(0)
    try:
        ledger.begin(CLAIM, session(0), **TERMS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(ledger.path.parent.stat().st_mode) == 0o700
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "made")
    with pytest.raises(OSError, match="symbolic links"):
        Ledger.at(link).begin(CLAIM, session(0), **TERMS)
    assert not (tmp_path / "made").exists()


def test_it_lies_where_the_users_state_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "pyattr" / "ledger.jsonl"
    Ledger.at().begin(CLAIM, session(0), **TERMS)
    assert (tmp_path / "pyattr" / "ledger.jsonl").exists()
    for unusable in ("", "relative/state"):
        monkeypatch.setenv("XDG_STATE_HOME", unusable)
        assert default_path() == Path.home() / ".local" / "state" / "pyattr" / "ledger.jsonl"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_path() == Path.home() / ".local" / "state" / "pyattr" / "ledger.jsonl"


def test_reading_makes_no_file(ledger):
    assert ledger.sessions(CLAIM) == ()
    assert not ledger.path.parent.exists()


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_any_bytes_are_sessions_or_refused(data):
    """Only ValueError leaves it, and what is read again was written by it."""
    content = bytearray(b"".join(ledger_line(session(k)) for k in range(3)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    for changed in (bytes(content), data.draw(st.binary(max_size=300)) + b"\n"):
        try:
            entries, end = module._parsed_lines(changed, "ledger")
        except ValueError:
            continue
        assert end == changed.rfind(b"\n") + 1
        assert all(module._parsed(module._line(e), "line") == e for e in entries.values())
