"""Honest replays, and the tolerance that two parties find from them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from cube import smooth_function
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from pyattr.cli import main
from pyattr.commands.terms import read_calibration
from pyattr.errors import ProtocolError
from pyattr.masks import sample_masks, sample_seeds
from pyattr.protocol.calibration import (
    LEAST_ROWS,
    MOST_BYTES,
    Calibration,
    Replay,
    ReplayTerms,
    calibrate,
    replay,
)
from pyattr.protocol.drift import find_drift
from pyattr.protocol.equivalence import differs
from pyattr.transport.job import Job

NOISE = 0.3
FUNCTION = smooth_function(40, noise=NOISE, n_targets=3)
WORDS = {"p": 0.5, "clip": 8.0}
SMALL = replay(FUNCTION, 40, 3, n_rows=6, **WORDS)


class Elsewhere:
    """`FUNCTION` on another platform: `change` of its outputs and a generator."""

    def __init__(self, change, seed=0):
        self.change, self.rng = change, np.random.default_rng(seed)

    def __call__(self, masks, seeds):
        outputs = FUNCTION(masks, seeds)
        return np.float32(outputs + self.change(self.rng, outputs))


def normal(size):
    return lambda rng, outputs: size * rng.standard_normal(outputs.shape)


def replays(change, n_rows=LEAST_ROWS, seed=0):
    ours = replay(FUNCTION, 40, 3, n_rows=n_rows, **WORDS)
    return ours, replay(Elsewhere(change, seed), 40, 3, n_rows=n_rows, **WORDS)


# --- replays --------------------------------------------------------------------------------------


def test_a_replay_trains_the_public_rows():
    made = replay(FUNCTION, 40, 3, n_rows=50, n_repeats=20, seed=7, **WORDS)
    mask_seed, run_seed = (int(s) for s in sample_seeds(2, 7))
    masks, seeds = sample_masks(50, 40, 0.5, mask_seed), sample_seeds(70, run_seed)
    assert np.array_equal(made.outputs, FUNCTION(masks, seeds[:50]))
    assert np.array_equal(made.other_seeds, FUNCTION(masks[:20], seeds[50:]))
    assert len(set(seeds.tolist())) == 70
    assert (made.terms.n_rows, made.terms.n_repeats, made.terms.seed) == (50, 20, "7".zfill(16))
    assert made.digest == replay(FUNCTION, 40, 3, n_rows=50, n_repeats=20, seed=7, **WORDS).digest
    assert made.digest != replay(FUNCTION, 40, 3, n_rows=50, n_repeats=20, seed=8, **WORDS).digest


def test_outputs_are_clipped_and_zero_is_written_one_way():
    made = replay(
        lambda masks, seeds: np.float32([[-0.0, 9.0]] * len(masks)), 5, 2, n_rows=2, **WORDS
    )
    assert np.array_equal(made.outputs, [[0.0, 8.0]] * 2)
    assert not np.signbit(made.outputs).any()


def test_the_spread_over_seeds_is_found():
    made = replay(FUNCTION, 40, 3, n_rows=400, n_repeats=400, **WORDS)
    # The standard error of an estimate from 400 pairs is 3.5%; 4 of them.
    assert made.seed_sd == pytest.approx([NOISE] * 3, rel=0.15)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_rows": 1},
        {"n_repeats": 1},
        {"seed": -1},
        {"seed": 2**64},
        {"p": 1.0},
        {"clip": 0.0},
        {"n_targets": 0},
        {"n_train": 0},
        {"n_rows": 2**23},
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(wrong):
    words = {"n_train": 40, "n_targets": 3, **WORDS, **wrong}
    with pytest.raises(ValueError, match=r"expected .*, got"):
        replay(FUNCTION, **words)


# --- the file -------------------------------------------------------------------------------------


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "ours.safetensors"
    SMALL.save(path)
    assert path.read_bytes() == SMALL.to_bytes()
    for read in (Replay.load(path), Replay.from_bytes(SMALL.to_bytes())):
        assert read.terms == SMALL.terms
        assert np.array_equal(read.outputs, SMALL.outputs)
        assert np.array_equal(read.other_seeds, SMALL.other_seeds)
        assert read.digest == SMALL.digest
    assert set(load(path.read_bytes())) == {"outputs", "other_seeds"}


def rewrite(change=None, terms=None, data=None):
    """The small replay's file with another header, other terms or other bytes of data."""
    content = SMALL.to_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if terms is not None:
        words = {**msgspec.to_builtins(SMALL.terms), **terms}
        header["__metadata__"]["pyattr-replay/1"] = json.dumps(words, separators=(",", ":"))
    if change is not None:
        change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    body = content[8 + length :] if data is None else data
    return len(text).to_bytes(8, "little") + text + body


def outputs_with(value):
    values = np.frombuffer(SMALL.to_bytes()[-SMALL.terms.n_bytes :], "<f4").copy()
    values[5] = value
    return values.tobytes()


def set_to(*path_and_value):
    *path, last, value = path_and_value

    def change(header):
        for key in path:
            header = header[key]
        header[last] = value

    return change


MALFORMED = {
    "nothing": b"",
    "eight bytes": bytes(8),
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
    "cut": SMALL.to_bytes()[:-1],
    "longer": SMALL.to_bytes() + b"\x00",
    "header beyond the end": (2**40).to_bytes(8, "little") + SMALL.to_bytes()[8:],
    "header of 2^64 - 1 bytes": b"\xff" * 8 + SMALL.to_bytes()[8:],
    "no metadata": rewrite(lambda h: h.pop("__metadata__")),
    "more metadata": rewrite(set_to("__metadata__", "more", "x")),
    "another tensor": rewrite(
        set_to("more", {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})
    ),
    "a tensor less": rewrite(lambda h: h.pop("outputs")),
    "another type": rewrite(set_to("outputs", "dtype", "I32")),
    "another shape": rewrite(set_to("outputs", "shape", [3, 6])),
    "overlapping tensors": rewrite(set_to("outputs", "data_offsets", [0, 72])),
    "terms of another size": rewrite(terms={"n_targets": 4}),
    "sizes that would fill memory": rewrite(terms={"n_targets": 2**31, "n_rows": 2**24}),
    "a size out of bounds": rewrite(terms={"n_rows": 2**63}),
    "a negative size": rewrite(terms={"n_targets": -3}),
    "more repeats than rows": rewrite(terms={"n_repeats": 7}),
    "a repeat less": rewrite(terms={"n_repeats": 5}),
    "an unknown term": rewrite(terms={"more": 1}),
    "p = 1": rewrite(terms={"p": 1.0}),
    "p as a word": rewrite(terms={"p": "0.5"}),
    "a short seed": rewrite(terms={"seed": "0"}),
    "a spelling with spaces": rewrite(
        lambda h: set_to(
            "__metadata__", "pyattr-replay/1", json.dumps(msgspec.to_builtins(SMALL.terms))
        )(h)
    ),
    "nested without end": (lambda t: len(t).to_bytes(8, "little") + t)(b"[" * 2000),
    "NaN": rewrite(data=outputs_with(np.nan)),
    "infinity": rewrite(data=outputs_with(-np.inf)),
    "out of range": rewrite(data=outputs_with(np.nextafter(np.float32(8), np.float32(9)))),
    "-0": rewrite(data=outputs_with(-0.0)),
}


def test_the_rewritten_file_is_right_where_nothing_is_changed():
    assert rewrite() == SMALL.to_bytes()
    assert rewrite(terms={}) == SMALL.to_bytes()
    assert Replay.from_bytes(rewrite(data=outputs_with(8.0))).outputs.max() <= 8.0


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_is_refused(data, tmp_path):
    with pytest.raises(ProtocolError, match="replay: expected"):
        Replay.from_bytes(data)
    path = tmp_path / "theirs"
    path.write_bytes(data)
    with pytest.raises(ProtocolError):
        Replay.load(path)


def test_no_more_than_the_cap_is_read(tmp_path):
    path = tmp_path / "theirs"
    path.write_bytes(SMALL.to_bytes())
    os.truncate(path, 1 << 40)  # sparse
    with pytest.raises(ProtocolError, match=f"at most {MOST_BYTES} bytes"):
        Replay.load(path)


@given(st.integers(0, len(SMALL.to_bytes()) - 1), st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_damage_is_an_error_of_form_or_another_replay(at, bits):
    damaged = bytearray(SMALL.to_bytes())
    damaged[at] ^= bits
    try:
        read = Replay.from_bytes(bytes(damaged))
    except ProtocolError:
        return
    assert read.to_bytes() == damaged


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_other_bytes_are_an_error_of_form(data):
    with pytest.raises(ProtocolError):
        Replay.from_bytes(data)


# --- the tolerance --------------------------------------------------------------------------------


def test_equal_bytes_ask_for_equal_bytes():
    found = calibrate(SMALL, Replay.from_bytes(SMALL.to_bytes()))
    assert (found.tolerance, found.largest, found.factor) == (0.0, 0.0, 1.0)
    assert found.replays == (SMALL.digest, SMALL.digest)


def test_both_parties_find_the_same():
    ours, theirs = replays(normal(1e-4))
    found = calibrate(ours, theirs)
    assert found == calibrate(theirs, ours)
    largest = max(
        np.abs(theirs.outputs.astype(float) - ours.outputs).max(),
        np.abs(theirs.other_seeds.astype(float) - ours.other_seeds).max(),
    )
    assert found.largest == largest
    assert found.factor == pytest.approx(100 / (0.05 * 257))
    assert found.tolerance == found.factor * largest
    assert found.smallest_sd == min(ours.seed_sd.min(), theirs.seed_sd.min())
    wire = msgspec.json.encode(found)
    assert msgspec.json.decode(wire, type=Calibration) == found
    assert len(wire) < 512


def test_with_enough_rows_the_largest_difference_suffices():
    assert calibrate(*replays(normal(1e-4)), n_checks=12).factor == 1.0
    assert calibrate(*replays(normal(1e-4)), n_checks=13).factor > 1.0


def heavy(rng, n):
    """Differences of n rows with P(|row| > x) = 1e-6 / x, of random signs."""
    size = 1e-6 / rng.random((n, 1))
    return np.float32(size * rng.choice([-1.0, 1.0], (n, 3)))


@pytest.mark.parametrize("n_checks", [12, 100], ids=["order statistics", "a tail like 1/x"])
def test_honest_rows_exceed_the_tolerance_as_rarely_as_stated(n_checks):
    """At most 0.05 for any of the checks: measured over 1000 calibrations, each with fresh rows."""
    rng, n_sessions, terms = np.random.default_rng(0), 1000, replays(normal(0.0))[0].terms
    none, fresh = np.zeros((LEAST_ROWS, 3), np.float32), np.zeros((n_checks, 3), np.float32)
    apart = np.full(
        (terms.n_repeats, 3), 1e30, np.float32
    )  # the spread over seeds sets no limit here
    alarms, without_factor = 0, 0
    for _ in range(n_sessions):
        theirs = Replay(terms, heavy(rng, LEAST_ROWS), apart)
        found = calibrate(Replay(terms, none, apart), theirs, n_checks=n_checks)
        checked = heavy(rng, n_checks)
        alarms += differs(checked, fresh, found.tolerance).any()
        without_factor += differs(checked, fresh, found.largest).any()
    margin = 4 * np.sqrt(0.05 * 0.95 / n_sessions)
    assert 0.05 - margin < alarms / n_sessions < 0.05 + margin  # the rule is no looser than it says
    if n_checks == 100:  # the wrong rule is told from the right one
        assert without_factor / n_sessions > 0.05 + margin


def test_few_rows_serve_for_equal_bytes_only():
    with pytest.raises(ValueError, match="n_rows: expected at least 256 rows on both sides"):
        calibrate(*replays(normal(1e-7), n_rows=255))


def test_a_tolerance_near_the_spread_over_seeds_is_refused():
    ours, theirs = replays(normal(0.1 * NOISE))
    with pytest.raises(
        ValueError, match=r"tolerance: expected at most .* \(target \d\); train on one"
    ):
        calibrate(ours, theirs)
    # More rows help only where the factor is at fault.
    ours, theirs = replays(normal(2e-3))
    with pytest.raises(ValueError, match="replay more rows, so that the factor"):
        calibrate(ours, theirs)
    limit = calibrate(ours, theirs, n_checks=1)
    assert limit.tolerance <= 0.1 * limit.smallest_sd


def test_any_tolerance_is_refused_for_a_model_that_does_not_depend_on_its_seed():
    still = smooth_function(40, n_targets=3)
    ours = replay(still, 40, 3, n_rows=LEAST_ROWS, **WORDS)
    assert calibrate(ours, ours).smallest_sd == 0.0
    nudged = Replay(ours.terms, np.nextafter(ours.outputs, np.float32(9)), ours.other_seeds)
    with pytest.raises(ValueError, match="tolerance: expected at most 0, a tenth"):
        calibrate(ours, nudged)


def test_noise_in_a_replay_buys_no_larger_tolerance():
    """A wider spread over seeds in one replay is a difference between both, and larger than a tenth."""
    ours, _ = replays(normal(0.0))
    for step in (0.01, 0.1, 1.0):
        loud = ours.other_seeds + np.float32(step) * np.sign(ours.other_seeds)
        with pytest.raises(ValueError, match="tolerance: expected at most"):
            calibrate(ours, Replay(ours.terms, ours.outputs, loud))


def test_platforms_that_differ_in_one_direction_are_refused():
    ours, theirs = replays(lambda rng, outputs: 1e-5 * np.abs(rng.standard_normal(outputs.shape)))
    with pytest.raises(ValueError, match=r"theirs: expected differences on either side.*one side"):
        calibrate(ours, theirs)


@pytest.mark.parametrize("other", [{"seed": 1}, {"n_rows": 7}, {"clip": 9.0}, {"p": 0.4}], ids=str)
def test_replays_of_other_rows_are_refused(other):
    theirs = replay(FUNCTION, 40, 3, **{"n_rows": 6, **WORDS, **other})
    with pytest.raises(ValueError, match="theirs: expected a replay of the same rows"):
        calibrate(SMALL, theirs)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tolerance": -1e-9},
        {"tolerance": 1e300},
        {"tolerance": None},
        {"factor": 0.5},
        {"n_rows": 2**40},
        {"alarm": 1.0},
        {"replays": ["00" * 32]},
        {"replays": ["00" * 32, "zz" * 32]},
        {"more": 1},
    ],
    ids=str,
)
def test_every_field_of_the_record_is_bounded(wrong):
    words = msgspec.to_builtins(calibrate(SMALL, SMALL))
    assert msgspec.convert(words, Calibration) == calibrate(SMALL, SMALL)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(words | wrong), type=Calibration)


def test_terms_are_bounded():
    words = msgspec.to_builtins(SMALL.terms)
    assert msgspec.convert(words, ReplayTerms) == SMALL.terms
    with pytest.raises(ValueError, match="n_repeats: expected at most 6, got 7"):
        ReplayTerms(**words | {"n_repeats": 7})


# --- the command line -----------------------------------------------------------------------------


def call(*arguments):
    return CliRunner().invoke(main, ["calibrate", *map(str, arguments)])


def test_own_functions_are_replayed_and_compared(tmp_path):
    files = [tmp_path / name for name in ("ours", "theirs")]
    for file in files:
        options = ["--source", "test_calibration:job", "--clip", 8, "--n-rows", 300]
        result = call("run", *options, file)
        assert result.exit_code == 0, result.output
        assert "332 trainings of 3 targets" in result.output
    result = call("compare", *files)
    assert result.exit_code == 0
    assert result.output == "All bytes of 300 rows are equal: tolerance 0.\n"
    (tmp_path / "record.json").write_text(call("compare", "--json", *files).stdout)
    assert read_calibration(tmp_path / "record.json").tolerance == 0.0


def job():
    """What a user's own module may offer."""
    columns = [np.arange(40)], [np.arange(3)]
    return Job.of(FUNCTION, train=columns[0], targets=columns[1], recipe={"f": "cube"}, output="f")


@pytest.mark.parametrize("name", ["test_calibration", "test_calibration:NOTHING", ":", "no.such:x"])
def test_a_source_that_is_not_there_is_named(name, tmp_path):
    result = call("run", "--source", name, "--clip", 8, tmp_path / "out")
    assert result.exit_code == 3
    assert "source: expected 'module:name'" in result.output
    assert not (tmp_path / "out").exists()


def test_a_refusal_says_what_to_do_on_one_line(tmp_path):
    files = [tmp_path / "ours", tmp_path / "theirs"]
    for made, file in zip(replays(normal(0.1)), files, strict=True):
        made.save(file)
    result = call("compare", *files)
    assert result.exit_code == 3
    assert result.output.startswith("Error: tolerance: expected at most")
    assert result.output.count("\n") == 1
    files[1].write_bytes(MALFORMED["cut"])
    result = call("compare", *files)
    assert result.exit_code == 3
    assert "Error: replay: expected" in result.output


TWO_REPLAYS = """
import sys
from pyattr.datasets import load
from pyattr.protocol.calibration import replay
from pyattr.retraining.ensemble import Ensemble, MLPRecipe

data = load("digits", 100, 8)
images = data.train_images, data.train_labels, data.test_images, data.test_labels
ensemble = Ensemble(MLPRecipe(n_steps=50, init_scale=0.25), *images)
for seed, n_rows in enumerate((256, 128)):
    made = replay(ensemble, 100, 8, p=0.5, clip=32.0, n_rows=n_rows, n_repeats=16, seed=seed)
    made.save(f"{sys.argv[1]}{seed}")
"""


def test_networks_on_two_instruction_sets_agree_within_the_tolerance(tmp_path):
    """Real replays: the machine's own instructions against none of its vector ones."""
    pytest.importorskip("torch")
    slow = {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
    for name, environment in (("a", {}), ("b", slow)):
        command = [sys.executable, "-c", TWO_REPLAYS, str(tmp_path / name)]
        root = Path(__file__).parents[2]
        subprocess.run(command, check=True, env=os.environ | environment, cwd=root, timeout=200)
    (ours, ours_fresh), (theirs, theirs_fresh) = (
        [Replay.load(tmp_path / f"{name}{seed}") for seed in (0, 1)] for name in "ab"
    )
    found = calibrate(ours, theirs, n_checks=12)
    assert found.factor == 1.0
    assert found.tolerance <= 0.1 * found.smallest_sd
    # The six largest of all 384 rows are all among the 128 fresh ones with probability below (1/3)^6.
    exceed = differs(theirs_fresh.outputs, ours_fresh.outputs, found.tolerance)
    assert exceed.sum() <= 5
    assert not find_drift(theirs_fresh.outputs, ours_fresh.outputs).found
