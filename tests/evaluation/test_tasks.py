"""Tasks: what a label column asks for, predictions by video in order, the metrics of every kind."""

import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf import classification_metrics, cvs_metrics, phase_metrics, triplet_metrics
from surgvista_hf.evaluation.metrics.workflow import forgiven
from surgvista_hf.evaluation.tasks import ClipPredictions, Kind, Task
from surgvista_hf.modeling.errors_surgvista import InputError

PHASES = tuple(f"phase {number}" for number in range(7))


def predictions(labels: np.ndarray, scores: np.ndarray, videos: int = 3) -> ClipPredictions:
    """Rows spread over videos, in any order of videos and frames."""
    count = len(labels)
    names = np.array([f"set/video{number % videos}" for number in range(count)])
    frames = np.arange(count) // videos
    return ClipPredictions(names, frames, frames.astype(float), labels, scores)


def random_scores(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(classes, size=count), generator.dirichlet(np.ones(classes), size=count)


@given(st.integers(0, 1000), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_the_order_of_the_clips_changes_no_figure(seed, chance):
    labels, scores = random_scores(seed, 60, 7)
    whole = predictions(labels, scores)
    order = list(range(60))
    chance.shuffle(order)
    mixed = ClipPredictions(
        *(getattr(whole, name)[order] for name in ("videos", "frames", "seconds", "labels", "scores"))
    )
    task = Task("workflow", PHASES)
    assert task.metrics(task.results(mixed)) == pytest.approx(task.metrics(task.results(whole)))
    assert task.by_video(mixed) == task.by_video(whole)


def test_the_metrics_of_workflow_are_the_strict_ones_of_phase_metrics():
    labels, scores = random_scores(0, 90, 7)
    found, task = predictions(labels, scores), Task("workflow", PHASES)
    strict = phase_metrics(found.by_video(labels), found.by_video(scores.argmax(axis=1)), num_classes=7)
    metrics = task.metrics(task.results(found))
    assert metrics["video_accuracy"] == strict.video_accuracy
    assert metrics["phase_jaccard"] == strict.mean["jaccard"]
    assert set(task.results(found)) >= {
        "strict",
        "relaxed_published",
        "relaxed_corrected",
        "segments",
        "classification",
    }
    assert task.by_video(found) == strict.accuracy_by_video


def test_the_other_tasks_are_their_metrics():
    labels, scores = random_scores(1, 40, 4)
    task = Task("classification", ("a", "b", "c", "d"))
    assert (
        task.metrics(task.results(predictions(labels, scores)))["accuracy"]
        == classification_metrics(labels, scores).accuracy
    )
    generator = np.random.default_rng(2)
    criteria, said = (generator.random((40, 3)) > 0.5).astype(float), generator.random((40, 3))
    several = Task("multi_label", ("x", "y", "z"))
    expected = cvs_metrics(criteria, said, criteria=("x", "y", "z")).mean
    assert several.metrics(several.results(predictions(criteria, said)))["mean_average_precision"] == expected
    triplets, values = (generator.random((40, 100)) > 0.97).astype(float), generator.random((40, 100))
    of_triplets, found = Task("triplet", tuple(map(str, range(100)))), predictions(triplets, values)
    official = triplet_metrics(found.by_video(triplets.astype(int)), found.by_video(values)).mean("ivt")
    assert of_triplets.metrics(of_triplets.results(found))["ap_ivt"] == official


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_perfect_prediction_is_one_and_everything_fits_into_json(kind):
    classes = 100 if kind == "triplet" else 7
    one = np.arange(42) % classes
    task = Task(kind, tuple(map(str, range(classes))))
    labels = np.eye(classes)[one] if task.multi_label else one
    found = predictions(labels, np.eye(classes)[one], videos=42 if task.of_videos else 2)
    results = task.results(found)
    assert task.metrics(results)[task.main_metric] == pytest.approx(1.0)
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert set(task.by_video(found).values()) == {1.0}


@given(st.integers(0, 1000), st.integers(2, 6))
@settings(deadline=None, max_examples=25)
def test_a_video_is_scored_by_the_mean_of_its_clips(seed, videos):
    reference = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(seed)
    count = 5 * videos
    place = np.arange(count) % videos  # as in `predictions`
    truth, scores = (generator.random((videos, 4)) > 0.5).astype(float), generator.random((count, 4))
    truth[0] = 1
    found, task = predictions(truth[place], scores, videos=videos), Task("video_multi_label", ("a", "b", "c", "d"))
    mean = np.stack([scores[place == video].mean(axis=0) for video in range(videos)])
    metrics = task.metrics(task.results(found))
    assert metrics["mean_average_precision"] == pytest.approx(reference.average_precision_score(truth, mean))
    known = truth.any(axis=1)
    expected = reference.label_ranking_average_precision_score(truth[known], mean[known])
    assert metrics["label_ranking_precision"] == pytest.approx(expected)
    assert np.mean(list(task.by_video(found).values())) == pytest.approx(expected)
    robotic = predictions(
        truth[place, 0].astype(int), np.stack([1 - scores[:, 0], scores[:, 0]], axis=1), videos=videos
    )
    one = Task("video_classification", ("no", "yes"))
    right = (mean[:, 0] > 0.5) == (truth[:, 0] == 1)
    assert one.metrics(one.results(robotic))["accuracy"] == pytest.approx(right.mean())
    assert one.by_video(robotic) == {f"set/video{video}": float(right[video]) for video in range(videos)}


def test_a_label_that_changes_within_a_video_is_no_label_of_videos():
    with pytest.raises(InputError, match="the clips of set/video0 have different labels"):
        Task("video_classification", ("no", "yes")).results(predictions(*random_scores(0, 30, 2)))


def test_predictions_are_saved_and_loaded_as_they_were(tmp_path):
    labels, scores = random_scores(3, 20, 7)
    whole = predictions(labels, scores.astype(np.float32))
    whole.save(tmp_path / "p.parquet")
    again = ClipPredictions.load(tmp_path / "p.parquet")
    for name in ("videos", "frames", "seconds", "labels", "scores"):
        assert (getattr(again, name) == getattr(whole, name)).all()


def test_the_rate_is_found_from_the_times():
    labels, scores = random_scores(4, 30, 7)
    found = predictions(labels, scores)
    assert found.frames_per_second == 1.0
    fast = ClipPredictions(found.videos, found.frames, found.frames / 25, labels, scores)
    assert fast.frames_per_second == pytest.approx(25)


def test_ten_seconds_are_fifty_frames_of_a_set_with_five_a_second():
    """Time stamps are fp32: 0.2 s is a little more, and 10 s must not become 49 frames."""
    times = (np.arange(200) * 0.2).astype(np.float32)
    labels = np.repeat([0, 1], 100)
    scores = np.eye(7)[np.where(np.arange(200) < 150, 0, 1)]
    found = ClipPredictions(np.full(200, "a"), np.arange(200), times, labels, scores)
    assert found.frames_per_second == 5.0
    assert forgiven(labels + 1, scores.argmax(1) + 1, 7, found.frames_per_second, "relaxed").tolist().count(-1) == 0


def test_logits_become_probabilities_without_overflow():
    logits = np.array([[1000.0, 0.0], [0.0, -1000.0]])
    with np.errstate(over="raise"):
        np.testing.assert_allclose(Task("workflow", ("a", "b")).probabilities(logits), [[1, 0], [1, 0]])
        np.testing.assert_allclose(Task("multi_label", ("a", "b")).probabilities(logits), [[1, 0.5], [0.5, 0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("phases", PHASES), "no task 'phases'"),
        (("workflow", ("one",)), "a task needs classes"),
        (("triplet", PHASES), "has 100 triplets; the labels have 7"),
    ],
)
def test_what_is_no_task_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Task(*arguments)
    labels, scores = random_scores(0, 9, 6)
    with pytest.raises(InputError, match="scores are of 6 classes"):
        Task("workflow", PHASES).results(predictions(labels, scores))
