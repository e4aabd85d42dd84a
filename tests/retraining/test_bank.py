"""The bank: whole chunks, the same bytes whoever writes, and damage that is found."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bank_trainers import CHUNK_ROWS, MANIFEST, N_TARGETS, N_TRAIN, Make, outputs_of

from pyattr.masks import sample_masks, sample_seeds
from pyattr.retraining.bank import Bank
from pyattr.retraining.bank_format import Status, decode_chunk, encode_chunk, statuses, unusable_row
from pyattr.retraining.objects import Folder
from pyattr.retraining.worker import Task, Work, Worker

ROOT = Path(__file__).parents[2]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def trained(bank: Bank, seed: int, chunk: int) -> np.ndarray:
    return outputs_of(*bank.runs(seed, chunk))


def filled(folder: Path, chunks: list[int], seed: int = 3) -> Bank:
    bank = Bank.create(folder, MANIFEST)
    bank.extend(seed, max(chunks) + 1)
    for chunk in chunks:
        assert bank.put(seed, chunk, trained(bank, seed, chunk))
    return bank


def test_rows_are_those_of_one_long_draw(tmp_path):
    bank = filled(tmp_path, [0, 1, 2])
    masks, seeds = sample_masks(3 * CHUNK_ROWS, N_TRAIN, seed=3), sample_seeds(3 * CHUNK_ROWS, 3)
    read = np.concatenate([bank.read(3, chunk) for chunk in range(3)])
    np.testing.assert_array_equal(read, outputs_of(masks, seeds))
    assert bank.runs(3, 0, 3)[0] == masks


def test_the_share_of_a_subset_is_the_manifest_s():
    manifest = dataclasses.replace(MANIFEST, n_train=1000, p=0.2)
    # Nothing is read or written: which subsets are whose follows from the manifest alone.
    masks, seeds = Bank(None, manifest).runs(3, 1, 2)  # type: ignore[arg-type]
    first, n = manifest.chunk_rows, 2 * manifest.chunk_rows
    assert masks == sample_masks(n, 1000, 0.2, seed=3, first_row=first)
    np.testing.assert_array_equal(seeds, sample_seeds(n, 3, first_row=first))
    assert abs(masks.sizes().mean() / 1000 - 0.2) < 0.02  # 6 standard errors


def test_complement_pairs_stay_in_one_chunk():
    manifest = dataclasses.replace(MANIFEST, design="complement")
    masks, _ = Bank(None, manifest).runs(7, 5)  # type: ignore[arg-type]
    assert masks[0::2].complement() == masks[1::2]
    assert masks == sample_masks(6 * CHUNK_ROWS, N_TRAIN, seed=7, design="complement")[-CHUNK_ROWS:]
    with pytest.raises(ValueError, match="chunk_rows: expected an even number"):
        dataclasses.replace(manifest, chunk_rows=3)


def test_any_order_gives_the_same_bytes(tmp_path):
    filled(tmp_path / "a", [0, 1, 2, 3])
    filled(tmp_path / "b", [2, 0, 3, 1])
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_a_bank_is_opened_again_and_goes_on(tmp_path):
    filled(tmp_path / "a", [0, 1, 2, 3])
    filled(tmp_path / "b", [3])
    assert filled(tmp_path / "b", [0, 1]).missing(3, 5) == [2, 4]
    filled(tmp_path / "b", [2])
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_the_first_writer_of_a_chunk_wins(tmp_path):
    bank = filled(tmp_path, [0])
    before = files_of(tmp_path)
    assert not bank.put(3, 0, np.zeros((CHUNK_ROWS, N_TARGETS), np.float32))
    assert files_of(tmp_path) == before


def _write(folder, chunks):
    work = Worker(Work(folder, Make("quick")))
    for chunk in chunks:
        work(Task(3, chunk))


@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize("call", ["create", "replace"])
def test_bytes_are_on_the_disk_before_they_have_their_name(tmp_path, monkeypatch, nameless, call):
    """Else a power cut could leave a name without them. None but this name is left over."""
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    real, synced = os.fsync, []

    def fsync(file):
        synced.append((os.fstat(file).st_size, (tmp_path / "a" / "b").exists()))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    getattr(Folder(tmp_path), call)("a/b", b"bytes")
    assert synced == [(5, False)]
    assert files_of(tmp_path) == {"a/b": b"bytes"}


def test_several_writers_at_once_give_the_same_bytes(tmp_path):
    n = 60
    Bank.create(tmp_path / "b", MANIFEST).extend(3, n)
    context = multiprocessing.get_context("spawn")
    rng = np.random.default_rng(0)
    writers = [
        context.Process(target=_write, args=(str(tmp_path / "b"), rng.permutation(n).tolist()))
        for _ in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    filled(tmp_path / "a", list(range(n)))
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_failed_rows_keep_why_and_stay_apart_from_numbers(tmp_path):
    bank = Bank.create(tmp_path, MANIFEST)
    outputs = trained(bank, 0, 0)
    outputs[1], outputs[4], outputs[6] = (unusable_row(s, N_TARGETS) for s in list(Status)[1:])
    bank.put(0, 0, outputs)
    read = bank.read(0, 0)
    assert statuses(read).tolist() == [0, 1, 0, 0, 2, 0, 3, 0]
    assert np.isnan(read).all(axis=1).tolist() == [s > 0 for s in statuses(read)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_no_output(tmp_path, value):
    bank = Bank.create(tmp_path, MANIFEST)
    outputs = trained(bank, 0, 0)
    outputs[2, 1] = value
    with pytest.raises(ValueError, match=r"outputs: expected finite rows, .* got row 2"):
        bank.put(0, 0, outputs)
    assert bank.stored(0) == []


@pytest.mark.parametrize("shape", [(7, 5), (8, 4)])
def test_another_shape_is_refused(tmp_path, shape):
    with pytest.raises(ValueError, match=r"outputs: expected \(8, 5\) float32"):
        Bank.create(tmp_path, MANIFEST).put(0, 0, np.zeros(shape, np.float32))


def test_every_flipped_bit_is_found_and_the_chunk_named(tmp_path):
    bank = filled(tmp_path, [0, 1])
    path = tmp_path / "seed-3" / "c.1.0"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in [0, len(whole) - 1, *rng.integers(0, len(whole), 50)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"seed-3/c\.1\.0: expected bytes of CRC-32C .*damaged"
        ):
            bank.read(3, 1)
    path.write_bytes(whole)
    assert bank.read(3, 1).shape == (CHUNK_ROWS, N_TARGETS)  # the half that must pass


@pytest.mark.parametrize("size", [0, 3, 100, 164, 1000])
def test_a_part_of_a_chunk_is_found(tmp_path, size):
    bank = filled(tmp_path, [0])
    path = tmp_path / "seed-3" / "c.0.0"
    path.write_bytes((path.read_bytes() * 8)[:size])
    if size == 164:
        assert bank.read(3, 0).size
        return
    with pytest.raises(ValueError, match=r"seed-3/c\.0\.0: expected 164 bytes, got .*damaged"):
        bank.read(3, 0)


def test_rows_that_no_writer_writes_are_refused():
    outputs = np.zeros((2, 3), np.float32)
    outputs[1] = np.nan  # zarr's fill value: no status
    with pytest.raises(ValueError, match=r"x: expected finite rows, .* got row 1"):
        decode_chunk("x", encode_chunk(outputs), 2, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"p": 0.25}, "p: expected 0.5 as in the bank's manifest, got 0.25"),
        ({"n_train": 41}, "n_train: expected 40"),
        ({"chunk_rows": 16}, "chunk_rows: expected 8"),
        ({"recipe": {"kind": "other"}}, "recipe.kind: expected 'test'"),
        ({"recipe": {"kind": "test", "l2": 2}}, "recipe.l2: expected None .*, got 2"),
    ],
)
def test_another_manifest_is_refused(tmp_path, change, words):
    filled(tmp_path, [0])
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match=words):
        Bank.create(tmp_path, dataclasses.replace(MANIFEST, **change))
    assert files_of(tmp_path) == before
    assert Bank.create(tmp_path, MANIFEST).stored(3) == [0]


@pytest.mark.parametrize(
    ("stored", "wanted", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ([1, 2], [1, 2], True),
        ([1, 2], [True, 2], False),
        ([1], [1, 1], False),
        ([{"a": 1}], [{"a": True}], False),
        ({"a": None}, {}, False),
        ("1", 1, False),
        ("\u00e9", "e\u0301", False),  # two ways to write é
    ],
)
def test_values_of_settings_are_compared_as_json_has_them(stored, wanted, same):
    ours, theirs = (
        dataclasses.replace(MANIFEST, recipe={"kind": "test", "x": value})
        for value in (wanted, stored)
    )
    if same:
        theirs.refuse_other("bank", ours)
    else:
        with pytest.raises(ValueError, match=r"bank: recipe\.x"):
            theirs.refuse_other("bank", ours)


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'{"attributes": {"pyattr": {"format": "x"}}}', b"\xff"]
)
def test_a_damaged_manifest_is_named(tmp_path, text):
    filled(tmp_path, [0])
    (tmp_path / "zarr.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"zarr\.json: expected"):
        Bank.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipe": None}, "recipe: expected a table, got None"),
        ({"n_train": "40"}, "n_train: expected a whole number"),
        ({"p": None}, "p: expected a probability"),
        ({"more": 1}, "expected the manifest of a bank"),
    ],
)
def test_a_damaged_entry_of_a_manifest_is_named_with_its_file(tmp_path, change, words):
    filled(tmp_path, [0])
    group = json.loads((tmp_path / "zarr.json").read_text())
    group["attributes"]["pyattr"].update(change)
    (tmp_path / "zarr.json").write_text(json.dumps(group))
    with pytest.raises(ValueError, match=rf"/zarr\.json: {words}"):
        Bank.create(tmp_path, MANIFEST)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"shape": []}', b'{"shape": "x"}'])
def test_what_only_other_readers_need_is_written_anew(tmp_path, text):
    bank = filled(tmp_path, [0, 1])
    before = files_of(tmp_path)
    (tmp_path / "seed-3" / "zarr.json").write_bytes(text)
    bank.extend(3, 2)
    assert files_of(tmp_path) == before


def test_no_bank_and_no_chunk_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no bank"):
        Bank.open(tmp_path / "none")
    with pytest.raises(KeyError, match=r"seed-0/c\.0\.0"):
        filled(tmp_path, [0]).read(0, 0)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"bank: expected a folder .* got the file"):
        Bank.create(tmp_path / "file", MANIFEST)


def test_zarr_reads_it(tmp_path):
    zarr = pytest.importorskip("zarr")
    bank = filled(tmp_path, [0, 2])
    group = zarr.open_group(str(tmp_path), mode="r")
    array = group["seed-3"]
    assert group.attrs["pyattr"]["n_train"] == N_TRAIN
    assert array.shape == (3 * CHUNK_ROWS, N_TARGETS)
    np.testing.assert_array_equal(array[:CHUNK_ROWS], bank.read(3, 0))
    np.testing.assert_array_equal(array[2 * CHUNK_ROWS :], bank.read(3, 2))
    assert np.isnan(array[CHUNK_ROWS : 2 * CHUNK_ROWS]).all()
    # zarr writes the same bytes: the format is its, not ours.
    copy = zarr.create_array(
        str(tmp_path / "copy"), name="seed-3", shape=array.shape, chunks=array.chunks, dtype="f4",
        compressors=[zarr.codecs.Crc32cCodec()],
        chunk_key_encoding={"name": "default", "separator": "."},
    )  # fmt: skip
    copy[:CHUNK_ROWS] = bank.read(3, 0)
    name = Path("seed-3") / "c.0.0"
    assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / name).read_bytes()
    # And it finds damage.
    damaged = bytearray((tmp_path / name).read_bytes())
    damaged[5] ^= 1
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(ValueError, match=r"[Cc]hecksum"):
        array[:CHUNK_ROWS]


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_an_object_store_holds_the_same_objects(tmp_path, scheme):
    pytest.importorskip("obstore")
    from pyattr.retraining.objects import Remote

    local = filled(tmp_path / "a", [1, 0])
    if scheme == "file":
        (tmp_path / "b").mkdir()
        filled(f"file://{tmp_path / 'b'}", [0, 1])  # type: ignore[arg-type]
        assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
        with pytest.raises(ValueError, match=r"n_train: expected 40"):
            Bank.create(f"file://{tmp_path / 'b'}", dataclasses.replace(MANIFEST, n_train=9))
        return
    objects = Remote("memory:///")
    bank = Bank(objects, MANIFEST)
    assert bank.stored(3) == []
    assert bank.put(3, 1, trained(bank, 3, 1))
    assert not bank.put(3, 1, trained(bank, 3, 1))
    assert bank.stored(3) == [1]
    np.testing.assert_array_equal(bank.read(3, 1), local.read(3, 1))
    bank.forget(3, 1)
    assert bank.stored(3) == []
    with pytest.raises(ValueError, match="bank: expected a folder or the URL of a bucket"):
        Remote("nowhere://bucket")


FULL_DISK = """
import sys
import numpy as np
from bank_trainers import MANIFEST, outputs_of
from pyattr.retraining.bank import Bank

bank = Bank.create(sys.argv[1], MANIFEST)
try:
    for chunk in range(10_000):
        bank.put(0, chunk, outputs_of(*bank.runs(0, chunk)))
except OSError as error:
    print(error)
stored = bank.stored(0)
assert stored == list(range(len(stored))) and len(stored) > 5, stored
for chunk in stored:
    assert (bank.read(0, chunk) == outputs_of(*bank.runs(0, chunk))).all()
"""


def script(code: str, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", code, *arguments]
    if before:
        command = ["unshare", "-rm", "sh", "-c", f'{before}; exec "$0" "$@"', *command]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_full_disk_is_said_and_the_bank_stays_whole(tmp_path):
    mount = f"mount -t tmpfs -o size=128k none {tmp_path}"
    if shutil.which("unshare") is None or script("", before=mount).returncode:
        pytest.skip("needs the right to mount a small file system")
    ended = script(FULL_DISK, str(tmp_path / "bank"), before=mount)
    assert ended.returncode == 0, ended.stderr
    assert "cannot take chunk" in ended.stdout
    assert "No space left on device; what it holds can be read" in ended.stdout


READ_ONLY = """
import os, sys
import numpy as np
from bank_trainers import MANIFEST, outputs_of
from pyattr.retraining.bank import Bank

if os.geteuid() == 0:
    os.setuid(65534)  # root writes everywhere
bank = Bank.create(sys.argv[1], MANIFEST)
assert (bank.read(3, 0) == outputs_of(*bank.runs(3, 0))).all()
for write in (lambda: bank.put(3, 1, outputs_of(*bank.runs(3, 1))), lambda: bank.extend(3, 9)):
    try:
        write()
    except OSError as error:
        print(error)
"""


def test_a_read_only_folder_is_said_and_can_be_read(tmp_path):
    filled(tmp_path / "bank", [0])
    for folder in (tmp_path / "bank", tmp_path / "bank" / "seed-3"):
        folder.chmod(0o555)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder.stat().st_uid == os.geteuid() and str(folder) != "/tmp":
            folder.chmod(folder.stat().st_mode | 0o555)
    ended = script(READ_ONLY, str(tmp_path / "bank"))
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == 2
    assert all("Permission denied; what it holds can be read" in line for line in lines)
