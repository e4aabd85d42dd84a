"""A page in headless Chromium: what it measures there, what the console says, and how it looks.

The page stands in a frame as wide as a screen would be, since a window is never narrower than about
500 pixels. A frame from ``srcdoc`` has the origin of the page around it, whose script may so look
inside although the page itself allows none.
"""

from __future__ import annotations

import html as markup
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["CHROMIUM", "console", "measure", "screenshot"]

Screen = tuple[int, bool]
CHROMIUM: Final = shutil.which("chromium") or shutil.which("google-chrome")

_SCRIPT: Final = """
function channel(c) { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; }
function rgba(text) { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; }
function over(top, under) { return [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * under[i]).concat(1); }
function luminance(c) { return 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]); }
function contrast(a, b) {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}
function measured(frame) {
  const page = frame.contentDocument, view = frame.contentWindow, wide = [], faint = [], cut = [];
  const root = page.documentElement;
  let texts = 0;
  for (const e of page.body.querySelectorAll("*")) {
    const box = e.getBoundingClientRect();
    if (!box.width || !box.height || !e.checkVisibility()) continue;
    const beyond = box.right > root.clientWidth + 0.5 && !e.closest(".scroll, .skip");
    const spills = e.clientWidth && e.scrollWidth > e.clientWidth + 1 && !e.closest(".scroll, svg, thead");
    if (e.matches(".scroll:not(details *)") && e.scrollWidth > e.clientWidth) cut.push(e.ariaLabel);
    if (beyond || spills) wide.push(e.outerHTML.slice(0, 90));
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const style = view.getComputedStyle(e), svg = e instanceof view.SVGElement;
    let behind = [255, 255, 255, 1];
    const layers = [];
    for (let p = e; p; p = p.parentElement) layers.unshift(rgba(view.getComputedStyle(p).backgroundColor));
    for (const layer of layers) if (layer[3]) behind = over(layer, behind);
    const ink = over(rgba(svg ? style.fill : style.color), behind);
    texts += 1;
    const found = contrast(ink, behind);
    if (found < 4.5) faint.push(found.toFixed(2) + " " + e.outerHTML.slice(0, 90));
  }
  return {
    width: root.clientWidth, scroll_width: root.scrollWidth, height: root.scrollHeight,
    wide, faint, cut, texts,
    dark: view.matchMedia("(prefers-color-scheme: dark)").matches,
    background: view.getComputedStyle(page.body).backgroundColor,
  };
}
onload = () => { document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(measured)); };
"""


def _run(folder: Path, address: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    return subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder / 'profile'}",
            *options,
            address.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )


def _framed(folder: Path, html: str, screens: Sequence[Screen], height: int) -> Path:
    """The page in frames; whether it is dark there follows from the frame's colour scheme."""
    frames = [
        f'<iframe style="width: {width}px; height: {height}px; '
        f'color-scheme: {"dark" if dark else "light"}" srcdoc="{markup.escape(html)}"></iframe>'
        for width, dark in screens
    ]
    file = folder / "framed.html"
    file.write_text(
        '<!doctype html><meta charset="utf-8"><style>body { margin: 0 } '
        f"iframe {{ border: 0; display: block }}</style><script>{_SCRIPT}</script>{''.join(frames)}",
        encoding="utf-8",
    )
    return file


def measure(folder: Path, html: str, *screens: Screen) -> list[dict[str, Any]]:
    """What the page measures on each screen.

    Parameters
    ----------
    folder : Path
        For the browser's own files.
    html : str
    *screens : (int, bool)
        Width in pixels, and whether it is dark.

    Returns
    -------
    list of dict
        ``width``, ``scroll_width`` and ``height`` in pixels; ``wide``: elements beyond the right edge, or
        with something in them that is wider than they are; ``cut``: names of tables that one has to scroll
        sideways, but for those that have to be opened;
        ``faint``: words whose contrast with what is behind them is below 4.5; ``texts``: how many were
        looked at; ``dark``: whether the page takes itself to be shown dark; ``background``.
    """
    done = _run(folder, _framed(folder, html, screens, 800), "--dump-dom")
    found = re.search(r"<title>(.*?)</title>", done.stdout, flags=re.DOTALL)
    assert found is not None, done.stderr
    measured: list[dict[str, Any]] = json.loads(markup.unescape(found[1]))
    return measured


def screenshot(folder: Path, html: str, out: Path, width: int, dark: bool = False) -> None:
    """Write a picture of the whole page."""
    (found,) = measure(folder, html, (width, dark))
    framed = _framed(folder, html, [(width, dark)], found["height"])
    size = f"--window-size={max(width, 500)},{found['height']}"
    _run(folder, framed, size, f"--screenshot={out}")


def console(folder: Path, html: str) -> list[str]:
    """What the browser's console says about the page as it is."""
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    done = _run(folder, file, "--enable-logging=stderr", "--dump-dom")
    return [said for said in done.stderr.splitlines() if "CONSOLE" in said]
