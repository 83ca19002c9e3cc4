"""The argument of verbs whose model may not say how far apart the frames of its clips are."""

import argparse


def add_frame_stride_argument(parser: argparse.ArgumentParser) -> None:
    """Add the spacing of clips."""
    parser.add_argument(
        "--frame-stride",
        type=float,
        metavar="SECONDS",
        help="seconds between two frames of a clip, for a model that does not say it (default: what the model says, or 4 with "
        "a remark); another spacing than the model was trained with is an error",
    )
