"""What goes wrong: a caller's mistake (ValueError), a training's (`Diverged`), a peer's (the others).

Every message has the form ``name: expected …, got …``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Real
from typing import Final

__all__ = [
    "Diverged",
    "ProtocolError",
    "Rejected",
    "bad_value",
    "check_count",
    "check_positive",
    "check_probability",
    "did_you_mean",
    "one_of",
]


_NEAR: Final = 0.7  # of `difflib`: one letter in three or four may be wrong


class ProtocolError(Exception):
    """A peer's message is wrong in form: malformed, out of order, too large, inconsistent."""


class Rejected(Exception):  # noqa: N818 - an outcome of the protocol, not a fault of the program
    """A peer's message is right in form and wrong in substance: a check failed.

    Parameters
    ----------
    check : str
        Name of the check that failed.
    observed, bound : float or str
        What was seen, and what the check allowed.
    """

    def __init__(self, check: str, observed: float | str, bound: float | str) -> None:
        super().__init__(f"{check}: observed {observed}, allowed {bound}")
        self.check = check
        self.observed = observed
        self.bound = bound


class Diverged(ValueError):  # noqa: N818 - an outcome of a training, not a fault of the program
    """A training ended in NaN or infinity, which must not pass for an output."""


def bad_value(name: str, expected: str, got: object) -> ValueError:
    """Make the error that a wrong argument raises: ``name: expected …, got …``."""
    return ValueError(f"{name}: expected {expected}, got {got}")


def one_of(values: Iterable[object]) -> str:
    """Write a choice in words.

    Examples
    --------
    >>> one_of(["cpu", "cuda"])
    "'cpu' or 'cuda'"
    """
    *others, last = map(repr, values)
    return f"{', '.join(others)} or {last}" if others else last


def did_you_mean(got: object, known: Iterable[str]) -> str:
    """Name the nearest of the names that are known, to end a message with; "" if none is near.

    Examples
    --------
    >>> did_you_mean("Digitz", ["digits", "cifar10"])
    "; did you mean 'digits'?"
    """
    near = difflib.get_close_matches(str(got).lower(), known, 1, _NEAR)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_probability(name: str, value: float) -> float:
    """Return `value` as a float if it lies strictly between 0 and 1.

    Raises
    ------
    ValueError
        If it does not.
    """
    if not (_is_finite(value) and 0.0 < value < 1.0):
        raise bad_value(name, "a probability strictly between 0 and 1", value)
    return float(value)


def check_positive(name: str, value: float) -> float:
    """Return `value` as a float if it is finite and above 0.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not (_is_finite(value) and value > 0.0):
        raise bad_value(name, "a finite number above 0", value)
    return float(value)


def check_count(name: str, value: int, minimum: int = 0) -> int:
    """Return `value` as an int if it is a whole number of at least `minimum`.

    Raises
    ------
    ValueError
        If it is not.
    """
    if isinstance(value, bool) or not _is_finite(value) or value != int(value) or value < minimum:
        raise bad_value(name, f"a whole number of at least {minimum}", value)
    return int(value)


def _is_finite(value: object) -> bool:
    """Whether `value` is a real number other than NaN and infinity."""
    return isinstance(value, Real) and math.isfinite(value)
