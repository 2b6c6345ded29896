"""What every method of erasing works with: teacher and student, the concepts, and noisy images to compare them on.

All of it in eps-space: in the space of predicted images the same square is weighed by (1 - alpha_bar) / alpha_bar, up
to 24,777 on the linear schedule, and the noisiest steps alone would count.
"""

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..conditional import Conditional
from ..diffusion import Process, eps_from_output, q_sample
from ..draws import generator
from ..errors import UserError
from ..networks import image_shape
from ..sampling import guided, predicted_x0, timestep_grid

Estimate = Callable[[Tensor, Tensor, Tensor], Tensor]
"""eps(x_t (B, C, H, W), t (B,), tokens (B, m, d)) -> (B, C, H, W)."""

GRID = 10
"""Steps of the DDIM trajectories on which methods compare teacher and student."""
GUIDANCE = 3.0
"""Of those trajectories, as Gandikota et al. (2023) draw them."""


def estimate(network: nn.Module, process: Process) -> Estimate:
    """The noise estimate of a conditional network, whatever it predicts."""

    def eps(x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        return eps_from_output(network(x, t, tokens).sample, x, t, process)

    return eps


@dataclass(frozen=True)
class Noisy:
    """Noisy images and their steps. x: (n, C, H, W). t: (n,) int64. row: (n,) int64, the concept that each is of; these
    lie in the host's memory, as whatever picks does."""

    x: Tensor
    t: Tensor
    row: Tensor

    def __getitem__(self, at: Tensor) -> "Noisy":
        return Noisy(self.x[at], self.t[at], self.row[at])


@torch.no_grad()
def trajectories(
    eps: Estimate,
    process: Process,
    shape: tuple[int, int, int],
    tokens: Tensor,
    null: Tensor,
    draws: torch.Generator,
    clip: bool = True,
) -> Noisy:
    """What DDIM passes through on its way to one image a row of tokens: GRID noisy images each, guided.

    tokens: (n, m, d). null: (m, d). clip: whether what is drawn lies in [-1, 1], as images do and latents do not.
    Returns GRID * n, the noisiest first; `row` counts the rows of tokens.
    """
    told = guided(eps, null, GUIDANCE)
    grid = timestep_grid(process.steps, GRID)
    x = torch.randn((len(tokens), *shape), generator=draws).to(tokens.device)
    xs = []
    visited = process.alpha_bar.cpu()[grid].tolist()
    for t, ab, ab_next in zip(grid.tolist(), visited, [*visited[1:], 1.0], strict=True):
        xs.append(x)
        x0 = predicted_x0(x, told(x, torch.full((len(x),), t, device=x.device), tokens), ab, clip)
        x = ab_next**0.5 * x0 + ((1 - ab_next) / (1 - ab)) ** 0.5 * (x - ab**0.5 * x0)
    rows = torch.arange(len(tokens)).repeat(GRID)
    return Noisy(torch.cat(xs), grid.to(x.device).repeat_interleave(len(tokens)), rows)


@dataclass
class Scene:
    """One erasure at work.

    model: the teacher, left as it is. student: its copy, which is edited. erased: names of the concepts to erase.
    batch_size: of every draw. space: (K, m, d), the concepts that may be preserved, none of them erased; kept_names:
    theirs. images, labels: real images of the concepts, (N, C, H, W) in [-1, 1] and (N,) rows of the table, for the
    methods that need some; None where there are none. undo: takes out again what a method hung into the student, such
    as hooks.
    """

    model: Conditional
    erased: tuple[str, ...]
    batch_size: int
    seed: int
    space: Tensor
    space_names: tuple[str, ...]
    images: Tensor | None = None
    labels: Tensor | None = None
    student: nn.Module = field(init=False)
    undo: ExitStack = field(init=False, default_factory=ExitStack)
    _turn: int = field(init=False, default=-1)
    _pool: Noisy | None = field(init=False, default=None)
    _kept: dict[int, Noisy] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.student = copy.deepcopy(self.model.network).eval()
        self.model.network.requires_grad_(False)
        table = self.model.concepts
        self.null = table.null.data  # (m, d)
        self.rows = [table.index(name) for name in self.erased]
        self.eps_teacher = estimate(self.model.network, self.model.process)
        self.eps_student = estimate(self.student, self.model.process)

    @property
    def trained(self) -> list[Tensor]:
        """The student's parameters that have gradients, in its order."""
        return [p for p in self.student.parameters() if p.requires_grad]

    def teacher(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """The frozen model's noise estimate, without a graph."""
        with torch.no_grad():
            return self.eps_teacher(x, t, tokens)

    def nulls(self, n: int) -> Tensor:
        """(n, m, d): the null concept n times."""
        return self.null.expand(n, -1, -1)

    def tokens(self, rows: Tensor) -> Tensor:
        """(n, m, d): rows of the table."""
        return self.model.concepts.tokens.data[rows]

    def of_erased(self, step: int) -> tuple[Noisy, Tensor]:
        """A batch of what the *student* passes through when it is asked for the erased concepts, and their tokens.

        The student draws batch_size trajectories every GRID steps; each of their noisy images is used once, in random
        order. (Gandikota et al. draw one trajectory for every step, and use its last point alone.)
        """
        turn, within = divmod(step, GRID)
        if self._turn != turn:
            draws = generator(self.seed, 0, turn)
            rows = torch.tensor(self.rows).repeat(self.batch_size)[: self.batch_size]
            found = self._drawn(self.eps_student, self.tokens(rows), draws)
            order = torch.randperm(len(found.t), generator=draws)
            self._turn, self._pool = turn, Noisy(found.x, found.t, rows[found.row])[order]
        assert self._pool is not None
        batch = self._pool[torch.arange(within * self.batch_size, (within + 1) * self.batch_size)]
        return batch, self.tokens(batch.row)

    def of_kept(self, rows: Tensor, step: int) -> Noisy:
        """Of each of these rows of `space` a noisy image that the *teacher* passes through, drawn at random.

        Of a few trajectories a row, eight or a batch if that is less, which are drawn when it is first asked for.
        """
        each = min(8, self.batch_size)
        for row in rows.unique().tolist():
            if row not in self._kept:
                draws, tokens = generator(self.seed, 1, row), self.space[row].expand(each, -1, -1)
                found = self._drawn(self.eps_teacher, tokens, draws)
                self._kept[row] = Noisy(found.x, found.t, torch.full_like(found.row, row))
        draws = generator(self.seed, 2, step)
        at = torch.randint(GRID * each, (len(rows),), generator=draws)
        picked = [self._kept[row][i] for row, i in zip(rows.tolist(), at.split(1), strict=True)]
        return Noisy(*(torch.cat([getattr(part, name) for part in picked]) for name in ("x", "t", "row")))

    def _drawn(self, eps: Estimate, tokens: Tensor, draws: torch.Generator) -> Noisy:
        return trajectories(eps, self.model.process, self.shape, tokens, self.null, draws, clip=not self.model.latent)

    def real(self, erased: bool) -> Tensor:
        """(n,) positions in `images` of the erased concepts, or of the others. Raises UserError for none."""
        assert self.labels is not None
        found = torch.nonzero(torch.isin(self.labels, torch.tensor(self.rows)) == erased).flatten()
        if not len(found):
            which = ", ".join(self.erased) if erased else "the other concepts"
            raise UserError(f"the method needs real images of {which}, and there are none among those given")
        return found

    def pick(self, positions: Tensor, n: int, step: int) -> Tensor:
        """n of these positions, drawn at random, with replacement."""
        return positions[torch.randint(len(positions), (n,), generator=generator(self.seed, 5, step))]

    def of_real(self, at: Tensor, step: int) -> tuple[Noisy, Tensor]:
        """These real images with noise at uniform steps, and the noise. at: (n,) positions in `images`."""
        return self.noised(*self.labelled(at), step)

    def labelled(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """These real images, and what they are. at: (n,) positions in `images`. Returns (n, C, H, W) and (n,)."""
        assert self.images is not None
        assert self.labels is not None
        return self.images[at], self.labels[at]

    def noised(self, x0: Tensor, rows: Tensor, step: int) -> tuple[Noisy, Tensor]:
        """Images with noise at uniform steps, and the noise. x0: (n, C, H, W). rows: (n,), what they are."""
        draws = generator(self.seed, 3, step)
        eps = torch.randn(x0.shape, generator=draws)
        t = torch.randint(self.model.process.steps, (len(x0),), generator=draws)
        return Noisy(q_sample(x0, t, eps, self.model.process.alpha_bar), t, rows), eps

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the network works on."""
        return image_shape(self.model.network)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """The squared distance of two noise estimates, a mean over elements. a, b: (B, C, H, W). Returns (B,)."""
    return (a - b).square().flatten(1).mean(1)
