"""`pudm sample`."""

import argparse
from pathlib import Path

from ..errors import UserError
from ..files import writable_file
from .given import count, seed

HELP = "Draw images from a trained model."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        help="the folder `pipeline` of a run, any unconditional Diffusers pipeline (folder or hub name), or a file of "
        "`pudm ship`",
    )
    parser.add_argument("--n-samples", type=count, default=64, help="images")
    parser.add_argument("--sampler", default="ddpm", help="ddpm, ddim or dpmpp")
    parser.add_argument("--sampler-steps", type=count, default=14, help="network evaluations per image, 1 to 1000")
    parser.add_argument("--seed", type=seed, default=0, help="seed; one seed and one image number give one picture")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("outputs/samples.npz"),
        help="file: .npz (array `images`, n x C x H x W, uint8) or .png (a grid)",
    )


def run(options: argparse.Namespace) -> None:
    import torch
    from tqdm.auto import tqdm

    from ..files import write_arrays
    from ..networks import open_network
    from ..results.report import save_grid
    from ..sampling import SAMPLERS, draw

    if options.sampler not in SAMPLERS:
        raise UserError(f"unknown sampler {options.sampler!r}; known: {', '.join(SAMPLERS)}")
    if options.out.suffix not in (".npz", ".png"):
        raise UserError(f"--out must end in .npz or .png; got {options.out}")
    network, process = open_network(options.model)
    if not 1 <= options.sampler_steps <= process.steps:
        raise UserError(f"--sampler-steps must lie in 1..{process.steps}; got {options.sampler_steps}")
    writable_file(options.out)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    how = {"sampler": options.sampler, "steps": options.sampler_steps, "seed": options.seed}
    with tqdm(total=options.n_samples, unit="image") as bar:
        images = draw(network, process, options.n_samples, **how, progress=lambda done, of: bar.update(done - bar.n))
    if options.out.suffix == ".png":
        save_grid(images, options.out)
    else:
        write_arrays(options.out, images=images.numpy())
    print(f"wrote {options.out}")
