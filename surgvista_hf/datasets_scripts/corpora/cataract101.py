"""Cataract-101: 101 cataract operations with phases (Schoeffmann et al., MMSys 2018)."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..schema.annotation_files import as_integer, by_number, class_id, read_table
from ..schema.builder import VIDEO, FilePattern, FrameSetBuilder, RawVideo, extracted_frames, shared_file
from ..schema.info import AnnotationError, DatasetInfo, MissingFilesError, Protocol, seeded_protocol
from ..schema.label_tracks import Interval, IntervalTrack, Track
from ..schema.workflow import phase

PHASES = (
    "Incision",
    "Viscous agent injection",
    "Rhexis",
    "Hydrodissection",
    "Phacoemulsificiation",  # spelled so by the authors
    "Irrigation and aspiration",
    "Capsule polishing",
    "Lens implant setting-up",
    "Viscous agent removal",
    "Tonifying and antibiotics",
)
VIDEOS = tuple(
    """269 270 271 278 279 280 288 292 294 295 350 354 356 734 738 739 745 749 750 751 760 764 768 770 771 778 781
    784 785 786 788 796 797 799 801 802 804 806 807 808 809 810 817 821 825 827 828 829 830 834 835 840 841 845
    846 847 849 850 853 855 856 857 861 863 865 866 867 868 871 880 882 883 884 886 887 889 890 891 892 895 896
    898 899 900 901 902 906 907 908 909 911 921 922 925 926 928 929 931 932 933 934""".split()
)
RATE = 25.0
_WHY = "three random folds without a published seed"
_FOLDS = {"train": 50, "validation": 10, "test": 40}
_RELEASED = {"train": 60, "validation": 13, "test": 28}

INFO = DatasetInfo(
    name="cataract101",
    title="Cataract-101",
    task="workflow",
    procedure="cataract surgery",
    license="CC-BY-NC-4.0",
    homepage="http://ftp.itec.aau.at/datasets/ovid/cat-101",
    access="open download",
    citation="Schoeffmann et al., Cataract-101: video dataset of 101 cataract surgeries, ACM MMSys 2018",
    labels={"phase": phase(PHASES)},
    protocols={
        **{f"fold{fold}": seeded_protocol(VIDEOS, _FOLDS, f"cataract101-{fold}", _WHY) for fold in (1, 2, 3)},
        **{
            f"fold{fold}_60_13_28": seeded_protocol(VIDEOS, _RELEASED, f"cataract101-{fold}", _WHY)
            for fold in (1, 2, 3)
        },
        "positions_50_10_40": Protocol(
            "a baseline of the SurgVISTA release: positions in the sorted list, the last video unused",
            {"train": VIDEOS[:50], "validation": VIDEOS[50:60], "test": VIDEOS[60:100]},
        ),
    },
    video_ids=VIDEOS,
    totals={"videos": 101, "phases": 10},
    redistributable=True,
    unlabeled="drop",
    notes="SurgVISTA's splits are random and not published (50/10/40 or 60/13/28): its numbers cannot be "
    "reproduced exactly.",
)


def phase_starts(root: Path, found: list[RawVideo], settings: Mapping[str, str]) -> list[RawVideo]:
    """Read `annotations.csv`: the source frame at which each phase of each video starts."""
    path = shared_file(root, "annotations.csv")
    if path is None:
        raise MissingFilesError(f"there is no annotations.csv in {root}")
    starts: dict[str, list[tuple[int, int]]] = {}
    ids = by_number(len(PHASES), first=1)
    for line in read_table(path, 3, header=True, delimiter=";"):
        video, frame, number = (as_integer(path, line.number, cell) for cell in line.cells)
        if str(video) not in VIDEOS:
            raise AnnotationError(f"{path}:{line.number} is about video {video}, which is not among the 101")
        rows = starts.setdefault(str(video), [])
        if rows and frame <= rows[-1][0]:
            raise AnnotationError(
                f"{path}:{line.number}: frame {frame} of video {video} does not come after {rows[-1][0]}"
            )
        rows.append((frame, class_id(path, line.number, number, ids)))
    missing = [video.video_id for video in found if video.video_id not in starts]
    if missing:
        raise AnnotationError(f"{path} says nothing of the videos {', '.join(missing)}")
    return [replace(video, extra=tuple(starts[video.video_id])) for video in found]


def tracks(video: RawVideo) -> list[Track]:
    """Return the phases: each lasts until the next one starts; a last row that repeats a phase marks its last frame."""
    starts = list(video.extra)
    end = float("inf")
    if len(starts) > 1 and starts[-1][1] == starts[-2][1]:
        end = (starts.pop()[0] + 1) / RATE
    stops = [frame / RATE for frame, _ in starts[1:]] + [end]
    return [
        IntervalTrack(
            [
                Interval(frame / RATE, stop, {"phase": number})
                for (frame, number), stop in zip(starts, stops, strict=True)
            ]
        )
    ]


BUILDERS = (
    FrameSetBuilder(
        INFO,
        (FilePattern(VIDEO, r"(?:case_)?(\d{3})"), *extracted_frames("{}", r"(?:case_)?(\d{3})")),
        tracks,
        expand=phase_starts,
    ),
)
