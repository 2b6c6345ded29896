"""One training step, and a loop that yields a record per step; EMA; checkpoint and resume.

To resume, run the same command again.
"""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .datasets import to_model
from .diffusion import TIMESTEPS, Process, draw_timesteps, ell
from .draws import STREAMS, Batch, draw_batch, generator
from .errors import UserError
from .files import write_tensors
from .optimisers import OPTIMISERS, make_optimisers
from .risks import METHODS, Risk, Whole, risk
from .splits import Split

PRECISIONS = ("no", "bf16", "fp16")  # Accelerate's names


def setting(default: Any, what: str, compared: bool = True) -> Any:
    """A field of `TrainConfig`. From these alone follow what a row records, a run's name and digits, and the help.

    what: a few words for the help. compared: whether runs that differ in it may not be averaged or compared.
    """
    return field(default=default, metadata={"what": what, "compared": compared})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run besides its network, process and data."""

    method: str = setting("nnpu", "one of risks.METHODS", compared=False)
    beta: float = setting(0.1, "assumed sensitive share of U", compared=False)
    seed: int = setting(0, "of split, initialisation and draws", compared=False)
    steps: int = setting(1000, "training steps")
    batch_size: int = setting(64, "images of U and S together")
    stream: str = setting("pooled", "draw batches from U and S together, or `two`: from each its share")
    s_per_batch: int = setting(6, "images of S in a batch of two streams")
    labelled: int = setting(0, "how many images of S are used; 0: all", compared=False)
    ell_scale: float = setting(784.0, "times the mean squared error; C*H*W gives Eq. 8")
    timesteps: str = setting("stratified", "how t is drawn, or `uniform`")
    optimiser: str = setting("muon", "or `adamw`")
    learning_rate: float = setting(3e-3, "AdamW's")
    kernel_learning_rate: float = setting(0.02, "Muon's")
    warmup_steps: int = setting(100, "over which learning rates rise from 0")
    ema_power: float = setting(16.0, "the average looks back over about steps / ema_power")
    grad_clip: float = setting(math.inf, "largest norm of the whole gradient")
    pieces: int = setting(1, "a batch is accumulated in so many pieces", compared=False)
    mixed_precision: str = setting("no", "or `bf16`, or on a GPU `fp16`")
    gradient_checkpointing: int = setting(
        0, "1: the backward pass computes activations again instead of keeping them", compared=False
    )

    def __post_init__(self) -> None:
        for name, known in (
            ("method", METHODS),
            ("stream", STREAMS),
            ("timesteps", TIMESTEPS),
            ("optimiser", OPTIMISERS),
            ("mixed_precision", PRECISIONS),
            ("gradient_checkpointing", (0, 1)),
        ):
            if getattr(self, name) not in known:
                raise UserError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(map(str, known))}")
        if not 0 < self.beta < 1:
            raise UserError(f"beta must lie inside (0, 1), the sensitive share of the unlabeled data; got {self.beta}")
        if self.stream == "two" and not 0 < self.s_per_batch < self.batch_size:
            raise UserError(
                f"s_per_batch must lie between 0 and batch_size ({self.batch_size}); got {self.s_per_batch}"
            )
        if self.labelled < 0:
            raise UserError(f"labelled must be 0 (all) or more; got {self.labelled}")
        if self.steps < 0:
            raise UserError(f"steps must be 0 (only draw from what is trained already) or more; got {self.steps}")
        for name in ("batch_size", "ell_scale", "learning_rate", "kernel_learning_rate", "pieces"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be larger than 0; got {getattr(self, name)}")
        if self.pieces > self.batch_size:
            raise UserError(f"a batch of {self.batch_size} cannot be cut into {self.pieces} pieces")

    def as_row(self) -> dict[str, Any]:
        """Every setting as a row keeps it: JSON has no infinity, so an infinite limit is None."""
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}


COMPARED = tuple(f.name for f in fields(TrainConfig) if f.metadata["compared"])
"""The settings in which runs must agree before they are averaged or compared."""

WATCH_S_EVERY = 10
"""Every so many steps the unsupervised method, which never learns from S, records the error of S all the same."""


@dataclass(frozen=True)
class Record:
    """One training step. step counts from 1. seconds: training time so far, earlier sessions included.
    value: the risk. terms: its named parts (risks.py)."""

    step: int
    steps: int
    seconds: float
    value: float
    terms: dict[str, float]


def learning_rate_factor(step: int, steps: int, warmup_steps: int) -> float:
    """Linear warm-up from 0, then half a cosine to 0: what every learning rate is multiplied by at `step` (from 0)."""
    warmup_steps = min(warmup_steps, steps // 10)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps)))


def place_for(images: int, device: torch.device) -> torch.device:
    """Where so many bytes of pixels are held: on the device if they take a third of its free memory at most, so that no
    batch waits for a slow host; else in the host's memory."""
    if device.type == "cuda" and images > torch.cuda.mem_get_info(device)[0] / 3:
        return torch.device("cpu")
    return device


class Trainer:
    """A run: `for record in Trainer(...)` trains; `.ema` is the network to sample from.

    The average is a power-law EMA: after step t it has weight about ema_power / t on the newest parameters, so it
    looks back over a fixed share of the run, however short (Karras et al. 2024).

    network: maps images (B, C, H, W), t (B,) to a tensor like the images, or to an object whose `.sample` is one.
    images: (N, C, H, W) uint8, the training set that `split` points into, of the network's size.
    folder: where checkpoint.pt is kept (every `save_every` seconds and at the end); None keeps nothing.
    Under `accelerate launch` each process trains on its share of every batch, and the main one alone writes.
    Raises UserError when the folder holds a checkpoint of another experiment, the loss is not finite, the images are
    too few, or the network or the device cannot do what `config` asks.
    """

    def __init__(
        self,
        network: nn.Module,
        process: Process,
        images: Tensor,
        split: Split,
        config: TrainConfig,
        folder: Path | None = None,
        identity: dict[str, Any] | None = None,
        save_every: float = 60.0,
    ) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from diffusers.training_utils import EMAModel

        if config.labelled:
            split = replace(split, s=split.s[: config.labelled])
        if len(split.u) + len(split.s) < config.batch_size:
            raise UserError(
                f"a batch of {config.batch_size} needs as many images; U and S hold {len(split.u) + len(split.s)}"
            )
        if len(split.s) == 0 and (config.method != "unsupervised" or config.stream == "two"):
            raise UserError("S is empty, and only the method unsupervised, with pooled batches, trains without it")
        if config.mixed_precision == "fp16" and not torch.cuda.is_available():
            raise UserError("mixed_precision fp16 needs a GPU: take bf16 or no")
        self.config, self.split, self.folder, self.save_every = config, split, folder, save_every
        AcceleratorState._reset_state()  # else the precision of a process's first run would be that of all its runs
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=config.mixed_precision)
        device = self.accelerator.device
        self.process = Process(process.alpha_bar.float().to(device), process.prediction)
        self.network = network.to(device, memory_format=torch.channels_last).train()
        if config.gradient_checkpointing:
            if not getattr(network, "_supports_gradient_checkpointing", False):
                raise UserError(f"{type(network).__name__} has no gradient checkpointing: leave it at 0")
            self.network.enable_gradient_checkpointing()
        self.optimisers = make_optimisers(
            config.optimiser, self.network, config.learning_rate, config.kernel_learning_rate
        )
        self.ema_weights = EMAModel(
            self.network.parameters(),
            decay=0.99999,
            use_ema_warmup=True,
            inv_gamma=config.ema_power,
            power=1.0,
            foreach=True,
        )
        self.base_rates = [[group["lr"] for group in o.param_groups] for o in self.optimisers]
        self.prepared = self.accelerator.prepare(self.network)
        x_u, x_s = images[split.u], images[split.s]
        place = place_for(x_u.nbytes + x_s.nbytes, device)
        self.x_u, self.x_s = x_u.to(place), x_s.to(place)
        self.revealed = torch.zeros(len(split.u), dtype=torch.bool)
        self.revealed[split.n] = True
        self.step, self.seconds = 0, 0.0
        self.log: dict[str, list[list[float]]] = {}  # term -> [[step, value], ...], whole also after resuming
        self.identity = {**(identity or {}), **asdict(config)}
        if folder is not None and self.checkpoint.exists():
            self._load()

    @property
    def checkpoint(self) -> Path:
        assert self.folder is not None
        return self.folder / "checkpoint.pt"

    @property
    def ema(self) -> nn.Module:
        """A copy of the network with the averaged weights, for sampling."""
        import copy

        network = copy.deepcopy(self.network).eval()
        network = self.accelerator.unwrap_model(network, keep_fp32_wrapper=False)  # sampling is in float32
        self.ema_weights.copy_to(network.parameters())
        return network

    def __iter__(self) -> Iterator[Record]:
        saved = time.monotonic()
        while self.step < self.config.steps:
            started = time.monotonic()
            result = self._train_step()
            self.seconds += time.monotonic() - started
            value = float(result.value)
            if not math.isfinite(value):
                raise UserError(
                    f"the loss is not a finite number at step {self.step + 1}: lower the learning rate; "
                    "the checkpoint before it is kept"
                )
            self.step += 1
            terms = {name: float(term) for name, term in result.terms.items()}
            for name, term in {"value": value, **terms}.items():
                self.log.setdefault(name, []).append([self.step, term])
            if self.folder is not None and (
                self.step == self.config.steps or time.monotonic() - saved > self.save_every
            ):
                self._save()
                saved = time.monotonic()
            if self.step == self.config.steps:
                self.accelerator.wait_for_everyone()  # until the last checkpoint is written
            yield Record(self.step, self.config.steps, self.seconds, value, terms)

    def _train_step(self) -> Risk:
        """Draw, noise, compare, reduce, update."""
        c = self.config
        batch = draw_batch(
            c.stream, len(self.split.u), len(self.split.s), c.batch_size, c.s_per_batch, c.seed, self.step
        )
        draws = generator(c.seed, 3, self.step)
        n_u, n_s = len(batch.u), len(batch.s)
        t = torch.cat([draw_timesteps(n, self.process.steps, c.timesteps, draws) for n in (n_u, n_s)])
        eps = torch.randn((n_u + n_s, *self.x_u.shape[1:]), generator=draws)
        world = self.accelerator.num_processes
        mine = [
            torch.arange(start, n_u + n_s, world * c.pieces)
            for start in range(self.accelerator.process_index, world * c.pieces, world)
        ]
        whole = None
        if world * c.pieces > 1:
            whole = self._whole(batch, t, eps, mine)
        results = []
        for piece, rows in enumerate(mine, 1):
            # Processes exchange gradients once a step, with the last piece.
            with nullcontext() if piece == len(mine) else self.accelerator.no_sync(self.prepared):
                result = self._risk(batch, t, eps, rows, whole)
                # The pieces' objectives are shares that add up; over processes gradients are averaged, so undo that.
                self.accelerator.backward(result.objective * world)
            results.append(result)
        self._update()
        return self._together(results)

    def _update(self) -> None:
        """Follow the gradients. The scaler is asked here and not by Accelerate, which would let it update, and unscale
        what is not scaled any more, once per optimiser."""
        c, scaler = self.config, self.accelerator.scaler
        if scaler is not None:
            for optimiser in self.optimisers:
                scaler.unscale_(optimiser)
        if math.isfinite(c.grad_clip):
            nn.utils.clip_grad_norm_(self.network.parameters(), c.grad_clip)
        factor = learning_rate_factor(self.step, c.steps, c.warmup_steps)
        for optimiser, rates in zip(self.optimisers, self.base_rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            if scaler is None:
                optimiser.step()
            else:
                scaler.step(optimiser)
            optimiser.zero_grad()
        if scaler is not None:
            scaler.update()
        self.ema_weights.step(self.network.parameters())

    def _ell(self, batch: Batch, t: Tensor, eps: Tensor, rows: Tensor) -> Tensor:
        """l(x) of the batch's rows, U first, then S."""
        n_u, wanted = len(batch.u), len(rows)
        # Networks with attention take no empty batch, and processes must exchange gradients all the same.
        rows = rows if wanted else torch.zeros(1, dtype=torch.long)
        device = self.accelerator.device
        x = torch.cat([self.x_u[batch.u[rows[rows < n_u]]], self.x_s[batch.s[rows[rows >= n_u] - n_u]]]).to(device)
        x, noise = to_model(x), eps[rows].to(device)
        if device.type == "cpu":
            x, noise = (v.contiguous(memory_format=torch.channels_last) for v in (x, noise))

        def network(x_t: Tensor, t: Tensor) -> Tensor:
            output = self.prepared(x_t, t)
            return output if isinstance(output, Tensor) else output.sample.float()

        return ell(network, x, t[rows].to(device), noise, self.process, self.config.ell_scale)[:wanted]

    def _groups(self, batch: Batch, rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """l_u, l_s, l_n as the method may see them: `pn` is told the truth about U, `pnu` a few normal labels."""
        n_u = len(batch.u)
        u = batch.u[rows[rows < n_u]]
        l_u, l_s = values[: len(u)], values[len(u) :]
        if self.config.method == "pn":
            sensitive = self.split.u_sensitive[u].to(values.device)
            return l_u, torch.cat([l_s, l_u[sensitive]]), l_u[~sensitive]
        return l_u, l_s, l_u[self.revealed[u].to(values.device)]

    def _risk(self, batch: Batch, t: Tensor, eps: Tensor, rows: Tensor, whole: Whole | None) -> Risk:
        if self.config.method != "unsupervised":
            values = self._ell(batch, t, eps, rows)
            return risk(self.config.method, *self._groups(batch, rows, values), self.config.beta, whole)
        of_s = rows >= len(batch.u)  # S has no part in Eq. 9: only looked at, now and then
        empty = torch.zeros(0, device=self.accelerator.device)
        result = risk("unsupervised", self._ell(batch, t, eps, rows[~of_s]), empty, empty, self.config.beta, whole)
        if whole is None and self.step % WATCH_S_EVERY == 0 and of_s.any():
            with torch.no_grad():
                result.terms["L_S_minus"] = self._ell(batch, t, eps, rows[of_s]).mean()
        return result

    @torch.no_grad()
    def _whole(self, batch: Batch, t: Tensor, eps: Tensor, mine: list[Tensor]) -> Whole:
        """Sizes and L_U - beta L_S of the whole batch: a first look without gradients, summed over processes."""
        totals = torch.zeros(5, dtype=torch.float64)
        for rows in mine:
            groups = self._groups(batch, rows, self._ell(batch, t, eps, rows))
            totals += torch.tensor([*map(len, groups), groups[0].sum(), groups[1].sum()], dtype=torch.float64)
        n_u, n_s, n_n, sum_u, sum_s = self.accelerator.reduce(
            totals.to(self.accelerator.device, torch.float32)
        ).tolist()
        return Whole(int(n_u), int(n_s), int(n_n), sum_u / max(n_u, 1) - self.config.beta * sum_s / max(n_s, 1))

    def _together(self, results: list[Risk]) -> Risk:
        """The pieces' shares, summed over pieces and processes."""
        if len(results) == 1 and self.accelerator.num_processes == 1:
            return results[0]
        clamped = {name: r.terms[name] for r in results for name in r.terms if name == "clamped"}
        terms = {
            name: self.accelerator.reduce(torch.stack([r.terms[name] for r in results]).sum())
            for name in results[0].terms
        }
        value = self.accelerator.reduce(torch.stack([r.value for r in results]).sum())
        return Risk(value, value, terms | clamped)

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        state = {
            "identity": self.identity,
            "step": self.step,
            "seconds": self.seconds,
            "log": self.log,
            "network": self.network.state_dict(),
            "ema": self.ema_weights.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "scaler": scaler.state_dict() if scaler is not None else {},
        }
        write_tensors(self.checkpoint, state)

    def _load(self) -> None:
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            identity = {**asdict(TrainConfig()), **state["identity"]}  # a setting added since was at its default
        except Exception:
            raise UserError(f"{self.checkpoint} is not a readable checkpoint: delete it to start over") from None
        differ = sorted(k for k in identity.keys() | self.identity.keys() if identity.get(k) != self.identity.get(k))
        if differ:
            was = ", ".join(f"{k} = {identity.get(k)!r} (now {self.identity.get(k)!r})" for k in differ)
            raise UserError(f"{self.checkpoint} belongs to another experiment: {was}; to resume, give the same options")
        self.network.load_state_dict(state["network"])
        self.ema_weights.load_state_dict(state["ema"])
        self.ema_weights.to(self.accelerator.device)
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.log = state["step"], state["seconds"], state["log"]
