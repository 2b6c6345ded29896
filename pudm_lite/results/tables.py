"""Rows into Tables 2 to 5 of the paper: its lines, its methods, ours beside the paper's, and the best in bold.

Only runs of the same settings are averaged and compared: where a configuration was run with several, each gets a line.
Two methods are compared over the seeds that both have, by a paired t-test: runs of one seed share split, initial
weights, draws and the noise of their samples.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np

from ..errors import UserError
from ..measures.metrics import paired_t_test
from ..risks import BETA_FREE
from ..runs.measuring import FAR, worth_judging
from ..settings import COMPARED, TrainConfig
from ..splits import Configuration, named_configuration
from .paper import CONFIGURATION_TITLE, JUDGE_ACCURACY, METHOD_NAME, TABLE, Value

Row = dict[str, Any]

CAPTION = {
    2: "Non-sensitive rate of models trained from scratch; higher is better",
    3: "Fréchet distance of models trained from scratch; lower is better",
    4: "Non-sensitive rate of fine-tuned models; higher is better",
    5: "Fréchet distance of fine-tuned models; lower is better",
}
MEASURE = {2: "non_sensitive_rate", 3: "frechet_distance", 4: "non_sensitive_rate", 5: "frechet_distance"}
BEST: dict[int, Literal["max", "min"]] = {2: "max", 3: "min", 4: "max", 5: "min"}
METHOD_TITLE = {
    "pretrained": "Pre-trained",
    "unsupervised": "Unsupervised",
    "supervised": "Supervised",
    "nnpu": "Proposed",
    "upu": "Unbiased PU",
    "abspu": "Absolute-value PU",
    "pnu": "PNU",
    "pn": "Oracle (PN)",
}
"""The methods in the order of their columns."""

INCEPTION = "inception-2048"
BETA = 0.1
LEVEL = 0.05
KNOWS_MORE = ("pn", "pnu")
"""Methods that see labels of normal images: shown, but in no comparison with those that do not."""

SAMPLING = ("network", "pretrained", "n_samples", "sampler", "sampler_steps", "judge_accuracy")
TRAINING = (*COMPARED, "schedule", "prediction")
"""The fields of a row that must agree before runs are averaged or compared; a pre-trained model has only the first."""
OWN = ("labelled",)
"""Of images of one's own, which have no number of labels that is the paper's."""

REQUIRED = ("batch_size", "frechet_features", *SAMPLING)
"""What a row of the paper's tables has, beside what every row has."""

KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("method", "network", "sampler"), (str,)),
    **dict.fromkeys(("seed", "steps", "n_samples", "sampler_steps"), (int,)),
    "beta": (int, float),
}
"""What every row has, and its type."""

KINDS_WHERE_THERE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("pretrained", "frechet_features"), (str,)),
    **dict.fromkeys(("sample_seed", "batch_size"), (int,)),
    **dict.fromkeys(
        ("non_sensitive_rate", "rate_low", "rate_high", "judge_accuracy", "judge_confidence"), (int, float)
    ),
    **dict.fromkeys(("frechet_distance", "frechet_floor"), (int, float)),
    "versions": (dict,),
}
"""What most rows have, and its type; whatever else they have is a word, a number or nothing."""


@dataclass(frozen=True)
class Cell:
    """One method in one line. rows: one a run, none where it was not run here. paper: what the paper prints there.

    p: of the paired t-test against the best of the line; None for the best itself and where no test was made.
    bold: the best, or not different from it.
    """

    rows: tuple[Row, ...]
    measure: str
    paper: Value | None
    p: float | None = None
    bold: bool = False

    @property
    def values(self) -> list[float]:
        return [float(row[self.measure]) for row in self.rows]

    @property
    def by_seed(self) -> dict[int, float]:
        """The value of each seed; of a pre-trained model, of each seed of its samples."""
        return {_seed(row): float(row[self.measure]) for row in self.rows}

    @property
    def mean(self) -> float | None:
        """None where it was not run here."""
        return fmean(self.values) if self.rows else None

    @property
    def std(self) -> float | None:
        """The sample's standard deviation (n - 1 below). None for fewer than two runs."""
        return stdev(self.values) if len(self.rows) > 1 else None


@dataclass(frozen=True)
class Line:
    """One configuration at one choice of settings. cells: by method, in the order of METHOD_TITLE."""

    title: str
    configuration: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """One of the paper's tables. methods: its columns, by our names. notes: what stands below it, a sentence each."""

    number: int
    methods: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def _configuration(name: str) -> Configuration | None:
    """The configuration of that name; None for images of one's own."""
    try:
        return named_configuration(name)
    except UserError:
        return None


def complete(row: Row) -> Row:
    """The row with the fields that older rows lack: no pre-trained model, all of S labelled, newer settings at default.

    Raises UserError for what is no row, and for one that lacks a field or holds something else in it.
    """
    if not isinstance(row, dict) or not isinstance(row.get("experiment"), str):
        raise UserError(f"{row!r} is not the row of a run: name the rows.jsonl of an experiment")
    lack(row, tuple(KINDS))
    kinds = KINDS | KINDS_WHERE_THERE
    for name, value in row.items():
        kind = kinds.get(name, (str, int, float, bool, type(None)))
        right = isinstance(value, kind) and (not isinstance(value, bool) or bool in kind)
        if not right or value != value:
            raise UserError(f"a row has {name} = {value!r}, which no run writes: name the rows.jsonl of an experiment")
    if row["method"] not in METHOD_TITLE:
        raise UserError(f"a row has the unknown method {row['method']!r}; known: {', '.join(METHOD_TITLE)}")
    known = _configuration(row["experiment"])
    there = (*KINDS, *REQUIRED)
    usual = {name: value for name, value in TrainConfig().as_row().items() if name in COMPARED and name not in there}
    unjudged = {"judge_accuracy": None} if "not_measured" in row else {}
    return {**usual, **unjudged, "pretrained": "", "labelled": known.s if known else None} | row


def lack(row: Row, names: tuple[str, ...]) -> None:
    """Raises UserError where the row lacks one of the fields, or has nothing in it."""
    if lacking := [name for name in names if row.get(name) is None]:
        raise UserError(f"a row lacks {', '.join(lacking)}: name the rows.jsonl of an experiment")


def select(rows: list[Row], wanted: list[str]) -> list[Row]:
    """The rows in which every NAME=VALUE of `wanted` holds; numbers compare as numbers.

    Raises UserError for another form, a field that no row has, and where nothing is left.
    """
    return narrowed([complete(row) for row in rows], wanted)


def narrowed(rows: list[Row], wanted: list[str]) -> list[Row]:
    """The rows with these values, as `select` takes them: rows of any kind, as they are."""
    for text in wanted:
        name, equals, value = text.partition("=")
        there = {str(row[name]) for row in rows if name in row}
        if not equals or not there:
            known = ", ".join(sorted({key for row in rows for key in row}))
            raise UserError(f"no row has a field for {text!r}; write NAME=VALUE with one of {known}")
        rows = [row for row in rows if name in row and _same(row[name], value)]
        if not rows:
            raise UserError(f"no row has {text}; found: {', '.join(sorted(there))}")
    return rows


def _same(value: Any, text: str) -> bool:
    try:
        return float(value) == float(text)
    except (TypeError, ValueError):
        return str(value) == text


def table(number: int, rows: list[Row]) -> Table:
    """Table 2, 3, 4 or 5 from the rows that belong in it: beta = 0.1 where it acts, all of S labelled.

    The lines are the paper's, then those of other configurations that have rows. The other rows are counted in a note.
    Images of one's own have a line for each beta and number of labels, and no lines of the paper beside them where all
    rows are of such.
    Raises UserError for rows that are no runs, and for two unlike rows of one method and seed.
    """
    measure = MEASURE[number]
    kept, left_out = _belonging(number, [complete(row) for row in rows], measure)
    there = {row["experiment"] for row in kept}
    paper = TABLE[number]
    own = _own_titles(kept)
    names = [*([] if all_own(rows) else paper), *sorted(there - paper.keys())]
    methods = tuple(
        method
        for method in METHOD_TITLE
        if METHOD_NAME.get(method) in next(iter(paper.values())) or any(row["method"] == method for row in kept)
    )
    lines = tuple(
        Line(title, name, _compared({m: _cell(number, name, title, m, group) for m in methods}, BEST[number]))
        for name in names
        for title, group in _groups(
            own.get(name) or _title(number, name), [row for row in kept if row["experiment"] == name], number in (3, 5)
        )
    )
    return Table(number, methods, lines, tuple(_notes(number, lines, left_out)))


def _belonging(number: int, rows: list[Row], measure: str) -> tuple[list[Row], Counter[str]]:
    """The rows of this table, and why others of its kind (from scratch, or fine-tuned) are left out."""
    kept, left_out = [], Counter[str]()
    for row in rows:
        known = _configuration(row["experiment"])
        if bool(row["pretrained"]) != (number in (4, 5)):
            continue
        if known is not None and known.s == 0:
            left_out["of a configuration without a line in these tables"] += 1
            continue
        if measure not in row and (known is None or "not_measured" in row):
            left_out["of images that were not measured"] += 1
            continue
        lack(row, (*REQUIRED, measure))
        acts = row["method"] not in BETA_FREE
        if known is None:
            kept.append(row | {"assumed beta": row.get("beta_from") or row["beta"]})
        elif acts and (row["beta"] != BETA or row.get("beta_from") == "estimate"):
            left_out[f"with another beta than {BETA}"] += 1
        elif row["labelled"] != known.s:
            left_out["with not all of S labelled"] += 1
        else:
            kept.append(row)
    return kept, left_out


def all_own(rows: list[Row]) -> bool:
    """Whether there are rows, and all are of images of one's own."""
    return bool(rows) and all(_configuration(row["experiment"]) is None for row in rows)


def _own_titles(rows: list[Row]) -> dict[str, str]:
    """What images of one's own are called, by the name of their album: their folder, and what is normal of it."""
    titles = {
        row["experiment"]: f"{row['images']} ({row['normal']})" if "images" in row else row["experiment"]
        for row in rows
        if _configuration(row["experiment"]) is None
    }
    twice = Counter(titles.values())
    return {name: title if twice[title] == 1 else f"{title} {name}" for name, title in titles.items()}


def _groups(title: str, rows: list[Row], distances: bool) -> list[tuple[str, list[Row]]]:
    """Rows of one configuration by their settings, each group with a title that says where these differ.

    A pre-trained model has no training settings: it stands in each group of its sampling settings. What beta does not
    act on stands in each group of its other settings. distances: whether features count as a setting.
    """
    sampling = (*SAMPLING, "frechet_features") if distances else SAMPLING
    training = (*TRAINING, *OWN) if rows and "assumed beta" in rows[0] else TRAINING
    groups: list[list[Row]] = []
    for same in _by(sampling, rows):
        plain = [row for row in same if row["method"] == "pretrained"]
        trained = []
        for group in _by(training, [row for row in same if row["method"] != "pretrained"]):
            free = [row for row in group if row["method"] in BETA_FREE]
            acting = _by(("assumed beta",), [row for row in group if row["method"] not in BETA_FREE])
            trained += [free + part for part in acting] or [free]
        groups += [plain + group for group in trained] or [plain]
    differing = [
        key for key in (*sampling, *training, "assumed beta") if len({group[-1].get(key) for group in groups}) > 1
    ]
    return [
        (f"{title}, {' '.join(f'{key}={group[-1].get(key)}' for key in differing)}" if differing else title, group)
        for group in groups or [[]]
    ]


def _by(keys: tuple[str, ...], rows: list[Row]) -> list[list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    return list(groups.values())


def _seed(row: Row) -> int:
    """What pairs a run with those of other methods: its seed; of a pre-trained model that of its samples."""
    return int(row["sample_seed"] if row["method"] == "pretrained" and "sample_seed" in row else row["seed"])


def _title(number: int, name: str) -> str:
    known = named_configuration(name)
    if known.dataset == "standin":
        return f"Stand-in {known.image_size}×{known.image_size} (even)"
    miniature = number in (4, 5) and known.dataset == "mnist"  # the paper fine-tunes no model on MNIST
    return CONFIGURATION_TITLE.get(name, name) + (", miniature" if miniature else "")


def _cell(number: int, name: str, title: str, method: str, group: list[Row]) -> Cell:
    """Each run once: a trained model by its seed, a pre-trained one by that of its samples."""
    runs: dict[int, Row] = {}
    for row in sorted((row for row in group if row["method"] == method), key=lambda row: row["seed"]):
        first = runs.setdefault(_seed(row), row)
        if first[MEASURE[number]] != row[MEASURE[number]]:
            differing = ", ".join(field for field in row if row[field] != first.get(field))
            raise UserError(
                f"{title}, {method}: two rows of seed {row['seed']} differ (in {differing}): "
                "give the file of one of them, or select with --where NAME=VALUE"
            )
    paper = TABLE[number].get(name, {}).get(METHOD_NAME.get(method, ""))
    return Cell(tuple(runs.values()), MEASURE[number], paper)


def _compared(cells: dict[str, Cell], best: Literal["max", "min"]) -> dict[str, Cell]:
    """The cells with p and bold. Nothing is bold where the best was tested against no other."""
    means = {method: cell.mean for method, cell in cells.items() if method not in KNOWS_MORE and cell.mean is not None}
    if not means:
        return cells
    first = {"max": max, "min": min}[best](means, key=lambda method: means[method])
    p = {method: _p(cells[method], cells[first]) for method in means if method != first}
    if all(value is None for value in p.values()):
        return cells

    def bold(method: str) -> bool:
        value = p.get(method)
        return method == first or (value is not None and value >= LEVEL)

    return {method: replace(cell, p=p.get(method), bold=bold(method)) for method, cell in cells.items()}


def _p(cell: Cell, best: Cell) -> float | None:
    """Of the paired t-test over the seeds that both have; None where these are fewer than two."""
    ours, theirs = cell.by_seed, best.by_seed
    shared = sorted(ours.keys() & theirs.keys())
    if len(shared) < 2:
        return None
    return paired_t_test(*(np.asarray([values[seed] for seed in shared]) for values in (ours, theirs)))


def _notes(number: int, lines: tuple[Line, ...], left_out: Counter[str]) -> list[str]:
    """What stands below the table, each thing once where all cells agree and by line or cell where they do not."""
    filled = {
        (line.title, METHOD_TITLE[method]): cell.rows
        for line in lines
        for method, cell in line.cells.items()
        if cell.rows
    }
    if not filled:
        return [*_left_out(left_out), "No run of this table is among the rows."]
    rows = [row for group in filled.values() for row in group]

    def note(label: str, say: Callable[[Row], str], which: Callable[[Row], bool] = lambda row: True) -> list[str]:
        said = {
            place: ", ".join(dict.fromkeys(say(row) for row in group if which(row)))
            for place, group in filled.items()
            if any(map(which, group))
        }
        return [f"{label}: {_where_they_differ(said)}."] if said else []

    def trained(row: Row) -> bool:
        return row["method"] != "pretrained"

    def judged(row: Row) -> bool:
        return number in (2, 4) or row["frechet_features"] != INCEPTION

    notes = [
        "Ours: mean ± standard deviation over seeds; without ±, one run, which is in no test. In bold: the best of the "
        "line and those not different from it by a paired t-test over the seeds that both have (two-sided, "
        f"{LEVEL:.0%}). The paper (five seeds) names a pair-wise t-test and does not say whether it is paired."
    ]
    if any(row["method"] in KNOWS_MORE for row in rows):
        notes.append("PNU and the oracle see labels of normal images: they are in no comparison.")
    notes += note("Samples a run (the paper: as many as test images)", lambda row: f"{row['n_samples']:,}")
    notes += note("Seeds", lambda row: str(_seed(row)))
    notes += note("Mode", lambda row: str(row.get("mode")))
    notes += note("Network", lambda row: str(row["network"]))
    notes += note("Fine-tuned from", lambda row: row["pretrained"], lambda row: row["pretrained"] != "")
    notes += note("Training steps", lambda row: f"{row['steps']:,} of {row['batch_size']} images", trained)
    notes += note("beta", lambda row: f"{row['beta']:g}", lambda row: row["method"] not in BETA_FREE)
    notes += note("Sampler", lambda row: f"{row['sampler']}, {row['sampler_steps']} steps")
    notes += note("Judge, real test images called right", _judge, judged)
    if number in (3, 5):
        notes += note("Features of the Fréchet distance", lambda row: row["frechet_features"])
        notes += note(
            "Floor, the distance of two sets of real images",
            lambda row: f"{row['frechet_floor']:.3f}",
            lambda row: "frechet_floor" in row,
        )
        if any(row["frechet_features"] != INCEPTION for row in rows):
            notes.append(f"Not comparable with the paper's FID ({INCEPTION}): distances on other features.")
    if not all(map(worth_judging, rows)):
        label = f"Worth judging, samples called normal being less than {FAR} floors from real images"
        notes += note(label, lambda row: "yes" if worth_judging(row) else "not yet")
    notes += note("Machine", lambda row: str(row.get("device")))
    return notes + _left_out(left_out)


def _where_they_differ(said: dict[tuple[str, str], str]) -> str:
    """{(line, method): text} as one text where all agree, else each text with its lines, or its cells, in brackets."""
    texts = list(dict.fromkeys(said.values()))
    if len(texts) == 1:
        return texts[0]
    places: dict[str, list[str]] = {text: [] for text in texts}
    for title in dict.fromkeys(title for title, _ in said):
        line = {method: text for (where, method), text in said.items() if where == title}
        if len(set(line.values())) == 1:
            places[next(iter(line.values()))].append(title)
        else:
            for text in dict.fromkeys(line.values()):
                methods = [method for method, own in line.items() if own == text]
                places[text].append(f"{title}, {' and '.join(methods)}")
    return "; ".join(f"{text} [{'; '.join(where)}]" for text, where in places.items())


def _judge(row: Row) -> str:
    """Rows say how often it names the class, newer ones also what matters: on which side of normal it puts an image."""
    known = _configuration(row["experiment"])
    name = known.dataset if known else row.get("images", row["experiment"])
    paper = f" (the paper's: {JUDGE_ACCURACY[name]:.2%})" if known and name in JUDGE_ACCURACY else ""
    sides = ""
    if row.get("judge_kept") is not None and row.get("judge_caught") is not None:
        sides = f", normal kept {row['judge_kept']:.2%}, sensitive caught {row['judge_caught']:.2%}"
    return f"{name} {row['judge_accuracy']:.2%}{paper}{sides}"


def _left_out(counts: Counter[str]) -> list[str]:
    parts = [f"{n} {'row' if n == 1 else 'rows'} {why}" for why, n in counts.items()]
    return [f"Left out: {'; '.join(parts)}."] if parts else []
