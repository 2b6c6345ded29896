"""The checks of notebook 11: what a filter trains, a concept's tokens, words that stay, a lost push, a rate's bounds.

Slopes are those of autograd; names, words and rates are put together so that each typical slip gives another answer.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...erasing.layers import LAYERS
from ...risks import abspu
from .harness import Function, WrongAnswer, check, expect


def _random(n: int) -> int:
    return int(torch.randint(n, ()))


def _shuffled(values: list[str]) -> list[str]:
    return [values[i] for i in torch.randperm(len(values)).tolist()]


def expect_words(got: Any, want: list[str], mistakes: Mapping[str, list[str]]) -> None:
    """As `harness.expect`, for a list of strings."""
    if got is None:
        raise WrongAnswer("your function returned None: is there a `return` on every path?")
    if not isinstance(got, list | tuple) or not all(isinstance(one, str) for one in got):
        raise WrongAnswer(f"your function returned a {type(got).__name__}; a list of strings was expected")
    if list(got) == want:
        return
    for sentence, other in mistakes.items():
        if list(got) == other != want:
            raise WrongAnswer(sentence)
    raise WrongAnswer(f"it is {list(got)}; it should be {want}")


def _names() -> list[str]:
    """Names of parameters as Stable Diffusion's U-Net has them, in some order."""
    block = f"{('down', 'up')[_random(2)]}_blocks.{_random(3)}"
    inside = f"{block}.attentions.{_random(2)}.transformer_blocks.0"
    layers = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight", "to_out.0.bias")
    return _shuffled(
        [f"{inside}.{attention}.{layer}" for attention in ("attn1", "attn2") for layer in layers]
        + [f"{inside}.norm2.weight", f"{inside}.ff.net.0.proj.weight", f"{block}.attentions.0.proj_out.weight"]
        + [f"{block}.resnets.0.time_emb_proj.weight", f"{block}.resnets.0.conv1.weight", "conv_in.weight"]
        + ["time_embedding.linear_1.weight", "conv_norm_out.weight", "conv_out.weight", "conv_out.bias"]
    )


@check("11.1", "trained_by")
def check_11_1(trained_by: Function) -> None:
    """Each filter on the names of a block with both attentions, of the time embedding, and of the output head."""
    every: dict[str, dict[str, Callable[[str], bool]]] = {
        "attn2": {
            "attn1 is a place's attention to other places; a filter that looks for `attn` takes it too": lambda n: (
                "attn" in n
            ),
            "all of attn2, its queries and its output as well: keys and values alone are attn2-kv": LAYERS["attn2-kv"],
            "the output layer of attn2, to_out, belongs to it": lambda n: ".attn2." in n and "to_out" not in n,
            "a bias is a parameter as well": lambda n: ".attn2." in n and "bias" not in n,
        },
        "attn2-kv": {
            "keys and values of attn2, and no queries or output: that is attn2": LAYERS["attn2"],
            "attn1 has keys and values too; those of attn2 were asked for": lambda n: ".to_k." in n or ".to_v." in n,
            "values as well as keys": lambda n: ".attn2.to_k." in n,
            "keys as well as values": lambda n: ".attn2.to_v." in n,
        },
        "not-attn2": {
            "the time embedding and the output head (conv_norm_out, conv_out) are left out as well": lambda n: (
                ".attn2." not in n
            ),
            "the output head, conv_norm_out and conv_out, is left out as well": lambda n: (
                ".attn2." not in n and not n.startswith("time_embedding.")
            ),
            "the time embedding is left out as well": lambda n: (
                ".attn2." not in n and not n.startswith(("conv_norm_out.", "conv_out."))
            ),
            "time_emb_proj, in each block, is trained: `time_embedding.` alone is left out": lambda n: (
                LAYERS["not-attn2"](n) and "time_emb" not in n
            ),
            "only names that *begin* with conv_out or conv_norm_out are the head: to_out and proj_out lie in blocks": (
                lambda n: LAYERS["not-attn2"](n) and "out" not in n
            ),
            "attn1 is trained: it is attn2 alone that is left out": lambda n: (
                LAYERS["not-attn2"](n) and "attn1" not in n
            ),
        },
        "all": {"all: every name, the time embedding and the output head too": LAYERS["not-attn2"]},
    }
    for layers, slips in every.items():
        names = _names()
        right = torch.tensor([LAYERS[layers](name) for name in names])
        mistakes = {sentence: torch.tensor([slip(name) for name in names]).double() for sentence, slip in slips.items()}
        mistakes["the other way round: True is for what is trained"] = (~right).double()
        expect(trained_by(names, layers), right.double(), mistakes)


END = "</w>"


def merged(word: str, merges: list[str], end: str = END, pick: str = "rank", right: bool = False) -> list[str]:
    """What byte pair encoding makes of a word. end, pick, right: how it may be got wrong, see the check."""
    return _merged([*word[:-1], word[-1] + end], merges, pick, right)


def _merged(parts: list[str], merges: list[str], pick: str = "rank", right: bool = False) -> list[str]:
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    while known := [pair for pair in _pairs(parts) if pair in ranks]:
        first, last = min(known, key=ranks.__getitem__), max(known, key=ranks.__getitem__)
        parts = _joined(parts, {"left": known[0], "last": last}.get(pick, first), right)
        if pick == "once":
            break
    return parts


def _pairs(parts: list[str]) -> list[str]:
    return [f"{a} {b}" for a, b in pairwise(parts)]


def _joined(parts: list[str], pair: str, right: bool) -> list[str]:
    """Every place of a pair joined, from the left or from the right where they overlap."""
    found: list[str] = []
    for part in reversed(parts) if right else parts:
        both = f"{part} {found[-1]}" if right and found else f"{found[-1]} {part}" if found else ""
        if both == pair:
            found[-1] = pair.replace(" ", "")
        else:
            found.append(part)
    return found[::-1] if right else found


def _longest(word: str, merges: list[str]) -> list[str]:
    """The longest known piece from the left, again and again: how other tokenizers work."""
    known, rest, found = {merge.replace(" ", "") for merge in merges}, word + END, []
    while rest:
        piece = next((rest[:n] for n in range(len(rest), 1, -1) if rest[:n] in known), None)
        piece = piece or (rest if len(rest) == 1 + len(END) and rest.endswith(END) else rest[0])
        found.append(piece)
        rest = rest[len(piece) :]
    return found


def learned(words: list[str], count: int) -> list[str]:
    """Merges by rank, as they are learned: each joins the pair that is then the most frequent in the words."""
    merges: list[str] = []
    for _ in range(count):
        counts: dict[str, int] = {}
        for word in words:
            parts = merged(word, merges)
            for pair in _pairs(parts):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        merges.append(max(sorted(counts), key=counts.__getitem__))
    return merges


def _word(letters: str, length: int) -> str:
    return "".join(letters[_random(len(letters))] for _ in range(length))


@check("11.2", "pieces", points=2)
def check_11_2(pieces: Function) -> None:
    """Words of three letters and the merges learned from such; one repeats a letter, so that pairs overlap."""
    cases = [
        ("abcde", ["b c", "a b", "c d", "d e</w>", "a bc"]),  # lowest, leftmost and highest rank part here
        ("abcd", ["b c", "a b", "c d</w>"]),  # and here the longest piece
        ("baaab", ["a a", "a b</w>"]),  # overlapping places
        ("b", ["b b"]),
        ("abab", []),
    ]
    for _ in range(12):
        merges = learned([_word("abc", 3 + _random(5)) for _ in range(12)], 10)
        cases.append((_word("abc", 5 + _random(6)), merges))
    for word, merges in cases:
        letters = [*word[:-1], word[-1] + END]
        expect_words(
            pieces(word, list(merges)),
            merged(word, merges),
            {
                f"the last letter carries the end of the word: put {END} to it before you look for pairs": merged(
                    word, merges, end=""
                ),
                f"{END} is written to the last letter, not a letter of its own": _merged([*word, END], merges),
                "that is the longest known piece from the left; here pairs are joined by their rank": _longest(
                    word, merges
                ),
                "you took the first known pair from the left; take that of lowest rank, earliest in the list": merged(
                    word, merges, pick="left"
                ),
                "you took the pair of highest rank; the earliest in the list goes first": merged(
                    word, merges, pick="last"
                ),
                "one merge is not the end: go on until no neighbours are in the list": merged(
                    word, merges, pick="once"
                ),
                "where places of a pair overlap, as in aaa, join from the left": merged(word, merges, right=True),
                "nothing is joined yet": letters,
            },
        )


LIST = [
    *("church", "churches", "Church", "church tower", "old churches", "churchyard", "tower"),
    *("car", "cars", "red car", "carpet", "scar", "dogs"),
    *("truck", "TRUCKS", "garbage trucks", "garbage bag", "truck of garbage"),
]


def same_word(a: str, b: str, ends: tuple[str, ...] = ("", "s", "es"), case: bool = False) -> bool:
    """Whether two words are one, in upper or lower case (or, with `case`, in this one), with an ending or without."""
    a, b = (a, b) if case else (a.casefold(), b.casefold())
    return any(a == b + end or b == a + end for end in ends)


def speaks(entry: str, concept: str, same: Callable[[str, str], bool] = same_word) -> bool:
    """Whether an entry of a list holds all words of a concept, one after another."""
    ours, theirs = entry.split(), concept.split()
    return any(
        all(same(a, b) for a, b in zip(ours[at : at + len(theirs)], theirs, strict=True))
        for at in range(len(ours) - len(theirs) + 1)
    )


@check("11.3", "may_be_preserved")
def check_11_3(may_be_preserved: Function) -> None:
    """A list with the erased words in several forms, and with harmless ones that look like them."""
    erased = [("church", "car"), ("Church", "car"), ("car", "church")][_random(3)]
    known = [*erased, "garbage truck"]
    words = _shuffled(LIST)

    def kept(speaks_of: Callable[[str, str], bool], known: list[str] = known) -> list[str]:
        return [word for word in words if not any(speaks_of(word, concept) for concept in known)]

    expect_words(
        may_be_preserved(list(words), list(known)),
        kept(speaks),
        {
            "a carpet is no car: compare whole words, not letters": kept(lambda w, c: c.casefold() in w.casefold()),
            "a carpet is no car: compare whole words, not how they begin": kept(
                lambda w, c: speaks(w, c, lambda a, b: a.casefold().startswith(b.casefold()))
            ),
            "a church tower speaks of a church: look at the words of an entry, not at the entry as a whole": kept(
                lambda w, c: same_word(w, c)
            ),
            "Church and church are one word: compare in one case": kept(
                lambda w, c: speaks(w, c, lambda a, b: same_word(a, b, case=True))
            ),
            "the plural stays in your list: churches is church with -es, cars is car with -s": kept(
                lambda w, c: speaks(w, c, lambda a, b: same_word(a, b, ("",)))
            ),
            "churches is the plural of church: -es as well as -s": kept(
                lambda w, c: speaks(w, c, lambda a, b: same_word(a, b, ("", "s")))
            ),
            "only the first of the concepts is excluded; each of them shall be": kept(speaks, known[:1]),
            "a garbage bag is no garbage truck: an entry must hold all words of a concept": kept(
                lambda w, c: any(speaks(w, part) for part in c.split())
            ),
            "the words of a concept stand one after another: a truck of garbage is other words, and may stay": kept(
                lambda w, c: all(speaks(w, part) for part in c.split())
            ),
            "these are the words that are excluded; return those that may be preserved": [
                word for word in words if word not in kept(speaks)
            ],
            "keep the order of the list": sorted(kept(speaks)),
        },
    )


@check("11.4", "slopes")
def check_11_4(slopes: Function) -> None:
    """By autograd through the package's risk, on both sides of the absolute value, for small l and for l of latents."""
    for size, sign in ((1.5, 1), (1.5, -1), (3000.0, 1), (3000.0, -1)):
        n_u, n_s, beta = 3 + _random(3), 2 + _random(3), float(0.1 + 0.2 * torch.rand(()))
        l_s = size * (0.5 + torch.rand(n_s, dtype=torch.float64))
        ratio = beta * (1 + sign * (0.3 + 0.4 * torch.rand((), dtype=torch.float64)))
        l_u = torch.rand(n_u, dtype=torch.float64) + 0.5
        l_u = l_u * (ratio * l_s.mean() / l_u.mean())
        leaf = l_s.clone().requires_grad_()
        (right,) = torch.autograd.grad(abspu(l_u, leaf, beta).objective, leaf)
        push, pull = -1 / torch.expm1(l_s), torch.full_like(l_s, -float(sign))
        every = beta / n_s
        expect(
            slopes(l_u, l_s, beta),
            right,
            {
                "that is Algorithm 1: where L_U - beta L_S is negative it follows that alone; here the push stays": (
                    every * (push - 1 if sign > 0 else torch.ones_like(l_s))
                ),
                "the absolute value is missing: where L_U - beta L_S is negative, its slope turns round": every
                * (push - 1),
                "the absolute value has the sign of L_U - beta L_S, and L_S stands there with a minus": every
                * (push - pull),
                "the push raises l: the slope of -log(1 - exp(-l)) is -1/(exp(l) - 1)": every * (-push + pull),
                "the push is missing": every * pull,
                "that is the push alone; |L_U - beta L_S| depends on l_s too": every * push,
                "L_S is a mean: divide by the number of images of S": right * n_s,
                "beta is missing: it stands in front of both terms": right / beta,
                "beta is missing in front of L_S^+": (push + beta * pull) / n_s,
                "beta is missing in front of L_S^-": (beta * push + pull) / n_s,
                "the slope of -log(1 - exp(-l)) is -1/(exp(l) - 1), not -exp(-l)": every * (-torch.exp(-l_s) + pull),
            },
            tolerance=1e-6,
        )


@check("11.5", "bounds")
def check_11_5(bounds: Function) -> None:
    """Published rates at three thresholds; asked for at one between them, beyond them, and at one of them."""
    for _ in range(3):
        thresholds = torch.tensor([0.2, 0.45, 0.7]).double() + 0.05 * torch.rand(3, dtype=torch.float64)
        rates = torch.tensor([0.8, 0.5, 0.2]).double() + 0.1 * torch.rand(3, dtype=torch.float64)
        between = thresholds[:2] + 0.1 + 0.02 * torch.rand(2, dtype=torch.float64)
        for t in (*between.tolist(), 0.1, 0.9, *thresholds.tolist()):
            below, above = rates[thresholds <= t], rates[thresholds >= t]
            low = above.max() if len(above) else torch.zeros(()).double()
            high = below.min() if len(below) else torch.ones(()).double()
            right = torch.stack([low, high])
            mistakes = {
                "the two are swapped: low first": right.flip(0),
                "beyond the last threshold the rate may fall to 0, and before the first it may rise to 1": _ends(
                    right, rates, t, thresholds
                ),
                "a straight line between two points is a guess; certain is only that a rate falls with the threshold": (
                    _line(thresholds, rates, t)
                ),
                "the nearest threshold's rate is a guess; what is certain lies between the neighbours": rates[
                    (thresholds - t).abs().argmin()
                ].repeat(2),
                "a rate never rises with the threshold: the one below gives the high bound, the one above the low": (
                    _turned(thresholds, rates, t)
                ),
                "at a published threshold the rate is known: both bounds are that rate": _strict(thresholds, rates, t),
                "the neighbours bound it: you took the first and the last of the table": torch.stack(
                    [rates.min(), rates.max()]
                ),
                "without a rate at or above t the low bound is 0, without one at or below it the high bound is 1; "
                "here there are such": torch.tensor([0.0, 1.0]).double(),
            }
            expect(bounds(thresholds, rates, t), right, mistakes)


def _line(thresholds: Tensor, rates: Tensor, t: float) -> Tensor:
    import numpy as np

    return torch.as_tensor(np.interp(t, thresholds.numpy(), rates.numpy())).repeat(2)


def _turned(thresholds: Tensor, rates: Tensor, t: float) -> Tensor:
    """As if a rate rose with the threshold."""
    below, above = rates[thresholds <= t], rates[thresholds >= t]
    low = below.max() if len(below) else torch.zeros(()).double()
    return torch.stack([low, above.min() if len(above) else torch.ones(()).double()])


def _strict(thresholds: Tensor, rates: Tensor, t: float) -> Tensor:
    below, above = rates[thresholds < t], rates[thresholds > t]
    low = above.max() if len(above) else torch.zeros(()).double()
    return torch.stack([low, below.min() if len(below) else torch.ones(()).double()])


def _ends(right: Tensor, rates: Tensor, t: float, thresholds: Tensor) -> Tensor:
    """The table's own ends in the place of 0 and 1."""
    low = rates.min() if t > float(thresholds.max()) else right[0]
    return torch.stack([low, rates.max() if t < float(thresholds.min()) else right[1]])
