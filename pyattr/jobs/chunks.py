"""How many models are stored together where nobody says it.

A chunk is a task of a worker and a file of the bank. Handing one out and storing it takes some milliseconds,
on a cluster more than on one machine, so it should hold a tenth of a second's work or more; what a killed
worker loses is a chunk, so it should hold no more than seconds. How long a model takes is not measured: two
machines that begin one bank have to agree. It is reckoned from the recipe and the sizes of the data.
"""

from __future__ import annotations

from typing import Final, Protocol

from pyattr.jobs.job import Models

__all__ = ["usual_chunk"]

_LEAST: Final = 16  # for recipes that train one model at a time; enough for all lanes of a GPU
_MOST: Final = 1 << 10  # models
_MOST_WORK: Final = 1 << 34  # multiply-adds: 0.1 to 0.5 s of a core
_MOST_OUTPUTS: Final = 1 << 24  # 64 MiB
_SHARE: Final = 16  # of `models.count`, which is rounded up to whole chunks


class Trains(Protocol):
    """What has to be known of a trainer."""

    @property
    def block(self) -> int: ...

    @property
    def n_targets(self) -> int: ...

    @property
    def multiply_adds(self) -> int | None: ...


def usual_chunk(retrain: Trains, models: Models) -> int:
    """Choose the size of a new bank's chunks.

    A block of the trainer (16 models at least, `models.count` at most, even in the complement design),
    doubled as long as the chunk keeps to 2^34 multiply-adds, 1,024 models, 2^24 outputs and a 16th of
    `models.count`. Where the work of a model is not known the block is not doubled.

    Parameters
    ----------
    retrain : trainer
        With `block`, `n_targets` and `multiply_adds`, those of a model on all examples, or None.
    models : Models
    """
    chunk = min(max(retrain.block, _LEAST), models.count)
    chunk += chunk % 2 if models.design == "complement" else 0
    if retrain.multiply_adds is None:
        return chunk
    most = min(
        _MOST,
        _MOST_WORK // max(1, retrain.multiply_adds),
        _MOST_OUTPUTS // retrain.n_targets,
        models.count // _SHARE,
    )
    while 2 * chunk <= most:
        chunk *= 2
    return chunk
