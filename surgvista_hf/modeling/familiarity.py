"""How much a video looks like those that a model was trained on: statistics of its frames, and a limit for their distance.

A classifier is sure of images unlike any that it has seen, and the features before its last layer collapse onto its classes,
so neither tells. The look of the prepared frames does: color, contrast and texture of each, on a coarse grid that compression
and resampling hardly change. Their Mahalanobis distance from the training frames (Lee et al., NeurIPS 2018, arXiv
1807.03888), with a shrunk covariance (Ledoit and Wolf, J. Multivariate Anal. 88, 2004), is averaged over the last seconds.
`benchmarks/familiarity.py` compares it with features of the network, k nearest neighbors (Sun et al., ICML 2022) and the
residual of principal components (ViM, CVPR 2022). No images are stored: 36 means and a matrix of 36 × 36 numbers.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..util.errors import InputError

WINDOW_SECONDS = 16.0
# Fraction of held-out seconds: below the 5 % that a new video is to stay under, since videos differ and few are held out.
FALSE_ALARMS = 0.02
_GRID = 24  # frames are averaged onto so many rows and columns: finer texture is that of the codec
_SCALES = 3
_FOLDS = 20
_HIGH = 0.95  # of the seconds of a video
_DEVIATIONS = 1.96  # between videos, above their mean: below it lie 39 of 40 if they are normally distributed
_EPSILON = 1e-2


@torch.no_grad()
def appearance(frames: torch.Tensor) -> np.ndarray:
    """Describe how prepared frames look; each frame by itself.

    Args:
        frames: normalized frames as a processor gives them, (frames, 3, height, width).

    Returns:
        Array (frames, 36), float64: mean and log deviation of each channel, the correlations between channels, and the log
        mean size of horizontal and vertical differences and of the Laplacian on three scales.

    Raises:
        InputError: frames without three channels.
    """
    if frames.ndim != 4 or frames.shape[1] != 3:
        raise InputError(f"frames are {tuple(frames.shape)}; (frames, 3, height, width) is needed")
    grid = functional.adaptive_avg_pool2d(frames.float(), _GRID).double()
    flat = grid.flatten(2)  # (frames, 3, 24 · 24)
    mean, deviation = flat.mean(dim=2), flat.std(dim=2)
    centered = flat - mean[:, :, None]
    covariance = centered @ centered.transpose(1, 2) / flat.shape[2]  # (frames, 3, 3)
    correlation = covariance / (deviation[:, :, None] * deviation[:, None] + 1e-3)
    parts = [mean, (deviation + _EPSILON).log(), correlation[:, [0, 0, 1], [1, 2, 2]]]
    for _ in range(_SCALES):
        smooth = functional.avg_pool2d(grid, 3, stride=1, padding=1, count_include_pad=False)
        changes = (grid.diff(dim=3), grid.diff(dim=2), grid - smooth)
        parts += [(change.abs().mean(dim=(2, 3)) + _EPSILON).log() for change in changes]
        grid = functional.avg_pool2d(grid, 2)
    return torch.cat(parts, dim=1).cpu().numpy()


@dataclass(frozen=True, eq=False)
class VideoAppearance:
    """Holds the statistics of some seconds of a video.

    Args:
        seconds: times of the frames, (frames,), ascending; a gap longer than `WINDOW_SECONDS` begins a new stretch.
        values: statistics of the frames, (frames, 36), see `appearance`.
    """

    seconds: np.ndarray
    values: np.ndarray


class RunningMean:
    """Computes the mean over the last `WINDOW_SECONDS`, second by second, so that streams agree with whole videos.

    Example:
        >>> mean = RunningMean()
        >>> [mean.push(second, value) for second, value in ((0, 1.0), (1, 3.0), (60, 5.0))]
        [1.0, 2.0, 5.0]
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque()

    def push(self, second: float, value: float) -> float:
        """Take the next value; return the mean up to it."""
        self._recent.append((second, value))
        while self._recent[0][0] <= second - WINDOW_SECONDS:
            self._recent.popleft()
        return float(np.mean([each for _, each in self._recent]))


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Summarizes the look of a model's training videos, with the distance from which on a second counts as unlike them.

    Args:
        mean, deviation: mean and standard deviation of the statistics of the training frames, (36,).
        precision: inverse of the shrunk covariance of the standardized statistics, (36, 36).
        limit: largest mean logarithm of the distance that still counts as familiar.
        videos, frames: number of training videos and of their frames.
        held_out_videos, held_out_seconds: number of videos and seconds that set the limit; each was judged without its own
            frames.
        false_alarms: fraction of these seconds beyond the limit, 0-1.
    """

    mean: np.ndarray
    deviation: np.ndarray
    precision: np.ndarray
    limit: float
    videos: int
    frames: int
    held_out_videos: int
    held_out_seconds: int
    false_alarms: float

    @classmethod
    def fit(cls, training: Sequence[VideoAppearance], held_out: Sequence[VideoAppearance] = ()) -> "Familiarity":
        """Summarize training videos; the limit is set on videos that the summary has not seen.

        Args:
            training: statistics of the training videos; each is also judged by a summary of the others.
            held_out: statistics of further videos of the same kind, such as those of the validation.

        Returns:
            The summary. Its limit leaves at most 2 % of the held-out seconds beyond it, and lies where a further video of the
            same kind is expected to have less than 5 % of its seconds beyond it, if it differs no more than they do
            (two standard deviations): videos differ, and the fewer were held out the less is known of how much.

        Raises:
            InputError: fewer than two videos, none left to set the limit on.
        """
        training = [video for video in training if len(video.seconds)]
        held_out = [video for video in held_out if len(video.seconds)]
        if not training or len(training) + len(held_out) < 2:
            raise InputError("at least two videos are needed to say what a new one may look like")
        summary = cls._around(training)
        judged = [summary._window_means(video) for video in held_out]
        folds = min(len(training), _FOLDS)
        for fold in range(folds if folds > 1 else 0):
            others = cls._around([video for number, video in enumerate(training) if number % folds != fold])
            judged += [others._window_means(video) for video in training[fold::folds]]
        scores = np.concatenate(judged)
        limit = max(float(np.quantile(scores, 1 - FALSE_ALARMS, method="higher")), _expected_highest(judged))
        counted = {"held_out_videos": len(judged), "held_out_seconds": len(scores)}
        return cls(**{**vars(summary), **counted, "limit": limit, "false_alarms": float((scores > limit).mean())})

    @classmethod
    def _around(cls, videos: Sequence[VideoAppearance]) -> "Familiarity":
        values = np.concatenate([video.values for video in videos])
        mean, deviation = values.mean(axis=0), np.maximum(values.std(axis=0), _EPSILON)
        precision = np.linalg.inv(shrunk_covariance((values - mean) / deviation))
        return cls(mean, deviation, precision, 0.0, len(videos), len(values), 0, 0, 0.0)

    def _window_means(self, video: VideoAppearance) -> np.ndarray:
        """Return the running means of a video over whole windows; of a shorter stretch the last one."""
        distances, seconds = self.distances(video.values), video.seconds
        starts = np.flatnonzero(np.r_[True, np.diff(seconds) > WINDOW_SECONDS])
        scores: list[float] = []
        for first, end in zip(starts, [*starts[1:], len(seconds)], strict=True):
            mean = RunningMean()
            means = [mean.push(float(seconds[step]), float(distances[step])) for step in range(first, end)]
            whole = [
                step for step in range(end - first) if seconds[first + step] - seconds[first] >= WINDOW_SECONDS - 1
            ]
            scores += [means[step] for step in whole] or means[-1:]
        return np.array(scores)

    def distances(self, values: np.ndarray) -> np.ndarray:
        """Return the logarithm of the Mahalanobis distance of each frame, divided by the root of the number of values.

        Args:
            values: statistics (frames, 36), see `appearance`.

        Returns:
            Array (frames,).
        """
        offset = (values - self.mean) / self.deviation
        squares = np.einsum("ij,jk,ik->i", offset, self.precision, offset) / offset.shape[1]  # (frames,)
        return np.asarray(np.log(np.sqrt(np.maximum(squares, 0)) + 1e-9))

    def unfamiliarity(self, mean_distance: float) -> float:
        """Return the distance as a multiple of the limit: above 1 a second is unlike the training videos."""
        return float(np.exp(min(mean_distance - self.limit, 50.0)))

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON can hold it."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Familiarity":
        """Make a summary of what `to_dict` gave.

        Raises:
            InputError: an entry is missing or has another shape.
        """
        try:
            arrays = {name: np.array(content[name], np.float64) for name in ("mean", "deviation", "precision")}
            found = cls(**{**content, **arrays})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the summary of the training videos cannot be read: {error!r}") from error
        width = found.mean.shape[0] if found.mean.ndim == 1 else 0
        shapes = (found.mean.shape, found.deviation.shape, found.precision.shape)
        if width != _WIDTH or shapes != ((width,), (width,), (width, width)):
            raise InputError(f"the summary of the training videos has arrays of the shapes {shapes}")
        return found


_WIDTH = 9 + 9 * _SCALES


def _expected_highest(judged: Sequence[np.ndarray]) -> float:
    """Return the value that the 95th percentile of a further video hardly exceeds, from how much the held-out ones differ."""
    highest = np.array([np.quantile(scores, _HIGH) for scores in judged])
    if len(highest) < 2:
        return -np.inf
    return float(highest.mean() + _DEVIATIONS * highest.std(ddof=1) * np.sqrt(1 + 1 / len(highest)))


def shrunk_covariance(values: np.ndarray) -> np.ndarray:
    """Return the covariance of rows, shrunk towards a multiple of the identity (Ledoit and Wolf, 2004): it can be inverted.

    Args:
        values: samples in rows, (samples, width).

    Returns:
        Covariance (width, width).

    Example:
        >>> shrunk_covariance(np.array([[1.0, 0.0], [-1.0, 0.0]])).round(6).tolist()  # two samples lie on a line
        [[1.0, 0.0], [0.0, 0.0]]
        >>> shrunk_covariance(np.array([[2.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]])).round(4).tolist()
        [[1.3333, 0.0], [0.0, 1.3333]]
    """
    samples, width = values.shape
    centered = values - values.mean(axis=0)
    covariance = centered.T @ centered / samples
    scale = np.trace(covariance) / width
    spread = ((covariance - scale * np.eye(width)) ** 2).sum()
    noise = ((centered**2).sum(axis=1) ** 2).mean() - (covariance**2).sum()
    weight = min(max(noise / samples, 0.0), spread) / spread if spread > 0 else 1.0
    shrunk = (1 - weight) * covariance + weight * scale * np.eye(width)
    return np.asarray(shrunk + 1e-9 * np.eye(width))
