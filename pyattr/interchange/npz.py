"""An attribution as a plain ``.npz`` archive, for NumPy without safetensors.

Arrays ``scores``, ``intercept``, ``standard_error`` (if there is one) and ``details.<name>`` as in
`pyattr.attribution.file_format`, and ``method`` and ``design``, strings without dimensions.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyattr.attribution import Attribution
from pyattr.attribution.file_format import DETAIL, whole_file
from pyattr.errors import bad_value
from pyattr.interchange.array_files import Archive

__all__ = ["read_npz", "write_npz"]

StrPath = str | os.PathLike[str]


def write_npz(path: StrPath, attribution: Attribution) -> None:
    """Write an archive; a reader sees the old file or the whole new one.

    Parameters
    ----------
    path : str or path
        File to write or replace, under exactly this name.
    attribution : Attribution
    """
    arrays: dict[str, NDArray[Any]] = {
        "scores": attribution.scores,
        "intercept": attribution.intercept,
        "method": np.array(attribution.method),
        "design": np.array(attribution.design),
    }
    if attribution.standard_error is not None:
        arrays["standard_error"] = attribution.standard_error
    arrays |= {f"details.{name}": values for name, values in attribution.details.items()}
    with whole_file(Path(path)) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_npz(path: StrPath) -> Attribution:
    """Read an archive that `write_npz` wrote, or that has ``scores`` at least.

    Parameters
    ----------
    path : str or path
        An archive from anyone; no code in it is run.

    Returns
    -------
    Attribution
        What is not in the archive is as `Attribution` has it by default.

    Raises
    ------
    ValueError
        If an array is missing, unknown, damaged, or of another type or shape, or a value is not
        finite.
    FileNotFoundError
        If it is not there.
    """
    archive = Archive(Path(path))
    details = {name: match[1] for name in archive.names if (match := DETAIL.fullmatch(name))}
    known = {"scores", "intercept", "standard_error", "method", "design", *details}
    if unknown := set(archive.names) - known:
        raise bad_value(str(path), "the arrays of an attribution", f"{sorted(unknown)} too")
    has = set(archive.names)

    def text(name: str) -> str:
        return str(archive.read(name, 0, "U", "a string")) if name in has else "given"

    def matrix(name: str, ndim: int) -> NDArray[Any] | None:
        return archive.read(name, ndim, "f", f"{ndim}-dimensional float") if name in has else None

    return Attribution(
        archive.read("scores", 2, "f", "(n_train, n_targets) float"),
        matrix("intercept", 1),
        matrix("standard_error", 2),
        text("method"),
        text("design"),
        {
            short: archive.read(name, 1, "f", "(n_targets,) float")
            for name, short in details.items()
        },
    )
