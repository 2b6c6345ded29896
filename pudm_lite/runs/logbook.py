"""How runs go on, for TensorBoard: curves, the strips drawn on the way, and what was measured at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import UserError
from .parallel import Hear

MEASURES = ("non_sensitive_rate", "frechet_distance")


@contextmanager
def beside(hear: Hear, folder: Path | None) -> Iterator[Hear]:
    """While entered, what is heard of runs goes into TensorBoard's files as well, folder/NAME; nowhere for None.

    Raises UserError where tensorboard is not installed.
    """
    if folder is None:
        yield hear
        return
    writer = writer_class()
    writers: dict[str, Any] = {}

    def noted(name: str, what: str, value: Any) -> None:
        if what == "step":
            if name not in writers:  # a run that was cut off goes on from its checkpoint: what came after it goes
                writers[name] = writer(folder / name, purge_step=value.step)
            for term, number in {"risk": value.value, **value.terms}.items():
                writers[name].add_scalar(f"training/{term}", number, value.step)
        elif name in writers and what == "strip":
            writers[name].add_image("samples", _pixels(value), int(value.stem.partition("_")[2]), dataformats="HWC")
        elif name in writers and what == "done" and value:
            for measure in MEASURES:
                if measure in value:
                    writers[name].add_scalar(f"samples/{measure}", value[measure], value["steps"])
            writers.pop(name).close()
        hear(name, what, value)

    try:
        yield noted
    finally:
        for left in writers.values():
            left.close()


def writer_class() -> Any:
    """PyTorch's own. Raises UserError where tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("--log-to needs tensorboard: install it with pip install 'pudm_lite[log]'") from None
    return SummaryWriter


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))
