"""How the masks were drawn: independently, or in pairs of complements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from pyattr.errors import bad_value

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["Design", "check_design"]

Design: TypeAlias = Literal["iid", "complement"]


def check_design(masks: Masks, design: Design) -> None:
    """Refuse masks that cannot have been drawn by the design.

    Parameters
    ----------
    masks : Masks
        For "complement", rows 2j and 2j+1 must be complements of each other.
    design : {"iid", "complement"}
        Independence itself cannot be checked.

    Raises
    ------
    ValueError
        If the design is unknown, the number of rows odd, or a pair is not one of complements;
        the first such pair is named.
    """
    if design == "iid":
        return
    if design != "complement":
        raise bad_value("design", '"iid" or "complement"', repr(design))
    if masks.n_masks == 0 or masks.n_masks % 2:
        raise bad_value("masks", "an even number of rows, in pairs of complements", masks.n_masks)
    same = (masks[0::2].complement().packed == masks[1::2].packed).all(axis=1)
    if not same.all():
        raise bad_value("masks", "rows 2j and 2j+1 complements", f"pair {int(same.argmin())} not")
