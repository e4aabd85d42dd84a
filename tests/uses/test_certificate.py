"""A verdict is of use for the scores that it is about, and for no others."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from accepting import verdict_of
from cube import smooth_function, with_gap

import pyattr
from pyattr import Attribution, Outcome, Verdict
from pyattr.uses import Certificate, SummedRetrain, load_certificate, price, select, summed
from pyattr.uses.certificate import scores_digest

SCORES = Attribution(np.linspace(-1.0, 2.0, 24).reshape(12, 2), [3.0, -1.0])


def refused(scores, verdict, what, **options):
    """Both uses refuse scores for a reason, and take them where that is allowed."""
    message = f"verdict: expected ACCEPT about these very scores, .* got {what}"
    for use in (
        lambda **more: price(scores, 10.0, **options, **more),
        lambda **more: select(scores, 2, **options, **more),
    ):
        with pytest.raises(ValueError, match=message):
            use(verdict=verdict)
        basis = use(verdict=verdict, allow_unverified=True).basis
        assert not basis.verified
        assert math.isinf(basis.radius)
        assert basis.confidence == 0.0
        assert what in basis.assumption


def test_scores_without_acceptance_are_refused():
    refused(SCORES, None, "no verdict")
    for outcome in (Outcome.ABORT, Outcome.INCONCLUSIVE):
        refused(SCORES, verdict_of(SCORES, 0.1, outcome=outcome), f"{outcome} of method 'gap'")
    refused(SCORES, verdict_of(SCORES, 0.1, method="naive"), "ACCEPT of method 'naive'")
    refused(SCORES, verdict_of(SCORES, math.inf, epsilon=0.05), "an ACCEPT without limits")


def test_a_verdict_about_other_scores_is_refused():
    verdict = verdict_of(SCORES, 0.1)
    price(SCORES, 10.0, verdict=verdict)
    changed = SCORES.scores.copy()
    changed[3, 1] = np.nextafter(changed[3, 1], np.float32(9.0))
    others = [
        Attribution(changed),
        Attribution(SCORES.scores / 2),
        Attribution(SCORES.scores[::-1]),
        Attribution(SCORES.scores.reshape(8, 3)),
        Attribution(SCORES.scores[:, :1]),
    ]
    for other in others:
        refused(other, verdict, "a verdict about other scores")
    # Neither payments nor selections depend on the intercept.
    price(Attribution(SCORES.scores), 10.0, verdict=verdict)


def test_verdicts_of_all_verifiers_name_the_scores_they_are_about():
    function = smooth_function(40)
    published = with_gap(function, 0.01)
    masks = pyattr.sample_masks(2000, 40, seed=1)
    outputs = function(masks, pyattr.sample_seeds(2000, seed=2))
    verdicts = [
        pyattr.verify(function, published, seed=1),
        pyattr.verify_recorded(masks, outputs, published, held_out=True),
        pyattr.verify(function, published, seed=1, method="naive"),
        pyattr.verify(function, published, seed=1, method="paper"),
    ]
    for verdict in verdicts:
        assert Certificate.of(verdict).scores == scores_digest(published.scores)
    for verdict in verdicts[:2]:
        assert price(published, 10.0, verdict=verdict).basis.verified
    refused(published, verdicts[2], "ACCEPT of method 'naive'")
    with pytest.raises(ValueError, match="verdict: expected one that names the scores"):
        Certificate.of(Verdict.failed("gap", 0.05, 0.05, "check", n_targets=1))


def test_p_is_that_of_the_masks():
    function = smooth_function(40, p=0.3)
    verdict = pyattr.verify(function, function.best, p=0.3, seed=1, epsilon=0.2)
    certificate = Certificate.of(verdict)
    assert verdict
    assert certificate.p == 0.3
    unit = certificate.variance_upper[0] / 0.21
    assert certificate.errors()[0] == pytest.approx(math.sqrt(0.2 * unit))
    assert verdict.pay_error(1)[0] == pytest.approx(math.sqrt(certificate.gap_upper[0] * unit))


def test_a_file_holds_all_of_it(tmp_path):
    path = tmp_path / "verdict.json"
    function = smooth_function(40, n_targets=3)
    published = with_gap(function, 0.01)
    for scores in (published, Attribution(published.scores / 2), Attribution(-published.scores)):
        verdict = pyattr.verify(function, scores, seed=4)
        kept = Certificate.of(verdict)
        kept.save(path)
        assert load_certificate(path) == kept
    assert kept.outcome == "ABORT"
    assert load_certificate(path).errors() == pytest.approx(kept.errors())
    cut = Certificate.of(verdict_of(SCORES, math.inf, epsilon=0.05))
    cut.save(path)
    assert load_certificate(path).gap_upper == (None, None)
    assert np.isinf(load_certificate(path).errors()).all()


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "pyattr-verdict/2"},
        {"outcome": "accept"},
        {"gap_upper": [0.1]},
        {"gap_upper": "0.1"},
        {"weights": [1.0, 2.0]},
        {"p": 1.0},
        {"delta": 0.0},
        {"epsilon": 0.0},
        {"extra": 1},
        {"scores": None},
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change):
    path = tmp_path / "verdict.json"
    Certificate.of(verdict_of(SCORES, 0.1)).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match="verdict: expected a file of pyattr-verdict/1"):
        load_certificate(path)


def test_what_is_no_file_of_it_is_refused(tmp_path):
    path = tmp_path / "verdict.json"
    path.write_bytes(b"\xff\x00")
    with pytest.raises(ValueError, match="verdict: expected a file of pyattr-verdict/1"):
        load_certificate(path)
    with path.open("wb") as file:
        file.truncate(1 << 29)
    with pytest.raises(ValueError, match="verdict: expected a file of at most"):
        load_certificate(path)
    with pytest.raises(FileNotFoundError):
        load_certificate(tmp_path / "none.json")


def test_a_weighted_sum_is_verified_as_one_target():
    function = smooth_function(60, n_targets=4)
    published, weights = with_gap(function, 0.02), np.array([1.0, 2.0, 0.0, -1.0])
    one = summed(published, weights)
    assert one.scores[:, 0] == pytest.approx(published.scores @ weights, abs=1e-5)
    assert one.intercept[0] == pytest.approx(float(published.intercept @ weights), abs=1e-5)
    verdict = pyattr.verify(SummedRetrain(function, weights), one, seed=1)
    certificate = Certificate.of(verdict, weights)
    assert verdict
    assert certificate.n_targets == 1
    # About the attribution of all targets, with these weights by default and any multiple of them.
    made = price(published, 10.0, rule="price", unit_price=0.1, verdict=certificate)
    assert made.basis.verified
    assert made.basis.weights == pytest.approx(weights)
    double = price(
        published, 10.0, rule="price", unit_price=0.1, weights=-2 * weights, verdict=certificate
    )
    assert double.basis.radius == pytest.approx(2 * made.basis.radius)
    assert double.basis.values == pytest.approx(-2 * made.basis.values)
    assert price(one, 10.0, verdict=verdict).basis.radius == pytest.approx(made.basis.radius)
    refused(published, certificate, "a verdict about a sum with other weights", weights=np.ones(4))
    with pytest.raises(ValueError, match="weights: expected those of the sum that was verified"):
        certificate.error_of_sum(np.ones(4))
    with pytest.raises(ValueError, match="weights: expected 4 numbers"):
        price(published, 10.0, weights=np.ones(3), verdict=certificate)
    refused(published, verdict, "a verdict about other scores")
    refused(Attribution(published.scores * 1.5), certificate, "a verdict about other scores")
    refused(SCORES, certificate, "a verdict about a sum of other targets")


def test_a_verdict_about_several_targets_is_none_about_their_sum():
    with pytest.raises(ValueError, match="weights: expected one judged target, got 2"):
        Certificate.of(verdict_of(SCORES, 0.1), [0.5, 0.5])


def test_the_sum_of_targets_has_a_smaller_error_than_its_parts_imply():
    function = smooth_function(60, n_targets=8)
    published = with_gap(function, 0.02)
    mean = np.full(8, 1 / 8)
    every = Certificate.of(pyattr.verify(function, published, seed=1))
    one = Certificate.of(
        pyattr.verify(SummedRetrain(function, mean), summed(published), seed=1), mean
    )
    assert one.error_of_sum(mean) < 0.6 * every.error_of_sum(mean)
    true = np.linalg.norm((published.scores - function.best.scores) @ mean)
    assert true < one.error_of_sum(mean)


def test_summed_outputs_fit_their_weights():
    retrain = SummedRetrain(smooth_function(40, n_targets=3), [1.0, 1.0])
    with pytest.raises(ValueError, match="outputs: expected 2 targets a row"):
        retrain(pyattr.sample_masks(2, 40), pyattr.sample_seeds(2))
    assert SummedRetrain(smooth_function(40), [1.0]).n_train == 40
