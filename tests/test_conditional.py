"""The condition of Eq. 20: table, guidance, pipeline, and the training that is told a class."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_concepts import NAMES, conditional, lite, table
from torch.nn.functional import cosine_similarity, normalize

from pudm_lite import cli
from pudm_lite.conditional import (
    ConceptPipeline,
    Concepts,
    Condition,
    concept_table,
    likeness,
    load_conditional,
    save_conditional,
)
from pudm_lite.diffusion import Process, eps_from_output, noise_schedule
from pudm_lite.erasing.layers import chosen
from pudm_lite.errors import UserError
from pudm_lite.networks import TOKEN_DIM, LiteUNet, make_network, save_pipeline
from pudm_lite.risks import METHODS
from pudm_lite.runs import running
from pudm_lite.sampling import ddim, draw, guided, timestep_grid
from pudm_lite.settings import TrainConfig
from pudm_lite.splits import Split
from pudm_lite.training import Trainer

TEN = tuple("0123456789")


def cosines(tokens):
    """(K, K) of concepts, all their tokens together."""
    flat = tokens.flatten(1)
    return cosine_similarity(flat[:, None], flat[None], dim=2)


@pytest.mark.parametrize("shared", [0.0, 0.85])
def test_two_concepts_are_as_alike_as_their_directions_times_what_is_shared(shared):
    """On the average of twenty tables; one of four tokens of 64 numbers is off by a sixteenth."""
    directions = normalize(torch.randn(10, 40, generator=torch.Generator().manual_seed(0)) + 0.5)
    tables = [concept_table(TEN, directions, shared, seed).tokens.data for seed in range(20)]
    found = torch.stack([cosines(tokens) for tokens in tables]).mean(0)
    expected = torch.full((11, 11), 0.0)
    expected[:10, :10] = shared * directions @ directions.T
    expected.fill_diagonal_(1)
    torch.testing.assert_close(found, expected, atol=0.06, rtol=0)
    assert torch.stack(tables).std().item() == pytest.approx(1, abs=0.02)
    own = torch.stack([(a[:, 0] * a[:, 1]).mean() for a in tables]).mean()  # tokens of a concept are independent
    assert own.abs() < 0.03


def test_a_table_is_frozen_and_the_same_by_seed():
    directions = normalize(torch.randn(10, 40, generator=torch.Generator().manual_seed(0)))
    one, again, other = (concept_table(TEN, directions, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.tokens, again.tokens)
    assert not torch.equal(one.tokens, other.tokens)
    assert not one.tokens.requires_grad
    assert one.tokens.shape == (11, 4, TOKEN_DIM)
    assert torch.equal(one.null, one.tokens[-1])


def test_directions_are_class_means_at_half_size_centred():
    draws = np.random.default_rng(0)
    images = torch.from_numpy(draws.integers(0, 256, (30, 1, 4, 6), dtype=np.uint8))
    labels = torch.arange(30) % 3
    half = images.numpy().astype(float).reshape(30, 2, 2, 3, 2).mean((2, 4)).reshape(30, 6) / 127.5 - 1
    means = np.stack([half[labels.numpy() == k].mean(0) for k in range(3)])
    means -= means.mean(0)
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    torch.testing.assert_close(likeness(images, labels, 3), torch.from_numpy(expected).float(), atol=1e-4, rtol=1e-4)


def test_an_unknown_concept_lists_the_known():
    assert [table().index(name) for name in (*NAMES, "null")] == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="unknown concept 'e'; known: a, b, c, d, null"):
        table().index("e")


@pytest.mark.parametrize("tokens", [1, 4])
def test_one_token_gives_queries_and_keys_no_gradient_and_four_do(tokens):
    network = lite()
    told = torch.randn(2, tokens, 8, generator=torch.Generator().manual_seed(0))
    network(torch.ones(2, 1, 8, 8), torch.tensor([3, 900]), told).sample.square().sum().backward()
    for name, parameter in chosen(network, "attn2").items():
        silent = tokens == 1 and (".to_q." in name or ".to_k." in name)
        assert (parameter.grad.abs().max() < 1e-6) == silent, name  # in closed form exactly 0


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_guidance_is_the_score_of_p_of_x_times_p_of_c_given_x_to_the_scale(scale):
    """Two classes on a line, N(-1, .3) and N(1, .3) with shares 1/4 and 3/4, at a noise level: all by density."""
    ab, shares, means = 0.6, torch.tensor([0.25, 0.75]), torch.tensor([-1.0, 1.0])
    variance = ab * 0.3 + 1 - ab

    def joint(x):  # log p(x, c): (..., 2)
        return shares.log() - (x[..., None] - ab**0.5 * means).square() / (2 * variance)

    def slope(log_density, x):
        x = x.clone().requires_grad_(True)
        return torch.autograd.grad(log_density(x).sum(), [x])[0]

    def network(x, t, tokens):  # eps = -sqrt(1 - alpha_bar) times the score; tokens say the class, 2 for null
        per_class = torch.stack([slope(lambda x, c=c: joint(x)[..., c], x) for c in (0, 1)])
        scores = torch.cat([per_class, slope(lambda x: joint(x).logsumexp(-1), x)[None]])
        rows = tokens[:, 0, 0].long()
        return -((1 - ab) ** 0.5) * scores[rows, torch.arange(len(x))]

    x = torch.linspace(-3, 3, 14).view(14, 1, 1, 1)
    rows = (torch.arange(14) % 2).float().view(14, 1, 1)
    found = guided(network, torch.full((1, 1), 2.0), scale)(x, torch.zeros(14, dtype=torch.long), rows)

    def sharpened(x):
        both = joint(x)
        posterior = both.log_softmax(-1).flatten(0, -2)[torch.arange(14), rows.flatten().long()]
        return both.logsumexp(-1).flatten() + scale * posterior

    torch.testing.assert_close(found, -((1 - ab) ** 0.5) * slope(sharpened, x), atol=1e-5, rtol=1e-4)


def test_at_scale_1_the_network_is_asked_once():
    def network(x, t, tokens):
        return x

    assert guided(network, torch.zeros(4, 8), 1.0) is network


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_saved_pipeline_is_the_same_model_and_draws_what_ours_draws(tmp_path, prediction):
    model = conditional(prediction=prediction)
    save_conditional(model, tmp_path / "p")
    found = load_conditional(tmp_path / "p")
    for name, value in model.network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], value)
    assert torch.equal(found.concepts.tokens, model.concepts.tokens)
    assert found.concepts.names == NAMES
    assert found.process.prediction == prediction
    torch.testing.assert_close(found.process.alpha_bar, model.process.alpha_bar, atol=1e-7, rtol=1e-5)

    pipeline = ConceptPipeline.from_pretrained(tmp_path / "p")
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(["b", "null"], 2.0, 5, torch.Generator().manual_seed(0), "np").images
    x = torch.randn((2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    tokens = model.concepts.tokens.data[[1, 4]]
    told = guided(lambda *asked: model.network(*asked).sample, model.concepts.null.data, 2.0)

    def eps(x, t):
        return eps_from_output(told(x, t, tokens), x, t, model.process)

    with torch.no_grad():
        *_, x = ddim(eps, x, model.process.alpha_bar, timestep_grid(1000, 5), [])
    ours = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(torch.from_numpy(drawn), ours, atol=1e-4, rtol=0)
    assert isinstance(pipeline(["a"], num_inference_steps=1).images[0], Image.Image)
    with pytest.raises(UserError, match="unknown concept '4'; known: a, b, c, d, null"):
        pipeline(["4"])


def test_a_prompt_decides_what_is_drawn_and_guidance_how_strongly():
    model = conditional()
    tokens, null = model.concepts.tokens.data, model.concepts.null.data
    how = {"sampler": "ddim", "steps": 3, "null": null}

    def drawn(rows, guidance=1.0):
        return draw(model.network, model.process, 2, prompts=tokens[rows], guidance=guidance, **how)

    assert torch.equal(drawn([0, 1]), drawn([0, 1]))
    assert torch.equal(drawn([0, 1])[0], drawn([0, 2])[0])
    assert not torch.equal(drawn([0, 1])[1], drawn([0, 2])[1])
    assert not torch.equal(drawn([0, 1], 3.0), drawn([0, 1]))
    assert (drawn([0, 1], 0.0).int() - drawn([-1, -1]).int()).abs().max() <= 1  # it forgets the condition


def test_a_pipeline_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def torn(self, folder):
        folder.mkdir()
        (folder / "model_index.json").write_text("{")
        raise OSError(28, "No space left on device")

    save_conditional(conditional(), tmp_path / "p")
    monkeypatch.setattr(ConceptPipeline, "save_pretrained", torn)
    for name in ("new", "p"):
        with pytest.raises(UserError, match="No space left on device"):
            save_conditional(conditional(), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert load_conditional(tmp_path / "p").concepts.names == NAMES


@pytest.fixture
def folder(tmp_path):
    save_conditional(conditional(), tmp_path / "p")
    return tmp_path / "p"


def index(folder, **changes):
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_that_holds_no_conditional_model_is_refused(tmp_path, folder):
    save_pipeline(make_network("lite"), Process(noise_schedule("lite").float(), "v_prediction"), tmp_path / "plain")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none", tmp_path / "empty", tmp_path / "plain"):
        with pytest.raises(UserError, match=f"{path} holds no conditional model: name a pipeline of `pudm train"):
            load_conditional(path)
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(UserError, match="holds no conditional model"):
        load_conditional(folder)


@pytest.mark.parametrize("part", ["unet", "concepts", "scheduler", "extra"])
def test_nothing_that_an_index_names_is_run(folder, tmp_path, monkeypatch, part):
    (tmp_path / "evil.py").write_text("open('ran', 'w').close()\nclass Part: ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    index(folder, **{part: ["evil", "Part"]})
    with pytest.raises(UserError, match="holds no conditional model"):
        load_conditional(folder)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_not_opened(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(lite().state_dict(), folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="holds no conditional model"):
        load_conditional(folder)


CONFIG = TrainConfig(steps=8, batch_size=16, seed=5, warmup_steps=1, ell_scale=64.0, conditional=1)
LABELS = torch.arange(60) % 4


def make(config=CONFIG, folder=None, save_every=None):
    images = torch.randint(0, 256, (60, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    split = Split(torch.arange(40), torch.arange(40) >= 30, torch.arange(40, 60), torch.arange(10), torch.arange(5))
    condition = Condition(table().tokens.data, LABELS)
    process = Process(noise_schedule("lite").float(), "v_prediction")
    return Trainer(lite(), process, images, split, config, folder, None, save_every, condition)


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_each_image_is_told_its_class_but_for_a_share_that_is_told_null():
    trainer = make(replace(CONFIG, label_drop=0.3))
    dropped = Counter()
    for step in range(120):
        batch, _, _, told = trainer._draw(step)
        labels = torch.cat([LABELS[:40][batch.u], LABELS[40:][batch.s]])
        kept = told >= 0
        assert torch.equal(told[kept], labels[kept])
        dropped.update((~kept).tolist())
    assert dropped[True] / dropped.total() == pytest.approx(0.3, abs=0.04)
    assert not any((make(replace(CONFIG, label_drop=0.0))._draw(step)[3] < 0).any() for step in range(20))


def test_what_is_told_depends_on_seed_and_step_alone():
    def told(seed, step):
        return tuple(make(replace(CONFIG, seed=seed, label_drop=0.5))._draw(step)[3].tolist())

    addresses = [(5, 0), (5, 1), (6, 0)]
    assert len({told(*address) for address in addresses}) == 3
    assert all(told(*address) == told(*address) for address in addresses)


def test_the_network_is_told_the_tokens_of_its_labels():
    trainer, seen = make(replace(CONFIG, label_drop=0.5)), []
    trainer.network.register_forward_pre_hook(lambda module, given: seen.append(given[2]))
    next(iter(trainer))
    told = make(replace(CONFIG, label_drop=0.5))._draw(0)[3]
    assert (told < 0).any()
    assert torch.equal(seen[0], table().tokens.data[told])


@pytest.mark.parametrize("method", METHODS)
def test_every_risk_trains_with_a_condition(method):
    trainer = make(replace(CONFIG, method=method, steps=2))
    before = weights(trainer.network).clone()
    records = list(trainer)
    assert all(np.isfinite(record.value) for record in records)
    assert not torch.equal(weights(trainer.network), before)


def test_a_resumed_run_equals_the_unbroken_one(tmp_path):
    unbroken, broken = make(), make(CONFIG, tmp_path, save_every=0.0)
    list(unbroken)
    for record in broken:
        if record.step == 3:
            break
    resumed = make(CONFIG, tmp_path)
    assert resumed.step == 3
    list(resumed)
    assert torch.equal(weights(unbroken.network), weights(resumed.network))
    assert torch.equal(weights(unbroken.ema), weights(resumed.ema))


def test_pieces_of_a_batch_are_told_as_the_whole():
    whole, pieces = (
        make(replace(CONFIG, method="unsupervised", steps=2)),
        make(replace(CONFIG, method="unsupervised", steps=2, pieces=3)),
    )
    list(whole), list(pieces)
    torch.testing.assert_close(weights(whole.network), weights(pieces.network), atol=2e-4, rtol=1e-3)


def test_a_condition_and_its_setting_belong_together():
    with pytest.raises(ValueError, match="a condition belongs to a training with conditional=1"):
        make(replace(CONFIG, conditional=0))
    network = lite()
    with pytest.raises(ValueError, match="tokens belong to a network with cross_attention_dim"):
        network(torch.zeros(1, 1, 8, 8), torch.tensor([0]))
    with pytest.raises(ValueError, match="tokens belong to a network with cross_attention_dim"):
        make_network("lite")(torch.zeros(1, 1, 28, 28), torch.tensor([0]), torch.zeros(1, 4, 8))


@pytest.mark.slow
def test_train_conditional_end_to_end(tmp_path, monkeypatch, capsys):
    def tiny(name, channels, size, told):
        return LiteUNet(
            sample_size=size, block_channels=(8, 16, 16), stem_channels=4, time_dim=16, cross_attention_dim=told
        )

    monkeypatch.setattr(running, "make_network", tiny)
    command = ["train", "--conditional", "--steps", "3", "--n-samples", "8", "--out", str(tmp_path), "--guidance", "2"]
    assert cli.main(command) == 0
    capsys.readouterr()
    (row,) = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert (row["conditional"], row["guidance"], row["method"]) == (1, 2.0, "nnpu")
    assert 0 <= row["prompted_rate"] <= 1
    model = load_conditional(tmp_path / "runs" / row["run"] / "pipeline")
    assert model.concepts.names == TEN
    assert isinstance(model.concepts, Concepts)
    own = cosines(model.concepts.tokens.data)
    assert own[4, 9] > own[0, 1] + 0.2  # alike as the digits are
