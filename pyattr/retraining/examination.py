"""What retraining promises, tried on the machine at hand."""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from pyattr import kernels
from pyattr.augmentation import Augmentation
from pyattr.retraining.ensemble import Ensemble, MLPRecipe, ResNet9Recipe, SoftmaxRecipe
from pyattr.retraining.ffcv_loader import BetonImages, write_beton
from pyattr.retraining.images import ImagesInMemory, Schedule
from pyattr.retraining.platform import check_device, check_equal_bytes, platform_class

__all__ = ["Examination", "equality_class", "examine"]

_PACKAGES = ("pyattr", "numpy", "scipy", "torch", "numba", "ffcv", "ray")
_SIZE = 28  # pixels of the square images

# From the best to none; CheckEquiv calls for the first.
_CLASSES = {
    "any": "equal bytes alone, in any company and order, on 1 and 2 threads",
    "same company": "equal bytes run to run only: a model's company, order or threads change them",
    "none": "no equal bytes: the same run twice differs",
}


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes
    ----------
    device : str
    versions : dict
        By package; None where it is not installed.
    extension : dict
        See `pyattr.kernels.extension_levels`.
    platform_class : dict
        See `pyattr.retraining.platform.platform_class`.
    equal_bytes : dict
        By kind of model what `pyattr.retraining.platform.check_equal_bytes` found.
    equality : dict
        By kind of model the class that holds: "any", "same company" or "none".
    ffcv : str
        "same bytes as in memory", "other bytes than in memory" or "not installed".
    promises_hold : bool
        On a processor: every kind of model is of class "any". On CUDA: none is of class "none". And the
        FFCV feed, if installed, gives the bytes of the one in memory.
    """

    device: str
    versions: dict[str, str | None]
    extension: dict[str, bool]
    platform_class: dict[str, Any]
    equal_bytes: dict[str, dict[str, bool]]
    equality: dict[str, str]
    ffcv: str
    promises_hold: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)

    def sentence(self, kind: str) -> str:
        """What the class of a kind of model means."""
        return _CLASSES[self.equality[kind]]


def equality_class(equal: dict[str, bool]) -> str:
    """Name the class of what `pyattr.retraining.platform.check_equal_bytes` found."""
    if all(equal.values()):
        return "any"
    return "same company" if equal["repeated"] else "none"


def examine(device: str = "cpu") -> Examination:
    """Train each kind of model alone, in company, on 1 and 2 threads, and compare bytes.

    Parameters
    ----------
    device : str
        "cpu", "cuda" or "cuda:<number>".

    Returns
    -------
    Examination

    Raises
    ------
    ValueError
        If there is no such device.
    """
    kind = check_device(device).type
    equal = {name: check_equal_bytes(ensemble) for name, ensemble in _ensembles(device).items()}
    equality = {name: equality_class(found) for name, found in equal.items()}
    ffcv = _ffcv_feed()
    promised = ("any",) if kind == "cpu" else ("any", "same company")
    holds = all(found in promised for found in equality.values()) and not ffcv.startswith("other")
    return Examination(
        device=device,
        versions={package: _version(package) for package in _PACKAGES},
        extension=kernels.extension_levels(),
        platform_class=platform_class(device),
        equal_bytes=equal,
        equality=equality,
        ffcv=ffcv,
        promises_hold=holds,
    )


def _ensembles(device: str) -> dict[str, Ensemble]:
    """One of each kind, on noise: what matters is which kernels run, not what is learned."""
    rng = np.random.default_rng(0)

    def made(recipe: Any, n: int, n_features: int, n_targets: int) -> Ensemble:
        x = rng.random((n + n_targets, n_features), dtype=np.float32)
        y = np.arange(n + n_targets) % 10
        return Ensemble(recipe, x[:n], y[:n], x[n:], y[n:], device=device)

    resnet = ResNet9Recipe(
        epochs=1.0,
        share=1.0,
        batch_size=50,
        learning_rate=0.1,
        width_multiplier=0.25,
        channels=1,
        height=_SIZE,
        width=_SIZE,
    )
    return {
        "softmax": made(SoftmaxRecipe(n_steps=4), 1000, 64, 100),
        "mlp": made(MLPRecipe(n_steps=6), 1000, 64, 100),
        "resnet9": made(resnet, 150, _SIZE**2, 20),
    }


def _ffcv_feed() -> str:
    """Compare the FFCV feed with the one in memory."""
    if importlib.util.find_spec("ffcv") is None:
        return "not installed"
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3), np.uint8)
    augmentation, fill = Augmentation(flip=True, translate=2, cutout=4), np.zeros(3, np.uint8)
    schedule = Schedule.of(np.arange(40) % 3 > 0, 1, 6, 16, augmentation)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "images.beton")
        write_beton(path, images, np.zeros(40, np.int64))
        sources = (BetonImages(path), ImagesInMemory(images))
        ours, theirs = (
            b"".join(batch.tobytes() for batch in source.batches(schedule, fill))
            for source in sources
        )
    return f"{'same bytes as' if ours == theirs else 'other bytes than'} in memory"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
