"""Verification between two parties that exchange bytes.

`Prover` and `Verifier` know nothing of files or networks: each takes a message and returns what to send
next. `run` connects the two in one process; `pyattr.transport` by files and over HTTP, with signatures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pyattr.protocol.accepted import Accepted
from pyattr.protocol.manifest import Manifest, Subject
from pyattr.protocol.prover import Prover
from pyattr.protocol.verifier import Verifier
from pyattr.verification.verdict import Verdict

__all__ = ["Accepted", "Manifest", "Prover", "Subject", "Verifier", "run"]


def run(prover: Prover, verifier: Verifier) -> Verdict:
    """Carry messages between a prover and a verifier until the session is over.

    Parameters
    ----------
    prover : Prover
    verifier : Verifier

    Returns
    -------
    Verdict
        The verifier's.

    Raises
    ------
    ProtocolError
        If either sends what the other must refuse.

    Examples
    --------
    >>> import numpy as np, pyattr
    >>> truth = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    >>> retrain = lambda masks, seeds: masks.unpack() @ truth
    >>> honest = Prover(retrain, pyattr.Attribution(scores=truth))
    >>> run(honest, Verifier(retrain, n_train=50, n_targets=1)).outcome
    <Outcome.ACCEPT: 'ACCEPT'>
    >>> halved = Prover(retrain, pyattr.Attribution(scores=truth / 2))
    >>> run(halved, Verifier(retrain, n_train=50, n_targets=1)).outcome
    <Outcome.ABORT: 'ABORT'>
    """
    messages: list[bytes] = [verifier.start()]
    sides: Iterator[Prover | Verifier] = itertools.cycle([prover, verifier])
    while messages:
        side = next(sides)
        messages = [answer for message in messages for answer in side.receive(message)]
    return verifier.verdict
