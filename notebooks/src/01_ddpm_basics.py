# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 01 · What a diffusion model learns
#
# The paper of this course, Takahashi et al., *Positive-Unlabeled Diffusion Models* (ICLR 2025), changes *what a diffusion model is trained on*. Before that can make sense, the model itself has to: how an image is destroyed on purpose (Eqs. 4-6), which number says how well a network undoes it (Eq. 8), and how pictures come out of noise in the end (Eq. 3). The paper reaches Eq. 8 from a bound on the likelihood, the ELBO (Eqs. 1, 2 and 7). Here Eq. 8 is taken as it stands; that derivation, and what its simplification costs, is the subject of notebook 01b. Equation numbers are the paper's, here and in the notebooks to come.
#
# **After this notebook you can**
#
# - write the forward process in one line, and show that the line is right;
# - say what the noise error $\ell(\mathbf x)$ is, what it looks like over $t$, and why one draw of it is noisy;
# - train a small diffusion model, and say what its moving average is for;
# - draw samples with DDPM, DDIM and a few-step solver, from the same seeds, and say what steps buy.
#
# **What it costs**: in `lab` mode about two minutes and 1.3 GiB of memory on two CPU cores; no GPU, no account, no network. Free Colab T4: not run here. In `fast` mode, which the tests use, everything is tiny; `full` trains the network for its whole recipe. (The network is called `lite`: a small U-Net that a CPU can train. Section 2 meets a *noise schedule* of the same name, the one that this network is trained with.)
#
# You need: what a Gaussian is, and PyTorch tensors. Section 2 of the paper is the text beside this notebook. At each exercise stand its points and about how many minutes it takes; one with a * is longer than the others, and what follows does not need it.

# %%
import copy

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from pudm_lite.course.checks.c01 import (
    check_01_1,
    check_01_2,
    check_01_3,
    check_01_4,
    check_01_5,
    check_01_6,
)
from pudm_lite.course.widgets.w01 import noise_figure, widget01_noise, widget01_samples
from pudm_lite.datasets import to_model, to_pixels
from pudm_lite.diffusion import Process, draw_timesteps, ell, eps_from_output, noise_error, noise_schedule, q_sample
from pudm_lite.draws import generator
from pudm_lite.measures.metrics import frechet_distance, frechet_floor
from pudm_lite.networks import RECIPES
from pudm_lite.results import style
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.running import make_trainer, material
from pudm_lite.runs.machine import mode
from pudm_lite.sampling import SAMPLERS, ddim, ddpm, dpmpp, image_generators, predicted_x0, sample, timestep_grid

style.use()
MODE = mode()  # the environment variable PUDM_MODE: fast, lab (the default) or full
TRAIN_STEPS = {"fast": 12, "lab": 400, "full": RECIPES["lite"].train["steps"]}[MODE]
N_SAMPLES = {"fast": 10, "lab": 300, "full": 2000}[MODE]  # for each sampler and number of steps
SAMPLER_STEPS = {"fast": (2, 4), "lab": (4, 8, 16, 32), "full": (4, 8, 16, 32, 64, 128)}[MODE]
N_REAL = {"fast": 100, "lab": 2000, "full": 10_000}[MODE]  # real digits to measure against
print(f"mode: {MODE}; training for {TRAIN_STEPS} steps, {N_SAMPLES} samples a setting")

# %% [markdown]
# ## 1. Destroying a digit, a little at a time
#
# **The question**: how do you turn a picture into pure noise so gently that each small step can be undone?
#
# Pictures live in *model space*: black is $-1$, white is $+1$. Our data are MNIST digits: the unlabeled set $\mathcal U$ of the course holds even digits, with one odd digit hidden among every eleven. (Why, notebooks 02 to 05 tell; here it is simply what the model learns.) The small labelled set $\mathcal S$ of odd digits comes in notebook 02. Time runs over $T = 1000$ steps. Here are three digits on the way. From left to right more of the picture is replaced by Gaussian noise, until nothing is left.
#
# Two names in the cell come a little before their explanation. `alpha_bar` is a list of $T$ numbers, one for each step, falling from almost 1 to almost 0: how much of the picture is left. `q_sample` makes the noisy picture $\mathbf x_t$ from it; you will write it yourself in Exercise 01.1.

# %% tags=["expected"]
data = material(experiment("mnist-even"))
unlabeled = data.train[data.split.u]  # U: what the model will learn from
digits = to_model(unlabeled[[0, 2, 3]])  # (3, 1, 28, 28) in [-1, 1]

alpha_bar = noise_schedule("cosine")  # alpha_bar_t of Eq. 5, for t = 0..T-1
T = len(alpha_bar)
eps = torch.randn(digits.shape, generator=generator(1, 0))

figure, axes = plt.subplots(3, 8, figsize=(8.0, 3.5))
figure.supxlabel("one digit a row, at eight steps of the cosine schedule", fontsize=10)
for column, t in enumerate([0, 142, 285, 428, 571, 714, 857, 999]):
    x_t = q_sample(digits, torch.full((3,), t), eps, alpha_bar)
    axes[0, column].set_title(f"t = {t}")
    for row in range(3):
        axes[row, column].imshow(x_t[row, 0], vmin=-1, vmax=1)
        axes[row, column].set_axis_off()
style.show(figure, alt="Three digits, each at eight steps t from 0 to 999: clean at the left, pure noise at the right")

# %% [markdown]
# Up to about the middle you can name each digit; somewhere after it you can only guess, and at the right end nothing tells the three rows apart. Keep that middle in mind: *what* a digit is gets decided there, not at the clean end.
#
# (The paper counts $t = 1, \dots, T$; the code counts $t = 0, \dots, T-1$, as Diffusers does. `alpha_bar[0]` is what is left after the *first* step.)
#
# One small step is Eq. 4: shrink the picture a little, add a little noise,
#
# $$q(\mathbf x_t \mid \mathbf x_{t-1}) = \mathcal N(\mathbf x_t;\ \sqrt{\alpha_t}\,\mathbf x_{t-1},\ (1-\alpha_t)\,\mathbf I).$$
#
# Read: given $\mathbf x_{t-1}$, the next picture is drawn from a Gaussian with this mean and this variance, each pixel on its own (that is what the identity matrix $\mathbf I$ says). $\alpha_t$ is a number between 0 and 1, chosen beforehand, close to 1 for a small step. Why shrink? Because then a pixel of variance 1 keeps variance $\alpha_t \cdot 1 + (1-\alpha_t) = 1$: nothing explodes, however many steps you take.

# %%
def one_step(x: Tensor, alpha_t: Tensor, noise: Tensor) -> Tensor:
    """x_t from x_{t-1}, Eq. 4. x, noise: alike in shape; alpha_t: a number. Returns a tensor like x."""
    return alpha_t.sqrt() * x + (1 - alpha_t).sqrt() * noise


alpha = alpha_bar / torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])  # alpha_t: alpha_bar is its product
assert torch.allclose(alpha.cumprod(0), alpha_bar)
assert ((alpha > 0) & (alpha < 1)).all()

# %% [markdown]
# Taking a thousand steps to make one training image would be slow. Eqs. 5 and 6 jump: with $\bar\alpha_t = \prod_{t' \le t} \alpha_{t'}$ (`alpha_bar[t]` in the code) and $\epsilon$ a picture of standard Gaussian noise,
#
# $$q(\mathbf x_t \mid \mathbf x_0) = \mathcal N(\mathbf x_t;\ \sqrt{\bar\alpha_t}\,\mathbf x_0,\ (1-\bar\alpha_t)\,\mathbf I), \qquad \mathbf x_t = \sqrt{\bar\alpha_t}\,\mathbf x_0 + \sqrt{1-\bar\alpha_t}\;\epsilon .$$
#
# Is the jump the same as the walk? Let us check. We take three pixels of a real digit (black, grey, white), send thousands of copies of them on the walk of Eq. 4, and compare the mean and the variance at *every* step with Eq. 5.

# %% tags=["expected"]
WALKERS = {"fast": 1000, "lab": 5000, "full": 20_000}[MODE]
values = digits[0].flatten()
grey = values[values.abs().argmin()]
pixels = torch.stack([torch.tensor(-1.0), grey, torch.tensor(1.0)]).double()  # (3,)

draws = generator(1, 1)
x = pixels.expand(WALKERS, 3)
means, variances, pictures_of_x = [], [], {}
for t in range(T):
    x = one_step(x, alpha[t], torch.randn(WALKERS, 3, generator=draws, dtype=torch.float64))
    means.append(x.mean(0))
    variances.append(x.var(0))
    if t in (99, 349, 649):
        pictures_of_x[t] = x[:, 2].clone()
means, variances = torch.stack(means), torch.stack(variances)  # (T, 3) each

ab = alpha_bar[:, None]
error_of_mean = ((1 - ab) / WALKERS).sqrt()  # what chance allows
assert ((means - ab.sqrt() * pixels).abs() < 5 * error_of_mean).all()
assert ((variances / (1 - ab) - 1).abs() < 5 * (2 / WALKERS) ** 0.5).all()
print(f"{WALKERS:,} walks of {T} steps: mean and variance are those of Eq. 5 at every step")
print(f"the white pixel after the last one: mean {means[-1, 2]:+.3f}, variance {variances[-1, 2]:.3f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.3))
steps = torch.arange(T)
for k, (name, colour, mark) in enumerate(
    (("black", style.BLACK, "o"), ("grey", style.BLUE, "s"), ("white", style.ORANGE, "^"))
):
    mean, sd = (ab.sqrt() * pixels)[:, k], (1 - ab[:, 0]).sqrt()
    left.plot(steps, mean, color=colour)
    left.fill_between(steps, mean - sd, mean + sd, color=colour, alpha=0.12, lw=0)
    left.plot(steps[::100], means[::100, k], mark, color=colour, label=f"{name} pixel")
left.set(xlabel="step t", ylabel="value of the pixel", title="lines: Eq. 5 (mean ± sd)    marks: walks")
left.legend(loc="lower right")
grid = torch.linspace(-3.5, 3.5, 200)
for (t, seen), colour, dash in zip(pictures_of_x.items(), (style.GREEN, style.BLUE, style.BLACK), ("-", "--", ":")):
    m, v = alpha_bar[t].sqrt() * pixels[2], 1 - alpha_bar[t]
    right.hist(seen.numpy(), 40, density=True, color=colour, alpha=0.25)
    density = (-((grid - m) ** 2) / (2 * v)).exp() / (2 * torch.pi * v).sqrt()
    right.plot(grid, density, dash, color=colour, label=f"t = {t}")
right.set(xlabel="value of the white pixel", ylabel="density", title="bars: walks    lines: Eq. 5")
right.legend()
style.show(
    figure,
    alt="Walks of single steps agree with the closed form: mean, spread, and the distribution of a white pixel",
)

# %% [markdown]
# **Reading it.** Left: the marks of the walks sit on the lines of the formula. Black, grey and white start apart and end together at 0: by the last step a pixel has forgotten what it was. The shaded band, one standard deviation, opens to $\pm 1$. Right: the *whole* distribution of a white pixel is the Gaussian of Eq. 5, not just its mean and variance. So a training image at any $t$ costs one draw of noise and one line of code. Write it.
#
# ### Exercise 01.1: the forward process (1 point, 10 minutes)
#
# Write `forward(x0, t, eps, alpha_bar)`: return $\mathbf x_t$ of Eq. 6 for a batch in which **every image has its own step** $t$.
#
# <details><summary>Hint</summary>
#
# `alpha_bar[t]` has shape `(B,)`; images have shape `(B, C, H, W)`. PyTorch lines shapes up from the *right*, so `(B,)` would be matched with the width. Give it the shape `(B, 1, 1, 1)` with `.view(-1, 1, 1, 1)`.
# </details>

# %% tags=["exercise"]
def forward(x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t of Eq. 6.

    x0, eps: (B, C, H, W), images in [-1, 1] and standard Gaussian noise. t: (B,) int in 0..T-1. alpha_bar: (T,).
    Returns (B, C, H, W).
    """
    # BEGIN SOLUTION
    ab = alpha_bar[t].view(-1, 1, 1, 1)  # (B, 1, 1, 1)
    return ab.sqrt() * x0 + (1 - ab).sqrt() * eps
    # END SOLUTION


# %%
check_01_1(forward)

# %% [markdown]
# From here on we use the package's tested version, `pudm_lite.diffusion.q_sample`, which is the same two lines.
#
# ## 2. How fast to destroy: the schedule
#
# **The question**: the formula leaves $\bar\alpha_t$ open. Does it matter how it falls?
#
# What a network can see at step $t$ depends on one number only, the ratio of signal to noise. It spans many powers of ten, so we take its logarithm:
#
# $$\text{log-SNR}(t) = \log\frac{\bar\alpha_t}{1-\bar\alpha_t}.$$
#
# At log-SNR 0 there is as much noise as signal. Three schedules are in use here: `linear` (Ho et al. 2020), `cosine` (Nichol and Dhariwal 2021) and `lite`, made for this package's network of that name.

# %% tags=["expected"]
schedules = {name: noise_schedule(name) for name in ("cosine", "linear", "lite")}
figure, ax = plt.subplots(figsize=(6.6, 3.4))
for (name, values), colour, dash in zip(schedules.items(), (style.BLUE, style.GREEN, style.ORANGE), ("-", "--", "-.")):
    ax.plot(torch.logit(values), dash, color=colour, label=name)
ax.axhline(0, color="#555555", lw=1)
ax.set(xlabel="step t", ylabel="log-SNR", title="as much noise as signal: log-SNR 0")
ax.legend()
style.show(figure, alt="The log signal-to-noise ratio of three schedules over the step t, falling from left to right")
for name, values in schedules.items():
    log_snr = torch.logit(values)
    print(
        f"{name:7s} alpha_bar from {values[0]:.4f} to {values[-1]:.5f}   log-SNR from {log_snr[0]:+.1f} to"
        f" {log_snr[-1]:+.1f}   steps with more signal than noise: {(log_snr > 0).double().mean():.0%}"
    )

# %% [markdown]
# **Reading it.** All three end in (almost) pure noise. They differ in where they spend their steps. `cosine` has exactly half of them above log-SNR 0, where the digit is plain to see. `linear` rushes through these. `lite` never shows a clean digit at all: look at its first value. Its steps lie where a digit's class is still open, because a short training has none to waste, and when such a model draws (Section 6), it goes from the least noisy step straight to the predicted picture.
#
# Move $t$ yourself. (In print, and where widgets do not run, the fixed picture below shows one position.)

# %%
one_eps = eps[:1]
style.show(
    noise_figure(digits[:1], one_eps, schedules, "cosine", 333),
    alt="A digit at t = 333 of the cosine schedule beside the log-SNR curves, a dot marking the step",
)
widget01_noise(digits[:1], one_eps, schedules)

# %% [markdown]
# Try this: set `cosine` to the step where you can only just read the digit, and note the log-SNR in the title. Then change the schedule and find the same log-SNR again. The picture is the same, at another $t$. A schedule is a *choice of how often each noise level comes up*, nothing else.
#
# ## 3. One number for one image: the noise error
#
# **The question**: how do we say how well a network undoes the noise?
#
# Give it $\mathbf x_t$ and $t$, let it guess the noise, and compare (Eq. 8):
#
# $$\ell(\mathbf x_0;\theta) = \mathbb E_{u(t),\,p(\epsilon)}\Big[\big\|\epsilon - \epsilon_\theta(\sqrt{\bar\alpha_t}\,\mathbf x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon,\ t)\big\|^2\Big].$$
#
# Piece by piece: $\epsilon_\theta$ is the network, a function of the noisy picture and of $t$, whose weights are $\theta$; inside the brackets stands Eq. 6, the noisy picture itself. $u(t)$ draws the step $t$, every step equally often, and $p(\epsilon)$ draws standard Gaussian noise; $\mathbb E$ is the average over both. So $\ell(\mathbf x_0;\theta)$ belongs to *one picture* $\mathbf x_0$: how wrong the network is about noise put on that picture, averaged over all noise levels and all noise.
#
# What has this to do with how *likely* the model finds the picture? The logarithm of its probability has a lower bound, the ELBO (Eq. 7), and minus the ELBO is a sum over $t$ of the same squared errors, each with a weight that the schedule fixes, and of two ends: one without $\theta$, and the last step, from a guess to the pixels themselves. Eq. 8 leaves weights and ends out ("can be simplified", says the paper, after Ho et al. 2020, and writes $-\mathcal L_{\rm DM} \propto \ell$): so a small $\ell$ goes with a high bound, and $\ell$ is not the bound. How much that changes is not a matter of course (notebook 01b looks into it); where this course says that a model "knows" an image, it means a small $\ell$ and no more.
#
# Two things about it are easy to miss, and both matter later:
#
# - $\|\cdot\|^2$ is a **sum** over pixels, 784 of them here. Most code averages instead. We keep one explicit number: `scale` times the *mean*; with `scale` = $C \cdot H \cdot W$ it is Eq. 8 exactly.
# - It is **one number for each image**. The mean over the batch comes later, when a *risk* is made of these numbers: the one number that training makes small. The paper's risks (Eqs. 12 to 19, notebooks 02 and 03) treat images of $\mathcal U$ and of $\mathcal S$ differently, so nothing may be averaged before.
#
# ### Exercise 01.2: the noise error of each image (1 point, 5 minutes)
#
# Write `error_per_example(eps, eps_hat, scale)` for one draw of $(t, \epsilon)$ per image: from the noise $\epsilon$ and the network's guess $\hat\epsilon$ of it, return for each image `scale` times the mean over its pixels of $(\epsilon - \hat\epsilon)^2$.
#
# <details><summary>Hint</summary>
#
# `.flatten(1)` turns `(B, C, H, W)` into `(B, C*H*W)`; then reduce over dimension 1 alone.
# </details>

# %% tags=["exercise"]
def error_per_example(eps: Tensor, eps_hat: Tensor, scale: float) -> Tensor:
    """The noise error of Eq. 8 at one draw of (t, eps) per example.

    eps, eps_hat: (B, C, H, W), the noise and its estimate. scale: what the mean over pixels is multiplied by.
    Returns (B,).
    """
    # BEGIN SOLUTION
    return scale * (eps - eps_hat).square().flatten(1).mean(1)
    # END SOLUTION


# %%
check_01_2(error_per_example)

# %% [markdown]
# ### What the network says
#
# A network need not answer with $\epsilon$. Ours answers with $\mathbf v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\,\mathbf x_0$ (Salimans and Ho 2022), which is a well-posed question at both ends: with no noise it asks for the noise, with nothing but noise it asks for the picture (as $-\mathbf x_0$). Since $\mathbf x_t$ is known, $\mathbf v$, $\epsilon$ and $\mathbf x_0$ say the same thing, and $\ell$ is always computed on $\epsilon$.
#
# ### Exercise 01.3: from v to the noise (1 point, 10 minutes)
#
# Two equations, two unknowns: Eq. 6, $\mathbf x_t = \sqrt{\bar\alpha_t}\,\mathbf x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$, and the definition of $\mathbf v$. Solve them for $\epsilon$, and write `eps_from_v(v, x_t, t, alpha_bar)` that returns it. As in 01.1 every image has its own $t$.
#
# <details><summary>Hint</summary>
#
# Multiply the definition of $\mathbf v$ by $\sqrt{\bar\alpha_t}$ and Eq. 6 by $\sqrt{1-\bar\alpha_t}$, and add: $\mathbf x_0$ drops out, and the squares of the two weights add up to 1.
# </details>

# %% tags=["exercise"]
def eps_from_v(v: Tensor, x_t: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    """The noise that a v-prediction stands for.

    v, x_t: (B, C, H, W). t: (B,) int in 0..T-1. alpha_bar: (T,). Returns (B, C, H, W).
    """
    # BEGIN SOLUTION
    ab = alpha_bar[t].view(-1, 1, 1, 1)
    return ab.sqrt() * v + (1 - ab).sqrt() * x_t
    # END SOLUTION


# %%
check_01_3(eps_from_v)

# The same round trip with the package: v made from the truth gives the truth back.
t = torch.tensor([0, 300, 999])
ab = alpha_bar[t].float().view(-1, 1, 1, 1)
v = ab.sqrt() * eps - (1 - ab).sqrt() * digits
x_t = q_sample(digits, t, eps, alpha_bar)
assert torch.allclose(eps_from_output(v, x_t, t, Process(alpha_bar, "v_prediction")), eps, atol=1e-5)
assert (noise_error(eps, eps, 784) == 0).all()  # a perfect guess has no error

# %% [markdown]
# ### What does l(x) look like over t?
#
# Before any network, two guessers whose error we can work out on paper. They tell us what a number like "$\ell = 40$" means. (`ell` in the cell is the package's Eq. 8 at given draws of $t$ and $\epsilon$: noise the images, ask for the guess, return your `error_per_example`. `Process(lite, "epsilon")` tells it the schedule, and that the answer is $\hat\epsilon$ itself and not $\mathbf v$.)
#
# 1. **Says zero**: $\hat\epsilon = 0$. The error is $\|\epsilon\|^2$, 784 on average, at every $t$.
# 2. **Knows each pixel**: it knows the mean $m$ and variance $s^2$ of every pixel over $\mathcal U$, and nothing about which pixels go together. The best guess it can make (linear in $\mathbf x_t$) and its expected error are
#
# $$\hat\epsilon = \frac{\sqrt{1-\bar\alpha_t}\,(\mathbf x_t - \sqrt{\bar\alpha_t}\,m)}{\bar\alpha_t s^2 + 1 - \bar\alpha_t}, \qquad \mathbb E\,\ell_t = \sum_{\text{pixels}} \frac{\bar\alpha_t s^2}{\bar\alpha_t s^2 + 1-\bar\alpha_t}.$$

# %%
lite = schedules["lite"].float()
pixel_mean = to_model(unlabeled).mean(0, keepdim=True)  # (1, 1, 28, 28)
pixel_variance = to_model(unlabeled).var(0, keepdim=True)


def says_zero(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(x_t)


def knows_pixels(x_t: Tensor, t: Tensor) -> Tensor:
    """The best linear guess of eps for pixels of known mean and variance."""
    ab = lite[t].view(-1, 1, 1, 1)
    return (1 - ab).sqrt() * (x_t - ab.sqrt() * pixel_mean) / (ab * pixel_variance + 1 - ab)


guesses_eps = Process(lite, "epsilon")
N_LOOKS = {"fast": 128, "lab": 512, "full": 2048}[MODE]
looked_at = to_model(unlabeled[1000 : 1000 + N_LOOKS])
steps_seen = torch.arange(0, T, 111)  # ten steps
draws = generator(1, 2)
curves = {"says zero": [], "knows each pixel": []}
for t in steps_seen:
    noise = torch.randn(looked_at.shape, generator=draws)
    for name, guess in (("says zero", says_zero), ("knows each pixel", knows_pixels)):
        curves[name].append(ell(guess, looked_at, t.expand(N_LOOKS), noise, guesses_eps, scale=784))
curves = {name: torch.stack(parts) for name, parts in curves.items()}  # (10, N_LOOKS): one number per example

ab = lite.view(-1, 1)  # (T, 1), against the pixels (1, 784)
total = ab * pixel_variance.view(1, -1) + 1 - ab  # the variance of each pixel of x_t
on_paper = {
    "says zero": torch.full((T,), 784.0),
    "knows each pixel": (ab * pixel_variance.view(1, -1) / total).sum(1),
}
for name, measured in curves.items():
    chance = measured.std(1) / N_LOOKS**0.5
    assert ((measured.mean(1) - on_paper[name][steps_seen]).abs() < 5 * chance).all()
print("both guessers err as the formulas say, at every step looked at")

# %% [markdown]
# We draw these two together with the trained network, a few cells on. First, how good a *measurement* of Eq. 8 is.
#
# ### One draw is a noisy ruler
#
# Eq. 8 is an average over all $t$ and all noise. Training never computes it: it takes **one** draw of $(t, \epsilon)$ for each image. For the guesser that knows each pixel we can work the average out exactly, for a single digit, and see what a single draw is worth.

# %% tags=["expected"]
digit = digits[:1]
weight = (1 - ab).sqrt() / total  # (T, 784): the guess is weight * (x_t - sqrt(ab) m)
miss_of_noise = (1 - weight * (1 - ab).sqrt()).square()  # what multiplies eps in eps - guess, squared
miss_of_digit = weight.square() * ab * (digit - pixel_mean).view(1, -1).square()
exact_over_t = (miss_of_noise + miss_of_digit).sum(1)  # (T,): E over eps
exact = float(exact_over_t.mean())  # and over t: Eq. 8 for this digit

N_DRAWS = 64 * {"fast": 60, "lab": 300, "full": 1000}[MODE]
spread = {}
for how in ("uniform", "stratified"):
    draws = generator(1, 3)
    found = []
    for _ in range(N_DRAWS // 64):  # in each round 64 draws of (t, eps) for the same digit
        t = draw_timesteps(64, T, how, draws)
        noise = torch.randn(64, *digit.shape[1:], generator=draws)
        found.append(ell(knows_pixels, digit.expand(64, -1, -1, -1), t, noise, guesses_eps, scale=784))
    spread[how] = torch.stack(found)  # (rounds, 64)
single = spread["uniform"].flatten()
assert abs(float(single.mean()) - exact) < 5 * float(single.std()) / N_DRAWS**0.5
print(f"Eq. 8 for this digit, exactly: {exact:.1f}")
print(f"single draws: mean {single.mean():.1f}, standard deviation {single.std():.1f}")
for how, found in spread.items():
    print(f"means of 64 draws, t {how:10s}: mean {found.mean():.1f}, standard deviation {found.mean(1).std():.2f}")

figure, ax = plt.subplots(figsize=(6.6, 3.2))
ax.hist(single.numpy(), 60, density=True, color=style.SKY, label="one draw of (t, ε)")
means_of_64 = spread["uniform"].mean(1).numpy()
ax.hist(means_of_64, 20, density=True, histtype="step", color=style.BLACK, lw=1.6, label="mean of 64 draws")
ax.axvline(exact, color=style.ORANGE, ls="--", label="Eq. 8, exactly")
ax.set(xlabel="noise error of one digit", ylabel="density")
ax.legend()
style.show(
    figure,
    alt="Single draws of the noise error spread widely around the exact value; means of 64 cluster at it",
)

# %% [markdown]
# **Reading it.** A single draw can be far off on either side, mostly because of $t$: at the least noisy steps a draw costs much (it is hard to tell the noise from the digit), pure noise costs next to nothing (it *is* the answer). But the draws are centred on the right value, and means of 64 crowd around it. The printed last line shows a free improvement that the package's trainer uses: spread the 64 values of $t$ evenly (`stratified`) instead of drawing them independently. Each $t$ is still uniform, so the mean stays right, and the spread shrinks.
#
# The recipe of `lite` goes one step further (`importance`, after Nichol and Dhariwal 2021): it draws $t$ with a probability $P(t)$ in proportion to $\sqrt{\mathbb E\,\ell_t^2}$, which it learns as it goes (a twentieth of the draws stays uniform), and multiplies each image's cost by $1/(T\,P(t))$. The mean is again Eq. 8, $\sum_t P(t)\,\frac{\ell_t}{T\,P(t)} = \frac1T \sum_t \ell_t$, and of all probabilities for $t$ this one gives a single draw the smallest spread, since hardly a draw is spent any more where $\ell_t$ is next to nothing. The weight stands on the *cost* of an image and never inside it: $w\,\ell$ and $-w\log(1-e^{-\ell})$, not $-\log(1-e^{-w\ell})$.
#
# ### Question 01.A
#
# Training minimises the mean of *single* draws of $\ell$, each far from Eq. 8. Why is this allowed, and what does the noise of a single draw cost you?

# %% [markdown] tags=["answer"]
# The expectation of a single draw over $(t, \epsilon)$ *is* Eq. 8, by definition: the estimate is unbiased, and so is its gradient, because the gradient of an average is the average of gradients. Stochastic gradient descent needs no more than that; over many steps the errors cancel. The cost is variance: steps wander, so the learning rate has to come down in the end, many steps are needed, and the curve of the training loss is too jagged to compare two models with. (Whatever is *not linear* in $\ell$, such as $e^{-\ell}$ in Eq. 10, does not become unbiased by putting a single draw into it. Notebook 02 meets that.)

# %% [markdown]
# ## 4. Train one
#
# **The question**: how much better than the guessers is a network?
#
# We train the `lite` U-Net on Eq. 9: make the mean of $\ell$ over the $N$ images $\mathbf x^{(n)}$ of $\mathcal U$ small,
#
# $$\frac1N \sum_{n=1}^N \ell(\mathbf x^{(n)};\theta), \quad (9)$$
#
# estimated at each step on a batch, with one draw of $(t, \epsilon)$ for each image. The course calls this the *unsupervised* method: every image of $\mathcal U$ is taken as it is. (Most of the recipe is not the paper's, but made for a short training: $\mathbf v$ as the network's answer, $t$ by importance, and *Muon* (Jordan et al. 2024) as the optimiser of the convolutions, whose steps have all singular values of a kernel's update alike; AdamW takes the rest. `pudm_lite/optimisers.py` is one page.) While it trains we look, now and then, at its error on test digits it never sees, always at the *same* draws of $(t, \epsilon)$, so that the curve shows the network and not the draws. And we look at two versions: the network itself, and the **moving average** of its weights.

# %%
exp = experiment("mnist-even", "unsupervised", steps=TRAIN_STEPS)
trainer = make_trainer(exp, data, folder=None)
device, process = trainer.accelerator.device, trainer.process

N_TEST = {"fast": 16, "lab": 128, "full": 1024}[MODE]
draws = generator(1, 4)
test = to_model(data.test[:N_TEST]).to(device)
test_t = draw_timesteps(N_TEST, T, "stratified", draws).to(device)
test_eps = torch.randn(test.shape, generator=draws).to(device)


def answers(network):
    """A Diffusers model returns an object; the samplers want the tensor in it."""
    return lambda x, t: network(x, t).sample


@torch.no_grad()
def test_error(network) -> float:
    return float(ell(answers(network), test, test_t, test_eps, process, 784).mean())


look_every = max(1, TRAIN_STEPS // 20)
looks = []
for record in trainer:
    if record.step % look_every == 0:
        looks.append((record.step, test_error(trainer.network), test_error(trainer.ema)))
network = trainer.ema
parameters = sum(p.numel() for p in network.parameters())
of_u = exp.train.batch_size - (exp.train.s_per_batch if exp.train.stream == "two" else 0)  # Eq. 9 has no use for S
print(f"{parameters:,} parameters, {record.step} steps, {record.step * of_u:,} images of U")
print(f"noise error on test digits: {looks[0][2]:.0f} at step {looks[0][0]}, {looks[-1][2]:.1f} at the end")

# %% tags=["expected"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.3))
step, value = torch.tensor(trainer.log["value"]).T
left.plot(step, value, color="#999999", lw=0.8, label="each batch")
width = max(1, len(step) // 20)
left.plot(step[width - 1 :], value.unfold(0, width, 1).mean(1), color=style.BLUE, label=f"mean of the last {width}")
left.set(xlabel="training step", ylabel="noise error (Eq. 8)", title="on training batches")
left.legend()
at, raw, averaged = torch.tensor(looks).T
right.plot(at, averaged, "s-", color=style.BLUE, ms=7, label="moving average of the weights")
right.plot(at, raw, "o--", color=style.ORANGE, ms=3, label="the weights themselves")
right.set(xlabel="training step", title="on test digits, the same draws each time")
right.legend()
for ax in (left, right):
    style.plain_log(ax)
style.show(
    figure,
    alt="Left: the training loss falls, jagged. Right: test error of the weights and of their moving average",
)

# %% [markdown]
# **Reading it** (lab mode). Left: the grey line is what training sees; it jitters with the images and with the draws of $(t, \epsilon)$, and two neighbouring batches cannot tell you whether anything was learned. Right: with images and draws held fixed, the descent is smooth. The two versions of the weights lie on top of each other here; Section 5 says why, and when they part.
#
# Now look at where the error is.

# %% tags=["expected"]
draws = generator(1, 5)
N_CURVE = {"fast": 8, "lab": 64, "full": 512}[MODE]
by_step = []
with torch.no_grad():
    for t in steps_seen:
        noise = torch.randn(test[:N_CURVE].shape, generator=draws).to(device)
        by_step.append(ell(answers(network), test[:N_CURVE], t.expand(N_CURVE).to(device), noise, process, 784).cpu())
by_step = torch.stack(by_step)  # (10, N_CURVE)
print(f"the less noisy half of the steps makes up {by_step[:5].sum() / by_step.sum():.0%} of the noise error")

figure, ax = plt.subplots(figsize=(7.0, 3.7))
ax.plot(on_paper["says zero"], ":", color=style.BLACK, label="says zero")
ax.plot(on_paper["knows each pixel"], "--", color=style.ORANGE, label="knows each pixel")
ax.plot(steps_seen, curves["knows each pixel"].mean(1), "^", color=style.ORANGE, ms=6)
ax.plot(steps_seen, by_step.mean(1), "o-", color=style.BLUE, label=f"network after {TRAIN_STEPS} steps")
low, high = by_step.quantile(0.1, 1), by_step.quantile(0.9, 1)
ax.fill_between(steps_seen, low, high, color=style.BLUE, alpha=0.2, lw=0, label="80 % of digits")
ticks = torch.tensor([0, 222, 444, 666, 888, 999])
ax.set_xticks(ticks, [f"{t}\n{torch.logit(lite[t]):+.1f}" for t in ticks])
ax.set(xlabel="step t of the lite schedule, and its log-SNR", ylabel="noise error, summed over pixels", yscale="log")
ax.legend()
style.show(figure, alt="Noise error over the step t for two guessers and the trained network, on a logarithmic axis")

# %% [markdown]
# **Reading it** (lab mode). The marks of the pixel guesser lie on the line worked out on paper. On the left the network is far below it: it knows which pixels go together. From about $t = 777$ on the two meet: in nearly pure noise there is hardly more to know than the average digit. At the last mark the network is even a little above the pixel guesser, which has that average exactly. (The network is measured at the marks; the straight piece between the last two is only drawn, and the true curve bends as the dashed one does.) Both curves below the dotted line (which stays at 784) fall towards large $t$, because there $\mathbf x_t$ is nearly the noise itself and little is left to guess wrong. So the *size* of $\ell$ does not say where learning matters: most of Eq. 8 comes from small $t$, as the printed share says, yet what a digit *is* gets settled where $\ell$ is small. A schedule moves weight between the two, and `lite` moves it to the right.
#
# ## 5. What the moving average does
#
# **The question**: why sample from an average of weights that never trained as such?
#
# With a large learning rate the weights do not settle; they rattle around a good place. Their average sits closer to it. The trainer keeps a running average $\bar\theta$ which after training step $t$ (no noise level here) moves by a share $w_t \approx \gamma / (\gamma + t)$ towards the newest weights ($\gamma$ is `ema_power`; after Karras et al. 2024):
#
# $$\bar\theta \leftarrow (1 - w_t)\,\bar\theta + w_t\,\theta .$$

# %%
from diffusers.training_utils import EMAModel

gamma = exp.train.ema_power


def moving_average(values: Tensor) -> Tensor:
    """The average after each step. values: (n, ...), one a step. Returns (n, ...)."""
    average, seen = values[0], []
    for t, value in enumerate(values):  # the first value enters with weight gamma / (gamma + 0) = 1
        w = gamma / (gamma + t)
        average = (1 - w) * average + w * value
        seen.append(average)
    return torch.stack(seen)


rattling = 1 + 0.3 * torch.randn(400, generator=generator(1, 6))  # one weight, rattling around 1
smooth = moving_average(rattling)

weight = torch.nn.Parameter(rattling[0].clone())  # the same by Diffusers' EMAModel, as the trainer uses it
package = EMAModel([weight], decay=0.99999, use_ema_warmup=True, inv_gamma=gamma, power=1.0)
for value in rattling:
    weight.data.copy_(value)
    package.step([weight])
assert torch.allclose(package.shadow_params[0], smooth[-1], atol=1e-4)

shares = moving_average(torch.eye(400))[-1]  # (400,): how much each value counts in the last average
assert torch.isclose(shares.sum(), torch.tensor(1.0), atol=1e-4)
alike = 1 / shares.square().sum()  # a plain mean of so many values would be as steady
print(f"after 400 steps the newest value has a share of {shares[-1]:.3f}; as steady as a mean of {alike:.0f} values")
print(f"last 100 values: standard deviation {rattling[-100:].std():.3f}; of the average {smooth[-100:].std():.3f}")

# %% [markdown]
# The average looks back over a fixed *share* of the run, so early mistakes are forgotten however long the run is. And for a whole network? In Section 4 the average had nothing to do: the learning rate, after a short warm-up, comes down to 0, so the weights settle by themselves. So let us make them rattle. We go on training the finished network with a learning rate that stays where it is, and average along the way, with a constant share $w$ this time. Then both versions draw digits (how that is done is Section 6):

# %% tags=["expected"]
RATTLE = {"fast": 6, "lab": 60, "full": 300}[MODE]
rattled, average = copy.deepcopy(network).train(), copy.deepcopy(network)
optimiser = torch.optim.AdamW(rattled.parameters(), lr=1e-3)
draws = generator(1, 7)
seen = [(0, test_error(rattled), test_error(average))]
for step in range(1, RATTLE + 1):
    x0 = to_model(unlabeled[torch.randint(len(unlabeled), (64,), generator=draws)]).to(device)
    t = draw_timesteps(64, T, "stratified", draws).to(device)
    noise = torch.randn(x0.shape, generator=draws).to(device)
    loss = ell(answers(rattled), x0, t, noise, process, 784).mean()  # Eq. 9 on a batch
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    with torch.no_grad():
        for slow, fast in zip(average.parameters(), rattled.parameters()):
            slow.lerp_(fast, 0.05)  # the formula above, w = 0.05
    if step % (RATTLE // 6) == 0:
        seen.append((step, test_error(rattled), test_error(average)))
rattled.eval()


def draw(net, sampler: str, steps: int, n: int) -> Tensor:
    """n images of seed 0, (n, 1, 28, 28) uint8. The same seed starts from the same noise, whatever the sampler."""
    parts = sample(answers(net), process, (1, 28, 28), n, sampler, steps, device=device)
    return torch.cat([to_pixels(part) for part in parts])


few = {"fast": 3, "lab": 20, "full": 25}[MODE]
figure, places = plt.subplot_mosaic([["error", "weights"], ["error", "average"]], figsize=(8.4, 3.5))
ax = places["error"]
at, raw, averaged = torch.tensor(seen).T
ax.plot(at, raw, "o--", color=style.ORANGE, label="weights")
ax.plot(at, averaged, "s-", color=style.BLUE, label="average")
ax.set(xlabel="steps after training", ylabel="noise error, test digits")
ax.legend()
for name, net in (("weights", rattled), ("average", average)):
    rows = draw(net, "ddim", few, 12).view(2, 6, 28, 28).transpose(1, 2).reshape(2 * 28, 6 * 28)
    places[name].imshow(rows, vmin=0, vmax=255)
    places[name].set_title(f"samples of the {name}")
    places[name].set_axis_off()
style.show(
    figure,
    alt="Left: test error of rattling weights and of their average. Right: twelve samples of each, same seeds",
)

# %% [markdown]
# **Reading it** (lab mode). Left: the first steps throw the weights out of their place, and the error of the test digits goes up before it comes down again. The average of these very weights rises by about a fifth as much, stays below them all the way, and at the end is nearly back where training had ended. Right: from the same seeds the two draw mostly the same digits with some strokes set differently; twelve pictures are too few to call one version better, which is why we also measure. That is what a moving average is for: a calm model at *any* time, without waiting for the learning rate to come down. Since it costs nothing but memory, we always sample from it.
#
# ## 6. From noise to a digit
#
# **The question**: the network guesses the noise in one step. Why not subtract it all at once, and what is the right *small* step back?
#
# Solve Eq. 6 for the picture: $\hat{\mathbf x}_0 = (\mathbf x_t - \sqrt{1-\bar\alpha_t}\,\hat\epsilon)/\sqrt{\bar\alpha_t}$. At large $t$ this is a blur, the average of all digits that $\mathbf x_t$ could be. So one takes a small step towards it, and asks again.
#
# If we *knew* $\mathbf x_0$, the step back from $t$ to some $s < t$ would be known exactly. It is a product of two Gaussians, what $\mathbf x_0$ says about $\mathbf x_s$ (Eq. 5) and what $\mathbf x_t$ says about it (Eq. 4, with $\alpha = \bar\alpha_t / \bar\alpha_s$ for the step taken), and again a Gaussian (Ho et al. 2020):
#
# $$q(\mathbf x_s \mid \mathbf x_t, \mathbf x_0) = \mathcal N\Big(\underbrace{\tfrac{\sqrt{\bar\alpha_s}\,(1-\alpha)}{1-\bar\alpha_t}\,\mathbf x_0 + \tfrac{\sqrt{\alpha}\,(1-\bar\alpha_s)}{1-\bar\alpha_t}\,\mathbf x_t}_{\text{mean}},\ \underbrace{\tfrac{1-\bar\alpha_s}{1-\bar\alpha_t}\,(1-\alpha)}_{\text{variance}}\ \mathbf I\Big).$$
#
# Again we check: multiply the two densities on a fine grid, and compare.

# %% tags=["expected"]
ab_t, ab_s = alpha_bar[600], alpha_bar[450]
pixel_0, pixel_t = torch.tensor(0.8, dtype=torch.float64), torch.tensor(-0.9, dtype=torch.float64)
a = ab_t / ab_s


def gauss(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return (-((x - mean) ** 2) / (2 * variance)).exp() / (2 * torch.pi * variance).sqrt()


grid = torch.linspace(-6, 6, 24_001, dtype=torch.float64)
width = grid[1] - grid[0]
from_x0 = gauss(grid, ab_s.sqrt() * pixel_0, 1 - ab_s)  # q(x_s | x_0), Eq. 5
from_xt = gauss(pixel_t, a.sqrt() * grid, 1 - a)  # q(x_t | x_s), Eq. 4, as a function of x_s
product = from_x0 * from_xt / (from_x0 * from_xt * width).sum()  # Bayes' rule
grid_mean = (grid * product * width).sum()
grid_variance = ((grid - grid_mean) ** 2 * product * width).sum()

mean = ab_s.sqrt() * (1 - a) / (1 - ab_t) * pixel_0 + a.sqrt() * (1 - ab_s) / (1 - ab_t) * pixel_t
variance = (1 - ab_s) / (1 - ab_t) * (1 - a)
assert torch.isclose(mean, grid_mean)
assert torch.isclose(variance, grid_variance)
print(f"on the grid: mean {grid_mean:.6f}, variance {grid_variance:.6f}")
print(f"closed form: mean {mean:.6f}, variance {variance:.6f}")

figure, ax = plt.subplots(figsize=(6.6, 3.0))
ax.plot(grid, from_x0, "--", color=style.GREEN, label=r"what $x_0$ says, $q(x_s \mid x_0)$")
ax.plot(grid, from_xt / (from_xt * width).sum(), ":", color=style.ORANGE, label=r"what $x_t$ says, $q(x_t \mid x_s)$")
ax.plot(grid, product, "-", color=style.BLUE, label=r"both, $q(x_s \mid x_t, x_0)$")
ax.set(xlim=(-4, 3), xlabel="value of the pixel at s = 450", ylabel="density")
ax.legend()
style.show(
    figure,
    alt="Two wide Gaussians for a pixel at step s, from x_0 and from x_t, and their narrower product between",
)

# %% [markdown]
# **Reading it.** A pixel was bright ($x_0 = 0.8$) and is dark at $t = 600$ ($x_t = -0.9$). Each of the two facts alone leaves much open about step 450; together they leave less: the product lies between the two and is narrower than either.
#
# ### Exercise 01.4: the posterior (2 points, 15 minutes)
#
# Write `posterior(x0, x_t, ab_t, ab_s)`: return the mean and the variance of $q(\mathbf x_s \mid \mathbf x_t, \mathbf x_0)$, the formula above; `ab_t` and `ab_s` stand for $\bar\alpha_t$ and $\bar\alpha_s$.
#
# <details><summary>Hint</summary>
#
# Start with `alpha = ab_t / ab_s`. Keep the closed form above: it divides by $1 - \bar\alpha_t$, which is never 0, and so still works at the last step, where $\bar\alpha_s = 1$.
# </details>

# %% tags=["exercise"]
def posterior(x0: Tensor, x_t: Tensor, ab_t: Tensor, ab_s: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t, x_0), for s < t.

    x0, x_t: (B, C, H, W). ab_t, ab_s: alpha_bar at t and at s, 0-dimensional tensors, 0 < ab_t < ab_s <= 1.
    Returns the mean (B, C, H, W) and the variance, 0-dimensional.
    """
    # BEGIN SOLUTION
    alpha = ab_t / ab_s  # of the step taken
    mean = ab_s.sqrt() * (1 - alpha) / (1 - ab_t) * x0 + alpha.sqrt() * (1 - ab_s) / (1 - ab_t) * x_t
    variance = (1 - ab_s) / (1 - ab_t) * (1 - alpha)
    return mean, variance
    # END SOLUTION


# %%
check_01_4(posterior)

# %% [markdown]
# **DDPM** sampling is this and nothing more: put the predicted $\hat{\mathbf x}_0$ where $\mathbf x_0$ should be, and draw $\mathbf x_s$ = mean + $\sqrt{\text{variance}}$ · noise. This is the step back that the paper calls $p_\theta(\mathbf x_{t-1} \mid \mathbf x_t)$ (Eq. 3), a Gaussian whose mean comes from the network; its variance is fixed here. The last step goes to $\bar\alpha_s = 1$, the clean picture itself, one step before `alpha_bar[0]`: the variance is 0, and **no noise is added**. We check it in view, by giving the package's sampler other noise:

# %%
def oracle(x_t: Tensor, t: Tensor) -> Tensor:
    """The noise in x_t, by someone who knows the digits."""
    ab = alpha_bar[t].float().view(-1, 1, 1, 1)
    return (x_t - ab.sqrt() * digits) / (1 - ab).sqrt()


x_t = q_sample(digits, torch.full((3,), 600), eps, alpha_bar)
walk = {
    seed: list(ddpm(oracle, x_t, alpha_bar.float(), torch.tensor([600, 450, 200]), image_generators(seed, 0, 3)))
    for seed in (0, 1)
}
mean = ab_s.sqrt() * (1 - a) / (1 - ab_t) * digits + a.sqrt() * (1 - ab_s) / (1 - ab_t) * x_t
noise = torch.stack([torch.randn(1, 28, 28, generator=g) for g in image_generators(0, 0, 3)])
assert torch.allclose(walk[0][0], mean + variance.sqrt().float() * noise, atol=1e-4)  # 600 -> 450: mean + noise
assert not torch.allclose(walk[0][1], walk[1][1])  # 450 -> 200: other noise, other image
assert torch.allclose(walk[0][2], digits, atol=1e-4)  # 200 -> the end: the digit, exactly,
assert torch.allclose(walk[0][2], walk[1][2], atol=1e-4)  # whatever the noise: none was added
print("the last step adds no noise; the steps before it do")

# %% [markdown]
# ### Question 01.B
#
# Ho et al. (2020) use either of two variances: the one above, and $1-\alpha$ of Eq. 4. Both are right for some data: the first if all images were one and the same, the second if every pixel were standard Gaussian noise; real data lie between, and with a thousand steps the two hardly differ. But with the second, many notebooks on the web add noise at the *last* step too. Why is that wrong, and how would you notice?

# %% [markdown] tags=["answer"]
# The last step goes to $\bar\alpha_s = 1$: no noise is left in $\mathbf x_0$ by definition, the posterior given $\mathbf x_0$ is a point, and its variance formula gives 0; $1-\alpha$ does not, so there it must be left out. (Ho et al. do so: their sampler sets the noise to 0 at the last step.) Noise added there is never removed by anything: it stays in the picture as grain. With 1,000 steps of the `linear` schedule the grain is faint (its standard deviation would be 0.01), which is why the mistake lives on; with few steps, or with `lite`, whose last step is a large one, it covers the picture. You notice it as speckle on the black background, or by the test above: the last step must not depend on the noise generator.

# %% [markdown]
# **DDIM** (Song et al. 2020) takes the same network and draws no noise at all. It keeps the guessed noise and only mixes it in at the level of the next step, Eq. 6 once more:
#
# $$\mathbf x_s = \sqrt{\bar\alpha_s}\,\hat{\mathbf x}_0 + \sqrt{1-\bar\alpha_s}\;\hat\epsilon .$$
#
# ### Exercise 01.5: a DDIM step (2 points, 10 minutes)
#
# Write `ddim_step(x_t, eps_hat, ab_t, ab_next)`: from $\mathbf x_t$ and the network's guess $\hat\epsilon$ return $\mathbf x_s$ at the next, less noisy level. `ab_t` is $\bar\alpha_t$, `ab_next` is $\bar\alpha_s$.
#
# <details><summary>Hint</summary>
#
# First $\hat{\mathbf x}_0$ from Eq. 6 solved for it, with $\bar\alpha_t$; then Eq. 6 forward again, with $\bar\alpha_s$.
# </details>

# %% tags=["exercise"]
def ddim_step(x_t: Tensor, eps_hat: Tensor, ab_t: Tensor, ab_next: Tensor) -> Tensor:
    """One deterministic step (eta = 0) from alpha_bar = ab_t to alpha_bar = ab_next.

    x_t, eps_hat: (B, C, H, W). ab_t, ab_next: 0-dimensional tensors, 0 < ab_t < ab_next <= 1. Returns (B, C, H, W).
    """
    # BEGIN SOLUTION
    x0 = (x_t - (1 - ab_t).sqrt() * eps_hat) / ab_t.sqrt()
    return ab_next.sqrt() * x0 + (1 - ab_next).sqrt() * eps_hat
    # END SOLUTION


# %%
check_01_5(ddim_step)

# %% [markdown]
# (The package's samplers also clip $\hat{\mathbf x}_0$ to $[-1, 1]$: no pixel is whiter than white, but a network's guess at large $t$ can be.)
#
# **A few-step solver.** With no noise drawn, DDIM follows a smooth path, and a smooth path can be followed in larger steps by looking at how the guess *changes* from one step to the next. DPM-Solver++ (Lu et al. 2022), `dpmpp` here, does that. How much is it worth? Let us first ask where the right answer is known: data that are Gaussian, for which the best $\hat\epsilon$ and the exact path are one line each.

# %%
def path_error(sampler, n: int, mean: float = 0.1, sd: float = 0.2) -> float:
    """How far a sampler of n steps ends from the exact path, for data that are N(mean, sd^2)."""
    ab = torch.sigmoid(torch.linspace(9, -9, n + 1, dtype=torch.float64))  # even in log-SNR
    total = (ab * sd**2 + 1 - ab).sqrt()  # the standard deviation of x_t
    z = torch.linspace(-2.5, 2.5, 11, dtype=torch.float64).view(1, 1, 1, -1)  # (x_t - mean) / total: stays on the path

    def best(x: Tensor, t: Tensor) -> Tensor:
        here = ab[t].view(-1, 1, 1, 1)
        return (1 - here).sqrt() * (x - here.sqrt() * mean) / (here * sd**2 + 1 - here)

    start = ab[-1].sqrt() * mean + total[-1] * z
    *_, end, _ = sampler(best, start, ab, torch.arange(n, -1, -1), [])
    return float((end - (ab[0].sqrt() * mean + total[0] * z)).abs().max())


print("steps   DDIM      DPM-Solver++    largest error on the exact path")
errors = {n: (path_error(ddim, n), path_error(dpmpp, n)) for n in (40, 80, 160)}
for n, (first, second) in errors.items():
    print(f"{n:5d}   {first:.5f}   {second:.6f}")
for n in (40, 80):
    assert 1.5 < errors[n][0] / errors[2 * n][0] < 2.5  # twice the steps: half the error
    assert 3 < errors[n][1] / errors[2 * n][1] < 5  # twice the steps: a quarter

# %% [markdown]
# Twice the steps halve DDIM's error and quarter that of the solver: first and second order, as their papers say, given a *perfect* network. Ours is not perfect; so on to pictures. But first, if you like, a sampler of your own.
#
# ### Exercise 01.6*: a whole sampler (3 points, 40 minutes)
#
# You have every part of DDPM. Make a sampler of them, over any grid of steps.
#
# A check can hand over numbers only, so the *network* of this exercise is made of numbers. Pictures are flat, $D$ pixels each, and pixel by pixel the network guesses along a line, with a slope and a shift of its own at each step:
#
# $$\hat\epsilon = \text{slope}_t \cdot \mathbf x_t + \text{shift}_t .$$
#
# (The guesser of Section 3 that knows each pixel is such a network.) Write `ancestral(x, noise, grid, alpha_bar, slope, shift)`. It starts with `x`, pure noise, and visits the steps $t$ of `grid`, from the noisiest to the cleanest: 999, 749, 499, 249, say. At each of them: ask the network; solve Eq. 6 for the picture (do not clip it); draw from the posterior between this step and the *next one of the grid*, with the noise that you are given (`noise[k]` at the $k$-th visit). After the last step of the grid comes the clean picture, where $\bar\alpha = 1$ and no noise is added. Return that picture.
#
# <details><summary>Hint</summary>
#
# `for k, t in enumerate(grid):`, with $\bar\alpha_s$ = `alpha_bar[grid[k + 1]]`, or `torch.ones_like(alpha_bar[t])` after the last. Your `posterior` of 01.4 takes pictures of any shape. Test it where you know what must come out: with the slope and the shift of Section 3 for a pixel of mean $m$ and variance $s^2$, many pictures must have the mean $m$.
# </details>

# %% tags=["exercise"]
def ancestral(x: Tensor, noise: Tensor, grid: Tensor, alpha_bar: Tensor, slope: Tensor, shift: Tensor) -> Tensor:
    """Draw pictures with the network slope[t] * x + shift[t], which guesses the noise.

    x: (B, D), pure noise. noise: (K, B, D), what is drawn at each visit. grid: (K,) int64, decreasing, the steps to
    visit. alpha_bar: (T,). slope, shift: (T, D). Returns (B, D).
    """
    # BEGIN SOLUTION
    for k, t in enumerate(grid):
        ab_t = alpha_bar[t]
        ab_s = alpha_bar[grid[k + 1]] if k + 1 < len(grid) else torch.ones_like(ab_t)
        eps_hat = slope[t] * x + shift[t]
        x0 = (x - (1 - ab_t).sqrt() * eps_hat) / ab_t.sqrt()
        mean, variance = posterior(x0, x, ab_t, ab_s)
        x = mean + variance.sqrt() * noise[k]  # at the last step the variance is 0
    return x
    # END SOLUTION


# %%
check_01_6(ancestral)

# %% [markdown]
# What does it draw? Below it is given the guesser that knows each pixel of $\mathcal U$, under two schedules and with few steps and many. (Until your function is written the cell says so; the picture is what to expect.)

# %% tags=["expected"]
N_DRAWN = {"fast": 8, "lab": 200, "full": 1000}[MODE]
try:
    drawn = {}
    for name, steps in (("cosine", 4), ("cosine", 28), ("cosine", 100), ("lite", 28)):
        levels = schedules[name].float()
        wide = levels.view(-1, 1)  # (T, 1), against the pixels (1, 784)
        slope = (1 - wide).sqrt() / (wide * pixel_variance.view(1, -1) + 1 - wide)
        shift = -slope * wide.sqrt() * pixel_mean.view(1, -1)
        draws = generator(1, 9)
        x, noise = (torch.randn(*shape, 784, generator=draws) for shape in ((N_DRAWN,), (steps, N_DRAWN)))
        drawn[name, steps] = ancestral(x, noise, timestep_grid(T, steps), levels, slope, shift)
except NotImplementedError:
    print("exercise 01.6 is not written yet: nothing to draw")
else:
    for (name, steps), images in drawn.items():
        off = (images.mean(0) - pixel_mean.flatten()).square().mean().sqrt()
        chance = (images.var(0).mean() / len(images)).sqrt()  # how far the mean of so many pictures strays
        spread = images.var(0).mean() / pixel_variance.mean()
        print(
            f"{name:6s} {steps:3d} steps: the means are off by {off:.3f} (chance: {chance:.3f}), the variance is "
            f"{spread:.0%} of what it is in U"
        )
    figure, axes = plt.subplots(len(drawn), 8, figsize=(6.6, 3.7))
    for line, ((name, steps), images) in zip(axes, drawn.items()):
        for ax, image in zip(line, images):
            ax.imshow(image.view(28, 28), vmin=-1, vmax=1)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(f"{name}\n{steps}", rotation=0, ha="right", va="center")
    style.show(
        figure,
        alt="Grainy average digits, one row for each schedule and number of steps: the grain is weakest with 4 steps",
    )

# %% [markdown]
# **Reading it** (lab mode). Each picture is the average digit under grain: to a network that knows every pixel and nothing of its neighbours, that is all there is to draw. The means are right at any number of steps: they are off by no more than chance has it with so many pictures. The variance is not: with few steps it falls well short. (Between 28 and 100 steps of `cosine` the eye sees no difference; the printed lines do.) The posterior has the spread that is left when $\mathbf x_0$ is *known*, and here it is only guessed; in many small steps that makes no difference, in few large ones it does. (With $1-\alpha$ for the variance the error goes the other way: Question 01.B. Try it.) And `lite` stays well below the whole however many steps it takes: its last step, from log-SNR 1 straight to the guess, leaves the grain out that the guess has not decided. For a guesser of single pixels that is much of the picture; for a network that knows digits it is little.
#
# ## 7. Three samplers, the same seeds
#
# First one image on its way, from the same noise, by DDPM and by DDIM. Under each $\mathbf x_t$ stands the picture that the network predicts from it.

# %% tags=["expected"]
WAY = {"fast": 8, "lab": 28, "full": 56}[MODE]
grid = timestep_grid(T, WAY).to(device)
shown = [round(k) for k in torch.linspace(0, WAY - 1, 7).tolist()]


@torch.no_grad()
def way(sampler: str, index: int) -> tuple[list[Tensor], list[Tensor]]:
    """x_t before each step, and the x_0 predicted from it, for one image of seed 0."""

    def eps_hat(x: Tensor, t: Tensor) -> Tensor:
        return eps_from_output(answers(network)(x, t), x, t, process)

    x = torch.randn(1, 1, 28, 28, generator=image_generators(0, index, 1)[0]).to(device)
    generators = image_generators(0, index, 1)
    torch.randn(1, 28, 28, generator=generators[0])  # the first draw was x itself
    xs = [x, *SAMPLERS[sampler](eps_hat, x, process.alpha_bar, grid, generators)]
    guesses = [
        predicted_x0(x, eps_hat(x, t.expand(1)), process.alpha_bar[t]) for x, t in zip(xs, grid, strict=False)
    ]
    return [x[0, 0].cpu() for x in xs[:-1]], [g[0, 0].cpu() for g in guesses]


figure, axes = plt.subplots(4, 7, figsize=(7.0, 4.4))
figure.supxlabel(f"seven of {WAY} steps on the lite schedule", fontsize=10)
for half, name in enumerate(("ddpm", "ddim")):
    for row, images in enumerate(way(name, 0)):
        for column, k in enumerate(shown):
            axes[2 * half + row, column].imshow(images[k], vmin=-1, vmax=1)
            axes[2 * half + row, column].set(xticks=[], yticks=[])
        axes[2 * half + row, 0].set_ylabel((f"{name.upper()}\n$x_t$", r"predicted $x_0$")[row], fontsize=9)
for column, k in enumerate(shown):
    axes[0, column].set_title(f"t = {int(grid[k])}")
style.show(
    figure,
    alt="One image from noise to digit by DDPM and by DDIM; under each noisy image the picture predicted from it",
)

# %% [markdown]
# **Reading it** (lab mode). At $t = 999$ both predict the same blur. Then the prediction takes shape: first a rough place for the ink, then a class, then an outline. DDPM draws fresh noise at each step, so its prediction can change its mind several times on the way; DDIM's is settled early by the noise it started from. Note the last column: the digit is done while $\mathbf x_t$ is still grainy, and the last step of `lite` jumps to the prediction.
#
# Now many pictures: three samplers, several numbers of steps, always the same seeds. To measure them we use a *judge*: a network that was trained to classify real digits and comes with the package. We ask it how sure it is of what it sees, and how far its features of our samples are from those of real digits of $\mathcal U$ (a Fréchet distance: the gap between two clouds of feature vectors, each described by its mean and covariance; smaller is better; notebook 04 takes it apart). One warning beforehand: a judge can be sure and wrong. The last printed line shows how sure it is of pure noise, so its confidence counts only together with the distance.

# %% tags=["expected"]
real = data.judge.look(unlabeled[2000 : 2000 + N_REAL])
real_features, real_confidence = real.features.numpy(), float(real.confidence.mean())
floor = frechet_floor(real_features, N_SAMPLES)

pictures: dict[int, dict[str, Tensor]] = {}
captions: dict[int, dict[str, list[str]]] = {}
quality: dict[tuple[str, int], tuple[float, float]] = {}
for steps in SAMPLER_STEPS:
    pictures[steps], captions[steps] = {}, {}
    for sampler in SAMPLERS:
        images = draw(network, sampler, steps, N_SAMPLES)
        verdict = data.judge.look(images)
        quality[sampler, steps] = (
            float(verdict.confidence.mean()),
            frechet_distance(verdict.features.numpy(), real_features),
        )
        pictures[steps][sampler] = images
        calls = zip(verdict.classes.tolist(), verdict.confidence.tolist())
        captions[steps][sampler] = [f"a {digit}, {sure:.0%} sure" for digit, sure in calls]
print("          mean confidence of the judge      Fréchet distance")
for sampler in SAMPLERS:
    sure = "  ".join(f"{quality[sampler, steps][0]:.3f}" for steps in SAMPLER_STEPS)
    far = "  ".join(f"{quality[sampler, steps][1]:6.2f}" for steps in SAMPLER_STEPS)
    print(f"{sampler:6s}    {sure}   {far}    at {', '.join(map(str, SAMPLER_STEPS))} steps")
print(f"real digits: {real_confidence:.3f}; {floor:.2f} between {N_SAMPLES} of them and the others")
pure_noise = data.judge.look(to_pixels(torch.randn(100, 1, 28, 28, generator=generator(1, 8))))
far = frechet_distance(pure_noise.features.numpy(), real_features)
print(f"pure noise:  {float(pure_noise.confidence.mean()):.3f}; {far:.0f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.4))
for sampler, colour, mark in (("ddpm", style.BLACK, "o-"), ("ddim", style.ORANGE, "s--"), ("dpmpp", style.BLUE, "^-.")):
    sure, far = zip(*(quality[sampler, steps] for steps in SAMPLER_STEPS))
    left.plot(SAMPLER_STEPS, sure, mark, color=colour, label=sampler)
    right.plot(SAMPLER_STEPS, far, mark, color=colour, label=sampler)
left.axhline(real_confidence, color="#555555", lw=1, ls=":", label="real digits")
right.axhline(floor, color="#555555", lw=1, ls=":", label="real digits")
for ax in (left, right):
    ax.set_xscale("log", base=2)
    ax.set_xticks(SAMPLER_STEPS, SAMPLER_STEPS)
    ax.set_xlabel("sampler steps (network calls)")
left.set(ylabel="mean confidence of the judge", title="higher is better")
right.set(ylabel="Fréchet distance", title="lower is better")
style.plain_log(right)
left.legend()
style.show(figure, alt="Judge confidence and Fréchet distance over the steps of DDPM, DDIM and DPM-Solver++")

rows = [(sampler, steps) for steps in (SAMPLER_STEPS[0], SAMPLER_STEPS[-1]) for sampler in SAMPLERS]
figure, axes = plt.subplots(len(rows), 9, figsize=(6.6, 4.6))
figure.supxlabel("each column starts from the same noise", fontsize=10)
for line, (sampler, steps) in zip(axes, rows):
    for ax, image in zip(line, pictures[steps][sampler]):
        ax.imshow(image[0], vmin=0, vmax=255)
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(f"{sampler}\n{steps}", rotation=0, ha="right", va="center")
style.show(
    figure,
    alt="Nine seeds drawn by three samplers, with few steps and with many: columns share their starting noise",
)

# %% [markdown]
# **Reading it** (lab mode). With 4 steps the samplers differ: by the distance the solver comes closest to real digits and DDPM is far behind (its first row has several smudges). The judge's confidence hardly shows it: at no number of steps do the three differ by more than three hundredths; at 8 steps it is highest for DDPM, whose distance is still the largest; and it does not rise as the distances fall. Confidence alone would have misled us. From 16 steps on each sampler has nearly reached what it can do, DDIM and the solver a little ahead of DDPM, and 32 buy hardly anything more. What is left, the gap to the dotted line, is the network after so short a training; no sampler can give what it has not learned. (With a few hundred samples, do not read anything into small differences.) In the pictures, DDIM and DPM-Solver++ draw nearly the same digit from a seed, and with 4 steps already a rough version of what they draw with 32. DDPM draws another one, and another again with other steps: its noise on the way decides as well.
#
# Browse the rest. The pictures are the ones just drawn; the slider `image` walks through the seeds, `steps` through the numbers of steps.

# %%
widget01_samples(pictures, captions)

# %% [markdown]
# ### Question 01.C
#
# DDIM and DPM-Solver++ give nearly the same picture from the same seed, DDPM another. Which of them would you use to find out how a *change in training* changes what a model draws, and why?

# %% [markdown] tags=["answer"]
# One without noise of its own, DDIM or DPM-Solver++: the picture is then a function of the starting noise and the network alone, so a difference between two pictures of one seed comes from the networks. With DDPM the comparison works as well *if* both networks get the same noise at every step on the way. The package sees to that: an image's noise has an address (seed, image), whatever the network and the batch. For *rates* over many samples any sampler will do, as long as both models get the same one.

# %% [markdown]
# ## What to take along
#
# - **Eq. 6** jumps to any noise level in one line; the schedule decides how often each level comes up.
# - **$\ell(\mathbf x)$ is one number per image**, a sum over pixels; a single draw of it is noisy and unbiased. The rest of the course builds risks from these numbers.
# - **The average of the weights** is what we sample from.
# - **The last step adds no noise**, and few-step solvers are worth their extra line.
#
# The model you trained learned $\mathcal U$ as it is, one digit in eleven of it odd. Notebook 02 starts telling it what not to draw; 01b first asks where $\ell$ comes from.
