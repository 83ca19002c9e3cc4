"""M2CAI16-workflow: 41 laparoscopic cholecystectomies with phases (M2CAI 2016 challenge; contains TUM LapChole)."""

from ..schema.builder import VIDEO, FilePattern, FrameSetBuilder, RawVideo, extracted_frames
from ..schema.info import DatasetInfo, Protocol, numbered
from ..schema.label_tracks import Track
from ..schema.workflow import CHOLECYSTECTOMY_PHASES, named_phases, phase

PHASES = ("TrocarPlacement", *CHOLECYSTECTOMY_PHASES)
VIDEOS = numbered("video_{:02d}", 1, 41)
TRAIN, TEST = VIDEOS[:27], VIDEOS[27:]

INFO = DatasetInfo(
    name="m2cai16_workflow",
    title="M2CAI16-workflow",
    task="workflow",
    procedure="cholecystectomy",
    license="CC-BY-NC-SA-4.0",
    homepage="http://camma.u-strasbg.fr/datasets",
    access="request form",
    citation="Stauder et al., The TUM LapChole dataset for the M2CAI 2016 workflow challenge, arXiv 1610.09278; "
    "Twinanda et al., IEEE TMI 36(1), 2017",
    labels={"phase": phase(PHASES)},
    protocols={
        "surgvista": Protocol(
            "challenge; SurgVISTA validates on the test videos", {"train": TRAIN, "validation": TEST, "test": TEST}
        ),
        "careful": Protocol(
            "as surgvista, with the last 5 training videos for validation",
            {"train": TRAIN[:22], "validation": TRAIN[22:], "test": TEST},
        ),
    },
    video_ids=VIDEOS,
    totals={"videos": 41, "phases": 8},
    notes="Training videos are suspected to be copies of Cholec80 test videos (73, 77, 78, 79, 80).",
    aliases=("m2cai16",),
)


def tracks(video: RawVideo) -> list[Track]:
    """Read the phases, one row per source frame at 25 frames per second."""
    return [named_phases(video.files["phases"], PHASES, 25.0)]


# As distributed (test videos count from 1 again), and as the published programs rename them.
BUILDERS = (
    FrameSetBuilder(
        INFO,
        (
            FilePattern(VIDEO, r"workflow_video_(\d{2})", "video_{:02d}"),
            FilePattern(VIDEO, r"test_workflow_video_(\d{2})", "video_{:02d}", offset=27),
            FilePattern(VIDEO, r"video_(\d{2})", "video_{:02d}"),
            *extracted_frames("video_{:02d}", r"(?:workflow_)?video_(\d{2})"),
            *extracted_frames("video_{:02d}", r"test_workflow_video_(\d{2})", offset=27),
            FilePattern("phases", r"workflow_video_(\d{2})\.txt", "video_{:02d}"),
            FilePattern("phases", r"test_workflow_video_(\d{2})\.txt", "video_{:02d}", offset=27),
            FilePattern("phases", r"video_phase_(\d{2})\.txt", "video_{:02d}"),
        ),
        tracks,
        needed=("phases",),
    ),
)
