"""`pudm erase`."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .given import count, refuse_unused, seed
from .options import holds_models

if TYPE_CHECKING:
    from ..erasing.methods import Erased, Recipe

HELP = "Erase concepts from a Stable Diffusion pipeline; the changed tensors go to a small file."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pipeline", required=True, metavar="MODEL", help="folder or hub name of a StableDiffusionPipeline"
    )
    parser.add_argument("--concept", required=True, nargs="+", metavar="WORDS", help="what to erase, a prompt each")
    parser.add_argument("--method", default="esd-x", help="one of erasing.methods.METHODS: esd-x, uce, ap-gumbel, ...")
    parser.add_argument(
        "--preserve",
        type=Path,
        default=None,
        metavar="FILE",
        help="concepts that may be preserved, one a line (default: some hundred common nouns of our own)",
    )
    parser.add_argument(
        "--synonyms",
        nargs="+",
        default=[],
        metavar="WORDS",
        help="other words for what is erased: no concept that holds one of them is preserved",
    )
    parser.add_argument(
        "--nearest",
        type=count,
        default=None,
        metavar="N",
        help="preserve only the N concepts of the list whose embeddings lie nearest to an erased one's (default: all)",
    )
    parser.add_argument(
        "--layers", default=None, help="attn2, attn2-kv, not-attn2 or all: what is trained (default: the method's)"
    )
    parser.add_argument("--steps", type=count, default=None, help="training steps (default: 1000)")
    parser.add_argument("--batch-size", type=count, default=None, help="latents in a step (default: 1)")
    parser.add_argument("--learning-rate", type=float, default=None, help="Adam's (default: 1e-5)")
    parser.add_argument(
        "--option",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="the method's own settings, such as eta=2 of esd-x or rate=0.01 of ap-gumbel",
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of all draws")
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/erased.safetensors"), help="the file, ending in .safetensors"
    )


def run(options: argparse.Namespace) -> None:
    from tqdm.auto import tqdm

    from ..edits import save_edit
    from ..erasing.methods import METHODS, erase
    from ..erasing.prompts import ALONE, RECIPE, choose, conditional
    from ..erasing.words import read_words
    from ..stable import open_stable

    o = options
    if o.method not in METHODS:
        raise UserError(f"unknown method {o.method!r}; known: {', '.join(METHODS)}")
    training = _training(o, METHODS[o.method], RECIPE)
    alone = o.method in ALONE
    if alone:
        refuse_unused(o, ["preserve", "synonyms", "nearest"], f"{o.method} looks at no other concept")
    words = () if alone else read_words(o.preserve)
    own = _own(o.option)
    if o.out.suffix != ".safetensors":
        raise UserError(f"--out must end in .safetensors; got {o.out}")
    holds_models(o.out, o.out.parent)
    pipeline = open_stable(o.pipeline)
    kept: list[str] = []
    if not alone:
        kept, excluded = choose(pipeline, o.concept, o.synonyms, words)
        if excluded:
            shown = ", ".join(f"{word} ({why})" for word, why in excluded.items())
            print(f"not among the {len(kept)} concepts that may be preserved: {shown}")
    model = conditional(pipeline, o.concept, kept, o.nearest or 0)
    with tqdm(total=training.get("steps", 0), unit="step", disable=None) as bar:

        def progress(done: int, of: int, loss: float) -> None:
            bar.update(done - bar.n)
            bar.set_postfix(loss=f"{loss:.3g}")

        done = erase(model, tuple(o.concept), o.method, o.seed, progress=progress, **training, **own)
    if not done.changed and o.method != "none":
        raise UserError(f"{o.method} changes no parameter, so that there is nothing to save: choose another method")
    about = {"pipeline": o.pipeline, "synonyms": o.synonyms, "kept": len(model.concepts.names) - len(o.concept)}
    save_edit(o.out, pipeline.unet, done.changed, {**about, **done.settings})
    print(_sentence(done, sum(p.numel() for p in pipeline.unet.parameters())))
    print(f"wrote {o.out}: pudm_lite.edits.apply_edit(pipeline, {str(o.out)!r}) puts it into the pipeline")


def _training(o: argparse.Namespace, recipe: "Recipe", defaults: dict[str, Any]) -> dict[str, Any]:
    """Steps, batch, learning rate and layers as given or by default. Raises UserError where nothing is trained."""
    names = [*defaults, "layers"]
    if not recipe.steps:
        refuse_unused(o, names, f"{o.method} trains nothing")
        return {}
    if o.learning_rate is not None and not o.learning_rate > 0:
        raise UserError(f"--learning-rate must be larger than 0; got {o.learning_rate}")
    given = {name: getattr(o, name) for name in names if getattr(o, name) is not None}
    return {**defaults, **given}


def _own(texts: list[str]) -> dict[str, Any]:
    """The method's own options. Raises UserError for what is not NAME=VALUE, and for one given twice."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.isidentifier() and equals and value) or name in found:
            why = "is given twice" if name in found else "is not of the form NAME=VALUE"
            raise UserError(f"{text!r} of --option {why}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _sentence(done: "Erased", parameters: int) -> str:
    changed = sum(tensor.numel() for tensor in done.changed.values())
    said = f"{done.settings['method']}, {done.settings['erased']}: {len(done.changed)} tensors changed, "
    said += f"{changed:,} of {parameters:,} numbers; {done.seconds:.0f} s of CPU"
    if some := len(done.losses) // 10 or len(done.losses[:1]):
        first, last = (sum(part) / some for part in (done.losses[:some], done.losses[-some:]))
        said += f"; loss {first:.3g} at first, {last:.3g} at last"
    return said
