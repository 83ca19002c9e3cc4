"""What is labeled next: uncertain, unlike each other, far enough apart, and the same every time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf import InputError
from surgvista_hf.inference.prediction.label_selection import choose_segments, uncertainty


def test_uncertainty_is_zero_where_a_model_is_sure_and_one_where_it_cannot_tell():
    sure, torn = [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]
    assert uncertainty(np.array([sure, torn])).tolist() == [0.0, 1.0]
    assert uncertainty(np.array([[1.0, 0.0], [0.5, 0.5]]), multi_label=True) == pytest.approx([0.0, 1.0], abs=1e-9)
    assert uncertainty(np.ones((2, 1))).tolist() == [0.0, 0.0]


def test_a_sharper_model_is_less_uncertain():
    """A temperature below 1 sharpens: calibration matters for what is suggested."""
    logits = np.random.default_rng(0).normal(size=(50, 5))
    soft = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sharp = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)
    assert (uncertainty(sharp) <= uncertainty(soft) + 1e-12).all()


def test_the_same_moment_is_not_chosen_ten_times():
    """Ten uncertain segments that look the same, and one that is less uncertain and looks otherwise."""
    features = np.r_[np.random.default_rng(0).normal(0, 1e-3, (10, 4)), np.full((1, 4), 3.0)]
    chosen = choose_segments(np.r_[np.full(10, 0.9), 0.4], features, 2)
    assert chosen == [0, 10]


def test_of_two_that_differ_alike_the_uncertain_one_is_chosen():
    features = np.array([[0.0], [1.0], [-1.0]])
    assert choose_segments(np.array([0.9, 0.2, 0.3]), features, 2) == [0, 2]


def test_what_has_a_label_already_is_not_asked_for_again():
    features = np.array([[0.0], [0.05], [4.0]])
    scores = np.array([0.9, 0.9, 0.5])
    assert choose_segments(scores, features, 1) == [0]
    assert choose_segments(scores, features, 1, known=np.array([[0.0]])) == [2]


def test_many_labeled_segments_are_compared_as_one_by_one():
    random = np.random.default_rng(2)
    features, known = random.normal(size=(40, 6)), random.normal(size=(700, 6))
    (first,) = choose_segments(np.ones(40), features, 1, known=known)
    scale = features.std(axis=0)
    distances = np.linalg.norm((features[:, None] - known) / scale, axis=2).min(axis=1)
    assert first == distances.argmax()


def test_equal_segments_are_chosen_in_their_order():
    assert choose_segments(np.zeros(4), np.zeros((4, 2)), 4) == [0, 1, 2, 3]


def test_no_more_videos_are_taken_than_somebody_wants_to_open():
    random = np.random.default_rng(1)
    videos = [f"v{number % 6}" for number in range(60)]
    options = {"videos": videos, "starts": np.arange(60.0)}
    chosen = choose_segments(random.random(60), random.normal(size=(60, 3)), 12, **options, most_videos=2)
    assert len({videos[row] for row in chosen}) == 2
    assert len(chosen) == 12


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_segments_of_a_video_keep_their_distance_and_repeat(candidates, count, distance, seed):
    random = np.random.default_rng(seed)
    videos = random.integers(3, size=candidates).astype(str).tolist()
    starts = random.permutation(200)[:candidates].astype(float)
    scores, features = random.random(candidates), random.normal(size=(candidates, 4))
    options = {"videos": videos, "starts": starts, "least_distance": float(distance)}
    chosen = choose_segments(scores, features, count, **options)
    assert chosen == choose_segments(scores, features, count, **options)
    assert len(set(chosen)) == len(chosen) <= count
    for first in chosen:
        for second in chosen:
            if first != second and videos[first] == videos[second]:
                assert abs(starts[first] - starts[second]) >= distance
    if len(chosen) < count:  # nothing more was far enough away
        for row in set(range(candidates)) - set(chosen):
            assert any(videos[row] == videos[each] and abs(starts[row] - starts[each]) < distance for each in chosen)


@pytest.mark.parametrize(
    ("scores", "features", "reason"),
    [
        (np.zeros(2), np.zeros((3, 1)), "do not fit"),
        (np.zeros(2), np.zeros(2), "do not fit"),
        (np.array([0.0, np.nan]), np.zeros((2, 1)), "finite"),
        (np.zeros(2), np.array([[0.0], [np.inf]]), "finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(scores, features, reason):
    with pytest.raises(InputError, match=reason):
        choose_segments(scores, features, 1)
