"""The paper's tables as text: Markdown for a page, LaTeX for a paper, comma-separated values for a program."""

import csv
import io

from .tables import CAPTION, METHOD_TITLE, Cell, Row, Table

NOT_RUN = "not run here"


def _columns(table: Table) -> list[tuple[str, bool]]:
    """(method, whether the paper has it): such a method takes two columns, ours and the paper's."""
    return [(method, any(line.cells[method].paper for line in table.lines)) for method in table.methods]


def _plus_minus(mean: float, std: float | None, sign: str) -> str:
    return f"{mean:.3f}" if std is None else f"{mean:.3f} {sign} {std:.3f}"


def markdown(tables: list[Table]) -> str:
    """Each table as GitHub's Markdown, its notes as a list below."""
    return "\n\n".join(_markdown(table) for table in tables) + "\n"


def _markdown(table: Table) -> str:
    def ours(cell: Cell) -> str:
        if cell.mean is None:
            return f"*{NOT_RUN}*"
        text = _plus_minus(cell.mean, cell.std, "±")
        return f"**{text}**" if cell.bold else text

    head = [""]
    for method, in_paper in _columns(table):
        head += [METHOD_TITLE[method], *(["paper"] if in_paper else [])]
    body = []
    for line in table.lines:
        cells = [line.title.replace("|", "\\|")]
        for method, in_paper in _columns(table):
            cell = line.cells[method]
            cells.append(ours(cell))
            if in_paper:
                cells.append(_plus_minus(*cell.paper, "±") if cell.paper else "")
        body.append(cells)
    rows = [head, ["---"] * len(head), *body]
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    notes = "\n".join(f"- {note}" for note in table.notes)
    return f"**Table {table.number}.** {CAPTION[table.number]}.\n\n{text}\n\n{notes}"


LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "%_&#${}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "é": r"\'e",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
}


def escape(text: str) -> str:
    """Plain text for LaTeX, in ASCII as far as LATEX knows the character."""
    return "".join(LATEX.get(character, character) for character in text)


def latex(tables: list[Table]) -> str:
    r"""Each table as a `table` environment; needs \usepackage{booktabs} and nothing else."""
    return "% In the preamble: \\usepackage{booktabs}\n\n" + "\n\n".join(_latex(table) for table in tables) + "\n"


def _latex(table: Table) -> str:
    def ours(cell: Cell) -> str:
        if cell.mean is None:
            return rf"\textit{{{NOT_RUN}}}"
        text = _plus_minus(cell.mean, cell.std, r"$\pm$")
        return rf"\textbf{{{text}}}" if cell.bold else text

    columns = _columns(table)
    above, under, rules, at = [], [], [], 2
    for method, in_paper in columns:
        width = 2 if in_paper else 1
        above.append(rf"\multicolumn{{{width}}}{{c}}{{{METHOD_TITLE[method]}}}")
        under += ["ours", "paper"][:width]
        rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
        at += width
    body = []
    for line in table.lines:
        cells = [escape(line.title)]
        for method, in_paper in columns:
            cell = line.cells[method]
            cells.append(ours(cell))
            if in_paper:
                cells.append(_plus_minus(*cell.paper, r"$\pm$") if cell.paper else "")
        body.append(cells)
    rows = [" & ".join(row) + r" \\" for row in (["", *above], ["", *under], *body)]
    notes = "\n".join(escape(note) for note in table.notes)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escape(CAPTION[table.number])} (Table {table.number} of the paper).}}",
            rf"\begin{{tabular}}{{l{'c' * len(under)}}}",
            r"\toprule",
            rows[0],
            " ".join(rules),
            rows[1],
            r"\midrule",
            *rows[2:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip\raggedright\scriptsize",
            notes,
            r"\end{table}",
        ]
    )


CSV_FIELDS = (
    *("table", "configuration", "method", "mean", "std", "seeds", "n", "bold", "p_against_best"),
    *("paper_mean", "paper_std", "network", "pretrained", "steps", "sampler", "sampler_steps"),
    *("frechet_features", "judge_accuracy", "judge_kept", "judge_caught", "mode", "device"),
)


def comma_separated(tables: list[Table]) -> str:
    """One line per configuration and method, under CSV_FIELDS; empty where there is no value.

    seeds: how many runs. n: samples a run. bold: 0 or 1. Values are not rounded.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for line in table.lines:
            for method, cell in line.cells.items():
                mean, std = cell.paper or (None, None)
                writer.writerow(
                    {
                        "table": table.number,
                        "configuration": line.title,
                        "method": METHOD_TITLE[method],
                        "mean": cell.mean,
                        "std": cell.std,
                        "seeds": len(cell.rows),
                        "n": _shared(cell.rows, "n_samples"),
                        "bold": int(cell.bold),
                        "p_against_best": cell.p,
                        "paper_mean": mean,
                        "paper_std": std,
                        **{field: _shared(cell.rows, field) for field in CSV_FIELDS[11:]},
                    }
                )
    return text.getvalue()


def _shared(rows: tuple[Row, ...], field: str) -> str:
    return "; ".join(dict.fromkeys(str(row.get(field, "")) for row in rows))


FORMATS = {"md": markdown, "latex": latex, "csv": comma_separated}
