"""The page of an attribution: how well it predicts, and which examples are behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from pyattr.attribution import Attribution
from pyattr.datasets import Dataset
from pyattr.reports import svg
from pyattr.reports.attribution_files import (
    Failed,
    Quality,
    dataset_at_hand,
    fresh_models,
    kept_verdict,
    read,
)
from pyattr.reports.charts import Bar, bars, histogram, scatter
from pyattr.reports.downloads import Download, csv_file, json_file
from pyattr.reports.examples import influential, shown_targets, strongest
from pyattr.reports.facts import settings
from pyattr.reports.gaps import SHOWN_TARGETS, Gaps
from pyattr.reports.page import fill
from pyattr.reports.sellers import SELLERS, Holdings, Unit, unit_of
from pyattr.reports.words import digits, large
from pyattr.uses import Certificate

__all__ = ["render"]

_SHOWN_SUBJECTS: Final = 6
_SHOWN_SCATTERS: Final = 4
_SHOWN_OVERALL: Final = 12
_SHOWN_ROWS: Final = 40
_MOST_TILES: Final = 5  # in a row
_MOST_SCORES: Final = 50_000  # numbers in the CSV of all scores
_MOST_EXAMPLES: Final = 20_000  # rows in the CSV of the strongest examples
_MOST_PER_TARGET: Final = 1_000  # targets whose figures stand in the JSON as well


def render(folder: Path) -> str:
    """Make the page.

    Parameters
    ----------
    folder : Path
        With ``attribution.safetensors``, and ``quality.json`` if a job wrote it. The job's dataset is
        loaded if it lies on this machine, its bank if it lies where it was; nothing is downloaded.

    Returns
    -------
    str
        A whole HTML document.

    Raises
    ------
    ValueError, OSError
        If a file is damaged or cannot be read.
    """
    attribution, quality = read(folder)
    unit = unit_of(quality)
    certificate, doubt = kept_verdict(folder, attribution)
    dataset, no_images = dataset_at_hand(attribution, quality)
    holdings = None if quality is None else Holdings.of(quality, attribution)
    gaps = None if certificate is None else _gaps(certificate, attribution, dataset)
    held_out = None if quality is None else quality.held_out
    spread = np.sqrt(attribution.variance(_share(quality)))
    rank = spread if held_out is None else held_out.r2.values
    labels = None if dataset is None else dataset.test_labels
    subjects = shown_targets(rank, labels, min(_SHOWN_SUBJECTS, attribution.n_targets))
    table = _Targets(attribution, quality, dataset, spread)
    return fill(
        "attribution.html",
        a=attribution,
        q=quality,
        unit=unit,
        v=certificate,
        doubt=doubt,
        gaps=gaps,
        n_shown=SHOWN_TARGETS,
        n_rows=_SHOWN_ROWS,
        tiles=_tiles(attribution, quality, unit, certificate, gaps),
        settings=_settings(quality),
        subjects=influential(attribution.scores, subjects, dataset),
        no_images="" if unit is SELLERS else no_images,
        charts=_charts(attribution, quality, dataset, unit)
        | ({} if gaps is None else gaps.charts()),
        holdings=holdings,
        share_of_top=_share_of_top(attribution),
        panels=_panels(folder, attribution, quality, rank, labels),
        failures=[] if quality is None else [_failure(f) for f in quality.fit.failures],
        target_header=table.header,
        target_rows=table.shown(rank),
        n_left_out=max(0, attribution.n_targets - _SHOWN_ROWS),
        downloads=_downloads(attribution, quality, dataset, table, unit)
        + ([] if holdings is None else [holdings.file()])
        + _of_verdict(certificate, gaps),
    )


def _gaps(certificate: Certificate, attribution: Attribution, dataset: Dataset | None) -> Gaps:
    """What the verdict says of each target, or of their sum."""

    def named(target: int) -> str:
        if certificate.weights is not None:
            return f"sum of {attribution.n_targets:,} targets"
        label = "" if dataset is None else dataset.class_names[int(dataset.test_labels[target])]
        return f"target {target}" + (f" ({label})" if label else "")

    return Gaps.of_certificate(certificate, named)


def _share(quality: Quality | None) -> float:
    """Share of a subset; one half where nothing says it."""
    return 0.5 if quality is None else quality.job.models.p


def _tiles(
    attribution: Attribution,
    quality: Quality | None,
    unit: Unit,
    certificate: Certificate | None,
    gaps: Gaps | None,
) -> list[tuple[str, str, str]]:
    sizes = [
        (large(attribution.n_train), "", f"{unit.many} with a score for each target"),
        (large(attribution.n_targets), "", "targets, whose outputs are predicted"),
    ]
    tiles = []
    if certificate is not None and gaps is not None:
        tiles.append(gaps.tile())
        tiles.append((large(certificate.n_retrained), "", "models trained to verify that"))
    if quality is None:
        return sizes + tiles
    held_out = quality.held_out
    if held_out is not None:
        models = f"on {held_out.n_used:,} fresh models, at a typical target"
        tiles += [
            (digits(held_out.r2.median), "", f"of the variance explained (R²) {models}"),
            (digits(held_out.lds.median), "", f"rank correlation (LDS) {models}"),
        ]
    if quality.mislabel_auc is not None:
        says = "AUC of finding the labels that were changed: 1 finds all first, 0.5 is chance"
        tiles.append((digits(quality.mislabel_auc), "", says))
    if len(tiles) < _MOST_TILES:
        says = f"models that {quality.fit.method} was fitted to"
        tiles.append((large(quality.fit.n_used), "", says))
    return tiles if len(tiles) > 2 else sizes + tiles


def _settings(quality: Quality | None) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything that the job and its bank say, in groups."""
    if quality is None:
        return []
    job = quality.job
    recipe = quality.manifest.get("recipe", {})
    groups = [
        ("Data", {} if job.data is None else msgspec.to_builtins(job.data)),
        ("Recipe", recipe if isinstance(recipe, dict) else {}),
        ("Models", msgspec.to_builtins(job.models)),
        ("Fit", msgspec.to_builtins(job.fit) | {"seconds": quality.fit.seconds}),
    ]
    return [(name, rows) for name, words in groups if (rows := settings(words))]


def _failure(failed: Failed) -> tuple[object, ...]:
    return failed.row, failed.seed, failed.status, failed.message


def _charts(
    attribution: Attribution, quality: Quality | None, dataset: Dataset | None, unit: Unit
) -> dict[str, Any]:
    """All pictures but the scatters and gaps, by name."""
    weight = np.abs(attribution.scores).mean(axis=1, dtype=np.float64)
    order = np.argsort(-weight, kind="stable")[:_SHOWN_OVERALL].tolist()
    strongest = [Bar(_named(i, dataset, unit), weight[i], "ours", digits(weight[i])) for i in order]
    title = f"{unit.many.capitalize()} with the largest mean size of score"
    charts: dict[str, Any] = {
        "scores": histogram(
            attribution.scores.ravel(), "scores", "All scores", "score in output units", limit=0.0
        ),
        "weights": histogram(
            weight, "weights", f"Mean size of {unit.a}’s scores", f"mean |score| of {unit.a}"
        ),
        "strongest": svg.both(lambda width, name: bars(strongest, width, name, title), "strongest"),
    }
    if quality is not None and quality.held_out is not None:
        found = quality.held_out
        charts["r2"] = histogram(found.r2.values, "r2", "R² over targets", "R² of a target")
        charts["lds"] = histogram(
            found.lds.values, "lds", "Rank correlation over targets", "LDS of a target"
        )
    return charts


def _share_of_top(attribution: Attribution) -> float:
    """Share of all sizes of scores that the strongest tenth of the examples has."""
    weight = np.sort(np.abs(attribution.scores).sum(axis=1, dtype=np.float64))
    whole = float(weight.sum())
    return float(weight[-max(1, len(weight) // 10) :].sum()) / whole if whole else 0.0


def _named(example: int, dataset: Dataset | None, unit: Unit) -> str:
    label = "" if dataset is None else dataset.class_names[int(dataset.train_labels[example])]
    return f"{unit.number} {example}" + (f" ({label})" if label else "")


def _panels(
    folder: Path,
    attribution: Attribution,
    quality: Quality | None,
    rank: NDArray[np.float64],
    labels: NDArray[np.int64] | None,
) -> list[tuple[int, float, Any]]:
    """Predicted against true outputs of a few targets, where the bank has them."""
    targets = shown_targets(rank, labels, min(_SHOWN_SCATTERS, attribution.n_targets))
    found = fresh_models(folder, attribution, quality, targets)
    if found is None or not len(found[0]):
        return []
    panels = []
    for number, target in enumerate(targets):
        predicted, true = (values[:, number].tolist() for values in found)
        r2 = float(rank[target])
        panel = {"target": target, "r2": r2, "predicted": predicted, "true": true}
        panels.append((target, r2, scatter(panel, f"scatter-{number}")))
    return panels


class _Targets:
    """A row of figures for each target."""

    def __init__(
        self,
        attribution: Attribution,
        quality: Quality | None,
        dataset: Dataset | None,
        spread: NDArray[np.float64],
    ) -> None:
        columns: dict[str, Sequence[Any]] = {"target": range(attribution.n_targets)}
        if dataset is not None:
            columns["label"] = [dataset.class_names[int(c)] for c in dataset.test_labels]
        if quality is not None and quality.held_out is not None:
            columns["R²"] = quality.held_out.r2.per_target
            columns["LDS"] = quality.held_out.lds.per_target
        columns["starting value"] = attribution.intercept.tolist()
        columns["spread of prediction"] = spread.tolist()
        self.more = {name: values.tolist() for name, values in attribution.details.items()}
        self.columns, self.header = columns, list(columns)

    def shown(self, rank: NDArray[np.float64]) -> list[list[Any]]:
        """The first and the last by rank, as words."""
        order = np.argsort(np.where(np.isnan(rank), -np.inf, rank), kind="stable").tolist()
        if len(order) > _SHOWN_ROWS:
            order = order[: _SHOWN_ROWS // 2] + order[-_SHOWN_ROWS // 2 :]
        rows = []
        for target in order:
            cells = [values[target] for values in self.columns.values()]
            rows.append([v if isinstance(v, int | str) else digits(v) for v in cells])
        return rows

    def file(self) -> Download:
        """All of them."""
        names = {"R²": "r2", "LDS": "lds", "starting value": "intercept"}
        names["spread of prediction"] = "prediction_sd"
        columns = {names.get(k, k): v for k, v in self.columns.items()} | self.more
        says = "a row for each target: how well it is predicted"
        return csv_file("targets.csv", says, list(columns), zip(*columns.values(), strict=True))


def _downloads(
    attribution: Attribution,
    quality: Quality | None,
    dataset: Dataset | None,
    table: _Targets,
    unit: Unit,
) -> list[Download]:
    files = [table.file()]
    n_each = max(1, min(10, _MOST_EXAMPLES // (2 * attribution.n_targets), attribution.n_train))
    says = f"the {n_each} most helpful and the {n_each} most harmful {unit.many} of each target"
    header = ["target", "side", unit.column, *(["label"] if dataset is not None else []), "score"]
    files.append(csv_file(unit.file, says, header, _strongest(attribution, n_each, dataset)))
    if attribution.scores.size <= _MOST_SCORES:
        names = [unit.column, *(f"target_{t}" for t in range(attribution.n_targets))]
        rows = ([i, *row] for i, row in enumerate(attribution.scores.tolist()))
        files.append(csv_file("scores.csv", "all scores", names, rows))
    if quality is not None:
        words = msgspec.to_builtins(quality)
        says = "job, recipe, models and quality"
        if attribution.n_targets > _MOST_PER_TARGET:
            _drop_per_target(words)
            says += "; what differs by target is in targets.csv"
        files.append(json_file("quality.json", says, words))
    return files


def _of_verdict(certificate: Certificate | None, gaps: Gaps | None) -> list[Download]:
    if certificate is None or gaps is None:
        return []
    says = "the verdict, as it was kept"
    words = msgspec.to_builtins(certificate)
    if certificate.n_targets > _MOST_PER_TARGET:
        words = {k: v for k, v in words.items() if not isinstance(v, list | tuple)}
        says = "the verdict; what differs by target is in gaps.csv"
    return [gaps.file(), json_file("verdict.json", says, words)]


def _strongest(
    attribution: Attribution, n_each: int, dataset: Dataset | None
) -> Iterator[list[object]]:
    """Rows of ``examples.csv``, or ``strongest_sellers.csv``."""
    for target in range(attribution.n_targets):
        scores = attribution.scores[:, target]
        for side, examples in strongest(scores, n_each).items():
            for i in examples.tolist():
                label = (
                    [] if dataset is None else [dataset.class_names[int(dataset.train_labels[i])]]
                )
                yield [target, side, i, *label, float(scores[i])]


def _drop_per_target(words: Any) -> None:
    """Leave out the lists that grow with the targets."""
    if isinstance(words, dict):
        words.pop("per_target", None)
        for value in words.values():
            _drop_per_target(value)
