"""PSI-AVA: eight robot-assisted prostatectomies (Valderrama et al., MICCAI 2022), for pre-training."""

from ..schema.builder import FRAMES, VIDEO, FilePattern, FrameSetBuilder, RawVideo
from ..schema.info import DatasetInfo, Protocol
from ..schema.label_tracks import Track

FRAMES_PUBLISHED = {1: 10972, 2: 9443, 3: 5882, 4: 8490, 7: 8018, 14: 9973, 15: 8969, 21: 11871}
VIDEOS = tuple(f"CASE{number:03d}" for number in FRAMES_PUBLISHED)
_FOLD_1 = ("CASE001", "CASE004", "CASE014", "CASE015")

INFO = DatasetInfo(
    name="psi_ava",
    title="PSI-AVA",
    task="pre-training",
    procedure="prostatectomy",
    license="see the authors' terms",
    homepage="https://github.com/BCV-Uniandes/TAPIR",
    access="open download",
    citation="Valderrama et al., Towards Holistic Surgical Scene Understanding, MICCAI 2022",
    labels={},
    protocols={
        "everything": Protocol("SurgVISTA's corpus: all videos", {"train": VIDEOS}),
        "fold1": Protocol(
            "fold 1 of the authors",
            {"train": _FOLD_1, "test": tuple(video for video in VIDEOS if video not in _FOLD_1)},
        ),
    },
    video_ids=VIDEOS,
    totals={"videos": 8, "frames": sum(FRAMES_PUBLISHED.values())},
    notes="All eight operations are also in Prostate21 (ProstaTD). Its labels are not read.",
)


def tracks(video: RawVideo) -> list[Track]:
    """Return no labels: only the frames are used."""
    return []


BUILDERS = (
    FrameSetBuilder(
        INFO,
        (FilePattern(FRAMES, r"(?:keyframes|frames)/(CASE\d{3})", rate=1.0), FilePattern(VIDEO, r"(CASE\d{3})")),
        tracks,
    ),
)
