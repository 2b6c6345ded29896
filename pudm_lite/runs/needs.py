"""What runs need and do not find here, all of it at once and before anything slow starts."""

from ..datasets import source
from ..errors import UserError
from ..measures.inception import require_weights
from ..measures.judge import NoJudge, judge_of
from ..splits import DIGITS
from .experiments import Experiment


def unmeasured(experiments: list[Experiment], features: str | None = None) -> list[str]:
    """A sentence for each thing that cannot be measured for want of a judge or of Inception's weights.

    features: those that were asked for by name, which must be there.
    Raises UserError, which names all that lacks, where a data set or the features asked for are not there.
    """
    stops: list[str] = []
    lacks: list[str] = []
    for dataset in dict.fromkeys(exp.data.dataset for exp in experiments if not exp.images):
        try:
            for train in (True, False):
                source(dataset, train)
        except UserError as error:
            stops.append(str(error))
        try:
            judge_of(dataset)
        except NoJudge as error:
            lacks.append(f"the non-sensitive rate: {error}")
        except UserError as error:
            stops.append(str(error))
    photographs = any(exp.data.dataset not in DIGITS for exp in experiments if not exp.images)
    if features == "inception" or (photographs and features is None):
        try:
            require_weights()
        except UserError as error:
            (stops if features else lacks).append(
                str(error) if features else f"FID: {error}; the judge's features serve"
            )
    if stops:
        raise UserError("; ".join([*stops, *(f"without it is not measured {lack}" for lack in lacks)]))
    return lacks
