"""`surgvista zero-shot`: an image-text model evaluated on clips without training."""

import argparse
import json
from pathlib import Path

from ..util.console import Steps
from .common import add_executor_options, add_split_arguments, executor_options, named_frame_set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista zero-shot`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista zero-shot Qwen/Qwen2.5-VL-7B-Instruct --data surgrec_cholec80=frame_sets/surgrec_cholec80 \\\n"
        "    --label label --clips --output answers/qwen\n"
        "  surgvista zero-shot google/siglip-base-patch16-224 --data cholec80=frame_sets/cholec80 --label phase \\\n"
        "    --every 10 --output answers/siglip\n"
        "  surgvista zero-shot surgclip --data cholect50=frame_sets/cholect50 --label triplets \\\n"
        "    --prompts descriptions --output answers/surgclip\n"
        "Answers are kept as they come; the same command goes on with what is missing."
    )
    parser.add_argument(
        "model", help="folder or Hub id of a model that answers questions about images, or compares them with texts"
    )
    parser.add_argument("--data", required=True, metavar="NAME=DIR", help="frame set")
    parser.add_argument("--label", required=True, help="column with one class, or with triplets")
    add_split_arguments(parser, "test")
    parser.add_argument(
        "--clips", action="store_true", help="each video is one clip: ask once, about its middle frame"
    )
    parser.add_argument("--prompts", nargs="+", default=(), help="names of prompts (default: all); the first counts")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="ask about every N-th labeled frame (default: 1)"
    )
    parser.add_argument(
        "--num-frames",
        type=int,
        help="frames of a clip, for models that compare with texts (default: the model's, or 1)",
    )
    parser.add_argument(
        "--frame-stride", type=float, help="seconds between the frames of a clip (default: the model's, or 1)"
    )
    parser.add_argument("--max-new-tokens", type=int, default=16, help="largest length of an answer (default: 16)")
    parser.add_argument("--batch-size", type=int, default=8, help="images at a time (default: 8)")
    parser.add_argument(
        "--dtype",
        default="auto",
        help="type of the weights (default: auto, which is bfloat16 where the device has it in hardware, else float32)",
    )
    add_executor_options(parser, "parts of 64 questions")
    parser.add_argument("--check", action="store_true", help="only check the model, the data and the prompts")
    parser.add_argument("--output", type=Path, required=True, help="folder of the answers")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Evaluate an image-text model on a frame set without training, or check the settings."""
    from ..trainers.benchmark.zero_shot import ZeroShotSettings, check_zero_shot, zero_shot
    from ..trainers.finetuning.recipe import LabeledData

    execution = executor_options(arguments)
    name, folder = named_frame_set("--data", arguments.data)
    data = LabeledData(
        name,
        folder,
        arguments.label,
        protocol=arguments.protocol,
        split_file=None if arguments.split_file is None else str(arguments.split_file),
        fold=arguments.fold,
        test=arguments.split,
        sampling="uniform" if arguments.clips else "online",
    )
    settings = ZeroShotSettings(
        arguments.prompts,
        arguments.every,
        arguments.max_new_tokens,
        arguments.batch_size,
        arguments.dtype,
        arguments.num_frames,
        arguments.frame_stride,
    )
    if arguments.check:
        print(check_zero_shot(arguments.model, data, settings))
        return
    with Steps()(f"ask {arguments.model}"):
        result = zero_shot(arguments.model, data, arguments.output, settings, **execution)
    if arguments.json:
        print(json.dumps({"metrics": result.metrics, "results": result.results}, indent=1))
        return
    for metric, value in result.metrics.items():
        print(f"{metric.replace('_', ' '):32}{value:8.1%}")
    print(f"answers: {arguments.output / 'answers.jsonl'}")
