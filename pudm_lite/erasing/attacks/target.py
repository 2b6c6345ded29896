"""What every attack works on: both models, the erased concept, and the judge whose word counts as success."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...conditional import Conditional
from ...diffusion import Process
from ...draws import generator
from ...errors import UserError
from ...measures.judge import Judge
from ...measures.metrics import Rate
from ...networks import image_shape
from ...sampling import draw
from ..measures import SAMPLER, SAMPLER_STEPS, rate
from ..scenes import Estimate, estimate


@dataclass(frozen=True)
class Outcome:
    """What an attack reached.

    hits: (n,) bool, the pictures that the judge calls the erased concept. curve: points of a sweep, each with the share
    of hits there; what is swept is said by the attack. control: the share of hits of the same effort where the concept
    cannot come from the edited model, for the attacks that could succeed by effort alone.
    """

    hits: Tensor
    curve: tuple[tuple[float, Rate], ...] = ()
    control: Rate | None = None


@dataclass(frozen=True)
class Target:
    """One attack at work.

    before, after: the unedited and the edited model, of one process and table. n: pictures; picture i starts from the
    noise (seed, i), with and without attack. images, labels: real images, (N, C, H, W) in [-1, 1], and the rows of
    their concepts, (N,), for the attacks that need some; best ones that neither model was trained on.
    """

    before: Conditional
    after: Conditional
    erased: str
    judge: Judge
    n: int
    seed: int
    images: Tensor | None = None
    labels: Tensor | None = None

    @property
    def row(self) -> int:
        """Of the erased concept in the table."""
        return self.after.concepts.index(self.erased)

    @property
    def tokens(self) -> Tensor:
        """(m, d): the erased concept's."""
        return self.after.concepts.tokens.data[self.row]

    @property
    def kept(self) -> list[int]:
        """The rows of all other concepts, without null."""
        return [row for row in range(len(self.after.concepts.names)) if row != self.row]

    @property
    def process(self) -> Process:
        return self.after.process

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        return image_shape(self.after.network)

    @property
    def eps(self) -> Estimate:
        """The edited model's noise estimate."""
        return estimate(self.after.network, self.process)

    def draws(self, *address: int) -> torch.Generator:
        """Of an attack's own draws, which no picture shares: a picture's address is shorter."""
        return generator(self.seed, 0, *address)

    def other_seed(self, *address: int) -> int:
        """A seed of pictures that are not among those judged in the end, to search on."""
        return self.draws(*address).initial_seed()

    def real(self, rows: list[int], count: int) -> tuple[Tensor, Tensor]:
        """The first `count` real images of these concepts, and their rows. Raises UserError where there are fewer."""
        assert self.images is not None
        assert self.labels is not None
        at = torch.isin(self.labels, torch.tensor(rows)).nonzero()[:count, 0]
        if len(at) < count:
            names = ", ".join(self.after.concepts.names[row] for row in rows)
            raise UserError(f"the attack takes {count} real images of {names}, and {len(at)} are given: give more")
        return self.images[at], self.labels[at]

    def hits(self, images: Tensor) -> Tensor:
        """(n,) bool: which pictures the judge calls the erased concept. images: (n, C, H, W) uint8."""
        return self.judge.look(images).classes == self.judge.classes.index(self.erased)

    def drawn(
        self, network: nn.Module, prompts: Tensor, seed: int | None = None, process: Process | None = None
    ) -> Tensor:
        """(n,) bool: which pictures hit that a network draws when told so.

        prompts: (n, m, d), or (m, d) for all n of the target. seed: the target's own where left out. process: what the
        network predicts, where that is not what the models do.
        """
        prompts = prompts.expand(self.n, -1, -1) if prompts.dim() == 2 else prompts
        seed = self.seed if seed is None else seed
        images = draw(network, process or self.process, len(prompts), SAMPLER, SAMPLER_STEPS, seed, prompts=prompts)
        return self.hits(images)

    def negatives(self, count: int) -> Tensor:
        """(count, m, d): the kept concepts in turn, for a control: whoever asks for them wants no erased concept."""
        return self.after.concepts.tokens.data[[self.kept[i % len(self.kept)] for i in range(count)]]


Try = Callable[[Tensor], Tensor]
"""Positions (k,) of the pictures still without success -> (k,) bool, those that hit now."""


def best_of(tries: Iterable[Try], n: int) -> Outcome:
    """A picture counts once one of its tries hits; the others go on. The curve: the share after 1, 2, ... tries."""
    hits, curve = torch.zeros(n, dtype=torch.bool), []
    for number, attempt in enumerate(tries, 1):
        left = (~hits).nonzero()[:, 0]
        if len(left):
            hits[left] = attempt(left)
        curve.append((float(number), rate(hits)))
    return Outcome(hits, tuple(curve))
