"""What a lab notebook runs: the paper's data on a GPU where both are there; elsewhere a stand-in for a CPU."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..conditional import Conditional
from ..datasets import source
from ..diffusion import Process
from ..errors import UserError
from ..measures.inception import require_weights
from ..measures.judge import judge_of
from ..runs.bench import forward_gflop
from ..runs.experiments import Experiment, experiment
from ..runs.keeping import Kept, kept, run_and_keep
from ..runs.machine import mode
from ..runs.running import make_trainer, material
from ..runs.shipped import SHIPPED_DIGITS, allowed, shipped, shipped_conditional
from ..sampling import half_precision
from ..splits import DIGITS, named_configuration

STANDS_IN = {"standin": "stand-in: tinted digits", "mnist": "miniature: MNIST digits"}
"""What a figure's title says of data that take the place of the paper's."""

T4_TFLOPS = 10.0
"""10^12 operations a second that a free Colab T4 is assumed to reach in fp16, in training and in sampling: a modest
part of the 65 on its data sheet. Every estimate of minutes stands on this number; it was not measured."""


def mixed_precision() -> str:
    """The setting of that name that this machine trains quickest in: see `sampling.half_precision`."""
    return half_precision(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


@dataclass(frozen=True)
class Plan:
    """One size of a lab. pretrained: what every method starts from, as in `experiments.experiment`.

    training: fields of TrainConfig besides the recipe's. sampling: fields of Experiment, such as n_samples; where that
    is left out, as many as there are test images.
    """

    configuration: str
    network: str = "lite"
    methods: tuple[str, ...] = ("unsupervised", "supervised", "nnpu")
    pretrained: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)

    def experiment(self, method: str, **training: Any) -> Experiment:
        """The run of a method; keywords go before the plan's own `training`. Raises UserError as `experiment` does."""
        settings = {"n_samples": 0, **self.sampling, **self.training, **training}
        return experiment(self.configuration, method, self.network, self.pretrained, **settings)


@dataclass(frozen=True)
class Lab:
    """A plan, where its runs are kept, and why it is not the paper's data ("" where it is)."""

    plan: Plan
    folder: Path
    why: str
    mode: str

    @property
    def stands_in(self) -> str:
        """What stands in for the paper's data, in a few words; "" where nothing does."""
        name = self.plan.configuration
        return STANDS_IN.get(named_configuration(name).dataset, name) if self.why else ""

    def title(self, text: str) -> str:
        """A figure's title, which says so where its images are not the paper's."""
        return f"{text} ({self.stands_in})" if self.stands_in else text

    def sentence(self) -> str:
        """Mode, data, network and sizes, and what the data stand in for."""
        exp = self.plan.experiment(self.plan.methods[0])
        text = (
            f"mode {self.mode}: {self.plan.configuration}, network {self.plan.network}, {exp.train.steps:,} steps of "
            f"{exp.train.batch_size} images, {exp.n_samples:,} samples a method"
        )
        return f"{text}; {self.stands_in} ({self.why})" if self.why else text

    def run(self, method: str, **training: Any) -> Kept:
        """The run of a method: opened where it is finished, gone on with where it was cut off, else begun.

        Raises UserError as `running.run` does.
        """
        exp = self.plan.experiment(method, **training)
        run_and_keep(exp, self.folder / "runs" / exp.name, _progress_bar(exp))
        return kept(self.folder, exp)


def smooth(curve: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """A loss curve as a running mean over 1/parts of its points, for a figure.

    curve: (k, 2), step and value; a value of 0 is that of a batch without an image of the group. Returns two (j,).
    """
    step, value = curve[curve[:, 1] > 0].T
    width = max(1, len(value) // parts)
    return step[width - 1 :], value.unfold(0, width, 1).mean(1)


def _progress_bar(exp: Experiment) -> Callable[[str, Any], None]:
    """A report that shows training and then sampling, each with the time left."""
    from tqdm.auto import tqdm

    bars: dict[str, Any] = {}

    def report(what: str, value: Any) -> None:
        if what not in ("step", "sample"):
            return
        at, of = (value.step, value.steps) if what == "step" else value
        if what not in bars:
            # after a disconnect the bar starts where the run does
            bars[what] = tqdm(total=of, initial=at - 1 if what == "step" else 0, desc=f"{exp.method}, {what}s")
        bars[what].update(at - bars[what].n)
        if at == of:
            bars[what].close()

    return report


def missing(plan: Plan) -> str:
    """Why a plan for a GPU cannot be run here, in one sentence; "" where it can."""
    if not torch.cuda.is_available():
        return "there is no GPU here"
    dataset = named_configuration(plan.configuration).dataset
    try:
        for train in (True, False):
            source(dataset, train)
        judge_of(dataset)
        if dataset not in DIGITS and plan.sampling.get("features") != "judge":
            require_weights()
    except UserError as error:
        return str(error)
    return ""


def choose(full: Plan, gpu: Plan, cpu: Plan, fast: Plan, folder: Path) -> Lab:
    """The plan of the mode: `lab` is `gpu` where a GPU, the data, their judge and their features are there, or `cpu`.

    `fast` keeps its runs in a folder of its own, so that it always trains. Raises UserError for an unknown mode.
    """
    what = mode()
    if what == "full":
        return Lab(full, folder, "", what)
    if what == "fast":
        return Lab(fast, Path(tempfile.mkdtemp(prefix="pudm_")), "this mode is for tests", what)
    why = missing(gpu)
    return Lab(cpu if why else gpu, folder, why, what)


def estimated_minutes(plan: Plan, drawn: int = 0, tflops: float = T4_TFLOPS) -> tuple[float, float]:
    """Minutes that training, and then sampling, of all the plan's methods would take at an assumed speed.

    Counted are multiplications and additions of the network: three forward passes for an image of a training step, four
    with gradient checkpointing, and one for each step of the sampler.
    drawn: images in all; 0 for the plan's n_samples of each method. tflops: 10^12 such operations a second.
    """
    forward = forward_gflop(plan.network, plan.configuration) / 1000
    training = sampling = 0.0
    for method in plan.methods:
        exp = plan.experiment(method)
        passes = 4 if exp.train.gradient_checkpointing else 3
        training += passes * forward * exp.train.steps * exp.train.batch_size / tflops / 60
        images = drawn / len(plan.methods) or exp.n_samples
        sampling += forward * exp.sampler_steps * images / tflops / 60
    return training, sampling


def conditional_digits(folder: Path, **training: Any) -> Conditional:
    """A conditional model of the ten digits, and a line that says which: the shipped one where `allowed`, else one that
    is trained now, or gone on with in `folder`. training: settings that are not the recipe's.

    It lies on the CPU."""
    if allowed():
        row = shipped(SHIPPED_DIGITS).row
        model, how = shipped_conditional(), "shipped"
    else:
        exp = experiment("mnist-digits", "unsupervised", conditional=1, **training)
        digits = material(exp)
        trainer = make_trainer(exp, digits, folder / exp.name)
        for _ in trainer:
            pass
        process = Process(trainer.process.alpha_bar.cpu(), trainer.process.prediction)
        model, row, how = Conditional(trainer.ema.cpu(), process, digits.concepts()), exp.as_row(), "trained now"
    print(f"{how}: {row['steps']:,} steps of {row['batch_size']} images, label_drop {row['label_drop']}")
    return model
