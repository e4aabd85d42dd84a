"""What the demo runs on, and the seeds that everything random in it follows from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyattr.demo.cases import SELLER_NAMES
from pyattr.errors import bad_value, check_count, check_probability
from pyattr.masks import sample_seeds

__all__ = ["MODEL_NAMES", "DemoConfig", "Seeds"]

MODEL_NAMES: Final = {"softmax": "softmax regression", "mlp": "neural network"}
_BUDGETS: Final = {"softmax": 256, "mlp": 1024}
_SMALLEST_BUDGET: Final = 64  # covers a pilot and the smallest designs


@dataclass(frozen=True)
class DemoConfig:
    """What the demo runs on.

    Parameters
    ----------
    dataset : {"digits", "fashion-mnist", "cifar10"}
    model : {"softmax", "mlp"}
    n_train, n_test : int
        Training examples, and test examples as targets.
    seed : int
        Everything random follows from it, the verifiers' secrets too: in earnest they are drawn afresh.
    path : str, optional
        Folder of the dataset.
    models_per_example : int
        Models that the prover trains, as a multiple of `n_train`.
    other_models_per_example : int
        The same for the other model, whose scores one liar publishes.
    n_held_out : int
        Fresh subsets that show how well the scores predict.
    epsilon, delta : float
    budget : int, optional
        Most trainings of a gap verification, and of an interactive challenge; by default 256 for
        softmax regressions, whose outputs hardly depend on the seed, and 1024 for networks.
    """

    dataset: str = "digits"
    model: str = "softmax"
    n_train: int = 1000
    n_test: int = 32
    seed: int = 0
    path: str | None = None
    models_per_example: int = 20
    other_models_per_example: int = 2
    n_held_out: int = 200
    epsilon: float = 0.05
    delta: float = 0.05
    budget: int | None = None

    def __post_init__(self) -> None:
        if self.model not in MODEL_NAMES:
            raise bad_value("model", " or ".join(map(repr, MODEL_NAMES)), repr(self.model))
        check_count("n_train", self.n_train, 4 * len(SELLER_NAMES))
        check_count("n_test", self.n_test, 1)
        check_count("models_per_example", self.models_per_example, 1)
        check_count("other_models_per_example", self.other_models_per_example, 1)
        check_count("n_held_out", self.n_held_out, 2)
        check_probability("epsilon", self.epsilon)
        check_probability("delta", self.delta)
        if self.budget is not None:
            check_count("budget", self.budget, _SMALLEST_BUDGET)

    @property
    def most_trainings(self) -> int:
        """The budget, chosen where none was given."""
        return _BUDGETS[self.model] if self.budget is None else self.budget


@dataclass(frozen=True)
class Seeds:
    """Independent seeds of everything random."""

    masks: int
    runs: int
    other_masks: int
    other_runs: int
    owners: int
    noise: int
    verifier: int
    reference: int
    held_out_masks: int
    held_out_runs: int

    @classmethod
    def of(cls, seed: int) -> Seeds:
        """Derive them all from one."""
        n = len(cls.__dataclass_fields__)
        return cls(*(int(s) for s in sample_seeds(n, seed)))
