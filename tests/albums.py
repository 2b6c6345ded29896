"""Albums of made-up images, as `pudm_lite.runs.own_images` writes them, and folders of digits to make some from."""

from pathlib import Path

import torch
from PIL import Image

from pudm_lite.datasets import source
from pudm_lite.files import write_arrays
from pudm_lite.runs.albums import Album


def pixels(n: int, seed: int, channels: int = 1) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, 16, 16), generator=draws, dtype=torch.uint8)


def folders_album(to: Path, u: int = 12, s: int = 4, test: int = 3, channels: int = 1, judge: str = "") -> Path:
    groups = {"u": pixels(u, 1, channels), "s": pixels(s, 2, channels), "test": pixels(test, 3, channels)}
    write_arrays(to / "images-f.npz", **{name: images.numpy() for name, images in groups.items()})
    return Album("holiday", "images-f.npz", judge).write(to)


def classes_album(to: Path, judge: str = "", **sizes: int) -> Path:
    """Cats and cars are normal, dogs sensitive: 10, 6 and 12 images to train on, 3 of each to test with."""
    groups = {f"train/{name}": pixels(n, k) for k, (name, n) in enumerate({"cat": 10, "car": 6, "dog": 12}.items())}
    groups |= {f"test/{name}": pixels(3, 10 + k) for k, name in enumerate(("cat", "car", "dog"))}
    write_arrays(to / "images-c.npz", **{name: images.numpy() for name, images in groups.items()})
    sizes = {"u_normal": 16, "u_sensitive": 4, "s": 5} | sizes
    return Album("pets", "images-c.npz", judge, ("cat", "car"), ("dog",), **sizes).write(to)


def digit_files(root: Path) -> Path:
    """Zeros are normal, ones sensitive: three folders u (a tenth ones), s and test; and a tree of both by class."""
    digits = source("mnist", train=True)
    zeros, ones = ((digits.labels == d).nonzero().flatten() for d in (0, 1))
    groups = {"u": torch.cat([zeros[:40], ones[:4]]), "s": ones[10:40], "test": zeros[50:90]}
    groups |= {"tree/zero": zeros[100:160], "tree/one": ones[100:160]}
    for name, indices in groups.items():
        (root / name).mkdir(parents=True)
        for i, image in zip(indices.tolist(), digits.read(indices, 28, 1), strict=True):
            Image.fromarray(image[0].numpy()).save(root / name / f"{i}.png")
    return root
