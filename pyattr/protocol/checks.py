"""Which outputs a verifier checks: secret until it opens its key, and not its choice.

The key is sealed in the first message of a session, before anything is known of the prover; the rows
follow from it and from the digest of the prover's last message, before which all outputs were fixed. So
nothing a prover does can depend on the rows, a verifier cannot choose them to its liking, and anyone who
is shown the key finds the same ones again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyattr.protocol.hashing import keystream
from pyattr.verification.spot_check import choose_rows, choose_weighted

__all__ = ["SecretChecks"]

Rows = npt.NDArray[np.int64]


class SecretChecks:
    """Spot checks of one session.

    Parameters
    ----------
    key : bytes
        From the operating system's generator, or derived from what is.
    transcript : str
        Digest of the message after which they are drawn.
    """

    def __init__(self, key: bytes, transcript: str) -> None:
        self._parts = (key, bytes.fromhex(transcript))

    def _uniforms(self, n_outputs: int) -> npt.NDArray[np.uint64]:
        stream = keystream("spot checks/2", 8 * n_outputs, *self._parts)
        return np.frombuffer(stream, dtype="<u8").astype(np.uint64, copy=False)

    def uniform(self, n_outputs: int, n_checked: int) -> Rows:
        """So many rows, every set of them as likely as any other; sorted."""
        return choose_rows(self._uniforms(n_outputs), n_checked)

    def weighted(self, probabilities: npt.NDArray[np.float64]) -> Rows:
        """Each row on its own with its probability; sorted, and their number is random."""
        return choose_weighted(self._uniforms(len(probabilities)), probabilities)
