"""Cholec80: 80 laparoscopic cholecystectomies with phases and tools (Twinanda et al., EndoNet, IEEE TMI 36, 2017)."""

from ..schema.builder import VIDEO, FilePattern, FrameSetBuilder, RawVideo, extracted_frames
from ..schema.info import DatasetInfo, Protocol, numbered
from ..schema.label_tracks import Track
from ..schema.workflow import CHOLECYSTECTOMY_PHASES, TOOLS, named_phases, phase, tools_each_second

VIDEOS = numbered("video{:02d}", 1, 80)
TRAIN, LATER = VIDEOS[:40], VIDEOS[40:]
# Left out of the test by the authors of SurgVISTA, most likely as copies of M2CAI16-workflow training videos.
NOT_TESTED = ("video73", "video77", "video78", "video79", "video80")
TESTED = tuple(video for video in LATER if video not in NOT_TESTED)
FRAME_PATTERNS = (
    FilePattern(VIDEO, r"video(\d{2})", "video{:02d}"),
    *extracted_frames("video{:02d}", r"video(\d{2})"),
)

INFO = DatasetInfo(
    name="cholec80",
    title="Cholec80",
    task="workflow",
    procedure="cholecystectomy",
    license="CC-BY-NC-SA-4.0",
    homepage="http://camma.u-strasbg.fr/datasets",
    access="request form",
    citation="Twinanda et al., EndoNet: A Deep Architecture for Recognition Tasks on Laparoscopic Videos, IEEE "
    "TMI 36(1), 2017",
    labels={"phase": phase(CHOLECYSTECTOMY_PHASES), "tools": TOOLS},
    protocols={
        "surgvista": Protocol(
            "SurgVISTA: validation = test, so its best epoch is chosen on the test videos",
            {"train": TRAIN, "validation": TESTED, "test": TESTED},
        ),
        "careful": Protocol(
            "as surgvista, with the last 8 training videos for validation",
            {"train": TRAIN[:32], "validation": TRAIN[32:], "test": TESTED},
        ),
        "standard_40_40": Protocol(
            "TeCNO, Surgformer and most papers; no validation videos", {"train": TRAIN, "test": LATER}
        ),
        "camma_40_8_32": Protocol("CAMMA", {"train": TRAIN, "validation": LATER[:8], "test": LATER[8:]}),
        "standard_32_8_40": Protocol(
            "common in the literature", {"train": TRAIN[:32], "validation": TRAIN[32:], "test": LATER}
        ),
    },
    video_ids=VIDEOS,
    totals={"videos": 80, "phases": 7, "tools": 7},
    notes="The test of most papers has 40 videos, that of SurgVISTA 35: numbers of different protocols cannot "
    "be compared. "
    "SurgVISTA cuts the black border (--crop-border).",
)


def tracks(video: RawVideo) -> list[Track]:
    """Read the phases, one row per source frame, and the tools, one row per second."""
    found: list[Track] = [named_phases(video.files["phases"], CHOLECYSTECTOMY_PHASES, 25.0)]
    if "tools" in video.files:
        found.append(tools_each_second(video.files["tools"]))
    return found


BUILDERS = (
    FrameSetBuilder(
        INFO,
        (
            *FRAME_PATTERNS,
            FilePattern("phases", r"video(\d{2})-phase\.txt", "video{:02d}"),
            FilePattern("tools", r"video(\d{2})-tool\.txt", "video{:02d}"),
        ),
        tracks,
        needed=("phases",),
    ),
)
