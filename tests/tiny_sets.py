"""The data sets that cannot be had here, in their true formats on disk and at a tiny size."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, STL10, CelebA

from pudm_lite.splits import CLASSES

EACH = 4  # images of a file of CIFAR10 or STL10
LETTERS = {"train": "0", "valid": "1", "test": "2"}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Pickled batches of the python version: rows of 3,072 bytes, all red, all green, all blue, each row by row.

    Returns the images by file, (4, 3, 32, 32).
    """
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = {}
    for k, name in enumerate(["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]):
        images[name] = rng.integers(0, 256, (EACH, 3, 32, 32), dtype=np.uint8)
        batch = {"batch_label": name, "labels": [(k + i) % 10 for i in range(EACH)]}
        (folder / name).write_bytes(pickle.dumps(batch | {"data": images[name].reshape(EACH, -1)}, protocol=2))
    images["test_batch"] = rng.integers(0, 256, (EACH, 3, 32, 32), dtype=np.uint8)
    batch = {"labels": [9, 0, 6, 3], "data": images["test_batch"].reshape(EACH, -1)}
    (folder / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    names = {"label_names": [*CLASSES["cifar10"]], "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(names, protocol=2))
    parts = [[name, md5(folder / name)] for name in images]
    monkeypatch.setattr(CIFAR10, "train_list", parts[:5])
    monkeypatch.setattr(CIFAR10, "test_list", parts[5:])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5(folder / "batches.meta")})
    return images


def write_stl10(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Binary files: each colour of each image column by column; labels from 1.

    Returns the images of train and test, (4, 3, 96, 96) row by row.
    """
    folder = root / STL10.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    images = {}
    for part, labels in (("train", [1, 3, 10, 8]), ("test", [2, 2, 9, 1]), ("unlabeled", None)):
        images[part] = rng.integers(0, 256, (EACH, 3, 96, 96), dtype=np.uint8)
        images[part].transpose(0, 1, 3, 2).tofile(folder / f"{part}_X.bin")
        if labels:
            np.array(labels, dtype=np.uint8).tofile(folder / f"{part}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(CLASSES["stl10"]) + "\n")
    (folder / "fold_indices.txt").write_text("0 1 \n" * 10)
    for attribute in ("train_list", "test_list"):
        sums = [[name, md5(folder / name)] for name, _ in getattr(STL10, attribute)]
        monkeypatch.setattr(STL10, attribute, sums)
    return images


def write_celeba(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, bool]]:
    """JPEG files of 178 x 218 with the five text files. Returns (218 x 178 x 3 pixels, is male) by file."""
    folder = root / CelebA.base_folder
    (folder / "img_align_celeba").mkdir(parents=True)
    parts = ["train", "test", "train", "valid", "test", "train", "valid", "test"]
    male = [True, True, False, True, False, True, False, False]
    rng = np.random.default_rng(2)
    pictures = {}
    for k, is_male in enumerate(male):
        smooth = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((178, 218), Image.BICUBIC)
        path = folder / "img_align_celeba" / f"{k + 1:06d}.jpg"
        smooth.save(path, quality=95)
        pictures[path.name] = (np.array(Image.open(path)), is_male)
    # The true attribute file has forty columns, and pads its -1 and 1 with spaces.
    columns = {"5_o_Clock_Shadow": [-1] * 8, "Male": [1 if m else -1 for m in male], "Young": [1] * 8}
    attributes = [f"{len(male)}", " ".join(columns) + " "]
    attributes += [f"{name} {' '.join(f'{v[k]:2d}' for v in columns.values())}" for k, name in enumerate(pictures)]
    boxes = [f"{len(male)}", "image_id x_1 y_1 width height", *(f"{name}    95  71 226 313" for name in pictures)]
    marks = [f"{len(male)}", "lefteye_x lefteye_y", *(f"{name} 69  109" for name in pictures)]
    texts = {
        "list_attr_celeba.txt": attributes,
        "list_bbox_celeba.txt": boxes,
        "list_landmarks_align_celeba.txt": marks,
        "identity_CelebA.txt": [f"{name} {2880 + k}" for k, name in enumerate(pictures)],
        "list_eval_partition.txt": [f"{name} {LETTERS[part]}" for name, part in zip(pictures, parts, strict=True)],
    }
    for name, lines in texts.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    wanted = [(i, md5(folder / name) if name in texts else sum_, name) for i, sum_, name in CelebA.file_list]
    monkeypatch.setattr(CelebA, "file_list", wanted)
    return pictures
