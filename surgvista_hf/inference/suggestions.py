"""Search of unlabeled videos for the seconds where a label would help a trained model most.

Videos are predicted one after the other. Of each, only its most uncertain segments are remembered, with the mean of what the
classifier saw, so memory grows neither with the length of a video nor with their number. `label_selection` then chooses.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from datasets import Dataset

from ..clips.sampling.index import ClipIndex
from ..clips.sampling.timeline import frame_times
from ..datasets_scripts.own_labels.phase_files import SUFFIXES, read_phase_file
from ..modeling.errors_surgvista import VideoReadError
from ..modeling.video_reading_surgvista import VideoReader
from ..util.console import track
from ..util.errors import InputError
from ..util.messages import preview
from ..util.pages import clock
from .batch import find_videos
from .label_files import check_one_video
from .prediction.label_selection import choose_segments, uncertainty
from .prediction.label_suggestions import SUGGESTION_TIER, LabelSuggestions, SuggestedSegment, VideoUncertainty
from .prediction.prediction import VideoPrediction
from .predictor import FeatureListener, SurgicalVideoPredictor, sample_stream

logger = logging.getLogger(__name__)
_OF_A_VIDEO = 128  # candidates that are remembered of one video
_OF_ALL = 8192
_COARSE = 1.05  # frames of a frame set may be this many times as far apart as those that a model needs
_NAMED = 2  # classes that a reason names

Spans = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class SuggestionSettings:
    """Settings of the search.

    Args:
        seconds: seconds that shall be labeled, of all videos together.
        length: seconds of a segment, a whole number: an annotator sees so much at a time.
        gap: least seconds between two segments of a video, and between a segment and what has a label.
        videos: number of videos that the segments may come from; `None`: any number.
        tier: name of the tier of the labels, for a model of one class a second.

    Raises:
        InputError: a setting is out of range.
    """

    seconds: float = 60.0
    length: int = 5
    gap: float = 10.0
    videos: int | None = None
    tier: str = "phase"

    def __post_init__(self) -> None:
        if self.length < 1 or self.length != int(self.length):
            raise InputError(
                f"a segment of {self.length:g} seconds cannot be suggested; give a whole number from 1 on"
            )
        if not self.length <= self.seconds < float("inf"):
            raise InputError(f"{self.seconds:g} seconds to label are less than one segment, which has {self.length:g}")
        if not 0 <= self.gap < float("inf"):
            raise InputError(f"the gap between two segments is {self.gap:g} seconds; it cannot be negative")
        if self.videos is not None and self.videos < 1:
            raise InputError(f"{self.videos} videos cannot be suggested; give at least 1")
        if not self.tier.strip() or self.tier == SUGGESTION_TIER:
            raise InputError(f"the tier of the labels cannot be called {self.tier!r}")

    @property
    def count(self) -> int:
        """Return the number of segments."""
        return int(self.seconds // self.length)


class UnlabeledVideo(Protocol):
    """A video that may be labeled next."""

    @property
    def name(self) -> str:
        """Return the name of the video in the results."""

    @property
    def path(self) -> str | None:
        """Return the path of its file, if it has one."""

    def labeled(self) -> Spans:
        """Return [start, end) in seconds of each stretch that has a label already."""

    def predict(self, predictor: SurgicalVideoPredictor, on_features: FeatureListener) -> VideoPrediction:
        """Predict every second that has a frame."""

    def frames_at(self, seconds: list[float]) -> list[np.ndarray]:
        """Return the frames (height, width, 3), uint8, that are shown at times in seconds."""


@dataclass(frozen=True, eq=False)
class VideoFile:
    """A video file, with the labels that it has already.

    Args:
        file: path of the video.
        name: name of the video in the results.
        labels: files that `read_phase_file` reads.
        tier: tier that tells what is labeled, in files of ELAN with several.
    """

    file: Path
    name: str
    labels: tuple[Path, ...] = ()
    tier: str = ""

    @property
    def path(self) -> str | None:
        """Return the path of the file."""
        return str(self.file)

    def labeled(self) -> Spans:
        """Return the spans of its labels in seconds.

        Raises:
            AnnotationError: the file of labels cannot be understood.
            VideoReadError: the labels count frames, and the video cannot be read.
        """
        spans: list[tuple[float, float]] = []
        for path in self.labels:
            file = read_phase_file(path, self.tier if path.suffix.lower() == ".eaf" else "")
            rate = self._frames_per_second if file.rate is None else file.rate
            spans += [(span.start / rate, span.stop / rate) for span in file.spans if not span.is_unlabeled]
        return spans

    @cached_property
    def _frames_per_second(self) -> float:
        with VideoReader(self.file) as reader:
            return reader.info.frames_per_second or 1.0

    def predict(self, predictor: SurgicalVideoPredictor, on_features: FeatureListener) -> VideoPrediction:
        """Predict every second with the first model of a predictor."""
        return next(iter(predictor.predict_all(self.file, name=self.name, on_features=on_features).values()))

    def frames_at(self, seconds: list[float]) -> list[np.ndarray]:
        """Return the frames at times in seconds."""
        with VideoReader(self.file, deinterlace="auto", damaged="any") as reader:
            return list(reader.frames_at(seconds))


@dataclass(frozen=True, eq=False)
class FrameSetVideo:
    """A video of a frame set.

    Args:
        frames: rows of the video.
        name: name of the video in the results.
        label: label column: frames that have a label are not suggested; `None`: all frames may be.
    """

    frames: Dataset
    name: str
    label: str | None = None

    path = None

    @cached_property
    def seconds(self) -> np.ndarray:
        """Return the times (frames,) of its frames."""
        return np.asarray(self.frames.with_format("numpy")["timestamp"], np.float64)

    @property
    def interval(self) -> float:
        """Return the usual seconds between two frames."""
        return float(np.median(np.diff(self.seconds))) if len(self.seconds) > 1 else 1.0

    def labeled(self) -> Spans:
        """Return the span of each frame that has a label."""
        if self.label is None:
            return ()
        values = self.frames.select_columns([self.label]).with_format(None)[:][self.label]
        known = [value is not None and (isinstance(value, list) or value >= 0) for value in values]
        return [(second, second + self.interval) for second, each in zip(self.seconds, known, strict=True) if each]

    def predict(self, predictor: SurgicalVideoPredictor, on_features: FeatureListener) -> VideoPrediction:
        """Predict every second that the frame set has a frame of, with the first model of a predictor.

        Raises:
            InputError: the model needs frames closer together than those of the frame set.
        """
        for model in predictor.models.values():
            if self.interval > _COARSE * model.spacing.step:
                raise InputError(
                    f"the frames of {self.name} are {self.interval:g} s apart; the model needs them every "
                    f"{model.spacing.step:g} s: prepare the videos with more frames a second"
                )
        images = (
            (float(second), np.asarray(row["image"])) for second, row in zip(self.seconds, self.frames, strict=True)
        )
        shown = sample_stream(images, predictor.needed_seconds())
        found = predictor.predict_frames(shown, self.name, origin=0.0, on_features=on_features)
        prediction = next(iter(found.values()))
        return _rows(prediction, self._is_shown(prediction.seconds))

    def _is_shown(self, seconds: np.ndarray) -> np.ndarray:
        """Return whether the frame shown at each time is of that time, and not what stands before a gap."""
        frames = np.searchsorted(self.seconds, seconds + 1e-3, side="right") - 1
        late = seconds - self.seconds[np.maximum(frames, 0)]
        return np.asarray((frames >= 0) & (late < 1.5 * self.interval))

    def frames_at(self, seconds: list[float]) -> list[np.ndarray]:
        """Return the frames at times in seconds."""
        rows = np.maximum(np.searchsorted(self.seconds, np.asarray(seconds) + 1e-3, side="right") - 1, 0)
        return [np.asarray(self.frames[int(row)]["image"].convert("RGB")) for row in rows]


def files_to_label(paths: Sequence[Path], labels: Sequence[Path] = (), tier: str = "") -> list[VideoFile]:
    """List video files, and the videos below folders, with the labels that they have already.

    Args:
        paths: files and folders.
        labels: folders with files of labels for some of the videos, named like them.
        tier: tier that tells what is labeled, in files of ELAN with several; `SUGGESTION_TIER` for independent classes.

    Raises:
        InputError: there are no videos, several have one name, a folder of labels does not exist, or a table in it holds the
            labels of several videos.
    """
    for folder in labels:
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder} with labels")
    found: dict[str, Path] = {}
    for path in paths:
        root = path.parent if path.is_file() else path
        for video in find_videos(path):
            name = video.relative_to(root).as_posix()
            if found.setdefault(name, video) != video:
                raise InputError(f"{found[name]} and {video} would both be called {name}; give the folder above them")
    stems = Counter(_stem(name) for name in found)
    twice = sorted(stem for stem, count in stems.items() if count > 1)
    if twice:
        raise InputError(
            f"several videos are called {preview(twice)} apart from the suffix: their labels would be too"
        )
    for folder in labels:
        _check_labels(folder, found)
    return [VideoFile(video, name, _label_files(name, labels), tier) for name, video in sorted(found.items())]


def _check_labels(folder: Path, videos: Iterable[str]) -> None:
    """Check that the labels of a folder will be found, since what is labeled already would be suggested again.

    Where no file is named like a video, a warning is logged.

    Raises:
        InputError: a table holds the labels of several videos.
    """
    files = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.name != "classes.txt"
    )
    for file in files:
        check_one_video(file, "divide it, so that what is labeled already is known")
    videos = sorted(videos)
    if videos and not any(_label_files(name, [folder]) for name in videos):
        logger.warning(
            "no file of labels in %s is named like a video, so nothing counts as labeled; it has %s, and the videos are %s",
            folder,
            preview([file.name for file in files], 3) or "none",
            preview(videos, 3),
        )


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _label_files(name: str, folders: Sequence[Path]) -> tuple[Path, ...]:
    """Return the files of labels of a video, at most one of each folder."""
    files = ([folder / f"{_stem(name)}{suffix}" for suffix in SUFFIXES] for folder in folders)
    found = (next((file for file in each if file.is_file()), None) for each in files)
    return tuple(file for file in found if file is not None)


def frame_set_to_label(frames: Dataset, label: str | None = None) -> list[FrameSetVideo]:
    """List the videos of a frame set.

    Args:
        frames: frame set, or a split of one.
        label: label column: frames that have a label are not suggested; `None`: all frames may be.

    Raises:
        InputError: there is no such column.
    """
    if label is not None and label not in frames.column_names:
        raise InputError(f"the frame set has no column {label!r}; it has {', '.join(frames.column_names)}")
    index = ClipIndex.from_frame_set(frames)
    frame_times(frames, index)  # refuses times that are missing or do not ascend
    videos = zip(index.starts, index.lengths, index.video_ids, strict=True)
    names = index.video_ids.tolist()
    sources = [index.source_names[source] for source in index.sources]
    is_unique = len(set(names)) == len(names)
    return [
        FrameSetVideo(
            frames.select(range(int(start), int(start + length))),
            str(name) if is_unique else f"{source}/{name}",
            label,
        )
        for (start, length, name), source in zip(videos, sources, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A segment that may be suggested.

    Args:
        segment: the segment; its order is not known yet.
        features: mean (width,) of what the classifier saw of its clips.
    """

    segment: SuggestedSegment
    features: np.ndarray


def suggest_labels(
    predictor: SurgicalVideoPredictor,
    videos: Sequence[UnlabeledVideo],
    settings: SuggestionSettings | None = None,
    *,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> LabelSuggestions:
    """Choose the segments of videos whose labels would help a model most: uncertain ones that differ from each other.

    The uncertainty is that of `label_selection.uncertainty`, of probabilities at the temperature of the model, averaged over
    the seconds of a segment. Segments that show the outside of the patient, as the predictor's detector says, that have a
    label already, or that are damaged, are left out. The same videos give the same segments.

    Args:
        predictor: the predictor; its first model is the one that needs labels.
        videos: the videos, from `files_to_label` or `frame_set_to_label`.
        settings: amount to label, and the form of the segments.
        skip_unreadable: note videos that cannot be decoded, and go on.
        progress: show a progress bar.

    Returns:
        The segments; fewer than there were seconds for where the videos have no more.

    Raises:
        InputError: there are no videos, or nothing is left to label.
        VideoReadError: a video cannot be decoded, unless it is skipped.
    """
    settings = settings or SuggestionSettings()
    if not videos:
        raise InputError("there are no videos to choose from")
    search = _Search(predictor, settings)
    unreadable: dict[str, str] = {}
    for video in track(videos, "videos", shown=progress):
        try:
            search.scan(video)
        except VideoReadError as error:
            if not skip_unreadable:
                raise
            logger.warning("%s: %s", video.name, error)
            unreadable[video.name] = str(error)
    return search.result(unreadable)


class _Search:
    """The candidates of the videos that were scanned so far."""

    def __init__(self, predictor: SurgicalVideoPredictor, settings: SuggestionSettings) -> None:
        self.predictor, self.settings = predictor, settings
        self.candidates: list[_Candidate] = []
        self.videos: list[VideoUncertainty] = []

    def scan(self, video: UnlabeledVideo) -> None:
        """Predict a video, and remember its most uncertain segments."""
        labeled = video.labeled()
        means = _SegmentMeans(self.settings.length, next(iter(self.predictor.models)))
        prediction = video.predict(self.predictor, means)
        scores = uncertainty(prediction.probabilities, multi_label=prediction.multi_label)
        has_label, gap = _inside(prediction.seconds, labeled), self.settings.gap
        is_near_label = _inside(prediction.seconds, [(start - gap, end + gap) for start, end in labeled])
        found: list[_Candidate] = []
        for number, rows in self._segments(prediction):
            if not (is_near_label[rows].any() or _is_outside(prediction, rows)):
                part = _rows(prediction, rows)
                found.append(_Candidate(self._suggestion(part, float(scores[rows].mean())), means.mean(number)))
        self.candidates += _most_uncertain(found, _OF_A_VIDEO)
        if len(self.candidates) > 2 * _OF_ALL:
            self.candidates = _most_uncertain(self.candidates, _OF_ALL)
        mean = float(scores[~has_label].mean()) if (~has_label).any() else float("nan")
        fraction = prediction.unfamiliar_fraction
        self.videos.append(VideoUncertainty(video.name, video.path, len(scores), int(has_label.sum()), mean, fraction))

    def _segments(self, prediction: VideoPrediction) -> Iterator[tuple[int, np.ndarray]]:
        """Yield number and rows of each segment that is predicted as a whole; a shorter video is one segment."""
        length = self.settings.length
        numbers = np.floor((prediction.seconds + 2e-3) / length).astype(int)  # time stamps are rounded
        is_short = prediction.seconds[-1] + prediction.step < length
        for number in np.unique(numbers):
            rows = np.flatnonzero(numbers == number)
            if len(rows) >= length or is_short:
                yield int(number), rows

    def _suggestion(self, part: VideoPrediction, score: float) -> SuggestedSegment:
        """Return a segment with what the model believes of it."""
        tiers = part.tiers()
        proposals = tiers if part.multi_label else {self.settings.tier: tiers["prediction"]}
        start, end = float(part.seconds[0]), float(part.seconds[-1]) + part.step
        return SuggestedSegment(0, part.video, start, end, score, proposals, _reason(part))

    def result(self, unreadable: dict[str, str]) -> LabelSuggestions:
        """Choose among the candidates."""
        if not self.candidates:
            lost = f"; {len(unreadable)} cannot be read: {preview(sorted(unreadable))}" if unreadable else ""
            raise InputError(
                f"no segment of {self.settings.length} seconds of {len(self.videos)} videos is left to label: it must be "
                f"sound, inside the patient and without a label{lost}"
            )
        pool = _most_uncertain(self.candidates, _OF_ALL)
        chosen = choose_segments(
            np.array([each.segment.score for each in pool]),
            np.stack([each.features for each in pool]),
            self.settings.count,
            videos=[each.segment.video for each in pool],
            starts=np.array([each.segment.start for each in pool]),
            least_distance=self.settings.length + self.settings.gap,
            most_videos=self.settings.videos,
        )
        segments = tuple(replace(pool[row].segment, order=order) for order, row in enumerate(chosen, 1))
        return LabelSuggestions(
            segments,
            tuple(sorted(self.videos, key=lambda each: (-np.nan_to_num(each.uncertainty, nan=-1.0), each.video))),
            self.predictor.class_names,
            self.predictor.is_multi_label,
            self.settings.tier,
            unreadable,
        )


class _SegmentMeans:
    """Mean features of each segment of a video, added up batch by batch; it is the `FeatureListener` of a predictor.

    Args:
        length: seconds of a segment.
        model: name of the model whose features count.
    """

    def __init__(self, length: int, model: str) -> None:
        self.length, self.model = length, model
        self.sums: dict[int, np.ndarray] = {}
        self.counts: dict[int, int] = {}

    def __call__(self, model: str, seconds: Sequence[float], features: np.ndarray) -> None:
        """Add the features (clips, width) of clips that end at these seconds."""
        if model != self.model:
            return
        for second, row in zip(seconds, features, strict=True):
            number = int(second // self.length)
            self.sums[number] = self.sums.get(number, 0) + row.astype(np.float32)
            self.counts[number] = self.counts.get(number, 0) + 1

    def mean(self, number: int) -> np.ndarray:
        """Return the mean features (width,) of a segment."""
        return np.asarray(self.sums[number] / self.counts[number], np.float32)


def _most_uncertain(candidates: list[_Candidate], count: int) -> list[_Candidate]:
    """Return the most uncertain candidates, in the order of video and time."""
    first = sorted(candidates, key=lambda each: (-each.segment.score, each.segment.video, each.segment.start))[:count]
    return sorted(first, key=lambda each: (each.segment.video, each.segment.start))


def _rows(prediction: VideoPrediction, rows: np.ndarray) -> VideoPrediction:
    """Return some seconds of a prediction: rows by their indices, or by a mask."""
    unfamiliarity = prediction.unfamiliarity
    return replace(
        prediction,
        seconds=prediction.seconds[rows],
        probabilities=prediction.probabilities[rows],
        unfamiliarity=None if unfamiliarity is None else unfamiliarity[rows],
    )


def _inside(seconds: np.ndarray, spans: Spans) -> np.ndarray:
    """Return whether each second, (seconds,) bool, lies in one of the spans."""
    if not spans:
        return np.zeros(len(seconds), bool)
    starts, ends = (np.array(values) for values in zip(*sorted(spans), strict=True))
    reached = np.maximum.accumulate(ends)
    row = np.searchsorted(starts, seconds + 1e-3, side="right") - 1
    return np.asarray((row >= 0) & (seconds + 1e-3 < reached[row]))


def _is_outside(prediction: VideoPrediction, rows: np.ndarray) -> bool:
    """Return whether a second of a segment must not be shown."""
    mask = prediction.out_of_body_mask
    return mask is not None and any(mask.covers(float(second)) for second in prediction.seconds[rows])


def _reason(part: VideoPrediction) -> str:
    """Say what the model is in doubt about in a segment."""
    means = part.probabilities.mean(axis=0)  # (classes,)
    order = np.argsort(np.abs(means - 0.5) if part.multi_label else -means, kind="stable")[:_NAMED]
    named = ", ".join(f"{part.class_names[number]} {means[number]:.0%}" for number in order)
    changes = [each.start for each in part.segments[1:]] if not part.multi_label else []
    reason = f"unsure: {named}"
    if changes:
        reason += f"; a change at {', '.join(map(clock, changes[:_NAMED]))}"
    if part.unfamiliar_fraction is not None and part.unfamiliar_fraction > 0.5:
        reason += "; unlike the training videos"
    return reason
