"""pyattr._cuda compiled for the host: launches become loops, tensor-core products are emulated.

What a GPU thread computes is C++ for host and device (csrc/elements.hpp, csrc/thread_block.cuh). The
host's compiler makes of the .cu files a module with the same functions, which checks all but the
launches themselves: indices, fragments, order of operations, sizes of buffers.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

CSRC = Path(__file__).parents[1] / "csrc"


def module_for_the_host(folder: Path, *extra_flags: str) -> ModuleType:
    """Compile the module into `folder` and import it."""
    import pybind11

    path = folder / f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    flags = ["-std=c++17", "-O1", "-fPIC", "-ffp-contract=off", "-DPYATTR_NO_CLONES", "-Wno-psabi"]
    flags += ["-fvisibility=hidden", *extra_flags]
    bindings = ("bind_cuda", "bind_device", "bind_device_solvers")
    sources = [CSRC / f"{name}.cpp" for name in bindings] + sorted(CSRC.glob("*.cu"))
    objects = [str(folder / f"{source.stem}.o") for source in sources]

    # Bindings come first: they take longest.
    def compile_one(source: Path, target: str) -> None:
        command = ["g++", *flags, *includes, "-x", "c++", "-c", str(source), "-o", target]
        subprocess.run(command, check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, sources, objects))
    link = ["g++", "-shared", *extra_flags, *objects, "-o", str(path)]
    subprocess.run(link, check=True)
    spec = importlib.util.spec_from_file_location("_cuda", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
