"""Two parties of a session for tests: all their messages, and challenges that are known beforehand."""

from __future__ import annotations

from types import MethodType

from pyattr.protocol import Prover, Verifier
from pyattr.protocol.encoding import decode_header
from pyattr.protocol.messages import DECODER
from pyattr.protocol.randomness import secret_of


def exchange(prover: Prover, verifier: Verifier, n_messages: int = 6) -> list[bytes]:
    """The first messages of a session: all but the last of them have been received, too."""
    messages = [verifier.start()]
    for received in range(n_messages - 1):
        data = messages[received]
        end = prover if header(data).sender == "verifier" else verifier
        messages += end.receive(data)
    return messages[:n_messages]


def verifier_with(**steps) -> type[Verifier]:
    """A verifier that takes some of its `VerifierSteps` otherwise, and is the same in all else."""

    class Other(Verifier):
        def __init__(self, *arguments, **terms):
            super().__init__(*arguments, **terms)
            for name, step in steps.items():
                assert hasattr(self._steps, name)
                setattr(self._steps, name, MethodType(step, self._steps))

    return Other


def header(data: bytes):
    """What a message says."""
    return DECODER.decode(data[12 : 12 + int.from_bytes(data[8:12], "little")])


def decode(data: bytes):
    """Message and the bytes of its tensors."""
    return decode_header(data, DECODER, len(data))


def secrets_of(seed: int | None) -> tuple[bytes | None, bytes | None]:
    """Secrets of prover and verifier: with a seed, the same challenge whenever they meet."""
    if seed is None:
        return None, None
    return secret_of(2 * seed), secret_of(2 * seed + 1)
