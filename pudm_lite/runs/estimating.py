"""beta estimated from U and S before a run starts, kept beside it, so that the same command has the same."""

from dataclasses import replace
from pathlib import Path

from tqdm.auto import tqdm

from ..priors import beta_interval, estimate_beta
from ..risks import BETA_FREE
from .experiments import Experiment
from .parallel import remember
from .running import material


def estimated(experiments: list[Experiment], root: Path) -> list[Experiment]:
    """The experiments with beta estimated, and its interval, where it acts; once for each data set and seed.

    Raises UserError where the data cannot be had or say nothing of beta.
    """
    waiting = {_key(exp): exp for exp in experiments if exp.method not in BETA_FREE}
    bar = tqdm(waiting.items(), desc="estimating beta", unit="data set", disable=not waiting, leave=False)
    found = {key: _estimate(exp, root) for key, exp in bar}
    return [
        _with(exp, *found[_key(exp)]) if exp.method not in BETA_FREE and _key(exp) in found else exp
        for exp in experiments
    ]


def sentence(exp: Experiment) -> str:
    """What was found, in words."""
    low, high = exp.beta_interval or (exp.train.beta, exp.train.beta)
    return (
        f"beta of {exp.data.title or exp.configuration}, seed {exp.train.seed}: estimated as {exp.train.beta:.3f} "
        f"[{low:.3f}, {high:.3f}] (95 %, bootstrap over held-out images); too high where normal images look sensitive"
    )


def _key(exp: Experiment) -> str:
    return f"{exp.configuration} {exp.network} {exp.pretrained} {exp.train.seed}"


def _estimate(exp: Experiment, root: Path) -> tuple[float, float, float]:
    """beta by best-bin estimation, inside (0, 1), and the two ends of its interval; see `parallel.remember`."""

    def find() -> list[float]:
        data = material(exp)
        found = estimate_beta(data.train[data.split.u], data.train[data.split.s], exp.train.seed)
        values = (found.best_bin.beta, *beta_interval(found.z_u, found.z_s, exp.train.seed))
        return [round(min(max(value, 0.001), 0.999), 4) for value in values]

    name = ["beta and its interval", exp.configuration, exp.network, exp.pretrained, exp.train.seed]
    beta, low, high = remember(root, name, find)
    return beta, low, high


def _with(exp: Experiment, beta: float, low: float, high: float) -> Experiment:
    return replace(exp, train=replace(exp.train, beta=beta), beta_interval=(low, high))
