"""The demo, run small. Outcomes are those of fixed seeds; the secret spot checks do not change them.

At the seed used every lie's lower limit is far above ε and the honest upper limit below it, so other
last bits on another machine change nothing.
"""

from __future__ import annotations

import json
from typing import Any

import demo_run
import numpy as np
import pytest
from accepting import verdict_of

from pyattr import Attribution, demo, verify
from pyattr.demo import cases as cases_module
from pyattr.demo.cases import Case, Judged
from pyattr.demo.experiment import _sellers
from pyattr.demo.results import findings, payments, plain
from pyattr.uses import summed
from pyattr.verification.scores import LinearScores

SCORE_LIES = ["halved", "favoured", "zeroed", "noisy", "another_model"]
SESSION_LIES = ["session_half", "session_scores", "session_late"]


@pytest.fixture
def results() -> dict[str, Any]:
    return demo_run.results()


@pytest.fixture
def cases(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {case["key"]: case for case in results["cases"]}


def test_results_are_json_and_name_their_schema(results: dict[str, Any]) -> None:
    again = json.loads(json.dumps(results, allow_nan=False))
    assert again == results
    assert results["schema"] == "pyattr-demo/2"
    assert set(results) == {
        "schema", "created", "config", "dataset", "model_name", "other_model_name", "recipe",
        "packages", "platform", "prover", "cases", "findings", "quality", "examples", "payments",
        "reference", "seconds",
    }  # fmt: skip
    assert results["config"]["n_train"] == results["recipe"]["n_train"] == demo_run.CONFIG.n_train


def test_honest_is_accepted_and_every_lie_caught(
    results: dict[str, Any], cases: dict[str, dict[str, Any]]
) -> None:
    assert cases["honest"]["gap"]["outcome"] == "ACCEPT"
    assert cases["session_honest"]["gap"]["outcome"] == "ACCEPT"
    for key in SCORE_LIES + SESSION_LIES:
        assert cases[key]["gap"]["outcome"] == "ABORT", key
    assert results["findings"]["as_expected"]


def test_naive_check_is_fooled_and_the_headline_says_so(
    results: dict[str, Any], cases: dict[str, dict[str, Any]]
) -> None:
    assert cases["halved"]["naive"]["outcome"] == "ACCEPT"
    assert cases["favoured"]["naive"]["outcome"] == "ACCEPT"
    for key in SESSION_LIES:
        assert cases[key]["naive"]["outcome"] == "ACCEPT"
    assert "a naive check passed" in results["findings"]["headline"]


def test_paper_never_accepts_at_this_size(cases: dict[str, dict[str, Any]]) -> None:
    assert all(case["paper"]["outcome"] != "ACCEPT" for case in cases.values())
    assert cases["honest"]["paper"]["details"]["n_planned"] > 1e6


def test_session_lies_are_caught_by_the_check_meant_for_them(
    cases: dict[str, dict[str, Any]],
) -> None:
    checks = {key: cases[key]["gap"]["details"]["check"] for key in SESSION_LIES}
    assert checks == {
        "session_half": "spot check", "session_scores": "spot check", "session_late": "commitment"
    }  # fmt: skip
    assert all(cases[key]["gap"]["gap_upper"] == [None] * 8 for key in SESSION_LIES)


def test_models_are_counted_as_if_each_check_stood_alone(
    cases: dict[str, dict[str, Any]],
) -> None:
    assert {case["naive"]["n_retrained"] for case in cases.values() if not case["interactive"]} == {
        48
    }
    design = cases["halved"]["gap"]["details"]
    n_pairs = design["n_clusters"] * design["n_leaves"]
    assert cases["halved"]["gap"]["n_retrained"] == 2 * n_pairs + design["n_lost"]
    n_models = 20 * demo_run.CONFIG.n_train
    assert cases["honest"]["n_prover"] == cases["noisy"]["n_prover"] == n_models
    assert cases["another_model"]["n_prover"] == 2 * demo_run.CONFIG.n_train
    asked = cases["session_honest"]["gap"]["n_prover_retrained"]
    assert cases["session_honest"]["n_prover"] == n_models + asked
    assert cases["session_half"]["n_prover"] == n_models + asked // 2
    assert cases["session_scores"]["n_prover"] == n_models
    assert cases["session_late"]["n_prover"] == asked


def test_true_gaps(results: dict[str, Any], cases: dict[str, dict[str, Any]]) -> None:
    honest = np.array(cases["honest"]["true_gap"])
    r2 = np.array(results["quality"]["r2"])
    # Halving adds B_1/4, and R² is about B_1 / Var f; 40 fresh subsets give R² to about 0.1.
    assert np.abs(np.array(cases["halved"]["true_gap"]) - honest - r2 / 4).max() < 0.1
    for key in SCORE_LIES:
        assert min(np.array(cases[key]["true_gap"]) - honest) > 0, key
        target = cases[key]["gap"]["decisive_target"]
        assert cases[key]["gap"]["gap_lower"][target] > results["config"]["epsilon"]
        assert cases[key]["true_gap_shown"] == cases[key]["true_gap"][target]
    assert cases["shaved"]["true_gap_shown"] < 0.05
    assert cases["session_late"]["true_gap_shown"] > 0.3


def test_payments(results: dict[str, Any]) -> None:
    rows = {row["key"]: row for row in results["payments"]["rows"]}
    honest = np.array(rows["honest"]["at_price"])
    assert honest.sum() == pytest.approx(100.0, rel=1e-4)
    assert rows["halved"]["at_price"] == pytest.approx(honest / 2, rel=1e-4)
    assert rows["halved"]["of_pot"] == pytest.approx(rows["honest"]["of_pot"], rel=1e-4)
    # The bonus is more than the budget has: everyone else is paid less, in proportion.
    assert rows["favoured"]["at_price"][1] > 2 * honest[1]
    others = np.delete(rows["favoured"]["at_price"], 1) / np.delete(honest, 1)
    assert others == pytest.approx(np.full(4, others[0]), rel=1e-4)
    assert others[0] < 1.0
    assert rows["zeroed"]["at_price"] == pytest.approx(honest * [1, 1, 0, 1, 1], rel=1e-4)
    assert all(sum(row["at_price"]) <= 100.001 for row in rows.values())
    assert all(sum(row["of_pot"]) == pytest.approx(100.0, rel=1e-4) for row in rows.values())
    assert (
        sum(seller["n_examples"] for seller in results["payments"]["sellers"])
        == demo_run.CONFIG.n_train
    )


def test_limits_of_payments_rest_on_the_verdict_about_the_mean(results: dict[str, Any]) -> None:
    limits, rows = results["payments"]["limits"], results["payments"]["rows"]
    assert limits["outcome"] == "ACCEPT"
    assert limits["verified"]
    assert limits["confidence"] == pytest.approx(0.9)
    for low, paid, high in zip(limits["lower"], rows[0]["at_price"], limits["upper"], strict=True):
        assert low <= paid <= high
    assert rows[2]["key"] == "favoured"
    assert rows[2]["at_price"][1] > limits["upper"][1]  # the bonus is ruled out


def paid_to(
    scores: Attribution, owners: Any, accepted: Attribution | None = None
) -> dict[str, Any]:
    """Payments by honest scores, with a verdict about their mean or that of others."""
    verdict = verdict_of(summed(accepted or scores), 0.1)
    judged = Judged(
        Case("honest", "honest", "honest"), LinearScores.of(scores), *(verdict,) * 3, 0, {}
    )
    return payments([judged], scores, verdict, owners)


def test_nobody_gains_by_moving_harmful_images_to_another_name() -> None:
    scores = Attribution(np.random.default_rng(0).standard_normal((200, 4)))
    owners = _sellers(200, seed=3)
    moved = owners.copy()
    moved[(owners == 0) & (scores.scores.mean(axis=1) < 0)] = 1
    assert not np.array_equal(owners, moved)
    before, after = paid_to(scores, owners), paid_to(scores, moved)
    assert after["rows"] == before["rows"]


def test_scores_that_nobody_accepted_have_no_limits() -> None:
    scores = Attribution(np.random.default_rng(0).standard_normal((200, 4)))
    owners = _sellers(200, seed=3)
    assert paid_to(scores, owners)["limits"]["verified"]
    limits = paid_to(scores, owners, Attribution(scores.scores + 1.0))["limits"]
    assert not limits["verified"]
    assert limits["lower"] is limits["upper"] is None


def test_the_mean_is_judged_by_models_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = Attribution(np.random.default_rng(0).standard_normal((40, 4)))

    def outputs(masks: Any, seeds: Any) -> Any:
        noise = (seeds % np.uint64(1009)).astype(np.float64) / 1009
        return (masks.unpack() @ scores.scores + noise[:, None]).astype(np.float32)

    outputs.n_train, outputs.n_targets = 40, 4  # type: ignore[attr-defined]
    meter = cases_module.Metered(outputs)  # type: ignore[arg-type]
    before: list[int] = []

    def noting(retrain: Any, *arguments: Any, **words: Any) -> Any:
        before.append(meter.n_trained)
        return verify(retrain, *arguments, **words)

    monkeypatch.setattr(cases_module, "verify", noting)
    terms = cases_module.Terms(0.05, 0.05, 400, seed=1)
    judged, of_mean = cases_module.judge_scores(
        meter, scores, [], {"honest": 0}, terms, lambda done, planned: None
    )
    assert before[-1] == meter.n_trained > 0
    assert of_mean.n_targets == 1
    assert of_mean.n_retrained <= judged[0].gap.n_retrained


def test_sellers_own_equal_random_parts() -> None:
    owners = _sellers(200, seed=3)
    assert np.bincount(owners).tolist() == [40] * 5
    assert not np.array_equal(owners, _sellers(200, seed=4))
    assert not np.array_equal(owners, np.arange(200) % 5)


def test_examples_are_the_extreme_scores(results: dict[str, Any]) -> None:
    targets = [panel["target"] for panel in results["quality"]["scatter"]]
    assert len(set(targets)) == 4
    assert [example["target"] for example in results["examples"]] == targets
    for example in results["examples"]:
        helpful = [image["score"] for image in example["helpful"]]
        harmful = [image["score"] for image in example["harmful"]]
        assert helpful == sorted(helpful, reverse=True)
        assert harmful == sorted(harmful)
        assert harmful[-1] < 0 < helpful[-1]


def test_progress_reaches_the_end_of_every_stage() -> None:
    last: dict[str, tuple[int, int]] = {}
    for stage, done, planned in demo_run.steps():
        assert done >= last.get(stage, (0, 0))[0]
        last[stage] = done, planned
    assert len(last) == 7
    assert all(done == planned for done, planned in last.values())


def test_findings_admit_failure(results: dict[str, Any]) -> None:
    cases = results["cases"]
    cases[1]["gap"]["outcome"] = "ACCEPT"
    found = findings(cases)
    assert found["lies_accepted"] == ["halved"]
    assert not found["as_expected"]
    assert "seven of eight lies were caught" in found["headline"]
    cases[0]["gap"]["outcome"] = "INCONCLUSIVE"
    assert findings(cases)["headline"].startswith("The honest scores were not accepted")


def test_plain_values() -> None:
    assert plain({"a": np.array([1.0, np.nan, np.inf])}) == {"a": [1.0, None, None]}
    assert plain(np.float32(0.1)) == 0.1
    assert plain((True, 3, None)) == [True, 3, None]
    with pytest.raises(TypeError, match="JSON"):
        plain(object())


def test_save_replaces_whole_files(results: dict[str, Any], tmp_path: Any) -> None:
    out = tmp_path / "a" / "b"
    written = demo.save(results, out)
    assert [path.name for path in written] == ["results.json", "report.html"]
    assert json.loads(written[0].read_text()) == results
    results["seconds"]["total"] = 1234.0
    demo.save(results, out)
    assert json.loads(written[0].read_text())["seconds"]["total"] == 1234.0
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "results.json"]


@pytest.mark.parametrize("spoilt", [float("nan"), object()])
def test_failing_save_leaves_what_was_there(
    results: dict[str, Any], tmp_path: Any, spoilt: object
) -> None:
    written = demo.save(results, tmp_path)
    before = [path.read_bytes() for path in written]
    results["seconds"]["total"] = spoilt
    with pytest.raises((ValueError, TypeError)):
        demo.save(results, tmp_path)
    with pytest.raises((ValueError, TypeError)):
        demo.save(results, tmp_path / "new")
    assert [path.read_bytes() for path in written] == before
    assert sorted(tmp_path.iterdir()) == sorted(written)


def test_save_that_cannot_write_leaves_nothing(results: dict[str, Any], tmp_path: Any) -> None:
    (tmp_path / "results.json").mkdir()  # a folder in the way: the last step, the renaming, fails
    with pytest.raises(OSError, match=r"results\.json"):
        demo.save(results, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_out_must_be_a_folder(tmp_path: Any) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(ValueError, match=r"out: expected a folder, got the file"):
        demo.check_out(file)
    with pytest.raises(ValueError, match=r"out: expected a folder that can be written"):
        demo.check_out(file / "below")
    demo.check_out(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    assert file.read_text() == "precious"


def test_interrupting_the_run_passes_on() -> None:
    def interrupt(stage: str, done: int, planned: int) -> None:
        if stage.startswith("verifier"):
            raise KeyboardInterrupt

    config = demo.DemoConfig(n_train=40, n_test=4, models_per_example=4, n_held_out=4)
    with pytest.raises(KeyboardInterrupt):
        demo.run(config, interrupt)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "forest"}, "model: expected 'softmax' or 'mlp'"),
        ({"n_train": 3}, "n_train: expected a whole number of at least 20"),
        ({"n_test": 0}, "n_test"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"budget": 10}, "budget: expected a whole number of at least 64"),
    ],
)
def test_config_is_checked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        demo.DemoConfig(**wrong)


def test_network_with_scores_of_softmax() -> None:
    config = demo.DemoConfig(
        model="mlp", n_train=40, n_test=4, models_per_example=4, n_held_out=4, seed=2, budget=64
    )
    results = demo.run(config)
    titles = {case["key"]: case["title"] for case in results["cases"]}
    assert titles["another_model"] == "scores of a softmax regression"
    assert results["cases"][0]["gap"]["n_retrained"] <= results["config"]["budget"] == 64
