"""Keys that anyone could sign under, careless files, and secrets that nothing shows."""

from __future__ import annotations

import hashlib
import os

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from pyattr.protocol import keys
from pyattr.protocol.keys import PublicKey, SigningKey, write_key_pair

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493  # order of the base point


def add(a, b):
    """Sum of two points of the curve of RFC 8032, section 5.1, from its definition."""
    d = -121665 * pow(121666, -1, P) % P
    product = d * a[0] * a[1] * b[0] * b[1] % P
    x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + product, -1, P)
    return x % P, (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P


def multiple(k, point):
    total = (0, 1)
    while k:
        total = add(total, point) if k & 1 else total
        point, k = add(point, point), k >> 1
    return total


def point_with(y):
    """A point with this y, if there is one."""
    d = -121665 * pow(121666, -1, P) % P
    square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    for x in (pow(square, (P + 3) // 8, P), pow(square, (P + 3) // 8, P) * pow(2, (P - 1) // 4, P)):
        if (x * x - square) % P == 0:
            return x % P, y
    return None


def small_order_keys():
    """All 32-byte strings that decode to points of small order, also with y written as y + P."""
    points = [multiple(L, point) for y in range(2, 150) if (point := point_with(y))]
    ys = {y for _, y in points}
    ys |= {y + P for y in ys if y + P < 2**255}
    return [y | sign << 255 for y in sorted(ys) for sign in (0, 1)]


def test_keys_of_small_order_are_refused():
    encoded = [key.to_bytes(32, "little") for key in small_order_keys()]
    assert len(encoded) == 14
    for key in encoded:
        with pytest.raises(ValueError, match="hex: expected a key under which only its owner"):
            PublicKey(key.hex())


def test_the_library_takes_keys_of_small_order():
    # Why `PublicKey` refuses them: R = (0, 1) and S = 0 are a signature of anything.
    identity = Ed25519PublicKey.from_public_bytes((1).to_bytes(32, "little"))
    signature = (1).to_bytes(32, "little") + bytes(32)
    for message in (b"one thing", b"another"):
        identity.verify(signature, message)
    with pytest.raises(InvalidSignature):
        identity.verify(signature[:32] + (1).to_bytes(32, "little"), b"one thing")


@pytest.mark.parametrize(
    "text", ["", "0" * 63, "0" * 65, KEY.public.hex.upper(), KEY.public.hex[:-1] + "\n", "g" * 64]
)
def test_public_keys_are_64_digits(text):
    with pytest.raises(ValueError, match="hex: expected 64 hexadecimal digits"):
        PublicKey(text)


def test_public_keys_with_another_spelling_of_y_are_refused():
    for y in (P, P + 3, 2**255 - 1):
        with pytest.raises(ValueError, match="hex: expected"):
            PublicKey(y.to_bytes(32, "little").hex())


def test_key_files_are_private_from_the_start(tmp_path):
    path = tmp_path / "key"
    seen = []
    real_open = os.open

    def watched(*args, **kwargs):
        descriptor = real_open(*args, **kwargs)
        seen.append(os.fstat(descriptor).st_mode & 0o777)
        return descriptor

    before = os.umask(0)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keys.os, "open", watched)
            public = write_key_pair(path)
    finally:
        os.umask(before)
    assert seen == [0o600, 0o644]
    assert path.stat().st_mode & 0o777 == 0o600
    key = SigningKey.load(path)
    assert key.public == public == PublicKey.load(tmp_path / "key.pub")
    assert (tmp_path / "key.pub").read_text() == f"{public.hex}\n"
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(public.hex)).verify(key.sign(b"a"), b"a")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777])
def test_keys_that_others_may_read_or_write_are_refused(tmp_path, mode):
    path = tmp_path / "key"
    KEY.save(path)
    path.chmod(mode)
    with pytest.raises(ValueError, match=rf"\(chmod 600\), got .*key with mode {mode:04o}"):
        SigningKey.load(path)
    path.chmod(0o400)
    assert SigningKey.load(path).public == KEY.public


def test_keys_are_never_overwritten(tmp_path):
    path, public_path = tmp_path / "key", tmp_path / "key.pub"
    write_key_pair(path)
    contents = path.read_bytes(), public_path.read_bytes()
    for write in (KEY.save, write_key_pair):
        with pytest.raises(FileExistsError):
            write(path)
    with pytest.raises(FileExistsError):
        KEY.public.save(public_path)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_key_pair(path)
    assert not path.exists()  # half a pair is none
    assert ((tmp_path / "elsewhere").read_bytes(), public_path.read_bytes()) == contents
    path.symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        KEY.save(path)


def test_a_key_that_could_not_be_written_whole_is_not_there(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(keys.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        KEY.save(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_files_with_something_else_are_refused(tmp_path):
    pem, pkcs8 = Encoding.PEM, PrivateFormat.PKCS8
    curve = generate_private_key(SECP256R1())
    secret = Ed25519PrivateKey.generate()
    contents = [
        b"",
        b"\xff" * 100,
        KEY.public.hex.encode(),
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        curve.private_bytes(pem, pkcs8, NoEncryption()),
        secret.private_bytes(pem, pkcs8, BestAvailableEncryption(b"word")),
    ]
    path = tmp_path / "key"
    path.touch(0o600)
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="path: expected an Ed25519 private key"):
            SigningKey.load(path)
    KEY.save(tmp_path / "private")
    contents[2] = (tmp_path / "private").read_bytes()
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"path: .* of a public key, got .*key$"):
            PublicKey.load(path)
    for load in (SigningKey.load, PublicKey.load):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "none")


def test_a_key_shows_only_its_public_half():
    assert repr(KEY) == f"SigningKey(public={KEY.public})"
    assert (
        KEY.public.keyid
        == hashlib.sha256(
            b"".join(
                len(part).to_bytes(8, "little") + part
                for part in (b"pyattr/key/1", bytes.fromhex(KEY.public.hex))
            )
        ).hexdigest()[:16]
    )
    assert SigningKey.generate().public != SigningKey.generate().public
