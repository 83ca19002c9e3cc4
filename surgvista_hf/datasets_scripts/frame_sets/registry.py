"""Registry of the data sets. Each module named here holds one data set, or a family whose members differ in a table only."""

import importlib
from functools import cache
from pathlib import Path

from ...util.messages import did_you_mean
from ..schema.builder import FrameSetBuilder
from ..schema.info import DatasetError, DatasetInfo
from ..schema.split_files import SplitFile, read_split_file
from ..schema.triplets import TripletTable

MODULES = (
    "cholec80",
    "m2cai16_workflow",
    "autolaparo",
    "cataracts",
    "cataract101",
    "cataract21",
    "pmlr50",
    "esd57",
    "surgicalactions160",
    "cholect50",
    "prostate21",
    "cholec80_cvs",
    "endoscapes",
    "heichole",
    "pitvis",
    "psi_ava",
    "multibypass140",
    "m2cai16_tool",
    "folder",
    "own",
    "surgrec",
    "lemon",
    "synthetic",
)


@cache
def builders() -> dict[str, FrameSetBuilder]:
    """Return every builder by the name of its data set."""
    modules = (importlib.import_module(f"..corpora.{name}", __package__) for name in MODULES)
    return {builder.info.name: builder for module in modules for builder in module.BUILDERS}


def get_builder(name: str) -> FrameSetBuilder:
    """Return the builder of a data set, by its name or an alias.

    Raises:
        DatasetError: there is no such data set; the message suggests a similar name.

    Example:
        >>> get_builder("Surg-3M").info.name
        'lemon'
    """
    known = builders()
    names = {
        alias.lower(): builder for builder in known.values() for alias in (builder.info.name, *builder.info.aliases)
    }
    if name.lower() in names:
        return names[name.lower()]
    hint = did_you_mean(name.lower(), names, "`surgvista prepare --list` names all")
    raise DatasetError(f"there is no data set {name!r}; {hint}")


def triplet_table(name: str) -> TripletTable:
    """Return the table of the triplet classes of a data set.

    Raises:
        DatasetError: there is no data set of that name, or it has no triplets.

    Example:
        >>> table = triplet_table("cholect50")
        >>> table.names[60], table.components[60]
        ('hook,dissect,gallbladder', (2, 2, 0))
    """
    table = get_builder(name).info.triplets
    if table is None:
        having = ", ".join(info.name for info in list_datasets() if info.triplets is not None)
        raise DatasetError(f"there is no table of triplets for {name!r}; there is one for {having}")
    return table


def read_split_file_of(name: str, path: str | Path) -> SplitFile:
    """Read a file of splits, and check that it is of a data set.

    Args:
        name: name of the data set.
        path: file of splits, as `read_split_file` takes it.

    Raises:
        DatasetError: it has splits of another data set, or cannot be read.
    """
    file = read_split_file(path)
    if file.data and get_builder(file.data).info.name != get_builder(name).info.name:
        raise DatasetError(f"{path} has splits of {file.data}, not of {name}")
    return file


def list_datasets() -> list[DatasetInfo]:
    """List the data sets: task, classes, splits, license and source of each.

    Example:
        >>> [info.name for info in list_datasets() if info.task == "triplet"]
        ['cholect50', 'cholect45', 'prostate21', 'prostatd']
    """
    return [builder.info for builder in builders().values()]


def markdown_table() -> str:
    """Return the table of `docs/reference/datasets.md`."""
    columns = ("Name", "Data set", "Task", "Classes", "Videos", "Frames", "License", "How to get it", "Tried on")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for info in list_datasets():
        classes = ", ".join(f"{len(label.names) or 'own'} {name}" for name, label in info.labels.items())
        videos = str(len(info.video_ids) or info.totals.get("videos") or "any")
        frames = f"{info.totals['frames']:,}" if "frames" in info.totals else ""
        title = f"[{info.title}]({info.homepage})" if info.homepage.startswith("http") else info.title
        cells = (
            f"`{info.name}`",
            title,
            info.task,
            classes,
            videos,
            frames,
            info.license,
            info.access,
            info.checked,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
