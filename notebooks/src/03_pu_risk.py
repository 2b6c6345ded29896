# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # 03 · The positive-unlabeled risk, on a toy where the answer is known
#
# Section 3.2 of Takahashi et al., *Positive-Unlabeled Diffusion Models* (ICLR 2025): Eqs. 13-19 and Algorithm 1.
#
# **After this notebook you can**
#
# - rewrite an average over normal points as averages over $\mathcal U$ and $\mathcal S$, and say what that costs;
# - write the unbiased risk (Eq. 18), the non-negative risk (Eq. 19), the step of Algorithm 1 and the absolute-value variant, and say where value and gradient differ;
# - recognise over-fitting of the unbiased risk while it happens, by the sign of $\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-$;
# - predict the bias and the variance of the estimators, and say when labelled normal points help.
#
# **What it costs**: in `lab` mode less than a minute and 0.9 GiB of memory on two CPU cores; in `fast` mode, which the tests use, seconds. No GPU is needed (free Colab T4: not run here).
#
# It helps to have met $\ell$ (notebook 01) and the push $-\log(1-e^{-\ell})$ (notebook 02). A reminder of the letters: $\mathcal U$ are the unlabeled data, a share $\beta$ of them sensitive; $\mathcal S$ the few labelled sensitive ones; $p_{\mathcal U}$, $p_{\mathcal S}$, $p_{\mathcal N}$ the distributions of unlabeled, sensitive and normal data; $\ell(\mathbf x)$ the noise error of Eq. 8, small where the model knows such points and can draw them. A *risk* is the one number, made of many $\ell$, that training makes small.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from pudm_lite import risks
from pudm_lite.course import toy
from pudm_lite.course.checks.c03 import (
    check_03_1,
    check_03_2,
    check_03_3,
    check_03_4,
    check_03_5,
    check_03_6,
    check_03_7,
)
from pudm_lite.course.widgets.w03 import landscape, landscape_figure, mixed, widget03_landscape
from pudm_lite.datasets import data_folder
from pudm_lite.draws import generator
from pudm_lite.files import read_rows
from pudm_lite.results import style
from pudm_lite.risks import bce_normal, bce_sensitive
from pudm_lite.runs.machine import mode

style.use()
MODE = mode()  # the environment variable PUDM_MODE: fast, lab (the default) or full
SIZE = {
    "fast": {"steps": 400, "width": 64, "size": 64, "samples": 400, "learning_rate": 1e-2, "pool": 4000, "draws": 2000},
    "lab": {
        "steps": 1000,
        "width": 96,
        "size": 256,
        "samples": 1500,
        "learning_rate": 3e-3,
        "pool": 20000,
        "draws": 10000,
    },
    "full": {
        "steps": 4000,
        "width": 128,
        "size": 512,
        "samples": 5000,
        "learning_rate": 3e-3,
        "pool": 100000,
        "draws": 20000,
    },
}[MODE]
print(f"mode: {MODE}; each network is trained for {SIZE['steps']} steps and draws {SIZE['samples']} points")

# %% [markdown]
# ## 1. A world in which everything is known
#
# With images one never knows $p_{\mathcal N}$, the distribution of normal data; one can only count what a judge says. So we go to the plane, where an "image" has two numbers. $p_{\mathcal N}$ is five round blobs on a ring, $p_{\mathcal S}$ one blob in the ring's gap. Twenty per cent of $\mathcal U$ is sensitive, and nobody says which; $\mathcal S$ is *tiny*, 20 points, because that is where the trouble starts.

# %%
BETA = 0.2
p_n, p_s = toy.normal_toy(), toy.sensitive_toy()
p_u = toy.mixture(p_s, p_n, BETA)
data = toy.toy_split(p_s, p_n, BETA, n_u=400, n_s=20, n_n=20, seed=0)
print(f"U: {len(data.u)} points, {data.u_sensitive.float().mean():.0%} of them sensitive; S: {len(data.s)} points")
axis = torch.linspace(-1, 1, 81)
plane = torch.cartesian_prod(axis, axis).flip(1)  # (81 * 81, 2), x fastest

figure, (seen, known) = plt.subplots(1, 2, figsize=(8.6, 4.2), sharey=True)
seen.plot(*data.u.T, ".", ms=4, color=style.BLUE, label="U, unlabeled")
seen.plot(*data.s.T, "x", ms=7, mew=2, color=style.ORANGE, label="S, labelled sensitive")
seen.set(title="what a learner sees", xlabel="first coordinate", ylabel="second coordinate")
hidden = data.u_sensitive
known.plot(*data.u[~hidden].T, ".", ms=4, color=style.BLUE, label="normal points of U")
known.plot(*data.u[hidden].T, "s", ms=4, mfc="none", color=style.ORANGE, label="sensitive points of U")
for p, colour, dash in ((p_n, style.BLUE, "-"), (p_s, style.ORANGE, "--")):
    known.contour(axis, axis, p.density(plane).view(81, 81), levels=[0.3, 1.5], colors=colour, linestyles=dash)
known.set(title="what only we know", xlabel="first coordinate")
for ax in (seen, known):
    ax.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.25), aspect="equal")
    ax.legend(fontsize=8, loc="upper left", ncols=2)
style.show(
    figure,
    alt="Points of U on a ring of five blobs with a sixth, sensitive blob in the gap, where the points of S lie",
)

# %% [markdown]
# On the left, the gap of the ring is filled: a model that learns $\mathcal U$ learns a sixth blob. On the right the same points with what nobody told: the contours are $p_{\mathcal N}$ (solid) and $p_{\mathcal S}$ (dashed).
#
# That both densities can be written down is one reason to take round Gaussians. Here is the other: noising one (Eq. 5) gives another, with mean $\sqrt{\bar\alpha_t}\,\mu$ and variance $\bar\alpha_t\sigma^2 + 1-\bar\alpha_t$, so the density $p_t$ of the noisy points $\mathbf x_t$ is known at every $t$. And the noise estimate that minimises Eq. 8, the average of $\epsilon$ given $\mathbf x_t$, is Tweedie's formula:
#
# $$\epsilon^*(\mathbf x_t, t) = \mathbb E[\epsilon \mid \mathbf x_t] = -\sqrt{1-\bar\alpha_t}\;\nabla_{\mathbf x_t} \log p_t(\mathbf x_t).$$
#
# ($\nabla_{\mathbf x_t}$ is the gradient by the coordinates of $\mathbf x_t$.) That is the network that endless training would give. We write it in one line with autograd and see that the package's closed form agrees:

# %%
process = toy.toy_process()


def eps_star(p: toy.Gaussians, x_t: Tensor, t: int) -> Tensor:
    """The best noise estimate at points x_t (n, 2) and one step t. Returns (n, 2)."""
    x_t, ab = x_t.clone().requires_grad_(), process.alpha_bar[t]
    (score,) = torch.autograd.grad(p.log_density(x_t, float(ab)).sum(), x_t)
    return -(1 - ab).sqrt() * score


exact_u, exact_n = toy.exact_eps(p_u, process.alpha_bar), toy.exact_eps(p_n, process.alpha_bar)
some = torch.randn(6, 2, generator=generator(3))
by_formula = exact_u(toy.as_images(some), torch.full((6,), 80)).flatten(1)
assert torch.allclose(eps_star(p_u, some, 80), by_formula, atol=1e-4)
print("autograd and the closed form agree")
exact = {
    name: toy.draw_samples(network, process, SIZE["samples"]) for name, network in (("p_U", exact_u), ("p_N", exact_n))
}
for name, points in exact.items():
    print(f"samples of the best model of {name}: {toy.sensitive_share(points, p_s, p_n):.1%} sensitive")

# %% [markdown]
# The judge here is exact: a point is sensitive where $p_{\mathcal S}(\mathbf x) > p_{\mathcal N}(\mathbf x)$. A perfect model of $\mathcal U$ draws about a fifth of its points in the gap; a perfect model of $p_{\mathcal N}$ almost none. The second is what we are after, *without normal labels*.
#
# ## 2. The mixture (Eqs. 13 and 14)
#
# Where could knowledge about $p_{\mathcal N}$ come from? From a subtraction. $\mathcal U$ is a mixture,
#
# $$p_{\mathcal U}(\mathbf x) = \beta\,p_{\mathcal S}(\mathbf x) + (1-\beta)\,p_{\mathcal N}(\mathbf x) \quad(13)
# \qquad\Longrightarrow\qquad (1-\beta)\,p_{\mathcal N}(\mathbf x) = p_{\mathcal U}(\mathbf x) - \beta\,p_{\mathcal S}(\mathbf x). \quad(14)$$
#
# Walk once around the ring and look at the three densities. On the right, the same subtraction by somebody who believes in $\beta = 0.35$.

# %%
angle = torch.linspace(-torch.pi, torch.pi, 400)
ring = 0.6 * torch.stack([angle.cos(), angle.sin()], 1)
u, s, n = (p.density(ring) for p in (p_u, p_s, p_n))
assert torch.allclose(u - BETA * s, (1 - BETA) * n, atol=1e-5)  # Eq. 14

figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.3), sharey=True)
for ax, beta in zip(axes, (BETA, 0.35)):
    ax.plot(angle.rad2deg(), u, color=style.BLACK, ls="--", label="$p_U$")
    ax.plot(angle.rad2deg(), beta * s, color=style.ORANGE, ls="-.", label="$\\beta\\,p_S$")
    ax.plot(angle.rad2deg(), u - beta * s, color=style.BLUE, lw=2.5, label="$p_U - \\beta\\,p_S$")
    ax.fill_between(angle.rad2deg(), u - beta * s, 0, where=u - beta * s < -1e-4, color=style.BLUE, alpha=0.3)
    ax.set(title=f"subtracted with $\\beta$ = {beta:g} (true: {BETA:g})", xlabel="angle on the ring (degrees)")
axes[0].set_ylabel("density")
axes[0].legend(fontsize=9, loc="upper center")
style.show(
    figure,
    alt="Densities around the ring: with the true beta the difference is five bumps, with a "
    "larger beta it dips below zero in the gap",
)

# %% [markdown]
# With the true $\beta$ the sixth bump is cancelled exactly, and five remain: $(1-\beta)\,p_{\mathcal N}$. With $\beta$ too large more is taken away than was there, and the "density" is *negative* around 0 degrees (shaded). A negative density is not merely odd. A risk weighs every $\mathbf x$ by it, so the risk *falls* wherever $\ell$ is made larger there, without end. With $\beta$ too small a rest of the bump would stay. Keep this picture for section 4.
#
# ### Exercise 03.1: an average over normal points without normal points (1 point, 5 minutes)
#
# Multiply Eq. 14 by any function $f$ and integrate. Write `normal_mean(f_u, f_s, beta)`: you are given the values of $f$ at points of $\mathcal U$ and at points of $\mathcal S$; return the estimate of $\mathbb E_{p_{\mathcal N}}[f]$, the average of $f$ over $p_{\mathcal N}$. (The values may be vectors: then so is the mean.)
#
# <details><summary>Hint</summary>Eq. 14 gives (1 − β) E_N[f] = E_U[f] − β E_S[f]. What is on the left that you do not want? Take means over the first dimension.</details>


# %% tags=["exercise"]
def normal_mean(f_u: Tensor, f_s: Tensor, beta: float) -> Tensor:
    """E_N[f], from Eq. 14.

    f_u: (n_u,) or (n_u, d), values of f at unlabeled points. f_s: (n_s,) or (n_s, d), at sensitive points.
    beta: the share of sensitive points in U. Returns () or (d,).
    """
    # BEGIN SOLUTION
    return (f_u.mean(0) - beta * f_s.mean(0)) / (1 - beta)
    # END SOLUTION


# %%
check_03_1(normal_mean)

# %% [markdown]
# The package has no function for so short a line, so here it is once more, applied to the simplest $f(\mathbf x) = \mathbf x$: the mean of the normal points, found from $\mathcal U$ and 20 points of $\mathcal S$.

# %%
found = (data.u.mean(0) - BETA * data.s.mean(0)) / (1 - BETA)
for name, value in (("mean of U", data.u.mean(0)), ("found with Eq. 14", found), ("true mean of p_N", p_n.mean())):
    print(f"{name:18s} ({value[0]:+.3f}, {value[1]:+.3f})")

# %% [markdown]
# ## 3. The risk, rewritten (Eqs. 15 to 18)
#
# Now let $f$ be the loss. With labels for both kinds one would minimise the *positive-negative* risk (the costs are those of Eq. 11: $\ell$ for normal, the push for sensitive)
#
# $$\mathcal L_{\rm PN}(\theta) = \beta\,\mathbb E_{p_{\mathcal S}}\big[-\log(1-e^{-\ell})\big] + (1-\beta)\,\mathbb E_{p_{\mathcal N}}[\ell]. \quad (15)$$
#
# The second term needs $p_{\mathcal N}$. Exercise 03.1 has just removed that need:
#
# $$(1-\beta)\,\mathbb E_{p_{\mathcal N}}[\ell] = \mathbb E_{p_{\mathcal U}}[\ell] - \beta\,\mathbb E_{p_{\mathcal S}}[\ell]. \quad (16)$$
#
# The right side we call the *normal part* of the risk. Put into Eq. 15 it gives
#
# $$\mathcal L_{\rm PN}(\theta) = \beta\,\mathbb E_{p_{\mathcal S}}\big[-\log(1-e^{-\ell})\big] + \mathbb E_{p_{\mathcal U}}[\ell] - \beta\,\mathbb E_{p_{\mathcal S}}[\ell], \quad (17)$$
#
# and with means over the data in place of expectations
#
# $$\mathcal L_{\rm PN}(\theta) \simeq \beta\,\mathcal L_{\mathcal S}^+ + \mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-,\qquad
# \mathcal L_{\mathcal S}^+ = \tfrac1M\sum_m -\log(1-e^{-\ell(\tilde{\mathbf x}^{(m)})}),\quad
# \mathcal L_{\mathcal U}^- = \tfrac1N\sum_n \ell(\mathbf x^{(n)}),\quad
# \mathcal L_{\mathcal S}^- = \tfrac1M\sum_m \ell(\tilde{\mathbf x}^{(m)}). \quad (18)$$
#
# ### Exercise 03.2: the unbiased risk (1 point, 10 minutes)
#
# Write Eq. 18 as `unbiased_risk(l_u, l_s, beta)`. A superscript + marks the cost of a point as sensitive (the push), − its cost as normal ($\ell$); $\mathcal U$ holds $N$ points $\mathbf x^{(n)}$, $\mathcal S$ holds $M$ points $\tilde{\mathbf x}^{(m)}$. You may use `bce_sensitive(l)`, the push of notebook 02 (one value per point), or write it yourself with `expm1`: the checks of this and the next exercises try an $\ell$ of $10^{-7}$ in single precision.
#
# <details><summary>Hint</summary>Three means. One of them appears with the push, one with a minus. beta stands in front of both terms of S.</details>


# %% tags=["exercise"]
def unbiased_risk(l_u: Tensor, l_s: Tensor, beta: float) -> Tensor:
    """Eq. 18. l_u: (B_u,), l_s: (B_s,), noise errors. beta: inside (0, 1). Returns ()."""
    # BEGIN SOLUTION
    L_S_plus = bce_sensitive(l_s).mean()
    L_U_minus = bce_normal(l_u).mean()
    L_S_minus = bce_normal(l_s).mean()
    return beta * L_S_plus + L_U_minus - beta * L_S_minus
    # END SOLUTION


# %%
check_03_2(unbiased_risk)

# %% [markdown]
# Does it do what it promises? Here is a family of models of one parameter: the best model of $w\,p_{\mathcal S} + (1-w)\,p_{\mathcal N}$, which draws a share $w$ of sensitive points. At each $w$ we measure $\ell$ on many fresh points, and compute three risks: Eq. 9 (everything is taken for normal), Eq. 15 (with the true labels) and Eq. 18 (without).


# %%
def pool_errors(network, seed: int = 0) -> dict[str, Tensor]:
    """l on SIZE["pool"] fresh points of p_U, p_S and p_N: the same points and draws for every network."""
    with torch.no_grad():
        return {
            name: toy.errors(network, p.sample(SIZE["pool"], generator(30, k)), process, seed=100 * seed + k)
            for k, (name, p) in enumerate((("u", p_u), ("s", p_s), ("n", p_n)))
        }


shares = torch.tensor([0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4])
curves = {"Eq. 9: U is taken for normal": [], "Eq. 15: with true labels": [], "Eq. 18: from U and S": []}
for w in shares:
    l = pool_errors(toy.exact_eps(toy.mixture(p_s, p_n, float(w)), process.alpha_bar))
    values = (risks.unsupervised(l["u"]), risks.pn(l["n"], l["s"], BETA), risks.upu(l["u"], l["s"], BETA))
    for name, result in zip(curves, values):
        curves[name].append(float(result.value))

figure, ax = plt.subplots(figsize=(6.6, 3.5))
LOOKS = ((style.BLACK, "--", "o"), (style.SKY, "-", "s"), (style.YELLOW, ":", "^"))
for (name, values), (colour, dash, marker) in zip(curves.items(), LOOKS):
    ax.plot(shares, values, color=colour, ls=dash, marker=marker, label=name)
    best = min(range(len(values)), key=values.__getitem__)
    ax.plot(shares[best], values[best], "*", ms=16, color=colour, mec="black")
    print(f"{name:30s} lowest at w = {shares[best]:.2f}")
ax.set(xlabel="share w of sensitive points that the model draws", ylabel="risk")
ax.legend(fontsize=9)
style.show(
    figure,
    alt="Three risks against the share of sensitive points: Eq. 9 is lowest near the true share, "
    "Eqs. 15 and 18 agree and rise with w",
)

# %% [markdown]
# Each star is a minimum. Eq. 9 falls steeply from $w = 0$, is nearly flat from about 0.06 on, and lowest for the model that copies $\mathcal U$ (in `lab` mode at the true share 0.2). Eq. 15 is lowest for the model that draws no sensitive points; and Eq. 18, which has seen no normal label, lies on Eq. 15 up to the chance of the draw (its points are others: those of $\mathcal U$ and not of $p_{\mathcal N}$). That agreement is the whole idea.
#
# ## 4. The landscape of the risk
#
# How does the risk look when $\beta$ is wrong? For a picture we need a model of two parameters. Take one normal blob, one sensitive blob, and the model "one round Gaussian", whose *centre* $\mathbf c$ is all it can learn. Its noise estimate is linear in $\mathbf x_t$, and the expectation of Eq. 8 is a parabola, $\ell(\mathbf x) = A + B\,|\mathbf x - \mathbf c|^2$ (`toy.one_gaussian_error`). Write $\pi$ for the *true* share of sensitive points and $\beta$ for the share one *assumes*; then the normal part of the risk is
#
# $$\mathbb E_{\mathcal U}[\ell] - \beta\,\mathbb E_{\mathcal S}[\ell] = (1-\pi)\,\mathbb E_{\mathcal N}[\ell] + (\pi-\beta)\,\mathbb E_{\mathcal S}[\ell],$$
#
# another parabola, lowest at $\mathbf c^* = \dfrac{(1-\pi)\,\mu_{\mathcal N} + (\pi-\beta)\,\mu_{\mathcal S}}{1-\beta}$. With $\beta = \pi$ that is $\mu_{\mathcal N}$, wherever the sensitive points are.

# %%
one_normal = toy.Gaussians(torch.ones(1), torch.tensor([[-0.3, 0.0]]), torch.tensor([0.22]))
one_sensitive = toy.Gaussians(torch.ones(1), torch.tensor([[0.5, 0.0]]), torch.tensor([0.16]))
land = landscape(one_sensitive, one_normal, process, std=0.22)

for beta in (0.1, 0.2, 0.4):  # the formula for the lowest point, against the grid (its cells are 0.05 wide)
    _, normal = mixed(land, beta, 0.2, "upu")
    row, column = divmod(int(normal.argmin()), len(land.centres))
    formula = (0.8 * one_normal.mean() + (0.2 - beta) * one_sensitive.mean()) / (1 - beta)
    print(
        f"assumed beta {beta:.1f}: the normal part is lowest at {formula[0]:+.3f} (formula), "
        f"{land.centres[column]:+.3f} (grid)"
    )
    assert abs(formula[0] - land.centres[column]) < 0.03

# %% tags=["expected"]
for beta in (0.2, 0.5):
    figure = landscape_figure(land, beta, 0.2)
    style.show(
        figure,
        alt=f"Landscape of the non-negative risk over the model's centre for assumed beta {beta} and "
        "true share 0.2, and a cut through it",
    )

# %% [markdown]
# **Above**, $\beta = \pi = 0.2$. On the right the solid line of Eq. 16 covers the dotted truth, whose bottom is the mean of the normal points. The push adds a hill over the sensitive blob, so the star, the lowest *total* risk, lies a little farther from it than the green plus, the mean of the normal points, which it nearly covers: even Eq. 15 with all labels trades some fit for distance.
#
# **Below**, somebody assumes 0.5. Now $\pi-\beta$ is negative: every step away from $\mathcal S$ is rewarded. The bottom of the solid line moves left, past the normal points, and dips *below zero* (hatched on the left), although it stands for an average of positive numbers. The non-negative risk cuts the dip off: there only the push is left, it still slopes away from $\mathcal S$, and the star stands at the very edge of the picture. So a $\beta$ that is too large is punished twice: the clamp is at work with any amount of data, and the model leaves the normal points.
#
# Move the sliders: `beta` is what you assume, `true share` is what $\mathcal U$ holds, `risk` chooses Eq. 18, Eq. 19 or the absolute value. When does the hatched region appear? Which risk moves its star most?

# %%
widget03_landscape(land)

# %% [markdown]
# ### Question in words 1
#
# *When is a $\beta$ that is too large dangerous, and when might one choose it on purpose?*

# %% [markdown] tags=["answer"]
# For $\beta > \pi$ the risk weighs $\ell$ on sensitive points by $\pi-\beta < 0$: raising $\ell$ there lowers the risk, even with endless data. Dangerous where the model can raise $\ell$ without bound (a flexible network, Eq. 18 without a clamp), where $p_{\mathcal S}$ overlaps $p_{\mathcal N}$ (normal points near sensitive ones are pushed away with them), and where the excess is large against $(1-\pi)\,\mathbb E_{\mathcal N}[\ell]$. With the clamp, a *slightly* larger $\beta$ turns the pull on sensitive points round: $-\beta\,\mathcal L_{\mathcal S}^-$ more than cancels what the hidden points of $\mathcal U$ add, and what is left pulls *away* from them, at every size of $\ell$. (The push $\beta\,\mathcal L_{\mathcal S}^+$ grows by the same factor, but where $\ell$ is large it sleeps all the same.) The paper finds its best CIFAR10 rates above the true share (Section 5.4.2). It is a bargain with a price: fewer sensitive samples for some normal samples.

# %% [markdown]
# ## 5. Watch it go negative
#
# In section 3 the data were endless. Now train a small network on our 400 + 20 points. Eq. 16 holds for *expectations*; nothing makes $\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-$ positive on a *sample*, where the 20 points of $\mathcal S$ and the 80 sensitive points hidden in $\mathcal U$ are different points. A network that can tell them apart may raise $\ell$ on the 20 and pay nothing on the 80.
#
# First write what is put against that. The **non-negative risk** (Kiryo et al. 2017):
#
# $$\mathcal L_{\rm PU}(\theta) = \beta\,\mathcal L_{\mathcal S}^+ + \max\{0,\ \mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-\}. \quad (19)$$
#
# ### Exercise 03.3: the value of Eq. 19 (1 point, 5 minutes)
#
# Write `nonnegative_risk(l_u, l_s, beta)`: return the number that Eq. 19 stands for on a batch.
#
# <details><summary>Hint</summary>The maximum holds the normal part only, and it is taken once, after the means: it is a statement about the whole batch.</details>


# %% tags=["exercise"]
def nonnegative_risk(l_u: Tensor, l_s: Tensor, beta: float) -> Tensor:
    """The value of Eq. 19. l_u: (B_u,), l_s: (B_s,), noise errors. beta: inside (0, 1). Returns (), >= 0."""
    # BEGIN SOLUTION
    normal = l_u.mean() - beta * l_s.mean()
    return beta * bce_sensitive(l_s).mean() + torch.clamp(normal, min=0)
    # END SOLUTION


# %%
check_03_3(nonnegative_risk)

# %% [markdown]
# ### Exercise 03.4: what Algorithm 1 differentiates (2 points, 15 minutes)
#
# Read Algorithm 1 in the paper closely. While $\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^- \ge 0$ it follows the gradient of Eq. 18 (line 5). Otherwise it follows
#
# $$\nabla_\theta\; -\big(\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-\big) \qquad\text{(line 7)}$$
#
# alone, until the normal part is non-negative again. That is **not** the gradient of Eq. 19, which would be $\beta\,\nabla\mathcal L_{\mathcal S}^+$ there. Write `algorithm_1(l_u, l_s, beta)`: return the value (Eq. 19), the objective (a number whose gradient is the one that Algorithm 1 follows), and whether the two have parted. The check differentiates your objective by every $\ell$, as training does.
#
# <details><summary>Hint</summary>An if-else. In the second branch the push is left out of the objective, but not of the value.</details>


# %% tags=["exercise"]
def algorithm_1(l_u: Tensor, l_s: Tensor, beta: float) -> tuple[Tensor, Tensor, bool]:
    """One step of Algorithm 1, up to the network. l_u: (B_u,), l_s: (B_s,). beta: inside (0, 1).

    Returns value (), Eq. 19; objective (), whose gradient is that of line 5 or 7; clamped, True at line 7.
    """
    # BEGIN SOLUTION
    push = beta * bce_sensitive(l_s).mean()
    normal = l_u.mean() - beta * l_s.mean()
    if normal >= 0:
        return push + normal, push + normal, False  # line 5
    return push, -normal, True  # line 7
    # END SOLUTION


# %%
check_03_4(algorithm_1)

# %% [markdown]
# ### Exercise 03.5: the absolute value (1 point, 5 minutes)
#
# After Eq. 19 the paper names an alternative: $|\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-|$ in place of the maximum (Hammoudeh & Lowd 2020). Write that risk as `absolute_risk(l_u, l_s, beta)`. What does its gradient keep that line 7 leaves out?
#
# <details><summary>Hint</summary>One word of exercise 03.3 changes. Where the normal part is negative its gradient turns around, as in line 7, but the push goes on.</details>


# %% tags=["exercise"]
def absolute_risk(l_u: Tensor, l_s: Tensor, beta: float) -> Tensor:
    """beta L_S^+ + |L_U^- - beta L_S^-|. l_u: (B_u,), l_s: (B_s,). beta: inside (0, 1). Returns (), >= 0."""
    # BEGIN SOLUTION
    return beta * bce_sensitive(l_s).mean() + (l_u.mean() - beta * l_s.mean()).abs()
    # END SOLUTION


# %%
check_03_5(absolute_risk)

# %% [markdown]
# The package's versions (`risks.upu`, `nnpu`, `abspu`) return objective, value and named terms together. On a batch whose normal part is negative they part like this:

# %%
l_u, l_s = torch.tensor([0.2, 0.3, 0.1]), torch.tensor([3.0, 2.0])
for name, method in (("upu, Eq. 18", risks.upu), ("nnpu, Eq. 19", risks.nnpu), ("abspu", risks.abspu)):
    leaf = l_s.clone().requires_grad_()
    result = method(l_u, leaf, BETA)
    result.objective.backward()
    slopes = ", ".join(f"{g:+.3f}" for g in leaf.grad)
    print(f"{name:13s} value {result.value:+.3f}   objective {result.objective:+.3f}   slope in each l_s: {slopes}")
assert torch.isclose(risks.nnpu(l_u, l_s, BETA).value, BETA * bce_sensitive(l_s).mean() + 0.0)

# %% [markdown]
# Eq. 18 has negative slopes: it would raise these $\ell$ further. The other two have positive slopes: they bring $\ell$ on $\mathcal S$ down again; `abspu` a little less, because its push goes on.
#
# Now train. All six networks start from the same weights and see the same draws; only the line that reduces $\ell$ to a number differs. (That $\ell$ is a *sum* over the two coordinates, Eq. 8 as it stands. `toy.train` multiplies the mean over the coordinates by a number `ell_scale`, 2 unless you say otherwise.) At intervals $\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-$ is measured on the training data and on fresh *held-out* data. The `pn` network is the oracle: it is told which points of $\mathcal U$ are normal. (`pnu` waits for section 7.)

# %%
METHODS = ("unsupervised", "upu", "nnpu", "abspu", "pn", "pnu")
SETTINGS = {
    "width": SIZE["width"],
    "size": SIZE["size"],
    "learning_rate": SIZE["learning_rate"],
    "every": max(1, SIZE["steps"] // 40),
}
runs = {method: toy.train(data, method, BETA, SIZE["steps"], process, **SETTINGS) for method in METHODS}

# %% tags=["expected"]
figure, axes = plt.subplots(1, 3, figsize=(11, 3.5))
for ax, method in zip(axes, ("upu", "nnpu", "abspu")):
    log = runs[method].log
    ax.axhline(0, color="#777777", lw=0.8)
    ax.plot(log["step"], log["normal_risk"], color=style.BLUE, label="on the training data")
    ax.plot(log["step"], log["held_normal_risk"], color=style.ORANGE, ls="--", label="held out")
    ax.set(title=method, xlabel="training step", ylim=(-0.3, 1.8))
largest = max(float(runs["upu"].log[name].abs().max()) for name in ("normal_risk", "held_normal_risk"))
if largest > 10:  # it has run away: a logarithmic scale on both sides of zero
    axes[0].set_yscale("symlog", linthresh=1)
    ticks = [t for t in (-1e12, -1e8, -1e4, 0, 1e4, 1e8, 1e12) if abs(t) < 10 * largest]
    axes[0].set(ylim=(-10 * largest, 10 * largest), yticks=ticks)
    axes[0].set_title("upu (mind the scale)")
elif largest > 1.7:
    axes[0].set_ylim(-1.2 * largest, 1.2 * largest)
axes[0].set_ylabel("$L_U^- - \\beta\\,L_S^-$")
axes[1].legend(fontsize=9)
style.show(
    figure,
    alt="The normal part of the risk during training: upu runs far below zero on training data "
    "and up on held-out data; nnpu and abspu stay above zero",
)

# %%
print("at the end       normal part: training, held out       l of S: training, held out")
for method, run in runs.items():
    end = {name: float(values[-1]) for name, values in run.log.items()}
    print(
        f"{method:13s} {end['normal_risk']:16.3g} {end['held_normal_risk']:14.3g}"
        f" {end['L_S_minus']:18.3g} {end['held_L_S_minus']:13.3g}"
    )
for method in ("nnpu", "abspu", "pnu"):
    print(
        f"{method}: the normal part of the batch was negative in "
        f"{runs[method].log['clamped_share'][1:].mean():.1%} of the steps"
    )
lowest = {method: float(runs[method].log["normal_risk"].min()) for method in METHODS}
print(
    f"lowest normal part on the training data: upu {lowest['upu']:.3g}, nnpu "
    f"{lowest['nnpu']:.3g}, abspu {lowest['abspu']:.3g}"
)
if MODE != "fast":  # too short a training to promise it
    assert lowest["upu"] < -1  # a difference of positive numbers has run away ...
    assert max(runs["nnpu"].log["normal_risk"].abs()) < 10  # ... and the non-negative risk came back each time

# %% [markdown]
# Left: this is over-fitting. For a while the two lines of `upu` fall together. Then the training line crosses zero, where, with the true $\beta$, no expectation can be, and runs off to minus infinity, while on held-out data the same quantity *rises*: the network has found out that raising $\ell$ on 20 points pays $\beta$ times as much, and nothing stops it. (A larger $\ell$ on $\mathcal S$ also costs on $\mathcal U$'s own sensitive points; but those are other points.) The crossing needs no held-out data to be seen: **log the normal part; its sign is the alarm.**
#
# Middle and right: as soon as the normal part *of a batch* falls below zero, that step turns around. Batches scatter, so this happens long before the average is zero (the share of such steps is printed above), and the training line stays up. The held-out line stays where it was. The gap that remains between the two lines is over-fitting that the clamp does not see: it acts at zero, not before.
#
# What do these networks draw?

# %% tags=["expected"]
drawn = {method: toy.draw_samples(run.network, process, SIZE["samples"]) for method, run in runs.items()}
panels = {"best model of $p_N$": exact["p_N"]} | {method: drawn[method] for method in METHODS[:5]}  # pnu: section 7
figure, axes = plt.subplots(2, 3, figsize=(8.1, 5.6), sharex=True, sharey=True)
for ax, (name, points) in zip(axes.flat, panels.items()):
    bad = p_s.log_density(points) > p_n.log_density(points)
    ax.contour(axis, axis, p_n.density(plane).view(81, 81), levels=[0.3], colors="#999999", linewidths=1)
    ax.plot(*points[~bad][:500].T, ".", ms=3, color=style.BLUE)
    ax.plot(*points[bad][:500].T, "x", ms=4, color=style.ORANGE)
    ax.set(title=f"{name}: {bad.float().mean():.1%}", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
style.show(
    figure,
    alt="Samples of six models with sensitive ones crossed: the unsupervised one fills the gap, "
    "upu has fallen apart, nnpu, abspu and pn leave the gap empty",
)


def off_the_data(points: Tensor) -> float:
    """The share of points where both densities are below 0.02: drawn where there is nothing."""
    return (torch.maximum(p_n.log_density(points), p_s.log_density(points)) < -3.9).float().mean().item()


print("method         sensitive   off the data")
for name, points in {"exact p_N": exact["p_N"], **drawn}.items():
    print(f"{name:13s} {toy.sensitive_share(points, p_s, p_n):10.1%} {off_the_data(points):14.1%}")

# %% [markdown]
# *Crosses are sensitive, their share stands in the title; the grey contour is $p_{\mathcal N}$.* The unsupervised network copies $\mathcal U$, gap included. `upu` has destroyed itself: with $\ell$ that large its noise estimates are meaningless, and the sampler's clip leaves the points on the border. `nnpu` and `abspu` keep the gap empty with the same 20 labels. They pay: more points lie off the blobs than the unsupervised network draws there, and the two blobs next to the gap thin out. In `lab` mode the oracle `pn` pays nearly as much, so this is not the price of missing labels. It is the push, which costs fit near $\mathcal S$ (compare the star and the green plus in section 4); and at this size of $\ell$, a sum over only two numbers, the push is strong: notebook 02 tells why the *scale* of $\ell$ decides that.
#
# ### Question in words 2
#
# *Every $\ell$ is positive, and $\beta$ is the true share. How can $\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-$ be negative on a sample, if for a fixed network its expectation cannot?*

# %% [markdown] tags=["answer"]
# It is an *estimate* of the positive number $(1-\beta)\,\mathbb E_{\mathcal N}[\ell]$: a difference of two means over different points, which cancels only in expectation. It is negative (a) by the chance of the draw, when the batch of $\mathcal S$ has large $\ell$; (b) systematically, when the network is trained on these very points, because it raises $\ell$ on the labelled points of $\mathcal S$ more than on the sensitive points hidden in $\mathcal U$: the points are then no longer independent of $\theta$, and unbiasedness is lost; (c) even in expectation, when $\beta$ exceeds the true share.

# %% [markdown]
# ## 6. Unbiased, but how scattered?
#
# For a *fixed* network, not trained on the batch, Eq. 18 is unbiased: its mean over many batches is Eq. 15. (One proviso. Here, as in training, each point has a single draw of $(t,\epsilon)$. For $\mathcal L_{\mathcal U}^-$ and $\mathcal L_{\mathcal S}^-$, which are linear in $\ell$, that changes no expectation. The push is not linear: by Jensen's inequality its mean over single draws is larger than its value at the $\ell$ of Eq. 8, as notebook 02, Section 7, shows. So what Eq. 18 estimates without bias is Eq. 15 *with the push averaged over draws*, not the paper's, which has the average inside. All risks of this notebook are meant so. A second proviso: each batch below has a fixed number of points from $\mathcal S$; where that number is left to chance and may be 0, there is a bias, which notebook 04, section 9, works out.) How far does one batch stray? Take $\ell$ on a large pool once, then draw batches from the pool; that is cheap. The heart is two lines:


# %%
def estimates(l: dict[str, Tensor], n_u: int, n_s: int, draws: int) -> tuple[Tensor, Tensor]:
    """beta L_S^+ and L_U^- - beta L_S^- of `draws` batches of n_u and n_s. Returns (draws,), (draws,)."""
    g = generator(31, n_u, n_s)
    l_u = l["u"][torch.randint(len(l["u"]), (draws, n_u), generator=g)]
    l_s = l["s"][torch.randint(len(l["s"]), (draws, n_s), generator=g)]
    return BETA * bce_sensitive(l_s).mean(1), l_u.mean(1) - BETA * l_s.mean(1)


pool = pool_errors(exact_n)  # the network whose l we look at: the best model of p_N
push, normal = estimates(pool, 64, 8, SIZE["draws"])
truth = risks.pn(pool["n"], pool["s"], BETA).value  # Eq. 15, with labels
spread = (push + normal).std()
print(
    f"Eq. 15 with labels {truth:.4f};  mean of Eq. 18 over {SIZE['draws']:,} batches "
    f"{(push + normal).mean():.4f} (one batch: ± {spread:.3f})"
)
# the mean over batches scatters by spread / sqrt(draws); the pools of U and of N, by about 1 / sqrt(pool)
assert abs((push + normal).mean() - truth) < 5 * (spread / SIZE["draws"] ** 0.5 + 1.5 / SIZE["pool"] ** 0.5)

# %% [markdown]
# ### Exercise 03.6: the variance of Eq. 18 (2 points, 15 minutes)
#
# A batch has $n_u$ unlabeled and $n_s$ sensitive points, drawn independently. Write `risk_variance(l_u, l_s, beta, n_u, n_s)`: you are given $\ell$ on two large pools; return the variance of Eq. 18 over batches.
#
# <details><summary>Hint</summary>The mean of n independent numbers has variance Var / n. U and S are independent, so their variances add. But L_S⁺ and L_S⁻ are means over <b>the same</b> points: what does one sensitive point add to the sum of both?</details>


# %% tags=["exercise"]
def risk_variance(l_u: Tensor, l_s: Tensor, beta: float, n_u: int, n_s: int) -> Tensor:
    """Var of Eq. 18 over batches. l_u, l_s: pools of noise errors. n_u, n_s: points in a batch. Returns ()."""
    # BEGIN SOLUTION
    once = bce_sensitive(l_s) - l_s  # what a sensitive point adds, divided by beta
    return l_u.var() / n_u + beta**2 * once.var() / n_s
    # END SOLUTION


# %%
check_03_6(risk_variance)

# %% [markdown]
# And the clamp? $\max\{0, Z\} \ge Z$, so Eq. 19 is biased *upwards*. Were the normal part $Z$ exactly Gaussian with mean $m \ge 0$ and standard deviation $s$,
#
# $$\mathbb E[\max\{0,Z\}] - m = s\,\varphi(m/s) - m\,\Phi(-m/s),$$
#
# and the absolute value, since $|z| = 2\max\{0,z\}-z$, has twice that bias (`toy.clamp_bias`). It matters where $m/s$ is small: few sensitive points, or a network with large, widely scattered $\ell$ on $\mathcal S$, as the push makes it. So we take two networks: the best model of $p_{\mathcal N}$, and the one that `nnpu` has trained (on fresh points).

# %%
pools = {"best model of $p_N$": pool, "network trained with nnpu": pool_errors(runs["nnpu"].network)}
SIZES = (2, 4, 8, 16, 32, 64)
figure, axes = plt.subplots(1, 3, figsize=(11.4, 3.5))
for (name, l), colour, marker, dash in zip(pools.items(), (style.GREEN, style.BLUE), "os", ("--", "-")):
    mean = l["u"].mean() - BETA * l["s"].mean()
    spreads, biases, deviations, theory = [], [], [], []
    for n_s in SIZES:
        push, normal = estimates(l, 64, n_s, SIZE["draws"])
        spreads.append((push + normal).std())
        deviations.append(toy.upu_variance(l["u"], l["s"], BETA, 64, n_s).sqrt())
        biases.append(normal.clamp(min=0).mean() - normal.mean())
        sd = (l["u"].var() / 64 + BETA**2 * l["s"].var() / n_s).sqrt()
        theory.append(toy.clamp_bias(mean, sd))
    axes[1].plot(SIZES, deviations, color=colour, ls=dash, label=name)
    axes[1].plot(SIZES, spreads, marker, color=colour)
    axes[2].plot(SIZES, theory, color=colour, ls=dash)
    axes[2].plot(SIZES, biases, marker, color=colour)
    print(
        f"{name}: normal part {mean:.3f} on average; at 2 sensitive points a batch the clamp adds "
        f"{biases[0]:.3f}, at 64 {biases[-1]:.4f}"
    )
_, normal = estimates(pools["network trained with nnpu"], 64, 4, SIZE["draws"])
low, high = normal.quantile(0.002), normal.quantile(0.998)
axes[0].hist(normal.clamp(low, high).numpy(), bins=50, color=style.BLUE, alpha=0.6)
axes[0].axvline(0, color=style.BLACK, ls=":", label="the clamp")
axes[0].axvline(normal.mean(), color=style.ORANGE, label="mean")
axes[0].axvline(normal.clamp(min=0).mean(), color=style.PINK, ls="--", label="mean of max{0, .}")
axes[0].set(
    title="nnpu's network, 64 + 4 points a batch", xlabel="$L_U^- - \\beta\\,L_S^-$ of a batch", ylabel="batches"
)
axes[0].legend(fontsize=8)
for ax in axes[1:]:
    ax.set_xscale("log")
    ax.set_xticks(SIZES, labels=[str(n) for n in SIZES])
    ax.minorticks_off()
    ax.set_xlabel("sensitive points a batch")
axes[1].set(title="scatter of Eq. 18", ylabel="standard deviation", ylim=(0, None))
axes[1].legend(fontsize=8)
axes[2].set(title="bias of the clamp", ylabel="mean of max{0, .} minus mean", ylim=(0, None))
style.show(
    figure,
    alt="Histogram of the normal part over batches, its standard deviation against theory, and "
    "the upward bias of the clamp, which falls quickly with the number of sensitive points",
)

# %% [markdown]
# **Left**: the normal part over many batches. What lies left of the dotted line is impossible for the quantity that it estimates; the clamp moves all of it to zero, and so the mean to the right.
#
# **Middle**: the markers (batches) lie on the lines of exercise 03.6, but for chance: at two sensitive points a batch a few large $\ell$ decide. More sensitive points a batch help until the variance of the 64 unlabeled ones is all that is left.
#
# **Right**: the bias. For the good model it fades within a few sensitive points a batch; for the network that `nnpu` has trained, whose $\ell$ on $\mathcal S$ is large and scattered, it fades slowly. The Gaussian line gives the size, mostly within a factor of about two (at 64 points, where hardly any bias is left, it says four times too much for the good model), and not the digits: $\ell$ has a long upper tail, and means of a few such numbers are no Gaussians. A bias in a *value* is harmless in itself; what matters is how often a *step* is turned around merely because the batch is small: for a Gaussian, with probability $\Phi(-m/s)$.
#
# And with images? The rows of this package's complete MNIST runs say how often the clamp acted:

# %%
for row in read_rows(data_folder() / "results" / "figure1.jsonl"):
    if row["method"] == "nnpu":
        print(
            f"{row['experiment']}, seed {row['seed']}: {row['steps']} steps, {row['clamped_share']:.1%} of them clamped"
        )

# %% [markdown]
# In none of these complete runs on MNIST did the clamp act in a single step (the lines above): there $\mathcal L_{\mathcal S}^-$ of a batch would have to be ten times $\mathcal L_{\mathcal U}^-$ ($\beta = 0.1$), and $\mathcal S$ holds 2,500 images, not 20. There Eq. 19 took the steps of Eq. 18. The clamp is a safety belt: our toy, with tiny $\mathcal S$ and a network trained to the bitter end, is the accident.
#
# ## 7. A few labelled normal points: positive-negative-unlabeled
#
# The paper mentions that the method extends to the case where *some* normal points are labelled, too. A convex combination does it (Sakai et al. 2017):
#
# $$\mathcal L_{\rm PNU}(\theta) = (1-\eta)\,\mathcal L_{\rm PN}(\theta) + \eta\,\mathcal L_{\rm PU}(\theta),\qquad 0\le\eta\le1,$$
#
# with Eq. 15 on the labelled normal points and Eq. 19 on the unlabeled ones (`risks.pnu`). Without the clamp both parts estimate the same number, so any $\eta$ is unbiased, and the best one is that of least variance:
#
# $$\mathrm{Var} = \eta^2\,\frac{\mathrm{Var}(\ell_u)}{n_u} + (1-\eta)^2(1-\beta)^2\,\frac{\mathrm{Var}(\ell_n)}{n_n} + \beta^2\,\frac{\mathrm{Var}(\mathrm{push}(\ell_s)-\eta\,\ell_s)}{n_s}.$$

# %%
etas = torch.linspace(0, 1, 11)
N_S = 16
figure, ax = plt.subplots(figsize=(6.6, 3.6))
for n_n, colour, dash, marker in ((2, style.GREEN, ":", "o"), (8, style.BLUE, "--", "s"), (32, style.ORANGE, "-", "^")):
    theory = [toy.pnu_variance(pool["u"], pool["s"], pool["n"], BETA, float(eta), 64, N_S, n_n).sqrt() for eta in etas]
    ax.plot(etas, theory, color=colour, ls=dash, label=f"{n_n} labelled normal points a batch")
    g = generator(32, n_n)
    batch = {
        k: pool[k][torch.randint(len(pool[k]), (SIZE["draws"], n), generator=g)]
        for k, n in (("u", 64), ("s", N_S), ("n", n_n))
    }
    push = BETA * bce_sensitive(batch["s"]).mean(1)
    oracle = push + (1 - BETA) * batch["n"].mean(1)  # Eq. 15
    unbiased = push + batch["u"].mean(1) - BETA * batch["s"].mean(1)  # Eq. 18
    measured = [((1 - eta) * oracle + eta * unbiased).std() for eta in etas]
    ax.plot(etas, measured, marker, ms=5, color=colour)
    best = min(range(11), key=theory.__getitem__)
    print(
        f"{n_n:2d} labelled normal points: least scatter {theory[best]:.3f} at eta = "
        f"{etas[best]:.1f};  eta = 0: {theory[0]:.3f}, eta = 1: {theory[-1]:.3f}"
    )
ax.set(xlabel="$\\eta$ (0: labelled normal points only, 1: unlabeled only)", ylabel="standard deviation of the risk")
ax.set_ylim(0)
ax.legend(fontsize=9)
style.show(
    figure,
    alt="Standard deviation of the combined risk against eta for 2, 8 and 32 labelled normal "
    "points, theory lines and measured markers",
)

# %% [markdown]
# Lines are the formula, markers are batches (with two labelled normal points a batch a few large $\ell$ decide, and the markers stray a little); at $\eta = 1$ the labelled normal points do not count and the three meet. With two labelled normal points a batch one leans on $\mathcal U$; with 32 on the labels. In between a mixture scatters less than either end. The labels are used best *together* with $\mathcal U$, not instead of it.
#
# We trained such a network above, with 20 labelled normal points and $\eta = 1/2$:

# %%
for method in ("nnpu", "pnu", "pn"):
    points, log = drawn[method], runs[method].log
    print(
        f"{method:5s} sensitive {toy.sensitive_share(points, p_s, p_n):6.1%}   off the data {off_the_data(points):6.1%}"
        f"   held-out normal part {float(log['held_normal_risk'][-1]):.3f}"
    )

# %% [markdown]
# `pn` is the oracle with 320 labels; `pnu` has 20, `nnpu` none. One run each, so read the order of magnitude and not the digits.
#
# ## 8. Algorithm 1, the whole loop
#
# `toy.train` trained the networks above. Here you write such a loop yourself, from batches to parameters.
#
# ### Exercise 03.7*: train by Algorithm 1 (3 points, 45 minutes)
#
# The model is that of Section 4: "one round Gaussian" of fixed standard deviation, whose *centre* $\mathbf c$ is all that it learns. Its guess of the noise, `one_gaussian` below, is given; so are the batches, the steps $t$ and the noise (so that two right loops end at the same numbers). Write `train_centre(...)`: for each of $K$ batches
#
# 1. noise the points of $\mathcal U$ and of $\mathcal S$ (Eq. 6), each at its own $t$;
# 2. compute $\ell$ of each point (Eq. 8: a sum over its two coordinates);
# 3. decide for line 5 or line 7 and take the gradient by $\mathbf c$;
# 4. go `learning_rate` times that gradient down.
#
# Return the centres *after* each step, and for each step whether line 7 was taken.
#
# <details><summary>Hint</summary>
#
# Your `algorithm_1` gives objective and branch. Autograd: `centre = centre.detach().requires_grad_()` at the start of each step, `(slope,) = torch.autograd.grad(objective, centre)` at its end. `alpha_bar[t[k]]` has shape `(B,)`, points have `(B, 2)`. If your path looks right and the check is not content: are the gradients of earlier steps still in it? Is the centre recorded before the step?
# </details>

# %%
def one_gaussian(x_t: Tensor, t: Tensor, centre: Tensor, std: float, alpha_bar: Tensor) -> Tensor:
    """The noise guess of one round Gaussian. x_t: (B, 2), t: (B,), centre: (2,), alpha_bar: (T,). Returns (B, 2)."""
    ab = alpha_bar[t][:, None]  # (B, 1)
    return (1 - ab).sqrt() * (x_t - ab.sqrt() * centre) / (ab * std**2 + 1 - ab)


# %% tags=["exercise"]
def train_centre(
    x_u: Tensor,
    x_s: Tensor,
    t: Tensor,
    eps: Tensor,
    alpha_bar: Tensor,
    std: float,
    centre: Tensor,
    beta: float,
    learning_rate: float,
) -> tuple[Tensor, Tensor]:
    """Algorithm 1 with plain gradient descent.

    x_u: (K, B_u, 2), x_s: (K, B_s, 2), the points of each batch. t: (K, B_u + B_s), eps: (K, B_u + B_s, 2), their steps
    and noise, those of U first. alpha_bar: (T,). std: of the model. centre: (2,), where it starts.
    Returns the centres (K, 2) and bools (K,), True for line 7.
    """
    # BEGIN SOLUTION
    n_u = x_u.shape[1]
    centres, clamped = [], []
    for k in range(len(t)):
        centre = centre.detach().requires_grad_()
        ab = alpha_bar[t[k]][:, None]
        x_t = ab.sqrt() * torch.cat([x_u[k], x_s[k]]) + (1 - ab).sqrt() * eps[k]
        l = (eps[k] - one_gaussian(x_t, t[k], centre, std, alpha_bar)).square().sum(1)  # (B,)
        _, objective, seven = algorithm_1(l[:n_u], l[n_u:], beta)
        (slope,) = torch.autograd.grad(objective, centre)
        centre = centre.detach() - learning_rate * slope
        centres.append(centre)
        clamped.append(seven)
    return torch.stack(centres), torch.tensor(clamped)
    # END SOLUTION


# %%
check_03_7(train_centre)

# %% [markdown]
# Now let it run, from one start, with three assumed $\beta$ (the true share is 0.2). Crosses are $\mathbf c^*$ of Section 4, where the *normal part* is lowest; the dotted line is where the normal part of $\beta = 0.5$ is zero. (Until your function is written the cell says so; the picture is what to expect.)

# %% tags=["expected"]
STEPS, START = {"fast": 60, "lab": 600, "full": 3000}[MODE], torch.tensor([0.1, 0.5])
g = generator(33)
x_u = toy.mixture(one_sensitive, one_normal, 0.2).sample(STEPS * 64, g).view(STEPS, 64, 2)
x_s = one_sensitive.sample(STEPS * 16, g).view(STEPS, 16, 2)
t = torch.randint(process.steps, (STEPS, 80), generator=g)
eps = torch.randn(STEPS, 80, 2, generator=g)
try:
    paths = {
        beta: train_centre(x_u, x_s, t, eps, process.alpha_bar, 0.22, START, beta, 0.02) for beta in (0.1, 0.2, 0.5)
    }
except NotImplementedError:
    print("exercise 03.7 is not written yet: no paths to draw")
else:
    figure, (whole, near) = plt.subplots(1, 2, figsize=(10.2, 4.0), width_ratios=(1.3, 1))
    for ax in (whole, near):
        for p, colour, dash, label in (
            (one_normal, style.BLUE, "-", "normal points"),
            (one_sensitive, style.ORANGE, "--", "sensitive points"),
        ):
            density = p.density(plane).view(81, 81)
            ax.contour(axis, axis, density, levels=[0.5, 2.0], colors=colour, linestyles=dash, alpha=0.4)
            ax.plot([], [], color=colour, ls=dash, alpha=0.4, label=label)  # contours have no entry in a legend
        normal = mixed(land, 0.5, 0.2, "nnpu")[1]
        ax.contour(land.centres, land.centres, normal, levels=[0], colors=style.PINK, linestyles=":")
        ax.plot([], [], color=style.PINK, ls=":", label="normal part 0 at β = 0.5")
    for (beta, (path, seven)), colour, mark in zip(paths.items(), (style.GREEN, style.BLACK, style.PINK), "os^"):
        lowest = (0.8 * one_normal.mean() + (0.2 - beta) * one_sensitive.mean()) / (1 - beta)
        last = path[-len(path) // 4 :]
        end, spread = last.mean(0), last.std(0)
        for ax in (whole, near):
            ax.plot(*path.T, color=colour, lw=0.8, alpha=0.6)
            ax.plot(*lowest, "x", color=colour, ms=9, mew=2)
            ax.plot(*end, mark, color=colour, ms=9, mew=2, mfc="white", label=f"assumed β = {beta}")
        print(
            f"beta {beta}: ends around ({end[0]:+.3f}, {end[1]:+.3f}), sd ({spread[0]:.3f}, {spread[1]:.3f}) over the last "
            f"quarter; the normal part is lowest at ({lowest[0]:+.3f}, {lowest[1]:+.3f}); line 7 in "
            f"{seven.float().mean():.1%} of the steps"
        )
    whole.set(xlim=(-1.0, 0.9), ylim=(-0.8, 0.65), xlabel="first coordinate", ylabel="second coordinate")
    near.set(xlim=(-0.46, -0.14), ylim=(-0.16, 0.16), xlabel="first coordinate", title="enlarged: around (-0.3, 0)")
    for ax in (whole, near):
        ax.set_aspect("equal")
    whole.legend(fontsize=8, loc="lower right", ncols=2)
    style.show(
        figure,
        alt="Paths of the centre for three assumed shares: two end left of the middle of the normal points; the third "
        "comes to stay near one place on the line where its normal part is zero, far from its cross",
    )

# %% [markdown]
# **Reading it** (lab mode). With $\beta = 0.1$ and 0.2 the centre walks down and stays, a little to the left of its cross: the push, which the cross leaves out, adds some distance from $\mathcal S$, as the star of Section 4 did. With $\beta = 0.5$ it never gets to its cross. That lies deep where the normal part is negative, and the star of Eq. 19 stood at the edge of the picture; but Algorithm 1 does not minimise Eq. 19. As soon as the normal part of a batch is below zero it steps back, which here is every second step, and so it comes to stay near one place on the dotted line. (It stays there ten times as long, too; and from a start below, at the mirror image of that place.) Training can log what says so: the share of steps on line 7, and a normal part that stays near zero however long one trains. (Over-fitting looks the same in these two numbers. But here every batch is fresh, so there is nothing to over-fit.)
#
# Why at that place of the line? Think before you unfold it: which two things can still pull *along* the line?
#
# <details><summary>Two pulls along the line</summary>
#
# Call $Z$ the normal part of a batch. Lines 5 and 7 follow its gradient once down and once up, by its sign; on average that is the gradient of $\mathbb E|Z|$. On the dotted line $Z$ is about 0 on average, so $\mathbb E|Z|$ is its *scatter*, which is smaller the nearer the centre is to $\mathcal S$: there the $\ell$ on the few points of $\mathcal S$ are small and alike. That pulls along the line towards $\mathcal S$. In the steps of line 5 the push, $\beta\,\nabla\mathcal L_{\mathcal S}^+$, pulls away from $\mathcal S$. At the place where the path stays the two are equally strong. So it depends on the size of the batch, which no minimum of a risk would: with batches four times as large the scatter is half as large, and the path comes to stay farther from $\mathcal S$, around (−0.56, 0.54). (Try it: `64`, `16` and `80` in the cell above.)
# </details>
#
# ## What to take along
#
# - Eq. 14 turns "needs normal labels" into a subtraction. Exact in expectation; on a sample, the difference of two means.
# - A risk that *can* go to minus infinity does, once a flexible network finds the few labelled points of $\mathcal S$. Log $\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-$; below zero is over-fitting, a $\beta$ that is too large, or a small batch.
# - Eq. 19 is a *value*; Algorithm 1 is a *step*. Below zero it follows something else, on purpose.
# - The clamp is a statement about the whole batch: take means first, then the maximum. Across several processes, too.
#
# ## Try it
#
# 1. Train `nnpu` with `replace(data, s=data.s[:5])`, and with 200 sensitive points from `toy.toy_split(..., n_s=200)`. When does `upu` survive? The next cell has a start.
# 2. Train `nnpu` with a wrong `beta`, 0.1 and 0.35. What does `L_U_minus - beta * L_S_minus` do on *held-out* data now, and what does section 4 say about it?
# 3. Give `toy.train` a larger `ell_scale` (20 in place of 2, say): every $\ell$ is ten times as large. The push sleeps. What happens to the points off the data, and to the gap?

# %%
few = replace(data, s=data.s[:5])  # five labelled sensitive points
short = toy.train(few, "nnpu", BETA, min(100, SIZE["steps"]), process, **SETTINGS)
end = {name: float(values[-1]) for name, values in short.log.items()}
print(
    f"5 points in S, {min(100, SIZE['steps'])} steps: normal part {end['normal_risk']:.3f} on "
    f"the training data, {end['held_normal_risk']:.3f} held out"
)
