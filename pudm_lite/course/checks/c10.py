"""The checks of notebook 10: success rates, ESD's target, UCE's edit, the step and the choice of adversarial
preservation, AGE's gradient, and the tokens that undo an edit.

Edits in closed form are compared with a least-squares solver, gradients with those of autograd or a hand-written
derivative: neither is the formula asked for.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .harness import Function, check, expect, slopes


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def _uniform(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64)


def _wilson(hits: Tensor, n: Tensor, z: float) -> Tensor:
    """(3,): the share and the ends of its interval, by the roots of (p - share)^2 = z^2 p (1 - p) / n."""
    a, b, c = 1 + z**2 / n, -(2 * hits / n + z**2 / n), (hits / n) ** 2
    root = (b**2 - 4 * a * c).clamp(min=0).sqrt()
    return torch.stack([hits / n, (-b - root) / (2 * a), (-b + root) / (2 * a)])


def _textbook(hits: Tensor, n: Tensor, z: float) -> Tensor:
    half = z * (hits / n * (1 - hits / n) / n).sqrt()
    return torch.stack([hits / n, hits / n - half, hits / n + half])


@check("10.1", "erased_and_kept")
def check_10_1(erased_and_kept: Function) -> None:
    """ESR-1 and PSR-1 with Wilson's interval from a matrix of counts."""
    for _ in range(3):
        k, z = 5, 1.96
        matrix = torch.randint(1, 9, (k, k)) + torch.diag(torch.randint(20, 60, (k,)))
        row = int(torch.randint(k, ()))
        matrix[row, row] = int(torch.randint(1, 5, ()))
        kept = [i for i in range(k) if i != row]
        counts = matrix.double()
        own, asked, seen = counts.diagonal(), counts.sum(1), counts.sum(0)

        def both(esr: Tensor, of_e: Tensor, psr: Tensor, of_k: Tensor, how: Function = _wilson, z: float = z) -> Tensor:
            return torch.stack([how(esr, of_e, z), how(psr, of_k, z)])

        gone, n_e, right_ones, n_k = asked[row] - own[row], asked[row], own[kept].sum(), asked[kept].sum()
        right = both(gone, n_e, right_ones, n_k)
        expect(
            erased_and_kept(matrix, row, z),
            right,
            {
                "the first row is how often the erased concept is *still* drawn; ESR counts what is no longer": both(
                    own[row], n_e, right_ones, n_k
                ),
                "the second row counts what went wrong; PSR counts the kept images judged as asked for": both(
                    gone, n_e, n_k - right_ones, n_k
                ),
                "the two rows are swapped: ESR first": right.flip(0),
                "you divided by columns, what was *judged* so; an image belongs to the row it was asked for": both(
                    seen[row] - own[row], seen[row], right_ones, seen[kept].sum()
                ),
                "PSR is of the kept concepts alone: leave the erased row out": both(gone, n_e, own.sum(), asked.sum()),
                "PSR's interval is of all kept images together: add up hits and images, then take the interval": (
                    torch.stack(
                        [right[0], torch.stack([_wilson(own[i], asked[i], z) for i in kept]).mean(0)],
                    )
                ),
                "that is the textbook's interval, which leaves [0, 1] near the ends; take Wilson's": both(
                    gone, n_e, right_ones, n_k, _textbook
                ),
                "the middle of Wilson's interval is not the share; the share itself comes first": torch.cat(
                    [right[:, 1:].mean(1, keepdim=True), right[:, 1:]], 1
                ),
                "these are the shares alone: their intervals were asked for as well": right[:, 0],
            },
        )


@check("10.2", "esd_target")
def check_10_2(esd_target: Function) -> None:
    """What the student shall answer, at several strengths."""
    for eta in (float(0.5 + _uniform()), float(1.5 + _uniform()), 1.0, 0.0):
        eps_c, eps_null = _normal(3, 1, 2, 2), _normal(3, 1, 2, 2)
        gap = eps_c - eps_null
        expect(
            esd_target(eps_c, eps_null, eta),
            eps_null - eta * gap,
            {
                "a sign: that is guidance *towards* the concept; ESD steers away from it": eps_null + eta * gap,
                "it starts from eps_null, not from eps_c: at eta = 0 the answer is eps_null": eps_c - eta * gap,
                "eps_c and eps_null are swapped": eps_c - eta * (eps_null - eps_c),
                "that is the gap alone: it is taken away from eps_null": -eta * gap,
                "the gap is missing: eta times eps_c - eps_null is taken away": eps_null - eta * eps_c,
                "eta = 0 gives Eq. 5, eps_null: you have 1 - eta, or eta counted from the other end": eps_null
                - (1 - eta) * gap,
                "that is Eq. 5: how far to go beyond null is missing": eps_null,
            },
        )


def _solved(weight: Tensor, sources: Tensor, targets: Tensor, kept: Tensor, lam: float) -> Tensor:
    """The minimum of 10.3 by a least-squares solver: every term is a row of one system A W'^T = B."""
    a = torch.cat([sources, kept, lam**0.5 * torch.eye(weight.shape[1], dtype=torch.float64)])
    b = torch.cat([targets @ weight.T, kept @ weight.T, lam**0.5 * weight.T])
    return torch.linalg.lstsq(a, b).solution.T


@check("10.3", "edited", points=2)
def check_10_3(edited: Function) -> None:
    """UCE's closed form against a least-squares solver, with more directions than tokens, and without any to keep."""
    for many in (2, 3, 0):
        lam = float(0.3 + 0.4 * _uniform())
        weight, sources, targets, kept = _normal(4, 6), _normal(2, 6), _normal(2, 6), _normal(many, 6)
        eye = torch.eye(6, dtype=torch.float64)
        left = lam * weight + weight @ targets.T @ sources + weight @ kept.T @ kept
        gram = lam * eye + sources.T @ sources + kept.T @ kept

        def solve(
            left: Tensor = left, extra: Tensor | None = None, gram: Tensor = gram, lam: float = lam, eye: Tensor = eye
        ) -> Tensor:
            return torch.linalg.solve(gram if extra is None else lam * eye + extra, left.T).T

        expect(
            edited(weight, sources, targets, kept, lam),
            _solved(weight, sources, targets, kept, lam),
            {
                "sources and targets are swapped: W' answers a *source* as W answered its target": _solved(
                    weight, targets, sources, kept, lam
                ),
                "lam W is missing on the left: where no token points, W' has to stay W": solve(left - lam * weight),
                "lam I is missing inside the inverse": torch.linalg.lstsq(gram - lam * eye, left.T).solution.T,
                "the kept tokens are missing": _solved(weight, sources, targets, kept[:0], lam),
                "the kept tokens stand on the left but not inside the inverse": solve(extra=sources.T @ sources),
                "the kept tokens stand inside the inverse but not on the left: they would be answered by nothing": (
                    solve(left - weight @ kept.T @ kept)
                ),
                "nothing is edited, a source is still answered as itself: its value is W v, with the target v": solve(
                    left - weight @ targets.T @ sources + weight @ sources.T @ sources
                ),
                "you returned the transpose: W' has the shape of W": _solved(weight, sources, targets, kept, lam).T,
                "the sources are answered by nothing: sum W v c^T is missing on the left": solve(
                    left - weight @ targets.T @ sources
                ),
            },
        )


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean()


@check("10.4", "ap_loss")
def check_10_4(ap_loss: Function) -> None:
    """Algorithm 2's objective: its value, and that a step on it changes the student alone."""
    for _ in range(3):
        lam, eta = float(0.3 + 0.4 * _uniform()), float(1.2 + 0.5 * _uniform())
        leaves = tuple(_normal(4, 1, 2, 2).requires_grad_() for _ in range(5))
        student_e, told, untold, student_a, teacher_a = (leaf.detach() for leaf in leaves)
        target = untold - eta * (told - untold)
        erasing, preserving = _distance(student_e, target), _distance(student_a, teacher_a)
        got = ap_loss(*leaves, lam, eta)
        expect(
            got,
            erasing + lam * preserving,
            {
                "the preserving term is missing": erasing,
                "the erasing term is missing": lam * preserving,
                "lam is missing in front of the preserving term": erasing + preserving,
                "lam stands before the erasing term: it weighs what is preserved": lam * erasing + preserving,
                "a minus: the student *descends* the preserving term, it is the search that climbs it": erasing
                - lam * preserving,
                "that is Eq. 5's target; here it is ESD's, with eta": _distance(student_e, untold) + lam * preserving,
                "the target has a sign turned: untold - eta (told - untold)": _distance(
                    student_e, untold + eta * (told - untold)
                )
                + lam * preserving,
                "the erased concept is compared with the teacher's own answer to it: that would preserve it": _distance(
                    student_e, told
                )
                + lam * preserving,
                "you summed over elements: a mean was asked for": 16 * (erasing + lam * preserving),
                "the distances are squared, without a root": erasing.sqrt() + lam * preserving.sqrt(),
                "each image keeps a number of its own; one number was asked for": (student_e - target)
                .square()
                .flatten(1)
                .mean(1)
                + lam * (student_a - teacher_a).square().flatten(1).mean(1),
            },
        )
        of_e, of_a = (student_e - target) / 8, lam * (student_a - teacher_a) / 8  # 2 / 16 each
        nothing = torch.zeros(16, dtype=torch.float64)
        by = {
            "student_e": of_e.flatten(),
            "told": eta * of_e.flatten(),
            "untold": -(1 + eta) * of_e.flatten(),
            "student_a": of_a.flatten(),
            "teacher_a": -of_a.flatten(),
        }

        def moved(*names: str, by: dict[str, Tensor] = by, nothing: Tensor = nothing) -> Tensor:
            return torch.cat([one if name in names else nothing for name, one in by.items()])

        expect(
            slopes(got, *leaves),
            moved("student_e", "student_a"),
            {
                "the value is right, but a gradient runs into the teacher's answers: detach all three": moved(*by),
                "the value is right, but a gradient runs into the erasing target: detach it": moved(
                    "student_e", "told", "untold", "student_a"
                ),
                "the value is right, but a gradient runs into teacher_a: detach it": moved(
                    "student_e", "student_a", "teacher_a"
                ),
                "the value is right, but the student is detached in the preserving term, so nothing is kept": moved(
                    "student_e"
                ),
                "the value is right, but the student is detached in the erasing term, so nothing is erased": moved(
                    "student_a"
                ),
            },
        )


def _one_hot(scores: Tensor) -> Tensor:
    return F.one_hot(scores.argmax(), len(scores)).to(scores)


@check("10.5", "choice")
def check_10_5(choice: Function) -> None:
    """A hard Gumbel-softmax choice: one-hot forward, at the largest logit plus noise, and the soft gradient."""
    for _ in range(4):
        logits, temperature = _normal(6).requires_grad_(), float(1.5 + _uniform())
        noise = -torch.empty(6, dtype=torch.float64).exponential_().log()
        noise[int(logits.argmin())] += 6  # the noise decides, so who leaves it out is seen
        while (logits + noise).argmin() == (largest := int(logits.argmax())):
            noise[largest] += 1  # that word would be taken for two reasons
        scores = (logits + noise).detach()
        soft = (scores / temperature).softmax(0)
        weights = choice(logits, noise, temperature)
        expect(
            weights,
            _one_hot(scores),
            {
                "that is the soft choice; forward a *hard* one was asked for, one-hot": soft,
                "the noise is missing: the word with the largest logit would be chosen every time": _one_hot(
                    logits.detach()
                ),
                "you took the smallest: the choice is the *largest* of logit + noise": _one_hot(-scores),
                "that is the number of the word; weights were asked for, one-hot": scores.argmax(),
            },
            tolerance=1e-9,
        )
        worth = _normal(6)
        mean = (soft * worth).sum()
        right = soft * (worth - mean) / temperature
        plain, still = logits.detach().softmax(0), (logits.detach() / temperature).softmax(0)
        expect(
            slopes((weights * worth).sum(), logits),
            right,
            {
                "the weights are right, but they have no gradient: add the soft weights and take them away detached": (
                    torch.zeros(6)
                ),
                "the temperature is missing in the softmax: it scales the gradient": scores.softmax(0)
                * (worth - (scores.softmax(0) * worth).sum()),
                "the soft weights lack the noise: hard and soft choice share it": still
                * (worth - (still * worth).sum())
                / temperature,
                "the soft weights lack noise and temperature": plain * (worth - (plain * worth).sum()),
                "the gradient is turned round: add soft - soft.detach(), not the other way": -right,
                "the gradient of the logits themselves: it goes through the softmax": worth,
                "the gradient comes twice": 2 * right,
            },
        )


@check("10.6", "age_slope", points=2)
def check_10_6(age_slope: Function) -> None:
    """The gradient that AGE's search follows, with and without the cut, against the derivative by hand."""
    for cut in (False, True, False, True):
        k, d, lam, eta = 5, 4, float(0.5 + 0.4 * _uniform()), float(0.6 + 0.3 * _uniform())
        temperature = float(1.5 + _uniform())
        logits, words, c_e = _normal(k), _normal(k, d), _normal(d)
        noise = -torch.empty(k, dtype=torch.float64).exponential_().log()
        noise[int(logits.argmin())] += 5
        teacher, student = _normal(3, d), _normal(3, d)
        soft, hard = ((logits + noise) / temperature).softmax(0), _one_hot(logits + noise)

        def found(
            first: float,
            second: float,
            eta: float = eta,
            forward: Tensor = hard,
            back: Tensor = soft,
            temperature: float = temperature,
            of_target: float = 1.0,
            given: tuple[Tensor, ...] = (words, c_e, teacher, student),
        ) -> Tensor:
            """By hand. first, second: the weights of the two terms. of_target: of the gradient through the teacher in
            the second."""
            words, c_e, teacher, student = given
            c_t = forward @ words
            off = student @ c_e - (1 + eta) * teacher @ c_t + eta * teacher @ c_e
            far = (student - teacher) @ c_t
            by_tokens = first * -2 * (1 + eta) * teacher.T @ off + second * 2 * (student - of_target * teacher).T @ far
            worth = words @ by_tokens
            return back * (worth - (back * worth).sum()) / temperature

        right = found(0.0 if cut else 1.0, lam)
        by_logits = logits.softmax(0)
        expect(
            age_slope(logits, noise, words, c_e, teacher, student, lam, eta, temperature, cut),
            right,
            {
                "cut and uncut are exchanged: with the cut the first term gives no gradient": found(
                    1.0 if cut else 0.0, lam
                ),
                "no gradient at all: with the cut c_t is detached in the first term only, and without it nowhere": (
                    torch.zeros(k)
                ),
                "without the cut the second term belongs to the gain as well": found(1.0, 0.0),
                "lam is missing in front of the second term": found(0.0 if cut else 1.0, 1.0),
                "lam stands before the first term": found(0.0 if cut else lam, 1.0),
                "the target is c_t's answer pushed by eta: untold - eta (told - untold), with c_t for null": found(
                    0.0 if cut else 1.0, lam, 0.0
                ),
                "a sign in the target: T c_t - eta (T c_e - T c_t)": found(0.0 if cut else 1.0, lam, -eta),
                "the teacher is frozen, not its argument: in the second term the gradient reaches c_t through it": (
                    found(0.0 if cut else 1.0, lam, of_target=0.0)
                ),
                "that is descent: the search climbs, so no minus": -right,
                "the chosen tokens are a mixture in your forward pass: a hard choice takes one word's": found(
                    0.0 if cut else 1.0, lam, forward=soft
                ),
                "the noise is missing: it is part of the choice": found(
                    0.0 if cut else 1.0,
                    lam,
                    forward=_one_hot(logits),
                    back=(logits / temperature).softmax(0),
                ),
                "the temperature is missing": found(
                    0.0 if cut else 1.0, lam, back=(logits + noise).softmax(0), temperature=1.0
                ),
                "noise and temperature are missing": found(
                    0.0 if cut else 1.0, lam, forward=_one_hot(logits), back=by_logits, temperature=1.0
                ),
                "the distances are sums of squares here, not means": found(0.0 if cut else 1 / 3, lam / 3),
            },
        )


@check("10.7", "recovered")
def check_10_7(recovered: Function) -> None:
    """The tokens that undo an edit against a least-squares solver."""
    for _ in range(3):
        lam, before, after, tokens = float(0.05 + 0.3 * _uniform()), _normal(9, 5), _normal(9, 5), _normal(3, 5)
        eye = torch.eye(5, dtype=torch.float64)

        def solved(new: Tensor, old: Tensor, tokens: Tensor = tokens, lam: float = lam, eye: Tensor = eye) -> Tensor:
            a = torch.cat([new, lam**0.5 * eye])
            b = torch.cat([old @ tokens.T, torch.zeros(5, len(tokens), dtype=torch.float64)])
            return torch.linalg.lstsq(a, b).solution.T

        right = solved(after, before)
        expect(
            recovered(before, after, tokens, lam),
            right,
            {
                "before and after are swapped: the attacker feeds the *edited* weights": solved(before, after),
                "that solves without lam |c'|^2": torch.linalg.lstsq(after, before @ tokens.T).solution.T,
                "on the right stands W'^T W c; you took W'^T W' c": torch.linalg.solve(
                    lam * eye + after.T @ after, after.T @ after @ tokens.T
                ).T,
                "on the right stands W'^T W c; you took W^T W c": torch.linalg.solve(
                    lam * eye + after.T @ after, before.T @ before @ tokens.T
                ).T,
                "inside the inverse stand the edited weights, W'^T W'": torch.linalg.solve(
                    lam * eye + before.T @ before, after.T @ before @ tokens.T
                ).T,
                "you returned the transpose: a row for each token": right.T,
                "these are the concept's own tokens: the edited model avoids those": tokens,
            },
        )
