"""What `pudm evaluate` measures, and the arrays that its judge would misread."""

import json

import numpy as np
import pytest

from pudm_lite import cli
from pudm_lite.runs import measuring

DIGITS = np.random.default_rng(0).integers(0, 256, (4, 1, 28, 28), dtype=np.uint8)


@pytest.fixture
def evaluate(tmp_path, capsys, monkeypatch):
    """Its exit code, and what it said; the measuring itself is tested elsewhere."""
    seen = []

    def measures(images, data, features):
        seen.append(tuple(images.shape))
        return measuring.Measured({"n_samples": len(images)}, None, None)

    monkeypatch.setattr(measuring, "measures", measures)

    def run(images, *more):
        path = tmp_path / "a.npz"
        if images is not None:
            np.savez(path, images=images)
        code = cli.main(["evaluate", str(path), *more])
        said = capsys.readouterr()
        if code:
            assert said.out == ""
            assert not seen
            (line,) = said.err.splitlines()
            return line
        return json.loads(said.out)

    return run


@pytest.mark.parametrize(
    "images",
    [DIGITS, DIGITS.repeat(3, 1), np.pad(DIGITS, ((0, 0), (0, 0), (2, 2), (2, 2))), np.zeros((2, 3, 32, 32), np.uint8)],
    ids=lambda images: str(images.shape),
)
def test_what_the_networks_draw_is_measured(evaluate, images):
    assert evaluate(images) == {"n_samples": len(images)}


@pytest.mark.parametrize(
    "images",
    [
        (DIGITS / 255).astype(np.float32),
        DIGITS / 127.5 - 1,
        DIGITS > 127,
        DIGITS.astype(np.int64),
        DIGITS.astype(np.uint16),
        DIGITS.astype("S3"),
        DIGITS.transpose(0, 2, 3, 1),
        DIGITS[:, 0],
        DIGITS[0],
        DIGITS[None],
        np.uint8(3),
        DIGITS.repeat(2, 1),
        DIGITS.repeat(4, 1),
        DIGITS.repeat(2, 2).repeat(2, 3),
        DIGITS[:, :, 2:, 2:],
        DIGITS[:, :, :, 2:],
        DIGITS[:, :, :0, :0],
    ],
    ids=lambda images: f"{images.dtype} {images.shape}",
)
def test_what_the_judge_would_misread_is_refused(evaluate, images):
    assert evaluate(images).endswith(
        f"a.npz are {images.dtype} of shape {images.shape}; mnist-even is judged on uint8 of shape (n, 1 or 3, S, S), "
        "S = 28 or 32, as `pudm sample` writes them"
    )


def test_the_size_is_that_of_the_experiment(evaluate):
    assert "cifar10-animals is judged on uint8 of shape (n, 1 or 3, S, S), S = 32, as" in evaluate(
        DIGITS, "--experiment", "cifar10-animals"
    )


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(40)])
def test_a_file_that_is_no_archive_of_images(evaluate, tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    assert "is not an .npz file with an array `images`: write one with `pudm sample`" in evaluate(None)


def test_an_archive_of_other_things(evaluate, tmp_path):
    np.savez(tmp_path / "a.npz", pictures=DIGITS)
    assert "is not an .npz file with an array `images`" in evaluate(None)
    np.savez(tmp_path / "a.npz", images=np.array([{}, {}], dtype=object))
    assert "is not an .npz file with an array `images`" in evaluate(None)


def test_too_few(evaluate):
    assert "a.npz holds 1 images; at least 2 are needed" in evaluate(DIGITS[:1])
