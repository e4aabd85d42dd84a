"""`verify` end to end on functions whose gap is known."""

from __future__ import annotations

import numpy as np
import pytest
from cube import CubeFunction, smooth_function, with_gap

import pyattr
from pyattr import Attribution, ClusterDesign, Outcome, Verdict
from pyattr.verification.cheats import FitsAfterChallenge, HalvedScores
from pyattr.verification.clusters import LEAST_CLUSTERS
from pyattr.verification.judge import Criterion
from pyattr.verification.plan import choose_clusters, least_clusters


def verify(*arguments, seed=0, **options):
    """`pyattr.verify` with a fixed seed, so that no test can fail by chance."""
    return pyattr.verify(*arguments, seed=seed, **options)


def outcomes(function, attribution, n, **options):
    return [verify(function, attribution, seed=s, **options) for s in range(n)]


def share(verdicts, outcome):
    return np.mean([v.outcome is outcome for v in verdicts])


@pytest.mark.parametrize(
    ("function", "most"),
    [
        (smooth_function(80, quadratic=0.1, cubic=0.005), 48),
        (smooth_function(80, quadratic=0.05, cubic=0.005, noise=0.4), 512),
        (smooth_function(80, quadratic=0.1, cubic=0.005, n_targets=8), 160),
        (smooth_function(80, quadratic=0.02, p=0.6), 2000),
    ],
    ids=["seed-free", "seeds", "eight targets", "p=0.6"],
)
def test_the_honest_are_accepted_and_the_lies_are_not(function, most):
    """100 sessions each. An honest prover with a third of ε is planned to pass 95%; at most 0.1% of
    right plans would accept fewer than 87. A gap of 1.5 ε is accepted with probability at most δ = 5%:
    more than 13 of 100 has probability 4e-4, more than 34 of 400 has 1e-3. Halved scores never are."""
    session = {"p": function.p, "budget": most}
    honest = outcomes(function, with_gap(function, 0.01), 100, **session)
    assert share(honest, Outcome.ACCEPT) >= 0.87
    assert share(honest, Outcome.ABORT) == 0.0
    assert max(v.n_retrained for v in honest) <= most
    n_near = 400 if most <= 160 else 100
    near = outcomes(function, with_gap(function, 0.075), n_near, **session)
    assert share(near, Outcome.ACCEPT) <= (0.085 if n_near == 400 else 0.13)
    halved = outcomes(function, HalvedScores()(function.best), 40, **session)
    assert share(halved, Outcome.ACCEPT) == 0.0
    assert share(halved, Outcome.ABORT) >= 0.9


def test_one_bad_target_among_many_is_found():
    """False accept of one target at 1.5 ε among eight honest ones: at most δ, though no limit is divided
    by eight (intersection-union). 100 sessions; more than 13 accepts has probability 4e-4."""
    function = smooth_function(80, n_targets=8)
    scores = with_gap(function, 0.01).scores.copy()
    bad = with_gap(function, 0.075, seed=7).scores
    scores[:, 3] = bad[:, 3]
    verdicts = outcomes(function, Attribution(scores=scores), 100)
    assert share(verdicts, Outcome.ACCEPT) <= 0.13
    assert any(
        v.outcomes[3] is not Outcome.ACCEPT and v.outcomes[0] is Outcome.ACCEPT for v in verdicts
    )


def test_naive_is_fooled_where_gap_is_not():
    function = smooth_function(80, quadratic=0.05)
    halved = HalvedScores()(function.best)
    assert verify(function, halved, method="naive").outcome is Outcome.ACCEPT
    assert verify(function, halved, method="gap").outcome is Outcome.ABORT


def majority_of_five(masks, seeds):
    """±1-valued: B_1 = 5 (3/8)² = 0.703, B_3 = 10/64, B_5 = (3/8)²; the first five of 16 examples."""
    return np.where(masks.unpack()[:, :5].sum(axis=1) >= 3, np.float32(1), np.float32(-1))[:, None]


def test_the_papers_method_is_right_at_its_full_size():
    """Hoeffding sizes: the failure probability is δ = 0.05 at most, in practice below 1e-6."""
    options = {"method": "paper", "epsilon": 0.7, "clip": 1.0, "budget": 10**8}
    scores = np.zeros((16, 1))
    scores[:5] = 3 / 4
    honest = verify(majority_of_five, Attribution(scores=scores, intercept=[-15 / 8]), **options)
    assert honest.outcome is Outcome.ACCEPT
    assert honest.n_retrained == honest.details["n_planned"] > 100_000
    assert honest.details["residual"][0] == pytest.approx(10 / 64 + 9 / 64, abs=0.7 / 4)
    zero = Attribution(scores=np.zeros((16, 1)))  # its gap is B_1 = 0.703
    assert verify(majority_of_five, zero, **options).outcome is Outcome.ABORT


def test_the_papers_method_says_when_the_budget_is_below_its_plan():
    function = smooth_function(40)
    verdict = verify(function, function.best, method="paper", budget=500)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.n_retrained <= 500
    assert verdict.details["n_planned"] > 10**6
    assert f"{verdict.details['n_planned']:,}" in verdict.reason
    assert verdict.gap_lower[0] <= 0.0 < verdict.gap_upper[0]


def test_vacuous_sessions_are_inconclusive():
    constant = CubeFunction(20, {(): np.array([3.0])})
    zeros = Attribution(scores=np.zeros((20, 1)), intercept=np.array([3.0]))
    assert verify(constant, zeros).outcome is Outcome.INCONCLUSIVE
    # Nearly all non-linear: zero scores have a small gap, and accepting them would mean nothing.
    function = smooth_function(40, quadratic=40.0)
    verdict = verify(function, function.best, budget=600)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "too little to be accepted" in verdict.reason


def test_odd_nonlinearity_does_not_get_the_honest_aborted():
    """Cubic weight of 6% of Var f: more than ε, less than `nonlinearity` allows for. 60 sessions."""
    function = smooth_function(80, cubic=0.064)
    verdicts = outcomes(function, function.best, 60, nonlinearity=0.1)
    assert share(verdicts, Outcome.ABORT) == 0.0
    assert share(outcomes(function, function.best, 60, nonlinearity=0.0), Outcome.ABORT) > 0.0
    # and with less correlated leaves it falls as ρ²: the honest can be accepted
    design = ClusterDesign(150, 8, rho=0.25)
    assert (
        verify(function, function.best, design=design, nonlinearity=0.1).outcome is Outcome.ACCEPT
    )


def test_absolute_epsilon_and_checked_intercept():
    function = smooth_function(60)
    close = with_gap(function, 0.01)
    assert verify(function, close, epsilon=0.05 * function.variance[0], relative=False)
    shifted = Attribution(scores=close.scores, intercept=close.intercept + 1.0)
    assert verify(function, shifted)
    assert not verify(function, shifted, intercept="check", budget=200)


def test_verdicts_say_what_was_done():
    function = smooth_function(60)
    seen = []
    verdict = verify(
        function, function.best, progress=lambda done, planned: seen.append((done, planned))
    )
    assert isinstance(verdict, Verdict)
    assert verdict.n_retrained == seen[-1][0] <= seen[-1][1]
    assert verdict.bound == "chi2"
    assert verdict.delta_split["upper limit of each target"] == 0.05
    assert "ACCEPT" in repr(verdict)
    assert verdict.gap.shape == verdict.gap_lower.shape == verdict.gap_upper.shape == (1,)
    assert verdict.outcome == "ACCEPT"


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_a_function_that_fills_one_array_again_gets_the_verdict_of_any_other(noise):
    """What was kept of its first trainings changed with the next: honest scores were accused."""
    function = smooth_function(50, noise=noise)
    filled = np.empty((1 << 12, 1), np.float32)

    def again(masks, seeds):
        filled[: len(masks)] = function(masks, seeds)
        return filled[: len(masks)]

    expected, verdict = (verify(retrain, function.best) for retrain in (function, again))
    assert verdict
    assert verdict.gap_upper.tolist() == expected.gap_upper.tolist()


def test_the_same_seed_gives_the_same_verdict():
    function = smooth_function(60, noise=0.3)
    first, again = (verify(function, function.best, seed=5, budget=300) for _ in range(2))
    assert (first.gap == again.gap).all()
    assert verify(function, function.best, seed=6, budget=300).gap != first.gap


def test_more_leaves_are_chosen_as_seeds_matter_more():
    designs = [
        choose_clusters(noise, 0.05, 0.05, 1, Criterion(), None) for noise in (0.0, 0.05, 0.15, 0.4)
    ]
    leaves = [d.n_leaves for d in designs]
    sizes = [d.n_evaluations for d in designs]
    assert leaves == sorted(leaves)
    assert sizes == sorted(sizes)
    assert leaves[0] == 1 < leaves[-1]
    assert choose_clusters(0.4, 0.05, 0.05, 1, Criterion(), 300).n_evaluations <= 300


BEST = smooth_function(30).best


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "epsilon: expected a finite number above 0, got 0.0"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"delta": 1.0}, "delta: expected a probability strictly between 0 and 1"),
        ({"p": 0.0}, "p: expected a probability"),
        ({"method": "magic"}, "method: expected 'gap', 'paper' or 'naive', got 'magic'"),
        ({"bound": "magic"}, "bound: expected one of"),
        ({"budget": 0}, "budget"),
        (
            {"budget": 10},
            r"budget: expected at least 16 trainings \(opening and smallest design\), got 10",
        ),
        (
            {"budget": 39, "design": ClusterDesign(20)},
            "budget: expected at least 40 trainings for this design",
        ),
        ({"method": "paper", "budget": 20}, "budget: expected at least 40"),
        ({"method": "naive", "budget": 1}, "budget"),
        ({"design": ClusterDesign(20), "p": 0.4}, "design.p: expected p = 0.4, got 0.5"),
        ({"nonlinearity": -1.0}, "nonlinearity"),
        ({"intercept": "ignore"}, "intercept"),
        ({"clip": 0.0}, "clip"),
        ({"seed": -1}, "seed"),
        ({"epsilon": "much"}, "epsilon: expected a finite number above 0, got much"),
        ({"epsilon": None}, "epsilon"),
        ({"p": "half"}, "p: expected a probability"),
        ({"budget": float("inf")}, "budget"),
        ({"bound": "moment", "p": 0.3}, "bound: expected 'chi2' or 't' for p = 0.3"),
        ({"threshold": -1.0}, "threshold"),
        (
            {"method": "paper", "design": ClusterDesign(20)},
            "design: expected none for method 'paper'",
        ),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        verify(smooth_function(30), BEST, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: out[:-1], r"outputs: expected shape \(8, 1\), got shape \(7, 1\)"),
        (lambda out: out[:, [0, 0]], r"outputs: expected shape \(8, 1\), got shape \(8, 2\)"),
        (lambda out: out.astype(int), "outputs: expected a floating dtype, got int64"),
        (lambda out: out.astype(float) + 1e60, "finite float32 values, got inf in row 0, target 0"),
        (
            lambda out: np.where(np.arange(8)[:, None] == 2, np.nan, out),
            "finite float32 values, got nan in row 2, target 0",
        ),
    ],
)
def test_wrong_outputs_are_named(change, message):
    function = smooth_function(30)
    with pytest.raises(ValueError, match=message):
        verify(lambda masks, seeds: change(function(masks, seeds)), BEST)


def test_attributions_are_checked_against_the_retrain_function():
    function = smooth_function(40)
    with pytest.raises(
        ValueError, match="attribution: expected n_train = 40, as retrain has, got 30"
    ):
        verify(function, BEST)

    class Raw:
        scores = np.full((40, 1), np.nan, np.float32)
        intercept = np.zeros(1, np.float32)

    with pytest.raises(ValueError, match="attribution: expected finite scores"):
        verify(function, Raw())
    with pytest.raises(ValueError, match="attribution: expected scores and intercept"):
        verify(function, np.zeros((40, 1)))
    with pytest.raises(ValueError, match=r"attribution\.scores: expected absolute values"):
        verify(function, Attribution(scores=np.full((40, 1), 3e38)))


def test_an_intercept_that_erases_the_outputs_gains_nothing():
    """float64 loses f beside 1e17; the estimate must not form that difference."""
    function = smooth_function(40)
    halved = HalvedScores()(function.best)
    for intercept in (1e15, 1e17, 1e25):
        published = Attribution(scores=halved.scores, intercept=np.array([intercept]))
        assert verify(function, published, seed=1).outcome is Outcome.ABORT
        assert not verify(function, published, seed=1, intercept="check", budget=200)


def test_the_default_challenge_cannot_be_rehearsed():
    """A prover that fits the challenge of its own `verify` call does not pass another's."""
    function, asked = smooth_function(80), []

    def spy(masks, seeds):
        asked.append((masks, seeds))
        return function(masks, seeds)

    first = pyattr.verify(spy, function.best)
    rehearsed = pyattr.Masks.concatenate([masks for masks, _ in asked])
    outputs = np.concatenate([function(*row) for row in asked])
    fitted = FitsAfterChallenge().refit(rehearsed, outputs)
    assert pyattr.verify(function, fitted, seed=first.details["seed"]).outcome is Outcome.ACCEPT
    assert pyattr.verify(function, fitted).outcome is not Outcome.ACCEPT


def rare_event(masks, seeds):
    """Linear in 80 examples, plus an output that needs the first five together."""
    bits = masks.unpack()
    return (bits @ np.linspace(-0.3, 0.3, 80) + 3.2 * bits[:, :5].all(axis=1))[:, None].astype(
        np.float32
    )


def test_the_known_limit_of_the_default_bound():
    """Near-normality is an assumption: the linear part of a rare event can be left out of the scores and
    go unseen in a small sample (gap 0.055). A larger design sees it (40 sessions)."""
    linear = np.linspace(-0.3, 0.3, 80)[:, None]
    published = Attribution(scores=linear)
    small = outcomes(rare_event, published, 100)
    assert share(small, Outcome.ACCEPT) > 0.05
    assert all("if odd residuals are near normal" in v.reason for v in small if v)
    large = outcomes(rare_event, published, 40, design=ClusterDesign(400))
    assert share(large, Outcome.ACCEPT) == 0.0


def test_joint_effects_of_few_owners_are_looked_for():
    """Half of Var f is all four owners being in together, and the scores leave that out (gap 0.088). One pair
    in eight shows it: (7/8)^C of sessions see nothing, 0.04 at the 24 clusters that four owners take and 0.3
    at the 9 that many do with. 60 sessions each, fixed seeds: more than 8 accepted of 60 have probability
    6e-3 at 5%, and fewer than 6 that many at 0.25."""
    linear = np.linspace(0.8, 1.2, 4)
    size = np.sqrt(np.sum(linear**2) / 4 / (15 / 256))

    def joint(masks, seeds):
        bits = masks.unpack()
        return (bits @ linear + size * bits.all(axis=1))[:, None]

    published = Attribution(scores=linear[:, None])
    assert share(outcomes(joint, published, 60), Outcome.ACCEPT) <= 8 / 60
    few = outcomes(joint, published, 60, design=ClusterDesign(9))
    assert share(few, Outcome.ACCEPT) >= 6 / 60
    assert least_clusters(4, 0.05) == 24
    assert least_clusters(8, 0.05) == LEAST_CLUSTERS
    assert least_clusters(4, 0.05, 8) == least_clusters(4, 0.05, 1000) == 41
    with pytest.raises(ValueError, match="budget: expected at least 56 trainings"):
        verify(joint, published, budget=50)


def test_a_budget_for_few_owners_is_refused_before_anything_is_trained():
    """Where p is not 1/2 clusters have two leaves."""

    def untrained(masks, seeds):
        raise AssertionError("trained")

    published = Attribution(scores=np.linspace(0.8, 1.2, 4)[:, None])
    with pytest.raises(ValueError, match="budget: expected at least 104 trainings"):
        verify(untrained, published, p=0.3, budget=103)


def test_the_moment_bound_is_planned_for_and_refuses_heavy_tails():
    """40 sessions each, fixed seeds. A plan that accepts 95% of the honest would accept fewer than 34 of
    other 40 with probability 3e-3; a right bound more than 5 at 1.5 ε with 0.014 at most."""
    function = smooth_function(150)
    verdicts = outcomes(function, with_gap(function, 0.01), 40, bound="moment")
    assert share(verdicts, Outcome.ACCEPT) >= 0.85
    assert (
        share(outcomes(function, with_gap(function, 0.075), 40, bound="moment"), Outcome.ACCEPT)
        <= 0.13
    )
    spiky = Attribution(scores=np.linspace(-0.3, 0.3, 80)[:, None])
    verdict = verify(rare_event, spiky, bound="moment", design=ClusterDesign(300), seed=0)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "kappa" in verdict.reason


def test_small_units_and_pay():
    function = smooth_function(60)
    tiny = Attribution(scores=function.best.scores * 1e-8, intercept=function.best.intercept * 1e-8)
    assert verify(lambda masks, seeds: function(masks, seeds) * np.float32(1e-8), tiny)
    verdict = verify(function, with_gap(function, 0.01), seed=2)
    error = np.abs((with_gap(function, 0.01).scores - function.best.scores)[:20].sum())
    assert error <= verdict.pay_error(20)[0] < 20
    with pytest.raises(
        ValueError, match="n_members: expected a whole number of at least 1, got -1"
    ):
        verdict.pay_error(-1)
    assert verdict.details["epsilon_share_of_linear"][0] == pytest.approx(0.05, rel=0.3)


def test_pay_has_limits_where_the_gap_has_some():
    function = smooth_function(60)
    for method in ("naive", "paper"):
        verdict = verify(function, function.best, method=method, seed=1)
        with pytest.raises(
            ValueError, match=f"verdict: expected one of method 'gap', .*'{method}'"
        ):
            verdict.pay_error(1)
    failed = Verdict.failed("gap", 0.05, 0.05, "output 3 differs", n_targets=2)
    assert np.isposinf(failed.pay_error(1)).all()


def test_one_dimensional_outputs_do_for_one_target():
    truth = np.linspace(-1, 1, 30)
    assert verify(
        lambda masks, seeds: masks.unpack() @ truth, pyattr.Attribution(scores=truth[:, None])
    )
