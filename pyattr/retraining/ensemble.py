"""Many independent models trained as one batch, each with its own mask and its own seed."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pyattr import kernels
from pyattr.errors import Diverged, bad_value, check_count
from pyattr.masks import Masks
from pyattr.reference import MARGIN_KINDS
from pyattr.retraining.images import ImagePool, ImageSource
from pyattr.retraining.mlp import MLPRecipe
from pyattr.retraining.platform import (
    available_threads,
    check_device,
    deterministic,
    map_single_threaded,
)
from pyattr.retraining.pool import Pool
from pyattr.retraining.resnet9 import ResNet9Recipe
from pyattr.retraining.retrain import check_groups, check_runs
from pyattr.retraining.softmax import SoftmaxRecipe

__all__ = ["Ensemble", "MLPRecipe", "ResNet9Recipe", "SoftmaxRecipe", "Trainer"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Scalar = TypeVar("Scalar", bound=np.generic)

_EMPTY_SEED = 0  # of the empty models that fill up the last block
_TURNS = 4  # blocks a thread at least, where blocks need not be whole


class Trainer(Protocol):
    """What a recipe makes of a pool: trains blocks of models."""

    @property
    def block(self) -> int:
        """Number of models that are trained together."""

    @property
    def whole_blocks(self) -> bool:
        """Whether a block must always be whole, since its size could reach the bits of a model."""

    @property
    def arithmetic(self) -> str:
        """Whose arithmetic it is; another one gives other last bits."""

    @property
    def lanes(self) -> int:
        """Number of blocks to train side by side on one graphics card."""

    def logits(self, bits: NDArray[np.bool_], seeds: NDArray[np.uint64]) -> torch.Tensor:
        """Train one block and return its test logits.

        Parameters
        ----------
        bits : (block, n_examples) bool
        seeds : (block,) uint64

        Returns
        -------
        (block, n_targets, n_classes) float32
        """


class Ensemble:
    """A `Retrain` that trains many small models at once.

    Row j of every result depends on mask j and seed j alone, to the last bit: not on the other rows, their
    order, or the number of threads (`pyattr.retraining.platform.check_equal_bytes` tests it).

    Parameters
    ----------
    recipe : SoftmaxRecipe, MLPRecipe or ResNet9Recipe
        How a model is trained.
    train_features : (n_examples, n_features) float32
        ResNet-9 takes images, flattened channel by channel, or an `ImageSource`.
    train_labels : (n_examples,) int
    test_features : (n_targets, n_features) float32
        The outputs are margins at these.
    test_labels : (n_targets,) int
    groups : (n_examples,) int, optional
        ``groups[e]`` is the group that example e belongs to. Mask bits are then groups: a bit puts in or
        leaves out all examples of one.
    device : str
        "cpu" or "cuda".
    output : str
        Kind of margin, see `pyattr.kernels.margins`.
    n_threads : int, optional
        Processors to use; all by default.

    Raises
    ------
    ValueError
        If an argument is wrong, named in the message.

    Examples
    --------
    >>> from pyattr.masks import sample_masks, sample_seeds
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((40, 3), dtype=np.float32), np.arange(40) % 2
    >>> retrain = Ensemble(SoftmaxRecipe(), x[:30], y[:30], x[30:], y[30:])
    >>> retrain(sample_masks(5, 30), sample_seeds(5)).shape
    (5, 10)
    """

    def __init__(
        self,
        recipe: SoftmaxRecipe | MLPRecipe | ResNet9Recipe,
        train_features: ArrayLike | ImageSource,
        train_labels: ArrayLike,
        test_features: ArrayLike,
        test_labels: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        device: str = "cpu",
        output: str = "logsumexp",
        n_threads: int | None = None,
    ) -> None:
        if not isinstance(recipe, SoftmaxRecipe | MLPRecipe | ResNet9Recipe):
            expected = "a SoftmaxRecipe, MLPRecipe or ResNet9Recipe"
            raise bad_value("recipe", expected, type(recipe).__name__)
        if output not in MARGIN_KINDS:
            raise bad_value("output", " or ".join(MARGIN_KINDS), repr(output))
        chosen: Any = recipe  # each has a pool and a trainer of its own, which fit each other
        arrays = train_features, train_labels, test_features, test_labels
        self._pool: Pool | ImagePool = chosen.pool(*arrays)
        self._groups = None if groups is None else check_groups(groups, self._pool.n_examples)
        self._device, self._output, self._recipe = check_device(device), output, recipe
        self._n_threads = _n_threads(n_threads)
        self._test_labels: NDArray[np.int64] = self._pool.test_labels.numpy()
        self._multiply_adds: int = chosen.multiply_adds(self._pool)
        self._trainer: Trainer
        (self._trainer,) = self._run(lambda pool: chosen.trainer(pool, self._device), [self._pool])

    @property
    def n_train(self) -> int:
        """Number of mask bits: groups if there are any, else examples."""
        return self._pool.n_examples if self._groups is None else int(self._groups.max()) + 1

    @property
    def n_targets(self) -> int:
        """Number of outputs of a model."""
        return self._pool.n_targets

    @property
    def block(self) -> int:
        """Number of models that are trained together."""
        return self._trainer.block

    @property
    def multiply_adds(self) -> int:
        """Multiplications of a training on all examples, roughly: what a model costs, on any machine."""
        return self._multiply_adds

    def with_threads(self, n_threads: int) -> Ensemble:
        """Return the same ensemble on another number of threads."""
        other = copy.copy(self)
        other._n_threads = _n_threads(n_threads)
        return other

    def __call__(self, masks: Masks, seeds: NDArray[np.uint64], /) -> NDArray[np.float32]:
        """Train one model a row and return its margins at the test examples.

        Parameters
        ----------
        masks : Masks
            (n, n_train). Any subset: smaller than a batch, missing a class, or empty.
        seeds : (n,) uint64

        Returns
        -------
        (n, n_targets) float32

        Raises
        ------
        ValueError
            If an argument is wrong, or a model diverges; the message names its row.
        """

        def margins(logits: NDArray[np.float32]) -> NDArray[np.float32]:
            return kernels.margins(logits, self._test_labels, self._output)

        return self._map(margins, masks, seeds)

    def logits(self, masks: Masks, seeds: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Train one model a row and return its test logits, (n, n_targets, n_classes) float32."""
        return self._map(lambda logits: logits, masks, seeds)

    def accuracy(self, masks: Masks, seeds: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Train one model a row and return its test accuracy, (n,) float64."""

        def correct(logits: NDArray[np.float32]) -> NDArray[np.float64]:
            share: NDArray[np.float64] = (logits.argmax(-1) == self._test_labels).mean(-1)
            return share

        return self._map(correct, masks, seeds)

    def data(self) -> dict[str, NDArray[Any]]:
        """What the models are trained and tested on.

        Returns
        -------
        dict of str to array
            ``train_features`` (n_examples, n_features) float32, ``train_labels`` (n_examples,) int64,
            ``test_features`` (n_targets, n_features) float32, ``test_labels`` (n_targets,) int64 and, with
            groups, ``groups`` (n_examples,) int64. Mostly not copies: leave them as they are.
        """
        arrays = self._pool.arrays()
        if self._groups is not None:
            arrays["groups"] = self._groups
        return arrays

    def recipe_record(self) -> dict[str, Any]:
        """Everything that determines the outputs besides mask, seed and platform class.

        Returns
        -------
        dict
            JSON values only. Checksums are CRC-32: they catch the wrong file, not a cheat.
        """
        pool = self._pool
        crc32 = pool.crc32()
        if self._groups is not None:
            crc32["groups"] = zlib.crc32(self._groups.tobytes())
        return {
            "recipe": {"kind": type(self._recipe).__name__, **asdict(self._recipe)},
            "output": self._output,
            "n_train": self.n_train,
            "n_examples": pool.n_examples,
            "n_features": pool.n_features,
            "n_classes": pool.n_classes,
            "n_targets": pool.n_targets,
            "grouped": self._groups is not None,
            "block": self.block,
            "arithmetic": self._trainer.arithmetic,
            "device": self._device.type,
            "crc32": crc32,
        }

    def _map(
        self,
        reduce: Callable[[NDArray[np.float32]], NDArray[Scalar]],
        masks: Masks,
        seeds: NDArray[np.uint64],
    ) -> NDArray[Scalar]:
        """Train block by block and join ``reduce(logits)`` of each."""
        checked = check_runs(masks, seeds, self.n_train)
        whole, step = self._trainer.whole_blocks, self.block
        if not whole:  # some turns for each thread, so that none waits for long
            step = max(1, min(step, -(-len(masks) // (_TURNS * self._n_threads))))

        def train(start: int) -> NDArray[Scalar]:
            chosen = masks[start : start + step].unpack()
            size = step if whole else len(chosen)
            bits = np.zeros((size, self._pool.n_examples), np.bool_)
            bits[: len(chosen)] = chosen if self._groups is None else chosen[:, self._groups]
            own = np.full(size, _EMPTY_SEED, np.uint64)
            own[: len(chosen)] = checked[start : start + step]
            logits = self._trainer.logits(bits, own)[: len(chosen)].contiguous().cpu().numpy()
            _check_finite(logits, start, own)
            return reduce(logits)

        if len(masks) == 0:
            return reduce(np.empty((0, self.n_targets, self._pool.n_classes), np.float32))
        return np.concatenate(self._run(train, range(0, len(masks), step)))

    def _run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        with deterministic(self._device.type):
            if self._device.type == "cpu":
                return map_single_threaded(function, items, self._n_threads)
            lanes = self._trainer.lanes if hasattr(self, "_trainer") else 1
            if lanes == 1:  # one stream
                return [function(item) for item in items]
            return map_single_threaded(function, items, lanes)


def _check_finite(logits: NDArray[np.float32], start: int, seeds: NDArray[np.uint64]) -> None:
    """Refuse a diverged model: NaN must not pass for an output."""
    finite = np.isfinite(logits).all(axis=(1, 2))
    if not finite.all():
        row = int(finite.argmin())
        got = f"NaN or infinity at row {start + row} (seed {seeds[row]})"
        raise Diverged(f"recipe: expected training that ends in finite logits, got {got}")


def _n_threads(n_threads: int | None) -> int:
    return available_threads() if n_threads is None else check_count("n_threads", n_threads, 1)
