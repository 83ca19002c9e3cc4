"""The argument of verbs that work on a console."""

import argparse


def add_verbose_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--verbose`; without it only the log has what libraries say."""
    parser.add_argument(
        "--verbose",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show everything that otherwise only the log file holds",
    )
