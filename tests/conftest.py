"""Fixtures shared by all tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from cuda_module import module_for_the_host
from idx_files import write_fashion

from pyattr import backends, kernels


def has_gpu() -> bool:
    """Whether the CUDA backend can run."""
    return backends.extension_levels()["cuda_device"]


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


@pytest.fixture(scope="session")
def fashion_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fashion-MNIST's four files with 30 + 12 images of noise."""
    folder = tmp_path_factory.mktemp("fashion")
    write_fashion(folder, 30, 12)
    return folder


@pytest.fixture(scope="session")
def host_module(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The CUDA module compiled for the host."""
    pytest.importorskip("pybind11")
    if shutil.which("g++") is None:
        pytest.skip("needs a compiler")
    module = module_for_the_host(tmp_path_factory.mktemp("cuda"))
    assert module.device_count() == 0
    module.device_count = lambda: 1  # type: ignore[attr-defined]
    return module


@pytest.fixture(params=["elements", pytest.param("device", marks=pytest.mark.gpu)])
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The CUDA backend's module: what its threads do in loops on the host, or on a device."""
    if request.param == "device":
        if not has_gpu():
            pytest.skip("needs pyattr._cuda and a CUDA device")
        assert backends._cuda is not None
        return backends._cuda
    module: ModuleType = request.getfixturevalue("host_module")
    monkeypatch.setattr(backends, "_cuda", module)
    return module
