"""The course's tiny pipeline, for tests that are skipped where Transformers is not installed."""

from pathlib import Path

import pytest

from pudm_lite.course import tiny_stable


def tiny_pipeline(folder: Path, **settings):
    """`tiny_stable.tiny_pipeline`."""
    pytest.importorskip("transformers")
    return tiny_stable.tiny_pipeline(folder, **settings)


def saved(folder: Path, **settings) -> Path:
    """`tiny_stable.saved`."""
    pytest.importorskip("transformers")
    return tiny_stable.saved(folder, **settings)
