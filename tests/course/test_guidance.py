"""The line of concepts against scipy, autograd, quadrature, and closed forms of what guidance draws."""

import pytest
import torch
from scipy.stats import norm

from pudm_lite.course.guidance import (
    Line,
    flow,
    flow_density,
    noised,
    normalised,
    quantile_noise,
)

LINE = Line(
    torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
    torch.tensor([-2.0, 0.0, 1.6], dtype=torch.float64),
    torch.tensor([0.7, 0.6, 0.9], dtype=torch.float64),
)
X = torch.linspace(-9, 9, 1801, dtype=torch.float64)
Z = quantile_noise(201)


@pytest.mark.parametrize("ab", [1.0, 0.4])
def test_densities_are_scipys(ab):
    for k in range(3):
        of_x_t = norm(ab**0.5 * LINE.means[k], (ab * LINE.stds[k] ** 2 + 1 - ab) ** 0.5)
        torch.testing.assert_close(LINE.log_densities(X, ab)[:, k], torch.tensor(of_x_t.logpdf(X)))
    mixture = (LINE.shares * LINE.log_densities(X, ab).exp()).sum(1)
    torch.testing.assert_close(LINE.log_density(X, ab).exp(), mixture)
    torch.testing.assert_close(
        LINE.posterior(X, ab) * mixture[:, None], LINE.shares * LINE.log_densities(X, ab).exp(), atol=1e-12, rtol=1e-9
    )


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("ab", [1.0, 0.4])
def test_the_guided_score_is_the_slope_of_what_guidance_names(ab, scale):
    x = torch.linspace(-4, 4, 9, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(LINE.log_named(x, 1, scale, ab).sum(), x)
    torch.testing.assert_close(LINE.guided_score(x.detach(), 1, scale, ab), slope)


def test_at_scale_1_guidance_names_the_concept_and_at_0_the_mixture():
    for k in range(3):
        torch.testing.assert_close(
            normalised(LINE.log_named(X, k, 1.0), X), LINE.log_densities(X)[:, k].exp(), atol=1e-6, rtol=1e-4
        )
    torch.testing.assert_close(
        normalised(LINE.log_named(X, 2, 0.0), X), LINE.log_density(X).exp(), atol=1e-6, rtol=1e-4
    )


def test_noising_a_mixture_by_quadrature_is_its_closed_form():
    torch.testing.assert_close(
        noised(LINE.log_density(X).exp(), X, 0.4), LINE.log_density(X, 0.4).exp(), atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize(("scale", "concept"), [(1.0, 2), (0.0, 2)])
def test_the_flow_of_a_true_score_ends_in_its_density(scale, concept):
    ends = flow(lambda x, ab: LINE.guided_score(x, concept, scale, ab), Z, steps=300)
    assert (ends.diff() > 0).all()
    want = normalised(LINE.log_named(X, concept, scale), X)
    cumulative = torch.cat([torch.zeros(1), torch.cumulative_trapezoid(want, X)])
    quantiles = X[torch.searchsorted(cumulative, (torch.arange(201) + 0.5) / 201)]
    torch.testing.assert_close(ends[5:-5], quantiles[5:-5], atol=0.05, rtol=0)
    found = flow_density(Z, ends)[10:-10]
    at = torch.searchsorted(X, ends[10:-10])
    torch.testing.assert_close(found, want[at], atol=0.02, rtol=0)


@pytest.mark.parametrize("scale", [0.5, 2.0, 4.0])
def test_guiding_one_gaussian_by_another_mixes_the_logarithms_of_their_variances(scale):
    """p = N(0, S), p(. | c) = N(0, s): named is the variance 1 / ((1 - w) / S + w / s), drawn is S^(1-w) s^w."""
    wide, narrow = 2.0, 1.0

    def score(x, ab):
        return -x * ((1 - scale) / (ab * wide + 1 - ab) + scale / (ab * narrow + 1 - ab))

    variance = float(flow(score, torch.ones(1), steps=600).square())  # of 1, as the path is linear in its start
    named = 1 / ((1 - scale) / wide + scale / narrow)
    assert variance == pytest.approx(wide ** (1 - scale) * narrow**scale, rel=0.03)
    assert (variance < 0.9 * named) == (scale > 1)


def test_quantile_noise_is_standard_normal():
    z = quantile_noise(1000)
    assert float(z.mean()) == pytest.approx(0, abs=1e-9)
    assert float(z.var()) == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(z, torch.tensor(norm.ppf((torch.arange(1000).numpy() + 0.5) / 1000)))
