"""beta estimated before a run: once for a data set and seed, inside its range, kept, and said with its interval."""

from types import SimpleNamespace

import pytest
import torch

from pudm_lite.runs import estimating
from pudm_lite.runs.estimating import estimated, sentence
from pudm_lite.runs.experiments import experiment


@pytest.fixture
def estimates(monkeypatch):
    """Stand-ins for the data and the estimate; returns the seeds that were estimated, and the images they were of."""
    seen = []

    def material(exp):
        split = SimpleNamespace(u=torch.tensor([0, 2]), s=torch.tensor([1]))
        return SimpleNamespace(train=torch.arange(3) + 10 * exp.train.seed, split=split)

    def estimate_beta(u, s, seed):
        seen.append((u.tolist(), s.tolist(), seed))
        beta = [0.12346, 1.0, 0.0][seed]
        return SimpleNamespace(best_bin=SimpleNamespace(beta=beta), z_u=f"u{seed}", z_s=f"s{seed}")

    def beta_interval(z_u, z_s, seed):
        assert (z_u, z_s) == (f"u{seed}", f"s{seed}")
        return 0.05, 0.25001 if seed else 1.0

    monkeypatch.setattr(estimating, "material", material)
    monkeypatch.setattr(estimating, "estimate_beta", estimate_beta)
    monkeypatch.setattr(estimating, "beta_interval", beta_interval)
    return seen


def test_beta_is_estimated_once_a_seed_from_u_and_s_and_kept_inside_its_range(tmp_path, estimates):
    named = [experiment("mnist-even", m, seed=seed) for seed in range(3) for m in ("unsupervised", "nnpu", "abspu")]
    for _ in range(2):  # the second time, from plan.json
        found = estimated(named, tmp_path)
    assert estimates == [([0, 2], [1], 0), ([10, 12], [11], 1), ([20, 22], [21], 2)]
    assert [(e.method, e.train.seed) for e in found] == [(e.method, e.train.seed) for e in named]
    betas, intervals = [0.1235, 0.999, 0.001], [(0.05, 0.999), (0.05, 0.25), (0.05, 0.25)]
    for exp in found:
        acts = exp.method != "unsupervised"
        assert exp.train.beta == (betas[exp.train.seed] if acts else 0.1)
        assert exp.beta_interval == (intervals[exp.train.seed] if acts else None)


def test_what_beta_does_not_act_on_needs_no_estimate(tmp_path, estimates):
    assert estimated([experiment("mnist-even", "supervised")], tmp_path)[0].beta_interval is None
    assert estimates == []


def test_it_is_said_with_its_interval(tmp_path, estimates):
    (found,) = estimated([experiment("mnist-even", "nnpu", seed=0)], tmp_path)
    assert sentence(found).startswith("beta of mnist-even, seed 0: estimated as 0.123 [0.050, 0.999] (95 %, bootstrap")
