"""A prover's server and its verifier for tests, over loopback: in threads, or in processes to be killed."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import msgspec
from cube import smooth_function
from two_parties import exchange

from pyattr.protocol import Verifier
from pyattr.protocol.hashing import message_hash
from pyattr.protocol.keys import SigningKey
from pyattr.protocol.manifest import Subject
from pyattr.protocol.randomness import secret_of
from pyattr.protocol.signing import seal
from pyattr.transport.client import ProverClient, hold_session, send_decision
from pyattr.transport.directory import MESSAGES, SessionDirectory
from pyattr.transport.host import Host
from pyattr.transport.ledger import Ledger
from pyattr.transport.listener import Address, listen, server_of
from pyattr.transport.server import Limits, application
from pyattr.transport.terms import Quotas, Terms
from pyattr.transport.verifier_side import VerifierSide
from pyattr.verification import ClusterDesign

FUNCTION = smooth_function(60, cubic=0.01, n_targets=2)
PROVER, VERIFIER = SigningKey.generate(), SigningKey.generate()
SUBJECT = Subject(output="margin", recipe={"n_steps": 30})
WORDS = {
    "n_train": 60,
    "n_targets": 2,
    "epsilon": 0.2,
    "subject": SUBJECT,
    "design": ClusterDesign(16, 4, 0.5, 0.5),
    "clip": 8.0,
}


def terms(retrain=FUNCTION, **words):
    """What the prover agrees to."""
    agreed = {"subject": SUBJECT, "agreed": {"epsilon": 0.2}}
    return replace(Terms(retrain, FUNCTION.best, PROVER, VERIFIER.public, **agreed), **words)


def ends(seed, **words):
    """Prover and verifier in one process, whose messages are known."""
    prover = terms().prover(FUNCTION, secret_of(2 * seed))
    verifier = Verifier(
        FUNCTION,
        **(WORDS | words),
        prover_key=PROVER.public.hex,
        key=VERIFIER.public.hex,
        secret=secret_of(2 * seed + 1),
    )
    return prover, verifier


def transcript(seed, n_messages=6, **words):
    """The sealed messages of a session."""
    messages = exchange(*ends(seed, **words), n_messages)
    keys = [PROVER if number in (1, 3, 4) else VERIFIER for number in range(len(messages))]
    return [seal(message, key) for message, key in zip(messages, keys, strict=True)]


def keep_secret(path, role, secret):
    """Write the secret of a side before it has begun."""
    with SessionDirectory(path, role, create=True) as directory:
        directory.write_private(msgspec.json.encode({"secret": secret.hex()}))


def prepare_prover(tmp_path, seed, **words):
    """Give the prover its secret; returns the session's name."""
    place = message_hash(ends(seed, **words)[1].start())
    keep_secret(tmp_path / "host" / place, "prover", secret_of(2 * seed))
    return place


def prepare(tmp_path, seed, **words):
    """Give both sides their secrets; returns the session's name and its messages."""
    place = prepare_prover(tmp_path, seed, **words)
    keep_secret(tmp_path / "verifier", "verifier", secret_of(2 * seed + 1))
    return place, transcript(seed, **words)


def verify(tmp_path, url, retrain=FUNCTION, tell=None, client=None, **words):
    """Hold a session from wherever it is; returns the verdict."""
    with (
        SessionDirectory(tmp_path / "verifier", "verifier", create=True) as directory,
        ProverClient(url, **({"seconds": 60.0} | (client or {}))) as asked,
    ):
        ledger = Ledger.at(tmp_path / "ledger.jsonl")
        side = VerifierSide(directory, retrain, VERIFIER, PROVER.public, ledger, WORDS | words)
        verdict = hold_session(side, asked, tell)
        send_decision(side, asked)
        return verdict


def stored(path):
    """The messages in a session's directory."""
    return [(path / name).read_bytes() for name in MESSAGES if (path / name).exists()]


@contextmanager
def running(root, host_terms=None, quotas=None, limits=None, token=None, address=None):
    """A server in a thread; yields its URL and host."""
    host = Host(root, host_terms or terms(), quotas or Quotas())
    address, limits = address or Address(port=0), limits or Limits()
    opened, url = listen(address)
    server = server_of(application(host, limits, token), address, limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        yield url, host
    finally:
        server.should_exit = True
        thread.join()
        host.stop()
