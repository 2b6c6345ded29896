"""The one loop, and what each method of the table does in it: exactly what it says, and the same again by seed."""

import inspect
from functools import cache

import pytest
import torch
from tiny_concepts import NAMES, conditional, real, scene, table, unet

from pudm_lite.conditional import Conditional
from pudm_lite.erasing.layers import LAYERS, only
from pudm_lite.erasing.methods import METHODS, Erased, concept_space, differences, erase
from pudm_lite.erasing.preservation import SEARCHES
from pudm_lite.errors import UserError
from pudm_lite.sampling import draw

IMAGES, LABELS = real()
TRAINED = [name for name, recipe in METHODS.items() if recipe.steps]
EDITED = [name for name, recipe in METHODS.items() if not recipe.steps]
OPTIONS = {"sa": {"examples": 4}, "salun": {"looks": 8}, "ap-pgd": {"inner": 1}}
UNSEEN = {"fmn": ("attentions.4.", (".to_v.weight", ".to_out.0.weight", ".to_out.0.bias"))}
"""Parameters that a method may change and never does: the last attention's, after which Forget-Me-Not stops."""


@cache
def model() -> Conditional:
    return conditional()


def edit(method: str, seed: int = 0, **given) -> Erased:
    given |= {} if method in EDITED else {"batch_size": 4, "learning_rate": 5e-3}
    return erase(model(), ("b",), method, seed, IMAGES, LABELS, **given, **OPTIONS.get(method, {}))


@cache
def edited(method: str) -> Erased:
    return edit(method) if method in EDITED else edit(method, steps=3)


@pytest.mark.parametrize("method", METHODS)
def test_exactly_the_parameters_that_the_method_claims_change(method):
    before = {name: value.clone() for name, value in model().network.state_dict().items()}
    found = edited(method)
    unseen = UNSEEN.get(method, ("nowhere", ()))
    claimed = {
        name
        for name in dict(model().network.named_parameters())
        if LAYERS[METHODS[method].layers](name) and not (name.startswith(unseen[0]) and name.endswith(unseen[1]))
    }
    if method == "salun":  # its mask may take the whole of a small tensor
        assert set(found.changed) < claimed
        assert any(".attn2." not in name for name in found.changed)
    else:
        assert set(found.changed) == (set() if method in ("none", "sld") else claimed)
    after = model().network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    if method != "sld":
        own = found.model.network.state_dict()
        assert all(torch.equal(own[name], value) for name, value in found.changed.items())
    assert all(p.requires_grad for p in found.model.network.parameters())


@pytest.mark.parametrize("method", TRAINED)
def test_its_loss_falls(method):
    """On one batch, where nothing but the parameters changes; a search in the space of tokens is held still."""
    recipe, found = METHODS[method], scene(model(), ("b",))
    optimiser = torch.optim.Adam(only(found.student, recipe.layers), 1e-3)
    still = {"rate": 0.0} if method == "ap-pgd" else {}
    objective, losses = recipe.objective(found, **recipe.options, **OPTIONS.get(method, {}), **still), []
    for _ in range(5):
        loss = objective(0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_makes_the_same_edit(method):
    """The first steps of the edit above."""
    if method in EDITED:
        found = edit(method)
        assert found.changed.keys() == edited(method).changed.keys()
        assert all(torch.equal(value, edited(method).changed[name]) for name, value in found.changed.items())
    else:
        assert edit(method, steps=2).losses == edited(method).losses[:2]
        assert edit(method, seed=1, steps=1).losses != edited(method).losses[:1]


def test_no_edit_through_the_whole_path_gives_the_same_pictures_bit_for_bit():
    prompts = table().tokens.data[[0, 1, 2, 3, 4]]
    after = edited("none").model
    for guidance in (1.0, 2.0):
        pictures = [
            draw(m.network, m.process, 5, "ddpm", 4, prompts=prompts, null=table().null.data, guidance=guidance)
            for m in (model(), after)
        ]
        assert torch.equal(*pictures)
    assert edited("none").changed == {}


def test_on_stable_diffusions_kind_of_network_esd_changes_its_twenty_tensors():
    found = erase(conditional(unet()), ("b",), "esd-x", steps=8, batch_size=4, learning_rate=1e-2)
    assert len(found.changed) == 20
    assert all(".attn2." in name for name in found.changed)
    assert sum(found.losses[-3:]) < 0.9 * sum(found.losses[:3])


def test_settings_are_those_of_the_table_but_for_what_is_given():
    found = erase(model(), ("b", "d"), "esd-x", seed=2, steps=1, batch_size=2, eta=2.0, layers="attn2-kv")
    assert found.settings == {
        "method": "esd-x",
        "erased": "b+d",
        "seed": 2,
        "steps": 1,
        "batch_size": 2,
        "learning_rate": METHODS["esd-x"].learning_rate,
        "layers": "attn2-kv",
        "eta": 2.0,
    }
    assert len(found.changed) == 10
    assert found.seconds > 0


def test_adams_first_step_is_as_long_as_the_learning_rate_given():
    found = erase(model(), ("b",), "esd-x", steps=1, batch_size=2, learning_rate=1e-2)
    before = model().network.state_dict()
    largest = max((value - before[name]).abs().max().item() for name, value in found.changed.items())
    assert largest == pytest.approx(1e-2, rel=1e-3)


def test_each_method_trains_what_its_source_trains():
    assert {name: recipe.layers for name, recipe in METHODS.items() if recipe.layers != "attn2"} == {
        "esd-x-strict": "attn2-kv",
        "esd-u": "not-attn2",
        "uce": "attn2-kv",
        "uce-alone": "attn2-kv",
        "ca": "attn2-kv",
        "ca-null": "attn2-kv",
        "sa": "all",
        "salun": "all",
        "pu": "all",
    }


def test_no_two_methods_make_the_same_edit():
    found = [edited(name).changed for name in METHODS if name not in ("none", "sld")]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert one.keys() != other.keys() or any(not torch.equal(one[name], other[name]) for name in one)


def test_steps_are_told_as_they_are_done():
    told = []
    found = erase(model(), ("b",), "esd-x", progress=lambda *step: told.append(step), steps=2, batch_size=2)
    assert told == [(1, 2, found.losses[0]), (2, 2, found.losses[1])]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_says_what_it_minimises_what_it_trains_and_where_it_is_from(method):
    recipe = METHODS[method]
    assert recipe.source
    assert method == "none" or len(inspect.getdoc(recipe.objective) or "") > 50


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "esdx"}, "unknown method 'esdx'; known: none, esd-x"),
        ({"erased": ("7",)}, "unknown concept '7'; known: a, b, c, d"),
        ({"erased": ("null",)}, "unknown concept 'null'; known: a, b, c, d"),
        ({"erased": ()}, "no concept to erase is named; known: a, b, c, d"),
        ({"erased": NAMES}, "nothing is left to preserve of a, b, c, d: erase fewer concepts"),
        ({"layers": "xattn"}, "unknown layers 'xattn'; known: attn2"),
        ({"lam": 2.0}, "esd-x has no option 'lam'; known: steps, batch_size, learning_rate, layers, eta"),
        ({"method": "uce", "steps": 5}, "uce has no option 'steps'; known: preserve, lam"),
        ({"method": "none", "lam": 5}, "none has no option 'lam'; known: none"),
        ({"method": "ap-exact", "rate": 1.0}, "ap-exact has no option 'rate'; known: .*, search, lam, eta, looks"),
        ({"method": "ap-exact", "search": "best"}, "unknown search 'best'; known: exact, gumbel, pgd, random, neutral"),
        ({"steps": 0}, "steps must be larger than 0; got 0"),
        ({"learning_rate": -1}, "learning_rate must be larger than 0; got -1"),
        ({"method": "salun", "images": None}, "salun needs real images of the concepts with their labels"),
        ({"method": "pu", "labels": None}, "pu needs real images of the concepts with their labels"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(given, said):
    how = {"erased": ("b",), "method": "esd-x", "images": IMAGES, "labels": LABELS} | given
    with pytest.raises(UserError, match=said) as stop:
        erase(model(), how.pop("erased"), how.pop("method"), **how)
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_searchs_own_options_are_known(search):
    options = {"exact": {"looks": 2}, "gumbel": {"rate": 0.5, "inner": 2}, "pgd": {"rate": 0.1, "inner": 1}}
    given = options.get(search, {})
    assert len(erase(model(), ("b",), f"ap-{search}", steps=1, batch_size=2, lam=0.5, **given).losses) == 1


def test_the_space_is_all_that_is_not_erased_nor_made_of_it():
    tokens, names = concept_space(model(), ("b",))
    assert names == ("a", "c", "d", "null", "a~c", "a~d", "c~d")
    rows = table().tokens.data
    assert torch.equal(tokens[:4], rows[[0, 2, 3, 4]])
    spread = rows[[0, 2, 3]].std()
    for i, (one, other) in enumerate([(0, 2), (0, 3), (2, 3)], 4):
        mean = (rows[one] + rows[other]) / 2
        torch.testing.assert_close(tokens[i], mean * spread / mean.std())
    assert concept_space(model(), ("b", "d"))[1] == ("a", "c", "null", "a~c")


def test_differences_are_found_to_the_last_bit():
    one, other = conditional().network, conditional().network
    assert differences(one, other) == {}
    name, parameter = next(iter(other.named_parameters()))
    with torch.no_grad():
        parameter.view(-1)[0] = torch.nextafter(parameter.view(-1)[0], torch.tensor(9.0))
    assert list(differences(one, other)) == [name]
