"""A plan as one table for the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pyattr.planning.plan import Plan
from pyattr.planning.quantities import duration, money, number, size

__all__ = ["table"]


def table(plan: Plan) -> Group:
    """Make the table, with the recommendation above and what it rests on below.

    Returns
    -------
    rich.console.Group
    """
    grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    grid.add_column("method")
    heads = (
        "verifier\ntrains",
        "prover\ntrains",
        "data",
        "verifier\ntime",
        "prover\ntime",
        "money",
    )
    for head in heads:
        grid.add_column(head, justify="right", no_wrap=True)
    for method in plan.methods:
        style = "bold blue" if method.name == plan.recommended else ""
        cells = (
            method.name,
            number(method.verifier_trainings),
            number(method.prover_trainings),
            size(method.n_bytes),
            duration(method.verifier_seconds),
            duration(method.prover_seconds),
            money(method.money),
        )
        grid.add_row(*(Text(cell, style=style) for cell in cells))
    headline = Text(plan.reason + ".", style="bold")
    below = Padding(Text("\n".join(_notes(plan)), style="dim"), (1, 0, 0, 0))
    return Group(headline, Text(), grid, below)


def _notes(plan: Plan) -> list[str]:
    situation = plan.situation
    criterion = situation.criterion
    prover = plan.prices.prover_money(plan.prover_models)
    return [
        *(f"Warning: {warning}." for warning in plan.warnings),
        "Gap local trains in rounds: this is the most it takes, and it stops as soon as it is sure.",
        f"The scores themselves take the prover {number(plan.prover_models)} models by least squares "
        f"(money {money(prover)}), for a gap of {plan.prover_share:g} ε; other estimators may need fewer.",
        f"ε = {criterion.epsilon:g} Var f, δ = {criterion.delta:g}, "
        f"{situation.n_train:,} examples, {situation.n_targets:,} targets. Shares of Var f: "
        f"linear {situation.r2:.3g}, seeds {situation.seed_share:.3g}, "
        f"odd non-linear {situation.odd_weight:.3g}.",
    ]
