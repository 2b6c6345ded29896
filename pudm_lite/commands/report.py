"""`pudm report`."""

import argparse
from pathlib import Path

from ..errors import UserError
from .given import given, refuse_unused

HELP = "Tables from rows of finished runs: the paper's 2 to 5, its values beside ours; or of unlearning, or of erasing."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rows", type=Path, nargs="+", help="files of JSON lines, as runs and sweeps write them")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--table",
        type=int,
        nargs="+",
        choices=(2, 3, 4, 5),
        default=[2, 3, 4, 5],
        help="which: 2 and 4 rates, 3 and 5 distances; 2 and 3 from scratch, 4 and 5 fine-tuned",
    )
    which.add_argument(
        "--runs",
        action="store_true",
        help="in their place one long table with every method and setting: p, confidence, floor (Markdown)",
    )
    which.add_argument(
        "--unlearning",
        action="store_true",
        help="in their place the table of `pudm unlearn`, from its rows (Markdown)",
    )
    which.add_argument(
        "--erasing",
        action="store_true",
        help="in their place the tables of `pudm erase-bench`, from its rows (Markdown)",
    )
    parser.add_argument("--format", choices=("md", "latex", "csv"), default="md", help="of Tables 2 to 5")
    parser.add_argument(
        "--where",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="only the rows with these values, such as steps=2200 network=lite",
    )
    parser.add_argument("--out", type=Path, default=None, help="file (default: the terminal)")


def run(options: argparse.Namespace) -> None:
    from ..files import read_rows, writable_file, write_whole
    from ..results.table_formats import FORMATS
    from ..results.tables import all_own, narrowed, select, table

    if options.out is not None:
        if any(options.out.resolve() == path.resolve() for path in options.rows):
            raise UserError(f"--out is {options.out}, whose rows are read and would be lost: name another file")
        writable_file(options.out)
    if which := [name for name in ("runs", "unlearning", "erasing") if getattr(options, name)]:
        refuse_unused(options, ["format"], f"--{which[0]} is written as Markdown alone")
    rows = [row for path in options.rows for row in read_rows(path)]
    if not rows:
        raise UserError("no rows to report: run an experiment first")
    if options.unlearning:
        from ..results.unlearning_table import unlearning_table

        text = unlearning_table(narrowed(rows, options.where)) + "\n"
    elif options.erasing:
        from ..results.erasing import table as erasing_table

        text = erasing_table(narrowed(rows, options.where))
    elif options.runs:
        from ..results.report import results_table

        text = results_table(select(rows, options.where)) + "\n"
    else:
        rows = select(rows, options.where)
        tables = [table(number, rows) for number in dict.fromkeys(options.table)]
        if all_own(rows) and "table" not in given(options):
            tables = [one for one in tables if one.lines] or tables[:1]
        text = FORMATS[options.format](tables)
    if options.out is None:
        print(text, end="")
    else:
        write_whole(options.out, lambda path: path.write_text(text, encoding="utf-8"))
        print(f"wrote {options.out}")
