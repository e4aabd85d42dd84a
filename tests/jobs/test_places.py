"""Lines of keys in TOML files, however these are written."""

from __future__ import annotations

import tomllib

import pytest

from pyattr.jobs.places import line_of, placed

TEXT = """\
# count = 3, in a comment
"bank" = "here"
out = 'count'
recipe.kind = "mlp"   # a dotted key
recipe."hidden" = 3

data = { name = "digits", n_train = 5 }
[fit]
lambdas = [
  1.0,  # count = 4
  2.0,
]
text = \'\'\'
count = 5
[models]
\'\'\'
  [ models ]  # the table
  seed = 1
  count = 7
[[many]]
count = 1
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("bank", 2),
        ("out", 3),
        ("recipe.kind", 4),
        ("recipe.hidden", 5),
        ("recipe", 4),
        ("data", 7),
        ("data.name", 7),
        ("data.n_train", 7),
        ("fit", 8),
        ("fit.lambdas", 9),
        ("fit.text", 13),
        ("models", 17),
        ("models.seed", 18),
        ("models.count", 19),
        ("many", 20),
        # What is not there: the table that it would stand in.
        ("models.p", 17),
        ("recipe.n_steps", 4),
        ("many.count", 20),
        ("folder", None),
        ("none.such", None),
    ],
)
def test_line_of(key, line):
    tomllib.loads(TEXT)
    assert line_of(TEXT, key) == line


def test_messages_are_placed_by_their_key():
    def said(message, *arguments):
        with pytest.raises(ValueError, match=r"expected|colon") as caught, placed(*arguments):
            raise ValueError(message)
        return str(caught.value)

    assert said("models.seed: expected x, got y", "job.toml", TEXT) == (
        "job.toml, line 18: models.seed: expected x, got y"
    )
    assert said("none: expected x", "job.toml", TEXT) == "job.toml: none: expected x"
    assert said("device: expected x", "job.toml", TEXT).startswith(
        "job.toml, line 4: recipe.device: "
    )
    assert said("models.seed: expected x", "", "") == "models.seed: expected x"
    # What does not begin with a key stays as it is.
    for message in ("lambdas: expected x", "no colon", "job.toml, line 3: models.p: expected x"):
        assert said(message, "job.toml", TEXT, ("models", "data")) == message
