"""The checks of notebook 10: right answers pass however written, typical wrong ones get the sentence meant."""

import pytest
import torch
from answers import is_named, passes, wrong
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
from pudm_lite.erasing import uce
from pudm_lite.measures.metrics import rate_of_counts


def wilson(hits, n, z):
    p = hits / n
    half = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5 / (1 + z**2 / n)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    return torch.stack([p, middle - half, middle + half])


def counts_of(matrix, row, kept_too=True):
    kept = torch.arange(len(matrix)) != row
    gone = matrix[row].sum() - matrix[row, row]
    return (gone, matrix[row].sum()), (matrix.diagonal()[kept].sum(), matrix[kept].sum())


def erased_and_kept(matrix, row, z, how=wilson):
    return torch.stack([how(*pair, z) for pair in counts_of(matrix.double(), row)])


def erased_and_kept_by_the_package(matrix, row, z):
    found = [rate_of_counts(int(hits), int(n)) for hits, n in counts_of(matrix, row)]
    return torch.tensor([[r.rate, r.low, r.high] for r in found])


def parts(change):
    """10.1 with other counts: change(erased hits, erased n, kept hits, kept n, matrix, row) -> the same four."""

    def answer(matrix, row, z):
        m = matrix.double()
        (a, n), (b, k) = counts_of(m, row)
        a, n, b, k = change(a, n, b, k, m, row)
        return torch.stack([wilson(a, n, z), wilson(b, k, z)])

    return answer


def textbook(hits, n, z):
    p = hits / n
    half = z * (p * (1 - p) / n) ** 0.5
    return torch.stack([p, p - half, p + half])


def middle_first(matrix, row, z):
    found = erased_and_kept(matrix, row, z)
    return torch.cat([found[:, 1:].mean(1, keepdim=True), found[:, 1:]], 1)


def mean_of_intervals(matrix, row, z):
    m = matrix.double()
    each = [wilson(m[i, i], m[i].sum(), z) for i in range(len(m)) if i != row]
    return torch.stack([erased_and_kept(matrix, row, z)[0], torch.stack(each).mean(0)])


def esd_target(c, null, eta):
    return (1 + eta) * null - eta * c


def edited(weight, sources, targets, kept, lam):
    return uce.edited(weight, sources, targets, kept, lam)


def edited_by_inverse(weight, sources, targets, kept, lam, first=True, keep=True, inside=True, own=False):
    left = lam * weight * first + weight @ (sources if own else targets).T @ sources + keep * weight @ kept.T @ kept
    gram = lam * torch.eye(weight.shape[1]).to(weight) + sources.T @ sources + inside * kept.T @ kept
    return left @ torch.linalg.inv(gram)


def edited_by_stacking(weight, sources, targets, kept, lam):
    tokens, aims = torch.cat([sources, kept]), torch.cat([targets, kept])
    gram = torch.eye(tokens.shape[1]).to(weight) * lam + tokens.T @ tokens
    return weight + torch.linalg.solve(gram, (weight @ (aims - tokens).T @ tokens).T).T


def ap_loss(student_e, told, untold, student_a, teacher_a, lam, eta, l1=1.0, l2=1.0):
    target = (untold - eta * (told - untold)).detach()
    return l1 * (student_e - target).pow(2).mean() + l2 * lam * (student_a - teacher_a.detach()).pow(2).mean()


def ap_loss_by_torch(student_e, told, untold, student_a, teacher_a, lam, eta):
    with torch.no_grad():
        target = untold + eta * (untold - told)
        kept = teacher_a.clone()
    return F.mse_loss(student_e, target) + lam * F.mse_loss(student_a, kept)


def ap_leaking(target=False, teacher=False, erased=False, kept=False):
    """10.4 with gradients where none belong (target, teacher) and none where they do (erased, kept)."""

    def answer(student_e, told, untold, student_a, teacher_a, lam, eta):
        aim = untold - eta * (told - untold)
        student_e, student_a = student_e.detach() if erased else student_e, student_a.detach() if kept else student_a
        aim, teacher_a = aim if target else aim.detach(), teacher_a if teacher else teacher_a.detach()
        return (student_e - aim).pow(2).mean() + lam * (student_a - teacher_a).pow(2).mean()

    return answer


def choice(logits, noise, temperature):
    soft = torch.softmax((logits + noise) / temperature, 0)
    hard = torch.zeros_like(soft)
    hard[soft.argmax()] = 1
    return hard - soft.detach() + soft


def choice_by_one_hot(logits, noise, temperature):
    scores = (logits + noise) / temperature
    return F.one_hot(scores.argmax(), len(logits)) + scores.softmax(0) - scores.softmax(0).detach()


def chosen(at, soft):
    """10.5 with another hard and another soft choice: at(logits, noise), soft(logits, noise, temperature)."""

    def answer(logits, noise, temperature):
        weights = soft(logits, noise, temperature)
        return F.one_hot(at(logits, noise).argmax(), len(logits)) + (weights - weights.detach())

    return answer


def added(logits, noise):
    return logits + noise


def right_soft(logits, noise, temperature):
    return ((logits + noise) / temperature).softmax(0)


def age_gain(weights, words, c_e, teacher, student, lam, eta, cut, first=1.0, frozen=False):
    c_t = weights @ words
    aimed = c_t.detach() if cut else c_t
    target = teacher @ aimed - eta * (teacher @ c_e - teacher @ aimed)
    kept = teacher @ (c_t.detach() if frozen else c_t)
    return first * (student @ c_e - target).square().sum() + lam * (student @ c_t - kept).square().sum()


def age_slope(logits, noise, words, c_e, teacher, student, lam, eta, temperature, cut, pick=choice, **how):
    logits = logits.clone().requires_grad_()
    gain = age_gain(pick(logits, noise, temperature), words, c_e, teacher, student, lam, eta, cut, **how)
    return torch.autograd.grad(gain, logits)[0]


def age_slope_by_hand(logits, noise, words, c_e, teacher, student, lam, eta, temperature, cut):
    soft = right_soft(logits, noise, temperature)
    c_t = words[(logits + noise).argmax()]
    by_token = 2 * lam * (student - teacher).T @ (student - teacher) @ c_t
    if not cut:
        missed = student @ c_e - ((1 + eta) * teacher @ c_t - eta * teacher @ c_e)
        by_token = by_token - 2 * (1 + eta) * teacher.T @ missed
    jacobian = (torch.diag(soft) - torch.outer(soft, soft)) / temperature
    return jacobian @ (words @ by_token)


def age_with(**changes):
    """10.6 with some arguments changed: name -> function of the arguments' dictionary."""
    names = ("logits", "noise", "words", "c_e", "teacher", "student", "lam", "eta", "temperature", "cut")

    def answer(*given):
        arguments = dict(zip(names, given, strict=True))
        return age_slope(**arguments | {name: change(arguments) for name, change in changes.items()})

    return answer


def recovered(before, after, tokens, lam):
    return uce.recovered([before], [after], tokens, lam)


def recovered_by_layers(before, after, tokens, lam):
    return uce.recovered(list(before.split(3)), list(after.split(3)), tokens, lam)


def recovered_by_inverse(before, after, tokens, lam, middle=None):
    gram = lam * torch.eye(tokens.shape[1]).to(tokens) + after.T @ after
    return (torch.linalg.inv(gram) @ (after if middle is None else middle).T @ before @ tokens.T).T


RIGHT = [
    (check_10_1, erased_and_kept),
    (check_10_1, erased_and_kept_by_the_package),
    (check_10_2, esd_target),
    (check_10_2, lambda c, null, eta: null - eta * (c - null)),
    (check_10_3, edited),
    (check_10_3, edited_by_inverse),
    (check_10_3, edited_by_stacking),
    (check_10_4, ap_loss),
    (check_10_4, ap_loss_by_torch),
    (check_10_5, choice),
    (check_10_5, choice_by_one_hot),
    (check_10_6, age_slope),
    (check_10_6, age_slope_by_hand),
    (check_10_7, recovered),
    (check_10_7, recovered_by_layers),
    (check_10_7, recovered_by_inverse),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    passes(check, answer)


WRONG = [
    wrong(check_10_1, parts(lambda a, n, b, k, m, r: (n - a, n, b, k)), "still"),
    wrong(check_10_1, parts(lambda a, n, b, k, m, r: (a, n, k - b, k)), "what went wrong"),
    wrong(check_10_1, lambda *g: erased_and_kept(*g).flip(0), "ESR first"),
    wrong(check_10_1, lambda m, r, z: erased_and_kept(m.T, r, z), "divided by columns"),
    wrong(check_10_1, parts(lambda a, n, b, k, m, r: (a, n, m.diagonal().sum(), m.sum())), "leave the erased row out"),
    wrong(check_10_1, mean_of_intervals, "all kept images together"),
    wrong(check_10_1, lambda *g: erased_and_kept(*g, textbook), "textbook"),
    wrong(check_10_1, middle_first, "middle of Wilson"),
    wrong(check_10_1, lambda *g: erased_and_kept(*g)[:, 0], "shares alone"),
    wrong(check_10_2, lambda c, n, eta: n + eta * (c - n), "a sign"),
    wrong(check_10_2, lambda c, n, eta: c - eta * (c - n), "starts from eps_null"),
    wrong(check_10_2, lambda c, n, eta: esd_target(n, c, eta), "swapped"),
    wrong(check_10_2, lambda c, n, eta: -eta * (c - n), "gap alone"),
    wrong(check_10_2, lambda c, n, eta: n - eta * c, "gap is missing"),
    wrong(check_10_2, lambda c, n, eta: n - (1 - eta) * (c - n), "other end"),
    wrong(check_10_2, lambda c, n, eta: n, "that is Eq. 5"),
    wrong(check_10_3, lambda w, c, v, k, lam: edited(w, v, c, k, lam), "sources and targets are swapped"),
    wrong(check_10_3, lambda *g: edited_by_inverse(*g, first=False), "lam W is missing"),
    wrong(check_10_3, lambda w, c, v, k, lam: edited(w, c, v, k, 1e-9), "lam I is missing|a value is"),
    wrong(check_10_3, lambda w, c, v, k, lam: edited(w, c, v, k[:0], lam), "kept tokens are missing"),
    wrong(check_10_3, lambda *g: edited_by_inverse(*g, inside=False), "not inside the inverse"),
    wrong(check_10_3, lambda *g: edited_by_inverse(*g, keep=False), "not on the left"),
    wrong(check_10_3, lambda *g: edited_by_inverse(*g, own=True), "still answered as itself"),
    wrong(check_10_3, lambda w, *g: w, "nothing is edited"),
    wrong(check_10_3, lambda *g: edited(*g).T, "transpose"),
    wrong(check_10_3, lambda w, c, v, k, lam: edited(w, c, 0 * v, k, lam), "answered by nothing"),
    wrong(check_10_4, lambda *g: ap_loss(*g, l2=0.0), "preserving term is missing"),
    wrong(check_10_4, lambda *g: ap_loss(*g, l1=0.0), "erasing term is missing"),
    wrong(check_10_4, lambda *g: ap_loss(*g[:5], 1.0, g[6]), "lam is missing"),
    wrong(check_10_4, lambda *g: ap_loss(*g, l1=g[5], l2=1 / g[5]), "lam stands before the erasing term"),
    wrong(check_10_4, lambda *g: ap_loss(*g, l2=-1.0), "a minus"),
    wrong(check_10_4, lambda *g: ap_loss(*g[:6], 0.0), "Eq. 5's target"),
    wrong(check_10_4, lambda *g: ap_loss(*g[:6], -g[6]), "a sign turned"),
    wrong(check_10_4, lambda *g: ap_loss(*g[:6], -1.0), "teacher's own answer"),
    wrong(check_10_4, lambda *g: 16 * ap_loss(*g), "summed over elements"),
    wrong(check_10_4, lambda *g: ap_loss(*g, l2=0.0).sqrt() + g[5] * (g[3] - g[4]).norm() / 4, "without a root"),
    wrong(
        check_10_4,
        lambda e, c, n, a, k, lam, eta: (
            (e - n + eta * (c - n)).square().flatten(1).mean(1) + lam * (a - k).square().flatten(1).mean(1)
        ),
        "one number was asked for",
    ),
    wrong(check_10_4, ap_leaking(target=True, teacher=True), "detach all three"),
    wrong(check_10_4, ap_leaking(target=True), "erasing target: detach it"),
    wrong(check_10_4, ap_leaking(teacher=True), "into teacher_a"),
    wrong(check_10_4, ap_leaking(kept=True), "nothing is kept"),
    wrong(check_10_4, ap_leaking(erased=True), "nothing is erased"),
    wrong(check_10_4, ap_leaking(erased=True, kept=True), "backward.. finds nothing"),
    wrong(check_10_5, right_soft, "that is the soft choice"),
    wrong(check_10_5, chosen(lambda a, z: a, right_soft), "the noise is missing"),
    wrong(check_10_5, chosen(lambda a, z: -a - z, right_soft), "you took the smallest"),
    wrong(check_10_5, lambda a, z, t: (a + z).argmax(), "number of the word"),
    wrong(check_10_5, lambda a, z, t: F.one_hot((a + z).argmax(), len(a)) + 0 * a, "they have no gradient"),
    wrong(check_10_5, lambda a, z, t: F.one_hot((a + z).argmax(), len(a)).double(), "backward.. finds nothing"),
    wrong(check_10_5, chosen(added, lambda a, z, t: (a + z).softmax(0)), "temperature is missing in the softmax"),
    wrong(check_10_5, chosen(added, lambda a, z, t: (a / t).softmax(0)), "soft weights lack the noise"),
    wrong(check_10_5, chosen(added, lambda a, z, t: a.softmax(0)), "lack noise and temperature"),
    wrong(check_10_5, chosen(added, lambda a, z, t: -right_soft(a, z, t)), "turned round"),
    wrong(check_10_5, chosen(added, lambda a, z, t: a), "goes through the softmax"),
    wrong(check_10_5, chosen(added, lambda a, z, t: 2 * right_soft(a, z, t)), "comes twice"),
    wrong(check_10_6, age_with(cut=lambda g: not g["cut"]), "exchanged"),
    wrong(check_10_6, lambda *g: 0 * age_slope(*g), "no gradient at all|a value is"),
    wrong(check_10_6, age_with(lam=lambda g: g["lam"] if g["cut"] else 0.0), "second term belongs"),
    wrong(check_10_6, age_with(lam=lambda g: 1.0), "lam is missing"),
    wrong(check_10_6, age_with(lam=lambda g: 1.0, first=lambda g: g["lam"]), "lam is missing|lam stands before"),
    wrong(check_10_6, age_with(eta=lambda g: g["eta"] if g["cut"] else 0.0), "pushed by eta"),
    wrong(check_10_6, age_with(eta=lambda g: g["eta"] if g["cut"] else -g["eta"]), "sign in the target"),
    wrong(check_10_6, age_with(frozen=lambda g: True), "not its argument"),
    wrong(check_10_6, lambda *g: -age_slope(*g), "that is descent"),
    wrong(check_10_6, age_with(pick=lambda g: right_soft), "mixture in your forward pass"),
    wrong(check_10_6, age_with(noise=lambda g: 0 * g["noise"]), "the noise is missing"),
    wrong(check_10_6, age_with(temperature=lambda g: 1.0), "the temperature is missing"),
    wrong(
        check_10_6,
        age_with(temperature=lambda g: 1.0, noise=lambda g: 0 * g["noise"]),
        "noise and temperature are missing",
    ),
    wrong(check_10_6, lambda *g: age_slope(*g) / 3, "sums of squares"),
    wrong(check_10_7, lambda b, a, c, lam: recovered(a, b, c, lam), "swapped"),
    wrong(check_10_7, lambda b, a, c, lam: recovered(b, a, c, 1e-12), "without lam"),
    wrong(check_10_7, lambda b, a, c, lam: recovered(a, a, c, lam), "you took W'.T W' c"),
    wrong(check_10_7, lambda b, a, c, lam: recovered_by_inverse(b, a, c, lam, middle=b), "you took W.T W c"),
    wrong(
        check_10_7,
        lambda b, a, c, lam: torch.linalg.solve(lam * torch.eye(5).double() + b.T @ b, a.T @ b @ c.T).T,
        "inside the inverse stand",
    ),
    wrong(check_10_7, lambda *g: recovered(*g).T, "transpose"),
    wrong(check_10_7, lambda b, a, c, lam: c, "own tokens"),
]


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_get_the_sentence_meant(check, answer, message):
    is_named(check, answer, message)
