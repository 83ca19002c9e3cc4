"""Metrics of classes and criteria, by hand and against scikit-learn."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.evaluation.metrics.classification import (
    classification_metrics,
    cvs_metrics,
    expected_calibration_error,
    presence_metrics,
)
from surgvista_hf.modeling.errors_surgvista import InputError


@given(seed=st.integers(0, 10**6), samples=st.integers(2, 60), classes=st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_classification_is_that_of_scikit_learn(seed, samples, classes):
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, samples)
    probabilities = generator.dirichlet(np.ones(classes), samples)
    predicted = probabilities.argmax(1)
    result = classification_metrics(labels, probabilities)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert result.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
        assert result.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
        for name in ("precision", "recall", "f1"):
            expected = getattr(metrics, f"{name}_score")(labels, predicted, average="macro", zero_division=0)
            assert getattr(result, f"macro_{name}") == pytest.approx(expected)
    json.dumps(result.to_dict(), allow_nan=False)


def test_top_k_counts_the_k_most_probable():
    probabilities = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    assert classification_metrics(np.array([2, 0]), probabilities, top_k=(1, 3)).top_k == {1: 0.0, 3: 0.5}


def test_calibration_is_0_when_confidence_is_accuracy_and_large_when_it_is_not():
    probabilities = np.tile([0.8, 0.2], (10, 1))
    assert expected_calibration_error(np.array([0] * 8 + [1] * 2), probabilities) == pytest.approx(0)
    assert expected_calibration_error(np.ones(10, int), probabilities) == pytest.approx(0.8)


def test_criteria_are_ranked_one_by_one_and_annotators_vote():
    labels = np.array([[1, 0, 2 / 3], [0, 0, 1 / 3], [1, 0, 0.0]])
    scores = np.array([[0.9, 0.5, 0.8], [0.8, 0.2, 0.9], [0.1, 0.1, 0.1]])
    result = cvs_metrics(labels, scores)
    assert result.by_criterion["two_structures"] == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(result.by_criterion["hepatocystic_triangle_cleared"])
    assert result.by_criterion["cystic_plate_exposed"] == pytest.approx(0.5)
    assert result.mean == pytest.approx(((1 + 2 / 3) / 2 + 0.5) / 2)
    assert result.to_dict()["ap_hepatocystic_triangle_cleared"] is None
    assert "guessing 66.7%" in str(result)


@given(seed=st.integers(0, 10**6), samples=st.integers(1, 60), classes=st.integers(2, 6))
@settings(max_examples=15, deadline=None)
def test_presence_is_that_of_scikit_learn(seed, samples, classes):
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(seed)
    labels = (generator.random((samples, classes)) > generator.random(classes)).astype(int)
    scores = generator.random((samples, classes)).round(1)  # some are equal
    videos, names = generator.integers(0, 3, samples).astype(str), tuple(map(str, range(classes)))
    result = presence_metrics(labels, scores, names=names, videos=videos)
    said = scores >= 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for average in ("macro", "micro"):
            f1 = metrics.f1_score(labels, said, average=average, zero_division=np.nan if average == "macro" else 0)
            assert getattr(result, f"{average}_f1") == pytest.approx(np.nan_to_num(f1))
        assert result.subset_accuracy == pytest.approx(metrics.accuracy_score(labels, said))
        known = labels.any(axis=1)
        if known.any():
            ranked = metrics.label_ranking_average_precision_score(labels[known], scores[known])
            assert result.label_ranking_precision == pytest.approx(ranked)
            by_video = [
                metrics.average_precision_score(labels[own][:, there], scores[own][:, there])
                for own in (videos == name for name in np.unique(videos))
                if (there := labels[own].any(axis=0)).any()
            ]
            assert result.video_mean_average_precision == pytest.approx(np.mean(by_video))
    json.dumps(result.to_dict(), allow_nan=False)


def test_without_any_tool_and_any_claim_nothing_is_found_and_nothing_is_wrong():
    result = presence_metrics(
        np.zeros((3, 2)), np.zeros((3, 2)), names=("Grasper", "Hook"), videos=np.array(["a"] * 3)
    )
    assert (result.macro_f1, result.micro_f1, result.subset_accuracy) == (0.0, 0.0, 1.0)
    said = result.to_dict()
    assert said["mean_average_precision"] is said["video_mean_average_precision"] is None
    assert "all classes right 100.0%" in str(result)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [[0.5, 0.5]], "are needed"),
        ([0, 2], [[0.5, 0.5]] * 2, "class numbers in 0 … 1"),
        ([0, 1], [[2.0, -3.0]] * 2, "apply softmax"),
        ([], np.zeros((0, 2)), "are needed"),
    ],
)
def test_what_is_no_classification_is_refused(labels, probabilities, message):
    with pytest.raises(InputError, match=message):
        classification_metrics(np.array(labels, int), np.array(probabilities))
    with pytest.raises(InputError, match="needed twice"):
        cvs_metrics(np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(InputError, match="fractions in 0"):
        cvs_metrics(np.full((2, 3), 3.0), np.zeros((2, 3)))
