"""Two parties of a session of commands: a folder with their keys, honest scores and their opposite."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

import pyattr
from pyattr.cli import main
from pyattr.transport.job import Job


def prepare_folder(root: Path, job: Job) -> Path:
    """Write keys ``v.key`` and ``p.key``, ``honest.safetensors`` and ``reverse.safetensors``."""
    for name in ("v.key", "p.key"):
        assert CliRunner().invoke(main, ["keygen", str(root / name)]).exit_code == 0
    masks = pyattr.sample_masks(3000, 200, seed=1)
    honest = pyattr.fit_datamodel(masks, job.retrain(masks, pyattr.sample_seeds(3000, seed=2)))
    honest.save(root / "honest.safetensors")
    reverse = pyattr.Attribution(scores=-honest.scores, intercept=honest.intercept)
    reverse.save(root / "reverse.safetensors")
    return root
