"""What verbs over folders of videos say at the end."""

import argparse
import json
from typing import Any


def print_outcome(report: Any, arguments: argparse.Namespace, done: str) -> None:
    """Prints a `BatchReport`, as JSON if that was asked for; `done` is what was done to the videos."""
    report = _of_all_processes(report)
    if arguments.json:
        print(json.dumps(vars(report)))
        return
    for name, reason in report.unreadable.items():
        print(f"unreadable: {name}: {reason}")
    print(f"{done} {len(report.done)} videos, {len(report.earlier)} were done before: {arguments.output}")


def _of_all_processes(report: Any) -> Any:
    """Return one report of what all processes did; only the main one prints."""
    from accelerate.utils import gather_object

    parts = gather_object([report])
    if len(parts) == 1:
        return report
    merged: dict[str, Any] = {}
    for name, value in vars(report).items():
        values = [getattr(part, name) for part in parts]
        merged[name] = (
            {key: each for one in values for key, each in one.items()}
            if isinstance(value, dict)
            else [each for one in values for each in one]
        )
    return type(report)(**merged)
