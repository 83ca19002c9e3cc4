"""`surgvista prepare own`: what is understood of own videos and labels, shown before anything is written."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.errors import InputError
from ..util.files import atomic_file
from ..util.messages import preview

if TYPE_CHECKING:
    from ..datasets_scripts.corpora.own import OwnPlan, OwnVideosBuilder
    from ..datasets_scripts.own_labels.mapping import ColumnMapping

_SHOWN = 8  # classes of a column, and videos


def add_own_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the data set `own`."""
    own = parser.add_argument_group("own videos (data set `own`)")
    own.add_argument("--videos", type=Path, metavar="DIR", help="folder of the videos, or of folders of frames")
    own.add_argument("--labels", type=Path, metavar="PATH", help="file or folder (default: DIR/labels, else DIR)")
    own.add_argument("--mapping", type=Path, metavar="FILE", help="what the labels mean (default: derived from them)")
    own.add_argument("--format", metavar="NAME", help="format of the labels (default: recognized)")
    own.add_argument("--propose", type=Path, metavar="FILE", help="only write the derived mapping, to be edited")


def check_own_arguments(arguments: argparse.Namespace) -> None:
    """Check that options of own videos are given for own videos only.

    Raises:
        InputError: they are given for another data set, or the folder is given twice or not at all.
    """
    given = [name for name in ("videos", "labels", "mapping", "format", "propose") if getattr(arguments, name)]
    if arguments.name != "own":
        if given:
            raise InputError(f"--{given[0]} is for `surgvista prepare own`; {arguments.name} needs --data-dir")
        return
    if bool(arguments.videos) == bool(arguments.data_dir):
        raise InputError("--videos is needed: the folder of the videos")


def own_plan(arguments: argparse.Namespace) -> "OwnPlan":
    """Read the labels and find out what they mean; write the mapping if that is requested.

    Raises:
        InputError, DatasetError: labels, mapping or videos cannot be understood.
    """
    from ..datasets_scripts.corpora.own import make_plan
    from ..datasets_scripts.frame_sets.registry import get_builder

    builder = get_builder("own")
    root = builder.folder(arguments.videos or arguments.data_dir)
    plan = make_plan(root, {**builder.settings, **own_settings(arguments)})
    if arguments.propose:
        if arguments.propose.exists():
            raise InputError(f"{arguments.propose} is there already; a mapping that was edited is not overwritten")
        with atomic_file(arguments.propose) as temporary:
            temporary.write_text(plan.mapping.to_yaml(), encoding="utf-8")
    return plan


def own_settings(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the settings of the data set that the options and `--set` give."""
    options = {name: getattr(arguments, name) for name in ("labels", "mapping", "format")}
    return {**dict(arguments.set), **{name: str(value) for name, value in options.items() if value}}


def own_builder(plan: "OwnPlan", source: str = "") -> "OwnVideosBuilder":
    """Return the builder for what is understood.

    Raises:
        DatasetError: something has to be corrected first.
    """
    from ..datasets_scripts.corpora.own import BUILDERS

    return BUILDERS[0].planned(plan, source)


def plan_summary(plan: "OwnPlan") -> dict[str, object]:
    """Return what is understood as JSON can say it."""
    return {
        "columns": {
            name: {"kind": column.kind, "classes": list(column.classes), "from": [*column.tiers, *column.properties]}
            for name, column in plan.mapping.columns.items()
        },
        "videos": {name: list(video.files) for name, video in plan.mapping.videos.items()},
        "groups": dict(plan.mapping.groups),
        "classes_listed_for": list(plan.listed.columns) if plan.listed is not None else [],
        "formats": sorted(set(plan.labels.formats.values())),
        "without_labels": list(plan.without_labels),
        "unused": list(plan.mapping.unused),
        "remarks": list(plan.remarks),
        "problems": list(plan.problems),
    }


def plan_lines(plan: "OwnPlan") -> Iterator[str]:
    """Yield the lines that show what is understood: columns, videos, and what is left out."""
    mapping = plan.mapping
    formats = preview(sorted(set(plan.labels.formats.values())))
    files = len(plan.labels.formats)
    yield f"labels: {files} {'file' if files == 1 else 'files'} ({formats}) about {len(plan.labels.videos)} videos"
    yield from _table(
        ("column", "one or several", "from", "classes"), [_row(*each) for each in mapping.columns.items()]
    )
    if plan.listed is not None:
        yield f"classes of {preview(plan.listed.columns) or 'no column'}: in the order of {plan.listed.path}"
    joined = {name: video.files for name, video in mapping.videos.items() if len(video.files) > 1}
    alone = [name for name, video in mapping.videos.items() if len(video.files) == 1]
    yield f"videos: {len(mapping.videos)}" + (f" ({preview(alone, _SHOWN)})" if alone else "")
    yield from (f"  {name} = {' + '.join(files)}" for name, files in joined.items())
    yield from (f"{group}: {name!r} of the labels" for group, name in mapping.groups.items())
    if any(tier.rate is None for video in plan.labels.videos for tier in video.tiers):
        yield f"frames: counted from {mapping.first_frame}"
    if plan.without_labels:
        yield f"left out, no labels: {preview(plan.without_labels, _SHOWN)}"
    if mapping.unused:
        yield (
            f"left out, no column: {preview(mapping.unused, _SHOWN)} (sizes, free text and particulars of persons become "
            "classes only if a mapping lists them)"
        )
    if plan.labels.passed:
        yield plan.labels.passed
    yield from (f"note: {remark}" for remark in plan.remarks)
    yield from (f"problem: {problem}" for problem in plan.problems)


def _row(name: str, column: "ColumnMapping") -> tuple[str, ...]:
    kinds = {"class": "one", "classes": "several", "numbers": "numbers"}
    renamed = [f"{label} → {new}" for label, new in column.rename.items()] + [
        f"{label} left out" for label in column.drop
    ]
    classes = f"{len(column.classes)}: {preview(column.classes, _SHOWN)}" + (
        f" ({preview(renamed)})" if renamed else ""
    )
    return name, kinds[column.kind], preview([*column.tiers, *column.properties], 3), classes


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[number]) for row in (header, *rows)) for number in range(len(header) - 1)]
    for row in (header, *rows):
        yield "  " + "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]))
