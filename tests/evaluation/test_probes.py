"""The probes: as good as the features are, fair to the test, indifferent to order and scale."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.evaluation.probes import (
    PENALTIES,
    Features,
    accuracy_by_video,
    draw_shots,
    knn_probe,
    linear_probe,
    prototype_probe,
    ridge_probe,
)
from surgvista_hf.modeling.errors_surgvista import InputError


def features(seed: int, clips: int = 200, noise: float = 0.0) -> Features:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, clips)
    centers = np.random.default_rng(0).normal(size=(4, 6))
    values = centers[labels] + noise * generator.normal(size=(clips, 6))
    return Features(values, labels, np.array([f"v{number % 10}" for number in range(clips)]))


def test_separable_classes_are_told_apart_and_noise_is_not():
    test = features(1)
    assert (ridge_probe(features(2), test) == test.labels).all()
    noisy = features(3, clips=2000, noise=100.0)
    assert (ridge_probe(noisy, features(4, 2000, noise=100.0)) == features(4, 2000, noise=100.0).labels).mean() < 0.35


@given(st.permutations(range(60)), st.floats(0.1, 1000), st.floats(-1000, 1000))
@settings(max_examples=20, deadline=None)
def test_order_scale_and_offset_of_the_features_do_not_matter(order, scale, offset):
    train, test = features(5, 60, 1.0), features(6, 40, 1.0)
    expected = ridge_probe(train, test)
    shuffled = Features(train.values[order] * scale + offset, train.labels[order], train.videos[order])
    moved = Features(test.values * scale + offset, test.labels, test.videos)
    assert (ridge_probe(shuffled, moved) == expected).mean() > 0.97


def test_a_class_keeps_its_number_though_others_never_occur():
    train, test = features(1), features(2)
    shifted = Features(train.values, train.labels * 10 + 7, train.videos)
    assert np.array_equal(ridge_probe(shifted, test), ridge_probe(train, test) * 10 + 7)


def test_accuracy_is_told_by_video():
    test = Features(np.zeros((4, 1)), np.array([0, 1, 1, 0]), np.array(["a", "a", "b", "b"]))
    assert accuracy_by_video(test, np.array([0, 0, 1, 0])) == {"a": 0.5, "b": 1.0}


def test_what_cannot_be_asked_is_refused():
    one = Features(np.zeros((1, 2)), np.zeros(1, int), np.array(["a"]))
    with pytest.raises(InputError, match="got 1 clips"):
        ridge_probe(one, one)
    with pytest.raises(InputError, match="got 1 clips"):
        linear_probe(one, one, 2)
    with pytest.raises(InputError, match="widths 6 and 2"):
        ridge_probe(features(1), one)


def test_a_single_video_chooses_its_penalty_by_blocks_of_time():
    generator = np.random.default_rng(0)
    drift = np.repeat(generator.normal(size=(50, 30)), 8, axis=0)  # what only neighbors in time have in common
    labels = np.arange(400) // 8 % 2
    values = np.c_[3 * drift, labels + 0.3 * generator.normal(size=400)]
    train = Features(values, labels, np.full(400, "only"))
    drift = np.repeat(generator.normal(size=(50, 30)), 8, axis=0)
    test = Features(np.c_[3 * drift, labels + 0.3 * generator.normal(size=400)], labels, np.full(400, "other"))
    scores = linear_probe(train, test, 2)
    assert (scores.argmax(axis=1) == labels).mean() > 0.8
    chosen = [penalty for penalty in PENALTIES if np.array_equal(scores, linear_probe(train, test, 2, (penalty,)))]
    order = generator.permutation(400)  # were single clips held out, neighbors would vouch for the weakest penalty
    mixed = Features(train.values[order], labels[order], train.videos)
    weakest = linear_probe(mixed, test, 2)
    assert len(chosen) == 1
    assert np.abs(weakest - scores).max() > 0.05
    for clips in (2, 3, 7, 19, 21, 39):
        few = Features(values[:clips], np.arange(clips) % 2, train.videos[:clips])
        assert np.isfinite(linear_probe(few, test, 2)).all()
        assert set(ridge_probe(few, test)) <= {0, 1}


# ------------------------------------------------------------------------------------------- logistic regression, neighbors


def separable(seed: int, count: int = 120) -> Features:
    generator = np.random.default_rng(seed)
    labels = generator.integers(3, size=count)
    centers = np.random.default_rng(99).normal(size=(3, 8)) * 2
    values = centers[labels] + generator.normal(size=(count, 8))
    return Features(values, labels, np.array([f"video{number % 6}" for number in range(count)]))


def test_logistic_regression_finds_the_minimum_that_scikit_learn_finds():
    from sklearn.linear_model import LogisticRegression

    train, test = separable(0), separable(1)
    ours = linear_probe(train, test, 3, penalties=(0.01,))
    mean, std = train.values.mean(axis=0), train.values.std(axis=0) + 1e-6
    theirs = LogisticRegression(C=1 / (0.01 * len(train.values)), tol=1e-8, max_iter=5000)
    theirs.fit((train.values - mean) / std, train.labels)
    np.testing.assert_allclose(ours, theirs.predict_proba((test.values - mean) / std), atol=2e-3)
    assert (ours.argmax(axis=1) == test.labels).mean() > 0.8


def test_neighbors_vote_as_scikit_learn_has_them():
    from sklearn.neighbors import KNeighborsClassifier

    train, test = separable(0), separable(1)
    theirs = KNeighborsClassifier(
        5, metric="cosine", algorithm="brute", weights=lambda distance: np.exp(-distance / 0.07)
    ).fit(train.values, train.labels)
    np.testing.assert_allclose(knn_probe(train, test, 3, k=5), theirs.predict_proba(test.values), atol=1e-4)


def test_several_labels_are_probed_one_by_one():
    train, test = separable(0), separable(1)
    both = [Features(part.values, np.eye(3)[part.labels][:, :2], part.videos) for part in (train, test)]
    for scores in (linear_probe(*both, 2), knn_probe(*both, 2)):
        assert scores.shape == (120, 2)
        right = [(scores[:, column] > 0.5) == both[1].labels[:, column] for column in range(2)]
        assert np.mean(right) > 0.85


@pytest.mark.parametrize("shots", [1, 5, 16])
def test_prototypes_are_means_of_the_drawn_clips_alone(shots):
    train, test = separable(0), separable(1)
    drawn = draw_shots(train, 3, shots, seed=7)
    assert np.bincount(train.labels[drawn]).tolist() == [shots] * 3
    scores = prototype_probe(train, test, 3, shots=shots, seed=7)
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    center = train.values[drawn].mean(axis=0)
    for number in (0, 50, 119):
        query = (test.values[number] - center) / np.linalg.norm(test.values[number] - center)
        cosines = []
        for label in range(3):
            own = [train.values[i] - center for i in drawn if train.labels[i] == label]
            mean = np.mean([clip / np.linalg.norm(clip) for clip in own], axis=0)
            cosines.append(query @ mean / np.linalg.norm(mean))
        expected = np.exp(np.array(cosines) / 0.07)
        np.testing.assert_allclose(scores[number], expected / expected.sum(), atol=1e-9)
    others = Features(train.values.copy(), train.labels, train.videos)
    others.values[np.setdiff1d(np.arange(120), drawn)] = 1e3  # clips that were not drawn play no part
    np.testing.assert_array_equal(scores, prototype_probe(others, test, 3, shots=shots, seed=7))
    if shots > 1:
        assert (scores.argmax(axis=1) == test.labels).mean() > 0.8


def test_shots_come_from_as_many_videos_as_possible_and_depend_on_the_seed_alone():
    train = separable(0)
    for seed in range(5):
        drawn = draw_shots(train, 3, 6, seed=seed)
        for label in range(3):
            assert len(set(train.videos[drawn[train.labels[drawn] == label]])) == 6
        assert drawn.tolist() == draw_shots(train, 3, 6, seed=seed).tolist()
    assert draw_shots(train, 3, 6, seed=0).tolist() != draw_shots(train, 3, 6, seed=1).tolist()
    rare = Features(train.values[:5], np.array([0, 0, 0, 0, 1]), train.videos[:5])
    assert np.bincount(rare.labels[draw_shots(rare, 3, 16)]).tolist() == [4, 1]  # all there are, none of the third
    scores = prototype_probe(rare, separable(1), 3, shots=16)
    assert (scores[:, 2] == 0).all()
    assert np.isfinite(scores).all()
    with pytest.raises(InputError, match="shots is 0"):
        draw_shots(train, 3, 0)


def test_prototypes_of_several_labels_compare_clips_with_and_without_each():
    train, test = separable(0), separable(1)
    both = [Features(part.values, np.eye(3)[part.labels], part.videos) for part in (train, test)]
    scores = prototype_probe(*both, 3, shots=5)
    assert scores.shape == (120, 3)
    right = [(scores[:, column] > 0.5) == (test.labels == column) for column in range(3)]
    assert np.mean(right) > 0.85
    unknown = [Features(part.values, np.eye(4)[part.labels], part.videos) for part in (train, test)]
    assert (prototype_probe(*unknown, 4, shots=5)[:, 3] == 0).all()


def test_probes_of_features_that_do_not_fit_are_refused():
    train = separable(0)
    with pytest.raises(InputError, match="prototypes of width 8"):
        prototype_probe(train, Features(train.values[:, :3], train.labels, train.videos), 3)
    narrow = Features(train.values[:, :3], train.labels, train.videos)
    with pytest.raises(InputError, match="width"):
        linear_probe(train, narrow, 3)
    with pytest.raises(InputError, match="width"):
        knn_probe(train, narrow, 3)
    with pytest.raises(InputError, match="500 neighbors among 120"):
        knn_probe(train, train, 3, k=500)
