"""Import rules that import-linter cannot express: it sees neither compiled modules nor single files."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pyattr"


def importers(name: str) -> set[str]:
    """Modules that import `name`, from pyattr or from outside."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            if any(module == name or module.startswith(f"{name}.") for module in modules):
                found.add(path.relative_to(PACKAGE).as_posix())
    return found


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("pyattr._cpu", {"backends.py"}),
        ("pyattr._cuda", {"backends.py"}),
        ("hashlib", {"protocol/hashing.py", "dataset_files.py"}),
        ("ray", {"retraining/executors.py"}),
        ("obstore", {"retraining/objects.py"}),
        ("google_crc32c", {"retraining/bank_format.py"}),
        ("hmac", {"protocol/hashing.py"}),
        ("cryptography", {"protocol/keys.py"}),
        ("securesystemslib", {"protocol/signing.py"}),
        ("pickle", {"dataset_files.py", "retraining/retrain.py"}),
    ],
)
def test_only_these_modules_import(name, allowed):
    assert importers(name) <= allowed
    assert importers(name), f"{name} is imported nowhere: the rule is out of date"
