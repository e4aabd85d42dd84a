"""The package as others see it: names, documentation, notebooks, tables, the log."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import pyattr
from pyattr import Outcome, Verdict, plots
from pyattr.verification.verdict import Outcome as DefinedOutcome

WEIGHTS = np.linspace(-1, 1, 40, dtype=np.float32)[:, None] * np.ones(3, np.float32)


def retrain(masks, seeds):
    return masks.unpack() @ WEIGHTS


HONEST = pyattr.Attribution(scores=WEIGHTS, intercept=np.zeros(3))


@pytest.fixture(scope="module")
def verdict():
    return pyattr.verify(retrain, HONEST, seed=1)


# --- names -----------------------------------------------------------------------------------------


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_importing_loads_nothing_and_using_a_name_what_it_needs():
    loaded = "print(*[m for m in ('numpy', 'scipy', 'torch', 'click', 'rich') if m in sys.modules])"
    code = f"import sys, pyattr\n{loaded}\npyattr.Masks\n{loaded}\npyattr.verify\n{loaded}"
    assert run(code).stdout.splitlines() == ["", "numpy", "numpy scipy"]


def test_names_submodules_and_what_is_neither():
    names = [name for name in pyattr.__all__ if name != "__version__"]
    assert names == sorted(names)
    assert set(names) == set(pyattr._HOMES)
    assert set(pyattr.__all__) <= set(dir(pyattr))
    for name in names:
        assert getattr(sys.modules[pyattr._HOMES[name]], name) is getattr(pyattr, name)
    for name in pyattr._SUBMODULES - {"demo"}:  # which needs torch
        assert inspect.ismodule(getattr(pyattr, name))
        assert run(f"import pyattr; pyattr.{name}").stderr == ""
    with pytest.raises(AttributeError, match="has no attribute 'verifiy'"):
        pyattr.verifiy  # noqa: B018 - asked for, so that it fails
    assert DefinedOutcome is Outcome


def test_a_type_checker_sees_the_names_that_programs_get():
    source = Path(pyattr.__file__).read_text()
    (imports,) = re.findall(r"^if TYPE_CHECKING:\n((?:    .*\n)+)", source, re.M)
    seen = set()
    for names in re.findall(r"import (\([^)]*\)|.*)", imports):
        seen |= set(re.findall(r"\w+", names))
    assert seen == set(pyattr._HOMES)


def test_version_is_the_one_that_is_built():
    project = tomllib.loads((Path(pyattr.__file__).parents[1] / "pyproject.toml").read_text())
    assert project["project"]["version"] == pyattr.__version__


def documented():
    for name in sorted(set(pyattr.__all__) - {"__version__"}):
        yield name, getattr(pyattr, name)
    for name in plots.__all__:
        yield f"plots.{name}", getattr(plots, name)


@pytest.mark.parametrize(
    ("name", "value"), list(documented()), ids=[name for name, _ in documented()]
)
def test_public_names_say_what_they_take_and_return(name, value):
    check_sections(name, value)
    if inspect.isclass(value):
        for member, method in inspect.getmembers(value, inspect.isfunction):
            if not member.startswith("_") and method.__module__.startswith("pyattr"):
                assert inspect.getdoc(method), f"{name}.{member}"


def check_sections(name, value):
    text = inspect.getdoc(value)
    assert text, name
    signature = None
    if inspect.isfunction(value) or (
        inspect.isclass(value) and not issubclass(value, Exception | str)
    ):
        signature = inspect.signature(value)
    if signature is None:
        return
    taken = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    if taken:
        (section,) = re.findall(r"^Parameters\n-+\n((?:.*\n?)+?)(?=\n\S+.*\n-{3,}|\Z)", text, re.M)
        named = set()
        for line in re.findall(r"^(\S.*?)(?: :|$)", section, re.M):
            named |= {word.strip("* ") for word in line.split(",")}
        assert {p.name for p in taken} <= named, f"{name}: {sorted(p.name for p in taken)} {named}"
    if inspect.isfunction(value):
        assert re.search(r"^Returns\n-+\n", text, re.M), name


def test_a_missing_section_is_noticed():
    def undocumented(value):
        """Do something.

        Returns
        -------
        int
        """

    with pytest.raises(ValueError, match="unpack"):
        check_sections("undocumented", undocumented)


# --- notebooks -------------------------------------------------------------------------------------


class Cells(HTMLParser):
    """Text of a fragment, and whether every tag is closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.tags = [], [], set()
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_verdict_in_a_notebook(verdict):
    html = verdict._repr_html_()
    shown = Cells(html).text
    assert shown[:2] == ["Verdict", " "]
    for words in (
        "ACCEPT",
        verdict.reason,
        "3 ACCEPT",
        f"{verdict.n_retrained:,}",
        "gap, bound chi2",
    ):
        assert words in shown
    assert len(html) < 4000
    failed = Verdict.failed("gap", 0.05, 0.05, "<script>alert(1)</script>", n_targets=3)
    assert Cells(failed._repr_html_()).tags == {"div", "span", "strong", "table", "tr", "th", "td"}
    assert "inf" not in failed._repr_html_()
    assert "nan" not in failed._repr_html_()


def test_an_attribution_and_a_plan_in_a_notebook():
    error = np.full_like(WEIGHTS, 0.5)
    scores = pyattr.Attribution(
        WEIGHTS,
        standard_error=error,
        method="<b>",
        details={"x": [np.nan] * 3, "converged": [1.0, 0.0, 1.0]},
    )
    shown = Cells(scores._repr_html_())
    assert "40 examples, 3 targets" in shown.text
    assert "-1 to 1 output units" in shown.text
    assert "2 of 3 targets" in shown.text
    assert "median 0.5" in shown.text
    assert "not known" in shown.text
    assert "b" not in shown.tags
    planned = pyattr.plan(1000, 32, prover_price=0.1)
    assert f"{planned.reason}." in Cells(planned._repr_html_()).text
    assert repr(planned) == (
        "Plan(recommended='gap interactive', n_train=1000, n_targets=32, 4 methods)"
    )


def test_colours_leave_the_choice_of_dark_to_the_notebook(verdict):
    """Text has the notebook's colour, but in the badge, which has a ground of its own to stand on."""
    for html in (verdict._repr_html_(), HONEST._repr_html_()):
        colours = re.findall(r"(?<![-\w])color:([^;\"]+)", html)
        grounds = re.findall(r"background:(#\w+);color:#fff", html)
        assert set(colours) <= {"inherit", "#fff"}
        assert len(grounds) == colours.count("#fff")


# --- tables ----------------------------------------------------------------------------------------


def test_a_verdict_as_a_table(verdict):
    pandas = pytest.importorskip("pandas")
    frame = verdict.to_dataframe(["a", "b", "c"])
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.index) == ["a", "b", "c"]
    assert frame.index.name == "target"
    np.testing.assert_array_equal(frame[["gap", "gap_lower", "gap_upper"]].to_numpy().T, [
        verdict.gap, verdict.gap_lower, verdict.gap_upper,
    ])  # fmt: skip
    assert list(frame["outcome"]) == ["ACCEPT"] * 3
    frame.loc["a", "gap"] = 9.0  # a copy
    assert verdict.gap[0] != 9.0
    with pytest.raises(ValueError, match="target: expected 3 labels"):
        verdict.to_dataframe(["a"])


def test_a_verdict_as_a_dataset(verdict, tmp_path):
    xarray = pytest.importorskip("xarray")
    data = verdict.to_xarray()
    assert isinstance(data, xarray.Dataset)
    assert dict(data.sizes) == {"target": 3}
    np.testing.assert_array_equal(data["gap_upper"], verdict.gap_upper)
    assert list(data["outcome"].values) == ["ACCEPT"] * 3
    assert data.attrs["outcome"] == "ACCEPT"
    assert data.attrs["n_retrained"] == verdict.n_retrained
    assert all(isinstance(value, str | int | float) for value in data.attrs.values())


# --- installing ------------------------------------------------------------------------------------


def test_nobody_is_told_to_install_by_name_what_another_project_has_on_pypi():
    root = Path(pyattr.__file__).parents[1]
    pages = [root / "README.md", *(root / "docs").rglob("*"), *(root / "pyattr").rglob("*.py")]
    named = re.compile(r"pip install (?:-\S+ )*['\"]?pyattr")
    assert named.search("pip install -U 'pyattr[plots]'")
    assert not [str(page) for page in pages if page.is_file() and named.search(page.read_text())]


# --- the log ---------------------------------------------------------------------------------------


def test_nothing_is_printed_and_nothing_shown_that_was_not_asked_for():
    code = (
        "import numpy as np, pyattr, logging\n"
        "w = np.linspace(-1, 1, 40, dtype='f4')[:, None]\n"
        "retrain = lambda masks, seeds: masks.unpack() @ w\n"
        "pyattr.verify(retrain, pyattr.Attribution(scores=w), seed=1)\n"
        "logging.getLogger('pyattr.x').warning('not shown')\n"
    )
    done = run(code)
    assert (done.stdout, done.stderr) == ("", "")


def test_library_modules_print_nothing():
    package = Path(pyattr.__file__).parent
    for path in package.rglob("*.py"):
        if path.parent.name != "commands":
            source = "\n".join(
                line for line in path.read_text().splitlines() if not line.strip().startswith(">>>")
            )
            assert not re.search(r"(?<![\w.\"'])print\(", source), path


def test_progress_and_outcome_are_logged(caplog, monkeypatch):
    module = sys.modules["pyattr.verification.verify"]  # the name is the function's in the package
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", 0.0)
    told = []
    with caplog.at_level(logging.INFO, logger="pyattr"):
        verdict = pyattr.verify(
            retrain, HONEST, seed=1, progress=lambda *counts: told.append(counts)
        )
    said = [(record.name, record.getMessage()) for record in caplog.records]
    assert {name for name, _ in said} == {"pyattr.verification.verify"}
    assert len(said) == len(told) + 1
    assert said[-1][1] == repr(verdict)
    assert f"{told[-1][0]} of at most" in said[-2][1]
    assert str(verdict.details["seed"]) not in [message for _, message in said]


def test_a_clip_that_was_chosen_for_the_caller_and_cuts_is_a_warning(caplog):
    """Of 1000 outputs some are beyond 1.25 times the largest of 32 pilot ones: heavy tails see to it."""

    def heavy(masks, seeds):
        return np.random.default_rng(seeds).standard_cauchy((len(masks), 1)).astype(np.float32)

    scores = pyattr.Attribution(scores=np.zeros((40, 1)))
    with caplog.at_level(logging.WARNING, logger="pyattr"):
        pyattr.verify(heavy, scores, method="paper", seed=1, budget=1000)
    (record,) = caplog.records
    assert "chosen from the pilot" in record.getMessage()
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="pyattr"):
        pyattr.verify(heavy, scores, method="paper", seed=1, budget=1000, clip=2.0)
    assert not caplog.records


def test_a_fit_says_how_it_was_made(caplog):
    masks = pyattr.sample_masks(100, 40, seed=1)
    with caplog.at_level(logging.INFO, logger="pyattr"):
        pyattr.fit_datamodel(masks, retrain(masks, None), method="ols")
    (record,) = caplog.records
    assert record.getMessage() == "ols: 100 rows, 40 examples, 3 targets, on the Gram matrix"


# --- the page --------------------------------------------------------------------------------------


def test_the_programs_of_the_page_print_what_it_says(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setattr(logging, "basicConfig", lambda **words: None)
    page = (Path(pyattr.__file__).parents[1] / "docs" / "commands.md").read_text()
    code = "".join(re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S))
    (expected,) = re.findall(r"^```text\n(.*?)^```$", page, re.M | re.S)
    printed = io.StringIO()
    with matplotlib.rc_context({"backend": "Agg"}), contextlib.redirect_stdout(printed):
        exec(compile(code, "commands.md", "exec"), {"__name__": "docs"})
    assert printed.getvalue() == expected
    matplotlib.pyplot.close("all")
