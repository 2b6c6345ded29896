"""One training step, and a loop that yields a record per step; EMA; checkpoint and resume.

To resume, run the same command again.
"""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoints import read_checkpoint, write_checkpoint
from .conditional import Condition
from .datasets import to_model
from .diffusion import Process, ell, quantiles
from .draws import Ahead, Batch, draw_batch, generator
from .errors import UserError
from .groups import Groups
from .importance import Importance
from .optimisers import make_optimisers
from .risks import CLAMPED, Risk, Whole, risk
from .settings import TrainConfig
from .splits import Split

SKIPPED_AT_MOST = 10
"""So many steps in a row may have a loss or gradient that is not finite, and move nothing, before a run stops."""
SAVE_EVERY = 30.0
"""Seconds between checkpoints, where writing them is cheap and nobody says otherwise."""
SAVING_SHARE = 0.02
"""The share of the time that writing checkpoints may take."""
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
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps)))


HEADROOM = 0.15
"""Share of a GPU's memory left to what is not counted (`runs.memory`): CUDA's context, workspaces of kernels, temporary
gradients, fragments, and the training images, which get a third of it at most. An assumption, not measured."""


def place_for(images: int, device: torch.device) -> torch.device:
    """Where so many bytes of pixels are held: on the device if they take a third of HEADROOM at most, so that no batch
    waits for a slow host; else in the host's memory."""
    if device.type == "cuda" and images > HEADROOM / 3 * torch.cuda.mem_get_info(device)[0]:
        return torch.device("cpu")
    return device


class Trainer:
    """A run: `for record in Trainer(...)` trains; `.ema` is the network to sample from.

    The average is a power-law EMA: after step t it has weight about ema_power / t on the newest parameters, so it
    looks back over a fixed share of the run, however short (Karras et al. 2024).

    network: maps images (B, C, H, W), t (B,) to a tensor like the images, or to an object whose `.sample` is one.
    images: (N, C, H, W) uint8, the training set that `split` points into, of the network's size; or latents, float32,
        which are taken as they are.
    folder: where checkpoints are kept, at the end and on the way; None keeps nothing.
    condition: what a conditional network is told of the images, Eq. 20; None for others.
    save_every: seconds between them; None for SAVE_EVERY, or so many that writing takes SAVING_SHARE of the time.
    notes: sentences for the user, to be shown once and taken out.
    Under `accelerate launch` each process trains on its share of every batch, and the main one alone writes.
    Raises UserError when the folder holds a checkpoint of another experiment, the loss stays not finite, the images are
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
        save_every: float | None = None,
        condition: Condition | None = None,
    ) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import GradScalerKwargs, InitProcessGroupKwargs
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
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision=config.mixed_precision,
            kwargs_handlers=[
                # l is a sum over pixels: the scaler's usual start would overflow for a dozen steps
                GradScalerKwargs(init_scale=2.0 ** round(16 - math.log2(config.ell_scale))),
                InitProcessGroupKwargs(timeout=timedelta(hours=12)),  # the others wait while the main process judges
            ],
        )
        device = self.accelerator.device
        torch.backends.cudnn.benchmark = True  # every batch has the same shape; of no effect on a CPU
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
        self.prepared = self.accelerator.prepare(torch.compile(self.network) if config.compile else self.network)
        self.importance = Importance(self.process.steps, device)
        x_u, x_s = images[split.u], images[split.s]
        place = place_for(x_u.nbytes + x_s.nbytes, device)
        self.x_u, self.x_s = x_u.to(place), x_s.to(place)
        self.groups = Groups(config, split)
        if (condition is None) == bool(config.conditional):
            raise ValueError("a condition belongs to a training with conditional=1, and to no other")
        self.tokens = None  # (K + 1, m, d)
        if condition is not None:
            self.tokens = condition.tokens.to(place_for(condition.tokens.nbytes, device))  # captions can be many
        self.labels = None if condition is None else (condition.labels[split.u], condition.labels[split.s])
        self.drawn = Ahead(self._draw, threaded=device.type == "cuda")
        self.step, self.seconds, self.skipped_in_a_row = 0, 0.0, 0
        self.log: dict[str, list[list[float]]] = {}  # term -> [[step, value], ...], whole also after resuming
        self.notes: list[str] = []
        self.saving_seldom = False
        self.identity = {**(identity or {}), **asdict(config)}
        if folder is not None:
            self._load(folder)

    @property
    def ema(self) -> nn.Module:
        """A copy of the network with the averaged weights, for sampling."""
        import copy

        network = copy.deepcopy(self.network).eval()
        network = self.accelerator.unwrap_model(network, keep_fp32_wrapper=False)  # sampling is in float32
        self.ema_weights.copy_to(network.parameters())
        return network

    def __iter__(self) -> Iterator[Record]:
        saved, pause = time.monotonic(), SAVE_EVERY if self.save_every is None else self.save_every
        while self.step < self.config.steps:
            started = time.monotonic()
            terms = self._train_step()
            self.step += 1
            last = self.step == self.config.steps
            if last and self.accelerator.device.type == "cuda":
                torch.cuda.synchronize()  # the clock stops when the last update has been made
            self.seconds += time.monotonic() - started
            for name, term in terms.items():
                if math.isfinite(term):
                    self.log.setdefault(name, []).append([self.step, term])
            due = last or (time.monotonic() - saved > pause and not self.skipped_in_a_row)
            if self.folder is not None and due:
                started = time.monotonic()
                self._save(self.folder)
                saved = time.monotonic()
                pause = self._pause(saved - started)
            if last:
                self.accelerator.wait_for_everyone()  # until the last checkpoint is written
            value = terms.pop("value")
            yield Record(self.step, self.config.steps, self.seconds, value, terms)

    def _pause(self, writing: float) -> float:
        """Seconds until the next checkpoint, given how long the last took to write. Says once where that is longer."""
        if self.save_every is not None:
            return self.save_every
        needed = writing / SAVING_SHARE
        if needed > SAVE_EVERY and not self.saving_seldom:
            self.saving_seldom = True
            self.notes.append(
                f"a checkpoint takes {writing:.1f} s to write here, so one is kept every {needed / 60:.1f} minutes"
            )
        return max(SAVE_EVERY, needed)

    def _draw(self, step: int) -> tuple[Batch, Tensor, Tensor, Tensor | None]:
        """A step's batch, the quantiles of its timesteps, its noise, and which concept the network is told of each
        image: on the host, whatever the device."""
        c = self.config
        batch = draw_batch(c.stream, len(self.split.u), len(self.split.s), c.batch_size, c.s_per_batch, c.seed, step)
        draws = generator(c.seed, 3, step)
        n_u, n_s = len(batch.u), len(batch.s)
        how = "stratified" if c.timesteps == "importance" else c.timesteps
        at = torch.cat([quantiles(n, how, draws) for n in (n_u, n_s)])
        eps = torch.randn((n_u + n_s, *self.x_u.shape[1:]), generator=draws)
        told = None
        if self.labels is not None:
            told = torch.cat([self.labels[0][batch.u], self.labels[1][batch.s]])
            told = torch.where(torch.rand(n_u + n_s, generator=draws) < c.label_drop, -1, told)  # -1: the null concept
        if c.flips:
            batch = replace(batch, flips=torch.rand(n_u + n_s, generator=generator(c.seed, 4, step)) < 0.5)
        pinned = self.accelerator.device.type == "cuda"
        return batch, at, eps.pin_memory() if pinned else eps, told

    def _timesteps(self, at: Tensor) -> tuple[Tensor, Tensor | None]:
        """t at the quantiles, and the weights that undo an uneven draw; None for ones. at: (n,). Returns two (n,)."""
        at = self._up(at)
        if self.config.timesteps == "importance":
            return self.importance.draw(at)
        return (at * self.process.steps).long().clamp_(max=self.process.steps - 1), None

    def _train_step(self) -> dict[str, float]:
        """Draw, noise, compare, reduce, update. Returns the risk as `value`, and its named terms."""
        c, world = self.config, self.accelerator.num_processes
        batch, at, eps, told = self.drawn(self.step)
        eps = self._up(eps)
        tokens = None
        if told is not None and self.tokens is not None:
            tokens = self._up(self.tokens[told.to(self.tokens.device, non_blocking=True)])
        t, w = self._timesteps(at)
        n = len(eps)
        mine = [
            torch.arange(start, n, world * c.pieces)
            for start in range(self.accelerator.process_index, world * c.pieces, world)
        ]
        whole = self.groups.sizes(batch)
        if c.method in CLAMPED and c.pieces > 1:  # a first look at all pieces, without gradients
            with torch.no_grad():
                looks = [
                    self._normal_risk(batch, rows, self._ell(batch, t, eps, rows, tokens), w, whole) for rows in mine
                ]
            whole = replace(whole, normal_risk=self.accelerator.reduce(torch.stack(looks).sum()))
        results, sums = [], torch.zeros(0, device=self.accelerator.device)
        for piece, rows in enumerate(mine, 1):
            if c.method == "unsupervised":
                rows = rows[rows < len(batch.u)]  # S has no part in Eq. 9
            # Processes exchange gradients once a step, with the last piece.
            with nullcontext() if piece == len(mine) else self.accelerator.no_sync(self.prepared):
                ell = self._ell(batch, t, eps, rows, tokens)
                if c.method in CLAMPED and world > 1 and c.pieces == 1:
                    share = self._normal_risk(batch, rows, ell.detach(), w, whole)
                    whole = replace(whole, normal_risk=self.accelerator.reduce(share))
                result = self._risk(batch, rows, ell, w, whole)
                # The pieces' objectives are shares that add up; over processes gradients are averaged, so undo that.
                self.accelerator.backward(result.objective * world)
            if c.timesteps == "importance":
                sums = self.importance.sums(t[self._up(rows)], ell) + (sums if len(sums) else 0)
            results.append(result)
        numbers, sums = self._together(results, sums)
        if c.method == "unsupervised" and world * c.pieces == 1 and self.step % WATCH_S_EVERY == 0 and len(batch.s):
            numbers["L_S_minus"] = self._watch(batch, t, w, eps, tokens)
        return self._update(numbers, sums)

    def _ell(self, batch: Batch, t: Tensor, eps: Tensor, rows: Tensor, tokens: Tensor | None = None) -> Tensor:
        """l(x) of the batch's rows, U first, then S; with tokens l(x, c) of Eq. 20."""
        n_u, wanted = len(batch.u), len(rows)
        # Networks with attention take no empty batch, and processes must exchange gradients all the same.
        rows = rows if wanted else torch.zeros(1, dtype=torch.long)
        device = self.accelerator.device
        u, s = batch.u[rows[rows < n_u]], batch.s[rows[rows >= n_u] - n_u]
        place = self.x_u.device
        x = torch.cat([self.x_u[u.to(place, non_blocking=True)], self.x_s[s.to(place, non_blocking=True)]])
        x = self._up(x)
        if batch.flips is not None:
            x = x.flip(3).where(self._up(batch.flips[rows])[:, None, None, None], x)
        rows = self._up(rows)
        x, noise = x if x.is_floating_point() else to_model(x), eps[rows]
        if device.type == "cpu":
            x, noise = (v.contiguous(memory_format=torch.channels_last) for v in (x, noise))

        def network(x_t: Tensor, t: Tensor) -> Tensor:
            output = self.prepared(x_t, t) if tokens is None else self.prepared(x_t, t, tokens[rows])
            return output if isinstance(output, Tensor) else output.sample.float()

        return ell(network, x, t[rows], noise, self.process, self.config.ell_scale)[:wanted]

    def _up(self, values: Tensor) -> Tensor:
        """To the device, which the host does not wait for."""
        return values.to(self.accelerator.device, non_blocking=True)

    def _normal_risk(self, batch: Batch, rows: Tensor, ell: Tensor, w: Tensor | None, whole: Whole) -> Tensor:
        """These rows' share of L_U - beta L_S of the whole batch, a number."""
        return self._risk(batch, rows, ell, w, whole, "upu").terms["normal_risk"]

    def _risk(self, batch: Batch, rows: Tensor, ell: Tensor, w: Tensor | None, whole: Whole, method: str = "") -> Risk:
        """The method's risk of these rows, each group of them as the method may see it."""
        at = [self._up(where) for where in self.groups.of(batch, rows)]
        l_u, l_s, l_n = (ell[where] for where in at)
        w = None if w is None else w[self._up(rows)]
        weights = (None, None, None) if w is None else tuple(w[where] for where in at)
        return risk(method or self.config.method, l_u, l_s, l_n, self.config.beta, whole, weights)

    @torch.no_grad()
    def _watch(self, batch: Batch, t: Tensor, w: Tensor | None, eps: Tensor, tokens: Tensor | None) -> Tensor:
        """The error of S, which the unsupervised method never learns from: only looked at, now and then."""
        rows = torch.arange(len(batch.u), len(eps))
        values = self._ell(batch, t, eps, rows, tokens)
        return (values if w is None else w[self._up(rows)] * values).mean()

    def _together(self, results: list[Risk], sums: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Value and terms of the whole batch and the sums of `Importance`, in one vector over processes."""
        world = self.accelerator.num_processes
        names = list(results[0].terms)
        numbers = torch.stack([sum(r.value for r in results), *(sum(r.terms[name] for r in results) for name in names)])
        if world > 1:
            flat = self.accelerator.reduce(torch.cat([numbers, sums.flatten().to(numbers)]))
            numbers, sums = flat[: len(numbers)], flat[len(numbers) :].double().view(sums.shape)
        named = dict(zip(["value", *names], numbers.unbind(), strict=True))
        if "clamped" in named:  # every piece of every process says the same
            named["clamped"] = named["clamped"] / (world * len(results))
        return named, sums

    def _update(self, numbers: dict[str, Tensor], sums: Tensor) -> dict[str, float]:
        """Follow the gradients, where they are finite; returns the numbers, in the step's one wait for the device.

        The scaler is asked here and not by Accelerate, which would let it update, and unscale what is not scaled any
        more, once per optimiser. One gradient that is not finite, and no optimiser moves.
        """
        c, scaler = self.config, self.accelerator.scaler
        if scaler is not None:
            for optimiser in self.optimisers:
                scaler.unscale_(optimiser)
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        values = torch.stack([*numbers.values(), norm.to(numbers["value"])]).tolist()
        finite = all(map(math.isfinite, values))
        if finite:
            if math.isfinite(c.grad_clip):
                nn.utils.clip_grads_with_norm_(parameters, c.grad_clip, norm)
            factor = learning_rate_factor(self.step, c.steps, c.warmup)
            for optimiser, rates in zip(self.optimisers, self.base_rates, strict=True):
                for group, rate in zip(optimiser.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                if scaler is None:
                    optimiser.step()
                else:
                    scaler.step(optimiser)
            self.ema_weights.step(self.network.parameters())
            if c.timesteps == "importance":
                self.importance.update(sums)
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        if scaler is not None:
            scaler.update()
        self._count_skipped(finite)
        terms = dict(zip(numbers, values[:-1], strict=True))
        return terms if finite else {"value": float("nan"), "skipped": 1.0}

    def _count_skipped(self, finite: bool) -> None:
        """Raises UserError after SKIPPED_AT_MOST steps in a row without a finite loss and gradient."""
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        if self.skipped_in_a_row > SKIPPED_AT_MOST:
            half = self.config.mixed_precision == "fp16"
            advice = "take mixed_precision=bf16, whose range is float32's, or no" if half else "lower the learning rate"
            raise UserError(
                f"the loss or its gradient is not a finite number at step {self.step + 1}, nor in the "
                f"{SKIPPED_AT_MOST} before it: {advice}; the last checkpoint is kept"
            )

    def _save(self, folder: Path) -> None:
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        write_checkpoint(
            folder,
            {
                "identity": self.identity,
                "step": self.step,
                "seconds": self.seconds,
                "log": self.log,
                "network": self.network.state_dict(),
                "ema": self.ema_weights.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
                "scaler": scaler.state_dict() if scaler is not None else {},
                "importance": self.importance.state_dict(),
                "threads": torch.get_num_threads(),
            },
        )

    def _load(self, folder: Path) -> None:
        """Go on from the newest good checkpoint of the folder, where there is one."""
        scaler = self.accelerator.scaler
        like = {
            "network": self.network.state_dict(),
            "ema": self.ema_weights.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "importance": self.importance.state_dict(),
            "optimisers": self.optimisers,
            "steps": self.config.steps,
        }
        with self.accelerator.main_process_first():  # a damaged one is set aside before the others look
            state, self.notes = read_checkpoint(folder, self.identity, like)
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.ema_weights.load_state_dict(state["ema"])
        self.ema_weights.to(self.accelerator.device)
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        if scaler is not None and state["scaler"]:
            scaler.load_state_dict(state["scaler"])
        if "importance" in state:
            self.importance.load_state_dict(state["importance"])
        threads = state.get("threads", torch.get_num_threads())
        if threads != torch.get_num_threads():  # sums are rounded otherwise with another number
            self.notes.append(f"training goes on with {threads} CPU threads, as it began")
            torch.set_num_threads(threads)
        self.step, self.seconds, self.log = state["step"], state["seconds"], state["log"]
