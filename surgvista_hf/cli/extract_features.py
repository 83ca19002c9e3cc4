"""`surgvista extract-features`: frozen features of whole videos."""

import argparse
from functools import partial
from pathlib import Path

from ..util.console import Steps
from .common import (
    add_dtype_argument,
    add_executor_options,
    add_frame_stride_argument,
    add_split_arguments,
    executor_options,
    load_named_split,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista extract-features`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista extract-features runs/phases/model --data cholec80=frame_sets/cholec80 --label phase --output features\n"
        "  accelerate launch -m surgvista_hf.cli.main extract-features my-encoder --data folder=frames --output features\n"
        "Videos whose features are in the folder are not computed again."
    )
    parser.add_argument("model", help="folder or Hub id of a classifier, an adapter or an encoder")
    parser.add_argument("--data", required=True, metavar="NAME=DIR", help="frame set")
    add_split_arguments(parser, "all")
    parser.add_argument("--label", help="column to store beside the features")
    add_frame_stride_argument(parser)
    parser.add_argument(
        "--num-frames",
        type=int,
        help="frames of a clip, for encoders without training on clips (default: 1 for image encoders)",
    )
    parser.add_argument("--batch-size", type=int, default=16, help="clips at a time (default: 16)")
    add_executor_options(parser, "videos")
    add_dtype_argument(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder of the features")


def run(arguments: argparse.Namespace) -> None:
    """Write the features of the videos of a frame set."""
    from ..modeling.precision import describe_dtype
    from ..trainers.features.extraction import VideoFeatureExtractor, extract_features_of
    from ..util.errors import InputError
    from ..util.executors import Lazy

    for option, number in (("--num-frames", arguments.num_frames), ("--batch-size", arguments.batch_size)):
        if number is not None and number < 1:
            raise InputError(f"{option} is {number}; at least 1 is needed")
    execution = executor_options(arguments)
    _, _, frames = load_named_split(arguments)
    make = partial(
        VideoFeatureExtractor,
        arguments.model,
        frame_stride=arguments.frame_stride,
        num_frames=arguments.num_frames,
    )
    steps, output = Steps(2), arguments.output
    with steps(f"load {arguments.model}") as step:
        loaded = make(dtype=arguments.dtype)  # here too: the folder notes what the model is
        step.remember(f"computes in {describe_dtype(loaded.dtype, loaded.device)}")
    extractor = Lazy(partial(make, dtype=loaded.dtype), loaded)  # other machines compute in the same precision
    with steps("compute features"):
        extract_features_of(
            extractor, frames, output, label=arguments.label, batch_size=arguments.batch_size, **execution
        )
    print(f"features: {arguments.output}")
