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
# # 07 · STL10: little data, large images, few seeds
#
# Takahashi et al., *Positive-Unlabeled Diffusion Models for Preventing Sensitive Data Generation* (ICLR 2025), Section 5: the rows STL10 (vehicles) of Tables 1 to 3.
#
# **After this notebook you can**
# - say what 96 x 96 pixels cost against 32 x 32, in operations and in memory;
# - watch a diffusion model learn its training images by heart, and test samples for copies;
# - read a rate at $n = 3{,}200$, and compute Welch's test and the bold of a table from printed means and standard deviations;
# - say how many seeds a difference needs before a test can see it;
# - say why a FID of 120 is not "worse than 35".
#
# **What it costs.** Three sizes, as in notebook 06, and it says below which one it took:
# - with a GPU, STL10 and its judge: about an hour on a free Colab T4 (an *estimate* from counted operations; not run here). Cut off, it goes on where it was.
# - without them: about five minutes of one CPU core and 2.5 GiB of memory, on a **stand-in**: tinted MNIST digits, enlarged to 96 x 96. Each figure says so.
# - `PUDM_MODE=full`: the paper's own run. Not run here.
#
# You need notebooks 04 (rates, intervals, the Fréchet distance) and 06 (how a lab is set up).

# %%
import math
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown
from scipy.stats import ttest_ind, ttest_ind_from_stats
from torch import Tensor

from pudm_lite.course.checks.c07 import check_07_1, check_07_2, check_07_3, check_07_4
from pudm_lite.course.labs import Plan, choose, estimated_minutes, mixed_precision
from pudm_lite.datasets import source, to_model, to_pixels
from pudm_lite.diffusion import ell
from pudm_lite.measures.metrics import frechet_distance, non_sensitive_rate, welch_t_test
from pudm_lite.networks import load_pipeline, make_network, make_process
from pudm_lite.results import style
from pudm_lite.results.paper import METHOD_NAME, TABLE
from pudm_lite.results.report import draw_panel
from pudm_lite.results.table_formats import markdown
from pudm_lite.results.tables import table
from pudm_lite.runs.bench import forward_gflop
from pudm_lite.runs.running import make_trainer, material
from pudm_lite.runs.memory import training_memory
from pudm_lite.sampling import sample

style.use()
FOLDER = Path("../outputs/lab")  # on Colab a folder of your mounted Drive outlives a disconnect:
# FOLDER = Path("/content/drive/MyDrive/pudm_lite")

TWO = ("unsupervised", "nnpu")
half = {"mixed_precision": mixed_precision()}  # bf16 or fp16, whichever the GPU is quick in
FULL = Plan("stl10-vehicles", "paper", training=half)
GPU = Plan(
    "stl10-vehicles",
    "paper",
    methods=TWO,
    training={"steps": 2000, **half},
    sampling={"n_samples": 250, "sampler": "ddim", "sampler_steps": 50},
)
CPU = Plan(
    "standin-96",
    "lite",
    methods=TWO,
    training={"steps": 150, "batch_size": 16},
    sampling={"n_samples": 150, "sampler_steps": 15},
)
FAST = Plan(
    "standin-32",
    "lite",
    methods=TWO,
    training={"steps": 2, "batch_size": 16},
    sampling={"n_samples": 24, "sampler_steps": 2},
)
LAB = choose(FULL, GPU, CPU, FAST, FOLDER)
print(LAB.sentence())

# %% [markdown]
# ## 1. Nine times the pixels, a tenth of the images
#
# STL10 has ten classes like CIFAR10's, in images of 96 x 96, and only 5,000 labelled training images. Table 1 asks for 2,000 vehicles and 200 animals in $\mathcal U$, 200 other animals in $\mathcal S$, 3,200 test vehicles; Section 5.3 for batches of 32. To run it you need
#
# ```
# pudm data download stl10        # 2.6 GB, checked; goes on where it broke off
# pudm data download inception    # 91 MB
# pudm data download resnet34     # 83 MB, if it is not there yet
# pudm judge train stl10          # fine-tunes a ResNet-34
# ```
#
# *The question: what do larger images cost?* The network for 96 x 96 has six levels (96, 48, 24, 12, 6, 3 pixels) where the one for 32 x 32 has four (32, 16, 8, 4). We count on shapes alone; the speed of the T4, 10 TFLOP/s in half precision, is an assumption.

# %%
print(f"{'network `paper`':16s}{'parameters':>12s}{'GFLOP a pass':>14s}{'batch':>7s}{'memory':>10s}{'for what autograd keeps':>26s}")
cost = {}
for name, size, batch in (("cifar10-vehicles", 32, 128), ("stl10-vehicles", 96, 32)):
    with torch.device("meta"):
        network = make_network("paper", 3, size)
    held = training_memory(network, (3, size, size), batch)
    cost[name] = sum(p.numel() for p in network.parameters()), forward_gflop("paper", name)
    print(
        f"{size:2d} x {size:<11d}{cost[name][0]:12,}{cost[name][1]:14.1f}{batch:7d}"
        f"{held.total / 2**30:6.1f} GiB{held.activations / 2**30:22.1f} GiB"
    )
(small, cheap), (large, dear) = cost.values()
print(f"ratio           {large / small:12.1f}{dear / cheap:14.1f}   (the pixels: {96**2 / 32**2:.0f})")

for name, plan in (("an hour's lab", GPU), ("the paper's run", FULL)):
    exp = plan.experiment("nnpu")
    training, sampling = estimated_minutes(plan)
    print(
        f"{name:16s}{len(plan.methods)} methods, {exp.train.steps:,} steps of {exp.train.batch_size}, {exp.n_samples:,} samples: "
        f"training {training:4.0f} min, sampling {sampling:5.0f} min (estimate for a T4, not run here)"
    )

# %% [markdown]
# **Reading it.** Nine times the pixels cost nine times the operations: most of the work is convolutions at the two finest levels, and these grow with the number of pixels. The *parameters* sit at the coarse levels, which the larger network has two more of, with 512 channels: four times as many parameters, which see pictures of 6 x 6 and 3 x 3. So a network four times as large is trained on a tenth of the images. That should make you uneasy, and the next two sections ask whether it must.
#
# ## 2. The best fit draws nothing new
#
# *The question: what is the lowest point of Eq. 9 when $\mathcal U$ is a finite heap of images?* Not "the distribution of vehicles". For the mean over $N$ given images, the function $\epsilon_\theta$ that minimises Eq. 8 at every $t$ is known exactly. Given a noisy $\mathbf x_t$, weigh each training image by how well it explains it, average, and read the noise off (Bayes' rule):
#
# $$w_i(\mathbf x_t) \propto \exp\!\Big(-\frac{\lVert \mathbf x_t - \sqrt{\bar\alpha_t}\,\mathbf x_i\rVert^2}{2\,(1-\bar\alpha_t)}\Big), \qquad \hat{\mathbf x}_0 = \sum_{i=1}^{N} w_i\,\mathbf x_i, \qquad \epsilon^*(\mathbf x_t, t) = \frac{\mathbf x_t - \sqrt{\bar\alpha_t}\,\hat{\mathbf x}_0}{\sqrt{1-\bar\alpha_t}} .$$
#
# We can use this function as a network: it has no parameters but the training images.

# %%
exp = LAB.plan.experiment("unsupervised")
data = material(exp)
process = make_process(exp.recipe)
normal_u = data.train[data.split.u[~data.split.u_sensitive]]  # (2000, 3, S, S)
held_out = data.test  # normal images that are in no U


def memoriser(images: Tensor):
    """eps*(x_t, t): the minimiser of Eq. 9 over all functions, for these images. images: (N, C, H, W) in [-1, 1]."""
    known = images.flatten(1)  # (N, D)

    def eps(x_t: Tensor, t: Tensor) -> Tensor:
        ab = process.alpha_bar[t][:, None]  # (B, 1)
        x = x_t.flatten(1)
        gaps = x.square().sum(1, True) + ab * known.square().sum(1) - 2 * ab.sqrt() * (x @ known.T)  # (B, N), squared
        weights = torch.softmax(-gaps / (2 * (1 - ab)), 1)
        return ((x - ab.sqrt() * (weights @ known)) / (1 - ab).sqrt()).view_as(x_t)

    return eps


def output_of(network):
    """A trained network as a function of x_t and t, on the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = network.to(device).eval()
    return lambda x_t, t: network(x_t.to(device), t.to(device)).sample.cpu()


def error(function, images: Tensor, how=process) -> float:
    """Mean of l over (n, C, H, W) uint8 images, at a fixed grid of noise levels and with fixed noise."""
    draws = torch.Generator().manual_seed(7)
    t = torch.linspace(0, process.steps - 1, len(images)).long()[torch.randperm(len(images), generator=draws)]
    eps = torch.randn(images.shape, generator=draws)
    with torch.no_grad():
        parts = [
            ell(function, to_model(x), steps, noise, how, images[0].numel())
            for x, steps, noise in zip(images.split(50), t.split(50), eps.split(50), strict=True)
        ]
    return float(torch.cat(parts).mean())


GIVES_EPS = replace(process, prediction="epsilon")  # for the memoriser, whatever the lab's network predicts
one = to_model(normal_u[:1])
assert error(memoriser(one), normal_u[:1].expand(20, -1, -1, -1), GIVES_EPS) < 1  # one image: it knows the noise
x_t = torch.randn(1, 1, 1, 2, dtype=torch.float64).requires_grad_()  # Tweedie: eps* = -sqrt(1 - ab) grad log p_t
points, level = torch.randn(5, 1, 1, 2, dtype=torch.float64), 600
ab = process.alpha_bar[level].double()
log_p = torch.logsumexp(-(x_t - ab.sqrt() * points).square().sum((1, 2, 3)) / (2 * (1 - ab)), 0)
score = torch.autograd.grad(log_p, x_t)[0]
assert torch.allclose(memoriser(points)(x_t.detach(), torch.tensor([level])), -(1 - ab).sqrt() * score, atol=1e-5)
print("the formula is exact for one image, and agrees with the gradient of log p_t")

# %%
LOOK = {"fast": 20, "lab": 100, "full": 200}[LAB.mode]  # images looked at
SIZES = (16, 100, len(normal_u))
best = {n: memoriser(to_model(normal_u[:n])) for n in SIZES}
on_train = [error(best[n], normal_u[:n].repeat(-(-LOOK // n), 1, 1, 1)[:LOOK], GIVES_EPS) for n in SIZES]
on_held_out = [error(best[n], held_out[:LOOK], GIVES_EPS) for n in SIZES]
for n, seen, unseen in zip(SIZES, on_train, on_held_out, strict=True):
    print(f"N = {n:5,}: l of training images {seen:8.1f}, of held-out images {unseen:8.1f}")

figure, ax = plt.subplots(figsize=(6.6, 3.4))
ax.plot(SIZES, on_train, "o-", color=style.BLUE, label="training images")
ax.plot(SIZES, on_held_out, "s--", color=style.ORANGE, label="held-out images")
ax.set(xscale="log", yscale="symlog", xlabel="training images N", ylabel="ℓ of the best fit (sum over pixels)")
ax.set_ylim(0, 20 * max(on_held_out))  # room for the legend
ax.set_xticks(SIZES, [f"{n:,}" for n in SIZES])
ax.minorticks_off()
ax.set_title(LAB.title("The exact minimiser of Eq. 9"), fontsize=10)
ax.legend()
style.show(figure, alt="Noise error of the exact minimiser by number of training images: near 0 on them, large on held-out ones")

# %% [markdown]
# **Reading it** (lab mode on the stand-in). On its own training images the best fit hardly errs, whatever their number: less than 1, summed over 27,648 numbers. With so many numbers two images are far apart, and even under much noise there is no doubt which one it was. On images that it has not seen it errs by more than a thousand, and 2,000 training images instead of 16 only halve that. And what would it draw? Every path of the sampler ends in one of the training images (section 4 shows it). So the lowest point of Eq. 9 is no generative model. What makes a generative model is everything that keeps a network from getting there: a limited number of parameters, convolutions that must treat all places alike, and a training that ends. The less data, the fewer of these obstacles are left. (The same holds for $\mathcal L_{\mathcal S}^-$, and there are only 200 images in $\mathcal S$.)
#
# ## 3. Watching a network
#
# *The question: how far is a trained network from that?* The only way to know is to look at images it has not seen. We train one on very few images and record $\ell$ of these and of held-out ones, both at the same noise levels and with the same noise, as it goes.

# %%
FEW, WATCH_STEPS, EVERY = {"fast": (8, 4, 2), "lab": (16, 300, 30), "full": (64, 3000, 150)}[LAB.mode]
plan = LAB.plan if LAB.plan.network == "paper" else replace(LAB.plan, configuration="standin-32")  # for a CPU: smaller
watched = plan.experiment("unsupervised", steps=WATCH_STEPS, batch_size=min(FEW, 32), stream="pooled")  # S is empty
watched_data = data if plan == LAB.plan else material(watched)
u = watched_data.split.u[~watched_data.split.u_sensitive][:FEW]
nothing = u[:0]
few = replace(watched_data, split=replace(watched_data.split, u=u, u_sensitive=torch.zeros(len(u), dtype=torch.bool), s=nothing, n=nothing))
trainer = make_trainer(watched, few, folder=None)
learned, unseen = few.train[u].repeat(-(-LOOK // FEW), 1, 1, 1)[:LOOK], few.test[:LOOK]
curve = []
for record in trainer:
    if record.step % EVERY == 0:
        curve.append((record.step, *(error(output_of(trainer.ema), part) for part in (learned, unseen))))
curve = np.array(curve)
size = unseen.shape[-1]
print(f"{FEW} images of {size} x {size}, {watched.train.steps} steps of {watched.train.batch_size}: each image was seen {WATCH_STEPS * watched.train.batch_size // FEW} times")
print("step, l of the images it learns, l of held-out images:")
print(curve[:: max(1, len(curve) // 5)].round(1))

figure, ax = plt.subplots(figsize=(7, 3.5))
ax.plot(curve[:, 0], curve[:, 1], "o-", color=style.BLUE, label=f"the {FEW} images it learns")
ax.plot(curve[:, 0], curve[:, 2], "s--", color=style.ORANGE, label="held-out images")
ax.set(xlabel="training step", ylabel="noise error ℓ (sum over pixels)", ylim=(0, None))
ax.set_title(LAB.title(f"A network that sees {FEW} images"), fontsize=10)
ax.legend()
style.show(figure, alt="Noise error by training step: that of the few learned images falls on, that of held-out images stays above")

# %% [markdown]
# **Reading it** (lab mode on the stand-in). At first both lines fall together: what the network learns, strokes on black, holds for all digits. Then they part. The error on the 16 images goes on falling; that on held-out images has its lowest point somewhere on the way, and then *rises*: from there on the network gets to know these 16 at the cost of all others. The training loss alone shows nothing of this; it looks as healthy as ever. How many passes it takes depends on the number of images and on the network, so this picture says nothing about 100 epochs on 2,400 images with 114 million parameters; it says what to record: $\ell$ of a few hundred held-out images, at the same noise.
#
# ## 4. Are the samples copies?
#
# *The question: does a sample stand in the training set?* For each sample find the training image nearest to it, and compare with how near *held-out* real images come. The distance is the root of the mean squared difference, in grey levels (0 to 255).
#
# ### Exercise 07.1: the nearest neighbour (2 points, 15 minutes)
#
# Write `nearest(samples, train)`: for each sample the distance to its nearest training image. Both are uint8.
#
# <details><summary>Hint</summary>
#
# uint8 knows no negative numbers: 3 - 5 is 254. Make both `.float()`, flatten each image, and let `torch.cdist` compare all pairs: its distance is the root of a *sum*.
#
# </details>


# %% tags=["exercise"]
def nearest(samples: Tensor, train: Tensor) -> Tensor:
    """Root mean squared difference of each sample to its nearest training image, in grey levels.

    samples: (n, C, H, W) uint8. train: (m, C, H, W) uint8. Returns (n,).
    """
    # BEGIN SOLUTION
    x, y = (images.flatten(1).float() for images in (samples, train))
    return torch.cdist(x, y).min(1).values / math.sqrt(x.shape[1])
    # END SOLUTION


# %%
check_07_1(nearest)

# %% [markdown]
# Now the lab's own runs, of all 2,200 images of $\mathcal U$, and beside them samples of the exact minimiser of section 2, drawn with the same sampler.

# %%
RUNS = {method: LAB.run(method) for method in LAB.plan.methods}
for method, done in RUNS.items():
    print(
        f"{method:13s} {done.row['steps']:,} steps of {done.row['batch_size']} images, {done.row['parameters']:,} parameters, "
        f"beta {done.row['beta']}, seed {done.row['seed']}"
    )

everything = data.train[data.split.u]
N_COPIES = {"fast": 6, "lab": 20, "full": 40}[LAB.mode]
shape = tuple(held_out.shape[1:])
drawn = sample(memoriser(to_model(everything)), GIVES_EPS, shape, N_COPIES, exp.sampler, exp.sampler_steps, seed=0)
copies = to_pixels(torch.cat(list(drawn)))
network, _ = load_pipeline(RUNS["unsupervised"].folder / "pipeline")
seen, unseen = (error(output_of(network), part) for part in (normal_u[:LOOK], held_out[:LOOK]))
print(f"unsupervised network, {LOOK} images each: l of training images {seen:.1f}, of held-out images {unseen:.1f}")


def pixel_distance(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to the nearest image of U in grey levels, and which image that is."""
    x, y = (images.flatten(1).float() for images in (samples, everything))
    found = torch.cdist(x, y).min(1)
    return found.values / math.sqrt(x.shape[1]), found.indices


near = {
    "exact minimiser": pixel_distance(copies),
    "held-out images": pixel_distance(held_out[:LOOK]),
    **{f"{METHOD_NAME[m]} samples": pixel_distance(done.images[:LOOK]) for m, done in RUNS.items()},
}
for name, (distance, _) in near.items():
    print(f"{name:22s} nearest image of U: median {distance.median():5.1f} grey levels, smallest {distance.min():5.1f}")

# %% tags=["expected"]
SHOW = 6
pictures = {"exact minimiser": copies, **{f"{METHOD_NAME[m]} samples": done.images for m, done in RUNS.items()}}
framed = {f"{METHOD_NAME[m]} samples": done.sensitive for m, done in RUNS.items()}
figure, axes = plt.subplots(1, 3, figsize=(13, 2.3))
for ax, (name, shown) in zip(axes, pictures.items(), strict=False):
    pairs = torch.cat([shown[:SHOW], everything[near[name][1][:SHOW]]])
    marks = framed.get(name, torch.zeros(len(shown), dtype=torch.bool))[:SHOW]
    draw_panel(ax, pairs, torch.cat([marks, torch.zeros(SHOW, dtype=torch.bool)]), columns=SHOW)
    ax.set_title(name, fontsize=10)
figure.suptitle(LAB.title("Top: samples, framed where sensitive. Below each: the nearest image of U"), fontsize=11)
style.show(figure, alt="Samples above their nearest training images: those of the exact minimiser are copies, the networks' are not")

# %% [markdown]
# **Reading it** (lab mode on the stand-in). The exact minimiser draws copies, at distance 0. The networks' samples are farther from $\mathcal U$ than real held-out images are: no copies, but not for a good reason. 150 steps of 16 images, 12 of them from $\mathcal U$, are less than a single pass over the data; they give strokes without the order of a digit, and a ground that is not quite black. The two errors printed above the distances agree: the network errs as much on images of $\mathcal U$ as on unseen ones, there is no over-fitting at all. And look at their size: on *unseen* images this half-trained network errs less than the best fit to 2,000 images does (section 2). Of the models here, the one with the lowest training loss knows least.
#
# A large distance does not prove a sample new: a copy moved by three pixels is far away in pixels. Distances in a judge's features see more; the principle is the same, and so is the comparison with held-out images.
#
# ## 5. Rates at n = 3,200
#
# *The question: is the spread over seeds more than chance in drawing samples?* The paper draws 3,200 samples a run for STL10 (vehicles). A rate $p$ counted from $n$ samples of one network scatters by $\sqrt{p(1-p)/n}$; what is printed in Table 2 is the scatter over five *networks*.

# %%
print(f"{'STL10 (vehicles)':16s}{'rate':>7s}{'s.d. printed':>14s}{'by sampling alone':>19s}{'between networks':>18s}")
for method in ("unsupervised", "supervised", "proposed"):
    mean, deviation = TABLE[2]["stl10-vehicles"][method]
    by_chance = math.sqrt(mean * (1 - mean) / 3200)
    between = math.sqrt(max(deviation**2 - by_chance**2, 0))  # independent scatters add as squares
    print(f"{method:16s}{mean:7.3f}{deviation:14.3f}{by_chance:19.4f}{between:18.4f}")

print("\n95 % intervals of one rate of 0.944 (Wilson):")
for n in (150, 500, 3200):
    rate = non_sensitive_rate(np.arange(n) < round(0.944 * n))
    print(f"n = {n:5,}: {rate.rate:.3f} [{rate.low:.3f}, {rate.high:.3f}]")
print("\nyours:")
for method, done in RUNS.items():
    row = done.row
    print(
        f"{method:13s} {row['non_sensitive_rate']:.3f} [{row['rate_low']:.3f}, {row['rate_high']:.3f}], n = {row['n_samples']}, "
        f"corrected {row['rate_corrected']:.3f}; judge right on {row['judge_accuracy']:.1%} of real images"
    )

# %% [markdown]
# **Reading it.** Scatters of independent sources add as squares, so what remains of the printed standard deviation after the sampling is the scatter between networks: for the proposed method most of it. (A standard deviation of five runs has itself a standard error of about $1/\sqrt{2(5-1)} = 35\,\%$, so the last column is a size and no more; where it says 0, it says "not seen".) An interval computed from 3,200 samples of *one* network, $\pm 0.008$, is narrower than what another seed would change; that is why tables have seeds. Your own two rates (lab mode, stand-in) have wide intervals, which overlap by a little. That alone decides nothing: taken as two independent counts of 150, the rates are 2.5 standard errors apart, which a test at 5 % would call different. But such a test is about these two *networks*. It knows nothing of another seed, and of the *methods* one network each says nothing yet. Both are far below $10/11$: a judge who must name one of ten digits names one, for a blot as well.
#
# ## 6. Five seeds: Welch's test and the bold
#
# Two methods, five runs each: means $\bar a, \bar b$ and variances $s_a^2, s_b^2$ (with $n-1$ below). Welch's $t$ allows each method a variance of its own:
#
# $$t = \frac{\bar a - \bar b}{\sqrt{e_a + e_b}}, \qquad e_a = \frac{s_a^2}{n_a},\quad e_b = \frac{s_b^2}{n_b}, \qquad \nu = \frac{(e_a + e_b)^2}{\dfrac{e_a^2}{n_a-1} + \dfrac{e_b^2}{n_b-1}} ,$$
#
# and $p$ is the mass of Student's distribution with $\nu$ degrees of freedom beyond $\pm t$. This takes all runs as independent.
#
# **Paired or not?** Runs of one seed that share the split, the initial weights, the draws and the noise of the samples are *not* independent: they are pairs, and the test for pairs asks whether the differences within a seed have mean 0. The course's own runs are made so, therefore every table of them (the README's, section 9 below, `pudm report`) uses the paired $t$-test over the seeds that two methods have in common, and says so under the table. The paper says "pair-wise $t$-test" and not whether it is paired; it prints means and standard deviations, from which the differences within a seed cannot be had. So for *its* tables Welch's test is the one that can be computed, and this section works with that.
#
# ### Exercise 07.2: t and its degrees of freedom (2 points, 15 minutes)
#
# Write `welch(a, b)`. The groups may have unlike sizes.
#
# <details><summary>Hint</summary>
#
# `x.var()` divides by $n-1$. Compute `e_a` and `e_b` once; both results are made of them.
#
# </details>


# %% tags=["exercise"]
def welch(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Welch's t and its degrees of freedom. a: (n_a,) float64, b: (n_b,) float64, one value a run."""
    # BEGIN SOLUTION
    e_a, e_b = a.var() / len(a), b.var() / len(b)
    t = (a.mean() - b.mean()) / (e_a + e_b).sqrt()
    df = (e_a + e_b) ** 2 / (e_a**2 / (len(a) - 1) + e_b**2 / (len(b) - 1))
    return t, df
    # END SOLUTION


# %%
check_07_2(welch)

# %% [markdown]
# A table prints in **bold** the best method, and every method that the test at 5 % does not tell from the best. Rates are better when high, distances when low.
#
# ### Exercise 07.3: what is bold (2 points, 15 minutes)
#
# Write `bold(groups, higher)`, with Welch's test. `welch_t_test(a, b)` of `pudm_lite.measures.metrics` gives $p$ (two-sided) for two NumPy arrays.
#
# <details><summary>Hint</summary>
#
# First the best by its mean; `higher` says whether that is the highest or the lowest. Then one test for each other group, always against the best. The best itself is bold without a test.
#
# </details>


# %% tags=["exercise"]
def bold(groups: Tensor, higher: bool) -> Tensor:
    """Which methods are bold. groups: (k, seeds) float64, a row a method. higher: whether more is better. Returns (k,) bool."""
    # BEGIN SOLUTION
    means = groups.mean(1)
    best = int(means.argmax() if higher else means.argmin())
    p = [1.0 if i == best else welch_t_test(group.numpy(), groups[best].numpy()) for i, group in enumerate(groups)]
    return torch.tensor(p) >= 0.05
    # END SOLUTION


# %%
check_07_3(bold)

# %% [markdown]
# For the test one needs the runs; but $t$ and $\nu$ are made of means, standard deviations and numbers of runs alone, and those the paper prints. So its bold can be computed again, for independent runs and up to the rounding of three digits:

# %%
from_runs = ttest_ind([1.0, 2.0, 4.0], [2.0, 3.5, 6.0, 5.0], equal_var=False)
by_numbers = ttest_ind_from_stats(7 / 3, np.std([1, 2, 4], ddof=1), 3, 4.125, np.std([2, 3.5, 6, 5], ddof=1), 4, equal_var=False)
assert math.isclose(from_runs.pvalue, by_numbers.pvalue)

for number, pick, what in ((2, max, "rate"), (3, min, "FID")):
    print(f"Table {number}, {what}: the best, and p of each other method against it")
    for configuration in ("cifar10-vehicles", "stl10-vehicles", "stl10-animals"):
        line = TABLE[number][configuration]
        first = pick(line, key=lambda method: line[method][0])
        p = {
            method: ttest_ind_from_stats(*line[method], 5, *line[first], 5, equal_var=False).pvalue
            for method in line
            if method != first
        }
        print(f"  {configuration:17s} {first:13s}" + ", ".join(f"{method} p = {value:.2g}" for method, value in p.items()))

# %% [markdown]
# **Reading it.** In Table 2 there is no doubt anywhere: the proposed method is the best, and every $p$ is tiny, so tiny that paired or not would hardly matter. Table 3 has all three cases. On CIFAR10 (vehicles) the proposed method has the best FID, alone. On STL10 (vehicles) it has the lowest mean, and nothing is told apart: all three are bold. On STL10 (animals) it is *worse* by 14 units, without doubt. The paper sums up with "a comparable or slight deterioration in FID": that is the middle of these three.
#
# ## 7. How many seeds?
#
# *The question: "not different" - or too few runs to see it?* The **power** of a test is the share of repeated experiments in which it finds a difference that is there. It can be simulated: draw the runs of two methods around their means, test, repeat.
#
# For that one must *assume* means and standard deviations. We shall take those that the paper observed, and that is a weak point which must be said: it is **post-hoc** power. It asks: "were the truth exactly what was seen, how often would a repeat see it?" About the experiment that was made it says nothing which $p$ does not say already (a $p$ at the border of 5 % always has a power of about one half). Its use is to plan the *next* one. And the observed standard deviations, of five runs, are off by 35 % in either direction, so the number of seeds that is needed, which goes with their square, is known to a factor of about two.
#
# ### Exercise 07.4: power (3 points, 20 minutes)
#
# Write `power(mean_a, sd_a, mean_b, sd_b, seeds, repeats)`: the share of `repeats` experiments of `seeds` runs a method in which Welch's test has $p < 0.05$.
#
# <details><summary>Hint</summary>
#
# `rng.normal(mean, sd, (repeats, seeds))` draws all experiments at once, and `ttest_ind(a, b, axis=1, equal_var=False).pvalue` tests each row.
#
# </details>


# %% tags=["exercise"]
def power(mean_a: float, sd_a: float, mean_b: float, sd_b: float, seeds: int, repeats: int) -> float:
    """Share of repeats in which Welch's test of `seeds` runs a method has p < 0.05. Runs are Gaussian, (repeats, seeds)."""
    # BEGIN SOLUTION
    rng = np.random.default_rng(0)
    a, b = (rng.normal(mean, sd, (repeats, seeds)) for mean, sd in ((mean_a, sd_a), (mean_b, sd_b)))
    return float((ttest_ind(a, b, axis=1, equal_var=False).pvalue < 0.05).mean())
    # END SOLUTION


# %%
check_07_4(power)

# %% tags=["expected"]
REPEATS = {"fast": 100, "lab": 2000, "full": 5000}[LAB.mode]
SEEDS = (2, 3, 4, 5, 7, 10, 15, 25, 40, 70)
CASES = (
    ("rate, STL10 (vehicles)", 2, "stl10-vehicles", style.BLUE, "o", "-"),
    ("FID, CIFAR10 (vehicles)", 3, "cifar10-vehicles", style.ORANGE, "s", "--"),
    ("FID, STL10 (vehicles)", 3, "stl10-vehicles", style.BLACK, "^", "-."),
)
rng = np.random.default_rng(0)
figure, ax = plt.subplots(figsize=(10.5, 3.7))
for name, number, configuration, colour, marker, dash in CASES:
    (mean_a, sd_a), (mean_b, sd_b) = (TABLE[number][configuration][method] for method in ("unsupervised", "proposed"))
    found = []
    for seeds in SEEDS:
        a, b = (rng.normal(mean, sd, (REPEATS, seeds)) for mean, sd in ((mean_a, sd_a), (mean_b, sd_b)))
        found.append(float((ttest_ind(a, b, axis=1, equal_var=False).pvalue < 0.05).mean()))
    ax.plot(SEEDS, found, dash, marker=marker, color=colour, label=f"{name}: {mean_a:g} to {mean_b:g}")
    print(f"{name:24s}" + ", ".join(f"{seeds}: {share:.2f}" for seeds, share in zip(SEEDS, found, strict=True)))
ax.axvline(5, color="grey", ls=":", lw=1.2, label="the paper: 5 seeds")
ax.axhline(0.05, color="grey", lw=1, label="found where there is nothing: 5 %")
ax.set(xscale="log", xlabel="seeds a method", ylabel="power (share found)", ylim=(0, 1.04))
ax.set_xticks(SEEDS, SEEDS)
ax.minorticks_off()
ax.set_title("Unsupervised against proposed, with the paper's means and standard deviations", fontsize=10)
ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1))
style.show(figure, alt="Power by number of seeds: the rate is seen with three, CIFAR10's FID with five or more, STL10's FID with dozens")

# %% [markdown]
# **Reading it.** For the rates three seeds would have been enough. CIFAR10's two units of FID are found by five seeds in about nine experiments of ten, because the runs there scatter by less than one unit. STL10's two units hide in a scatter of four: were the observed numbers the truth, five seeds would find them in one experiment of nine, and for four in five one would need more than 40 seeds a method, give or take a factor of two. Why STL10's runs scatter more, the table does not say; fewer training images and fewer samples are at hand as reasons.
#
# **Question in words.** In Table 3 the FID of the proposed method on STL10 (vehicles), 120.6, stands beside 122.8 of the unsupervised one, and is not different from it by the test. Which of these two sentences is warranted: "the method does not change the FID", "five runs do not show whether it changes the FID by a few units"? What would you report beside the bold?

# %% [markdown] tags=["answer"]
# The second. A test that would find a difference of this size in about one experiment out of nine says next to nothing when it finds none. What is warranted is an interval, which needs no assumed truth: the difference of the means, 2.2, with its standard error, $\sqrt{3.539^2/5 + 4.256^2/5} \approx 2.5$, so roughly $2.2 \pm 5.7$ at 95 % (eight degrees of freedom): the FID may have improved by eight units or worsened by three or four. The paper's own conclusion, that the deterioration is small, holds in that sense: changes of dozens of units are excluded, changes of a few are not.

# %% [markdown]
# ## 8. Why 120 is not worse than 35
#
# *The question: CIFAR10's FID is 34, STL10's 122: is the STL10 model three times as bad?* A Fréchet distance is measured in units of features, and how far the *same* fault moves features depends on the real images. Take a perfect model with one fault, the paper's: a share of its samples is sensitive. We make its "samples" of real normal test images and images of $\mathcal S$, and measure their distance to other real normal images; once where all normal classes count as the real set, once where a single class does, with the same number of images.

# %%
test = source(data.configuration.dataset, train=False)
labels = test.labels[data.split.test]
single = int(labels.mode().values)
sets = {"all normal classes": data.test, f"class {test.classes[single]} alone": data.test[labels == single]}
n_each = min(min(len(images) for images in sets.values()) // 2, len(data.split.s) * 4)
SHARES = (0, 0.05, 0.1, 0.2)
sensitive = data.train[data.split.s]
draws = torch.Generator().manual_seed(8)
faulty = {}
for name, images in sets.items():
    images = images[torch.randperm(len(images), generator=draws)]
    real = data.judge.look(images[:n_each]).features.numpy()
    faulty[name] = []
    for share in SHARES:
        k = round(share * n_each)
        drawn = torch.cat([images[n_each : 2 * n_each - k], sensitive[:k]])
        faulty[name].append(frechet_distance(data.judge.look(drawn).features.numpy(), real))
    found = ", ".join(f"{share:.0%}: {d:.2f}" for share, d in zip(SHARES, faulty[name], strict=True))
    print(f"{name:20s} n = {n_each}, sensitive share {found}")

figure, ax = plt.subplots(figsize=(6.8, 3.5))
for (name, distances), colour, marker, dash in zip(
    faulty.items(), (style.BLUE, style.ORANGE), ("o", "s"), ("-", "--"), strict=True
):
    ax.plot([100 * share for share in SHARES], distances, dash, marker=marker, color=colour, label=f"real set: {name}")
ax.set_xticks([100 * share for share in SHARES])
ax.set(xlabel="sensitive images among the samples (%)", ylabel="Fréchet distance (judge features)", ylim=(0, None))
ax.set_title(LAB.title("The same fault, two sets of real images"), fontsize=10)
ax.legend()
style.show(figure, alt="Fréchet distance by share of sensitive images: the same shares give unlike distances, and the lines cross")

# %% [markdown]
# **Reading it** (lab mode on the stand-in). Without any fault the distances differ already, at the same number of images: a single class spreads less, so its floor is lower. With a tenth of sensitive images the order is reversed, with a fifth clearly so. The same model with the same fault gets 0.6 or 1.7, 7.4 or 5.9: the number belongs to the pair of samples *and* real set. Between CIFAR10 and STL10 more than the real set changes: Inception enlarges both to 299 pixels, nine times and three times; 4,000 and 3,200 samples have unlike biases; and STL10's networks, with a tenth of the images and of the examples seen, may indeed draw worse. The two FIDs cannot say how much of the 122 is what.
#
# ## 9. The table, and the paper's finding beside yours

# %%
rows = [done.row for done in RUNS.values()]
shown = {"stl10-vehicles", "stl10-animals", LAB.plan.configuration}


def only_shown(number: int) -> str:
    """Table 2 or 3 as `pudm report` prints it, with the lines of STL10 and of this lab."""
    full = table(number, rows)
    return markdown([replace(full, lines=tuple(line for line in full.lines if line.configuration in shown))])


Markdown("\n\n".join(only_shown(number) for number in (2, 3)))

# %% [markdown]
# **Reading it.** The paper: on STL10 the method lifts the rate by about a tenth in both lines, from 0.82 and 0.86 to 0.94 and 0.95, with 200 labelled images; the FID stays where it was for vehicles and worsens for animals. Ours, on the stand-in: whatever the two numbers do, they come from one seed, after less than one pass over the data: nothing to report, and the table marks nothing. To see the effect here, train longer: `training={"steps": 3000, "batch_size": 16}` in the plan `CPU` at the top (*not run here*).
#
# ## 10. What to take along
#
# - **Little data**: the lowest point of Eq. 9 is a machine that copies. What saves a network is that it does not get there; held-out images and nearest neighbours say how far it is from it.
# - **Large images**: nine times the operations; most parameters where there are hardly any pixels.
# - **Five seeds**: enough for the rates of Table 2, not for differences of a few FID units. "Not different" is a statement about the test as well. Runs that share their seeds are pairs.
# - **FIDs** compare within one data set, one $n$, one set of features.
# - The judge, its accuracy and its interval stand beside every rate.
