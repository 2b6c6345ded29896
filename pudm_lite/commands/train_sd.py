"""`pudm train-sd`."""

import argparse
from pathlib import Path

from ..errors import UserError
from .given import seed, steps
from .options import DEFAULT_BETA, holds_models, refuse_idle, settings_of

HELP = "Fine-tune Stable Diffusion on captioned images, some of them sensitive (Eq. 20); changed tensors go to a file."
METHODS = ("abspu", "nnpu", "upu", "supervised", "unsupervised")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pipeline", required=True, metavar="MODEL", help="folder or hub name of a StableDiffusionPipeline"
    )
    captions = "captions from its metadata.csv (columns file_name, text), else from the files' names"
    parser.add_argument(
        "--unlabeled", type=Path, required=True, metavar="DIR", help=f"images, sensitive ones among them; {captions}"
    )
    parser.add_argument(
        "--sensitive", type=Path, required=True, metavar="DIR", help="sensitive images, captioned alike"
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="abspu",
        help="the risk: abspu takes |L_U - beta L_S|, as Section 3.2 advises for Stable Diffusion",
    )
    parser.add_argument(
        "--beta", type=float, default=DEFAULT_BETA, help="assumed sensitive share of the unlabeled data"
    )
    parser.add_argument("--layers", default="all", help="attn2, attn2-kv, not-attn2 or all: what is trained")
    parser.add_argument("--steps", type=steps, default=None, help="training steps (default: 20 epochs)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of all draws")
    parser.add_argument(
        "--strict", action="store_true", help="stop at a file that is no image, rather than leave it out"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="any other setting of the training: see below"
    )
    parser.add_argument(
        "--save-every",
        type=float,
        default=None,
        metavar="SECONDS",
        help="time between checkpoints (default: 30, or so long that writing them takes 2 %% of the time)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/train-sd"), help="folder; run the same command again to resume"
    )


def run(options: argparse.Namespace) -> None:
    from tqdm.auto import tqdm

    from ..erasing.layers import LAYERS
    from ..runs.stable_training import FILE, RECIPE, train_stable
    from ..settings import TrainConfig

    o = options
    settings = settings_of(o)
    if "conditional" in settings:
        raise UserError("--set takes no conditional: the captions are the condition")
    settings |= {"method": o.method, "beta": o.beta, "seed": o.seed}
    settings |= {} if o.steps is None else {"steps": o.steps}
    refuse_idle(o, [o.method], [TrainConfig(**{**RECIPE, **settings})])
    if o.layers not in LAYERS:
        raise UserError(f"unknown layers {o.layers!r}; known: {', '.join(LAYERS)}")
    holds_models(o.out)
    record = None
    with tqdm(unit="step", disable=None) as bar:
        for record in train_stable(
            o.pipeline, o.unlabeled, o.sensitive, settings, o.out, o.layers, o.strict, o.save_every
        ):
            bar.total = record.steps
            bar.update(record.step - bar.n)
            bar.set_postfix(risk=f"{record.value:.4g}")
    if record:
        print(f"{o.method}: risk {record.value:.4g} at step {record.step:,}, {record.seconds:.0f} s of training")
    file = o.out / FILE
    print(f"wrote {file}: pudm_lite.edits.apply_edit(pipeline, {str(file)!r}) puts it into the pipeline")
