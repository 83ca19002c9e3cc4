"""What several verbs share: groups of arguments and what they mean, and the last words of verbs over folders."""

import argparse
import json
from typing import Any


def add_verbose_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--verbose`; without it only the log has what libraries say."""
    parser.add_argument(
        "--verbose",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show everything that otherwise only the log file holds",
    )


def add_frame_stride_argument(parser: argparse.ArgumentParser) -> None:
    """Add the spacing of clips."""
    parser.add_argument(
        "--frame-stride",
        type=float,
        metavar="SECONDS",
        help="seconds between two frames of a clip, for a model that does not say it (default: what the model says, or 4 with "
        "a remark); another spacing than the model was trained with is an error",
    )


def named_frame_set(option: str, word: str) -> tuple[str, str]:
    """Name and folder.

    Raises:
        InputError: something else was given for the option.
    """
    from ..util.errors import InputError

    name, equals, folder = word.partition("=")
    if not equals:
        raise InputError(f"{option} is {word!r}; NAME=DIR is expected, e.g. cholec80=frame_sets/cholec80")
    return name, folder


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


def add_detector_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the detector, and how careful it is."""
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


def detector_of(arguments: argparse.Namespace) -> Any:
    """The `OutOfBodyDetector` that was asked for, or `None`."""
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


def add_recipe_arguments(parser: argparse.ArgumentParser, what: str, *, show: str = "") -> None:
    """Add `recipe`, `overrides`, `--list` and `--show`.

    Args:
        parser: of the verb.
        what: a recipe or a suite.
        show: what else `--show` prints.
    """
    parser.add_argument("recipe", nargs="?", metavar=what, help=f"YAML file, or a {what} of the package")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"values of the {what} to change")
    parser.add_argument("--list", action="store_true", help=f"name those of the package: {what}s")
    parser.add_argument("--show", metavar="NAME", help=f"print a {what} of the package{show}, to start from")


def add_code_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--with-code`."""
    parser.add_argument(
        "--with-code",
        action="store_true",
        help="also write the code files, so that the model loads without this package, with trust_remote_code=True",
    )


def overrides_of(arguments: argparse.Namespace) -> list[str]:
    """The changes to a recipe, those of options such as `--with-code` included."""
    return [*arguments.overrides, *(["training.with_code=true"] if arguments.with_code else [])]


def was_shown(arguments: argparse.Namespace, *kinds: str) -> bool:
    """Answer `--list` and `--show` from these kinds of recipes, the verb's own first; return whether that was all.

    Raises:
        InputError: nothing was asked for.
        RecipeError: there is none of that name.
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


def print_outcome(report: Any, arguments: argparse.Namespace, done: str) -> None:
    """Print a `BatchReport`, as JSON if that was asked for; `done` is what was done to the videos."""
    report = _of_all_processes(report)
    if arguments.json:
        print(json.dumps(vars(report)))
        return
    for name, reason in report.unreadable.items():
        print(f"unreadable: {name}: {reason}")
    print(f"{done} {len(report.done)} videos, {len(report.earlier)} were done before: {arguments.output}")


def _of_all_processes(report: Any) -> Any:
    """Return one report of what all processes did; only the main one prints."""
    from accelerate.utils import gather_object

    parts = gather_object([report])
    if len(parts) == 1:
        return report
    merged: dict[str, Any] = {}
    for name, value in vars(report).items():
        values = [getattr(part, name) for part in parts]
        merged[name] = (
            {key: each for one in values for key, each in one.items()}
            if isinstance(value, dict)
            else [each for one in values for each in one]
        )
    return type(report)(**merged)
