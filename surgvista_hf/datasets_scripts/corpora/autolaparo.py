"""AutoLaparo, task 1: 21 laparoscopic hysterectomies with phases (Wang et al., MICCAI 2022)."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..schema.annotation_files import as_integer, read_table
from ..schema.builder import VIDEO, FilePattern, FrameSetBuilder, RawVideo, extracted_frames
from ..schema.info import AnnotationError, DatasetInfo, Protocol, numbered
from ..schema.label_tracks import Track
from ..schema.workflow import counted_phases, phase

PHASES = (
    "Preparation",
    "Dividing Ligament and Peritoneum",
    "Dividing Uterine Vessels and Ligament",
    "Transecting the Vagina",
    "Specimen Removal",
    "Suturing",
    "Washing",
)
VIDEOS = numbered("{:02d}", 1, 21)

INFO = DatasetInfo(
    name="autolaparo",
    title="AutoLaparo",
    task="workflow",
    procedure="hysterectomy",
    license="CC-BY-NC-SA-4.0",
    homepage="https://autolaparo.github.io",
    access="request form",
    citation="Wang et al., AutoLaparo: A New Dataset of Integrated Multi-tasks for Image-guided Surgical "
    "Automation in Laparoscopic Hysterectomy, MICCAI 2022",
    labels={"phase": phase(PHASES)},
    protocols={
        "official": Protocol(
            "the data set's authors", {"train": VIDEOS[:10], "validation": VIDEOS[10:14], "test": VIDEOS[14:]}
        )
    },
    video_ids=VIDEOS,
    totals={"videos": 21, "phases": 7},
    notes="Files in circulation count phases from 0 or from 1; which one is found by reading all of them.",
)


def first_class(root: Path, found: list[RawVideo], settings: Mapping[str, str]) -> list[RawVideo]:
    """Find out whether the label files count phases from 0 or from 1."""
    files = [video.files["phases"] for video in found if "phases" in video.files]
    seen = {
        as_integer(file, line.number, line.cells[1]) for file in files for line in read_table(file, 2, header=True)
    }
    if files and (0 in seen) == (len(PHASES) in seen):
        raise AnnotationError(
            f"the labels below {root} hold the phases {sorted(seen)}; they must count either from 0 to 6 or "
            "from 1 to 7. "
            "If only some label files are there, add the others"
        )
    return [replace(video, extra=int(0 not in seen)) for video in found]


def tracks(video: RawVideo) -> list[Track]:
    """Read the phases, one row per second; frames count from 1."""
    return [counted_phases(video.files["phases"], len(PHASES), 1.0, first_frame=1, first_class=video.extra)]


BUILDERS = (
    FrameSetBuilder(
        INFO,
        (
            FilePattern(VIDEO, r"(\d{2})", "{:02d}"),
            *extracted_frames("{:02d}", r"(\d{2})"),
            FilePattern("phases", r"label_(\d{2})\.txt", "{:02d}"),
        ),
        tracks,
        needed=("phases",),
        expand=first_class,
    ),
)
