"""Writing the demo's two files, each whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pyattr.errors import bad_value
from pyattr.reports.demo import render

__all__ = ["check_out", "save"]

_RESULTS: Final = "results.json"
_REPORT: Final = "report.html"


def check_out(out: Path) -> None:
    """Refuse a folder that results could not be written to.

    Parameters
    ----------
    out : Path
        Need not exist; it is made by `save`.

    Raises
    ------
    ValueError
        If it is a file, or cannot be written or made.
    """
    if out.exists() and not out.is_dir():
        raise bad_value("out", "a folder", f"the file {out}")
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise bad_value("out", "a folder that can be written", out)


def save(results: Mapping[str, Any], out: Path) -> tuple[Path, Path]:
    """Write ``results.json`` and ``report.html``, each whole or not at all.

    Parameters
    ----------
    results : mapping
        From `run`.
    out : Path
        Folder; made if there is none.

    Returns
    -------
    tuple of Path
        The two files.
    """
    check_out(out)
    contents = {
        out / _RESULTS: json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        out / _REPORT: render(results),
    }
    made = not out.exists()
    temporary = {
        path: path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp") for path in contents
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text in contents.items():
            with temporary[path].open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        for path, file_written in temporary.items():
            file_written.replace(path)
        made = False
    finally:
        for file_left in temporary.values():
            file_left.unlink(missing_ok=True)
        if made and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
    return out / _RESULTS, out / _REPORT
