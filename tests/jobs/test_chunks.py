"""The size of chunks that nobody states: by the recipe and the data alone, and kept by the bank."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pyattr.jobs import load_job
from pyattr.jobs.chunks import usual_chunk
from pyattr.jobs.job import Models
from pyattr.jobs.training import bank_of

LIGHT = 1 << 20  # multiply-adds


@dataclass(frozen=True)
class Trainer:
    block: int = 32
    n_targets: int = 10
    multiply_adds: int | None = LIGHT


@pytest.mark.parametrize(
    ("trainer", "models", "chunk"),
    [
        (Trainer(), {"count": 100_000}, 1024),  # at most
        (Trainer(multiply_adds=LIGHT << 6), {"count": 100_000}, 256),  # 2^34 multiply-adds
        (Trainer(multiply_adds=(LIGHT << 6) + 1), {"count": 100_000}, 128),
        (Trainer(multiply_adds=LIGHT << 20), {"count": 100_000}, 32),  # a block at least
        (Trainer(multiply_adds=None), {"count": 100_000}, 32),  # of one's own code nobody knows
        (Trainer(n_targets=1 << 17), {"count": 100_000}, 128),  # 2^24 outputs
        (Trainer(block=1), {"count": 100_000}, 1024),
        (Trainer(block=1, multiply_adds=LIGHT << 20), {"count": 100_000}, 16),
        (Trainer(block=256, multiply_adds=LIGHT << 20), {"count": 100_000}, 256),
        # At most a 16th of the models, which are rounded up to whole chunks.
        (Trainer(), {"count": 4096}, 256),
        (Trainer(), {"count": 4095}, 128),
        (Trainer(), {"count": 200}, 32),
        (Trainer(), {"count": 20}, 20),
        (Trainer(), {"count": 21}, 21),
        (Trainer(), {"count": 21, "design": "complement"}, 22),
    ],
)
def test_by_a_rule(trainer, models, chunk):
    assert usual_chunk(trainer, Models(**models)) == chunk


JOB = """\
[data]
name = "digits"
n_train = {n_train}
n_targets = 50
[recipe]
kind = "softmax"
[models]
count = {count}
{more}
"""


def chunk_rows(folder, count, more="", n_train=100):
    path = folder / "job.toml"
    path.write_text(JOB.format(count=count, more=more, n_train=n_train))
    return bank_of(load_job(path)).manifest.chunk_rows


def test_a_bank_keeps_the_size_it_began_with(tmp_path):
    pytest.importorskip("torch")
    names = ("small", "light", "heavy", "stated")
    small, light, heavy, stated = (tmp_path / name for name in names)
    for folder in (small, light, heavy, stated):
        folder.mkdir()
    assert chunk_rows(small, 500) == 32
    assert (
        chunk_rows(small, 100_000) == 32
    )  # more models: the same bank, whose rows stay where they are
    assert chunk_rows(light, 100_000) == 1024
    assert chunk_rows(light, 500) == 1024
    assert chunk_rows(heavy, 100_000, n_train=1000) == 256
    assert chunk_rows(stated, 100_000, "chunk = 24") == 24
    assert chunk_rows(stated, 100_000) == 24
    with pytest.raises(ValueError, match=r"models\.chunk: expected 32 as in the bank"):
        chunk_rows(small, 500, "chunk = 64")
