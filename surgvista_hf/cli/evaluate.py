"""`surgvista evaluate`: a finished model on a frame set, or predictions of any program against labels."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.console import Steps
from .common import add_dtype_argument, add_frame_stride_argument, add_split_arguments, load_named_split

if TYPE_CHECKING:
    from datasets import Dataset

    from ..evaluation.tasks import Task
    from ..inference.evaluation import Evaluation, LabeledMoments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista evaluate`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista evaluate my-model --data cholec80=frame_sets/cholec80 --label phase --output result\n"
        "  surgvista evaluate my-model --data phase_folder=ours --split all --label phase --classes 'sewing=Suturing'\n"
        "  surgvista evaluate --predictions results --data cholec80=frame_sets/cholec80 --label phase --output result\n"
        "  surgvista evaluate --predictions other_program --labels phases --output result\n"
        "  surgvista evaluate runs/fold0/model --data cholect50=frame_sets/cholect50 --split-file folds.yaml --fold 0\n"
        "Predictions: a folder that `surgvista predict` filled, or a file for each video: CSV, JSON, NumPy (.npy), ELAN.\n"
        "Labels: a frame set (--data), or a file for each video (--labels) with rows or intervals: CSV, text, Excel, ELAN."
    )
    parser.add_argument("model", nargs="?", help="folder or Hub id of a classifier or an adapter")
    parser.add_argument("--predictions", type=Path, help="predictions instead of a model: a folder or a file")
    parser.add_argument("--data", metavar="NAME=DIR", help="frame set with the labels")
    parser.add_argument("--labels", type=Path, help="label files instead of a frame set: a folder or a file")
    add_split_arguments(parser, "test")
    parser.add_argument(
        "--allow-overlap", action="store_true", help="test a model on videos that it was trained on, with a warning"
    )
    parser.add_argument("--label", default="phase", help="column of the frame set (default: phase)")
    parser.add_argument(
        "--classes",
        action="append",
        default=[],
        metavar="LABEL=CLASS",
        help="name of a class of the labels in the model or the predictions; LABEL= leaves it out",
    )
    parser.add_argument(
        "--every",
        type=float,
        metavar="SECONDS",
        help="seconds between two rows of an array (default: 1), or between two frames in files that count frames",
    )
    parser.add_argument(
        "--resamples", type=int, default=1000, help="draws of videos for the intervals (default: 1000)"
    )
    add_frame_stride_argument(parser)
    parser.add_argument("--batch-size", type=int, default=16, help="clips at a time (default: 16)")
    parser.add_argument("--device", help="where to run (default: a GPU if there is one)")
    add_dtype_argument(parser, default="float32")  # a result must not depend on the machine
    parser.add_argument("--output", type=Path, help="folder for results, tables and plots")
    parser.add_argument("--json", action="store_true", help="print all results as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Evaluate a model or predictions, and print the metrics."""
    from ..util.errors import InputError

    if (arguments.model is None) == (arguments.predictions is None):
        raise InputError("give either a model or --predictions")
    if (arguments.data is None) == (arguments.labels is None):
        raise InputError("give either --data NAME=DIR or --labels FOLDER")
    if arguments.model and arguments.labels:
        raise InputError("a model needs a frame set: `surgvista prepare` makes one of videos and labels, then --data")
    every = 1.0 if arguments.every is None else arguments.every
    if not every > 0 or arguments.batch_size < 1 or arguments.resamples < 1:
        raise InputError("--every, --batch-size and --resamples must be positive")
    with Steps()(f"evaluate {arguments.model or arguments.predictions}"):
        evaluation = _evaluated(arguments)
        if arguments.output:
            name = Path(arguments.model or arguments.predictions).name
            evaluation.save(arguments.output, name=name, data=(arguments.data or "labels").partition("=")[0])
    _print(arguments, evaluation)


def _evaluated(arguments: argparse.Namespace) -> "Evaluation":
    from ..inference import evaluation

    if arguments.labels:
        names = _listed_classes(arguments.labels)
        labels, task = evaluation.labels_of_files(arguments.labels, names, every=arguments.every)
        return _of_files(arguments, labels, task, is_ordered=names is not None)
    from ..trainers.finetune import task_of
    from ..trainers.finetuning.recipe import LabeledData

    name, folder, frames = load_named_split(arguments)
    data = LabeledData(name, folder, arguments.label)
    _check_column(frames, arguments.label)
    if arguments.predictions:
        task = task_of(data, frames)
        return _of_files(arguments, evaluation.labels_of_frames(frames, arguments.label, task), task)
    model = evaluation.ClipModel.load(
        arguments.model, device=arguments.device, dtype=arguments.dtype, frame_stride=arguments.frame_stride
    )
    task = task_of(replace(data, sampling=evaluation.sampling_of(model)), frames)
    return evaluation.evaluate_model(
        model,
        frames,
        task,
        arguments.label,
        classes=_class_mapping(arguments.classes),
        batch_size=arguments.batch_size,
        progress=True,
        resamples=arguments.resamples,
        on_overlap="warn" if arguments.allow_overlap else "error",
    )


def _of_files(
    arguments: argparse.Namespace, labels: "dict[str, LabeledMoments]", task: "Task", *, is_ordered: bool = True
) -> "Evaluation":
    from ..inference import evaluation

    labels, task = evaluation.map_labels(labels, task, _class_mapping(arguments.classes))
    return evaluation.evaluate_files(
        arguments.predictions,
        labels,
        task,
        every=arguments.every,
        resamples=arguments.resamples,
        is_ordered=is_ordered,
    )


def _check_column(frames: "Dataset", label: str) -> None:
    from ..util.errors import InputError

    if label not in frames.column_names:
        raise InputError(f"--label is {label!r}; the frame set has the columns {', '.join(frames.column_names)}")


def _listed_classes(folder: Path) -> list[str] | None:
    """Return the classes of `classes.txt` in the folder of the labels or above it."""
    from ..datasets_scripts.schema.annotation_files import read_class_list

    for parent in (folder, folder.parent):
        file = parent / "classes.txt"
        if parent.is_dir() and file.is_file():
            return read_class_list(file)
    return None


def _class_mapping(values: list[str]) -> dict[str, str | None]:
    from ..util.errors import InputError

    pairs = [value.partition("=") for value in values]
    if not all(equals for _, equals, _ in pairs):
        raise InputError("--classes is LABEL=CLASS, e.g. --classes sewing=Suturing")
    return {source: target or None for source, _, target in pairs}


def _print(arguments: argparse.Namespace, evaluation: "Evaluation") -> None:
    if arguments.json:
        print(
            json.dumps(
                {
                    "metrics": evaluation.metrics,
                    "by_video": evaluation.by_video,
                    "results": evaluation.results,
                    **evaluation.breakdown.to_dict(),
                }
            )
        )
        return
    task, count, videos = evaluation.task, len(evaluation.predictions.labels), len(evaluation.by_video)
    print(f"{task.kind} of {len(task.names)} classes, {count} labels of {videos} videos")
    relaxed = {
        name: evaluation.results[name]
        for name in ("relaxed_corrected", "relaxed_published")
        if name in evaluation.results
    }
    header = f"  {'':24} {'strict' if relaxed else 'value':>8} {'95 % interval':>15}" + "".join(
        f" {name.replace('_', ' '):>18}" for name in relaxed
    )
    print(header)
    for name, value in evaluation.metrics.items():
        interval = evaluation.breakdown.intervals.get(name)
        between = f"{interval.low:.3f}-{interval.high:.3f}" if interval else ""
        row = f"  {name:24} {value:8.4f} {between:>15}"
        print(row + "".join(f" {_number(result.get(name)):>18}" for result in relaxed.values()))
    if arguments.output:
        print(f"results, tables and plots: {arguments.output}")


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else ""
