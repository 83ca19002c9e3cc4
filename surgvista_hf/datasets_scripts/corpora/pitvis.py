"""PitVis-2023: 25 endoscopic pituitary operations with steps (Das et al., PitVis-2023 challenge)."""

from ..schema.annotation_files import as_integer, read_named_table
from ..schema.builder import VIDEO, FilePattern, FrameSetBuilder, RawVideo, extracted_frames
from ..schema.info import AnnotationError, DatasetInfo, Label, Protocol, numbered
from ..schema.label_tracks import RowTrack, Track

STEPS = (
    "nasal_corridor_creation",
    "anterior_sphenoidotomy",
    "septum_displacement",
    "sphenoid_sinus_clearance",
    "sellotomy",
    "durotomy",
    "tumour_excision",
    "haemostasis",
    "synthetic_graft_placement",
    "fat_graft_placement",
    "gasket_seal_construct",
    "dural_sealant",
    "nasal_packing",
    "debris_clearance",
)
VIDEOS = numbered("video_{:02d}", 1, 25)
_HELD_OUT = ("video_02", "video_06", "video_12", "video_13", "video_24")
_COLUMNS = ("int_video", "int_time", "int_step", "int_instrument1", "int_instrument2")

INFO = DatasetInfo(
    name="pitvis",
    title="PitVis-2023",
    task="pre-training",
    procedure="pituitary surgery",
    license="CC-BY-NC-ND-4.0",
    homepage="https://doi.org/10.5522/04/26531686",
    access="open download; gated copy UCL-WEISS/PitVis-2023 on the Hub",
    citation="Das et al., PitVis-2023 challenge: Workflow recognition in videos of endoscopic pituitary "
    "surgery, Medical Image Analysis, 2025",
    labels={"step": Label("class", STEPS)},
    protocols={
        "common": Protocol(
            "usual in the literature; validation = test",
            {
                "train": tuple(video for video in VIDEOS if video not in _HELD_OUT),
                "validation": _HELD_OUT,
                "test": _HELD_OUT,
            },
        ),
        "everything": Protocol("SurgVISTA's corpus: all videos", {"train": VIDEOS}),
    },
    video_ids=VIDEOS,
    totals={"videos": 25, "steps": 14},
    notes="No derivatives may be passed on: frame sets must stay on your disk. The challenge's metric ignores "
    "steps 11 and 13 and "
    "seconds before and after the operation (no label here).",
)


def tracks(video: RawVideo) -> list[Track]:
    """Read the steps, one row per second; step -1 (not started, or over) is no label."""
    if "steps" not in video.files:
        return []
    path, number = video.files["steps"], int(video.video_id[-2:])
    ids: dict[int, int | None] = {-1: None, **{step: step - 1 for step in range(1, len(STEPS) + 1)}}
    rows: list[dict[str, int | None]] = []
    for line, cells in read_named_table(path, _COLUMNS):
        if as_integer(path, line, cells["int_video"]) != number or as_integer(path, line, cells["int_time"]) != len(
            rows
        ):
            raise AnnotationError(
                f"{path}:{line} is about second {cells['int_time']} of video {cells['int_video']}; second "
                f"{len(rows)} of video {number} "
                "is expected"
            )
        step = as_integer(path, line, cells["int_step"])
        if step not in ids:
            raise AnnotationError(f"{path}:{line} holds the step {step}; -1 and 1 to 14 are known")
        rows.append({"step": ids[step]})
    return [RowTrack(rows, 1.0)]


BUILDERS = (
    FrameSetBuilder(
        INFO,
        (
            FilePattern(VIDEO, r"video_(\d{2})", "video_{:02d}"),
            *extracted_frames("video_{:02d}", r"video_(\d{2})"),
            FilePattern("steps", r"annotations_(\d{2})\.csv", "video_{:02d}"),
        ),
        tracks,
    ),
)
