"""Tests and intervals over videos, which are what a result has to generalize to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import wilcoxon

from ...util.errors import InputError
from ...util.messages import preview


@dataclass(frozen=True)
class PairedTest:
    """Result of a one-sided Wilcoxon signed-rank test.

    Args:
        p_value: probability of such ranks or more extreme ones if neither were better.
        mean_difference: mean difference of the scores, better minus worse.
        pairs: number of videos.
        wins, ties: numbers of videos with a higher and with the same score.
    """

    p_value: float
    mean_difference: float
    pairs: int
    wins: int
    ties: int

    def to_dict(self) -> dict[str, float]:
        """Return the numbers, as JSON can hold them."""
        return asdict(self)


def paired_wilcoxon(better: Mapping[str, float], worse: Mapping[str, float]) -> PairedTest:
    """Test the claim that `better` scores higher than `worse` on the same videos: one-sided Wilcoxon signed-rank test.

    This is the test of SurgVISTA's paper (arXiv 2506.02692; Wilcoxon, Biometrics Bulletin 1945). Ties are left out of the
    ranks; where all scores are tied, p is 1. It is exact up to 50 videos without ties. Fewer than 5 videos cannot reach
    p < 0.05. Differences are rounded to 12 digits after the point, so that a rounding error is neither a win nor another rank.

    Args:
        better, worse: scores by the name of the video.

    Returns:
        The result.

    Raises:
        InputError: the videos differ, there are none, or a score is not finite.

    Example:
        >>> paired_wilcoxon({"a": 3, "b": 5, "c": 4, "d": 9, "e": 7}, {"a": 1, "b": 2, "c": 0, "d": 4, "e": 1}).p_value
        0.03125
    """
    if better.keys() != worse.keys() or not better:
        odd = preview(sorted(set(better) ^ set(worse)))
        raise InputError(
            f"a paired test needs the same videos twice, and at least one; unpaired: {odd or 'no videos'}"
        )
    first, second = (np.array([scores[video] for video in sorted(better)], np.float64) for scores in (better, worse))
    difference = first - second
    if not np.isfinite(difference).all():
        raise InputError("a score is infinite or not a number")
    difference = difference.round(12)
    p_value = float(wilcoxon(difference, alternative="greater").pvalue) if difference.any() else 1.0
    return PairedTest(
        p_value, float(difference.mean()), len(difference), int((difference > 0).sum()), int((difference == 0).sum())
    )


@dataclass(frozen=True)
class Interval:
    """A number with its confidence interval.

    Args:
        value: the number for all videos.
        low, high: ends of the interval.
        level: level of confidence, such as 0.95.
    """

    value: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


def bootstrap_interval(
    statistic: Callable[[Sequence[str]], float],
    videos: Sequence[str],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Compute the percentile interval of a statistic over bootstrap draws of whole videos (Efron, 1979).

    Frames of a video are no independent samples, so they are never drawn apart.

    Args:
        statistic: function of a list of videos, in which a video may come more than once. Draws for which it is NaN are left
            out.
        videos: names of all videos.
        resamples: number of draws.
        level: level of confidence.
        seed: seed of the draws.

    Returns:
        The statistic of all videos, with its interval.

    Raises:
        InputError: there are no videos.

    Example:
        >>> accuracy = {"a": 0.5, "b": 0.7, "c": 0.9}
        >>> print(bootstrap_interval(lambda drawn: float(np.mean([accuracy[video] for video in drawn])), list(accuracy)))
        0.700 (0.500-0.900)
    """
    if not len(videos):
        raise InputError("there are no videos to draw from")
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(videos), size=(resamples, len(videos)))
    values = np.array([statistic([videos[index] for index in draw]) for draw in draws])
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(videos)), float(low), float(high), level)


def interval_over_seeds(scores: np.ndarray, *, resamples: int = 2000, level: float = 0.95, seed: int = 0) -> Interval:
    """Compute the percentile interval of a mean score over bootstrap draws of whole videos and, independently, of seeds.

    With one seed this is the interval of `bootstrap_interval`. With several it is wider where the seeds disagree, so that a
    difference which one seed alone brings about is not taken for a result.

    Args:
        scores: (seeds, videos) scores, or differences of scores.
        resamples: number of draws.
        level: level of confidence.
        seed: seed of the draws.

    Returns:
        The mean of all scores, with its interval.

    Raises:
        InputError: there are no scores, or one is not finite.

    Example:
        >>> print(interval_over_seeds(np.array([[0.5, 0.7, 0.9], [0.5, 0.7, 0.9]])))
        0.700 (0.500-0.900)
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or not scores.size or not np.isfinite(scores).all():
        raise InputError(f"finite scores of (seeds, videos) are needed; got an array of shape {scores.shape}")
    generator = np.random.default_rng(seed)
    # How often each seed and each video is drawn: (draws, seeds) and (draws, videos).
    seeds, videos = (generator.multinomial(size, np.full(size, 1 / size), resamples) for size in scores.shape)
    means = ((seeds @ scores) * videos).sum(axis=1) / scores.size
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(scores.mean()), float(low), float(high), level)
