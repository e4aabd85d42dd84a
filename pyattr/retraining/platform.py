"""What makes training runs repeat to the bit: the switches, the record of the machine, the checks."""

from __future__ import annotations

import os
import platform as system
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pyattr.errors import bad_value
from pyattr.masks import sample_masks, sample_seeds

if TYPE_CHECKING:
    from pyattr.retraining.ensemble import Ensemble

__all__ = [
    "available_threads",
    "check_device",
    "check_equal_bytes",
    "deterministic",
    "map_single_threaded",
    "platform_class",
]

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_WORKSPACES = (":4096:8", ":16:8")  # the two that cuBLAS documents as deterministic
# Settings of the environment that change which kernels run, and with them the last bits.
_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    _WORKSPACE,
)
# What is promised about a model trained alone, among others, in any order, on any thread count.
_PROMISE = {
    "cpu": "expected on machines with this record; check_equal_bytes tests one machine",
    "cuda": "not promised: cuBLAS repeats bits for one toolkit, architecture and SM count; "
    "check_equal_bytes tests one machine",
}
_MAX_SHIFTS = 64  # of a block against itself in check_equal_bytes
_LOCK = threading.RLock()

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_threads() -> int:
    """Return the number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_device(device: str) -> torch.device:
    """Return the torch device of this name.

    Raises
    ------
    ValueError
        If it is neither "cpu" nor a CUDA device that is there.
    """
    kind, _, number = device.partition(":")
    if kind == "cuda" and (number == "" or number.isdecimal()):
        if torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count():
            return torch.device(device)
        raise bad_value("device", "a CUDA device that is there", f"{device!r}, and torch sees none")
    if device != "cpu":
        raise bad_value("device", "'cpu', 'cuda' or 'cuda:<number>'", repr(device))
    return torch.device("cpu")


# Name in the record, and (where, attribute, value) of each global switch that `deterministic` sets.
_SWITCHES: dict[str, tuple[Any, str, Any]] = {
    # Buffers are overwritten before they are read; filling them first would only cost time.
    "fill_uninitialized_memory": (torch.utils.deterministic, "fill_uninitialized_memory", False),
    # No TF32, no bfloat16 inside float32 products.
    "cpu_matmul_precision": (torch.backends.mkldnn.matmul, "fp32_precision", "ieee"),  # type: ignore[attr-defined]
    "cpu_convolution_precision": (torch.backends.mkldnn.conv, "fp32_precision", "ieee"),  # type: ignore[attr-defined]
    "cuda_matmul_precision": (torch.backends.cuda.matmul, "fp32_precision", "ieee"),
    "cuda_convolution_precision": (torch.backends.cudnn.conv, "fp32_precision", "ieee"),  # type: ignore[attr-defined]
    "cudnn_benchmark": (torch.backends.cudnn, "benchmark", False),
    "cudnn_deterministic": (torch.backends.cudnn, "deterministic", True),
}


@contextmanager
def deterministic(device: str = "cpu") -> Iterator[None]:
    """Train in this block with every switch set that equal bytes need; put them back afterwards.

    Deterministic algorithms, float32 products without TF32 or bfloat16, cuDNN without benchmarking, one
    intra-op thread, no autocast, no gradients. The switches are global, so one block runs at a time in
    a process; other threads that use torch meanwhile see them too.

    Parameters
    ----------
    device : str
        "cpu" or "cuda".

    Raises
    ------
    RuntimeError
        If a switch does not hold, or CUDA was started with another ``CUBLAS_WORKSPACE_CONFIG``.
    """
    kind = device.partition(":")[0]
    with _LOCK, ExitStack() as stack:
        if kind == "cuda":
            _check_workspace()
        for switch in _SWITCHES.values():
            stack.enter_context(_switched(*switch))
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        enabled = torch.are_deterministic_algorithms_enabled()
        stack.callback(torch.use_deterministic_algorithms, enabled, warn_only=warn_only)
        torch.use_deterministic_algorithms(True)
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.inference_mode())
        yield


@contextmanager
def _switched(where: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(where, name)
    setattr(where, name, value)
    try:
        if getattr(where, name) != value:
            got = getattr(where, name)
            raise RuntimeError(f"{name}: expected {value!r} once set, got {got!r}")
        yield
    finally:
        setattr(where, name, before)


def _check_workspace() -> None:
    """CuBLAS reads its workspace setting once, when CUDA starts."""
    if os.environ.get(_WORKSPACE) in _WORKSPACES:
        return
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise RuntimeError(
            f"{_WORKSPACE}: expected {' or '.join(_WORKSPACES)} before CUDA starts, "
            f"got {os.environ.get(_WORKSPACE)!r} with CUDA running; set it in the environment"
        )
    os.environ[_WORKSPACE] = _WORKSPACES[0]


def _enter_worker() -> None:
    # These four belong to a thread. Flushing denormals makes their cost and their value the same
    # everywhere; the worker's end restores the state, since the thread is gone.
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.set_autocast_enabled("cpu", False)


def map_single_threaded(
    function: Callable[[Item], Result], items: Sequence[Item], n_threads: int
) -> list[Result]:
    """Apply `function` to every item, each on one worker thread with one intra-op thread.

    The work of an item never spreads over threads, so results can not depend on `n_threads`. Call it
    inside `deterministic`.

    Returns
    -------
    list
        In the order of `items`.
    """

    def call(item: Item) -> Result:
        with torch.inference_mode():
            return function(item)

    # Always a worker, even for one thread: the calling thread's settings are its owner's.
    with ThreadPoolExecutor(min(n_threads, max(len(items), 1)), initializer=_enter_worker) as pool:
        return list(pool.map(call, items))


def platform_class(device: str = "cpu") -> dict[str, Any]:
    """Record what decides the last bits of a training run on this machine.

    Two machines with equal records are expected to give equal bytes; `check_equal_bytes` tests what can
    be tested on one of them.

    Parameters
    ----------
    device : str
        "cpu", "cuda" or "cuda:<number>".

    Returns
    -------
    dict
        JSON values only.
    """
    checked = check_device(device)
    record: dict[str, Any] = {
        "device": _cuda_record(checked) if checked.type == "cuda" else _cpu_record(),
        "system": system.system(),
        "libc": " ".join(system.libc_ver()),
        "python": system.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "blas": _blas(),
        "float": "float32",
        "intra_op_threads": 1,
        "deterministic": {
            "algorithms": True,
            **{name: value for name, (_, _, value) in _SWITCHES.items()},
            "flush_denormal": checked.type == "cpu",
        },
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "equal_bytes": _PROMISE[checked.type],
    }
    return record


def _cpu_record() -> dict[str, Any]:
    return {
        "kind": "cpu",
        "machine": system.machine(),
        "model": _cpu_model(),
        "isa": torch.backends.cpu.get_cpu_capability(),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return system.processor()


def _cuda_record(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    return {
        "kind": "cuda",
        "model": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
    }


def _blas() -> str:
    """Return the linear algebra library of torch, with its version where torch tells it."""
    for line in torch.__config__.show().splitlines():
        if "Math Kernel Library" in line or "OpenBLAS" in line:
            return line.strip(" -")
    return "unknown"


def check_equal_bytes(ensemble: Ensemble, seed: int = 0) -> dict[str, bool]:
    """Test on this machine that a model's outputs do not depend on its company.

    Parameters
    ----------
    ensemble : Ensemble
        About ``block² + 14 block`` models are trained: a few seconds.
    seed : int
        Of the masks and seeds.

    Returns
    -------
    dict
        ``repeated``: the same models again; ``alone``: a model trained alone; ``every_slot``: each of a
        block's models at each of its places (CUDA: at 64 of them); ``shuffled``: another order over
        several blocks, the last one not full; ``threads``: 1 and 2 threads. True where all bytes were equal.
    """
    block = ensemble.block
    n_models = 2 * block + 3
    masks, seeds = sample_masks(n_models, ensemble.n_train, 0.5, seed), sample_seeds(n_models, seed)
    reference = ensemble(masks, seeds)

    def same(rows: NDArray[np.intp], n_threads: int | None = None) -> bool:
        trained = ensemble if n_threads is None else ensemble.with_threads(n_threads)
        return trained(masks[rows], seeds[rows]).tobytes() == reference[rows].tobytes()

    ends = np.array([0, block - 1, block, n_models - 1])
    order = np.random.default_rng(seed).permutation(n_models)
    shifts = np.arange(min(block, _MAX_SHIFTS)) * max(1, block // _MAX_SHIFTS)
    return {
        "repeated": same(np.arange(n_models)),
        "alone": all(same(ends[k : k + 1]) for k in range(len(ends))),
        "every_slot": same(((shifts[:, None] + np.arange(block)) % block).reshape(-1)),
        "shuffled": same(order),
        "threads": same(order, 1) and same(order, 2),
    }
