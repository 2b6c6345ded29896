"""Batches by address: epochs, reproducibility, sizes, shares."""

import pytest
import torch

from pudm_lite.draws import STREAMS, draw_batch, generator

N_U, N_S = 30, 6


def pooled(step: int, seed: int = 0, size: int = 5) -> torch.Tensor:
    """The batch of a step as positions in U and S together."""
    batch = draw_batch("pooled", N_U, N_S, size, 0, seed, step)
    return torch.cat([batch.u, batch.s + N_U])


def two(step: int, seed: int = 0):
    return draw_batch("two", N_U, N_S, 11, 4, seed, step)


def assert_every_image_once_an_epoch(batches: list[torch.Tensor], n: int) -> None:
    """After any number of batches no image is more than one draw ahead of another: epochs never overlap."""
    counts, drawn = torch.zeros(n, dtype=torch.int64), 0
    for positions in batches:
        counts += torch.bincount(positions, minlength=n)
        drawn += len(positions)
        assert counts.min() == drawn // n
        assert counts.max() == -(-drawn // n)


def test_pooled_batches_hold_every_image_once_an_epoch():
    assert_every_image_once_an_epoch([pooled(step) for step in range(100)], N_U + N_S)


@pytest.mark.parametrize("size", [36, 50, 100])
def test_batches_as_large_as_an_epoch_cross_its_border(size):
    assert_every_image_once_an_epoch([pooled(step, size=size) for step in range(10)], N_U + N_S)


def test_two_streams_hold_every_image_once_an_epoch():
    batches = [two(step) for step in range(100)]
    assert_every_image_once_an_epoch([b.u for b in batches], N_U)
    assert_every_image_once_an_epoch([b.s for b in batches], N_S)


def test_every_epoch_has_its_own_order():
    orders = [tuple(pooled(step, size=N_U + N_S).tolist()) for step in range(5)]
    assert len(set(orders)) == 5


@pytest.mark.parametrize("group", ["u", "s"])
def test_each_of_two_streams_is_shuffled_by_seed_and_epoch(group):
    """In batches that are whole epochs: in-order batches, or one order for all, would show."""
    n = {"u": N_U, "s": N_S}[group]

    def order(seed, epoch):
        sizes = (N_U + N_S, N_S) if group == "u" else (2 * N_S, N_S)
        return tuple(getattr(draw_batch("two", N_U, N_S, *sizes, seed, epoch), group).tolist())

    orders = {order(seed, epoch) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert tuple(range(n)) not in orders
    assert all(sorted(each) == list(range(n)) for each in orders)


def test_u_and_s_are_shuffled_apart():
    batch = draw_batch("two", 20, 20, 40, 20, seed=0, step=0)
    assert not torch.equal(batch.u, batch.s)


@pytest.mark.parametrize("stream", STREAMS)
def test_a_step_draws_the_same_whatever_came_before(stream):
    def draw(step):
        batch = draw_batch(stream, N_U, N_S, 11, 4, 3, step)
        return batch.u.tolist(), batch.s.tolist()

    in_order = [draw(step) for step in range(40)]
    torch.manual_seed(99)
    assert [draw(step) for step in reversed(range(40))] == in_order[::-1]


@pytest.mark.parametrize("stream", STREAMS)
def test_seeds_draw_differently(stream):
    batches = [draw_batch(stream, N_U, N_S, 11, 4, seed, 0) for seed in range(10)]
    assert len({tuple(b.u.tolist()) for b in batches}) == 10


def test_draws_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    pooled(0, seed=12345)
    assert torch.equal(torch.get_rng_state(), state)


def test_two_streams_have_exact_sizes():
    for step in range(50):
        batch = two(step)
        assert (len(batch.u), len(batch.s)) == (7, 4)
        assert (batch.u.dtype, batch.s.dtype) == (torch.int64, torch.int64)


@pytest.mark.parametrize(("s_per_batch", "sizes"), [(0, (11, 0)), (11, (0, 11))])
def test_a_stream_may_be_left_out(s_per_batch, sizes):
    batch = draw_batch("two", N_U, N_S, 11, s_per_batch, 0, 3)
    assert (len(batch.u), len(batch.s)) == sizes


def test_pooled_share_of_s_varies_around_that_of_the_pool():
    """Within an epoch the number of S in a batch is hypergeometric."""
    n_u, n_s, size = 200, 40, 12
    counts = torch.tensor(
        [[len(draw_batch("pooled", n_u, n_s, size, 0, seed, step).s) for step in range(20)] for seed in range(100)],
        dtype=torch.float64,
    )
    share = n_s / (n_u + n_s)
    assert (counts.sum(1) == n_s).all()
    assert counts.mean() / size == pytest.approx(share)
    variance = size * share * (1 - share) * (n_u + n_s - size) / (n_u + n_s - 1)
    assert float(counts.var()) == pytest.approx(variance, rel=0.1)


def test_unknown_stream_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown way to draw batches 'three'") as error:
        draw_batch("three", N_U, N_S, 4, 1, 0, 0)
    assert all(stream in str(error.value) for stream in STREAMS)


def test_an_address_gives_one_sequence_and_another_address_another():
    addresses = [(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    first = [tuple(torch.rand(3, generator=generator(*address)).tolist()) for address in addresses]
    again = [tuple(torch.rand(3, generator=generator(*address)).tolist()) for address in addresses]
    assert first == again
    assert len(set(first)) == len(addresses)


def test_neighbouring_addresses_are_uncorrelated():
    draws = torch.stack([torch.randn(500, generator=generator(7, step)) for step in range(60)])
    correlations = torch.corrcoef(draws) - torch.eye(60)
    assert correlations.abs().max() < 5 / 500**0.5


def test_addresses_of_unlike_length_differ():
    assert generator(5, 3).initial_seed() != generator(5, 3, 0).initial_seed()
