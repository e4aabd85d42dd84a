"""CPU kernels. Arrays must be C-contiguous and of exactly these dtypes; results go to `out`."""

import numpy as np
from numpy.typing import NDArray

def philox4x32(
    counters: NDArray[np.uint32], keys: NDArray[np.uint32], out: NDArray[np.uint32]
) -> None: ...
def random_words(
    seeds: NDArray[np.uint64],
    stream: int,
    plane: int,
    out: NDArray[np.uint32],
    begin: int,
    end: int,
) -> None: ...
def sample_masks(
    seed: int,
    stream: int,
    first_row: int,
    n_train: int,
    threshold: int,
    out: NDArray[np.uint8],
    begin: int,
    end: int,
) -> None: ...
def correlate_masks(
    packed: NDArray[np.uint8],
    seed: int,
    stream: int,
    first_row: int,
    n_train: int,
    threshold_one: int,
    threshold_zero: int,
    out: NDArray[np.uint8],
    begin: int,
    end: int,
) -> None: ...
def sample_seeds(seed: int, first_row: int, out: NDArray[np.uint64]) -> None: ...
def packed_matmul(
    packed: NDArray[np.uint8],
    weights: NDArray[np.float32],
    out: NDArray[np.float32],
    row_begin: int,
    row_end: int,
    target_begin: int,
    target_end: int,
) -> None: ...
def packed_matmul_transposed(
    packed: NDArray[np.uint8],
    residuals: NDArray[np.float32],
    out: NDArray[np.float32] | NDArray[np.float64],
    feature_begin: int,
    feature_end: int,
    target_begin: int,
    target_end: int,
) -> None: ...
def margins(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    kind: int,
    out: NDArray[np.float32],
    begin: int,
    end: int,
) -> None: ...
