"""Label efficiency: how good encoders are with few labeled videos, and whether one is better than another.

Every variant (an untrained encoder, a pre-trained one, …) is judged with several seeds and several numbers of labeled videos,
always on the same test videos. `label_efficiency` fits linear probes to features; scores of other methods, such as
fine-tuning, are added as `LabelPoint`s. Nothing here trains an encoder.

A difference counts as shown where three things agree: its 95 % interval over test videos and seeds excludes 0, and so says
the one-sided Wilcoxon signed-rank test over test videos at p ≤ 0.05. Anything else is "no difference was shown".
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ..datasets_scripts.schema.info import shuffled
from ..util.errors import InputError
from ..util.messages import preview
from .metrics.ranking import average_precision
from .metrics.statistics import Interval, PairedTest, interval_over_seeds, paired_wilcoxon
from .probes import Features, linear_probe

Verdict = Literal["better", "worse", "not shown"]
FEWEST_VIDEOS = 5  # the one-sided signed-rank test cannot reach p = 0.05 with fewer
LARGEST_P = 0.05
RULE = (
    "a difference is shown where its 95 % interval over test videos and seeds excludes 0 and the one-sided Wilcoxon "
    "signed-rank test over test videos, seeds averaged, has p <= 0.05"
)
_TOLERANCE = 1e-9  # differences below it are rounding errors


@dataclass(frozen=True)
class LabelPoint:
    """Hold the scores of one variant with one seed and one number of labeled videos.

    Args:
        variant: name of the variant.
        seed: seed of the encoder and of the choice of the labeled videos.
        labeled: number of labeled videos.
        by_video: score of each test video, 0-1, by the name of the measure; the first measure is the main one.
        overall: each measure of all test clips together, as most papers report it.
    """

    variant: str
    seed: int
    labeled: int
    by_video: dict[str, dict[str, float]]
    overall: dict[str, float]


@dataclass(frozen=True)
class LabelComparison:
    """Compare one variant with another one at one number of labeled videos.

    Args:
        variant: name of the variant that is expected to be better.
        reference: name of the other variant.
        labeled: number of labeled videos.
        measure: name of the measure.
        difference: mean difference, variant minus reference, with its interval over test videos and seeds.
        better: test of whether the variant is better; test videos are the pairs, and seeds are averaged.
        worse: test of whether it is worse.
        by_seed: mean difference of each seed.
    """

    variant: str
    reference: str
    labeled: int
    measure: str
    difference: Interval
    better: PairedTest
    worse: PairedTest
    by_seed: dict[int, float]

    @property
    def verdict(self) -> Verdict:
        """Return what interval and test show together, see `RULE`."""
        if self.difference.low > _TOLERANCE and self.better.p_value <= LARGEST_P:
            return "better"
        if self.difference.high < -_TOLERANCE and self.worse.p_value <= LARGEST_P:
            return "worse"
        return "not shown"

    @property
    def sentence(self) -> str:
        """Return the verdict in words, with the numbers that it rests on."""
        pairs, change = self.better.pairs, self.difference
        is_lower = change.value < 0
        test, direction = (self.worse, "lower") if is_lower else (self.better, "higher")
        agreeing = sum((-value if is_lower else value) > _TOLERANCE for value in self.by_seed.values())
        found = "no difference was shown" if self.verdict == "not shown" else self.verdict
        few = f"; a test over fewer than {FEWEST_VIDEOS} videos can show nothing" if pairs < FEWEST_VIDEOS else ""
        return (
            f"With {count_videos(self.labeled)}, '{self.variant}' against '{self.reference}': {found}, "
            f"{100 * change.value:+.1f} points of {measure_name(self.measure)} (95 % interval {100 * change.low:+.1f} to "
            f"{100 * change.high:+.1f}; {direction} on {test.wins} of {pairs} test videos, p = {test.p_value:.2g}; "
            f"{direction} with {agreeing} of {len(self.by_seed)} seeds{few})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers and the verdict, as JSON can hold them."""
        return {
            "variant": self.variant,
            "reference": self.reference,
            "labeled": self.labeled,
            "measure": self.measure,
            "verdict": self.verdict,
            "difference": asdict(self.difference),
            "better": self.better.to_dict(),
            "worse": self.worse.to_dict(),
            "by_seed": {str(seed): value for seed, value in self.by_seed.items()},
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class LabelEfficiency:
    """The label-efficiency curves of several variants.

    Args:
        points: scores of all variants, seeds and numbers of labeled videos, in any order. Points that agree in all three are
            folds of a cross-validation: their test videos differ, and are put together.
        pairs: comparisons to make, as (variant, reference); those of absent variants are left out.

    Raises:
        InputError: there are no points, or a variant was not judged with the same seeds on the same videos throughout.

    Example:
        >>> def point(variant, seed, score):
        ...     videos = {f"video{number}": score + 0.01 * number for number in range(6)}
        ...     return LabelPoint(variant, seed, 1, {"accuracy": videos}, {"accuracy": score})
        >>> points = [point("untrained", seed, 0.5) for seed in (0, 1)] + [point("pre-trained", seed, 0.7) for seed in (0, 1)]
        >>> result = LabelEfficiency(points, [("pre-trained", "untrained")])
        >>> result.comparisons[0].verdict, round(result.comparisons[0].difference.value, 3)
        ('better', 0.2)
        >>> print(result.summary()[0])
        'pre-trained' against 'untrained': better with 1 labeled video.
    """

    points: Sequence[LabelPoint]
    pairs: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        if not self.points:
            raise InputError("there are no points to draw a curve through")
        for labeled in self.labeled:
            tables = {variant: self.scores(variant, labeled) for variant in self._judged_with(labeled)}
            (first, expected), *others = tables.items()
            for variant, table in others:
                if table.keys() != expected.keys() or _videos(table) != _videos(expected):
                    raise InputError(
                        f"with {count_videos(labeled)}, {variant} was judged with the seeds {sorted(table)} on "
                        f"{len(_videos(table))} videos, {first} with {sorted(expected)} on {len(_videos(expected))}; "
                        "seeds and test videos must be the same"
                    )

    @property
    def measures(self) -> list[str]:
        """Return the names of the measures; the first is the main one."""
        return list(self.points[0].by_video)

    @property
    def variants(self) -> list[str]:
        """Return the names of the variants, in the order of their first points."""
        return list(dict.fromkeys(point.variant for point in self.points))

    @property
    def labeled(self) -> list[int]:
        """Return the numbers of labeled videos, rising."""
        return sorted({point.labeled for point in self.points})

    @property
    def seeds(self) -> list[int]:
        """Return the seeds."""
        return sorted({point.seed for point in self.points})

    @property
    def test_videos(self) -> list[str]:
        """Return the names of the test videos that have a score of the main measure."""
        measure = self.measures[0]
        return sorted({video for point in self.points for video in point.by_video[measure]})

    def scores(self, variant: str, labeled: int, measure: str | None = None) -> dict[int, dict[str, float]]:
        """Return the score of each test video by seed, folds put together.

        Args:
            variant: name of the variant.
            labeled: number of labeled videos.
            measure: name of the measure; the main one by default.

        Raises:
            InputError: two folds have the same test video.
        """
        found: dict[int, dict[str, float]] = {}
        for point in self.points:
            if (point.variant, point.labeled) != (variant, labeled):
                continue
            own = point.by_video[measure or self.measures[0]]
            known = found.setdefault(point.seed, {})
            if twice := sorted(own.keys() & known.keys()):
                raise InputError(f"{variant}, seed {point.seed}, has two scores of {preview(twice)}")
            known.update(own)
        return found

    def interval(self, variant: str, labeled: int, measure: str | None = None) -> Interval:
        """Return the mean over test videos and seeds, with its interval."""
        return interval_over_seeds(_array(self.scores(variant, labeled, measure)))

    def compare(self, variant: str, reference: str, labeled: int, measure: str | None = None) -> LabelComparison:
        """Compare two variants on the same test videos with the same seeds; the interval is that of the difference."""
        first, second = self.scores(variant, labeled, measure), self.scores(reference, labeled, measure)
        differences = _array(first) - _array(second)  # (seeds, videos)
        means = [
            {video: float(np.mean([row[video] for row in table.values()])) for video in _videos(table)}
            for table in (first, second)
        ]
        return LabelComparison(
            variant,
            reference,
            labeled,
            measure or self.measures[0],
            interval_over_seeds(differences),
            paired_wilcoxon(means[0], means[1]),
            paired_wilcoxon(means[1], means[0]),
            dict(zip(sorted(first), map(float, differences.mean(axis=1)), strict=True)),
        )

    @property
    def comparisons(self) -> list[LabelComparison]:
        """Return all comparisons by the main measure: pair by pair, each with a rising number of labeled videos."""
        return [
            self.compare(*pair, labeled)
            for pair in self.pairs
            for labeled in self.labeled
            if set(pair) <= set(self._judged_with(labeled))
        ]

    def summary(self) -> list[str]:
        """Return one sentence for each pair, and what limits all of them."""
        lines, compared = [], self.comparisons
        for variant, reference in self.pairs:
            own = [entry for entry in compared if (entry.variant, entry.reference) == (variant, reference)]
            phrases = {"better": "better", "worse": "worse", "not shown": "no difference was shown"}
            parts = [
                f"{phrase} with {list_counts([entry.labeled for entry in own if entry.verdict == verdict])}"
                for verdict, phrase in phrases.items()
                if any(entry.verdict == verdict for entry in own)
            ]
            if parts:
                lines.append(f"'{variant}' against '{reference}': {'; '.join(parts)}.")
        videos = len(self.test_videos)
        limits = f"These are {len(compared)} comparisons on {videos} test videos; one in twenty shows a difference by chance."
        if len(self.seeds) == 1:
            limits += " With one seed nobody knows whether another one gives the same."
        if videos < FEWEST_VIDEOS:
            limits += f" With fewer than {FEWEST_VIDEOS} test videos no test can show a difference."
        return [*lines, limits] if compared else []

    def to_dict(self) -> dict[str, Any]:
        """Return curves, comparisons, verdicts and all points, as JSON can hold them."""
        return {
            "measures": self.measures,
            "test_videos": self.test_videos,
            "seeds": self.seeds,
            "labeled": self.labeled,
            "rule": RULE,
            "verdict": self.summary(),
            "comparisons": [entry.to_dict() for entry in self.comparisons],
            "curves": {
                measure: {
                    variant: {
                        str(labeled): asdict(self.interval(variant, labeled, measure))
                        for labeled in self.labeled
                        if variant in self._judged_with(labeled)
                    }
                    for variant in self.variants
                }
                for measure in self.measures
            },
            "points": [asdict(point) for point in self.points],
        }

    def _judged_with(self, labeled: int) -> list[str]:
        """Return the variants that have points with this number of labeled videos."""
        return list(dict.fromkeys(point.variant for point in self.points if point.labeled == labeled))


def label_efficiency(
    features: Mapping[str, Mapping[int, Sequence[tuple[Features, Features]]]],
    classes: int,
    labeled: Sequence[int] | None = None,
    pairs: Sequence[tuple[str, str]] = (),
) -> LabelEfficiency:
    """Fit linear probes to the features of a few labeled videos and test them.

    Args:
        features: (train, test) features of each fold, by variant and seed; without cross-validation there is one fold. Clips
            of a video are in the order of time.
        classes: number of classes.
        labeled: numbers of labeled videos; by default `label_counts` of the smallest training set.
        pairs: comparisons to make, as (variant, reference).

    Returns:
        The curves, comparisons and verdicts.

    Raises:
        InputError: there are no features, or fewer training videos than are to be labeled, or those of `LabelEfficiency`.

    Example:
        >>> rows = np.arange(40) % 2
        >>> def fold(noise):
        ...     train = Features(np.eye(2)[rows] * noise, rows, np.repeat(["a", "b"], 20))
        ...     return train, Features(np.eye(2)[rows], rows, np.repeat(["c", "d"], 20))
        >>> result = label_efficiency({"pixels": {0: [fold(1)]}, "blind": {0: [fold(0)]}}, 2)
        >>> [(variant, result.interval(variant, 2).value) for variant in result.variants]
        [('pixels', 1.0), ('blind', 0.5)]
    """
    folds = [fold for seeds in features.values() for own in seeds.values() for fold in own]
    if not folds:
        raise InputError("there are no features to fit probes to")
    counts = label_counts(min(len(np.unique(train.videos)) for train, _ in folds)) if labeled is None else labeled
    points = [
        probe_point(variant, seed, count, train, test, classes)
        for variant, seeds in features.items()
        for seed, own in seeds.items()
        for train, test in own
        for count in counts
    ]
    return LabelEfficiency(points, pairs)


def label_counts(videos: int) -> tuple[int, ...]:
    """Return the usual numbers of labeled videos: 1, 2, 4, …, and all.

    Args:
        videos: number of training videos.

    Example:
        >>> label_counts(12)
        (1, 2, 4, 8, 12)
    """
    return tuple(dict.fromkeys([*(2**power for power in range(videos.bit_length())), videos])) if videos else ()


def choose_labeled(videos: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    """Choose the videos that are labeled: a function of their names, the seed and the number, fewer among more.

    Args:
        videos: names of the training videos, in any order.
        count: number of labeled videos.
        seed: seed of the choice.

    Raises:
        InputError: there are fewer videos.

    Example:
        >>> set(choose_labeled(["a", "b", "c"], 1, seed=0)) < set(choose_labeled(["c", "b", "a"], 2, seed=0))
        True
    """
    names = sorted(set(map(str, videos)))
    if not 1 <= count <= len(names):
        raise InputError(f"{count} labeled videos cannot be chosen among {len(names)} training videos")
    return shuffled(tuple(names), seed)[:count]


def probe_point(variant: str, seed: int, labeled: int, train: Features, test: Features, classes: int) -> LabelPoint:
    """Fit a linear probe to the features of a few labeled videos, see `choose_labeled`, and test it."""
    chosen = np.isin(train.videos, choose_labeled(list(train.videos), labeled, seed))
    few = Features(train.values[chosen], train.labels[chosen], train.videos[chosen])
    return score_point(variant, seed, labeled, test.videos, test.labels, linear_probe(few, test, classes))


def measure_clips(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Measure the scores of clips over the classes that occur.

    Args:
        labels: (clips,) class numbers, or (clips, classes) of 0 to 1.
        scores: (clips, classes) probabilities.

    Returns:
        Balanced accuracy (mean recall) and accuracy where a clip has one class; mean average precision where it may have
        several, NaN if no class occurs. All are 0-1.

    Example:
        >>> measure_clips(np.array([0, 0, 0, 1]), np.array([[1, 0], [1, 0], [0, 1], [0, 1]]))["accuracy"]
        0.75
    """
    if labels.ndim == 2:
        precisions = average_precision((labels >= 0.5).astype(int), scores)
        known = precisions[~np.isnan(precisions)]
        return {"mean_average_precision": float(known.mean()) if len(known) else float("nan")}
    correct = scores.argmax(axis=1) == labels
    recalls = [correct[labels == label].mean() for label in np.unique(labels)]
    return {"balanced_accuracy": float(np.mean(recalls)), "accuracy": float(correct.mean())}


def score_point(
    variant: str, seed: int, labeled: int, videos: np.ndarray, labels: np.ndarray, scores: np.ndarray
) -> LabelPoint:
    """Measure the scores of test clips, whatever method gave them.

    The measures are those of `measure_clips`. A test video without any class has no average precision and is left out.

    Args:
        variant: name of the variant.
        seed: seed of the variant.
        labeled: number of labeled videos.
        videos: (clips,) names of the test videos.
        labels: (clips,) class numbers, or (clips, classes) of 0 to 1.
        scores: (clips, classes) probabilities.

    Raises:
        InputError: the shapes do not fit together.
    """
    if len(labels) != len(scores) or len(videos) != len(scores) or not len(scores):
        raise InputError(f"scores of {len(scores)} clips, labels of {len(labels)} and videos of {len(videos)}")
    by_video: dict[str, dict[str, float]] = {}
    for video in np.unique(videos):
        own = videos == video
        for measure, value in measure_clips(labels[own], scores[own]).items():
            by_video.setdefault(measure, {})
            if not np.isnan(value):
                by_video[measure][str(video)] = value
    return LabelPoint(variant, seed, labeled, by_video, measure_clips(labels, scores))


def count_videos(count: int) -> str:
    """Return a number of labeled videos in words.

    Example:
        >>> count_videos(1), count_videos(2)
        ('1 labeled video', '2 labeled videos')
    """
    return f"{count} labeled video{'s' if count != 1 else ''}"


def list_counts(counts: Sequence[int]) -> str:
    """Return several numbers of labeled videos in words.

    Example:
        >>> list_counts([1]), list_counts([1, 2, 4])
        ('1 labeled video', '1, 2 and 4 labeled videos')
    """
    *others, last = counts
    return f"{', '.join(map(str, others))} and {count_videos(last)}" if others else count_videos(last)


def measure_name(measure: str) -> str:
    """Return the name of a measure as people write it.

    Example:
        >>> measure_name("balanced_accuracy")
        'balanced accuracy'
    """
    return measure.replace("_", " ")


def _videos(table: Mapping[int, Mapping[str, float]]) -> list[str]:
    """Return the test videos that every seed has, sorted."""
    return sorted(set.intersection(*(set(scores) for scores in table.values())))


def _array(table: Mapping[int, Mapping[str, float]]) -> np.ndarray:
    """Return (seeds, videos) scores, both sorted."""
    videos = _videos(table)
    return np.array([[table[seed][video] for video in videos] for seed in sorted(table)])
