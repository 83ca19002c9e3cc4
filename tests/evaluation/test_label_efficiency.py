"""Label efficiency: nested choices, the same tests for all, and no claim beyond what interval and test show."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from surgvista_hf.evaluation.label_efficiency import (
    LabelEfficiency,
    LabelPoint,
    choose_labeled,
    label_counts,
    label_efficiency,
    probe_point,
    score_point,
)
from surgvista_hf.evaluation.probes import Features
from surgvista_hf.modeling.errors_surgvista import InputError

PAIR = [("pre-trained", "untrained")]


def features(seed: int, videos: int, signal: float, name: str) -> Features:
    """Three classes in eight dimensions, thirty clips a video, in which each video has an offset of its own."""
    generator = np.random.default_rng(seed)
    labels = np.tile(np.repeat(np.arange(3), 10), videos)
    values = signal * np.random.default_rng(99).normal(size=(3, 8))[labels]
    values = (
        values + np.repeat(generator.normal(size=(videos, 8)), 30, axis=0) + generator.normal(size=(len(labels), 8))
    )
    return Features(values, labels, np.repeat([f"{name}{number}" for number in range(videos)], 30))


def both(signals: dict[str, float], seeds: int = 2, videos: int = 8, tests: int = 7):
    return {
        variant: {
            seed: [(features(seed, videos, signal, "train"), features(100 + seed, tests, signal, "test"))]
            for seed in range(seeds)
        }
        for variant, signal in signals.items()
    }


def points(scores: dict[str, list[list[float]]], labeled: int = 1) -> list[LabelPoint]:
    """Points of variants from (seeds, videos) scores."""
    return [
        LabelPoint(variant, seed, labeled, {"accuracy": {f"v{n}": value for n, value in enumerate(row)}}, {})
        for variant, rows in scores.items()
        for seed, row in enumerate(rows)
    ]


@given(st.sets(st.text(min_size=1, max_size=5), min_size=1, max_size=20), st.integers(0, 99), st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_labeled_videos_follow_from_seed_and_number_and_fewer_are_among_more(names, seed, random):
    order = list(names)
    random.shuffle(order)
    chosen = [choose_labeled(order, count, seed) for count in range(1, len(names) + 1)]
    for number, smaller in enumerate(chosen):
        assert len(set(smaller)) == number + 1
        assert set(smaller) <= set(chosen[-1]) == names
        assert smaller == chosen[-1][: number + 1] == choose_labeled(sorted(names), number + 1, seed)


def test_seeds_choose_other_videos_and_counts_double_up_to_all():
    names = [f"video{number}" for number in range(16)]
    assert len({choose_labeled(names, 4, seed) for seed in range(10)}) == 10
    assert [label_counts(videos) for videos in (0, 1, 2, 6, 16)] == [(), (1,), (1, 2), (1, 2, 4, 6), (1, 2, 4, 8, 16)]
    with pytest.raises(InputError, match="17 labeled videos cannot be chosen among 16"):
        choose_labeled(names, 17, 0)


def test_clips_that_are_not_labeled_play_no_part():
    train, test = features(0, 8, 1.0, "train"), features(1, 5, 1.0, "test")
    few = choose_labeled(list(train.videos), 2, seed=3)
    spoiled = np.where(np.isin(train.videos, few)[:, None], train.values, 1e3)
    other = Features(spoiled, np.where(np.isin(train.videos, few), train.labels, 0), train.videos)
    assert probe_point("x", 3, 2, other, test, 3) == probe_point("x", 3, 2, train, test, 3)
    assert probe_point("x", 3, 4, other, test, 3) != probe_point("x", 3, 4, train, test, 3)


def test_measures_are_those_of_scikit_learn_by_video():
    generator = np.random.default_rng(0)
    videos, labels = np.repeat(["a", "b"], 50), generator.integers(0, 4, 100)
    scores = generator.dirichlet(np.ones(4), 100)
    found = score_point("x", 0, 1, videos, labels, scores)
    assert list(found.by_video) == ["balanced_accuracy", "accuracy"]
    for video in ("a", "b"):
        own = videos == video
        expected = balanced_accuracy_score(labels[own], scores[own].argmax(axis=1))
        assert found.by_video["balanced_accuracy"][video] == pytest.approx(expected)
    assert found.overall["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, scores.argmax(axis=1)))
    several = generator.integers(0, 2, (100, 4)) * (videos == "a")[:, None]
    found = score_point("x", 0, 1, videos, several, scores)
    assert list(found.by_video["mean_average_precision"]) == ["a"]  # no instrument is ever seen in the other
    expected = average_precision_score(several[:50], scores[:50], average="macro")
    assert found.by_video["mean_average_precision"]["a"] == pytest.approx(expected)


def test_better_features_are_found_better_and_equal_ones_are_not():
    result = label_efficiency(
        both({"pre-trained": 1.5, "untrained": 0.3, "twin": 0.3}), 3, pairs=[*PAIR, ("twin", "untrained")]
    )
    assert result.labeled == [1, 2, 4, 8]
    verdicts = {(entry.variant, entry.labeled): entry.verdict for entry in result.comparisons}
    assert [verdicts["pre-trained", count] for count in (2, 4, 8)] == ["better"] * 3
    assert {verdicts["twin", count] for count in result.labeled} == {"not shown"}
    lines = result.summary()
    assert "better with" in lines[0]
    assert lines[1] == "'twin' against 'untrained': no difference was shown with 1, 2, 4 and 8 labeled videos."
    assert "8 comparisons on 7 test videos" in lines[2]
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert len(content["points"]) == 3 * 2 * 4
    assert content["verdict"] == lines


def test_several_labels_are_judged_by_average_precision():
    sets = both({"pre-trained": 1.5, "untrained": 0.1})
    several = {
        variant: {
            seed: [
                tuple(Features(part.values, np.eye(3)[part.labels], part.videos) for part in fold) for fold in folds
            ]
            for seed, folds in seeds.items()
        }
        for variant, seeds in sets.items()
    }
    result = label_efficiency(several, 3, (4,), PAIR)
    assert result.measures == ["mean_average_precision"]
    assert result.comparisons[0].verdict == "better"


def test_a_difference_of_one_seed_or_of_few_videos_is_not_claimed():
    low, high = [0.5, 0.52, 0.54, 0.5, 0.52, 0.5], [0.7, 0.71, 0.74, 0.72, 0.7, 0.69]
    shown = LabelEfficiency(points({"pre-trained": [high, high], "untrained": [low, low]}), PAIR)
    assert shown.comparisons[0].verdict == "better"
    assert "'pre-trained' against 'untrained': better, +19.7 points of accuracy" in shown.comparisons[0].sentence
    one_seed = LabelEfficiency(points({"pre-trained": [high, low, low], "untrained": [low, low, low]}), PAIR)
    assert one_seed.comparisons[0].better.p_value <= 0.05  # videos alone would have shown it
    assert one_seed.comparisons[0].verdict == "not shown"
    assert "higher with 1 of 3 seeds" in one_seed.comparisons[0].sentence
    few = LabelEfficiency(points({"pre-trained": [high[:4]] * 2, "untrained": [low[:4]] * 2}), PAIR)
    assert few.comparisons[0].difference.low > 0
    assert few.comparisons[0].verdict == "not shown"
    assert "fewer than 5 videos" in few.comparisons[0].sentence
    assert "fewer than 5 test videos" in few.summary()[-1]
    same = LabelEfficiency(points({"pre-trained": [low] * 2, "untrained": [low] * 2}), PAIR)
    assert same.comparisons[0].verdict == "not shown"


def test_what_is_worse_is_called_worse():
    low, high = [0.5, 0.52, 0.54, 0.5, 0.52, 0.5], [0.7, 0.71, 0.74, 0.72, 0.7, 0.69]
    result = LabelEfficiency(points({"pre-trained": [low], "untrained": [high]}), PAIR)
    assert result.comparisons[0].verdict == "worse"
    assert "'pre-trained' against 'untrained': worse, -19.7 points" in result.comparisons[0].sentence
    assert result.summary()[0] == "'pre-trained' against 'untrained': worse with 1 labeled video."
    assert "With one seed" in result.summary()[-1]


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_seldom_taken_for_a_difference(seed):
    generator = np.random.default_rng(seed)
    claims = 0
    for _ in range(100):
        rows = {name: generator.normal(0.5, 0.1, (3, 8)).tolist() for name in PAIR[0]}
        claims += LabelEfficiency(points(rows), PAIR).comparisons[0].verdict != "not shown"
    assert claims <= 10


def test_folds_are_put_together_and_their_videos_may_not_repeat():
    whole = points({"pre-trained": [[0.1, 0.2, 0.3]]})
    values = whole[0].by_video["accuracy"]
    folds = [LabelPoint("pre-trained", 0, 1, {"accuracy": {video: value}}, {}) for video, value in values.items()]
    assert LabelEfficiency(folds).scores("pre-trained", 1) == LabelEfficiency(whole).scores("pre-trained", 1)
    with pytest.raises(InputError, match="two scores of v0"):
        LabelEfficiency([*folds, folds[0]])


def test_variants_of_other_videos_or_seeds_are_not_compared():
    with pytest.raises(InputError, match="must be the same"):
        LabelEfficiency(points({"pre-trained": [[0.1, 0.2]], "untrained": [[0.1]]}), PAIR)
    with pytest.raises(InputError, match=r"seeds \[0\]"):
        LabelEfficiency(points({"pre-trained": [[0.1]] * 2, "untrained": [[0.1]]}), PAIR)
    with pytest.raises(InputError, match="no points"):
        LabelEfficiency([], PAIR)
    with pytest.raises(InputError, match="no features"):
        label_efficiency({}, 2)
