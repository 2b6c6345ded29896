# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 01b · From the likelihood to $\ell(\mathbf x)$, and what it promises
#
# Takahashi et al., *Positive-Unlabeled Diffusion Models* (ICLR 2025), say in one sentence what they do: *maximise the ELBO for normal data and minimise it for sensitive data*. The course works with $\ell(\mathbf x)$ (Eq. 8) instead, and the paper goes from the one to the other with a sign, $-\mathcal L_{\rm DM}(\mathbf x_0;\theta) \propto \ell(\mathbf x_0;\theta)$. This notebook walks that way (Eqs. 1, 2, 7 and 8), weighs what falls by the wayside, and asks which model each risk of the paper converges to. It ends with the paper's sentence, measured. Equation numbers are the paper's.
#
# **After this notebook you can**
#
# - derive the bound of Eq. 7 as a sum over steps, and compute it in bits for real digits;
# - say which weights Eq. 8 drops, and how much of the bound it leaves out altogether;
# - read a network as a noise estimate, as a denoiser, as a score or as $\mathbf v$: one thing with four names;
# - say which model minimises Eq. 9, Eq. 12 and Eq. 18 when data and network are endless;
# - say what a small or a large ELBO guarantees, and what it does not.
#
# **What it costs**: in `lab` mode less than two minutes and 1.0 GiB of memory on two CPU cores, with the networks that `data/` holds (without them it trains two, about three minutes of a quiet core each); in `fast` mode, which the tests use, seconds. No GPU is needed (free Colab T4: not run here).
#
# You need notebook 01 and the Kullback-Leibler divergence of two distributions, $D(q\,\|\,p) = \mathbb E_q[\log (q/p)] \ge 0$ (*the divergence*, below), which is 0 where they are equal. Sections 7 and 8 speak of risks that notebooks 02 and 03 build up; they print what they use, and read best after 03. This notebook is the most mathematical one of the course; you can go on to 02 without it and come back. Sections 1-4: about two hours with the exercises, 5-8: about an hour and a half; exercises with a * are longer.

# %%
import math
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from pudm_lite.course import toy
from pudm_lite.course.checks.c01b import (
    check_01b_1,
    check_01b_2,
    check_01b_3,
    check_01b_4,
    check_01b_5,
    check_01b_6,
)
from pudm_lite.course.elbo import bound, decoder_nats, decoder_std, step_weights
from pudm_lite.datasets import mnist, to_model
from pudm_lite.diffusion import Process, ell, eps_from_output, noise_schedule, q_sample
from pudm_lite.draws import generator
from pudm_lite.results import style
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.running import material
from pudm_lite.runs.machine import mode
from pudm_lite.runs.shipped import trained
from pudm_lite.sampling import timestep_grid

style.use()
MODE = mode()  # the environment variable PUDM_MODE: fast, lab (the default) or full
SETTINGS = {"fast": {"steps": 4, "batch_size": 32, "sampler_steps": 4}, "lab": {}, "full": {}}[MODE]  # {}: the recipe's
N_TEST = {"fast": 8, "lab": 128, "full": 1000}[MODE]  # test digits of each kind
FOLDER = Path(tempfile.mkdtemp()) if MODE == "fast" else Path("../outputs/lab")  # what is trained here is kept there
print(f"mode: {MODE}; {N_TEST} even and {N_TEST} odd test digits")

# %% [markdown]
# ## 1. A likelihood that cannot be computed, and a bound that can
#
# **The question**: how probable is *this* digit under a diffusion model?
#
# The model draws $\mathbf x_T$ from a standard Gaussian and then walks back, one Gaussian step at a time (Eqs. 2 and 3). What it ends with is $\mathbf x_0$; all that came before is thrown away. So the probability of $\mathbf x_0$ adds up over every walk that could have led to it (Eq. 1):
#
# $$p_\theta(\mathbf x_0) = \int p_\theta(\mathbf x_{0:T})\,d\mathbf x_{1:T}, \quad (1) \qquad\qquad p_\theta(\mathbf x_{0:T}) = p(\mathbf x_T)\prod_{t=1}^T p_\theta(\mathbf x_{t-1}\mid\mathbf x_t). \quad (2)$$
#
# Nobody can do this integral. But we know walks that *do* lead to $\mathbf x_0$: noise it (Eq. 4), and read the walk backwards. Write the integral as an average over those, and pull the logarithm inside (Jensen's inequality: the logarithm of an average is at least the average of the logarithm):
#
# $$\log p_\theta(\mathbf x_0) = \log \mathbb E_{q(\mathbf x_{1:T}\mid\mathbf x_0)}\Big[\frac{p_\theta(\mathbf x_{0:T})}{q(\mathbf x_{1:T}\mid\mathbf x_0)}\Big] \ \ge\ \mathbb E_{q(\mathbf x_{1:T}\mid\mathbf x_0)}\Big[\log\frac{p_\theta(\mathbf x_{0:T})}{q(\mathbf x_{1:T}\mid\mathbf x_0)}\Big] \equiv \mathcal L_{\rm DM}(\mathbf x_0;\theta). \quad (7)$$
#
# This is the *evidence lower bound*, ELBO. What is lost is known exactly:
#
# $$\log p_\theta(\mathbf x_0) - \mathcal L_{\rm DM}(\mathbf x_0;\theta) = D\big(q(\mathbf x_{1:T}\mid\mathbf x_0)\ \big\|\ p_\theta(\mathbf x_{1:T}\mid\mathbf x_0)\big) \ \ge\ 0 .$$
#
# Keep this line for Section 8: the ELBO is below the log-likelihood by something that depends on $\theta$, too.
#
# **A sum over steps.** Both $p_\theta$ and $q$ are products over $t$. The trick is to write $q$ backwards as well: by Bayes' rule, $q(\mathbf x_t\mid\mathbf x_{t-1}) = q(\mathbf x_{t-1}\mid\mathbf x_t,\mathbf x_0)\,q(\mathbf x_t\mid\mathbf x_0)/q(\mathbf x_{t-1}\mid\mathbf x_0)$ for $t\ge2$. In the product over $t$ the last fractions cancel each other, all but one: $q(\mathbf x_{1:T}\mid\mathbf x_0) = q(\mathbf x_T\mid\mathbf x_0)\prod_{t\ge2} q(\mathbf x_{t-1}\mid\mathbf x_t,\mathbf x_0)$. Put it into Eq. 7, and each step back of the model meets the step back of someone who knows $\mathbf x_0$, the posterior of Exercise 01.4:
#
# $$-\mathcal L_{\rm DM} = \underbrace{D\big(q(\mathbf x_T\mid\mathbf x_0)\,\|\,p(\mathbf x_T)\big)}_{L_T} + \sum_{t=2}^{T} \underbrace{\mathbb E\,D\big(q(\mathbf x_{t-1}\mid\mathbf x_t,\mathbf x_0)\,\|\,p_\theta(\mathbf x_{t-1}\mid\mathbf x_t)\big)}_{L_{t-1}} + \underbrace{\mathbb E\big[-\log p_\theta(\mathbf x_0\mid\mathbf x_1)\big]}_{L_0}. \quad (*)$$
#
# Three parts: what is left of the picture at the noisy end, what each step back gets wrong, and what the last step, from a slightly noisy picture to pixels, leaves open.
#
# Before we compute it for digits, a case where the truth is known: "images" of one pixel that are Gaussian. The best noise estimate for them is one line, so this is a perfect network. The package's `bound` is $(*)$ over the steps that a sampler visits; `decoder_nats` and `decoder_std`, the two parts of $L_0$, are explained in Section 3.

# %% tags=["expected"]
GAUSS_MEAN, GAUSS_SD = 0.1, 0.3
even_levels = torch.sigmoid(torch.linspace(9, -9, 1000, dtype=torch.float64))  # a schedule that is even in log-SNR
gauss = Process(even_levels)


def knows_gauss(x_t: Tensor, t: Tensor) -> Tensor:
    """E[eps | x_t] for pixels N(GAUSS_MEAN, GAUSS_SD^2)."""
    ab = even_levels[t].view(-1, 1, 1, 1)
    return (1 - ab).sqrt() * (x_t - ab.sqrt() * GAUSS_MEAN) / (ab * GAUSS_SD**2 + 1 - ab)


pixels = GAUSS_MEAN + GAUSS_SD * torch.randn(2000, 1, 1, 1, generator=generator(1, 20), dtype=torch.float64)
pixels = (127.5 * (pixels + 1)).round().clamp(0, 255) / 127.5 - 1  # to one of 256 levels, as images are stored
truth = decoder_nats(pixels, torch.full_like(pixels, GAUSS_MEAN), GAUSS_SD)  # -log of each level's true probability
STEPS = (16, 32, 64, 128, 256, 512)
bounds = []
for steps in STEPS:
    grid = timestep_grid(1000, steps)
    found = bound(knows_gauss, pixels, gauss, grid, decoder_std(knows_gauss, pixels, gauss, int(grid[-1])))
    bounds.append(float(found.bits.mean()))
true_bits = float(truth.mean()) / math.log(2)
print(f"truth: {true_bits:.3f} bits a pixel;  bound: " + ", ".join(f"{b:.3f} ({s})" for s, b in zip(STEPS, bounds)))
assert all(b > true_bits for b in bounds)

figure, ax = plt.subplots(figsize=(6.2, 3.1))
ax.plot(STEPS, bounds, "o-", color=style.BLUE, label="the bound of a perfect network")
ax.axhline(true_bits, color=style.ORANGE, ls="--", label="$-\\log p$, exactly")
ax.set_xscale("log", base=2)
ax.set_xticks(STEPS, STEPS)
ax.set(xlabel="steps of the sampler", ylabel="bits a pixel")
ax.legend()
style.show(
    figure, alt="The bound of a perfect network for Gaussian pixels falls towards the true value with more steps"
)

# %% [markdown]
# **Reading it.** From here on *the bound* is $-\mathcal L_{\rm DM}$, a bound of $-\log p$ from above: a code length, in bits or nats, and *small* means likely. It is above the truth everywhere, and comes down to it as steps are added. With few steps it is loose although the network is perfect: one step back of the model is a Gaussian of fixed variance, the true step back is wider, and large steps cannot follow it. So a bound belongs to a network *and* a number of steps: to a sampler.
#
# ## 2. What a step costs: the weights
#
# **The question**: how does a squared error in the noise come out of $L_{t-1}$?
#
# Let $s<t$ be the next cleaner step. The model's step back is the posterior with the predicted $\hat{\mathbf x}_0$ in place of $\mathbf x_0$ (that is DDPM, notebook 01, Section 6). So the two Gaussians in $L_{t-1}$ have *the same variance*, and only their means differ, by $\frac{\sqrt{\bar\alpha_s}(1-\alpha)}{1-\bar\alpha_t}(\mathbf x_0-\hat{\mathbf x}_0)$ with $\alpha = \bar\alpha_t/\bar\alpha_s$. The divergence of two such Gaussians is
#
# $$D\big(\mathcal N(\mu_1,\sigma^2\mathbf I)\,\|\,\mathcal N(\mu_2,\sigma^2\mathbf I)\big) = \frac{\|\mu_1-\mu_2\|^2}{2\sigma^2} .$$
#
# With $\mathbf x_0-\hat{\mathbf x}_0 = -\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}\;(\epsilon-\hat\epsilon)$ (Eq. 6, solved twice and subtracted) everything but one number is gone: $L_{t-1} = \mathbb E\big[\,w_t\,\|\epsilon-\epsilon_\theta(\mathbf x_t,t)\|^2\,\big]$.
#
# ### Exercise 01b.1: the weight of a step (1 point, 15 minutes)
#
# Work $w_t$ out on paper and write it as `step_weight(ab_t, ab_s)`; `ab_t` and `ab_s` stand for $\bar\alpha_t < \bar\alpha_s$. It becomes very short in terms of the signal-to-noise ratio $\mathrm{SNR}=\bar\alpha/(1-\bar\alpha)$.
#
# <details><summary>Hint</summary>
#
# Variance of the posterior: $\sigma^2 = \frac{1-\bar\alpha_s}{1-\bar\alpha_t}(1-\alpha)$. First show that the weight of $\|\mathbf x_0-\hat{\mathbf x}_0\|^2$ is $\frac12(\mathrm{SNR}_s-\mathrm{SNR}_t)$; the factor between the two errors is $1/\mathrm{SNR}_t$.
# </details>


# %% tags=["exercise"]
def step_weight(ab_t: Tensor, ab_s: Tensor) -> Tensor:
    """What ||eps - eps_hat||^2 at step t is multiplied by in the bound, when the next step is s.

    ab_t, ab_s: 0-dimensional tensors, 0 < ab_t < ab_s < 1. Returns a 0-dimensional tensor, > 0.
    """
    # BEGIN SOLUTION
    snr_t, snr_s = ab_t / (1 - ab_t), ab_s / (1 - ab_s)
    return (snr_s / snr_t - 1) / 2
    # END SOLUTION


# %%
check_01b_1(step_weight)

# %% [markdown]
# For small steps $\frac12(\mathrm{SNR}_s/\mathrm{SNR}_t-1)$ is about *half the step in log-SNR*. So the sum of Eq. $(*)$ is an integral over log-SNR, in which every noise level counts alike:
#
# $$\sum_t L_{t-1} \approx \tfrac12\int \mathbb E\,\|\epsilon-\epsilon_\theta\|^2\; d(\text{log-SNR}).$$
#
# Eq. 8 takes the plain mean over $t$, so it counts a noise level as often as the schedule visits it. **The dropped weights are the slope of the schedule.** (Had the schedule been a straight line in log-SNR, nothing would have been dropped. Kingma et al. 2021; Kingma and Gao 2023.) The figure shows what Eq. 8 counts too little, for the three schedules of notebook 01. (A common factor of all weights changes no minimiser, so each line is divided by its median.)

# %% tags=["expected"]
figure, ax = plt.subplots(figsize=(6.8, 3.3))
for name, colour, dash in (("cosine", style.BLUE, "-"), ("linear", style.GREEN, "--"), ("lite", style.ORANGE, "-.")):
    levels = noise_schedule(name)
    weights = step_weights(levels.flip(0)).flip(0)  # of t = 1..T-1
    ax.plot(torch.logit(levels[1:]), weights / weights.median(), dash, color=colour, label=name)
    print(f"{name:7s} largest weight / smallest: {weights.max() / weights.min():8.1f}")
ax.axhline(1, color="#777777", lw=0.8)
ax.set(yscale="log", xlim=(10, -10), xlabel="log-SNR (clean to noisy)", ylabel="$w_t$ / its median")
ax.legend()
style.show(figure, alt="The weights that Eq. 8 drops over log-SNR for three schedules: largest at the ends")

# %% [markdown]
# **Reading it.** A line above 1 marks noise levels that the ELBO would count more, beside the others, than Eq. 8 does. (That the line stands at the median is our choice; only the ratios mean something.) The cosine schedule rushes through both ends, so the ELBO would weigh these up; `lite` (a cosine, cut and moved) has no clean end at all and rushes through the noisy one; `linear` rushes through the clean end above all. Ho et al. (2020) dropped the weights because *samples* got better: most of the likelihood is in fine detail, which a person hardly looks at. Dropping them is a choice and no approximation.
#
# ## 3. The two ends
#
# **The question**: what are $L_T$ and $L_0$, which Eq. 8 leaves out altogether?
#
# $L_T$ holds nothing to be learned. It is the divergence of $\mathcal N(\sqrt{\bar\alpha_T}\,\mathbf x_0, (1-\bar\alpha_T)\mathbf I)$ from a standard Gaussian, $\frac12\sum\big(\bar\alpha_T x_0^2 - \bar\alpha_T - \log(1-\bar\alpha_T)\big)$ over the pixels, and small when almost nothing of the picture is left.
#
# $L_0$ makes pixels. A pixel is one of 256 levels, $2/255$ apart in model space. The model puts a Gaussian around the predicted picture, with standard deviation $\sigma_0$, and the probability of a level is the area above its interval, $1/255$ to either side. The outermost levels reach to infinity: whatever falls below black is black.
#
# ### Exercise 01b.2: from a guess to the probability of pixels (1 point, 15 minutes)
#
# Write `pixel_nats(x0, guess, std)`: return for each image $-\log$ of the probability of all its pixels, with the natural logarithm. Let it take images of any shape, `(B, C, H, W)` or flat, `(B, D)`: the next exercise has flat ones.
#
# <details><summary>Hint</summary>
#
# `torch.distributions.Normal(guess, std).cdf(...)` at both ends of each interval; `torch.where` replaces the upper one by 1 where the pixel is white, the lower one by 0 where it is black. The probabilities of independent pixels multiply, so their logarithms add up; `.flatten(1).sum(1)` does that whatever the shape.
# </details>


# %% tags=["exercise"]
def pixel_nats(x0: Tensor, guess: Tensor, std: float) -> Tensor:
    """L_0 of each image, in nats.

    x0: (B, ...), on the levels k / 127.5 - 1 for k = 0..255. guess: like x0. std: of every pixel, > 0.
    Returns (B,), >= 0.
    """
    # BEGIN SOLUTION
    normal = torch.distributions.Normal(guess, std)
    above = torch.where(x0 > 1 - 1 / 255, 1.0, normal.cdf(x0 + 1 / 255))
    below = torch.where(x0 < -1 + 1 / 255, 0.0, normal.cdf(x0 - 1 / 255))
    return -(above - below).log().flatten(1).sum(1)
    # END SOLUTION


# %%
check_01b_2(pixel_nats)

# %% [markdown]
# The package's `decoder_nats` is the same with more digits far from the guess, where your difference is 0 in floating point. And $\sigma_0$? Eq. 3 leaves it to the model. A natural value (the most likely one, were pixels not rounded) is the root mean squared error of the guesses on training images, which `decoder_std` measures.
#
# ### Exercise 01b.3*: the whole bound (3 points, 40 minutes)
#
# Put the three parts together. You get one draw of noise for each image *and each step*, and a network's guesses of it. Write `negative_elbo(x0, eps, eps_hat, alpha_bar, std)`: return $-\mathcal L_{\rm DM}$ of each image over all $T$ steps, in nats. Images are flat here, $D$ numbers each. The paper counts the steps $1, \dots, T$, as $(*)$ does, the code $0, \dots, T-1$:
#
# | part of $(*)$ | in the code |
# |---|---|
# | $L_T$ | at `alpha_bar[-1]` |
# | $L_{t-1}$, for $t = 2, \dots, T$ | from index $t-1$ to index $t-2$; its error is that of index $t-1$ |
# | $L_0$ | from index 0 to the pixels |
#
# For $L_0$, make $\mathbf x_t$ at index 0 with `eps[0]` (Eq. 6); then solve Eq. 6 for $\mathbf x_0$, with `eps_hat[0]` in the place of the noise. That is the guess (do not clip it).
#
# <details><summary>Hint</summary>
#
# In the code's counting the error at `t` belongs to the step from `t` to `t - 1`, so its weight is `step_weight(alpha_bar[t], alpha_bar[t - 1])`, for `t = 1, ..., T - 1`. You may call your own `step_weight` and `pixel_nats`.
# </details>


# %% tags=["exercise"]
def negative_elbo(x0: Tensor, eps: Tensor, eps_hat: Tensor, alpha_bar: Tensor, std: float) -> Tensor:
    """Minus Eq. 7 of each image, in nats, by one draw of noise at each step.

    x0: (B, D), on the levels of pixels. eps, eps_hat: (T, B, D), the noise at each step and its estimate.
    alpha_bar: (T,), falling. std: of the last step. Returns (B,).
    """
    # BEGIN SOLUTION
    last = alpha_bar[-1]
    prior = (last * x0.square() - last - torch.log(1 - last)).sum(1) / 2
    errors = (eps - eps_hat).square().sum(2)  # (T, B)
    steps = sum(step_weight(alpha_bar[t], alpha_bar[t - 1]) * errors[t] for t in range(1, len(alpha_bar)))
    x_t = alpha_bar[0].sqrt() * x0 + (1 - alpha_bar[0]).sqrt() * eps[0]
    guess = (x_t - (1 - alpha_bar[0]).sqrt() * eps_hat[0]) / alpha_bar[0].sqrt()
    return prior + steps + pixel_nats(x0, guess, std)
    # END SOLUTION


# %%
check_01b_3(negative_elbo)

# %% [markdown]
# ## 4. The bound of real digits, and the price of Eq. 8
#
# **The question**: how many bits does a digit cost under a trained network, and which of them does Eq. 8 see?
#
# We take two networks of the course: trained on $\mathcal U$ as it is (*unsupervised*, Eq. 9), and by the paper's method (*proposed*, `nnpu` in the code, Eq. 19, which notebook 03 explains). $\mathcal U$ holds even digits and one odd one among every eleven. The bound is that of the very sampler which draws this course's pictures, with its few steps. It is measured on test digits that neither network has seen, with the same noise for both.

# %%
drawn_each = {"fast": 8, "lab": 400, "full": 2000}[MODE]  # where a network has to be trained first
exps = {m: experiment("mnist-even", m, **SETTINGS, n_samples=drawn_each) for m in ("unsupervised", "nnpu")}
data = material(exps["nnpu"])
networks = {method: trained(exp, FOLDER) for method, exp in exps.items()}
device = next(networks["nnpu"].network.parameters()).device
process = networks["nnpu"].process
SAMPLER_STEPS = exps["nnpu"].sampler_steps
grid = timestep_grid(process.steps, SAMPLER_STEPS)

test = mnist(train=False)
digits = {
    kind: to_model(test.images[test.labels % 2 == odd][:N_TEST]).to(device) for odd, kind in enumerate(("even", "odd"))
}
fitted = to_model(data.train[data.split.u[:N_TEST]]).to(device)  # training images: the last step's deviation is fitted


def answers(method: str):
    """What the network of a method says, as a function of x_t and t."""
    network = networks[method].network
    return lambda x, t: network(x, t).sample.float()


NAMES = {"unsupervised": "unsupervised", "nnpu": "proposed"}
found = {}
for method in networks:
    std = decoder_std(answers(method), fitted, process, int(grid[-1]))
    for kind, x0 in digits.items():
        found[method, kind] = bound(answers(method), x0, process, grid, std)

print(f"bound over {SAMPLER_STEPS} steps       bits a pixel        nats an image: L_T    steps      L_0")
for (method, kind), b in found.items():
    error = float(b.bits.std()) / N_TEST**0.5
    print(
        f"{NAMES[method]:13s} {kind:5s} {float(b.bits.mean()):14.3f} ± {error:.3f}"
        f" {float(b.prior.mean()):21.2f} {float(b.steps.sum(1).mean()):8.1f} {float(b.decoder.mean()):8.1f}"
    )
print(f"somebody who knows nothing: 8 bits a pixel, {784 * 8 * math.log(2):.0f} nats")

# %% tags=["expected"]
one = found["unsupervised", "even"]
log_snr = torch.logit(process.alpha_bar.cpu().double()[grid])  # of the steps visited, noisiest first
per_step = one.steps.mean(0)
per_error = per_step / step_weights(process.alpha_bar.cpu().double()[grid])  # the squared error in the noise alone
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4))
shares = {"the bound's steps": per_step / per_step.sum(), "Eq. 8": per_error / per_error.sum()}
for (name, share), colour, mark in zip(shares.items(), (style.BLUE, style.ORANGE), ("o-", "s--")):
    left.plot(log_snr[:-1], share, mark, color=colour, label=name)
left.set(xlim=(2, -10), ylim=0, xlabel="log-SNR (clean to noisy)", ylabel="share of the sum", title="by noise level")
left.legend()

with torch.no_grad():  # l of the same digits, Eq. 8: one draw at each of many evenly spaced t
    T_LOOK = timestep_grid(process.steps, {"fast": 3, "lab": 14, "full": 100}[MODE])
    on_device = Process(process.alpha_bar.to(device), process.prediction)
    draws = generator(1, 21)
    l = {
        kind: torch.stack(
            [
                ell(
                    answers("unsupervised"),
                    x0,
                    torch.full((len(x0),), int(t), device=device),
                    torch.randn(x0.shape, generator=draws).to(device),
                    on_device,
                    784,
                ).cpu()
                for t in T_LOOK
            ]
        ).mean(0)
        for kind, x0 in digits.items()
    }
for kind, colour, mark in (("even", style.BLUE, "o"), ("odd", style.ORANGE, "x")):
    right.plot(l[kind], found["unsupervised", kind].nats, mark, ms=4, color=colour, label=f"{kind} digits")
right.set(xlabel=r"$\ell(x)$, Eq. 8", ylabel="bound, nats", title="one point a test digit (unsupervised)")
right.legend()
style.show(
    figure,
    alt="Left: shares of the noise levels in the bound and in Eq. 8. Right: the bound against l for test digits",
)
ratio = found["unsupervised", "even"].nats / l["even"]
parts = [float(part.mean()) for part in (one.prior, one.steps.sum(1), one.decoder)]
print(
    f"L_T {parts[0] / sum(parts):.2%}, steps {parts[1] / sum(parts):.1%}, L_0 {parts[2] / sum(parts):.1%} of the bound"
)
print(f"bound / l: from {ratio.quantile(0.1):.0f} to {ratio.quantile(0.9):.0f} for eight even digits in ten")
both = torch.stack([torch.cat([found["unsupervised", k].nats for k in digits]), torch.cat(list(l.values())).double()])
print(f"correlation of the bound with l over all digits: {float(torch.corrcoef(both)[0, 1]):.2f}")

# %% [markdown]
# **Reading it** (lab mode). Look at the parts first. Almost all of the bound is $L_0$: these networks never see a picture cleaner than log-SNR 1 (the `lite` schedule ends there, notebook 01), so the last step has to make fine grey levels out of a grainy picture, and that is expensive. A network made for likelihoods goes on to log-SNR 10 and more, and gets well below these bits. For *samples* the fine levels hardly matter. So the first price of Eq. 8 is that most bits of a digit are outside it.
#
# Left: inside the sum over steps, the two curves are the same errors, once weighed by $w_t$ and once not. The weights differ by a large factor, but mostly at the noisy end, where hardly any error is left to be weighed; so inside the sum Eq. 8 changes little. Right: were $-\mathcal L_{\rm DM}\propto\ell$ true of every image, the points would lie on a straight line through 0, and the printed ratio would be one number. It is not; but the two rise together: an image that is hard to denoise is hard to code. The sign $\propto$ in Eq. 8 reads best as "leads to the same minimiser": for a network that can do anything, each $(\mathbf x_t, t)$ has its own best answer, whatever positive weight stands in front. For a network of finite size and training, the weights say where it spends its strength.
#
# And the number of steps? The same network, a few of the same digits:

# %% tags=["expected"]
FEW = {"fast": 4, "lab": 32, "full": 200}[MODE]
for steps in {"fast": (2, 4), "lab": (7, 14, 28, 56), "full": (7, 14, 28, 56, 112)}[MODE]:
    here = timestep_grid(process.steps, steps)
    std = decoder_std(answers("unsupervised"), fitted[:FEW], process, int(here[-1]))
    b = bound(answers("unsupervised"), digits["even"][:FEW], process, here, std)
    print(
        f"{steps:4d} steps: {float(b.bits.mean()):.3f} bits a pixel; steps {float(b.steps.sum(1).mean()):6.1f} nats, "
        f"L_0 {float(b.decoder.mean()):7.1f} nats with a deviation of {std:.3f}"
    )

# %% [markdown]
# **Reading it** (lab mode). With more steps the last one starts from a cleaner picture: its deviation falls, and the steps before it have a longer way to go, so their sum grows by a few nats. The whole stays within some four per cent, and what moves it is $L_0$, not even in one direction (a few digits, one draw of noise each). The looseness that Section 1 showed belongs to the steps, and their whole sum is small beside $L_0$.
#
# ## 5. The same network, read as a score
#
# **The question**: what does the best noise estimate know about the data?
#
# The answer that minimises a mean squared error is a conditional mean, so the best network is $\epsilon^*(\mathbf x_t,t) = \mathbb E[\epsilon\mid\mathbf x_t]$. Now differentiate $p_t(\mathbf x_t) = \int p(\mathbf x_0)\,\mathcal N(\mathbf x_t;\sqrt{\bar\alpha_t}\mathbf x_0,(1-\bar\alpha_t)\mathbf I)\,d\mathbf x_0$ by $\mathbf x_t$. The gradient of the Gaussian is itself times $-(\mathbf x_t-\sqrt{\bar\alpha_t}\mathbf x_0)/(1-\bar\alpha_t) = -\epsilon/\sqrt{1-\bar\alpha_t}$; divide by $p_t$, and what remains is a conditional mean:
#
# $$\nabla_{\mathbf x_t}\log p_t(\mathbf x_t) = -\frac{\mathbb E[\epsilon\mid\mathbf x_t]}{\sqrt{1-\bar\alpha_t}} .$$
#
# The left side is called the *score*: the direction in which noisy data become likelier. So a diffusion model learns the slope of the log-density at every noise level, without ever learning a density: no constant to normalise. Put into Eq. 6, it becomes **Tweedie's formula**: the mean of the picture given its noisy version.
#
# ### Exercise 01b.4: Tweedie (1 point, 10 minutes)
#
# Write `denoised(x_t, score, ab)`: return $\mathbb E[\mathbf x_0\mid\mathbf x_t]$ from $\mathbf x_t$, the score there, and $\bar\alpha_t$.
#
# <details><summary>Hint</summary>
#
# Take the conditional mean of Eq. 6: $\mathbf x_t = \sqrt{\bar\alpha_t}\,\mathbb E[\mathbf x_0\mid\mathbf x_t] + \sqrt{1-\bar\alpha_t}\,\mathbb E[\epsilon\mid\mathbf x_t]$.
# </details>


# %% tags=["exercise"]
def denoised(x_t: Tensor, score: Tensor, ab: Tensor) -> Tensor:
    """E[x_0 | x_t] by Tweedie's formula.

    x_t, score: alike in shape. ab: alpha_bar, a 0-dimensional tensor inside (0, 1). Returns a tensor like x_t.
    """
    # BEGIN SOLUTION
    return (x_t + (1 - ab) * score) / ab.sqrt()
    # END SOLUTION


# %%
check_01b_4(denoised)

# %% [markdown]
# To see one, we go to the plane of notebook 03, where densities can be written down: normal points on five blobs of a ring, sensitive ones in its gap, $\mathcal U$ the mixture of both (a fifth sensitive).

# %% tags=["expected"]
BETA = 0.2
p_n, p_s = toy.normal_toy(), toy.sensitive_toy()
p_u = toy.mixture(p_s, p_n, BETA)
plane_process = toy.toy_process()
axis = torch.linspace(-1.1, 1.1, 61)
plane = torch.cartesian_prod(axis, axis).flip(1)  # (61 * 61, 2), x fastest
arrows = torch.cartesian_prod(*[torch.linspace(-1, 1, 13)] * 2)
figure, axes = plt.subplots(1, 3, figsize=(10.6, 3.6), sharex=True, sharey=True)
for ax, t in zip(axes, (10, 35, 70)):
    ab = plane_process.alpha_bar[t]
    field = p_u.score(arrows, ab.expand(len(arrows)))
    # the mean of x_0 from the score, and from the closed form of the best noise estimate: one thing
    eps_star = toy.exact_eps(p_u, plane_process.alpha_bar)(toy.as_images(arrows), torch.full((len(arrows),), t))
    by_eps = (arrows - (1 - ab).sqrt() * eps_star.flatten(1)) / ab.sqrt()
    assert torch.allclose((arrows + (1 - ab) * field) / ab.sqrt(), by_eps, atol=1e-4)
    ax.contourf(axis, axis, p_u.density(plane, float(ab)).view(61, 61), levels=12, cmap="Greys", alpha=0.6)
    length = field.norm(dim=1, keepdim=True)
    ax.quiver(*arrows.T, *(field / length).T, color=style.BLUE, scale=20, width=0.006, headwidth=5, headlength=5.5)
    ax.set(title=f"t = {t}, log-SNR {torch.logit(ab):+.1f}", aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
style.show(figure, alt="Arrows of the score over the noisy density of the toy, at three noise levels")

# %% [markdown]
# **Reading it.** Grey is the density of the noisy points, arrows are the direction of its score. On the left nearly every arrow points to the nearest blob (half-way between two, to both at once); with more noise the blobs melt, and the arrows agree on the middle. A sampler goes through the panels from right to left, and follows the arrows of each. Note that the sixth blob, the sensitive one in the gap at the right, attracts like any other. A model that draws no sensitive points must have *other arrows*, and Section 7 says which.
#
# ## 6. Noise, picture, v: one network
#
# **The question**: does it matter what the network is asked for?
#
# $\hat\epsilon$, $\hat{\mathbf x}_0$ and $\hat{\mathbf v} = \sqrt{\bar\alpha_t}\,\hat\epsilon - \sqrt{1-\bar\alpha_t}\,\hat{\mathbf x}_0$ (and the score) follow from each other, because $\mathbf x_t$ is known. What differs is the *size of an error*.
#
# ### Exercise 01b.5: one error, three sizes (1 point, 10 minutes)
#
# A network's squared error in the noise is $e = \|\epsilon-\hat\epsilon\|^2$. Write `error_in_x0_and_v(e, ab)`: return the squared errors of the *same* network in the picture, $\|\mathbf x_0-\hat{\mathbf x}_0\|^2$, and in $\mathbf v$, $\|\mathbf v-\hat{\mathbf v}\|^2$.
#
# <details><summary>Hint</summary>
#
# $\mathbf x_t$ is the same in both, so Eq. 6 gives $\sqrt{\bar\alpha_t}\,(\mathbf x_0-\hat{\mathbf x}_0) = -\sqrt{1-\bar\alpha_t}\,(\epsilon-\hat\epsilon)$. Put this into the difference of two $\mathbf v$ before you square.
# </details>


# %% tags=["exercise"]
def error_in_x0_and_v(e: Tensor, ab: Tensor) -> tuple[Tensor, Tensor]:
    """A squared error in the noise as one in x_0 and one in v. e, ab: (B,), ab inside (0, 1). Returns (B,), (B,)."""
    # BEGIN SOLUTION
    return e * (1 - ab) / ab, e / ab
    # END SOLUTION


# %%
check_01b_5(error_in_x0_and_v)

# %% tags=["expected"]
some = digits["even"][:1].cpu()
for t in (0, 500, 999):
    step = torch.tensor([t])
    eps = torch.randn(some.shape, generator=generator(1, 22))
    x_t = q_sample(some, step, eps, process.alpha_bar.cpu())
    with torch.no_grad():
        v_hat = answers("unsupervised")(x_t.to(device), step.to(device)).cpu()
    here = Process(process.alpha_bar.cpu(), process.prediction)
    ab = here.alpha_bar[t]
    eps_hat = eps_from_output(v_hat, x_t, step, here)
    x0_hat = (x_t - (1 - ab).sqrt() * eps_hat) / ab.sqrt()
    v = ab.sqrt() * eps - (1 - ab).sqrt() * some
    e = (eps - eps_hat).square().sum()
    in_x0, in_v = (some - x0_hat).square().sum(), (v - v_hat).square().sum()
    assert torch.isclose(in_x0, e * (1 - ab) / ab, rtol=0.02)
    assert torch.isclose(in_v, e / ab, rtol=0.02)
    print(f"t = {t:3d}: squared error in the noise {e:8.2f}, in the picture {in_x0:8.2f}, in v {in_v:8.2f}")

log_snr_line = torch.linspace(9, -9, 200)
share = torch.sigmoid(log_snr_line)
figure, ax = plt.subplots(figsize=(6.4, 3.1))
for name, weight, colour, dash in (
    ("Eq. 8 (error in the noise)", torch.ones(200), style.BLUE, "-"),
    ("error in v", 1 / share, style.GREEN, "--"),
    ("error in the picture", (1 - share) / share, style.ORANGE, "-."),
):
    ax.plot(log_snr_line, weight, dash, color=colour, label=name)
ax.set(yscale="log", xlim=(9, -9), xlabel="log-SNR (clean to noisy)", ylabel="weight of the error in the noise")
ax.legend()
style.show(
    figure, alt="What a squared error in the noise weighs if it is measured in v or in the picture, over log-SNR"
)

# %% [markdown]
# **Reading it.** Changing the *question* and changing the *loss* are two different things. A loss on $\mathbf v$ or on $\mathbf x_0$ is Eq. 8 with other weights, heavier at the noisy end. What a network is asked for, with the loss held fixed, changes only what is easy for it. This package asks for $\mathbf v$ (a network whose output is of size 1 at every noise level learns faster) and computes $\ell$ on $\epsilon$, so that Eq. 8 stays Eq. 8. `fast` mode prints the same identities for a network that has learned nothing.
#
# ## 7. What each risk converges to
#
# **The question**: give the paper's risks endless data and a network that can be anything. Which model comes out?
#
# These are the risks, from the paper's Section 3. $\mathcal S$ is a set of images labelled sensitive, $p_{\mathcal N}$ the density of normal ones, and a share $\beta$ of $\mathcal U$ is sensitive, so that $p_{\mathcal U} = \beta\,p_{\mathcal S}+(1-\beta)\,p_{\mathcal N}$ (Eqs. 13, 14):
#
# | | risk | notebook |
# |---|---|---|
# | Eq. 9 | $\mathbb E_{\mathcal U}[\ell]$: all of $\mathcal U$ is taken for normal | 01 |
# | Eq. 12 | $\mathbb E_{\mathcal U}[\ell] + \mathbb E_{\mathcal S}[-\log(1-e^{-\ell})]$: and what is in $\mathcal S$ is not | 02 |
# | Eq. 18 | $\beta\,\mathbb E_{\mathcal S}[-\log(1-e^{-\ell})] + \big(\mathbb E_{\mathcal U}[\ell] - \beta\,\mathbb E_{\mathcal S}[\ell]\big)$ | 03 |
# | Eq. 19 | Eq. 18 with $\max\{0, \cdot\}$, *the clamp*, around the brackets | 03 |
#
# $-\log(1-e^{-\ell})$ is *the push*: minus the logarithm of the probability of "sensitive", if $e^{-\ell}$ is that of "normal" (Eqs. 10, 11). It falls as $\ell$ grows. The brackets are *the normal part*; by Eq. 14 they are $(1-\beta)\,\mathbb E_{\mathcal N}[\ell]$. Eq. 15 is Eq. 18 with that in their place. (The paper writes means over the data for the expectations.)
#
# Look at one noise level and one point $\mathbf x_t$. A mean squared error splits into a distance from the conditional mean, and a rest that no network can change:
#
# $$\mathbb E_{p}[\ell] = \mathbb E_t \int p_t(\mathbf x_t)\,\big\|\epsilon_\theta(\mathbf x_t,t)-\epsilon^*_{p}(\mathbf x_t,t)\big\|^2 d\mathbf x_t + \text{const} ,$$
#
# where $p_t$ (below $p_{\mathcal U,t}$, $p_{\mathcal S,t}$) is the density of the noisy points $\mathbf x_t$ when the clean ones have the density $p$.
#
# So **Eq. 9** is lowest at $\epsilon^*_{\mathcal U}$: the model of $\mathcal U$, sensitive share included. Now take some of $\mathcal S$ away, with a weight $\omega$: in $\mathbb E_{\mathcal U}[\ell]-\omega\,\mathbb E_{\mathcal S}[\ell]$ the point $\mathbf x_t$ contributes
#
# $$p_{\mathcal U,t}\,\|\epsilon_\theta-\epsilon^*_{\mathcal U}\|^2 - \omega\,p_{\mathcal S,t}\,\|\epsilon_\theta-\epsilon^*_{\mathcal S}\|^2 ,$$
#
# a parabola in $\epsilon_\theta$ whose curvature is $p_{\mathcal U,t}-\omega\,p_{\mathcal S,t}$.
#
# ### Exercise 01b.6*: the minimiser (2 points, 25 minutes)
#
# Write `signed_eps(eps_u, eps_s, p_u, p_s, weight)`: return the $\epsilon_\theta$ at which that parabola is lowest, for $n$ points at once. Where it has no lowest point, return `nan`.
#
# <details><summary>Hint</summary>
#
# Set the derivative by $\epsilon_\theta$ to zero. The densities have shape `(n,)`, the estimates `(n, D)`: `p_u[:, None]`. A parabola has a lowest point only where its curvature is positive: `torch.where`.
# </details>


# %% tags=["exercise"]
def signed_eps(eps_u: Tensor, eps_s: Tensor, p_u: Tensor, p_s: Tensor, weight: float) -> Tensor:
    """The minimiser of E_U[l] - weight E_S[l], point by point.

    eps_u, eps_s: (n, D), the best estimates for U and for S. p_u, p_s: (n,), densities of the noisy points there.
    Returns (n, D), nan where p_u <= weight p_s.
    """
    # BEGIN SOLUTION
    left = (p_u - weight * p_s)[:, None]
    return torch.where(left > 0, (p_u[:, None] * eps_u - weight * p_s[:, None] * eps_s) / left, torch.nan)
    # END SOLUTION


# %%
check_01b_6(signed_eps)

# %% [markdown]
# Noising is linear, so Eq. 14 holds at every noise level: $p_{\mathcal U,t}-\beta\,p_{\mathcal S,t} = (1-\beta)\,p_{\mathcal N,t}$. With $\omega=\beta$ your formula is then the conditional mean under $p_{\mathcal N}$. **The normal part of Eq. 18 converges to the model of normal data**, although no normal point was ever labelled. In view, on the toy, at five noise levels, and with a weight that is too large:

# %% tags=["expected"]
points = p_u.sample({"fast": 500, "lab": 4000, "full": 20_000}[MODE], generator(1, 23))
noise = torch.randn(points.shape, generator=generator(1, 24))
LEVELS, TOO_LARGE = (10, 35, 50, 70, 85), 0.35
without_minimum, gap = [], 0.0
for t in LEVELS:
    ab, step = plane_process.alpha_bar[t], torch.full((len(points),), t)
    noisy = ab.sqrt() * points + (1 - ab).sqrt() * noise
    u, s, n = (toy.exact_eps(p, plane_process.alpha_bar)(toy.as_images(noisy), step).flatten(1) for p in (p_u, p_s, p_n))
    density_u, density_s, density_n = (p.density(noisy, float(ab)) for p in (p_u, p_s, p_n))
    minimiser = (density_u[:, None] * u - BETA * density_s[:, None] * s) / (density_u - BETA * density_s)[:, None]
    seen = density_n > 1e-3  # elsewhere the difference of two densities has no digits left
    assert torch.allclose(minimiser[seen], n[seen], atol=0.02)
    gap = max(gap, float((minimiser - n)[seen].abs().max()))
    without_minimum.append(float((density_u <= TOO_LARGE * density_s).float().mean()))
print(f"weight {BETA}, the true share: the minimum is the best estimate for p_N, to {gap:.1e}")
print(f"weight {TOO_LARGE}: at how many of the points there is no minimum")
print("  t        " + "".join(f"{t:8d}" for t in LEVELS))
print("  log-SNR  " + "".join(f"{torch.logit(plane_process.alpha_bar[t]):+8.1f}" for t in LEVELS))
print("  points   " + "".join(f"{share:8.1%}" for share in without_minimum))

# %% [markdown]
# **Reading it.** With the true share your formula gives the best estimate for $p_{\mathcal N}$ at each level. With more than is there, $p_{\mathcal U,t}-\omega\,p_{\mathcal S,t}$ is negative where the sensitive points are: at the clean end at a fifth of all points, as many as are sensitive. With more noise $p_{\mathcal S,t}$ melts into the rest, and at log-SNR +0.5 hardly a point is left without a minimum. So a share that is assumed too large does its harm at the clean and the middle levels.
#
# **The push.** Eqs. 12 and 18 also hold $-\log(1-e^{-\ell})$ on $\mathcal S$, whose slope by $\ell$ is $-r$ with $r = 1/(e^{\ell(\mathbf x)}-1)$. At a minimum only slopes count, so the push acts like more of $\mathcal S$ taken away, with the weight $r$ (for an $r$ that depends on the image, $p_{\mathcal S}$ is weighed by it before noising). What each risk is the model of:
#
# | risk | model of the signed density | |
# |---|---|---|
# | Eq. 9, unsupervised | $p_{\mathcal U}$ | $=(1-\beta)\,p_{\mathcal N}+\beta\,p_{\mathcal S}$ |
# | Eq. 12, supervised | $p_{\mathcal U}-r\,p_{\mathcal S}$ | $=(1-\beta)\,p_{\mathcal N}+(\beta-r)\,p_{\mathcal S}$ |
# | Eqs. 15 and 18, $\beta$ true | $p_{\mathcal U}-\beta(1+r)\,p_{\mathcal S}$ | $=(1-\beta)\,p_{\mathcal N}-\beta r\,p_{\mathcal S}$ |
# | Eq. 19, $\beta$ true | as Eq. 18: its normal part, $(1-\beta)\,\mathbb E_{\mathcal N}[\ell]$, is never negative in expectation | the clamp only acts on samples |
#
# So Eq. 12 takes away what the push happens to be worth. It is worth $\beta$ at $\ell=\log(1+1/\beta)$; the pixel sums of Eq. 8 are far above that, $r$ is nothing, and Eq. 12 converges to the model of $\mathcal U$, like Eq. 9. (With Eq. 8's average *inside* the push, as the paper prints it. Training puts single draws of $(t,\epsilon)$ into it, and some of those, nearly pure noise, have a small $\ell$: what these do to Eq. 12 is another matter, notebook 02, Sections 7 and 10.) Eq. 18 takes $\beta$ away whatever $\ell$ is, and what $r$ takes on top of it fades as $\ell$ grows. In numbers, for the toy's mixture, whose sensitive share is $\beta = 0.2$, *if* $\ell$ on $\mathcal S$ had a given size:

# %% tags=["expected"]
sizes = (1.0, math.log(1 + 1 / BETA), 3.0, 5.0, 10.0, 30.0)
print("sensitive share of the signed density (a negative one: no minimum on S)")
print("l on S         r      Eq. 9      Eq. 12               Eq. 18")
left_of_12 = []
for size in sizes:
    r = 1 / math.expm1(size)
    shares = BETA, (BETA - r) / (1 - r), -BETA * r / (1 - BETA - BETA * r)
    left_of_12.append(shares[1])
    told = [f"{share:.1%}" if share > -5e-4 else f"{share:.1%}, no minimum" for share in shares]
    print(f"{size:6.2f} {r:9.2g} {told[0]:>10s}   {told[1]:20s} {told[2]}")
drawn = {}
for name, share in (("Eq. 9", BETA), ("Eq. 12 at $\\ell$ = 3", left_of_12[2]), ("Eq. 18, $\\ell$ large", 0.0)):
    best = toy.exact_eps(toy.mixture(p_s, p_n, share), plane_process.alpha_bar)
    drawn[name] = toy.draw_samples(best, plane_process, {"fast": 200, "lab": 1500, "full": 5000}[MODE])
figure, axes = plt.subplots(1, 3, figsize=(9.6, 2.9), sharex=True, sharey=True)
for ax, (name, points_drawn) in zip(axes, drawn.items()):
    sensitive = p_s.log_density(points_drawn) > p_n.log_density(points_drawn)
    for kind, mark, colour in ((~sensitive, ".", style.BLUE), (sensitive, "x", style.ORANGE)):
        ax.plot(*points_drawn[:700][kind[:700]].T, mark, ms=3 if mark == "." else 4, color=colour)
    ax.set(title=f"{name}: {sensitive.float().mean():.1%} sensitive", aspect="equal", xlim=(-1.05, 1.05))
style.show(
    figure,
    alt="700 samples each of the best models of three risks: in the ring's gap lies a full blob, a hardly thinner one, and "
    "next to nothing",
)

# %% [markdown]
# **Reading it.** The samples come from the exact minimisers, nothing was trained. (A few points at the border of the gap count as sensitive even under $p_{\mathcal N}$: the blobs overlap. Of each model 700 points are shown; the titles count all.) Even an $\ell$ as small as 3 still leaves Eq. 12 most of what Eq. 9 has. At $\ell = 1$ its push takes more than $\mathcal U$ holds, so there is no minimum on $\mathcal S$: $\ell$ rises there until there is one, at $\log(1+1/\beta) = 1.79$ where nothing sensitive is left. Under Eq. 18 nothing stops that rise, and with it $r$ fades to nothing. Two things the table cannot say: whether a *finite* network with *finite* data gets there, which is the subject of notebook 03, and what happens where $p_{\mathcal U}-\omega\,p_{\mathcal S}<0$: nothing good, the risk has no minimum there, and the clamp of Eq. 19 is what holds it.
#
# ## 8. "Maximise the ELBO for normal data, minimise it for sensitive data"
#
# **The question**: what does that sentence promise?
#
# ### Question 01b.A
#
# $\log p_\theta(\mathbf x) \ge \mathcal L_{\rm DM}(\mathbf x;\theta)$. Training has brought $\mathcal L_{\rm DM}$ *up* for one image and *down* for another. What do you know about $\log p_\theta$ of each?

# %% [markdown] tags=["answer"]
# Of the first, a good deal: its log-likelihood is at least that high. Of the second, nothing: a lower bound that falls does not pull what is above it down. The gap, the divergence of Section 1, may have grown instead: the model may still draw the image by walks that $q$ would not take. So the maximised half of the sentence is a guarantee and the minimised half is none; that sensitive images get rare has to be *measured*, on samples. What Section 7 adds: at the minimum of Eq. 18 both halves are the same statement, "be the model of $p_{\mathcal N}$", whose ELBO on sensitive data is low because $p_{\mathcal N}$ is low there and not because something pushed it down.

# %% [markdown]
# Now measure: does the proposed model's bound (again $-\mathcal L_{\rm DM}$, a code length) separate normal from sensitive digits? To separate them means to rank them: of a random even and a random odd digit, how often has the odd one the larger bound, which says that it is less likely? (0.5 is no better than a coin.)


# %% tags=["expected"]
def separates_them(even: Tensor, odd: Tensor) -> float:
    """How often an odd digit's number is above an even digit's. even: (n,), odd: (m,)."""
    gap = odd[:, None] - even[None]
    return float((gap > 0).double().mean() + 0.5 * (gap == 0).double().mean())


scores = {
    "bound, unsupervised": {kind: found["unsupervised", kind].nats for kind in digits},
    "bound, proposed": {kind: found["nnpu", kind].nats for kind in digits},
    "steps alone, unsupervised": {kind: found["unsupervised", kind].steps.sum(1) for kind in digits},
    "steps alone, proposed": {kind: found["nnpu", kind].steps.sum(1) for kind in digits},
    "difference of the two bounds": {
        kind: found["nnpu", kind].nats - found["unsupervised", kind].nats for kind in digits
    },
    "difference, steps alone": {
        kind: (found["nnpu", kind].steps - found["unsupervised", kind].steps).sum(1) for kind in digits
    },
}
print("                                   nats: even           odd      odd above even")
for name, score in scores.items():
    text = [f"{float(v.mean()):8.1f} ± {float(v.std()) / N_TEST**0.5:.1f}" for v in score.values()]
    print(f"{name:30s} {text[0]:>15s} {text[1]:>15s} {separates_them(score['even'], score['odd']):10.2f}")

figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.3))
for ax, name, title, larger in zip(
    axes,
    ("bound, proposed", "difference, steps alone"),
    ("the bound of the proposed model", "how much its steps cost more than unsupervised"),
    ("less likely", "made less likely"),
):
    score = scores[name]
    both = torch.cat(list(score.values()))
    edges = torch.linspace(float(both.min()), float(both.max()), 31).numpy()
    for (kind, values), colour, fill in zip(score.items(), (style.BLUE, style.ORANGE), (True, False)):
        look = {"alpha": 0.5} if fill else {"histtype": "step", "lw": 1.8}
        ax.hist(values.numpy(), edges, color=colour, label=f"{kind} digits", **look)
    ax.set(xlabel=f"nats an image (larger: {larger})", title=title)
axes[0].set_ylabel("test digits")
axes[1].legend()
style.show(
    figure,
    alt="Histograms over even and odd test digits. The proposed model's bound: two wide hills on top of each other. How "
    "much its steps changed: even digits in a narrow hill at 0, odd ones in a wide hill to the right of it",
)
rates = {method: 1 - model.row["non_sensitive_rate"] for method, model in networks.items()}
if min(rates.values()) > 0:
    print(
        f"sensitive samples: unsupervised {rates['unsupervised']:.1%}, proposed {rates['nnpu']:.1%}: "
        f"a factor that is {math.log(rates['unsupervised'] / rates['nnpu']):.1f} nats"
    )

# %% [markdown]
# **Reading it** (lab mode). Read the lines from the top.
#
# - **The bound of one model does not separate them**, neither model's: the last column is *below* one half. Odd digits tend to have the smaller bound, because a one is a stroke on black and cheap to code whatever a model was trained on. Likelihood measures how complicated an image is before it measures what the image shows. (This is the known trouble with likelihoods as detectors of foreign images; Nalisnick et al. 2019.) By the steps alone, without $L_0$, the unsupervised model is about a coin; the proposed one does better than that, and far from well.
# - **The difference of the two bounds does.** It is a statement about the training alone: the complexity of the image cancels. The proposed method left the bound of even digits about where it was and made that of odd ones worse. That is the paper's sentence, and in this sense it is true.
# - **Few nats decide.** In the difference of the whole bounds most of the nats are $L_0$, fine grey levels; those of the steps alone are an order of magnitude fewer, and separate even from odd better. And the last printed line says how few are needed: making a kind of image rarer in the samples by such a factor takes two or three nats, of more than a thousand that an image has. A change in bits per pixel that nobody would print decides what the model draws.
#
# ### Question 01b.B
#
# A colleague trains a model with the proposed method and reports "the ELBO of sensitive test images fell by 100 nats, so the model cannot generate them any more". Name two things wrong with "so".

# %% [markdown] tags=["answer"]
# First, the direction: the ELBO is a *lower* bound, its fall does not bound the likelihood from above (Question A). Second, where the nats are: 100 nats may all be fine grey levels in $L_0$, which say nothing of whether the *kind* of image is drawn; the share of samples depends on the noise levels where the class is decided, and there one or two nats make a factor of several. Besides: the labelled and tested images are a few of the sensitive ones, and "cannot" is no word for a probability. Draw samples, have them judged, give an interval (notebook 04).

# %% [markdown]
# ## What to take along
#
# - $-\mathcal L_{\rm DM}$ is **a sum over steps**, $w_t = \frac12(\mathrm{SNR}_s/\mathrm{SNR}_t-1)$ times the squared error in the noise, plus two ends. Eq. 8 drops the ends, and counts each noise level as often as the schedule visits it.
# - **Noise, picture, score and v are one answer**; a loss on one is a loss on the other with another weight.
# - **Every risk of the paper is the model of a (signed) density**: $p_{\mathcal U}$ for Eq. 9, nearly $p_{\mathcal U}$ for Eq. 12 where $\ell$ (averaged inside the push) is large, $p_{\mathcal N}$ for Eq. 18.
# - **A maximised bound guarantees, a minimised one does not.** What a model draws is settled by few nats and has to be measured on samples.
#
# Notebook 02 goes on with the Bernoulli model $e^{-\ell}$ and its push.
