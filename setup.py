from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

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

setup(
    ext_modules=[
        Pybind11Extension(
            "pyattr._cpu",
            ["csrc/bind_cpu.cpp"],
            depends=sorted(str(path) for path in Path("csrc").glob("*.hpp")),
            include_dirs=["csrc"],
            extra_compile_args=FLAGS,
            cxx_std=17,
        )
    ]
)
