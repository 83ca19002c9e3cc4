"""`surgvista reconstruct`: masked parts of a clip as pre-trained models reconstruct them, and their errors."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.console import Steps
from .common import add_frame_stride_argument

if TYPE_CHECKING:
    pass


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista reconstruct`."""
    parser.epilog = (
        "example: surgvista reconstruct with_teacher/model without_teacher/model --data synthetic "
        "--data-dir frame_sets/synthetic --output reconstruction.png"
    )
    parser.add_argument("models", nargs="+", help="folders or Hub ids of pre-trained SurgVISTA models")
    parser.add_argument("--data", required=True, metavar="NAME", help="data set of the frame set")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the frame set")
    parser.add_argument("--split", default="test", help="split of its default protocol (default: test)")
    parser.add_argument("--clip", type=int, default=0, help="number of the clip (default: 0)")
    add_frame_stride_argument(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the mask (default: 0)")
    parser.add_argument("--output", type=Path, required=True, help="image to write: .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="print the mean squared errors as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Draw the reconstructions of a clip, and print their errors."""
    from ..datasets_scripts.frame_sets.fingerprints import frames_fingerprint
    from ..datasets_scripts.frame_sets.load import load_frame_set
    from ..evaluation.metrics.reconstruction import draw_reconstruction
    from ..trainers.pretraining.reconstruction import reconstruct_clip
    from ..util.fingerprint import weights_fingerprint

    with Steps()("reconstruct the clip"):
        reconstruction = reconstruct_clip(
            arguments.models,
            arguments.data,
            arguments.data_dir,
            arguments.split,
            clip=arguments.clip,
            frame_stride=arguments.frame_stride,
            seed=arguments.seed,
        )
        draw_reconstruction(reconstruction, arguments.output)
    errors = {name: reconstruction.mean_error(name) for name in reconstruction.reconstructed}
    if arguments.json:
        frames = load_frame_set(arguments.data, arguments.data_dir, arguments.split)
        models = {name: weights_fingerprint(name) for name in arguments.models}
        made_from = {"models": models, "frames": frames_fingerprint(frames)}
        print(json.dumps({"mean_squared_error": errors, "image": str(arguments.output), "made_from": made_from}))
        return
    for name, error in errors.items():
        print(f"{name}: mean squared error of masked pixels {error:.5f}")
    print("written:", arguments.output)
