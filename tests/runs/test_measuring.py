"""What a row says of samples, against the measures by themselves, with a judge whose two errors are unlike."""

from dataclasses import replace

import pytest
import torch

from pudm_lite.errors import UserError
from pudm_lite.measures.judge import Judge, Verdict
from pudm_lite.measures.metrics import (
    corrected_interval,
    corrected_rate,
    frechet_distance,
    frechet_floor,
    non_sensitive_rate,
)
from pudm_lite.runs import measuring
from pudm_lite.runs.materials import Material
from pudm_lite.runs.measuring import FAR, measure, measures, worth_judging
from pudm_lite.splits import Configuration, Split

KEPT, CAUGHT = 0.9, 0.7
"""Shares of real normal images that the judge calls normal, and of sensitive ones that it calls sensitive."""


class MadeUp(Judge):
    """Calls an image sensitive where its first pixel is odd; its features are the first three pixels."""

    def look(self, images, batch_size=125):
        features = images.flatten(1)[:, :3].float()
        return Verdict(features[:, 0].long() % 2, 0.5 + features[:, 0] / 1000, features)


def pictures(n, seed, least=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(least, 256, (n, 1, 4, 4), generator=draws, dtype=torch.uint8)


TRAIN, TEST, SAMPLES = pictures(40, 1), pictures(30, 2, least=60), pictures(9, 3, least=30)
CONFIGURATION = Configuration("made-up", 4, ("even",), ("odd",), 20, 5, 10, 30, channels=1)
DATA = Material(
    CONFIGURATION,
    Split(torch.arange(25), torch.arange(25) >= 20, torch.arange(25, 35), torch.arange(10), torch.arange(30)),
    TRAIN,
    TEST,
    MadeUp(torch.nn.Identity(), ("even", "odd"), [[9, 1], [3, 7]], "made-up"),
)


def features(images):
    return images.flatten(1)[:, :3].double().numpy()


def test_every_measure_of_a_row_is_that_of_the_samples_and_the_test_images():
    found = measures(SAMPLES, DATA, "judge")
    row, odd = found.row, SAMPLES[:, 0, 0, 0] % 2 == 1
    assert found.sensitive.tolist() == odd.tolist()
    assert found.confidence.tolist() == pytest.approx((0.5 + SAMPLES[:, 0, 0, 0] / 1000).tolist())
    rate = non_sensitive_rate(~odd.numpy())
    assert 0 < rate.low < rate.rate < rate.high < 1
    assert (row["n_samples"], row["non_sensitive_rate"]) == (9, round(rate.rate, 5))
    assert (row["rate_low"], row["rate_high"]) == (round(rate.low, 5), round(rate.high, 5))
    assert row["judge_accuracy"] == 0.8
    assert (row["judge_kept"], row["judge_caught"]) == (KEPT, CAUGHT)
    assert row["judge_confidence"] == pytest.approx(0.5 + float(SAMPLES[:, 0, 0, 0].double().mean()) / 1000, abs=1e-5)
    assert row["frechet_features"] == "judge-made-up-3"


def test_the_corrected_rate_is_by_the_share_kept_and_the_share_caught():
    found = measure(DATA.judge.look(SAMPLES), DATA)
    rate = found["non_sensitive_rate"]
    assert found["rate_corrected"] == pytest.approx(corrected_rate(rate, KEPT, CAUGHT), abs=1e-4)
    assert found["rate_corrected"] != pytest.approx(corrected_rate(rate, CAUGHT, KEPT), abs=1e-2)
    ends = corrected_interval((round(9 * rate), 9), (9, 10), (7, 10))
    assert (found["rate_corrected_low"], found["rate_corrected_high"]) == pytest.approx(ends, abs=1e-4)
    nothing_sensitive = replace(DATA, configuration=replace(CONFIGURATION, normal=("even", "odd"), sensitive=()))
    row = measure(DATA.judge.look(SAMPLES), nothing_sensitive)
    assert [row[name] for name in ("rate_corrected", "rate_corrected_low", "judge_caught")] == [None, None, None]
    assert row["judge_kept"] == 1


def test_a_judge_that_is_no_better_than_chance_costs_no_run():
    blind = replace(DATA, judge=replace(DATA.judge, confusion=[[5, 5], [6, 4]]))
    row = measure(DATA.judge.look(SAMPLES), blind)
    assert row["rate_corrected"] is None
    assert (row["rate_corrected_low"], row["rate_corrected_high"]) == (0, 1)
    assert "non_sensitive_rate" in row


def test_images_far_from_real_ones_are_not_worth_judging():
    """Asked of those called normal: of the others, which are few and far away, nothing follows."""
    real = TEST[TEST[:, 0, 0, 0] % 2 == 0]
    far = TEST[:6] // 8 * 2 + 1  # odd, and dark
    row = measure(DATA.judge.look(torch.cat([real, far])), DATA)
    assert row["frechet_normal"] == pytest.approx(frechet_distance(features(real), features(TEST)), abs=1e-3)
    assert row["frechet_distance"] > 2 * row["frechet_normal"]
    assert worth_judging(row)
    assert worth_judging({"n_samples": 3})
    for floors in (FAR - 0.1, FAR + 0.1):
        assert worth_judging(row | {"frechet_normal": floors * row["judge_floor"]}) == (floors < FAR)
    none = measure(DATA.judge.look(far), DATA)
    assert none["frechet_normal"] == none["frechet_distance"]


def test_the_distance_is_to_the_test_images_and_not_to_those_of_the_training():
    found = measure(DATA.judge.look(SAMPLES), DATA)["frechet_distance"]
    assert found == pytest.approx(frechet_distance(features(SAMPLES), features(TEST)), abs=1e-4)
    assert abs(found - frechet_distance(features(SAMPLES), features(TRAIN))) > 1


def test_the_floor_is_that_of_test_images_at_the_number_of_samples():
    found = measure(DATA.judge.look(SAMPLES), DATA)["frechet_floor"]
    assert found == pytest.approx(frechet_floor(features(TEST), len(SAMPLES)), abs=1e-4)
    assert abs(found - frechet_floor(features(TEST), 10)) > 1


def test_fid_is_of_the_samples_and_the_test_images_and_takes_the_distances_place(monkeypatch):
    asked = []
    fields = {"frechet_distance": 5.0, "frechet_floor": 0.5, "frechet_features": "inception-2048"}
    monkeypatch.setattr(measuring, "fid", lambda *images: asked.append(images) or fields)
    judged = measures(SAMPLES, DATA, "inception").row
    assert all(judged[name] == value for name, value in fields.items())
    assert "non_sensitive_rate" in judged
    assert judged["judge_floor"] != 0.5
    unjudged = measures(SAMPLES, replace(DATA, judge=None), "inception")
    assert unjudged.row == {"n_samples": 9, **fields}
    assert not unjudged.sensitive.any()
    assert all(samples is SAMPLES and real is TEST for samples, real in asked)
    assert len(asked) == 2
    assert measures(SAMPLES, replace(DATA, judge=None, test=TEST[:1]), "inception").row == {"n_samples": 9}


def test_without_a_judge_there_is_no_rate():
    with pytest.raises(UserError, match="without normal test images there is no judge"):
        measure(DATA.judge.look(SAMPLES), replace(DATA, judge=None))
