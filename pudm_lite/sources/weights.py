"""Weights that other projects publish: where torch hub keeps them, and whether they are what their name says."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import UserError


@dataclass(frozen=True)
class Published:
    """A file whose name ends in the first eight hex digits of its sha256 (torch hub's convention)."""

    file: str
    megabytes: int
    what: str
    short: str  # as `pudm data download` knows it

    @property
    def path(self) -> Path:
        """Where its own library looks for it: $TORCH_HOME/hub/checkpoints.

        Raises UserError where there is no home folder, in which that would lie: torch hub would make one called ~.
        """
        hub = torch.hub.get_dir()
        if hub.startswith("~"):
            raise UserError("this user has no home folder: let TORCH_HOME name a folder for weights, or set HOME")
        return Path(hub) / "checkpoints" / self.file

    @property
    def digits(self) -> str:
        """The first hex digits of its sha256, which end its name."""
        return self.path.stem.rpartition("-")[2]

    def require(self, why: str, otherwise: str = "") -> None:
        """Raises UserError, from `why` to `otherwise`, when the file is missing or not the published one."""
        again = f"`pudm data download {self.short}`{otherwise}"
        if not self.path.is_file():
            raise UserError(
                f"{why} needs {self.what} {self.file} ({self.megabytes} MB) in {self.path.parent}: get it with {again}"
            )
        if not sha256_fits_name(self.path):
            raise UserError(
                f"{why} needs {self.what}, but {self.path} is damaged or another file "
                f"(its sha256 is not the one in its name): remove it and get it again with {again}"
            )


def sha256_fits_name(path: Path) -> bool:
    """Whether the file's sha256 begins with what its name ends in: NAME-6726825d.pth."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(path.stem.rpartition("-")[2])


INCEPTION = Published(
    "pt_inception-2015-12-05-6726825d.pth", 91, "the Inception weights of pytorch-fid", short="inception"
)
RESNET34 = Published("resnet34-b627a593.pth", 83, "torchvision's ImageNet weights", short="resnet34")
PUBLISHED = {weights.short: weights for weights in (RESNET34, INCEPTION)}
