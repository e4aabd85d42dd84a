import os
import shutil
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup
from setuptools.modified import newer_group

# No -march=native, -ffast-math or OpenMP: one binary serves every x86-64 processor (csrc/simd.hpp
# picks the instruction set at run time) and gives the same bits on all of them.
FLAGS = [
    "-O3",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
]

# No fused multiply-add either: the GPU's results have the bits of the CPU's. The CUDA runtime is
# linked statically, so that pyattr._cuda can be imported where there is neither GPU nor driver.
CUDA_FLAGS = [
    "-O3",
    "-std=c++17",
    "-fmad=false",
    "--expt-relaxed-constexpr",
    "--threads=2",  # one for each architecture
    "-gencode=arch=compute_80,code=sm_80",
    "-gencode=arch=compute_90,code=[sm_90,compute_90]",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off",
]


# Headers that programs in C++ include as <pyattr/gram.hpp>: all but those of bindings and CUDA.
PRIVATE_HEADERS = ("bind_", "cuda_", "device_", "elements", "emulated_", "exact_sums", "mma_")
HEADERS = sorted(
    path for path in Path("csrc").glob("*.hpp") if not path.name.startswith(PRIVATE_HEADERS)
)


class BuildWithCuda(build_ext):
    """Compiles .cu files with nvcc, and has nvcc link the extensions that hold them.

    The headers go where `pyattr.get_include` finds them, beside the compiled modules: in a wheel and in a
    source tree alike.
    """

    def run(self) -> None:
        super().run()
        folder = Path(self.get_ext_fullpath("pyattr._cpu")).parent / "include" / "pyattr"
        shutil.rmtree(folder, ignore_errors=True)  # or a header that was renamed would stay
        folder.mkdir(parents=True)
        for header in HEADERS:
            shutil.copy(header, folder)

    def build_extension(self, ext: Pybind11Extension) -> None:
        cuda = [source for source in ext.sources if source.endswith(".cu")]
        path = Path(self.get_ext_fullpath(ext.name))
        if not cuda:
            return super().build_extension(ext)
        if not (self.force or newer_group([*ext.sources, *ext.depends], str(path), "newer")):
            return None
        folder = Path(self.build_temp, "cuda")
        folder.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        objects = [str(folder / f"{Path(source).stem}.o") for source in cuda]
        for source, target in zip(cuda, objects, strict=True):
            self.spawn(["nvcc", *CUDA_FLAGS, "-Icsrc", "-c", source, "-o", target])
        objects += self.compiler.compile(
            [source for source in ext.sources if source not in cuda],
            output_dir=str(folder),
            include_dirs=ext.include_dirs,
            extra_postargs=ext.extra_compile_args,
            depends=ext.depends,
        )
        self.spawn(["nvcc", "-shared", "-cudart=static", *objects, "-o", str(path)])
        return None


def with_cuda() -> bool:
    """Whether to build pyattr._cuda: PYATTR_CUDA=1 or 0 decides, else whether there is an nvcc."""
    wanted = os.environ.get("PYATTR_CUDA", "")
    if wanted not in ("", "0", "1"):
        raise ValueError(f"PYATTR_CUDA: expected 0 or 1, got {wanted!r}")
    found = shutil.which("nvcc") is not None
    if wanted == "1" and not found:
        raise RuntimeError("PYATTR_CUDA=1: expected nvcc on the PATH, got none")
    return found and wanted != "0"


def extension(name: str, sources: list[str], optional: bool = False) -> Pybind11Extension:
    headers = [*Path("csrc").glob("*.hpp"), *Path("csrc").glob("*.cuh")]
    return Pybind11Extension(
        name,
        sources,
        depends=sorted(map(str, headers)),
        include_dirs=["csrc"],
        extra_compile_args=FLAGS,
        cxx_std=17,
        optional=optional,
    )


bound = [f"csrc/bind_{name}.cpp" for name in ("cpu", "normalise", "solvers", "trainers")]
extensions = [extension("pyattr._cpu", bound)]
if with_cuda():
    kernels = sorted(str(path) for path in Path("csrc").glob("*.cu"))
    names = ("bind_cuda", "bind_device", "bind_device_solvers")
    bindings = [f"csrc/{name}.cpp" for name in names]
    # Unless asked for, an nvcc that cannot compile (with this host compiler, say) is no failure.
    optional = os.environ.get("PYATTR_CUDA", "") != "1"
    extensions.append(extension("pyattr._cuda", [*bindings, *kernels], optional))

setup(ext_modules=extensions, cmdclass={"build_ext": BuildWithCuda})
