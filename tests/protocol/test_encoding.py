"""Framing and tensors; safetensors itself is the oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
import safetensors.numpy

from pyattr.errors import ProtocolError
from pyattr.protocol.encoding import (
    HEADER_CAP,
    Tensor,
    decode_header,
    decode_tensors,
    encode,
    frame_size,
)
from pyattr.protocol.messages import DECODER, Outputs, outputs_layout

DIGEST = "5a" * 32
MESSAGE = Outputs(session=DIGEST, parent=DIGEST, salt=DIGEST, leaf_key=DIGEST, tensors=DIGEST)


def tensors_of(layout, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {
        name: rng.standard_normal(shape, dtype=np.float32) for name, (_, shape) in layout.items()
    }
    return arrays, {n: Tensor("F32", a.shape, a.tobytes()) for n, a in arrays.items()}


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 3, 4), (48, 100, 32), (7, 97, 3), (1000, 5, 2)])
def test_tensors_are_the_bytes_that_safetensors_writes(sizes):
    layout = outputs_layout(*sizes)
    arrays, tensors = tensors_of(layout)
    rest = decode_header(encode(MESSAGE, tensors), DECODER, frame_size(layout))[1]
    assert bytes(rest) == safetensors.numpy.save(arrays)
    read = safetensors.numpy.load(bytes(rest))
    assert all(np.array_equal(read[name], array) for name, array in arrays.items())


def test_frame_size_is_a_cap_that_is_checked_first():
    layout = outputs_layout(4, 3, 2)
    data = encode(MESSAGE, tensors_of(layout)[1])
    assert len(data) <= frame_size(layout) < len(data) + HEADER_CAP
    with pytest.raises(ProtocolError, match="at most 10 bytes"):
        decode_header(data, DECODER, 10)


def test_a_claimed_size_allocates_nothing():
    # A peer's header may claim any size: the expected one alone counts.
    layout = outputs_layout(2**31, 2**31, 2**31)
    _, rest = decode_header(encode(MESSAGE), DECODER, frame_size(layout))
    with pytest.raises(ProtocolError, match=r"tensors: expected .* bytes, got 0"):
        decode_tensors(rest, layout)


def test_tensor_refuses_bytes_that_do_not_fit():
    with pytest.raises(ValueError, match="data: expected 24 bytes"):
        Tensor("F32", (2, 3), bytes(23))
    assert Tensor("F32", (2, 3), bytes(24)).shape == (2, 3)


def test_tensor_bytes_pass_unchanged_even_if_they_are_not_numbers():
    # Whether values are finite is a question of substance, asked after the form.
    layout = {"outputs": ("F32", (2, 1))}
    data = np.array([math.nan, -0.0], np.float32).tobytes()
    framed = encode(MESSAGE, {"outputs": Tensor("F32", (2, 1), data)})
    rest = decode_header(framed, DECODER, frame_size(layout))[1]
    assert decode_tensors(rest, layout)["outputs"].data == data
