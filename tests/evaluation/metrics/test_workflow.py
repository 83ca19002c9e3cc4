"""Phase metrics: check values by hand and of the published scripts, the variants by name, and nothing relaxed unasked."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.evaluation.metrics.segments import edit_score, segmental_f1
from surgvista_hf.evaluation.metrics.workflow import MODES, phase_metrics, phase_report
from surgvista_hf.modeling.errors_surgvista import InputError

TRUTH = np.repeat([0, 1], 10)
CASES = {  # predictions, and for each mode: accuracy, then Jaccard, precision and recall of phases 0 and 1, in percent, cut
    "A": (
        np.repeat([0, 1, 0, 1], [8, 2, 2, 8]),
        {
            "strict": (80, (66.67, 80, 80), (66.67, 80, 80)),
            "relaxed_published": (90, (83.33, 100, 100), (83.33, 100, 100)),
            "relaxed_corrected": (100, (100, 100, 100), (100, 100, 100)),
        },
    ),
    "D": (
        np.array([2, 3] + [0] * 6 + [1] * 12),
        {
            "strict": (80, (60, 100, 60), (83.33, 83.33, 100)),
            "relaxed_published": (85, (70, 100, 70), (83.33, 83.33, 100)),
            "relaxed_corrected": (90, (80, 100, 80), (100, 100, 100)),
        },
    ),
    "E": (
        np.array([3] * 3 + [0] * 4 + [1] * 13),
        {
            "strict": (70, (40, 100, 40), (76.92, 76.92, 100)),
            "relaxed_published": (85, (70, 100, 70), (76.92, 76.92, 100)),
            "relaxed_corrected": (85, (70, 100, 70), (100, 100, 100)),
        },
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_the_check_values_of_the_published_scripts(case, mode):
    predicted, expected = CASES[case]
    result = phase_metrics({"v": TRUTH}, {"v": predicted}, num_classes=7, fps=0.3, mode=mode)
    accuracy, *phases = expected[mode]
    assert result.image_accuracy * 100 == pytest.approx(accuracy, abs=0.01)
    for phase, values in enumerate(phases):
        found = [result.by_phase[name][phase] * 100 for name in ("jaccard", "precision", "recall")]
        assert found == pytest.approx(values, abs=0.01)


def test_later_phases_of_cholecystectomy_are_forgiven_more():
    """In the last ten seconds of phase 3 the next two numbers pass, in those of phase 2 only the next."""
    for phase, passes in ((2, 1), (3, 2)):
        truth = np.repeat([phase, 6], 30)
        for ahead in (1, 2, 3):
            predicted = truth.copy()
            predicted[25:30] = phase + ahead
            result = phase_metrics({"v": truth}, {"v": predicted}, num_classes=7, mode="relaxed_corrected")
            assert (result.image_accuracy == 1) == (ahead <= passes)


def test_frames_a_second_widen_what_is_forgiven():
    truth, predicted = np.repeat([0, 1], 100), np.repeat([0, 1], [85, 115])
    for fps, accuracy in ((1.0, 195 / 200), (2.0, 1.0)):
        result = phase_metrics({"v": truth}, {"v": predicted}, num_classes=7, fps=fps, mode="relaxed_corrected")
        assert result.image_accuracy == pytest.approx(accuracy)


VIDEOS = {"a": np.array([0, 0, 0, 1, 1, 2]), "b": np.array([0, 0, 0, 0])}
SAID = {"a": np.array([0, 0, 1, 1, 2, 2]), "b": np.array([0, 0, 0, 1])}


@pytest.mark.parametrize(
    ("absent", "average", "jaccard"),
    [
        # a: 2/3, 1/3, 1/2; b: 3/4, and phase 1 predicted though absent
        ("gt_only", "phase_then", np.mean([(2 / 3 + 3 / 4) / 2, 1 / 3, 1 / 2])),
        ("union", "phase_then", np.mean([(2 / 3 + 3 / 4) / 2, (1 / 3 + 0) / 2, 1 / 2])),
        ("gt_only", "video_then", np.mean([np.mean([2 / 3, 1 / 3, 1 / 2]), 3 / 4])),
        ("union", "video_then", np.mean([np.mean([2 / 3, 1 / 3, 1 / 2]), np.mean([3 / 4, 0])])),
        ("gt_only", "pooled", np.mean([5 / 7, 1 / 4, 1 / 2])),
        ("union", "pooled", np.mean([5 / 7, 1 / 4, 1 / 2])),
    ],
)
def test_orders_of_averaging_and_absent_phases_by_hand(absent, average, jaccard):
    result = phase_metrics(VIDEOS, SAID, num_classes=4, absent=absent, average=average)
    assert result.mean["jaccard"] == pytest.approx(jaccard)
    assert result.image_accuracy == pytest.approx(7 / 10)
    assert result.video_accuracy == pytest.approx((4 / 6 + 3 / 4) / 2)
    assert result.video_accuracy_std == pytest.approx(np.std([4 / 6, 3 / 4], ddof=1))


def test_a_phase_that_is_never_predicted_costs_recall_and_not_precision():
    result = phase_metrics({"v": np.array([0, 0, 1, 1])}, {"v": np.array([0, 0, 0, 0])}, num_classes=2)
    assert result.by_phase["recall"].tolist() == [1, 0]
    assert result.by_phase["f1"].tolist() == [pytest.approx(2 / 3), 0]
    assert result.mean["precision"] == 0.5


ARRAYS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60)


@given(
    st.lists(ARRAYS, min_size=1, max_size=4),
    st.sampled_from(["gt_only", "union"]),
    st.sampled_from(["phase_then", "video_then", "pooled"]),
)
@settings(max_examples=60, deadline=None)
def test_scores_are_shares_and_relaxing_never_costs_accuracy(videos, absent, average):
    labels = {f"v{n}": np.array([pair[0] for pair in video]) for n, video in enumerate(videos)}
    said = {f"v{n}": np.array([pair[1] for pair in video]) for n, video in enumerate(videos)}
    options = {"num_classes": 7, "absent": absent, "average": average}
    results = [phase_metrics(labels, said, mode=mode, **options) for mode in MODES]
    for result in results:
        numbers = [result.image_accuracy, result.video_accuracy, *result.mean.values()]
        assert all(0 <= number <= 1 for number in numbers if not np.isnan(number))
        assert results[0].image_accuracy <= result.image_accuracy
        json.loads(json.dumps(result.to_dict(), allow_nan=False))
    perfect = phase_metrics(labels, labels, **options)
    assert perfect.image_accuracy == perfect.mean["jaccard"] == perfect.mean["f1"] == 1


@given(ARRAYS, st.permutations(range(7)))
@settings(max_examples=30, deadline=None)
def test_strict_scores_do_not_depend_on_the_numbers_of_the_phases(pairs, order):
    labels, said = (np.array(part) for part in zip(*pairs, strict=True))
    renamed = np.array(order)
    first = phase_metrics({"v": labels}, {"v": said}, num_classes=7)
    second = phase_metrics({"v": renamed[labels]}, {"v": renamed[said]}, num_classes=7)
    assert first.mean == pytest.approx(second.mean, nan_ok=True)


def test_a_report_shows_strict_beside_relaxed_and_names_the_variants():
    report = phase_report({"v": TRUTH}, {"v": CASES["A"][0]}, num_classes=7, fps=0.3)
    assert list(report) == list(MODES)
    assert str(report["strict"]).startswith(
        "strict (average phase_then, absent gt_only, 0.3 fps): image accuracy 80.0%"
    )
    assert list(phase_report({"v": TRUTH}, {"v": TRUTH}, num_classes=12)) == ["strict"]


@pytest.mark.parametrize(
    ("labels", "said", "options", "message"),
    [
        ({"a": [0]}, {"b": [0]}, {}, "same videos: a, b"),
        ({}, {}, {}, "no videos"),
        ({"a": [0, 1]}, {"a": [0]}, {}, r"a: labels of shape \(2,\)"),
        ({"a": [0, 7]}, {"a": [0, 0]}, {}, "labels must be class numbers in 0 … 6"),
        ({"a": [0, 0]}, {"a": [0, -1]}, {}, "leave out frames without a label"),
        ({"a": [0.0]}, {"a": [0.0]}, {}, "float64"),
        ({"a": [0]}, {"a": [0]}, {"mode": "relaxed"}, "mode is 'relaxed'"),
        ({"a": [0]}, {"a": [0]}, {"num_classes": 12, "mode": "relaxed_corrected"}, "not for 12"),
        ({"a": [0]}, {"a": [0]}, {"fps": 0}, "fps is 0"),
    ],
)
def test_what_cannot_be_compared_is_refused(labels, said, options, message):
    arrays = [{video: np.array(values) for video, values in part.items()} for part in (labels, said)]
    with pytest.raises(InputError, match=message):
        phase_metrics(*arrays, **{"num_classes": 7, **options})


# ------------------------------------------------------------------------------------------- segments


def test_edit_score_counts_edits_of_the_order_of_segments():
    truth = {"a": np.array([0, 0, 1, 1, 2])}
    assert edit_score(truth, truth, num_classes=3) == 1
    assert edit_score(truth, {"a": np.array([0, 1, 0, 1, 2])}, num_classes=3) == pytest.approx(1 - 2 / 5)
    assert edit_score(truth, {"a": np.array([2, 2, 2, 2, 2])}, num_classes=3) == pytest.approx(1 - 2 / 3)


def test_segments_are_found_by_overlap_and_each_only_once():
    truth = {"a": np.repeat([0, 1], 10)}
    said = {"a": np.repeat([0, 1, 0, 1], [3, 1, 6, 10])}
    scores = segmental_f1(truth, said, num_classes=2)
    # Of the two pieces of phase 0 only one can be right (IoU 0.3 and 0.6); the first piece of phase 1 overlaps nothing.
    assert scores["f1@10"] == pytest.approx(2 * 2 / 6)
    assert scores["f1@50"] == pytest.approx(2 * 2 / 6)
    late = {"a": np.repeat([0, 1], [16, 4])}
    assert segmental_f1(truth, late, num_classes=2) == {"f1@10": 1.0, "f1@25": 1.0, "f1@50": 0.5}


@given(ARRAYS)
@settings(max_examples=40, deadline=None)
def test_segment_scores_are_shares_and_fall_with_the_demanded_overlap(pairs):
    labels, said = ({"v": np.array(part)} for part in zip(*pairs, strict=True))
    scores = list(segmental_f1(labels, said, num_classes=7).values())
    assert 1 >= scores[0] >= scores[1] >= scores[2] >= 0
    assert 0 <= edit_score(labels, said, num_classes=7) <= 1
    assert set(segmental_f1(labels, labels, num_classes=7).values()) == {1.0}
