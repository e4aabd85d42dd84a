"""Payments, lies and selections as tables for the terminal."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pyattr.uses.basis import Basis, percent
from pyattr.uses.lies import LieCosts
from pyattr.uses.pricing import Payments
from pyattr.uses.retrained import Measured
from pyattr.uses.selection import Selection

__all__ = ["lies_table", "payments_table", "selection_table"]

_MOST_ROWS: Final = 20
_FAR: Final = 0.1  # from the verdict's p: a choice of another size than it is about
_MOST_COLUMNS: Final = 5
_WHOLE: Final = 10_000.0  # money from which on pence are left out


def payments_table(payments: Payments) -> Group:
    """Sellers, best paid first; the first 20 of them."""
    grid = _grid("seller", "examples", "value", "±", "payment", "at least", "at most")
    sellers = payments.sellers
    values = sellers.total(payments.basis.values)
    order = sorted(range(len(sellers)), key=lambda s: -payments.paid[s])
    money = _money(payments)
    for s in order[:_MOST_ROWS]:
        grid.add_row(
            _cut(sellers.names[s]),
            f"{sellers.sizes[s]:,}",
            f"{values[s]:.4g}",
            _number(payments.value_error[s], ".2g"),
            *(_number(x[s], money) for x in (payments.paid, payments.lower, payments.upper)),
        )
    head = f"Rule {payments.rule!r}: {payments.spent:{money}} of {payments.budget:{money}} paid."
    notes = [*_left_out(len(order)), _said(payments.basis, "all limits")]
    if payments.basis.verified and payments.vacuous:
        notes.append(
            "The limits are vacuous: within the error of the scores the total may be 0. A verdict with a "
            "smaller upper limit of the gap narrows them, as does one about the weighted sum (--sum)."
        )
    return Group(Text(head, style="bold"), grid, *(Text(note, style="dim") for note in notes))


def lies_table(lies: LieCosts, payments: Payments) -> Group:
    """What each lie would have cost each seller; the five best paid of them."""
    order = sorted(range(len(payments.sellers)), key=lambda s: -payments.paid[s])[:_MOST_COLUMNS]
    names = payments.sellers.names
    grid = _grid("lie", "gap", "of sum", *(_cut(names[s]) for s in order))
    columns = (lies.titles, lies.added_gap, lies.added_gap_of_sum, lies.cost)
    for title, gap, of_sum, cost in zip(*columns, strict=True):
        changes = (0.0 - round(cost[s], 2) for s in order)  # no -0.00
        paid = (_number(change, f"+{_money(payments)}") for change in changes)
        grid.add_row(_printable(title), f"{gap:.2g}", f"{of_sum:.2g}", *paid)
    head = "What lies about the scores would have changed:"
    note = (
        "The gap that a lie adds, in Var g: at the target where it adds most, and at the weighted sum. A "
        "verdict accepts none above ε, in Var f."
    )
    if not np.isfinite(lies.paid).all():
        note += " -: by such values the rule pays nobody, as they sum to 0 or less."
    return Group(Text(head, style="bold"), grid, Text(note, style="dim"))


def selection_table(selection: Selection, measured: Measured | None) -> Group:
    """Predicted gain with its error, and the measured one."""
    what = "examples" if len(selection.sellers) == len(selection.sellers.of) else "sellers"
    head = (
        f"{len(selection.chosen):,} of {len(selection.sellers):,} {what} chosen, "
        f"{len(selection.examples):,} examples."
    )
    grid = _grid("gain over random choices", "", "at least", "at most")
    error = selection.gain_error
    gain = selection.predicted_gain
    known = selection.basis.verified
    grid.add_row(
        "predicted by the scores",
        f"{gain:.4g}",
        f"{gain - error:.4g}" if known else "-",
        f"{gain + error:.4g}" if known else "-",
    )
    notes = [_said(selection.basis, "the limits of the prediction by the best linear attribution")]
    if known:
        notes.append(f"It predicts at most {selection.regret:.3g} more for its own best choice.")
    share, p = len(selection.examples) / len(selection.sellers.of), selection.basis.p
    if p is not None and abs(share - p) > _FAR:
        notes.append(
            f"The verdict is about subsets of {p:.0%} of the examples, the choice has {share:.0%}: scores "
            "say less there."
        )
    if measured is not None:
        grid.add_row(
            f"measured ({len(measured.selected)} models, {len(measured.random)} random)",
            f"{measured.gain:.4g}",
            f"{measured.lower:.4g}",
            f"{measured.upper:.4g}",
        )
        notes.append(
            f"Measured limits at {percent(measured.confidence)}; the selection's models are above "
            f"{percent(measured.share_beaten)} of those on random choices."
        )
    else:
        notes.append("What a model makes of it is not known before it is trained: --job measures.")
    return Group(Text(head, style="bold"), grid, *(Text(note, style="dim") for note in notes))


def _money(payments: Payments) -> str:
    """Format of amounts."""
    return ",.2f" if payments.budget < _WHOLE else ",.0f"


def _grid(first: str, *others: str) -> Table:
    grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    grid.add_column(first)
    for name in others:
        grid.add_column(name, justify="right", no_wrap=True)
    return grid


def _said(basis: Basis, what: str) -> str:
    """What limits rest on."""
    if not basis.verified:
        return f"No limits: the scores are {basis.assumption}."
    return (
        f"With probability {percent(basis.confidence)} at least {what} hold, if {basis.assumption}."
    )


def _left_out(n_rows: int) -> list[str]:
    more = n_rows - _MOST_ROWS
    return [f"… and {more:,} more; --out or --json has all."] if more > 0 else []


def _cut(name: str, width: int = 16) -> str:
    return _printable(name if len(name) <= width else f"{name[: width - 1]}…")


def _printable(words: str) -> str:
    """Without what terminals obey: sellers choose their names."""
    return escape("".join(letter if letter.isprintable() else "�" for letter in words))


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "-"
