"""The demo's report: one HTML file that opens without network, from the content of ``results.json``."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from pyattr.report_charts import CHECKS, SIGNS, cost_chart, gap_chart, pay_chart, scatter_chart

__all__ = ["encode_png", "in_words", "render"]

_WORDS: Final = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
)  # fmt: skip

Record = Mapping[str, Any]

_WIDE, _NARROW = 1040, 328  # widths of the charts, in pixels
_PAY_END = 2.6  # bars of pay are cut at this multiple of the highest honest pay


def encode_png(image: npt.NDArray[np.float32], shape: Sequence[int]) -> str:
    """Encode an image for a data URL.

    Parameters
    ----------
    image : (n_features,) float32
        From 0 to 1.
    shape : (height, width) or (3, height, width)

    Returns
    -------
    str
        Base64 of a PNG file.
    """
    from PIL import Image  # an extra: only the demo needs it

    pixels = np.round(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8).reshape(tuple(shape))
    if pixels.ndim == 3:
        pixels = np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def render(results: Record) -> str:
    """Make the report.

    Parameters
    ----------
    results : mapping
        From `pyattr.demo.run`, or read back from ``results.json``.

    Returns
    -------
    str
        A whole HTML document that refers to nothing outside itself.
    """
    import jinja2  # an extra: only the demo needs it

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "large": _large,
        "gap": _gap,
        "plain": "{:g}".format,
        "seconds": _seconds,
        "signed": _signed,
        "words": in_words,
    }
    source = resources.files("pyattr").joinpath("report.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        r=results,
        by_key={case["key"]: case for case in results["cases"]},
        signs=SIGNS,
        checks=CHECKS,
        charts=_charts(results),
    )


def in_words(count: int) -> str:
    """A small number as a word."""
    return _WORDS[count] if count < len(_WORDS) else str(count)


def _large(count: float) -> str:
    """A count for people: 134, 20,000, 2.2 × 10²⁰."""
    if count < 1e7:
        return f"{count:,.0f}"
    mantissa, exponent = f"{count:.1e}".split("e")
    return (
        f"{mantissa} × 10{str(int(exponent)).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    )


def _gap(value: float | None) -> str:
    """A gap with as many digits as mean something."""
    if value is None:
        return "—"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"


def _charts(results: Record) -> dict[str, Any]:
    """All pictures, by name."""
    cases, epsilon = results["cases"], results["config"]["epsilon"]
    costs, payments = _costs(results), results["payments"]
    sellers = [seller["name"] for seller in payments["sellers"]]
    honest = payments["rows"][0]["at_price"]
    end = _PAY_END * max(honest)
    return {
        "gap": _both(
            gap_chart(cases, epsilon, _WIDE, "gap-wide"),
            gap_chart(cases, epsilon, _NARROW, "gap-narrow"),
        ),
        "cost": _both(
            cost_chart(costs, _WIDE, "cost-wide"), cost_chart(costs, _NARROW, "cost-narrow")
        ),
        "scatter": [
            scatter_chart(panel, f"scatter-{index}")
            for index, panel in enumerate(results["quality"]["scatter"])
        ],
        "pay": {
            row["key"]: pay_chart(row, sellers, honest, end, f"pay-{row['key']}")
            for row in payments["rows"]
        },
    }


def _both(wide: Markup, narrow: Markup) -> Markup:
    """One picture for wide screens and one for phones; the style sheet shows one."""
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(wide, narrow)


def _costs(results: Record) -> list[tuple[str, str, int, str]]:
    """Rows of the cost chart."""
    cases = {case["key"]: case for case in results["cases"]}
    honest, session = cases["honest"], cases["session_honest"]
    prover, seconds = results["prover"], honest["seconds"]
    spent = prover["train_seconds"] + prover["fit_seconds"]
    asked = session["gap"]["n_prover_retrained"]
    return [
        ("prover: makes the scores", "prover", prover["n_models"], f" · {_seconds(spent)}"),
        *(
            (
                f"verifier: {method} check",
                "verifier",
                honest[method]["n_retrained"],
                f" · {_seconds(seconds[method])}",
            )
            for method in ("gap", "naive")
        ),
        ("session: prover answers", "prover", asked, ""),
        ("session: verifier checks", "verifier", session["gap"]["n_retrained"], ""),
    ]
