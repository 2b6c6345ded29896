"""What crosses the border arrives unchanged; what is made up there can neither run, grow, nor wait for ever."""

import json
import pickle
import socket
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save

from pudm_lite.course.messages import LARGEST, NoMessage, leaves_of, pack, receive, send, unpack


@pytest.fixture
def ends():
    one, two = socket.socketpair()
    with one, two:
        yield one, two


def test_numbers_text_and_containers_arrive_as_they_were():
    value = {"a": [1, 2.5, None, True, "é\ud800"], "beta": 10**30, "nested": {"b": []}, "nan": float("inf")}
    assert unpack(pack(value)) == value
    assert unpack(pack((1, 2))) == [1, 2]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3, 4, dtype=torch.float64),
        torch.randn(2, 3).T,
        torch.tensor(5),
        torch.zeros(0, 3),
        torch.tensor([True, False]),
        torch.randn(4, dtype=torch.complex128),
        torch.ones(3, requires_grad=True),
        torch.ones(2, dtype=torch.bfloat16).expand(3, 2),
        torch.eye(3).to_sparse(),
    ],
)
def test_tensors_arrive_as_they_were(tensor):
    got = unpack(pack([tensor, tensor]))[1]
    assert got.dtype == tensor.dtype
    assert torch.equal(got, tensor.detach().to_dense())


def test_the_slopes_of_a_scalar_arrive_with_it():
    """As a call is answered: the arguments cross, the answer comes back, and the caller differentiates it."""
    mine = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor(3.0, requires_grad=True)
    theirs = unpack(pack(mine))
    assert all(one.requires_grad for one in theirs)
    a, b = theirs
    answer = [(a**2).sum() * b, a.sum().detach(), (a.detach() * b).sum(), 2 * a]
    full, cut, half, vector = unpack(pack(answer, leaves_of(theirs)), leaves_of(mine))
    assert (full.tolist(), cut.tolist(), half.tolist(), vector.tolist()) == (15.0, 3.0, 9.0, [2.0, 4.0])
    assert not cut.requires_grad
    assert [one.tolist() for one in torch.autograd.grad(full, mine)] == [[6.0, 12.0], 5.0]
    assert [one.tolist() for one in torch.autograd.grad(half, mine)] == [[0.0, 0.0], 3.0]


@pytest.mark.parametrize("slope", [torch.ones(3), torch.ones(4, 4), "steep", None])
def test_slopes_that_are_made_up_are_no_message(slope):
    leaf, value = torch.ones(2, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    text = {"tensor": "0", "complex": False, "slopes": [slope]}
    tensors = {"0": value.detach()}
    if isinstance(slope, torch.Tensor):
        text["slopes"], tensors["1"] = [{"tensor": "1", "complex": False}], slope
    tensors["text"] = torch.frombuffer(bytearray(json.dumps(text).encode()), dtype=torch.uint8)
    with pytest.raises(NoMessage):
        unpack(save(tensors), [leaf])


def test_arrays_of_numpy_arrive_as_tensors():
    assert torch.equal(unpack(pack(np.arange(3))), torch.arange(3))
    assert unpack(pack(np.float64(0.5))) == 0.5


def test_a_small_tensor_that_shows_much_does_not_leave():
    for large in (torch.ones(1).expand(4 * 10**8), torch.sparse_coo_tensor([[0], [0]], [1.0], (10**7, 10**7))):
        with pytest.raises(ValueError, match="too large"):
            pack(large)
    with pytest.raises(ValueError, match="too large"):
        pack([torch.zeros(LARGEST // 8)] * 3)
    with pytest.raises(ValueError, match="too large"):
        pack("x" * LARGEST)


def test_a_panic_of_the_library_is_no_message(monkeypatch):
    class Panic(BaseException): ...

    def load(data):
        raise error

    monkeypatch.setattr("safetensors.torch.load", load)
    error = Panic()
    with pytest.raises(NoMessage):
        unpack(b"")
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        unpack(b"")


@pytest.mark.parametrize("value", [object(), len, {1, 2}, b"bytes", [lambda: 1], 1j])
def test_anything_else_is_refused(value):
    with pytest.raises(TypeError, match="no tensor, number or list"):
        pack(value)


class Bomb:
    def __reduce__(self):
        return (open, ("exploded", "w"))


def as_text(text: bytes, **tensors) -> bytes:
    return save({"text": torch.frombuffer(bytearray(text), dtype=torch.uint8), **tensors})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 100,
        pickle.dumps(Bomb()),
        as_text(b"not json"),
        as_text(b"[" * 100_000),
        as_text(b'{"tensor": "7", "complex": false}'),
        as_text(b'{"tensor": "7", "complex": true}', **{"7": torch.ones(3)}),
        as_text(b'{"tensor": []}'),
        as_text(b'{"dict": 5}'),
        save({"text": torch.ones(2, dtype=torch.int64)}),
        pack(torch.ones(100))[:-8],
        (10**9).to_bytes(8, "little") + b"{}",
    ],
)
def test_bytes_that_no_one_packed_are_no_message(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoMessage, match="no tensor"):
        unpack(data)
    assert not list(tmp_path.iterdir())


def test_a_message_goes_over(ends):
    send(ends[0], b"hello", 1)
    send(ends[0], b"", 1)
    assert (receive(ends[1], 1), receive(ends[1], 1)) == (b"hello", b"")


def test_nobody_is_waited_for(ends):
    ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        send(ends[0], bytes(1 << 22), 0.2)  # he does not read
    with pytest.raises(TimeoutError):
        receive(ends[0], 0.2)  # he does not write
    assert time.monotonic() - start < 2


def test_what_comes_in_drops_is_late_when_its_last_drop_is(ends, monkeypatch):
    ends[1].sendall(bytes([200]) + bytes(7) + bytes(200))  # it is all there, but too late
    clock = iter(range(100))
    monkeypatch.setattr("pudm_lite.course.messages.time.monotonic", lambda: next(clock) * 0.4)
    with pytest.raises(TimeoutError):
        receive(ends[0], 1.0)


def test_a_message_that_announces_too_much_or_breaks_off_is_none(ends):
    ends[1].sendall((1 << 62).to_bytes(8, "little"))
    with pytest.raises(NoMessage, match="too large"):
        receive(ends[0], 1)
    ends[1].sendall((50).to_bytes(8, "little") + b"part")
    ends[1].close()
    with pytest.raises(NoMessage, match="died"):
        receive(ends[0], 1)
    with pytest.raises(NoMessage, match="died"):
        send(ends[0], b"x", 1)
