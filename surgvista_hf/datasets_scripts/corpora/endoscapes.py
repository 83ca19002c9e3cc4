"""Endoscapes2023, CVS201: the critical view of safety in frames of 201 cholecystectomies (Murali et al., 2023)."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...util.messages import preview
from ..schema.annotation_files import as_integer, read_json, read_named_table
from ..schema.builder import FrameSetBuilder, RawVideo, shared_file
from ..schema.info import AnnotationError, DatasetError, DatasetInfo, Label, MissingFilesError, Protocol, numbered
from ..schema.label_tracks import RowTrack, Track

CRITERIA = ("two_structures", "hepatocystic_triangle", "cystic_plate")
VIDEOS = numbered("{}", 1, 201)
RATE = 25.0  # frame numbers a second
_COUNTS = Label("class", ("0", "1", "2", "3"))

INFO = DatasetInfo(
    name="endoscapes",
    title="Endoscapes-CVS201",
    task="safety",
    procedure="cholecystectomy",
    license="CC-BY-NC-SA-4.0",
    homepage="https://github.com/CAMMA-public/Endoscapes",
    access="open download",
    citation="Murali et al., The Endoscapes Dataset for Surgical Scene Segmentation, Object Detection, and "
    "Critical View of Safety Assessment, arXiv 2312.12429, 2023",
    labels={"cvs": Label("numbers", CRITERIA), "cvs_any": _COUNTS, "cvs_majority": _COUNTS},
    protocols={
        "official": Protocol(
            "the data set's authors", {"train": VIDEOS[:120], "validation": VIDEOS[120:161], "test": VIDEOS[161:]}
        )
    },
    video_ids=VIDEOS,
    totals={"videos": 201, "frames": 58813, "labeled": 11090, "criteria": 3},
    redistributable=True,
    unlabeled="drop",
    notes="cvs: means of three annotators. cvs_any counts criteria that any annotator saw (SurgVISTA's four "
    "classes), cvs_majority "
    "those that most saw (the official target). One frame in five seconds is labeled; --keep-unlabeled keeps "
    "those between.",
    aliases=("endoscapes_cvs",),
)


def collect(root: Path | None, settings: Mapping[str, str]) -> list[RawVideo]:
    """Find the frames of each video; they lie in common folders: `train/1_29375.jpg` is source frame 29375 of video 1."""
    if root is None or not root.is_dir():
        raise MissingFilesError(f"there is no folder {root} with the data of Endoscapes; get it from {INFO.homepage}")
    frames: dict[str, list[tuple[int, Path]]] = {}
    for part in ("train", "val", "test"):
        folder = next((path for path in (root / part, *sorted(root.glob(f"*/{part}"))) if path.is_dir()), None)
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name) if folder else ():
            match = re.fullmatch(r"(\d+)_(\d+)\.jpe?g", entry.name)
            if match:
                frames.setdefault(match[1], []).append((int(match[2]), Path(entry.path)))
    if not frames:
        raise MissingFilesError(f"{root} holds no frames like train/1_29375.jpg. Get them from {INFO.homepage}")
    wrong = sorted(set(frames) - set(VIDEOS))
    if wrong:
        raise DatasetError(f"{root} holds frames of the videos {preview(wrong)}; Endoscapes has 1 to 201")
    return [RawVideo(name, rate=RATE, numbered=tuple(sorted(files))) for name, files in frames.items()]


def annotate(root: Path, found: list[RawVideo], settings: Mapping[str, str]) -> list[RawVideo]:
    """Read the labels: the official COCO files of labeled frames, or else `all_metadata.csv`."""
    metadata = shared_file(root, "all_metadata.csv")
    files = [
        file for part in ("train", "val", "test") if (file := shared_file(root, f"{part}/annotation_ds_coco.json"))
    ]
    if not files and metadata is None:
        raise MissingFilesError(
            f"{root} holds neither annotation_ds_coco.json (in train, val, test) nor all_metadata.csv"
        )
    labels: dict[str, dict[int, tuple[float, ...]]] = {}
    for file in files:
        _read_coco(file, labels)
    if metadata and not files:
        _read_metadata(metadata, labels)
    missing = sorted({video.video_id for video in found} - set(labels), key=int)
    if missing:
        raise AnnotationError(f"the labels below {root} say nothing of the videos {preview(missing)}")
    return [replace(video, extra=labels[video.video_id]) for video in found]


def _read_coco(path: Path, labels: dict[str, dict[int, tuple[float, ...]]]) -> None:
    images = read_json(path).get("images", [])
    for image in images:
        match = re.fullmatch(r"(\d+)_(\d+)\.jpe?g", str(image.get("file_name")))
        if not match or "ds" not in image:
            raise AnnotationError(
                f"{path}: an image without a name like 1_29375.jpg or without 'ds': {str(image)[:80]}"
            )
        if image.get("is_ds_keyframe", True):
            labels.setdefault(match[1], {})[int(match[2])] = _means(path, image["ds"])


def _read_metadata(path: Path, labels: dict[str, dict[int, tuple[float, ...]]]) -> None:
    for line, row in read_named_table(path, ("vid", "frame", "avg_cvs")):
        if not row["avg_cvs"] or row["avg_cvs"].lower() == "nan":
            continue
        try:
            means = json.loads(row["avg_cvs"])
        except json.JSONDecodeError as error:
            raise AnnotationError(f"{path}:{line} holds {row['avg_cvs']!r} where three means are expected") from error
        video = str(as_integer(path, line, row["vid"]))
        labels.setdefault(video, {})[as_integer(path, line, row["frame"])] = _means(path, means)


def _means(path: Path, means: Sequence[float]) -> tuple[float, ...]:
    if len(means) != len(CRITERIA) or not all(0 <= mean <= 1 for mean in means):
        raise AnnotationError(f"{path} holds {means} where three means in 0-1 are expected")
    return tuple(float(mean) for mean in means)


def tracks(video: RawVideo) -> list[Track]:
    """Return the labels of the frames that have one."""
    rows = {
        frame: {
            "cvs": list(means),
            "cvs_any": sum(mean > 0 for mean in means),
            "cvs_majority": sum(mean > 0.5 for mean in means),
        }
        for frame, means in video.extra.items()
    }
    return [RowTrack(rows, RATE, exact=False)]


BUILDERS = (FrameSetBuilder(INFO, (), tracks, collect=collect, expand=annotate),)
