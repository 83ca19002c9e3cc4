"""`surgvista suggest-labels`: the seconds of unlabeled videos where a label would help a model most."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.console import Steps
from .common import (
    add_detector_arguments,
    add_dtype_argument,
    add_frame_stride_argument,
    add_reading_arguments,
    detector_of,
    named_frame_set,
    reading_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..inference import SurgicalVideoPredictor
    from ..inference.suggestions import UnlabeledVideo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista suggest-labels`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista suggest-labels my-phase-model videos --seconds 120 --output to_label\n"
        "  surgvista suggest-labels my-phase-model monday.mp4 tuesday.mp4 --length 10 --videos 1 --output to_label\n"
        "  surgvista suggest-labels my-phase-model videos --labels phases --labels to_label/phases --output next\n"
        "  surgvista suggest-labels my-phase-model --data phase_folder=frame_sets/ours --label phase --output to_label\n"
        "The output holds suggestions.html to look at, suggestions.csv, and a document of ELAN for each video: correct the\n"
        "labels there, and `surgvista prepare phase_folder` reads them."
    )
    parser.add_argument("model", help="folder or Hub id of a trained video classifier or adapter")
    parser.add_argument("video", type=Path, nargs="*", help="video files, or folders with videos")
    parser.add_argument("--data", metavar="NAME=DIR", help="a frame set instead of videos")
    parser.add_argument("--split", default="all", help="split of the frame set (default: all videos)")
    parser.add_argument("--protocol", help="protocol of the frame set (default: the data set's first)")
    parser.add_argument("--label", help="label column of the frame set: frames that have a label are left out")
    parser.add_argument(
        "--labels",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder with label files named like the videos: what has a label is left out; can be given several times",
    )
    parser.add_argument("--output", type=Path, required=True, help="new folder for the files")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds to label in all (default: 60)")
    parser.add_argument("--length", type=int, default=5, help="seconds of one segment (default: 5)")
    parser.add_argument(
        "--gap",
        type=float,
        default=10.0,
        help="least seconds between two segments, and to what has a label (default: 10)",
    )
    parser.add_argument(
        "--videos", dest="most_videos", type=int, metavar="N", help="take the segments of at most N videos"
    )
    parser.add_argument("--tier", default="phase", help="name of the tier of the labels (default: phase)")
    parser.add_argument(
        "--blank", action="store_true", help="leave the labels empty instead of what the model predicts"
    )
    parser.add_argument("--temporal", metavar="MODEL", help="MS-TCN on the features of the model")
    parser.add_argument("--batch-size", type=int, default=8, help="clips at a time (default: 8)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    add_dtype_argument(parser)
    add_frame_stride_argument(parser)
    add_reading_arguments(parser)
    add_detector_arguments(parser)
    parser.add_argument("--skip-unreadable", action="store_true", help="go on where a video is damaged")
    parser.add_argument("--json", action="store_true", help="print the segments and files as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Search the videos, and write what to label next."""
    from ..inference import SurgicalVideoPredictor
    from ..inference.suggestions import SuggestionSettings, suggest_labels
    from ..inference.writers.suggestions import save_suggestions
    from ..util.errors import InputError
    from ..util.files import atomic_folder, check_free

    settings = SuggestionSettings(
        arguments.seconds, arguments.length, arguments.gap, arguments.most_videos, arguments.tier
    )
    if bool(arguments.video) == bool(arguments.data):
        raise InputError("give either videos or --data NAME=DIR")
    if arguments.labels and arguments.data:
        raise InputError("--labels belongs to video files; --label names the label column of a frame set")
    check_free(arguments.output)  # it may hold labels that somebody corrected
    steps = Steps(2)
    with steps(f"load {arguments.model}") as step:
        predictor = SurgicalVideoPredictor(
            arguments.model,
            temporal=arguments.temporal,
            device=arguments.device,
            batch_size=arguments.batch_size,
            dtype=arguments.dtype,
            out_of_body=detector_of(arguments),
            frame_stride=arguments.frame_stride,
            **reading_options(arguments),
        )
        videos = _videos(arguments, predictor)
        step.remember(f"computes in {predictor.computing_text}")
    with steps(f"search {len(videos)} videos"):
        found = suggest_labels(predictor, videos, settings, skip_unreadable=arguments.skip_unreadable, progress=True)
        named = {video.name: video for video in videos}
        with atomic_folder(arguments.output) as temporary:
            written = save_suggestions(
                found,
                temporary,
                frames_at=lambda name, seconds: named[name].frames_at(seconds),
                blank=arguments.blank,
            )
            files = [str(arguments.output / file.relative_to(temporary)) for file in written]
    if arguments.json:
        segments = [
            {"video": each.video, "start": each.start, "end": each.end, "score": each.score, "reason": each.reason}
            for each in found.segments
        ]
        print(json.dumps({"files": files, "segments": segments, "unreadable": found.unreadable}))
        return
    for name, reason in found.unreadable.items():
        print(f"unreadable: {name}: {reason}")
    for each in found.segments:
        print(f"{each.order:4}  {each.video}  {each.start:8.1f} - {each.end:8.1f} s  {each.reason}")
    if found.seconds + settings.length <= settings.seconds:
        print(f"no more than {found.seconds:g} of {settings.seconds:g} seconds are far enough apart")
    print(f"look at {arguments.output / 'suggestions.html'}, and correct what lies beside it")


def _videos(arguments: argparse.Namespace, predictor: "SurgicalVideoPredictor") -> "Sequence[UnlabeledVideo]":
    """Return the videos of the command line, or those of the frame set."""
    from ..inference.prediction.label_suggestions import SUGGESTION_TIER
    from ..inference.suggestions import files_to_label, frame_set_to_label

    if arguments.data is None:
        own_tier = arguments.tier if arguments.tier != "phase" else ""  # "phase" is found among several
        tier = SUGGESTION_TIER if predictor.is_multi_label else own_tier
        return files_to_label(arguments.video, arguments.labels, tier)
    from ..datasets_scripts.frame_sets.load import load_frame_set

    name, folder = named_frame_set("--data", arguments.data)
    frames = load_frame_set(name, folder, arguments.split, protocol=arguments.protocol)
    return frame_set_to_label(frames, arguments.label)
