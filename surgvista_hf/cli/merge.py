"""`surgvista merge`: an adapter and its base as one model."""

import argparse
from pathlib import Path

from ..util.console import Steps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example:\n  surgvista merge runs/lora/model --output merged"
    parser.add_argument("adapter", type=Path, help="folder of an adapter that `surgvista finetune` made")
    parser.add_argument("--output", type=Path, required=True, help="folder of the whole model")


def run(arguments: argparse.Namespace) -> None:
    from transformers import AutoVideoProcessor

    from ..modeling.adapters import merge_adapter
    from ..util.files import atomic_folder, check_free

    check_free(arguments.output)
    with Steps()("merge the adapter with its base"):
        model = merge_adapter(arguments.adapter)
        with atomic_folder(arguments.output) as folder:
            model.save_pretrained(folder)
            AutoVideoProcessor.from_pretrained(arguments.adapter).save_pretrained(folder)
    print(f"model: {arguments.output}")
