"""Pictures that are in two groups: the same file, or nearly the same picture, saved again, resized or retouched."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from tqdm.auto import tqdm

BITS = 6
"""Two pictures may be nearly the same where at most so many of the 64 bits of their perceptual hashes differ,"""
ALIKE = 0.98
"""and are where their grey values, over 16 x 16 fields, also correlate so much: hashes alone take one digit's strokes
for another's."""


def hashes(pixels: Tensor) -> NDArray[np.bool_]:
    """The perceptual hash of each image (imagehash's phash: signs of low frequencies). Returns (N, 64)."""
    from imagehash import phash
    from PIL import Image

    bar = tqdm(pixels, "looking for duplicates", unit="image", delay=1, leave=False)
    grey = (image.float().mean(0).round().byte().numpy() for image in bar)
    return np.array([phash(Image.fromarray(image)).hash.ravel() for image in grey], bool).reshape(-1, 64)


def fields(pixels: Tensor) -> Tensor:
    """Grey values over 16 x 16 fields, of mean 0 and length 1. Returns (N, 256) float32."""
    parts = pixels.split(1000)  # a bound on the memory between
    grey = torch.cat([adaptive_avg_pool2d(part.float().mean(1, keepdim=True), 16).flatten(1) for part in parts])
    grey = grey - grey.mean(1, keepdim=True)
    return grey / grey.norm(dim=1, keepdim=True).clamp(min=1e-6)


def near_pairs(a: NDArray[np.bool_], b: NDArray[np.bool_], fields_a: Tensor, fields_b: Tensor) -> Iterator[tuple]:
    """(i, j) of each image i of one group that is nearly image j of another, once for every i. See BITS and ALIKE."""
    signs = torch.from_numpy(b).float() * 2 - 1
    for k, part in enumerate(torch.from_numpy(a).split(1000)):
        first = 1000 * k
        apart = (64 - (part.float() * 2 - 1) @ signs.T) / 2  # (<= 1000, len(b)) bits that differ
        seen = set()
        for i, j in (apart <= BITS).nonzero().tolist():
            if first + i not in seen and float(fields_a[first + i] @ fields_b[j]) >= ALIKE:
                seen.add(first + i)
                yield first + i, j


SHOWN = 3


def shared(
    pixels: dict[str, Tensor], files: dict[str, list[Path]], digests: dict[Path, str], words: dict[str, str]
) -> list[str]:
    """A sentence for each two groups that share images: how many by their content, how many nearly, and which.

    digests: of each file's content. words: what a group is called.
    """
    prints = {name: (hashes(images), fields(images)) for name, images in pixels.items()}
    sentences = []
    for one, other in combinations(pixels, 2):
        contents = {digests[path] for path in files[one]}
        same = [path for path in files[other] if digests[path] in contents]
        if same:
            sentences.append(
                f"{len({digests[path] for path in same})} of the {len(files[other])} {words[other]} images are also "
                f"among the {words[one]} images"
            )
        (hash_o, field_o), (hash_1, field_1) = prints[other], prints[one]
        pairs = [
            (files[other][i], files[one][j])
            for i, j in near_pairs(hash_o, hash_1, field_o, field_1)
            if digests[files[other][i]] not in contents
        ]
        if pairs:
            shown = ", ".join(f"{ours} and {theirs}" for ours, theirs in pairs[:SHOWN])
            sentences.append(
                f"{len(pairs)} of the {len(files[other])} {words[other]} images are nearly the same picture as one of "
                f"the {words[one]} images: {shown}{', ...' if len(pairs) > SHOWN else ''}"
            )
    return sentences
