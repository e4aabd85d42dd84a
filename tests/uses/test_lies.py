"""What lies would have cost each seller."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from pyattr import Attribution
from pyattr.uses import lie_costs, price
from pyattr.uses.files import payments_record
from pyattr.uses.lies import LIE_GAP
from pyattr.uses.table import lies_table
from pyattr.verification.cheats import HalvedScores, ZeroedSeller

OWNERS = np.arange(30) % 3
SCORES = Attribution(np.abs(np.random.default_rng(0).standard_normal((30, 2))) + OWNERS[:, None])


def priced(**options):
    return price(SCORES, 90.0, owners=OWNERS, allow_unverified=True, **options)


def test_each_lie_by_hand():
    payments = priced()
    lies = lie_costs(SCORES, payments)
    assert lies.titles == (
        "publishes 0.5 a",
        "favours 0",
        "zeroes 2",
        f"adds noise worth {LIE_GAP:g} Var g",
    )
    assert lies.honest == pytest.approx(payments.paid)
    assert lies.cost[0] == pytest.approx(np.zeros(3), abs=1e-4)
    assert lies.cost[1, 0] < 0.0 < lies.cost[1, 1]
    assert lies.cost[2] == pytest.approx(
        [-payments.paid[2] * payments.paid[s] / (90.0 - payments.paid[2]) for s in (0, 1)]
        + [payments.paid[2]],
        rel=1e-4,
    )
    assert lies.paid.sum(axis=1) == pytest.approx([90.0] * 4)
    assert lies.added_gap[[0, 1, 3]] == pytest.approx([0.25, LIE_GAP, LIE_GAP], rel=1e-4)
    squares = np.square(SCORES.scores, dtype=float)
    share = squares[OWNERS == 2].sum(axis=0) / squares.sum(axis=0)
    assert lies.added_gap[2] == pytest.approx(share.max(), rel=1e-5)
    assert lies.added_gap_of_sum[0] == pytest.approx(0.25)


def test_a_favour_is_one_whatever_the_signs_of_the_weights():
    """Of a loss less is better: β is taken off there."""
    mixed = Attribution(SCORES.scores * [1.0, -1.0])
    payments = price(mixed, 90.0, owners=OWNERS, weights=[1.0, -1.0], allow_unverified=True)
    lies, same = lie_costs(mixed, payments), lie_costs(SCORES, priced(weights=[1.0, 1.0]))
    assert lies.cost[1, 0] < 0.0
    assert lies.cost[1] == pytest.approx(same.cost[1], rel=1e-4)
    assert lies.added_gap[1] == pytest.approx(LIE_GAP, rel=1e-4)


def test_at_a_price_halved_scores_cost_every_seller_half():
    payments = priced(rule="price", unit_price=0.1)
    assert payments.spent < 90.0
    lies = lie_costs(SCORES, payments, [HalvedScores(), ZeroedSeller(np.flatnonzero(OWNERS == 1))])
    assert lies.cost[0] == pytest.approx(payments.paid / 2)
    assert lies.cost[1] == pytest.approx([0.0, payments.paid[1], 0.0], abs=1e-9)


def test_a_lie_by_which_nobody_can_be_paid_has_no_cost():
    scores = Attribution([3.0, -1.0, -1.0])
    payments = price(scores, 90.0, rule="signed", allow_unverified=True)
    lies = lie_costs(scores, payments)
    assert lies.paid[0] == pytest.approx(payments.paid)
    assert np.isnan(lies.paid[2]).all()  # zeroes the seller of 3
    assert payments_record(payments, lies)["lies"][2]["costs"] == [None] * 3
    page = Console(width=100, file=io.StringIO())
    page.print(lies_table(lies, payments))
    shown = page.file.getvalue()
    assert "nan" not in shown
    assert "the rule pays nobody" in shown


def test_a_target_without_scores_adds_no_gap():
    scores = Attribution(np.stack([np.zeros(4), np.arange(4.0)], axis=1))
    payments = price(scores, 1.0, allow_unverified=True)
    assert np.isfinite(lie_costs(scores, payments, [HalvedScores()]).added_gap).all()
