"""Images from a file in FFCV's format, for data that do not fit in memory.

FFCV reads and orders; which image comes when, and how it is augmented, is said by the model's
`Schedule`. The bytes are those of `pyattr.retraining.images.ImagesInMemory`.

Of FFCV's own ways none repeats: ``Loader(seed=)`` gives seed s in epoch e + 1 the order of seed s + 1 in
epoch e, and its random transforms draw from a generator of the thread. So neither is used. The file is
read sequentially along an order of ours, and the augmentation is an operation that takes the draws of
the schedule and moves pixels with the kernel that serves arrays in memory.

References
----------
Leclerc et al., "FFCV: Accelerating training by removing data bottlenecks", CVPR 2023.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pyattr.augmentation import augment_images
from pyattr.errors import bad_value
from pyattr.retraining.images import Schedule
from pyattr.retraining.pool import check_labels

__all__ = ["BetonImages", "require_ffcv", "write_beton"]

_INSTALL = """PKG_CONFIG_PATH="$PWD/csrc/ffcv_build" pip install '.[ffcv]'"""
_PAGE = 1 << 21  # bytes; the smallest that FFCV takes wastes least
_CHUNK = 1024


def require_ffcv() -> ModuleType:
    """Import FFCV, leaving torch's number of threads as it is.

    Raises
    ------
    RuntimeError
        If it is not installed; the message is the line to run.
    """
    with _threads_kept():
        try:
            import ffcv
            import ffcv.fields
            import ffcv.loader
        except ImportError as error:
            raise RuntimeError(
                f"ffcv: expected FFCV to be installed, got {error}; "
                f"run in pyattr's source tree: {_INSTALL}"
            ) from error
    module: ModuleType = ffcv
    return module


@contextmanager
def _threads_kept() -> Iterator[None]:
    """FFCV sets torch's and numba's number of threads when imported, constructed and iterated."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_beton(path: str | Path, images: NDArray[np.uint8], labels: ArrayLike) -> None:
    """Write images and labels to a file.

    Parameters
    ----------
    path : str or Path
        Usually ``*.beton``. The same arguments give the same bytes. It is there whole or not at all.
    images : (n_images, height, width, channels) uint8
        An array, or anything that is indexed like one (a memory map).
    labels : (n_images,) int

    Raises
    ------
    ValueError
        If an argument is wrong.
    OSError
        If there is no such folder, or no room in it.
    RuntimeError
        If FFCV is missing.
    """
    if getattr(images, "ndim", 0) != 4 or images.dtype != np.uint8 or 0 in images.shape:
        got = f"{getattr(images, 'dtype', type(images).__name__)}, shape {np.shape(images)}"
        raise bad_value("images", "(n_images, height, width, channels) uint8, none 0", got)
    numbers = check_labels("labels", labels, len(images))
    require_ffcv()
    from ffcv.fields import IntField, NDArrayField
    from ffcv.writer import DatasetWriter

    path = Path(path)
    free = shutil.disk_usage(path.parent).free
    if free < images.nbytes + 4 * _PAGE:  # FFCV's writer waits for ever once its disk is full
        raise OSError(f"path: expected room for {images.nbytes} bytes, got {free} in {path.parent}")
    fields = {"image": NDArrayField(np.dtype(np.uint8), images.shape[1:]), "label": IntField()}
    # One worker: with more, which of them writes which page is a race. The bar is FFCV's own.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            writer = DatasetWriter(str(partial), fields, page_size=_PAGE, num_workers=1)
            writer.from_indexed_dataset(_Examples(images, numbers))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class _Examples:
    """Images and labels as the pairs that FFCV's writer asks for."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        return np.ascontiguousarray(self._images[index]), int(self._labels[index])


class BetonImages:
    """An `ImageSource` that reads a file of `write_beton`.

    Each thread that trains has its loader, which FFCV compiles once (about a second) and which serves one
    model after the other; a process with one thread has one.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    ValueError
        If the file is not one of images in bytes and labels.
    RuntimeError
        If FFCV is missing.
    """

    def __init__(self, path: str | Path) -> None:
        if not Path(path).is_file():
            raise bad_value("path", "a file that write_beton wrote", path)
        require_ffcv()
        from ffcv.reader import Reader

        self.path = Path(path)
        try:
            reader = Reader(str(path))
            field = reader.handlers["image"]
            shape, dtype = tuple(int(size) for size in field.shape), field.dtype
            labels = np.array(reader.metadata["f1"], np.int64)
        except Exception as error:  # what FFCV meets in a file of another kind can be anything
            got = f"{path} ({type(error).__name__}: {error})"
            raise bad_value("path", "a file that write_beton wrote", got) from error
        if len(shape) != 3 or dtype != np.uint8:
            raise bad_value("path", "images in bytes, (height, width, channels)", (shape, dtype))
        self._shape, self.labels = (len(labels), *shape), labels
        self._idle: dict[int, SimpleQueue[_Loader]] = {}

    def __reduce__(self) -> tuple[type[BetonImages], tuple[Path]]:
        return BetonImages, (self.path,)  # loaders stay behind

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n_images, height, width, channels)."""
        n_images, height, width, channels = self._shape
        return n_images, height, width, channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of an element: uint8."""
        return np.dtype(np.uint8)

    def chunks(self) -> Iterator[NDArray[np.uint8]]:
        """All images in the order of their indices, see `ImageSource`."""
        with self._loader(_CHUNK) as loader:
            yield from loader.read(np.arange(len(self.labels)), None)

    def batches(
        self, schedule: Schedule, fill: NDArray[np.uint8]
    ) -> Generator[NDArray[np.uint8], None, None]:
        """Augmented images, step by step, see `ImageSource`."""
        _, height, width, _ = self.shape
        square, (_, batch_size) = schedule.augmentation.cutout, schedule.rows.shape
        everything = np.arange(batch_size, dtype=np.int32)

        def augment(
            step: int, images: NDArray[np.uint8], rows: NDArray[Any], out: NDArray[np.uint8]
        ) -> None:
            if not np.array_equal(rows, schedule.rows[step]):
                raise RuntimeError(f"ffcv: expected the images of step {step}, got others")
            draws = schedule.draws(step, height, width)
            augment_images(images, everything, draws, square, fill, out)

        with self._loader(batch_size) as loader:
            yield from loader.read(schedule.rows.reshape(-1), augment)

    @contextmanager
    def _loader(self, batch_size: int) -> Iterator[_Loader]:
        """Lend a loader that nobody uses."""
        idle = self._idle.setdefault(batch_size, SimpleQueue())
        try:
            loader = idle.get_nowait()
        except Empty:
            loader = _Loader(self.path, batch_size)
        try:
            yield loader
        finally:
            idle.put(loader)


# (step, images of the step as stored, their indices, where the augmented ones go)
_Augment = Callable[[int, NDArray[np.uint8], NDArray[Any], NDArray[np.uint8]], None]


class _Loader:
    """One FFCV loader, whose order and augmentation are set anew for every model."""

    def __init__(self, path: Path, batch_size: int) -> None:
        from ffcv.fields.ndarray import NDArrayDecoder
        from ffcv.loader import Loader, OrderOption

        self._operation = _operation()
        with _threads_kept():
            self._loader = Loader(
                str(path),
                batch_size=batch_size,
                num_workers=1,
                order=OrderOption.SEQUENTIAL,
                drop_last=False,
                pipelines={"image": [NDArrayDecoder(), self._operation], "label": None},
            )

    def read(
        self, order: NDArray[Any], augment: _Augment | None
    ) -> Generator[NDArray[np.uint8], None, None]:
        """Yield batches along an order of indices; each is valid until the next one is asked for."""
        loader, operation = self._loader, self._operation
        operation.begin(augment)
        # What OrderOption.SEQUENTIAL walks along, and what the loader takes its length from.
        loader.indices = loader.traversal_order.indices = order.astype(np.uint64)
        loader.first_traversal_order = loader.indices
        with _threads_kept():
            epoch = iter(loader)
            try:
                for (images,) in epoch:
                    if operation.error is not None:
                        raise operation.error
                    yield images
            finally:
                epoch.close()  # left early, the epoch's thread would wait for ever
                epoch.join()


def _operation() -> Any:
    """Make the operation that augments a batch; its base class exists only where FFCV does."""
    from dataclasses import replace

    from ffcv.pipeline.allocation_query import AllocationQuery
    from ffcv.pipeline.operation import Operation

    class Augment(Operation):  # type: ignore[misc]
        """Calls the augmentation of the model that is being trained; not compiled by FFCV."""

        def begin(self, augment: _Augment | None) -> None:
            self.augment, self.step = augment, 0
            self.error: Exception | None = None

        def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, Any]:
            state = replace(previous_state, jit_mode=False)
            return state, AllocationQuery(previous_state.shape, previous_state.dtype)

        def generate_code(self) -> Callable[..., NDArray[np.uint8]]:
            def run(
                images: NDArray[np.uint8], out: NDArray[np.uint8], rows: NDArray[Any]
            ) -> NDArray[np.uint8]:
                # FFCV runs the batches of an epoch in order, on one thread.
                step, self.step = self.step, self.step + 1
                if self.augment is None:
                    return images
                try:
                    self.augment(step, images, rows, out)
                except Exception as error:  # would end FFCV's thread, and the reader wait for ever
                    self.error = error
                return out

            run.with_indices = True  # type: ignore[attr-defined]
            return run

    return Augment()
