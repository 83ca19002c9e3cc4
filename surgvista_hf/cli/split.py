"""`surgvista split`: which videos are for training, validation and test, written down once."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.console import Steps
from ..util.messages import preview
from .common import named_frame_set

if TYPE_CHECKING:
    from ..datasets_scripts.frame_sets.draw_splits import DrawnSplits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista split`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista split phase_folder=ours --output split.yaml --stratify phase\n"
        "  surgvista split phase_folder=ours --output folds.yaml --folds 5 --table patients.csv --group patient\n"
        "  surgvista split phase_folder=ours --output hospitals.yaml --table patients.csv --hold-out hospital\n"
        "  surgvista split cholect50=frame_sets/cholect50 --output folds.yaml --hold-out video --stratify instruments\n"
        "  surgvista split phase_folder=ours --check by_hand.yaml\n"
        "Videos are never divided by frame. The file is for data.split_file of a recipe or suite, and --split-file."
    )
    parser.add_argument("data", metavar="NAME=DIR", help="frame set")
    parser.add_argument("--output", type=Path, help="file to write, .yaml or .json")
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare a file of splits with the frame set")
    parser.add_argument(
        "--folds", type=int, metavar="K", help="K folds: every video is tested once (default: one split)"
    )
    parser.add_argument(
        "--hold-out",
        metavar="COLUMN",
        help="a fold for each value, such as each hospital, which is its test; COLUMN=VALUE: that one only; video: leave one "
        "operation out",
    )
    parser.add_argument("--table", type=Path, help="table with a row for each video: CSV, TSV or Excel")
    parser.add_argument(
        "--group",
        metavar="COLUMN",
        help="column whose values, such as patients, are never in two splits (default: the operation)",
    )
    parser.add_argument(
        "--stratify",
        action="append",
        default=[],
        metavar="COLUMN",
        help="column of classes that all splits should have alike; may be repeated",
    )
    parser.add_argument(
        "--test", type=float, default=0.2, help="fraction for the test of a single split (default: 0.2)"
    )
    parser.add_argument(
        "--validation",
        type=float,
        default=0.1,
        help="fraction for the validation, with folds of what is not tested; 0: none (default: 0.1)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the splits as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Draw splits and write them to a file, or check a file of splits."""
    from ..datasets_scripts.frame_sets.draw_splits import SplitOptions, check_split_file, draw_splits
    from ..datasets_scripts.schema.split_files import read_split_file, write_split_file
    from ..util.errors import InputError

    if (arguments.output is None) == (arguments.check is None):
        raise InputError("give either --output FILE to draw splits or --check FILE to look at some")
    name, folder = named_frame_set("the frame set", arguments.data)
    if arguments.check:
        with Steps()(f"check {arguments.check}"):
            drawn = check_split_file(name, folder, read_split_file(arguments.check))
        _print(arguments, drawn, str(arguments.check))
        return
    options = SplitOptions(
        arguments.folds,
        arguments.hold_out,
        arguments.group,
        tuple(arguments.stratify),
        arguments.test,
        arguments.validation,
        arguments.seed,
    )
    with Steps()(f"draw splits of {name}"):
        drawn = draw_splits(name, folder, options, table=arguments.table)
        is_new = write_split_file(arguments.output, drawn.content)
    _print(arguments, drawn, f"{arguments.output}{'' if is_new else ' (unchanged)'}")


def _print(arguments: argparse.Namespace, drawn: "DrawnSplits", file: str) -> None:
    if arguments.json:
        print(json.dumps({**drawn.content, "lacking": drawn.lacking, "unassigned": drawn.unassigned}))
        return
    for number, counts in enumerate(drawn.counts):
        parts = [f"{split} {own['videos']} videos, {own['frames']:,} frames" for split, own in counts.items()]
        print(f"{f'fold {number}: ' if drawn.has_folds else ''}{'; '.join(parts)}")
        for split, names in drawn.lacking[number].items():
            print(f"  no frame in {split}: {preview(names)}")
        if drawn.unassigned[number]:
            print(f"  in no split: {preview(drawn.unassigned[number])}")
    print(f"splits: {file}")
