"""Triplet metrics are those of the official toolkit, and null classes are left out by name, not by place."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.evaluation.metrics.ranking import average_precision
from surgvista_hf.evaluation.metrics.triplets import COMPONENTS, triplet_metrics
from surgvista_hf.modeling.errors_surgvista import InputError

# Computed with the official toolkit, and by an independent program, in percent.
CHECKED = {
    "cholect50": (100, (77.0803, 43.5180, 38.3679, 40.4020, 30.2513, 28.7712), 29.1210),
    "prostate21": (89, (66.9068, 51.6373, 42.4289, 40.1732, 31.3740, 29.4563), None),
}


def formula(classes: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    labels, scores = {}, {}
    for video, frames in ((0, 12), (1, 9)):
        f, k = np.arange(frames)[:, None], np.arange(classes)
        scores[f"v{video}"] = ((37 * f + 61 * k + 11 * video) % 97) / 97
        labels[f"v{video}"] = ((13 * f + 7 * k + 5 * video) % 23 == 0).astype(int)
    return labels, scores


@pytest.mark.parametrize("table", CHECKED)
def test_the_check_values_of_the_official_toolkit(table):
    classes, expected, whole = CHECKED[table]
    result = triplet_metrics(*formula(classes), components=table)
    found = [result.to_dict()[f"ap_{name}"] * 100 for name in COMPONENTS]
    assert found == pytest.approx(expected, abs=1e-4)
    if whole:
        assert result.all_classes * 100 == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_official_toolkit_itself_agrees(seed, ties, monkeypatch):
    """With the scikit-learn it was written for: a class without positives gave -0; today's 0 it takes for a score."""
    ivtmetrics = pytest.importorskip("ivtmetrics")
    theirs = ivtmetrics.recognition.average_precision_score

    def as_it_was(targets, predictions, average=None):
        return np.where(targets.any(axis=0), theirs(targets, predictions, average=average), -0.0)

    monkeypatch.setattr(ivtmetrics.recognition, "average_precision_score", as_it_was)
    generator = np.random.default_rng(seed)
    labels, scores = {}, {}
    official = ivtmetrics.Recognition(num_class=100)
    for video in range(3):
        frames = int(generator.integers(5, 40))
        labels[f"v{video}"] = (generator.random((frames, 100)) < 0.05).astype(int)
        scores[f"v{video}"] = generator.random((frames, 100)).round(1 if ties else 6)
        official.update(labels[f"v{video}"], scores[f"v{video}"])
        official.video_end()
    result = triplet_metrics(labels, scores)
    pooled = triplet_metrics(labels, scores, protocol="global", ignore_null=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in COMPONENTS:
            assert result.mean(name) == pytest.approx(
                official.compute_video_AP(name, ignore_null=name == "ivt")["mAP"], abs=1e-6
            )
            assert pooled.mean(name) == pytest.approx(official.compute_global_AP(name)["mAP"], abs=1e-6)
        if not ties:  # which of equal scores come first is nobody's rule
            assert result.recall_at[5] == pytest.approx(official.topK(5, "ivt"), abs=1e-6)


@given(seed=st.integers(0, 10**6), samples=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_average_precision_is_that_of_scikit_learn(seed, samples):
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, (samples, 3))
    scores = generator.random((samples, 3)).round(1)
    for number, value in enumerate(average_precision(labels, scores)):
        if labels[:, number].any():
            assert value == pytest.approx(metrics.average_precision_score(labels[:, number], scores[:, number]))
        else:
            assert np.isnan(value)


def test_null_classes_can_be_kept_or_chosen():
    labels, scores = formula(100)
    assert triplet_metrics(labels, scores).null_classes == tuple(range(94, 100))
    kept = triplet_metrics(labels, scores, ignore_null=False)
    assert kept.mean("ivt") == kept.all_classes
    last_six = triplet_metrics(*formula(89), components="prostate21", ignore_null=range(83, 89))
    assert last_six.mean("ivt") * 100 == pytest.approx(28.5811, abs=1e-4)
    assert triplet_metrics(*formula(89), components="prostate21").null_classes == (21, 45, 53, 66, 79, 85, 88)


def test_the_result_names_its_protocol():
    result = triplet_metrics(*formula(100))
    assert "per video" in str(result)
    assert "94 classes; over all 100" in str(result)
    assert result.to_dict()["classes"] == 94


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"components": "cholec80"}, "no table of triplets for 'cholec80'"),
        ({"components": [(0, 1)]}, r"\(classes, 3\) whole numbers"),
        ({"components": "prostate21"}, r"\(frames, 89\) are needed"),
        ({"ignore_null": [100]}, "there are 0 to 99"),
        ({"protocol": "mean"}, "video or global"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        triplet_metrics(*formula(100), **changes)


def test_scores_that_are_no_numbers_and_other_videos_are_refused():
    labels, scores = formula(100)
    with pytest.raises(InputError, match="same videos"):
        triplet_metrics(labels, {"v0": scores["v0"]})
    with pytest.raises(InputError, match="finite"):
        triplet_metrics(labels, {name: values * np.nan for name, values in scores.items()})
