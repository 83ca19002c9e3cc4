"""CATARACTS: 50 cataract operations with the steps annotated in 2020 (Al Hajj et al., Medical Image Analysis 52, 2019)."""

from ..schema.builder import VIDEO, FilePattern, FrameSetBuilder, RawVideo, extracted_frames
from ..schema.info import DatasetInfo, Protocol, numbered
from ..schema.label_tracks import Track
from ..schema.workflow import counted_phases, phase

STEPS = (
    "Idle",
    "Toric Marking",
    "Implant Ejection",
    "Incision",
    "Viscodilatation",
    "Capsulorhexis",
    "Hydrodissection",  # the official list has "Hydrodissetion"
    "Nucleus Breaking",
    "Phacoemulsification",
    "Vitrectomy",
    "Irrigation/Aspiration",
    "Preparing Implant",
    "Manual Aspiration",
    "Implantation",
    "Positioning",
    "OVD Aspiration",
    "Suturing",
    "Sealing Control",
    "Wound Hydratation",
)
TRAIN, OTHERS = numbered("train{:02d}", 1, 25), numbered("test{:02d}", 1, 25)
VALIDATION = ("test01", "test07", "test14", "test16", "test19")
_ID = r"((?:train|test)\d{2})"

INFO = DatasetInfo(
    name="cataracts",
    title="CATARACTS (2020 steps)",
    task="workflow",
    procedure="cataract surgery",
    license="see the terms on IEEE DataPort",
    homepage="https://ieee-dataport.org/open-access/cataracts",
    access="IEEE DataPort account",
    citation="Al Hajj et al., CATARACTS: Challenge on automatic tool annotation for cataRACT surgery, Medical "
    "Image Analysis 52, 2019",
    labels={"phase": phase(STEPS)},
    protocols={
        "official": Protocol(
            "2020 challenge: train_gt, dev_gt, test_gt",
            {
                "train": TRAIN,
                "validation": VALIDATION,
                "test": tuple(video for video in OTHERS if video not in VALIDATION),
            },
        )
    },
    video_ids=(*TRAIN, *OTHERS),
    totals={"videos": 50, "phases": 19},
    notes="Vitrectomy occurs in train19, test07 and test02 only.",
)


def tracks(video: RawVideo) -> list[Track]:
    """Read the steps, one row per source frame, counted from 1; extracted frames stand for 30 source frames, as published."""
    rate = None if VIDEO in video.files else 30.0
    return [counted_phases(video.files["steps"], len(STEPS), rate, first_frame=1, delimiter=",")]


BUILDERS = (
    FrameSetBuilder(
        INFO,
        (
            FilePattern(VIDEO, _ID),
            *extracted_frames("{}", _ID),
            FilePattern("steps", rf"(?:train|dev|test)_gt/{_ID}\.csv"),
        ),
        tracks,
        needed=("steps",),
    ),
)
