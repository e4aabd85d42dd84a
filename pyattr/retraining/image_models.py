"""The two kinds of model that are trained on image datasets where nobody says how."""

from __future__ import annotations

from typing import Final

from pyattr.datasets import Dataset
from pyattr.errors import bad_value
from pyattr.retraining.ensemble import Ensemble, MLPRecipe, SoftmaxRecipe

__all__ = ["IMAGE_MODELS", "image_ensemble"]

IMAGE_MODELS: Final = ("softmax", "mlp")
_FEW_FEATURES: Final = 64


def image_ensemble(model: str, dataset: Dataset, *, device: str = "cpu") -> Ensemble:
    """Models of a kind on a dataset; the targets are the margins at its test examples.

    Parameters
    ----------
    model : {"softmax", "mlp"}
        Softmax regression, or a network with one hidden layer.
    dataset : Dataset
    device : str
        "cpu" or "cuda".

    Raises
    ------
    ValueError
        If there is no such model or device.
    """
    recipe: SoftmaxRecipe | MLPRecipe
    if model == "softmax":
        # 30 steps bring 64 features close to the optimum; 784 need 60 (see `SoftmaxRecipe`).
        few = dataset.train_images.shape[1] <= _FEW_FEATURES
        recipe = SoftmaxRecipe(n_steps=30 if few else 60)
    elif model == "mlp":
        recipe = MLPRecipe(n_steps=150, init_scale=0.25)
    else:
        raise bad_value("model", " or ".join(map(repr, IMAGE_MODELS)), repr(model))
    return Ensemble(
        recipe,
        dataset.train_images,
        dataset.train_labels,
        dataset.test_images,
        dataset.test_labels,
        device=device,
    )
