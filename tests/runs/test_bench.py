"""What a network costs, counted and timed; what a timing is worth."""

import json
import re

import pytest
import torch
from torch import nn

from pudm_lite import cli
from pudm_lite.networks import make_network
from pudm_lite.risks import METHODS
from pudm_lite.runs import bench
from pudm_lite.runs.bench import Timing, Work, compared, doubts, forward_gflop, rounds_of, timed
from pudm_lite.sampling import SAMPLERS, draw


def test_flops_are_those_of_its_convolutions_and_linear_layers():
    """By hand, from the shapes that pass: 2 * inputs of an output * outputs."""
    network, counted = make_network("lite", 3, 32), []

    def count(layer, _, output):
        counted.append(2 * layer.weight[0].numel() * output.numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32), 0)
    assert forward_gflop("lite", "standin-32") == pytest.approx(sum(counted) / 1e9)


def test_nine_times_the_pixels_cost_nine_times_the_work():
    small, large = (forward_gflop("lite", f"standin-{size}") for size in (32, 96))
    assert large == pytest.approx(9 * small, rel=0.01)  # but for the few layers that see the time alone


class Clock:
    """A machine on which time passes only where it is told to."""

    def __init__(self, monkeypatch):
        self.wall = self.cpu = 0.0
        monkeypatch.setattr(bench.time, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(bench, "_cpu_seconds", lambda: self.cpu)

    def work(self, wall: float, cpu: float) -> None:
        self.wall += wall
        self.cpu += cpu


def test_a_call_is_timed_on_the_clock_and_on_the_processors(monkeypatch):
    clock = Clock(monkeypatch)
    assert timed(lambda: clock.work(0.25, 0.5), seconds=1) == (0.25, 0.5)
    assert clock.wall == 1  # four calls filled the second
    assert timed(lambda: clock.work(3, 1), seconds=0) == (3, 1)  # one call at least


def test_all_take_turns_and_the_best_round_counts(monkeypatch):
    """A neighbour works during the second round: it falls on both, and the best of neither knows of it."""
    clock, calls = Clock(monkeypatch), []

    def call(name, seconds):
        calls.append(name)
        clock.work(seconds * (3 if len(calls) in (5, 6) else 1), seconds)

    works = [Work({"n": "a"}, lambda: call("a", 2.0), gflop=10), Work({"n": "b"}, lambda: call("b", 4.0))]
    a, b = rounds_of(works, rounds=3, seconds=0)
    assert calls == ["a", "b"] * 4  # one to warm up
    assert a == {"n": "a", **Timing([2, 6, 2], [2, 2, 2]).as_row(), "gflops": 5}
    assert (b["seconds"], b["cpu_seconds"], b["spread"], b["wall_rounds"]) == (4, 4, 2, [4, 12, 4])
    assert "gflops" not in b


def step(method, seconds, gflops, network="lite"):
    return {"network": network, "method": method, "seconds": seconds, "gflops": gflops, "spread": 0.0}


def test_cost_over_the_unsupervised_step_of_the_same_network():
    steps = [
        step("unsupervised", 2, 10),
        step("nnpu", 3, 8),
        step("unsupervised", 10, 5, "paper"),
        step("nnpu", 40, 5, "paper"),
    ]
    peak, rows = compared([{"gflops": 20}, {"gflops": 16}], steps)
    assert peak == 20
    assert [row["over_unsupervised"] for row in rows] == [1, 1.5, 1, 4]
    assert [row["share_of_peak"] for row in rows] == [0.5, 0.4, 0.25, 0.25]


def test_no_share_of_the_peak_is_above_one():
    """The matrix products were disturbed, and a step did more than they: the machine can do what it did."""
    peak, rows = compared([{"gflops": 3.4}], [step("unsupervised", 1, 4.8), step("nnpu", 1, 2.4)])
    assert peak == 4.8
    assert [row["share_of_peak"] for row in rows] == [1, 0.5]


def result(spread=0.0, waited=0.0, threads=2, device="cpu (a quiet one)"):
    timing = {"seconds": 1.0, "cpu_seconds": threads * (1 - waited), "spread": spread}
    return {
        "device": device,
        "threads": threads,
        "products": [{"n": 512, **timing}, {"n": 1024, **timing, "spread": min(spread, 0.05)}],
        "steps": [{**step("nnpu", 1, 1), "spread": spread}],
        "samplers": [{"sampler": "ddim", "steps": 12, **timing}],
        "start_up": [{"start": "pudm --help", **timing}],
    }


def test_a_quiet_machine_is_believed():
    assert doubts(result(spread=0.09, waited=0.09)) == []


def test_rounds_that_differ_are_warned_of_with_their_worst():
    said = doubts(result(spread=0.34))
    assert len(said) == 4
    assert said[0].startswith(
        "warning: the rounds of 1 of 2 products differ by more than 10% (matrix product of 512 by 34%): "
    )
    assert "(lite nnpu by 34%)" in said[1]
    assert "(ddim, 12 steps by 34%)" in said[2]
    assert "1 of 1 start-up differ" in said[3]


def test_a_neighbour_that_never_rests_is_warned_of_though_all_rounds_agree():
    (said,) = doubts(result(waited=0.5))
    assert "waited for a processor 50% of their time" in said
    assert doubts(result(waited=0.5, device="NVIDIA H100")) == []  # there it is the host that waits for the GPU


def test_every_step_of_a_method_learns_from_as_many_images(monkeypatch):
    """So that a round is not fast because it happened to draw many images of S, which the unsupervised step skips."""
    works = {work.what["method"]: work for work in bench.training_steps("lite")}
    assert list(works) == [*METHODS, bench.FORWARD]
    size = works["nnpu"].what["images"]
    learnt = works["unsupervised"].what["images"]
    assert 1 - learnt / size == pytest.approx(1 / 12, abs=0.5 / size)  # S's share of the images of Table 1
    assert works["unsupervised"].gflop == pytest.approx(3 * learnt * forward_gflop("lite"))
    assert works[bench.FORWARD].gflop == pytest.approx(size * forward_gflop("lite"))
    seen = []
    monkeypatch.setattr(nn.Module, "__call__", _counting(seen, nn.Module.__call__))
    for _ in range(2):
        works["unsupervised"].call()
    works["nnpu"].call()
    assert seen[-3:] == [learnt, learnt, size]


def _counting(seen, call):
    def counted(module, *args, **kwargs):
        if type(module).__name__ == "LiteUNet" and torch.is_grad_enabled():
            seen.append(len(args[0]))
        return call(module, *args, **kwargs)

    return counted


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--threads", 0), "--threads must be at least 1; got 0"),
        (("--rounds", 1), "--rounds must be at least 2, or nothing is known of their spread; got 1"),
        (("--seconds", -1), "--seconds must be 0 (one call a round) or more; got -1"),
        (("--seconds", "nan"), "--seconds must be 0 (one call a round) or more; got nan"),
        (("--n-samples", 1), "--n-samples must be at least 2 to measure a distance; got 1"),
        (("--network", "tiny"), "unknown network 'tiny'; known: lite, paper"),
    ],
)
def test_options_out_of_range(capsys, option, said):
    assert cli.main(["bench", *map(str, option)]) == 2
    assert capsys.readouterr().err == f"pudm: {said}\n"


def test_a_file_that_cannot_be_written_is_said_before_anything_is_timed(capsys, tmp_path):
    (tmp_path / "taken").write_text("mine")
    assert cli.main(["bench", "--json", str(tmp_path / "taken" / "b.json")]) == 2
    assert capsys.readouterr().err.endswith("name a file elsewhere with --json\n")
    assert cli.main(["bench", "--json", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"pudm: cannot write {tmp_path}: name a file elsewhere with --json\n"


@pytest.mark.slow
def test_bench_measures_what_it_names(capsys, tmp_path, monkeypatch):
    """All of the command, small: of its start-ups the lightest one."""
    monkeypatch.setattr(bench, "START_UP", {"pudm --help": bench.START_UP["pudm --help"]})
    monkeypatch.setattr(bench, "MATRICES", dict.fromkeys(bench.MATRICES, (64, 128)))
    file = tmp_path / "bench.json"
    assert cli.main(["bench", *["--rounds", "2", "--seconds", "0", "--n-samples", "5", "--json"], str(file)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"matrix multiply, float32: \d+ GFLOP/s at n = (64|128)", printed)
    for method in (*METHODS, re.escape(bench.FORWARD)):
        assert re.search(rf"lite +{method} +44 +[\d.]+ +[\d.]+ +[\d.]+% +[\d.]+", printed)
    assert "pudm --help" in printed
    found = json.loads(file.read_text())
    assert found["versions"]["torch"] == torch.__version__
    for row in [*found["products"], *found["steps"], *found["samplers"], *found["start_up"]]:
        assert len(row["wall_rounds"]) == len(row["cpu_rounds"]) == 2
        assert row["seconds"] == min(row["wall_rounds"])
    assert found["start_up"][0]["cpu_seconds"] > 0.01  # of the process that was started
    assert max(row["share_of_peak"] for row in found["steps"]) <= 1

    model, halved = bench.shipped(bench.MODEL), {}
    for row in found["samplers"]:
        assert (row["batch"], row["n_samples"]) == (2, 6)  # two rounds and the warm-up, of two each
        assert row["images_per_second"] == 2 / row["seconds"]
        halved.setdefault(row["sampler"], []).append(row["steps"] / model.row["sampler_steps"])
    assert halved == {name: [1, pytest.approx(0.5, abs=0.05)] for name in SAMPLERS}
    images = draw(model.network, model.process, 6, "ddpm", found["samplers"][1]["steps"])  # as a run draws them
    wanted = bench.measures(images, bench.material(bench.experiment(model.row["experiment"])), "judge").row
    measured = found["samplers"][1]["frechet_distance"]
    assert measured == pytest.approx(wanted["frechet_distance"], rel=0.02)  # pixels round
