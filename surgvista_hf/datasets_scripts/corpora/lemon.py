"""LEMON (first published as Surg-3M): 4,194 web videos with procedures and robotic assistance (arXiv 2503.19740)."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...util.messages import preview
from ..schema.annotation_files import by_name, read_json
from ..schema.builder import FRAMES, VIDEO, FilePattern, FrameSetBuilder, RawVideo, shared_file
from ..schema.info import EVERYTHING, AnnotationError, DatasetError, DatasetInfo, Label, MissingFilesError, Protocol
from ..schema.label_tracks import ConstantTrack, Track
from ..schema.splits import stratified_splits

PROCEDURES = tuple(
    """abdominoperineal_resection adhesiolysis adrenalectomy ampullectomy appendectomy cecectomy cholecystectomy
    colectomy cystectomy duodenal_switch esophagectomy gastrectomy gastric_bypass hartmanns hepatectomy
    hernia_repair hysterectomy ileocolic_resection ileorectal_anastomosis jejunostomy kidney_transplant
    low_anterior_resection myomectomy nephrectomy nissen_fundoplication pancreatectomy pancreaticoduodenectomy
    prostatectomy pulmonary_lobectomy rectopexy small_bowel_resection splenectomy thymectomy ulcer_repair
    vaginectomy""".split()
)
_ID = r"(?:[^/]*-)?([\w-]{11})"
STRATIFIED = "stratified_80_10_10"
_FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}
_KEYS = ("youtubeId", "procedureName", "robotic")

INFO = DatasetInfo(
    name="lemon",
    title="LEMON (Surg-3M)",
    task="procedure",
    procedure="35 procedures",
    license="annotations CC-BY-4.0; videos stay with their owners",
    homepage="https://github.com/visurg-ai/LEMON",
    access="labels.json is open; videos from the web, or curated on request",
    citation="Che et al., LEMON: A Large Endoscopic MONocular Dataset and Foundation Model for Perception in "
    "Surgical Settings, arXiv 2503.19740, 2025",
    labels={"procedures": Label("classes", PROCEDURES), "robotic": Label("class", ("no", "yes"))},
    protocols={
        STRATIFIED: Protocol(
            "no split is published; drawn here from the complete labels.json, every procedure in each split as far as its "
            "videos go, robotic operations evenly",
            by_part=STRATIFIED,
        ),
        "seeded_80_10_10": Protocol(
            "no split is published; drawn here by video, whatever its labels: the rarest procedures are not in the test",
            fractions=_FRACTIONS,
            seed="lemon",
        ),
        "everything": EVERYTHING,
    },
    totals={"videos": 4194, "procedures": 35},
    checked="the complete labels.json; frames made in the published layout",
    notes="labels.json in the data folder beside the videos, named <title>-<id> or <id>.",
    aliases=("surg-3m", "surg3m"),
)


def annotate(root: Path, found: list[RawVideo], settings: Mapping[str, str]) -> list[RawVideo]:
    """Read `labels.json`, and attach to each video its labels and its split."""
    path = shared_file(root, "labels.json")
    if path is None:
        raise MissingFilesError(f"there is no labels.json in {root}. Get it from {INFO.homepage}")
    labels = read_labels(path)
    wrong = [video.video_id for video in found if video.video_id not in labels]
    if wrong:
        raise DatasetError(f"{path} says nothing of the videos {preview(wrong)}; move them elsewhere")
    parts = {video: split for split, videos in split_labels(labels).items() for video in videos}
    return [
        replace(video, extra=labels[video.video_id], parts={STRATIFIED: (parts[video.video_id],)}) for video in found
    ]


def split_labels(labels: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Split all videos of `labels.json`, found or not, so that a missing video does not change the splits of others.

    Args:
        labels: label columns by video, as `read_labels` returns them.

    Returns:
        Video ids by split.
    """
    procedures = {video: entry["procedures"] for video, entry in labels.items()}
    robotic = {video: entry["robotic"] for video, entry in labels.items()}
    return stratified_splits(procedures, _FRACTIONS, "lemon", strata=robotic)


def read_labels(path: Path) -> dict[str, dict[str, Any]]:
    """Read the label columns of every video in `labels.json`, by its id.

    Raises:
        AnnotationError: an entry lacks a key, names an unknown procedure, or has the id of another.
    """
    ids, labels = by_name(PROCEDURES), {}
    for number, entry in enumerate(read_json(path)):
        missing = [key for key in _KEYS if key not in entry]
        unknown = [name for name in entry.get("procedureName", []) if name not in ids]
        if missing or unknown or entry["youtubeId"] in labels:
            raise AnnotationError(
                f"{path}: entry {number} lacks {missing}, names {unknown}, or repeats an id: {str(entry)[:120]}"
            )
        labels[entry["youtubeId"]] = {
            "procedures": sorted(ids[name] for name in entry["procedureName"]),
            "robotic": int(entry["robotic"]),
        }
    return labels


def tracks(video: RawVideo) -> list[Track]:
    """Return the labels of the video as a whole."""
    return [ConstantTrack(video.extra)]


BUILDERS = (
    FrameSetBuilder(INFO, (FilePattern(VIDEO, _ID), FilePattern(FRAMES, rf"frames/{_ID}")), tracks, expand=annotate),
)
