"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyattr import kernels


@pytest.fixture(params=["cpu", "reference"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once on every kernel backend."""
    with kernels.use_backend(request.param):
        yield request.param


@pytest.fixture(params=[1, 2, 7])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run the test with 1, 2 and 7 threads."""
    before = kernels.get_num_threads()
    kernels.set_num_threads(request.param)
    yield request.param
    kernels.set_num_threads(before)
