"""Which images of a batch a method may see as unlabeled, sensitive and normal, and what their sums are divided by."""

import torch
from torch import Tensor

from .draws import Batch
from .risks import Whole
from .settings import TrainConfig
from .splits import Split


class Groups:
    """The groups U, S and N of every batch of a run.

    `pn` is told the truth about U: its sensitive images join S, the others are N. `pnu` is told of the few normal
    images whose labels are revealed; they stay in U as well. The other methods have no N.
    """

    def __init__(self, config: TrainConfig, split: Split) -> None:
        self.config = config
        sensitive = split.u_sensitive
        known = torch.zeros(len(split.u), dtype=torch.bool)  # of U: which are known to be normal
        if config.method == "pn":
            known = ~sensitive
        elif config.method == "pnu":
            known[split.n] = True
        self.known_normal = known
        self.joins_s = sensitive if config.method == "pn" else torch.zeros_like(sensitive)
        self.n_u, self.n_s = len(split.u), len(split.s)

    def of(self, batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where in `rows` the images of U, S and N stand, int64. rows: positions in the batch, U first."""
        in_u = rows < len(batch.u)
        u = batch.u[rows[in_u]]
        in_s, in_n = ~in_u, torch.zeros_like(in_u)
        in_s[in_u], in_n[in_u] = self.joins_s[u], self.known_normal[u]
        return in_u.nonzero()[:, 0], in_s.nonzero()[:, 0], in_n.nonzero()[:, 0]

    def sizes(self, batch: Batch) -> Whole:
        """The groups' sizes in this batch, or those expected of any batch, as `config.group_sizes` says."""
        if self.config.group_sizes == "realised":
            whole = torch.arange(len(batch.u) + len(batch.s))
            return Whole(*map(len, self.of(batch, whole)))
        size, s_per_batch = self.config.batch_size, self.config.s_per_batch
        of_s = size * self.n_s / (self.n_u + self.n_s) if self.config.stream == "pooled" else s_per_batch
        of_u = size - of_s
        joins, known = (float(mask.double().mean()) for mask in (self.joins_s, self.known_normal))
        return Whole(of_u, of_s + of_u * joins, of_u * known)
