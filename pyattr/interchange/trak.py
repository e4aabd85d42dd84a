"""Scores that TRAK wrote.

``TRAKer.finalize_scores`` leaves in its ``save_dir``

=======================  =================  ==========================  ==============================
file                     dtype              shape                       holds
=======================  =================  ==========================  ==============================
``scores/<name>.mmap``   float16 / float32  (n_train, n_targets)        scores, as a ``.npy`` file
``experiments.json``                                                    by name: ``num_targets``,
                                                                        ``scores_finalized``
=======================  =================  ==========================  ==============================

The file of scores is made, full of zeros, before anything is scored, and earlier versions left a sum in
it whose last factor was applied in memory alone. ``scores_finalized`` is 1 only where neither is so.
Checked against ``trak/savers.py`` and ``trak/traker.py`` of traker 0.3.2.

References
----------
Park, Georgiev, Ilyas, Leclerc, Mądry 2023 (arXiv 2303.14186).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pyattr.attribution import Attribution
from pyattr.errors import bad_value
from pyattr.interchange.array_files import map_array

__all__ = ["read_trak_scores"]


def read_trak_scores(
    save_dir: str | os.PathLike[str], experiment: str, *, targets: slice | None = None
) -> Attribution:
    """Read the scores of an experiment.

    Parameters
    ----------
    save_dir : str or path
        As given to ``TRAKer``.
    experiment : str
        Its ``exp_name``.
    targets : slice, optional
        Columns to read; all if not given.

    Returns
    -------
    Attribution
        ``method`` "trak", no intercept. TRAK is made for rankings: its scores need not have the
        scale of the output, and verification asks for it.

    Raises
    ------
    ValueError
        If the experiment is unknown or was not finalised, or the scores do not fit.
    FileNotFoundError
        If a file is missing.
    """
    folder = Path(save_dir)
    record = _experiment(folder / "experiments.json", experiment)
    # Not the path it names: that is absolute, and of the machine that wrote it.
    path = folder / "scores" / f"{experiment}.mmap"
    scores = map_array(path, 2, "f", "(n_train, n_targets) float")
    if scores.shape[1] != record.get("num_targets"):
        raise bad_value(str(path), f"{record.get('num_targets')} targets", scores.shape[1])
    return Attribution(scores[:, targets or slice(None)], method="trak")


def _experiment(path: Path, name: str) -> dict[str, Any]:
    try:
        records = dict(json.loads(path.read_text()))
        record = dict(records.get(name, {}))
    except (ValueError, TypeError) as error:
        raise bad_value(str(path), "a JSON object of experiments", error) from error
    if not record:
        raise bad_value("experiment", f"one of {sorted(records)}", repr(name))
    if record.get("scores_finalized") != 1:
        expected = "scores_finalized 1, by finalize_scores of traker 0.3.2 or later"
        raise bad_value(f"{path}: {name}", expected, record.get("scores_finalized"))
    return record
