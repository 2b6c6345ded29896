"""What a row says of samples: the judge's rate with its interval, and the Fréchet distance with its floor."""

from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..measures.inception import fid
from ..measures.judge import Verdict
from ..measures.metrics import corrected_rate, frechet_distance, frechet_floor, non_sensitive_rate
from .materials import Material

FEATURES = ("judge", "inception")
"""What a Fréchet distance can be measured on."""


def measure(verdict: Verdict, data: Material) -> dict[str, Any]:
    """The measures of a row, from what the judge says of the samples; the Fréchet distance is on the judge's features.

    Rates lie in [0, 1]; `rate_low` and `rate_high` are Wilson's interval at 95 %; distances are squared lengths in the
    space of the features.
    Raises UserError where the data have no judge.
    """
    judge, normal = data.judge, data.configuration.normal
    if judge is None:
        raise UserError("without normal test images there is no judge: name some with --normal-test")
    rate = non_sensitive_rate(judge.is_normal(verdict, normal).numpy())
    real = judge.look(data.test).features.numpy()
    kept, caught = judge.errors(normal)
    return {
        "n_samples": rate.n,
        "non_sensitive_rate": round(rate.rate, 5),
        "rate_low": round(rate.low, 5),
        "rate_high": round(rate.high, 5),
        "rate_corrected": round(corrected_rate(rate.rate, kept, caught), 5) if data.configuration.sensitive else None,
        "judge_accuracy": round(judge.accuracy, 5),
        "judge_confidence": round(float(verdict.confidence.mean()), 5),
        "frechet_distance": round(frechet_distance(verdict.features.numpy(), real), 5),
        "frechet_floor": round(frechet_floor(real, rate.n), 5),
        "frechet_features": f"judge-{judge.name}-{real.shape[1]}",
    }


def measures(
    samples: Tensor, data: Material, features: str, prompted: Tensor | None = None
) -> tuple[dict[str, Any], Tensor]:
    """The measures of a row, and which samples the judge calls sensitive, (n,) bool.

    samples: (n, C, H, W) uint8. features: one of FEATURES. prompted: (n,) int64, the classes that a
    conditional model was asked for: the row then says which share the judge calls by them, `prompted_rate`.

    Of images that have no judge nothing is measured but, with Inception's features, FID; none of them counts as
    sensitive then.
    """
    row: dict[str, Any] = {"n_samples": len(samples)}
    sensitive = torch.zeros(len(samples), dtype=torch.bool)
    if data.judge is not None:
        verdict = data.judge.look(samples)
        sensitive = ~data.judge.is_normal(verdict, data.configuration.normal)
        row = measure(verdict, data)
        if prompted is not None and data.judge.classes == data.classes:
            row["prompted_rate"] = round(float((verdict.classes == prompted).double().mean()), 5)
    if features == "inception" and len(data.test) > 1:
        row |= fid(samples, data.test)
    return row, sensitive
