"""One picture in two groups: found when it was saved again, resized or brightened; others are not taken for it."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pudm_lite.datasets import mnist, resize
from pudm_lite.sources.near import BITS, fields, hashes, near_pairs, shared


def scenes(n: int, seed: int = 0) -> torch.Tensor:
    """Made-up pictures, (n, 3, 32, 32) uint8: a few colours, blurred."""
    draws = np.random.default_rng(seed).integers(0, 256, (n, 12, 12, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC)) for one in draws]
    return torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2)


def saved_again(image: torch.Tensor) -> torch.Tensor:
    out = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(out, "JPEG", quality=90)
    return torch.from_numpy(np.array(Image.open(out))).permute(2, 0, 1)


def pairs(a: torch.Tensor, b: torch.Tensor) -> list[tuple[int, int]]:
    return list(near_pairs(hashes(a), hashes(b), fields(a), fields(b)))


@pytest.mark.parametrize(
    "change",
    [
        saved_again,
        lambda image: (image.float() * 0.8 + 20).byte(),
        lambda image: resize(resize(image[None], 24, 3), 32, 3)[0],
        lambda image: image.float().mean(0, keepdim=True).byte().expand(3, -1, -1),
    ],
    ids=["saved again", "retouched", "resized", "grey"],
)
def test_a_picture_is_found_after_a_change_that_leaves_it_the_same(change):
    here = scenes(40)
    there = torch.cat([scenes(30, 1), torch.stack([change(here[k]) for k in (3, 17)])])
    assert pairs(there, here) == [(30, 3), (31, 17)]


def test_other_pictures_are_not_taken_for_it():
    assert pairs(scenes(300), scenes(300, 1)) == []
    digits = mnist(train=True)
    eights = digits.images[digits.labels == 8][:200]
    assert pairs(eights[:100], eights[100:]) == []  # though many hashes of one digit are alike
    assert ((hashes(eights[:100])[:, None] != hashes(eights[100:])).sum(-1) <= BITS).sum() > 10


def test_a_picture_counts_once_and_flat_ones_are_no_trouble():
    here = scenes(5)
    assert pairs(here[:1], here[[0, 0, 1]]) == [(0, 0)]
    flat = torch.zeros(3, 1, 32, 32, dtype=torch.uint8)
    assert pairs(flat, flat) == []  # nothing tells them from any other
    assert pairs(flat[:0], flat) == []


def test_groups_that_share_pictures_are_named_and_counted():
    here = scenes(6)
    groups = {"u": here[:4], "s": torch.stack([here[0], saved_again(here[1]), here[5]]), "test": here[:0]}
    files = {name: [Path(f"{name}/{k}.jpg") for k in range(len(images))] for name, images in groups.items()}
    digests = {path: str(path) for of_one in files.values() for path in of_one} | {Path("s/0.jpg"): "u/0.jpg"}
    assert shared(groups, files, digests, {"u": "unlabeled", "s": "sensitive", "test": "normal test"}) == [
        "1 of the 3 sensitive images are also among the unlabeled images",
        "1 of the 3 sensitive images are nearly the same picture as one of the unlabeled images: s/1.jpg and u/1.jpg",
    ]


def test_fields_are_means_over_the_whole_picture():
    images = torch.randint(0, 256, (2, 3, 32, 48), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    means = images.float().mean(1).view(2, 16, 2, 16, 3).mean((2, 4)).flatten(1)
    means = means - means.mean(1, keepdim=True)
    torch.testing.assert_close(fields(images), means / means.norm(dim=1, keepdim=True))


def test_among_more_pictures_than_are_looked_at_in_one_go_each_keeps_its_number():
    prints = np.random.default_rng(0).integers(0, 2, (1200, 64)).astype(bool)
    grey = torch.nn.functional.normalize(torch.randn(1200, 256, generator=torch.Generator().manual_seed(0)))
    assert list(near_pairs(prints, prints[[1100, 7]], grey, grey[[1100, 7]])) == [(7, 1), (1100, 0)]
