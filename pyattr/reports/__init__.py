"""Reports: one HTML page for a folder of results, which opens anywhere and asks no server.

`render` makes the page of any folder that pyattr wrote, `write` puts it into a file. A page holds its
style, pictures and numbers; it has no scripts, and its policy forbids it to load anything.
"""

from __future__ import annotations

from pyattr.reports.folders import Kind, kind_of, render, write

__all__ = ["Kind", "kind_of", "render", "write"]
