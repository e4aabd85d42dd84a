"""Options that several commands have in common, and what they stand for."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, Final

import click

from pyattr.errors import bad_value
from pyattr.protocol.manifest import Subject
from pyattr.transport.job import Job, image_job, imported_job

__all__ = ["JOB_WORDS", "job_of_options", "job_options", "read_token", "subject_of", "taken"]

_Function = Callable[..., Any]

JOB_WORDS: Final = (
    "job",
    "dataset",
    "model",
    "n_train",
    "n_test",
    "dataset_seed",
    "flip_fraction",
    "path",
    "device",
)
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]{16,256}=*", re.ASCII)
_TOKEN_CAP: Final = 1024

_JOB_OPTIONS: Final = (
    click.option("--job", metavar="MODULE:NAME", help="Your own job, in place of a dataset."),
    click.option("--dataset", type=click.Choice(["digits", "fashion-mnist", "cifar10"])),
    click.option("--model", type=click.Choice(["softmax", "mlp"]), default="softmax"),
    click.option("--n-train", type=int, default=1000, show_default=True, help="Training images."),
    click.option("--n-test", type=int, default=32, show_default=True, help="Targets."),
    click.option("--dataset-seed", type=int, default=0, show_default=True, help="Which images."),
    click.option("--flip-fraction", type=float, default=0.0, help="Share of wrong labels."),
    click.option("--path", metavar="PATH", help="Folder or archive of the dataset."),
    click.option("--device", default="cpu", show_default=True, help="What to train on."),
)


def job_options(function: _Function) -> _Function:
    """Add the options that say what is trained."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_JOB_OPTIONS), function)


def taken(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Remove some options from a command's, and return them."""
    return {name: options.pop(name) for name in names}


def job_of_options(options: dict[str, Any]) -> Job:
    """The job that the options ask for; they are removed.

    Raises
    ------
    ValueError
        If it is neither ``--job`` nor ``--dataset``, or both; and as `image_job` and `imported_job`.
    """
    words = taken(options, *JOB_WORDS)
    source = words.pop("job")
    if (source is None) == (words["dataset"] is None):
        raise bad_value("dataset", "either --dataset or --job", "both" if source else "neither")
    return image_job(**words) if source is None else imported_job(source)


def subject_of(job: Job) -> Subject:
    """What a manifest says of a job."""
    return Subject(
        train=job.train,
        targets=job.targets,
        recipe=dict(job.recipe),
        output=job.output,
        platform=job.platform,
        versions=dict(job.versions),
    )


def read_token(path: Path | None) -> str | None:
    """Read a bearer token.

    Raises
    ------
    ValueError
        If it is shorter than 16 characters or others than its owner may read it.
    OSError
        If there is no such file.
    """
    if path is None:
        return None
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        content = file.read(_TOKEN_CAP).strip()
    if mode & 0o077:
        expected = "a file that its owner alone may read (chmod 600)"
        raise bad_value("token_file", expected, f"{path} with mode {mode:04o}")
    if not _TOKEN.fullmatch(content):
        raise bad_value("token_file", "a token of 16 to 256 letters, digits and -._~+/", path)
    return content.decode("ascii")
