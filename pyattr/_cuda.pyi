"""CUDA kernels, with the signatures of `_cpu`; only there where they were built."""

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
