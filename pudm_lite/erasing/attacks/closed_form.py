"""RECE's attack: the tokens that the edited keys and values answer as the unedited ones answered the concept."""

from ..uce import keys_and_values, recovered
from .target import Outcome, Target


def closed_form(target: Target, lam: float) -> Outcome:
    """`uce.recovered` of the erased concept's tokens (Gong et al. 2024), and every picture is asked for with them.

    No search and no images, so the cheapest attack; it sees keys and values alone, so it is the strongest where an edit
    changed only these, and says little where the edit lies elsewhere. lam: of the tokens' size; published 0.1, as ours.
    """
    before, after = keys_and_values(target.before.network), keys_and_values(target.after.network)
    return Outcome(target.drawn(target.after.network, recovered(before, after, target.tokens, lam)))
