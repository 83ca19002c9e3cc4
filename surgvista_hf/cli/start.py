"""`surgvista start`: from recordings and labels to a first model and a report, for people who have never trained anything."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .common import named_frame_set

if TYPE_CHECKING:
    from ..guide.first_model import FirstModel, Prepared, StartOptions
    from ..guide.plan import Plan
    from ..guide.recordings import OwnFrameSet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista start`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista start recordings labels.xlsx --output first\n"
        "  surgvista start recordings labels --output first --model my-encoder --yes\n"
        "  surgvista start recordings labels --output first --check\n"
        "  surgvista start --data cholect50=frame_sets/cholect50 --label instruments --output first --model my-encoder\n"
        "Labels: a table, a file for each video, or files of an annotation tool, as `surgvista prepare own` reads them.\n"
        "Open first/inspection.html to see what was understood, first/report.html for the result. Both hold patient data.\n"
        "The same command goes on where it stopped, and after labels were changed it does what has changed."
    )
    parser.add_argument("videos", nargs="?", type=Path, help="folder of videos, or of a folder of images for each")
    parser.add_argument("labels", nargs="?", type=Path, help="file or folder of labels")
    parser.add_argument(
        "--mapping",
        type=Path,
        metavar="FILE",
        help="what the labels mean, as `surgvista prepare own --propose` writes it",
    )
    parser.add_argument("--data", metavar="NAME=DIR", help="a frame set, instead of videos and labels")
    parser.add_argument("--output", type=Path, required=True, help="folder of everything that is written")
    parser.add_argument("--model", help="folder or Hub id of an encoder (default: one of the Hub for this machine)")
    parser.add_argument(
        "--head",
        choices=("probe", "tcn", "lora"),
        help="probe: linear, on a frozen encoder; tcn: learns the order of phases too; lora: an adapter in the encoder "
        "(default: by the amount of labels and the machine)",
    )
    parser.add_argument("--label", help="label column (default: the first with one class a frame)")
    parser.add_argument(
        "--frame-stride", type=float, metavar="SECONDS", help="seconds between frames of a clip, for encoders of clips"
    )
    parser.add_argument("--batch-size", type=int, default=16, help="clips at a time (default: 16)")
    parser.add_argument("--device", help="where to run (default: a GPU if there is one)")
    parser.add_argument("--num-proc", type=int, default=1, help="videos that are prepared at a time (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of held-out operations and training (default: 0)")
    parser.add_argument("--no-images", action="store_true", help="write pages without frames")
    parser.add_argument("--check", action="store_true", help="only look at the data and say what would be trained")
    parser.add_argument("--yes", action="store_true", help="do not ask before training")
    parser.add_argument("--json", action="store_true", help="print the result as JSON; asks nothing")


def run(arguments: argparse.Namespace) -> None:
    """Look at the data, say what can be done, train, test and report."""
    from ..guide.first_model import (
        INSPECTION,
        check_encoder,
        plan_first_model,
        prepare_and_inspect,
        train_first_model,
    )
    from ..guide.plan import insufficient
    from ..util.errors import InputError

    if arguments.batch_size < 1 or arguments.num_proc < 1:
        raise InputError("--batch-size and --num-proc must be at least 1")
    unused = {name: getattr(arguments, name) for name in ("videos", "labels", "mapping")}
    if arguments.data and any(unused.values()):
        named = ", ".join(f"{name} {value}" for name, value in unused.items() if value)
        raise InputError(
            f"--data names a frame set that is prepared already, so {named} would not be used: give one or the other"
        )
    if arguments.model:
        check_encoder(arguments.model)  # before hours of preparing videos
    options = _options(arguments)
    prepared = prepare_and_inspect(
        arguments.videos, arguments.labels, arguments.output, options, data=_frame_set(arguments.data)
    )
    if not arguments.json:
        _print_data(prepared, arguments.output / INSPECTION)
    if reason := insufficient(prepared.labels):
        raise InputError(f"{reason}. The page of the data was written all the same")
    plan = plan_first_model(prepared, options)
    if not _may_train(arguments, plan):
        return
    result = train_first_model(prepared, plan, arguments.output, options, _again(arguments))
    _print_result(result, as_json=arguments.json)


def _options(arguments: argparse.Namespace) -> "StartOptions":
    from ..guide.first_model import StartOptions

    return StartOptions(
        model=arguments.model,
        head=arguments.head,
        label=arguments.label,
        frame_stride=arguments.frame_stride,
        batch_size=arguments.batch_size,
        device=arguments.device,
        seed=arguments.seed,
        num_proc=arguments.num_proc,
        images=not arguments.no_images,
        mapping=arguments.mapping,
    )


def _frame_set(data: str | None) -> "OwnFrameSet | None":
    from ..guide.recordings import OwnFrameSet

    if data is None:
        return None
    name, folder = named_frame_set("--data", data)
    return OwnFrameSet(name, Path(folder))


def _print_data(prepared: "Prepared", page: Path) -> None:
    labels = prepared.labels
    print(f"{len(labels.seconds)} labeled operations, {len(labels.class_seconds)} classes of {labels.column}")
    for finding in prepared.inspection.findings:
        print(f"  look: {finding.video}: {finding.text}" if finding.video else f"  look: {finding.text}")
    print(f"what was understood: {page}")


def _may_train(arguments: argparse.Namespace, plan: "Plan") -> bool:
    """Say what would be trained, and ask a person who sits there; return whether to go on."""
    if arguments.json:
        if arguments.check:
            print(
                json.dumps(
                    {"model": plan.model, "head": plan.head, "reasons": plan.reasons, "warnings": plan.warnings}
                )
            )
        return not arguments.check
    for text in plan.warnings:
        print(f"  not enough: {text}")
    for text in plan.reasons:
        print(f"  {text}")
    if arguments.check or arguments.yes or not sys.stdin.isatty():
        return not arguments.check
    return input("train it? [Y/n] ").strip().lower() in ("", "y", "yes")


def _again(arguments: argparse.Namespace) -> str:
    """Return the command that repeats everything, without questions."""
    argv = ["surgvista", "start"]
    argv += ["--data", arguments.data] if arguments.data else [str(arguments.videos), str(arguments.labels)]
    argv += ["--output", str(arguments.output)]
    for name in ("mapping", "model", "head", "label", "frame_stride", "device"):
        value = getattr(arguments, name)
        argv += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
    argv += ["--seed", str(arguments.seed)]
    return shlex.join([*argv, *(["--no-images"] if arguments.no_images else []), "--yes"])


def _print_result(result: "FirstModel", *, as_json: bool) -> None:
    from ..guide.first_model import COMMANDS, REPORT

    evaluation = result.evaluation
    if as_json:
        content = {"metrics": evaluation.metrics, "by_video": evaluation.by_video, "most_frequent": result.baseline}
        files = {"report": str(result.output / REPORT), "model": str(result.trained.model)}
        print(json.dumps({**content, **files, "temporal": result.trained.temporal and str(result.trained.temporal)}))
        return
    for video, value in evaluation.by_video.items():
        usual = f" (most frequent class: {result.baseline[video]:.0%})" if video in result.baseline else ""
        print(f"  {video:32} {value:.0%}{usual}")
    print(f"report: {result.output / REPORT}\nmodel: {result.trained.model}\ncommands: {result.output / COMMANDS}")
