"""`surgvista publish`: a frame set to a Hub data set."""

import argparse
import json
from pathlib import Path

from ..util.console import Steps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista publish`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista publish synthetic --data-dir frame_sets/synthetic --dry-run --output published\n"
        "  surgvista publish synthetic --data-dir frame_sets/synthetic --repo-id me/synthetic-surgery\n"
        "Nothing is sent with --dry-run; the same command with --repo-id instead sends the folder that was written.\n"
        "Without --public nothing is sent to a public repository."
    )
    parser.add_argument("name", help="data set, as in `surgvista prepare`")
    parser.add_argument("--data-dir", type=Path, required=True, help="the frame set: what `surgvista prepare` wrote")
    parser.add_argument("--repo-id", help="where to publish: organization/name")
    parser.add_argument("--dry-run", action="store_true", help="write the folder, send nothing")
    parser.add_argument("--output", type=Path, help="folder to write (default: the frame set's name with -published)")
    parser.add_argument(
        "--protocol", action="append", default=[], help="splits to offer, may be repeated (default: all)"
    )
    parser.add_argument("--allow-missing", action="store_true", help="accept that videos of the splits are missing")
    parser.add_argument("--public", action="store_true", help="allow a public repository")
    parser.add_argument(
        "--i-have-the-right", action="store_true", help="publish although license or terms of access forbid it"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Write a frame set as a Hub data set, and upload it unless `--dry-run` is given."""
    from ..datasets_scripts.frame_sets.load import StoredFrameSet
    from ..datasets_scripts.frame_sets.publish import publish_frame_set, upload
    from ..datasets_scripts.frame_sets.registry import get_builder
    from ..util.errors import InputError

    if not (arguments.repo_id or arguments.dry_run):
        raise InputError("give --repo-id, or --dry-run to only write the folder")
    found, requested = StoredFrameSet.open(arguments.data_dir).info.name, get_builder(arguments.name).info.name
    if found != requested:
        raise InputError(f"{arguments.data_dir} holds {found}, not {requested}")
    data_dir = arguments.data_dir.resolve()
    steps = Steps(1 if arguments.dry_run else 2)
    with steps("write the data set"):
        folder = publish_frame_set(
            data_dir,
            arguments.output or data_dir.with_name(f"{data_dir.name}-published"),
            protocols=arguments.protocol,
            allow_missing=arguments.allow_missing,
            i_have_the_right=arguments.i_have_the_right,
        )
    address = None
    if not arguments.dry_run:
        with steps(f"send it to {arguments.repo_id}"):
            address = upload(folder, arguments.repo_id, private=not arguments.public)
    if arguments.json:
        print(json.dumps({"folder": str(folder), "address": address}))
    else:
        print(f"published: {address}" if address else f"written: {folder}; nothing was sent")
