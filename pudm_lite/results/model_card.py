"""The model card of a run, made from its row: what it is, how it was measured, what it must not be taken for."""

from typing import Any

from ..risks import BETA_FREE
from .summary import NOT_YET, sentence
from .tables import METHOD_TITLE

Row = dict[str, Any]

CARD = """---
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags:
- positive-unlabeled-learning
- pudm_lite
---

# {title}

An unconditional diffusion model of {what}, trained with [pudm_lite]({repository}) so that it leaves
out what is *sensitive* (Takahashi et al., *Positive-Unlabeled Diffusion Models for Preventing Sensitive Data
Generation*, ICLR 2025). Method: {method}.

- Data: {data}
- {beta}
- Training: {steps:,} steps of {batch_size} images{start}, seed {seed}; network {network}, {parameters:,} parameters.
- Samples: {sampler}, {sampler_steps} steps.

## Measured

{measured}

The rate is the share of samples that a judge calls normal. **It is no promise**: some of what this model draws may be
sensitive, and nobody looked at all of it.

## Use

```python
import pudm_lite.networks  # knows the network's class: pip install git+{repository}
from diffusers import DDIMPipeline

images = DDIMPipeline.from_pretrained("{repo}")(batch_size=4, num_inference_steps=50).images
```

## All settings

```json
{row}
```
"""


def model_card(row: Row, repo: str) -> str:
    """Markdown with the hub's header. repo: USER/NAME, where the model will lie."""
    import json

    return CARD.format(
        title=f"{_data_name(row)}, {METHOD_TITLE[row['method']]}",
        what=f"images of {row['image_size']} x {row['image_size']}" if "image_size" in row else row["experiment"],
        repository=_repository(),
        method=METHOD_TITLE[row["method"]],
        data=_data(row),
        beta=_beta(row),
        start=f", from {row['pretrained']}" if row.get("pretrained") else "",
        measured=_measured(row),
        repo=repo,
        row=json.dumps(row, indent=1),
        **{name: row[name] for name in ("steps", "batch_size", "network", "parameters", "seed")},
        **{name: row[name] for name in ("sampler", "sampler_steps")},
    )


def _repository() -> str:
    from importlib.metadata import metadata

    urls = dict(url.split(", ", 1) for url in metadata("pudm_lite").get_all("Project-URL") or [])
    return urls["Repository"]


def _data_name(row: Row) -> str:
    return str(row.get("images") or row["experiment"])


def _data(row: Row) -> str:
    what = f"images of the author's own, called {row['images']}" if "images" in row else f"{row['experiment']}"
    kinds = f"; normal: {row['normal']}, sensitive: {row['sensitive']}" if "normal" in row else ""
    share = row.get("realised_share")
    hidden = (
        "nobody knows how many of the unlabeled ones are sensitive" if share is None else f"{share:.1%} hidden in U"
    )
    return f"{what}{kinds}; {row['labelled']:,} labelled sensitive images, {hidden}."


def _beta(row: Row) -> str:
    if row["method"] in BETA_FREE:
        return "The method assumes no share of sensitive images."
    if "beta_low" in row:
        return f"Assumed sensitive share: {row['beta']:g}, estimated, [{row['beta_low']:.3f}, {row['beta_high']:.3f}]."
    return f"Assumed sensitive share: {row['beta']:g}."


def _measured(row: Row) -> str:
    said = sentence(row)
    return said[0].upper() + said[1:] + "." if "non_sensitive_rate" in row or NOT_YET in said else f"Nothing: {said}."
