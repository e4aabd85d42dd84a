"""What objects look like in a notebook: a small table that is as readable in dark ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

__all__ = ["BADGES", "card", "grid"]

BADGES: Final = {"ACCEPT": "#0b5fa5", "ABORT": "#a14a00", "INCONCLUSIVE": "#5f5f5f"}
"""Background of each outcome's name in white: 6 to 1 and more in contrast, told apart by the colour-blind."""

# Text and lines take the notebook's own colour, whatever that is.
_CELL: Final = "text-align:left;vertical-align:top;padding:1px 12px 1px 0;background:transparent"
_NAME: Final = f"{_CELL};font-weight:normal;white-space:nowrap;opacity:.75"
_TABLE: Final = "border-collapse:collapse;margin:4px 0 0 0;color:inherit;font-size:inherit"
_RULE: Final = "border-bottom:1px solid currentColor;opacity:.75"


def card(title: str, facts: Mapping[str, object], note: str = "", badge: str = "") -> str:
    """Facts by name under a title; all text is escaped.

    Parameters
    ----------
    title : str
    facts : mapping of str to object
        A row each.
    note : str
        A sentence below the title.
    badge : str
        A key of `BADGES`, beside the title.
    """
    rows = "".join(
        f'<tr style="background:transparent"><th scope="row" style="{_NAME}">{escape(name)}</th>'
        f'<td style="{_CELL}">{escape(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    return _framed(title, note, badge, rows)


def grid(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]], note: str = "") -> str:
    """A table under a title; all text is escaped.

    Parameters
    ----------
    title : str
    heads : sequence of str
    rows : sequence of sequences
        As long as `heads`.
    note : str
        A sentence below the title.
    """
    head = "".join(
        f'<th scope="col" style="{_CELL};{_RULE};font-weight:normal">{escape(h)}</th>'
        for h in heads
    )
    body = "".join(
        '<tr style="background:transparent">'
        + "".join(f'<td style="{_CELL}">{escape(str(cell))}</td>' for cell in row)
        + "</tr>"
        for row in rows
    )
    return _framed(title, note, "", f'<tr style="background:transparent">{head}</tr>{body}')


def _framed(title: str, note: str, badge: str, rows: str) -> str:
    label = ""
    if badge:
        look = f"background:{BADGES[badge]};color:#fff;padding:1px 7px;border-radius:3px"
        label = f' <span style="{look}">{escape(badge)}</span>'
    said = f'<div style="max-width:46em">{escape(note)}</div>' if note else ""
    return (
        f'<div style="font-size:90%"><div><strong>{escape(title)}</strong>{label}</div>{said}'
        f'<table style="{_TABLE}">{rows}</table></div>'
    )
