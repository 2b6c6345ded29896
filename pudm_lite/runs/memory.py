"""The memory arithmetic of training: what a network needs on a GPU, counted without one.

What autograd keeps for the backward pass is counted on fake CUDA tensors, which have shapes, data types and storages
but no data, so that CUDA's own rules of mixed precision hold. One of them surprises: autocast runs group norms in
float32, and so a U-Net keeps nearly as much in fp16 as without it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..errors import UserError
from ..sampling import HALF
from ..training import HEADROOM


@dataclass(frozen=True)
class Memory:
    """Bytes that training holds at its peak, at the end of a forward pass with gradients.

    Autocast keeps weights, gradients, AdamW's two moments and the moving average in float32: 4, 4, 8 and 4 bytes a
    parameter. activations: what autograd keeps for one piece of a batch, with the half-precision copies of the weights.
    """

    weights: int
    gradients: int
    optimiser: int
    ema: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimiser + self.ema + self.activations


def training_memory(
    network: nn.Module,
    shape: tuple[int, int, int],
    batch: int,
    precision: str = "no",
    checkpointing: bool = False,
    told: tuple[int, int] | None = None,
) -> Memory:
    """The memory of a training step on a CUDA device with AdamW.

    network: takes images (B, C, H, W), steps (B,), and with `told` tokens (B, *told); its parameters may lie on any
    device, `meta` included; those without gradients need no optimiser.
    shape: (C, H, W). batch: images in one piece. precision: `no`, `fp16` or `bf16`.
    checkpointing: Diffusers' gradient checkpointing; a network without it raises ValueError.
    """
    parameters = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    activations = _activations(network, shape, batch, precision, checkpointing, told)
    return Memory(4 * parameters, 4 * trained, 8 * trained, 4 * parameters, activations)


def erasing_memory(
    network: nn.Module, shape: tuple[int, int, int], batch: int, told: tuple[int, int], estimates: int = 2
) -> Memory:
    """The same for `erasing.methods.erase`, in float32: there is a teacher in the place of an average, and Adam's
    moments are of what is trained.

    estimates: of the noise, with gradients, that a step keeps: the erased concept's and a preserved one's; 1 where none
    is preserved, as by ESD.
    """
    return training_memory(network, shape, estimates * batch, told=told)


def flops(network: nn.Module, shape: tuple[int, int, int], told: tuple[int, int] | None = None) -> int:
    """Floating-point operations of a forward pass on one image: two for each multiplication and addition."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with FakeTensorMode(), torch.no_grad():
        held = {name: torch.empty(p.shape, device="cuda") for name, p in _tensors(network)}
        with _FusedAttention(), counter:
            torch.func.functional_call(network, held, _inputs(1, shape, told))
    return counter.get_total_flops()


def erasing_evaluations(search: int = 0, batch: int = 1) -> int:
    """Network evaluations of a step of ESD, one with gradients counted as three: two for each noisy latent of a guided
    trajectory, the teacher's two, the student's one; for adversarial preservation two more, and `search` on one latent.
    """
    return (2 + 2 + 3) * batch + ((1 + 3) * batch + search if search else 0)


def _tensors(network: nn.Module) -> list[tuple[str, Tensor]]:
    return [*network.named_parameters(), *network.named_buffers()]


def _inputs(batch: int, shape: tuple[int, int, int], told: tuple[int, int] | None) -> tuple[Tensor, ...]:
    x, t = torch.empty(batch, *shape, device="cuda"), torch.zeros(batch, dtype=torch.long, device="cuda")
    return (x, t) if told is None else (x, t, torch.empty(batch, *told, device="cuda"))


def pieces_for(
    memory_bytes: int,
    network: nn.Module,
    shape: tuple[int, int, int],
    batch: int,
    precision: str = "no",
    checkpointing: bool = False,
) -> int:
    """The fewest pieces (TrainConfig.pieces) of a batch with which training fits memory_bytes less HEADROOM.

    Raises UserError when not even one image at a time fits.
    """
    room = (1 - HEADROOM) * memory_bytes
    for pieces in range(1, batch + 1):
        largest = -(-batch // pieces)
        if pieces > 1 and largest == -(-batch // (pieces - 1)):
            continue  # as large as before
        if training_memory(network, shape, largest, precision, checkpointing).total <= room:
            return pieces
    raise UserError(
        f"training on one image of {' x '.join(map(str, shape))} at a time does not fit {memory_bytes / 2**30:.0f} "
        "GiB: take a smaller network or smaller images, or gradient checkpointing"
    )


class _Kept:
    """Counts the bytes of storages that are kept, each storage once."""

    def __init__(self, known: set[int]) -> None:
        self.storages: dict[int, torch.UntypedStorage] = {}  # held: else a later one may get a freed address
        self.known = known  # held anyway

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        """While entered: what autograd keeps."""
        return torch.autograd.graph.saved_tensors_hooks(self.keep, lambda tensor: tensor)

    def keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            self.storages[storage._cdata] = storage
        return tensor

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())


class _FusedAttention(TorchFunctionMode):
    """Attention through the kernel that a GPU would take, which keeps no matrix of weights: torch chooses it by asking
    the GPU, and where there is none it would keep the matrix."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            query, key, value = args
            return torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, None, True)[0]
        return func(*args, **(kwargs or {}))


def _activations(
    network: nn.Module,
    shape: tuple[int, int, int],
    batch: int,
    precision: str,
    checkpointing: bool,
    told: tuple[int, int] | None,
) -> int:
    """Bytes that autograd keeps of a forward pass.

    A checkpointed block keeps its inputs alone; what it would have kept comes back one block at a time, so the largest
    block is added.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    recomputed = [0]

    def checkpointed(block: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
        for tensor in inputs:
            if isinstance(tensor, Tensor):  # blocks with attention are given Nones as well
                outer.keep(tensor)
        inner = _Kept(outer.known | outer.storages.keys())
        with inner.hooks():
            output = block(*inputs)
        recomputed.append(inner.bytes)
        return output

    with FakeTensorMode(), _checkpointing(network, checkpointed if checkpointing else None):
        parameters = {
            name: torch.empty(p.shape, dtype=p.dtype, device="cuda", requires_grad=p.requires_grad)
            for name, p in network.named_parameters()
        }
        buffers = {name: torch.empty(b.shape, dtype=b.dtype, device="cuda") for name, b in network.named_buffers()}
        held = parameters | buffers
        outer = _Kept({tensor.untyped_storage()._cdata for tensor in held.values()})
        with _cuda_autocast(precision), _FusedAttention(), outer.hooks():
            output: Any = torch.func.functional_call(network, held, _inputs(batch, shape, told))
            output = output if isinstance(output, Tensor) else output.sample
            loss = output.float().square().flatten(1).mean(1).sum()  # Eq. 8's square keeps the output, too
        del loss
    return outer.bytes + max(recomputed)


@contextmanager
def _checkpointing(network: nn.Module, function: Callable[..., Tensor] | None) -> Iterator[None]:
    """Diffusers' gradient checkpointing through `function`; the network is left as it was."""
    was = bool(getattr(network, "is_gradient_checkpointing", False))
    modules: Any = network
    if function is not None:
        modules.enable_gradient_checkpointing(function)
    elif was:
        modules.disable_gradient_checkpointing()
    try:
        yield
    finally:
        if function is not None:
            modules.disable_gradient_checkpointing()
        if was:
            modules.enable_gradient_checkpointing()


@contextmanager
def _cuda_autocast(precision: str) -> Iterator[None]:
    """torch.autocast("cuda"), which declines where there is no GPU; the switches that it sets do not."""
    if precision == "no":
        yield
        return
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", HALF[precision])
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
