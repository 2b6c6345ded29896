"""Captions of a folder's images: from a metadata.csv as Hugging Face's ImageFolder reads it, or from file names."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from ..datasets import fit
from ..errors import UserError
from .finding import LeftOut, image_files
from .pictures import read_picture

FILE = "metadata.csv"
COLUMNS = ("file_name", "text")


def captions_of(folder: Path, out: Path | None = None) -> tuple[dict[Path, str], list[LeftOut]]:
    """The caption of each image file below a folder, in the order of their paths, and what else lies there.

    A metadata.csv in the folder gives them, in its columns `file_name` (from the folder on) and `text`; where there is
    none, the files' names do: `a_photo_of-a-dog_012.jpg` is a photo of a dog. out: as `finding.image_files` takes it.
    Raises UserError for a folder without images, and for a metadata.csv that is damaged or lacks one of them.
    """
    files, left = image_files(folder, out)
    table = folder / FILE
    if not table.is_file():
        return {file: from_name(file) for file in files}, left
    texts = _read(table)
    if missing := [file for file in files if file.relative_to(folder).as_posix() not in texts]:
        raise UserError(
            f"{table} has no caption for {len(missing)} of {len(files)} images, such as "
            f"{missing[0].relative_to(folder).as_posix()}: give each a line, or remove the file to caption by names"
        )
    return {file: texts[file.relative_to(folder).as_posix()] for file in files}, [
        one for one in left if one.path != table
    ]


def from_name(file: Path) -> str:
    """A file's name as words, without the number that ends it."""
    words = re.sub(r"[\W_]+", " ", file.stem).strip()
    return re.sub(r" ?\d+$", "", words) if not words.isdigit() else ""


def _read(table: Path) -> dict[str, str]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                raise UserError(
                    f"{table} has no column {missing[0]!r}: its first line must name {' and '.join(COLUMNS)}"
                )
            return {row["file_name"]: row["text"] or "" for row in rows if row["file_name"]}
    except (OSError, UnicodeError, csv.Error) as error:
        raise UserError(f"{table} is not a CSV file in UTF-8 ({error})") from None


def pixels_of(files: list[Path], size: int, left: list[LeftOut], opened: list[Path]) -> Iterator[Tensor]:
    """(3, size, size) uint8 of each file that opens, one after another; the others join `left`, these `opened`."""
    for file in files:
        picture = read_picture(file, size)
        if isinstance(picture, LeftOut):
            left.append(picture)
        else:
            opened.append(file)
            yield fit(picture.pixels[None], size, 3)[0]
