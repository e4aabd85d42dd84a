"""What each side keeps secret in a session: 32 bytes, from which everything else follows.

A side that crashed goes on with the same secret and sends the same bytes again; an auditor who is shown
a verifier's secret can make every choice of it again. Both sides are bound to their part of the
challenge's seed before they know the other's, so neither can choose it, nor draw it again by crashing.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from pyattr.errors import bad_value
from pyattr.protocol.hashing import equal, labelled_hash

__all__ = [
    "SECRET_BYTES",
    "ProverSecrets",
    "VerifierSecrets",
    "challenge_seed",
    "check_secret",
    "fresh_secret",
    "opens",
    "sealed",
    "secret_of",
]

SECRET_BYTES: Final = 32


def fresh_secret() -> bytes:
    """A secret from the operating system's generator."""
    return secrets.token_bytes(SECRET_BYTES)


def secret_of(seed: int) -> bytes:
    """The secret of a demonstration or a test that is to be repeated: known to whoever knows the seed."""
    return bytes.fromhex(labelled_hash("seeded secret/1", seed.to_bytes(8, "little")))


def check_secret(secret: bytes | None) -> bytes:
    """Return a secret as given, or a fresh one for None.

    Raises
    ------
    ValueError
        If it is anything but 32 bytes; the message does not show it.
    """
    if secret is None:
        return fresh_secret()
    if not isinstance(secret, bytes) or len(secret) != SECRET_BYTES:
        got = f"{len(secret)} bytes" if isinstance(secret, bytes) else type(secret).__name__
        raise bad_value("secret", f"{SECRET_BYTES} bytes", got)
    return secret


def _derived(purpose: str, secret: bytes) -> bytes:
    return bytes.fromhex(labelled_hash(f"secret/{purpose}", secret))


def _number(derived: bytes) -> int:
    return int.from_bytes(derived[:8], "little")


def sealed(purpose: str, value: bytes) -> str:
    """Digest that binds to a secret value without showing it."""
    return labelled_hash(f"sealed/{purpose}", value)


def opens(digest: str, purpose: str, value: str) -> bool:
    """Whether a value in hexadecimal is the one that was sealed."""
    return equal(digest, sealed(purpose, bytes.fromhex(value)))


@dataclass(frozen=True, repr=False)
class VerifierSecrets:
    """Of a verifier.

    Parameters
    ----------
    randomness : bytes
        Its part of the challenge's seed: sealed in the invitation, opened by the challenge.
    check_key : bytes
        The spot checks follow from it: sealed in the invitation, opened to an auditor only.
    pilot, fresh : int
        Seeds of its own trainings, in [0, 2^64).
    """

    randomness: bytes
    check_key: bytes
    pilot: int
    fresh: int

    @classmethod
    def of(cls, secret: bytes) -> VerifierSecrets:
        """All that follows from a secret."""
        return cls(
            _derived("randomness", secret),
            _derived("check key", secret),
            _number(_derived("pilot", secret)),
            _number(_derived("fresh", secret)),
        )


@dataclass(frozen=True, repr=False)
class ProverSecrets:
    """Of a prover.

    Parameters
    ----------
    randomness : bytes
        Its part of the challenge's seed.
    salt : bytes
        Hides scores in the commitment until they are opened.
    leaf_key : bytes
        The salts of the outputs' Merkle tree follow from it.
    """

    randomness: bytes
    salt: bytes
    leaf_key: bytes

    @classmethod
    def of(cls, secret: bytes) -> ProverSecrets:
        """All that follows from a secret."""
        return cls(*(_derived(name, secret) for name in ("prover randomness", "salt", "leaf key")))


def challenge_seed(verifiers: bytes, provers: bytes, transcript: str) -> str:
    """Seed of a challenge's masks and trainings: 64 bits in hexadecimal.

    Parameters
    ----------
    verifiers, provers : bytes
        The randomness of both.
    transcript : str
        Digest of the commitment, and so of the manifest before it.
    """
    return labelled_hash("challenge seed/2", verifiers, provers, bytes.fromhex(transcript))[:16]
