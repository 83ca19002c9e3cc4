"""How videos are read: what happens to interlaced frames and to damage."""

import argparse
from typing import Any


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--deinterlace",
        choices=("auto", "off"),
        default="auto",
        help="auto: take the two moments of interlaced frames apart; off: leave such frames (default: auto)",
    )
    parser.add_argument(
        "--damaged",
        choices=("refuse", "skip", "any"),
        default="skip",
        help="where a video is damaged: skip leaves that out and says so, if at least half is sound; any: however little "
        "is; refuse: an error (default: skip)",
    )


def reading_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `VideoReader` and whoever calls it."""
    return {"deinterlace": arguments.deinterlace, "damaged": arguments.damaged}
