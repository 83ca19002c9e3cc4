"""M2CAI16-tool: 15 laparoscopic cholecystectomies with tools (M2CAI 2016); two are used for pre-training."""

from ..schema.builder import VIDEO, FilePattern, FrameSetBuilder, RawVideo, extracted_frames
from ..schema.info import DatasetInfo, Protocol, numbered
from ..schema.label_tracks import Track
from ..schema.workflow import TOOLS, tools_each_second

VIDEOS = numbered("tool_video_{:02d}", 1, 15)

INFO = DatasetInfo(
    name="m2cai16_tool",
    title="M2CAI16-tool",
    task="pre-training",
    procedure="cholecystectomy",
    license="CC-BY-NC-SA-4.0",
    homepage="http://camma.u-strasbg.fr/datasets",
    access="request form",
    citation="Twinanda et al., EndoNet: A Deep Architecture for Recognition Tasks on Laparoscopic Videos, IEEE "
    "TMI 36(1), 2017",
    labels={"tools": TOOLS},
    protocols={
        "surgvista": Protocol(
            "an earlier revision of SurgVISTA: the two videos that are in no other set",
            {"train": ("tool_video_09", "tool_video_13")},
        ),
        "official": Protocol("challenge: 10 and 5 videos", {"train": VIDEOS[:10], "test": VIDEOS[10:]}),
    },
    video_ids=VIDEOS,
    totals={"videos": 15, "tools": 7},
    notes="Videos other than 09 and 13 are suspected to be in Cholec80 or M2CAI16-workflow.",
)


def tracks(video: RawVideo) -> list[Track]:
    """Read the tools, one row per second."""
    return [tools_each_second(video.files["tools"])] if "tools" in video.files else []


BUILDERS = (
    FrameSetBuilder(
        INFO,
        (
            FilePattern(VIDEO, r"(?:test_)?tool_video_(\d{2})", "tool_video_{:02d}"),
            *extracted_frames("tool_video_{:02d}", r"tool_video_(\d{2})"),
            FilePattern("tools", r"(?:test_)?tool_video_(\d{2})\.txt", "tool_video_{:02d}"),
        ),
        tracks,
    ),
)
