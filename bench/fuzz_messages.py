"""Coverage-guided fuzzing of everything that reads a peer's bytes, with atheris (libFuzzer).

An input is one byte that names a target, and what the target reads:

- ``decode``, ``unseal``: a frame, plain and sealed;
- ``manifest``, ``opening``: JSON;
- ``signed``: a plain frame that its sender signs, so that damage gets behind the signature;
- ``prover ...``, ``verifier ...``: the next message of a running session, in each state that waits for one;
- ``lies``: scores and outputs, any bits as float32, from a prover that is bound to them as it should be.

A finding is any exception but `ProtocolError` (for `opening`: `Rejected`), a warning, bytes that are
accepted without being the spelling of what they say, a side that lives on after an error, a verdict after
one that is not ABORT with the check "form", an ACCEPT for other bytes than the honest ones, more than
512 MiB of memory, and more than 20 s for one input. The mutator changes JSON as JSON, floats as floats, and
repairs a frame's length.

Run: ``python bench/fuzz_messages.py [--seconds 600] [--corpus DIRECTORY]`` (needs atheris).
Committed: results/fuzzing.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import atheris
import harness

with atheris.instrument_imports(include=["pyattr.protocol", "pyattr.verification"]):
    import msgspec
    import numpy as np
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    import pyattr
    from pyattr.errors import ProtocolError, Rejected
    from pyattr.protocol import Manifest, Prover, Verifier, merkle
    from pyattr.protocol.arrays import outputs_root, to_tensor
    from pyattr.protocol.encoding import Tensor, decode_header, decode_tensors, encode, frame_size
    from pyattr.protocol.hashing import commit
    from pyattr.protocol.messages import (
        DECODER,
        Commitment,
        Outputs,
        OutputsCommitment,
        outputs_layout,
    )
    from pyattr.protocol.randomness import secret_of
    from pyattr.protocol.session import State
    from pyattr.protocol.signing import SigningKey, seal, unseal
    from pyattr.verification.clusters import ClusterDesign
    from pyattr.verification.scores import LinearScores
    from pyattr.verification.verdict import Outcome

N_TRAIN, N_TARGETS, DESIGN, CLIP = 5, 2, ClusterDesign(24), 10.0
TRUTH = np.linspace(-1.0, 1.0, N_TRAIN * N_TARGETS, dtype=np.float32).reshape(N_TRAIN, N_TARGETS)
LAYOUT = outputs_layout(DESIGN.n_evaluations, N_TRAIN, N_TARGETS)
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
SALT = bytes(32)
ROWS = [bytes([i]) for i in range(5)]
ROOT = merkle.root(ROWS, SALT, context=SALT)
HOSTILE = [
    None, True, 0, 1, -1, 2**31, 2**53 + 1, 2**64, 0.0, -0.0, 1.0, 5e-324, 1.7e308, "", "x" * 65, "0" * 16,
    "0" * 64, "\0", [], {}, [[]], "ACCEPT", "clusters", "pairs", {"a": 1}, {"b": 1, "a": 1},
]  # fmt: skip
FLOATS = np.array(
    [0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-45, 3e38, CLIP, -CLIP, 9e9, 1e18], "<f4"
)
_RECORD_EVERY = 2000
_MEMORY_MIB, _INPUT_S = 512, 20
# Instrumented code grows by some KB an input (the same inputs without atheris do not), so that a process
# would reach the limit of memory by itself.
_LEG_S = 60


def retrain(masks: pyattr.Masks, seeds: np.ndarray) -> np.ndarray:
    """A linear function of the mask."""
    return masks.unpack().astype(np.float32) @ TRUTH


def parties() -> tuple[Prover, Verifier]:
    """Two sides that always say the same."""
    verifier = Verifier(
        retrain, n_train=N_TRAIN, n_targets=N_TARGETS, design=DESIGN, clip=CLIP, epsilon=0.2,
        secret=secret_of(1),
    )  # fmt: skip
    return Prover(
        retrain, LinearScores(TRUTH, np.zeros(N_TARGETS, np.float32)), secret=secret_of(0)
    ), verifier


class Sessions:
    """Sides that wait for a message, in every state, and the message that is right then."""

    def __init__(self) -> None:
        self.waiting: dict[str, tuple[Prover | Verifier, bytes]] = {}
        prover, verifier = parties()
        to_prover, to_verifier = [verifier.start()], []
        while to_prover or to_verifier:
            side, queue = (verifier, to_verifier) if to_verifier else (prover, to_prover)
            data = queue.pop(0)
            name = f"{'verifier' if side is verifier else 'prover'} {side.state}"
            self.waiting[name] = (copy.deepcopy(side), data)
            (to_prover if side is verifier else to_verifier).extend(side.receive(data))
        if prover.outcome is not Outcome.ACCEPT:
            raise RuntimeError(f"session: expected ACCEPT, got {verifier.verdict}")

    def receive(self, name: str, data: bytes) -> str:
        """Show bytes to a side in one state, and check how it ends."""
        original, honest = self.waiting[name]
        side = copy.deepcopy(original)
        try:
            side.receive(data)
        except ProtocolError:
            if side.state is not State.DEAD or side.outcome is not Outcome.ABORT:
                raise AssertionError(f"{name}: alive after an error") from None
            if isinstance(side, Verifier) and side.verdict.details["check"] != "form":
                raise AssertionError(f"{name}: {side.verdict}") from None
            return "refused"
        if isinstance(side, Verifier) and side.state is State.CLOSED:
            return _decided(side, data == honest)
        return "received"

    def lie(self, data: bytes) -> str:
        """A session with a prover that commits to any numbers."""
        n_scores, n_outputs = N_TRAIN * N_TARGETS, DESIGN.n_evaluations * N_TARGETS
        n = n_scores + N_TARGETS + n_outputs
        values = np.frombuffer((data + bytes(4 * n))[: 4 * n], "<f4")
        scores = values[:n_scores].reshape(N_TRAIN, N_TARGETS)
        verifier, attribution, _ = self._committed(scores, values[n_scores : n_scores + N_TARGETS])
        outputs = values[n_scores + N_TARGETS :].reshape(-1, N_TARGETS)
        links = {"session": verifier.session, "parent": verifier._session.parent}
        root = outputs_root(outputs, SALT, verifier.session)
        verifier.receive(encode(OutputsCommitment(**links, root=root, n_leaves=len(outputs))))
        links["parent"] = verifier._session.parent
        last = Outputs(**links, salt=SALT.hex(), leaf_key=SALT.hex())
        verifier.receive(encode(last, attribution | {"outputs": to_tensor(outputs)}))
        return _decided(verifier, True)

    def truth(self) -> bytes:
        """The input of `lie` that is none."""
        intercept = np.zeros(N_TARGETS, np.float32)
        _, _, challenge = self._committed(TRUTH, intercept)
        message, _ = decode_header(challenge, DECODER, frame_size({}))
        outputs = retrain(*DESIGN.draw(int(message.seed, 16), N_TRAIN)) + np.float32(0.0)
        return b"".join(part.tobytes() for part in (TRUTH, intercept, outputs))

    def _committed(
        self, scores: np.ndarray, intercept: np.ndarray
    ) -> tuple[Verifier, dict[str, Tensor], bytes]:
        """A verifier that has a commitment to any numbers, and its challenge."""
        verifier = copy.deepcopy(self.waiting[f"verifier {State.INVITED}"][0])
        attribution = {"scores": to_tensor(scores), "intercept": to_tensor(intercept)}
        digest = commit(SALT, attribution)
        first = Commitment(parent=verifier._session.parent, randomness="00" * 32, digest=digest)
        (challenge,) = verifier.receive(encode(first))
        return verifier, attribution, challenge


def _decided(verifier: Verifier, may_accept: bool) -> str:
    outcome = verifier.outcome
    if outcome is Outcome.ACCEPT and not may_accept:
        raise AssertionError("accepted other bytes than the honest ones")
    check = verifier.verdict.details.get("check", "gap")
    return f"{outcome}, {check}" if outcome is Outcome.ABORT else str(outcome)


def _decode(data: bytes) -> str:
    try:
        message, rest = decode_header(data, DECODER, frame_size(LAYOUT))
        layout = LAYOUT if isinstance(message, Outputs) else {}
        tensors = decode_tensors(rest, layout)
    except ProtocolError:
        return "refused"
    if encode(message, tensors) != data:
        raise AssertionError("accepted another spelling")
    return "read"


def _unseal(data: bytes) -> str:
    try:
        plain = unseal(data, KEY.public)
    except ProtocolError:
        return "refused"
    if seal(plain, KEY) != data:
        raise AssertionError("accepted another spelling")
    return "read"


def _signed(data: bytes) -> str:
    try:
        sealed = seal(data, KEY)
    except ValueError:
        return "refused"
    if unseal(sealed, KEY.public) != data:
        raise AssertionError("a seal changed the message")
    return _decode(data)


def _manifest(data: bytes) -> str:
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except ValueError:
        return "refused"
    again = msgspec.json.encode(manifest)
    if msgspec.json.decode(again, type=Manifest).claim() != manifest.claim():
        raise AssertionError("a manifest that changes when written")
    return "read"


def _opening(data: bytes) -> str:
    try:
        opening = msgspec.json.decode(data, type=merkle.Opening)
        merkle.verify_opening(ROOT, len(ROWS), opening, ROWS[3])
    except (ValueError, Rejected):
        return "refused"
    return "read"


SESSIONS = Sessions()
TARGETS: dict[str, Callable[[bytes], str]] = {
    "decode": _decode,
    "unseal": _unseal,
    "signed": _signed,
    "manifest": _manifest,
    "opening": _opening,
    **{name: lambda data, name=name: SESSIONS.receive(name, data) for name in SESSIONS.waiting},
    "lies": SESSIONS.lie,
}
NAMES = list(TARGETS)


def seeds() -> list[bytes]:
    """Valid inputs of every target."""
    found: list[tuple[str, bytes]] = []
    for name, (_, data) in SESSIONS.waiting.items():
        found += [(name, data), ("decode", data), ("signed", data), ("unseal", seal(data, KEY))]
    invitation, _ = decode_header(SESSIONS.waiting["prover start"][1], DECODER, 10**6)
    found.append(("manifest", msgspec.json.encode(invitation.manifest)))
    opening = merkle.inclusion_proof(ROWS, SALT, 3, context=SALT)
    found.append(("opening", msgspec.json.encode(opening)))
    found.append(("lies", SESSIONS.truth()))
    return [bytes([NAMES.index(name)]) + data for name, data in found]


# --- mutations ------------------------------------------------------------------------------------


def _places(value: Any) -> list[tuple[Any, Any]]:
    """All (container, key) of a JSON value."""
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


def _mutate_json(text: bytes, rng: random.Random) -> bytes:
    try:
        value = msgspec.json.decode(text)
        places = _places(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        places = []
    if not places or rng.random() < 0.3:
        return bytes(atheris.Mutate(text, len(text) + 16))
    container, key = rng.choice(places)
    if rng.random() < 0.1 and isinstance(container, dict):
        container[rng.choice(["extra", "", "a"])] = container.pop(key)
    elif rng.random() < 0.5 and isinstance(container[key], str) and container[key]:
        changed = atheris.Mutate(container[key].encode(), len(container[key]) + 4)
        container[key] = bytes(changed).decode("utf-8", "replace")
    else:
        container[key] = rng.choice(HOSTILE)
    return msgspec.json.encode(value)


def _mutate_floats(data: bytes, rng: random.Random) -> bytes:
    if len(data) < 4 or rng.random() < 0.3:
        return bytes(atheris.Mutate(data, len(data) + 16))
    at = 4 * rng.randrange(len(data) // 4)
    n = min(rng.choice([1, 1, 2, 16, 256]), (len(data) - at) // 4)
    return data[:at] + FLOATS[[rng.randrange(len(FLOATS))] * n].tobytes() + data[at + 4 * n :]


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change an input so that it still gets far."""
    rng = random.Random(seed)
    if len(data) < 2 or rng.random() < 0.05:
        return bytes(atheris.Mutate(data, max_size))
    kind, body = data[:1], data[1:]
    name = NAMES[kind[0] % len(NAMES)]
    if name == "lies":
        body = _mutate_floats(body, rng)
    elif name in ("manifest", "opening"):
        body = _mutate_json(body, rng)
    elif len(body) >= 12 and rng.random() < 0.9:
        length = int.from_bytes(body[8:12], "little")
        header, rest = body[12 : 12 + length], body[12 + length :]
        if rest and rng.random() < 0.5:
            rest = _mutate_floats(rest, rng)
        else:
            header = _mutate_json(header, rng)
        body = body[:8] + len(header).to_bytes(4, "little") + header + rest
    else:
        body = bytes(atheris.Mutate(body, max_size - 1))
    return (kind + body)[:max_size]


# --- running --------------------------------------------------------------------------------------


def work(corpus: Path, seconds: int, seed: int) -> None:
    """Fuzz until the time is over; does not return."""
    ends: Counter[str] = Counter()
    warnings.simplefilter("error")

    def one_input(data: bytes) -> None:
        name = NAMES[data[0] % len(NAMES)] if data else "decode"
        ends[f"{name}: {TARGETS[name](data[1:])}"] += 1
        if ends.total() % _RECORD_EVERY == 0:
            (corpus.parent / "ends.json").write_text(json.dumps(ends))

    arguments = [
        sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-rss_limit_mb={_MEMORY_MIB}",
        f"-timeout={_INPUT_S}", "-max_len=20000", "-print_final_stats=1", f"-seed={seed}",
        f"-artifact_prefix={corpus.parent}/finding-",
    ]  # fmt: skip
    atheris.Setup(arguments, one_input, custom_mutator=mutate)
    atheris.Fuzz()


def leg(folder: Path, seconds: int, seed: int) -> dict[str, Any]:
    """Fuzz in a process of its own, since libFuzzer ends it; what libFuzzer and the targets counted.

    The ends of the last inputs, fewer than 2000, are not counted.
    """
    command = [sys.executable, __file__, "--worker", str(folder / "inputs")]
    command += ["--seconds", str(seconds), "--seed", str(seed)]
    start = time.perf_counter()
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    wall = time.perf_counter() - start
    if done.returncode or list(folder.glob("finding-*")):
        sys.exit(done.stderr[-4000:])
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
    coverage = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stderr)[-1]
    return {
        "executions": int(stats["number_of_executed_units"]),
        "wall_s": wall,
        "coverage": dict(zip(("edges", "features", "corpus"), map(int, coverage), strict=True)),
        "peak_rss_mib": int(stats["peak_rss_mb"]),
        "ends": json.loads((folder / "ends.json").read_text()),
    }


def fuzz(folder: Path, seconds: int, first_seed: int) -> dict[str, Any]:
    """Fuzz for so long, process after process on one corpus; exits with its log where something is found."""
    (folder / "inputs").mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds()):
        (folder / "inputs" / f"seed-{number}").write_bytes(data)
    legs, left = [], seconds
    while left > 0:
        legs.append(leg(folder, min(left, _LEG_S), first_seed + len(legs)))
        left -= _LEG_S
    ends: Counter[str] = Counter()
    for one in legs:
        ends.update(one["ends"])
    return {
        "executions": sum(one["executions"] for one in legs),
        "seconds": seconds,
        "wall_s": round(sum(one["wall_s"] for one in legs), 1),
        "processes": len(legs),
        "coverage": legs[-1]["coverage"],
        "peak_rss_mib": max(one["peak_rss_mib"] for one in legs),
        "findings": 0,
        "ends_of_inputs": dict(sorted(ends.items())),
        "versions": {name: version(name) for name in ("atheris", "msgspec", "cryptography")},
    }


def main() -> None:
    """Fuzz, and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="kept, and gone on with, if given")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.seconds, options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        result = fuzz(options.corpus or Path(temporary), options.seconds, options.seed)
    print(json.dumps(result, indent=2))
    harness.write("fuzzing", result, n_threads=1)


if __name__ == "__main__":
    main()
