"""What crosses the border between the grader and a submission: tensors, numbers and text, as safetensors.

Either side may be lied to, so nothing here can run code, and no message grows: each tensor comes with all its bytes.
"""

import json
import socket
import time
from collections.abc import Sequence
from typing import Any

LARGEST = 8 << 20
"""Bytes of a message: what a check asks for is a thousand times smaller."""


class NoMessage(Exception):
    """The other side sent nothing that can be read. The reason is a sentence."""


def pack(value: Any, leaves: Sequence[Any] = ()) -> bytes:
    """Tensors, numbers, text, None, and lists and dicts of them as bytes; a tuple arrives as a list.

    A graph does not cross. What crosses of it: that a tensor requires a gradient, and with leaves (tensors that do) the
    slopes of each scalar by their elements.
    Raises TypeError for anything else, ValueError when it is larger than LARGEST.
    """
    import numpy as np
    import torch
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}

    def flat(value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            value = torch.as_tensor(value)
        if isinstance(value, torch.Tensor):
            if value.numel() * value.element_size() > LARGEST:  # a view may be small, and what it shows is not
                raise ValueError(f"a tensor of shape {tuple(value.shape)} is no answer to any exercise: too large")
            dense = torch.view_as_real(value.detach().to_dense()) if value.is_complex() else value.detach().to_dense()
            name = f"{len(tensors)}"
            tensors[name] = dense.clone(memory_format=torch.contiguous_format)
            told = {"tensor": name, "complex": value.is_complex()}
            if not value.requires_grad or not value.is_floating_point():
                return told
            if leaves and not value.ndim:
                slopes = torch.autograd.grad(
                    value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                return told | {"slopes": [flat(slope.detach()) for slope in slopes]}
            return told | {"leaf": True}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list | tuple):
            return [flat(one) for one in value]
        if isinstance(value, dict):
            return {"dict": [[str(name), flat(one)] for name, one in value.items()]}
        raise TypeError(f"a {type(value).__name__} is no tensor, number or list of such")

    text = json.dumps(flat(value)).encode()
    tensors["text"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    data = save(tensors)
    if len(data) > LARGEST:
        raise ValueError("the answer is too large for any exercise")
    return data


def unpack(data: bytes, leaves: Sequence[Any] = ()) -> Any:
    """The value that `pack` took, each scalar as steep in the leaves as there. Raises NoMessage for any other bytes."""
    import torch
    from safetensors.torch import load

    def full(flat: Any) -> Any:
        if isinstance(flat, list):
            return [full(one) for one in flat]
        if not isinstance(flat, dict):
            return flat
        if "dict" in flat:
            return {str(name): full(one) for name, one in flat["dict"]}
        tensor = tensors[flat["tensor"]]
        if flat.get("leaf"):
            return tensor.requires_grad_()
        for leaf, slope in zip(leaves, full(flat.get("slopes", [])), strict=False):
            tensor = tensor + ((leaf - leaf.detach()) * slope.expand_as(leaf)).sum()
        return torch.view_as_complex(tensor) if flat["complex"] else tensor

    try:
        tensors = load(data)
        return full(json.loads(tensors["text"].numpy().tobytes()))
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the other side made up; safetensors may panic, which is no Exception
        raise NoMessage("the answer was no tensor, number or list of such") from None


def leaves_of(arguments: Sequence[Any]) -> list[Any]:
    """The tensors among the arguments of a call by which its results may be differentiated."""
    return [one for one in arguments if getattr(one, "requires_grad", False)]


def send(line: socket.socket, data: bytes, seconds: float) -> None:
    """Send bytes within a time. Raises NoMessage when the other side does not take them."""
    line.settimeout(max(seconds, 1e-3))
    try:
        line.sendall(len(data).to_bytes(8, "little") + data)
    except TimeoutError:
        raise
    except OSError:
        raise NoMessage("the process died before it was asked") from None


def receive(line: socket.socket, seconds: float, largest: int = LARGEST) -> bytes:
    """The next bytes from the other side. Raises TimeoutError, NoMessage when it is gone or sends too much."""
    until, data, wanted = time.monotonic() + seconds, bytearray(), 8
    while len(data) < wanted:
        line.settimeout(max(until - time.monotonic(), 1e-3))
        try:
            part = line.recv(min(wanted - len(data), 1 << 20))
        except TimeoutError:
            raise
        except OSError:
            part = b""
        if not part:
            raise NoMessage("the process died")
        if time.monotonic() > until:  # a byte now and then is no answer
            raise TimeoutError
        data += part
        if len(data) == 8 == wanted:
            wanted += int.from_bytes(data, "little")
            if wanted > largest:
                raise NoMessage("the answer is too large for any exercise")
    return bytes(data[8:])
