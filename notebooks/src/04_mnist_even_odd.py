# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · The full even/odd lab
#
# Takahashi et al., *Positive-Unlabeled Diffusion Models for Preventing Sensitive Data Generation* (ICLR 2025), Section 5, on MNIST.
#
# **After this notebook you can**
# - make the data of Table 1 and say what each group may be used for;
# - train any of seven methods from one code path, and read their losses;
# - draw Figure 1 from samples, and follow single images from one method to another;
# - put an interval on every number: the non-sensitive rate, the Fréchet distance, a difference over seeds;
# - allow for a judge that errs, say when the method does not work, and tell a limit of the method from a fault of the batch.
#
# **What it costs**: in `lab` mode less than a minute and 1.1 GiB of memory on two CPU cores, with the networks that `data/` holds (without them it trains three, about three minutes of a quiet core each). Free Colab T4: not run here.

# %%
import math
import tempfile
from dataclasses import replace
from itertools import combinations, islice
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import binomtest, hypergeom
from torch import Tensor

from pudm_lite.course.checks.c04 import (
    check_04_1,
    check_04_2,
    check_04_3,
    check_04_4,
    check_04_5,
    check_04_6,
)
from pudm_lite.course.labs import smooth
from pudm_lite.course.widgets.w04 import Samples, widget04_browser
from pudm_lite.datasets import data_folder, mnist
from pudm_lite.files import read_rows
from pudm_lite.measures.metrics import (
    corrected_rate,
    frechet_distance,
    frechet_floor,
    non_sensitive_rate,
    paired_rates_p_value,
    paired_t_test,
    welch_t_test,
)
from pudm_lite.results import style
from pudm_lite.results.report import PAPER_METHOD, PAPER_RATE, draw_panel
from pudm_lite.risks import METHODS, Whole, nnpu
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.running import make_trainer, material
from pudm_lite.runs.machine import mode
from pudm_lite.runs.shipped import trained
from pudm_lite.sampling import draw
from pudm_lite.splits import TABLE_1

style.use()
MODE = mode()  # the environment variable PUDM_MODE: fast, lab (the default) or full
SETTINGS = {"fast": {"steps": 4, "batch_size": 32}, "lab": {}, "full": {"network": "paper"}}[MODE]  # {}: the recipe's
N = {"fast": 64, "lab": 400, "full": 2000}[MODE]  # samples drawn from each network
FOLDER = Path(tempfile.mkdtemp()) if MODE == "fast" else Path("../outputs/lab")  # what is trained here is kept there


def lab_experiment(method: str, **settings):
    """The experiment of this notebook's mode: even digits normal, seed 0."""
    exp = replace(experiment("mnist-even", method, **{**SETTINGS, **settings}), n_samples=N)
    return replace(exp, sampler_steps=4) if MODE == "fast" else exp


def rows_of(name: str) -> list[dict]:
    """The rows of finished runs: one JSON line each, in data/results/."""
    return read_rows(data_folder() / "results" / f"{name}.jsonl")


print(f"mode {MODE}: {N} samples a network; settings besides the recipe: {SETTINGS or 'none'}")

# %% [markdown]
# ## 1. The data of Table 1
#
# *The question: which image may be used for what?* Three groups are drawn, without overlap:
#
# | | MNIST (even), Table 1 | who sees it |
# |---|---|---|
# | $\mathcal U$, unlabeled | 25,000 normal (even) and 2,500 sensitive (odd) digits, shuffled | every method, without labels |
# | $\mathcal S$, labelled sensitive | 2,500 odd digits, none of them in $\mathcal U$ | every method but the unsupervised |
# | test | all 4,926 even test digits, normal only | only the Fréchet distance, at the end |
#
# So $\mathcal U$ is a mixture, $p_{\mathcal U} = \beta\,p_{\mathcal S} + (1-\beta)\,p_{\mathcal N}$ (Eq. 13). The share that is *realised* is 2,500 / 27,500 = 1/11; the share that is *assumed*, as in the paper, is $\beta = 0.1$. Both are kept in every row of results.

# %%
exp = lab_experiment("nnpu")
data = material(exp)
split, wanted = data.split, TABLE_1["mnist-even"]
labels = mnist(train=True).labels

assert len(split.u) == wanted.u_normal + wanted.u_sensitive
assert int(split.u_sensitive.sum()) == wanted.u_sensitive
assert not torch.isin(split.u, split.s).any() and (labels[split.s] % 2 == 1).all()
assert len(data.test) == wanted.test
print(f"U {len(split.u):,}, S {len(split.s):,}, test {len(data.test):,}")
print(f"sensitive share of U: realised {split.realised_share:.4f} (1/11), assumed beta = {exp.train.beta}")

figure, axes = plt.subplots(1, 2, figsize=(9.5, 2.9), sharey=True)
for ax, positions, title in ((axes[0], split.u, "U, unlabeled"), (axes[1], split.s, "S, labelled sensitive")):
    counts = torch.bincount(labels[positions], minlength=10)
    odd = torch.arange(10) % 2 == 1
    ax.bar(torch.arange(10)[~odd], counts[~odd], color=style.BLUE, label="normal (even)")
    ax.bar(
        torch.arange(10)[odd], counts[odd], color=style.ORANGE, hatch="//", edgecolor="white", label="sensitive (odd)"
    )
    ax.set(title=title, xlabel="digit (known to us, not to the method)", xticks=range(10))
axes[0].set_ylabel("images")
axes[0].legend(loc="upper right", ncols=2, fontsize=9)
axes[0].set_ylim(0, 6300)
style.show(
    figure,
    alt="Images by digit: U holds about 5,000 of each even and 500 of each odd digit, S 500 of each odd digit",
)

# %% [markdown]
# **Reading it.** In $\mathcal U$ every odd digit is there, about 500 of each, hidden among ten times as many even digits. $\mathcal S$ is as large as that hidden part and looks just like it: this is what the mixture of Eq. 13 assumes, that the labelled sensitive images and the hidden ones come from one distribution. If your $\mathcal S$ lacked the sevens, the method would go on drawing sevens.
#
# ### Exercise 04.1: the split (3 points, 15 minutes)
#
# Write `split_u_s`: from labels, the normal classes, three counts and a seed, draw the positions of $\mathcal U$ (shuffled) and of $\mathcal S$. Exact counts, no image twice, $\mathcal U$ and $\mathcal S$ disjoint, and the seed decides everything.
#
# <details><summary>Hint</summary>
#
# Shuffle the positions of the sensitive images once; the first `u_sensitive` of them go to $\mathcal U$, the next `s` to $\mathcal S$. `torch.isin(labels, torch.tensor(normal))` marks the normal images, and every `torch.randperm` takes `generator=`. At the end shuffle $\mathcal U$.
# </details>


# %% tags=["exercise"]
def split_u_s(
    labels: Tensor, normal: list[int], u_normal: int, u_sensitive: int, s: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Positions of U and of S in a training set.

    labels: (n,) int64. normal: the normal classes; all others are sensitive. u_normal, u_sensitive, s: how many images.
    Returns u (u_normal + u_sensitive,) int64, shuffled, and s (s,) int64, disjoint from u.
    """
    # BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)

    def shuffled(positions: Tensor) -> Tensor:
        return positions[torch.randperm(len(positions), generator=generator)]

    is_normal = torch.isin(labels, torch.tensor(normal))
    of_normal = shuffled(torch.nonzero(is_normal)[:, 0])
    of_sensitive = shuffled(torch.nonzero(~is_normal)[:, 0])
    u = torch.cat([of_normal[:u_normal], of_sensitive[:u_sensitive]])
    return shuffled(u), of_sensitive[u_sensitive : u_sensitive + s]
    # END SOLUTION


# %%
check_04_1(split_u_s)

# %% [markdown]
# ## 2. Seven methods, one code path
#
# *The question: what differs between the methods?* Only how two or three vectors become one number. Each step draws a batch, noises it, lets the network look, and gets one noise error $\ell(\mathbf x)$ per image (Eq. 8). Write $\mathcal L_{\mathcal G}^{-}$ for the mean over a group $\mathcal G$ of $\ell$, the cost of calling it normal, and $\mathcal L_{\mathcal G}^{+}$ for the mean of $-\log(1-e^{-\ell})$, the cost of calling it sensitive (Eq. 11). Then:
#
# | method | objective | equation | what it is told |
# |---|---|---|---|
# | `unsupervised` | $\mathcal L_{\mathcal U}^-$ | 9 | $\mathcal U$ |
# | `supervised` | $\mathcal L_{\mathcal U}^- + \mathcal L_{\mathcal S}^+$ | 12 | $\mathcal U, \mathcal S$ |
# | `pn` | $\beta\mathcal L_{\mathcal S}^+ + (1-\beta)\mathcal L_{\mathcal N}^-$ | 15 | the truth about $\mathcal U$: an oracle |
# | `upu` | $\beta\mathcal L_{\mathcal S}^+ + \mathcal L_{\mathcal U}^- - \beta\mathcal L_{\mathcal S}^-$ | 18 | $\mathcal U, \mathcal S, \beta$ |
# | `nnpu` (proposed) | $\beta\mathcal L_{\mathcal S}^+ + \max\{0,\ \mathcal L_{\mathcal U}^- - \beta\mathcal L_{\mathcal S}^-\}$ | 19, Algorithm 1 | $\mathcal U, \mathcal S, \beta$ |
# | `abspu` | $\beta\mathcal L_{\mathcal S}^+ + \lvert\mathcal L_{\mathcal U}^- - \beta\mathcal L_{\mathcal S}^-\rvert$ | text after 19 | $\mathcal U, \mathcal S, \beta$ |
# | `pnu` | half `pn`, half `nnpu` | not in the paper (Sakai et al. 2017) | also some normal labels |
#
# The loop below takes the same few steps with each, from the same initial weights, with the same images, times and noise. `by_hand` is the table above, in code, from the terms that every step reports.

# %%
STEPS = 2 if MODE == "fast" else 4


def by_hand(method: str, terms: dict[str, float], beta: float) -> float:
    """The objective's value from its named terms: the table above. pnu: eta = 1/2."""
    push, of_u, of_s, of_n = (terms.get(name, 0.0) for name in ("L_S_plus", "L_U_minus", "L_S_minus", "L_N_minus"))
    pn = beta * push + (1 - beta) * of_n  # Eq. 15
    normal = of_u - beta * of_s  # stands for (1 - beta) L_N^-, Eq. 16
    return {
        "unsupervised": of_u,  # Eq. 9
        "supervised": of_u + push,  # Eq. 12
        "pn": pn,
        "upu": beta * push + normal,  # Eq. 18
        "nnpu": beta * push + max(0.0, normal),  # Eq. 19
        "abspu": beta * push + abs(normal),
        "pnu": 0.5 * pn + 0.5 * (beta * push + max(0.0, normal)),
    }[method]


names = {"L_U_minus": "L_U^-", "L_S_minus": "L_S^-", "L_N_minus": "L_N^-", "L_S_plus": "L_S^+"}
first = {}
print(f"{'step 1':13s}" + "".join(f"{name:>9s}" for name in names.values()) + f"{'value':>9s}{f'step {STEPS}':>9s}")
for method in METHODS:
    one = lab_experiment(method)
    records = list(islice(make_trainer(one, data, folder=None), STEPS))
    for record in records:
        assert math.isclose(record.value, by_hand(method, record.terms, one.train.beta), rel_tol=1e-4)
    first[method] = records[0].terms
    shown = "".join(f"{first[method][name]:9.2f}" if name in first[method] else f"{'':9s}" for name in names)
    print(f"{method:13s}{shown}{records[0].value:9.2f}{records[-1].value:9.2f}")

same = [first[method]["L_U_minus"] for method in METHODS if method != "pn"]
assert np.allclose(same, same[0], rtol=1e-4), "the first step sees the same images, times and noise in every method"

# %% [markdown]
# **Reading it.** The column $\mathcal L_{\mathcal U}^-$ is the same number six times: one code path, one draw. `pn` has no such column, because it splits $\mathcal U$ by the truth, and puts the sensitive part of $\mathcal U$ with $\mathcal S$. `upu`, `nnpu` and `abspu` have the same value as well: they differ only when $\mathcal L_{\mathcal U}^- - \beta\mathcal L_{\mathcal S}^-$ is negative, and here it is far from that. The push $\mathcal L_{\mathcal S}^+$ is small beside the rest: $\ell$ is a sum over pixels, about 140 for $\mathcal U$ before training, and $-\log(1-e^{-\ell})$ is then next to nothing: 0.05 here (the notebook on the push takes this apart). What sets `nnpu` apart from `unsupervised` is the term $-\beta\mathcal L_{\mathcal S}^-$. (Do not compare $\mathcal L_{\mathcal S}^-$ with $\mathcal L_{\mathcal U}^-$ in one step: the batch holds four images of $\mathcal S$, each at its own noise level.)
#
# ## 3. Train, and watch the two losses
#
# *The question: what does the difference of one term do over a whole run?* Three methods go on from here: the paper's three. `trained` opens the network that `data/` holds, with the record of its training, or trains one now where there is none (in `fast` mode it always trains, a few steps).

# %%
SHOWN = ("unsupervised", "supervised", "nnpu")
runs = {method: trained(lab_experiment(method), FOLDER) for method in SHOWN}
for method, done in runs.items():
    row = done.row
    print(
        f"{method:13s} {row['steps']:,} steps of {row['batch_size']} images, "
        f"network {row['network']}, beta {row['beta']}, seed {row['seed']}"
    )

DASH = {"unsupervised": ":", "supervised": "--", "nnpu": "-"}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
for ax, term, title in ((axes[0], "L_U_minus", "U, unlabeled"), (axes[1], "L_S_minus", "S, labelled sensitive")):
    for method, done in runs.items():
        front = method == "unsupervised"  # dots on top: `supervised` runs along the same line
        look = {"color": style.COLOUR[method], "lw": 2.4 if front else 1.6, "zorder": 3 if front else 2}
        ax.plot(*smooth(done.curves[term], 25), DASH[method], label=method, **look)
    ax.set(title=title, xlabel="training step")
    style.plain_log(ax)
axes[0].set_ylabel("noise error ℓ (sum over pixels)")
axes[1].legend()
style.show(
    figure,
    alt="Noise error by training step: on U three lines close together, nnpu's a little above the other two; on S nnpu's "
    "is level from step 300 on, where those of unsupervised and supervised go on falling",
)

print(f"last quarter{'U':>9s}{'S':>9s}{'S - U':>9s}")
for method, done in runs.items():
    u, s = (
        float(done.curves[term][-max(1, len(done.curves[term]) // 4) :, 1].mean())
        for term in ("L_U_minus", "L_S_minus")
    )
    print(f"{method:12s}{u:9.2f}{s:9.2f}{s - u:9.2f}")

# %% [markdown]
# **Reading it** (lab mode; the few steps of `fast` mode show no difference yet). On the left the lines of `unsupervised` and `supervised` are not told apart, and `nnpu` lies three per cent above them: all learn $\mathcal U$ nearly alike. On the right `nnpu` lies clearly above the others: after the first few hundred steps the error of sensitive images hardly falls any further, where the others' goes on falling. `supervised` ends about where `unsupervised` ends: its push $\mathcal L_{\mathcal S}^+$ sleeps at most noise levels, and besides, the odd digits in $\mathcal U$ pull the other way (Section 3.1). Nothing explodes, as it would if one simply maximised $\ell$ on $\mathcal S$. (The unsupervised method never uses $\mathcal S$; it looks at it every tenth step, for this picture alone, so its line is the jagged one.)
#
# The lift of $\mathcal S$ is between three and four units of $\ell$, a quarter of what the other two have, no more. So a network need not be made blind to odd digits to nearly stop drawing them (the next section counts). A picture is made in several steps, here fourteen; a guess that is a little less like an odd digit at each of them seems to be enough to turn the path.
#
# ## 4. Figure 1
#
# *The question: what do they draw?* Each network draws the same number of images, image $i$ of every network from the same noise. The judge, a classifier with 99.4 % accuracy on test digits, calls each image by a digit; odd is sensitive.

# %% tags=["expected"]
real = data.judge.look(data.test).features.numpy()  # (4926, 128): for the Fréchet distance of section 6
images, verdicts, normal = {}, {}, {}
for method, done in runs.items():
    images[method] = draw(done.network, done.process, N, **lab_experiment(method).sampling)
    verdicts[method] = data.judge.look(images[method])
    normal[method] = data.judge.is_normal(verdicts[method], wanted.normal)
    print(
        f"{method:13s} {int(normal[method].sum())} of {N} samples are called normal; "
        f"mean confidence {verdicts[method].confidence.mean():.3f}"
    )

SHOW = 36
panels = [
    ("(a) unlabeled data U", data.train[split.u[:SHOW]], split.u_sensitive[:SHOW]),
    ("(b) sensitive data S", data.train[split.s[:SHOW]], torch.ones(SHOW, dtype=torch.bool)),
    ("(c) unsupervised samples", images["unsupervised"][:SHOW], ~normal["unsupervised"][:SHOW]),
    ("(d) proposed samples (nnPU)", images["nnpu"][:SHOW], ~normal["nnpu"][:SHOW]),
]
figure, axes = plt.subplots(1, 4, figsize=(12, 3.3))
figure.get_layout_engine().set(wspace=0.04)
for ax, (title, pictures, sensitive) in zip(axes, panels, strict=True):
    draw_panel(ax, pictures, sensitive, columns=6)
    ax.set_title(title)
style.show(
    figure,
    alt="Figure 1: unlabeled digits, sensitive digits, unsupervised samples and proposed samples, odd digits framed",
)

# %% [markdown]
# **Reading it** (lab mode). Frames mark what is sensitive, in (a) and (b) by label, in (c) and (d) by the judge. The unsupervised network draws odd digits about as often as $\mathcal U$ holds them, one in eleven (the counts are printed above): it is a faithful copy of what it was shown, hidden part included. (How many of them stand among the 36 of a panel is chance.) In (d) no frame is left; among all 400 samples of `nnpu` two are called odd. Compare (c) and (d) image by image: they come from the same noise, and most are nearly the same picture.
#
# In `fast` mode the networks have hardly learned and draw noise, and the judge takes noise for an 8, which is even: a rate of 1. A rate means nothing without a measure of quality beside it; section 6 has one.
#
# ### What became of each image
#
# Because the samples come in pairs, we can count four kinds. If the two networks were equally good, an image that changed sides would have gone either way with probability 1/2: that is McNemar's test, a coin-tossing test on the pairs that changed, exact and one line long.

# %%
before, after = normal["unsupervised"], normal["nnpu"]
gained, lost = int((~before & after).sum()), int((before & ~after).sum())
print(f"normal in both {int((before & after).sum())}, sensitive in both {int((~before & ~after).sum())}")
print(f"sensitive -> normal {gained}, normal -> sensitive {lost}")
assert (
    int(after.sum()) - int(before.sum()) == gained - lost
)  # the difference of the rates is in the changed pairs alone
p_value = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
assert math.isclose(p_value, paired_rates_p_value(before.numpy(), after.numpy()))  # the package's
print(f"McNemar's exact test: p = {p_value:.2g}")

changed = sorted(range(N), key=lambda i: (bool(before[i]) or not bool(after[i]), i))[:14]  # sensitive -> normal first
figure, ax = plt.subplots(figsize=(10, 1.7))
draw_panel(
    ax,
    torch.cat([images["unsupervised"][changed], images["nnpu"][changed]]),
    torch.cat([~before[changed], ~after[changed]]),
    columns=len(changed),
)
ax.set_title("unsupervised (top) and nnPU (bottom), from the same noise: images that changed sides")
style.show(
    figure,
    alt="Framed odd digits of the unsupervised network, and under each what nnPU draws from the same noise",
)

# %% [markdown]
# **Reading it** (lab mode). In many columns the lower picture keeps the slant and the strokes of the upper one and makes an even digit of them: a 2 of a slanting 7, say, or an 8 of a 1. The method does not delete an image; it moves the end of the path to something near that is still likely, as the paper says of its Figures 2 and 3. Some columns are no such success: in the first a faint shape became another faint shape, and in the twelfth next to nothing changed but the judge's mind. The rate counts these as gains too.
#
# ### A browser
#
# Leaf through all samples. The menu picks the kind; the slider the image. (In a notebook without a running kernel you see the fixed picture above instead.)

# %%
browsed = [
    Samples.judged(method, images[method], verdicts[method], data.judge, wanted.normal)
    for method in ("unsupervised", "nnpu")
]
widget04_browser(browsed)

# %% [markdown]
# ## 5. The rate and its interval
#
# *The question: is 0.995 more than 0.900 (398 and 360 of 400), or luck?* The non-sensitive rate (Section 5.2) is $\hat p = k/n$: $k$ of $n$ samples are called normal. Near 1 the interval of textbooks, $\hat p \pm z\sqrt{\hat p(1-\hat p)/n}$, runs over the edge. **Wilson's** interval (1927) asks instead which shares $p$ would not be surprised by $\hat p$, the solutions of $(\hat p - p)^2 \le z^2\,p(1-p)/n$:
#
# $$\frac{1}{1+z^2/n}\left(\hat p + \frac{z^2}{2n} \ \pm\ z\sqrt{\frac{\hat p(1-\hat p)}{n} + \frac{z^2}{4n^2}}\,\right), \qquad z = 1.96 \text{ for } 95\,\%.$$

# %%
rates = {method: non_sensitive_rate(normal[method].numpy()) for method in SHOWN}
for method, rate in rates.items():
    print(f"{method:13s} {rate.rate:.3f} [{rate.low:.3f}, {rate.high:.3f}]  n = {rate.n}")
    for p in (rate.low, rate.high):  # each end solves the equation
        assert math.isclose((rate.rate - p) ** 2, 1.959964**2 * p * (1 - p) / rate.n, rel_tol=1e-4, abs_tol=1e-9)

# %% [markdown]
# ### Exercise 04.2: Wilson's interval (2 points, 10 minutes)
#
# Write `wilson(k, n, z)`, the formula above.
#
# <details><summary>Hint</summary>
#
# Try it on $k = n$: the upper end is 1, the lower end is $n/(n + z^2)$, not 1. A model that drew 100 normal images in a row may still draw a sensitive one in 27.
# </details>


# %% tags=["exercise"]
def wilson(k: int, n: int, z: float) -> tuple[float, float]:
    """Wilson's interval for a share of which k of n were seen: (low, high), both in [0, 1]. z: 1.96 for 95 %."""
    # BEGIN SOLUTION
    p = k / n
    centre = p + z**2 / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return (centre - half) / scale, (centre + half) / scale
    # END SOLUTION


# %%
check_04_2(wilson)

# %% [markdown]
# ### Exercise 04.3: how many samples? (2 points, 15 minutes)
#
# Write `samples_needed(p, width, z)`: the smallest $n$ for which Wilson's interval around a rate $\hat p = p$ is at most `width` wide (high − low). Take $\hat p = p$ exactly; $pn$ need not be a whole number.
#
# <details><summary>Hint</summary>
#
# The width shrinks as $n$ grows, so counting up is right (and quick enough). To be quicker, solve the square of "width of the formula = `width`" for $n$: a quadratic.
# </details>


# %% tags=["exercise"]
def samples_needed(p: float, width: float, z: float) -> int:
    """The smallest n whose Wilson interval around p is at most `width` wide. p in (0, 1), width in (0, 1)."""
    # BEGIN SOLUTION
    n = 1
    while 2 * z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) > width:
        n += 1
    return n
    # END SOLUTION


# %%
check_04_3(samples_needed)

# %% [markdown]
# ### All the rows
#
# Now the finished runs of `data/results/`: complete runs of the paper's methods, with the paper's Table 2 beside them, even digits normal on the left and odd digits in the middle; and on the right further methods after a shorter training, made by `pudm train --method METHOD --steps 800 --n-samples 1000`. Where a method has no dot, it is not among these rows. Compare a panel with itself.

# %% tags=["expected"]
rows = rows_of("figure1")
short = [row for row in rows_of("methods") if row["labelled"] == 2500]
figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), sharex=True, sharey=True)
there = [method for method in METHODS if any(row["method"] == method for row in rows + short)]
for ax, group, configuration, title in (
    (axes[0], rows, "mnist-even", "even digits normal"),
    (axes[1], rows, "mnist-odd", "odd digits normal"),
    (axes[2], short, "mnist-even", f"even digits normal, {short[0]['steps']} steps"),
):
    for y, method in enumerate(there):
        mine = sorted(
            (r for r in group if (r["experiment"], r["method"]) == (configuration, method)), key=lambda r: r["seed"]
        )
        for i, row in enumerate(mine):
            rate = row["non_sensitive_rate"]
            error = [[rate - row["rate_low"]], [row["rate_high"] - rate]]
            label = "a run, 95 % interval" if (y, i) == (0, 0) else None
            ax.errorbar(
                rate, y - 0.12 - 0.16 * i, xerr=error, fmt="o", ms=5, color=style.BLUE, capsize=2, lw=1.2, label=label
            )
        if group is rows and PAPER_METHOD.get(method) in PAPER_RATE[configuration]:
            mean, deviation = PAPER_RATE[configuration][PAPER_METHOD[method]]
            label = "paper, mean ± s.d. of 5" if y == 0 else None
            ax.errorbar(
                mean,
                y + 0.18,
                xerr=deviation,
                fmt="D",
                ms=6,
                mfc="white",
                color=style.ORANGE,
                capsize=2,
                lw=1.2,
                label=label,
            )
    ax.axvline(10 / 11, color="grey", ls="--", lw=1, label="normal share of U, 10/11")
    ax.set(title=title, xlabel="non-sensitive rate", yticks=range(len(there)), yticklabels=there)
axes[0].invert_yaxis()
axes[2].legend(*axes[0].get_legend_handles_labels(), loc="upper right", fontsize=9)
style.show(
    figure,
    alt="Rates of the runs with intervals, the paper's beside them: unsupervised and supervised between 0.88 and 0.92, "
    "nnpu, abspu and pn between 0.97 and 0.99",
)
for row in short:
    if "clamped_share" in row:
        print(f"{row['method']:6s} {row['steps']:,} steps, {row['clamped_share']:.1%} of them clamped")

# %% [markdown]
# **Reading it.** `unsupervised` stays near the dashed line, the normal share of $\mathcal U$, within two points where even digits are normal and about two points below it where odd ones are: a thirtieth of the paper's training is enough to copy $\mathcal U$ that faithfully. `supervised` was run here once, for even digits and seed 0: 0.917, two points above the unsupervised run of that seed, with intervals that just overlap; in the paper it gains half a point or less. The methods that know that $\mathcal U$ is a mixture stand well to the right of both, and their intervals do not meet those of the others.
#
# Our `nnpu` lies at the paper's value where odd digits are normal, and a point above it where even ones are. `pn`, the oracle that is told the truth, comes out as `nnpu` does, which is not told (0.968 and 0.970, one short run each): nothing here says that more labels would close the gap to 1. A longer training does close much of it: compare the short run of `nnpu` on the right with the complete ones on the left. `abspu` and `nnpu` take the same steps until the clamp fires; by the lines below the figure it never did, so at this $\beta$ the two are one and the same run, to the last digit, and say nothing about which is better.
#
# **Question in words.** Why is the rate of the unsupervised network near $1 - 1/11$, and why may it be somewhat lower?

# %% [markdown] tags=["answer"]
# It minimises the error on $\mathcal U$ alone (Eq. 9), so the best it can do is to draw from $p_{\mathcal U}$, and a share $10/11 = 0.909$ of $\mathcal U$ is normal. It can be lower because a short training draws some digits badly, and a spoilt even digit is called odd more often than the other way round would repair: nine tenths of the digits are even, so a few per cent of unreadable ones lose mostly normal images. Chance adds $\pm 0.013$ (95 %) at $n = 2{,}000$.

# %% [markdown]
# ## 6. The Fréchet distance, its floor and its interval
#
# *The question: what did it cost in quality?* Take features of the samples and of the real normal test digits, fit a Gaussian to each, and measure how far the Gaussians are apart (Heusel et al. 2017):
#
# $$d^2 = \lVert m_x - m_y\rVert^2 + \operatorname{tr}\!\big(C_x + C_y - 2\,(C_xC_y)^{1/2}\big).$$
#
# In one dimension this is $(m_x - m_y)^2 + (\sigma_x - \sigma_y)^2$. With the features of an Inception network it is called FID; ours are the judge's 128 features, so **our values compare with one another, not with the paper's Table 3**.

# %%
x, y = np.random.default_rng(0).normal(size=(2, 500, 1)) * [[[1.0]], [[3.0]]] + [[[0.0]], [[2.0]]]
by_formula = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
assert math.isclose(frechet_distance(x, y), by_formula)
print(f"one dimension: {by_formula:.4f} by the formula, {frechet_distance(x, y):.4f} by pudm_lite")

# %% [markdown]
# ### Exercise 04.4: in any dimension (3 points, 15 minutes)
#
# Write `frechet(mean_x, cov_x, mean_y, cov_y)`. A matrix root has the roots of the matrix's eigenvalues, so you need no matrix root: the trace is their sum.
#
# <details><summary>Hint</summary>
#
# $C_xC_y$ is not symmetric, but its eigenvalues are real and not negative. `torch.linalg.eigvals` returns them as complex numbers: take `.real`, and clamp what rounding pushed below 0.
# </details>


# %% tags=["exercise"]
def frechet(mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor) -> Tensor:
    """The squared Fréchet distance of two Gaussians. means: (d,) float64; covariances: (d, d) float64. Returns ()."""
    # BEGIN SOLUTION
    root_trace = torch.linalg.eigvals(cov_x @ cov_y).real.clamp(min=0).sqrt().sum()
    return (mean_x - mean_y).square().sum() + cov_x.trace() + cov_y.trace() - 2 * root_trace
    # END SOLUTION


# %%
check_04_4(frechet)

# %% [markdown]
# ### An interval for it
#
# A distance of two clouds has no binomial formula. The **jackknife** makes one from the samples themselves: leave out one tenth, measure again, ten times; if $d_{(j)}$ is the distance without group $j$ of $g$ and $\bar d$ the mean of these, the standard error is
#
# $$s = \sqrt{\tfrac{g-1}{g}\sum_{j}\big(d_{(j)} - \bar d\big)^2}.$$
#
# Why not the bootstrap, which draws $n$ of the $n$ samples with replacement? Because a Fréchet distance grows with the error of the covariance, and $n$ draws from a finite sample have that error *twice*: once as the sample has it, once again from the drawing. The cell below measures it. (It is not that a resample has a smaller covariance, by the factor $(n-1)/n$: the cell does that alone as well, and it moves next to nothing.)


# %%
def jackknife(statistic, x: np.ndarray, groups: int = 10) -> float:
    """Standard error of statistic(x), x: (n, d), by leaving out one group of rows at a time."""
    parts = np.array_split(np.arange(len(x)), groups)
    left = np.array([statistic(np.delete(x, part, axis=0)) for part in parts])
    return math.sqrt((groups - 1) / groups * ((left - left.mean()) ** 2).sum())


z = np.random.default_rng(1).normal(size=(400, 1))  # of a mean the error is known: that of the groups' means
known = z.reshape(10, 40).mean(1).std(ddof=1) / math.sqrt(10)
assert math.isclose(jackknife(np.mean, z), known)

print(
    f"Fréchet distance to {len(real):,} real normal digits, judge features, n = {N}; floor {frechet_floor(real, N):.2f}"
)
for method in SHOWN:
    features = verdicts[method].features.numpy()
    distance = frechet_distance(features, real)
    error = jackknife(lambda part: frechet_distance(part, real), features)
    print(f"{method:13s} {distance:.2f} ± {1.96 * error:.2f}")

features = verdicts["nnpu"].features.numpy()
again = [frechet_distance(features[np.random.default_rng(i).integers(0, N, N)], real) for i in range(10)]
shrunk = features.mean(0) + math.sqrt((N - 1) / N) * (features - features.mean(0))
print(
    f"nnpu: {frechet_distance(features, real):.3f}; covariance times (n-1)/n: {frechet_distance(shrunk, real):.3f}; "
    f"mean of ten bootstrap samples: {np.mean(again):.3f}"
)

evens = [verdicts[method].features.numpy()[normal[method].numpy()] for method in ("unsupervised", "nnpu")]
n_even = min(map(len, evens))  # the same number of each, since a distance falls with n
print(f"only samples called normal, n = {n_even} of each:")
for method, part in zip(("unsupervised", "nnpu"), evens, strict=True):
    distance = frechet_distance(part[:n_even], real)
    error = jackknife(lambda rows: frechet_distance(rows, real), part[:n_even])
    print(f"{method:13s} {distance:.2f} ± {1.96 * error:.2f}")

# %% [markdown]
# The *floor* is what perfect samples would get: $n$ real digits against the other real digits. It is not 0, because $n$ images estimate a covariance with an error; and that is why a distance means nothing without its $n$. (It is itself a draw: at $n = 400$ between about 0.1 and 0.6 from one choice of digits to another. The number above is one draw, the figure below a mean of four.)

# %%
sizes = [n for n in (32, 64, 100, 200, 400, 1000, 2000) if n <= N]
figure, ax = plt.subplots(figsize=(6.4, 3.6))
for method, marker in (("unsupervised", "o"), ("nnpu", "^")):
    features = verdicts[method].features.numpy()
    means = []
    for n in sizes:  # the mean over as many groups of n as there are
        groups = features[: N // n * n].reshape(-1, n, features.shape[1])
        means.append(np.mean([frechet_distance(group, real) for group in groups]))
    ax.plot(sizes, means, DASH[method], marker=marker, color=style.COLOUR[method], label=method)
floors = [np.mean([frechet_floor(real, n, seed) for seed in range(4)]) for n in sizes]
ax.plot(sizes, floors, "-.", marker="x", color="grey", label="real digits (floor)")
ax.set(xscale="log", xlabel="samples n", ylabel="Fréchet distance (judge features²)")
style.plain_log(ax)
ax.set_xticks(sizes, sizes)
ax.legend()
style.show(
    figure,
    alt="Fréchet distance by number of samples: falling for two networks and for real digits, the lowest line",
)

# %% [markdown]
# **Reading it** (lab mode). Every line falls with $n$, the floor like $1/n$: one and the same network looks better when more samples are drawn. So compare at one $n$ only, and look at the interval: a distance needs more samples than a rate. The printed intervals of `unsupervised` and `nnpu` overlap, so that these samples alone hardly order the two methods; section 8 has more samples and more seeds, and there `nnpu` has the smaller distance every time.
#
# Where does the gap come from? In the last lines of the numbers above only samples that the judge calls normal are compared, 360 of each network, and the order turns round: 1.98 and 1.33 became 1.30 and 1.45, with intervals that overlap widely. So the gain of `nnpu` here is the odd digits that it does not draw; that its even digits are better these samples do not show, nor that they are worse. (Nor is the comparison quite fair: the judge took some spoilt pictures from the unsupervised network because it called them odd, and left their counterparts to `nnpu`, as in the first column of section 4.) One number holds two effects, which can have opposite signs: *what* is drawn and *how well*.
#
# In the paper's Table 3 the proposed method has the larger FID (4.97 against 3.53 for even): there the second effect may be the larger one. Its networks see about thirty times as many images and the features are Inception's; which of the two makes the difference our runs do not say.
#
# ## 7. The judge's own errors
#
# *The question: who judges the judge?* Its confusion on the 10,000 real test digits was measured when it was trained, and is part of its file.

# %%
confusion = np.array(data.judge.confusion)
figure, ax = plt.subplots(figsize=(5.0, 4.4))
ax.imshow(np.where(np.eye(10, dtype=bool), 0, confusion), cmap="Blues", vmax=10)
for i in range(10):
    for j in range(10):
        if confusion[i, j]:
            crosses = (i - j) % 2 == 1
            ax.text(
                j,
                i,
                confusion[i, j],
                ha="center",
                va="center",
                fontsize=8,
                weight="bold" if crosses else None,
                color="grey" if i == j else "black",
            )
            if crosses:
                ax.add_patch(plt.Rectangle((j - 0.45, i - 0.45), 0.9, 0.9, fill=False, ec=style.ORANGE, lw=1.8))
ax.grid(False)
ax.set(
    xlabel="called",
    ylabel="true digit",
    xticks=range(10),
    yticks=range(10),
    title="the judge on 10,000 real test digits",
)
style.show(
    figure,
    alt="The judge's confusion: about 1,000 on the diagonal, at most 6 elsewhere; framed: between even and odd",
)

errors = confusion.sum() - np.trace(confusion)
even = np.arange(10) % 2 == 0
crossing = confusion[np.ix_(even, ~even)].sum(), confusion[np.ix_(~even, even)].sum()
kept, caught = data.judge.errors(wanted.normal)
assert math.isclose(kept, 1 - crossing[0] / confusion[even].sum()) and math.isclose(
    caught, 1 - crossing[1] / confusion[~even].sum()
)
print(f"{errors} errors; even called odd {crossing[0]}, odd called even {crossing[1]}")
print(f"accuracy {data.judge.accuracy:.4f}; normal called normal {kept:.4f}, sensitive called sensitive {caught:.4f}")

# %% [markdown]
# **Reading it.** Of the judge's 59 errors only the 26 in frames cross between even and odd, 4 and 9 among them; a 6 called 0 costs the rate nothing. So for this question the judge is better than its accuracy says.
#
# With $a$ the share of normal images called normal and $b$ the share of sensitive images called sensitive, a true rate $p$ is seen as
#
# $$r = a\,p + (1-b)(1-p), \qquad\text{so}\qquad p = \frac{r - (1-b)}{a + b - 1},$$
#
# cut off at 0 and 1 (Rogan and Gladen 1978). We report the raw rate, which compares with the paper, and this one beside it.
#
# ### Exercise 04.5: the rate behind the rate (2 points, 10 minutes)
#
# Write `true_rate(rate, kept, caught)`: the formula for $p$, kept inside $[0, 1]$. (`kept` is $a$, `caught` is $b$.)
#
# <details><summary>Hint</summary>
#
# Put $p = 1$ into the forward formula: a perfect model is seen as $a$. Your function must send $a$ back to 1, and $1 - b$ to 0.
# </details>


# %% tags=["exercise"]
def true_rate(rate: float, kept: float, caught: float) -> float:
    """The rate that a perfect judge would find, in [0, 1]. kept, caught: shares in (0, 1] with kept + caught > 1."""
    # BEGIN SOLUTION
    return min(1.0, max(0.0, (rate - (1 - caught)) / (kept + caught - 1)))
    # END SOLUTION


# %%
check_04_5(true_rate)

# %%
for method, rate in rates.items():
    fixed = [corrected_rate(value, kept, caught) for value in (rate.rate, rate.low, rate.high)]
    print(
        f"{method:13s} raw {rate.rate:.3f} [{rate.low:.3f}, {rate.high:.3f}]   "
        f"corrected {fixed[0]:.3f} [{fixed[1]:.3f}, {fixed[2]:.3f}]"
    )

p = np.array([0.909, 0.95, 0.98, 0.99, 0.999])
print("true rate               " + "".join(f"{v:8.3f}" for v in p))
print(
    "of the sensitive verdicts, false alarms "
    + "".join(f"{v:8.0%}" for v in (1 - kept) * p / ((1 - kept) * p + caught * (1 - p)))
)

# %% [markdown]
# **Reading it.** The correction moves the rates by two or three thousandths, inside the interval. But look at the last line: where the true rate is 0.909, hardly any verdict "sensitive" is a false alarm; where it is 0.99, about a fifth are, and at 0.999 most.
#
# One caution: $a$ and $b$ were measured on *real* digits. On a badly drawn one the judge errs more often, and in a direction that the formula does not know.
#
# **Question in words.** Why does the judge's error matter more near 1, although it changes the rate by the same two or three thousandths everywhere?

# %% [markdown] tags=["answer"]
# Because near 1 the interesting number is the *sensitive* share, $1 - p$, and that becomes as small as the judge's errors. The judge sees $1 - r = b\,(1-p) + (1-a)\,p$: the second part, false alarms on normal images, stays near $1 - a \approx 0.003$ while the first goes to 0. At $p = 0.909$ false alarms are 3 % of what is counted, at $p = 0.99$ a fifth, at $p = 0.999$ three quarters. However many samples you draw, you cannot tell 0.99 from 0.999 with such a judge unless you know its error $1-a$ to a thousandth.

# %% [markdown]
# ## 8. Seeds
#
# *The question: would it come out so again?* The interval above is about *one* network: how well its samples say what it draws. Another seed gives another split, other initial weights, other batches, and so another network. Tables 2 and 3 therefore run five seeds and test with a $t$-test at 5 %.
#
# We use the **paired** test, here and in every table of the course's own runs (the README's, `pudm report`): a seed fixes the split, the initial weights, every draw of the training and the noise of the samples for all methods alike, so two methods' runs of one seed are no independent numbers, and the question is whether their *differences* within a seed have mean 0. Welch's test takes the runs as independent. It is what one can compute from the paper's printed means and standard deviations (notebook 07); the paper says "pair-wise $t$-test" and not whether it is paired. Below it stands beside the paired one, to compare. For the samples of two single networks there is the same choice: they start from the same noise, so they are pairs, and McNemar's test of section 4 is the right one.

# %%
table = {}
for configuration in ("mnist-even", "mnist-odd"):
    by_seed = {
        method: {r["seed"]: r for r in rows if (r["experiment"], r["method"]) == (configuration, method)}
        for method in ("unsupervised", "nnpu")
    }
    seeds = sorted(by_seed["unsupervised"].keys() & by_seed["nnpu"].keys())
    for measure in ("non_sensitive_rate", "frechet_distance"):
        a, b = (np.array([by_seed[method][seed][measure] for seed in seeds]) for method in ("unsupervised", "nnpu"))
        table[configuration, measure] = seeds, a, b
        print(f"{configuration}, {measure}, seeds {seeds}")
        for name, values in (("unsupervised", a), ("nnpu", b)):
            spread = f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"
            if measure == "non_sensitive_rate":  # what chance alone would give with one and the same network
                drawn = by_seed[name][seeds[0]]["n_samples"]
                spread += f"   (sampling alone: ± {math.sqrt(values.mean() * (1 - values.mean()) / drawn):.3f})"
            print(f"   {name:13s} {spread}")
        print(f"   paired t-test p = {paired_t_test(a, b):.2g}   (Welch's, as if independent: p = {welch_t_test(a, b):.2g})")
print(f"McNemar's exact test, this notebook's unsupervised and nnpu samples: p = {p_value:.2g}")

figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.3))
for ax, measure, label in (
    (axes[0], "non_sensitive_rate", "non-sensitive rate"),
    (axes[1], "frechet_distance", "Fréchet distance (judge)"),
):
    for configuration, marker, dash, colour in (
        ("mnist-even", "o", "-", style.BLUE),
        ("mnist-odd", "s", "--", style.ORANGE),
    ):
        seeds, a, b = table[configuration, measure]
        for i in range(len(seeds)):
            ax.plot(
                [0, 1], [a[i], b[i]], dash, marker=marker, color=colour, lw=1.3, label=configuration if i == 0 else None
            )
    ax.set(xticks=[0, 1], xticklabels=["unsupervised", "nnpu"], ylabel=label, xlim=(-0.3, 1.3))
axes[0].legend()
style.show(
    figure, alt="One line a seed from unsupervised to nnpu: the rate rises in every seed, the Fréchet distance falls"
)

# %% [markdown]
# **Reading it.** One line is one seed. Every line rises on the left, and every line falls on the right. The gain in rate is more than ten times the spread between seeds. With three seeds a paired test has two degrees of freedom, so a $p$ of a thousandth to a hundredth, as here, is about as much as three runs can say; and a spread estimated from three runs is itself easily off by half in either direction. The paired test does not always have the smaller $p$ (for the rates it has the larger one, for the distances the smaller one): pairing removes what a seed does to both methods, and pays for it with half the degrees of freedom. One chooses it because the runs *are* paired, not because of the $p$.
#
# Compare the standard deviation of the rates between seeds with what sampling alone would give: it is about the same or smaller, so the networks of two seeds need not differ more than two sets of samples of one network. In the Fréchet distance the seeds of `nnpu` lie further apart where odd digits are normal (0.364); the two runs of a seed go up and down together there, and the three differences, 0.9 to 1.3, agree better than the runs do.
#
# ## 9. What does not work
#
# A method is understood when one can make it fail.
#
# ### beta too small, beta too large
#
# As $\beta \to 0$ Eq. 19 becomes Eq. 9: `nnpu` turns into `unsupervised`. As $\beta$ grows past the true share, more is subtracted than $\mathcal U$ holds; once $\mathcal L_{\mathcal U}^- < \beta\,\mathcal L_{\mathcal S}^-$ the clamp fires, and Algorithm 1 steps back. The rows below are `nnpu` runs that differ in $\beta$ alone (with fewer steps than above, so compare them with one another).

# %% tags=["expected"]
sweep = sorted(
    (row for row in rows_of("beta_sweep") if (row["method"], row["seed"]) == ("nnpu", 0)), key=lambda row: row["beta"]
)


def error_bar(row: dict) -> list[list[float]]:
    rate = row["non_sensitive_rate"]
    return [[rate - row["rate_low"]], [row["rate_high"] - rate]]


figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.5))
betas = [row["beta"] for row in sweep]
for row in rows_of("beta_sweep"):
    if (row["method"], row["seed"]) == ("unsupervised", 0):  # it has no beta
        axes[0].axhline(row["non_sensitive_rate"], color=style.BLACK, ls="-.", lw=1, label="unsupervised")
for row in sweep:
    axes[0].errorbar(row["beta"], row["non_sensitive_rate"], yerr=error_bar(row), fmt="o", color=style.BLUE, capsize=2)
axes[0].plot(betas, [row["non_sensitive_rate"] for row in sweep], color=style.BLUE, lw=1)
axes[1].plot(betas, [row["frechet_distance"] for row in sweep], "s--", color=style.ORANGE)
for ax, label in ((axes[0], "non-sensitive rate"), (axes[1], "Fréchet distance (judge)")):
    ax.axvline(1 / 11, color="grey", ls=":", label="true share 1/11")
    ax.set(xscale="log", xlabel="assumed beta", ylabel=label, title=f"nnpu, {sweep[0]['steps']:,} steps", xticks=betas)
    ax.set_xticklabels([f"{beta:g}" for beta in betas], fontsize=9)
    ax.minorticks_off()
style.plain_log(axes[1])
axes[0].legend()
style.show(
    figure,
    alt="Rate and Fréchet distance of nnpu by assumed beta, the true share marked",
)

for row in sweep:
    print(
        f"beta {row['beta']:<5g} rate {row['non_sensitive_rate']:.3f}  Fréchet {row['frechet_distance']:7.2f}  "
        f"steps where the clamp fired {row['clamped_share']:.1%}"
    )
for seed in sorted({row["seed"] for row in rows_of("beta_sweep")}):
    distances = [r["frechet_distance"] for r in rows_of("beta_sweep") if (r["method"], r["seed"]) == ("nnpu", seed)]
    print(f"seed {seed}: the largest distance is {max(distances) / min(distances):.0f} times the smallest")

# %% [markdown]
# **Reading it.** *Too small* (0.03): the rate, 0.926, sinks towards that of the unsupervised network, 0.910, since most of the hidden part is still learned. *Right* (0.1, a little above the true 1/11): 0.970, two thirds of the way to 1, and the lowest distance of the five. *Twice too large* (0.2): the rate rises a little more, to 0.988, and the distance is three times as large: presumably normal digits that resemble odd digits are pushed up with them, as the blobs next to the gap were in notebook 03. *Far too large* (0.4): a rate of 1 that nobody wants; the distance is 34 times the lowest in either seed (the last lines), so whatever is drawn is no longer like the test digits, and the clamp fires in one step of six. The rate alone would have chosen this model. The notebook on $\beta$ shows how to land near the true share.
#
# ### Few labelled images: the method's fault, or the batch's?
#
# *The question: what becomes of the method when $\mathcal S$ holds 50 images instead of 2,500?* Algorithm 1 draws "a mini-batch $\mathcal B$ from datasets $(\mathcal U, \mathcal S)$" (line 2). Read as one **pooled** batch, most batches hold no image of $\mathcal S$ at all, and then $\mathcal L_{\mathcal S}^- = 0$ in line 3: nothing is subtracted. Where $\mathcal S$ is in a batch, a mean over its one or two images enters with the full weight $\beta$. How much is subtracted on the average over batches? Work it out, or read on: the answer stands below the exercise.
#
# ### Exercise 04.6*: the bias of a pooled batch (3 points, 45 minutes)
#
# Take a set so small that all its batches can be written down. Its errors are given and fixed: `l_u` of $N$ images of $\mathcal U$, `l_s` of $M$ images of $\mathcal S$. A batch is any `size` of the $N+M$ images, none of them twice, and each batch is as probable as any other. In a batch $\mathcal L_{\mathcal U}^-$ and $\mathcal L_{\mathcal S}^-$ are means over the images that *it* holds of either group; a group that is absent has 0. Write `pooled_batches(l_u, l_s, beta, size)` and return three numbers:
#
# 1. *derived*: the expectation of $\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-$ over all batches, as a formula of the means of `l_u` and `l_s`, of $N$, $M$, `size` and $\beta$. No loop;
# 2. *counted*: the same, by going through all batches. This is the test of your derivation;
# 3. *stepped*: what Algorithm 1 makes of it. In the step of a batch $\mathcal L_{\mathcal S}^-$ has the factor $-\beta$ (line 5), or $+\beta$ where $\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^- < 0$ (line 7). (The push is left aside.) Return the mean of this factor over all batches, where a batch without an image of $\mathcal S$ counts as 0.
#
# <details><summary>Hint</summary>
#
# For 1: *which* images of $\mathcal S$ a batch holds is chance, so wherever there are any, their mean has the expectation of the mean of `l_s`. What is left is the probability that there are any: `1 - math.comb(N, size) / math.comb(N + M, size)`. The same holds for $\mathcal U$. For 2 and 3: `combinations(range(N + M), size)`, where numbers below $N$ are images of $\mathcal U$.
# </details>

# %% tags=["exercise"]
def pooled_batches(l_u: Tensor, l_s: Tensor, beta: float, size: int) -> tuple[float, float, float]:
    """What pooled batches of `size` make of L_U - beta L_S. l_u: (N,), l_s: (M,), noise errors. size: 1 to N + M.

    Returns (derived, counted, stepped): see above.
    """
    # BEGIN SOLUTION
    n_u, n = len(l_u), len(l_u) + len(l_s)
    some_u, some_s = (1 - math.comb(n - k, size) / math.comb(n, size) for k in (n_u, n - n_u))
    derived = float(some_u * l_u.mean() - beta * some_s * l_s.mean())
    counted = stepped = 0.0
    for chosen in map(torch.tensor, combinations(range(n), size)):
        u, s = l_u[chosen[chosen < n_u]], l_s[chosen[chosen >= n_u] - n_u]
        normal = (float(u.mean()) if len(u) else 0.0) - beta * (float(s.mean()) if len(s) else 0.0)
        counted += normal
        if len(s):
            stepped += beta if normal < 0 else -beta
    return derived, counted / math.comb(n, size), stepped / math.comb(n, size)
    # END SOLUTION


# %%
check_04_6(pooled_batches)

# %% [markdown]
# So the expected weight of $\mathcal L_{\mathcal S}^-$ is not $\beta$ but
#
# $$\beta\; P(n_s \ge 1),$$
#
# with $n_s$ the number of images of $\mathcal S$ in a batch. That is a **bias**, and no small one with few labels (the next cell's first lines). And the clamp can only make it worse: the steps that it turns round all hold images of $\mathcal S$.
#
# Two ways out. Divide each group's sum by the number *expected* of it, $\mathbb E[n_s]$, and not by the number realised: then the rare image counts for those that were not drawn. Or draw **two streams**, a fixed number from each set: then no batch is without. Both leave the expectation of $\mathcal L_{\mathcal U}^- - \beta\mathcal L_{\mathcal S}^-$ where it belongs, which a set small enough to write down *all* its batches shows exactly, without chance:

# %%
size, n_u = 44, len(split.u)
for n_s in (20, 50, 200, 2500):
    some = 1 - hypergeom(n_u + n_s, n_s, size).pmf(0)  # P(n_s >= 1)
    print(f"{n_s:5,} labels: {some:6.1%} of pooled batches of {size} hold one; the weight is {0.1 * some:.3f}, not 0.1")

ell_u = torch.tensor([3.0, 1.0, 2.0, 6.0, 4.0, 2.0, 1.0, 5.0])  # errors of 8 unlabeled and 2 sensitive images
ell_s = torch.tensor([2.0, 10.0])
share, wanted_risk = 0.2, ell_u.mean() - 0.2 * ell_s.mean()
four = [torch.tensor(chosen) for chosen in combinations(range(10), 4)]  # all 210 pooled batches of four
pooled = [(ell_u[b[b < 8]], ell_s[b[b >= 8] - 8]) for b in four]
streams = [(ell_u[list(u)], ell_s[[s]]) for u in combinations(range(8), 3) for s in (0, 1)]  # three of U, one of S
ways = {
    "pooled, divided by what is there": (pooled, Whole()),
    "pooled, divided by what is expected": (pooled, Whole(n_u=4 * 0.8, n_s=4 * 0.2)),
    "two streams": (streams, Whole()),
}
mean_of = {}
print(f"\n{'mean over all batches of':38s}{'L_S':>7s}{'L_U - beta L_S':>16s}{'max(0, .)':>11s}{'clamped':>9s}")
for name, (batches, whole) in ways.items():
    terms = [nnpu(u, s, share, whole).terms for u, s in batches]
    mean_of[name] = {term: torch.stack([t[term] for t in terms]).mean() for term in terms[0]}
    above = torch.stack([t["normal_risk"].clamp(min=0) for t in terms]).mean()
    m = mean_of[name]
    print(f"{name:38s}{m['L_S_minus']:7.3f}{m['normal_risk']:16.3f}{above:11.3f}{m['clamped']:9.0%}")
    assert above >= m["normal_risk"]  # the maximum is not unbiased, whatever the batch
print(f"{'all the data':38s}{ell_s.mean():7.3f}{wanted_risk:16.3f}")

some = 1 - math.comb(8, 4) / math.comb(10, 4)  # P(n_s >= 1) = 2/3
assert torch.isclose(mean_of["pooled, divided by what is there"]["L_S_minus"], some * ell_s.mean())
for name in ("pooled, divided by what is expected", "two streams"):
    assert torch.isclose(mean_of[name]["normal_risk"], wanted_risk)

# %% [markdown]
# **Reading it.** Of the small set the first line misses a third of $\mathcal L_{\mathcal S}^-$: the batches without an image of $\mathcal S$. The other two have it whole. But look on: the mean of $\max\{0, \cdot\}$ lies above the risk in every line, and most where the clamp fires most. A sum divided by what is expected weighs a lone image of $\mathcal S$ by $1/\mathbb E[n_s]$, twelve for 50 labels of MNIST; then $\mathcal L_{\mathcal U}^- - \beta\mathcal L_{\mathcal S}^-$ of *that* batch is negative and Algorithm 1 turns the step round. The sums are unbiased, the maximum of them is not. Two streams have nothing of the first fault and little of the second.
#
# Does it matter to a network? The rows below are `nnpu` runs with 20, 50 and 200 labelled images, three seeds for each of the three ways (`pudm sweep --method nnpu --seed 0 1 2 --steps 800 --n-samples 1000 --set labelled=50 stream=pooled group_sizes=realised`, and so on). The lines are runs of as many steps without labels and with all 2,500, one each.

# %% tags=["expected"]
few = rows_of("few_labels")
WAYS = {  # (stream, group_sizes): name and look
    ("pooled", "realised"): ("pooled, realised sizes (Algorithm 1 as written)", style.ORANGE, "o"),
    ("pooled", "expected"): ("pooled, expected sizes", style.GREEN, "^"),
    ("two", "realised"): ("two streams (the recipe of lite)", style.BLUE, "s"),
}
MEASURES = {"non_sensitive_rate": "non-sensitive rate", "frechet_distance": "Fréchet distance (judge)"}
figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.9))
ticks = []  # one for each way and number of labels
print(f"{'':48s}{'labels':>7s}{'rate by seed':>24s}{'Fréchet distance':>24s}{'clamped':>9s}")
for (stream, sizes), (name, colour, marker) in WAYS.items():
    mine = [row for row in few if (row["method"], row["stream"], row["group_sizes"]) == ("nnpu", stream, sizes)]
    for n in sorted({row["labelled"] for row in mine}):
        those = sorted((row for row in mine if row["labelled"] == n), key=lambda row: row["seed"])
        for ax, measure in zip(axes, MEASURES, strict=True):
            values = [row[measure] for row in those]
            ax.plot([len(ticks)] * len(values), values, marker, color=colour, ms=6, mfc="white")
            told = name.partition(" (")[0] if n == min(row["labelled"] for row in mine) else None
            ax.plot(len(ticks), np.mean(values), "_", color=colour, ms=26, mew=2, label=told)
        ticks.append(str(n))
        rates_by_seed = ", ".join(f"{row['non_sensitive_rate']:.3f}" for row in those)
        far = ", ".join(f"{row['frechet_distance']:.2f}" for row in those)
        clamped = np.mean([row["clamped_share"] for row in those])
        print(f"{name:48s}{n:7,}{rates_by_seed:>24s}{far:>24s}{clamped:9.1%}")
for ax, (measure, label) in zip(axes, MEASURES.items(), strict=True):
    for method, dash, told in (("unsupervised", "--", "unsupervised: no labels"), ("nnpu", ":", "nnpu: 2,500 labels")):
        run = next(row for row in short if row["method"] == method)
        ax.axhline(run[measure], color=style.COLOUR[method], ls=dash, lw=1.2, label=told)
    ax.set(ylabel=label, xlabel="labelled images", xlim=(-0.5, len(ticks) - 0.5))
    ax.set_xticks(range(len(ticks)), ticks)
axes[1].set_ylim(bottom=0)
figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=5, markerscale=0.4)
style.show(
    figure,
    alt="Rate and Fréchet distance of nnpu with few labels, by the way to make a batch: a dot for each seed, a bar for "
    "their mean; lines mark the runs without labels and with all of them",
)

# %% [markdown]
# **Reading it.** One method, one risk, the same labels; only the batch differs. Pooled as Algorithm 1 is written, 50 labels leave next to nothing of the gain in rate: it is near that of the unsupervised network (dashed), because nearly all steps *are* unsupervised ones. (The distance lies between the two lines.) One could have taken that for a limit of PU learning. It is none: with two streams the same 50 images give much of the gain in *rate*, 0.945 to 0.980 by seed, where all 2,500 labels give 0.970. But they pay in *distance*: 4.9 to 6.6, twice that of the pooled runs and more than that of the network without labels. The seed with the highest rate has the largest distance. More labels take that price away: of 200 the two streams give 0.973 to 0.977, and the smallest distance of the three ways, 2.4 to 2.7. With 20 the gain in rate is half of that, and the distance above nine. The pooled batch as written makes next to nothing of 200 labels either (0.918 to 0.922).
#
# The expected sizes, unbiased as they are, do worse than either with 20 and 50 labels: a rate *below* that of no labels. (With 200 they overtake the pooled batch in rate, and not in distance.) Take 50. One batch in thirteen holds an image of $\mathcal S$, and the clamp fires in one of eighteen (5.5 %): it turns round most of the steps that say anything of $\mathcal S$, and a step turned round *lowers* $\mathcal L_{\mathcal S}^-$, that is, it learns the odd digit, twelvefold. It is the sum that is unbiased, and not what this clamp makes of it.
#
# What is left of the limit is real: fifty odd digits are about ten of each, and in two streams each of them comes round again and again, so $\mathcal L_{\mathcal S}^-$ becomes the error of *those fifty* (notebook 03, section 5). With all labels the clamp never fired in as many steps; with fifty it fires in 4 % of them, steps in which the error of the four drawn is more than ten times that of the forty from $\mathcal U$. The distances say what that costs.
#
# So the recipe of `lite` draws two streams, and the `paper` recipe keeps the pooled batch of Algorithm 1; `stream` and `group_sizes` stand in every row.
#
# **Question in words.** A colleague reports: "With 50 labels PU diffusion does not work; it needs thousands." Which number do you ask her for first? And why does the same bias hardly show with $\mathcal S$ of 2,500?

# %% [markdown] tags=["answer"]
# For the share of her batches that held an image of $\mathcal S$ (batch size, sizes of $\mathcal U$ and $\mathcal S$, and whether the batch was pooled). If that is 8 %, her $\beta$ was a thirteenth of what she thinks, and her run says nothing of the method. With 2,500 of 30,000 images in $\mathcal S$, a batch of 44 is without one in about two of a hundred cases, so the weight is $0.98\,\beta$.

# %% [markdown]
# ### An imperfect judge
#
# How bad may the judge be? We let ours look at digits through a bad pair of glasses: with the top rows of the picture covered, or with faint noise on it. For each pair we measure its errors $a$ and $b$ on real digits, as one would for any judge, and test the correction twice:
#
# - on a *known* mixture of other real digits, 95 % even: here the truth is known;
# - on the samples of the two networks.

# %% tags=["expected"]
COVER, NOISE = "cover", "noise"
GLASSES = [
    ("clear", COVER, 0),
    ("6 rows", COVER, 6),
    ("8 rows", COVER, 8),
    ("10 rows", COVER, 10),
    ("noise 6 %", NOISE, 0.06),
    ("noise 10 %", NOISE, 0.10),
]


def through(kind: str, amount: float, pictures: Tensor) -> Tensor:
    """What the judge gets to see of (n, C, H, W) uint8 pictures."""
    if kind == COVER:
        seen = pictures.clone()
        seen[:, :, : int(amount)] = 0
        return seen
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    return (pictures.float() + 255 * amount * noise).clamp(0, 255).to(torch.uint8)


test = mnist(train=False)
order = torch.randperm(len(test), generator=torch.Generator().manual_seed(4))  # the file's first half is the easier one
half, other = order[:5000], order[5000:]
n_errors, n_mixed = {"fast": (300, 200), "lab": (2000, 1500), "full": (5000, 2400)}[MODE]
for_errors = half[:n_errors]
is_even = test.labels[other] % 2 == 0
mixed = torch.cat([other[is_even][: round(0.95 * n_mixed)], other[~is_even][: round(0.05 * n_mixed)]])
truth = float((test.labels[mixed] % 2 == 0).double().mean())

found = []
for name, kind, amount in GLASSES:

    def verdict_of(pictures: Tensor, kind=kind, amount=amount) -> np.ndarray:
        return data.judge.is_normal(data.judge.look(through(kind, amount, pictures)), wanted.normal).numpy()

    real_even = (test.labels[for_errors] % 2 == 0).numpy()
    called = verdict_of(test.images[for_errors])
    a, b = called[real_even].mean(), (~called)[~real_even].mean()
    seen = {
        "known mixture": verdict_of(test.images[mixed]),
        **{m: verdict_of(images[m]) for m in ("unsupervised", "nnpu")},
    }
    found.append((name, a, b, {who: non_sensitive_rate(v) for who, v in seen.items()}))

figure, axes = plt.subplots(1, 2, figsize=(12, 3.9), sharey=True)
MARKS = {"known mixture": ("D", style.GREEN), "unsupervised": ("o", style.BLACK), "nnpu": ("s", style.BLUE)}
for ax, people in ((axes[0], ["known mixture"]), (axes[1], ["unsupervised", "nnpu"])):
    for j, who in enumerate(people):
        marker, colour = MARKS[who]
        for i, (_, a, b, seen) in enumerate(found):
            rate, shift = seen[who], 0.3 * j - 0.15 * (len(people) - 1)
            first_one = i == 0
            ax.plot(
                i + shift - 0.06,
                rate.rate,
                marker,
                mfc="white",
                color=colour,
                label=f"{who}, raw" if first_one else None,
            )
            if a + b > 1.1:  # below that the correction multiplies chance by ten and more
                middle, low, high = (corrected_rate(v, a, b) for v in (rate.rate, rate.low, rate.high))
                bar = [[middle - low], [high - middle]]
                ax.errorbar(
                    i + shift + 0.06,
                    middle,
                    yerr=bar,
                    fmt=marker,
                    color=colour,
                    capsize=2,
                    label=f"{who}, corrected" if first_one else None,
                )
    ax.set_xticks(range(len(found)), [name for name, *_ in found], fontsize=9)
    ax.set_xlabel("what the judge sees through: rows covered, or noise")
axes[0].axhline(truth, color="grey", ls="--", lw=1, label="truth")
axes[0].set(ylabel="non-sensitive rate", title="real digits, 95 % even")
axes[1].set(title="samples")
axes[0].set_ylim(bottom=min(rate.rate for *_, seen in found for rate in seen.values()) - 0.07)
for ax in axes:
    ax.legend(fontsize=8, loc="lower left", ncols=2)
style.show(
    figure,
    alt="Rates by how badly the judge sees: raw ones fall with covered rows and rise with noise, corrected ones less",
)

for name, a, b, seen in found:
    print(
        f"{name:11s} a = {a:.3f}, b = {b:.3f}: "
        f"chance counts {1 / max(a + b - 1, 1e-9):4.1f} times   "
        + "  ".join(f"{who} {r.rate:.3f}" for who, r in seen.items())
    )

# %% [markdown]
# **Reading it** (lab mode). With rows covered, the judge loses even digits ($a$ falls; with ten rows it misses odd ones too), and the raw rate of the good network falls, with ten rows by more than five points: a bad judge makes a good model look bad. Noise is worse, because it flatters: to this judge noise looks like an 8 or a 4, so $a$ stays near 1, $b$ collapses (0.287 at 10 %), and every raw rate *rises*. A judge that calls everything normal finds every model perfect, and its rate alone will not tell you.
#
# On the left the truth is known: the corrected rate stays near it through every pair of glasses, and its interval grows like $1/(a+b-1)$. On the right the correction serves nearly as well for covered rows, and fails for noise. At 6 % noise the judge still catches 96 % of *real* odd digits, so the formula corrects little; but of the 40 samples of the unsupervised network that it calls odd with clear eyes, no more than 16 are left. $a$ and $b$ were measured on real digits, and samples are not real digits: presumably, where they are softer, the same noise hides more. What the correction cannot mend must be said beside the number: who judged, and with which errors.
#
# ## 10. What to take along
#
# - **Data**: $\mathcal U$ is a mixture and $\mathcal S$ a sample of its hidden part; the share is assumed (0.1) and realised (1/11), and a row says both.
# - **Methods**: seven, one code path; they differ in how three vectors become a number.
# - **Rate**: unsupervised and supervised nearly copy the share of $\mathcal U$; the risks that know of the mixture leave it behind.
# - **Every number with its interval**: Wilson for a rate, a jackknife and a floor for a distance, seeds in pairs for the training, a confusion for the judge.
# - **Few labels** fail in pooled batches, by a bias of the batch; with a fixed share of $\mathcal S$ in each batch much of the gain in rate stays, and is paid for in distance.
# - **Limits**: $\beta$ far off, an $\mathcal S$ that is not like the hidden part, and a judge whose errors are as large as what it is to count.
#
# **Go on**: `pudm figure1 --normal odd`, `pudm train --method pn`, `pudm train --set labelled=50` and `--set labelled=50 stream=pooled`; the notebook on $\beta$ estimates it from $\mathcal U$ and $\mathcal S$ alone.
