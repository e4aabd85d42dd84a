"""Small folders of every kind, made once, by the commands that make them."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import demo_run
from click.testing import CliRunner
from command_parties import prepare_folder

from pyattr.cli import main
from pyattr.jobs import attribute, load_job
from pyattr.retraining.executors import Executor
from pyattr.transport.job import image_job

__all__ = ["attribution", "bench", "checked", "demo", "sellers", "session"]

JOB = """\
[data]
name = "digits"
n_train = 80
n_targets = 8
flip_fraction = 0.1

[recipe]
kind = "softmax"
n_steps = 10

[models]
count = 640
held_out = 64
chunk = 64
"""

BENCH: dict[str, Any] = {
    "environment": {
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "uncommitted_changes": True,
        "device": "a processor",
        "n_threads": 2,
        "versions": {"numpy": "2.0", "pyattr": None},
    },
    "results": {
        "peers": {
            "kernel a": {
                "pyattr": {"median_s": 0.002, "min_s": 0.001, "max_s": 0.004, "ratio": 1.0},
                "slow": {"median_s": 0.02, "min_s": 0.01, "max_s": 0.03, "ratio": 10.0},
                "bound": {"median_s": 0.001, "min_s": 0.001, "max_s": 0.001, "ratio": 0.5},
            },
            "kernel b": {
                "pyattr": {"median_s": 0.5, "min_s": 0.4, "max_s": 0.6, "ratio": 1.0},
                "slow": {"median_s": 1.0, "min_s": 0.9, "max_s": 1.1, "ratio": 2.0},
            },
        },
        "softmax": {
            "models_per_s": {"pyattr": 900.0, "plain loop": 100.0},
            "times": {
                "pyattr": {"median_s": 1.0, "ratio": 1.0},
                "plain loop": {"median_s": 1.0, "ratio": 1.0},
            },
        },
        "path": {"ms a target": {"pyattr": 2.0, "other": 5.0}},
        "cells": {
            "one": {"rate": 0.95, "interval": [0.9, 1.0], "outcomes": {"ACCEPT": 3}},
            "two": {"rate": 0.5, "interval": [0.4, 0.6], "outcomes": {"ACCEPT": 1}},
        },
        "repeats": 1000,
        "unknown": None,
        "many": list(range(100)),
    },
}


@functools.cache
def _place() -> Path:
    place = Path(tempfile.mkdtemp(prefix="pyattr-reports-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


@functools.cache
def attribution() -> Path:
    """The folder of a job, its bank beside it."""
    folder = _place() / "job"
    folder.mkdir()
    (folder / "job.toml").write_text(JOB)
    job = load_job(folder / "job.toml")
    attribute(job, Executor("local", 1))
    return job.out_folder


def _checked(folder: Path, *words: str) -> None:
    """Verify a job's scores by the command."""
    done = CliRunner().invoke(main, ["check", str(folder / "job.toml"), "--seed", "1", *words])
    assert done.exit_code in (0, 1, 2), done.output


@functools.cache
def checked() -> Path:
    """The scores of `attribution`, with a verdict about them, which is no acceptance at this size."""
    folder = _place() / "checked"
    shutil.copytree(attribution().parent, folder)
    _checked(folder, "--budget", "200")
    return folder / "attribution"


@functools.cache
def sellers() -> Path:
    """Scores of sellers, and a verdict about their sum."""
    folder = _place() / "sellers"
    folder.mkdir()
    dealt = 'flip_fraction = 0.1\nsellers = 12\nseller_skew = "label"'
    (folder / "job.toml").write_text(JOB.replace("flip_fraction = 0.1", dealt))
    job = load_job(folder / "job.toml")
    attribute(job, Executor("local", 1))
    _checked(folder, "--sum", "--epsilon", "0.2")
    return job.out_folder


@functools.cache
def demo() -> Path:
    """A demo's results."""
    folder = _place() / "demo"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(demo_run.results()))
    return folder


@functools.cache
def bench(name: str = "kernels") -> Path:
    """Results of a bench, and files that are none."""
    folder = _place() / f"bench-{name}"
    folder.mkdir()
    (folder / f"{name}.json").write_text(json.dumps(BENCH))
    (folder / "other.json").write_text("[1, 2]")
    (folder / "broken.json").write_text("{")
    return folder


@functools.cache
def _parties() -> Path:
    root = _place() / "parties"
    root.mkdir()
    return prepare_folder(root, image_job("digits", "softmax", 200, 3))


@functools.cache
def session(scores: str = "honest", last: str = "verify") -> Path:
    """A session's folder as both parties see it, up to a command."""
    root, folder = _parties(), _place() / f"session-{scores}-{last}"
    job = ("--n-train", "200", "--n-test", "3")
    terms = ("--epsilon", "0.2", "--attempts", "8")
    ledger = ("--ledger", str(folder.with_suffix(".ledger")))
    published = ("--attribution", str(root / f"{scores}.safetensors"))
    for command, options in (
        ("init", (*job, *terms, *ledger)),
        ("commit", (*job, *terms, *published)),
        ("challenge", ledger),
        ("respond", published),
        ("verify", ledger),
    ):
        own, peer = ("p", "v") if command in ("commit", "respond") else ("v", "p")
        keys = ("--key", str(root / f"{own}.key"), "--peer", str(root / f"{peer}.key.pub"))
        done = CliRunner().invoke(main, ["session", command, str(folder), *keys, *options])
        assert done.exit_code in (0, 1, 2), done.output
        if command == last:
            return folder
    raise ValueError(last)
