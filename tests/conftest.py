"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyattr import kernels


def has_gpu() -> bool:
    """Whether the CUDA backend can run."""
    return kernels._cuda is not None and kernels._cuda.device_count() > 0


@pytest.fixture(params=["cpu", "reference", pytest.param("cuda", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once on every kernel backend."""
    if request.param == "cuda" and not has_gpu():
        pytest.skip("needs pyattr._cuda and a CUDA device")
    with kernels.use_backend(request.param):
        yield request.param


@pytest.fixture(params=[1, 2, 7])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run the test with 1, 2 and 7 threads."""
    before = kernels.get_num_threads()
    kernels.set_num_threads(request.param)
    yield request.param
    kernels.set_num_threads(before)
