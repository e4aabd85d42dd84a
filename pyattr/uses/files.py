"""The files of prices and selections: CSV of sellers, weights and results, JSON of everything."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from pyattr.attribution.file_format import whole_file
from pyattr.errors import bad_value
from pyattr.uses.lies import LieCosts
from pyattr.uses.pricing import Payments
from pyattr.uses.retrained import Measured
from pyattr.uses.selection import Selection
from pyattr.uses.values import Array

__all__ = [
    "PRICE_SCHEMA",
    "SELECT_SCHEMA",
    "examples_csv",
    "payments_csv",
    "payments_record",
    "read_owners",
    "read_weights",
    "selection_csv",
    "selection_record",
    "without_formula",
    "write_json",
    "write_text",
]

PRICE_SCHEMA: Final = "pyattr-price/1"
SELECT_SCHEMA: Final = "pyattr-select/1"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets run


def read_owners(path: Path, n_train: int) -> list[str]:
    """Read the seller of each example.

    Parameters
    ----------
    path : Path
        CSV with a column ``seller``, and ``example`` (from 0 on) unless rows are in the order of the
        examples.
    n_train : int

    Raises
    ------
    ValueError
        If an example has no seller or two, or the file is something else.
    """
    return _column("sellers", path, "seller", "example", n_train)


def read_weights(path: Path, n_targets: int) -> Array:
    """Read the weight of each target.

    Parameters
    ----------
    path : Path
        CSV with a column ``weight``, and ``target`` (from 0 on) unless rows are in the order of the targets.
    n_targets : int

    Raises
    ------
    ValueError
        As `read_owners`, or if one is no finite number.
    """
    words = _column("weights", path, "weight", "target", n_targets)
    weights = np.empty(n_targets)
    for target, word in enumerate(words):
        try:
            weights[target] = float(word)
        except ValueError:
            weights[target] = math.nan
        if not math.isfinite(weights[target]):
            got = f"{word!r} for target {target} in {path}"
            raise bad_value("weights", "finite numbers", got)
    return weights


def _column(name: str, path: Path, column: str, index: str, n: int) -> list[str]:
    """Values of a column, in the order of the index."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        raise bad_value(name, "a CSV file", f"{path}, which is no text in UTF-8") from error
    except csv.Error as error:
        raise bad_value(name, "a CSV file", f"{path}: {error}") from error
    if len(lines) != n + 1:
        expected = f"{n} rows under a header, one for each {index}"
        raise bad_value(name, expected, f"{max(0, len(lines) - 1)} in {path}")
    header = lines[0][1]
    if header.count(column) != 1 or header.count(index) > 1:
        which = index if header.count(index) > 1 else column
        raise bad_value(name, f"one column {which!r}", f"{header.count(which)} in {path}")
    for number, row in lines:
        if len(row) != len(header):  # such as a name with a comma and without quotation marks
            expected = (
                f"rows of {len(header)} cells as the header, commas within one in quotation marks"
            )
            raise bad_value(name, expected, f"{len(row)} in {path}, line {number}")
    rows = [dict(zip(header, row, strict=True)) for _, row in lines[1:]]
    if not all(row[column] for row in rows):
        raise bad_value(name, f"a {column!r} in each row", f"{path}")
    if index not in header:
        return [row[column] for row in rows]
    places = [row[index] for row in rows]
    if sorted(places) != sorted(map(str, range(n))):
        raise bad_value(name, f"each {index} from 0 to {n - 1} once in column {index!r}", f"{path}")
    ordered = dict(zip(places, (row[column] for row in rows), strict=True))
    return [ordered[str(place)] for place in range(n)]


def payments_record(payments: Payments, lies: LieCosts | None = None) -> dict[str, Any]:
    """All of a pricing as JSON values; null for limits that do not exist."""
    sellers = payments.sellers
    values = sellers.total(payments.basis.values)
    columns = zip(
        sellers.names,
        sellers.sizes.tolist(),
        *map(_plain, (values, payments.value_error, payments.paid, payments.lower, payments.upper)),
        strict=True,
    )
    names = ("seller", "n_examples", "value", "value_error", "payment", "lower", "upper")
    record: dict[str, Any] = {
        "schema": PRICE_SCHEMA,
        "rule": payments.rule,
        "budget": payments.budget,
        "unit_price": payments.unit_price,
        "spent": payments.spent,
        **_ground(payments),
        "vacuous": payments.vacuous,
        "sellers": [dict(zip(names, row, strict=True)) for row in columns],
        "examples": {
            "value": _plain(payments.basis.values),
            "payment": _plain(payments.examples),
        },
    }
    if lies is not None:
        record["lies"] = [
            dict(
                zip(("lie", "added_gap", "added_gap_of_sum", "payments", "costs"), row, strict=True)
            )
            for row in zip(
                lies.titles,
                *map(_plain, (lies.added_gap, lies.added_gap_of_sum, lies.paid, lies.cost)),
                strict=True,
            )
        ]
    return record


def selection_record(selection: Selection, measured: Measured | None = None) -> dict[str, Any]:
    """All of a selection as JSON values."""
    record: dict[str, Any] = {
        "schema": SELECT_SCHEMA,
        **_ground(selection),
        "n_selected": len(selection.chosen),
        "n_total": len(selection.sellers),
        "selected": list(selection.names),
        "examples": selection.examples.tolist(),
        "predicted_gain": selection.predicted_gain,
        "gain_error": _number(selection.gain_error),
        "regret": _number(selection.regret),
    }
    if measured is not None:
        record["measured"] = {
            "gain": measured.gain,
            "lower": measured.lower,
            "upper": measured.upper,
            "confidence": measured.confidence,
            "share_beaten": measured.share_beaten,
            "gain_of_targets": _plain(measured.gain_of_targets),
            "selected": _plain(measured.selected),
            "random": _plain(measured.random),
        }
    return record


def payments_csv(payments: Payments) -> str:
    """A row for each seller."""
    record = payments_record(payments)
    return _csv(record["sellers"][0].keys(), (row.values() for row in record["sellers"]))


def examples_csv(payments: Payments) -> str:
    """A row for each example."""
    names = [payments.sellers.names[seller] for seller in payments.sellers.of]
    columns = (_plain(payments.basis.values), _plain(payments.examples))
    rows = zip(range(len(names)), names, *columns, strict=True)
    return _csv(("example", "seller", "value", "payment"), rows)


def selection_csv(selection: Selection) -> str:
    """A row for each example that was chosen."""
    names = [selection.sellers.names[seller] for seller in selection.sellers.of]
    values = _plain(selection.basis.values)
    rows = ((example, names[example], values[example]) for example in selection.examples.tolist())
    return _csv(("example", "seller", "value"), rows)


def without_formula(words: str) -> str:
    """Text for a cell of a CSV: an apostrophe in front of what a spreadsheet would take for a formula.

    Sellers choose their names, and whoever pays them opens the file.
    """
    return f"'{words}" if words.startswith(_FORMULA) else words


def write_text(path: Path, text: str) -> None:
    """Write a file whole: a reader sees the old content or the new."""
    with whole_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write JSON whole."""
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _ground(made: Payments | Selection) -> dict[str, Any]:
    """What payments or a selection rest on."""
    basis = made.basis
    return {
        "verified": basis.verified,
        "confidence": basis.confidence,
        "assumption": basis.assumption,
        "radius": _number(basis.radius),
        "weights": _plain(basis.weights),
    }


def _csv(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(
        [without_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    return text.getvalue()


def _plain(values: Array | Sequence[float]) -> list[Any]:
    return [
        _plain(value) if isinstance(value, list) else _number(value)
        for value in np.asarray(values, dtype=np.float64).tolist()
    ]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
