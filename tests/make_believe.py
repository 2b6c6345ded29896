"""A make-believe GPU: tensors that hold CPU data, call themselves CUDA's, and behave as CUDA's where code trips.

- An operation on a tensor of the device and one of the host is refused, as CUDA refuses it (a number, a tensor without
  dimensions, may mix).
- Wherever the host would wait for the device, that is counted: reading a number, copying to the host, copying from the
  host unless pinned and asked not to block, masks whose result has an unknown size.
- A CPU generator cannot fill a tensor of the device.

`with device() as waits:` switches it on: `torch.cuda.is_available()` is then true, and Accelerate takes the device. In
each of several processes, `with device(shared=True):` lets Accelerate talk through gloo and yet take the device, and
refuses what NCCL would: a tensor of the host that is to be reduced.
What is computed is what a CPU computes: speed and CUDA's own rounding are not shown here.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
NUMBERS = {"item", "tolist", "__bool__", "__float__", "__int__", "__index__", "equal"}
WAITS = NUMBERS | {"nonzero", "masked_select", "unique"}
COPIES = {"copy_", "__setitem__", "module_load"}
CROSS = COPIES | {"__get__", "__set__", "_has_compatible_shallow_copy_type"}
"""Calls that may see both sides: copies, and attributes, such as `.data`."""
waits: Counter[str] = Counter()


class OnDevice(Tensor):
    """A tensor of the device. Results of its operations are of the device, too."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        if name == "__get__" and func.__self__ in PROPERTIES:
            return PROPERTIES[func.__self__]
        if name == "get_device":
            return GPU.index
        if name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name in ("to", "cpu", "cuda", "type_as"):
            return moved(func, args, kwargs)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        picked = name == "__getitem__" and isinstance(args[0], OnDevice)  # the host's indices are copied there
        of_host = [x for x in tensors if not isinstance(x, OnDevice) and x.dim()]
        if of_host and not picked and name not in CROSS:
            raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got cuda:0 and cpu")
        refuse_generator(name, kwargs)
        asked = kwargs.get("device")
        to_host = asked is not None and torch.device(asked).type == "cpu"
        masked = picked and any(x.dtype == torch.bool for x in tensors[1:])
        if name in WAITS or masked or to_host or (of_host and (picked or name in COPIES)):
            waits[name] += 1
        result = super().__torch_function__(func, types, args, kwargs | ({} if asked is None else {"device": CPU}))
        to_host |= name in COPIES and not isinstance(args[0], OnDevice)
        return tree_map(plain if to_host else on_device, result)

    def __deepcopy__(self, memo):
        copy = on_device(plain(self.detach()).clone()).requires_grad_(self.requires_grad)
        copy = torch.nn.Parameter(copy, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copy
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol):  # in a file it is the host's, as with map_location="cpu"
        return plain(self.detach()).__reduce_ex__(protocol)


PROPERTIES = {Tensor.device: GPU, Tensor.is_cuda: True, Tensor.is_cpu: False}


def on_device(x):
    """x as the device's own; what is no tensor stays as it is."""
    return x.as_subclass(OnDevice) if isinstance(x, Tensor) and not isinstance(x, OnDevice) else x


def plain(x):
    return x.as_subclass(Tensor) if isinstance(x, OnDevice) else x


def refuse_generator(name, kwargs):
    if isinstance(generator := kwargs.get("generator"), torch.Generator) and generator.device.type == "cpu":
        raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({name})")


def moved(func, args, kwargs):
    """`to`, `cpu`, `cuda` and `type_as`, between host and device or within one."""
    x, rest = args[0], list(args[1:])
    there = isinstance(x, OnDevice)
    goes = {"cpu": False, "cuda": True}.get(func.__name__, there)
    if func.__name__ == "cuda":
        func, rest = Tensor.to, []
    for i, value in enumerate(rest):
        if isinstance(value, (str, torch.device)):
            goes, rest[i] = torch.device(value).type == "cuda", CPU
        elif isinstance(value, Tensor):
            goes, rest[i] = isinstance(value, OnDevice), plain(value)
    if kwargs.get("device") is not None:
        goes, kwargs = torch.device(kwargs["device"]).type == "cuda", kwargs | {"device": CPU}
    if goes != there and not (goes and kwargs.get("non_blocking")):
        waits[func.__name__ if there else "upload"] += 1
    with torch._C.DisableTorchFunctionSubclass():
        result = func(x, *rest, **kwargs)
    if result is x and goes == there:
        return x
    return on_device(result) if goes else plain(result)


class Device(TorchFunctionMode):
    """Sees the calls that no tensor of the device is in yet: those that make one, and those that move one there."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        if torch._C._get_dispatch_mode(
            torch._C._TorchDispatchModeKey.FAKE
        ):  # shapes without data: no device's business
            return func(*args, **kwargs)
        if name == "as_tensor" and isinstance(args[0], Tensor):
            func, name = Tensor.to, "to"
        if any(isinstance(x, OnDevice) for x in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        if name in ("to", "cuda") and args and isinstance(args[0], Tensor):
            return moved(func, args, kwargs)
        if (asked := kwargs.get("device")) is None or torch.device(asked).type != "cuda":
            return func(*args, **kwargs)
        refuse_generator(name, kwargs)
        return tree_map(on_device, func(*args, **kwargs | {"device": CPU}))


@contextmanager
def device(memory: int = 15 * 2**30, shared: bool = False) -> Iterator[Counter[str]]:
    """Switch the make-believe GPU on. memory: its bytes, all free. Yields the waits of the host, by the call's name."""
    from accelerate import Accelerator

    autocast, reduce = torch.autocast.__init__, Accelerator.reduce

    def as_nccl(self, tensor, *args, **kwargs):
        if any(not isinstance(x, OnDevice) for x in tree_leaves(tensor)):
            raise RuntimeError("No backend type associated with device type cpu")
        return reduce(self, tensor, *args, **kwargs)

    def on_cpu(self, device_type, *args, **kwargs):  # CUDA's list of operations is another, the data types are not
        autocast(self, "cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    facts = {
        "is_available": lambda: not shared,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: "make-believe",
        "get_device_capability": lambda *_: (8, 0),
        "is_bf16_supported": lambda *_, **__: True,
        "mem_get_info": lambda *_: (memory, memory),
        "max_memory_allocated": lambda *_: 2**20,
        "reset_peak_memory_stats": lambda *_: None,
        "get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda *_: None,
        "set_device": lambda *_: None,
        "synchronize": lambda *_: waits.update(["synchronize"]),
        "empty_cache": lambda: None,
    }
    waits.clear()
    torch._C._ensureCUDADeviceGuardSet()  # which fake tensors leave out where there is a GPU
    with ExitStack() as stack:
        for name, fact in facts.items():
            stack.enter_context(patch.object(torch.cuda, name, fact))
        stack.enter_context(patch.object(torch.accelerator, "is_available", lambda *_, **__: False))
        stack.enter_context(patch.object(torch.autocast, "__init__", on_cpu))
        stack.enter_context(patch.object(Tensor, "pin_memory", lambda self: self))
        if shared:
            stack.enter_context(patch.object(Accelerator, "device", property(lambda self: GPU)))
            stack.enter_context(patch.object(Accelerator, "reduce", as_nccl))
        # Else a module keeps its parameters and takes their new data, whose kind is lost.
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, before)
        stack.callback(_forget_the_device)
        _forget_the_device()
        stack.enter_context(Device())
        yield waits


def _forget_the_device() -> None:
    """Accelerate remembers a process's device."""
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state()
    PartialState._reset_state()
