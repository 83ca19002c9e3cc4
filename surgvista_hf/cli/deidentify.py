"""`surgvista deidentify`: videos that may leave the hospital."""

import argparse
from functools import partial
from pathlib import Path

from ..util.console import Steps
from .common import (
    add_detector_arguments,
    add_executor_options,
    add_reading_arguments,
    detector_of,
    executor_options,
    print_outcome,
    reading_options,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista deidentify`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista deidentify operation.mp4 --out-of-body runs/out_of_body/model --mapping names.json --output shared\n"
        "  surgvista deidentify videos --out-of-body runs/out_of_body/model --mapping names.json --output shared\n"
        "  surgvista deidentify operation.mp4 --no-detector --cover 0,0,320,60 --mapping names.json --output shared\n"
        "Frames outside the patient are hidden, sound and metadata are left out, files get pseudonyms. Names that are\n"
        "written in the frames stay unless --cover hides them. No detector is perfect: check the copies before you share."
    )
    parser.add_argument("video", type=Path, help="video file, or a folder with videos")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--mapping", type=Path, required=True, help="JSON file of pseudonyms and names; never share it"
    )
    add_detector_arguments(parser)
    parser.add_argument("--no-detector", action="store_true", help="hide nothing: the camera was inside all the time")
    parser.add_argument(
        "--cover",
        action="append",
        default=[],
        metavar="LEFT,TOP,WIDTH,HEIGHT",
        help="rectangle to fill in black, in pixels as shown; may be repeated",
    )
    add_reading_arguments(parser)
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    add_executor_options(parser, "videos")
    parser.add_argument("--skip-unreadable", action="store_true", help="in a folder: go on where a video is damaged")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Write de-identified copies of a video or of all videos in a folder."""
    from ..inference.batch import deidentify_folder, find_videos
    from ..inference.deidentification import Cover, Pseudonyms
    from ..util.errors import InputError
    from ..util.executors import Lazy

    if (arguments.out_of_body is None) != arguments.no_detector:
        raise InputError("give --out-of-body with a detector, or --no-detector if nothing has to be hidden")
    execution = executor_options(arguments)
    find_videos(arguments.video, tell=False)  # before anything is loaded
    try:
        covers = [Cover(*map(int, text.split(","))) for text in arguments.cover]
    except (TypeError, ValueError) as error:
        raise InputError(f"--cover takes four whole numbers, LEFT,TOP,WIDTH,HEIGHT, not {arguments.cover}") from error
    with Steps()("write videos without people, sound, metadata and names"):
        report = deidentify_folder(
            arguments.video,
            arguments.output,
            Lazy(partial(detector_of, arguments)),
            Pseudonyms(arguments.mapping, arguments.output),
            covers=covers,
            **reading_options(arguments),
            skip_unreadable=arguments.skip_unreadable,
            progress=True,
            **execution,
        )
    print_outcome(report, arguments, "wrote")
