"""What is given is used, or refused in one sentence: every option of every command."""

import argparse
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from pudm_lite import cli
from pudm_lite.commands.given import given, refuse_unused
from pudm_lite.errors import UserError

SHIPPED = "data/models/mnist-digits_unsupervised_seed0.safetensors"
OWN = "train --unlabeled U --sensitive S"
STABLE = "train-sd --pipeline P --unlabeled U --sensitive S"
PRETRAINED = f"--method pretrained --pretrained {SHIPPED}"

UNUSED = {
    # a command line: its sentence, which begins with the option
    **{
        f"{command} {typed}": f"{typed.split()[0]} would not be used: it belongs to images of your own"
        for command in ("train", "sweep", "evaluate one.npz")
        for typed in (
            *("--normal-test U", "--image-size 16", "--strict", "--normal cat", "--sensitive-classes dog"),
            *("--hidden-share 0.1", "--n-sensitive 3"),
        )
    },
    "train --image-size 16 --strict": "--image-size, --strict would not be used: it belongs to images of your own",
    **{
        f"{command} --unlabeled U --sensitive S {typed}": f"{typed.split()[0]} would not be used: it belongs to --class"
        for command in ("train", "sweep", "evaluate one.npz")
        for typed in ("--normal cat", "--sensitive-classes dog", "--hidden-share 0.1", "--n-sensitive 3")
    },
    **{
        f"{command} --classes . --normal U {typed} U": f"{typed} would not be used: with --classes all groups are drawn"
        for command in ("train", "sweep", "evaluate one.npz")
        for typed in ("--unlabeled", "--sensitive", "--normal-test")
    },
    "train --classes . --normal U --experiment mnist-odd": "--experiment would not be used: the images are those",
    "sweep --unlabeled U --sensitive S --experiment mnist-odd": "--experiment would not be used: the images are those",
    "evaluate one.npz --unlabeled U --sensitive S --experiment mnist-odd": "--experiment would not be used: the images",
    "evaluate one.npz --unlabeled U --sensitive S --features judge": "--features would not be used: samples are not",
    f"{OWN} --experiment mnist-odd": "--experiment would not be used: the images are those of your own folders",
    f"{OWN} --experiment mnist-even": "--experiment would not be used",  # the default, typed
    f"{OWN} --features judge": "--features would not be used: samples are not measured without --normal-test",
    "train --method unsupervised --beta 0.1": "--beta would not be used: it does not act on unsupervised",
    "figure1 --method supervised unsupervised --beta 0.2": "--beta would not be used: it does not act on supervised or",
    "sweep --method supervised --beta 0.2 0.3": "--beta would not be used: it does not act on supervised",
    f"train {PRETRAINED} --steps 5": "--steps would not be used: --method pretrained draws from the model as it is",
    f"train {PRETRAINED} --save-every 5": "--save-every would not be used: --method pretrained",
    f"train {PRETRAINED} --minutes 5": "--minutes would not be used: --method pretrained",
    f"sweep {PRETRAINED} --steps 5": "--steps would not be used: --method pretrained",
    f"sweep {PRETRAINED} --beta 0.2": "--beta would not be used: it does not act on pretrained",
    f"train {PRETRAINED} --set ell_scale=3": "ell_scale of --set would not be used: nothing is trained",
    f"sweep {PRETRAINED} --set stream=two": "stream of --set would not be used: nothing is trained",
    f"train --pretrained {SHIPPED} --network paper": f"--network would not be used: {SHIPPED} is a lite network",
    f"sweep --pretrained {SHIPPED} --network paper": "--network would not be used",
    "sweep --slurm cluster=local --threads 2": "--threads would not be used: a job of SLURM has the cores",
    "train --set s_per_batch=4 stream=pooled": "s_per_batch of --set would not be used: it belongs to stream=two",
    "figure1 --set optimiser=adamw kernel_learning_rate=0.1": "kernel_learning_rate of --set would not be used",
    "sweep --set stream=pooled s_per_batch=4": "s_per_batch of --set would not be used",
    "train --guidance 2": "--guidance would not be used: it belongs to --conditional",
    "train --set label_drop=0.2": "label_drop of --set would not be used: it belongs to conditional=1",
    "train --set conditional=1": "--set takes no conditional: that is --conditional",
    "train --set seed=3": "--set takes no seed: that is --seed",
    "train --set method=pn": "--set takes no method: that is --method",
    "figure1 --set beta=0.2": "--set takes no beta: that is --beta",
    "sweep --set steps=7": "--set takes no steps: that is --steps",
    "train --set ell_scale=3 ell_scale=4": "--set is given one setting twice in ell_scale=3 ell_scale=4",
    "train --seed 1 --seed 2": "argument --seed: it is given twice, and one would not be used",
    "sweep --method pn --method nnpu": "argument --method: it is given twice",
    "train --strict --strict": "argument --strict: it is given twice",
    "report rows.jsonl --runs --format md": "--format would not be used: --runs is written as Markdown alone",
    "report rows.jsonl --unlearning --format csv": "--format would not be used: --unlearning is written as Markdown",
    "report rows.jsonl --erasing --format csv": "--format would not be used: --erasing is written as Markdown",
    "report rows.jsonl --unlearning --runs": "argument --runs: not allowed with argument --unlearning",
    "report rows.jsonl --runs --table 2": "argument --table: not allowed with argument --runs",
    "train --minutes 3 --steps 5": "argument --steps: not allowed with argument --minutes",
    "erase --pipeline P --concept x --preserve F": "--preserve would not be used: esd-x looks at no other concept",
    "erase --pipeline P --concept x --synonyms y --nearest 3": "--nearest, --synonyms would not be used: esd-x looks",
    "erase --pipeline P --concept x --method uce --steps 5": "--steps would not be used: uce trains nothing",
    "erase --pipeline P --concept x --method uce --batch-size 5": "--batch-size would not be used: uce trains nothing",
    "erase --pipeline P --concept x --method none --learning-rate 1": "--learning-rate would not be used: none trains",
    "erase --pipeline P --concept x --method uce --layers all": "--layers would not be used: uce trains nothing",
    f"{STABLE} --method supervised --beta 0.2": "--beta would not be used: it does not act on supervised",
    f"{STABLE} --set s_per_batch=2": "s_per_batch of --set would not be used: it belongs to stream=two",
    f"{STABLE} --set conditional=1": "--set takes no conditional: the captions are the condition",
    f"{STABLE} --set steps=7": "--set takes no steps: that is --steps",
    "judge train mnist --from-scratch": "--from-scratch would not be used: the judge of mnist always starts",
    "judge train mnist --normal U": "--normal would not be used: it belongs to `pudm judge train folders`",
    "judge train cifar10 --sensitive U --strict": "--sensitive, --strict would not be used: it belongs to",
}

ALWAYS = {
    "train": "experiment method pretrained unlabeled sensitive classes seed n_samples sampler sampler_steps save_every "
    "out threads log_to conditional",
    "train-sd": "pipeline unlabeled sensitive method layers steps seed strict save_every out",
    "erase": "pipeline concept method option seed out",
    "figure1": "normal method network seed minutes steps n_samples sampler sampler_steps features save_every out "
    "threads log_to",
    "sweep": "experiment method seed lanes processes slurm n_samples sampler sampler_steps features save_every out "
    "pretrained unlabeled sensitive classes log_to",
    "unlearn": "digit seed method steps reference_steps n_samples pretrained out",
    "sample": "n_samples sampler sampler_steps seed out",
    "evaluate": "experiment features unlabeled sensitive classes",
    "report": "runs unlearning erasing where out",
    "figure4": "out",
    "ship": "out",
    "push": "private",
    "grade": "out seconds memory",
    "erase-bench": "method digit seed each attack model retrained lanes out",
    "bench": "threads seconds network rounds n_samples json",
    "selftest": "out",
    "judge": "seed epochs batch_size out",
    "data": "",
    "doctor": "",
}
"""The options that a command uses whatever else is given."""


@pytest.fixture
def at(tmp_path, monkeypatch):
    """A place to stand: folders U and S of images, and the repository's data."""
    (tmp_path / "data").symlink_to(cli.__file__.replace("pudm_lite/cli.py", "data"))
    for name in "US":
        (tmp_path / name).mkdir()
        Image.new("L", (28, 28)).save(tmp_path / name / "a.png")
    np.savez(tmp_path / "one.npz", images=np.zeros((2, 1, 28, 28), np.uint8))
    monkeypatch.setenv("PUDM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", UNUSED)
def test_what_would_not_be_used_is_refused_in_one_sentence(at, capsys, monkeypatch, line):
    monkeypatch.setattr("pudm_lite.runs.parallel.pool", lambda *a, **k: pytest.fail("work began"))
    before = sorted(at.rglob("*"))
    assert cli.main(line.split()) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"pudm: {UNUSED[line]}")
    assert sorted(at.rglob("*")) == before


def options_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from options_of(below)
        elif action.option_strings and action.dest != "help":
            yield action.dest


def test_every_option_is_used_always_or_has_a_case_above():
    (commands,) = (a.choices for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert set(commands) == set(ALWAYS)
    for name, parser in commands.items():
        sometimes = {
            word.removeprefix("--").replace("-", "_")
            for line, said in UNUSED.items()
            if line.split()[0] == name
            for word in said.replace(",", " ").replace(":", " ").split()
            if word.startswith("--")
        } | ({"set"} if any("--set" in line for line in UNUSED if line.startswith(name)) else set())
        of_one = set(options_of(parser))
        assert of_one <= set(ALWAYS[name].split()) | sometimes, f"{name}: say when each of these is used"
        assert set(ALWAYS[name].split()) <= of_one


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("train", []),
        ("train --beta 0.1", ["beta"]),  # at its default, and given all the same
        ("train --strict --set ell_scale=3 --seed 0", ["seed", "set", "strict"]),
        ("sweep --seed 0 1 --slurm", ["seed", "slurm"]),
        ("data check mnist", []),
        ("figure1 --norm odd", ["normal"]),
    ],
)
def test_what_was_given_is_told_from_a_default(line, asked):
    options = cli._parser().parse_args(line.split())
    assert sorted(given(options)) == asked
    with pytest.raises(UserError) if asked else pytest.MonkeyPatch.context():
        refuse_unused(options, [*asked, "other"], "why")


@pytest.mark.parametrize(
    "line",
    [
        "train --method unsupervised",
        "train --set stream=two s_per_batch=4 --beta 0.2 --steps 3",
        f"train {PRETRAINED} --set batch_size=8 --seed 3",
        f"train --pretrained {SHIPPED} --network lite",
        "figure1 --method unsupervised nnpu --beta 0.2",
    ],
)
def test_what_is_used_is_taken(at, monkeypatch, line):
    def begin(*_, **__):
        raise UserError("work began")

    monkeypatch.setattr("pudm_lite.runs.parallel.run_all", begin)
    options = cli._parser().parse_args(line.split())
    with pytest.raises(UserError, match="work began"):
        options.run(options)


@pytest.mark.parametrize("seed", ["-1", "1" + "0" * 20, "x", "1.5", "", "nan"])
@pytest.mark.parametrize("command", ["train", "figure1", "sweep", "unlearn", "sample model", "judge train mnist"])
def test_seeds_that_are_none(capsys, command, seed):
    assert cli.main([*command.split(), "--seed", seed]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(
        f"pudm: argument --seed: it takes a whole number from 0 to 9223372036854775807; got {seed!r} (`pudm "
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train --steps -1", "argument --steps: it takes a whole number from 0"),
        (f"train --steps {10**20}", "argument --steps: it takes a whole number from 0"),
        ("train --n-samples 0", "argument --n-samples: it takes a whole number from 1"),
        ("sweep --n-samples all", "argument --n-samples: it takes a whole number from 1"),
        (f"sample model --n-samples {10**20}", "argument --n-samples: it takes a whole number"),
        ("train --image-size 0", "argument --image-size: it takes a whole number from 1 to 4096; got '0'"),
        ("train --minutes nan", "--minutes must be larger than 0 and less than a million; got nan"),
        ("train --minutes inf", "--minutes must be larger than 0 and less than a million; got inf"),
        ("sweep --sampler-steps 0", "argument --sampler-steps: it takes a whole number from 1"),
        ("sweep --sampler-steps 2000", "sampler steps must lie in 1..1000; got 2000"),
        ("sweep --lanes 0", "argument --lanes: it takes a whole number from 1"),
        ("sample model --n-samples 0", "argument --n-samples: it takes a whole number from 1"),
        ("train --sampler-steps many", "argument --sampler-steps: it takes a whole number"),
        ("judge train mnist --epochs -3", "argument --epochs: it takes a whole number"),
        ("unlearn --digit 10", "argument --digit: it takes a whole number from 0 to 9; got '10'"),
        ("unlearn --n-samples 1", "argument --n-samples: it takes a whole number from 2"),
        ("unlearn --method nnpu siss-v", "unknown method 'siss-v'; known: retrained, unedited, unsupervised, nnpu,"),
        ("", "the following arguments are required: COMMAND (`pudm --help` says what there is)"),
        ("trian", "argument COMMAND: invalid choice: 'trian'"),
        ("train --stpes 3", "unrecognized arguments: --stpes 3"),
    ],
)
def test_numbers_and_names_that_cannot_be(at, capsys, line, said):
    assert cli.main(line.split()) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"pudm: {said}")


@pytest.mark.parametrize("line", ["train", "figure1", "sweep", "judge train mnist", OWN])
def test_a_network_is_saved_under_no_name_that_it_could_not_be_opened_under(at, capsys, line):
    assert cli.main([*line.split(), "--out", "Jos\udc82/out"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said == r"pudm: --out 'Jos\udc82/out' is no name in UTF-8, as networks are saved under: choose another"
