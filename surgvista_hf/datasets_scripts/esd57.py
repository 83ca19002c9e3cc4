"""Phase folders: one's own operations with one phase a second, the format of the private set ESD57.

`videos/<id>.mp4` or `frames/<id>/00000.png …`, and `phases/<id>.txt` with a header and rows `second phase`. Phases are
numbers from 0, or names if `classes.txt` lists them, one a line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..util.finding import walk
from .annotations import as_integer, read_table, read_text
from .builder import FRAMES, VIDEO, FrameSetBuilder, Place, RawVideo, shared_file
from .facts import EVERYTHING, AnnotationError, DatasetFacts, Protocol
from .tracks import Track
from .workflow import counted_phases, named_phases, phase

_SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
_PLACES = (
    Place(VIDEO, r"videos/([^/]+)"),
    Place(FRAMES, r"frames/([^/]+)"),
    Place("phases", r"phases/([^/]+)\.txt"),
)

OWN = DatasetFacts(
    name="phase_folder",
    title="Own operations with phases",
    task="workflow",
    procedure="any",
    licence="yours",
    homepage="your own disk",
    access="yours",
    citation="",
    labels={"phase": phase(())},
    protocols={
        "seeded_70_10_20": Protocol("drawn at random by operation", shares=_SHARES, seed="phase_folder"),
        "everything": EVERYTHING,
    },
    redistributable=False,
    checked="nothing to check it against",
    notes="classes.txt names the phases, one a line; without it they are called phase_0, phase_1, ….",
)
ESD57 = replace(
    OWN,
    name="esd57",
    title="ESD57",
    procedure="endoscopic submucosal dissection",
    licence="private clinical data",
    homepage="https://doi.org/10.1038/s41746-026-02403-0",
    access="not available to the public",
    citation="SurgVISTA, npj Digital Medicine, 2026",
    labels={"phase": phase(tuple(f"phase_{number}" for number in range(8)))},
    protocols={
        "seeded_39_6_12": Protocol("random without a published seed; drawn here", shares=_SHARES, seed="esd57")
    },
    totals={"videos": 57, "phases": 8},
    notes="Names of the phases and the split are not published.",
)


def configure(root: Path | None, settings: Mapping[str, str]) -> DatasetFacts:
    """The facts with the user's classes."""
    listed = shared_file(root, "classes.txt") if root else None
    if listed:
        names = [line.strip() for line in read_text(listed).splitlines() if line.strip()]
        if len(set(names)) < len(names) or not names:
            raise AnnotationError(f"{listed} must name each phase once, one a line")
        return replace(OWN, labels={"phase": phase(names)}, source=settings["source"])
    folders = [here for here, _, _ in walk(root) if here.name == "phases"] if root else []
    files = sorted(file for folder in folders for file in folder.glob("*.txt"))
    highest = max(
        (as_integer(file, line.number, line.cells[1]) for file in files for line in read_table(file, 2, header=True)),
        default=0,
    )
    names = [f"phase_{number}" for number in range(highest + 1)]
    return replace(OWN, labels={"phase": phase(names)}, source=settings["source"])


def with_classes(names: Sequence[str], found: list[RawVideo]) -> list[RawVideo]:
    """Tells each video the names that its labels may use."""
    return [replace(video, extra=tuple(names)) for video in found]


def expand_own(root: Path, found: list[RawVideo], settings: Mapping[str, str]) -> list[RawVideo]:
    """Own phases."""
    return with_classes(configure(root, settings).labels["phase"].names, found)


def expand_esd57(root: Path, found: list[RawVideo], settings: Mapping[str, str]) -> list[RawVideo]:
    """The eight phases of ESD57."""
    return with_classes(ESD57.labels["phase"].names, found)


def tracks(video: RawVideo) -> list[Track]:
    """One row a second from 0; phases by number or by name."""
    path, names = video.files["phases"], video.extra
    rows = read_table(path, 2, header=True)
    if next(rows).cells[1].isdigit():
        return [counted_phases(path, len(names), 1.0)]
    return [named_phases(path, names, 1.0)]


BUILDERS = (
    FrameSetBuilder(ESD57, _PLACES, tracks, needed=("phases",), expand=expand_esd57),
    FrameSetBuilder(
        OWN, _PLACES, tracks, needed=("phases",), expand=expand_own, configure=configure, settings={"source": ""}
    ),
)
