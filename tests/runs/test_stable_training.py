"""PU fine-tuning of Stable Diffusion on captioned folders: the tiny pipeline, end to end."""

import shutil

import pytest
import torch
from filelock import FileLock
from PIL import Image
from tiny_pipelines import saved

from pudm_lite import cli
from pudm_lite.diffusion import q_sample
from pudm_lite.draws import draw_batch, generator
from pudm_lite.edits import apply_edit, read_edit
from pudm_lite.errors import UserError
from pudm_lite.runs import stable_training
from pudm_lite.runs.stable_training import condition, settings_for, train_stable
from pudm_lite.stable import encode, open_stable, to_latents

SMALL = {"batch_size": 4, "seed": 0, "method": "abspu", "beta": 0.3}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A pipeline, and folders U and S of captioned images."""
    root = tmp_path_factory.mktemp("stable_training")
    saved(root)
    generator = torch.Generator().manual_seed(0)
    for name, captions in {"U": ("a dog", "a dog", "a church", "tree", ""), "S": ("church", "church", "tower")}.items():
        (root / name).mkdir()
        for number, caption in enumerate(captions):
            pixels = torch.randint(0, 256, (64, 64, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(root / name / f"{caption.replace(' ', '_')}_{number}.png")
    return root


def train(place, out, layers="all", **settings):
    return list(train_stable(str(place / "pipeline"), place / "U", place / "S", SMALL | settings, out, layers))


@pytest.mark.parametrize(("layers", "tensors"), [("attn2", 20), ("all", None)])
def test_what_is_trained_is_what_the_file_holds_and_fits_the_pipeline(place, tmp_path, layers, tensors):
    records = train(place, tmp_path, layers, steps=3)
    assert [record.step for record in records] == [1, 2, 3]
    edit = read_edit(tmp_path / "edit.safetensors")
    pipeline = open_stable(str(place / "pipeline"))
    assert len(edit.changed) == (tensors or len(pipeline.unet.state_dict()))
    assert all(torch.isfinite(tensor).all() for tensor in edit.changed.values())
    about = apply_edit(pipeline, tmp_path / "edit.safetensors")
    assert (about["method"], about["layers"], about["ell_scale"], about["steps"]) == ("abspu", layers, 4096.0, 3)
    assert pipeline("a dog", num_inference_steps=1, output_type="np").images.shape == (1, 64, 64, 3)


def test_a_step_is_eq_20_of_latents_and_captions_by_absolute_value(place, tmp_path):
    (record,) = train(place, tmp_path, steps=1, batch_size=8, timesteps="stratified")
    pipeline = open_stable(str(place / "pipeline"))
    read = {}
    for name in "US":
        files = sorted((place / name).iterdir())
        pixels = (torch.from_numpy(_pixels(file)).permute(2, 0, 1) for file in files)
        captions = [file.stem.rpartition("_")[0].replace("_", " ").strip() for file in files]
        read[name] = torch.stack(list(to_latents(pipeline, pixels))), captions
    batch = draw_batch("pooled", 5, 3, 8, 6, 0, 0)
    draws = generator(0, 3, 0)
    slices = [torch.rand(1, generator=draws, dtype=torch.float64), torch.randperm(5, generator=draws)]
    at = [((slices[0] + torch.arange(5) / 5) % 1)[slices[1]]]
    slices = [torch.rand(1, generator=draws, dtype=torch.float64), torch.randperm(3, generator=draws)]
    at.append(((slices[0] + torch.arange(3) / 3) % 1)[slices[1]])
    t = (torch.cat(at) * 1000).long()
    eps = torch.randn(8, 4, 32, 32, generator=draws)
    dropped = torch.rand(8, generator=draws) < 0.1
    captions = [read["U"][1][i] for i in batch.u] + [read["S"][1][i] for i in batch.s]
    tokens = encode(pipeline, ["" if gone else caption for caption, gone in zip(captions, dropped, strict=True)])
    x0 = torch.cat([read["U"][0][batch.u], read["S"][0][batch.s]])
    with torch.no_grad():
        said = pipeline.unet(q_sample(x0, t, eps, pipeline.scheduler.alphas_cumprod), t, tokens).sample
    ell = (said - eps).square().flatten(1).sum(1)
    wanted = (ell[:5].mean() - 0.3 * ell[5:].mean()).abs()  # l is thousands: the BCE push on S is gone
    assert record.value == pytest.approx(float(wanted), rel=1e-4)


def test_the_file_holds_the_average_of_the_weights(place, tmp_path, monkeypatch):
    made, trainer = [], stable_training.Trainer
    monkeypatch.setattr(stable_training, "Trainer", lambda *given: (made.append(trainer(*given)), made[0])[1])
    train(place, tmp_path, "attn2", steps=4, learning_rate=1e-2)
    average, last = (network.state_dict() for network in (made[0].ema, made[0].network))
    changed = read_edit(tmp_path / "edit.safetensors").changed
    assert all(torch.equal(value, average[name]) for name, value in changed.items())
    assert not any(torch.equal(value, last[name]) for name, value in changed.items())


def test_an_edit_tells_images_and_captions_apart(place, tmp_path):
    """By their digest, which a checkpoint is told by as well."""
    shutil.copytree(place, tmp_path / "all")
    (file,) = (tmp_path / "all" / "U").glob("tree_*.png")

    def digest(name):
        train(tmp_path / "all", tmp_path / name, "attn2-kv", steps=1)
        return read_edit(tmp_path / name / "edit.safetensors").about["images"]

    found = [digest("one"), digest("again")]
    renamed = file.rename(file.with_name(file.name.replace("tree", "river")))
    found.append(digest("caption"))
    Image.new("RGB", (64, 64), "red").save(renamed.rename(file))
    found.append(digest("pixels"))
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_two_trainings_in_one_folder_are_refused(place, tmp_path):
    with FileLock(tmp_path / ".edit.safetensors.lock"), pytest.raises(UserError, match="another `pudm train-sd` is at"):
        train(place, tmp_path, steps=1)


def _pixels(file):
    import numpy as np

    return np.array(Image.open(file))


def test_the_same_command_goes_on_where_it_stopped(place, tmp_path):
    whole = train(place, tmp_path / "whole", "attn2", steps=4)
    run = train_stable(
        str(place / "pipeline"), place / "U", place / "S", SMALL | {"steps": 4}, tmp_path / "cut", "attn2", save_every=0
    )
    assert [next(run).step for _ in range(2)] == [1, 2]
    run.close()
    rest = train(place, tmp_path / "cut", "attn2", steps=4)
    assert [record.step for record in rest] == [3, 4]
    assert rest[-1].value == whole[-1].value
    a, b = (read_edit(tmp_path / name / "edit.safetensors").changed for name in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_condition_of_each_image_is_its_caption(place):
    pipeline = open_stable(str(place / "pipeline"))
    captions = ["tree", "a dog", "tree", ""]
    told = condition(pipeline, captions)
    torch.testing.assert_close(told.tokens[told.labels], encode(pipeline, captions))
    torch.testing.assert_close(told.tokens[-1], encode(pipeline, [""])[0])
    assert len(told.tokens) == 4


def test_twenty_epochs_unless_told_otherwise():
    shape = torch.Size((4, 64, 64))
    usual = settings_for(2400, shape, {"method": "abspu"})
    assert (usual.steps, usual.batch_size, usual.ell_scale, usual.optimiser) == (3000, 16, 16384.0, "adamw")
    assert settings_for(2400, shape, {"batch_size": 4, "ell_scale": 1.0}).steps == 12000


def test_the_command_says_what_it_read_and_wrote(place, tmp_path, capsys):
    (place / "U" / "broken.png").write_text("no image")
    try:
        line = f"train-sd --pipeline {place}/pipeline --unlabeled {place}/U --sensitive {place}/S --out {tmp_path}/o"
        assert cli.main(f"{line} --steps 1 --layers attn2-kv --set batch_size=4".split()) == 0
        said = capsys.readouterr().out
        assert "broken.png: it does not open as an image" in said
        assert "U 5 images with 4 captions\nS 3 images with 2 captions" in said
        assert "note: 1 captions do not say what they seem to (of '' the tokenizer leaves nothing)" in said
        assert "abspu: risk" in said
        assert f"wrote {tmp_path}/o/edit.safetensors: pudm_lite.edits.apply_edit(pipeline" in said
        assert cli.main(f"{line} --strict".split()) == 2
    finally:
        (place / "U" / "broken.png").unlink()


def test_no_work_in_a_folder_of_its_own_images(place):
    with pytest.raises(UserError, match="--out lies in"):
        train(place, place / "U" / "out", steps=1)
