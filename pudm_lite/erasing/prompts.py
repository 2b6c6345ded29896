"""Concepts as prompts: a table of what a text encoder makes of words, so that Stable Diffusion is edited as digits."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..conditional import NULL, Concepts, Conditional
from ..errors import UserError
from ..stable import encode, prompt_error, stable_process, token_ids
from .words import parted

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

RECIPE: dict[str, Any] = {"steps": 1000, "batch_size": 1, "learning_rate": 1e-5}
"""What trains Stable Diffusion in place of the digits' recipes: as Gandikota et al. (2023) and Bui et al. (2024) do."""


ALONE = ("none", "esd-x", "esd-x-strict", "esd-u", "uce-alone", "ca-null", "fmn", "sld", "ap-pgd", "ap-neutral")
"""Methods that look at no concept but the erased and the null one: to them a list of others is nothing."""


def choose(
    pipeline: "StableDiffusionPipeline", erased: Sequence[str], synonyms: Iterable[str], words: Iterable[str]
) -> tuple[list[str], dict[str, str]]:
    """The words that may be preserved, and why each of the others may not.

    A word is left out that speaks of an erased concept or a synonym (`words.parted`), that the tokenizer reads as one
    of these, or that it cuts. Raises UserError where no word is left.
    """
    known = (*erased, *synonyms)
    rest, excluded = parted(words, known)
    tokens = {tuple(token_ids(pipeline, concept)): concept for concept in known}
    kept = []
    for word in rest:
        if why := "the null concept's name" if word == NULL else prompt_error(pipeline, word):
            excluded[word] = why
        elif same := tokens.get(tuple(token_ids(pipeline, word))):
            excluded[word] = same
        else:
            kept.append(word)
    if not kept:
        raise UserError(
            "the list of words to preserve holds nothing but what is erased "
            f"({', '.join(list(excluded)[:5])}): name a file of other words with --preserve"
        )
    return kept, excluded


def conditional(
    pipeline: "StableDiffusionPipeline", erased: Sequence[str], kept: Sequence[str] = (), nearest: int = 0
) -> Conditional:
    """The pipeline's U-Net as `erase` takes it, with a table of these prompts; the empty prompt is the null concept.

    nearest: so many of the kept alone, those whose tokens lie nearest to an erased one's; 0 for all. So a search looks
    where harm is likely, and at little cost.
    Raises UserError for a concept that the tokenizer cuts, or one given twice.
    """
    for concept in erased:
        if why := "`null` names the empty prompt" if concept == NULL else prompt_error(pipeline, concept):
            raise UserError(f"{why}: say the concept to erase in other words")
    if len(set(erased)) < len(erased):
        raise UserError(f"a concept to erase is given twice in {', '.join(erased)}: give each once")
    tokens = encode(pipeline, [*erased, *kept, ""])
    names, n = [*erased, *kept], len(erased)
    if nearest:
        distances = torch.cdist(tokens[n:-1].flatten(1), tokens[:n].flatten(1)).amin(1)
        rows = [*range(n), *(distances.argsort()[:nearest].sort().values + n).tolist()]
        names, tokens = [names[row] for row in rows], tokens[[*rows, -1]]
    table = Concepts(names=tuple(names), per_concept=tokens.shape[1], dim=tokens.shape[2]).to(tokens.device)
    table.tokens.data.copy_(tokens)
    return Conditional(pipeline.unet, stable_process(pipeline), table, latent=True)
