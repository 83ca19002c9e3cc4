"""A prediction beside labels: the same numbers as evaluation, in sentences that are true."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf import InputError, phase_metrics
from surgvista_hf.datasets_scripts.own_labels.phase_files import read_phase_file
from surgvista_hf.inference.prediction.comparison import LabelComparison, compare_with_labels
from surgvista_hf.inference.writers.report import timeline_html, write_report

from ..tiny_models import NAMES, prediction


def labels_of(folder, text, name="labels.csv"):
    (folder / name).write_text(text)
    return read_phase_file(folder / name)


def test_what_is_said_is_what_evaluation_measures(tmp_path):
    made = prediction((0, 0, 1, 1, 1, 3))
    comparison = compare_with_labels(made, labels_of(tmp_path, "start,end,phase\n0,3,Preparation\n3,5,Dissection\n"))
    assert comparison.truth.tolist() == [0, 0, 0, 1, 1, -1]
    assert comparison.accuracy == pytest.approx(4 / 5)
    metrics = phase_metrics({"a": np.array([0, 0, 0, 1, 1])}, {"a": np.array([0, 0, 1, 1, 1])}, num_classes=4)
    assert comparison.metrics.mean == metrics.mean
    assert comparison.edit_score == 1.0
    assert comparison.confusions == [("Preparation", "Dissection", 1.0)]
    assert comparison.sentences == [
        "Right in 80 % of 5 labeled seconds; 1 second without a label does not count.",
        f"Over the classes that the labels hold: precision {metrics.mean['precision']:.0%}, recall ".replace("%", " %")
        + f"{metrics.mean['recall']:.0%}, F1 {metrics.mean['f1']:.0%}, Jaccard ".replace("%", " %")
        + f"{metrics.mean['jaccard']:.0%}.".replace("%", " %"),
        "Segments: the order agrees to 100 % (edit score), and F1 is 100 % where a segment counts as found if it overlaps by "
        "half with a true one.",
        "Most often mistaken: 1 second of Preparation as Dissection.",
    ]


def test_classes_may_be_numbers_or_in_other_case(tmp_path):
    for first, second in (("0", "1"), ("PREPARATION", "dissection"), ("Preparation", "Dissection")):
        labels = labels_of(tmp_path, f"start,end,phase\n0,2,{first}\n2,6,{second}\n")
        assert compare_with_labels(prediction(), labels).truth.tolist() == [0, 0, 1, 1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 3)), min_size=1, max_size=30, unique_by=lambda each: each[0]
    )
)
def test_the_label_of_a_second_is_the_one_that_a_frame_set_would_have(tmp_path_factory, moments):
    """Rows by a tenth of a second, with gaps, against the track that preparation uses."""
    folder = tmp_path_factory.mktemp("labels")
    starts = sorted(moments)
    ends = [after for after, _ in starts[1:]] + [starts[-1][0] + 5]
    rows = [
        f"{start / 10},{max(end - 2, start + 1) / 10},{NAMES[label]}"
        for (start, label), end in zip(starts, ends, strict=True)
    ]
    labels = labels_of(folder, "start,end,phase\n" + "\n".join(rows))
    made = prediction((0,) * 45)
    track = labels.track(NAMES)
    expected = [(track.at(float(second), 25.0) or {"phase": -1})["phase"] for second in made.seconds]
    if max(expected) < 0:
        with pytest.raises(InputError, match="has no label for any predicted second"):
            compare_with_labels(made, labels)
    else:
        assert compare_with_labels(made, labels).truth.tolist() == expected


def test_what_cannot_be_compared_is_said(tmp_path):
    labels = labels_of(tmp_path, "frame,phase\n0,Preparation\n10,Dissection\n")
    with pytest.raises(InputError, match="counts frames, and the frame rate of the video is unknown"):
        compare_with_labels(prediction(), labels)
    assert compare_with_labels(prediction(), labels, frames_per_second=5.0).truth.tolist() == [0, 0, 1, 1, -1, -1]
    tools = prediction(multi_label=True)
    with pytest.raises(InputError, match="by itself"):
        compare_with_labels(tools, labels)


def test_the_report_has_the_labels_below_the_prediction(tmp_path):
    made = prediction()
    comparison = LabelComparison(np.array([-1, 1, 1, 1, 0, 0]), made.labels, NAMES, 1.0)
    ribbon = timeline_html(made, comparison)
    assert ribbon.count("<title>labeled ") == 2
    assert ribbon.count("<title>predicted otherwise") == 2  # second 1, and seconds 4 and 5
    assert "0 Preparation" in ribbon
    write_report(made, tmp_path / "a.html", comparison=comparison)
    page = (tmp_path / "a.html").read_text()
    assert comparison.sentences[0] in page
    assert "labeled" not in timeline_html(made)
