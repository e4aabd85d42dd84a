"""Arrays as tensors of a message, and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyattr.protocol import merkle
from pyattr.protocol.encoding import Tensor
from pyattr.protocol.messages import rows_per_leaf
from pyattr.protocol.words import CLIP_HIGHEST, CLIP_LOWEST
from pyattr.verification.scores import LinearScores

__all__ = [
    "as_clip",
    "attribution_tensors",
    "from_tensor",
    "output_leaves",
    "outputs_root",
    "to_tensor",
]

Array = npt.NDArray[np.float32]


def to_tensor(array: Array) -> Tensor:
    """Bytes of a float32 array, little-endian, C order."""
    return Tensor("F32", array.shape, array.astype("<f4", copy=False).tobytes())


def from_tensor(tensor: Tensor) -> Array:
    """Read-only float32 array of a tensor."""
    array = np.frombuffer(tensor.data, dtype="<f4").reshape(tensor.shape)
    return array.astype(np.float32, copy=False)


def attribution_tensors(scores: LinearScores) -> dict[str, Tensor]:
    """What a prover commits to."""
    return {"scores": to_tensor(scores.scores), "intercept": to_tensor(scores.intercept)}


def output_leaves(outputs: Array) -> list[memoryview]:
    """The rows of outputs as the leaves of their tree: one row each, unless there are very many."""
    data = np.ascontiguousarray(outputs, dtype="<f4")
    whole, step = memoryview(data.tobytes()), rows_per_leaf(len(data)) * 4 * data.shape[1]
    return [whole[at : at + step] for at in range(0, len(whole), step)]


def outputs_root(outputs: Array, leaf_key: bytes, session: str) -> str:
    """What a prover commits to before anything of the spot checks can be seen.

    Parameters
    ----------
    outputs : (n_outputs, n_targets) float32
    leaf_key : bytes
        Salts follow from it, so that outputs cannot be guessed from a proof of others.
    session : str
        Session id: a root is of no use in another session.
    """
    return merkle.root(output_leaves(outputs), leaf_key, context=bytes.fromhex(session))


def as_clip(value: float) -> float:
    """Nearest b that both sides understand alike.

    A number that outputs can take, since a clip between two of them would mean two things; and in the
    range of `messages.Clip`.
    """
    return float(np.float32(min(max(value, CLIP_LOWEST), CLIP_HIGHEST)))
