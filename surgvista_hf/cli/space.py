"""`surgvista space`: the web demo on this machine, or as a folder for a Hugging Face Space."""

import argparse
from pathlib import Path

from .common import add_dtype_argument, add_frame_stride_argument, named_models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista space`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista space                                     # the model of `make demo`, on this machine only\n"
        "  surgvista space --model phases=runs/phases/model --max-minutes 180\n"
        "  surgvista space --model demo/model --export my-space   # a folder to upload as a Space"
    )
    parser.add_argument(
        "--model",
        action="append",
        metavar="[NAME=]MODEL",
        help="folder or Hub id of a trained classifier; several with names (default: demo/model)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860 on)")
    parser.add_argument("--max-minutes", type=float, default=15.0, help="longest video (default: 15)")
    parser.add_argument("--max-megabytes", type=float, default=500.0, help="largest upload (default: 500)")
    add_frame_stride_argument(parser)
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    add_dtype_argument(parser)
    parser.add_argument(
        "--out-of-body", metavar="MODEL", help="detector of seconds outside the patient: they are hidden"
    )
    parser.add_argument("--export", type=Path, help="write a Space with these models to a folder instead")


def run(arguments: argparse.Namespace) -> None:
    """Start the web demo, or export it as a Space."""
    from ..util.errors import InputError
    from ..util.requirements import require

    if arguments.port is not None and not 0 <= arguments.port < 65536:
        raise InputError(f"--port is {arguments.port}; ports are 0 to 65535")
    models = named_models("--model", arguments.model or ["demo/model"])
    for path in models.values():
        if path == "demo/model" and not Path(path).is_dir():
            raise InputError(
                "there is no model in demo/model: run `make demo` or `surgvista demo` first, or give --model"
            )
    if arguments.export is not None:
        if arguments.frame_stride is not None:
            raise InputError(
                "an exported Space does not keep --frame-stride: write frame_stride into config.json of the model"
            )
        from ..space.export import export_space

        export_space(models, arguments.export, arguments.out_of_body)
        print(f"Space: {arguments.export}")
        return
    require("space")
    from ..modeling.subprocess_decoding import VideoLimits
    from ..space import SpaceSettings, launch

    limits = VideoLimits(megabytes=arguments.max_megabytes, minutes=arguments.max_minutes)
    settings = SpaceSettings(
        models,
        limits,
        device=arguments.device,
        out_of_body=arguments.out_of_body,
        frame_stride=arguments.frame_stride,
        dtype=arguments.dtype,
    )
    launch(settings, host=arguments.host, port=arguments.port)
