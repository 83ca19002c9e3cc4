"""`surgvista predict`: per-second predictions of a video, or of all videos in a folder."""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.console import Steps
from .common import (
    ExecutorOptions,
    add_detector_arguments,
    add_dtype_argument,
    add_executor_options,
    add_frame_stride_argument,
    add_reading_arguments,
    detector_of,
    executor_options,
    named_models,
    print_outcome,
    reading_options,
)

if TYPE_CHECKING:
    from ..inference import SurgicalVideoPredictor
    from ..inference.deidentification import Pseudonyms
    from ..util.executors import Lazy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista predict`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista predict operation.mp4 --model my-phase-model --output result --formats csv,png,vtt,html\n"
        "  surgvista predict operation.mp4 --model phase=phases --model triplets=triplets --output result\n"
        "  surgvista predict operation.mp4 --model my-phase-model --temporal my-tcn --output result\n"
        "  surgvista predict operation.mp4 --model my-phase-model --output result --fast --every 2\n"
        "  surgvista predict videos --model my-phase-model --output results --skip-unreadable\n"
        "  surgvista predict videos --model my-phase-model --out-of-body detector --mapping names.json --output shared\n"
        "  accelerate launch -m surgvista_hf.cli.main predict videos --model my-phase-model --output results\n"
        "formats: csv, json, png and svg (timeline), vtt (chapters), eaf (ELAN), html (report), mp4 (annotated video)"
    )
    parser.add_argument("video", type=Path, help="video file, or a folder with videos")
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="[NAME=]MODEL",
        help="folder or Hub id of a trained video classifier or adapter; several with names",
    )
    parser.add_argument(
        "--temporal", action="append", default=[], metavar="[NAME=]MODEL", help="MS-TCN on the features of a model"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the files")
    parser.add_argument("--formats", default="csv,json,png", help="formats of the results (default: csv,json,png)")
    parser.add_argument("--batch-size", type=int, default=8, help="clips at a time (default: 8)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    add_dtype_argument(parser)
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="seconds from one prediction to the next; what was predicted is held in between (default: 1)",
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="compute in 8 bits on the processor (ONNX Runtime); the graph is exported at first use and cached",
    )
    parser.add_argument("--runtime", default="torch", help="torch, or onnx for exported models (default: torch)")
    add_frame_stride_argument(parser)
    add_reading_arguments(parser)
    add_detector_arguments(parser)
    parser.add_argument(
        "--mapping", type=Path, help="JSON file of pseudonyms: names of videos stay in it, results get pseudonyms"
    )
    add_executor_options(parser, "in a folder: videos")
    parser.add_argument("--skip-unreadable", action="store_true", help="in a folder: go on where a video is damaged")
    parser.add_argument("--json", action="store_true", help="print the segments and files as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Predict a video or all videos in a folder, and write the results."""
    from ..inference.batch import find_videos
    from ..inference.deidentification import Pseudonyms
    from ..inference.prediction.prediction import check_formats
    from ..util.errors import InputError
    from ..util.executors import Lazy, is_parallel

    formats = [name for name in arguments.formats.split(",") if name]
    check_formats(formats)
    execution = executor_options(arguments)
    find_videos(arguments.video, tell=False)  # before anything is loaded
    if arguments.video.is_file() and is_parallel(execution["executor"], execution["num_proc"]):
        raise InputError("one video is predicted here: --executor and --num-proc divide the videos of a folder")
    pseudonyms = Pseudonyms(arguments.mapping, arguments.output) if arguments.mapping else None
    predictor = Lazy(partial(_load, arguments))
    steps = Steps(2)
    with steps(f"load {', '.join(named_models('--model', arguments.model).values())}") as step:
        loaded = predictor.value
        step.remember(f"computes in {loaded.computing_text}")
    if not arguments.fast and arguments.dtype == "auto":  # other machines compute in the same precision
        arguments.dtype = next(iter(loaded.models.values())).dtype
    if arguments.video.is_dir():
        _predict_folder(arguments, predictor, formats, pseudonyms, steps, execution)
    else:
        _predict_one(arguments, loaded, formats, pseudonyms, steps)


def _load(arguments: argparse.Namespace) -> "SurgicalVideoPredictor":
    """Load the predictor that the options describe, here or in another process."""
    from ..inference import SurgicalVideoPredictor

    models = named_models("--model", arguments.model)
    return SurgicalVideoPredictor(
        models,
        temporal=named_models("--temporal", arguments.temporal, default_name=next(iter(models))),
        device=arguments.device,
        batch_size=arguments.batch_size,
        dtype=arguments.dtype,
        runtime=arguments.runtime,
        every=arguments.every,
        fast=arguments.fast,
        out_of_body=detector_of(arguments),
        **reading_options(arguments),
        frame_stride=arguments.frame_stride,
    )


def _predict_one(
    arguments: argparse.Namespace,
    predictor: "SurgicalVideoPredictor",
    formats: list[str],
    pseudonyms: "Pseudonyms | None",
    steps: Steps,
) -> None:
    from ..inference.writers.save_predictions import save_predictions

    name = f"{pseudonyms.of(arguments.video, arguments.video.parent)}.mp4" if pseudonyms else None
    with steps(f"predict {name or arguments.video.name}"):
        found = predictor.predict_all(arguments.video, name=name, progress=True)
        model_info = {name: model.describe() for name, model in predictor.models.items()}
        written = save_predictions(found, arguments.output, formats, video=arguments.video, model_info=model_info)
    files = [str(file) for file in written]
    by_model = {name: [vars(each) for tier in one.tiers().values() for each in tier] for name, one in found.items()}
    if arguments.json:
        # The segments of a single model stand without its name.
        content = next(iter(by_model.values())) if len(by_model) == 1 else by_model
        print(json.dumps({"files": files, "segments": content}))
        return
    for name, segments in by_model.items():
        if len(by_model) > 1:
            print(f"{name}:")
        for segment in segments:
            print(
                f"{segment['start']:8.1f} - {segment['end']:8.1f} s  {segment['label']}  ({segment['confidence']:.0%})"
            )
    print("written:", *files)


def _predict_folder(
    arguments: argparse.Namespace,
    predictor: "Lazy[SurgicalVideoPredictor]",
    formats: list[str],
    pseudonyms: "Pseudonyms | None",
    steps: Steps,
    execution: ExecutorOptions,
) -> None:
    from ..inference.batch import predict_folder

    with steps(f"predict the videos in {arguments.video}"):
        report = predict_folder(
            predictor,
            arguments.video,
            arguments.output,
            formats=formats,
            pseudonyms=pseudonyms,
            skip_unreadable=arguments.skip_unreadable,
            progress=True,
            **execution,
        )
    print_outcome(report, arguments, "predicted")
