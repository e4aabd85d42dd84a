"""Numbers that a page carries along, to be saved as files: CSV and JSON in data URLs."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyattr.uses.files import without_formula

__all__ = ["Download", "csv_file", "json_file"]


@dataclass(frozen=True)
class Download:
    """A file inside the page.

    Parameters
    ----------
    name : str
        Of the file.
    says : str
        What it holds.
    media : str
        Its media type.
    content : bytes
    """

    name: str
    says: str
    media: str
    content: bytes

    @property
    def url(self) -> str:
        """The file as a data URL."""
        return f"data:{self.media};base64,{base64.b64encode(self.content).decode('ascii')}"


def csv_file(
    name: str, says: str, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> Download:
    """Write a table as CSV (RFC 4180, UTF-8).

    Parameters
    ----------
    name, says : str
        As for `Download`.
    header : sequence of str
    rows : iterable of sequences
        Floats get 7 significant digits. Text that a spreadsheet would take for a formula gets an
        apostrophe in front.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return Download(name, says, "text/csv;charset=utf-8", buffer.getvalue().encode())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.7g}" if math.isfinite(value) else ""
    if isinstance(value, int):
        return str(value)
    return without_formula(str(value))


def json_file(name: str, says: str, value: Mapping[str, Any]) -> Download:
    """Write JSON, as compact as it gets; null for what is not finite."""
    words = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Download(name, says, "application/json", words.encode())
