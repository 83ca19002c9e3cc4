"""Phase folders: one's own operations with phases, and the private set ESD57.

`videos/<id>.mp4` or `frames/<id>/00000.png …`, and `phases/<id>.txt` (or `.csv`, `.tsv`, `.xlsx`, `.eaf`; see `phase_files`).
Phases are numbers from 0, or names; `classes.txt` lists them, one a line, in their order. ESD57 has a header and rows
`second phase` without gaps.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...util.file_search import is_unfinished, walk
from ..own_labels.phase_files import SUFFIXES, class_names, read_phase_file
from ..schema.annotation_files import read_class_list
from ..schema.builder import FRAMES, VIDEO, FilePattern, FrameSetBuilder, RawVideo, shared_file
from ..schema.info import EVERYTHING, DatasetInfo, Protocol
from ..schema.label_tracks import Track
from ..schema.workflow import counted_phases, phase

_FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
_FRAME_PATTERNS = (FilePattern(VIDEO, r"videos/([^/]+)"), FilePattern(FRAMES, r"frames/([^/]+)"))
_OF_ESD57 = (*_FRAME_PATTERNS, FilePattern("phases", r"phases/([^/]+)\.txt"))
_OF_OWN = (*_FRAME_PATTERNS, FilePattern("phases", rf"phases/([^/]+)(?:{'|'.join(map(re.escape, SUFFIXES))})"))

OWN = DatasetInfo(
    name="phase_folder",
    title="Own operations with phases",
    task="workflow",
    procedure="any",
    license="yours",
    homepage="your own disk",
    access="yours",
    citation="",
    labels={"phase": phase(())},
    protocols={
        "seeded_70_10_20": Protocol("drawn at random by operation", fractions=_FRACTIONS, seed="phase_folder"),
        "everything": EVERYTHING,
    },
    redistributable=False,
    checked="nothing to check it against",
    notes="classes.txt names the phases, one a line; without it they are called as in the labels, or phase_0, phase_1, …. "
    "Labels may begin late, end early and have gaps. --set tier=NAME chooses a tier of ELAN.",
)
ESD57 = replace(
    OWN,
    name="esd57",
    title="ESD57",
    procedure="endoscopic submucosal dissection",
    license="private clinical data",
    homepage="https://doi.org/10.1038/s41746-026-02403-0",
    access="not available to the public",
    citation="SurgVISTA, npj Digital Medicine, 2026",
    labels={"phase": phase(tuple(f"phase_{number}" for number in range(8)))},
    protocols={
        "seeded_39_6_12": Protocol("random without a published seed; drawn here", fractions=_FRACTIONS, seed="esd57")
    },
    totals={"videos": 57, "phases": 8},
    notes="Names of the phases and the split are not published.",
)


def configure(root: Path | None, settings: Mapping[str, str]) -> DatasetInfo:
    """Return the description of own operations with the user's classes, from `classes.txt` or the label files."""
    listed = shared_file(root, "classes.txt") if root else None
    if listed:
        return replace(OWN, labels={"phase": phase(read_class_list(listed, "phase"))}, source=settings["source"])
    folders = ((here, names) for here, _, names in walk(root) if here.name == "phases") if root else ()
    paths = sorted(here / name for here, names in folders for name in names)
    files = [path for path in paths if path.suffix.lower() in SUFFIXES and not is_unfinished(path)]
    names = class_names(read_phase_file(file, settings["tier"]) for file in files)
    return replace(OWN, labels={"phase": phase(names)}, source=settings["source"])


def expand_own(root: Path, found: list[RawVideo], settings: Mapping[str, str]) -> list[RawVideo]:
    """Attach to each video the names that its labels may use, and the tier to read."""
    names, tier = configure(root, settings).labels["phase"].names, settings["tier"]
    return [replace(video, extra=(names, tier)) for video in found]


def own_tracks(video: RawVideo) -> list[Track]:
    """Read the phases of an own operation; times without a label have none."""
    names, tier = video.extra
    return [read_phase_file(video.files["phases"], tier).track(names)]


def esd57_tracks(video: RawVideo) -> list[Track]:
    """Read the phases of ESD57: one row per second from 0, by number."""
    return [counted_phases(video.files["phases"], len(ESD57.labels["phase"].names), 1.0)]


BUILDERS = (
    FrameSetBuilder(ESD57, _OF_ESD57, esd57_tracks, needed=("phases",)),
    FrameSetBuilder(
        OWN,
        _OF_OWN,
        own_tracks,
        needed=("phases",),
        expand=expand_own,
        configure=configure,
        settings={"source": "", "tier": ""},
    ),
)
