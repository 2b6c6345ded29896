"""Downloads from a small server on this machine: whole, broken off, resumed, refused, wrong; and what is unpacked."""

import errno
import hashlib
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_sets import write_celeba, write_cifar10, write_stl10
from torchvision.datasets import CIFAR10, STL10, CelebA

from pudm_lite.datasets import source
from pudm_lite.errors import UserError
from pudm_lite.sources import downloads
from pudm_lite.sources.downloads import download, fetch, is_page
from pudm_lite.sources.weights import PUBLISHED, Published

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"\n<!DOCTYPE html><html><body>Quota exceeded</body></html>"


class Server(ThreadingHTTPServer):
    """Serves `content` under every path. breaks_after: bytes of one answer before the connection is closed."""

    content = CONTENT
    breaks_after: int | None = None
    ranges = True
    status = 200
    kind = "application/octet-stream"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/file.bin"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked, content = self.headers["Range"], self.server.content
        self.server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else self.server.status)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Type", self.server.kind)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.breaks_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "deep" / "file.bin"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# One file


def test_a_file_lands_whole(server, target):
    fetch(server.url, target, "sha256", SHA256[:8])
    assert target.read_bytes() == CONTENT
    assert files(target.parent) == ["file.bin"]
    assert server.asked == [None]


def test_a_download_that_breaks_off_is_gone_on_with(server, target):
    server.breaks_after = 300_000
    with pytest.raises(UserError, match="broke off after 300,000 of 1,024,000 bytes: run the same command again"):
        fetch(server.url, target, "sha256", SHA256)
    assert files(target.parent) == ["file.bin.part"]
    with pytest.raises(UserError, match="broke off after 600,000 of 1,024,000 bytes"):
        fetch(server.url, target, "sha256", SHA256)
    server.breaks_after = None
    fetch(server.url, target, "sha256", SHA256)
    assert target.read_bytes() == CONTENT
    assert files(target.parent) == ["file.bin"]
    assert server.asked == [None, "bytes=300000-", "bytes=600000-"]


def test_a_server_without_ranges_starts_anew(server, target):
    server.ranges = False
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(CONTENT[:1000])
    fetch(server.url, target, "sha256", SHA256)
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_whole_lands(server, target):
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(CONTENT)
    fetch(server.url, target, "sha256", SHA256)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_nothing_lands_under_another_sum(server, target, kind):
    target.parent.mkdir()
    target.write_text("what was there")
    got = hashlib.new(kind, CONTENT).hexdigest()
    with pytest.raises(UserError, match=f"has the {kind} {got}, not 0123, and was deleted: try again later"):
        fetch(server.url, target, kind, "0123")
    assert target.read_text() == "what was there"
    assert files(target.parent) == ["file.bin"]


def test_a_page_in_place_of_the_file_is_recognised(server, target):
    """By its type before anything that was fetched is lost; and by its content where the server gives no type."""
    target.parent.mkdir()
    part = target.with_name("file.bin.part")
    part.write_bytes(CONTENT[:1000])
    server.content, server.kind, server.ranges = PAGE, "text/html; charset=utf-8", False
    with pytest.raises(UserError, match=r"file\.bin sent an HTML page in place of the file"):
        fetch(server.url, target, "sha256", SHA256)
    assert part.read_bytes() == CONTENT[:1000]
    server.kind = "application/octet-stream"
    with pytest.raises(UserError, match="is an HTML page, and was deleted"):
        fetch(server.url, target, "sha256", SHA256)
    assert files(target.parent) == []


def test_a_refusal_and_a_dead_address_are_one_sentence(server, target):
    server.status = 403
    with pytest.raises(UserError, match=r"file\.bin is refused \(403 Forbidden\): try again later"):
        fetch(server.url, target, "sha256", SHA256)
    with pytest.raises(UserError, match="cannot be reached"):
        fetch("http://127.0.0.1:9/x", target, "sha256", SHA256)
    assert files(target.parent) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_full_disk_leaves_what_was_there(server, target):
    target.parent.mkdir()
    target.write_text("what was there")
    target.with_name("file.bin.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write to .*deep \(No space left on device\): make room there"):
        fetch(server.url, target, "sha256", SHA256)
    assert target.read_text() == "what was there"


@pytest.mark.parametrize(
    ("content", "page"),
    [(PAGE, True), (b"<HTML>", True), (b"PK\x03\x04", False), (b"", False), (b"1 <html> 2", False)],
)
def test_pages_are_known_by_their_start(tmp_path, content, page):
    (tmp_path / "f").write_bytes(content)
    assert is_page(tmp_path / "f") is page


# By name


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PUDM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "datasets"


@pytest.mark.parametrize(
    ("name", "found", "write"), [("cifar10", CIFAR10, write_cifar10), ("stl10", STL10, write_stl10)]
)
def test_a_set_is_fetched_unpacked_and_read(server, cache, tmp_path, monkeypatch, name, found, write):
    write(tmp_path / "made", monkeypatch)
    with tarfile.open(tmp_path / "made.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made" / found.base_folder, found.base_folder)
    server.content = (tmp_path / "made.tar.gz").read_bytes()
    monkeypatch.setattr(found, "url", server.url)
    monkeypatch.setattr(found, "tgz_md5", hashlib.md5(server.content).hexdigest())
    (cache / found.base_folder).mkdir(parents=True)
    (cache / found.base_folder / "stale").touch()  # of a set that was damaged
    download(name)
    assert len(source(name, train=True).labels) >= 4
    assert [path.name for path in cache.iterdir()] == [found.base_folder]
    assert not (cache / found.base_folder / "stale").exists()


@pytest.mark.parametrize("name", ["resnet34", "inception"])
def test_weights_land_where_torch_hub_looks(server, tmp_path, monkeypatch, name):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = f"{name}-{SHA256[:8]}.pth"
    monkeypatch.setattr(downloads, "weights_urls", lambda: {name: server.url})
    monkeypatch.setitem(PUBLISHED, name, Published(file, 0, "weights", name))
    download(name)
    assert (tmp_path / "checkpoints" / file).read_bytes() == CONTENT


def test_addresses_of_weights_hold_the_digits_of_their_sums():
    urls = downloads.weights_urls()
    assert urls.keys() == PUBLISHED.keys()
    for name, url in urls.items():
        assert url.endswith(f"/{PUBLISHED[name].file}")
    assert {name: weights.digits for name, weights in PUBLISHED.items()} == {
        "resnet34": "b627a593",
        "inception": "6726825d",
    }


def test_what_is_not_downloaded_is_refused():
    with pytest.raises(
        UserError, match="mnist is not downloaded; what is: cifar10, stl10, celeba, resnet34, inception"
    ):
        download("mnist")


# CelebA


@pytest.fixture
def celeba(cache, tmp_path, monkeypatch):
    """A tiny CelebA elsewhere, its images zipped; gdown as far as torchvision calls it."""
    write_celeba(tmp_path / "drive", monkeypatch)
    made = tmp_path / "drive" / "celeba"
    with zipfile.ZipFile(made / "img_align_celeba.zip", "w") as archive:
        for path in sorted((made / "img_align_celeba").iterdir()):
            archive.write(path, f"img_align_celeba/{path.name}")
    sums = {name: hashlib.md5((made / name).read_bytes()).hexdigest() for _, _, name in CelebA.file_list}
    monkeypatch.setattr(CelebA, "file_list", [(i, sums[name], name) for i, _, name in CelebA.file_list])
    monkeypatch.setattr(downloads, "CELEBA_IMAGES", 8)
    names = {i: name for i, _, name in CelebA.file_list}
    drive = SimpleNamespace(gives=lambda name: (made / name).read_bytes(), asked=[])

    def gdown_download(id: str, output: str, **_: object) -> None:
        drive.asked.append(names[id])
        Path(output).write_bytes(drive.gives(names[id]))

    monkeypatch.setitem(sys.modules, "gdown", SimpleNamespace(download=gdown_download))
    drive.made = made
    return drive


def test_celeba_is_fetched_unpacked_and_read(celeba, cache):
    download("celeba")
    assert source("celeba", train=True).read(torch.tensor([0]), 64, 3).shape == (1, 3, 64, 64)
    (cache / "celeba" / "img_align_celeba.zip").unlink()  # 1.4 GB that are no longer needed
    celeba.asked.clear()
    download("celeba")
    assert celeba.asked == []


def test_celeba_over_quota_says_what_to_put_where(celeba, cache):
    celeba.gives = lambda name: PAGE if name.endswith(".zip") else (celeba.made / name).read_bytes()
    with pytest.raises(UserError) as error:
        download("celeba")
    message = str(error.value)
    assert "it sent an HTML page, as it does over quota" in message
    assert f"put {', '.join(name for _, _, name in CelebA.file_list)} into {cache / 'celeba'}" in message
    assert files(cache) == []


def test_celeba_that_stops_half_way_asks_for_the_rest(celeba, cache):
    celeba.gives = lambda name: PAGE if name.startswith("list_land") else (celeba.made / name).read_bytes()
    with pytest.raises(UserError, match=r"put list_landmarks_align_celeba\.txt, list_eval_partition\.txt into"):
        download("celeba")
    assert len(files(cache)) == 4


def test_celeba_without_gdown_asks_only_for_what_lacks(celeba, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    (cache / "celeba").mkdir(parents=True)
    placed = [name for _, _, name in CelebA.file_list if name != "list_eval_partition.txt"]
    for name in placed:
        (cache / "celeba" / name).write_bytes((celeba.made / name).read_bytes())
    with pytest.raises(UserError, match=r"'gdown' is required.*: from the .*, put list_eval_partition\.txt into "):
        download("celeba")
    (cache / "celeba" / "list_eval_partition.txt").write_bytes((celeba.made / "list_eval_partition.txt").read_bytes())
    download("celeba")
    assert len(source("celeba", train=False).labels) == 3


def test_unpacking_on_a_full_disk_leaves_what_was_there(celeba, cache, monkeypatch):
    import torchvision.datasets.utils as theirs

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(theirs, "extract_archive", full)
    (cache / "celeba" / "img_align_celeba").mkdir(parents=True)
    (cache / "celeba" / "img_align_celeba" / "000001.jpg").touch()
    with pytest.raises(UserError, match="No space left on device"):
        download("celeba")
    assert sum(name.startswith("celeba/img_align_celeba/") for name in files(cache)) == 1
