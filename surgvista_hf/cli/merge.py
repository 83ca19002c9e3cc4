"""`surgvista merge`: an adapter and its base as one model."""

import argparse
from pathlib import Path

from ..util.console import Steps
from .common import add_code_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista merge`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista merge runs/lora/model --output merged\n"
        "  surgvista merge runs/lora/model --output merged --with-code   # loads where this package is not installed"
    )
    parser.add_argument("adapter", type=Path, help="folder of an adapter that `surgvista finetune` made")
    parser.add_argument("--output", type=Path, required=True, help="folder of the whole model")
    add_code_argument(parser)


def run(arguments: argparse.Namespace) -> None:
    """Merge an adapter with its base, and write the model."""
    from transformers import AutoVideoProcessor

    from ..datasets_scripts.frame_sets.training_videos import TrainingVideos
    from ..modeling.adapters import merge_adapter
    from ..modeling.confidence import Confidence
    from ..modeling.remote_code import add_remote_code
    from ..util.files import atomic_folder, check_free

    check_free(arguments.output)
    with Steps()("merge the adapter with its base"):
        model = merge_adapter(arguments.adapter)
        with atomic_folder(arguments.output) as folder:
            model.save_pretrained(folder)
            AutoVideoProcessor.from_pretrained(arguments.adapter).save_pretrained(folder)
            Confidence.load(arguments.adapter).save(folder)
            if (trained := TrainingVideos.load(arguments.adapter)) is not None:
                trained.save(folder)
            if arguments.with_code:
                add_remote_code(folder)
    print(f"model: {arguments.output}")
