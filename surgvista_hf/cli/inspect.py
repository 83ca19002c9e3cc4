"""`surgvista inspect`: one page that shows a frame set as it was understood, and what is odd about it."""

import argparse
import json
from pathlib import Path

from ..util.console import Steps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista inspect`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista inspect frame_sets/ours --output inspection.html\n"
        "  surgvista inspect frame_sets/cholec80 --protocol surgvista --no-images --output inspection.html\n"
        "The page has hours and videos of each class, a ribbon and frames of every video with gaps, odd lengths and orders,\n"
        "label files that may be swapped, and ten frames of each class. Frames are patient data, and so is the page."
    )
    parser.add_argument("frame_set", type=Path, help="folder that `surgvista prepare` or `surgvista publish` wrote")
    parser.add_argument("--output", type=Path, required=True, help="HTML file of the page")
    parser.add_argument("--protocol", help="protocol whose splits are shown (default: the data set's first)")
    parser.add_argument("--no-images", action="store_true", help="write a page without frames")
    parser.add_argument("--json", action="store_true", help="print what is odd as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Look over a frame set and write the page."""
    from ..datasets_scripts.frame_sets.inspection import inspect_frame_set
    from ..datasets_scripts.frame_sets.inspection_page import write_inspection
    from ..util.errors import InputError

    if arguments.output.suffix.lower() not in (".html", ".htm"):
        raise InputError(
            f"--output is {arguments.output}; the name of an HTML file is expected, such as inspection.html"
        )
    with Steps()(f"inspect {arguments.frame_set}"):
        inspection = inspect_frame_set(arguments.frame_set, protocol=arguments.protocol)
        write_inspection(inspection, arguments.output, images=not arguments.no_images)
    findings = inspection.findings
    if arguments.json:
        print(json.dumps({"page": str(arguments.output), "findings": [vars(finding) for finding in findings]}))
        return
    for finding in findings:
        print(f"  {finding.video}: {finding.text}" if finding.video else f"  {finding.text}")
    print(f"{len(inspection.table.videos)} videos, {len(findings)} things to look at: {arguments.output}")
