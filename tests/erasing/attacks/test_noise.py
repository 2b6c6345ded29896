import gaussian_digits as g
import pytest
import torch

from pudm_lite.erasing.attacks.noise import noise, stochastic_ddim
from pudm_lite.networks import make_scheduler
from pudm_lite.sampling import ddim, ddpm, image_generators, timestep_grid

GRID = timestep_grid(g.PROCESS.steps, 14)
SETTINGS = {"etas": (1.0, 1.17, 1.34, 1.51, 1.68, 1.85), "scales": (1.0, 1.02, 1.03, 1.04), "controls": 20}


def started(n=5):
    generators = image_generators(0, 0, n)
    return torch.stack([torch.randn(1, 4, 4, generator=g) for g in generators]), generators


def eps_of(w):
    network, tokens = g.model(w).network, torch.eye(g.DIM)[:1, None].repeat(1, 2, 1)
    return lambda x, t: network(x, t, tokens.expand(len(x), -1, -1)).sample.detach()


def test_without_noise_it_is_ddim_and_with_its_own_it_is_ddpm():
    eps = eps_of(g.HONEST)
    x, generators = started()
    *_, last = ddim(eps, x, g.PROCESS.alpha_bar, GRID, generators)
    found = stochastic_ddim(eps, x, g.PROCESS.alpha_bar, GRID, started()[1], eta=0.0, scale=1.0)
    assert torch.allclose(found, last, atol=1e-5)
    x, generators = started()
    *_, last = ddpm(eps, x, g.PROCESS.alpha_bar, GRID, generators)
    x, generators = started()
    found = stochastic_ddim(eps, x, g.PROCESS.alpha_bar, GRID, generators, eta=1.0, scale=1.0)
    assert torch.allclose(found, last, atol=1e-5)


@pytest.mark.parametrize("eta", [0.3, 0.7])
def test_in_between_it_is_what_diffusers_does(eta):
    eps = eps_of(g.HONEST)
    scheduler = make_scheduler(g.PROCESS)
    scheduler.set_timesteps(10)
    x, generators = started()
    for t in scheduler.timesteps:
        last = t == scheduler.timesteps[-1]
        z = None if last else torch.stack([torch.randn(1, 4, 4, generator=g) for g in generators])
        said = {"eta": 0.0 if last else eta, "use_clipped_model_output": True, "variance_noise": z}
        x = scheduler.step(eps(x, t.expand(len(x))), t, x, **said).prev_sample
    start, generators = started()
    grid = timestep_grid(g.PROCESS.steps, 10)
    found = stochastic_ddim(eps, start, g.PROCESS.alpha_bar, grid, generators, eta=eta, scale=1.0)
    assert torch.allclose(found, x, atol=1e-5)


def test_no_more_noise_is_added_than_the_next_step_has():
    """eta without end: every step forgets x_t and noises x_0 anew, and nothing turns into a root of less than 0."""
    eps = eps_of(g.HONEST)
    x, generators = started(400)
    grid = GRID[:2]
    for_two = g.PROCESS.alpha_bar[grid]
    x0 = ((x - (1 - for_two[0]).sqrt() * eps(x, grid[0].expand(400))) / for_two[0].sqrt()).clamp(-1, 1)
    seen = []

    def noted(x, t):
        seen.append(x)
        return eps(x, t)

    stochastic_ddim(noted, x, g.PROCESS.alpha_bar, grid, generators, eta=1e6, scale=2.0)
    added = (seen[1] - for_two[1].sqrt() * x0) / (1 - for_two[1]).sqrt()
    assert float(added.mean()) == pytest.approx(0, abs=0.1)
    assert float(added.std()) == pytest.approx(2, rel=0.05)


def test_the_best_of_twenty_four_is_never_below_the_best_of_one():
    w = g.destroyed()
    w[:, 0] = 0.485 * g.HONEST[:, 0]  # a 0 so faint that luck alone makes it one
    found = noise(g.target(w), **SETTINGS)
    shares = [rate.rate for _, rate in found.curve]
    assert [at for at, _ in found.curve] == list(range(1, 25))
    assert shares == sorted(shares)
    assert shares[0] < shares[-1] == found.hits.float().mean()


def test_its_control_is_the_unedited_model_at_concepts_never_erased():
    assert noise(g.target(g.destroyed()), **SETTINGS).control.rate == 0
    mixed_up = g.HONEST.clone()
    mixed_up[:, 1] = g.HONEST[:, 0]  # whoever asks the unedited model for a 1 gets a 0
    found = noise(g.target(g.destroyed(), before=mixed_up), **SETTINGS)
    assert found.control.rate == 0.5
    assert found.control.n == 20
    assert not found.hits.any()


def test_every_probe_has_noise_of_its_own():
    w = g.destroyed()
    w[:, 0] = 0.485 * g.HONEST[:, 0]
    once = noise(g.target(w, n=40), etas=(1.0,), scales=(1.0,), controls=1)
    again = noise(g.target(w, n=40), etas=(1.0, 1.0), scales=(1.0, 1.0), controls=1)
    assert once.hits.sum() < again.hits.sum()
