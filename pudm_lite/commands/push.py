"""`pudm push`."""

import argparse
from pathlib import Path

from ..errors import UserError

HELP = "Put the model of a finished run on the Hugging Face hub, with a model card made from its row."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="the folder of a finished run: OUT/runs/NAME")
    parser.add_argument("repo", metavar="USER/NAME", help="where it goes; made where it is not there yet")
    parser.add_argument(
        "--private", action="store_true", help="make it for you alone (one that is there stays as it is)"
    )


def run(options: argparse.Namespace) -> None:
    import json

    from ..networks import make_pipeline, open_network
    from ..results.model_card import model_card

    o = options
    try:
        row = json.loads((o.run_folder / "row.json").read_text(encoding="utf-8"))
        card = model_card(row, o.repo)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{o.run_folder} holds no finished run: name a folder OUT/runs/NAME, in which row.json lies"
        ) from None
    pipeline = make_pipeline(*open_network(str(o.run_folder / "pipeline")))
    print(_push(pipeline, card, o.repo, o.private))


def _push(pipeline, card: str, repo: str, private: bool) -> str:  # type: ignore[no-untyped-def]
    """Diffusers' own upload, then the card in the place of the empty one that it made. Returns the address.

    Raises UserError where the hub refuses, or is not reached.
    """
    from huggingface_hub import ModelCard

    try:
        pipeline.push_to_hub(repo, private=private or None, commit_message="Upload the pipeline")
        ModelCard(card).push_to_hub(repo, commit_message="Model card from the run's row")
    except Exception as error:  # the hub's libraries raise many kinds
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"the hub took no {repo} ({reason}): log in with `hf auth login`, then try again") from None
    return f"https://huggingface.co/{repo}"
