from __future__ import annotations

import pytest

from pyattr.attribution import fit_datamodel
from pyattr.attribution.plan import gram_bytes, gram_free_bytes, plan_fit
from pyattr.masks import sample_masks

HUGE = 1 << 60


def test_what_fits_is_chosen():
    size = (3000, 50_000, 8)
    for method in ("bayes", "lasso"):
        gram, free = gram_bytes(method, *size), gram_free_bytes(method, *size)
        assert free < gram / 10
        assert not plan_fit(method, *size, "auto", HUGE)
        assert plan_fit(method, *size, "auto", gram - 1)
        assert plan_fit(method, *size, "auto", free)
        assert plan_fit(method, *size, "gram-free", HUGE)
        assert not plan_fit(method, *size, "gram", gram)


def test_what_does_not_fit_is_refused_with_both_sizes():
    size = (3000, 50_000, 8)
    gram, free = gram_bytes("bayes", *size), gram_free_bytes("bayes", *size)
    both = f"{gram} with solver 'gram' or {free} with solver 'gram-free'"
    with pytest.raises(ValueError, match=f"at most 1000 bytes for solver 'auto', got {both}"):
        plan_fit("bayes", *size, "auto", 1000)
    with pytest.raises(ValueError, match=f"for solver 'gram', got {both}"):
        plan_fit("bayes", *size, "gram", gram - 1)
    with pytest.raises(ValueError, match="take fewer targets"):
        plan_fit("bayes", *size, "gram-free", free - 1)


def test_ridge_is_planned_by_its_smaller_side():
    # 1,500 rows: their matrix. 4,000 by 4,000: products, but for thousands of targets.
    assert not plan_fit("ridge", 1500, 50_000, 8, "auto", 1 << 30)
    assert plan_fit("ridge", 4000, 4000, 8, "auto", HUGE)
    assert not plan_fit("ridge", 4000, 4000, 5000, "auto", HUGE)
    assert not plan_fit("ridge", 8000, 1000, 64, "auto", HUGE)


def test_least_squares_needs_the_gram_matrix():
    assert not plan_fit("ols", 3000, 1000, 8, "auto", HUGE)
    with pytest.raises(ValueError, match="'auto' or 'gram' for method 'ols'"):
        plan_fit("ols", 3000, 1000, 8, "gram-free", HUGE)
    with pytest.raises(ValueError, match=r"got \d+ with solver 'gram' for ols"):
        plan_fit("ols", 3000, 1000, 8, "auto", 1000)


def test_nothing_is_computed_before_the_plan(monkeypatch):
    """The outputs would be refused too: the plan comes first."""
    masks = sample_masks(10, 100)
    outputs = [float("nan")] * 10
    for method in ("bayes", "lasso", "ridge", "ols"):
        with pytest.raises(ValueError, match="memory: expected at most 1000 bytes"):
            fit_datamodel(masks, outputs, method, memory_limit=1000)
    with pytest.raises(ValueError, match="solver: expected 'auto' or 'gram' or 'gram-free'"):
        fit_datamodel(masks, outputs, solver="dense")
