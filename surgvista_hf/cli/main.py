"""`surgvista <verb>`: find the verb and run it on a console, which turns errors into one line and a non-zero exit."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from .common import add_verbose_argument

VERBS = {
    "demo": "train a tiny model on synthetic surgery, predict an unseen operation, show the result",
    "start": "lead from recordings and labels to a first model, its test and a report",
    "prepare": "turn raw videos and annotations of a data set into a frame set",
    "inspect": "show a frame set as it was understood, and what is odd about it, on one page",
    "split": "divide the videos of a frame set into training, validation and test, or folds",
    "curate": "turn web videos into a clean, de-duplicated frame set, stage by stage",
    "pretrain": "pre-train a model by a recipe",
    "finetune": "train a classifier by a recipe, and test it",
    "merge": "make one model of an adapter and its base",
    "extract-features": "write frozen features of whole videos",
    "evaluate": "test a finished model, or predictions of any program, against labels",
    "benchmark": "run a suite of models, data sets and protocols, with tables, plots and tests",
    "zero-shot": "ask an image-text model about clips, without training",
    "reconstruct": "draw the masked parts of a clip as pre-trained models reconstruct them",
    "study": "run an analysis of the paper: more data, or the image teacher",
    "publish": "turn a frame set into a Hub data set",
    "convert": "turn an original checkpoint into a Hugging Face folder",
    "predict": "predict every second of a video, or of all videos in a folder",
    "suggest-labels": "find the seconds of unlabeled videos where a label would help a model most",
    "deidentify": "write videos without people, sound, metadata and names",
    "explain": "show which parts of a clip a prediction depends on, and similar known seconds",
    "export": "write a model as a graph: ONNX or torch.export",
    "space": "show predictions on a web page",
}


class Parser(argparse.ArgumentParser):
    """A parser that reports an error of the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Build the parser. The modules of verbs import little: the work's imports are inside their functions.

    Args:
        only: verb that gets its arguments; the others are only listed, and their modules are not imported. By default every
            verb gets its arguments.
    """
    parser = Parser(
        prog="surgvista", description="Surgical video foundation models. For research, not a medical device."
    )
    parser.add_argument("--version", action="version", version=f"surgvista {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for verb, purpose in VERBS.items():
        subparser = verbs.add_parser(
            verb, help=purpose, description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if only not in (None, verb):
            continue
        module = importlib.import_module(f".{verb.replace('-', '_')}", __package__)
        module.add_arguments(subparser)
        add_verbose_argument(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb.

    Args:
        argv: arguments of the command line without the program's name; those of this process by default.

    Returns:
        Exit status: 0, 1 for an error that the input explains, 2 for wrong arguments, 130 when interrupted.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser(only=argv[0] if argv else "")
    parsed, rest = parser.parse_known_args(argv)
    late = [argument for argument in rest if "=" in argument and not argument.startswith("-")]
    if late != rest or (late and "overrides" not in parsed):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if late:  # argparse takes key=value arguments only before the first option
        parsed.overrides = [*parsed.overrides, *late]
    from ..util.command import run_with_console  # after the arguments, so that help comes at once

    return run_with_console(
        f"surgvista {parsed.verb}",
        argv[1:],
        lambda: parsed.run(parsed),
        verbose="verbose" in parsed,
        hides=parsed.verb != "space",  # a server: its address and the messages of gradio are for the user
    )


if __name__ == "__main__":
    sys.exit(main())
