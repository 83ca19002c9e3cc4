"""Whether a video looks like those that a model was trained on: statistics of its frames, and how far off they may be.

A classifier is sure of pictures that it has never seen the like of, and the features before its last layer collapse onto its
classes, so neither tells. What does is how the prepared frames look: color, contrast and texture of each, on a coarse grid
that compression and resampling hardly change. Their Mahalanobis distance from the training frames (Lee et al., NeurIPS 2018,
arXiv 1807.03888), with a shrunk covariance (Ledoit and Wolf, J. Multivariate Anal. 88, 2004), is averaged over the last
seconds. `benchmarks/familiarity.py` compares it with features of the network, k nearest neighbors (Sun et al., ICML 2022) and
the residual of principal components (ViM, CVPR 2022). No pictures are kept: 36 means and a matrix of 36 × 36 numbers.
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
FALSE_ALARMS = (
    0.02  # of held-out seconds: videos differ, and so few of them that a new one is to stay below 5 % needs room
)
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
        frames: (frames, 3, height, width), normalized, as a processor gives them.

    Returns:
        (frames, 36) float64: mean and log deviation of each channel, the correlations between channels, and the log mean size
        of horizontal and vertical differences and of the Laplacian on three scales.

    Raises:
        InputError: frames without three channels.
    """
    if frames.ndim != 4 or frames.shape[1] != 3:
        raise InputError(f"frames are {tuple(frames.shape)}; (frames, 3, height, width) is needed")
    grid = functional.adaptive_avg_pool2d(frames.float(), _GRID).double()
    flat = grid.flatten(2)
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
    """What some seconds of a video look like.

    Args:
        seconds: (frames,), ascending; a gap longer than `WINDOW_SECONDS` begins a new stretch.
        values: (frames, 36), see `appearance`.
    """

    seconds: np.ndarray
    values: np.ndarray


class RunningMean:
    """The mean of what came within the last `WINDOW_SECONDS`; as the seconds come, so that streams agree with whole videos.

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
    """What the training videos of a model look like, and from which distance on a second counts as unlike them.

    Args:
        mean, deviation: (36,) of the training frames.
        precision: (36, 36), inverse of the shrunk covariance of the standardized values.
        limit: of the mean logarithm of the distance.
        videos, frames: of the training that it was made from.
        held_out_videos, held_out_seconds: that set the limit: each was judged without its own frames.
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
            training: each video is also judged by a summary of the others.
            held_out: further videos of the same kind, such as the validation.

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
        judged = [summary._settled(video) for video in held_out]
        folds = min(len(training), _FOLDS)
        for fold in range(folds if folds > 1 else 0):
            others = cls._around([video for number, video in enumerate(training) if number % folds != fold])
            judged += [others._settled(video) for video in training[fold::folds]]
        scores = np.concatenate(judged)
        limit = max(float(np.quantile(scores, 1 - FALSE_ALARMS, method="higher")), _of_a_new_video(judged))
        counted = {"held_out_videos": len(judged), "held_out_seconds": len(scores)}
        return cls(**{**vars(summary), **counted, "limit": limit, "false_alarms": float((scores > limit).mean())})

    @classmethod
    def _around(cls, videos: Sequence[VideoAppearance]) -> "Familiarity":
        values = np.concatenate([video.values for video in videos])
        mean, deviation = values.mean(axis=0), np.maximum(values.std(axis=0), _EPSILON)
        precision = np.linalg.inv(shrunk_covariance((values - mean) / deviation))
        return cls(mean, deviation, precision, 0.0, len(videos), len(values), 0, 0, 0.0)

    def _settled(self, video: VideoAppearance) -> np.ndarray:
        """Running means of a video: where a whole window lies before them, or all of a shorter stretch."""
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
        """(frames,) logarithms of the Mahalanobis distance of frames, by the root of the number of values."""
        offset = (values - self.mean) / self.deviation
        squares = np.einsum("ij,jk,ik->i", offset, self.precision, offset) / offset.shape[1]
        return np.asarray(np.log(np.sqrt(np.maximum(squares, 0)) + 1e-9))

    def unfamiliarity(self, mean_distance: float) -> float:
        """Return the distance as a multiple of the limit: above 1 a second is unlike the training videos."""
        return float(np.exp(min(mean_distance - self.limit, 50.0)))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Familiarity":
        """Read what `to_dict` gave.

        Raises:
            InputError: something is missing or misshapen.
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


def _of_a_new_video(judged: Sequence[np.ndarray]) -> float:
    """The value that the 95th percentile of a further video hardly exceeds, from how much the held-out ones differ."""
    highest = np.array([np.quantile(scores, _HIGH) for scores in judged])
    if len(highest) < 2:
        return -np.inf
    return float(highest.mean() + _DEVIATIONS * highest.std(ddof=1) * np.sqrt(1 + 1 / len(highest)))


def shrunk_covariance(values: np.ndarray) -> np.ndarray:
    """Return the covariance of rows, shrunk towards a multiple of the identity (Ledoit and Wolf, 2004): it can be inverted.

    Args:
        values: (samples, width).

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
