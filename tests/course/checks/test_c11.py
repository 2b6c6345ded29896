"""The checks of notebook 11: right answers pass however written, typical wrong ones get the sentence meant."""

import re

import pytest
import torch
from answers import is_named, passes, wrong

from pudm_lite.course.checks.c11 import (
    END,
    check_11_1,
    check_11_2,
    check_11_3,
    check_11_4,
    check_11_5,
    expect_words,
    learned,
    merged,
)
from pudm_lite.course.checks.harness import WrongAnswer
from pudm_lite.erasing.words import parted

HEADS = ("time_embedding.", "conv_norm_out.", "conv_out.")


def trained_by(names, layers):
    if layers == "all":
        return [True] * len(names)
    if layers == "not-attn2":
        return [".attn2." not in name and not name.startswith(HEADS) for name in names]
    parts = [".attn2."] if layers == "attn2" else [".attn2.to_k.", ".attn2.to_v."]
    return [any(part in name for part in parts) for name in names]


def trained_by_the_words_between_dots(names, layers):
    found = []
    for name in names:
        words = name.split(".")
        inside = "attn2" in words
        if layers == "attn2-kv":
            inside = inside and bool({"to_k", "to_v"} & set(words))
        if layers == "not-attn2":
            inside = not inside and words[0] not in ("time_embedding", "conv_norm_out", "conv_out")
        found.append(inside or layers == "all")
    return torch.tensor(found)


def pieces(word, merges):
    return merged(word, merges)


def pieces_in_the_order_of_the_list(word, merges):
    """Each merge once, from the first to the last: a merge never makes an earlier one possible again."""
    parts = [*word[:-1], word[-1] + END]
    for merge in merges:
        at = 0
        while at < len(parts) - 1:
            if f"{parts[at]} {parts[at + 1]}" == merge:
                parts[at : at + 2] = [parts[at] + parts[at + 1]]
            at += 1
    return parts


def pieces_by_places(word, merges):
    parts = [*list(word)[:-1], word[-1] + "</w>"]
    while True:
        ranks = [merges.index(f"{a} {b}") if f"{a} {b}" in merges else 10**9 for a, b in zip(parts, parts[1:])]  # noqa: B905, RUF007
        if not ranks or min(ranks) == 10**9:
            return tuple(parts)
        at = ranks.index(min(ranks))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def may_be_preserved(words, known):
    return list(parted(words, known)[0])


def may_be_preserved_by_pattern(words, known):
    def pattern(concept):
        forms = [rf"{re.escape(word)}(s|es)?" for word in concept.split()]
        return re.compile(rf"(^| ){' '.join(forms)}( |$)", re.IGNORECASE)

    return [word for word in words if not any(pattern(concept).search(word) for concept in known)]


def slopes(l_u, l_s, beta):
    sign = torch.sign(l_u.mean() - beta * l_s.mean())
    return beta / len(l_s) * (-torch.exp(-l_s) / (1 - torch.exp(-l_s)) - sign)


def slopes_by_autograd(l_u, l_s, beta):
    leaf = l_s.clone().requires_grad_()
    risk = beta * -torch.log(-torch.expm1(-leaf)).mean() + (l_u.mean() - beta * leaf.mean()).abs()
    return torch.autograd.grad(risk, leaf)[0]


def bounds(thresholds, rates, t):
    low, high = 0.0, 1.0
    for threshold, rate in zip(thresholds.tolist(), rates.tolist(), strict=True):
        high = min(high, rate) if threshold <= t else high
        low = max(low, rate) if threshold >= t else low
    return torch.tensor([low, high], dtype=torch.float64)


def bounds_by_search(thresholds, rates, t):
    below, above = torch.searchsorted(thresholds, t, right=True), torch.searchsorted(thresholds, t)
    with_ends = [1.0, *rates.tolist(), 0.0]
    return torch.tensor([with_ends[int(above) + 1], with_ends[int(below)]])


RIGHT = [
    (check_11_1, trained_by),
    (check_11_1, trained_by_the_words_between_dots),
    (check_11_2, pieces),
    (check_11_2, pieces_in_the_order_of_the_list),
    (check_11_2, pieces_by_places),
    (check_11_3, may_be_preserved),
    (check_11_3, may_be_preserved_by_pattern),
    (check_11_4, slopes),
    (check_11_4, slopes_by_autograd),
    (check_11_5, bounds),
    (check_11_5, bounds_by_search),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    passes(check, answer)


def taking(**tests):
    """An answer to 11.1 with other tests of a name: layers with _ for - -> test."""
    tests = {layers.replace("_", "-"): test for layers, test in tests.items()}

    def answer(names, layers):
        return [bool(tests[layers](name)) for name in names] if layers in tests else trained_by(names, layers)

    return answer


def not_attn2(name):
    return ".attn2." not in name and not name.startswith(HEADS)


def same(a, b, ends=("", "s", "es"), case=str.casefold):
    a, b = case(a), case(b)
    return any(a == b + end or b == a + end for end in ends)


def keeping(speaks):
    """An answer to 11.3 that leaves out what speaks(entry, concept)."""
    return lambda words, known: [word for word in words if not any(speaks(word, concept) for concept in known)]


def in_order(entry, concept, same=same):
    ours, theirs = entry.split(), concept.split()
    starts = range(len(ours) - len(theirs) + 1)
    return any(all(same(a, b) for a, b in zip(ours[at:], theirs, strict=False)) for at in starts)


def push(l_s):
    return -1 / (l_s.exp() - 1)


def sign(l_u, l_s, beta):
    return (l_u.mean() - beta * l_s.mean()).sign()


def longest(word, merges):
    known, rest, found = {merge.replace(" ", "") for merge in merges}, word + END, []
    while rest:
        sizes = [n for n in range(2, len(rest) + 1) if rest[:n] in known]
        size = max(sizes, default=len(rest) if len(rest) == 1 + len(END) else 1)
        found.append(rest[:size])
        rest = rest[size:]
    return found


def from_the_right(word, merges):
    parts = [*word[:-1], word[-1] + END]
    for merge in merges:
        a, b = merge.split()
        at = len(parts) - 2
        while at >= 0:
            if parts[at : at + 2] == [a, b]:
                parts[at : at + 2] = [a + b]
                at -= 1
            at -= 1
    return parts


def linear(thresholds, rates, t):
    import numpy as np

    return [float(np.interp(t, thresholds.numpy(), rates.numpy()))] * 2


def nearest(thresholds, rates, t):
    return rates[(thresholds - t).abs().argmin()].repeat(2)


def strict(thresholds, rates, t):
    below, above = rates[thresholds < t].tolist(), rates[thresholds > t].tolist()
    return [max(above, default=0.0), min(below, default=1.0)]


def rising(thresholds, rates, t):
    below, above = rates[thresholds <= t].tolist(), rates[thresholds >= t].tolist()
    return [max(below, default=0.0), min(above, default=1.0)]


def its_ends(thresholds, rates, t):
    below, above = rates[thresholds <= t].tolist(), rates[thresholds >= t].tolist()
    return [max(above, default=float(rates.min())), min(below, default=float(rates.max()))]


WRONG = [
    wrong(check_11_1, taking(attn2=lambda n: "attn" in n), "attn1 is a place's attention"),
    wrong(check_11_1, taking(attn2=lambda n: "attn2.to_k" in n or "attn2.to_v" in n), "queries and its output as well"),
    wrong(check_11_1, taking(attn2=lambda n: ".attn2." in n and "to_out" not in n), "the output layer of attn2"),
    wrong(check_11_1, taking(attn2=lambda n: ".attn2." in n and n.endswith("weight")), "a bias is a parameter"),
    wrong(check_11_1, taking(attn2_kv=lambda n: ".attn2." in n), "keys and values of attn2, and no queries"),
    wrong(check_11_1, taking(attn2_kv=lambda n: "to_k" in n or "to_v" in n), "attn1 has keys and values too"),
    wrong(check_11_1, taking(attn2_kv=lambda n: "attn2.to_k" in n), "values as well as keys"),
    wrong(check_11_1, taking(attn2_kv=lambda n: "attn2.to_v" in n), "keys as well as values"),
    wrong(check_11_1, taking(not_attn2=lambda n: ".attn2." not in n), "time embedding and the output head .* are left"),
    wrong(
        check_11_1,
        taking(not_attn2=lambda n: "attn2" not in n and not n.startswith("time_embedding")),
        "the output head, conv_norm_out and conv_out, is",
    ),
    wrong(
        check_11_1,
        taking(not_attn2=lambda n: "attn2" not in n and not n.startswith(HEADS[1:])),
        "the time embedding is left out",
    ),
    wrong(check_11_1, taking(not_attn2=lambda n: not_attn2(n) and "time_emb" not in n), "time_emb_proj, in each block"),
    wrong(check_11_1, taking(not_attn2=lambda n: not_attn2(n) and "out" not in n), r"names that \*begin\*"),
    wrong(check_11_1, taking(not_attn2=lambda n: not_attn2(n) and "attn" not in n), "attn1 is trained"),
    wrong(check_11_1, taking(all=not_attn2), "all: every name"),
    wrong(check_11_1, lambda names, layers: [not one for one in trained_by(names, layers)], "other way round"),
    wrong(check_11_2, lambda w, m: merged(w, m, end=""), "the last letter carries"),
    wrong(check_11_2, lambda w, m: merged(w, m, pick="left"), "first known pair from the left"),
    wrong(check_11_2, lambda w, m: merged(w, m, pick="last"), "highest rank"),
    wrong(check_11_2, lambda w, m: merged(w, m, pick="once"), "one merge is not the end"),
    wrong(check_11_2, from_the_right, "join from the left"),
    wrong(check_11_2, longest, "longest known piece"),
    wrong(check_11_2, lambda w, m: [*w[:-1], w[-1] + END], "nothing is joined"),
    wrong(check_11_2, lambda w, m: None, "returned None"),
    wrong(check_11_2, lambda w, m: len(w), "a list of strings was expected"),
    wrong(check_11_2, lambda w, m: [w], "it should be"),
    wrong(check_11_3, keeping(lambda w, c: c.lower() in w.lower()), "not letters"),
    wrong(
        check_11_3,
        keeping(lambda w, c: in_order(w, c, lambda a, b: a.lower().startswith(b.lower()))),
        "not how they begin",
    ),
    wrong(check_11_3, keeping(same), "a church tower speaks"),
    wrong(check_11_3, keeping(lambda w, c: in_order(w, c, lambda a, b: same(a, b, case=str))), "in one case"),
    wrong(check_11_3, keeping(lambda w, c: in_order(w, c, lambda a, b: same(a, b, ("",)))), "the plural stays"),
    wrong(check_11_3, keeping(lambda w, c: in_order(w, c, lambda a, b: same(a, b, ("", "s")))), "-es as well as -s"),
    wrong(check_11_3, lambda words, known: may_be_preserved(words, known[:1]), "only the first"),
    wrong(check_11_3, keeping(lambda w, c: any(in_order(w, part) for part in c.split())), "all words of a concept"),
    wrong(check_11_3, keeping(lambda w, c: all(in_order(w, part) for part in c.split())), "one after another"),
    wrong(check_11_3, lambda words, known: list(parted(words, known)[1]), "the words that are excluded"),
    wrong(check_11_3, lambda words, known: sorted(may_be_preserved(words, known)), "the order of the list"),
    wrong(check_11_4, lambda u, s, b: b / len(s) * (push(s) - 1), "absolute value is missing"),
    wrong(check_11_4, lambda u, s, b: b / len(s) * (push(s) + sign(u, s, b)), "with a minus"),
    wrong(check_11_4, lambda u, s, b: b / len(s) * (-push(s) - sign(u, s, b)), "the push raises l"),
    wrong(check_11_4, lambda u, s, b: (-b / len(s) * sign(u, s, b)).expand(len(s)), "the push is missing"),
    wrong(check_11_4, lambda u, s, b: b / len(s) * push(s), "the push alone"),
    wrong(check_11_4, lambda u, s, b: slopes(u, s, b) * len(s), "divide by the number"),
    wrong(check_11_4, lambda u, s, b: slopes(u, s, b) / b, "in front of both"),
    wrong(check_11_4, lambda u, s, b: (push(s) - b * sign(u, s, b)) / len(s), "in front of L_S.\\+"),
    wrong(check_11_4, lambda u, s, b: (b * push(s) - sign(u, s, b)) / len(s), "in front of L_S.-"),
    wrong(check_11_4, lambda u, s, b: b / len(s) * (-torch.exp(-s) - sign(u, s, b)), "not -exp"),
    wrong(
        check_11_4,
        lambda u, s, b: b / len(s) * (push(s) - 1 if sign(u, s, b) > 0 else torch.ones_like(s)),
        "Algorithm 1",
    ),
    wrong(check_11_4, lambda u, s, b: b / len(s) * (-s.exp() / (s.exp() - 1) + 1 - sign(u, s, b)), "inf or nan"),
    wrong(check_11_5, lambda *a: bounds(*a).flip(0), "swapped"),
    wrong(check_11_5, linear, "straight line"),
    wrong(check_11_5, nearest, "nearest threshold's rate"),
    wrong(check_11_5, rising, "never rises"),
    wrong(check_11_5, strict, "at a published threshold"),
    wrong(check_11_5, its_ends, "beyond the last threshold"),
    wrong(check_11_5, lambda th, r, t: [float(r.min()), float(r.max())], "the first and the last"),
    wrong(check_11_5, lambda *a: [0.0, 1.0], "without a rate at or above"),
]


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_get_the_sentence_meant(check, answer, message):
    is_named(check, answer, message)


def test_pieces_are_those_of_clips_tokenizer(tmp_path):
    """Through Transformers, on merges that were learned from words."""
    pytest.importorskip("transformers")
    import json

    from transformers import CLIPTokenizer

    words = ["banana", "bandana", "cabana", "canada", "abacab", "dabbed", "faded", "cafe", "decaf", "facade"]
    merges = learned(words, 14)
    letters = "abcdefghijklmnopqrstuvwxyz"
    known = [*letters, *(letter + END for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    known = [*dict.fromkeys(known), "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({word: row for row, word in enumerate(known)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    theirs = CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    for word in (*words, "bananana", "aaaa", "zebra"):
        assert [known[i] for i in theirs(word, add_special_tokens=False).input_ids] == merged(word, merges)


def test_words_are_compared_in_their_order():
    with pytest.raises(WrongAnswer, match="it should be"):
        expect_words(["b", "a"], ["a", "b"], {})
    expect_words(("a", "b"), ["a", "b"], {"never": ["a", "b"]})
