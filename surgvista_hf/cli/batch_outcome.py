"""What verbs over folders of videos say at the end."""

import argparse
import json
from typing import Any


def print_outcome(report: Any, arguments: argparse.Namespace, done: str) -> None:
    """Prints a `BatchReport`, as JSON if that was asked for; `done` is what was done to the videos."""
    if arguments.json:
        print(json.dumps(vars(report)))
        return
    for name, reason in report.unreadable.items():
        print(f"unreadable: {name}: {reason}")
    print(f"{done} {len(report.done)} videos, {len(report.earlier)} were done before: {arguments.output}")
