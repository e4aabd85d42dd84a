"""The certificate that the record of a session is."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from pyattr.errors import bad_value
from pyattr.uses.certificate import Certificate

__all__ = ["certificate_of_session"]


def certificate_of_session(path: str | os.PathLike[str]) -> Certificate:
    """Make the verdict of a finished session again from the verifier's folder, and bind it to its scores.

    Its delta is that of the claim. A session has one of `attempts` equal parts of it, and who pays when any
    of them ends in acceptance is wrong as often as all of them together.

    Trains nothing: the verifier's own trainings are taken for what its folder says. Of a session that was not
    one's own, `pyattr session audit --rerun all` repeats them.

    Parameters
    ----------
    path : str or path
        Of the verifier, with its private file and trainings.

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError
        If the record does not hold together.
    ProtocolError, OSError
        If a file is missing or is not what it should be.
    """
    from pyattr.transport.directory import MESSAGES
    from pyattr.transport.evidence import audit_directory, stated_manifest

    if not Path(path, MESSAGES[0]).exists():
        raise bad_value("verdict", f"a session's folder, with {MESSAGES[0]}", f"{path}, without")
    audit = audit_directory(Path(path))
    if audit.verdict is None or not audit.holds:
        failed = next((check for check in audit.checks if not check.holds), None)
        found = "no verdict" if failed is None else f"{failed.name}: {failed.found}"
        raise bad_value("verdict", "the record of a session that holds together", found)
    if audit.verdict.judged is None:
        raise bad_value("verdict", "a session whose outputs were judged", audit.verdict.reason)
    certificate = Certificate.of(audit.verdict)
    return msgspec.structs.replace(certificate, delta=stated_manifest(Path(path)).delta)
