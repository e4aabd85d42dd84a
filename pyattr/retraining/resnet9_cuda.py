"""ResNet-9 on CUDA: the whole training step as one graph, replayed for every step of every model.

Not yet run on a device: tests show that the captured step is the processor's, the capture itself is left
to the tests marked ``gpu``, and `pyattr doctor --device cuda` says whether its bytes repeat.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pyattr.retraining.augmented_tensor import augment_tensor
from pyattr.retraining.images import ImagePool, Schedule
from pyattr.retraining.resnet9_model import ImageTensors, Model

__all__ = ["CapturedModel", "fastest"]

_WARM_UP = 3  # steps before the capture, in which libraries choose and load their kernels
_MEASURED = 30  # steps a lane in the choice of their number
_GAIN = 1.05  # by which more lanes must be faster

Lane = TypeVar("Lane", bound="CapturedModel")


class CapturedModel:
    """One model's place on the card: buffers, a stream and the graph of a step.

    Images in memory stay on the card, where the step gathers and augments them: nothing crosses the bus
    while a model trains. Images from a file come augmented from the processor, a batch a step.
    Without a CUDA device (in tests) the step is run as it is written instead of replayed.

    Parameters
    ----------
    model : Model
    pool : ImagePool
    tensors : ImageTensors
    rates : (n_steps,) float32
    batch_size, square : int
        `square` is the side of the cut-out.
    """

    def __init__(
        self,
        model: Model,
        pool: ImagePool,
        tensors: ImageTensors,
        rates: NDArray[np.float32],
        batch_size: int,
        square: int,
    ) -> None:
        self._model, self._pool, self._tensors = model, pool, tensors
        self._n_steps, self._square, device = len(rates), square, model.device
        _, height, width, channels = pool.source.shape
        self._rates = torch.from_numpy(rates).to(device)
        self._rows = torch.zeros(self._n_steps, batch_size, dtype=torch.int64, device=device)
        self._draws = torch.zeros(self._n_steps, batch_size, 5, dtype=torch.int32, device=device)
        self._at = torch.zeros(1, dtype=torch.int64, device=device)
        self._fill = torch.from_numpy(pool.fill).to(device)
        # Where the next batch is put, unless the step makes it itself.
        shape = 0 if tensors.images is not None else batch_size, height, width, channels
        self._pixels = torch.zeros(shape, dtype=self._fill.dtype, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._capture()

    def train(self, initial: torch.Tensor, schedule: Schedule | None) -> torch.Tensor:
        """Train one model and return its test logits.

        Parameters
        ----------
        initial : (n_weights,) float32
        schedule : Schedule or None
            None for the empty subset.

        Returns
        -------
        (n_targets, n_classes) float32
        """
        with torch.cuda.stream(self._stream) if self._stream is not None else nullcontext():
            self._model.begin(initial)
            if schedule is not None:
                self._show(schedule)
            n_batches = 0 if schedule is None else self._n_steps
            logits = self._model.logits(self._tensors.test, n_batches)
            if self._stream is not None:
                self._stream.synchronize()
        return logits

    def run(self, n_steps: int) -> None:
        """Take steps on whatever the buffers hold, without waiting: for measurements."""
        self._at.zero_()
        with torch.cuda.stream(self._stream) if self._stream is not None else nullcontext():
            for _ in range(min(n_steps, self._n_steps)):
                self._replay()

    def _show(self, schedule: Schedule) -> None:
        """Take all steps of a schedule."""
        _, height, width, _ = self._pool.source.shape
        self._rows.copy_(torch.from_numpy(schedule.rows))
        self._at.zero_()
        if self._tensors.images is not None:
            every = range(self._n_steps)
            draws = np.stack([schedule.draws(step, height, width) for step in every])
            self._draws.copy_(torch.from_numpy(draws))
            for _ in every:
                self._replay()
            return
        with closing(self._pool.source.batches(schedule, self._pool.fill)) as batches:
            for pixels in batches:
                self._pixels.copy_(torch.from_numpy(pixels))
                self._replay()

    def _replay(self) -> None:
        if self._graph is None:
            self._step()
        else:
            self._graph.replay()

    def _step(self) -> None:
        """One step, of operations on fixed buffers alone: what the graph holds."""
        rows = self._rows.index_select(0, self._at)[0]
        pixels = self._pixels
        if self._tensors.images is not None:
            draws = self._draws.index_select(0, self._at)[0]
            pixels = augment_tensor(self._tensors.images, rows, draws, self._square, self._fill)
        target = self._tensors.targets.index_select(0, rows)
        rate = self._rates.index_select(0, self._at)[0]
        self._model.step(self._tensors.normalised(pixels), target, rate)
        self._at.add_(1)

    def _capture(self) -> None:
        stream = self._stream
        stream.wait_stream(torch.cuda.current_stream(self._model.device))  # type: ignore[union-attr]
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._at.zero_()
                self._step()
            self._at.zero_()
        torch.cuda.synchronize(self._model.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self._step()
        self._graph = graph


def fastest(make: Callable[[], Lane], candidates: Sequence[int]) -> list[Lane]:
    """Make lanes until more of them do not make models faster.

    Parameters
    ----------
    make : callable
        Makes one lane.
    candidates : sequence of int
        Rising numbers of lanes.

    Returns
    -------
    list
        The number of lanes with the most steps a second, each larger number taken only if 5% faster.
    """
    lanes: list[Lane] = []
    best, best_rate = 0, 0.0
    for n_lanes in candidates:
        lanes += [make() for _ in range(n_lanes - len(lanes))]
        rate = _steps_per_second(lanes)
        if rate < _GAIN * best_rate:
            break
        best, best_rate = n_lanes, rate
    return lanes[:best]


def _steps_per_second(lanes: Sequence[CapturedModel]) -> float:
    start = time.perf_counter()
    for lane in lanes:
        lane.run(_MEASURED)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return _MEASURED * len(lanes) / (time.perf_counter() - start)
