"""The two kinds of model that are trained on image datasets where nobody says how."""

from __future__ import annotations

from typing import Any, Final

from pyattr.datasets import Dataset
from pyattr.errors import bad_value
from pyattr.retraining.ensemble import Ensemble
from pyattr.retraining.recipes import Examples, make_recipe, make_retrain

__all__ = ["IMAGE_MODELS", "image_ensemble", "usual_settings"]

IMAGE_MODELS: Final = ("softmax", "mlp")
_FEW_FEATURES: Final = 64


def usual_settings(kind: str, n_features: int) -> dict[str, Any]:
    """Settings of a recipe that suit images.

    Parameters
    ----------
    kind : {"softmax", "mlp"}
        Softmax regression, or a network with one hidden layer.
    n_features : int
        Of an image.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    if kind == "softmax":
        # 30 steps bring 64 features close to the optimum; 784 need 60 (see `SoftmaxRecipe`).
        return {"n_steps": 30 if n_features <= _FEW_FEATURES else 60}
    if kind == "mlp":
        return {"n_steps": 150, "init_scale": 0.25}
    raise bad_value("kind", " or ".join(map(repr, IMAGE_MODELS)), repr(kind))


def image_ensemble(model: str, dataset: Dataset) -> Ensemble:
    """Models of a kind on a dataset; the targets are the margins at its test examples.

    Parameters
    ----------
    model : {"softmax", "mlp"}
    dataset : Dataset

    Raises
    ------
    ValueError
        If there is no such model.
    """
    recipe = make_recipe(model, usual_settings(model, dataset.train_images.shape[1]))
    trained = dataset.train_images, dataset.train_labels
    examples = Examples(*trained, dataset.test_images, dataset.test_labels)
    return make_retrain(recipe, examples, n_threads=None)
