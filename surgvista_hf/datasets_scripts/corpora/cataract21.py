"""Cataract-21: 21 cataract operations with phases (Primus et al., MMM 2018; ITEC Klagenfurt)."""

from ..schema.builder import VIDEO, FilePattern, FrameSetBuilder, RawVideo, extracted_frames
from ..schema.info import DatasetInfo, Protocol, numbered
from ..schema.label_tracks import Track
from ..schema.workflow import named_phases, phase

PHASES = (
    "not_initialized",
    "Incision",
    "Viscoelasticum",
    "Rhexis",
    "Hydrodissektion",
    "Phako",
    "Irrigation-Aspiration",
    "Kapselpolishing",
    "Linsenimplantation",
    "Visco-Absaugung",
    "Tonisieren/Antibiotikum",
)
# Twelve names in the files, eleven classes: the last two are one.
NAMES = {**{name: number for number, name in enumerate(PHASES[:-1])}, "Tonisieren": 10, "Antibiotikum": 10}
VIDEOS = numbered("case_{:02d}", 1, 21)

INFO = DatasetInfo(
    name="cataract21",
    title="Cataract-21",
    task="workflow",
    procedure="cataract surgery",
    license="scientific research only (other sources: CC-BY-NC-SA-4.0)",
    homepage="http://ftp.itec.aau.at/datasets/ovid/cat-21",
    access="open download",
    citation="Primus et al., Frame-Based Classification of Operation Phases in Cataract Surgery Videos, MMM 2018",
    labels={"phase": phase(PHASES)},
    protocols={
        "surgvista": Protocol(
            "official training and validation videos; SurgVISTA validates on the test videos",
            {"train": VIDEOS[:17], "validation": VIDEOS[17:], "test": VIDEOS[17:]},
        ),
        "careful": Protocol(
            "as surgvista, with the last 3 training videos for validation",
            {"train": VIDEOS[:14], "validation": VIDEOS[14:17], "test": VIDEOS[17:]},
        ),
        "baseline_18_3": Protocol("a baseline of the SurgVISTA release", {"train": VIDEOS[:18], "test": VIDEOS[18:]}),
    },
    video_ids=VIDEOS,
    totals={"videos": 21, "phases": 11},
    notes="not_initialized (no phase) is a class here, as published by SurgVISTA; the data set's own page has "
    "ten without it.",
)
_ID = r"case_(\d{2})(?:_training|_validation)?"


def tracks(video: RawVideo) -> list[Track]:
    """Read the phases, one row per source frame at 25 frames per second; the files have no header."""
    return [named_phases(video.files["phases"], NAMES, 25.0, header=False, delimiter=",")]


BUILDERS = (
    FrameSetBuilder(
        INFO,
        (
            FilePattern(VIDEO, _ID, "case_{:02d}"),
            *extracted_frames("case_{:02d}", _ID),
            FilePattern("phases", rf"{_ID}\.csv", "case_{:02d}"),
        ),
        tracks,
        needed=("phases",),
    ),
)
