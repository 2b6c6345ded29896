"""The samplers, against Diffusers' schedulers and a Gaussian whose best noise estimate is known."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import nn

from pudm_lite.datasets import to_pixels
from pudm_lite.diffusion import PREDICTIONS, Process, noise_schedule, q_sample
from pudm_lite.draws import generator
from pudm_lite.sampling import (
    SAMPLERS,
    ddim,
    ddpm,
    dpmpp,
    image_generators,
    predicted_x0,
    sample,
    timestep_grid,
)

MEAN, STD = 0.1, 0.15  # of the Gaussian of the oracle: five deviations lie inside [-1, 1]


def start(n: int, shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def smooth(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A fixed function of x, its neighbours and t; its x_0 is clipped at many steps and not at all."""
    t = t.view(-1, 1, 1, 1).to(x.dtype)
    return 0.8 * x + 0.15 * torch.sin(3 * x.roll(1, -1)) + 0.2 * torch.cos(t / 150)


# The grid


def test_grid_is_diffusers_trailing_spacing():
    for total, steps in [
        (1000, 1000),
        (1000, 50),
        (1000, 12),
        (1000, 999),
        (1000, 7),
        (50, 50),
        (50, 3),
        (10, 1),
    ]:
        scheduler = DDPMScheduler(total, timestep_spacing="trailing")
        scheduler.set_timesteps(steps)
        assert timestep_grid(total, steps).tolist() == scheduler.timesteps.tolist()


@pytest.mark.parametrize("total", [1, 7, 100, 1000])
def test_grid_falls_evenly_from_the_last_step(total):
    for steps in range(1, total + 1, 1 if total < 1000 else 13):
        grid = timestep_grid(total, steps)
        assert len(grid) == steps
        assert grid[0] == total - 1
        gaps = -torch.cat([grid, torch.tensor([-1])]).diff()
        assert gaps.min() >= 1
        assert (gaps - total / steps).abs().max() <= 1


def test_grid_of_all_steps_leaves_none_out():
    assert timestep_grid(100, 100).tolist() == list(range(99, -1, -1))


@pytest.mark.parametrize("steps", [-1, 0, 101])
def test_grid_outside_the_steps_is_refused(steps):
    with pytest.raises(ValueError, match=rf"sampler steps must lie in 1\.\.100, got {steps}"):
        timestep_grid(100, steps)


# Against Diffusers


def scheduler_of(cls, schedule: str, **options):
    """Diffusers' scheduler on our alpha_bar, and the alpha_bar that it makes of it in float32."""
    alpha_bar = noise_schedule(schedule)
    betas = 1 - alpha_bar / torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    scheduler = cls(trained_betas=betas.tolist(), timestep_spacing="trailing", **options)
    torch.testing.assert_close(scheduler.alphas_cumprod, alpha_bar.float(), rtol=1e-3, atol=0)
    ours = scheduler.alphas_cumprod
    scheduler.alphas_cumprod = ours.double()  # the numbers of a step are double here, and now there
    return scheduler, ours


def theirs(scheduler, steps: int, x: torch.Tensor, **options) -> list[torch.Tensor]:
    scheduler.set_timesteps(steps)
    states = []
    for t in scheduler.timesteps:
        x = scheduler.step(smooth(x, t.expand(len(x))), t, x, **options).prev_sample
        states.append(x)
    return states


def assert_same_path(ours: list[torch.Tensor], others: list[torch.Tensor]) -> None:
    assert len(ours) == len(others)
    for one, other in zip(ours, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "lite"])
@pytest.mark.parametrize("steps", [7, 50, 1000])
def test_ddpm_is_diffusers_with_the_small_variance(schedule, steps):
    scheduler, alpha_bar = scheduler_of(DDPMScheduler, schedule, variance_type="fixed_small", clip_sample=True)
    x = start(3, (2, 4, 4))
    others = theirs(scheduler, steps, x, generator=image_generators(5, 0, 3))
    ours = list(ddpm(smooth, x, alpha_bar, timestep_grid(1000, steps), image_generators(5, 0, 3)))
    assert_same_path(ours, others)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "lite"])
@pytest.mark.parametrize("steps", [1, 10, 50, 250])
def test_ddim_is_diffusers_without_noise(schedule, steps):
    """Diffusers finds the next step by dividing, so only divisors of 1000 compare."""
    scheduler, alpha_bar = scheduler_of(DDIMScheduler, schedule, clip_sample=True, set_alpha_to_one=True)
    x = start(3, (2, 4, 4))
    others = theirs(scheduler, steps, x, eta=0.0, use_clipped_model_output=True)
    assert_same_path(list(ddim(smooth, x, alpha_bar, timestep_grid(1000, steps), [])), others)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "lite"])
@pytest.mark.parametrize("steps", [1, 2, 3, 9, 20, 50])
def test_dpmpp_is_diffusers_multistep_solver(schedule, steps):
    """Dynamic thresholding at most 1 is clipping to [-1, 1]."""
    scheduler, alpha_bar = scheduler_of(
        DPMSolverMultistepScheduler,
        schedule,
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
        lower_order_final=True,
        thresholding=True,
        sample_max_value=1.0,
    )
    x = start(3, (2, 4, 4))
    others = theirs(scheduler, steps, x)
    assert_same_path(list(dpmpp(smooth, x, alpha_bar, timestep_grid(1000, steps), [])), others)


def test_the_smooth_network_is_clipped_on_the_way():
    """Otherwise the comparisons above would not see whether clipping agrees."""
    alpha_bar = noise_schedule("lite").float()
    x = start(3, (2, 4, 4))
    grid = timestep_grid(1000, 50)
    states = [x, *ddim(smooth, x, alpha_bar, grid, [])]
    clipped = [
        float((predicted_x0(x, smooth(x, t.expand(3)), alpha_bar[t]).abs() == 1).float().mean())
        for x, t in zip(states, grid, strict=False)
    ]
    assert max(clipped) > 0.5
    assert any(0 < share < 0.5 for share in clipped)


# The parts of a step


def test_predicted_x0_undoes_q_sample_and_clips():
    x0, eps = start(4, (1, 2, 2), 1).clamp(-1, 1), start(4, (1, 2, 2), 2)
    ab = noise_schedule("cosine", 10).float()
    t = torch.tensor([0, 3, 6, 8])
    x_t = q_sample(x0, t, eps, ab)
    torch.testing.assert_close(predicted_x0(x_t, eps, ab[t].view(-1, 1, 1, 1)), x0, rtol=1e-4, atol=1e-4)
    assert predicted_x0(torch.tensor([3.0, -3.0]), torch.zeros(2), torch.tensor(1.0)).tolist() == [1, -1]


def test_ddpm_draws_from_the_posterior_by_bayes_rule():
    """q(x_s | x_t, x_0): the precisions of q(x_s | x_0) and q(x_t | x_s) add up."""
    alpha_bar = noise_schedule("cosine", 10)
    t, s = 7, 4
    x0 = start(2, (1, 3, 3), 1, torch.float64).clamp(-0.9, 0.9)
    x_t = q_sample(x0, torch.tensor([t, t]), start(2, (1, 3, 3), 2, torch.float64), alpha_bar)
    a, ab_s, ab_t = alpha_bar[t] / alpha_bar[s], alpha_bar[s], alpha_bar[t]
    variance = 1 / (1 / (1 - ab_s) + a / (1 - a))
    mean = variance * (ab_s.sqrt() * x0 / (1 - ab_s) + a.sqrt() * x_t / (1 - a))

    def oracle(x, _):
        return (x - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()

    x_s = next(ddpm(oracle, x_t, alpha_bar, torch.tensor([t, s]), image_generators(3, 0, 2)))
    noise = torch.stack([torch.randn(1, 3, 3, generator=g) for g in image_generators(3, 0, 2)])
    torch.testing.assert_close(x_s, mean + variance.sqrt() * noise)


def test_ddpm_adds_no_noise_at_the_last_step():
    alpha_bar, x = noise_schedule("lite", 100).float(), start(2, (1, 4, 4))
    generators = image_generators(0, 0, 2)
    before = [g.get_state() for g in generators]
    (one,) = ddpm(smooth, x, alpha_bar, torch.tensor([30]), generators)
    (other,) = ddpm(smooth, x, alpha_bar, torch.tensor([30]), image_generators(1, 0, 2))
    assert torch.equal(one, other)
    torch.testing.assert_close(one, predicted_x0(x, smooth(x, torch.tensor([30, 30])), alpha_bar[30]))
    assert all(torch.equal(g.get_state(), state) for g, state in zip(generators, before, strict=True))


def test_ddpm_adds_noise_at_every_other_step():
    alpha_bar, x = noise_schedule("lite", 100).float(), start(2, (1, 4, 4))
    grid = torch.tensor([90, 60, 30])
    one, other = (list(ddpm(smooth, x, alpha_bar, grid, image_generators(seed, 0, 2))) for seed in (0, 1))
    assert all(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("sampler", [ddim, dpmpp])
def test_the_other_samplers_need_no_noise(sampler):
    alpha_bar, x = noise_schedule("lite", 100).float(), start(2, (1, 4, 4))
    generators = image_generators(0, 0, 2)
    before = [g.get_state() for g in generators]
    list(sampler(smooth, x, alpha_bar, timestep_grid(100, 5), generators))
    assert all(torch.equal(g.get_state(), state) for g, state in zip(generators, before, strict=True))


# The Gaussian oracle: x_0 ~ N(m, s^2), so x_t ~ N(sqrt(ab) m, ab s^2 + 1 - ab)


def gaussian_eps(x: torch.Tensor, ab: torch.Tensor, mean: float = MEAN, std: float = STD) -> torch.Tensor:
    """E[eps | x_t]."""
    return (1 - ab).sqrt() * (x - ab.sqrt() * mean) / (ab * std**2 + 1 - ab)


def gaussian_network(process: Process):
    """The best network for that Gaussian, whatever it is asked to predict."""

    def network(x, t):
        ab = process.alpha_bar[t].view(-1, 1, 1, 1)
        eps = gaussian_eps(x, ab)
        x0 = (x - (1 - ab).sqrt() * eps) / ab.sqrt()
        v = ab.sqrt() * eps - (1 - ab).sqrt() * x0
        return {"epsilon": eps, "sample": x0, "v_prediction": v}[process.prediction]

    return network


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 1000), ("ddim", 1000), ("dpmpp", 100)])
def test_samples_of_the_best_network_have_the_datas_mean_and_deviation(sampler, steps, prediction):
    process = Process(noise_schedule("cosine").float(), prediction)
    (x,) = sample(gaussian_network(process), process, (1, 40, 40), 8, sampler, steps)
    n = x.numel()
    assert abs(x.mean() - MEAN) < 4 * STD / n**0.5
    assert float(x.std()) == pytest.approx(STD, rel=0.03)


def test_in_few_steps_the_last_one_loses_detail():
    """It lands on E[x_0 | x_t], whose deviation falls short of the data's by what the last t decides."""
    process, steps = Process(noise_schedule("cosine").float()), 30
    (x,) = sample(gaussian_network(process), process, (1, 40, 40), 8, "dpmpp", steps)
    ab = float(process.alpha_bar[timestep_grid(1000, steps)[-1]])
    expected = STD * (ab * STD**2 / (ab * STD**2 + 1 - ab)) ** 0.5
    assert expected < 0.95 * STD
    assert float(x.std()) == pytest.approx(expected, rel=0.01)


def flow_error(sampler, steps: int) -> float:
    """How far a deterministic sampler is from the exact flow just before its last step, on even log-SNR.

    Along the flow (x_t - sqrt(ab) m) / sqrt(ab s^2 + 1 - ab) stays what it is.
    """
    alpha_bar = torch.sigmoid(torch.linspace(9, -9, steps + 1, dtype=torch.float64))
    spread = (alpha_bar * 0.2**2 + 1 - alpha_bar).sqrt()
    z = torch.linspace(-2.5, 2.5, 11, dtype=torch.float64).view(1, 1, 1, -1)
    x = alpha_bar[-1].sqrt() * MEAN + spread[-1] * z
    exact = alpha_bar[0].sqrt() * MEAN + spread[0] * z

    def eps(x, t):
        return gaussian_eps(x, alpha_bar[t].view(-1, 1, 1, 1), MEAN, 0.2)

    *_, before_last, _ = sampler(eps, x, alpha_bar, torch.arange(steps, -1, -1), [])
    return float((before_last - exact).abs().max())


def test_dpmpp_is_of_second_order_and_ddim_of_first():
    for coarse in (40, 80):
        assert flow_error(dpmpp, coarse) / flow_error(dpmpp, 2 * coarse) == pytest.approx(4, rel=0.25)
        assert flow_error(ddim, coarse) / flow_error(ddim, 2 * coarse) == pytest.approx(2, rel=0.25)
    assert flow_error(dpmpp, 40) < flow_error(ddim, 40) / 5


# Pictures by address


@pytest.fixture(scope="module")
def process():
    return Process(noise_schedule("lite", 100).float(), "v_prediction")


@pytest.fixture(scope="module")
def convolutions():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), nn.Tanh(), nn.Conv2d(16, 2, 3, padding=1))
    return lambda x, t: layers(x) * (1 + t.view(-1, 1, 1, 1) / 100)


def pictures(network, process, sampler, n=8, **options) -> torch.Tensor:
    return torch.cat(list(sample(network, process, (2, 8, 8), n, sampler, 10, **options)))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_batch_size_changes_no_picture(convolutions, process, sampler):
    whole = pictures(convolutions, process, sampler, seed=4, batch_size=8)
    parts = pictures(convolutions, process, sampler, seed=4, batch_size=3)
    assert (whole - parts).abs().max() < 1e-4
    assert (to_pixels(whole).int() - to_pixels(parts).int()).abs().max() <= 1
    assert len({tuple(picture.flatten().tolist()) for picture in whole}) == 8


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_first_continues_the_sequence(convolutions, process, sampler):
    whole = pictures(convolutions, process, sampler, seed=4)
    rest = pictures(convolutions, process, sampler, n=3, seed=4, first=5)
    assert (whole[5:] - rest).abs().max() < 1e-4


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_seeds_give_other_pictures(convolutions, process, sampler):
    one, other = (pictures(convolutions, process, sampler, seed=seed) for seed in (0, 1))
    assert (one - other).flatten(1).abs().amax(1).min() > 0.1


def test_an_image_starts_from_the_noise_at_its_address(process):
    seen = []

    def network(x, t):
        seen.append(x.clone())
        return torch.zeros_like(x)

    list(sample(network, process, (2, 8, 8), 5, "ddim", 1, seed=9, first=20))
    expected = torch.stack([torch.randn(2, 8, 8, generator=generator(9, index)) for index in range(20, 25)])
    assert torch.equal(seen[0], expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_batches_are_float_images_of_the_asked_sizes(convolutions, process, sampler):
    batches = list(sample(convolutions, process, (2, 8, 8), 8, sampler, 10, batch_size=3))
    assert [len(batch) for batch in batches] == [3, 3, 2]
    for batch in batches:
        assert batch.shape[1:] == (2, 8, 8)
        assert batch.dtype == torch.float32
        assert batch.is_contiguous()
        assert batch.abs().max() <= 1
        assert not batch.requires_grad


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_network_sees_every_step_of_the_grid_once(process, sampler):
    seen = []

    def network(x, t):
        assert t.shape == (len(x),)
        assert t.dtype == torch.int64
        seen.extend(set(t.tolist()))
        return x

    list(sample(network, process, (1, 2, 2), 2, sampler, 7))
    assert seen == timestep_grid(100, 7).tolist()


def test_unknown_sampler_is_refused_with_the_known_ones(process):
    with pytest.raises(ValueError, match="unknown sampler 'euler'") as error:
        next(sample(smooth, process, (1, 2, 2), 1, "euler"))
    assert all(name in str(error.value) for name in SAMPLERS)


@pytest.mark.parametrize("steps", [0, 101])
def test_steps_outside_the_process_are_refused(process, steps):
    with pytest.raises(ValueError, match=rf"1\.\.100, got {steps}"):
        next(sample(smooth, process, (1, 2, 2), 1, "ddim", steps))
