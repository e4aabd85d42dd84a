"""Payments: closed forms, incentives, and limits that hold as often as stated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from accepting import verdict_of
from cube import smooth_function, with_gap
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

import pyattr
from pyattr import Attribution, ClusterDesign
from pyattr.uses import Certificate, price
from pyattr.uses.pricing import RULES, payments_of, share_limits

BUDGET = 100.0
values_of = hnp.arrays(
    np.float64, st.integers(2, 12), elements=st.floats(-3.0, 3.0).map(lambda x: round(x, 3))
)


def paid(values, rule="proportional", owners=None, unit_price=None):
    if rule == "price" and unit_price is None:
        unit_price = 7.0
    scores = Attribution(np.asarray(values, np.float32))
    return price(
        scores, BUDGET, rule=rule, owners=owners, unit_price=unit_price, allow_unverified=True
    )


def payable(values, rule):
    """Whether float32 values can be paid by a rule without cancellation."""
    total = np.float32(values).astype(float).sum()
    return rule != "signed" or total > 1e-2 * np.abs(values).sum() + 1e-6


def test_each_rule_is_its_formula():
    values = [3.0, -1.0, 1.0, 0.0]
    assert paid(values).examples == pytest.approx([75.0, 0.0, 25.0, 0.0])
    assert paid(values, "signed").examples == pytest.approx([100.0, -100 / 3, 100 / 3, 0.0])
    assert paid(values, "price", unit_price=5.0).examples == pytest.approx([15.0, 0.0, 5.0, 0.0])
    assert paid(values, "price", unit_price=50.0).examples == pytest.approx([75.0, 0.0, 25.0, 0.0])
    sums = paid(values, owners=["b", "b", "a", "a"])
    assert sums.sellers.names == ("b", "a")
    assert sums.paid == pytest.approx([75.0, 25.0])


def test_values_are_weighted_sums_over_targets():
    scores = Attribution(np.array([[1.0, 4.0], [3.0, 0.0]]))
    unweighted = price(scores, BUDGET, allow_unverified=True)
    assert unweighted.examples == pytest.approx([62.5, 37.5])
    weighted = price(scores, BUDGET, weights=[1.0, 0.0], allow_unverified=True)
    assert weighted.examples == pytest.approx([25.0, 75.0])
    losses = price(Attribution(-scores.scores), BUDGET, weights=[-1.0, -1.0], allow_unverified=True)
    assert losses.examples == pytest.approx(unweighted.examples)


@pytest.mark.parametrize("rule", RULES)
@given(values=values_of, data=st.data())
def test_budget_order_and_sellers(rule, values, data):
    if not payable(values, rule):
        return
    made = paid(values, rule)
    if rule == "price" or not (np.float32(values) > 0).any():
        assert made.spent <= BUDGET * (1 + 1e-12)
    else:
        assert made.spent == pytest.approx(BUDGET)
    order = data.draw(st.permutations(range(len(values))))
    assert paid(values[list(order)], rule).examples == pytest.approx(made.examples[list(order)])
    owners = np.array(
        data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values)))
    )
    together = paid(values, rule, owners=owners)
    # A seller under two names, or two under one: the sums stay what they were.
    split = owners.copy()
    split[::2] += 10
    apart = paid(values, rule, owners=split)
    whose = dict(zip(apart.sellers.names, apart.paid, strict=True))
    for name, amount in zip(together.sellers.names, together.paid, strict=True):
        halves = whose.get(name, 0.0) + whose.get(str(int(name) + 10), 0.0)
        assert amount == pytest.approx(halves, abs=1e-9)


def test_a_rule_that_clips_the_sums_of_sellers_would_be_gamed():
    """What the rules here do not do: by moving a harmful example to another name a seller gains."""

    def clipped_sums(values, owners):
        earned = np.maximum(np.bincount(owners, values), 0.0)
        return BUDGET * earned / earned.sum()

    values = np.array([3.0, -2.0, 1.0])
    together = clipped_sums(values, [0, 0, 1])[0]
    apart = clipped_sums(values, [0, 2, 1])[[0, 2]].sum()
    assert together == 50.0
    assert apart == 75.0
    for rule in RULES:
        once = paid(values, rule, owners=[0, 0, 1]).paid[0]
        twice = paid(values, rule, owners=[0, 2, 1])
        assert once == pytest.approx(twice.paid[[0, 1]].sum())


@given(values=values_of)
def test_a_more_valuable_example_is_never_paid_less(values):
    for rule in ("proportional", "price"):
        before = paid(values, rule).examples[0]
        more = values.copy()
        more[0] += 0.5
        assert paid(more, rule).examples[0] >= before - 1e-9


def test_only_the_price_of_a_point_notices_halved_scores():
    values = np.array([2.0, 1.0, -0.5])
    for rule in ("proportional", "signed"):
        assert paid(values / 2, rule).examples == pytest.approx(paid(values, rule).examples)
    full = paid(values, "price", unit_price=10.0).examples
    assert paid(values / 2, "price", unit_price=10.0).examples == pytest.approx(full / 2)


def priced(values, radius, rule="signed", owners=None, unit_price=None):
    scores = Attribution(np.asarray(values, np.float32)[:, None])
    verdict = verdict_of(scores, radius)
    return price(scores, BUDGET, rule=rule, owners=owners, unit_price=unit_price, verdict=verdict)


def test_limits_of_signed_payments_are_attained_and_not_passed():
    values, owners = np.linspace(-0.2, 1.0, 12), np.arange(12) % 3
    made = priced(values, 0.4, owners=owners)
    assert not made.vacuous
    own, n = made.sellers.total(values), made.sellers.sizes
    angles = np.linspace(0.0, 2 * np.pi, 200_001)
    for seller in range(3):
        x = own[seller] + 0.4 * math.sqrt(n[seller]) * np.cos(angles)
        y = own.sum() - own[seller] + 0.4 * math.sqrt(12 - n[seller]) * np.sin(angles)
        share = BUDGET * x / (x + y)
        assert made.lower[seller] == pytest.approx(share.min(), abs=1e-5)
        assert made.upper[seller] == pytest.approx(share.max(), abs=1e-5)


def test_limits_of_positive_values_are_those_of_signed_ones():
    values, owners = np.linspace(2.0, 3.0, 12), np.arange(12) % 3
    signed, positive = (priced(values, 0.4, rule, owners) for rule in ("signed", "proportional"))
    assert positive.lower == pytest.approx(signed.lower)
    assert positive.upper == pytest.approx(signed.upper)


def test_limits_by_hand():
    """Two sellers of one example each, values 1 and 1, R = 1/2: θ² - θ + (1 - R²)/(4 - 2R²) = 0."""
    low, high = share_limits(np.ones(2), np.ones(2, np.int64), 0.5, bounded=False)
    reach = math.sqrt(0.25 - 0.75 / 3.5)
    assert low == pytest.approx([0.5 - reach] * 2)
    assert high == pytest.approx([0.5 + reach] * 2)
    same = share_limits(np.array([3.0, 1.0]), np.ones(2, np.int64), 0.0, bounded=True)
    assert same[0] == pytest.approx([0.75, 0.25])
    assert same[1] == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=60)
@given(values=values_of, radius=st.floats(0.0, 2.0), data=st.data())
def test_no_values_within_the_radius_are_paid_beyond_the_limits(rule, values, radius, data):
    n = len(values)
    values = np.float32(values).astype(float)
    if not payable(values, rule):
        return
    owners = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    unit_price = 20.0 if rule == "price" else None
    made = priced(values, radius, rule, owners, unit_price)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    for member in range(len(made.sellers)):
        is_own = made.sellers.of == member
        # Directions that raise or lower the share, and any.
        towards = np.where(is_own, 1.0, -rng.random())
        for direction in (towards, -towards, rng.standard_normal(n)):
            change = direction * radius * rng.choice([1.0, 0.5]) / np.linalg.norm(direction)
            if rule == "signed" and (values + change).sum() <= 0.0:
                assert made.vacuous
                continue
            best = payments_of(rule, values + change, BUDGET, unit_price)[is_own].sum()
            slack = 1e-6 * (1 + abs(best))
            assert made.lower[member] - slack <= best <= made.upper[member] + slack
    assert (made.lower <= made.paid + 1e-9).all()
    assert (made.paid <= made.upper + 1e-9).all()


def test_vacuous_limits_are_said_to_be():
    values = np.array([1.0, 1.0, -1.0, 0.5])
    made = priced(values, 0.8)
    assert made.vacuous  # 1.5 ≤ 0.8 · √4
    assert np.isneginf(made.lower).all()
    assert np.isposinf(made.upper).all()
    half = priced(values, 1.3, "proportional")
    assert half.vacuous  # 2.5 ≤ 1.3 · √4
    assert half.lower == pytest.approx(0.0)
    assert (half.upper <= BUDGET).all()
    assert not priced(values, 0.1).vacuous
    # By examples, however few sellers have them: 1.5 lies between 0.8 · √2 and 0.8 · √4.
    few = priced(values, 0.8, owners=["a", "a", "b", "b"])
    assert few.vacuous
    assert np.isneginf(few.lower).all()
    capped = priced(values, 0.5, "price", unit_price=10.0)
    assert capped.upper[0] == pytest.approx(10.0 * 1.5)
    assert capped.lower[0] == pytest.approx(10.0 * 0.5)
    nothing = paid(-np.ones(3))
    assert nothing.spent == 0.0
    assert (nothing.upper == BUDGET).all()


FAVOURED, TRUE_GAP, N_SESSIONS = 15, 0.03, 250


def favouring(function):
    """Favour a group by as much as a gap allows: the error of its sum is the largest possible."""
    change = np.zeros_like(function.best.scores)
    change[:FAVOURED] = np.sqrt(4 * TRUE_GAP * function.variance / FAVOURED)
    return function.best.scores + change


def scaled(function):
    """Residuals proportional to the outputs: estimates of gap and of Var f err together."""
    return function.best.scores * (1.0 - math.sqrt(TRUE_GAP))


@pytest.mark.parametrize("lie", [favouring, scaled])
def test_the_error_is_covered_as_often_as_stated(lie):
    """Binomial, false alarm 1e-3. The error is the largest that the true gap allows: what is no limit, the
    estimate or half of ε, is below it too often."""
    function = smooth_function(60)
    best, scores = function.best, lie(function)
    published = Attribution(scores, best.intercept - (scores - best.scores).sum(axis=0) / 2)
    radius = np.linalg.norm(scores - best.scores)
    n_accepted, short = 0, dict.fromkeys(("certified", "limit", "estimate", "half of ε"), 0)
    for seed in range(N_SESSIONS):
        verdict = pyattr.verify(function, published, seed=seed, design=ClusterDesign(100))
        if verdict:
            n_accepted += 1
            certificate = Certificate.of(verdict)
            assert certificate.confidence == pytest.approx(0.9)
            certified = certificate.errors()[0]
            short["certified"] += certified < radius
            short["half of ε"] += certified / math.sqrt(2) < radius
            short["limit"] += verdict.pay_error(1)[0] < radius
            estimate = math.sqrt(4 * verdict.gap[0] * verdict.details["variance"][0])
            short["estimate"] += estimate < radius
    assert n_accepted > 200
    allowed = stats.binom.isf(1e-3, N_SESSIONS, 0.1)
    assert max(short["certified"], short["limit"]) <= allowed
    assert min(short["estimate"], short["half of ε"]) > allowed


def test_the_error_of_a_group_is_the_radius_times_the_root_of_its_size():
    function = smooth_function(60)
    scores = Attribution(favouring(function), function.best.intercept)
    made = priced(scores.scores[:, 0], 0.3, owners=["favoured"] * FAVOURED + ["other"] * 45)
    assert made.value_error == pytest.approx([0.3 * math.sqrt(15), 0.3 * math.sqrt(45)])
    error = np.abs((scores.scores - function.best.scores)[:FAVOURED].sum())
    radius = np.linalg.norm(scores.scores - function.best.scores)
    assert error == pytest.approx(radius * math.sqrt(FAVOURED), rel=1e-5)


def test_limits_of_single_targets_become_one_for_all():
    """The target of the largest gap has a limit of its own, and the largest limit is above it."""
    function = smooth_function(60, n_targets=4)
    published, sure = with_gap(function, 0.01), {"bound": "moment", "design": ClusterDesign(600)}
    alone = Certificate.of(pyattr.verify(function, published, seed=3, **sure))
    upper, unit = np.array(alone.gap_upper, float), np.array(alone.variance_upper, float)
    assert alone.outcome == "ACCEPT"
    assert alone.finite_sample
    assert not alone.simultaneous
    assert upper.max() < 0.05
    assert alone.errors() ** 2 == pytest.approx(4 * upper.max() * unit)
    joint = Certificate.of(pyattr.verify(function, published, seed=3, simultaneous=True, **sure))
    upper, unit = np.array(joint.gap_upper, float), np.array(joint.variance_upper, float)
    assert joint.simultaneous
    assert joint.errors() ** 2 == pytest.approx(4 * upper * unit)


def test_limits_that_rest_on_normality_are_not_used_below_epsilon():
    """With few sellers the empty subset hides from a hundred pairs: the limit is short, ε is not."""

    def hinges(masks, seeds):
        linear = masks.unpack() @ np.linspace(0.5, 1.5, 10)
        return (linear - 6.0 * (masks.sizes() == 0))[:, None]

    every = pyattr.Masks.pack((np.arange(1024)[:, None] >> np.arange(10)) % 2 == 1)
    outputs = hinges(every, None)[:, 0]
    bits = np.column_stack([np.ones(1024), every.unpack()])
    best = np.linalg.lstsq(bits, outputs, rcond=None)[0]
    scores = Attribution(np.linspace(0.5, 1.5, 10)[:, None])
    radius = np.linalg.norm(scores.scores[:, 0] - best[1:])
    verdict = pyattr.verify(hinges, scores, seed=4, design=ClusterDesign(100), epsilon=0.01)
    assert verdict
    assert verdict.pay_error(1)[0] < radius < Certificate.of(verdict).errors()[0]


def test_the_error_of_a_weighted_sum_is_minkowskis():
    scores = Attribution(np.arange(8.0).reshape(4, 2))
    verdict = verdict_of(scores, 0.3)
    made = price(scores, BUDGET, weights=[2.0, -1.0], verdict=verdict)
    assert made.basis.radius == pytest.approx(0.9)
    assert made.basis.confidence == pytest.approx(0.95)
    made = price(scores, BUDGET, owners=[0, 0, 0, 1], verdict=verdict)
    assert made.value_error == pytest.approx([0.3 * math.sqrt(3), 0.3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": 0.0}, "budget: expected a finite number above 0"),
        ({"budget": math.nan}, "budget:"),
        ({"rule": "fair"}, "rule: expected 'proportional' or 'price' or 'signed', got 'fair'"),
        ({"rule": "price"}, "unit_price: expected a price of a point, got None"),
        ({"unit_price": 1.0}, "unit_price: expected none under rule 'proportional', got 1.0"),
        ({"rule": "price", "unit_price": -1.0}, "unit_price:"),
        ({"owners": [1, 2]}, "owners: expected a seller for each of 3 examples"),
        (
            {"owners": ["a", None, "b"]},
            "owners: expected a seller for each example, got none for 1",
        ),
        ({"owners": [1.0, 2.0, math.nan]}, "owners: .* got none for 2"),
        ({"owners": [math.nan, "a", "b"]}, "owners: .* got none for 0"),
        ({"weights": [1.0, 2.0]}, "weights: expected 1 numbers"),
        ({"weights": [0.0]}, "weights: expected finite numbers that are not all 0"),
        ({"weights": ["x"]}, "weights:"),
        ({"rule": "signed"}, "rule: expected values that sum to more than 0 for 'signed', got -1"),
    ],
)
def test_what_is_wrong_is_named(arguments, message):
    scores = Attribution([1.0, -3.0, 1.0])
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        price(scores, **{"budget": 10.0, "allow_unverified": True} | arguments)


def test_repr_says_what_is_paid_and_known():
    assert repr(paid([1.0, 2.0])) == (
        "Payments(rule='proportional', n_sellers=2, spent=100 of 100, no limits)"
    )
    assert repr(priced([1.0, 2.0], 0.1)).endswith("vacuous=False)")
