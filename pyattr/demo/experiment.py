"""The demo: one prover, honest and lying, against three verifiers, on real data.

Everything is trained here, and what came of it is returned as plain JSON values.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pyattr.attribution import Attribution, fit_datamodel
from pyattr.datasets import Dataset, load
from pyattr.demo.cases import SELLER_NAMES, Judged, Metered, Terms, judge_scores, score_lies
from pyattr.demo.config import MODEL_NAMES, DemoConfig, Seeds
from pyattr.demo.evidence import examples, quality
from pyattr.demo.results import case_record, findings, payments, plain
from pyattr.demo.sessions import judge_sessions
from pyattr.masks import sample_masks, sample_seeds
from pyattr.retraining.ensemble import Ensemble
from pyattr.retraining.image_models import image_ensemble
from pyattr.retraining.platform import platform_class
from pyattr.verification import ClusterDesign, Verdict, verify
from pyattr.verification.clusters import LEAST_CLUSTERS
from pyattr.verification.scores import LinearScores
from pyattr.versions import installed_versions

__all__ = ["SCHEMA", "Progress", "dataset_of", "run"]

Array = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Called with a stage in words, what is done of it and what is planned."""

SCHEMA: Final = "pyattr-demo/2"
_P = 0.5
_PACKAGES = ("numpy", "scipy", "torch", "scikit-learn")
_OTHER: Final = {"softmax": "mlp", "mlp": "softmax"}
_IN_THE_TABLE: Final = {"softmax": "a softmax regression", "mlp": "a neural network"}


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started

    @property
    def total(self) -> float:
        return time.perf_counter() - self._started


def dataset_of(config: DemoConfig) -> Dataset:
    """Load what the demo runs on.

    Raises
    ------
    ValueError
        If the dataset has not as many examples.
    FileNotFoundError, RuntimeError
        If the dataset or a package for it is missing; the message says what to do.
    """
    return load(config.dataset, config.n_train, config.n_test, seed=config.seed, path=config.path)


def run(
    config: DemoConfig, progress: Progress | None = None, dataset: Dataset | None = None
) -> dict[str, Any]:
    """Run the demo.

    Parameters
    ----------
    config : DemoConfig
    progress : callable, optional
    dataset : Dataset, optional
        From `dataset_of`; loaded if not given.

    Returns
    -------
    dict
        JSON values only, `SCHEMA`; all that `save` writes and the report shows.

    Raises
    ------
    ValueError, FileNotFoundError, RuntimeError
        As `dataset_of`.
    """
    tell = progress or (lambda stage, done, planned: None)
    clock, seeds = _Clock(), Seeds.of(config.seed)
    with clock.stage("load"):
        dataset = dataset or dataset_of(config)
        ensemble = image_ensemble(config.model, dataset)
    owners = _sellers(config.n_train, seeds.owners)
    with clock.stage("prover"):
        honest, prover = _fit(ensemble, config.models_per_example, seeds.masks, seeds.runs, tell)
    with clock.stage("other model"):
        other = _other_scores(config, dataset, honest, seeds, tell)
    with clock.stage("verifier"):
        judged, of_mean = _judge_all(ensemble, honest, other, owners, config, seeds, tell)
    with clock.stage("reference"):
        reference = _reference(ensemble, honest, config, seeds, tell)
        masks = sample_masks(config.n_held_out, config.n_train, _P, seeds.held_out_masks)
        outputs = ensemble(masks, sample_seeds(config.n_held_out, seeds.held_out_runs))
    variance = np.maximum(reference.details["variance"], 1e-12)
    cases = [case_record(one, honest, reference.gap, variance) for one in judged]
    held_out = quality(honest, dataset, masks, outputs)
    targets = [panel["target"] for panel in held_out["scatter"]]
    return {
        "schema": SCHEMA,
        **_provenance(config, dataset, ensemble),
        "prover": plain(prover),
        "cases": cases,
        "findings": findings(cases),
        "quality": held_out,
        "examples": examples(honest, dataset, targets, owners),
        "payments": payments(judged, honest, of_mean, owners),
        "reference": plain({"n_models": reference.n_retrained, "gap": reference.gap}),
        "seconds": plain(clock.seconds | {"total": clock.total}),
    }


def _judge_all(
    ensemble: Ensemble,
    honest: Attribution,
    other: LinearScores,
    owners: npt.NDArray[np.int64],
    config: DemoConfig,
    seeds: Seeds,
    tell: Progress,
) -> tuple[list[Judged], Verdict]:
    """Every prover, alone and in sessions; see `judge_scores` for the verdict."""
    terms = Terms(config.epsilon, config.delta, config.most_trainings, seeds.verifier)
    n_honest = config.models_per_example * config.n_train
    n_other = config.other_models_per_example * config.n_train
    judged, of_mean = judge_scores(
        Metered(ensemble),
        honest,
        score_lies(owners, other, _IN_THE_TABLE[_OTHER[config.model]], seeds.noise),
        {"honest": n_honest, "another_model": n_other},
        terms,
        _stage(tell, "verifier: judge scores and lies about them"),
    )
    stage = _stage(tell, "both: interactive sessions")
    return judged + judge_sessions(ensemble, honest, n_honest, terms, stage), of_mean


def _stage(tell: Progress, stage: str) -> Callable[[int, int], None]:
    """Progress of one stage."""
    return lambda done, planned: tell(stage, done, planned)


def _sellers(n_train: int, seed: int) -> npt.NDArray[np.int64]:
    """Equal random parts: seller of each training example, (n_train,) int64."""
    owners = np.arange(n_train, dtype=np.int64) % len(SELLER_NAMES)
    return np.random.Generator(np.random.Philox(seed)).permutation(owners)


def _fit(
    ensemble: Ensemble, models_per_example: int, mask_seed: int, run_seed: int, tell: Progress
) -> tuple[Attribution, dict[str, Any]]:
    """Train models on random subsets and fit scores to them: the prover's work."""
    n_models = models_per_example * ensemble.n_train
    stage = f"prover: train {n_models:,} models"
    tell(stage, 0, n_models)
    train = Metered(ensemble, lambda done: tell(stage, done, n_models))
    masks = sample_masks(n_models, ensemble.n_train, _P, mask_seed)
    outputs = train(masks, sample_seeds(n_models, run_seed))
    fitting = "prover: fit scores"
    tell(fitting, 0, 1)
    started = time.perf_counter()
    scores = fit_datamodel(masks, outputs, method="ridge")
    fit_seconds = time.perf_counter() - started
    tell(fitting, 1, 1)
    record = {"n_models": n_models, "train_seconds": train.seconds, "fit_seconds": fit_seconds}
    return scores, {**record, "method": scores.method}


def _other_scores(
    config: DemoConfig, dataset: Dataset, honest: Attribution, seeds: Seeds, tell: Progress
) -> LinearScores:
    """Scores of another kind of model, with the intercept that keeps the mean prediction right."""
    name = _OTHER[config.model]
    ensemble = image_ensemble(name, dataset)

    def rename(stage: str, done: int, planned: int) -> None:
        tell(stage.replace("prover", f"liar ({MODEL_NAMES[name]})"), done, planned)

    scores, _ = _fit(
        ensemble, config.other_models_per_example, seeds.other_masks, seeds.other_runs, rename
    )
    shift = _P * np.sum(scores.scores.astype(np.float64) - honest.scores, axis=0)
    return LinearScores(scores.scores, (honest.intercept - shift).astype(np.float32))


def _reference(
    ensemble: Ensemble,
    honest: Attribution,
    config: DemoConfig,
    seeds: Seeds,
    tell: Progress,
) -> Verdict:
    """Measure the honest gap with models that no verifier saw, and about as many."""
    # Outputs of softmax regressions hardly depend on the seed; those of networks need leaves.
    n_leaves = 1 if config.model == "softmax" else 8
    return verify(
        Metered(ensemble),
        honest,
        epsilon=config.epsilon,
        delta=config.delta,
        seed=seeds.reference,
        design=ClusterDesign(
            max(LEAST_CLUSTERS, config.most_trainings // (2 * n_leaves)), n_leaves
        ),
        progress=_stage(tell, "referee: measure the true gap on fresh models"),
    )


def _provenance(config: DemoConfig, dataset: Dataset, ensemble: Ensemble) -> dict[str, Any]:
    """What was run, on what, where and when."""
    record: dict[str, Any] = plain(
        {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "config": {**asdict(config), "budget": config.most_trainings, "p": _P},
            "dataset": {
                "name": dataset.name,
                "n_train": dataset.n_train,
                "n_test": dataset.n_test,
                "n_features": dataset.train_images.shape[1],
                "class_names": dataset.class_names,
                "image_shape": dataset.image_shape,
            },
            "model_name": MODEL_NAMES[config.model],
            "other_model_name": MODEL_NAMES[_OTHER[config.model]],
            "recipe": ensemble.recipe_record(),
            "packages": installed_versions("pyattr", *_PACKAGES),
            "platform": {
                "system": platform.platform(),
                "processors": os.cpu_count(),
                "class": platform_class(),
            },
        }
    )
    return record
