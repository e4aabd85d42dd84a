"""The bearer token of a server, in a file."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from pyattr.errors import bad_value

__all__ = ["read_token"]

_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]{16,256}=*", re.ASCII)
_TOKEN_CAP: Final = 1024


def read_token(path: Path | None) -> str | None:
    """Read a bearer token.

    Raises
    ------
    ValueError
        If it is shorter than 16 characters or others than its owner may read it.
    OSError
        If there is no such file.
    """
    if path is None:
        return None
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        content = file.read(_TOKEN_CAP).strip()
    if mode & 0o077:
        expected = "a file that its owner alone may read (chmod 600)"
        raise bad_value("token_file", expected, f"{path} with mode {mode:04o}")
    if not _TOKEN.fullmatch(content):
        raise bad_value("token_file", "a token of 16 to 256 letters, digits and -._~+/", path)
    return content.decode("ascii")
