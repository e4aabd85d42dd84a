"""The kernels in somebody else's C++ program: docs/embedding.md, compiled and run as it says."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyattr
from pyattr.kernels import packed_matmul

PAGE = (Path(__file__).parents[1] / "docs/embedding.md").read_text()
HEADERS = sorted(Path(pyattr.get_include(), "pyattr").glob("*.hpp"))

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    return text


def test_the_documented_program_compiles_and_has_the_bits_of_python(tmp_path: Path) -> None:
    (tmp_path / "quote.cpp").write_text(block("cpp"))
    command = block("sh").replace("python -c", f"'{sys.executable}' -c")
    assert sys.executable in command
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True, timeout=120)
    run = subprocess.run([tmp_path / "quote"], capture_output=True, text=True, check=True)
    scores = np.float32(0.001) * (np.arange(300 * 4) % 97).astype(np.float32).reshape(300, 4)
    predicted = packed_matmul(pyattr.sample_masks(1000, n_train=300, seed=7).packed, scores)
    printed = np.array(run.stdout.split(), np.float32)
    np.testing.assert_array_equal(printed, predicted[0])
    assert not np.array_equal(printed, predicted[1])


def test_installed_headers_are_those_of_the_source() -> None:
    source = Path(__file__).parents[1] / "csrc"
    assert len(HEADERS) > 20
    for header in HEADERS:
        assert header.read_bytes() == (source / header.name).read_bytes(), "build again"


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_each_header_needs_no_other_before_it(tmp_path: Path, compiler: str) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    units = [tmp_path / f"{header.stem}.cpp" for header in HEADERS]
    for unit, header in zip(units, HEADERS, strict=True):
        unit.write_text(f"#include <pyattr/{header.name}>\n")
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    command = [compiler, *flags, "-isystem", pyattr.get_include(), *units]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("level", ["haswell", "skylake-avx512"])
def test_margins_compile_where_all_is_for_a_newer_processor(tmp_path: Path, level: str) -> None:
    """As with -march=native; not run here."""
    if shutil.which("g++") is None or platform.machine() != "x86_64":
        pytest.skip("needs g++ on x86-64")
    source = tmp_path / "margins.cpp"
    source.write_text(
        "#include <pyattr/margins.hpp>\n"
        "template bool pyattr::margins(const float*, std::size_t, const std::int64_t*, std::size_t,\n"
        "                              pyattr::MarginKind, pyattr::Range, float*);\n"
    )
    flags = ["-std=c++17", "-O1", "-w", f"-march={level}", "-S", "-o", tmp_path / "margins.s"]
    command = ["g++", *flags, "-isystem", pyattr.get_include(), source]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
