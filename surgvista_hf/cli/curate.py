"""`surgvista curate`: from addresses of web videos to a clean frame set, stage by stage."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.console import Steps
from .common import add_executor_options, add_verbose_argument, executor_options

if TYPE_CHECKING:
    from ..curation.collection.reports import StageReport
    from ..curation.stages.pipeline import CurationOptions

_STAGES = ("classify-videos", "classify-frames", "trim", "hash", "deduplicate", "mask")
# The purpose of each action, and an example.
ACTIONS = {
    "collect": (
        "download videos, or take them from a folder",
        "surgvista curate collect corpus --labels labels.json --cookies cookies.txt\n"
        "  surgvista curate collect corpus --search 'laparoscopic cholecystectomy' --limit 200 --ignore animation\n"
        "  surgvista curate collect corpus --urls addresses.txt --pause 10\n"
        "  surgvista curate collect corpus --folder recordings",
    ),
    "run": (
        "all stages, and the export if there is an --output",
        "surgvista curate run corpus --video-model storyboards --frame-model frames-a --frame-model frames-b "
        "--region-model regions --output frame_sets/corpus",
    ),
    "classify-videos": (
        "drop videos that show no operation, by a storyboard",
        "surgvista curate classify-videos corpus --video-model storyboards",
    ),
    "classify-frames": (
        "classify seconds as surgical or not",
        "surgvista curate classify-frames corpus --frame-model frames-a --frame-model frames-b",
    ),
    "trim": ("cut off the seconds before and after the operation", "surgvista curate trim corpus --run 3"),
    "hash": ("compute hashes of the operation, by which repetitions are found", "surgvista curate hash corpus"),
    "deduplicate": (
        "drop videos that repeat another one",
        "surgvista curate deduplicate corpus --repeat-fraction 0.5",
    ),
    "mask": (
        "find regions without tissue in the frames, and their black border",
        "surgvista curate mask corpus --region-model regions",
    ),
    "export": (
        "make a frame set of the kept videos",
        "surgvista curate export corpus --output frame_sets/corpus --labels labels.json",
    ),
    "review": (
        "write a page to review decisions, or apply the overrides that it saved",
        "surgvista curate review corpus --only dropped\n  surgvista curate review corpus --apply overrides.json",
    ),
    "remove": (
        "remove videos for good",
        "surgvista curate remove corpus --id=-Ab3dEf6hIj --reason 'asked by the owner'",
    ),
    "train-classifier": (
        "train a classifier of storyboards or frames on your labels",
        "surgvista curate train-classifier labeled_frames --output frames --classes surgical,non-surgical",
    ),
    "train-regions": (
        "train a detector of regions on your labels",
        "surgvista curate train-regions regions.json --output regions --model PekingU/rtdetr_r18vd --learning-rate 1e-4",
    ),
    "status": ("show how many videos each stage kept and dropped, and why", "surgvista curate status corpus --json"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista curate`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista curate collect corpus --labels labels.json\n"
        "  surgvista curate run corpus --frame-model frames --region-model regions --output frame_sets/corpus\n"
        "  surgvista curate status corpus\n"
        "After an interruption the same command goes on where it stopped. Each action has its own --help."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    for action, (purpose, example) in ACTIONS.items():
        subparser = actions.add_parser(
            action,
            help=purpose,
            description=purpose,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if not action.startswith("train"):
            subparser.add_argument("folder", type=Path, help="folder of the collection")
        subparser.add_argument("--json", action="store_true", help="print the result as JSON")
        add_verbose_argument(subparser)
        _ADD.get(action, _add_stage)(subparser)


def _add_stage(parser: argparse.ArgumentParser) -> None:
    action = parser.prog.split()[-1]
    everything = action == "run"
    if everything or action == "classify-videos":
        _add_models(parser, "video", "classifier of storyboards")
        parser.add_argument("--informative", default="informative", help="class that is kept (default: %(default)s)")
    if everything or action == "classify-frames":
        _add_models(parser, "frame", "classifier of frames")
        parser.add_argument("--surgical", default="surgical", help="class that is kept (default: %(default)s)")
    if everything or action == "trim":
        parser.add_argument(
            "--run",
            dest="run_seconds",
            type=int,
            default=3,
            help="surgical seconds in a row that begin and end the operation (default: 3)",
        )
    if everything or action == "deduplicate":
        parser.add_argument(
            "--max-distance",
            type=float,
            default=4.0,
            help="bits of 64 by which repeated frames may differ (default: 4)",
        )
        parser.add_argument(
            "--repeat-run", type=int, default=8, help="seconds in a row that must be repeated (default: 8)"
        )
        parser.add_argument(
            "--repeat-fraction",
            type=float,
            default=0.5,
            help="fraction of a video that must be repeated (default: 0.5)",
        )
        # The name of the option in earlier versions.
        parser.add_argument(
            "--repeat-share",
            dest="repeat_fraction",
            type=float,
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )
    if everything or action == "mask":
        _add_models(parser, "region", "detector of regions")
        parser.add_argument("--threshold", type=float, default=0.25, help="lowest confidence of a box (default: 0.25)")
        parser.add_argument(
            "--overlap", type=float, default=0.7, help="overlap above which one of two boxes is kept (default: 0.7)"
        )
    add_executor_options(parser, "videos")
    if everything or action.startswith("classify") or action == "mask":
        parser.add_argument("--batch-size", type=int, default=16, help="frames at once (default: 16)")
        parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
        parser.add_argument(
            "--dtype",
            choices=("auto", "float32", "bfloat16"),
            default="auto",
            help="number format of the models (default: bfloat16 for classifiers where the CPU has it, else float32)",
        )
    if everything:
        _add_export(parser, required=False)


def _add_models(parser: argparse.ArgumentParser, kind: str, purpose: str) -> None:
    parser.add_argument(
        f"--{kind}-model",
        dest=f"{kind}_models",
        action="append",
        default=[],
        metavar="MODEL",
        help=f"{purpose}: folder or Hub id; several for an ensemble",
    )


def _add_collect(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--labels", type=Path, help="LEMON's labels.json")
    source.add_argument("--urls", type=Path, help="text file with an address, or an id and an address, on each line")
    source.add_argument("--search", metavar="WORDS", help="results of a site's search with every word in the title")
    source.add_argument("--folder", dest="from_folder", type=Path, help="videos of this machine; they are copied")
    parser.add_argument("--playlist", help="with --search: search this playlist, channel or feed")
    parser.add_argument("--limit", type=int, default=50, help="with --search: number of results (default: 50)")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="WORD", help="with --search: skip titles with this word"
    )
    parser.add_argument("--cookies", type=Path, help="cookies.txt, for videos that need an account")
    parser.add_argument(
        "--rate-limit", type=float, default=5.0, metavar="MB/S", help="largest rate (default: 5; 0: no limit)"
    )
    parser.add_argument(
        "--pause", type=float, default=5.0, metavar="SECONDS", help="pause between videos (default: 5)"
    )
    parser.add_argument("--height", type=int, default=720, help="largest height of the frames (default: 720)")
    parser.add_argument("--recheck", action="store_true", help="remove collected videos that are gone from their site")
    parser.add_argument("--retry-unreadable", action="store_true", help="try again where no video was found")
    parser.add_argument("--dry-run", action="store_true", help="only list the videos that would be requested")


def _add_export(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("--output", type=Path, required=required, help="folder of the frame set")
    parser.add_argument("--labels", type=Path, help="LEMON's labels.json, for its procedures")
    parser.add_argument("--source", default="", help="name of the corpus in the frame set (default: curated)")
    parser.add_argument("--frames-per-second", type=float, default=1.0, help="frames a second (default: 1)")
    parser.add_argument(
        "--short-side", type=int, default=256, help="reduce frames to this shorter side (default: 256; 0: keep)"
    )
    parser.add_argument("--quality", type=int, default=90, help="quality of the JPEG coding (default: 90)")
    parser.add_argument(
        "--not-surgical",
        choices=("drop", "black"),
        default="drop",
        help="seconds within the operation that are not surgical (default: drop)",
    )
    parser.add_argument("--without-masks", action="store_true", help="export although nothing was masked")
    parser.add_argument("--keep-border", action="store_true", help="leave the black border")
    if required:
        add_executor_options(parser, "videos")


def _add_review(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        choices=("doubtful", "kept", "dropped", "overridden", "all"),
        default="doubtful",
        help="selection of videos (default: doubtful, least sure first)",
    )
    parser.add_argument(
        "--id", dest="ids", action="append", default=[], help="show this video; --id=-x if it begins with -"
    )
    parser.add_argument("--limit", type=int, default=100, help="videos on the page (default: 100)")
    parser.add_argument("--output", type=Path, help="HTML file (default: review.html in the collection)")
    parser.add_argument("--apply", type=Path, metavar="FILE", help="apply a file of overrides, write no page")


def _add_remove(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--id", dest="ids", action="append", required=True, help="id of the video; --id=-x if it begins with -"
    )
    parser.add_argument("--reason", required=True, help="reason for the record, without names")


def _add_training(parser: argparse.ArgumentParser) -> None:
    is_classifier = parser.prog.endswith("classifier")
    format_help = (
        "folder with a folder of images for each class, or CSV with image and label"
        if is_classifier
        else "regions in COCO's format (JSON)"
    )
    parser.add_argument("examples", type=Path, help=format_help)
    parser.add_argument("--output", type=Path, required=True, help="new folder for the model")
    if is_classifier:
        parser.add_argument("--classes", help="names in order, with commas between (default: sorted)")
    parser.add_argument("--model", help="checkpoint to start from (default: a small model with random weights)")
    parser.add_argument("--validation", type=Path, help="examples of other videos, to measure the result")
    parser.add_argument("--epochs", type=float, default=10 if is_classifier else 30, help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32 if is_classifier else 16, help="(default: %(default)s)")
    parser.add_argument(
        "--learning-rate", type=float, default=2e-3, help="1e-4 for checkpoints (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")


def _add_nothing(parser: argparse.ArgumentParser) -> None:
    """Add no further arguments."""


_ADD = {
    "collect": _add_collect,
    "export": _add_export,
    "review": _add_review,
    "remove": _add_remove,
    "status": _add_nothing,
    "train-classifier": _add_training,
    "train-regions": _add_training,
}


# --------------------------------------------------------------------------------------------- running


def run(arguments: argparse.Namespace) -> None:
    """Run an action on a collection."""
    _RUN.get(arguments.action, _run_stage)(arguments)


def _collect(arguments: argparse.Namespace) -> None:
    from ..curation.collection import collect

    options = collect.CollectOptions(
        cookies=arguments.cookies,
        megabytes_per_second=arguments.rate_limit or None,
        pause_seconds=arguments.pause,
        height=arguments.height,
        recheck=arguments.recheck,
        retry_unreadable=arguments.retry_unreadable,
    )
    if arguments.labels:
        wanted = collect.from_labels(arguments.labels)
    elif arguments.urls:
        wanted = collect.from_urls(arguments.urls)
    elif arguments.from_folder:
        wanted = collect.from_folder(arguments.from_folder)
    else:
        wanted = collect.from_search(
            arguments.search,
            limit=arguments.limit,
            ignore=arguments.ignore,
            playlist=arguments.playlist,
            options=options,
        )
    if arguments.dry_run:
        entries = [asdict(each) for each in wanted]
        text = "\n".join(f"{each.video_id}  {each.url}" for each in wanted)
        print(json.dumps(entries) if arguments.json else f"{text}\n{len(wanted)} videos would be requested".strip())
        return
    with Steps()(f"collect {len(wanted)} videos"):
        report = collect.collect(arguments.folder, wanted, options, progress=True)
    _print([report], arguments.json)


def _options(arguments: argparse.Namespace) -> "CurationOptions":
    from ..curation.stages.pipeline import CurationOptions

    # The options of other stages keep their defaults; `run` is also the name of the verb's function.
    given: dict[str, Any] = {**vars(arguments), "run": getattr(arguments, "run_seconds", 3)}
    for name in ("video_models", "frame_models", "region_models"):
        given[name] = tuple(given.get(name, ()))
    return CurationOptions(**{name: given[name] for name in CurationOptions.__dataclass_fields__ if name in given})


def _run_stage(arguments: argparse.Namespace) -> None:
    from ..curation.stages.pipeline import run_stage

    options, execution = _options(arguments), executor_options(arguments)
    if arguments.action.startswith("classify"):
        _tell_precision(options)
    with Steps()(arguments.action):
        report = run_stage(arguments.folder, arguments.action, options, progress=True, **execution)
    _print([report], arguments.json)


def _tell_precision(options: "CurationOptions") -> None:
    """Print in which number format classifiers run, beside the result."""
    from ..curation.models.classifiers import resolve_precision

    print(f"classifiers run in {resolve_precision(options.dtype, options.device)}", file=sys.stderr)


def _run_all(arguments: argparse.Namespace) -> None:
    from ..curation.stages.pipeline import run_pipeline

    options, execution = _options(arguments), executor_options(arguments)
    _tell_precision(options)
    reports = run_pipeline(arguments.folder, options, progress=True, **execution)
    exported = _exported(arguments) if arguments.output else {}
    _print(reports, arguments.json, exported)


def _export(arguments: argparse.Namespace) -> None:
    _print([], arguments.json, _exported(arguments))


def _exported(arguments: argparse.Namespace) -> dict[str, Any]:
    from ..curation.stages.export import ExportOptions, export_frame_set

    options = ExportOptions(
        frames_per_second=arguments.frames_per_second,
        short_side=arguments.short_side or None,
        quality=arguments.quality,
        not_surgical=arguments.not_surgical,
        without_masks=arguments.without_masks,
        keep_border=arguments.keep_border,
    )
    with Steps()("export"):
        report = export_frame_set(
            arguments.folder,
            arguments.output,
            options,
            labels=arguments.labels,
            source=arguments.source,
            progress=True,
            **executor_options(arguments),
        )
    return {**report.to_dict(), "output": str(arguments.output)}


def _review(arguments: argparse.Namespace) -> None:
    if arguments.apply:
        from ..curation.collection.overrides import apply_overrides

        count = len(list(apply_overrides(arguments.folder, arguments.apply)))
        print(json.dumps({"decisions": count}) if arguments.json else f"{count} decisions; run the stages again")
        return
    from ..curation.review import write_review

    with Steps()("draw the page"):
        path = write_review(
            arguments.folder, arguments.output, only=arguments.only, videos=arguments.ids, limit=arguments.limit
        )
    print(json.dumps({"page": str(path)}) if arguments.json else f"written: {path}")


def _remove(arguments: argparse.Namespace) -> None:
    from ..curation.collection.collect import remove

    remove(arguments.folder, arguments.ids, arguments.reason)
    print(json.dumps({"removed": arguments.ids}) if arguments.json else f"{len(arguments.ids)} removed for good")


def _status(arguments: argparse.Namespace) -> None:
    from ..curation.collection.manifest import Collection
    from ..curation.collection.results import summarize

    _print(summarize(Collection(arguments.folder)), arguments.json)


def _train(arguments: argparse.Namespace) -> None:
    from ..curation.models.training import Schedule, train_classifier, train_region_detector

    schedule = Schedule(arguments.epochs, arguments.batch_size, arguments.learning_rate, arguments.seed)
    given: dict[str, Any] = {"model": arguments.model, "validation": arguments.validation, "schedule": schedule}
    with Steps()("train"):
        if arguments.action == "train-classifier":
            classes = arguments.classes.split(",") if arguments.classes else None
            report = train_classifier(arguments.examples, arguments.output, classes=classes, **given)
        else:
            report = train_region_detector(arguments.examples, arguments.output, **given)
    print(json.dumps(report) if arguments.json else f"{arguments.output}: {json.dumps(report, indent=1)}")


def _print(reports: "list[StageReport]", as_json: bool, exported: dict[str, Any] | None = None) -> None:
    from ..curation.collection.reports import table

    if as_json:
        content = {"stages": [report.to_dict() for report in reports]} if reports else {}
        print(json.dumps({**content, **({"export": exported} if exported else {})}))
        return
    if reports:
        print(table(reports))
    if exported:
        print(
            f"{exported['output']}: {exported['videos']} videos, {exported['frames']} frames, {exported['hours']:.2f} h"
        )
        for video, error in exported["failed"].items():
            print(f"  left out {video}: {error}")


_RUN = {
    "collect": _collect,
    "run": _run_all,
    "export": _export,
    "review": _review,
    "remove": _remove,
    "status": _status,
    "train-classifier": _train,
    "train-regions": _train,
}
