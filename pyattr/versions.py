"""Which packages are installed, for the record."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_versions"]


def installed_versions(*packages: str) -> dict[str, str]:
    """Versions of packages by name; "not installed as a package" where there is none.

    Examples
    --------
    >>> installed_versions("no-such-package")
    {'no-such-package': 'not installed as a package'}
    """
    versions = {}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed as a package"
    return versions
