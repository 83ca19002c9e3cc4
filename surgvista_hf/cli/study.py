"""`surgvista study`: whether pre-training helps, and the analyses of the SurgVISTA paper, on any frame sets."""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.console import print_table
from .common import named_frame_set, print_plan

if TYPE_CHECKING:
    from ..trainers.benchmark.studies import ProbeSet
    from ..trainers.benchmark.value import ValueResult


FRACTIONS = "0.125,0.25,0.5,1"
OPTIONS = {  # that one kind of study has alone
    "value": ("labeled", "updates", "fine_tuning", "no_fine_tuning"),
    "data-scale": ("fractions",),
    "distillation": ("teacher",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista study`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista study value recipe.yaml --probe cholec80=frame_sets/cholec80 --label phase --labeled 1,2,4,8 "
        "--output studies/value\n"
        "  surgvista study data-scale surgvista_synthetic data.root=frame_sets --probe synthetic=frame_sets/labeled "
        "--output studies/scale\n"
        "  surgvista study distillation recipe.yaml --teacher endossl-teacher --probe cholec80=frame_sets/cholec80 "
        "--output studies/teacher\n"
        "The same command goes on with a study that was stopped."
    )
    parser.add_argument(
        "kind",
        choices=("value", "data-scale", "distillation"),
        help="whether pre-training helps with few labeled videos; more videos; or the image teacher",
    )
    parser.add_argument("recipe", help="YAML file, or a recipe of the package")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values of the recipe to change")
    parser.add_argument(
        "--probe",
        required=True,
        metavar="NAME=DIR",
        help="frame set with labels that probes are fitted to and tested on",
    )
    parser.add_argument(
        "--label",
        default="phase",
        help="its column with one class for each frame, or, for value, with several (default: phase)",
    )
    parser.add_argument("--protocol", help="its protocol, which says what is train and test (default: the data set's)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant (default: 3)")
    parser.add_argument("--fractions", help=f"data-scale: fractions of the videos (default: {FRACTIONS})")
    parser.add_argument("--teacher", help="distillation: the teacher, if not the recipe's")
    parser.add_argument(
        "--labeled",
        metavar="N,N",
        help="value: numbers of labeled videos (default: 1, 2, 4, … and all of its training)",
    )
    parser.add_argument("--updates", type=int, help="value: updates of each fine-tuning run (default: 1000)")
    parser.add_argument(
        "--fine-tuning",
        metavar="RECIPE",
        help="value: recipe of fine-tuning whose adapter and training are used (default: plain full fine-tuning)",
    )
    parser.add_argument("--no-fine-tuning", action="store_true", help="value: compare frozen encoders only")
    parser.add_argument("--dry-run", action="store_true", help="only check everything, and say what is to be done")
    parser.add_argument("--output", type=Path, required=True, help="folder of the study")
    parser.add_argument("--json", action="store_true", help="print the summary and the tests as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Run or check a study, and print its summary."""
    from ..trainers.benchmark.studies import ProbeSet, Study, data_scale, distillation, plan_study, run_study
    from ..util.errors import InputError

    if arguments.seeds < 1:
        raise InputError(f"--seeds is {arguments.seeds}; at least one run of each variant is needed")
    _check_kind(arguments)
    name, folder = named_frame_set("--probe", arguments.probe)
    probe = ProbeSet(name, folder, arguments.label, arguments.protocol)
    if arguments.kind == "value":
        _run_value(arguments, probe)
        return
    if arguments.kind == "distillation":
        variants = distillation(arguments.teacher)
    else:
        fractions = _fractions(FRACTIONS if arguments.fractions is None else arguments.fractions)
        variants = data_scale(dict(zip("ABCDEFGH", fractions, strict=False)))
    study = Study(arguments.recipe, arguments.overrides, variants, probe, arguments.output, arguments.seeds)
    if arguments.dry_run:
        print_plan(partial(plan_study, study))
        return
    result = run_study(study)
    if arguments.json:
        tests = {name: test.to_dict() for name, test in result.tests.items()}
        print(json.dumps({"summary": result.summary(), "tests": tests}))
        return
    for variant, row in result.summary().items():
        print(f"{variant:>16}  accuracy {row['mean']:.3f} ± {row['std_over_videos']:.3f} over videos")
    for comparison, test in result.tests.items():
        difference = f"difference {test.mean_difference:+.3f}, better on {test.wins} of {test.pairs} videos"
        print(f"{comparison}: {difference}, p = {test.p_value:.3g}")
    print("written:", *(str(arguments.output / f"study.{suffix}") for suffix in ("json", "csv", "png")))


def _check_kind(arguments: argparse.Namespace) -> None:
    """Refuse options of another kind of study, which would do nothing."""
    from ..util.errors import InputError

    for kind, options in OPTIONS.items():
        given = [option for option in options if getattr(arguments, option) not in (None, False)]
        if given and kind != arguments.kind:
            option = "--" + given[0].replace("_", "-")
            raise InputError(f"{option} is an option of `surgvista study {kind}`; `{arguments.kind}` does not use it")


def _run_value(arguments: argparse.Namespace, probe: "ProbeSet") -> None:
    from ..trainers.benchmark.value import plan_value_study, run_value_study
    from ..trainers.benchmark.value_study import UPDATES, ValueStudy
    from ..util.errors import InputError

    updates = UPDATES if arguments.updates is None else arguments.updates
    if updates < 1:
        raise InputError(f"--updates is {updates}; at least one is needed, or --no-fine-tuning")
    study = ValueStudy(
        arguments.recipe,
        arguments.overrides,
        probe,
        arguments.output,
        arguments.seeds,
        None if arguments.labeled is None else _counts(arguments.labeled),
        arguments.fine_tuning,
        0 if arguments.no_fine_tuning else updates,
    )
    if arguments.dry_run:
        print_plan(partial(plan_value_study, study))
        return
    result = run_value_study(study)
    if arguments.json:
        print(json.dumps(result.to_dict()))
        return
    _print_curves(result)
    print(*result.verdict(), sep="\n")
    print("written:", *(str(arguments.output / f"value.{suffix}") for suffix in ("json", "csv", "png")))


def _print_curves(result: "ValueResult") -> None:
    """Print the main measure of each variant by number of labeled videos, with intervals, in per cent."""
    curves = result.curves
    print(f"{curves.measures[0].replace('_', ' ')} of a test video, % (95 % interval), by number of labeled videos")
    rows = []
    for variant in curves.variants:
        found = [curves.interval(variant, count) for count in curves.labeled]
        rows.append(
            [variant, *(f"{100 * each.value:.1f} ({100 * each.low:.1f}-{100 * each.high:.1f})" for each in found)]
        )
    print_table(["", *map(str, curves.labeled)], rows)


def _counts(text: str) -> tuple[int, ...]:
    from ..util.errors import InputError

    try:
        return tuple(int(count) for count in text.split(","))
    except ValueError as error:
        raise InputError(f"--labeled is {text!r}; numbers of videos with commas between are expected") from error


def _fractions(text: str) -> list[float]:
    from ..util.errors import InputError

    try:
        fractions = [float(fraction) for fraction in text.split(",")]
    except ValueError as error:
        raise InputError(f"--fractions is {text!r}; numbers with commas between are expected") from error
    if (
        not 2 <= len(fractions) <= 8
        or fractions != sorted(set(fractions))
        or not 0 < fractions[0] <= fractions[-1] <= 1
    ):
        raise InputError(f"--fractions is {text!r}; two to eight rising fractions above 0 and up to 1 are expected")
    return fractions
