"""Switches of determinism and the record of the platform."""

from __future__ import annotations

import json
import threading

import pytest
import torch

from pyattr.retraining.platform import (
    available_threads,
    check_device,
    deterministic,
    map_single_threaded,
    platform_class,
)


def switches():
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.conv.fp32_precision,
        torch.is_inference_mode_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )


def test_switches_are_set_inside_and_put_back():
    before = switches()
    with deterministic():
        assert switches() == (True, 1, "highest", False, "ieee", True, False)
        with deterministic():
            pass
        assert switches() == (True, 1, "highest", False, "ieee", True, False)
    assert switches() == before
    with pytest.raises(KeyError), deterministic():
        raise KeyError
    assert switches() == before


def test_one_block_at_a_time():
    order = []

    def other():
        with deterministic():
            order.append("other")

    with deterministic():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_items_run_in_order_each_on_one_thread():
    with deterministic():
        seen = map_single_threaded(lambda k: (k, torch.get_num_threads()), range(9), 3)
    assert seen == [(k, 1) for k in range(9)]


def test_a_failure_in_a_worker_comes_out():
    with deterministic(), pytest.raises(ZeroDivisionError):
        map_single_threaded(lambda k: 1 // k, [1, 0, 2], 2)


def test_platform_class_is_json_and_repeats():
    record = platform_class()
    assert json.loads(json.dumps(record)) == record == platform_class()
    assert record["device"]["isa"] == torch.backends.cpu.get_cpu_capability()
    assert record["torch"] == torch.__version__


def test_platform_class_notices_a_setting(monkeypatch):
    before = platform_class()
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert platform_class() != before


def test_devices():
    assert check_device("cpu").type == "cpu"
    assert available_threads() >= 1
    for name in ("cuda:99", "gpu", "cuda:", "cpu:0"):
        with pytest.raises(ValueError, match=r"^device: expected"):
            check_device("cuda:99" if name == "cuda:" and torch.cuda.is_available() else name)
