"""CLIP score and LPIPS through torchmetrics, on networks of random weights that lie where a path says."""

import pytest
import torch

from pudm_lite.course.tiny_stable import tokenizer
from pudm_lite.errors import UserError
from pudm_lite.measures import prompted
from pudm_lite.measures.prompted import clip_scores, lpips

pytest.importorskip("torchmetrics")


@pytest.fixture
def clip(tmp_path):
    """A tiny CLIP model with its processor, saved."""
    pytest.importorskip("transformers")
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    torch.manual_seed(0)
    words = tokenizer(tmp_path / "words")
    tower = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    text = tower | {"vocab_size": 200, "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    config = CLIPConfig(text_config=text, vision_config=tower | {"image_size": 32, "patch_size": 8}, projection_dim=8)
    model = CLIPModel(config).eval()
    model.text_projection.weight.data.neg_()  # so that with this seed cosines are positive
    size = {"height": 32, "width": 32}
    processor = CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size), words)
    model.save_pretrained(tmp_path / "clip")
    processor.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip", model, processor


def test_clip_scores_are_cosines(clip):
    folder, model, processor = clip
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    prompts = ["a dog", "church tower"]
    found = clip_scores(images, prompts, folder)
    inputs = processor(text=prompts, images=list(images), return_tensors="pt", padding=True)
    with torch.no_grad():
        outputs = model(**inputs)
    wanted = 100 * torch.cosine_similarity(outputs.image_embeds, outputs.text_embeds)
    assert found == pytest.approx(wanted.numpy(), abs=1e-2)
    assert found[0] != pytest.approx(found[1], abs=1e-2)
    model.text_projection.weight.data.neg_()
    model.save_pretrained(folder)
    assert clip_scores(images, prompts, folder).tolist() == [0, 0]


def test_no_clip_model(tmp_path):
    with pytest.raises(UserError, match="holds no CLIP model with its processor"):
        clip_scores(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ["a dog"], tmp_path)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    from torchvision.models import alexnet

    torch.manual_seed(0)
    features = alexnet().features
    path = tmp_path_factory.mktemp("lpips") / "alexnet.pth"
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, path)
    return path, features


def test_lpips_is_the_published_sum_over_layers(backbone):
    path, features = backbone
    a, b = torch.randint(0, 256, (2, 3, 3, 64, 64), dtype=torch.uint8)
    found = lpips(a, b, path)
    from torchmetrics.functional.image import lpips as theirs

    heads = torch.load(f"{theirs.__file__.rpartition('/')[0]}/lpips_models/alex.pth", "cpu", weights_only=True)
    mean, std = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x, y = (((v / 127.5 - 1) - mean[:, None, None]) / std[:, None, None] for v in (a.float(), b.float()))
    wanted, layer = torch.zeros(3), 0
    with torch.no_grad():
        for at, module in enumerate(features):
            x, y = module(x), module(y)
            if at in (1, 4, 7, 9, 11):  # after each rectifier
                gap = (torch.nn.functional.normalize(x, dim=1) - torch.nn.functional.normalize(y, dim=1)).square()
                wanted += (gap * heads[f"lin{layer}.model.1.weight"][0]).sum(1).mean((1, 2))
                layer += 1
    assert found == pytest.approx(wanted.numpy(), rel=1e-3)
    assert lpips(a, a, path) == pytest.approx([0, 0, 0], abs=1e-6)


def test_lpips_at_another_size(backbone):
    a, b = torch.randint(0, 256, (2, 1, 3, 128, 128), dtype=torch.uint8)
    assert lpips(a, b, backbone[0], side=64) != pytest.approx(lpips(a, b, backbone[0]), rel=1e-2)


@pytest.mark.parametrize("content", [b"no weights", None])
def test_no_backbone(tmp_path, content):
    path = tmp_path / "alexnet.pth"
    if content is None:
        torch.save({"fc.weight": torch.zeros(2)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="holds no weights of torchvision's AlexNet"):
        lpips(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64), path)


def test_without_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(prompted, "find_spec", lambda name: None)
    for measure in (lambda: lpips(None, None, tmp_path), lambda: clip_scores(None, [], tmp_path)):
        with pytest.raises(UserError, match=r"needs torchmetrics: pip install 'pudm_lite\[sd\]'"):
            measure()
