"""What has a score: an example, or a seller with all of its examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pyattr.attribution import Attribution
from pyattr.reports.attribution_files import Quality
from pyattr.reports.downloads import Download, csv_file
from pyattr.reports.words import digits

__all__ = ["EXAMPLES", "SELLERS", "Holdings", "Unit", "unit_of"]


@dataclass(frozen=True)
class Unit:
    """What has a score, in words.

    Parameters
    ----------
    many, a, column : str
        Several; one; the head of a column, of which "s" makes a plural.
    put_in : str
        What a score is about.
    number : str
        In front of its number.
    file : str
        Of the strongest ones.
    """

    many: str
    a: str
    column: str
    put_in: str
    number: str
    file: str


EXAMPLES: Final = Unit(
    many="training examples",
    a="an example",
    column="example",
    put_in="a training example goes",
    number="no.",
    file="examples.csv",
)
SELLERS: Final = Unit(
    many="sellers",
    a="a seller",
    column="seller",
    put_in="a seller’s examples go",
    number="seller",
    file="strongest_sellers.csv",
)


def unit_of(quality: Quality | None) -> Unit:
    """What has a score; examples where nothing says otherwise."""
    data = None if quality is None else quality.job.data
    return EXAMPLES if data is None or data.sellers is None else SELLERS


@dataclass(frozen=True)
class Holdings:
    """What each seller holds, those with the largest scores first.

    Parameters
    ----------
    header : list of str
        Counts, and last the labels in words if they are known.
    rows : list of lists
    labels : list of lists
        For each row the examples of each label.
    label_names : list of str
    """

    header: list[str]
    rows: list[list[Any]]
    labels: list[list[int]]
    label_names: list[str]

    @classmethod
    def of(cls, quality: Quality, attribution: Attribution) -> Holdings | None:
        """From ``quality.json``; None where masks choose examples."""
        held = quality.sellers
        if held is None:
            return None
        weight = np.abs(attribution.scores).mean(axis=1, dtype=np.float64)
        order = np.argsort(-weight, kind="stable").tolist()
        flipped = [] if held.n_flipped is None else [("wrong labels", held.n_flipped)]
        counts = [("examples", held.n_examples), *flipped]
        labels = [[of[seller] for of in held.n_by_label.values()] for seller in order]
        names = list(held.n_by_label)
        rows: list[list[Any]] = []
        for seller, row in zip(order, labels, strict=True):
            words = [_in_words(names, row)] if names else []
            numbers = [of[seller] for _, of in counts]
            rows.append([seller, digits(weight[seller]), *numbers, *words])
        header = ["seller", "mean size of score", *(name for name, _ in counts)]
        return cls(header + (["examples by label"] if names else []), rows, labels, names)

    def file(self) -> Download:
        """All of it."""
        n = len(self.header) - bool(self.label_names)
        rows = ([*row[:n], *of] for row, of in zip(self.rows, self.labels, strict=True))
        header = [*self.header[:n], *(f"label {name}" for name in self.label_names)]
        return csv_file("sellers.csv", "what each seller holds", header, rows)


def _in_words(names: list[str], counts: list[int]) -> str:
    """Labels that there are, the most frequent first."""
    there = [(n, name) for n, name in zip(counts, names, strict=True) if n]
    return ", ".join(f"{name}: {n:,}" for n, name in sorted(there, key=lambda pair: -pair[0]))
