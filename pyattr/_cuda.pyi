"""CUDA kernels, with the signatures of `_cpu`; only there where they were built."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyattr._cpu import correlate_masks as correlate_masks
from pyattr._cpu import fastest_gram_kernel as fastest_gram_kernel
from pyattr._cpu import gram as gram
from pyattr._cpu import margins as margins
from pyattr._cpu import margins_bfloat16 as margins_bfloat16
from pyattr._cpu import margins_float16 as margins_float16
from pyattr._cpu import packed_matmul as packed_matmul
from pyattr._cpu import packed_matmul_transposed as packed_matmul_transposed
from pyattr._cpu import sample_masks as sample_masks
from pyattr._cpu import to_fixed_point as to_fixed_point
from pyattr._cpu import turn_masks as turn_masks

def device_count() -> int: ...

class DeviceArray:
    def __init__(self, values: NDArray[Any]) -> None: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...
    def numpy(self) -> NDArray[Any]: ...
    def copy(self) -> DeviceArray: ...
    def diagonal(self) -> NDArray[Any]: ...

class ExactSums:
    def __init__(
        self, n_train: int, centre: NDArray[np.float64], steps: NDArray[np.float64], chunk_rows: int
    ) -> None: ...
    def add(
        self, packed: NDArray[np.uint8], outputs: NDArray[np.float32] | NDArray[np.float64]
    ) -> None: ...
    def finish(self) -> tuple[NDArray[np.int64], NDArray[np.int64], int]: ...
    def counts(self) -> DeviceArray: ...
    def cross(self) -> DeviceArray: ...

def add_gram(packed: object, n_masks: int, n_train: int, counts: object) -> None: ...
def add_exact_product(
    packed: object, values: object, n_masks: int, n_train: int, n_targets: int, sums: object
) -> None: ...
def multiply(
    packed: object, weights: object, n_masks: int, n_train: int, n_targets: int, out: object
) -> None: ...
def margins_on_device(
    logits: object,
    labels: NDArray[np.int64],
    n_rows: int,
    n_classes: int,
    kind: int,
    out: object,
) -> None: ...
def synchronize() -> None: ...
def free_memory() -> int: ...
def add_counts(counts: DeviceArray, other: object, sign: int) -> None: ...
def centred_gram(counts: object, single: NDArray[np.float64], n_masks: float) -> DeviceArray: ...
def negative_product(gram: object, rows: NDArray[np.float32]) -> NDArray[np.float32]: ...
def add_outer(gram: object, row: NDArray[np.float32]) -> None: ...
def lasso_paths(
    gram: object,
    cross: object,
    square: NDArray[np.float64],
    lambdas: NDArray[np.float64],
    n_steps: NDArray[np.int32],
    tolerance: float,
    held_out: tuple[object, object, NDArray[np.float64], int, float] | None,
    weights: NDArray[np.float32],
    gaps: NDArray[np.float64],
    errors: NDArray[np.float64],
    n_done: NDArray[np.int32],
    n_train: int,
) -> None: ...
def fit_mixtures(
    gram: object,
    cross: object,
    square: NDArray[np.float64],
    variances: NDArray[np.float32],
    n_rows: float,
    kept: NDArray[np.float64],
    extra_rows: float,
    normal: bool,
    max_sweeps: int,
    tolerance: float,
    weights: NDArray[np.float32],
    deviations: NDArray[np.float32],
    proportions: NDArray[np.float32],
    noise: NDArray[np.float64],
    freedom: NDArray[np.float64],
    residual: NDArray[np.float64],
    sweeps: NDArray[np.int32],
    n_train: int,
) -> None: ...
