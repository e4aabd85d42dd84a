"""Which module the kernels run in: the compiled one of the processor or of CUDA, or the definitions.

The backend is the compiled module of the processor, `cpu`; others, and the NumPy definitions of
`pyattr.reference`, are used only when asked for with `use_backend`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeAlias

from pyattr.errors import bad_value
from pyattr.threads import get_num_threads, set_num_threads

try:
    from pyattr import _cpu as cpu
except ImportError as error:
    _tree = Path(__file__).parents[1]
    _advice = (
        f"pyattr was imported from its source tree, {_tree}: run from another folder to use what is "
        "installed, or `pip install -e .` in the tree"
        if (_tree / "setup.py").is_file()
        else "install it again"
    )
    _found = "pyattr: the compiled module pyattr._cpu is missing or was built for another Python"
    raise ImportError(f"{_found}; {_advice}") from error

try:
    from pyattr import _cuda as _cuda_module
except ImportError:  # built without CUDA
    _cuda: ModuleType | None = None
else:
    _cuda = _cuda_module

__all__ = ["backend", "compiled", "cpu", "extension_levels", "use_backend"]

Backend: TypeAlias = Literal["cpu", "cuda", "reference"]

_backend: Backend = "cpu"


def backend() -> Backend:
    """Return the backend that kernels run on."""
    return _backend


def compiled() -> ModuleType:
    """Return the module whose kernels run: `_cuda` on that backend, else `_cpu`."""
    return _cuda if _backend == "cuda" and _cuda is not None else cpu


def extension_levels() -> dict[str, bool]:
    """Which kernels this installation can run on this machine.

    Returns
    -------
    dict
        ``avx2``, ``avx512``: the processor has them, and the extension its kernels for them; ``cuda_built``,
        ``cuda_device``: the extension was built with CUDA, and there is a device. Results have the same
        bits on every level.
    """
    level = cpu.instruction_level()
    return {
        "avx2": level >= 3,
        "avx512": level >= 4,
        "cuda_built": _cuda is not None,
        "cuda_device": _cuda is not None and _cuda.device_count() > 0,
    }


@contextmanager
def use_backend(name: Backend) -> Iterator[None]:
    """Run the kernels of the ``with`` block on another backend (for the whole process).

    Parameters
    ----------
    name : {"cpu", "cuda", "reference"}
        "cuda" copies arrays to the current device and back; results have the bits of "cpu" (but
        for `pyattr.solvers.lasso_paths`). Counts of pairs of examples, and the Gram matrices made
        of them, stay there (`pyattr.device_sums`), as do arrays of `pyattr.device`. Seeds and
        random words are made on the CPU.

    Raises
    ------
    RuntimeError
        If the module was built without CUDA or there is no device.
    """
    global _backend
    if name not in ("cpu", "cuda", "reference"):
        raise bad_value("backend", "'cpu', 'cuda' or 'reference'", repr(name))
    if name == "cuda" and (_cuda is None or _cuda.device_count() == 0):
        raise RuntimeError("backend: expected pyattr._cuda and a CUDA device, got none")
    before, n_threads, _backend = _backend, get_num_threads(), name
    try:
        if name == "cuda":
            set_num_threads(1)  # the device splits the work itself
        yield
    finally:
        _backend = before
        set_num_threads(n_threads)
