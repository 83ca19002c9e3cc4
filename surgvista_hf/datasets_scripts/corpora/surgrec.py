"""The SurgRec benchmark (arXiv 2603.29966): 16 data sets, and PitVis, as single-label clips by its published lists.

The lists may not be shipped (CC BY-NC 4.0): the data folder holds the user's checkout of them as
`splits/<folder>/{train,val,test}.csv` (or `--set splits=PATH`) and the clips under the paths that the lists name.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ...util.messages import preview
from ..schema.builder import VIDEO, FrameSetBuilder, RawVideo
from ..schema.info import DatasetError, DatasetInfo, Label, MissingFilesError, Protocol
from ..schema.label_tracks import ConstantTrack, Track
from .surgrec_splits import SURGREC, ClipRow, SurgRecInfo, read_split, video_disjoint

HOMEPAGE = "https://github.com/Siiichenggg/SurgRec"
_FILES = {"train": "train", "validation": "val", "test": "test"}


def _dataset_info(entry: SurgRecInfo) -> DatasetInfo:
    published = Protocol(
        "SurgRec's lists" + (", validation = test" if entry.validation_is_test else ""),
        by_part="surgrec",
        leaks=entry.leak,
    )
    disjoint = Protocol("drawn here from SurgRec's clips, no source video in two splits", by_part="by_video")
    clean = {}
    if entry.artefacts:
        clean["surgrec_without_artefacts"] = Protocol(
            f"SurgRec's lists without the classes {', '.join(entry.artefacts)}, which are artefacts",
            by_part="surgrec",
            exclude={"label": entry.artefacts},
            leaks=entry.leak,
        )
    return DatasetInfo(
        name=entry.name,
        title=f"{entry.title} (SurgRec clips)",
        task=entry.task,
        procedure=entry.domain,
        license=f"clips: {entry.license}; lists: CC-BY-NC-4.0",
        homepage=HOMEPAGE,
        access="lists from the repository; clips cut from the data set as its names say",
        citation="Scaling Video Pretraining for Surgical Foundation Models (SurgRec), arXiv 2603.29966, 2026",
        labels={"label": Label("class", entry.classes)},
        protocols={"surgrec": published, "by_video": disjoint, **clean},
        totals={
            "train": entry.counts[0],
            "validation": entry.counts[1],
            "test": entry.counts[2],
            "classes": len(entry.classes),
        },
        frames_per_second=None,
        every=4,
        checked="the published lists; clips made in their layout",
        notes=entry.notes,
        aliases=entry.aliases,
    )


def collect(entry: SurgRecInfo, root: Path | None, settings: Mapping[str, str]) -> list[RawVideo]:
    """Find the clips that the lists name."""
    if root is None or not root.is_dir():
        raise MissingFilesError(f"there is no folder {root} with clips of {entry.title}")
    lists = Path(settings["splits"]) if settings["splits"] else root / "splits"
    folder = next((path for path in (lists / entry.folder, lists) if (path / "test.csv").is_file()), None)
    if folder is None:
        raise MissingFilesError(f"{lists} holds no {entry.folder}/test.csv. Get the lists from {HOMEPAGE}")
    rows = {split: read_split(folder / f"{file}.csv", entry) for split, file in _FILES.items()}
    clips = {row.path: row for split in rows.values() for row in split}
    disjoint = video_disjoint(list(clips.values()), entry)
    parts = {"surgrec": _members(rows), "by_video": _members(disjoint)}
    base = root / entry.folder if (root / entry.folder).is_dir() else root
    missing = [path for path in clips if not (base / path).is_file()]
    if settings["partial"] not in ("yes", "no"):
        raise DatasetError(f"the setting partial is {settings['partial']!r}; it must be yes or no")
    if missing and settings["partial"] != "yes":
        raise MissingFilesError(
            f"{len(missing)} of {len(clips)} clips are not in {base}: {preview(missing)}. Numbers from a part of "
            "the clips cannot be "
            "compared; --set partial=yes takes what is there"
        )
    return [
        RawVideo(
            path,
            {VIDEO: base / path},
            parts={name: members.get(path, ()) for name, members in parts.items()},
            extra=row.label,
        )
        for path, row in clips.items()
        if (base / path).is_file()
    ]


def _members(splits: Mapping[str, Sequence[ClipRow]]) -> dict[str, tuple[str, ...]]:
    """Return the splits that each clip is in, by its path."""
    members: dict[str, tuple[str, ...]] = {}
    for split, rows in splits.items():
        for row in rows:
            members[row.path] = (*members.get(row.path, ()), split)
    return members


def tracks(video: RawVideo) -> list[Track]:
    """Return the class of the clip as a whole."""
    return [ConstantTrack({"label": video.extra})]


BUILDERS = tuple(
    FrameSetBuilder(
        _dataset_info(entry), (), tracks, collect=partial(collect, entry), settings={"splits": "", "partial": "no"}
    )
    for entry in SURGREC.values()
)
