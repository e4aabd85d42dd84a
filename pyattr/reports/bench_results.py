"""What a folder of bench results says: comparisons between peers, tables, and single figures.

A file of results is ``{"environment": {...}, "results": ...}``, as ``bench/harness.py`` writes it. What
lies below "results" is up to each bench, so it is read by its shape:

- names with ``median_s`` and ``ratio`` each are peers that were timed in turn;
- names with a number each, under a key such as ``models_per_s`` or ``ms a target``, are peers as well;
- dicts of figures that have most of their names in common are rows of a table, wherever they are;
- everything else is a figure with a name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pyattr.errors import bad_value

__all__ = ["Comparison", "File", "Table", "read", "recorded_files"]

_MOST_BYTES: Final = 1 << 25
_MOST_DEPTH: Final = 12
_MOST_LISTED: Final = 6  # numbers of a list that are written out
_MOST_COLUMNS: Final = 10  # where there are few rows
_FEW_ROWS: Final = 6
_COMMON: Final = 0.6  # share of their names that records of a table have in common
_JOINT: Final = " · "


@dataclass(frozen=True)
class Comparison:
    """Peers at the same work; the first is the one that the others are compared with.

    Parameters
    ----------
    path : str
        Where in the file.
    unit : str
        Of `values`, such as "seconds" or "models per s".
    more_is_better : bool
    values : dict of str to float
        By peer, above 0.
    spread : dict of str to (float, float)
        Least and largest, where they are known.
    """

    path: str
    unit: str
    more_is_better: bool
    values: dict[str, float]
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)

    def ahead(self, peer: str) -> float:
        """How many times as fast the first is as a peer."""
        own, other = next(iter(self.values.values())), self.values[peer]
        return own / other if self.more_is_better else other / own

    @property
    def fastest_other(self) -> str:
        """The peer that comes closest to the first, or is faster."""
        return min(list(self.values)[1:], key=self.ahead)


@dataclass(frozen=True)
class Table:
    """Rows with mostly the same figures.

    Parameters
    ----------
    path : str
    header : list of str
        The first names the row.
    rows : list of list
    """

    path: str
    header: list[str]
    rows: list[list[Any]]


@dataclass
class File:
    """One file of results.

    Parameters
    ----------
    name : str
        Without its suffix.
    environment : dict
    record : dict
        All of it.
    """

    name: str
    environment: dict[str, Any]
    record: dict[str, Any]
    comparisons: list[Comparison] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[tuple[str, Any]] = field(default_factory=list)


def recorded_files(folder: Path) -> dict[str, dict[str, Any]]:
    """The files of a folder that hold bench results, by name; others are passed over."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        if path.stat().st_size > _MOST_BYTES:
            continue
        try:
            record = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            continue
        environment = record.get("environment") if isinstance(record, dict) else None
        if isinstance(environment, dict) and "commit" in environment and "results" in record:
            found[path.stem] = record
    return found


def read(folder: Path) -> list[File]:
    """Read all files of results.

    Raises
    ------
    ValueError
        If there is none, or one is nested too deeply to be a record.
    """
    records = recorded_files(folder)
    if not records:
        raise bad_value(str(folder), "files that bench/harness.py writes", "none")
    files = []
    for name, record in records.items():
        file = File(name, record["environment"], record)
        results = _as_mapping(record["results"])
        _sort(results if isinstance(results, Mapping) else {"results": results}, file)
        files.append(file)
    return files


def _sort(node: Mapping[str, Any], file: File) -> None:
    """Put what lies below a node where it belongs."""
    records: list[tuple[str, dict[str, Any]]] = []
    _collect(node, "", file, records, 0)
    groups: list[list[tuple[str, dict[str, Any]]]] = []
    for path, record in records:
        group = next((g for g in groups if _alike(g[0][1], record)), None)
        if group is None:
            groups.append([(path, record)])
        else:
            group.append((path, record))
    for group in groups:
        if len(group) > 1:
            file.tables.append(_as_table(group))
        else:
            ((path, record),) = group
            file.figures += [(_below(path, name), value) for name, value in record.items()]


def _collect(
    node: Mapping[str, Any],
    path: str,
    file: File,
    records: list[tuple[str, dict[str, Any]]],
    depth: int,
) -> None:
    """Gather comparisons, and records: dicts of figures, at least half of which are none of dicts."""
    if depth > _MOST_DEPTH:
        raise bad_value(f"{file.name}.json", f"at most {_MOST_DEPTH} levels", "more")
    rest = {key: _as_mapping(v) for key, v in _without_comparisons(node, path, file).items()}
    below = {key: value for key, value in rest.items() if isinstance(value, Mapping)}
    if rest and path and 2 * len(below) <= len(rest) and not any(map(_compares, below.values())):
        records.append((path, _flat(rest)))
        return
    own = {key: _brief(value) for key, value in rest.items() if key not in below}
    if own:
        records.append((path, own))
    for key, value in below.items():
        _collect(value, _below(path, key), file, records, depth + 1)


def _as_mapping(value: Any) -> Any:
    """A list of dicts as a dict of them by their numbers; others as they are."""
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return {str(number): item for number, item in enumerate(value)}
    return value


def _alike(record: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records have most of their names in common."""
    return len(record.keys() & other.keys()) >= _COMMON * len(record.keys() | other.keys())


def _as_table(group: list[tuple[str, dict[str, Any]]]) -> Table:
    """Records as rows; as columns where there are many figures of few records."""
    parts = [path.split(_JOINT) for path, _ in group]
    prefix = _common(parts)
    suffix = _common([words[len(prefix) :][::-1] for words in parts])[::-1]
    rest = [words[len(prefix) : len(words) - len(suffix)] for words in parts]
    names = [_JOINT.join(words) or path for words, (path, _) in zip(rest, group, strict=True)]
    columns = list(dict.fromkeys(name for _, record in group for name in record))
    rows = [[name, *(r.get(c) for c in columns)] for name, (_, r) in zip(names, group, strict=True)]
    title = _JOINT.join([*prefix, *suffix]) or ", ".join(columns[:3])
    if len(columns) > _MOST_COLUMNS and len(rows) <= _FEW_ROWS:
        turned = [list(cells) for cells in zip(["", *columns], *rows, strict=True)]
        return Table(title, turned[0], turned[1:])
    return Table(title, ["", *columns], rows)


def _common(paths: list[list[str]]) -> list[str]:
    """The first words that all paths have in common."""
    found = []
    for words in zip(*paths, strict=False):
        if len(set(words)) > 1:
            break
        found.append(words[0])
    return found


def _below(path: str, key: object) -> str:
    """The path of a key; that peers are peers goes without saying."""
    if key == "peers":
        return path
    return f"{path}{_JOINT}{key}" if path else str(key)


def _compares(node: Any, depth: int = 0) -> bool:
    """Whether there are comparisons anywhere below a node."""
    if not isinstance(node, Mapping) or depth > _MOST_DEPTH:
        return False
    return any(
        _as_times(value, "") is not None
        or (isinstance(value, Mapping) and _as_rates(value, str(key), "") is not None)
        or _compares(value, depth + 1)
        for key, value in node.items()
    )


def _without_comparisons(node: Mapping[str, Any], path: str, file: File) -> dict[str, Any]:
    """Take the comparisons directly below a node out; returns the rest.

    Times that rates or times a unit were computed from are left out: they say the same again.
    """
    rest: dict[str, Any] = {}
    rates = {
        key: found
        for key, value in node.items()
        if isinstance(value, Mapping) and (found := _as_rates(value, key, path)) is not None
    }
    file.comparisons += rates.values()
    for key, value in node.items():
        if key in rates:
            continue
        times = _as_times(value, _below(path, key))
        if times is None:
            rest[key] = value
        elif not rates:
            file.comparisons.append(times)
    return rest


def _as_times(value: Any, path: str) -> Comparison | None:
    if not isinstance(value, Mapping) or len(value) < 2:
        return None
    measured = {}
    for name, figures in value.items():
        if not (isinstance(figures, Mapping) and "ratio" in figures):
            return None
        if not _is_positive(figures.get("median_s")):
            return None
        measured[str(name)] = figures
    spread = {
        name: (float(figures["min_s"]), float(figures["max_s"]))
        for name, figures in measured.items()
        if _is_positive(figures.get("min_s")) and _is_positive(figures.get("max_s"))
    }
    values = {name: float(figures["median_s"]) for name, figures in measured.items()}
    return Comparison(path, "seconds", False, values, spread)


def _as_rates(value: Mapping[str, Any], key: str, path: str) -> Comparison | None:
    rate, a_unit = key.endswith("_per_s"), key.startswith("ms ")
    if not (rate or a_unit) or len(value) < 2 or not all(map(_is_positive, value.values())):
        return None
    unit = key.removesuffix("_per_s").replace("_", " ") + " per s" if rate else key
    values = {str(name): float(figure) for name, figure in value.items()}
    return Comparison(path or key, unit, rate, values)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e300


def _flat(node: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Figures of a dict, nested ones by their path."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{path} {key}" if path else str(key)
        if isinstance(value, Mapping):
            flat |= _flat(value, name)
        else:
            flat[name] = _brief(value)
    return flat


def _brief(value: Any) -> Any:
    """A figure, or words for a list too long to be written out."""
    if isinstance(value, list):
        return _brief_list(value)
    return value


def _brief_list(values: Sequence[Any]) -> Any:
    numbers = [v for v in values if isinstance(v, int | float)]
    if len(values) <= _MOST_LISTED and all(isinstance(v, int | float | str) for v in values):
        return values
    if len(numbers) == len(values):
        return [f"{len(values):,} values", "least", min(numbers), "largest", max(numbers)]
    if all(isinstance(v, str) for v in values):
        return "; ".join(v for v in values if v)
    return f"{len(values):,} entries"
