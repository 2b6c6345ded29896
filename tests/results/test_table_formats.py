"""Tables as Markdown, LaTeX and CSV, parsed back; and the command that prints them."""

import csv
import io
import json
import re

import numpy as np
import pytest
from made_rows import RATES, row, rows

from pudm_lite.cli import main
from pudm_lite.results.table_formats import comma_separated, escape, latex, markdown
from pudm_lite.results.tables import table


def markdown_cells(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def latex_cells(text):
    """The body's cells, a \\multicolumn{n} counted n times."""
    lines = re.search(r"\\toprule\n(.*)\\bottomrule", text, re.DOTALL)[1].splitlines()
    found = []
    for line in lines:
        if line.endswith(r"\\"):
            cells = re.split(r"(?<!\\)&", line.removesuffix(r"\\"))
            spans = [int(match[1]) if (match := re.search(r"\\multicolumn\{(\d)\}", cell)) else 1 for cell in cells]
            found.append([cell.strip() for cell, n in zip(cells, spans, strict=True) for _ in range(n)])
    return found


def test_markdown_has_ours_and_the_papers_side_by_side():
    head, rule, even, odd, *_ = markdown_cells(markdown([table(2, rows(RATES | {"supervised": [0.9]}))]))
    assert head == ["", "Unsupervised", "paper", "Supervised", "paper", "Proposed", "paper", "Unbiased PU"]
    assert set(rule) == {"---"}
    assert even == [
        *("MNIST (even)", "0.903 ± 0.005", "0.904 ± 0.003", "0.900", "0.908 ± 0.003"),
        *("**0.975 ± 0.005**", "0.978 ± 0.003", "**0.976 ± 0.004**"),
    ]
    assert odd[1:3] == ["*not run here*", "0.900 ± 0.006"]


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_every_line_has_as_many_cells_as_the_head(number):
    made = [table(number, rows() + rows(pretrained="a|b") + rows(pretrained="c"))]
    head, *body = markdown_cells(markdown(made))
    assert {len(line) for line in body} == {len(head)}
    under, *body = latex_cells(latex(made))[1:]
    assert {len(line) for line in body} == {len(under)} == {len(latex_cells(latex(made))[0])}
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", latex(made))[1]
    assert len(columns) == len(under)


def test_latex_is_balanced_plain_and_escaped():
    text = latex([table(number, rows() + rows(pretrained="a_b", device="100 % {x} #1 $ & ~^\\")) for number in (2, 5)])
    assert text.isascii()
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert re.findall(r"\\begin\{(\w+)\}", text) == ["table", "tabular"] * 2
    assert re.findall(r"\\end\{(\w+)\}", text) == ["tabular", "table"] * 2
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    notes = text.split(r"\scriptsize")[-1]
    assert not re.search(r"(?<!\\)[%_&#]", notes)
    assert r"100 \% \{x\} \#1 \$ \& \textasciitilde{}\textasciicircum{}\textbackslash{}" in notes
    assert r"\textbf{0.975 $\pm$ 0.005}" in text
    assert r"\textit{not run here}" in text


def test_latex_rules_lie_under_their_columns():
    text = latex([table(2, rows())])
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-5} \cmidrule(lr){6-7} \cmidrule(lr){8-8}" in text


def test_escape_leaves_words_alone():
    assert escape("Fréchet, n_samples=5 ± 1") == r"Fr\'echet, n\_samples=5 $\pm$ 1"


def test_csv_is_one_line_per_configuration_and_method_with_every_value():
    found = list(csv.DictReader(io.StringIO(comma_separated([table(2, rows()), table(4, [])]))))
    assert len(found) == 6 * 4 + 4 * 4
    even = {line["method"]: line for line in found if line["configuration"] == "MNIST (even)"}
    for method, title in (("unsupervised", "Unsupervised"), ("nnpu", "Proposed"), ("upu", "Unbiased PU")):
        assert float(even[title]["mean"]) == pytest.approx(np.mean(RATES[method]))
        assert float(even[title]["std"]) == pytest.approx(np.std(RATES[method], ddof=1))
        assert (even[title]["seeds"], even[title]["n"], even[title]["steps"]) == ("5", "2000", "2200")
    assert [even[title]["bold"] for title in even] == ["0", "0", "1", "1"]
    assert even["Unbiased PU"]["p_against_best"] == ""
    assert float(even["Unsupervised"]["p_against_best"]) < 1e-4
    assert (even["Proposed"]["paper_mean"], even["Proposed"]["paper_std"]) == ("0.978", "0.003")
    (missing,) = (x for x in found if (x["configuration"], x["method"]) == ("CelebA (male)", "Pre-trained"))
    assert (missing["table"], missing["mean"], missing["seeds"], missing["paper_mean"]) == ("4", "", "0", "0.249")


@pytest.fixture
def rows_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows(), row(rate=0.5, steps=800)]))
    return path


def test_command_prints_all_tables_or_those_asked_for(rows_file, capsys):
    assert main(["report", str(rows_file)]) == 0
    assert re.findall(r"\*\*Table (\d)", capsys.readouterr().out) == ["2", "3", "4", "5"]
    assert main(["report", str(rows_file), "--table", "3", "2", "3", "--where", "steps=800"]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"\*\*Table (\d)", out) == ["3", "2"]
    assert "| MNIST (even) | *not run here* | 0.904 ± 0.003 | *not run here* | 0.908 ± 0.003 | 0.500 |" in out


def test_command_writes_a_file_in_each_format(rows_file, tmp_path, capsys):
    for name, start in (("md", "**Table 2"), ("latex", "% In the preamble"), ("csv", "table,configuration")):
        out = tmp_path / "tables" / name
        assert main(["report", str(rows_file), "--format", name, "--out", str(out)]) == 0
        assert capsys.readouterr().out == f"wrote {out}\n"
        assert out.read_text(encoding="utf-8").startswith(start)


def test_command_refuses_in_one_sentence(rows_file, tmp_path, capsys):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    for arguments, message in (
        ([str(empty)], "no rows to report"),
        ([str(rows_file), "--where", "steps=7"], "no row has steps=7; found: 2200, 800"),
        ([str(rows_file), "--runs", "--format", "csv"], "--runs is written as Markdown alone"),
    ):
        assert main(["report", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main(["report", str(rows_file), "--runs", "--table", "2"]) == 2
