"""CPU kernels. Arrays must be C-contiguous and of exactly these dtypes; results go to `out`."""

import numpy as np
from numpy.typing import NDArray

def instruction_level() -> int: ...
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
    residuals: NDArray[np.float32] | NDArray[np.int32],
    out: NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int64],
    feature_begin: int,
    feature_end: int,
    target_begin: int,
    target_end: int,
) -> None: ...
def to_fixed_point(
    outputs: NDArray[np.float32] | NDArray[np.float64],
    centre: NDArray[np.float64],
    steps: NDArray[np.float64],
    out: NDArray[np.int32],
    begin: int,
    end: int,
) -> int: ...
def turn_masks(
    packed: NDArray[np.uint8], n_train: int, turned: NDArray[np.uint32], begin: int, end: int
) -> None: ...
def gram(
    turned: NDArray[np.uint32], kernel: int, out: NDArray[np.int32], begin: int, end: int
) -> None: ...
def first_gram(
    turned: NDArray[np.uint32], kernel: int, out: NDArray[np.int32], begin: int, end: int
) -> None: ...
def fastest_gram_kernel() -> int: ...
def margins(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    kind: int,
    out: NDArray[np.float32],
    begin: int,
    end: int,
) -> None: ...
def margins_bfloat16(
    logits: NDArray[np.uint16],
    labels: NDArray[np.int64],
    kind: int,
    out: NDArray[np.float32],
    begin: int,
    end: int,
) -> None: ...
def margins_float16(
    logits: NDArray[np.uint16],
    labels: NDArray[np.int64],
    kind: int,
    out: NDArray[np.float32],
    begin: int,
    end: int,
) -> None: ...
def augment_images(
    images: NDArray[np.uint8] | NDArray[np.float32],
    rows: NDArray[np.int32],
    draws: NDArray[np.int32],
    square: int,
    fill: NDArray[np.uint8] | NDArray[np.float32],
    out: NDArray[np.uint8] | NDArray[np.float32],
    begin: int,
    end: int,
) -> None: ...
def mask_indices(
    packed: NDArray[np.uint8], ends: NDArray[np.int64], out: NDArray[np.int64]
) -> None: ...

class GramCodes:
    def __init__(self, gram: NDArray[np.float32]) -> None: ...

def lasso_paths(
    gram: GramCodes,
    cross: NDArray[np.float32],
    square: NDArray[np.float64],
    lambdas: NDArray[np.float64],
    n_steps: NDArray[np.int32],
    tolerance: float,
    held_out: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64], int, float]
    | None,
    weights: NDArray[np.float32],
    gaps: NDArray[np.float64],
    errors: NDArray[np.float64],
    n_done: NDArray[np.int32],
    begin: int,
    end: int,
) -> None: ...
def fit_mixtures(
    gram: NDArray[np.float32],
    cross: NDArray[np.float32],
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
    begin: int,
    end: int,
) -> None: ...
def rectify(
    x: NDArray[np.float32],
    by: NDArray[np.float32],
    bypass: NDArray[np.float32] | None,
    out: NDArray[np.float32],
) -> None: ...
def rectify_halved(
    x: NDArray[np.float32], by: NDArray[np.float32], out: NDArray[np.float32]
) -> None: ...
def scatter_halved(
    x: NDArray[np.float32],
    by: NDArray[np.float32],
    gradient: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None: ...
def take_moments(
    x: NDArray[np.float32],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    epsilon: float,
    momentum: float,
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    by: NDArray[np.float32],
    spread: NDArray[np.float64],
) -> None: ...
def normalise_backward(
    x: NDArray[np.float32],
    by: NDArray[np.float32],
    spread: NDArray[np.float64],
    gradient: NDArray[np.float32],
    scale_gradient: NDArray[np.float32],
    shift_gradient: NDArray[np.float32],
) -> None: ...
def fit_softmax_regressions(
    rows: NDArray[np.float32],
    labels: NDArray[np.int32],
    n_features: int,
    n_classes: int,
    bits: NDArray[np.uint8],
    spectrum: NDArray[np.float32],
    l2: NDArray[np.float32],
    floor: float,
    start: float,
    safety: float,
    decay: float,
    n_steps: int,
    weights: NDArray[np.float32],
) -> None: ...
def linear_logits(
    turned: NDArray[np.float32],
    n_targets: int,
    n_classes: int,
    weights: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None: ...
def train_networks(
    rows: NDArray[np.float32],
    labels: NDArray[np.int32],
    n_hidden: int,
    n_classes: int,
    rates: NDArray[np.float32],
    momentum: float,
    decay: float,
    examples: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> None: ...
def network_logits(
    rows: NDArray[np.float32],
    n_hidden: int,
    n_classes: int,
    weights: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None: ...
