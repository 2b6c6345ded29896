"""The paper's numbers against what its own text says of them (Section 5.4)."""

import pytest

from pudm_lite.results.paper import CONFIGURATION_TITLE, JUDGE_ACCURACY, METHOD_NAME, TABLE
from pudm_lite.splits import TABLE_1


def means(number, method):
    return {name: line[method][0] for name, line in TABLE[number].items()}


def test_tables_name_the_configurations_of_table_1():
    assert list(CONFIGURATION_TITLE) == list(TABLE_1)
    scratch = [name for name in TABLE_1 if not name.startswith("celeba")]
    finetuned = [name for name in TABLE_1 if name.startswith(("cifar10", "celeba"))]
    assert [list(TABLE[number]) for number in (2, 3, 4, 5)] == [scratch, scratch, finetuned, finetuned]
    assert set(JUDGE_ACCURACY) == {c.dataset for c in TABLE_1.values()}


def test_titles_name_a_normal_class():
    for name, title in CONFIGURATION_TITLE.items():
        dataset, normal = name.split("-")
        assert title.lower() == f"{dataset} ({normal})"


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_every_line_has_the_papers_methods(number):
    ours = [name for name in METHOD_NAME.values() if number > 3 or name != "pretrained"]
    assert all(list(line) == ours for line in TABLE[number].values())


def test_from_scratch_unsupervised_rates_range_from_762_to_917():
    rates = means(2, "unsupervised").values()
    assert (min(rates), max(rates)) == (0.762, 0.917)


def test_the_supervised_rates_remain_similar():
    unsupervised, supervised = means(2, "unsupervised"), means(2, "supervised")
    assert all(abs(unsupervised[name] - supervised[name]) < 0.01 for name in unsupervised)


@pytest.mark.parametrize("number", [2, 4])
def test_the_proposed_method_improves_every_rate(number):
    unsupervised, supervised, proposed = (
        means(number, method) for method in ("unsupervised", "supervised", "proposed")
    )
    assert all(proposed[name] > max(unsupervised[name], supervised[name]) for name in proposed)


def test_pretrained_models_make_more_of_the_larger_class():
    rates = means(4, "pretrained")  # CIFAR10 has more animals, CelebA more female faces
    for smaller, larger in (("cifar10-vehicles", "cifar10-animals"), ("celeba-male", "celeba-female")):
        assert rates[smaller] < 0.5 < rates[larger]
        assert rates[smaller] + rates[larger] == pytest.approx(1, abs=0.005)


def test_fine_tuning_improves_the_pretrained_rate_and_fid():
    for method in ("unsupervised", "supervised", "proposed"):
        assert all(means(4, method)[name] > rate for name, rate in means(4, "pretrained").items())
        assert all(means(5, method)[name] < fid for name, fid in means(5, "pretrained").items())


def test_from_scratch_fid_of_unsupervised_and_supervised_differs_by_less_than_a_deviation():
    for line in TABLE[3].values():
        (a, spread_a), (b, spread_b) = line["unsupervised"], line["supervised"]
        assert abs(a - b) < max(spread_a, spread_b)


def test_deviations_are_positive_and_smaller_than_their_means():
    for lines in TABLE.values():
        assert all(0 < std < mean for line in lines.values() for mean, std in line.values())
