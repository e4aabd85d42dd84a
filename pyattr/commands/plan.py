"""`pyattr plan`: what verifying will cost."""

from __future__ import annotations

from typing import Any

import click

from pyattr.commands.failure import Command
from pyattr.commands.options import json_option
from pyattr.commands.output import answer

__all__ = ["plan_command"]


@click.command("plan", cls=Command)
@click.option("--n-train", type=int, required=True, help="Training examples, or sellers.")
@click.option("--n-targets", type=int, default=1, show_default=True, help="Outputs of a model.")
@click.option(
    "--p",
    type=float,
    default=0.5,
    show_default=True,
    help="Probability that a subset holds an example.",
)
@click.option(
    "--epsilon",
    type=float,
    default=0.05,
    show_default=True,
    help="Largest gap accepted, as a share of Var f.",
)
@click.option(
    "--delta",
    type=float,
    default=0.05,
    show_default=True,
    help="Probability of a false ACCEPT, at most.",
)
@click.option(
    "--r2", type=float, default=0.9, show_default=True, help="Share of Var f that is linear."
)
@click.option(
    "--seed-share",
    type=float,
    default=0.0,
    show_default=True,
    help="Share of Var f that comes from seeds.",
)
@click.option(
    "--odd-weight",
    type=float,
    default=0.005,
    show_default=True,
    help="Share of Var f that is odd and not linear.",
)
@click.option(
    "--mean",
    type=float,
    default=0.0,
    show_default=True,
    help="|mean| of an output, over its standard deviation.",
)
@click.option(
    "--pilot", metavar="NPZ", help="Recorded masks and outputs, to measure R² and mean from."
)
@click.option(
    "--verifier-seconds",
    type=float,
    default=1.0,
    show_default=True,
    help="Seconds that a training takes the verifier.",
)
@click.option(
    "--prover-seconds", type=float, help="Seconds that one takes the prover; else as many."
)
@click.option(
    "--verifier-price",
    type=float,
    default=1.0,
    show_default=True,
    help="Money that an hour costs the verifier.",
)
@click.option("--prover-price", type=float, help="Money that one costs the prover; else as much.")
@click.option("--prize", type=float, help="Money that depends on the scores.")
@json_option
def plan_command(pilot: str | None, **options: Any) -> None:
    """Say what verifying scores will cost, by every method.

    Recommends the cheapest, or none where verifying is not worth it. Trains nothing. Var f is the variance
    of an output over random subsets and seeds.

    \b
    Example:
      pyattr plan --n-train 50000 --n-targets 100 --prover-price 0.2
    """
    from pyattr.planning import plan
    from pyattr.planning.recorded import read_recorded
    from pyattr.planning.table import table

    recorded = None if pilot is None else read_recorded(pilot)
    made = plan(**options, pilot=recorded)
    answer("pyattr-plan/1", made.to_dict(), table(made))
