"""Finding label files that were swapped between two videos, by colors alone: no model is needed and no GPU.

For each pair of videos, a ridge regression from small color thumbnails to the classes is fitted on all other videos. It says
for each frame of the two which classes it looks like. Where the labels of the other video fit the two better than their own
labels do, the two label files are probably swapped, provided that colors tell the classes of this frame set at all. Colors are
standardized within each video, since cameras and patients differ more than classes do.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from PIL import Image

from .label_table import LabelColumn, VideoRows

FRAMES = 150  # of a video that are decoded for the comparison
MOST_VIDEOS = 80  # pairs grow with their square
_LEAST_VIDEOS = 4
_LEAST_FRAMES = 8
_PENALTY = 10.0  # in units of the number of frames: colors are weak evidence
_VIDEOS_A_SWAP = 8  # so many videos, or less, have one swap; with more swaps, nothing is known of anything
_CLEAR = 0.85  # fraction of the fits that must fall when the labels of any two videos are exchanged
_OVERLAP = 0.5  # fraction of the frames of one video for which the other one has labels

ImageAt = Callable[[int], Image.Image]


@dataclass(frozen=True)
class Swap:
    """Two videos whose labels fit better the other way round.

    Args:
        first, second: names of the videos.
        column: name of the label column.
        gain: sum by which the two fits rise when the labels are exchanged.
    """

    first: str
    second: str
    column: str
    gain: float


def find_swaps(videos: Sequence[VideoRows], columns: Sequence[LabelColumn], image_at: ImageAt) -> list[Swap]:
    """Find pairs of videos whose labels fit better the other way round.

    Args:
        videos: videos of the frame set. With fewer than four nothing can be said: two must be left to learn from.
        columns: label columns; only those with one class a frame are compared.
        image_at: function that decodes the image of a row.

    Returns:
        At most one pair for each video, those with the highest gain first.
    """
    single = [column for column in columns if column.kind == "class" and len(column.names) > 1]
    if not _LEAST_VIDEOS <= len(videos) <= MOST_VIDEOS or not single:
        return []
    sampled = [_sample(video) for video in videos]
    colors = [_standardized(np.stack([color_features(image_at(int(row))) for row in rows])) for rows, _ in sampled]
    swaps = [
        swap for column in single for swap in _swaps_in(videos, column, [seconds for _, seconds in sampled], colors)
    ]
    found: list[Swap] = []
    taken: set[str] = set()
    for swap in sorted(swaps, key=lambda each: -each.gain):
        if not taken & {swap.first, swap.second}:
            taken |= {swap.first, swap.second}
            found.append(swap)
    return found


def color_features(image: Image.Image) -> np.ndarray:
    """Return a description of an image by its colors: a grid of 8 × 8 means and a histogram of hue, saturation and value."""
    pixels = image.convert("RGB")
    grid = np.asarray(pixels.resize((8, 8), Image.Resampling.BOX), np.float64) / 255  # (8, 8, 3)
    hues = np.asarray(pixels.resize((32, 32), Image.Resampling.BOX).convert("HSV"))  # (32, 32, 3)
    counts = [np.histogram(hues[..., channel], 8, (0, 256))[0] for channel in range(3)]
    return np.concatenate([grid.ravel(), 2 * np.sqrt(np.concatenate(counts) / hues[..., 0].size)])


def open_thumbnail(data: bytes, least: int = 64) -> Image.Image:
    """Open a JPEG at the smallest size that its decoder offers from `least` pixels on, which is many times faster."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (least, least))
    return image


def _sample(video: VideoRows) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of a video that are spread evenly over its frames, and their seconds."""
    chosen = np.unique(np.linspace(0, len(video.rows) - 1, FRAMES).round().astype(int))
    return video.rows[chosen], video.seconds[chosen]


def _standardized(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.mean(axis=0)) / (values.std(axis=0) + 1e-2))


@dataclass(frozen=True)
class _Pair:
    """What exchanging the labels of two videos, given by their numbers, does to the fit of each."""

    first: int
    second: int
    gains: tuple[float, float]


def _swaps_in(
    videos: Sequence[VideoRows], column: LabelColumn, seconds: Sequence[np.ndarray], colors: Sequence[np.ndarray]
) -> list[Swap]:
    """Return the pairs whose labels of one column fit better the other way round.

    The pair that gains most is exchanged, until none gains. Colors are believed only if nearly all pairs would then lose by
    an exchange: where colors say nothing of the classes, pairs gain and lose by chance.
    """
    source = list(range(len(videos)))  # whose labels each video has
    swaps: list[Swap] = []
    pairs = _pairs(videos, column, seconds, colors, source)
    most = max(1, len(videos) // _VIDEOS_A_SWAP)
    while pairs and len(swaps) <= most:
        best = max(pairs, key=lambda pair: sum(pair.gains))
        if sum(best.gains) <= 0:
            losses = np.array([pair.gains for pair in pairs]) < 0
            return swaps if losses.mean() >= _CLEAR else []
        a, b = best.first, best.second
        source[a], source[b] = source[b], source[a]
        swaps.append(Swap(videos[a].name, videos[b].name, column.name, float(sum(best.gains))))
        pairs = _pairs(videos, column, seconds, colors, source)
    return []


def _pairs(
    videos: Sequence[VideoRows],
    column: LabelColumn,
    seconds: Sequence[np.ndarray],
    colors: Sequence[np.ndarray],
    source: Sequence[int],
) -> list[_Pair]:
    """Return what an exchange does to every pair of videos.

    Args:
        videos: all videos.
        column: label column.
        seconds: times of the sampled frames of each video, (frames,).
        colors: features of the sampled frames of each video, (frames, features).
        source: number of the video whose labels each video is taken to have.
    """
    own = [_labels_at(column, videos[source[number]], seconds[number]) for number in range(len(videos))]
    usable = [number for number, labels in enumerate(own) if (labels >= 0).sum() >= _LEAST_FRAMES]
    if len(usable) < _LEAST_VIDEOS:
        return []
    classes = len(column.names)
    # Sums over frames, so that the fit without two videos is a subtraction.
    squares = {number: _squares(colors[number], own[number], classes) for number in usable}
    whole_gram = np.sum([part[0] for part in squares.values()], axis=0)  # (features, features)
    whole_target = np.sum([part[1] for part in squares.values()], axis=0)  # (features, classes)
    frames = sum(part[2] for part in squares.values())
    pairs = []
    for a, b in combinations(usable, 2):
        gram, target = whole_gram - squares[a][0] - squares[b][0], whole_target - squares[a][1] - squares[b][1]
        penalty = _PENALTY * (frames - squares[a][2] - squares[b][2])
        weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), target)  # (features, classes)
        gains = []
        for one, other in ((a, b), (b, a)):
            scores = colors[one] @ weights  # (frames, classes)
            theirs = _labels_at(column, videos[source[other]], seconds[one])
            known = (theirs >= 0) & (own[one] >= 0)
            if known.sum() < max(_LEAST_FRAMES, _OVERLAP * (own[one] >= 0).sum()):
                break
            gains.append(_fit(scores[known], theirs[known]) - _fit(scores[known], own[one][known]))
        if len(gains) == 2:
            pairs.append(_Pair(a, b, (gains[0], gains[1])))
    return pairs


def _squares(colors: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return XᵀX, XᵀY and the number of rows of the labeled frames of a video, Y without the frequencies of its classes."""
    known = labels >= 0
    x, y = colors[known], np.eye(classes)[labels[known]]
    return x.T @ x, x.T @ (y - y.mean(axis=0)), int(known.sum())


def _fit(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return how much higher the scores (frames, classes) of the labels (frames,) are than those of other times."""
    centered = scores - scores.mean(axis=0)
    return float(centered[np.arange(len(labels)), labels].mean())


def _labels_at(column: LabelColumn, video: VideoRows, seconds: np.ndarray) -> np.ndarray:
    """Return the labels (times,) that a video has at these seconds, -1 where it has no frame or no label."""
    positions = np.searchsorted(video.seconds, seconds + 1e-3, side="right") - 1
    nearest = np.clip(positions, 0, len(video.rows) - 1)
    labels = column.values[video.rows[nearest]]
    ends = np.append(video.seconds[1:], video.stop)
    return np.where((positions >= 0) & (seconds < ends[nearest]), labels, -1)
