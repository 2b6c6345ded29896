"""The table of what Stable Diffusion would take: by hand for a small network, and the README's for the real one."""

from pathlib import Path

import pytest
from tiny_pipelines import tiny_pipeline

from pudm_lite.runs.memory import flops
from pudm_lite.runs.stable_costs import ASSUMED_TFLOPS, NEAREST, TASKS, Task, costs, stable_diffusion, table

SHAPE, TOLD = (4, 32, 32), (77, 8)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    made = tiny_pipeline(tmp_path_factory.mktemp("costs"))
    return {name: getattr(made, name) for name in ("unet", "text_encoder", "vae")}


def of(networks, *tasks):
    return list(costs(networks, tasks, SHAPE, TOLD))


def size(network):
    return sum(p.numel() for p in network.parameters())


def test_what_is_held_and_done_by_hand(networks):
    (cost,) = of(networks, Task("esd-x", "attn2", 1, 7, 1))
    m, parameters = cost.memory, size(networks["unet"])
    assert (parameters, cost.trained) == (16_928, 1_056)
    assert m.total - m.activations == 8 * parameters + 12 * cost.trained
    assert cost.others == 4 * (size(networks["text_encoder"]) + size(networks["vae"]))
    assert cost.tflop == pytest.approx(7 * flops(networks["unet"], SHAPE, TOLD) / 1e12)
    assert cost.minutes == pytest.approx(1000 * cost.tflop / ASSUMED_TFLOPS / 60)
    assert cost.gib * 2**30 == m.total + cost.others


def test_a_preserved_concept_keeps_a_second_estimate_and_a_batch_one_for_each(networks):
    one, two, many = of(
        networks, Task("", "attn2", 1, 7, 1), Task("", "attn2", 1, 11, 2), Task("train-sd", "attn2", 2, 6)
    )
    assert two.memory.activations == pytest.approx(2 * one.memory.activations, rel=0.02)
    assert many.memory == two.memory
    assert many.tflop / one.tflop == pytest.approx(6 / 7)


def test_the_tasks_are_counted_as_the_methods_work():
    evaluations = {task.name.split(",")[0]: task.evaluations for task in TASKS[:5]}
    assert evaluations == {"esd-x-strict": 7, "esd-x": 7, "esd-u": 7, "ap-gumbel": 17, "ap-exact": 11 + 2 * NEAREST}


def test_an_exact_search_asks_student_and_teacher_for_every_concept(networks, tmp_path, monkeypatch):
    """Beside the erased concept's two trajectories a latent, once the pool of kept images is drawn."""
    from pudm_lite.erasing.methods import concept_space
    from pudm_lite.erasing.preservation import adversarial
    from pudm_lite.erasing.prompts import conditional
    from pudm_lite.erasing.scenes import GRID, Scene

    made = tiny_pipeline(tmp_path)
    model = conditional(made, ["church"], ["dog", "tree", "river"])
    scene = Scene(model, ("church",), 1, 0, *concept_space(model, ("church",)))
    objective = adversarial(scene, "exact")
    objective(0)
    asked = {"student": 0, "teacher": 0}
    for name in asked:
        real = getattr(scene, f"eps_{name}")
        monkeypatch.setattr(scene, f"eps_{name}", _counted(real, asked, name))
    for step in range(GRID, 2 * GRID):
        objective(step)
    assert asked == {"student": GRID * (2 + 4 + 1 + 1), "teacher": GRID * (4 + 2 + 1)}
    # the student's two estimates with gradients count for three each: 19 = 2 + 2 + 3 + (1 + 3) + 2 * 4
    assert sum(asked.values()) / GRID + 2 * 2 == TASKS[4].evaluations - 2 * NEAREST + 2 * 4


def _counted(real, asked, name):
    def eps(x, t, tokens):
        asked[name] += len(x)
        return real(x, t, tokens)

    return eps


def test_a_line_for_each_task(networks):
    lines = table(of(networks, *TASKS[:2])).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| `esd-x-strict` | 0.0 | 0.0 | 0.0 | 0.0 | 7 | 0.0 | 0 min |")


@pytest.mark.slow
def test_the_readmes_table_is_the_one_counted():
    pytest.importorskip("transformers")
    networks = stable_diffusion()
    millions = {name: round(size(network) / 1e6, 1) for name, network in networks.items()}
    assert millions == {"unet": 859.5, "text_encoder": 123.1, "vae": 83.7}
    assert table(list(costs(networks))) in (Path(__file__).parents[2] / "README.md").read_text()
