"""`pudm data`."""

import argparse

from ..errors import UserError

HELP = "Look for data sets and weights, say what is missing and what to do; download them."


def add(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "What is there, what is missing or damaged, where it was looked for, and what to do."
    check = actions.add_parser("check", help=text, description=text)
    check.add_argument("name", nargs="?", metavar="NAME", help="a data set or weights (default: all there are)")
    text = "Fetch a data set or weights; run the same command again to go on with a download that broke off."
    download = actions.add_parser("download", help=text, description=text)
    download.add_argument("name", metavar="NAME", help="cifar10, stl10, celeba, resnet34 or inception")


def run(options: argparse.Namespace) -> None:
    from ..sources.doctor import NAMES, look
    from ..sources.downloads import download

    if options.action == "download" and not look(options.name).right:
        download(options.name)
    for name in [options.name] if options.name else NAMES:
        finding = look(name)
        print(f"{name}: {finding.state}")
        for one in finding.looked:
            print(f"  {one}")
        if not finding.right:
            if options.name:
                raise UserError(f"{name} is {finding.state}: {finding.remedy}")
            print(f"  to do: {finding.remedy}")
