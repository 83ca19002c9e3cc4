"""The numbers behind a number: alike with those of a table, and intervals that draw whole videos."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.evaluation.breakdown import (
    class_scores,
    metric_intervals,
    metric_variants,
    table_metrics,
    video_scores,
    without_ranking,
)
from surgvista_hf.evaluation.metrics.workflow import phase_metrics
from surgvista_hf.evaluation.tasks import ClipPredictions, Task
from surgvista_hf.util.errors import InputError

PHASES = tuple(f"phase {number}" for number in range(7))
TOOLS = ("grasper", "hook", "clipper")


def workflow(seed: int, videos: int = 4) -> ClipPredictions:
    """Return predictions of phases, right two times in three."""
    random = np.random.default_rng(seed)
    lengths = random.integers(20, 60, videos)
    labels = np.concatenate([np.sort(random.integers(0, 7, length)) for length in lengths])
    scores = (
        random.dirichlet(np.ones(7), len(labels)) + 2 * np.eye(7)[labels] * (random.random(len(labels)) < 0.6)[:, None]
    )
    return clips(lengths, labels, scores / scores.sum(axis=1, keepdims=True))


def tools(seed: int, videos: int = 4, classes: int = 3) -> ClipPredictions:
    """Return predictions of several classes."""
    random = np.random.default_rng(seed)
    lengths = random.integers(20, 60, videos)
    labels = (random.random((lengths.sum(), classes)) < 0.3).astype(float)
    return clips(lengths, labels, np.clip(0.5 * labels + 0.6 * random.random(labels.shape), 0, 1))


def clips(lengths: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> ClipPredictions:
    """Return predictions of videos of these lengths."""
    names = np.concatenate([np.full(length, f"set/op{number}") for number, length in enumerate(lengths)])
    frames = np.concatenate([np.arange(length) for length in lengths])
    return ClipPredictions(names, frames, frames.astype(float), labels, scores)


@given(st.integers(0, 1000), st.integers(2, 5))
@settings(deadline=None, max_examples=15)
def test_intervals_are_around_the_numbers_of_the_table(seed, videos):
    task, found = Task("workflow", PHASES), workflow(seed, videos)
    table = task.metrics(task.results(found))
    intervals = metric_intervals(task, found, resamples=100)
    assert intervals.keys() == table.keys()
    for name, interval in intervals.items():
        assert interval.value == pytest.approx(table[name], abs=1e-9), name
        assert interval.low <= interval.high


@pytest.mark.parametrize(("kind", "classes"), [("multi_label", 3), ("triplet", 100)])
def test_intervals_of_several_classes_are_around_the_numbers_of_the_table(kind, classes):
    names = TOOLS if kind == "multi_label" else tuple(f"a,b,{number}" for number in range(100))
    task, found = Task(kind, names), tools(1, 3, classes)
    table = task.metrics(task.results(found))
    intervals = metric_intervals(task, found, resamples=50)
    assert {name: interval.value for name, interval in intervals.items()} == pytest.approx(table)
    assert all(interval.low < interval.high for name, interval in intervals.items() if name.startswith("ap_"))


def test_a_draw_computes_what_the_table_would_say_of_these_videos():
    """One draw of two videos: the interval's ends are the metrics of the videos drawn, whichever way they are computed."""
    task, found = Task("workflow", PHASES), workflow(3, 2)
    draw = np.random.default_rng(7).integers(2, size=(1, 2))[0]
    rows = [np.flatnonzero(found.videos == f"set/op{index}") for index in draw]
    names = np.concatenate([np.full(len(own), f"{turn}") for turn, own in enumerate(rows)])
    rows = np.concatenate(rows)
    drawn = ClipPredictions(names, found.frames[rows], found.seconds[rows], found.labels[rows], found.scores[rows])
    for name, interval in metric_intervals(task, found, resamples=1, seed=7).items():
        assert interval.low == interval.high == pytest.approx(table_metrics(task, drawn)[name]), name


def test_one_video_has_no_interval_and_no_draws_are_refused():
    assert metric_intervals(Task("workflow", PHASES), workflow(0, 1)) == {}
    with pytest.raises(InputError, match="0 draws make no interval"):
        metric_intervals(Task("workflow", PHASES), workflow(0), resamples=0)


def test_table_metrics_are_those_of_the_results():
    for task, found in ((Task("workflow", PHASES), workflow(5)), (Task("multi_label", TOOLS), tools(5))):
        assert table_metrics(task, found) == pytest.approx(task.metrics(task.results(found)))


def test_videos_average_to_the_table_where_the_metric_is_a_mean_over_videos():
    task, found = Task("workflow", PHASES), workflow(6)
    rows = video_scores(task, found)
    assert rows.keys() == set(found.videos)
    assert sum(row["samples"] for row in rows.values()) == len(found.labels)
    mean = np.mean([row["video_accuracy"] for row in rows.values()])
    assert mean == pytest.approx(task.results(found)["strict"]["video_accuracy"])


def test_classes_are_those_of_the_strict_and_the_relaxed_results():
    task, found = Task("workflow", PHASES), workflow(8)
    results, rows = task.results(found), class_scores(task, found)
    assert list(rows) == list(PHASES)
    for number, name in enumerate(PHASES):
        assert rows[name]["samples"] == (found.labels == number).sum()
        assert rows[name]["jaccard"] == results["strict"]["by_phase"]["jaccard"][number]
        assert rows[name]["jaccard_relaxed_corrected"] == results["relaxed_corrected"]["by_phase"]["jaccard"][number]


def test_several_classes_have_their_prevalence_beside_the_precision():
    rows = class_scores(Task("multi_label", TOOLS), found := tools(9))
    for number, name in enumerate(TOOLS):
        assert rows[name]["prevalence"] == pytest.approx(found.labels[:, number].mean())
        assert rows[name]["average_precision"] > rows[name]["prevalence"]


def test_triplets_are_followed_by_their_components():
    from surgvista_hf.datasets_scripts.frame_sets.registry import triplet_table

    table = triplet_table("cholect50")
    rows = class_scores(Task("triplet", table.names), found := tools(2, 2, 100))
    assert list(rows)[:100] == list(table.names)
    assert [name for name in rows if name.startswith("instrument ")] == [
        f"instrument {name}" for name in table.instruments
    ]
    hook = [number for number, name in enumerate(table.names) if name.startswith("hook,")]
    assert rows["instrument hook"]["samples"] == found.labels[:, hook].max(axis=1).sum()
    means = metric_variants(Task("triplet", table.names), found)
    instruments = [row["average_precision"] for name, row in rows.items() if name.startswith("instrument ")]
    assert means["within videos, without null classes"]["ap_i"] == pytest.approx(np.mean(instruments))
    assert (
        means["over all frames, without null classes"]["ap_ivt"]
        != means["within videos, without null classes"]["ap_ivt"]
    )


def test_every_variant_is_named_and_is_what_its_name_says():
    task, found = Task("workflow", PHASES), workflow(4)
    variants = metric_variants(task, found)
    assert len(variants) == 3 * 2 * 3
    truth, chosen = found.by_video(found.labels), found.by_video(found.scores.argmax(axis=1))
    one = phase_metrics(truth, chosen, num_classes=7, absent="union", average="pooled", mode="relaxed_published")
    assert variants["relaxed_published, absent union, average pooled"]["phase_jaccard"] == one.mean["jaccard"]
    assert (
        variants["strict, absent gt_only, average phase_then"]["phase_f1"] == task.results(found)["strict"]["phase_f1"]
    )
    assert len(metric_variants(Task("workflow", PHASES[:5]), clips(np.array([5]), np.arange(5), np.eye(5)))) == 6


def test_without_ranking_leaves_what_chosen_classes_can_say():
    kept = without_ranking(Task("multi_label", TOOLS).results(tools(3)))["multi_label"]
    assert {"macro_f1", "micro_f1", "subset_accuracy", "prevalence", "f1"} == set(kept)
    kept = without_ranking(Task("workflow", PHASES).results(workflow(3)))
    assert "calibration_error" not in kept["classification"]
    assert "top_3_accuracy" not in kept["classification"]
    assert "average_precision" not in kept["classification"]["by_class"]
    assert {"image_accuracy", "by_phase"} <= set(kept["strict"])
