"""The signed-rank test: known values, symmetry, and what cannot be paired."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.evaluation.metrics.statistics import bootstrap_interval, interval_over_seeds, paired_wilcoxon
from surgvista_hf.modeling.errors_surgvista import InputError

SCORES = st.lists(st.integers(-50, 50), min_size=1, max_size=9, unique_by=abs).filter(lambda values: 0 not in values)


def named(values) -> dict[str, float]:
    return {f"video{number}": float(value) for number, value in enumerate(values)}


@given(SCORES)
@settings(deadline=None)
def test_p_is_the_share_of_all_signs_that_give_as_large_a_rank_sum(differences):
    """By counting all 2ⁿ signs."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    observed = ranks[np.array(differences) > 0].sum()
    sums = [ranks[list(signs)].sum() for signs in itertools.product((False, True), repeat=len(ranks))]
    expected = np.mean(np.array(sums) >= observed)
    result = paired_wilcoxon(named(differences), named([0] * len(differences)))
    assert result.p_value == pytest.approx(expected)
    assert result.wins == sum(value > 0 for value in differences)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
@settings(deadline=None)
def test_the_opposite_claims_cannot_both_be_significant(pairs):
    first, second = (named(values) for values in zip(*pairs, strict=True))
    there, back = paired_wilcoxon(first, second), paired_wilcoxon(second, first)
    assert 0 <= min(there.p_value, back.p_value) <= 1
    assert there.p_value + back.p_value >= 1 - 1e-9
    assert there.mean_difference == pytest.approx(-back.mean_difference)


def test_equal_scores_prove_nothing_and_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = paired_wilcoxon(named([1, 2]), named([1, 2]))
    assert (result.p_value, result.ties, result.wins) == (1.0, 2, 0)


def test_what_floats_leave_beyond_the_twelfth_digit_is_no_win_and_no_rank():
    noisy = paired_wilcoxon(named([0.1 + 0.2, 0.9, 0.8]), named([0.3, 0.8, 0.7 + 1e-15]))
    assert (noisy.wins, noisy.ties) == (2, 1)
    assert noisy.p_value == paired_wilcoxon(named([0, 1, 1]), named([0, 0, 0])).p_value


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(InputError, match=r"unpaired: b, c"):
        paired_wilcoxon({"a": 1, "b": 2}, {"a": 1, "c": 2})
    with pytest.raises(InputError, match="no videos"):
        paired_wilcoxon({}, {})
    with pytest.raises(InputError, match="not a number"):
        paired_wilcoxon({"a": float("nan")}, {"a": 0})


# ------------------------------------------------------------------------------------------- bootstrap


def test_the_interval_holds_the_mean_as_often_as_it_says():
    held = 0
    for seed in range(200):
        scores = named(np.random.default_rng(seed).normal(0.5, 0.1, 30))
        interval = bootstrap_interval(
            lambda drawn, s=scores: float(np.mean([s[v] for v in drawn])), list(scores), seed=seed
        )
        held += interval.low <= 0.5 <= interval.high
    assert 180 <= held <= 198


def test_one_video_has_no_spread_and_the_draws_repeat():
    def first(drawn):
        return float(len(set(drawn)))

    assert bootstrap_interval(first, ["a"]).low == bootstrap_interval(first, ["a"]).high == 1
    assert bootstrap_interval(first, list("abcdef")) == bootstrap_interval(first, list("abcdef"))
    with pytest.raises(InputError, match="no videos"):
        bootstrap_interval(first, [])


# ------------------------------------------------------------------------------------------- seeds


def test_with_one_seed_the_interval_is_that_of_the_videos():
    scores = np.random.default_rng(0).random(30)
    named_scores = named(scores)
    ours = interval_over_seeds(scores[None], resamples=20_000)
    videos = bootstrap_interval(
        lambda drawn: float(np.mean([named_scores[video] for video in drawn])), list(named_scores), resamples=20_000
    )
    assert (ours.low, ours.high) == pytest.approx((videos.low, videos.high), abs=0.003)
    assert ours.value == pytest.approx(scores.mean())


def test_seeds_that_disagree_widen_the_interval_and_copies_do_not():
    scores = np.random.default_rng(0).random((1, 30))
    alone, copied = (
        interval_over_seeds(scores, resamples=20_000),
        interval_over_seeds(np.repeat(scores, 5, axis=0), resamples=20_000),
    )
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=0.003)
    apart = interval_over_seeds(scores + np.array([[-0.3], [0.0], [0.3]]))
    assert apart.value == pytest.approx(alone.value)
    assert apart.low < alone.low - 0.1
    assert apart.high > alone.high + 0.1


def test_the_interval_over_seeds_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        scores = generator.normal(0, 1, (10, 1)) + generator.normal(0, 1, (1, 20)) + generator.normal(0, 1, (10, 20))
        interval = interval_over_seeds(scores, resamples=500)
        covered += interval.low <= 0 <= interval.high
    assert 0.88 <= covered / 200 <= 1


@pytest.mark.parametrize("scores", [np.zeros((0, 3)), np.zeros(3), np.array([[np.nan, 1.0]])])
def test_scores_without_an_interval_are_refused(scores):
    with pytest.raises(InputError, match="seeds, videos"):
        interval_over_seeds(scores)
