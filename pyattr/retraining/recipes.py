"""The recipes that a job can name, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pyattr.errors import bad_value, did_you_mean, one_of
from pyattr.retraining.ensemble import Ensemble
from pyattr.retraining.images import ImageSource
from pyattr.retraining.mlp import MLPRecipe
from pyattr.retraining.resnet9 import ResNet9Recipe
from pyattr.retraining.resnet9_network import LEAST_SIZE
from pyattr.retraining.softmax import SoftmaxRecipe

__all__ = ["RECIPES", "Examples", "make_recipe", "make_retrain"]

RECIPES: Final[dict[str, type[Any]]] = {
    "softmax": SoftmaxRecipe,
    "mlp": MLPRecipe,
    "resnet9": ResNet9Recipe,
}
"""By the name that stands in a job; a recipe is a frozen dataclass that `Ensemble` trains."""

_TYPES: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_OF_IMAGES: Final = ("channels", "height", "width")  # fields that follow from the data
_LARGEST: Final = 2**53  # float64 has all integers up to here


@dataclass(frozen=True, eq=False)
class Examples:
    """What models are trained and tested on.

    Attributes
    ----------
    train_features : (n_examples, n_features) float32, or ImageSource
        The latter for recipes of images.
    train_labels : (n_examples,) int64
    test_features : (n_targets, n_features) float32
    test_labels : (n_targets,) int64
    groups : (n_examples,) int64, optional
        The mask bit of each training example, as `Ensemble` takes it.
    """

    train_features: NDArray[np.float32] | ImageSource
    train_labels: NDArray[np.int64]
    test_features: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None


def make_recipe(
    kind: str, settings: Mapping[str, Any], image_shape: tuple[int, ...] | None = None
) -> Any:
    """Make a recipe from its name and what differs from its defaults.

    Parameters
    ----------
    kind : str
        Of `RECIPES`.
    settings : mapping
        Fields of the recipe; types as its defaults have, but 1 is 1.0 where these are. Not the size of
        images.
    image_shape : tuple of int, optional
        (height, width) or (channels, height, width); "resnet9" needs it.

    Raises
    ------
    ValueError
        If one is unknown, or of another type or out of range, or the images are too small; the
        message names it.
    """
    if kind not in RECIPES:
        raise bad_value("kind", one_of(RECIPES), f"{kind!r}{did_you_mean(kind, RECIPES)}")
    known = {field.name: field.default for field in fields(RECIPES[kind])}
    size: dict[str, int] = {}
    if known.keys() >= set(_OF_IMAGES):
        size = _image_size(kind, image_shape)
        known = {name: default for name, default in known.items() if name not in size}
    for name, value in settings.items():
        if name not in known:
            expected = f"a setting of {kind}: {', '.join(known)}"
            raise bad_value(name, expected, f"another{did_you_mean(name, known)}")
        if not _of_type(value, known[name]):
            expected = f"{_TYPES[type(known[name])]}, such as {known[name]!r}"
            got = str(value).lower() if isinstance(value, bool) else repr(value)
            raise bad_value(name, expected, got)
    # A recipe's record tells 1 from 1.0, so that one setting must not have both.
    plain = {
        name: float(value) if isinstance(known[name], float) else value
        for name, value in settings.items()
    }
    return RECIPES[kind](**plain, **size)


def _image_size(kind: str, image_shape: tuple[int, ...] | None) -> dict[str, int]:
    if image_shape is None or len(image_shape) not in (2, 3):
        raise bad_value("image_shape", "that of the images", image_shape)
    height, width = image_shape[-2:]
    if min(height, width) < LEAST_SIZE:
        expected = f"a recipe for images below {LEAST_SIZE} x {LEAST_SIZE} pixels"
        raise bad_value("kind", expected, f"{kind!r} for {height} x {width}")
    channels = image_shape[0] if len(image_shape) == 3 else 1
    return dict(zip(_OF_IMAGES, (channels, height, width), strict=True))


def _of_type(value: object, like: object) -> bool:
    if isinstance(like, float) and type(value) is int:
        return abs(value) <= _LARGEST
    return type(value) is type(like)


def make_retrain(
    recipe: Any, examples: Examples, device: str = "cpu", n_threads: int | None = 1
) -> Ensemble:
    """Make the trainer of a recipe.

    Parameters
    ----------
    recipe : recipe
        From `make_recipe`.
    examples : Examples
    device : str
        "cpu" or "cuda".
    n_threads : int, optional
        One for a worker that shares the machine with others; None takes all.
    """
    return Ensemble(
        recipe,
        examples.train_features,
        examples.train_labels,
        examples.test_features,
        examples.test_labels,
        groups=examples.groups,
        device=device,
        n_threads=n_threads,
    )
