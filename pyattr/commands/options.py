"""Options that several commands share, and the way they fail."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from pyattr.optional import install_line

if TYPE_CHECKING:
    from pyattr.transport.job import Job

__all__ = [
    "ERROR",
    "EXIT_CODES",
    "FILE",
    "FOLDER",
    "VERDICT",
    "CommandError",
    "asked_for",
    "everywhere_options",
    "fail",
    "job_of",
    "job_options",
    "json_option",
    "one_line",
    "place_options",
    "placed_job",
]

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_CODES = {"ACCEPT": 0, "ABORT": 1, "INCONCLUSIVE": 2}
ERROR = 3
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
VERDICT = "verdict.json"  # of `pyattr check`, beside the scores
FOLDER = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


class CommandError(click.ClickException):
    """One sentence on standard error, and the exit code of an error."""

    exit_code = ERROR


def one_line(error: BaseException) -> str:
    """An error's message without line breaks."""
    words = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        words = f"{error.filename}: {error.strerror.lower()}"
    elif isinstance(error, OSError) and error.strerror:
        words = error.strerror
    return " ".join(words.split()) or type(error).__name__


def fail(error: BaseException) -> NoReturn:
    """End a command with an error's message."""
    raise CommandError(one_line(error)) from error


def json_option(command: Command) -> Command:
    """Add ``--json``; what a command finds goes through `pyattr.commands.output.answer`."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_remember("json"),
        help="Print JSON; text for people goes to standard error.",
    )(command)


def everywhere_options(*, hidden: bool) -> list[click.Parameter]:
    """Options that stand before a command or after it; see `pyattr.commands.output`."""
    words: dict[str, Any] = {"expose_value": False, "is_eager": True, "hidden": hidden}
    return [
        click.Option(
            ["-v", "--verbose"], count=True, callback=_remember("verbosity"), **words,
            help="Say on standard error what is being done; -vv says more.",
        ),
        click.Option(
            ["--no-color"], is_flag=True, callback=_remember("no_color"), **words,
            help="Print no colours; nor with NO_COLOR in the environment.",
        ),
        click.Option(
            ["--debug"], is_flag=True, callback=_remember("debug"), envvar="PYATTR_DEBUG", **words,
            help="Print a traceback with an error; or PYATTR_DEBUG=1.",
        ),
    ]  # fmt: skip


def _remember(name: str) -> Callable[[click.Context, click.Parameter, int], None]:
    """Let a flag hold for the whole command line, wherever in it the flag stands."""

    def remember(ctx: click.Context, parameter: click.Parameter, value: int) -> None:
        key = f"pyattr.{name}"
        ctx.meta[key] = ctx.meta.get(key, 0) + int(value)

    return remember


def asked_for(name: str, ctx: click.Context | None = None) -> int:
    """How often a flag of `everywhere_options`, or ``json``, stands on the command line."""
    ctx = ctx or click.get_current_context(silent=True)
    return 0 if ctx is None else int(ctx.meta.get(f"pyattr.{name}", 0))


_SOURCE = click.option(
    "--source",
    metavar="MODULE:NAME|JOB.toml",
    help="Own training code: a Job, an ensemble, or what makes one.",
)
_PATH = click.option("--path", metavar="PATH", help="Folder or archive of the dataset.")
_DEVICE = click.option(
    "--device", default="cpu", show_default=True, help="Where to train: cpu, cuda or cuda:<number>."
)
_JOB = (
    _SOURCE,
    click.option(
        "--dataset",
        type=click.Choice(["digits", "fashion-mnist", "cifar10"]),
        metavar="NAME",
        default="digits",
        show_default=True,
        help="Images: digits, fashion-mnist or cifar10.",
    ),
    click.option(
        "--model",
        type=click.Choice(["softmax", "mlp"]),
        default="softmax",
        show_default=True,
        help="What is trained; mlp is a small network.",
    ),
    click.option("--n-train", type=int, default=1000, show_default=True, help="Examples."),
    click.option("--n-test", type=int, default=32, show_default=True, help="Targets."),
    click.option("--dataset-seed", type=int, default=0, show_default=True, help="Which examples."),
    _PATH,
    _DEVICE,
)


def job_options(command: Command) -> Command:
    """Add options that say what is trained."""
    for option in reversed(_JOB):
        command = option(command)
    return command


def place_options(command: Command) -> Command:
    """Add options that say where on this machine the session's own recipe finds code and data."""
    for option in (_DEVICE, _PATH, _SOURCE):
        command = option(command)
    return command


def job_of(
    source: str | None,
    dataset: str,
    model: str,
    n_train: int,
    n_test: int,
    dataset_seed: int,
    path: str | None,
    device: str,
) -> Job:
    """What `job_options` ask for.

    Raises
    ------
    CommandError
        If there is no such job.
    """
    from pyattr.transport.job import image_job

    try:
        if source is not None:
            return _named_job(source)
        return image_job(
            dataset, model, n_train, n_test, dataset_seed=dataset_seed, path=path, device=device
        )
    except ImportError as error:
        raise CommandError(f"{one_line(error)}: {install_line('demo')}") from error
    except (ValueError, OSError, RuntimeError) as error:
        fail(error)


def _named_job(source: str) -> Job:
    if source.endswith(".toml"):
        from pyattr.jobs import load_job, training_of

        job = load_job(source)
        with job.placed():
            return training_of(job).described()
    from pyattr.transport.job import imported_job

    _look_here()
    return imported_job(source)


def _look_here() -> None:
    """Let own code be found in the current directory, as `python -m` does."""
    if "" not in sys.path:
        sys.path.insert(0, "")


def placed_job(recipe: dict[str, Any], source: str | None, path: str | None, device: str) -> Job:
    """The job of a manifest, with `place_options`.

    Raises
    ------
    CommandError
        If it cannot be made here.
    """
    from pyattr.transport.job import job_of_recipe

    try:
        named = None if source is None else _named_job(source)
        return job_of_recipe(recipe, source=named, path=path, device=device)
    except ImportError as error:
        raise CommandError(f"{one_line(error)}: {install_line('demo')}") from error
    except (ValueError, OSError, RuntimeError) as error:
        fail(error)
