"""An album: images of one's own, packed, with what each is for. A run names it by its file, and needs nothing else."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..files import array_shapes, write_whole
from ..measures.judge import read_judge
from ..sources.packs import unpack
from ..splits import Configuration, Split, positive_unlabeled_split
from .materials import Material

FOLDERS, CLASSES = "folders", "classes"
ROLES = ("normal", "sensitive")
"""The classes of an album's judge."""


@dataclass(frozen=True)
class Album:
    """What own-DIGEST.json says; the files that it names lie beside it.

    title: what a row calls the images. pack: of `sources.packs`. judge: a judge's file, "" where there is none.
    normal, sensitive: classes, of which U, S and the test set are drawn by seed; or empty, and then the pack has the
        groups `u`, `s` and `test`, and nobody knows what in U is sensitive.
    u_normal, u_sensitive, s: how many images are drawn for U, of each kind, and for S.
    """

    title: str
    pack: str
    judge: str = ""
    normal: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    u_normal: int = 0
    u_sensitive: int = 0
    s: int = 0

    @property
    def name(self) -> str:
        """What the data of a run are called: another name for other images, roles or sizes."""
        text = json.dumps(asdict(self) | {"judge": ""}, sort_keys=True)
        return f"own-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def write(self, folder: Path) -> Path:
        """Write folder/NAME.json; returns it."""
        path = folder / f"{self.name}.json"
        write_whole(path, lambda temporary: temporary.write_text(json.dumps(asdict(self), indent=1)))
        return path


def read_album(path: Path) -> Album:
    """Raises UserError where the file is missing or damaged."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        values: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in told.items()}
        album = Album(**values)
    except (OSError, ValueError, TypeError, AttributeError):
        raise UserError(f"{path} is missing, or no album of images: name their folders again") from None
    if album.name != path.stem:
        raise UserError(f"{path} was changed, or renamed: name the folders of the images again")
    return album


def is_album(name: str) -> bool:
    """Whether a run's data are named by the file of an album."""
    return name.endswith(".json")


def album_configuration(path: Path) -> Configuration:
    """Sizes and classes of an album. Of folders all of U count as normal: nobody knows better."""
    album = read_album(path)
    shapes = array_shapes(path.parent / album.pack)
    channels, size = next(iter(shapes[name] for name in shapes if name != "about"))[1:3]
    if not album.normal:
        u, s, test = (shapes[name][0] for name in ("u", "s", "test"))
        return Configuration(FOLDERS, size, ("normal",), ("sensitive",), u, 0, s, test, channels, album.title)
    test = sum(shapes[f"test/{name}"][0] for name in album.normal)
    counts = (album.u_normal, album.u_sensitive, album.s, test)
    return Configuration(CLASSES, size, album.normal, album.sensitive, *counts, channels, album.title)


def album_material(path: Path, configuration: Configuration, seed: int) -> Material:
    """The images of an album, split by seed where their classes are known, and their judge where there is one."""
    album = read_album(path)
    pack = path.parent / album.pack
    judge = read_judge(path.parent / album.judge) if album.judge else None
    if not album.normal:
        u, s, test = unpack(pack, "u", "s", "test").values()
        split = Split(
            u=torch.arange(len(u)),
            u_sensitive=torch.zeros(len(u), dtype=torch.bool),
            s=len(u) + torch.arange(len(s)),
            n=torch.zeros(0, dtype=torch.long),
            test=torch.arange(len(test)),
        )
        return Material(configuration, split, torch.cat([u, s]), test, judge)
    train, labels = by_role(pack, "train", album)
    test, test_labels = by_role(pack, "test", album)
    roles = replace(configuration, normal=ROLES[:1], sensitive=ROLES[1:])
    split = positive_unlabeled_split(labels, test_labels, ROLES, roles, seed)
    return Material(roles, split, train, test[split.test], judge)


def by_role(pack: Path, part: str, album: Album) -> tuple[Tensor, Tensor]:
    """The images of `train` or `test` of an album of classes, (N, C, S, S) uint8, and (N,) indices into ROLES."""
    groups = [(f"{part}/{name}", role) for role, names in enumerate((album.normal, album.sensitive)) for name in names]
    images = unpack(pack, *(name for name, _ in groups))
    labels = [torch.full((len(images[name]),), role) for name, role in groups]
    return torch.cat(list(images.values())), torch.cat(labels)
