"""Drawing splits of a frame set: by patient, stratified, in folds, or with one hospital held out at a time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets

from ...util.messages import did_you_mean, preview
from ..schema.info import PATIENT, DatasetError, DatasetInfo
from ..schema.split_files import FORMAT, SplitFile, SplitFileError
from ..schema.splits import Split, grouped_folds, grouped_split, held_out_folds
from ..schema.video_tables import read_video_table, table_column
from .load import StoredFrameSet, frame_set_identity, load_frame_set
from .overlap import operation_of
from .prepare import MANIFEST
from .registry import get_builder

VIDEO = "video"
_Counts = dict[str, Counter[str]]  # frames of each class by video


@dataclass(frozen=True)
class SplitOptions:
    """The choices of a split.

    Args:
        folds: number of folds, so that every video is tested once; `None` draws one split.
        hold_out: column whose values (such as hospitals) are held out one after the other, a fold each; `column=value` holds
            out that value only, in one split; `video` stands for the operation.
        group: column whose values (such as patients) are never in two splits; by default the patient where the labels of own
            videos name one, and otherwise the operation.
        stratify: columns of classes, of the frame set or of the table, that every split should have as often as others.
        test: fraction of the groups for the test of a single split.
        validation: fraction of the groups for the validation, with folds of those that are not tested; 0 for none.
        seed: seed of the draw.

    Raises:
        DatasetError: a fraction is out of range, or two ways to split are given.
    """

    folds: int | None = None
    hold_out: str | None = None
    group: str | None = None
    stratify: tuple[str, ...] = ()
    test: float = 0.2
    validation: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds is not None and self.hold_out is not None:
            raise DatasetError(
                "give either a number of folds or a column to hold out, which makes a fold of each value"
            )
        if not 0 < self.test < 1 or not 0 <= self.validation < 1 or self.test + self.validation >= 1:
            raise DatasetError(
                f"fractions of {self.test:g} for the test and {self.validation:g} for the validation leave no training"
            )
        if len(set(self.stratify)) < len(self.stratify):
            raise DatasetError(f"a column comes twice in {', '.join(self.stratify)}")


@dataclass(frozen=True)
class DrawnSplits:
    """Splits of a frame set with everything that a file of them says.

    Args:
        name: name of the data set.
        fingerprint: fingerprint of the frame set.
        folds: splits of each fold; one entry without folds.
        has_folds: whether they are folds.
        groups: group of each video.
        method: sentence that says how they were drawn.
        seed: seed of the draw; `None` for a file that was only checked.
        frames: number of frames by video.
        classes: frames of each class by video, by column.
    """

    name: str
    fingerprint: str
    folds: tuple[Split, ...]
    has_folds: bool
    groups: Mapping[str, str]
    method: str
    seed: int | None
    frames: Mapping[str, int]
    classes: Mapping[str, _Counts]

    @property
    def content(self) -> dict[str, Any]:
        """Return what is written to the file: readable, the same for the same videos and seed."""
        by_group: dict[str, list[str]] = {}
        for video, group in sorted(self.groups.items()):
            by_group.setdefault(group, []).append(video)
        # Without a column, groups say something only where an operation has several videos.
        told = (
            {} if all(len(videos) == 1 for videos in by_group.values()) else {"groups": dict(sorted(by_group.items()))}
        )
        folds = [{split: list(ids) for split, ids in fold.items()} for fold in self.folds]
        splits: dict[str, Any] = {"folds": folds} if self.has_folds else {"splits": folds[0]}
        return {
            "format": FORMAT,
            "data": {"name": self.name, "fingerprint": self.fingerprint, "videos": len(self.frames)},
            "method": self.method,
            "seed": self.seed,
            **told,
            **splits,
            "counts": self.counts if self.has_folds else self.counts[0],
        }

    @property
    def counts(self) -> list[dict[str, dict[str, Any]]]:
        """Return videos, frames and frames of each class, by split, of each fold."""
        return [{split: self._count(ids) for split, ids in fold.items()} for fold in self.folds]

    def _count(self, ids: Sequence[str]) -> dict[str, Any]:
        classes = {}
        for column, by_video in self.classes.items():
            names = dict.fromkeys(name for video in sorted(by_video) for name in sorted(by_video[video]))
            total = sum((by_video[video] for video in ids), Counter())
            classes[column] = {name: total[name] for name in sorted(names) if total[name]}
        return {"videos": len(ids), "frames": sum(self.frames[video] for video in ids), **classes}

    @property
    def lacking(self) -> list[dict[str, list[str]]]:
        """Return the classes that are in the data but not in a split, as `column: class`, by split, of each fold."""
        everything = {
            f"{column}: {name}"
            for column, by_video in self.classes.items()
            for own in by_video.values()
            for name in own
        }
        found = []
        for fold in self.folds:
            own = {
                split: {
                    f"{column}: {name}" for column, of in self.classes.items() for video in ids for name in of[video]
                }
                for split, ids in fold.items()
            }
            found.append({split: sorted(everything - names) for split, names in own.items() if everything - names})
        return found

    @property
    def unassigned(self) -> list[list[str]]:
        """Return the videos that are in no split, of each fold."""
        return [sorted(set(self.frames).difference(*fold.values())) for fold in self.folds]


def draw_splits(
    name: str, data_dir: Path | str, options: SplitOptions | None = None, *, table: Path | str | None = None
) -> DrawnSplits:
    """Draw splits of a frame set.

    Args:
        name: name of the data set.
        data_dir: folder of the frame set, or a published one; as `load_frame_set` takes it.
        options: the choices.
        table: file with a row for each video, whose columns the choices may name; see `read_video_table`.

    Returns:
        The splits; `write_split_file` writes their `content`.

    Raises:
        DatasetError: a column is unknown or has no single value for a video, or there are too few groups.

    Example:
        >>> drawn = draw_splits("cholect50", "frame_sets/cholect50", SplitOptions(folds=5))  # doctest: +SKIP
        >>> write_split_file("folds.yaml", drawn.content)  # doctest: +SKIP
    """
    options = options or SplitOptions()
    frames = load_frame_set(name, data_dir, "all")
    info = get_builder(name).info
    counts = _frames_of_videos(frames)
    stored = StoredFrameSet.open(Path(data_dir)) if (Path(data_dir) / MANIFEST).is_file() else None
    columns = _Columns(info, frames, Path(table) if table else None, tuple(counts), stored)
    usual = {video: operation_of(info.name, video) for video in counts}
    # A group that is a single video is called like it.
    alone = Counter(usual.values())
    operations = {video: video if alone[operation] == 1 else operation for video, operation in usual.items()}
    if options.group is None and stored is not None and stored.properties(PATIENT):
        options = replace(options, group=PATIENT)
        groups = {**operations, **{video: f"patient {name}" for video, name in stored.properties(PATIENT).items()}}
    else:
        groups = columns.values(options.group) if options.group else operations
    stratified = {column: columns.classes(column) for column in options.stratify}
    labels = {
        video: [(column, found) for column, by_video in stratified.items() for found in by_video[video]]
        for video in counts
    }
    drawn = _draw(labels, groups, columns, operations, options)
    shown = stratified or columns.usual_classes()
    folds = options.folds is not None or (options.hold_out is not None and "=" not in options.hold_out)
    method = _describe(options, Path(table).name if table else None)
    fingerprint = frame_set_identity(data_dir)[1]
    return DrawnSplits(info.name, fingerprint, tuple(drawn), folds, groups, method, options.seed, counts, shown)


def check_split_file(name: str, data_dir: Path | str, file: SplitFile) -> DrawnSplits:
    """Compare a file of splits with a frame set.

    Args:
        name: name of the data set.
        data_dir: folder of the frame set.
        file: content of the file.

    Returns:
        Its splits with their counts.

    Raises:
        SplitFileError: the file names videos that are not in the frame set, or has a patient in two splits.
    """
    frames = load_frame_set(name, data_dir, "all")
    info = get_builder(name).info
    counts = _frames_of_videos(frames)
    known = {video: info.split_of(video) for video in counts}
    numbers = range(len(file.folds)) if file.has_folds else [None]
    folds = tuple({split: file.ids(split, fold, known) for split in file.splits(fold)} for fold in numbers)
    if (Path(data_dir) / MANIFEST).is_file():
        stored = StoredFrameSet.open(Path(data_dir))
        for fold in numbers:
            if divided := stored.divided_patients(file, fold):
                raise SplitFileError(divided)
    classes = _Columns(info, frames, None, tuple(counts)).usual_classes()
    groups = {video: file.groups.get(video, video) for video in counts}
    return DrawnSplits(info.name, "", folds, file.has_folds, groups, file.method, None, counts, classes)


def _draw(
    labels: Mapping[str, Sequence[tuple[str, str]]],
    groups: Mapping[str, str],
    columns: "_Columns",
    operations: Mapping[str, str],
    options: SplitOptions,
) -> list[Split]:
    validation, seed = options.validation, options.seed
    if options.hold_out is not None:
        column, equals, value = options.hold_out.partition("=")
        held_out = operations if column == VIDEO else columns.values(column)
        only = value if equals else None
        return held_out_folds(labels, groups, held_out, validation=validation, seed=seed, only=only)
    if options.folds is not None:
        return grouped_folds(labels, groups, folds=options.folds, validation=validation, seed=seed)
    return [grouped_split(labels, groups, test=options.test, validation=validation, seed=seed)]


def _describe(options: SplitOptions, table: str | None) -> str:
    """Return a sentence on how splits were drawn."""
    if options.hold_out is not None:
        column, equals, value = options.hold_out.partition("=")
        text = f"{column} {value} is the test" if equals else f"each {column} is the test of one fold"
    elif options.folds is not None:
        text = f"{options.folds} folds, every video is tested once"
    else:
        text = f"{options.test:g} of the groups for the test"
    is_single = options.hold_out is None and options.folds is None
    part = f"{options.validation:g} of {'them' if is_single else 'the others'} for the validation"
    text += f"; {part}" if options.validation else "; no validation"
    text += f"; no {options.group or 'operation'} is in two splits"
    text += f"; stratified by {', '.join(options.stratify)}" if options.stratify else ""
    return text + (f"; columns from {table}" if table else "")


# ------------------------------------------------------------------------------------------- columns


@dataclass(frozen=True)
class _Columns:
    """Give the values and classes of videos: from a table, from what own labels say of them, or from the label columns."""

    info: DatasetInfo
    frames: datasets.Dataset
    table: Path | None
    videos: tuple[str, ...]
    stored: StoredFrameSet | None = None

    def values(self, name: str) -> dict[str, str]:
        """Return the single value of each video."""
        rows = self._rows()
        if name in rows:
            assert self.table is not None
            return table_column(self.table, rows, name)
        known = self.stored.properties(name) if self.stored is not None else {}
        if missing := [video for video in self.videos if known and video not in known]:
            raise DatasetError(f"the labels say no {name} of {preview(missing)}; give a table (--table) that does")
        if known:
            return {video: known[video] for video in self.videos}
        found = self._labels(name)
        ambiguous = {video: sorted(own) for video, own in found.items() if len(own) != 1}
        if ambiguous:
            video, own = next(iter(ambiguous.items()))
            raise DatasetError(
                f"the column {name!r} has no single value for {len(ambiguous)} of {len(found)} videos, such as {video}: "
                f"{preview(own) or 'none'}; groups are of whole videos"
            )
        return {video: next(iter(own)) for video, own in found.items()}

    def classes(self, name: str) -> _Counts:
        """Return the number of frames of each class by video; a value of the table counts all frames."""
        rows = self._rows()
        if name in rows:
            assert self.table is not None
            frames = _frames_of_videos(self.frames)
            return {
                video: Counter({value: frames[video]}) for video, value in table_column(self.table, rows, name).items()
            }
        return self._labels(name)

    def usual_classes(self) -> dict[str, _Counts]:
        """Return the classes of the first label column that holds classes, if there is one."""
        columns = [name for name, label in self.info.labels.items() if label.kind != "numbers"]
        return {name: self._labels(name) for name in columns[:1] if name in self.frames.column_names}

    def _rows(self) -> dict[str, dict[str, str]]:
        return read_video_table(self.table, self.videos) if self.table else {}

    def _labels(self, name: str) -> _Counts:
        feature: Any = self.frames.features.get(name)
        classes = getattr(feature, "feature", feature)
        if not isinstance(classes, datasets.ClassLabel):
            known = [*self._rows(), *(column for column in self.frames.column_names if column in self.info.labels)]
            hint = did_you_mean(name, known, f"there are {', '.join(known)}")
            raise DatasetError(
                f"there is no column {name!r} with classes; {hint}"
                + ("" if self.table else ". Other properties of the videos are read from a table (--table)")
            )
        cells: Any = self.frames.select_columns(["video_id", name]).with_format(None)[:]
        found: _Counts = {video: Counter() for video in self.videos}
        for video, value in zip(cells["video_id"], cells[name], strict=True):
            numbers = [] if value is None else value if isinstance(value, list) else [value]
            found[video].update(classes.names[number] for number in numbers if number >= 0)
        return found


def _frames_of_videos(frames: datasets.Dataset) -> dict[str, int]:
    """Return the number of frames by video id, sorted."""
    return dict(sorted(Counter(frames.select_columns(["video_id"]).with_format(None)["video_id"][:]).items()))
