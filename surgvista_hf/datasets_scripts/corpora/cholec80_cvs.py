"""Cholec80-CVS: the critical view of safety, scored in intervals of Cholec80 (Ríos et al., Scientific Data 10, 2023)."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...util.requirements import require
from ..schema.annotation_files import as_integer, read_text
from ..schema.builder import FrameSetBuilder, RawVideo, shared_file
from ..schema.info import AnnotationError, DatasetInfo, Label, MissingFilesError, Protocol, shuffled
from ..schema.label_tracks import ConstantTrack, Track
from .cholec80 import FRAME_PATTERNS, LATER, TRAIN, VIDEOS

CRITERIA = ("two_structures", "cystic_plate", "hepatocystic_triangle")
_TIMES = ("initial_minute", "initial_second", "final_minute", "final_second")
_FILES = ("surgeons_annotations.xlsx", "surgeons_annotations.csv", "cholec80-CVS.xlsx", "cholec80-CVS.csv")
_HELD_OUT = tuple(sorted(shuffled(TRAIN, "cholec80_cvs")[:4]))


def _videos(numbers: str) -> tuple[str, ...]:
    return tuple(f"video{int(number):02d}" for number in numbers.split())


_AUTHORS_VALIDATION = _videos("1 2 10 16 17 28 32 46 47 57 59 63 65 67 70")
_AUTHORS_TEST = _videos("5 6 7 9 14 22 24 26 29 33 35 39 53 55 61")

INFO = DatasetInfo(
    name="cholec80_cvs",
    title="Cholec80-CVS",
    task="safety",
    procedure="cholecystectomy",
    license="annotations: see Figshare; videos as Cholec80 (CC-BY-NC-SA-4.0)",
    homepage="https://doi.org/10.6084/m9.figshare.c.5880458",
    access="open annotations; Cholec80 by request form",
    citation="Ríos et al., Cholec80-CVS: An open dataset with an evaluation of Strasberg's critical view of "
    "safety for AI, Scientific Data 10, 2023",
    labels={"cvs_score": Label("class", tuple(map(str, range(7)))), "cvs": Label("numbers", CRITERIA)},
    protocols={
        "surgvista": Protocol(
            "videos 1-40 and 41-80, six classes (clips of the full score 6 left out) as in SurgVISTA; its "
            "validation list is not "
            "published, four training videos are drawn here",
            {
                "train": tuple(video for video in TRAIN if video not in _HELD_OUT),
                "validation": _HELD_OUT,
                "test": LATER,
            },
            exclude={"cvs_score": ("6",)},
        ),
        "seven_classes": Protocol(
            "as surgvista, with the clips of the full score",
            {
                "train": tuple(video for video in TRAIN if video not in _HELD_OUT),
                "validation": _HELD_OUT,
                "test": LATER,
            },
        ),
        "authors": Protocol(
            "the data set's authors, 50, 15 and 15 videos",
            {
                "train": tuple(video for video in VIDEOS if video not in (*_AUTHORS_VALIDATION, *_AUTHORS_TEST)),
                "validation": _AUTHORS_VALIDATION,
                "test": _AUTHORS_TEST,
            },
        ),
    },
    totals={"videos": 80, "criteria": 3},
    split_key=r"(video\d{2})_\d+",
    notes="One clip per scored interval. How SurgVISTA cut its clips is not published: here all frames of the "
    "interval, one a second. "
    "The authors' own results are per frame, before the first ClippingCutting frame.",
)


def clips(root: Path, found: list[RawVideo], settings: Mapping[str, str]) -> list[RawVideo]:
    """Cut the videos into the scored intervals; intervals that end before they begin (three are published) are left out."""
    path = shared_file(root, *_FILES)
    if path is None:
        raise MissingFilesError(f"there is none of {_FILES} in {root}. Get it from {INFO.homepage}")
    videos = {video.video_id: video for video in found}
    counts: dict[str, int] = {}
    cut = []
    for line, row in enumerate(_rows(path), start=2):
        video = f"video{row['video']:02d}"
        if video not in VIDEOS:
            raise AnnotationError(f"{path}:{line} is about video {row['video']}; there are 80")
        scores = [row[name] for name in CRITERIA]
        if not set(scores) <= {0, 1, 2}:
            raise AnnotationError(f"{path}:{line} scores {scores}; 0, 1 or 2 are expected")
        counts[video] = counts.get(video, 0) + 1
        start, stop = (
            60 * row["initial_minute"] + row["initial_second"],
            60 * row["final_minute"] + row["final_second"],
        )
        if video in videos and start <= stop:
            name = f"{video}_{counts[video]}"
            cut.append(
                replace(
                    videos[video],
                    video_id=name,
                    start=float(start),
                    stop=float(max(stop, start + 1)),
                    extra=tuple(scores),
                )
            )
    return cut


def _rows(path: Path) -> Iterator[dict[str, int]]:
    """Read the rows with the columns that are needed; others (totals, remarks) are ignored."""
    rows: Iterable[Sequence[object]] = (
        _sheet(path) if path.suffix == ".xlsx" else csv.reader(read_text(path).splitlines())
    )
    header = [re.sub(r"\W+", "_", str(cell or "").strip().lower()) for cell in next(iter(rows), [])]
    needed = ("video", *_TIMES, *CRITERIA)
    missing = [name for name in needed if name not in header]
    if missing:
        raise AnnotationError(f"{path} has the columns {header}; {missing} are missing")
    for line, cells in enumerate(rows, start=2):
        if any(cell not in (None, "") for cell in cells):
            values = dict(zip(header, cells, strict=False))
            yield {name: as_integer(path, line, str(values.get(name, ""))) for name in needed}


def _sheet(path: Path) -> Iterator[Sequence[object]]:
    require("spreadsheet")
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:
        raise AnnotationError(f"{path} is not a spreadsheet: {error}") from error
    yield from book.worksheets[0].iter_rows(values_only=True)


def tracks(video: RawVideo) -> list[Track]:
    """Return the scores of the criteria, and their sum."""
    return [ConstantTrack({"cvs_score": sum(video.extra), "cvs": [float(score) for score in video.extra]})]


BUILDERS = (FrameSetBuilder(INFO, FRAME_PATTERNS, tracks, expand=clips),)
