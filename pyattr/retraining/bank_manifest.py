"""What the rows of a bank are outputs of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyattr.errors import bad_value, check_count, check_probability
from pyattr.retraining.bank_format import to_json

__all__ = ["Manifest"]


@dataclass(frozen=True)
class Manifest:
    """What the rows of a bank are outputs of.

    Parameters
    ----------
    n_train : int
        Mask bits.
    n_targets : int
        Outputs of a model.
    p : float
        Share of a mask.
    design : str
        "iid" or "complement", see `pyattr.sample_masks`.
    chunk_rows : int
        Models stored together: what a killed worker loses at most. Even for the complement design.
    recipe : mapping
        JSON values: everything else that determines the outputs of a row, as
        `Ensemble.recipe_record` says it.

    Raises
    ------
    ValueError
        If one is wrong, named in the message.
    """

    n_train: int
    n_targets: int
    p: float
    design: str
    chunk_rows: int
    recipe: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name in ("n_train", "n_targets", "chunk_rows"):
            check_count(name, getattr(self, name), 1)
        check_probability("p", self.p)
        if self.design not in ("iid", "complement"):
            raise bad_value("design", "'iid' or 'complement'", repr(self.design))
        if self.design == "complement" and self.p != 0.5:
            raise bad_value("p", "1/2 with the complement design", self.p)
        if self.design == "complement" and self.chunk_rows % 2:
            expected = "an even number with the complement design"
            raise bad_value("chunk_rows", expected, self.chunk_rows)
        if not isinstance(self.recipe, Mapping):
            raise bad_value("recipe", "a table", repr(self.recipe))

    def record(self) -> dict[str, Any]:
        """JSON values, as they lie in the bank."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return dict(json.loads(to_json(own | {"recipe": dict(self.recipe)})))

    def refuse_other(self, where: str, wanted: Manifest) -> None:
        """Refuse the bank of this manifest to whom wants another.

        Parameters
        ----------
        where : str
            The bank, for the message.
        wanted : Manifest

        Raises
        ------
        ValueError
            If they differ; the message names the first entry that does, a recipe's kind before its settings.
        """
        found = list(_differences("", self.record(), wanted.record()))
        for entry, stored, other in sorted(found, key=lambda one: not one[0].endswith("kind")):
            expected = f"{stored!r} as in the bank's manifest"
            got = f"{other!r}; other models need another bank"
            raise bad_value(f"{where}: {entry}", expected, got)


def _differences(where: str, theirs: Any, ours: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            path = f"{where}.{key}" if where else key
            if key in theirs and key in ours:
                yield from _differences(path, theirs[key], ours[key])
            else:
                yield path, theirs.get(key), ours.get(key)
    elif not _equal(theirs, ours):
        yield where, theirs, ours


def _equal(theirs: Any, ours: Any) -> bool:
    """Whether two JSON values are the same; to Python true is 1, and no setting of 1 is one of true."""
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(_equal, theirs, ours))
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return not any(_differences("", theirs, ours))
    return isinstance(theirs, bool) == isinstance(ours, bool) and bool(theirs == ours)
