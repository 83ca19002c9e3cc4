"""`surgvista demo`: the main job on synthetic surgery."""

import argparse
import json
from pathlib import Path

from ..util.console import print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista demo`."""
    parser.epilog = "example: surgvista demo --video my-operation.mp4"
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the results (default: demo)")
    parser.add_argument("--video", type=Path, help="also predict this video")
    parser.add_argument("--operations", type=int, default=24, help="synthetic operations (default: 24)")
    parser.add_argument("--seconds", type=int, default=120, help="length of an operation (default: 120)")
    parser.add_argument(
        "--pretraining-epochs", type=int, default=1, help="passes over them without labels (default: 1)"
    )
    parser.add_argument("--epochs", type=int, default=7, help="passes over them with labels (default: 7)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Run the demo and print its results."""
    from ..util.errors import InputError

    if arguments.video is not None and not arguments.video.is_file():
        raise InputError(f"there is no video at {arguments.video}")
    names = ("operations", "seconds", "pretraining_epochs", "epochs", "seed")
    values = {name: getattr(arguments, name) for name in names}
    for name, value in values.items():
        if value < 1 and name != "seed":
            raise InputError(f"--{name.replace('_', '-')} must be at least 1")
    from ..demo import DemoSettings, run_demo

    result = run_demo(arguments.output, video=arguments.video, settings=DemoSettings(**values))
    if arguments.json:
        print(json.dumps(vars(result)))
        return
    print_table(
        ("protocol", "seconds right", "most frequent phase"),
        [
            *(
                (protocol, f"{accuracy:.1%}", f"{result.video_most_frequent:.1%}")
                for protocol, accuracy in result.video_accuracy.items()
            ),
            ("unseen operation, by full", f"{result.accuracy:.1%}", f"{result.most_frequent:.1%}"),
        ],
    )
    if arguments.video:
        print("Your video was predicted by a model that has only seen rendered images: do not believe the phases.")
    images = [file for file in result.files if file.endswith(".png") and "plots" not in file]
    print("images:", *images, f"{arguments.output / 'benchmark' / 'plots'}/")
    print(f"see it work: surgvista space --model {arguments.output / 'model'}")
