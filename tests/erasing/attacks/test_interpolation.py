import gaussian_digits as g
import pytest

from pudm_lite.erasing.attacks.interpolation import interpolation


def test_it_finds_the_end_of_the_line_where_the_erased_concept_went():
    """After a swap, what is told 20 % of 0 and 80 % of 1 draws a 0, and no other line does."""
    found = interpolation(g.target(g.swapped()), shares=(0.2, 0.8), looks=4)
    assert found.hits.all()
    (low, high) = found.curve
    assert low[0] == 0.2
    assert low[1].rate == pytest.approx(1 / 3)  # of the lines to 1, 2 and null
    assert low[1].n == 12
    assert high[1].rate == 0


def test_it_finds_nothing_where_nothing_is():
    found = interpolation(g.target(g.destroyed()), shares=(0.2, 0.8), looks=4)
    assert not found.hits.any()


def test_tokens_between_are_as_large_as_the_concepts_own():
    """Unscaled, half of 0 and half of null would stand for half a 0, which the judge calls one or blank by chance."""
    shares = (0.52,)
    assert interpolation(g.target(g.HONEST), shares, looks=4).hits.all()


def test_the_search_and_the_outcome_are_of_different_pictures():
    target = g.target(g.HONEST)
    seeds = []
    drawn = type(target).drawn

    class Noted(type(target)):
        def drawn(self, network, prompts, seed=None, process=None):
            seeds.append(seed)
            return drawn(self, network, prompts, seed, process)

    fields = {name: getattr(target, name) for name in target.__dataclass_fields__}
    interpolation(Noted(**fields), (0.5,), looks=1)
    assert seeds[0] not in (None, target.seed)
    assert seeds[1] is None
