"""What a method sees of a batch, and what its sums are divided by: the bias of pooled batches, by enumeration."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from pudm_lite.draws import Batch, draw_batch
from pudm_lite.groups import Groups
from pudm_lite.risks import METHODS, risk
from pudm_lite.settings import TrainConfig
from pudm_lite.splits import Split

N_U, N_S, SIZE = 6, 2, 3
SPLIT = Split(
    u=torch.arange(N_U),
    u_sensitive=torch.tensor([False, False, True, False, True, False]),
    s=N_U + torch.arange(N_S),
    n=torch.tensor([0, 3]),
    test=torch.arange(0),
)
ELL = torch.tensor([0.3, 1.2, 2.0, 0.7, 0.9, 1.6, 0.8, 2.4], dtype=torch.float64)
CONFIG = TrainConfig(batch_size=SIZE, beta=0.2)


def batches():
    """Every pooled batch of SIZE images that there is, each as likely as the others."""
    for chosen in combinations(range(N_U + N_S), SIZE):
        pool = torch.tensor(chosen)
        yield Batch(pool[pool < N_U], pool[pool >= N_U] - N_U)


def terms_of(config, batch):
    groups = Groups(config, SPLIT)
    rows = torch.arange(len(batch.u) + len(batch.s))
    ell = ELL[torch.cat([batch.u, N_U + batch.s])]
    vectors = [ell[at] for at in groups.of(batch, rows)]
    return risk(config.method, *vectors, config.beta, groups.sizes(batch)).terms


def over_the_data(method):
    """The terms with every group whole."""
    return terms_of(replace(CONFIG, method=method), Batch(torch.arange(N_U), torch.arange(N_S)))


LINEAR = {"L_S_plus", "L_U_minus", "L_S_minus", "L_N_minus", "normal_risk"}


@pytest.mark.parametrize("method", METHODS)
def test_expected_sizes_are_unbiased_over_all_batches_there_are(method):
    config = replace(CONFIG, method=method, group_sizes="expected")
    found = [terms_of(config, batch) for batch in batches()]
    for name, wanted in over_the_data(method).items():
        if name in LINEAR:
            assert float(sum(terms[name] for terms in found) / len(found)) == pytest.approx(float(wanted), rel=1e-9)


def test_realised_sizes_weigh_s_by_the_share_of_batches_that_hold_any():
    """C(6, 3) of the C(8, 3) batches hold no image of S: E[L_S] is 1 - 20/56 of what it should be."""
    found = [terms_of(replace(CONFIG, method="nnpu"), batch) for batch in batches()]
    mean = float(sum(terms["L_S_minus"] for terms in found) / len(found))
    assert len(found) == 56
    assert mean == pytest.approx((1 - 20 / 56) * float(over_the_data("nnpu")["L_S_minus"]), rel=1e-9)


def test_expected_sizes_of_two_streams_are_the_sizes_there_are():
    for method in METHODS:
        config = replace(CONFIG, method=method, stream="two", s_per_batch=1, group_sizes="expected")
        whole = Groups(config, SPLIT).sizes(Batch(torch.tensor([0, 2]), torch.tensor([1])))
        assert (whole.n_u, whole.n_s) == pytest.approx((2, 1 + (2 * 2 / 6 if method == "pn" else 0)))
        assert whole.n_n == pytest.approx({"pn": 2 * 4 / 6, "pnu": 2 * 2 / 6}.get(method, 0))


def test_pn_is_told_of_us_sensitive_images_and_pnu_of_the_revealed_normal_ones():
    batch = Batch(torch.tensor([3, 2, 5, 0]), torch.tensor([1]))
    rows = torch.tensor([0, 1, 2, 3, 4])
    seen = {m: [at.tolist() for at in Groups(replace(CONFIG, method=m), SPLIT).of(batch, rows)] for m in METHODS}
    assert seen["pn"] == [[0, 1, 2, 3], [1, 4], [0, 2, 3]]
    assert seen["pnu"] == [[0, 1, 2, 3], [4], [0, 3]]
    assert all(seen[m] == [[0, 1, 2, 3], [4], []] for m in METHODS if m not in ("pn", "pnu"))
    some = Groups(replace(CONFIG, method="pn"), SPLIT).of(batch, torch.tensor([1, 4]))
    assert [at.tolist() for at in some] == [[0], [0, 1], []]


def test_the_expected_share_of_s_is_that_of_drawn_batches():
    config = replace(CONFIG, batch_size=16, group_sizes="expected")
    split = replace(SPLIT, u=torch.arange(90), u_sensitive=torch.zeros(90, dtype=torch.bool), s=torch.arange(10))
    drawn = [len(draw_batch("pooled", 90, 10, 16, 6, 0, step).s) for step in range(1000)]
    whole = Groups(config, split).sizes(Batch(torch.arange(16), torch.arange(0)))
    assert whole.n_s == pytest.approx(1.6)
    assert sum(drawn) / 1000 == pytest.approx(1.6, abs=0.1)
