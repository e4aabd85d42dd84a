"""`pyattr demo`: honest scores and lies before three verifiers, on real data."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any, Final

import click

from pyattr.commands.failure import Command
from pyattr.commands.options import CommandError, json_option
from pyattr.commands.output import answer, stages
from pyattr.optional import install_line

__all__ = ["demo_command"]

_EXTRAS: Final = {
    "torch": "torch", "sklearn": "scikit-learn", "jinja2": "jinja2", "PIL": "pillow",
}  # fmt: skip
_MIN_WIDTH: Final = 80  # columns that the table needs


@click.command("demo", cls=Command, interrupted="Interrupted; no file was left half-written.")
@click.option(
    "--dataset",
    type=click.Choice(["digits", "fashion-mnist", "cifar10"]),
    metavar="NAME",
    default="digits",
    show_default=True,
    help="Images: digits, fashion-mnist or cifar10.",
)
@click.option(
    "--model",
    type=click.Choice(["softmax", "mlp"]),
    default="softmax",
    show_default=True,
    help="What is trained; mlp is a small network.",
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
@json_option
def demo_command(out: Path, **options: Any) -> None:
    """Verify honest scores, and catch lies, on real data.

    Trains the models of a prover (20 for each training image), publishes scores, and lets three
    verifiers judge them and nine changed versions. By default about a minute on 2 cores; the
    other datasets take many times longer.

    \b
    Example:
      pyattr demo --model mlp --n-train 500 --out my-demo
    """
    missing = [name for module, name in _EXTRAS.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise CommandError(f"The demo needs {', '.join(missing)}: {install_line('demo')}.")
    from pyattr import demo  # loads torch, which few commands need

    config = demo.DemoConfig(**options)  # everything that can be checked is checked first
    demo.check_out(out)
    dataset = demo.dataset_of(config)
    with stages() as progress:
        results = demo.run(config, progress, dataset)
    written, page = demo.save(results, out)
    _tell(results, written, page)


def _tell(results: dict[str, Any], written: Path, page: Path) -> None:
    from rich.console import Group

    from pyattr import demo

    seconds = results["seconds"]["total"]
    record = {
        "results": written,
        "report": page,
        "headline": results["findings"]["headline"],
        "as_expected": results["findings"]["as_expected"],
        "cases": [
            {"key": case["key"], "truth": case["truth"], "prover_trainings": case["n_prover"]}
            | {method: case[method]["outcome"] for method in ("naive", "paper", "gap")}
            for case in results["cases"]
        ],
        "seconds": seconds,
    }
    width = max(shutil.get_terminal_size().columns, _MIN_WIDTH)
    last = f"\nTook {seconds:.0f} s. Open {page}; data in {written}."
    answer("pyattr-demo-summary/1", record, Group(demo.table(results, width), last))
