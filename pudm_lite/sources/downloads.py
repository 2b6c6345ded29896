"""Downloads that resume, land whole or not at all, and are checked before they land."""

import hashlib
import os
import shutil
import tempfile
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError

from ..datasets import cache_folder
from ..errors import UserError
from .weights import PUBLISHED

DOWNLOADS = ("cifar10", "stl10", "celeba", *PUBLISHED)
CHUNK = 1 << 20  # bytes


def checksum(path: Path, kind: str) -> str:
    """The hexadecimal sum of a file. kind: "sha256", or "md5", which is all that torchvision records."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def is_page(path: Path) -> bool:
    """Whether a file is an HTML page: what a server sends in place of a file that it refuses."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html"))


def weights_urls() -> dict[str, str]:
    """Addresses of the weights of others, as torchvision and pytorch-fid record them."""
    from pytorch_fid.inception import FID_WEIGHTS_URL
    from torchvision.models import ResNet34_Weights

    return {"resnet34": ResNet34_Weights.IMAGENET1K_V1.url, "inception": FID_WEIGHTS_URL}


def download(name: str) -> None:
    """Fetch one of DOWNLOADS to where it is looked for; a download that broke off goes on.

    Raises UserError for another name, a server that refuses, a file with another sum, a full disk; and for CelebA,
    where Google Drive gives no file, with what to fetch by hand.
    """
    if name not in DOWNLOADS:
        raise UserError(f"{name} is not downloaded; what is: {', '.join(DOWNLOADS)}")
    if weights := PUBLISHED.get(name):
        fetch(weights_urls()[name], weights.path, "sha256", weights.digits)
        return
    from torchvision.datasets import CIFAR10, STL10, CelebA

    root = cache_folder() / "datasets"
    if name == "celeba":
        _celeba(root / CelebA.base_folder)
        return
    found = {"cifar10": CIFAR10, "stl10": STL10}[name]
    archive = root / found.filename
    fetch(found.url, archive, "md5", found.tgz_md5)
    unpack(archive, root / found.base_folder)
    archive.unlink()


def fetch(url: str, target: Path, kind: str, wanted: str) -> None:
    """Download `url` to `target`, through TARGET.part: it stays when the download breaks off; the next call goes on.

    wanted: the sum, or its first digits, of the given kind. Nothing lands under another sum. Shows a progress bar.
    Raises UserError.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _go_on(url, part)
        if not (got := checksum(part, kind)).startswith(wanted):
            what = "is an HTML page" if is_page(part) else f"has the {kind} {got}, not {wanted}"
            part.unlink()
            raise UserError(f"what {url} sent {what}, and was deleted: try again later, or put the file at {target}")
        os.replace(part, target)
    except OSError as error:  # of the disk: those of the network are sentences by now
        raise _disk(target.parent, error) from None


def unpack(archive: Path, target: Path) -> None:
    """Unpack an archive that holds one folder, named like `target`, to `target`: whole or not at all.

    Raises UserError when the disk is full.
    """
    from torchvision.datasets.utils import extract_archive

    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as fresh:
            extract_archive(str(archive), fresh)
            if target.exists():
                shutil.rmtree(target)
            os.replace(Path(fresh) / target.name, target)
    except OSError as error:
        raise _disk(target.parent, error) from None


def _go_on(url: str, part: Path) -> None:
    """Append to `part` what it lacks of `url`; start anew where the server sends no ranges."""
    from tqdm.auto import tqdm

    there = part.stat().st_size if part.exists() else 0
    answer = _open(url, there)
    if answer is None:
        return
    with answer:
        if "text/html" in answer.headers.get("Content-Type", ""):
            raise UserError(f"{url} sent an HTML page in place of the file: try again later, or fetch it in a browser")
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
            there = 0
        total = there + int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
        bar = tqdm(desc=part.stem, total=total, initial=there, unit="B", unit_scale=True)
        with bar, part.open("ab" if there else "wb") as file:
            while chunk := _read(answer):
                file.write(chunk)
                bar.update(len(chunk))
            there = file.tell()
    if total is not None and there < total:
        raise UserError(
            f"the download of {url} broke off after {there:,} of {total:,} bytes: run the same command again to go on"
        )


def _open(url: str, there: int) -> HTTPResponse | None:
    """The answer to a request from byte `there` on; None when the server says that there are no more."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        return urllib.request.urlopen(request, timeout=60)
    except HTTPError as error:
        if there and error.code == 416:
            return None
        raise UserError(f"{url} is refused ({error.code} {error.reason}): try again later") from None
    except (OSError, HTTPException) as error:
        raise UserError(f"{url} cannot be reached ({error}): look at the network, then try again") from None


def _read(answer: HTTPResponse) -> bytes:
    """The next bytes; none when the connection is lost, which the caller sees by their number."""
    try:
        return answer.read(CHUNK)
    except (OSError, HTTPException):
        return b""


def _disk(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write to {folder} ({error.strerror or error}): make room there, or let PUDM_CACHE (data sets) or "
        "TORCH_HOME (weights) name another folder"
    )


CELEBA_IMAGES = 202_599
CELEBA_BY_HAND = (
    "from the folders Img, Anno and Eval that https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html links to, put {names} "
    "into {folder}; then `pudm data download celeba` checks and unpacks them"
)


def celeba_images(folder: Path) -> int:
    """How many images of the aligned CelebA are unpacked in `folder`; all are CELEBA_IMAGES."""
    return sum(1 for entry in os.scandir(folder) if entry.name.endswith(".jpg")) if folder.is_dir() else 0


def _celeba(folder: Path) -> None:
    """What lacks of CelebA, from Google Drive through torchvision where that works; then the images are unpacked."""
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import check_integrity, download_file_from_google_drive

    images = folder / "img_align_celeba"
    lacking = [
        (file_id, md5, name)
        for file_id, md5, name in CelebA.file_list
        if not check_integrity(folder / name, md5)
        and not (name == f"{images.name}.zip" and celeba_images(images) == CELEBA_IMAGES)
    ]
    for at, (file_id, md5, name) in enumerate(lacking):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as fresh:
            try:
                download_file_from_google_drive(file_id, fresh, name, md5)
                os.replace(Path(fresh) / name, folder / name)
            except Exception as error:  # gdown has exceptions of its own
                got = Path(fresh) / name
                reason = "it sent an HTML page, as it does over quota" if got.is_file() and is_page(got) else error
                names = ", ".join(left for _, _, left in lacking[at:])
                by_hand = CELEBA_BY_HAND.format(names=names, folder=folder)
                raise UserError(f"Google Drive gave no file of CelebA ({reason}): {by_hand}") from None
    if celeba_images(images) != CELEBA_IMAGES:
        unpack(folder / f"{images.name}.zip", images)
