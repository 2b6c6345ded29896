# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · Fine-tuning: start from what others trained
#
# Takahashi et al., *Positive-Unlabeled Diffusion Models for Preventing Sensitive Data Generation* (ICLR 2025), Section 5: Tables 4 and 5, Figures 2 and 3.
#
# **After this notebook you can**
# - open a Diffusers pipeline, check that its noise schedule is the one you train with, and save a model that others can open;
# - fine-tune it by three methods, follow single images by their number, and say how fast the sensitive ones leave;
# - work out what a training holds in a GPU's memory, and what makes it fit;
# - cut a batch into pieces without breaking Algorithm 1;
# - read Tables 4 and 5 of the paper, and say what a miniature cannot show.
#
# **What it costs**: in `lab` mode on a CPU about three and a half minutes of one core and 1.3 GiB of memory: a miniature, in which a small network that knows all digits is fine-tuned on the even digits. In `lab` mode on a GPU, with CelebA, its judge and the Inception weights there, the paper's model with a tenth of its training; Section 9 *estimates* an hour on a free Colab T4 (not run here). `full` is the paper's training (not run here). `fast`, for tests, is tiny.

# %%
import json
import logging
import math
import tempfile
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from diffusers.utils.logging import disable_progress_bar
from IPython.display import Markdown, display
from torch import Tensor
from tqdm.auto import tqdm

from pudm_lite.course.checks.c08 import check_08_1, check_08_2, check_08_3, check_08_4, check_08_5
from pudm_lite.course.labs import Plan, choose, estimated_minutes, mixed_precision
from pudm_lite.datasets import SHA256, data_folder, mnist, to_model
from pudm_lite.diffusion import Process, draw_timesteps, ell, noise_schedule
from pudm_lite.draws import generator
from pudm_lite.files import read_rows, write_arrays
from pudm_lite.measures.metrics import non_sensitive_rate
from pudm_lite.networks import make_network, open_network, save_pipeline
from pudm_lite.results import style
from pudm_lite.results.paper import CONFIGURATION_TITLE, METHOD_NAME, TABLE
from pudm_lite.results.report import draw_panel
from pudm_lite.results.table_formats import markdown
from pudm_lite.results.tables import METHOD_TITLE, table
from pudm_lite.risks import Whole, nnpu
from pudm_lite.runs.bench import forward_gflop
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.running import make_trainer, material
from pudm_lite.runs.machine import mode
from pudm_lite.runs.memory import HEADROOM, training_memory
from pudm_lite.runs.shipped import allowed, shipped
from pudm_lite.sampling import draw, image_generators, timestep_grid

style.use()
logging.getLogger("diffusers").setLevel(logging.ERROR)  # it warns of a U-Net class that is not its own
disable_progress_bar()
MODE = mode()  # the environment variable PUDM_MODE: fast, lab (the default) or full
FOLDER = Path(tempfile.mkdtemp()) if MODE == "fast" else Path("../outputs/finetuning")  # on Colab: a folder of Drive
DIGITS = FOLDER / "digits"  # the miniature's pre-trained model

celeba = {"configuration": "celeba-male", "network": "paper", "pretrained": "google/ddpm-celebahq-256"}
to_fit = {"mixed_precision": mixed_precision(), "gradient_checkpointing": 1}  # Section 6
gpu = Plan(**celeba, training={"steps": 300, **to_fit}, sampling={"n_samples": 48})
lab = choose(
    full=Plan(**celeba, training=to_fit),
    gpu=gpu,
    cpu=Plan("mnist-even", pretrained=str(DIGITS), training={"steps": 150}, sampling={"n_samples": 200}),
    fast=Plan(
        "mnist-even",
        pretrained=str(DIGITS),
        training={"steps": 3, "batch_size": 16},
        sampling={"n_samples": 16, "sampler_steps": 3},
    ),
    folder=FOLDER,
)
MINIATURE = lab.plan.network == "lite"
METHODS = lab.plan.methods
BEFORE = "pretrained"
COLOUR = {BEFORE: style.ORANGE, **style.COLOUR}
print(lab.sentence())

# %% [markdown]
# ## 1. Why fine-tune, and what to expect
#
# Few people train a large diffusion model. They take one that others trained, and go on. The paper does so with two models that anyone may download, of CIFAR10 and of celebrity faces (CelebA, 256 x 256), for 20 epochs instead of 100.
#
# The pre-trained model has *not* been trained on $\mathcal U$. It knows whatever its makers showed it, and in the faces women are the larger part. If men are called normal, only **0.249** of what the pre-trained model draws is normal (Table 4). Now the methods of the notebooks before start from there, with 2,000 normal and 200 sensitive images in $\mathcal U$ and 200 in $\mathcal S$:
#
# | method | objective | equation |
# |---|---|---|
# | `pretrained` | none: the model as it came | |
# | `unsupervised` | $\mathcal L_{\mathcal U}^-$ | 9 |
# | `supervised` | $\mathcal L_{\mathcal U}^- + \mathcal L_{\mathcal S}^+$ | 12 |
# | `nnpu` (proposed) | $\beta\mathcal L_{\mathcal S}^+ + \max\{0,\ \mathcal L_{\mathcal U}^- - \beta\mathcal L_{\mathcal S}^-\}$ | 19, Algorithm 1 |
#
# Our miniature does the same at the size of a CPU: a small network is pre-trained on *all* ten digits, and even digits are normal from now on.
#
# **Before you go on: which share of its samples will be normal, for each of the four?** Write your numbers into the next cell. They are drawn into the figure of Section 8.

# %%
digits = mnist(train=True).labels
PREDICTED = {
    "pretrained": float((digits % 2 == 0).double().mean()),  # it copies what it was shown: the share of even digits
    "unsupervised": 10 / 11,  # it copies U, of which 1/11 is sensitive
    "supervised": 10 / 11,  # as above: the push sleeps where l is large (notebook 02)
    "nnpu": 0.98,  # what it reaches from scratch (notebook 04)
}
for method, rate in PREDICTED.items():
    print(f"{method:13s} predicted non-sensitive rate {rate:.3f}")

# %% [markdown]
# ## 2. A pipeline on disk
#
# *The question: what does one get from the hub?* A **pipeline** of Diffusers is a folder. `model_index.json` names the parts; each part has a folder with its settings (`config.json`) and, if it has any, its weights. An unconditional pixel model has two parts: the U-Net, and the *scheduler*, which holds the noise schedule and knows how to take a step of the sampler.
#
# The miniature's pre-trained model is saved in the same layout, so the next cells do with it what they would do with `google/ddpm-celebahq-256`. Where no network may be taken from `data/`, it is trained here, by Eq. 9 on all 60,000 digits.


# %%
def make_digits_model() -> None:
    """The miniature's pre-trained model as a pipeline in DIGITS: the shipped one, or one that is trained now."""
    name = "models/mnist-digits_unsupervised_seed0.safetensors"
    if allowed() and name in SHA256:
        given = shipped(name)
        save_pipeline(given.network, given.process, DIGITS)
        print(f"taken from data/{name}: {given.row['steps']:,} steps of {given.row['batch_size']} images")
    elif not (DIGITS / "model_index.json").exists():
        size = {"steps": 3, "batch_size": 16} if MODE == "fast" else {"steps": 1800}
        exp = experiment("mnist-digits", "unsupervised", **size)
        trainer = make_trainer(exp, material(exp), DIGITS / "training")
        for _ in tqdm(trainer, "pre-training on all digits", exp.train.steps - trainer.step):
            pass
        save_pipeline(trainer.ema, trainer.process, DIGITS)


if MINIATURE:
    make_digits_model()
    for path in sorted(DIGITS.rglob("*.*")):
        if "training" not in path.parts:
            print(f"{path.relative_to(DIGITS)!s:45s} {path.stat().st_size:>10,} bytes")
    print(json.dumps(json.loads((DIGITS / "model_index.json").read_text()), indent=1))

network, process = open_network(lab.plan.pretrained)  # a folder, or a name on the hub
print(f"{type(network).__name__}, {sum(p.numel() for p in network.parameters()):,} parameters; ", end="")
print(f"T = {process.steps}, predicts {process.prediction}")

# %% [markdown]
# ### Is its schedule the one that we train with?
#
# A network is told $t$, not the noise level. What $t$ *means* is the schedule's affair: $\bar\alpha_t = \prod_{s\le t}(1-b_s)$ (Eq. 5), with the schedule's noise rates $b_s$ (called betas in Diffusers; our $\beta$ is something else). Fine-tuned under another schedule than its own, the network would first have to unlearn what $t$ means, and nothing would say so: no shape is wrong, no error is raised. So `open_network` returns the pipeline's own $\bar\alpha$, and we check it, from the file and by its effect.

# %%
BATCH = 64 if MINIATURE and MODE == "lab" else 8
data = material(lab.plan.experiment("nnpu"))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
scheduler = DiffusionPipeline.from_pretrained(lab.plan.pretrained).scheduler
assert torch.allclose(scheduler.alphas_cumprod, process.alpha_bar, atol=2e-4)  # Diffusers multiplies up in float32
other = Process(noise_schedule("linear" if MINIATURE else "cosine").float(), process.prediction)
network.to(DEVICE)


@torch.no_grad()
def error_at(t: int, under: Process, draw: int) -> float:
    """Mean l(x), Eq. 8, of test images at step t of the schedule of `under`; draw: which noise."""
    x = to_model(data.test[:BATCH])
    noise = torch.randn(x.shape, generator=generator(8, draw))
    times = torch.full((len(x),), t, device=DEVICE)
    on_device = Process(under.alpha_bar.to(DEVICE), under.prediction)
    values = ell(lambda x, t: network(x, t).sample, x.to(DEVICE), times, noise.to(DEVICE), on_device, x[0].numel())
    return float(values.mean())


times = torch.linspace(20, process.steps - 21, 4 if MODE == "fast" else 9).long()
level = process.alpha_bar[times].logit()  # log signal-to-noise ratio, at which both are compared
errors = {}
for what, under in (("its own", process), ("another", other)):
    as_noisy = (under.alpha_bar.logit()[:, None] - level).abs().argmin(0)  # that schedule's t for this level
    errors[what] = [error_at(t, under, draw) for draw, t in enumerate(as_noisy.tolist())]
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.3))
for what, under, colour, dash in (("its own", process, style.BLUE, "-"), ("another", other, style.ORANGE, "--")):
    left.plot(under.alpha_bar, dash, color=colour, label=f"{what} schedule")
    right.plot(level, errors[what], dash, marker="o", color=colour, label=f"{what} schedule")
left.set(xlabel="step t", ylabel="share of signal, ᾱ", title="what t means")
right.set(xlabel="log signal-to-noise ratio (right: cleaner)", ylabel="noise error ℓ (sum over pixels)", yscale="log")
right.set_title("the same noise, two t")
left.legend()
figure.suptitle(lab.title("A model under its own schedule and under another"), fontsize=12)
style.show(
    figure,
    alt="Share of signal over t for two schedules; at equal noise the error is larger with the wrong schedule's t",
)
print(f"mean over these levels: its own {np.mean(errors['its own']):.0f}, another {np.mean(errors['another']):.0f}")

# %% [markdown]
# **Reading it.** On the left the two schedules part: one and the same $t$ leaves a different share of the image. On the right both lines are at the *same* noise levels; only the $t$ that the network is told differs, its own schedule's or the other's. Told the wrong $t$ it errs more, little where the two schedules lie close together, about three times as much on the cleanest images: it removes noise for another level than the one it is shown. A fine-tuning under that schedule would start from the orange line, and its first steps would go into mending the mistake.
#
# ## 3. Few steps: DDIM
#
# A large model takes long to sample, so the paper draws from fine-tuned models with DDIM and 50 of the $T = 1000$ steps. *Which* 50? The network must begin at $t = T-1$, because the sampler's first image is pure noise. "Trailing" spacing does that: from the end, every $(T/S)$-th step. Counted from 0,
#
# $$t_k = \operatorname{round}\!\left(T - k\,\frac TS\right) - 1, \qquad k = 0, \dots, S-1 .$$
#
# ### Exercise 08.1: the steps that DDIM visits (1 point, 10 minutes)
#
# Write `ddim_timesteps(total, steps)`. Halves are rounded to the even number, as `round` does in PyTorch, NumPy and Python.
#
# <details><summary>Hint</summary>
#
# `torch.arange(steps)` is $k$. Do the division as a fraction, round at the end (`.round().long()`). For T = 1000, S = 4: 999, 749, 499, 249.
# </details>


# %% tags=["exercise"]
def ddim_timesteps(total: int, steps: int) -> Tensor:
    """The steps t that a sampler visits, from total - 1 down, trailing spacing. Returns (steps,) int64, decreasing."""
    # BEGIN SOLUTION
    k = torch.arange(steps, dtype=torch.float64)
    return (total - k * total / steps).round().long() - 1
    # END SOLUTION


# %%
check_08_1(ddim_timesteps)

trailing = DDIMScheduler(1000, timestep_spacing="trailing")
leading = DDIMScheduler(1000, timestep_spacing="leading")  # Diffusers' default
for spaced in (trailing, leading):
    spaced.set_timesteps(50)
assert torch.equal(timestep_grid(1000, 50), trailing.timesteps)  # the package's, and Diffusers'
print(f"trailing: {trailing.timesteps[0]}, {trailing.timesteps[1]}, ... {trailing.timesteps[-1]}")
print(f"leading:  {leading.timesteps[0]}, {leading.timesteps[1]}, ... {leading.timesteps[-1]}: never at t = 999")

# %% [markdown]
# ## 4. Fine-tune, and follow the images
#
# *The question: what becomes of an image when its model is fine-tuned?* Every draw of the package has an address: image number $i$ starts from the same noise in every model, and every method sees the same batches, times and noise in training. So samples come in families by their number.
#
# Each method trains from the same pre-trained weights. At a few steps on the way it stops and draws. (Everything is kept in a folder: after a disconnect run the cells again, and they go on where they were.)

# %%
STEPS = lab.plan.experiment("nnpu").train.steps
N = lab.plan.experiment("nnpu").n_samples
SNAPSHOTS = {
    "fast": [0, 1, STEPS],
    "lab": [0, 15, 40, 80, STEPS] if MINIATURE else [0, 100, STEPS],
    "full": [0, STEPS // 8, STEPS // 4, STEPS // 2, STEPS],
}[MODE]
WATCHED = min(N, 500)  # images drawn on the way; N at the end


@dataclass(frozen=True)
class Drawn:
    """Images 0, 1, ... of a model. images: (n, C, H, W) uint8. normal: (n,) bool, by the judge."""

    images: Tensor
    normal: Tensor

    @classmethod
    def judged(cls, images: Tensor) -> "Drawn":
        return cls(images, data.judge.is_normal(data.judge.look(images), data.configuration.normal))


def fine_tune(method: str) -> dict[int, Drawn]:
    """Training step -> what the model draws there; step 0 is the pre-trained model."""
    exp = lab.plan.experiment(method)
    trainer = make_trainer(exp, data, FOLDER / "runs" / exp.name)
    bar = tqdm(total=STEPS, initial=trainer.step, desc=method)
    drawn = {}
    for snapshot in SNAPSHOTS:
        name = "pretrained" if snapshot == 0 else f"{exp.name}/step_{snapshot:06d}"
        path = FOLDER / "runs" / f"{name}_{N}.npz"
        if not path.exists():
            for _ in islice(trainer, max(0, snapshot - trainer.step)):
                bar.update()
            n = N if snapshot in (0, STEPS) else WATCHED
            write_arrays(path, images=draw(trainer.ema, trainer.process, n, **exp.sampling).numpy())
        drawn[snapshot] = Drawn.judged(torch.from_numpy(np.load(path)["images"]))
    bar.close()
    return drawn


tuned = {method: fine_tune(method) for method in METHODS}
final = {BEFORE: tuned["nnpu"][0], **{method: drawn[STEPS] for method, drawn in tuned.items()}}
for method, drawn in final.items():
    rate = non_sensitive_rate(drawn.normal.numpy())
    print(f"{method:13s} non-sensitive rate {rate.rate:.3f} [{rate.low:.3f}, {rate.high:.3f}], n = {rate.n}")

# %%
COLUMNS = 14 if MINIATURE else 8
figure, ax = plt.subplots(figsize=(11, 11 * len(final) / COLUMNS))
draw_panel(
    ax,
    torch.cat([drawn.images[:COLUMNS] for drawn in final.values()]),
    torch.cat([~drawn.normal[:COLUMNS] for drawn in final.values()]),
    COLUMNS,
)
size = data.test.shape[-1] + 6
for row, method in enumerate(final):
    ax.text(-4, (row + 0.45) * size, method, ha="right", va="center", fontsize=12)
for column in range(COLUMNS):
    ax.text((column + 0.45) * size, -5, f"{column}", ha="center", va="bottom", fontsize=11)
ax.set(xlim=(-4, COLUMNS * size - 2), ylim=(len(final) * size - 2, -4))  # room for the frames
ax.set_title(lab.title("Image by image number; framed: sensitive"), pad=24, fontsize=13)
style.show(
    figure,
    alt="Samples by number: one row each for the pre-trained and the three fine-tuned models, sensitive ones framed",
)

# %% [markdown]
# **Reading it.** Go down a column: it is one image number. Where the image at the top is normal, the ones below are mostly the same image, redrawn a little. Where it is sensitive (framed), another image has mostly taken its place, often one that keeps the slant, the weight of the stroke, the outline. Look for a number that stays sensitive by the first two methods, perhaps as another odd digit, and becomes normal by `nnpu`. This is what the paper's Figures 2 and 3 show of vehicles and men: "the generated images are largely similar", and the sensitive images "are replaced by normal images". A model's samples are not deleted; the path from the noise is bent until it ends somewhere that is now more likely.
#
# "Largely similar" can be measured: how far apart are two models' images of the *same* number, and of different numbers?


# %%
def distance(a: Drawn, b: Drawn, shift: int = 0) -> Tensor:
    """Root mean square difference of pixels, 0 to 1, of image i of a and image i + shift of b. Returns (n,)."""
    gap = a.images.float() - b.images.roll(shift, 0).float()
    return gap.square().flatten(1).mean(1).sqrt() / 255


two = [final[name].images[1].numpy().astype(float) for name in (BEFORE, "nnpu")]
assert math.isclose(distance(final[BEFORE], final["nnpu"])[1], np.sqrt(np.mean((two[0] - two[1]) ** 2)) / 255, rel_tol=1e-5)

pairs = {
    "pretrained,\nunsupervised": distance(final[BEFORE], final["unsupervised"]),
    "pretrained,\nnnpu": distance(final[BEFORE], final["nnpu"]),
    "unsupervised,\nsupervised": distance(final["unsupervised"], final["supervised"]),
    "unsupervised,\nnnpu": distance(final["unsupervised"], final["nnpu"]),
    "other number,\nnnpu": distance(final["nnpu"], final["nnpu"], shift=1),
}
figure, ax = plt.subplots(figsize=(9, 3.3))
box = ax.boxplot(list(pairs.values()), tick_labels=list(pairs), patch_artist=True, widths=0.5, showfliers=False)
for patch, name in zip(box["boxes"], pairs, strict=True):
    patch.set(facecolor="#dddddd" if name.startswith("other") else style.SKY)
for line in box["medians"]:
    line.set(color=style.BLACK, linewidth=2)
ax.set(ylabel="difference of pixels (rms, 0 to 1)", title=lab.title("Same image number in two models"))
ax.set_ylim(bottom=0)
style.show(figure, alt="Boxes of pixel differences between models at the same image number, and at different numbers")

for method in METHODS:
    before, after = final[BEFORE].normal, final[method].normal
    moved = {
        f"{a} -> {b}": int(((before == (a == "normal")) & (after == (b == "normal"))).sum())
        for a in ("sensitive", "normal")
        for b in ("normal", "sensitive")
    }
    assert int(after.sum()) - int(before.sum()) == moved["sensitive -> normal"] - moved["normal -> sensitive"]
    print(f"{method:13s} " + ", ".join(f"{what} {count}" for what, count in moved.items()))

# %% [markdown]
# **Reading it** (boxes: the middle half of the images, with the median). The grey box on the right is the yardstick: two images that have nothing to do with each other. Models fine-tuned by two methods are far nearer to one another at the same number than that, `unsupervised` and `supervised` nearest of all: they took nearly the same steps. The distance to the pre-trained model is larger, since half of its images had to become something else, and still much smaller than to a stranger.
#
# The counts below the figure say what the rates hide: how many images crossed, in each direction. A method is doing its work if nearly all the traffic goes one way.
#
# ## 5. How fast is it forgotten?
#
# *The question: how many steps does it take?* The rate at each stop on the way, with Wilson's 95 % interval.

# %%
figure, ax = plt.subplots(figsize=(8, 3.8))
DASH = {"unsupervised": ":", "supervised": "--", "nnpu": "-"}
MARK = {"unsupervised": "o", "supervised": "^", "nnpu": "s"}
for i, method in enumerate(METHODS):
    rates = [non_sensitive_rate(drawn.normal.numpy()) for drawn in tuned[method].values()]
    bars = np.array([[r.rate - r.low, r.high - r.rate] for r in rates]).T
    at = np.array(SNAPSHOTS) + (i - 1) * 0.008 * STEPS
    look = {"color": COLOUR[method], "ls": DASH[method], "marker": MARK[method]}
    ax.errorbar(at, [r.rate for r in rates], yerr=bars, capsize=3, label=method, **look)
    print(f"{method:13s}", "  ".join(f"step {s}: {r.rate:.3f}" for s, r in zip(SNAPSHOTS, rates, strict=True)))
ax.axhline(10 / 11, color="grey", ls="-.", lw=1, label="normal share of U, 10/11")
ax.set(xlabel="fine-tuning step", ylabel="non-sensitive rate", title=lab.title("Rate during fine-tuning"))
ax.legend(loc="lower right")
style.show(
    figure, alt="Non-sensitive rate over fine-tuning steps for three methods, from the pre-trained model's rate up"
)

# %% [markdown]
# **Reading it** (lab mode). All three lines begin at the pre-trained model's rate, and in a few steps they have made most of their way: merely being shown $\mathcal U$, where sensitive images are rare, makes them rare. That part of the gain needs no label, and the methods have it in common. Then they part. `unsupervised` and `supervised` stay together, and stop: all that Eq. 9 asks for is the normal share of $\mathcal U$ (grey), and they end below it, as in the paper, where for CelebA (male) they come to 0.866 and 0.868. A part of what is missing may be poor drawing: most digits drawn are meant to be normal by now, so of those that go wrong more are lost to the normal side than are won for it, in both roles (Section 8's table). `nnpu` goes on rising when the others have stopped. The gap between the lines is what the labels of $\mathcal S$ have bought.
#
# The training is short, and one seed is one seed: Section 8 has longer runs, and three.
#
# ### Exercise 08.2: half-way (2 points, 10 minutes)
#
# To compare speeds one needs a number. Write `half_way(steps, rates)`: the step at which the rate has come half of its way from its first to its last value, on straight lines between the stops. Assume that the rates rise.
#
# <details><summary>Hint</summary>
#
# The middle is `(rates[0] + rates[-1]) / 2`. Find the first stop at or above it, and go back on the line to the stop before. `np.interp` can do both at once: which argument is x?
# </details>


# %% tags=["exercise"]
def half_way(steps: Tensor, rates: Tensor) -> float:
    """Where a rising curve has come half of its way from first to last. steps, rates: (k,). Returns a step."""
    # BEGIN SOLUTION
    middle = (rates[0] + rates[-1]) / 2
    i = int((rates >= middle).nonzero()[0, 0])
    share = (middle - rates[i - 1]) / (rates[i] - rates[i - 1])
    return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))
    # END SOLUTION


# %%
check_08_2(half_way)

# %% [markdown]
# ## 6. What lies in the memory of a GPU
#
# *The question: does CelebA at 256 x 256 fit a free GPU, with 15 GiB?* Training keeps, for every one of $P$ weights, in float32 (4 bytes): the weight, its gradient, AdamW's two moments, and the moving average that is sampled from (Section 5.3 of the paper names no average, nor a clip of the gradient; here the average is kept, `ema_power`, and nothing is clipped):
#
# $$4P + 4P + 8P + 4P = 20P \text{ bytes.}$$
#
# ### Exercise 08.3: bytes of a training (1 point, 10 minutes)
#
# Write `training_bytes(parameters, trained, ema)`. Of `parameters` weights only `trained` are trained; the others are *frozen*: they lie in memory, but get no gradient and no moments. The moving average, if there is one, is a copy of all weights.
#
# <details><summary>Hint</summary>
#
# Weights 4 bytes each; gradients 4 and moments 8 for each *trained* one; the copy 4 for each.
# </details>


# %% tags=["exercise"]
def training_bytes(parameters: int, trained: int, ema: bool) -> int:
    """Bytes of weights, gradients, AdamW's moments and, with ema, the moving average; all in float32."""
    # BEGIN SOLUTION
    return 4 * parameters + 12 * trained + (4 * parameters if ema else 0)
    # END SOLUTION


# %%
check_08_3(training_bytes)

# %% [markdown]
# That is the smaller part. For the backward pass autograd keeps what each layer computed, for every image: the **activations**. Four ways to make them smaller, each with a price:
#
# - **mixed precision** (fp16): convolutions and products compute in two bytes. The weights and what belongs to them stay in float32, and so do group norms, which autocast runs in float32;
# - **accumulation**: a batch is cut into pieces that go through one after the other, and their gradients add up. For `nnpu` a first look at the whole batch comes on top (Section 7);
# - **gradient checkpointing**: keep only what enters a block, and compute its inside once more on the way back: four forward passes' worth of work instead of three.
#
# The numbers below are counted, not estimated: `pudm_lite.runs.memory` sends shapes without data through the network whose layout is that of `google/ddpm-celebahq-256`, and adds up what autograd would keep.

# %% tags=["expected"]
with torch.device("meta"):  # shapes without data
    large = make_network("paper", 3, 256)
P = sum(p.numel() for p in large.parameters())
WAYS = {  # name: images in a piece, precision, checkpointing
    "as it is": (16, "no", False),
    "fp16": (16, "fp16", False),
    "4 pieces": (4, "no", False),
    "checkpointing": (16, "no", True),
    "fp16 + checkpointing": (16, "fp16", True),
    "fp16 + 4 pieces": (4, "fp16", False),
    "all three": (4, "fp16", True),
}
if MODE == "fast":
    WAYS = {name: WAYS[name] for name in ("4 pieces", "all three")}
memory = {name: training_memory(large, (3, 256, 256), *way) for name, way in WAYS.items()}
GIB = 2**30
assert all(m.weights + m.gradients + m.optimiser + m.ema == 20 * P for m in memory.values())
print(f"P = {P:,}; 20 P = {20 * P / GIB:.2f} GiB; batch 16; room on 15 GiB: {15 * (1 - HEADROOM):.2f} GiB")
print(f"{'GiB':22s}{'weights':>9s}{'gradients':>11s}{'AdamW':>7s}{'EMA':>6s}{'activations':>13s}{'total':>8s}")
for name, m in memory.items():
    parts = [part / GIB for part in (m.weights, m.gradients, m.optimiser, m.ema, m.activations, m.total)]
    print(f"{name:22s}" + "{:9.2f}{:11.2f}{:7.2f}{:6.2f}{:13.2f}{:8.2f}".format(*parts))

figure, ax = plt.subplots(figsize=(9.5, 0.55 * len(memory) + 1.5))
PARTS = [
    ("weights", style.BLUE, ""),
    ("gradients", style.SKY, "//"),
    ("optimiser", style.GREEN, ".."),
    ("ema", style.YELLOW, "xx"),
    ("activations", "#bbbbbb", ""),
]
left = np.zeros(len(memory))
for part, colour, hatch in PARTS:
    width = np.array([getattr(m, part) / GIB for m in memory.values()])
    label = {"optimiser": "AdamW's moments", "ema": "moving average"}.get(part, part)
    ax.barh(list(memory), width, left=left, color=colour, hatch=hatch, edgecolor="white", label=label)
    left += width
for y, m in enumerate(memory.values()):
    ax.text(m.total / GIB + 0.3, y, f"{m.total / GIB:.1f}", va="center", fontsize=10, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
ax.axvline(15, color=style.BLACK, lw=1.2, label="15 GiB")
ax.axvline(
    15 * (1 - HEADROOM), color=style.BLACK, ls="--", lw=1.2, label=f"less {HEADROOM:.0%} for what is not counted"
)
ax.invert_yaxis()
ax.set(xlabel="GiB", title="Training google/ddpm-celebahq-256's layout at 256 x 256, batch 16 (counted)")
ax.legend(loc="lower right", fontsize=9)
ax.grid(axis="y", visible=False)
style.show(figure, alt="Bars of memory by part for seven ways to train; undivided in float32 it is over 30 GiB")

# %% [markdown]
# **Reading it.** The coloured parts are the $20P$ of the exercise, about 2 GiB, the same in each bar. Grey decides. As it is, the batch needs more than twice the GPU. fp16 alone saves surprisingly little, because what a U-Net keeps is mostly group norms, in float32. Checkpointing alone comes close and leaves no room for the rest; together with fp16 it fits undivided, at four forward passes instead of three, each of them faster in half precision. Four pieces fit as well. The plan at the top takes half precision with checkpointing, fp16 on a T4.
#
# (Counted on shapes, held to torch's own memory tracker by the tests; on a real GPU: not run here. 15 % are set aside for what is not counted, by assumption.)
#
# ## 7. Pieces, and a clamp that must not be cut
#
# Accumulation is right as long as the objective is a *sum over images*. The max of Eq. 19 is not. Let piece $j$ hold $\mathcal U_j$ and $\mathcal S_j$. A loop that calls the loss on every piece computes
#
# $$\frac1J\sum_j \max\{0,\ \mathcal L_{\mathcal U_j}^- - \beta\mathcal L_{\mathcal S_j}^-\} \;\ne\; \max\Big\{0,\ \frac1J\sum_j \big(\mathcal L_{\mathcal U_j}^- - \beta\mathcal L_{\mathcal S_j}^-\big)\Big\},$$
#
# and in Algorithm 1 even the *direction* of a piece's step is turned round where that piece happens to be negative. The remedy has two parts:
#
# 1. a first look without gradients: add up the pieces' sums and counts, divide, decide **once**;
# 2. then each piece contributes its share, divided by the *whole* batch's counts, in the branch that was decided:
#
# $$\text{line 5: }\ \beta\,\frac{\sum_{\mathcal S_j} -\log(1-e^{-\ell})}{n_s} + \frac{\sum_{\mathcal U_j}\ell}{n_u} - \beta\,\frac{\sum_{\mathcal S_j}\ell}{n_s}, \qquad \text{line 7: }\ -\frac{\sum_{\mathcal U_j}\ell}{n_u} + \beta\,\frac{\sum_{\mathcal S_j}\ell}{n_s} .$$
#
# The shares add up to the whole, and so do their gradients. The same holds for several GPUs.
#
# ### Exercise 08.4: the branch of the whole batch (2 points, 15 minutes)
#
# Write `whole_branch(sums_u, sums_s, counts_u, counts_s, beta)`: is the clamp of Algorithm 1 active, $\mathcal L_{\mathcal U}^- - \beta\mathcal L_{\mathcal S}^- < 0$? Given are, for each piece, the sum of $\ell$ over its images of $\mathcal U$ and of $\mathcal S$, and how many there were. A piece may hold none of $\mathcal S$.
#
# <details><summary>Hint</summary>
#
# A mean over everything is the sum of the sums over the sum of the counts. A mean of the pieces' means is something else as soon as the pieces differ in size.
# </details>


# %% tags=["exercise"]
def whole_branch(sums_u: Tensor, sums_s: Tensor, counts_u: Tensor, counts_s: Tensor, beta: float) -> bool:
    """Whether L_U - beta L_S of the whole batch is negative. All (pieces,): sums of l, numbers of images."""
    # BEGIN SOLUTION
    return bool(sums_u.sum() / counts_u.sum() - beta * sums_s.sum() / counts_s.sum() < 0)
    # END SOLUTION


# %%
check_08_4(whole_branch)

# %% [markdown]
# ### Exercise 08.5: a piece's share (2 points, 15 minutes)
#
# Write `piece_share(l_u, l_s, n_u, n_s, beta, clamped)`, lines 5 and 7 above: what a piece calls `backward()` on, with digits left at an $\ell$ of $10^{-7}$ in single precision. `clamped` is the answer of `whole_branch`.
#
# <details><summary>Hint</summary>
#
# `-torch.log(-torch.expm1(-l_s))` is the push, stable for small l. Divide by `n_u` and `n_s`, never by the piece's own lengths; there is no `max`.
# </details>


# %% tags=["exercise"]
def piece_share(l_u: Tensor, l_s: Tensor, n_u: int, n_s: int, beta: float, clamped: bool) -> Tensor:
    """A piece's share of Algorithm 1's objective. l_u, l_s: the piece's errors; n_u, n_s: sizes of the whole batch."""
    # BEGIN SOLUTION
    normal = l_u.sum() / n_u - beta * l_s.sum() / n_s
    if clamped:
        return -normal
    push = -torch.log(-torch.expm1(-l_s))
    return beta * push.sum() / n_s + normal
    # END SOLUTION


# %%
check_08_5(piece_share)

# %% [markdown]
# Now with a real network and real images: 16 at a time, whole and in four pieces of three from $\mathcal U$ and one from $\mathcal S$. At $\beta = 0.1$ the clamp of this batch would hardly ever act. We set $\beta = 0.9$, for this experiment alone, so that many batches lie near the border. The package's `nnpu` takes the whole batch's decision as `Whole`.

# %%
PIECES, BETA, BATCHES = 4, 0.9, 3 if MODE == "fast" else 16
EVERY = max(1, data.test.shape[-1] // 64)  # of large images every so many pixels: memory
weights = list(network.parameters())


def gradient(objective: Tensor) -> Tensor:
    """The gradient by all weights, as one vector."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(objective, weights)])


def errors_of(rows: Tensor, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    on_device = Process(process.alpha_bar.to(DEVICE), process.prediction)
    x, t, noise = (v[rows].to(DEVICE) for v in (x, t, noise))
    return ell(lambda x, t: network(x, t).sample, x, t, noise, on_device, x[0].numel())


found = []
for batch in range(BATCHES):
    g = generator(8, 7, batch)
    from_u = data.split.u[torch.randint(len(data.split.u), (12,), generator=g)]
    from_s = data.split.s[torch.randint(len(data.split.s), (4,), generator=g)]
    x = to_model(data.train[torch.cat([from_u, from_s])])[..., ::EVERY, ::EVERY]
    t = draw_timesteps(16, process.steps, "uniform", g)
    noise = torch.randn(x.shape, generator=g)
    values = errors_of(torch.arange(16), x, t, noise)
    risk = nnpu(values[:12], values[12:], BETA)
    right = gradient(risk.objective)
    whole = Whole(12, 4, 0, float(risk.terms["normal_risk"]))
    naive, shares, negative = torch.zeros_like(right), torch.zeros_like(right), 0
    for piece in range(PIECES):
        rows = torch.cat([torch.arange(3 * piece, 3 * piece + 3), torch.tensor([12 + piece])])
        values = errors_of(rows, x, t, noise)
        alone = nnpu(values[:3], values[3:], BETA)
        negative += int(alone.terms["clamped"])
        naive += gradient(alone.objective / PIECES)
        shares += gradient(nnpu(*errors_of(rows, x, t, noise).split([3, 1]), BETA, whole).objective)
    size = right.norm()
    found.append(
        (whole.normal_risk, negative, float((naive - right).norm() / size), float((shares - right).norm() / size))
    )

found.sort()
wrong = sum(naive > 1e-3 for *_, naive, _ in found)
assert all(by_sum < 1e-4 for *_, by_sum in found)
print(f"a clamp per piece: wrong gradient in {wrong} of {BATCHES} batches")
print(f"decided from the sum: largest relative error {max(by_sum for *_, by_sum in found):.1e}")

# %%
figure, ax = plt.subplots(figsize=(9, 3.6))
at = np.arange(len(found))
ax.semilogy(at, [naive for *_, naive, _ in found], "s", ms=7, color=style.ORANGE, label="clamp per piece")
ax.semilogy(at, [by_sum for *_, by_sum in found], "o", ms=7, color=style.BLUE, label="branch from the sum")
for x_at, (_, negative, naive, _) in zip(at, found, strict=True):
    ax.text(x_at, naive * 2.2, f"{negative}", ha="center", fontsize=10)
border = sum(risk < 0 for risk, *_ in found) - 0.5
ax.axvline(border, color="grey", ls="--", lw=1, label="left of it: the clamp is active for the whole batch")
ax.set(xticks=at, xticklabels=[f"{risk:.1f}" for risk, *_ in found], ylim=(1e-8, 1e3))
ax.set(xlabel="whole batch's $L_U - βL_S$ (sum over pixels); above a square: pieces that are negative alone, of 4")
ax.set(ylabel="error of the gradient, relative", title=lab.title("Sixteen images in four pieces"))
ax.legend(fontsize=9, loc="center right")
style.show(
    figure,
    alt="Relative gradient error by batch: a clamp per piece is near one where a piece disagrees, the branch from the sum near 1e-6",
)

ends = {}
for pieces in (1, 4):
    exp = lab.plan.experiment("nnpu", pieces=pieces, batch_size=16 if MINIATURE else 4, steps=2, mixed_precision="no")
    trainer = make_trainer(exp, data, None)
    records = list(trainer)
    ends[pieces] = torch.cat([p.detach().flatten().cpu() for p in trainer.network.parameters()])
    print(f"{pieces} piece{'s' * (pieces > 1)}: values {', '.join(f'{record.value:.4f}' for record in records)}")
start = torch.cat([p.detach().flatten().cpu() for p in weights])
apart = float((ends[1] - ends[4]).norm() / (ends[1] - start).norm())
print(f"the two ends lie {apart:.1e} apart, as a share of the way gone")
assert apart < 0.1

# %% [markdown]
# **Reading it.** An error of 1 means: as far off as the gradient is long; 2 is the opposite direction. A clamp per piece (squares) is right only where all four pieces agree with the whole (here the numbers 0, right of the border; a 4 left of it would be right as well). Everywhere else it is wrong, by a part of the gradient's length or by more than all of it. Decided from the sum (circles) the pieces give the whole batch's gradient up to rounding, whatever the single pieces say.
#
# `Trainer` does this for `pieces` and for several processes. The lines below the figure: after two steps with a batch in one piece and in four it ends at the same weights, up to the rounding that an optimiser makes larger.
#
# ## 8. Tables 4 and 5
#
# *The question: how much of the paper's finding does the miniature show?* The rows of `data/results/finetuning.jsonl` are longer runs than the ones above, three seeds, for even and for odd digits as the normal ones, made by
#
# ```
# pudm sweep --experiment mnist-even mnist-odd --method pretrained unsupervised supervised nnpu --seed 0 1 2 \
#     --steps 300 --n-samples 1000 \
#     --pretrained data/models/mnist-digits_unsupervised_seed0.safetensors --out outputs/finetuning_rows
# pudm report outputs/finetuning_rows/rows.jsonl --table 4 5
# ```
#
# The paper's lines are printed as well, each value beside ours: *not run here* where nobody ran it.

# %% tags=["expected"]
made = data_folder() / "results" / "finetuning.jsonl"
rows = read_rows(made) if made.exists() else []
print(
    f"{len(rows)} rows in data/results/finetuning.jsonl" if rows else "data/results/finetuning.jsonl holds no rows yet"
)
display(Markdown(markdown([table(4, rows), table(5, rows)])))

COLUMN = {method: i for i, method in enumerate((BEFORE, *METHODS))}
figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.9), sharey=True)
PANELS = [
    ("paper: CelebA", ["celeba-male", "celeba-female"]),
    ("paper: CIFAR10", ["cifar10-vehicles", "cifar10-animals"]),
    ("miniature: MNIST digits", ["mnist-even", "mnist-odd"]),
]
for ax, (title, names) in zip(axes, PANELS, strict=True):
    for k, (name, marker, colour) in enumerate(zip(names, "os", (style.BLUE, style.ORANGE), strict=True)):
        label = CONFIGURATION_TITLE[name].split("(")[1].rstrip(")") + " normal"
        shift = 0.16 * k - 0.08
        if name in TABLE[4]:
            for method, i in COLUMN.items():
                mean, deviation = TABLE[4][name][METHOD_NAME[method]]
                look = {"fmt": marker, "color": colour, "mfc": "white", "capsize": 3, "ms": 7}
                ax.errorbar(i + shift, mean, yerr=deviation, label=label if i == 0 else None, **look)
        for j, row in enumerate(row for row in rows if row["experiment"] == name and row["method"] in COLUMN):
            rate, at = row["non_sensitive_rate"], COLUMN[row["method"]] + shift + 0.05 * (row["seed"] - 1)
            bar = [[rate - row["rate_low"]], [row["rate_high"] - rate]]
            ax.errorbar(at, rate, yerr=bar, fmt=marker, color=colour, ms=5, label=label if j == 0 else None)
    ax.set(xticks=range(4), title=title, xlim=(-0.5, 3.5), ylim=(0.2, 1.03))
    ax.set_xticklabels([METHOD_TITLE[method] for method in COLUMN], fontsize=9)
    ax.axhline(10 / 11, color="grey", ls="-.", lw=1)
axes[2].plot(
    range(4), [PREDICTED[method] for method in COLUMN], "x", color=style.BLACK, ms=9, mew=2, label="predicted, even"
)
for ax in axes:
    ax.legend(fontsize=9, loc="lower right")
axes[0].set_ylabel("non-sensitive rate")
style.show(
    figure,
    alt="Rates of the pre-trained and three fine-tuned models: the paper's for CelebA and CIFAR10, and the miniature's",
)
of_method = {
    method: {(row["experiment"], row["seed"]): row["non_sensitive_rate"] for row in rows if row["method"] == method}
    for method in ("unsupervised", "supervised")
}
paired = of_method["unsupervised"].keys() & of_method["supervised"].keys()
ahead = sum(of_method["supervised"][run] > of_method["unsupervised"][run] for run in paired)
print(f"supervised is ahead of unsupervised in {ahead} of {len(paired)} pairs of one seed")
if not rows:
    print("the panel on the right holds predictions only: the miniature's rows are missing")
for a, b in (("celeba-male", "celeba-female"), ("cifar10-vehicles", "cifar10-animals")):
    rates = [TABLE[4][name][METHOD_NAME[BEFORE]][0] for name in (a, b)]
    print(f"{a} {rates[0]:.3f} + {b} {rates[1]:.3f} = {sum(rates):.3f}")
    assert math.isclose(sum(rates), 1, abs_tol=0.002)

# %% [markdown]
# **Reading it** (paper: mean and standard deviation of five runs, hollow; miniature: one mark a run, with its interval; grey: 10/11, the normal share of $\mathcal U$; crosses: your prediction). The pattern of the paper, from left to right: the pre-trained model draws as many normal images as its makers happened to show it; showing it $\mathcal U$ lifts both roles towards the grey line, from below; the supervised method adds little to that; the proposed one goes well beyond, up to 0.973 for men. The miniature takes the same three steps in 300 of training (its means stand in the table). Bold in our lines: the best, and what a paired $t$-test over the seeds does not tell from it; runs of one seed share everything but the risk (notebook 07, section 6). The line under the figure counts in how many pairs `supervised` is ahead of `unsupervised`: a small difference that is there in every seed is seen in pairs, where the spread over seeds would hide it.
#
# Table 5 says what it costs. Fine-tuning of any kind brings the FID down by more than half for CelebA (male). Two causes are mixed in that: a model of both sexes is a bad model of men, and the pre-trained model draws in the style of CelebA-HQ, from which fine-tuning moves it to CelebA's (Section 9). For CelebA (female), where the first cause is smaller, the FID falls by less than a third. Between the fine-tuned models the proposed one is the best for CIFAR10's vehicles. For faces it is worse: 39.1 against 30.5 for women, well outside the spread over seeds, and 46.9 against 43.8 for men, within it.
#
# **Question 1, in words.** In Table 4 the pre-trained model has 0.249 for CelebA (male) and 0.751 for CelebA (female). Is it chance that they add up to 1? And why does `unsupervised` end at 0.866 for one and at 0.905 for the other, though $\mathcal U$ holds the same share of sensitive images in both?

# %% [markdown] tags=["answer"]
# It is no chance: the pre-trained model does not depend on what is called normal, so its samples are judged twice with the roles exchanged, and what is normal in one role is sensitive in the other (0.999 for CIFAR10 is rounding, and the number of samples differs). Our miniature does the same, seed by seed: one model, one noise, judged twice. `unsupervised` comes *from below*: a model that drew three women in four has further to go to 10/11 than one that drew one man in four, and 20 epochs are not enough to forget all of it. A judge that errs moves both numbers as well.

# %% [markdown]
# ## 9. What a miniature cannot show, and how to run the real thing
#
# - **Size.** The real model is about 120 times as large and saw faces of 256 x 256 pixels. How fast it forgets, at which learning rate, and what happens to skin, hair and background: no experiment with digits can say.
# - **Distance.** Even and odd digits are different shapes. Men and women share nearly every pixel statistic; a sensitive image there has normal neighbours, which is where Eq. 19 can go wrong.
# - **Features.** Our Fréchet distance is on the judge's features, not Inception's: compare it within a table, never with Table 5.
# - **Memory and speed.** Counted above; a CPU proves neither.
# - **Data.** Here $\mathcal U$ is a subset of what the model was pre-trained on. Of the paper's models one was pre-trained on CelebA-HQ, a cleaned relative of CelebA, and so the fine-tuning also moves it to another style of picture.
#
# The commands of the real runs (they resume; `pudm data check` says what is missing):
#
# ```
# pudm data download resnet34 && pudm data download inception
# pudm data download celeba && pudm judge train celeba
# pudm train --experiment celeba-male --method nnpu --network paper --pretrained google/ddpm-celebahq-256 \
#     --set mixed_precision=fp16 gradient_checkpointing=1
# pudm sweep --experiment celeba-male celeba-female --method pretrained unsupervised supervised nnpu \
#     --seed 0 1 2 3 4 --network paper --pretrained google/ddpm-celebahq-256 \
#     --set mixed_precision=fp16 gradient_checkpointing=1 --out outputs/celeba
# ```
#
# How long? An **estimate, not run here**, from counted operations and an *assumed* speed of a free T4, 10 TFLOP/s in fp16 (its data sheet says 65; networks reach a part of that). With checkpointing an image trained on costs four forward passes.

# %%
print(f"one image through the network: {forward_gflop('paper', 'celeba-male'):,.0f} GFLOP (counted)")
whole_run = Plan(**celeba, training=to_fit)
for name, plan, drawn in (
    ("this notebook on a T4", gpu, (1 + 2 * len(gpu.methods)) * 48),
    ("the paper's runs, one seed", whole_run, (1 + len(whole_run.methods)) * 7715),
):
    training, sampling = estimated_minutes(plan, drawn)
    steps = plan.experiment("nnpu").train.steps
    print(
        f"{name}: {len(plan.methods)} methods of {steps:,} steps, {drawn:,} images drawn: "
        f"training {training:,.0f} min, sampling {sampling:,.0f} min (estimate, not run here)"
    )

# %% [markdown]
# ## 10. Hand it on
#
# A fine-tuned model is saved as it came: as a pipeline. Whoever opens it needs Diffusers and nothing of ours (for the miniature's `LiteUNet`: `import pudm_lite.networks`, where its class lives). Diffusers' own call draws the very images that our DDIM draws, if it gets the same generators, one an image.

# %%
exp = lab.plan.experiment("nnpu")
trainer = make_trainer(exp, data, FOLDER / "runs" / exp.name)  # finished above: opened, not trained again
save_pipeline(trainer.ema, trainer.process, FOLDER / "handed_on")
pipeline = DiffusionPipeline.from_pretrained(FOLDER / "handed_on").to(DEVICE)
pipeline.set_progress_bar_config(disable=True)
shown, few = 8, 4 if MODE == "fast" else 50
theirs = pipeline(
    batch_size=shown,
    generator=image_generators(exp.sample_seed, 0, shown),
    num_inference_steps=few,
    use_clipped_model_output=True,  # as our sampler: eps is computed again from the clipped x_0
    output_type="np",
).images
theirs = torch.from_numpy((theirs * 255).round()).to(torch.uint8).permute(0, 3, 1, 2)
by_ddim = replace(exp, sampler="ddim", sampler_steps=few)
ours = Drawn.judged(draw(trainer.ema, trainer.process, N if MINIATURE else shown, **by_ddim.sampling))
gap = int((ours.images[:shown].int() - theirs.int()).abs().max())
print(f"{type(pipeline).__name__}: {shown} images, {few} DDIM steps; largest difference from ours: {gap} of 255")
assert gap <= 2
rate = non_sensitive_rate(ours.normal.numpy())
print(f"non-sensitive rate by DDIM {rate.rate:.3f} [{rate.low:.3f}, {rate.high:.3f}], n = {rate.n}; ", end="")
print(f"by {exp.sampler.upper()}, {exp.sampler_steps} steps, above: {final['nnpu'].normal.double().mean():.3f}")

figure, ax = plt.subplots(figsize=(9, 2.6))
both = Drawn.judged(torch.cat([ours.images[:shown], theirs]))
draw_panel(ax, both.images, ~both.normal, columns=shown)
size = data.test.shape[-1] + 6
for row, name in enumerate(("our DDIM", "Diffusers")):
    ax.text(-4, (row + 0.45) * size, name, ha="right", va="center", fontsize=12)
ax.set(xlim=(-4, shown * size - 2), ylim=(2 * size - 2, -4))
ax.set_title(lab.title("One model, two programs; framed: sensitive"))
style.show(
    figure, alt="Eight samples of the fine-tuned model by our sampler, and the same eight by Diffusers' pipeline"
)

# %% [markdown]
# **Reading it.** The rows are equal to the last grey level or so: same weights, same schedule, same steps, same noise. This is the strongest test that a saved model is the model that was trained. If the schedule or its spacing had been lost on the way, the images would still look like images, and not like these.
#
# Mind the frames, though. This is the same `nnpu` model as in Section 4; only the sampler is another, and so are the images and the rate, which is printed above the figure (compare the two with the interval in mind). A rate belongs to a model *with* its sampler.
#
# **Question 2, in words.** A colleague says: "After fine-tuning with the proposed method the model cannot draw sensitive images any more, so we may publish its weights." What do you answer?

# %% [markdown] tags=["answer"]
# It draws them *rarely*. At a rate of 0.973 one image in 37 is still called sensitive, and whoever draws a thousand has a few dozen. The rate holds for this sampler, these seeds and this judge, who errs. The weights moved only a little (the images kept their numbers), so a short fine-tuning by somebody else may bring everything back. And "sensitive" means "like the 200 images of S": what S does not show was not pushed. Publish, if at all, with the rate, its interval, the judge's errors and the definition of sensitive, and with a filter behind the model.

# %% [markdown]
# ## 11. What to take along
#
# - **Start**: a pipeline brings its schedule. Train under that one; check $\bar\alpha$ before the first step.
# - **Same number, same noise**: fine-tuned models redraw what was normal and replace what was sensitive.
# - **Two gains**: most of the rise comes from being shown $\mathcal U$; what lies above $\mathcal U$'s normal share comes from $\mathcal S$, and only the risk that knows of the mixture takes it.
# - **Memory**: $20P$ bytes, and then the activations, which decide. fp16 with checkpointing, or pieces.
# - **Pieces**: add up sums and counts, decide the branch once, then take shares of the whole.
#
# **Go on**: `pudm train --experiment mnist-odd --method nnpu --pretrained data/models/mnist-digits_unsupervised_seed0.safetensors`; fine-tune with `--set labelled=50`; or open a pipeline of your own with `--pretrained FOLDER`.
