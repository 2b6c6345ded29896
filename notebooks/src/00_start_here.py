# %% [markdown]
# # Start here: a diffusion model that is told what *not* to draw
#
# Takahashi et al., *Positive-Unlabeled Diffusion Models for Preventing Sensitive Data Generation* (ICLR 2025), on your own machine.
#
# **After this notebook you can** say what the problem is, run the paper's Figure 1 from scratch, and read the numbers under it.
#
# **What it costs**: about a minute and 1.1 GiB of memory on two CPU cores in `lab` mode, because the two trained networks come with the course; the command that made them, and makes them again in about three and a half minutes of two quiet cores, is below. No GPU, no account, no network. In `fast` mode, which the tests use, two tiny networks are trained on the spot. (Free Colab T4: not run here.)

# %% [markdown]
# ## The problem, in three sentences
#
# You have many images to learn from, and you know that some of them are *sensitive*: images that your model must never produce. You cannot label them all, but you can collect a small set $\mathcal S$ of sensitive examples. From the unlabeled set $\mathcal U$ (normal images, with sensitive ones hidden among them) and $\mathcal S$ alone, train a diffusion model that generates only normal images.
#
# The paper's smallest example: digits. *Even* digits are normal, *odd* ones are sensitive. $\mathcal U$ holds 25,000 even and 2,500 odd digits, nobody says which; $\mathcal S$ holds 2,500 odd digits.

# %%
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from pudm_lite.datasets import to_model
from pudm_lite.diffusion import ell
from pudm_lite.draws import generator
from pudm_lite.results import style
from pudm_lite.results.report import TITLES, draw_panel
from pudm_lite.risks import nnpu
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.running import material
from pudm_lite.runs.machine import mode
from pudm_lite.runs.measuring import measure
from pudm_lite.runs.shipped import trained
from pudm_lite.sampling import draw

style.use()
MODE = mode()  # the environment variable PUDM_MODE: fast, lab (the default) or full
chosen = {"fast": "tiny, to see that everything runs", "lab": "minutes on a CPU", "full": "complete runs"}
print(f"mode: {MODE} ({chosen[MODE]})")

# %%
data = material(experiment("mnist-even"))
print(f"U: {len(data.split.u):,} images, {data.split.realised_share:.1%} of them sensitive")
print(f"S: {len(data.split.s):,} images, all sensitive")
print(f"test: {len(data.test):,} images, all normal")

figure, axes = plt.subplots(1, 2, figsize=(9, 4.8))
draw_panel(axes[0], data.train[data.split.u[:64]], data.split.u_sensitive[:64])
axes[0].set_title("U: unlabeled (frames: what nobody told us)")
draw_panel(axes[1], data.train[data.split.s[:64]], torch.ones(64, dtype=torch.bool))
axes[1].set_title("S: labelled sensitive")
style.show(figure, alt="64 unlabeled digits, a few odd ones framed, beside 64 odd digits, all framed")

# %% [markdown]
# About one digit in eleven of $\mathcal U$ is odd (framed; how many stand among the 64 shown is chance). A model that simply learns $\mathcal U$ will draw odd digits about 9 % of the time. The frames are for your eyes; the methods below never see them.

# %% [markdown]
# ## The idea, in four formulas
#
# A diffusion model learns by minimising a *noise error* (Eq. 8): noise an image, guess the noise, compare,
#
# $$\ell(\mathbf x_0) = \mathbb E_{t,\epsilon}\,\big\|\epsilon - \epsilon_\theta(\sqrt{\bar\alpha_t}\,\mathbf x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon,\ t)\big\|^2 .$$
#
# A small $\ell$ goes with a high lower bound of the image's log-likelihood (the ELBO, Eq. 7: minus $\ell$, with other weights on the noise levels and a last step to the pixels that Eq. 8 leaves out). So make it small for normal images and large for sensitive images. Pushing it up without bound would wreck the model, so read $e^{-\ell}$ as the probability of *normal* (Eq. 10); then a sensitive image costs $-\log(1-e^{-\ell})$ (Eq. 11), which is large only while $\ell$ is small.
#
# We have no labelled normal images, but $\mathcal U$ is a mixture, $p_{\mathcal U} = \beta\,p_{\mathcal S} + (1-\beta)\,p_{\mathcal N}$ (Eq. 13), so what $\mathcal N$ would have cost is $\mathcal U$'s cost minus $\beta$ times $\mathcal S$'s (Eq. 16). Put together, and kept from going negative (Eq. 19):
#
# $$\mathcal L_{\rm PU} = \beta\,\mathcal L_{\mathcal S}^{+} + \max\{0,\ \mathcal L_{\mathcal U}^{-} - \beta\,\mathcal L_{\mathcal S}^{-}\}.$$
#
# In code this is the function `pudm_lite.risks.nnpu`; here is its heart on made-up errors, beside the package's tested version:

# %%
torch.manual_seed(0)
l_u, l_s, beta = torch.rand(50) * 2, torch.rand(5) * 6, 0.1

push = -torch.log(-torch.expm1(-l_s)).mean()  # L_S^+, Eq. 11 with y = 1
normal = l_u.mean() - beta * l_s.mean()  # L_U^- - beta L_S^-, Eq. 16
by_hand = beta * push + max(torch.tensor(0.0), normal)  # Eq. 19

package = nnpu(l_u, l_s, beta)
print(f"by hand {by_hand:.6f}   pudm_lite {package.value:.6f}")
assert torch.allclose(by_hand, package.value)

# %% [markdown]
# ## Figure 1, from a run
#
# The whole figure is one command in a terminal:
#
# ```
# make figure1          # or: pudm figure1 --normal even --seed 0
# ```
#
# It trains two networks from scratch, with the same initial weights and the same draws: one the usual way (*unsupervised*, Eq. 9), one with the proposed risk. The next cell opens the networks that this command made (in `lab` mode; set `PUDM_NO_CHECKPOINTS=1` to train them yourself) and lets both draw from the same noise. The line it prints says how long each was trained: a `fast` run is far too short for digits.

# %%
length, n = ({"steps": 12}, 64) if MODE == "fast" else ({}, 500)
methods = ("unsupervised", "nnpu")
experiments = {m: replace(experiment("mnist-even", m, **length), n_samples=n) for m in methods}
networks = {m: trained(exp, Path("outputs/start_here")) for m, exp in experiments.items()}
samples = {m: draw(networks[m].network, networks[m].process, n, **experiments[m].sampling) for m in networks}
for m, found in networks.items():
    print(f"{m}: {found.row['steps']:,} steps of {found.row['batch_size']} images")

# %%
verdicts = {m: data.judge.look(images) for m, images in samples.items()}
sensitive = {m: ~data.judge.is_normal(v, data.configuration.normal) for m, v in verdicts.items()}
rows = {m: measure(verdict, data) for m, verdict in verdicts.items()}

figure, axes = plt.subplots(1, 2, figsize=(9, 5.2))
for ax, m, letter in zip(axes, samples, "cd"):
    draw_panel(ax, samples[m][:64], sensitive[m][:64])
    row = rows[m]
    interval = f"[{row['rate_low']:.3f}, {row['rate_high']:.3f}]"
    below = f"rate {row['non_sensitive_rate']:.3f} {interval}, Fréchet distance {row['frechet_distance']:.2f}"
    ax.set_title(f"({letter}) {TITLES[m]}\n{below}")
style.show(figure, alt="64 unsupervised samples, some odd digits framed, beside 64 samples of the proposed method from the same noise")

# %% [markdown]
# **Reading it.** The two panels above are the paper's (c) and (d); (a) and (b) you have seen. They start from the same noise, image by image. Where (c) shows a framed odd digit, (d) mostly shows an even digit in its place (where the framed one is misshapen, so may its successor be), and the other digits stay much as they were. The numbers for all samples:

# %%
for m, row in rows.items():
    print(
        f"{m:13s} non-sensitive rate {row['non_sensitive_rate']:.3f} [{row['rate_low']:.3f}, {row['rate_high']:.3f}]"
        f"   Fréchet distance {row['frechet_distance']:.2f} (two sets of real digits: {row['frechet_floor']:.2f})"
    )

# %% [markdown]
# - **Non-sensitive rate**: the share of samples that a judge, a classifier of 99.4 % accuracy, calls normal. $\mathcal U$ itself has 0.909, so a model that copies $\mathcal U$ faithfully stays near that. In brackets the 95 % interval for this many samples.
# - **Fréchet distance**: how far the samples' statistics are from those of real *normal* digits; smaller is better. It depends on the features and on n, so compare it only with its neighbours here, and with the floor that two sets of real digits have. It mixes *what* is drawn with *how well*: the odd digits that (d) lacks bring it down, worse drawn even digits would bring it up. Notebook 04, section 6, takes the two apart.

# %% [markdown]
# ## Watch the two losses part
#
# While it trains, the noise error of $\mathcal U$ and that of $\mathcal S$ are recorded. (The unsupervised method never uses $\mathcal S$; every tenth step it looks at it all the same, so that curve is jagged. The other dashed curve is a little so as well: a batch holds only 4 images of $\mathcal S$.)

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
lines = (("L_U_minus", "U (unlabeled)", style.BLUE, "-"), ("L_S_minus", "S (sensitive)", style.ORANGE, "--"))
for ax, (m, found) in zip(axes, networks.items()):
    for name, label, colour, dash in lines:
        step, value = found.curves[name].T
        ax.plot(step, value, dash, color=colour, label=label)
    ax.set(title=f"{m} ({found.row['steps']:,} steps)", xlabel="training step", yscale="log")
    ax.legend()
axes[0].set_ylabel("noise error l, summed over pixels")
style.show(figure, alt="noise error of U and of S against the training step, for both methods")

# %% [markdown]
# **Reading it** (`lab` mode). Both errors fall together, and no error explodes, as it would if one simply maximised $\ell$ on $\mathcal S$. Compare the dashed line with the solid one: on the left it scatters about it, towards the end mostly a little below; on the right the two part after some 500 steps, and at the end $\mathcal S$ lies above $\mathcal U$ by about a sixth. On this scale it is a small lift, and it separates the two rates above.

# %% [markdown]
# ## What mattered at this size
#
# Findings from making this small enough for a laptop; each is an option by name, so you can undo it and look.
#
# - **The scale of $\ell$ is a hidden hyper-parameter.** Eq. 8 is a *sum* over pixels (`ell_scale` = 784 here). Summed, $\ell$ varies by a factor of a hundred over the noise levels, the rarest draws left out (the next cell prints it): in more than half of the draws it is above ten, where $e^{-\ell}$ is next to nothing and the push $-\log(1-e^{-\ell})$ sleeps, and it is small only in nearly pure noise. (The printed 2.5 is where push and pull balance in Eq. 12, as notebook 02 shows; in Eq. 19 the push carries the factor $\beta$ and is weaker still.) What acts at most levels is $\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-$. It is enough, and it leaves the images alone. What a smaller scale does, notebook 02 shows on small models, and `pudm train --set ell_scale=100` on a whole run (no such row is committed).
# - **The noise schedule decides what Eq. 8 weighs.** Every *step* counts alike, so choosing where the steps lie chooses which noise levels count. What a digit *is* gets settled at high noise: the `lite` schedule is the cosine schedule moved there, and it ends at log-SNR 1, from where a sampler may step straight to the predicted image.
# - **A sampler with noise heals.** A short training leaves errors; DDPM's fresh noise at each step lets the next step mend them. So the recipe takes 14 DDPM steps and not a deterministic second-order solver, which is made for few steps. The trials behind that choice are not among the committed rows; `pudm train --sampler dpmpp --sampler-steps 8` repeats one. It is no law: on the network of notebook 01, trained for 400 steps, the solver has the smaller distance at every number of steps.
# - **The batch is drawn in two streams**: 40 images of $\mathcal U$ and 4 of $\mathcal S$. In one pooled batch, as Algorithm 1 can be read, the number from $\mathcal S$ is left to chance; a batch without one says nothing of $\mathcal S$, and the weight $\beta$ shrinks with their share. With 50 labels this undoes the method (notebook 04, section 9).
# - **What makes a short training short**, all in the recipe of `lite` (`pudm_lite/networks.py`) and none of it in the paper: a U-Net that works on 2 x 2 pixels folded into channels; it predicts $\mathbf v$ (notebook 01); timesteps are drawn by *importance*, more often where $\ell$ is large, and each cost is divided by how often (`pudm_lite/importance.py`), which leaves Eq. 8 as it is; and the optimiser is Muon for the kernels, AdamW for the rest (`pudm_lite/optimisers.py`). `--network paper` has none of them.
# - **The clamp did not act once** in these short runs (`clamped_share` is 0 in the rows of `data/results/figure1.jsonl`): the batch's $\mathcal L_{\mathcal S}^-$ would have to be ten times its $\mathcal L_{\mathcal U}^-$. So nnPU and the absolute-value risk take the same steps here; they part when training is long enough to over-fit $\mathcal S$.
# - **Much of what remains is quality.** A badly drawn 4 is a 9 to the judge: of the few samples of (d) that it still calls odd, some are more likely digits that went wrong than odd digits that were learned.

# %%
watched = networks["unsupervised"]
x = to_model(data.train[data.split.s[: 64 if MODE == "fast" else 500]])
draws = generator(0, 0)
t = torch.randint(watched.process.steps, (len(x),), generator=draws)
noise = torch.randn(x.shape, generator=draws)
device = next(watched.network.parameters()).device
with torch.no_grad():
    output = lambda x, t: watched.network(x.to(device), t.to(device)).sample.cpu()  # noqa: E731
    errors = ell(output, x, t, noise, watched.process, scale=784)
low, middle, high = errors.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
print(f"l of S, unsupervised network: median {middle:.1f}, nine draws in ten between {low:.2g} and {high:.3g}")
print(f"below 2.5, where in Eq. 12 the push balances the pull of those hidden in U: {(errors < 2.5).float().mean():.0%}")

# %% [markdown]
# ## The map of the course
#
# | notebook | what you will be able to do | what you will see |
# |---|---|---|
# | `00_start_here` | say what the problem is; read Figure 1 | the even/odd result |
# | `01_ddpm_basics` | write the forward process, the noise error and three samplers | a digit dissolve and come back |
# | `01b_elbo_and_score` | derive the noise error from the likelihood; say what each risk converges to | real digits in bits; the paper's promise, measured |
# | `02_supervised_bce` | explain why maximising $\ell$ fails and what Eqs. 10-12 do instead | a loss diverge; a push that sleeps |
# | `03_pu_risk` | derive and code the PU risks (Eqs. 13-19), Algorithm 1's branch | the exact answer on a 2-D toy, and over-fitting |
# | `04_mnist_even_odd` | run the paper's MNIST experiment and report it honestly | all methods, intervals, the judge's own errors, a bias in the batch |
# | `05_beta_and_prior` | estimate $\beta$ from $\mathcal U$ and $\mathcal S$; know what a wrong one costs | Figure 4's shape on MNIST |
# | `06_cifar10` | count epochs and FLOPs, read FID and its bias, run the method on a folder of your own | CIFAR10's experiment, here on a stand-in |
# | `07_stl10` | watch over-fitting, test samples for copies, compute the bold of a table and the power of five seeds | the exact minimiser of Eq. 9 draws copies |
# | `08_finetuning_celeba` | fine-tune a Diffusers pipeline, fit it into a GPU, decide the clamp over pieces | images replaced one by one; Tables 4 and 5 in miniature |
# | `09_conditional_guidance` | write Eq. 20 and guidance; say what a PU risk does for each condition | what guidance draws and what it only names; a sensitive digit that is asked for |
# | `10_concept_erasing` | write ESD's target, UCE's closed form, the step and the search of adversarial preservation; attack an erased model | who pays for an erasure; a digit that comes back by another address |
# | `11_stable_diffusion` | edit Stable Diffusion and prove what changed; count memory and time; read a table of exposure rates | where the prompt enters; what the tokenizer reads; a push that is 0 |
#
# Read them in this order (01b is the theory, and nothing later needs it); each of 01 to 05 takes an evening, about two hours with its exercises (`INSTRUCTOR.md` says what to leave out in a 90-minute lab), and runs in minutes. An exercise marked * is a larger piece of work, half an hour or more, and can be left out. The folder `student/` holds the same notebooks with the exercises open: write in those. `NOTATION.md` has every letter and word on one page; `EQUATIONS.md` ties each formula to its function and its test; `INSTRUCTOR.md` is for those who teach.

# %% [markdown]
# ## Try it
#
# 1. `pudm figure1 --normal odd`: swap the roles. Which odd digits do the framed evens turn into?
# 2. `pudm figure1 --method unsupervised supervised nnpu`: is being told what is sensitive (Eq. 12) enough? The paper found that it is not; find the sentence in Section 3.1 that says why.
# 3. `pudm figure1 --beta 0.2`: assume more sensitive data than there is. What happens to the rate, and to the distance?
