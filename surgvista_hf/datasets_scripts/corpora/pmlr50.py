"""PmLR50: 50 laparoscopic liver resections with phases and Pringle manoeuvre (PmNet authors, 2024)."""

from ..schema.builder import FRAMES, FilePattern, FrameSetBuilder, RawVideo
from ..schema.info import AnnotationError, DatasetInfo, Label, Protocol, numbered
from ..schema.label_tracks import Track
from ..schema.workflow import counted_phases, phase

PHASES = (
    "Preparation stage",
    "Knotting of the Foley catheter",
    "Procedure of the liver resection",
    "Release of the Foley catheter",
    "Postprocessing stage",
)
VIDEOS = numbered("{:02d}", 1, 50)
TRAIN = (*VIDEOS[:33], "49", "50")
FIVE, TEN = ("34", "35", "36", "37", "48"), numbered("{:02d}", 38, 47)

INFO = DatasetInfo(
    name="pmlr50",
    title="PmLR50",
    task="workflow",
    procedure="liver resection",
    license="not stated; request form",
    homepage="https://github.com/RascalGdd/PmNet",
    access="request form",
    citation="Guo et al., Surgical Workflow Recognition and Blocking Effectiveness Detection in Laparoscopic "
    "Liver Resections with Pringle Maneuver, AAAI 2025",
    labels={"phase": phase(PHASES), "blocking": Label("class", ("0", "1"))},
    protocols={
        "official": Protocol("the data set's authors", {"train": TRAIN, "validation": FIVE, "test": TEN}),
        "swapped": Protocol(
            "what a program reads that takes the official folder labels/test for the test videos",
            {"train": TRAIN, "validation": TEN, "test": FIVE},
        ),
    },
    video_ids=VIDEOS,
    totals={"videos": 50, "phases": 5, "frames": 25037},
    notes="The official program stores the validation videos under labels/test; which of both a paper tested on "
    "is often not said.",
)


def tracks(video: RawVideo) -> list[Track]:
    """Read the phases and the effectiveness of the blocking, one row per second from 0."""
    found: list[Track] = [counted_phases(video.files["phases"], len(PHASES), 1.0)]
    if "blocking" in video.files:
        found.append(counted_phases(video.files["blocking"], 2, 1.0, column="blocking"))
        ends = [track.end(1.0) for track in found]
        if ends[0] != ends[1]:
            raise AnnotationError(f"{video.files['blocking']} has {ends[1]:g} rows, the phases have {ends[0]:g}")
    return found


BUILDERS = (
    FrameSetBuilder(
        INFO,
        (
            FilePattern(FRAMES, r"frames/(\d{2})", "{:02d}", rate=1.0),
            FilePattern("phases", r"phase_annotations/(\d{2})\.txt", "{:02d}"),
            FilePattern("blocking", r"blocking_annotations/(\d{2})\.txt", "{:02d}"),
        ),
        tracks,
        needed=("phases",),
    ),
)
