"""`surgvista export`: a model as a graph."""

import argparse
import json
from pathlib import Path

from ..util.console import Steps
from .common import add_frame_stride_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista export`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista export my-phase-model --format onnx --int8 --output my-phase-model-onnx\n"
        "  surgvista predict operation.mp4 --model my-phase-model-onnx --runtime onnx --output result"
    )
    parser.add_argument("model", help="folder or Hub id of a trained video classifier or adapter")
    parser.add_argument(
        "--format", choices=("onnx", "torch-export"), default="onnx", help="format of the graph (default: onnx)"
    )
    parser.add_argument("--int8", action="store_true", help="store weights of matrix products in 8 bits (onnx only)")
    add_frame_stride_argument(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Export a model as a graph, and print how near its outputs are."""
    from ..inference.models.clip_model import ClipModel
    from ..inference.models.onnx_export import export_model
    from ..util.files import check_free

    check_free(arguments.output)
    stride, steps = arguments.frame_stride, Steps(2)
    with steps(f"load {arguments.model}"):
        model = ClipModel.load(arguments.model, device="cpu", dtype="float32", frame_stride=stride)
    with steps("export and compare"):
        report = export_model(model, arguments.output, arguments.format, int8=arguments.int8)
    if arguments.json:
        print(json.dumps(vars(report)))
        return
    print(
        f"largest difference of a logit {report.largest_difference:.2g}, largest logit {report.largest_logit:.2g}; "
        f"the same class for {report.agreement:.0%} of random clips; {report.bytes / 1e6:.1f} MB"
    )
    print(f"written: {arguments.output}")
