"""A page as tests read it, and what holds for every page."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import json
import re
from html.parser import HTMLParser
from typing import Any

__all__ = ["ATTACK", "Page", "check_every_page"]

ATTACK = "<script>alert('x')</script>\"><img src=https://evil.example/x onerror=alert(1)>"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_VOID = {"meta", "img", "br", "link", "input", "hr", "col"}
_LOADING = {"src", "srcset", "poster", "data", "action", "background", "xlink:href"}
_ACTIVE = {"script", "link", "iframe", "object", "embed", "video", "audio", "base", "use", "form"}


class Page(HTMLParser):
    """Collects elements, and checks that they are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> str:
        """All words directly in elements of a kind."""
        return " ".join(" ".join(self.texts.get(tag, [])).split())

    @property
    def words(self) -> str:
        """All words but those of the style."""
        return " ".join(
            " ".join(" ".join(words).split()) for tag, words in self.texts.items() if tag != "style"
        )

    def files(self) -> dict[str, bytes]:
        """The files inside the page, by name."""
        found = {}
        for link in self.all("a"):
            if "download" in link:
                media, _, content = link["href"].partition(";base64,")
                assert media in ("data:text/csv;charset=utf-8", "data:application/json")
                found[link["download"]] = base64.b64decode(content, validate=True)
        return found

    def csv(self, name: str) -> list[dict[str, str]]:
        """A CSV file inside the page."""
        return list(csv.DictReader(io.StringIO(self.files()[name].decode())))

    def json(self, name: str) -> Any:
        """A JSON file inside the page."""
        return json.loads(self.files()[name])


def check_every_page(html: str) -> Page:
    """What holds for the page of any folder: it loads nothing, and can be read without seeing it."""
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert len(html.encode()) < 3_000_000
    _check_nothing_is_loaded(page)
    _check_structure(page)
    _check_pictures(page)
    for name, content in page.files().items():
        if name.endswith(".json"):
            json.loads(content)
        else:
            header, *rows = csv.reader(io.StringIO(content.decode()))
            assert {len(row) for row in rows} <= {len(header)}
    return page


def _check_nothing_is_loaded(page: Page) -> None:
    assert not {tag for tag, _ in page.elements} & _ACTIVE
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in _LOADING:
                assert value.startswith("data:image/png;base64,"), (tag, name)
            if name == "href":
                own = value.startswith("#") or "download" in attributes
                assert own or value.startswith("https://arxiv.org/"), value
    style = page.text("style")
    assert "url(" not in style
    assert "@import" not in style
    policy = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
    assert policy == [POLICY]


def _check_structure(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert viewport in page.all("meta")
    assert page.text("title")
    for landmark in ("header", "main", "footer"):
        assert len(page.all(landmark)) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    identities = [a["id"] for _, a in page.elements if "id" in a]
    assert len(identities) == len(set(identities))
    for _, attributes in page.elements:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(identities)
    targets = [a["href"][1:] for a in page.all("a") if a.get("href", "").startswith("#")]
    assert "main" in targets
    assert set(targets) <= set(identities)
    # What scrolls by itself can be reached and scrolled by keys, and has a name.
    for box in page.all("div"):
        if box.get("class") == "scroll":
            assert (box["tabindex"], box["role"]) == ("0", "region")
            assert box["aria-label"]


def _check_pictures(page: Page) -> None:
    assert all(image["alt"] for image in page.all("img"))
    described = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert all("aria-hidden" in svg for svg in page.all("svg") if svg not in described)
    n_described = len(described)
    assert len(page.all("desc")) == n_described
    assert len(page.all("title")) == n_described + 1
    assert all(len(svg["aria-labelledby"].split()) == 2 for svg in described)
    assert not re.search(r"\b(nan|inf)\b", "".join(a.get("d", "") for a in page.all("path")))
