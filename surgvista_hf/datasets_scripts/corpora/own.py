"""One's own videos with labels in whatever their tool wrote: tables, ELAN, and the other formats of `own_labels`.

The labels are read, and a mapping says what becomes a column (`own_labels.mapping`): given as a file, or derived. It is kept
beside the frame set as `mapping.yaml`. A recording in several files is one video, whose times run on.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...util.errors import InputError
from ...util.file_search import SkippedFiles
from ...util.messages import did_you_mean, preview
from ..own_labels.formats import LabelFiles, composed, plain_name, read_labels, without_suffix
from ..own_labels.mapping import (
    ColumnMapping,
    LabelMapping,
    VideoMapping,
    derive_mapping,
    group_names,
    group_value,
    read_mapping,
)
from ..own_labels.model import VideoLabels
from ..own_labels.tables import merge_labels
from ..own_labels.tracks import shift, video_tracks
from ..own_labels.videos import JoinableFiles, assign_videos, exact_files
from ..schema.annotation_files import read_class_list
from ..schema.builder import FRAMES, VIDEO, FrameSetBuilder, RawVideo
from ..schema.info import (
    EVERYTHING,
    AnnotationError,
    DatasetError,
    DatasetInfo,
    Label,
    MissingFilesError,
    Parts,
    Protocol,
)
from ..schema.label_tracks import Track
from ..schema.media import JoinedVideo
from .folder import find_media

logger = logging.getLogger(__name__)
MAPPING, CLASSES = "mapping.yaml", "classes.txt"
_LISTED = ("phase", "label", "class")  # columns whose numbers mean the lines of a list of classes
_SPLITS = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "te"), "test"),
}
# Whatever the columns are called, the first tells the task, see `configured`.
INFO = DatasetInfo(
    name="own",
    title="Own videos with labels",
    task="workflow",
    procedure="any",
    license="yours",
    homepage="your own disk",
    access="yours",
    citation="",
    labels={"phase": Label("class", ())},
    protocols={
        "seeded_70_10_20": Protocol(
            "drawn at random by patient, or by video where the labels name no patient",
            fractions={"train": 0.7, "validation": 0.1, "test": 0.2},
            seed="own",
            group="patient",
        ),
        "by_column": Protocol("the column of the labels that names the split of each video", by_part="split"),
        "everything": EVERYTHING,
    },
    checked="CholecT50's labels as a table; files made in the formats' own layouts",
    notes="The file classes.txt beside the labels lists the classes in their order. The file mapping.yaml beside the frame "
    "set says what the labels mean. Times without a label have none.",
)


@dataclass(frozen=True)
class ListedClasses:
    """The list of classes beside the labels.

    Args:
        path: file that lists them.
        columns: names of the columns whose classes are in its order.
    """

    path: Path
    columns: tuple[str, ...]


@dataclass(frozen=True)
class OwnPlan:
    """Interpretation of own videos and labels, before anything is written.

    Args:
        root: folder of the videos.
        labels: the labels as the files hold them.
        mapping: meaning of the labels, and the files of each video.
        without_labels: video files that no labels are about; they are left out.
        problems: sentences on what has to be corrected first.
        remarks: sentences on what was understood and may be meant otherwise.
        listed: list of classes that was found, and where it was used.
    """

    root: Path
    labels: LabelFiles
    mapping: LabelMapping
    without_labels: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    listed: ListedClasses | None = None


@dataclass(frozen=True)
class OwnVideosBuilder(FrameSetBuilder):
    """Recipe for own videos; `configured` reads the labels.

    Args:
        found: videos, with their labels.
    """

    found: tuple[RawVideo, ...] = ()

    def configured(self, root: Path | None, settings: Mapping[str, str]) -> "OwnVideosBuilder":
        """Return the builder for a folder of videos and their labels.

        Args:
            root: folder of the videos.
            settings: `labels`, a file or folder, by default `labels` in the folder of the videos, or that folder itself;
                `mapping`, a file; `format` of the labels; `source`, a name that tells several collections apart.

        Raises:
            DatasetError: labels or videos are missing, or do not fit; the message names the cell.
        """
        chosen = self._complete_settings(settings)
        return self.planned(make_plan(self.folder(root), chosen), chosen["source"])

    def planned(self, plan: OwnPlan, source: str = "") -> "OwnVideosBuilder":
        """Return the builder for what is understood of videos and labels.

        Raises:
            DatasetError: something has to be corrected first.
        """
        if plan.problems:
            more = (
                f" ({len(plan.problems)} problems in all: surgvista prepare own --check)" if plan.problems[1:] else ""
            )
            raise MissingFilesError(f"{plan.problems[0]}{more}")
        task = next(iter(plan.mapping.columns.values())).task
        info = replace(self.info, labels=plan.mapping.labels, task=task, source=source)
        settings = {"source": source}  # the labels themselves are compared, wherever they lie
        found = tuple(raw_videos(plan))
        if not any(video.parts.get("split") for video in found):
            protocols = {name: protocol for name, protocol in info.protocols.items() if name != "by_column"}
            info = replace(info, protocols=protocols)
        records = {MAPPING: plan.mapping.to_yaml()}
        return replace(self, info=info, settings=settings, found=found, records=records)

    def folder(self, root: Path | None) -> Path:
        """Return the folder of the videos.

        Raises:
            MissingFilesError: no folder is given, or it does not exist.
        """
        if root is None:
            raise MissingFilesError("own needs the folder of your videos")
        if not root.is_dir():
            what = "is a file, where a folder of videos is expected" if root.exists() else "does not exist"
            raise MissingFilesError(f"there is no folder {root} with videos: it {what}")
        return root

    def videos(self, root: Path | None) -> dict[str, RawVideo]:
        """Return the videos by their id."""
        return {video.video_id: video for video in self.found}


def make_plan(root: Path, settings: Mapping[str, str]) -> OwnPlan:
    """Read labels, and find out what they mean and which videos they are about.

    Args:
        root: folder of the videos.
        settings: settings of the builder.

    Raises:
        DatasetError: there are no labels or videos, or a file cannot be understood.
        InputError: the mapping cannot be understood.
    """
    path = Path(settings["labels"]) if settings.get("labels") else _default_labels(root)
    labels = read_labels(path, settings.get("format", ""))
    files = tuple(_name_of(root, video) for video in find_media(root, SkippedFiles()))
    names = [video.video for video in labels.videos]
    given = _as_found(read_mapping(Path(settings["mapping"])), labels, files) if settings.get("mapping") else None
    if given is not None and given.videos:
        return _with_given_videos(root, labels, given, files)
    skipped = set(given.skip_labels if given else ())
    patients = _patients(labels, given)
    found = assign_videos([name for name in names if name not in skipped], files, patients)
    listed = None
    if given:
        mapping = replace(given, videos=found.videos)
    else:
        mapping, listed = _in_listed_order(derive_mapping(labels.videos, found.videos), path, root)
    problems = [
        f"{labels_file(labels, name)} is about {name!r}, which may be {preview(files_of_name)}"
        for name, files_of_name in found.ambiguous.items()
    ]
    if not found.videos and not problems:
        raise MissingFilesError(
            f"none of the {len(names)} videos that the labels name ({preview(names, 3)}) is among the {len(files)} in {root} "
            f"({preview(files, 3)})"
        )
    problems += [
        f"{labels_file(labels, name)} is about {name!r}, for which {root} holds no video; add it, or list the name in "
        "skip_labels of a mapping (--propose FILE writes one)"
        for name in found.without_video
    ]
    remarks = tuple(map(_about_apart, found.apart))
    return OwnPlan(root, labels, mapping, found.without_labels, tuple(problems), remarks, listed)


def _as_found(mapping: LabelMapping, labels: LabelFiles, files: Sequence[str]) -> LabelMapping:
    """Return a mapping with the names that labels and files have, where they are only written differently."""
    tiers = _names_as_found(tier.name for video in labels.videos for tier in video.tiers)
    properties = _names_as_found(name for video in labels.videos for name in video.properties)
    on_disk = {composed(file): file for file in files}
    videos = {
        composed(name): VideoMapping(
            tuple(on_disk.get(composed(file), file) for file in video.files), tuple(map(composed, video.labels))
        )
        for name, video in mapping.videos.items()
    }
    groups = {group: {**tiers, **properties}.get(plain_name(name), name) for group, name in mapping.groups.items()}
    return replace(
        mapping,
        columns={name: _column_as_found(column, tiers, properties) for name, column in mapping.columns.items()},
        videos=videos,
        groups=groups,
        skip_labels=tuple(map(composed, mapping.skip_labels)),
    )


def _names_as_found(names: Iterable[str]) -> dict[str, str]:
    """Return the name for its plain form, except where two names have one form."""
    found: dict[str, set[str]] = {}
    for name in names:
        found.setdefault(plain_name(name), set()).add(name)
    return {plain: each.pop() for plain, each in found.items() if len(each) == 1}


def _column_as_found(
    column: ColumnMapping, known_tiers: Mapping[str, str], known_properties: Mapping[str, str]
) -> ColumnMapping:
    tiers = {name: known_tiers.get(plain_name(name), composed(name)) for name in column.tiers}
    rename = {composed(label): composed(name) for label, name in column.rename.items()}
    classes = tuple(map(composed, column.classes))
    if column.presence:  # the tiers are the classes, which keep the names of the mapping
        rename |= {new: old for old, new in tiers.items() if new not in classes and old in classes}
    # Tiers that a mapping names in both ways are one; numbers have one name for each tier, so that they stay.
    names = tuple(tiers.values())
    return replace(
        column,
        tiers=names if column.kind == "numbers" else tuple(dict.fromkeys(names)),
        properties=tuple(known_properties.get(plain_name(name), composed(name)) for name in column.properties),
        classes=classes,
        rename=rename,
        drop=tuple(map(composed, column.drop)),
    )


def _patients(labels: LabelFiles, given: LabelMapping | None) -> dict[str, str]:
    """Return the patient of each video that the labels name, as far as they say it."""
    groups = given.groups if given else group_names(labels.videos)
    if "patient" not in groups:
        return {}
    return {video.video: group_value(video, groups["patient"]) for video in labels.videos}


def _about_apart(group: JoinableFiles) -> str:
    """Return a sentence on files that may be parts of one operation."""
    return (
        f"{preview(group.files, 3)} are videos of their own; if they are parts of one operation, list them as files of one "
        "video in a mapping (--propose FILE writes one)"
    )


def labels_file(labels: LabelFiles, name: str) -> str:
    """Return the place of the labels of a video, for messages."""
    return next((video.where for video in labels.videos if video.video == name and video.where), "a label file")


def _in_listed_order(mapping: LabelMapping, labels: Path, root: Path) -> tuple[LabelMapping, ListedClasses | None]:
    """Return the mapping with the classes in the order of `classes.txt`, beside the labels or above them, where they fit.

    Labels that are numbers mean the lines of the file, from 0, in the only column of classes or in one that is called so.
    """
    folders = (labels if labels.is_dir() else labels.parent, labels.parent, root)
    listed = next((folder / CLASSES for folder in folders if (folder / CLASSES).is_file()), None)
    if listed is None:
        return mapping, None
    names = tuple(map(composed, read_class_list(listed)))
    columns = {}
    single = sum(column.kind == "class" for column in mapping.columns.values()) == 1
    for name, column in mapping.columns.items():
        if column.kind != "numbers" and set(column.classes) <= set(names):
            columns[name] = replace(column, classes=names)
        elif (
            column.kind == "class"
            and (single or name in _LISTED)
            and all(label.isdigit() and int(label) < len(names) for label in column.classes)
        ):
            renamed = {label: names[int(label)] for label in column.classes}
            columns[name] = replace(column, classes=names, rename={**column.rename, **renamed})
    if not columns:
        logger.warning("%s lists classes that no column of labels has: %s", listed, preview(names))
    return replace(mapping, columns={**mapping.columns, **columns}), ListedClasses(listed, tuple(columns))


def _default_labels(root: Path) -> Path:
    return root / "labels" if (root / "labels").is_dir() else root


def _name_of(root: Path, video: RawVideo) -> str:
    """Return the path of a video below the folder, as a mapping names it."""
    path = next(iter(video.files.values()))
    return path.relative_to(root).as_posix() + ("/" if FRAMES in video.files else "")


def _with_given_videos(root: Path, labels: LabelFiles, given: LabelMapping, files: Sequence[str]) -> OwnPlan:
    """Return the plan of a mapping that says which files each video consists of."""
    problems = []
    known = {video.video for video in labels.videos}
    used = set(given.skip_labels)
    for name, video in given.videos.items():
        for file in video.files:
            if file not in files:
                hint = did_you_mean(file, files, f"there are {preview(files, 3)}")
                problems.append(f"the mapping makes {name} of {file!r}, which is not in {root}; {hint}")
        for label in labels_of(name, video):
            used.add(label)
            if label not in known:
                hint = did_you_mean(label, known, f"they are about {preview(sorted(known), 3)}")
                problems.append(f"the mapping gives {name} the labels of {label!r}, which are in no file; {hint}")
    problems += [
        f"{labels_file(labels, name)} is about {name!r}, which the mapping names neither in videos nor in skip_labels"
        for name in sorted(known - used)
    ]
    taken = {file for video in given.videos.values() for file in video.files}
    return OwnPlan(root, labels, given, tuple(file for file in files if file not in taken), tuple(problems))


def labels_of(name: str, video: VideoMapping) -> tuple[str, ...]:
    """Return the names of a video in the label files."""
    return tuple(without_suffix(label) for label in video.labels) or (name,)


def raw_videos(plan: OwnPlan) -> Iterator[RawVideo]:
    """Yield the videos of a plan, with their tracks as `extra`.

    Raises:
        AnnotationError: labels are not in the mapping, or overlap, or are of a split that is none.
    """
    labels = {video.video: video for video in plan.labels.videos}
    _check_sources(plan.mapping, plan.labels)
    for name, video in plan.mapping.videos.items():
        parts = [labels[label] for label in labels_of(name, video)]
        merged = merge_labels(name, _placed(plan.root, video, parts))
        paths = [plan.root / file for file in video.files]
        folders = [file for file in video.files if file.endswith("/")]
        if folders and len(paths) > 1:
            raise DatasetError(f"{name} consists of {preview(video.files)}; folders of frames cannot be joined")
        yield RawVideo(
            name,
            {FRAMES if folders else VIDEO: paths[0]},
            parts=_groups(merged, plan.mapping),
            extra=tuple(video_tracks(merged, plan.mapping)),
            continued=tuple(paths[1:]),
        )


def _placed(root: Path, video: VideoMapping, parts: Sequence[VideoLabels]) -> list[VideoLabels]:
    """Return labels whose times count from the first file; labels of a later file are shifted."""
    if len(video.files) < 2:
        return list(parts)
    pieces = [exact_files(part.video, video.files) for part in parts]
    if not any(len(piece) == 1 and piece[0] != video.files[0] for piece in pieces):
        return list(parts)
    media = JoinedVideo([root / file for file in video.files])
    placed = []
    for part, piece in zip(parts, pieces, strict=True):
        if len(piece) != 1:
            placed.append(part)
            continue
        begin, length = media.spans[video.files.index(piece[0])]
        is_last = piece[0] == video.files[-1]
        placed.append(shift(part, begin, media.rate, math.inf if is_last else length))
    return placed


def _groups(labels: VideoLabels, mapping: LabelMapping) -> Parts:
    """Return the patient, the hospital and the split of a video, as far as the labels name them."""
    parts = {}
    for group, name in mapping.groups.items():
        value = group_value(labels, name)
        if not value:
            continue
        if group == "split":
            if value.lower() not in _SPLITS:
                raise AnnotationError(
                    f"{labels.where}: {name} of {labels.video!r} is {value!r}; it must be train, validation or test"
                )
            value = _SPLITS[value.lower()]
        parts[group] = (value,)
    return parts


def _check_sources(mapping: LabelMapping, labels: LabelFiles) -> None:
    """Check that the tiers and properties that a mapping names are in the labels."""
    tiers = {tier.name for video in labels.videos for tier in video.tiers}
    properties = {name for video in labels.videos for name in video.properties}
    wanted = [
        *((name, tier, tiers, "tier") for name, column in mapping.columns.items() for tier in column.tiers),
        *(
            (name, key, properties, "property")
            for name, column in mapping.columns.items()
            for key in column.properties
        ),
        *((group, key, properties | tiers, "property") for group, key in mapping.groups.items()),
    ]
    for name, source, known, kind in wanted:
        if source not in known:
            hint = did_you_mean(source, known, f"they hold {preview(sorted(known)) or 'none'}")
            raise InputError(f"the mapping makes {name} of the {kind} {source!r}, which no label file holds; {hint}")


def tracks(video: RawVideo) -> Sequence[Track]:
    """Return the labels of a video, which were read with all others."""
    found: Sequence[Track] = video.extra
    return found


BUILDERS = (OwnVideosBuilder(INFO, (), tracks, settings={"labels": "", "mapping": "", "format": "", "source": ""}),)
