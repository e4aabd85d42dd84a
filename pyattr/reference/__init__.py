"""Every kernel in plain NumPy: slow, obvious, the definition.

The compiled kernels must equal these bit for bit where the result is an integer, and be within the
bound stated in ``csrc/*.hpp`` of these (computed in float64) where it is a float.

Packed masks are ``(n_masks, row_bytes) uint8``, ``row_bytes = 8 * ceil(n_train / 64)``, little bit
order, bits from `n_train` on zero.
"""

from __future__ import annotations

from pyattr.reference.augmentation import augment_images
from pyattr.reference.margin_kinds import MARGIN_KINDS, as_float32, margins
from pyattr.reference.normalisation import (
    normalise,
    normalise_backward,
    rectify,
    rectify_halved,
    scatter_halved,
    take_moments,
)
from pyattr.reference.packed_masks import (
    correlate_masks,
    mask_indices,
    pack,
    row_bytes,
    sample_masks,
    unpack,
)
from pyattr.reference.philox import Stream, philox4x32, random_words, sample_seeds
from pyattr.reference.products import (
    FIXED_POINT_LIMIT,
    exact_matmul_transposed,
    gram,
    intersections,
    packed_matmul,
    packed_matmul_transposed,
    to_fixed_point,
)

__all__ = [
    "FIXED_POINT_LIMIT",
    "MARGIN_KINDS",
    "Stream",
    "as_float32",
    "augment_images",
    "correlate_masks",
    "exact_matmul_transposed",
    "gram",
    "intersections",
    "margins",
    "mask_indices",
    "normalise",
    "normalise_backward",
    "pack",
    "packed_matmul",
    "packed_matmul_transposed",
    "philox4x32",
    "random_words",
    "rectify",
    "rectify_halved",
    "row_bytes",
    "sample_masks",
    "sample_seeds",
    "scatter_halved",
    "take_moments",
    "to_fixed_point",
    "unpack",
]
