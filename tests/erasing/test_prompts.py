"""Stable Diffusion erased through the same loop as the digits: what is changed, what is searched, what is drawn."""

import pytest
import torch
from tiny_pipelines import tiny_pipeline

from pudm_lite.draws import generator
from pudm_lite.erasing.layers import LAYERS
from pudm_lite.erasing.methods import METHODS, erase
from pudm_lite.erasing.prompts import ALONE, choose, conditional
from pudm_lite.erasing.scenes import GRID, Scene, trajectories
from pudm_lite.erasing.uce import uce
from pudm_lite.errors import UserError

KEPT = ("tower", "dog", "tree", "river")
APPLY = [method for method, recipe in METHODS.items() if not recipe.real and method != "sld"]
"""Methods that need no real images, and change parameters."""
NULL_ALONE = ("ca-null", "ap-neutral")
"""They look at the null concept alone; where it stands in the list decides which noise they draw."""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("prompts"), heed=20)


@pytest.fixture(scope="module")
def model(pipeline):
    return conditional(pipeline, ["church"], KEPT)


def test_the_table_holds_the_prompts_and_the_empty_one_as_null(pipeline, model):
    table = model.concepts
    assert table.names == ("church", *KEPT)
    assert table.tokens.shape == (6, 77, 8)
    torch.testing.assert_close(table.null, pipeline.encode_prompt("", "cpu", 1, False)[0][0])
    assert not table.tokens.requires_grad


def test_the_nearest_concepts_alone(pipeline, model):
    far = (model.concepts.tokens[1:-1] - model.concepts.tokens[0]).flatten(1).norm(dim=1)
    two = {KEPT[row] for row in far.argsort()[:2].tolist()}
    near = conditional(pipeline, ["church"], KEPT, nearest=2)
    assert near.concepts.names[0] == "church"
    assert set(near.concepts.names[1:]) == two
    torch.testing.assert_close(near.concepts.null, model.concepts.null)
    for name in near.concepts.names:
        rows = near.concepts.index(name), model.concepts.index(name)
        torch.testing.assert_close(near.concepts.tokens[rows[0]], model.concepts.tokens[rows[1]])


def test_words_that_speak_of_what_is_erased_are_left_out(pipeline):
    words = ("dog", "churches", "Church", "bell tower", "tree", "中", "null", "TREES")
    kept, excluded = choose(pipeline, ["church"], ["bell"], words)
    assert kept == ["dog", "tree", "TREES"]
    assert {word: excluded[word] for word in ("churches", "Church", "bell tower")} == {
        "churches": "church",
        "Church": "church",
        "bell tower": "bell",
    }
    assert excluded["中"] == "of '中' the tokenizer leaves nothing"
    assert excluded["null"] == "the null concept's name"
    assert choose(pipeline, ["d og"], [], ("do g", "d,og"))[0] == ["do g"]  # one reading, whatever the letters


def test_bad_concepts_and_lists(pipeline):
    with pytest.raises(UserError, match=r"holds nothing but what is erased \(churches\)"):
        choose(pipeline, ["church"], [], ("churches",))
    with pytest.raises(UserError, match="the tokenizer leaves nothing: say the concept to erase in other words"):
        conditional(pipeline, ["中国"])
    with pytest.raises(UserError, match="the model reads 75"):
        conditional(pipeline, ["dog " * 80])
    with pytest.raises(UserError, match="`null` names the empty prompt"):
        conditional(pipeline, ["null"])
    with pytest.raises(UserError, match="given twice in dog, dog"):
        conditional(pipeline, ["dog", "dog"])


@pytest.mark.parametrize("method", APPLY)
def test_each_method_changes_exactly_what_it_claims_and_looks_where_it_says(pipeline, model, method, monkeypatch):
    """Those named in ALONE give one edit whatever else may be preserved; the others do not."""
    monkeypatch.setattr("pudm_lite.erasing.scenes.GRID", 2)
    recipe = METHODS[method]
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    how = {"steps": 2, "batch_size": 2} if recipe.steps else {}
    other = conditional(pipeline, ["church"], [] if method in NULL_ALONE else ["bread", "cat", "river"])
    one, two = (erase(m, ("church",), method, seed=1, **how) for m in (model, other))
    after = one.model.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(one.changed)
    claimed = {name for name in before if LAYERS[recipe.layers](name)}
    if method == "fmn":  # it looks at attention, which the last layer's values and output have no part in
        assert {name for name in claimed if "to_q" in name or "to_k" in name} <= changed < claimed
    else:
        assert changed == (set() if method == "none" else claimed)
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    same = all(torch.equal(one.changed[name], two.changed[name]) for name in changed)
    assert same == (method in ALONE and method not in NULL_ALONE)


@pytest.mark.parametrize(
    ("method", "share"), [("esd-x", 0.7), ("esd-u", 0.7), ("ca", 0.7), ("ap-random", 0.7), ("fmn", 1)]
)
def test_the_loss_falls(model, method, share, monkeypatch):
    """Where the search moves the target as well (age), or what is preserved (ap-pgd), it may rise."""
    monkeypatch.setattr("pudm_lite.erasing.scenes.GRID", 5)
    losses = erase(model, ("church",), method, steps=15, batch_size=2, learning_rate=1e-2).losses
    assert sum(losses[-5:]) < share * sum(losses[:5])


def test_closed_form_answers_the_erased_prompt_as_the_empty_one(pipeline):
    model = conditional(pipeline, ["church"], KEPT)
    scene = Scene(model, ("church",), 1, 0, *(model.concepts.tokens.data[1:], (*KEPT, "null")))
    uce(scene, lam=1e-4, preserve=False)
    church, null = model.concepts.tokens.data[0], model.concepts.null.data
    for name, old in model.network.named_parameters():
        if LAYERS["attn2-kv"](name):
            new = dict(scene.student.named_parameters())[name]
            off, was = ((church @ w.T - null @ old.T).norm() for w in (new, old))
            assert off < 0.6 * was


def test_no_edit_draws_the_same_pictures_bit_for_bit(pipeline, model):
    def drawn(network):
        pipeline.unet, kept = network, pipeline.unet
        try:
            again = torch.Generator().manual_seed(3)
            return pipeline("church", num_inference_steps=3, output_type="np", generator=again).images
        finally:
            pipeline.unet = kept

    before = drawn(model.network)
    assert (before == drawn(erase(model, ("church",), "none").model.network)).all()
    assert (before != drawn(erase(model, ("church",), "uce").model.network)).any()


def test_latents_are_not_clipped_on_their_way(model):
    """With a network that always says 0 for the noise, DDIM only scales: x at alpha_bar a is x_T sqrt(a / a_T)."""
    quiet = lambda x, t, tokens: torch.zeros_like(x)  # noqa: E731
    tokens, null = model.concepts.tokens.data[:2], model.concepts.null.data
    free, clipped = (
        trajectories(quiet, model.process, (4, 8, 8), tokens, null, generator(0), clip=clip) for clip in (False, True)
    )
    start, ab = free.x[:2], model.process.alpha_bar[free.t]
    torch.testing.assert_close(free.x, start.repeat(GRID, 1, 1, 1) * (ab / ab[0]).sqrt().view(-1, 1, 1, 1))
    assert free.x[-2:].abs().max() > 10  # far outside of images
    assert clipped.x[-2:].abs().max() < 5
    assert torch.equal(clipped.x[:2], start)


def test_a_scene_of_latents_does_not_clip(model, monkeypatch):
    asked = []
    real = trajectories
    monkeypatch.setattr(
        "pudm_lite.erasing.scenes.trajectories", lambda *a, clip: asked.append(clip) or real(*a, clip=clip)
    )
    scene = Scene(model, ("church",), 2, 0, model.concepts.tokens.data[1:], (*KEPT, "null"))
    scene.of_erased(0)
    scene.of_kept(torch.tensor([1]), 0)
    assert asked == [False, False]


def test_of_the_kept_only_those_that_are_asked_for_are_drawn(model, monkeypatch):
    drawn = []
    real = trajectories
    monkeypatch.setattr(
        "pudm_lite.erasing.scenes.trajectories",
        lambda eps, process, shape, tokens, *rest, clip: (
            drawn.append(tokens[0].clone()) or real(eps, process, shape, tokens, *rest, clip=clip)
        ),
    )
    space = model.concepts.tokens.data[1:]
    scene = Scene(model, ("church",), 2, 0, space, (*KEPT, "null"))
    rows = torch.tensor([2, 2, 0])
    at = scene.of_kept(rows, 0)
    assert torch.equal(at.row, rows)
    assert sorted(int((space == t).flatten(1).all(1).nonzero()) for t in drawn) == [0, 2]
    again = scene.of_kept(rows, 0)
    assert len(drawn) == 2
    assert torch.equal(again.x, at.x)
    other = Scene(model, ("church",), 2, 0, space, (*KEPT, "null"))
    other.of_kept(torch.tensor([4, 1]), 3)  # whatever was asked for before, a row's images are the same
    assert torch.equal(other.of_kept(rows, 0).x, at.x)


def test_of_prompts_no_mixtures_are_made(model):
    from pudm_lite.erasing.methods import concept_space

    tokens, names = concept_space(model, ("church",))
    assert names == (*KEPT, "null")
    torch.testing.assert_close(tokens, model.concepts.tokens.data[1:])
