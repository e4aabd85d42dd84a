"""The doctor: what it finds on a machine that keeps its promises, and on ones that do not."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from click.testing import CliRunner

from pyattr import kernels
from pyattr.cli import main
from pyattr.retraining import examination
from pyattr.retraining.examination import equality_class

pytestmark = pytest.mark.filterwarnings("ignore")  # FFCV imports what Python is about to drop

CHECKS = ("repeated", "alone", "every_slot", "shuffled", "threads")
EQUAL = dict.fromkeys(CHECKS, True)


def call(*arguments):
    return CliRunner().invoke(main, ["doctor", *arguments])


def test_this_machine_keeps_its_promises():
    result = call("--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["promises_hold"]
    assert found["equality"] == dict.fromkeys(("softmax", "mlp", "resnet9"), "any")
    assert found["equal_bytes"] == dict.fromkeys(("softmax", "mlp", "resnet9"), EQUAL)
    assert found["versions"]["torch"] == torch.__version__
    assert found["extension"] == kernels.extension_levels()
    assert found["platform_class"]["device"]["kind"] == "cpu"
    assert found["ffcv"] in ("same bytes as in memory", "not installed")


@pytest.fixture
def faulty(monkeypatch):
    """Let the checks find what is asked for, whatever the machine does."""

    def fault(equal, ffcv="not installed"):
        monkeypatch.setattr(examination, "check_equal_bytes", lambda ensemble: equal)
        monkeypatch.setattr(examination, "_ffcv_feed", lambda: ffcv)

    return fault


@pytest.mark.parametrize(
    ("equal", "expected"),
    [
        (EQUAL, "equal bytes alone, in any company and order, on 1 and 2 threads"),
        (EQUAL | {"threads": False}, "equal bytes run to run only"),
        (EQUAL | {"repeated": False, "alone": False}, "no equal bytes: the same run twice differs"),
    ],
)
def test_a_broken_promise_ends_with_1_and_is_named(faulty, equal, expected):
    faulty(equal)
    result = call()
    holds = all(equal.values())
    assert result.exit_code == (0 if holds else 1)
    assert f"resnet9: {expected}" in result.stdout
    assert ("All promises hold." in result.stdout) is holds
    for name in CHECKS:
        assert f"{name} {'equal' if equal[name] else 'DIFFERENT'}" in result.stdout


def test_a_feed_of_other_bytes_is_a_broken_promise(faulty):
    faulty(EQUAL, "other bytes than in memory")
    result = call("--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["equality"]["mlp"] == "any"


def test_classes():
    assert equality_class(EQUAL) == "any"
    assert equality_class(EQUAL | {"alone": False}) == "same company"
    assert equality_class(EQUAL | {"repeated": False}) == "none"


def test_refuses_a_device_that_is_not_there():
    result = call("--device", "cuda:99")
    assert result.exit_code == 3
    assert "Error: --device: expected" in result.stderr


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyattr.retraining.examination", None)
    result = call()
    assert result.exit_code == 3
    assert "pip install '.[torch]'" in result.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_repeats():
    assert call("--device", "cuda").exit_code == 0
