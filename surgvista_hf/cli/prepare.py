"""`surgvista prepare`: raw videos and annotations of a data set to a frame set."""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.console import Steps
from .common import add_executor_options, add_reading_arguments, executor_options, reading_options
from .prepare_own import (
    add_own_arguments,
    check_own_arguments,
    own_builder,
    own_plan,
    own_settings,
    plan_lines,
    plan_summary,
)

if TYPE_CHECKING:
    from ..datasets_scripts.schema.builder import FrameSetBuilder
    from ..datasets_scripts.schema.media import PreparationOptions

EPILOG = """examples:
  surgvista prepare --list
  surgvista prepare cholec80 --data-dir downloads/cholec80 --check
  surgvista prepare cholec80 --data-dir downloads/cholec80 --output frame_sets/cholec80 --num-proc 8
  surgvista prepare own --videos recordings --labels labels.xlsx --output frame_sets/ours
  surgvista prepare synthetic --output frame_sets/synthetic --set videos=20 --set seconds=60
After an interruption the same command goes on where it stopped."""


def _number_or(word: str) -> Callable[[str], float | None]:
    """Return a parser of numbers that takes `word` for `None`."""

    def _parse(text: str) -> float | None:
        try:
            return None if text == word else float(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor {word!r}") from error

    return _parse


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista prepare`."""
    parser.epilog = EPILOG
    parser.add_argument("name", nargs="?", help="data set; --list names all")
    parser.add_argument("--list", action="store_true", help="list all data sets with task, license and protocols")
    parser.add_argument("--data-dir", type=Path, help="folder with the raw data")
    parser.add_argument("--output", type=Path, help="folder of the frame set")
    parser.add_argument(
        "--check", action="store_true", help="only report which raw data is missing, or how own labels are understood"
    )
    add_executor_options(parser, "videos")
    sampling = parser.add_mutually_exclusive_group()
    sampling.add_argument(
        "--frames-per-second",
        type=_number_or("all"),
        metavar="RATE|all",
        default=argparse.SUPPRESS,
        help="frames a second (default: the usual rate of the data set, mostly 1)",
    )
    sampling.add_argument("--every", type=int, metavar="N", help="every n-th frame instead, as published programs do")
    parser.add_argument(
        "--short-side",
        type=_number_or("keep"),
        metavar="PIXELS|keep",
        default=256,
        help="reduce frames to this shorter side (default: 256)",
    )
    parser.add_argument("--quality", type=int, default=90, help="quality of the JPEG coding (default: 90)")
    parser.add_argument(
        "--crop-border", action="store_true", help="cut off the black border, as SurgVISTA does for Cholec80"
    )
    unlabeled = parser.add_mutually_exclusive_group()
    unlabeled.add_argument(
        "--keep-unlabeled", dest="unlabeled", action="store_const", const="keep", help="keep frames without a label"
    )
    unlabeled.add_argument(
        "--drop-unlabeled", dest="unlabeled", action="store_const", const="drop", help="drop frames without a label"
    )
    parser.add_argument(
        "--folder-frames-per-second",
        type=float,
        default=1.0,
        metavar="RATE",
        help="rate of already extracted frames (default: 1)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="difference in length that labels and frames may have (default: 2)",
    )
    add_own_arguments(parser)
    add_reading_arguments(parser)
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out videos that cannot be prepared")
    parser.add_argument(
        "--set", type=_setting, action="append", default=[], metavar="NAME=VALUE", help="further options of a data set"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Prepare a frame set, or list data sets or check raw data."""
    from ..util.errors import InputError

    if arguments.list:
        _print_list(arguments.json)
        return
    if not arguments.name:
        raise InputError("name a data set; `surgvista prepare --list` shows all")
    check_own_arguments(arguments)
    if arguments.name == "own" and (arguments.check or arguments.propose):
        _check_own(arguments)
        return
    if arguments.check:
        _check(arguments)
        return
    if not arguments.output:
        raise InputError("--output is needed: the folder of the frame set")
    _prepare(arguments)


def _prepare(arguments: argparse.Namespace) -> None:
    from ..datasets_scripts.frame_sets.prepare import default_options, prepare_videos
    from ..datasets_scripts.frame_sets.registry import get_builder

    execution = executor_options(arguments)
    root = arguments.data_dir
    builder: FrameSetBuilder
    if arguments.name == "own":
        plan = own_plan(arguments)
        if not arguments.json:  # shown before anything is written
            print("\n".join(plan_lines(plan)))
        root, builder = plan.root, own_builder(plan, own_settings(arguments).get("source", ""))
    else:
        builder = get_builder(arguments.name).configured(root, dict(arguments.set))
    with Steps()(f"prepare {arguments.name}"):
        report = prepare_videos(
            builder,
            builder.find(root),
            arguments.output,
            _options(arguments, default_options(get_builder(arguments.name).info)),
            **execution,
            skip_unreadable=arguments.skip_unreadable,
            progress=True,
            root=root,
        )
    summary = {**report.to_dict(), "resumed": report.resumed, "output": str(arguments.output)}
    if arguments.json:
        print(json.dumps(summary))
        return
    print(
        f"{arguments.output}: {summary['videos']} videos, {summary['frames']} frames ({summary['labeled']} "
        "labeled), "
        f"{summary['hours']:.2f} h; {report.resumed} videos were finished before"
    )
    for video in report.removed:
        print(f"  removed {video}: it is no longer among the videos and labels")
    for video in report.kept:
        print(f"  kept {video}: it was prepared from another folder; if it must leave, prepare into another output")
    for video, remarks in summary["remarks"].items():
        print(f"  {video}: {'; '.join(remarks)}")
    for video, error in summary["failed"].items():
        print(f"  left out {video}: {error}")


def _options(arguments: argparse.Namespace, usual: "PreparationOptions") -> "PreparationOptions":
    options = replace(
        usual,
        short_side=None if arguments.short_side is None else int(arguments.short_side),
        quality=arguments.quality,
        crop_border=arguments.crop_border,
        unlabeled=arguments.unlabeled or usual.unlabeled,
        folder_frames_per_second=arguments.folder_frames_per_second,
        tolerance_seconds=arguments.tolerance,
        **reading_options(arguments),
    )
    if arguments.every:
        return replace(options, every=arguments.every)
    if "frames_per_second" in arguments:
        return replace(options, frames_per_second=arguments.frames_per_second, every=None)
    return options


def _check_own(arguments: argparse.Namespace) -> None:
    """Print how own labels are understood, and write nothing but a proposed mapping."""
    plan = own_plan(arguments)
    print(json.dumps(plan_summary(plan)) if arguments.json else "\n".join(plan_lines(plan)))
    if arguments.propose:
        return
    own_builder(plan)  # raises what would stop the preparation: unknown labels, intervals that overlap


def _check(arguments: argparse.Namespace) -> None:
    from ..datasets_scripts.frame_sets.registry import get_builder
    from ..datasets_scripts.schema.info import MissingFilesError

    executor_options(arguments)
    builder = get_builder(arguments.name).configured(arguments.data_dir, dict(arguments.set))
    found = builder.videos(arguments.data_dir)
    missing = [{"video": video, "missing": part} for video, part in builder.missing(found)]
    if arguments.json:
        print(json.dumps({"videos": len(found), "missing": missing, "source": builder.source}))
    else:
        print(
            f"{builder.info.title}: {len(found)} videos found"
            + (f" of {len(builder.info.video_ids)}" if builder.info.video_ids else "")
        )
        for entry in missing:
            print(f"  {entry['video']}: no {entry['missing']}")
    if missing:
        raise MissingFilesError(f"{len(missing)} files are missing. {builder.source}")


def _print_list(as_json: bool) -> None:
    from ..datasets_scripts.frame_sets.registry import list_datasets

    everything = list_datasets()
    if as_json:
        keys = ("name", "title", "task", "procedure", "license", "homepage", "access")
        print(
            json.dumps(
                [
                    {**{key: getattr(info, key) for key in keys}, "protocols": list(info.protocols)}
                    for info in everything
                ]
            )
        )
        return
    for info in everything:
        print(f"{info.name:22} {info.task:13} {info.title} - {info.license}")
        print(f"{'':36} protocols: {', '.join(info.protocols)}")
