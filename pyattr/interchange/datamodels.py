"""MadryLab's datamodels: stores of models, the published matrices, and fitted weights.

A store is a folder that ``datamodels.training.initialize_store`` makes and its workers fill:

===================  =======  ======================  ==================================================
file                 dtype    shape                   holds
===================  =======  ======================  ==================================================
``masks.npy``        bool     (n_models, n_train)     subsets; the name is the key in the specification
``margins.npy``      float16  (n_models, n_targets)   outputs; likewise, and any float
``_completed.npy``   bool     (n_models,)             whether the worker of the row came to its end
===================  =======  ======================  ==================================================

Rows that were not completed hold zeros or what a killed worker left. The published data
(``train_masks_50pct.npy``, ``test_margins_50pct.npy``) are the same matrices without flags.

Checked against ``training/initialize_store.py``, ``training/worker.py`` and
``regression/compute_datamodels.py`` of MadryLab/datamodels, ``fast_l1/regressor.py`` of MadryLab/fast_l1
and the README of MadryLab/datamodels-data, as public in 2025.

References
----------
Ilyas, Park, Engstrom, Leclerc, Madry 2022 (arXiv 2202.00622).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pyattr.attribution import Attribution
from pyattr.errors import bad_value, check_probability
from pyattr.interchange.array_files import blocks, map_array
from pyattr.interchange.recorded_models import RecordedModels, gather
from pyattr.masks import Masks
from pyattr.optional import optional_module

__all__ = [
    "read_datamodels_arrays",
    "read_datamodels_store",
    "read_datamodels_weights",
    "write_datamodels_store",
]

_COMPLETED: Final = "_completed"
_MASKS: Final = "(n_models, n_train) bool"
_OUTPUTS: Final = "(n_models, n_targets) float (of logits, pyattr.margins makes them)"

StrPath = str | os.PathLike[str]


def read_datamodels_store(
    folder: StrPath,
    *,
    masks: str = "masks",
    outputs: str = "margins",
    targets: slice | None = None,
) -> RecordedModels:
    """Read the models of a store whose workers came to their end.

    Parameters
    ----------
    folder : str or path
        The ``logdir`` of the workers.
    masks, outputs : str
        Keys of the specification.
    targets : slice, optional
        Columns of the outputs; all if not given.

    Returns
    -------
    RecordedModels
        Memory: the packed masks. Outputs stay on disk.

    Raises
    ------
    ValueError
        If a file is not what the table says, or no row is usable; the message names the file.
    FileNotFoundError
        If one is missing.
    """
    place = Path(folder)
    flags = map_array(place / f"{_COMPLETED}.npy", 1, "b", "(n_models,) bool")
    return _read(place / f"{masks}.npy", place / f"{outputs}.npy", flags, targets)


def read_datamodels_arrays(
    masks: StrPath, outputs: StrPath, *, targets: slice | None = None
) -> RecordedModels:
    """Read a matrix of masks and one of outputs, as published.

    Parameters
    ----------
    masks : str or path
        ``train_masks_{PCT}pct.npy``, (n_models, n_train) bool.
    outputs : str or path
        ``test_margins_{PCT}pct.npy``, (n_models, n_targets) float16.
    targets : slice, optional
        Columns of the outputs; all if not given.

    Returns
    -------
    RecordedModels
        As from `read_datamodels_store`.

    Raises
    ------
    ValueError, FileNotFoundError
        As there.
    """
    return _read(Path(masks), Path(outputs), None, targets)


def _read(
    masks: Path, outputs: Path, flags: NDArray[np.bool_] | None, targets: slice | None
) -> RecordedModels:
    bits = map_array(masks, 2, "b", _MASKS)
    values = map_array(outputs, 2, "f", _OUTPUTS)
    return gather(f"{masks}, {outputs}", bits, values[:, targets or slice(None)], flags)


def write_datamodels_store(
    folder: StrPath, masks: Masks, outputs: NDArray[Any], *, dtype: type = np.float16
) -> None:
    """Write models as a store, all of them completed.

    Parameters
    ----------
    folder : str or path
        Made if it is not there.
    masks : Masks
        n_models subsets.
    outputs : (n_models, n_targets) float
        Read in blocks.
    dtype : type
        Of ``margins.npy``. float16 is what the tool's own examples use, and keeps 3 digits.

    Raises
    ------
    ValueError
        If the shapes do not fit, or an output is not finite in this type.
    FileExistsError
        If there is a store already.
    """
    if outputs.ndim != 2 or len(outputs) != len(masks):
        raise bad_value("outputs", f"({len(masks)}, n_targets)", outputs.shape)
    if np.dtype(dtype).kind != "f":
        raise bad_value("dtype", "a floating-point type", dtype)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{_COMPLETED}.npy").open("xb").close()  # of two writers one is refused
    bits = _create(place / "masks.npy", np.bool_, (len(masks), masks.n_train))
    values = _create(place / "margins.npy", dtype, outputs.shape)
    for part in blocks(len(masks), masks.n_train + outputs.shape[1] * outputs.itemsize):
        with np.errstate(over="ignore"):
            block: NDArray[Any] = np.asarray(outputs[part]).astype(dtype)
        if not np.isfinite(block).all():
            raise bad_value("outputs", f"finite numbers within {np.dtype(dtype)}", f"rows {part}")
        bits[part], values[part] = masks[part].unpack(), block
    bits.flush()
    values.flush()
    done = _create(place / f"{_COMPLETED}.npy", np.bool_, (len(masks),))
    done[:] = True
    done.flush()


def _create(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def read_datamodels_weights(
    path: StrPath, p: float, *, standardised: bool = True, targets: slice | None = None
) -> Attribution:
    """Read fitted datamodels: ``datamodels.pt``, or the published ``test_{PCT}pct.pt``.

    Parameters
    ----------
    path : str or path
        A dictionary of ``weight`` (n_train, n_targets), ``bias`` and ``lam`` (n_targets,), read by
        torch without running code in it. Needs torch.
    p : float
        Share of a mask.
    standardised : bool
        Whether the weights belong to ``(x - p) / √(p (1 - p))``, as fast_l1 returns them; they are
        turned into the 0/1 coding. False: to x itself. Which it is shows in `held_out_r2`.
    targets : slice, optional
        Columns to read; all if not given.

    Returns
    -------
    Attribution
        ``method`` "datamodels", and ``details["lambda"]`` on fast_l1's own scale. fast_l1 takes
        mean and spread of each x from its rows, which at n rows differ from these by a relative
        ``1/√n`` or so.

    Raises
    ------
    ValueError
        If the file is not such a dictionary, or a value is not finite.
    FileNotFoundError, RuntimeError
        If it, or torch, is not there.
    """
    p = check_probability("p", p)
    torch = optional_module("torch", "torch")
    place = Path(path)
    with place.open("rb"):  # torch does not say which file is missing
        pass
    try:
        stored = torch.load(place, map_location="cpu", weights_only=True, mmap=True)
        tensors = {name: stored[name].numpy() for name in ("weight", "bias", "lam")}
    except Exception as error:  # of a reader of anything
        expected = "tensors weight, bias and lam in a file of torch.save"
        raise bad_value(str(place), expected, f"{type(error).__name__}: {error}") from error
    weight, bias, lam = tensors["weight"], tensors["bias"], tensors["lam"]
    n_targets = weight.shape[1] if weight.ndim == 2 else 0
    if not n_targets or bias.shape != (n_targets,) or lam.shape != (n_targets,):
        got = f"{weight.shape}, {bias.shape}, {lam.shape}"
        raise bad_value(str(place), "(n_train, n_targets), (n_targets,), (n_targets,)", got)
    columns = targets or slice(None)
    scores, intercept = weight[:, columns], bias[columns].astype(np.float64)
    if standardised:
        scores = scores / np.float32(np.sqrt(p * (1.0 - p)))
        intercept = intercept - p * scores.sum(axis=0, dtype=np.float64)
    return Attribution(scores, intercept, method="datamodels", details={"lambda": lam[columns]})
