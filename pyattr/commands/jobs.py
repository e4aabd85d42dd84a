"""Commands that run a job file: `pyattr attribute`, `pyattr worker`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pyattr.commands.failure import Command
from pyattr.commands.options import FILE, json_option
from pyattr.commands.output import answer, bars, say
from pyattr.errors import bad_value

if TYPE_CHECKING:
    from pyattr.jobs import Job
    from pyattr.retraining.executors import Executor
    from pyattr.retraining.scheduling import Progress

__all__ = ["attribute_command", "worker_command"]

_LOG: Final = logging.getLogger("pyattr.jobs")
_SECONDS_BETWEEN_LINES: Final = 30.0  # in a log
_INTERRUPTED: Final = "Interrupted; what was stored stays, and the same command goes on."

_job_argument = click.argument("job_file", metavar="JOB.toml", type=FILE)
_workers_option = click.option(
    "--workers", "n_workers", type=int, help="Trainings at a time; else one a core or GPU."
)


@click.command("attribute", cls=Command, interrupted=_INTERRUPTED)
@_job_argument
@click.option(
    "--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True,
    help="Processes here, or Ray.",
)  # fmt: skip
@click.option("--address", help="Ray cluster, or 'auto'; else one is started here.")
@_workers_option
@click.option("--retry-failed", is_flag=True, help="Train again what raised errors or died.")
@json_option
def attribute_command(job_file: Path, retry_failed: bool, **options: Any) -> None:
    """Train models on subsets, fit scores, and say how good they are.

    Whatever is trained lies in a bank: run the command again and it goes on where it ended.

    \b
    Example:
      pyattr attribute job.toml --executor ray --address auto
    """
    from pyattr import jobs
    from pyattr.jobs.training import retry

    job = jobs.load_job(job_file)
    executor = _executor(job, **options)
    if retry_failed:
        say(f"Chunks to train again: {retry(job)}.")
    with _telling() as tell:
        record = jobs.attribute(job, executor, tell)
    answer(
        "pyattr-attribute/1", {"folder": job.out_folder, **record}, _quality(record, job.out_folder)
    )


@click.command("worker", cls=Command, interrupted=_INTERRUPTED)
@_job_argument
@click.option("--shard", required=True, metavar="I/K", help="Part I of K, from 0/K on.")
@_workers_option
@json_option
def worker_command(job_file: Path, shard: str, n_workers: int | None) -> None:
    """Train a part of a job's models into its bank, and fit nothing.

    For clusters with a scheduler of their own; the bank lies where all machines reach it. When all
    parts are done, `pyattr attribute` finds nothing left to train and fits.

    \b
    Example:
      sbatch --array=0-63 --wrap \\
        'pyattr worker -v job.toml --shard $SLURM_ARRAY_TASK_ID/64'
    """
    from pyattr import jobs

    part = _shard(shard)
    job = jobs.load_job(job_file)
    with _telling() as tell:
        bank = jobs.train(job, _executor(job, "local", None, n_workers), tell, part)
    answer("pyattr-worker/1", {"bank": bank.url, "shard": shard}, f"Part {shard} is in {bank.url}.")


def _shard(text: str) -> tuple[int, int]:
    """Read ``i/k``: the part of the chunks with ``chunk % k == i``."""
    part, _, parts = text.partition("/")
    if part.isdecimal() and parts.isdecimal() and int(part) < int(parts):
        return int(part), int(parts)
    raise bad_value("--shard", "I/K with 0 <= I < K, as 0/8 to 7/8", repr(text))


def _executor(job: Job, executor: str, address: str | None, n_workers: int | None) -> Executor:
    from pyattr.retraining.executors import Executor

    on_gpu = str(job.recipe.get("device", "cpu")).startswith("cuda")
    gpus = _gpus() if on_gpu and executor == "local" else ()
    return Executor(executor, n_workers, address, gpus, 1.0 if on_gpu else 0.0)


def _gpus() -> tuple[str, ...]:
    """Names of the GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name for name in visible.split(",") if name)
    import torch

    return tuple(map(str, range(torch.cuda.device_count())))


@contextmanager
def _telling() -> Iterator[Callable[[Progress], None]]:
    """Show progress: a bar where there is a terminal, and in the log a line now and then."""
    from rich.progress import TextColumn

    log = _logging()
    with bars(TextColumn("{task.fields[said]}")) as shown:
        bar = shown.add_task("train", total=None, said="", visible=False)

        def tell(progress: Progress) -> None:
            log(progress)
            done, said = progress.n_done, _rate(progress)
            shown.update(bar, total=progress.n_models, completed=done, said=said, visible=True)

        yield tell


def _logging() -> Callable[[Progress], None]:
    """Log a line now and then, and at once, as a warning, the first failure of each kind."""
    last, warned = -_SECONDS_BETWEEN_LINES, set[str]()

    def log(progress: Progress) -> None:
        nonlocal last
        for status in sorted(progress.n_failed.keys() - warned):
            _LOG.warning("a model %s, and the others go on (%s)", status, progress.said)
        warned.update(progress.n_failed)
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES or progress.n_done == progress.n_models:
            last = now
            said = f" ({progress.said})" if progress.said else ""
            done, n_models = progress.n_done, progress.n_models
            _LOG.info("%s of %s models, %s%s", f"{done:,}", f"{n_models:,}", _rate(progress), said)

    return log


def _rate(progress: Progress) -> str:
    """Rate, time left, failures and lost workers."""
    left = progress.seconds_left
    if not progress.n_done:
        words = ["starting"]
    elif left is None:
        words = [f"the first after {progress.seconds_to_first:.0f} s"]
    else:
        words = [f"{progress.models_per_second:.3g}/s"]
    if left:
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        words.append(f"{hours}:{minutes:02}:{seconds:02} left")
    words += [f"{n} {status}" for status, n in progress.n_failed.items()]
    if progress.n_lost:
        words.append(f"{progress.n_lost} workers lost")
    return ", ".join(words)


def _quality(record: dict[str, Any], folder: Path) -> str:
    """How good the scores are, for people."""
    fitted = record["fit"]
    failed = ", ".join(f"{n} {status}" for status, n in fitted["n_failed"].items())
    lines = [
        f"Fitted {fitted['method']} to {fitted['n_used']:,} of {fitted['n_models']:,} models"
        + (f" ({failed})." if failed else ".")
    ]
    held_out = record.get("held_out")
    if held_out is not None and held_out["lds"]["mean"] is not None:
        means = f"rank correlation {held_out['lds']['mean']:.3f}, R² {held_out['r2']['mean']:.3f}"
        lines.append(f"On {held_out['n_used']:,} fresh models: {means} (means over targets).")
    if "mislabel_auc" in record:
        lines.append(f"Wrong labels found with AUC {record['mislabel_auc']:.3f}.")
    return "\n".join([*lines, f"Results are in {folder}."])
