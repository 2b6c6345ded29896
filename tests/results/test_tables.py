"""Made-up rows into the paper's tables: what is averaged, what is compared, and what is kept apart."""

import numpy as np
import pytest
from made_rows import RATES, row, rows
from scipy.stats import ttest_1samp

from pudm_lite import cli
from pudm_lite.errors import UserError
from pudm_lite.files import write_rows
from pudm_lite.results.report import results_table
from pudm_lite.results.sweep_figure import draw_beta_sweep
from pudm_lite.results.tables import METHOD_TITLE, TRAINING, select, table
from pudm_lite.settings import TrainConfig


def line(made, title="MNIST (even)"):
    (found,) = (line for line in made.lines if line.title == title)
    return found


def note(made, label):
    (found,) = (note for note in made.notes if note.startswith(label))
    return found


def bold(cells):
    return {method for method, cell in cells.items() if cell.bold}


def test_means_and_deviations_are_numpys():
    cells = line(table(2, rows())).cells
    for method, values in RATES.items():
        assert cells[method].mean == pytest.approx(np.mean(values))
        assert cells[method].std == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize(("number", "better"), [(2, max), (3, min)])
def test_bold_are_the_best_and_those_scipy_does_not_tell_from_it(number, better):
    rng = np.random.default_rng(0)
    spread = {"unsupervised": (0.90, 0.01), "supervised": (0.96, 0.02), "nnpu": (0.975, 0.002), "upu": (0.974, 0.02)}
    seen = set()
    for _ in range(20):
        rates = {method: list(rng.normal(*value, size=4)) for method, value in spread.items()}
        cells = line(table(number, rows(rates))).cells
        groups = {method: cells[method].values for method in rates}
        best = better(groups, key=lambda method: np.mean(groups[method]))
        gaps = {method: np.subtract(groups[method], groups[best]) for method in groups if method != best}
        p = {method: ttest_1samp(gap, 0).pvalue for method, gap in gaps.items()}
        assert bold(cells) == {method for method in groups if method == best or p[method] >= 0.05}
        assert cells[best].p is None
        assert all(cells[method].p == pytest.approx(p[method]) for method in groups if method != best)
        seen.add(frozenset(bold(cells)))
    assert len(seen) > 1


def test_what_a_seed_does_to_all_methods_drops_out():
    """Seeds differ by far more than methods do, and each gains: an unpaired test would find nothing."""
    base = np.array([0.90, 0.93, 0.96, 0.99])
    cells = line(
        table(2, rows({"supervised": base - 0.02, "nnpu": base + np.array([0.004, 0.005, 0.006, 0.005])}))
    ).cells
    assert bold(cells) == {"nnpu"}
    assert cells["supervised"].p < 1e-4


def test_a_pair_is_two_runs_of_one_seed():
    """Rows in another order, and a seed that one method alone has, change no p."""
    base = np.array([0.90, 0.93, 0.96, 0.99])
    made = rows({"supervised": base - np.array([0.02, 0.01, 0.04, 0.01]), "nnpu": base})
    p = line(table(2, made)).cells["supervised"].p
    assert line(table(2, made[::-1])).cells["supervised"].p == p
    assert line(table(2, [*made, row("supervised", 9, 0.8)])).cells["supervised"].p == p
    elsewhere = rows({"nnpu": base}) + [row("supervised", seed, 0.8) for seed in (3, 7, 8, 9)]
    assert bold(line(table(2, elsewhere)).cells) == set()  # one seed in common is no test


def test_methods_that_took_the_same_steps_are_not_different():
    assert bold(line(table(2, rows({"nnpu": RATES["nnpu"], "abspu": RATES["nnpu"]}))).cells) == {"nnpu", "abspu"}


def test_one_run_has_no_deviation_and_is_in_no_test():
    cells = line(table(2, rows(RATES | {"nnpu": [0.93]}))).cells
    assert (cells["nnpu"].std, cells["nnpu"].p, cells["nnpu"].bold) == (None, None, False)
    assert bold(cells) == {"upu"}


def test_nothing_is_bold_where_the_best_is_one_run():
    cells = line(table(2, rows(RATES | {"nnpu": [0.999]}))).cells
    assert bold(cells) == set()


def test_nothing_is_bold_where_one_method_was_run():
    assert bold(line(table(2, rows({"nnpu": RATES["nnpu"]}))).cells) == set()


def test_methods_that_see_normal_labels_take_nobodys_place():
    cells = line(table(2, rows(RATES | {"pn": [0.999, 0.998, 0.999], "pnu": [0.99, 0.992, 0.991]}))).cells
    assert bold(cells) == {"nnpu", "upu"}
    assert cells["pn"].p is None
    assert cells["pn"].mean == pytest.approx(np.mean([0.999, 0.998, 0.999]))
    assert note(table(2, rows(RATES | {"pn": [0.99]})), "PNU and the oracle")


def test_columns_are_the_papers_and_those_that_were_run():
    assert table(2, rows({"nnpu": [0.9]})).methods == ("unsupervised", "supervised", "nnpu")
    assert table(2, rows({"pn": [0.9], "abspu": [0.9]})).methods == (
        *("unsupervised", "supervised", "nnpu"),
        *("abspu", "pn"),
    )
    assert table(4, []).methods == ("pretrained", "unsupervised", "supervised", "nnpu")


def test_every_line_of_the_paper_stands_there_and_says_where_nothing_was_run():
    made = table(2, rows({"nnpu": RATES["nnpu"]}))
    assert [line.title for line in made.lines][:3] == ["MNIST (even)", "MNIST (odd)", "CIFAR10 (vehicles)"]
    assert len(made.lines) == 6
    assert line(made, "MNIST (odd)").cells["nnpu"].mean is None
    assert line(made, "MNIST (odd)").cells["nnpu"].paper == (0.975, 0.004)
    assert line(made).cells["unsupervised"].mean is None


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_without_rows_the_papers_values_stand_alone(number):
    made = table(number, [])
    assert all(cell.mean is None and cell.paper for line in made.lines for cell in line.cells.values())
    assert made.notes == ("No run of this table is among the rows.",)


@pytest.mark.parametrize(
    "setting",
    [
        *({"steps": 800}, {"network": "paper"}, {"n_samples": 1000}, {"sampler": "dpmpp"}, {"sampler_steps": 50}),
        *({"batch_size": 128}, {"ell_scale": 100.0}, {"stream": "two"}, {"timesteps": "uniform"}),
        *({"learning_rate": 1e-3}, {"kernel_learning_rate": 0.02}, {"warmup_steps": 500}, {"ema_power": 16.0}),
        *({"grad_clip": 1.0}, {"mixed_precision": "bf16"}, {"s_per_batch": 4}),
        *({"schedule": "cosine"}, {"prediction": "epsilon"}, {"optimiser": "adamw"}, {"judge_accuracy": 0.98}),
    ],
)
def test_runs_of_other_settings_are_neither_averaged_nor_compared(setting):
    ((name, value),) = setting.items()
    made = table(2, rows({"nnpu": [0.90, 0.92]}) + rows({"nnpu": [0.98, 0.99], "upu": [0.5, 0.6]}, **setting))
    first = line(made, f"MNIST (even), {name}={row()[name]}")
    second = line(made, f"MNIST (even), {name}={value}")
    assert first.cells["nnpu"].mean == pytest.approx(0.91)
    assert second.cells["nnpu"].mean == pytest.approx(0.985)
    assert first.cells["upu"].mean is None
    assert bold(first.cells) == set()
    assert [made.title for made in made.lines][2] == "MNIST (odd)"


def test_every_setting_of_a_training_keeps_runs_apart_or_is_known_not_to():
    of_a_line_or_run = {"method", "beta", "seed", "labelled"}
    of_the_machine = {"pieces", "gradient_checkpointing"}  # they change no gradient
    assert (
        TrainConfig().as_row().keys() == set(TRAINING) - {"schedule", "prediction"} | of_a_line_or_run | of_the_machine
    )


def test_distances_on_other_features_stay_apart_but_their_rates_are_one_run():
    both = rows() + rows(frechet_features="inception-2048")
    assert len([made for made in table(3, both).lines if made.configuration == "mnist-even"]) == 2
    assert len(line(table(2, both)).cells["nnpu"].rows) == 5


def test_a_row_given_twice_counts_once():
    assert len(line(table(2, rows() + rows())).cells["nnpu"].rows) == 5


def test_two_unlike_rows_of_one_seed_are_refused():
    with pytest.raises(UserError, match=r"MNIST \(even\), nnpu: two rows of seed 0 differ \(in sample_seed, non_sen"):
        table(2, [row(rate=0.9), row(rate=0.8, sample_seed=7)])


def test_a_pretrained_model_sampled_with_several_seeds_has_a_deviation():
    sampled = [row("pretrained", 0, rate, pretrained="digits", sample_seed=i) for i, rate in enumerate([0.49, 0.50])]
    cells = line(table(4, sampled), "MNIST (even), miniature").cells
    assert cells["pretrained"].std == pytest.approx(0.01 / 2**0.5)
    assert cells["pretrained"].paper is None


def test_a_pretrained_model_stands_in_every_line_of_its_samples():
    model = rows({"pretrained": [0.49, 0.50]}, pretrained="digits", steps=0)
    short, long = (rows({"nnpu": [0.9, 0.91]}, pretrained="digits", steps=steps) for steps in (100, 200))
    made = table(4, model + short + long)
    for steps in (100, 200):
        cells = line(made, f"MNIST (even), miniature, steps={steps}").cells
        assert cells["pretrained"].mean == pytest.approx(0.495)
        assert bold(cells) == {"nnpu"}
    other = table(4, model + rows({"nnpu": [0.9, 0.91]}, pretrained="digits", sampler_steps=50))
    assert line(other, "MNIST (even), miniature, sampler_steps=50 steps=2200").cells["pretrained"].mean is None


def test_from_scratch_and_fine_tuned_rows_go_to_their_own_tables():
    both = rows({"nnpu": [0.9]}) + rows({"nnpu": [0.8]}, pretrained="digits", experiment="cifar10-vehicles")
    assert line(table(2, both)).cells["nnpu"].mean == 0.9
    assert line(table(2, both), "CIFAR10 (vehicles)").cells["nnpu"].mean is None
    assert line(table(4, both), "CIFAR10 (vehicles)").cells["nnpu"].mean == 0.8
    assert len(table(4, both).lines) == 4


def test_stand_ins_say_so_and_have_no_value_of_the_papers():
    for number, pretrained in ((2, ""), (4, "digits")):
        made = table(number, rows({"nnpu": [0.9]}, experiment="standin-32", pretrained=pretrained))
        cells = line(made, "Stand-in 32×32 (even)").cells
        assert cells["nnpu"].mean == 0.9
        assert all(cell.paper is None for cell in cells.values())


def test_rows_of_older_versions_count_as_from_scratch_with_all_labels():
    old = [{name: value for name, value in row.items() if name not in ("pretrained", "labelled")} for row in rows()]
    assert len(line(table(2, [*old, row(seed=9)])).cells["nnpu"].rows) == 6


def test_sweeps_do_not_slip_in():
    swept = [
        *(row(seed=1, rate=0.99, beta=0.2), row(seed=2, rate=0.99, beta=0.1, beta_from="estimate")),
        *(row(seed=3, rate=0.99, labelled=50), row("unsupervised", 0, 0.9, beta=0.2)),
        *(row(seed=4, experiment="mnist-digits"), row(seed=5) | {"experiment": "folders of my own"}),
    ]
    made = table(2, [row(rate=0.95), *swept])
    assert line(made).cells["nnpu"].mean == 0.95
    assert line(made).cells["unsupervised"].mean == 0.9  # its risk has no beta
    assert note(made, "Left out") == (
        "Left out: 2 rows with another beta than 0.1; 1 row with not all of S labelled; "
        "1 row of a configuration without a line in these tables; 1 row of images that were not measured."
    )
    assert made.lines[-1].title == "STL10 (animals)"


def test_notes_say_what_agrees_once_and_what_differs_where():
    made = table(2, rows() + rows({"nnpu": [0.9]}, experiment="mnist-odd", device="a GPU", n_samples=5074))
    assert note(made, "Samples") == (
        "Samples a run (the paper: as many as test images): 2,000 [MNIST (even)]; 5,074 [MNIST (odd)]."
    )
    assert note(made, "Machine") == "Machine: cpu (a processor) [MNIST (even)]; a GPU [MNIST (odd)]."
    assert note(made, "Seeds") == "Seeds: 0, 1, 2, 3, 4 [MNIST (even)]; 0 [MNIST (odd)]."
    assert note(made, "Training steps") == "Training steps: 2,200 of 64 images."
    assert note(made, "beta") == "beta: 0.1."
    assert note(made, "Sampler") == "Sampler: ddpm, 25 steps."
    assert note(made, "Network") == "Network: lite."
    assert note(made, "Mode") == "Mode: lab."
    assert note(made, "Judge") == "Judge, real test images called right: mnist 99.41% (the paper's: 98.46%)."
    assert "paired t-test over the seeds" in made.notes[0]


def test_a_note_names_the_cells_of_a_line_that_differ():
    made = table(2, rows(RATES | {"supervised": [0.91]}))
    assert note(made, "Seeds") == (
        "Seeds: 0, 1, 2, 3, 4 [MNIST (even), Unsupervised and Proposed and Unbiased PU]; 0 [MNIST (even), Supervised]."
    )


def test_training_is_not_said_of_a_pretrained_model():
    model = rows({"pretrained": [0.5]}, pretrained="digits", steps=0)
    made = table(4, model + rows({"nnpu": [0.9]}, pretrained="digits"))
    assert note(made, "Fine-tuned from") == "Fine-tuned from: digits."
    assert note(made, "Training steps") == "Training steps: 2,200 of 64 images."


def test_other_features_are_said_not_to_compare_with_fid():
    made = table(3, rows())
    assert note(made, "Features") == "Features of the Fréchet distance: judge-mnist-128."
    assert note(made, "Floor").endswith(": 0.078.")
    assert note(made, "Not comparable with the paper's FID")
    inception = table(3, rows(frechet_features="inception-2048"))
    assert not any(text.startswith(("Not comparable", "Judge")) for text in inception.notes)


def test_select_keeps_rows_with_the_values():
    mixed = [row(steps=800), row(beta=0.2), row()]
    assert select(mixed, ["steps=2200", "beta=.10"]) == [row()]
    assert select(mixed, ["network=lite", "pretrained="]) == mixed


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("step=800", "no row has a field for 'step=800'; write NAME=VALUE with one of batch_size, beta"),
        ("steps", "no row has a field for 'steps'"),
        ("steps=7", "no row has steps=7; found: 2200"),
    ],
)
def test_select_says_what_there_is(wanted, message):
    with pytest.raises(UserError, match=message):
        select([row()], [wanted])


@pytest.mark.parametrize("out", ["rows.jsonl", "./rows.jsonl", "link.jsonl", "."])
def test_a_table_does_not_take_the_place_of_its_rows(tmp_path, monkeypatch, capsys, out):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", [row()])
    before = (tmp_path / "rows.jsonl").read_bytes()
    (tmp_path / "link.jsonl").symlink_to("rows.jsonl")
    assert cli.main(["report", "rows.jsonl", "--out", out]) == 2
    said = "is a folder" if out == "." else "whose rows are read and would be lost: name another file"
    assert said in capsys.readouterr().err
    assert (tmp_path / "rows.jsonl").read_bytes() == before


def without(one, *names):
    return {name: value for name, value in one.items() if name not in names}


MEASURED = {"rate_low": 0.9, "rate_high": 0.96, "judge_confidence": 0.9}


@pytest.mark.parametrize(
    "report", [lambda rows: table(2, rows), results_table, draw_beta_sweep, lambda rows: select(rows, ["seed=0"])]
)
def test_whatever_is_made_of_rows_says_what_is_wrong_with_one(report):
    """Rows are files that people put together, and each report reads other fields of them."""
    good = row("unsupervised", realised_share=0.09) | MEASURED
    report([good])
    for name in ("method", "seed", "beta", "steps", "n_samples", "network", "sampler", "sampler_steps"):
        for lacking in (without(good, name), good | {name: None}):
            with pytest.raises(UserError, match=f"a row lacks {name}: name the rows.jsonl of an experiment"):
                report([good, lacking])
    for name in good:
        for odd in ([], {}, float("nan"), *([True] if name in MEASURED else [])):
            with pytest.raises(UserError, match=f"a row has {name} = |is not the row of a run"):
                report([good, good | {name: odd}])
    for name in ("seed", "steps", "beta", "non_sensitive_rate", "frechet_floor"):
        with pytest.raises(UserError, match=f"a row has {name} = '7', which no run writes"):
            report([good, good | {name: "7"}])


def test_what_is_no_row_is_refused():
    with pytest.raises(UserError, match="lacks batch_size, judge_accuracy, non_sensitive_rate"):
        table(2, [without(row(), "batch_size", "judge_accuracy", "non_sensitive_rate")])
    with pytest.raises(UserError, match="unknown method 'magic'"):
        table(2, [row("magic")])
    with pytest.raises(UserError, match=r"\[1\] is not the row of a run"):
        table(2, [[1]])
    with pytest.raises(UserError, match=r"'loss': 2\} is not the row of a run"):
        table(2, [{"loss": 2}])


def test_every_method_has_a_title():
    from pudm_lite.risks import METHODS

    assert set(METHOD_TITLE) == {*METHODS, "pretrained"}


# Images of one's own


def own(method="nnpu", seed=0, rate=0.95, images="pets", name="own-12345678", **more):
    there = {"images": images, "normal": "cat", "sensitive": "dog", "unlabeled": 60, "labelled": 9}
    return row(method, seed, rate, **(there | more)) | {"experiment": name}


def test_images_of_ones_own_have_lines_by_beta_and_the_paper_none_beside_them():
    rows = [own("unsupervised", seed, 0.9) for seed in (0, 1)]
    rows += [own(seed=seed, rate=0.95, beta=0.11 + seed / 100, beta_from="estimate") for seed in (0, 1)]
    rows += [own(seed=0, rate=0.97, beta=0.3)]
    made = table(2, rows)
    assert [one.title for one in made.lines] == ["pets (cat), assumed beta=estimate", "pets (cat), assumed beta=0.3"]
    estimated, given = made.lines
    assert estimated.cells["nnpu"].values == [0.95, 0.95]
    assert given.cells["nnpu"].values == [0.97]
    assert estimated.cells["unsupervised"].values == given.cells["unsupervised"].values == [0.9, 0.9]  # in each line
    assert [one.title for one in table(2, rows[:4]).lines] == ["pets (cat)"]


def test_images_of_ones_own_stand_below_the_papers_lines_where_rows_of_both_are_there():
    made = table(2, [row(), own(), own(name="own-22222222"), own(name="own-33333333", images="cars")])
    assert [one.title for one in made.lines][-3:] == [
        "pets (cat) own-12345678",
        "pets (cat) own-22222222",
        "cars (cat)",
    ]
    assert len(made.lines) == 6 + 3


def test_fewer_labels_are_another_line_and_what_was_not_measured_is_counted():
    unmeasured = own(seed=5)
    del unmeasured["non_sensitive_rate"]
    made = table(2, [own(), own(labelled=4), unmeasured])
    assert [one.title for one in made.lines] == ["pets (cat), labelled=9", "pets (cat), labelled=4"]
    assert note(made, "Left out") == "Left out: 1 row of images that were not measured."


def test_what_the_judge_of_newer_rows_keeps_and_catches_stands_below():
    made = table(2, [own(judge_kept=0.97, judge_caught=0.9)])
    said = note(made, "Judge")
    assert said.endswith("pets 99.41%, normal kept 97.00%, sensitive caught 90.00%.")


def test_runs_that_are_not_yet_worth_judging_are_named():
    near = {"frechet_normal": 1.0, "judge_floor": 0.1}
    label = "Worth judging, samples called normal being less than 20 floors from real images"
    made = table(2, [own("unsupervised", **near), own(**(near | {"frechet_normal": 3.0}))])
    assert note(made, "Worth") == f"{label}: yes [pets (cat), Unsupervised]; not yet [pets (cat), Proposed]."
    assert not [text for text in table(2, [own(**near), own("unsupervised")]).notes if text.startswith("Worth")]
