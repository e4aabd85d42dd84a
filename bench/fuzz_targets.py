"""What `fuzz_messages` shows its inputs to, and the valid inputs that it begins with."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["pyattr.protocol", "pyattr.verification", "pyattr.transport"]
):
    import msgspec
    import numpy as np
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    import pyattr
    from pyattr.errors import ProtocolError, Rejected
    from pyattr.protocol import Manifest, Prover, Verifier, merkle
    from pyattr.protocol.arrays import outputs_root, to_tensor
    from pyattr.protocol.calibration import Replay, calibrate, replay
    from pyattr.protocol.encoding import (
        Tensor,
        decode_header,
        decode_tensors,
        encode,
        frame_size,
        tensor_bytes,
    )
    from pyattr.protocol.hashing import commit, tensors_hash
    from pyattr.protocol.journal import AnotherSessionError, Journal
    from pyattr.protocol.keys import SigningKey
    from pyattr.protocol.messages import (
        DECODER,
        Commitment,
        Outputs,
        OutputsCommitment,
        outputs_layout,
    )
    from pyattr.protocol.randomness import secret_of
    from pyattr.protocol.session import State
    from pyattr.protocol.signing import seal, unseal
    from pyattr.transport.directory import SessionDirectory, SessionReader
    from pyattr.transport.ledger import Entry, _line, _parsed_lines
    from pyattr.transport.secret_file import secret_from
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
        tensors = attribution | {"outputs": to_tensor(outputs)}
        stated = tensors_hash(tensor_bytes(tensors))
        last = Outputs(**links, salt=SALT.hex(), leaf_key=SALT.hex(), tensors=stated)
        verifier.receive(encode(last, tensors))
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


def _replay(data: bytes) -> str:
    try:
        read = Replay.from_bytes(data)
    except ProtocolError:
        return "refused"
    if read.to_bytes() != data:
        raise AssertionError("accepted another spelling")
    return "read"


def _private(data: bytes) -> str:
    try:
        secret_from(data)
    except ProtocolError:
        return "refused"
    return "read"


def _ledger(data: bytes) -> str:
    try:
        entries, end = _parsed_lines(data, "ledger")
    except ValueError:
        return "refused"
    if _parsed_lines(data[:end], "ledger") != (entries, end):
        raise AssertionError("an incomplete line counts")
    return "read"


class Blocks:
    """The trainings of a side in its directory, of which one file is damaged."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._file = Path(self._folder.name, "trainings-verifier", "000001.safetensors")
        self._asked = pyattr.sample_masks(8, N_TRAIN), pyattr.sample_seeds(8)
        with SessionDirectory(self._folder.name, "verifier") as directory:
            Journal(retrain, sink=directory.append_block, portion=4)(*self._asked)
        self.honest = self._file.read_bytes()

    def read(self, data: bytes) -> str:
        """Read both blocks, and go on from them."""
        self._file.write_bytes(data)
        try:
            with SessionReader(self._folder.name) as reader:
                blocks = reader.read_blocks("verifier", 2**16)
        except ProtocolError:
            return "refused"
        try:
            outputs = Journal(None, blocks, portion=4)(*self._asked)
        except AnotherSessionError:
            return "read, of another session"
        if outputs.shape != (8, N_TARGETS):
            raise AssertionError(f"outputs of shape {outputs.shape}")
        return "read"


SESSIONS, BLOCKS = Sessions(), Blocks()
TARGETS: dict[str, Callable[[bytes], str]] = {
    "decode": _decode,
    "unseal": _unseal,
    "signed": _signed,
    "manifest": _manifest,
    "opening": _opening,
    **{name: lambda data, name=name: SESSIONS.receive(name, data) for name in SESSIONS.waiting},
    "lies": SESSIONS.lie,
    "replay": _replay,
    "block": BLOCKS.read,
    "private": _private,
    "ledger": _ledger,
}
NAMES = list(TARGETS)


def _calibrated(manifest: Manifest) -> tuple[Manifest, Replay]:
    """The manifest of a signed session with τ > 0, and one of the replays that it rests on."""

    def noisy(scale: float) -> Callable[..., np.ndarray]:
        """Seeds matter, and machines a little."""

        def train(masks: pyattr.Masks, seeds: np.ndarray) -> np.ndarray:
            runs = [np.random.default_rng(int(seed)).standard_normal(N_TARGETS) for seed in seeds]
            odd = scale * np.where(np.arange(len(seeds)) % 2, 1.0, -1.0)[:, None]
            return (retrain(masks, seeds) + np.array(runs) + odd).astype(np.float32)

        return train

    sizes = (N_TRAIN, N_TARGETS)
    ours, theirs = (replay(noisy(x), *sizes, p=0.5, clip=CLIP, n_repeats=8) for x in (0.0, 1e-5))
    found = calibrate(ours, theirs)
    changed = msgspec.structs.replace(
        manifest, calibration=found, tolerance=found.tolerance, prover=KEY.public.hex
    )
    return changed, ours


def _ledger_lines() -> bytes:
    first = Entry(claim="1" * 64, session="2" * 64, delta=0.05, attempts=2)
    other = msgspec.structs.replace(first, session="3" * 64)
    ended = msgspec.structs.replace(first, outcome="ACCEPT")
    return b"".join(map(_line, (first, other, ended))) + _line(other)[:40]


def seeds() -> list[bytes]:
    """Valid inputs of every target."""
    found: list[tuple[str, bytes]] = []
    for name, (_, data) in SESSIONS.waiting.items():
        found += [(name, data), ("decode", data), ("signed", data), ("unseal", seal(data, KEY))]
    invitation, _ = decode_header(SESSIONS.waiting["prover start"][1], DECODER, 10**6)
    calibrated, file = _calibrated(invitation.manifest)
    found += [("manifest", msgspec.json.encode(m)) for m in (invitation.manifest, calibrated)]
    found.append(("decode", encode(msgspec.structs.replace(invitation, manifest=calibrated))))
    opening = merkle.inclusion_proof(ROWS, SALT, 3, context=SALT)
    found.append(("opening", msgspec.json.encode(opening)))
    found += [("lies", SESSIONS.truth()), ("replay", file.to_bytes()), ("block", BLOCKS.honest)]
    found.append(("private", msgspec.json.encode({"secret": SALT.hex()})))
    found.append(("ledger", _ledger_lines()))
    return [bytes([NAMES.index(name)]) + data for name, data in found]
