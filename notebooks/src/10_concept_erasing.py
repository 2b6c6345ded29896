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
# # 10 · Erase a concept: what goes, what goes with it, and what stays
#
# The second source of this course: Bui et al., *Erasing Undesirable Concepts in Diffusion Models with Adversarial Preservation* (NeurIPS 2024), here by its slides; equation and algorithm numbers in this notebook are **theirs**. A text-to-image model is trained and must not draw one of its words any more. The slides erase nudity, artists and garbage trucks from Stable Diffusion; we erase a digit from the conditional model of notebook 09, where every step can be watched, every neighbour measured, and where there is something that nobody has for Stable Diffusion: the same model trained again *without* the concept.
#
# **After this notebook you can**
#
# - measure an erasure: what is gone (ESR), what is left (PSR), both with intervals, and who paid;
# - write ESD's target, UCE's closed form and the objective of adversarial preservation;
# - say how its adversary is searched in three ways, and why one of them seldom finds what it looks for;
# - find the gradient that a published method cuts off without saying so;
# - attack an erased model, and say what an erasure is *not*.
#
# **What it costs**: in `lab` mode a minute and a half of one CPU core, most of it one edit, and 1.1 GiB of memory, with the conditional network that `data/` holds (without it one is trained first, which takes much longer); in `fast` mode, which the tests use, seconds. No GPU is needed (free Colab T4: not run here). What takes longer was run by `pudm erase-bench` beforehand; the notebook reads its rows, `data/results/erasing.jsonl`, so tables and figures say what these rows say.
#
# You need notebook 09, Sections 1 to 5. About two and a half hours with the exercises; the starred one is longer.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pudm_lite.course.checks.c10 import (
    check_10_1,
    check_10_2,
    check_10_3,
    check_10_4,
    check_10_5,
    check_10_6,
    check_10_7,
)
from pudm_lite.course.labs import conditional_digits
from pudm_lite.course.widgets.w10 import widget10_edits
from pudm_lite.datasets import data_folder
from pudm_lite.draws import generator
from pudm_lite.erasing import preservation, uce
from pudm_lite.erasing.measures import (
    SAMPLER,
    SAMPLER_STEPS,
    draw_prompted,
    drawn,
    erasing_success,
    harm,
    preservation_success,
    rate,
)
from pudm_lite.erasing.methods import concept_space, erase
from pudm_lite.erasing.scenes import Scene, distance
from pudm_lite.files import read_rows
from pudm_lite.results import style
from pudm_lite.results.erasing import draw_figure, pooled
from pudm_lite.results.report import draw_panel
from pudm_lite.runs.erase_bench import RETRAINED
from pudm_lite.runs.erasing_samples import read_samples
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.machine import mode
from pudm_lite.runs.running import material
from pudm_lite.sampling import draw

style.use()
MODE = mode()  # the environment variable PUDM_MODE: fast, lab (the default) or full
DIGIT = "4"  # what shall go
EACH = {"fast": 2, "lab": 12, "full": 100}[MODE]  # samples of each digit and model
EDIT = {"fast": {"steps": 2, "batch_size": 2}, "lab": {}, "full": {}}[MODE]  # {}: as the bench
LOOKS = {"fast": 2, "lab": 8, "full": 32}[MODE]  # noisy images on which two models are compared
print(f"mode: {MODE}; digit {DIGIT} shall go; {EACH} samples of each digit and model")

# %% [markdown]
# ## 1. A word that shall lose its meaning
#
# **The question**: how do you tell that a concept is gone, and that nothing else is?
#
# Ask the model for every concept, and let a judge say what it drew. The *matrix* of prompted against judged holds everything that we want to know. Its diagonal is what a good model does. After an erasure the erased row should have left the diagonal, wherever it went, and all other rows should be as before. The slides condense it into two numbers (their judge is a ResNet-50 with 1,000 classes):
#
# - **ESR-k**, erasing success: the share of images asked for as the *erased* concept whose label is **not** among the judge's $k$ likeliest classes;
# - **PSR-k**, preservation success: the share of images asked for as *another* concept whose label **is** among them.
#
# With ten classes $k=1$ says most. Both are shares of a few dozen images, so they need intervals (notebook 04). We shall compare methods that differ by a few images in a hundred; without intervals one reads noise.

# %% tags=["expected"]
folder = Path(tempfile.mkdtemp()) if MODE == "fast" else Path("../outputs/lab")  # what is trained here is kept there
model = conditional_digits(folder, **({"steps": 2, "batch_size": 16} if MODE == "fast" else {}))
model.network.to(memory_format=torch.channels_last)
table, process = model.concepts, model.process
names, erased = table.names, table.index(DIGIT)
judge = material(experiment("mnist-even")).judge


def text(found) -> str:
    """A rate with its interval."""
    return f"{found.rate:.2f} [{found.low:.2f}, {found.high:.2f}]"


def summary(name: str, found) -> str:
    """One line: ESR-1, PSR-1 and the kept digit that is judged as asked for least often."""
    hits = found.hit(1).view(len(names), EACH).double().mean(1)
    worst = min((k for k in range(len(names)) if k != erased), key=lambda k: float(hits[k]))
    gone, kept = erasing_success(found, [erased]), preservation_success(found, [erased])
    return f"{name:10s} ESR-1 {text(gone)}   PSR-1 {text(kept)}   worst kept: {names[worst]} with {hits[worst]:.2f}"


asked = {"none": drawn(model.network, model, judge, EACH, seed=10)}
print(asked["none"].matrix().numpy(), "<- asked for in rows, judged in columns")
print(summary("none", asked["none"]))

# %% [markdown]
# ### Exercise 10.1: two rates with their intervals (1 point, 15 minutes)
#
# Write `erased_and_kept(matrix, erased, z)`: from a matrix of counts (asked for in rows, judged in columns) return ESR-1 and PSR-1, each with Wilson's interval, as `[[esr, low, high], [psr, low, high]]`.
#
# <details><summary>Hint</summary>
#
# For $h$ hits among $n$, with $p=h/n$: the middle is $\big(p+\frac{z^2}{2n}\big)/\big(1+\frac{z^2}{n}\big)$, the half width $\frac{z}{1+z^2/n}\sqrt{\frac{p(1-p)}{n}+\frac{z^2}{4n^2}}$. For PSR add up hits and images over the kept *rows* first: one interval for all of them.
# </details>


# %% tags=["exercise"]
def erased_and_kept(matrix: Tensor, erased: int, z: float) -> Tensor:
    """ESR-1 and PSR-1 with Wilson's intervals.

    matrix: (K, K) int64 counts, asked for by judged. erased: a row. z: 1.96 for 95 %. Returns (2, 3).
    """
    # BEGIN SOLUTION
    counts = matrix.double()
    own, asked_for = counts.diagonal(), counts.sum(1)
    kept = torch.arange(len(matrix)) != erased
    hits = torch.stack([asked_for[erased] - own[erased], own[kept].sum()])
    n = torch.stack([asked_for[erased], asked_for[kept].sum()])
    p, widen = hits / n, 1 + z**2 / n
    middle = (p + z**2 / (2 * n)) / widen
    half = z / widen * (p * (1 - p) / n + z**2 / (4 * n**2)).sqrt()
    return torch.stack([p, middle - half, middle + half], 1)
    # END SOLUTION


# %%
check_10_1(erased_and_kept)

# %% [markdown]
# ## 2. Steer away: the naive objective and ESD (Eq. 5)
#
# **The question**: what should a model answer when it is asked for something that it must not draw?
#
# "As if nobody had asked." Let $\epsilon_\theta$ be the frozen model, the *teacher*, and $\epsilon_{\theta'}$ its copy that is edited, the *student*. The slides' naive objective (Eq. 5) takes the teacher's answer to the neutral concept $c_n$ (null, here) for the student's answer to the erased one, $c_e$:
#
# $$\min_{\theta'}\ \mathbb E\,\big\|\epsilon_{\theta'}(c_e)-\epsilon_\theta(c_n)\big\|_2^2 . \quad (5)$$
#
# It has a ceiling that is easily overlooked. Null is the mixture of the training data (notebook 09, Section 2), and a tenth of these are 4s. A student that answers "4" exactly as it answers null still draws a 4 about one time in ten.
#
# **ESD** (Gandikota et al. 2023) goes on past null, by $\eta$ times the way from the concept to null:
#
# $$\text{target} = \epsilon_\theta(c_n) - \eta\,\big(\epsilon_\theta(c_e)-\epsilon_\theta(c_n)\big).$$
#
# You know this formula. It is guidance with a *negative* scale, $w=-\eta$, built into the weights. At $\eta=0$ it is Eq. 5; ESD's own choice, and ours, is $\eta=1$.
#
# ### Exercise 10.2: ESD's target (1 point, 5 minutes)
#
# Write `esd_target(eps_c, eps_null, eta)`.
#
# <details><summary>Hint</summary>
#
# `eta = 0` gives `eps_null`; `eta = -1` would give `eps_c`.
# </details>


# %% tags=["exercise"]
def esd_target(eps_c: Tensor, eps_null: Tensor, eta: float) -> Tensor:
    """What the student shall answer when asked for the erased concept. eps_c, eps_null: the teacher's answers to it
    and to null, alike in shape. Returns a tensor like them."""
    # BEGIN SOLUTION
    return eps_null - eta * (eps_c - eps_null)
    # END SOLUTION


# %%
check_10_2(esd_target)

# %% [markdown]
# Two things are left to choose. *At which* $\mathbf x_t$ do teacher and student meet? Nobody has images to spare, so the student draws its own: it is asked for $c_e$, and the noisy images that it passes through on the way are the batch (`pudm_lite/erasing/scenes.py`). And *which* weights move? `esd-x` trains the cross-attention alone, through which the network reads its concepts, `esd-x-strict` only its keys and values, `esd-u` everything else. The next cell is the longest of the notebook: a hundred steps of `esd-x`.

# %%
edits = {"esd-x": erase(model, (DIGIT,), "esd-x", seed=0, **EDIT)}
asked["esd-x"] = drawn(edits["esd-x"].model.network, model, judge, EACH, seed=10)
found = edits["esd-x"]
share = sum(value.numel() for value in found.changed.values()) / sum(p.numel() for p in model.network.parameters())
print(f"esd-x: {len(found.losses)} steps, {found.seconds:.0f} CPU seconds, {share:.1%} of the weights changed")
for name, images in asked.items():
    print(summary(name, images))


# %% tags=["expected"]
def show_samples(networks: list[str], alt: str) -> None:
    """Two samples of each digit by each model, from the same noise in each column."""
    at = [digit * EACH + image for digit in range(10) for image in range(2)]
    framed = torch.cat([asked[name].probability[at].argmax(1) == erased for name in networks])
    figure, ax = plt.subplots(figsize=(10.4, 0.48 * len(networks) + 0.7))
    draw_panel(ax, torch.cat([asked[name].images[at] for name in networks]), framed, columns=20)
    wide = model.network.config.sample_size + 6  # a picture and the gap beside it
    for line, name in enumerate(networks):
        ax.text(-8, (line + 0.45) * wide, name, ha="right", va="center")
    for digit in range(10):
        ax.text((2 * digit + 0.9) * wide, -7, str(digit), ha="center", va="bottom")
    figure.supxlabel(
        f"asked for; each column starts from the same noise; framed: the judge sees a {DIGIT}", fontsize=10
    )
    style.show(figure, alt=alt)


show_samples(["none", "esd-x"], "Two samples of each digit by the unedited model and after esd-x, from the same noise")

# %% [markdown]
# **Reading it** (lab mode). Compare the two rows column by column. The erased digit is gone: asked for, the student draws another digit or something that is none. That is what $\eta=1$ does: it does not send the prompt to a place where digits are, it pushes it away from one. Now look at the other columns, and at *worst kept* in the lines above. Which digit changed most?
#
# ## 3. Who pays
#
# **The question**: whom does an erasure harm?
#
# The slides measure it for each concept $c$ with a score $S$ of how well an image fits $c$ (CLIP's there):
#
# $$\delta_{c_e}(c) = \frac1k\sum_{i=1}^k\Big(S_{\theta,i,c}-S_{\theta'_{c_e},i,c}\Big),$$
#
# the drop from teacher to student, over images that start from the same noise. Our $S$ is the logarithm of the probability that the judge gives to what was asked for, so $\delta$ is in nats. Their finding: related concepts suffer ("nudity" harms "women" and "men", not "bamboo"), neutral ones hardly at all. Notebook 09 gave digits that look alike tokens that are alike, so we can ask whether that is what decides. Each point of the figure is a pair of digits from the committed rows.

# %% tags=["expected"]
rows = read_rows(data_folder() / "results" / "erasing.jsonl")  # made by `pudm erase-bench`
rows_of = {m: [row for row in rows if row["method"] == m] for m in dict.fromkeys(row["method"] for row in rows)}
unit = F.normalize(table.tokens.detach()[:-1].flatten(1), dim=1)
cosine = (unit @ unit.T).numpy()


def pairs(method: str) -> tuple[np.ndarray, np.ndarray, list[tuple[str, str]]]:
    """Of every erased and every other digit: the cosine of their tokens, and the harm, a mean over seeds."""
    harms: dict[tuple[str, str], list[float]] = {}
    for row in rows_of.get(method, []):
        for k, value in enumerate(row["harm"]):
            if names[k] != row["concept"]:
                harms.setdefault((row["concept"], names[k]), []).append(value)
    x = np.array([cosine[table.index(a), table.index(b)] for a, b in harms])
    return x, np.array([np.mean(values) for values in harms.values()]), list(harms)


delta = harm(asked["none"], asked["esd-x"])
print("esd-x, made above: " + "  ".join(f"{name}: {value:+.2f}" for name, value in zip(names, delta)) + "  (nats)")
figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), sharey=True, sharex=True)
for ax, method, colour, mark in zip(axes, ("esd-x", "ap-exact"), (style.ORANGE, style.BLUE), "os"):
    x, y, who = pairs(method)
    ax.plot(x, y, mark, color=colour, ms=5, alpha=0.7)
    worst = [i for i in np.argsort(-y)[:4] if y[i] > 0.5]
    for i in worst:
        beside = (5, "left") if x[i] > np.median(x[worst]) else (-5, "right")
        where = {"xytext": (beside[0], 0), "textcoords": "offset points", "ha": beside[1], "va": "center"}
        ax.annotate(f"{who[i][0]} → {who[i][1]}", (x[i], y[i]), fontsize=9, **where)
    ranks = [np.argsort(np.argsort(v)) for v in (x, y)]
    print(f"{method}: {len(x)} pairs, rank correlation of cosine and harm {np.corrcoef(ranks)[0, 1]:+.2f}")
    ax.axhline(0, color=style.BLACK, lw=0.8)
    ax.set(
        title=method,
        xlabel="cosine of the two digits' tokens",
        xlim=(cosine.min() - 0.15, cosine[cosine < 0.99].max() + 0.15),
    )
axes[0].set_ylabel("harm to the other digit (nats)")
style.show(
    figure, alt="Harm to a kept digit against the cosine of its tokens with the erased one's, for esd-x and ap-exact"
)

# %% [markdown]
# **Reading it.** On the left, the largest harm lies at the right: erasing by `esd-x` costs those whose tokens are near the erased digit's (an arrow says who was erased → who suffered). Cross-attention is linear in the tokens before its softmax: whatever the edit does to one token, it does in part to every token that points in a similar direction. On the right is the method that this notebook works towards; its points lie lower where the others are highest. Likeness is not all of it: the cosine of a pair is the same both ways, and the harm is not.
#
# ## 4. Rewrite the keys: UCE in closed form
#
# **The question**: must one train at all?
#
# The network sees a concept only through the keys $Wc$ and values $Wc$ of cross-attention, linear maps of its tokens. **Unified concept editing** (Gandikota et al. 2024) asks for new matrices $W'$ that answer the erased tokens $c$ with what $W$ answers to other tokens $v$ (null's, here), that answer a list of *kept* tokens $k$ as before, and that are otherwise near $W$:
#
# $$W' = \arg\min_{W'}\ \sum\|W'c-Wv\|^2+\sum\|W'k-Wk\|^2+\lambda\|W'-W\|^2 .$$
#
# That is least squares, once for each matrix; no images, no steps.
#
# ### Exercise 10.3: UCE's closed form (2 points, 25 minutes)
#
# Set the derivative by $W'$ to zero, solve for $W'$, and write `edited(weight, sources, targets, kept, lam)`. The check compares with a least-squares solver.
#
# <details><summary>Hint</summary>
#
# The derivative of $\|W'c-y\|^2$ is $2(W'c-y)c^\top$. Collect what multiplies $W'$ on one side: $W'\,\big(\lambda I+\sum cc^\top+\sum kk^\top\big)=\lambda W+\sum Wvc^\top+\sum Wkk^\top$. Tokens come as *rows*: $\sum cc^\top$ is `sources.T @ sources`. The matrix in brackets is symmetric, so `torch.linalg.solve(bracket, left.T).T` is `left @ bracket^-1`.
# </details>


# %% tags=["exercise"]
def edited(weight: Tensor, sources: Tensor, targets: Tensor, kept: Tensor, lam: float) -> Tensor:
    """UCE's new weight.

    weight: (out, d). sources, targets: (n, d), tokens c and v, in pairs. kept: (m, d), tokens k. Returns (out, d).
    """
    # BEGIN SOLUTION
    left = lam * weight + weight @ targets.T @ sources + weight @ kept.T @ kept
    bracket = lam * torch.eye(weight.shape[1], dtype=weight.dtype) + sources.T @ sources + kept.T @ kept
    return torch.linalg.solve(bracket, left.T).T
    # END SOLUTION


# %%
check_10_3(edited)

# %% tags=["expected"]
for name in ("uce", "uce-alone"):
    edits[name] = erase(model, (DIGIT,), name)
    asked[name] = drawn(edits[name].model.network, model, judge, EACH, seed=10)
    print(summary(name, asked[name]) + f"   ({edits[name].seconds:.1f} CPU seconds)")
tokens = table.tokens.detach()
others = [k for k in range(len(names) + 1) if k != erased]
print("how far the answers to other digits' tokens moved, in the first edited matrix (share of their length):")
old, new = (uce.keys_and_values(network)[0] for network in (model.network, edits["uce-alone"].model.network))
kept_new = uce.keys_and_values(edits["uce"].model.network)[0]
for k in others:
    moved = [float(((w - old) @ tokens[k].T).norm() / (old @ tokens[k].T).norm()) for w in (new, kept_new)]
    print(f"  {(*names, 'null')[k]:>4s}: uce-alone {moved[0]:.2f}, uce {moved[1]:.3f}")
show_samples(
    ["none", "esd-x", "uce", "uce-alone"],
    "Two samples of each digit: unedited, esd-x, uce, and uce without kept tokens",
)

# %% [markdown]
# **Reading it.** `uce` keeps the tokens of all other digits and of null; `uce-alone` keeps none. The table shows what geometry does: without a list, every token that shares a direction with the erased one is dragged along. With the list the others hardly move. Eleven concepts of four tokens are 44 directions in a space of 64: there is room for all constraints, so here **preserving by a complete list is free**. Stable Diffusion has far more words than dimensions, and no list is complete.
#
# And `uce`, whose target is null, meets the ceiling of Section 2: some of the images asked for as the erased digit show it still.
#
# ## 5. Answer as something else, and the rest of the family
#
# **The question**: what else can one ask of a student?
#
# *Concept ablation* (`ca`, Kumari et al. 2023) answers the erased concept as an **anchor**, a concept nearby: "4" becomes "9" (on images of the anchor, keys and values alone). Nothing is pushed anywhere; the student learns that two words mean the same. In brief, with the one line that each contributes:
#
# | method | what it adds |
# |---|---|
# | `ca`, `ca-null` | $\|\epsilon_{\theta'}(c_e)-\mathrm{sg}\,\epsilon_{\theta'}(c_{anchor})\|^2$, the anchor the nearest digit, or null |
# | `sa`, Selective Amnesia | noise images as the concept's new training data, and elastic weights: moving what mattered to the others costs (Fisher information) |
# | `salun`, SalUn | trains only the half of the weights that the forgetting gradient touches most |
# | `fmn`, Forget-Me-Not | makes the attention at the concept's tokens small |
# | `sld`, safe latent diffusion | no training: guidance away from the concept while drawing |
# | `pu` | PU fine-tuning with a condition (notebook 09): the first paper's risk on real images, as a way to erase |
# | `ap-…`, `age` | adversarial preservation, Sections 6 and 7 |
# | `retrained` | no edit, but the reference: the same recipe without the concept |
#
# All but the last share one loop and one table of settings (`pudm_lite/erasing/methods.py`). The next figure shows every method that the rows hold for this digit.

# %% tags=["expected"]
of_digit = [row for row in rows if row["concept"] == DIGIT]
print(f"digit {DIGIT} erased; rates of all images together, with 95 % intervals")
print(f"{'method':13s} seeds  ESR-1               PSR-1               worst kept      to retrained  CPU s")
for name in rows_of:
    mine = [row for row in of_digit if row["method"] == name]
    if mine:
        worst = ", ".join(dict.fromkeys(row["worst_kept"] for row in mine))
        low = np.mean([row["worst_kept_rate"][0] for row in mine])
        far = [row["frechet_retrained"] for row in mine if row.get("frechet_retrained") is not None]
        cells = f"{name:13s} {len(mine):5d}  {text(pooled(mine, 'esr_1'))}   {text(pooled(mine, 'psr_1'))}   {low:.2f} ({worst})"
        print(f"{cells:70s} {np.mean(far) if far else np.nan:10.2f} {np.mean([r['edit_seconds'] for r in mine]):9.0f}")
figure = draw_figure(of_digit, graphs=())
figure.set_size_inches(7.2, 0.3 * len({row["method"] for row in of_digit}) + 1.4)
figure.axes[0].set_title(f"erasing {DIGIT}, by method", loc="left")
style.show(figure, alt="For each method: share erased, share kept with intervals, and the worst kept digit")

# %% [markdown]
# **Reading it.** Read from right to left in each line. An orange dot at the right edge erases; a blue square and a black bar near the line of `none` keep. Methods that do both are few, and those that only erase are many: the slides' complaint. Where a method's orange dot lies near that of `none`, it did nothing here at these settings. (Safe guidance is made for prompts that do not name the concept; where the prompt *is* the concept there is nothing left to turn away from.) *To retrained* is the Fréchet distance between what the edited and the retrained model draw for the kept digits, on the judge's features, from different noise. Settings were chosen once, for digits, and not tuned for each method to the same degree: compare kinds, not hundredths.
#
# ## 6. Keep what suffers most (Eqs. 6 and 7)
#
# **The question**: if you cannot list everything, what should you preserve?
#
# Preserving null, the choice of many, keeps what was never in danger. Preserving everything is impossible for fifty thousand words. The slides' idea: preserve the concept that **the current edit harms most**, and look for it anew at every step,
#
# $$\min_{\theta'}\max_{c_a\in\mathcal R}\ \underbrace{\|\epsilon_{\theta'}(c_e)-\epsilon_\theta(c_n)\|_2^2}_{L_1}+\lambda\underbrace{\|\epsilon_{\theta'}(c_a)-\epsilon_\theta(c_a)\|_2^2}_{L_2}, \quad (6)$$
#
# with $\mathcal R$ all concepts but the erased. (Their code uses ESD's target in $L_1$, and so do we.) $L_2$ serves two masters. The *search* climbs it, by moving $c_a$: where does the student differ most from the teacher? The *step* descends it, by moving $\theta'$. On digits the maximum needs no search: $\mathcal R$ can hold every other digit, null, and the mean of every two digits (46 concepts), and one forward pass finds the largest $L_2$. Here is that spectrum for the `esd-x` student of Section 2, the slides' *sensitivity spectrum* with its sign turned.

# %% tags=["expected"]
space, space_names = concept_space(model, (DIGIT,))
space = space[: {"fast": 12}.get(MODE, len(space))]  # a test looks at a few
scene = Scene(model, (DIGIT,), LOOKS, 0, space, space_names)
scene.student.load_state_dict(edits["esd-x"].model.network.state_dict())
scene.student.requires_grad_(False)
candidates = torch.arange(len(space))
with torch.no_grad():
    noisy = scene.of_kept(candidates.repeat_interleave(LOOKS), step=0)
    told = space[noisy.row]
    far = distance(scene.eps_student(noisy.x, noisy.t, told), scene.teacher(noisy.x, noisy.t, told))
spectrum = far.view(len(space), LOOKS).mean(1)  # L_2 of each concept
order = spectrum.argsort(descending=True).tolist()
adversary = order[0]
null_at = order.index(space_names.index("null")) + 1
singles = [space_names[k] for k in order if "~" not in space_names[k]]
print(f"most harmed of {len(space)}: {', '.join(space_names[k] for k in order[:5])}; null is number {null_at}")
print(f"single concepts, most harmed first: {', '.join(singles)}")
figure, ax = plt.subplots(figsize=(9.6, 3.0))
colours = [
    style.SKY if "~" in space_names[k] else style.ORANGE if space_names[k] == "null" else style.BLUE for k in order
]
ax.bar(range(len(order)), spectrum[order], color=colours)
for at, k in enumerate(order):
    if "~" not in space_names[k]:
        ax.annotate(
            space_names[k].replace("null", "∅"), (at, float(spectrum[k])), ha="center", va="bottom", fontsize=10
        )
ax.set(
    xlabel="concepts, most harmed first (labelled: a digit or ∅; light: a mean of two digits)",
    ylabel="$L_2$",
    xticks=[],
)
style.show(
    figure, alt="L_2 of each of 46 concepts under the esd-x student, in falling order; digits and null are labelled"
)

# %% [markdown]
# **Reading it** (lab mode). Which single digit comes first? And what stands before it: means of two digits, words that no image was ever trained with, and which move most easily. Then find ∅. A method that preserves null spends its whole second term there. (In the slides, too, neutral concepts are in the middle of the spectrum.) Each bar is a mean over a few noisy images, so the order of bars of like height is chance.
#
# ### Exercise 10.4: the step of Algorithm 2 (1 point, 15 minutes)
#
# Write `ap_loss(student_e, told, untold, student_a, teacher_a, lam, eta)`: the number that $\theta'$ descends, with ESD's target, and squared distances as *means* over all elements. All five tensors come with gradients attached, since in the search they depend on tokens that move. In *this* step the student alone may feel them.
#
# <details><summary>Hint</summary>
#
# Two means of squares. Which three of the five tensors are the frozen teacher's? `.detach()` cuts a tensor off. Nothing is maximised here: $c_a$ has been found already.
# </details>


# %% tags=["exercise"]
def ap_loss(
    student_e: Tensor, told: Tensor, untold: Tensor, student_a: Tensor, teacher_a: Tensor, lam: float, eta: float
) -> Tensor:
    """L_1 + lam L_2, a number.

    student_e, student_a: the student's answers to the erased and to the preserved concept. told, untold, teacher_a: the
    teacher's to the erased concept, to null, to the preserved one. All (B, C, H, W).
    """
    # BEGIN SOLUTION
    target = (untold - eta * (told - untold)).detach()
    erasing = (student_e - target).square().mean()
    preserving = (student_a - teacher_a.detach()).square().mean()
    return erasing + lam * preserving
    # END SOLUTION


# %%
check_10_4(ap_loss)

# %% [markdown]
# ## 7. Three ways to look for the adversary (Eqs. 7 and 8, Algorithm 1)
#
# **The question**: how does one find the most harmed concept among fifty thousand?
#
# *First try* (Eq. 7): tokens are vectors, so climb $L_2$ by gradient ascent on the tokens themselves, from $c_e$ on. That is PGD, the way adversarial images are made. Watch what it finds for our student.

# %% tags=["expected"]
find = preservation.pgd(scene)
climbed, likeness, length = [], [], []
for step in range({"fast": 2, "lab": 12, "full": 40}[MODE]):
    tokens_a, row = find(step)
    with torch.no_grad():
        climbed.append(float(preservation.preserving_term(scene, tokens_a, row, step).mean()))
    known = F.normalize(tokens.flatten(1), dim=1)
    likeness.append(float((known @ F.normalize(tokens_a.flatten(), dim=0)).max()))
    length.append(float(tokens_a.norm() / tokens[erased].norm()))
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.1))
seen = range(1, len(climbed) + 1)
left.plot(seen, climbed, "o-", color=style.ORANGE, label="what PGD has climbed to")
left.axhline(
    float(spectrum[adversary]),
    ls="--",
    color=style.BLUE,
    label=f"the worst concept of the list: {space_names[adversary]}",
)
left.set(xlabel="searches (three steps of ascent each)", ylabel="$L_2$", ylim=(0, None))
left.legend(fontsize=9)
right.plot(seen, likeness, "o-", color=style.ORANGE, label="largest cosine with any concept")
right.plot(seen, length, "s--", color=style.BLACK, label="length / that of a concept")
right.set(xlabel="searches", ylim=(0, None))
right.legend(fontsize=9)
style.show(figure, alt="PGD's L_2 climbs, while its tokens grow less like any concept and longer")
print(
    f"after {len(climbed)} searches: L_2 {climbed[-1]:.4f} against {float(spectrum[adversary]):.4f} of the worst concept"
)
print(f"cosine with the nearest concept {likeness[-1]:.2f}, length {length[-1]:.1f} times that of a concept")

# %% [markdown]
# **Reading it** (lab mode). The ascent starts at $c_e$, where $L_2$ is large because *the edit is meant to act there*: whoever preserves it works against $L_1$. (The row `ap-pgd` above shows what that costs.) From there it climbs, and leaves all concepts behind: its tokens grow less like any of them, and longer, as nothing holds them. $L_2$ there says nothing about any word. The slides say it in a sentence: "quickly converges to background noise type of concept".
#
# *Second try* (Eq. 8): stay on the list. Give each concept $i$ of $\mathcal R$ a logit $\pi_i$, draw one with the Gumbel-softmax, $\mathbf G(\pi)\odot\mathcal R$, and climb $L_2$ by the logits (Algorithm 1). A draw is $\arg\max_i(\pi_i+g_i)$ with Gumbel noise $g_i=-\log(-\log u_i)$; forward it is *hard*, one word, and backward one pretends that it was $\mathrm{softmax}((\pi+g)/T)$, which has a gradient (*straight-through*).
#
# ### Exercise 10.5: the choice (1 point, 15 minutes)
#
# Write `choice(logits, noise, temperature)`: weights that are exactly one-hot, at the largest of logit + noise, and whose gradient is that of the soft weights.
#
# <details><summary>Hint</summary>
#
# `hard + (soft - soft.detach())` has the value of `hard` and the gradient of `soft`. `F.one_hot(at, n)` makes an integer tensor.
# </details>


# %% tags=["exercise"]
def choice(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """A hard Gumbel-softmax draw with a straight-through gradient. logits, noise: (K,). Returns (K,)."""
    # BEGIN SOLUTION
    soft = ((logits + noise) / temperature).softmax(0)
    hard = F.one_hot(soft.argmax(), len(logits)).to(soft)
    return hard + (soft - soft.detach())
    # END SOLUTION


# %%
check_10_5(choice)

# %% [markdown]
# How likely is it that this search chooses the right word? The forward draw is the Gumbel trick, so $P(i)=\mathrm{softmax}(\pi)_i$, **whatever the temperature is**: $T$ divides logit and noise alike and changes no arg max, it only scales the gradient. And Adam moves a logit by about its learning rate at each step, never by much more, however steep the climb. Published (the authors' code): learning rate 0.01, a list of 100 words, 1,000 steps of ascent shared by five erased words with logits of their own, so 200 for each. No logit can then have risen by more than about 2.
#
# The next cell draws these bounds, and runs the search under the best of conditions: the spectrum above stands still, and $L_2$ is linear in the weights.

# %% tags=["expected"]
for temperature in (0.1, 2.0):
    logits = torch.zeros(100)
    logits[0] = 2.0
    draws = generator(10, 5)
    hits = sum(int(preservation.choice(logits, temperature, draws).argmax()) == 0 for _ in range(2000))
    print(f"one logit of 100 at +2, temperature {temperature}: chosen in {hits / 2000:.1%} of 2,000 draws", end="; ")
    print(f"softmax says {float(logits.softmax(0)[0]):.1%}")


def searched(learning_rate: float, ascents: int = 400) -> list[float]:
    """The chance that the most harmed concept of the spectrum is chosen, after each ascent on its logits."""
    logits = torch.zeros(len(spectrum), requires_grad=True)
    optimiser, draws, chances = torch.optim.Adam([logits], learning_rate), generator(10, 6), []
    for _ in range(ascents):
        (-preservation.choice(logits, 2.0, draws) @ (spectrum / spectrum.std())).backward()
        optimiser.step()
        optimiser.zero_grad()
        chances.append(float(logits.detach().softmax(0)[adversary]))
    return chances


figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), sharey=True)
ascents = torch.arange(1, 401)
for learning_rate, colour, dash in ((0.01, style.ORANGE, "-"), (0.1, style.BLUE, "--")):
    gap = learning_rate * ascents
    alone, both = (torch.sigmoid(reach - np.log(99)) for reach in (gap, 2 * gap))
    left.plot(ascents, alone, dash, color=colour, label=f"rate {learning_rate}, it alone rises")
    left.plot(ascents, both, dash, color=colour, lw=0.9, label=f"rate {learning_rate}, all others fall")
    chances = searched(learning_rate)
    right.plot(ascents, chances, dash, color=colour, label=f"rate {learning_rate}")
    print(
        f"rate {learning_rate}, 200 ascents: of 100 words at most {alone[199]:.1%} ({both[199]:.1%} if all others fall); ",
        end="",
    )
    print(f"here, of {len(spectrum)}: {chances[199]:.1%}")
right.axhline(1 / len(spectrum), color=style.BLACK, lw=0.8, ls=":", label="at random")
for ax in (left, right):
    ax.axvline(200, color=style.GREY, lw=0.8)
    ax.set(xlabel="steps of ascent (grey: 200)", ylim=(0, 1.02))
left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, fontsize=8)
right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3, fontsize=8)
left.set(title="the most that 100 words allow", ylabel="chance that the right one is chosen")
right.set(title=f"the {len(spectrum)} concepts of our spectrum")
style.show(
    figure, alt="Chance that the search chooses the right concept against steps of ascent, for rates 0.01 and 0.1"
)

# %% [markdown]
# **Reading it.** On the left are bounds for 100 words: at the published rate, after 200 steps, the best word is chosen in 7 draws of 100 if it alone rises, and in 36 if, on top, every other word falls all the way. On the right, even with nothing that moves, the concepts next to the best one rise nearly as fast as it does, and at the published rate the chance stays far below 1. A real search meets other noisy images at every step, so its gradients change sign. At 0.1, ten times the published rate and the setting of `ap-gumbel` here, the search gets somewhere.
#
# *Third way*: with a short list take the **exact maximum** (`ap-exact`). And to know what a search is worth, compare it with none: `ap-random` preserves a concept of the list at random, `ap-neutral` always null.

# %% tags=["expected"]
searches = [name for name in ("esd-x", "ap-neutral", "ap-pgd", "ap-random", "ap-gumbel", "ap-exact") if name in rows_of]
have_all = set.intersection(*({row["concept"] for row in rows_of[name]} for name in searches))
print(f"erased, one at a time: {', '.join(sorted(have_all))}")
kept_rate = {}
for name in searches:
    mine = [row for row in rows_of[name] if row["concept"] in have_all]
    kept_rate[name] = pooled(mine, "psr_1")
    worst = np.mean([row["worst_kept_rate"][0] for row in mine])
    print(
        f"{name:11s} ESR-1 {text(pooled(mine, 'esr_1'))}   PSR-1 {text(kept_rate[name])}   worst kept {worst:.2f}",
        end="",
    )
    print(f"   {np.mean([row['edit_seconds'] for row in mine]):4.0f} CPU seconds")
if {"ap-exact", "ap-random"} <= set(searches):
    exact, by_chance = kept_rate["ap-exact"], kept_rate["ap-random"]
    apart = exact.low > by_chance.high or exact.high < by_chance.low
    print(f"the intervals of ap-exact and ap-random {'do not ' if apart else ''}overlap")

# %% [markdown]
# **Reading it.** Preserving *some* concept of the list keeps much of what `esd-x` loses; compare that with `ap-neutral`, which preserves null, where the rows have it: that much of the slides' story holds on digits. Whether the search beats a draw at random, the last line says; look at the two PSR intervals before you believe a ranking of the three. With ten concepts a random draw often hits a neighbour, or a mixture that contains one: a short list is easy for everybody. With the published settings the published search would be close to a random one, too; it draws from a list of *near* words, which may be what helps. To show that the adversary matters takes a list on which chance does not do.
#
# ### Question 10.A
#
# In the published code the erased concept itself may stand on the list (the slides' $\mathcal R=\mathcal C\setminus\mathbf E$ leaves it out). What would an exact search choose then, and what would become of the erasure?

# %% [markdown] tags=["answer"]
# It would choose the erased concept at nearly every step: there the student differs most from the teacher, since $L_1$ sees to it. Then $L_2$ asks for the teacher's answer at $c_e$ and $L_1$ for the target, and with $\lambda=1$ the best compromise lies half-way: the digit comes back in part. It is what PGD does when it starts from $c_e$. The same holds for anything that *contains* the erased concept (a mean of 4 and 9; a synonym). So what is left out of the list must be left out with all that is made of it, `methods.concept_space`; for a text encoder that is a list of synonyms, which is never complete. A weak search is protected from this mistake by its weakness.

# %% [markdown]
# ### Exercise 10.6*: the gradient that AGE cuts off (2 points, 45 minutes)
#
# *Adaptive guided erasure* (Bui et al. 2025) searches the **target** as well: a concept $c_t$ of the list takes null's place in ESD's target, and is preserved,
#
# $$\min_{\theta'}\max_{c_t}\ \big\|\epsilon_{\theta'}(c_e)-[\epsilon_\theta(c_t)-\eta(\epsilon_\theta(c_e)-\epsilon_\theta(c_t))]\big\|^2+\lambda\big\|\epsilon_{\theta'}(c_t)-\epsilon_\theta(c_t)\big\|^2 .$$
#
# In the published code $c_t$ is *detached* in the first term (and the teacher runs without a graph). The value is the formula's; the gradient that the logits get is that of the second term alone. So as published the search for a target is adversarial preservation's search, and the first term, for which the method is named, never steers it.
#
# Write `age_slope(logits, noise, words, c_e, teacher, student, lam, eta, temperature, cut)`: the gradient of that gain by the *logits* of a hard straight-through choice, with the first term cut off (`cut=True`, as published) or not (as written). Networks are linear here, $\epsilon_\theta(c)=$ `teacher @ c` and $\epsilon_{\theta'}(c)=$ `student @ c`; distances are sums of squares; `c_t` is `weights @ words`.
#
# <details><summary>Hint</summary>
#
# Either by autograd: a copy of the logits that requires a gradient, your `choice`, both terms, `torch.autograd.grad`. Or by hand: the gradient by $c_t$ is $-2(1+\eta)T^\top r_1+2\lambda(S-T)^\top r_2$; then through `words`, and through the softmax's Jacobian. "Cut" concerns the first term's $c_t$ and nothing else: in the second the gradient reaches $c_t$ through student *and* teacher.
# </details>


# %% tags=["exercise"]
def age_slope(
    logits: Tensor,
    noise: Tensor,
    words: Tensor,
    c_e: Tensor,
    teacher: Tensor,
    student: Tensor,
    lam: float,
    eta: float,
    temperature: float,
    cut: bool,
) -> Tensor:
    """The gradient of AGE's gain by the logits of a hard choice among `words`.

    logits, noise: (K,). words: (K, d). c_e: (d,). teacher, student: (p, d). cut: whether the first term's c_t is cut off
    from its gradient. Returns (K,).
    """
    # BEGIN SOLUTION
    leaf = logits.clone().requires_grad_()
    c_t = choice(leaf, noise, temperature) @ words
    aimed = c_t.detach() if cut else c_t
    target = teacher @ aimed - eta * (teacher @ c_e - teacher @ aimed)
    gain = (student @ c_e - target).square().sum() + lam * ((student - teacher) @ c_t).square().sum()
    return torch.autograd.grad(gain, leaf)[0]
    # END SOLUTION


# %%
check_10_6(age_slope)

# %% [markdown]
# In the package the cut is a switch, `erase(..., "age", cut=True)`; the rows' `age` is without it. One more thing to think about: *maximising* the first term looks for the target that is hardest to reach.
#
# ## 8. What erasing is not
#
# **The question**: the digit is no longer drawn when it is asked for. Is it gone?
#
# *First test: do not ask.* Let each model draw without a condition, and count the erased digit. A model that never learned it does not draw it; a model that was taught to answer one word otherwise has no reason to change here.

# %% tags=["expected"]
shown = [name for name in ("none", "uce", "ca", "esd-x", "ap-exact", "pu", "sa", "salun", RETRAINED) if name in rows_of]
figure, ax = plt.subplots(figsize=(7.2, 0.33 * len(shown) + 1.1))
null_share = {}
for y, name in enumerate(shown):
    mine = [row for row in rows_of[name] if row["concept"] == DIGIT]
    null_share[name] = pooled(mine, "null_share")
    ax.plot([null_share[name].low, null_share[name].high], [y, y], color=style.BLUE)
    ax.plot(null_share[name].rate, y, "o", color=style.BLUE)
    print(
        f"{name:10s} null prompt: {text(null_share[name])} are a {DIGIT}; prompt: {1 - pooled(mine, 'esr_1').rate:.2f}"
    )
ax.set(
    yticks=range(len(shown)), yticklabels=shown, xlabel=f"share of {DIGIT}s when nothing is asked for", xlim=(0, None)
)
ax.invert_yaxis()
style.show(
    figure,
    alt="Share of the erased digit among unprompted samples, by method, with intervals; the retrained model last",
)

# %% [markdown]
# **Reading it.** Compare each line with `none` at the top and `retrained` at the bottom (what the judge takes for the digit where nothing was learned of it). Methods that only rewrite how the *word* is read have no reason to touch the answer to null: the digit is still in the weights, of which they changed few. Those that train all weights, or push far, can lower it, and the figure of Section 5 says at what price. Researchers call the two kinds *guidance-based avoidance* and *destruction*. An unasked-for 4 is no accident of digits: who erases an artist by his name has not touched what "a painting" draws.
#
# *Second test: ask otherwise.* `uce` changed keys and values so that the erased tokens are answered as null's. Are there tokens that the **edited** matrices $W'$ answer as the old ones answered the erased digit? RECE (Gong et al. 2024) asks that, in order to erase those as well; an attacker may stop half-way:
#
# $$c' = \arg\min_{c'}\ \sum_{\text{keys, values}}\|W'c'-Wc\|^2+\lambda\|c'\|^2 .$$
#
# ### Exercise 10.7: an attack in one line (1 point, 15 minutes)
#
# Write `recovered(before, after, tokens, lam)`. All keys and values are stacked on top of one another, so the sum over matrices is in the stack.
#
# <details><summary>Hint</summary>
#
# Ridge regression: $c'=(\lambda I+W'^\top W')^{-1}W'^\top W c$, for each token. Tokens are rows.
# </details>


# %% tags=["exercise"]
def recovered(before: Tensor, after: Tensor, tokens: Tensor, lam: float) -> Tensor:
    """The tokens that the edited weights answer as the unedited ones answered `tokens`.

    before, after: (out, d), stacked keys and values. tokens: (m, d). Returns (m, d).
    """
    # BEGIN SOLUTION
    bracket = lam * torch.eye(tokens.shape[1], dtype=tokens.dtype) + after.T @ after
    return torch.linalg.solve(bracket, after.T @ before @ tokens.T).T
    # END SOLUTION


# %%
check_10_7(recovered)

# %% tags=["expected"]
TRIES = {"fast": 4, "lab": 40, "full": 200}[MODE]
pictures, plain = {}, torch.full((TRIES,), erased)
for name in ("uce", "esd-x"):
    network = edits[name].model.network
    found = uce.recovered(uce.keys_and_values(model.network), uce.keys_and_values(network), tokens[erased], 0.1)
    prompts = found.expand(TRIES, -1, -1)
    pictures[name] = draw(network, process, TRIES, SAMPLER, SAMPLER_STEPS, 11, prompts=prompts)
    hits = judge.look(pictures[name]).classes == erased
    asked_plainly = judge.look(draw_prompted(network, model, plain, 11)).classes == erased
    near = F.cosine_similarity(found.flatten(), tokens[erased].flatten(), dim=0)
    size = found.norm() / tokens[erased].norm()
    print(
        f"{name}: asked plainly {text(rate(asked_plainly))} are a {DIGIT}, asked with c' {text(rate(hits))}; ", end=""
    )
    print(f"c' has cosine {near:.2f} with c and {size:.1f} times its length")
figure, axes = plt.subplots(len(pictures), 1, figsize=(9.6, 2.2), squeeze=False)
for ax, (name, images) in zip(axes[:, 0], pictures.items()):
    draw_panel(ax, images[:12], judge.look(images[:12]).classes == erased, columns=12)
    ax.text(-8, 14, name, ha="right", va="center")
figure.suptitle(
    f"asked with c', the tokens that undo the edit of keys and values; framed: the judge sees a {DIGIT}", fontsize=11
)
style.show(figure, alt="Samples of the uce and esd-x models asked with RECE's tokens")

# %% [markdown]
# **Reading it** (lab mode). Two matrix products and one solve, no images and no search. Against `uce` they bring the digit back: the edit moved it to another address, and anybody who has both sets of weights can compute where. `esd-x` has changed queries and outputs too and is harder to reach this way; that this attack has less success there does not say that others have.
#
# *Third test: whatever else one can think of.* The bench attacks with embedding inversion (find tokens that explain real images of the digit), the closed form, a search for a prefix of words, interpolated tokens, a start by the unedited model, noise, guidance by the judge, and *relearning*: a few steps of fine-tuning, on images of the digit, of its neighbour, or of an unrelated digit. An attack counts by its **ASR**, the share of pictures that show the digit without the attack *or* with it.

# %% tags=["expected"]
attacked = {name: [row for row in mine if row.get("attacks")] for name, mine in rows_of.items()}
attacked = {name: mine for name, mine in attacked.items() if mine}
kinds = list(dict.fromkeys(kind for mine in attacked.values() for row in mine for kind in row["attacks"]))
if not attacked:
    print("no attacks among the committed rows: not run here")
else:
    shares = np.full((len(attacked), 1 + len(kinds)), np.nan)
    for i, mine in enumerate(attacked.values()):
        shares[i, 0] = 1 - pooled(mine, "esr_1").rate
        for j, kind in enumerate(kinds, 1):
            found = [row["attacks"][kind]["asr"][0] for row in mine if kind in row["attacks"]]
            shares[i, j] = np.mean(found) if found else np.nan
    figure, ax = plt.subplots(figsize=(9.6, 0.42 * len(attacked) + 1.9))
    shaded = ax.imshow(shares, cmap="Oranges", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(shares.shape):
        if np.isfinite(shares[i, j]):
            ink = "white" if shares[i, j] > 0.65 else "black"
            ax.text(j, i, f"{shares[i, j]:.2f}", ha="center", va="center", fontsize=9, color=ink)
    ax.set_xticks(range(1 + len(kinds)), ["no attack", *kinds], rotation=35, ha="right")
    ax.set_yticks(range(len(attacked)), list(attacked))
    ax.grid(False)
    digits = sorted({row["concept"] for mine in attacked.values() for row in mine})
    ax.set_title(f"ASR, a mean over digits {', '.join(digits)}", loc="left")
    style.show(figure, alt="Attack success rate by method and attack; the retrained model is attacked as well")
    strongest = {name: kinds[int(np.nanargmax(line[1:]))] for name, line in zip(attacked, shares)}
    print("strongest: " + "; ".join(f"{name}: {kind}" for name, kind in strongest.items()))

# %% [markdown]
# **Reading it** (where rows with attacks are committed). Read a column against the last line. If an attack succeeds on the model that was *retrained without the digit*, it has put the digit there itself: fine-tuning on images of 4s teaches any model to draw 4s, and guidance by a judge can draw what a judge likes. What an attack shows about an *erasure* is the difference between a line and that of `retrained`. Where relearning on an **unrelated** digit brings the erased one back, and does not for the retrained model, it was only hidden.
#
# Before you go on, leaf through the edits. Which method turns the erased digit into another digit, and which into strokes?

# %%
widget10_edits(rows, read_samples(data_folder() / "results" / "erasing_samples.npz"), DIGIT)

# %% [markdown]
# ### Question 10.B
#
# A provider publishes a model with an artist's style "erased", and reports ESR 1.00 and PSR 0.95. Which four further numbers would you ask for, and what would each tell you?

# %% [markdown] tags=["answer"]
# The unedited model's ESR and PSR by the same judge: without them neither number means anything (a model that could not draw the style has ESR 1, too). The rate of the *worst* kept concept, and its name: a mean of 0.95 can hide a neighbour that is lost. The share of the style under prompts that do not name it, null above all: whether it was destroyed or only avoided. The success of attacks, with their budget and beside a model that never knew the style, relearning among them: how much it costs to have it back. And for each of these the number of images, since 1.00 of twenty is compatible with 0.84.

# %% [markdown]
# ## What to take along
#
# - **An erasure is measured on both sides**, with intervals, beside the unedited and the retrained model; a mean over kept concepts hides the neighbour who pays.
# - **Eq. 5 answers as null does, and null contains the concept.** ESD steers beyond it (guidance of scale $-\eta$), UCE reaches null in closed form, concept ablation lends the word another meaning.
# - **Who is alike suffers first**, because cross-attention is linear in the tokens; a complete list of what to keep makes an edit free, and is what nobody has for words.
# - **Adversarial preservation looks for the most harmed concept at every step.** In the space of tokens the search leaves the concepts; among words a hard Gumbel choice follows its logits, which small steps hardly move; compare a search with a random draw before you credit it.
# - **Not drawing on request is not forgetting**: the null prompt, other tokens and a little fine-tuning ask again.
#
# ## Try it
#
# 1. `erase(model, ("4",), "esd-x", eta=0.0)` is Eq. 5 by training. Where does its ESR stop, and what is the share of 4s under null?
# 2. Erase by `uce`, compute RECE's tokens, and erase *them* as well (`uce.edited` with these as sources). How many rounds does it take, and what becomes of the 9?
# 3. `pudm erase-bench --method age --digit 7 --seed 0 --attack` runs AGE with its whole gradient; in Python compare `erase(model, ("7",), "age", cut=True)`. Do the two choose other targets?
