"""`surgvista convert`: original checkpoints to Hugging Face folders."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.console import Steps

if TYPE_CHECKING:
    from ..modeling.conversion.family import Family


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista convert`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista convert --list\n"
        "  surgvista convert SurgVISTA.pth --family surgvista --output surgvista-base\n"
        "  surgvista convert lemonfm.pth --family lemonfm --output lemonfm\n"
        "  surgvista convert SurgVLP.pth --family surgvlp --tokenizer Bio_ClinicalBERT --output surgvlp\n"
        "  surgvista convert finetuned.pth --family surgvista --output phases --config '{\"num_frames\": 8}'"
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", help=".pth, .bin, .safetensors, or a folder with shards")
    parser.add_argument("--family", help="layout of the checkpoint, see --list")
    parser.add_argument("--output", type=Path, help="folder to write; it must not exist or be empty")
    parser.add_argument(
        "--config", default="{}", help="JSON: values that the tensors do not tell, e.g. number of heads"
    )
    parser.add_argument(
        "--part", help="key of the file that the weights lie under, if not the usual one: target_encoder"
    )
    parser.add_argument(
        "--with-code", action="store_true", help="also write the code files for trust_remote_code=True"
    )
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="PATTERN",
        help="beginning of the names of tensors that the family does not know and that are not wanted; may be repeated",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FOLDER",
        help="image-text models: folder with the tokenizer of the text encoder, or its vocab.txt (default: the Hub's cache)",
    )
    parser.add_argument("--list", action="store_true", help="list the families and exit")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Convert a checkpoint, or list the families."""
    from ..modeling.conversion import FAMILIES, convert_checkpoint
    from ..util.errors import InputError

    if arguments.list:
        fields = ("title", "paper", "source", "license", "input", "preparation", "becomes", "checked", "unknown")
        listed = {name: {field: getattr(family, field) for field in fields} for name, family in FAMILIES.items()}
        print(json.dumps(listed) if arguments.json else "\n".join(map(_description, FAMILIES.values())))
        return
    for name in ("checkpoint", "family", "output"):
        if getattr(arguments, name) is None:
            raise InputError(f"{'a checkpoint' if name == 'checkpoint' else '--' + name} is needed")
    try:
        config = json.loads(arguments.config)
    except ValueError as error:
        raise InputError(f"--config is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"--config must be a JSON object, not {arguments.config}")
    with Steps()(f"convert {arguments.checkpoint}"):
        report = convert_checkpoint(
            arguments.checkpoint,
            arguments.output,
            family=arguments.family,
            config=config,
            part=arguments.part,
            include_code=arguments.with_code,
            leave_out=arguments.leave_out,
            tokenizer=arguments.tokenizer,
        )
    print(json.dumps(vars(report)) if arguments.json else report)


def _description(family: "Family") -> str:
    """Describe a family in a few lines of text."""
    lines = (
        family.paper,
        f"weights: {family.source} ({family.license})",
        f"sees {family.input}; becomes {family.becomes}",
    )
    return "\n".join([f"{family.name:16} {family.title}", *(f"{'':16} {line}" for line in lines)])
