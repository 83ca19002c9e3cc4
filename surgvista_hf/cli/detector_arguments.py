"""Arguments of verbs that must not show the outside."""

import argparse
from typing import Any


def add_detector_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the detector, and how careful it is."""
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
        "--looks-per-second",
        type=float,
        metavar="N",
        help="look N times a second instead of at every frame: faster, but shorter glimpses can be missed",
    )


def detector_of(arguments: argparse.Namespace) -> Any:
    """The `OutOfBodyDetector` that was asked for, or `None`."""
    from ..inference.models.out_of_body import OutOfBodyDetector

    if arguments.out_of_body is None:
        return None
    return OutOfBodyDetector.load(
        arguments.out_of_body,
        threshold=arguments.threshold,
        margin=arguments.margin,
        looks_per_second=arguments.looks_per_second,
        device=arguments.device,
    )
