"""Where the C++ headers of the kernels lie, for programs that embed them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["get_include"]


def get_include() -> str:
    """Folder to give a C++ compiler with ``-I``; sources then say ``#include <pyattr/gram.hpp>``.

    The kernels are headers only: C++17, no library to link, neither Python nor NumPy. Each header states
    shapes, order of summation and error bound.

    Returns
    -------
    str

    Raises
    ------
    FileNotFoundError
        If the installation holds no headers: a source tree that was never built.

    Examples
    --------
    >>> import pathlib, pyattr
    >>> pathlib.Path(pyattr.get_include(), "pyattr", "packed_matmul.hpp").is_file()
    True
    """
    folder = Path(__file__).parent / "include"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: expected the C++ headers, got no folder; build with pip"
        )
    return str(folder)
