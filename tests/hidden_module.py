"""A program in which a package that is installed is missing."""

from __future__ import annotations

PROGRAM = """
import sys

class Hidden:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name == {module!r} else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Hidden(finder) for finder in sys.meta_path]
from pyattr.cli import main
main({words!r})
"""


def command_without(module: str, words: list[str]) -> str:
    """The program that runs a command of pyattr without a module."""
    return PROGRAM.format(module=module, words=words)
