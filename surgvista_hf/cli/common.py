"""Arguments that verbs share, and the reports of verbs over folders."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from datasets import Dataset

    from ..inference.batch import BatchReport
    from ..inference.models.out_of_body import OutOfBodyDetector
    from ..modeling.video_frames_surgvista import Deinterlace
    from ..modeling.video_reading_surgvista import Damaged
    from ..trainers.benchmark.cells import CellState
    from ..util.executors import Executor


class ReadingOptions(TypedDict):
    """The arguments of `VideoReader` that the command line sets."""

    deinterlace: "Deinterlace"
    damaged: "Damaged"


# ------------------------------------------------------------------------------------------- every verb


def add_verbose_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--verbose`; without it the messages of libraries go only to the log file."""
    parser.add_argument(
        "--verbose",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show everything that otherwise only the log file holds",
    )


# ------------------------------------------------------------------------------------------- models and frame sets


def add_frame_stride_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--frame-stride`, the spacing of clips."""
    parser.add_argument(
        "--frame-stride",
        type=float,
        metavar="SECONDS",
        help="seconds between two frames of a clip, for a model that does not say it (default: what the model says, or 4 with "
        "a remark); another spacing than the model was trained with is an error",
    )


def add_dtype_argument(parser: argparse.ArgumentParser, default: str = "auto") -> None:
    """Add `--dtype`, the precision that a model computes in.

    Args:
        parser: parser of the verb.
        default: precision without the option. Verbs whose results are compared with others' have `float32`.
    """
    parser.add_argument(
        "--dtype",
        default=default,
        help="precision: float32, bfloat16, or auto, which is bfloat16 where the GPU or processor (AMX, AVX512-BF16) has it "
        f"in hardware and float32 elsewhere (default: {default})",
    )


def add_code_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--with-code`."""
    parser.add_argument(
        "--with-code",
        action="store_true",
        help="also write the code files, so that the model loads without this package, with trust_remote_code=True",
    )


def named_frame_set(option: str, text: str) -> tuple[str, str]:
    """Split NAME=DIR into name and folder of a frame set.

    Args:
        option: name of the option, for the message.
        text: its value.

    Raises:
        InputError: if the value has another form.
    """
    from ..util.errors import InputError

    name, equals, folder = text.partition("=")
    if not equals:
        raise InputError(f"{option} is {text!r}; NAME=DIR is expected, e.g. cholec80=frame_sets/cholec80")
    return name, folder


def add_split_arguments(parser: argparse.ArgumentParser, default: str, *, protocol: bool = True) -> None:
    """Add `--split`, `--protocol`, `--split-file` and `--fold`, which choose the videos of a frame set.

    Args:
        parser: parser of the verb.
        default: split that is taken without `--split`.
        protocol: whether the verb lets the protocol be chosen.
    """
    every = "" if default == "all" else "; all: every video"
    parser.add_argument("--split", default=default, help=f"split of the frame set (default: {default}{every})")
    if protocol:
        parser.add_argument("--protocol", help="protocol of the frame set (default: the data set's first)")
    parser.add_argument(
        "--split-file",
        type=Path,
        metavar="FILE",
        help="file with the ids of each split, in place of a protocol: from `surgvista split`, or written by hand",
    )
    parser.add_argument("--fold", type=int, metavar="N", help="fold of a split file that holds folds, from 0")


def load_named_split(arguments: argparse.Namespace) -> "tuple[str, str, Dataset]":
    """Load the videos that `--data` and the arguments of `add_split_arguments` choose.

    Returns:
        Name and folder of the frame set, and its frames.

    Raises:
        InputError: `--data` is not of the form NAME=DIR.
        DatasetError: there is no such frame set or split.
    """
    from ..datasets_scripts.frame_sets.load import load_frame_set

    name, folder = named_frame_set("--data", arguments.data)
    chosen = {each: getattr(arguments, each) for each in ("protocol", "split_file", "fold")}
    return name, folder, load_frame_set(name, folder, arguments.split, **chosen)


def named_models(option: str, values: list[str], default_name: str = "model") -> dict[str, str]:
    """Split values of the form [NAME=]MODEL into models by name.

    Args:
        option: name of the option, for the message.
        values: its values.
        default_name: name of a model that is given without one.

    Raises:
        InputError: if two models have the same name, or a name is empty.
    """
    from ..util.errors import InputError

    pairs = []
    for text in values:
        name, equals, model = text.partition("=")
        # A path may contain "=", a name no "/".
        pairs.append((name, model) if equals and "/" not in name else (default_name, text))
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names) or not all(names):
        raise InputError(f"{option}: several models need different names, e.g. {option} phase=my-model")
    return dict(pairs)


# ------------------------------------------------------------------------------------------- videos


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--deinterlace` and `--damaged`, which tell how videos are read."""
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


def reading_options(arguments: argparse.Namespace) -> ReadingOptions:
    """Return the arguments of `VideoReader`, and of functions that pass them on."""
    return {"deinterlace": arguments.deinterlace, "damaged": arguments.damaged}


def add_detector_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the detector of frames outside the patient, its threshold, margin and rate."""
    parser.add_argument(
        "--out-of-body",
        metavar="MODEL",
        help="folder or Hub id of a classifier that knows when the camera is outside; these times are hidden",
    )
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="probability from which a frame is outside (default: 0.5)"
    )
    parser.add_argument("--margin", type=float, default=1.0, help="seconds around it that are hidden too (default: 1)")
    parser.add_argument(
        "--detector-fps",
        type=float,
        metavar="N",
        help="classify N frames a second instead of every frame: faster, but shorter glimpses can be missed",
    )
    # The name of the option in earlier versions.
    parser.add_argument("--looks-per-second", dest="detector_fps", type=float, help=argparse.SUPPRESS)


def detector_of(arguments: argparse.Namespace) -> "OutOfBodyDetector | None":
    """Load the `OutOfBodyDetector` of `--out-of-body`; `None` without this option.

    Only what the options say is used, so that another process can load the same detector.
    """
    from ..inference.models.out_of_body import OutOfBodyDetector

    if arguments.out_of_body is None:
        return None
    return OutOfBodyDetector.load(
        arguments.out_of_body,
        threshold=arguments.threshold,
        margin=arguments.margin,
        frames_per_second=arguments.detector_fps,
        device=arguments.device,
    )


# ------------------------------------------------------------------------------------------- executors


class ExecutorOptions(TypedDict):
    """The arguments of `run_over` that the command line sets."""

    num_proc: int
    executor: "Executor"


def add_executor_options(parser: argparse.ArgumentParser, unit: str) -> None:
    """Add `--num-proc`, `--executor`, `--gpus-per-task` and `--cpus-per-task`, which tell where tasks run.

    Args:
        parser: parser of the verb.
        unit: name of the tasks of the verb, in the plural.
    """
    parser.add_argument(
        "--num-proc",
        type=int,
        metavar="N",
        help=f"{unit} at a time (default: 1; with ray, as many as the cluster takes)",
    )
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="where they run: here, or on Ray (default: local)",
    )
    parser.add_argument("--gpus-per-task", type=float, metavar="N", help="with ray: GPUs of each task (default: 0)")
    parser.add_argument("--cpus-per-task", type=float, metavar="N", help="with ray: cores of each task (default: 1)")


def executor_options(arguments: argparse.Namespace) -> ExecutorOptions:
    """Return the arguments of `run_over`, and of functions that pass them on, after checking them.

    Raises:
        InputError: they do not fit together, or Ray is not installed.
    """
    from ..util.errors import InputError
    from ..util.executors import Ray, check_executor

    given = {"num_gpus": arguments.gpus_per_task, "num_cpus": arguments.cpus_per_task}
    resources = {name: number for name, number in given.items() if number is not None}
    if resources and arguments.executor != "ray":
        raise InputError("--gpus-per-task and --cpus-per-task are options of --executor ray")
    is_ray = arguments.executor == "ray"
    num_proc = int(not is_ray) if arguments.num_proc is None else arguments.num_proc
    executor: Executor = Ray(**resources) if is_ray else "local"
    check_executor(executor, num_proc)
    return {"num_proc": num_proc, "executor": executor}


# ------------------------------------------------------------------------------------------- recipes and suites


def add_recipe_arguments(parser: argparse.ArgumentParser, kind: str, *, show: str = "") -> None:
    """Add `recipe`, `overrides`, `--list` and `--show`.

    Args:
        parser: parser of the verb.
        kind: `"recipe"` or `"suite"`.
        show: further kinds of files that `--show` prints, to continue its help text.
    """
    parser.add_argument("recipe", nargs="?", metavar=kind, help=f"YAML file, or a {kind} of the package")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"values of the {kind} to change")
    parser.add_argument("--list", action="store_true", help=f"name those of the package: {kind}s")
    parser.add_argument("--show", metavar="NAME", help=f"print a {kind} of the package{show}, to start from")


def overrides_of(arguments: argparse.Namespace) -> list[str]:
    """Return the changes to a recipe, including those of options such as `--with-code`."""
    return [*arguments.overrides, *(["training.with_code=true"] if arguments.with_code else [])]


def was_shown(arguments: argparse.Namespace, *kinds: str) -> bool:
    """Answer `--list` and `--show` from these kinds of recipes, the verb's own first; return whether that was all.

    Raises:
        InputError: if no recipe is given.
        RecipeError: if there is none of that name.
    """
    from ..trainers.recipes.loading import bundled_recipes, bundled_text
    from ..util.errors import InputError

    if arguments.list:
        print("\n".join(bundled_recipes(kinds[0])))
        return True
    if arguments.show:
        print(bundled_text(arguments.show, kinds), end="")
        return True
    if not arguments.recipe:
        raise InputError(f"give a YAML file or a name; `surgvista {arguments.verb} --list` says which the package has")
    return False


def print_plan(plan: "Callable[[], Sequence[CellState]]") -> None:
    """Check the cells of a suite or study, and print what running each of them would do.

    Args:
        plan: function that checks the cells and returns their states.

    Raises:
        InputError: some cells cannot be run.
    """
    from ..util.console import Steps
    from ..util.errors import InputError

    with Steps()("check the cells"):
        states = plan()
    for state in states:
        print(f"{'CANNOT RUN' if state.broken else state.state:10}  {state.name}: {state.plan}")
    broken = sum(state.broken for state in states)
    if broken:
        raise InputError(f"{broken} of {len(states)} cells cannot be run")


# ------------------------------------------------------------------------------------------- reports of folders


def print_outcome(report: "BatchReport", arguments: argparse.Namespace, done: str) -> None:
    """Print the report of a folder, as JSON with `--json`.

    Args:
        report: report of this process.
        arguments: arguments of the verb.
        done: past tense of the work, such as "predicted".
    """
    report = _of_all_processes(report)
    if arguments.json:
        import json

        print(json.dumps(vars(report)))
        return
    for name, reason in report.unreadable.items():
        print(f"unreadable: {name}: {reason}")
    print(f"{done} {len(report.done)} videos, {len(report.earlier)} were done before: {arguments.output}")


def _of_all_processes(report: "BatchReport") -> "BatchReport":
    """Return one report of the work of all processes; only the main one prints."""
    from accelerate.utils import gather_object

    parts = gather_object([report])
    return type(report)(
        done=[name for part in parts for name in part.done],
        earlier=[name for part in parts for name in part.earlier],
        unreadable={name: reason for part in parts for name, reason in part.unreadable.items()},
    )
