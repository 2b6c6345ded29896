"""`pudm erase` end to end on the tiny pipeline, and what it refuses before any work."""

import pytest
from tiny_pipelines import saved

from pudm_lite import cli
from pudm_lite.edits import apply_edit, read_edit
from pudm_lite.stable import open_stable


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("erase"))


def erase(folder, tmp_path, line):
    return cli.main(["erase", "--pipeline", str(folder), "--out", f"{tmp_path}/e.safetensors", *line.split()])


def test_a_concept_is_erased_with_a_list_of_ones_own(folder, tmp_path, capsys):
    (tmp_path / "words.txt").write_text("dog\nchurches\nbell tower\ntree\n")
    line = f"--concept church --method ap-random --preserve {tmp_path}/words.txt --synonyms bell --nearest 1"
    assert erase(folder, tmp_path, f"{line} --steps 2 --batch-size 1 --learning-rate 0.01 --option eta=2") == 0
    said = capsys.readouterr().out
    assert "not among the 2 concepts that may be preserved: churches (church), bell tower (bell)" in said
    assert "ap-random, church: 20 tensors changed, 1,056 of 16,928 numbers" in said
    assert f"wrote {tmp_path}/e.safetensors: pudm_lite.edits.apply_edit(pipeline" in said
    about = read_edit(tmp_path / "e.safetensors").about
    wanted = {"pipeline": str(folder), "method": "ap-random", "erased": "church", "kept": 1, "synonyms": ["bell"]}
    wanted |= {"steps": 2, "batch_size": 1, "learning_rate": 0.01, "layers": "attn2", "eta": 2, "seed": 0}
    assert wanted.items() <= about.items()
    pipeline = open_stable(str(folder))
    apply_edit(pipeline, tmp_path / "e.safetensors")
    pipeline.save_pretrained(tmp_path / "edited")
    assert open_stable(str(tmp_path / "edited"))("church", num_inference_steps=1, output_type="np").images.size


def test_our_own_list_and_no_training(folder, tmp_path, capsys):
    assert erase(folder, tmp_path, "--concept dog --method uce --nearest 3") == 0
    said = capsys.readouterr().out
    assert "concepts that may be preserved: dog (dog)" in said
    assert "uce, dog: 8 tensors changed" in said
    assert "loss" not in said


def test_no_edit_is_a_file_without_tensors(folder, tmp_path, capsys):
    assert erase(folder, tmp_path, "--concept dog --method none") == 0
    assert "none, dog: 0 tensors changed" in capsys.readouterr().out
    apply_edit(open_stable(str(folder)), tmp_path / "e.safetensors")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--concept dog --method xattn", "unknown method 'xattn'; known: none, esd-x"),
        ("--concept dog --layers xattn", "unknown layers 'xattn'; known: attn2, attn2-kv"),
        ("--concept 中国", "of '中国' the tokenizer leaves nothing: say the concept"),
        ("--concept dog dog", "a concept to erase is given twice in dog, dog"),
        ("--concept dog --method uce --preserve words.txt", "the list of words to preserve holds nothing but what is"),
        ("--concept dog --method uce --preserve gone.txt", "cannot read the words of gone.txt (No such file"),
        ("--concept dog --learning-rate nan", "--learning-rate must be larger than 0; got nan"),
        ("--concept dog --option eta", "'eta' of --option is not of the form NAME=VALUE"),
        ("--concept dog --option eta=1 eta=2", "'eta=2' of --option is given twice"),
        ("--concept dog --option etta=1", "esd-x has no option 'etta'; known:"),
        ("--concept dog --method salun", "salun needs real images of the concepts"),
        ("--concept dog --method sld", "sld changes no parameter, so that there is nothing to save"),
    ],
)
def test_what_is_refused_leaves_no_file(folder, tmp_path, capsys, monkeypatch, line, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("dogs\nDog\n")
    assert erase(folder, tmp_path, line) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"pudm: {said}")
    assert not (tmp_path / "e.safetensors").exists()
