"""Which kind of results a folder holds, and the file that its page goes to."""

from __future__ import annotations

import importlib
import json
import os
import secrets
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pyattr.errors import bad_value

__all__ = ["REPORT", "Kind", "kind_of", "render", "write"]

REPORT: Final = "report.html"
_INVITATION: Final = "0-invitation.dsse"
_ATTRIBUTION: Final = "attribution.safetensors"
_RESULTS: Final = "results.json"
_DEMO: Final = "pyattr-demo/"
_MOST_BYTES: Final = 1 << 28
_LOOKED_FOR: Final = (
    f"a session ({_INVITATION}), an attribution ({_ATTRIBUTION}), a demo ({_RESULTS}) or bench "
    "results (JSON files of bench/harness.py)"
)


class Kind(StrEnum):
    """What a folder holds."""

    SESSION = "session"
    ATTRIBUTION = "attribution"
    DEMO = "demo"
    BENCH = "bench"


def kind_of(folder: str | os.PathLike[str]) -> Kind:
    """Recognise a folder by its content.

    Parameters
    ----------
    folder : str or path

    Returns
    -------
    Kind
        Of several that fit, the first of `Kind`.

    Raises
    ------
    ValueError
        If it is no folder, or holds nothing that a report is made of; the message says what was
        looked for.
    """
    place = Path(folder)
    if not place.is_dir():
        got = "which is a file" if place.exists() else "which is not there"
        raise bad_value("folder", "a folder", f"{place}, {got}")
    if (place / _INVITATION).is_file():
        return Kind.SESSION
    if (place / _ATTRIBUTION).is_file():
        return Kind.ATTRIBUTION
    if _demo_results(place) is not None:
        return Kind.DEMO
    from pyattr.reports.bench_results import recorded_files

    if recorded_files(place):
        return Kind.BENCH
    raise bad_value("folder", _LOOKED_FOR, f"none of them in {place}")


def _demo_results(folder: Path) -> dict[str, Any] | None:
    """The results of a demo, if they are there."""
    file = folder / _RESULTS
    if not file.is_file() or file.stat().st_size > _MOST_BYTES:
        return None
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and str(found.get("schema", "")).startswith(_DEMO):
        return found
    return None


def render(folder: str | os.PathLike[str]) -> str:
    """Make the report of a folder.

    Parameters
    ----------
    folder : str or path
        One that `pyattr attribute`, `pyattr session`, `pyattr serve`, `pyattr demo` or a bench wrote. It is
        only read: nothing is trained, downloaded or changed.

    Returns
    -------
    str
        A whole HTML document that refers to nothing outside itself, of at most some megabytes
        whatever the numbers of examples and targets. Every word from the folder is escaped.

    Raises
    ------
    ValueError
        If the folder is of no known kind, or a file in it is damaged; the message names it.
    OSError
        If a file cannot be read.
    ModuleNotFoundError
        If a package of the extra ``report`` is missing; for sessions, of ``session``.

    Examples
    --------
    >>> import tempfile
    >>> from pyattr import Attribution
    >>> folder = tempfile.TemporaryDirectory()
    >>> Attribution(scores=[[0.5], [-0.25]]).save(f"{folder.name}/attribution.safetensors")
    >>> kind_of(folder.name)
    <Kind.ATTRIBUTION: 'attribution'>
    >>> render(folder.name).startswith("<!doctype html>")
    True
    >>> folder.cleanup()
    """
    kind, place = kind_of(folder), Path(folder)
    if kind is Kind.DEMO:
        from jinja2 import UndefinedError

        from pyattr.reports import demo

        try:
            return demo.render(_demo_results(place) or {})
        except (UndefinedError, KeyError, TypeError, IndexError) as error:
            file = place / _RESULTS
            raise bad_value(str(file), "what this version's demo writes", f"no {error}") from error
    page: str = importlib.import_module(f"pyattr.reports.{kind.value}").render(place)
    return page


def write(folder: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """Write the report of a folder, whole or not at all.

    Parameters
    ----------
    folder : str or path
        As for `render`.
    out : str or path, optional
        The file. By default ``report.html`` in the folder; of a session's folder, which is evidence and
        stays as it is, in the current directory.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ValueError, OSError, ModuleNotFoundError
        As `render`, or if `out` is a folder or cannot be written.
    """
    if out is not None:
        file = Path(out)
    else:
        file = Path(REPORT) if kind_of(folder) is Kind.SESSION else Path(folder) / REPORT
    if file.is_dir():
        raise bad_value("out", "a file", f"the folder {file}")
    if not file.parent.is_dir():
        raise bad_value("out", "a file in a folder that is there", file)
    page = render(folder)
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as opened:
            opened.write(page)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)
    except OSError as error:  # of the name that the caller knows
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return file
