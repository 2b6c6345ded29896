"""What is said of finished runs: rate, interval, what the judge is worth, and what was not measured."""

from made_rows import row

from pudm_lite.results.summary import sentence, summary

JUDGED = {
    **{"rate_low": 0.94, "rate_high": 0.96, "rate_corrected": 0.981, "rate_corrected_low": 0.95},
    **{
        "rate_corrected_high": 1.0,
        "judge_kept": 0.97,
        "judge_caught": 0.9,
        "frechet_normal": 0.5,
        "judge_floor": 0.078,
    },
}


def test_beside_a_rate_stands_what_the_judge_keeps_and_catches():
    said = sentence(row(**JUDGED, images="pets"))
    assert said == (
        "pets, nnpu: non-sensitive rate 0.950 [0.940, 0.960] by a judge that keeps 97.0% of the normal and catches "
        "90.0% of the sensitive ones, corrected for that 0.981 [0.950, 1.000], Fréchet distance 0.50 (judge-mnist-128; "
        "floor 0.08), n = 2000"
    )
    old = sentence(row(rate_low=0.94, rate_high=0.96, rate_corrected=0.981))
    assert "by a judge that calls 99.4% of real test images right, corrected for that 0.981, Fréchet" in old


def test_images_that_are_not_yet_worth_judging_are_said_so():
    assert "worth judging" not in sentence(row(**JUDGED))
    far = sentence(row(**JUDGED | {"frechet_normal": 3.9}))
    assert far.endswith("n = 2000; these images are not yet worth judging: those called normal are 50 floors away")


def test_what_was_not_measured_is_said():
    unjudged = {"experiment": "own-1", "images": "pets", "method": "nnpu", "n_samples": 8}
    assert sentence(unjudged) == "pets, nnpu: n = 8"
    assert sentence(unjudged | {"not_measured": "rate (no judge)"}).endswith("n = 8; not measured: rate (no judge)")


def test_a_rate_that_cannot_be_corrected_stands_alone():
    assert "corrected" not in sentence(row(**JUDGED | {"rate_corrected": None}))


def test_the_table_has_a_line_for_each_run_in_columns_of_one_width():
    estimated = {"beta": 0.123, "beta_low": 0.1, "beta_high": 0.2}
    rows = [
        row("unsupervised", **JUDGED),
        row(seed=3, **JUDGED | {"frechet_normal": 3.9} | estimated),
        {"method": "pn", "seed": 1, "beta": 0.1},
    ]
    lines = summary(rows).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 5
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert cells[0][:5] == ["Unsupervised", "0", "", "0.950 [0.940, 0.960]", "0.981 [0.950, 1.000]"]
    assert cells[1][:3] == ["Proposed", "3", "0.123 [0.100, 0.200]"]
    assert cells[1][-1] == "not yet worth judging"
    assert cells[2] == ["Oracle (PN)", "1", "0.1", "not measured", "", "not measured", ""]
