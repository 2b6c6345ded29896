"""What a row says of samples: the judge's rate with its interval, and the Fréchet distance with its floor."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..measures.inception import fid
from ..measures.judge import Record, Verdict
from ..measures.metrics import (
    Rate,
    corrected_interval,
    corrected_rate,
    frechet_distance,
    frechet_floor,
    non_sensitive_rate,
)
from .materials import Material

FEATURES = ("judge", "inception")
"""What a Fréchet distance can be measured on."""


FAR = 20
"""A Fréchet distance of so many floors and more: images that no judge was made for, and whose rate says little."""


def worth_judging(row: dict[str, Any]) -> bool:
    """Whether the samples of a row are near enough to real images for the rate to mean something.

    Asked of those called normal (of all, where these are fewer than two), against the normal test images: sensitive
    ones among the samples are far from these however well they are drawn. True where nothing was measured.
    """
    distance = row.get("frechet_normal")
    return distance is None or distance < FAR * row["judge_floor"]


def measure(verdict: Verdict, data: Material) -> dict[str, Any]:
    """The measures of a row, from what the judge says of the samples; the Fréchet distance is on the judge's features.

    Rates lie in [0, 1]; `rate_low` and `rate_high` are Wilson's interval at 95 %, `rate_corrected_low` and `_high`
    that of the corrected rate (`metrics.corrected_interval`), which is None where the judge is no better than chance;
    distances are squared lengths in the space of the features. `judge_kept` and `judge_caught` are the shares of real
    normal images called normal, and of sensitive ones called sensitive. For `worth_judging`: `frechet_normal`, the
    distance of the samples called normal, and `judge_floor`.
    Raises UserError where the data have no judge.
    """
    judge, normal = data.judge, data.configuration.normal
    if judge is None:
        raise UserError("without normal test images there is no judge: name some with --normal-test")
    is_normal = judge.is_normal(verdict, normal).numpy()
    rate = non_sensitive_rate(is_normal)
    real, features = judge.look(data.test).features.numpy(), verdict.features.numpy()
    floor = frechet_floor(real, rate.n)
    record = judge.record(normal)
    return {
        "n_samples": rate.n,
        "non_sensitive_rate": round(rate.rate, 5),
        "rate_low": round(rate.low, 5),
        "rate_high": round(rate.high, 5),
        **(_corrected(rate, record) if data.configuration.sensitive else dict.fromkeys(CORRECTED)),
        "judge_accuracy": round(judge.accuracy, 5),
        "judge_kept": _rounded(record.kept_share),
        "judge_caught": _rounded(record.caught_share),
        "judge_confidence": round(float(verdict.confidence.mean()), 5),
        "frechet_distance": round(frechet_distance(features, real), 5),
        "frechet_floor": round(floor, 5),
        "frechet_features": f"judge-{judge.name}-{real.shape[1]}",
        "frechet_normal": round(frechet_distance(features[is_normal] if is_normal.sum() > 1 else features, real), 5),
        "judge_floor": round(floor, 5),
    }


CORRECTED = ("rate_corrected", "rate_corrected_low", "rate_corrected_high")


def _corrected(rate: Rate, record: Record) -> dict[str, float | None]:
    """The rate that a perfect judge would find, and its interval."""
    try:
        corrected = round(corrected_rate(rate.rate, record.kept_share, record.caught_share), 5)
    except ValueError:
        corrected = None
    counts = (round(rate.rate * rate.n), rate.n), (record.kept, record.normal), (record.caught, record.sensitive)
    low, high = corrected_interval(*counts)
    return dict(zip(CORRECTED, (corrected, round(low, 5), round(high, 5)), strict=True))


def _rounded(share: float) -> float | None:
    return None if math.isnan(share) else round(share, 5)


@dataclass(frozen=True)
class Measured:
    """The measures of a row, and by sample what the judge says: sensitive, (n,) bool; confidence, (n,) in (0, 1].

    Of images that have no judge none counts as sensitive, and confidence is 0.
    """

    row: dict[str, Any]
    sensitive: Tensor
    confidence: Tensor


def not_measured(data: Material, features: str) -> str:
    """What a row of these data lacks, in words; "" where it lacks nothing."""
    if data.judge is not None:
        return ""
    distance = "" if features == "inception" and len(data.test) > 1 else " and Fréchet distance"
    return f"non-sensitive rate{distance} (no judge)"


def measures(samples: Tensor, data: Material, features: str, prompted: Tensor | None = None) -> Measured:
    """Measure samples, (n, C, H, W) uint8. features: one of FEATURES. prompted: (n,) int64, the classes that a
    conditional model was asked for: the row then says which share the judge calls by them, `prompted_rate`.

    Of images that have no judge nothing is measured but, with Inception's features, FID.
    """
    n = len(samples)
    found = Measured({"n_samples": n}, torch.zeros(n, dtype=torch.bool), torch.zeros(n))
    if data.judge is not None:
        verdict = data.judge.look(samples)
        sensitive = ~data.judge.is_normal(verdict, data.configuration.normal)
        row = measure(verdict, data)
        if prompted is not None and data.judge.classes == data.classes:
            row["prompted_rate"] = round(float((verdict.classes == prompted).double().mean()), 5)
        found = Measured(row, sensitive, verdict.confidence)
    if features == "inception" and len(data.test) > 1:
        found.row.update(fid(samples, data.test))
    return found
