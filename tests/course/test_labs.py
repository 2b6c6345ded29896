"""Which data and sizes a lab notebook takes, and that its runs are kept."""

from dataclasses import replace

import pytest
import torch
from make_believe import device
from tiny_sets import write_cifar10

from pudm_lite.course import labs
from pudm_lite.course.labs import Lab, Plan, choose, conditional_digits, estimated_minutes, missing, smooth
from pudm_lite.errors import UserError
from pudm_lite.measures.judge import DigitNet, Judge, judge_file, save_judge
from pudm_lite.runs.bench import forward_gflop
from pudm_lite.splits import CLASSES

FULL = Plan("cifar10-vehicles", "paper")
GPU = Plan("cifar10-vehicles", "paper", training={"steps": 50}, sampling={"n_samples": 10})
CPU = Plan("standin-32", training={"steps": 40}, sampling={"n_samples": 30})
TINY = {"steps": 1, "batch_size": 8}
FAST = Plan("standin-32", methods=("nnpu",), training=TINY, sampling={"n_samples": 4, "sampler_steps": 2})


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("PUDM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("PUDM_MODE", "lab")


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def chosen(folder):
    return choose(FULL, GPU, CPU, FAST, folder)


def test_without_a_gpu_the_lab_is_the_stand_in_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lab = chosen(tmp_path)
    assert (lab.plan, lab.folder) == (CPU, tmp_path)
    assert lab.title("Samples") == "Samples (stand-in: tinted digits)"
    assert "stand-in: tinted digits (there is no GPU here)" in lab.sentence()
    assert "40 steps of 44 images, 30 samples" in lab.sentence()


def test_with_a_gpu_it_names_what_is_still_to_be_fetched_or_trained(tmp_path, monkeypatch, gpu):
    assert "`pudm data download cifar10`" in chosen(tmp_path).why
    write_cifar10(tmp_path / "cache" / "datasets", monkeypatch)
    assert "`pudm judge train cifar10`" in chosen(tmp_path).why
    classes = CLASSES["cifar10"]
    save_judge(Judge(DigitNet(3), classes, torch.eye(10).long().tolist(), "cifar10"), judge_file("cifar10"))
    assert "`pudm data download inception`" in chosen(tmp_path).why
    assert chosen(tmp_path).plan == CPU
    on_the_judge = Plan("cifar10-vehicles", "paper", sampling={"features": "judge"})
    assert missing(on_the_judge) == ""
    lab = choose(FULL, on_the_judge, CPU, FAST, tmp_path)
    assert lab.plan == on_the_judge
    assert lab.title("Samples") == "Samples"
    assert "stand-in" not in lab.sentence()


def test_full_is_the_papers_run_whatever_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PUDM_MODE", "full")
    lab = chosen(tmp_path)
    assert (lab.plan, lab.why) == (FULL, "")
    exp = lab.plan.experiment("nnpu")
    assert (exp.train.steps, exp.train.batch_size, exp.n_samples, exp.sampler_steps) == (18_750, 128, 4000, 1000)


def test_the_mixed_precision_is_the_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert labs.mixed_precision() == "no"
    with device():
        assert labs.mixed_precision() == "bf16"


def test_fast_never_finds_an_earlier_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PUDM_MODE", "fast")
    first, second = chosen(tmp_path), chosen(tmp_path)
    assert first.plan == FAST
    assert len({first.folder, second.folder, tmp_path}) == 3


def test_a_mode_that_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PUDM_MODE", "quick")
    with pytest.raises(UserError, match="fast, lab, full"):
        chosen(tmp_path)


def test_keywords_go_before_the_plans_settings():
    assert Plan("standin-32", training=TINY).experiment("nnpu", steps=7, seed=3).train.steps == 7
    assert CPU.experiment("nnpu", seed=3).train.seed == 3


@pytest.mark.slow
def test_a_run_is_kept_and_opened_again(tmp_path, monkeypatch):
    lab = Lab(FAST, tmp_path, "", "fast")
    done = lab.run("nnpu")
    assert done.images.shape == (4, 3, 32, 32)
    assert done.sensitive.shape == (4,)
    assert 1 - float(done.sensitive.double().mean()) == done.row["non_sensitive_rate"]
    assert done.log["value"].shape == (1, 2)
    assert (done.folder / "pipeline").is_dir()

    def no_more(*_):
        raise AssertionError("a finished run is opened, not run again")

    monkeypatch.setattr("pudm_lite.runs.keeping.run", no_more)
    again = lab.run("nnpu")
    assert again.row == done.row
    assert torch.equal(again.images, done.images)
    with pytest.raises(AssertionError, match="opened"):
        lab.run("nnpu", seed=1)


def test_the_estimate_counts_three_passes_an_image_and_one_a_sampling_step():
    plan = Plan("standin-32", methods=("unsupervised", "nnpu"), training={"steps": 600, "batch_size": 10})
    training, sampling = estimated_minutes(plan, tflops=0.5)
    tflop = forward_gflop("lite", "standin-32") / 1000
    assert training == pytest.approx(2 * 6000 * 3 * tflop / 0.5 / 60)
    assert sampling == pytest.approx(2 * 1000 * 14 * tflop / 0.5 / 60)  # standin-32: 1,000 test images; lite: 14 steps
    assert estimated_minutes(plan, drawn=100, tflops=0.5)[1] == pytest.approx(100 * 14 * tflop / 0.5 / 60)
    again = replace(plan, training={**plan.training, "gradient_checkpointing": 1})
    assert estimated_minutes(again, tflops=0.5)[0] == pytest.approx(training * 4 / 3)


def test_a_smoothed_curve_is_a_running_mean_that_leaves_out_batches_without_the_group():
    curve = torch.tensor([[1.0, 2.0], [2.0, 0.0], [3.0, 4.0], [4.0, 6.0], [5.0, 8.0]])
    step, value = smooth(curve, parts=2)
    assert step.tolist() == [3, 4, 5]
    assert value.tolist() == [3, 5, 7]


def test_a_conditional_model_of_the_digits_lies_on_the_cpu_also_where_a_gpu_trained_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PUDM_MODE", "fast")  # so that none is opened
    with device():
        model = conditional_digits(tmp_path, **TINY)
        torch.logit(model.process.alpha_bar[:3].double()).numpy()  # as a figure takes it
        assert next(model.network.parameters()).device.type == "cpu"
    assert model.concepts.names == CLASSES["mnist"]
    assert capsys.readouterr().out == "trained now: 1 steps of 8 images, label_drop 0.1\n"
