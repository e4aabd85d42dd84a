"""Pages in a browser: on a phone and a desk, light and dark, with contrasts computed from what is shown."""

from __future__ import annotations

import pytest

from pyattr import reports
from reports import browser
from reports.test_pages import FOLDERS

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="needs Chromium")

PHONE, TABLET, DESK = 360, 768, 1280
SCREENS = [(width, dark) for width in (PHONE, DESK) for dark in (False, True)]
SCREENS += [(320, False), (TABLET, True)]


@pytest.mark.parametrize("make", FOLDERS.values(), ids=FOLDERS.keys())
def test_pages_fit_the_screen_and_can_be_read(make, tmp_path):
    # Everything that can be opened is open: it must fit too.
    html = reports.render(make()).replace("<details>", "<details open>")
    for (width, dark), found in zip(
        SCREENS, browser.measure(tmp_path, html, *SCREENS), strict=True
    ):
        assert found["width"] == width
        assert found["scroll_width"] <= width
        assert found["wide"] == []
        assert found["texts"] > 50
        assert found["faint"] == []
        assert found["cut"] == [] or width < DESK
        assert found["dark"] == dark
        level = sum(map(int, found["background"].strip("rgb()").split(",")))
        assert (level < 128) == dark


@pytest.mark.parametrize("make", FOLDERS.values(), ids=FOLDERS.keys())
def test_the_console_stays_silent(make, tmp_path):
    assert browser.console(tmp_path, reports.render(make())) == []


def test_the_measurements_can_fail(tmp_path):
    html = reports.render(FOLDERS["session begun"]())
    wide = '<p style="width: 500px">wide</p><p style="color: #999">faint</p></main>'
    cut = '<div class="scroll" aria-label="broad"><p style="width: 500px"></p></div>'
    (found,) = browser.measure(tmp_path, html.replace("</main>", cut + wide), (PHONE, False))
    assert "broad" in found["cut"]
    assert found["scroll_width"] > PHONE
    assert any("wide" in element for element in found["wide"])
    assert [element.split()[0] for element in found["faint"]] == ["2.69"]
    # The policy forbids scripts and requests: the browser says so.
    asking = '<script>1</script><img src="https://example.org/x.png" alt=""></main>'
    said = browser.console(tmp_path, html.replace("</main>", asking))
    assert len(said) == 2
    assert all("Content Security Policy" in line for line in said)


def test_screenshots_show_the_whole_page(tmp_path):
    from PIL import Image

    out = tmp_path / "page.png"
    html = reports.render(FOLDERS["session begun"]())
    browser.screenshot(tmp_path, html, out, PHONE, dark=True)
    with Image.open(out) as image:
        assert image.height > 1500
        shown = image.convert("RGB").crop((0, 0, PHONE, image.height))
        corner = shown.getpixel((2, 2))
        assert isinstance(corner, tuple)
        assert max(corner) < 60
        lines = [shown.crop((0, y, PHONE, y + 300)) for y in range(0, image.height - 300, 300)]
        assert all(len(line.getcolors(1 << 24) or []) > 10 for line in lines)  # words everywhere
