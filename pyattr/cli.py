"""The command line: `pyattr demo` and `pyattr plan`; the others are in `pyattr.commands`."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pyattr import __version__
from pyattr.commands.calibrate import calibrate
from pyattr.commands.doctor import doctor
from pyattr.commands.jobs import attribute_command, worker_command
from pyattr.commands.record import audit_command, show
from pyattr.commands.report import report_command
from pyattr.commands.serve import serve_command, verify_command
from pyattr.commands.session import keygen, session

if TYPE_CHECKING:
    from pyattr import demo

__all__ = ["main"]

INTERRUPTED = 130  # as shells report a command ended by Ctrl-C
_MIN_WIDTH = 80  # columns that the table needs
_DEMO_OPTIONS = ("n_train", "n_test", "seed", "path", "out")
_EXTRAS = {"torch": "torch", "sklearn": "scikit-learn", "jinja2": "jinja2", "PIL": "pillow"}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96})
@click.version_option(__version__, prog_name="pyattr", message="%(prog)s %(version)s")
def main() -> None:
    """Data attribution that can be verified.

    Publish how far each training example moved a model, and let a laptop check it.

    \b
    Example:
      pyattr demo --n-train 500 --out my-demo
      open my-demo/report.html in a browser
      pyattr plan --n-train 50000 --n-targets 100
      pyattr attribute job.toml
    """


for command in (
    attribute_command, calibrate, doctor, keygen, report_command, serve_command, session, verify_command,
    worker_command,
):  # fmt: skip
    main.add_command(command)
for command in (audit_command, show):
    session.add_command(command)


@main.command("demo")
@click.option(
    "--dataset",
    type=click.Choice(["digits", "fashion-mnist", "cifar10"]),
    default="digits",
    show_default=True,
    help="Images to train on.",
)
@click.option(
    "--model",
    type=click.Choice(["softmax", "mlp"]),
    default="softmax",
    show_default=True,
    help="Softmax regression, or a network with one hidden layer.",
)
@click.option("--n-train", type=int, default=1000, show_default=True, help="Training images.")
@click.option("--n-test", type=int, default=32, show_default=True, help="Test images: the targets.")
@click.option("--seed", type=int, default=0, show_default=True, help="Everything random.")
@click.option("--path", metavar="PATH", help="Folder or archive of the dataset; else downloaded.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("pyattr-demo"),
    show_default=True,
    metavar="DIR",
    help="Folder for results.json and report.html.",
)
def demo_command(out: Path, **options: Any) -> None:
    """Verify honest scores, and catch lies, on real data.

    Trains the models of a prover (20 for each training image), publishes scores, and lets three
    verifiers judge them and nine changed versions. By default about a minute on 2 cores; the
    other datasets take many times longer.

    \b
    Example:
      pyattr demo --model mlp --n-train 500 --out my-demo
    """
    try:
        _run_demo(out, options)
    except KeyboardInterrupt:
        click.echo("Interrupted; no file was left half-written.", err=True)
        sys.exit(INTERRUPTED)


def _run_demo(out: Path, options: dict[str, Any]) -> None:
    """Check everything that can be checked first, then run and write."""
    missing = [name for module, name in _EXTRAS.items() if importlib.util.find_spec(module) is None]
    if missing:
        needs = f"The demo needs {', '.join(missing)}"
        raise click.ClickException(f"{needs}: pip install 'pyattr[demo]'.")
    from pyattr import demo  # loads torch, which only this command needs

    try:
        config = demo.DemoConfig(**options)
        demo.check_out(out)
        dataset = demo.dataset_of(config)
    except (ValueError, OSError, RuntimeError) as error:
        raise click.ClickException(_sentence(error, _DEMO_OPTIONS)) from error
    with _bars() as progress:
        results = demo.run(config, progress, dataset)
    try:
        files = demo.save(results, out)
    except (ValueError, OSError) as error:
        raise click.ClickException(_sentence(error, _DEMO_OPTIONS)) from error
    _print(demo.table(results, max(Console().width, _MIN_WIDTH)))
    seconds = results["seconds"]["total"]
    Console(highlight=False).print(
        f"\nTook {seconds:.0f} s. Open {files[1]}; data in {files[0]}.", soft_wrap=True
    )


@main.command("plan")
@click.option("--n-train", type=int, required=True, help="Training examples, or sellers.")
@click.option("--n-targets", type=int, default=1, show_default=True, help="Outputs of a model.")
@click.option("--p", type=float, default=0.5, show_default=True, help="Share of a mask.")
@click.option("--epsilon", type=float, default=0.05, show_default=True, help="Gap, in Var f.")
@click.option("--delta", type=float, default=0.05, show_default=True, help="False acceptances.")
@click.option("--r2", type=float, default=0.9, show_default=True, help="Linear share of Var f.")
@click.option(
    "--seed-share", type=float, default=0.0, show_default=True, help="Of Var f, by seeds."
)
@click.option("--odd-weight", type=float, default=0.005, show_default=True, help="Odd, not linear.")
@click.option("--mean", type=float, default=0.0, show_default=True, help="|E f| / sd f.")
@click.option("--pilot", metavar="NPZ", help="Recorded masks and outputs: R² and mean.")
@click.option("--verifier-seconds", type=float, default=1.0, show_default=True, help="A training.")
@click.option("--prover-seconds", type=float, help="A training; else the verifier's.")
@click.option("--verifier-price", type=float, default=1.0, show_default=True, help="An hour.")
@click.option("--prover-price", type=float, help="An hour; else the verifier's.")
@click.option("--prize", type=float, help="Money that depends on the scores.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def plan_command(as_json: bool, pilot: str | None, **options: Any) -> None:
    """Say what verifying scores will cost, by every method.

    Recommends the cheapest, or none where verifying is not worth it. Trains nothing.

    \b
    Example:
      pyattr plan --n-train 50000 --n-targets 100 --prover-price 0.2
    """
    from pyattr.planning import plan
    from pyattr.planning.recorded import read_recorded
    from pyattr.planning.table import table

    try:
        recorded = None if pilot is None else read_recorded(pilot)
        made = plan(**options, pilot=recorded)
    except (ValueError, OSError) as error:
        raise click.ClickException(_sentence(error, (*options, "pilot"))) from error
    if as_json:
        click.echo(json.dumps(made.to_dict(), indent=2))
        return
    _print(table(made))


def _print(renderable: RenderableType) -> None:
    """Print to standard output at its width, which is taken to be 80 columns at least."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Greek letters
    console = Console(highlight=False)
    width = max(console.width, _MIN_WIDTH)
    console.print(renderable, width=width, soft_wrap=width > console.width)


def _sentence(error: Exception, names: Iterable[str]) -> str:
    """An error's message on one line, for the user; arguments by the names of their options."""
    words = " ".join(str(error).split())
    for name in names:
        if words.startswith(f"{name}: "):
            return f"--{name.replace('_', '-')}{words.removeprefix(name)}"
    return words


@contextmanager
def _bars() -> Iterator[demo.Progress]:
    """Progress bars on standard error, one a stage; nothing where that is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(None),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def progress(stage: str, done: int, planned: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=planned)
            bars.update(tasks[stage], completed=done, total=planned)

        yield progress


if __name__ == "__main__":
    main()
