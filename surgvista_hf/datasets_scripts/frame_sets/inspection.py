"""Looking over a frame set before anything is trained: what was understood, and what is odd about it.

`inspect_frame_set` opens a folder, `inspect_frames` takes any frame set in memory; `frame_sets.inspection_page` writes the
result as an HTML page. What is called odd here may be right: it is where a person should look first.
"""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets
from PIL import Image

from ...util.errors import InputError
from ...util.messages import preview
from ...util.pages import clock
from ..schema.info import DatasetError
from .label_fit import Swap, find_swaps, open_thumbnail
from .label_table import LabelColumn, LabelTable, VideoRows
from .load import ALL, PUBLISHED, StoredFrameSet, load_frame_set
from .prepare import MANIFEST, PLAN, REPORT, video_file

logger = logging.getLogger(__name__)
_LEAST_VIDEOS = 4  # with fewer nothing is usual
_LENGTH_RATIO = 2.0  # to the median length, from which on a length is odd
_UNLABELED_END = 0.2  # fraction of a video before its first or after its last label that is odd
_FEWER_LABELS = 0.5  # of the usual labeled fraction
_MANY_CLASSES = 40  # of which some are always in one video only
_SHOWN = 3  # examples in one finding


@dataclass(frozen=True)
class Finding:
    """Something odd, for a person to look at.

    Args:
        kind: `"length"`, `"labels"`, `"order"`, `"classes"`, `"swap"`, `"split"` or `"preparation"`.
        video: name of the video; empty if it concerns the whole frame set.
        text: sentence that says what was found.
    """

    kind: str
    video: str
    text: str


@dataclass(frozen=True, eq=False)
class Inspection:
    """A frame set as it was understood.

    Args:
        title: title of the data set, with the name of its folder.
        frames: the frame set.
        table: its videos and label columns.
        splits: split of each video by its name; empty where there is none.
        protocol: name of the protocol that gives the splits.
        remarks: sentences of the preparation by the name of the video.
        failed: reasons by the id of videos that could not be prepared.
        swaps: pairs of videos whose labels fit better the other way round.
    """

    title: str
    frames: Dataset
    table: LabelTable
    splits: Mapping[str, str] = field(default_factory=dict)
    protocol: str = ""
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    swaps: Sequence[Swap] = ()

    @property
    def columns(self) -> list[LabelColumn]:
        """Return the label columns that hold any label."""
        return [column for column in self.table.columns if column.labeled.any()]

    @cached_property
    def main(self) -> LabelColumn | None:
        """Return the first column with one class a frame that changes within videos, which ribbons show."""
        single = [column for column in self.columns if column.kind == "class"]
        changing = [column for column in single if not self.is_constant(column)]
        return next(iter(changing or single), None)

    def is_constant(self, column: LabelColumn) -> bool:
        """Return whether every video has one value in all its frames, such as the skill of a surgeon."""
        return all((column.values[video.rows] == column.values[video.rows[0]]).all() for video in self.table.videos)

    def image_at(self, row: int, least: int = 64) -> Image.Image:
        """Return the image of a row, decoded as small as its shorter side remains at least `least` pixels."""
        (cell,) = self._images[row : row + 1]["image"].to_pylist()
        return open_thumbnail(cell["bytes"], least)

    @cached_property
    def _images(self) -> Dataset:
        return self.frames.with_format("arrow", columns=["image"])

    @cached_property
    def findings(self) -> list[Finding]:
        """Return what is odd, the most telling first."""
        return [
            *(_swap_finding(swap) for swap in self.swaps),
            *_odd_lengths(self.table.videos),
            *(finding for column in self.columns for finding in self._of_column(column)),
            *self._of_splits(),
            *(
                Finding("preparation", name, f"could not be prepared: {reason}")
                for name, reason in self.failed.items()
            ),
            *(Finding("preparation", name, text) for name, texts in self.remarks.items() for text in texts),
        ]

    def _of_column(self, column: LabelColumn) -> Iterator[Finding]:
        yield from _odd_coverage(self.table.videos, column)
        if column.kind == "numbers" or self.is_constant(column):
            return
        yield from _odd_classes(self.table.videos, column)
        if column.kind == "class":
            yield from _odd_orders(self.table.videos, column)

    def _of_splits(self) -> Iterator[Finding]:
        """Yield classes that are tested but never trained on."""
        if "train" not in self.splits.values():
            return
        for column in self.columns:
            if column.kind == "numbers":
                continue
            lacking = [
                column.names[number]
                for number, videos in self.holders(column).items()
                if (splits := {self.splits.get(video) for video in videos} - {None}) and "train" not in splits
            ]
            if lacking:
                yield Finding("split", "", f"{column.name}: no training video has {_quoted(lacking)}, but others have")

    def holders(self, column: LabelColumn) -> dict[int, list[str]]:
        """Return the names of the videos that have each class, by its index, without classes that no video has."""
        found = {
            number: [video.name for video in self.table.videos if column.holds(number)[video.rows].any()]
            for number in range(len(column.names))
        }
        return {number: videos for number, videos in found.items() if videos}

    def seconds_of(self, column: LabelColumn, number: int) -> float:
        """Return for how many seconds all videos have a class."""
        holds = column.holds(number)
        return float(sum(video.durations[holds[video.rows]].sum() for video in self.table.videos))

    def examples(self, column: LabelColumn, number: int, count: int = 10) -> list[tuple[VideoRows, int]]:
        """Return frames of a class, from as many videos as possible and spread over the time that they have it.

        Args:
            column: label column.
            number: index of the class.
            count: number of frames.

        Returns:
            Videos and indices of frames in them, in the order of the videos. The choice depends on the labels only.
        """
        holds = column.holds(number)
        candidates = [(video, np.flatnonzero(holds[video.rows])) for video in self.table.videos]
        candidates = [(video, frames) for video, frames in candidates if len(frames)]
        if len(candidates) > count:  # evenly over the videos, not only the first ones
            chosen_videos = np.linspace(0, len(candidates) - 1, count).round().astype(int)
            candidates = [candidates[index] for index in chosen_videos]
        takes = [0] * len(candidates)
        while sum(takes) < count and any(
            take < len(frames) for take, (_, frames) in zip(takes, candidates, strict=True)
        ):
            for index, (_, frames) in enumerate(candidates):
                if takes[index] < len(frames) and sum(takes) < count:
                    takes[index] += 1
        chosen = []
        for take, (video, frames) in zip(takes, candidates, strict=True):
            middles = (np.arange(take) + 0.5) * len(frames) / max(take, 1)
            chosen += [(video, int(frames[int(middle)])) for middle in middles]
        return chosen

    def transitions(self, column: LabelColumn) -> dict[tuple[int, int], dict[str, list[float]]]:
        """Return the seconds at which one class follows another, by both classes and the name of the video."""
        found: dict[tuple[int, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for video in self.table.videos:
            stretches = video.stretches(column.values[video.rows])
            for before, after in pairwise(stretches):
                if before.number != after.number:  # the same on both sides of a gap is no transition
                    found[before.number, after.number][video.name].append(after.start)
        return {pair: dict(videos) for pair, videos in found.items()}

    def co_occurrence(self, column: LabelColumn) -> dict[tuple[int, int], dict[str, float]]:
        """Return the seconds for which two classes of a set are there at once, by both classes and the name of the video."""
        found: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)
        for video in self.table.videos:
            values = column.values[video.rows].astype(np.float64)  # (frames, classes)
            together = values.T @ (values * video.durations[:, None])  # (classes, classes)
            for a, b in np.argwhere(np.triu(together, 1) > 0).tolist():
                found[a, b][video.name] = float(together[a, b])
        return dict(found)


def inspect_frame_set(folder: Path | str, *, protocol: str | None = None, compare: bool = True) -> Inspection:
    """Look over a frame set in a folder.

    Args:
        folder: folder that `surgvista prepare` or `surgvista publish` wrote.
        protocol: protocol whose splits are shown; by default the first one of the data set.
        compare: compare the colors of the frames, to find swapped label files.

    Returns:
        The inspection.

    Raises:
        DatasetError: the folder is no frame set, or there is no such protocol.

    Example:
        >>> inspect_frame_set("frame_sets/ours").findings  # doctest: +SKIP
        [Finding(kind='order', video='monday', text='...')]
    """
    path = Path(folder)
    if (path / PUBLISHED).is_file():
        return _inspect_published(path, protocol, compare)
    if not (path / MANIFEST).is_file() and not (path / PLAN).is_file():
        raise DatasetError(
            f"{path} is no frame set; `surgvista prepare` makes one, and this needs its --output folder"
        )
    stored = StoredFrameSet.open(path)
    name, chosen = stored.info.protocol(protocol)
    frames = load_frame_set(stored.info.name, path, ALL)
    splits: dict[str, str] = {}
    for split in chosen.names:
        try:
            splits |= {video.video_id: split for video in stored.split(split, chosen, allow_missing=True)}
        except DatasetError as error:  # a split of which no video is there
            logger.debug("%s", error)
    report = json.loads((path / REPORT).read_text(encoding="utf-8")) if (path / REPORT).is_file() else {}
    lengths = {}
    for video in stored.videos:
        mark = video_file(path, video.video_id).with_suffix(".json")
        lengths[video.video_id] = float(json.loads(mark.read_text(encoding="utf-8")).get("seconds") or 0.0)
    return inspect_frames(
        frames,
        title=f"{stored.info.title}: {path.resolve().name}",
        splits=splits,
        protocol=name,
        remarks=report.get("remarks", {}),
        failed=report.get("failed", {}),
        lengths=lengths,
        names={column: label.names for column, label in stored.info.labels.items()},
        compare=compare,
    )


def _inspect_published(path: Path, protocol: str | None, compare: bool) -> Inspection:
    """Look over a frame set as `surgvista publish` wrote it: all splits of one protocol."""
    content = json.loads((path / PUBLISHED).read_text(encoding="utf-8"))
    name = protocol or next(iter(content["protocols"]))
    parts: list[Dataset] = []
    splits: dict[str, str] = {}
    for split in content["protocols"].get(name, ()):
        part = load_frame_set(content["name"], path, split, protocol=name)
        parts.append(part)
        splits |= dict.fromkeys(part.unique("video_id"), split)
    if not parts:
        raise DatasetError(f"{path} has no protocol {name!r}; it has {preview(sorted(content['protocols']))}")
    title = f"{content['name']}: {path.resolve().name}"
    return inspect_frames(concatenate_datasets(parts), title=title, splits=splits, protocol=name, compare=compare)


def inspect_frames(
    frames: Dataset,
    *,
    title: str = "frame set",
    splits: Mapping[str, str] | None = None,
    protocol: str = "",
    remarks: Mapping[str, Sequence[str]] | None = None,
    failed: Mapping[str, str] | None = None,
    lengths: Mapping[str, float] | None = None,
    names: Mapping[str, tuple[str, ...]] | None = None,
    compare: bool = True,
) -> Inspection:
    """Look over a frame set.

    Args:
        frames: frame set, with any label columns or none.
        title: title of the page.
        splits: split of each video by its name.
        protocol: name of the protocol that gives the splits.
        remarks: sentences of the preparation by the name of the video.
        failed: reasons by the id of videos that could not be prepared.
        lengths: seconds of the recordings by the id of the video, where they are known.
        names: names of the numbers in columns of numbers, where they are known.
        compare: compare the colors of the frames, to find swapped label files.

    Raises:
        InputError: a column of a frame set is missing, or it has no frames.
    """
    missing = sorted({"source", "video_id", "timestamp", "image"} - set(frames.column_names))
    if missing:
        raise InputError(f"a frame set has the column {missing[0]!r}; this one has {', '.join(frames.column_names)}")
    table = LabelTable.read(frames, lengths, names)
    inspection = Inspection(title, frames, table, splits or {}, protocol, remarks or {}, failed or {})
    if not compare:
        return inspection
    comparable = [column for column in inspection.columns if not inspection.is_constant(column)]
    swaps = find_swaps(table.videos, comparable, inspection.image_at)
    return replace(inspection, swaps=swaps)


# ------------------------------------------------------------------------------------------- what is odd


def _swap_finding(swap: Swap) -> Finding:
    return Finding(
        "swap",
        swap.first,
        f"{swap.column}: the labels of {swap.first} and {swap.second} fit the colors of the frames better the other way "
        "round; their label files may be swapped. Compare the frames of both",
    )


def _odd_lengths(videos: Sequence[VideoRows]) -> Iterator[Finding]:
    """Yield videos that are much shorter or longer than the others."""
    if len(videos) < _LEAST_VIDEOS:
        return
    usual = float(np.median([video.length for video in videos]))
    for video in videos:
        ratio = video.length / usual if usual else 1.0
        if ratio > _LENGTH_RATIO or ratio < 1 / _LENGTH_RATIO:
            much = "longer" if ratio > 1 else "shorter"
            text = f"lasts {clock(video.length)}, much {much} than the others ({clock(usual)} in the middle)"
            yield Finding("length", video.name, text)


def _odd_coverage(videos: Sequence[VideoRows], column: LabelColumn) -> Iterator[Finding]:
    """Yield videos without labels, and those with long unlabeled times that the others do not have."""
    shown = [(video, column.labeled[video.rows]) for video in videos]
    labeled = {video.name: float(mask.mean()) for video, mask in shown}
    usual = float(np.median(list(labeled.values())))
    ends = {video.name: _unlabeled_ends(video, mask) for video, mask in shown if mask.any()}
    usual_ends = [float(np.median([each[side] for each in ends.values()])) for side in (0, 1)] if ends else [0.0, 0.0]
    for video, mask in shown:
        if not mask.any():
            yield Finding("labels", video.name, f"{column.name}: has no label at all")
            continue
        late, early = ends[video.name]
        if late > _UNLABELED_END * video.length and late > 2 * usual_ends[0]:
            text = f"{column.name}: its first label comes {clock(late)} after the first frame"
            yield Finding("labels", video.name, text)
        if early > _UNLABELED_END * video.length and early > 2 * usual_ends[1]:
            text = f"{column.name}: its last label ends {clock(early)} before the recording ({clock(video.length)})"
            yield Finding("labels", video.name, text)
        elif labeled[video.name] < _FEWER_LABELS * usual:
            text = f"{column.name}: only {labeled[video.name]:.0%} of its frames have a label; {usual:.0%} is usual"
            yield Finding("labels", video.name, text)


def _unlabeled_ends(video: VideoRows, labeled: np.ndarray) -> tuple[float, float]:
    """Return the seconds before the first and after the last labeled frame of a video."""
    first, last = np.flatnonzero(labeled)[[0, -1]]
    return float(video.seconds[first] - video.start), video.length - float(video.seconds[last] + video.durations[last])


def _odd_classes(videos: Sequence[VideoRows], column: LabelColumn) -> Iterator[Finding]:
    """Yield classes that only one video has, that none has, and those that all but one have."""
    labeled = [video for video in videos if column.labeled[video.rows].any()]
    if len(labeled) < _LEAST_VIDEOS or len(column.names) > _MANY_CLASSES:
        return
    single: dict[str, list[str]] = defaultdict(list)
    lacking: dict[str, list[str]] = defaultdict(list)
    for number, name in enumerate(column.names):
        having = [video.name for video in labeled if column.holds(number)[video.rows].any()]
        if len(having) == 1:
            single[having[0]].append(name)
        elif len(having) == len(labeled) - 1:
            lacking[next(video.name for video in labeled if video.name not in having)].append(name)
    for video, names in single.items():
        yield Finding("classes", video, f"{column.name}: is the only video with {_quoted(names)}")
    for video, names in lacking.items():
        yield Finding("classes", video, f"{column.name}: lacks {_quoted(names)}, which all others have")


def _quoted(names: Sequence[str]) -> str:
    return preview([repr(name) for name in names], shown=_SHOWN)


def _odd_orders(videos: Sequence[VideoRows], column: LabelColumn) -> Iterator[Finding]:
    """Yield videos in which one class begins before another, against the order of all other videos."""
    firsts: dict[str, dict[int, float]] = {}
    for video in videos:
        values = column.values[video.rows]
        firsts[video.name] = {
            int(number): float(video.seconds[np.flatnonzero(values == number)[0]])
            for number in np.unique(values[values >= 0])
        }
    odd: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for a, b in combinations(range(len(column.names)), 2):
        first = {name: a if each[a] < each[b] else b for name, each in firsts.items() if a in each and b in each}
        counts = Counter(first.values())
        if len(first) < _LEAST_VIDEOS or 1 not in counts.values() or len(counts) < 2:
            continue
        rare = min(counts, key=lambda number: counts[number])
        alone = next(name for name, number in first.items() if number == rare)
        odd[alone].append((rare, a + b - rare))
    for name, pairs in odd.items():
        shown = [f"{column.names[x]!r} before {column.names[y]!r}" for x, y in pairs[:_SHOWN]]
        more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
        yield Finding("order", name, f"{column.name}: an order that no other video has: {', '.join(shown)}{more}")
