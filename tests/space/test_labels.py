"""Labels in the web demo: truth below the prediction, what agrees in words, and segments that a visitor corrects."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from surgvista_hf import InputError
from surgvista_hf.datasets_scripts.own_labels.phase_files import read_phase_file
from surgvista_hf.inference import VideoPrediction
from surgvista_hf.space import SpaceSettings
from surgvista_hf.space.app import Demo
from surgvista_hf.space.labels import corrected_tiers, exact_clock, read_labels, segment_rows

from ..inference.tiny_models import NAMES, prediction
from ..videos import write_numbered_video
from .test_space import _every_demo_has_a_copy_of_the_example, example, visit  # noqa: F401

VISITOR = SimpleNamespace(session_hash="a")


@pytest.fixture
def demo(model_folder) -> Demo:
    return Demo(SpaceSettings({"m": str(model_folder)}))


@pytest.fixture
def video(tmp_path) -> Path:
    """A video of eight seconds."""
    return write_numbered_video(tmp_path / "upload.mp4", count=80)


def test_labels_of_a_visitor_stand_below_the_prediction_and_say_how_much_of_it_is_right(demo, video, tmp_path):
    predicted = visit(demo, shutil.copy(video, tmp_path / "first.mp4"), "b")[0].prediction
    label = NAMES[predicted.labels[0]]
    right = int((predicted.labels[2:6] == predicted.labels[0]).sum())
    labels = tmp_path / "labels.csv"
    labels.write_text(f"start,end,phase\n2,6,{label.upper()}\n")  # spelled otherwise than in the model
    found, _ = visit(demo, video, labels=labels)
    assert f"Right in {25 * right} % of 4 labeled seconds; 4 seconds without a label do not count." in found.timeline
    assert f"labeled {label}, 0:02 to 0:06" in found.timeline
    assert found.timeline.count("<title>labeled ") == 1
    assert "edit score" in Path(found.files[0]).read_text()
    demo.leave(VISITOR)
    assert not labels.exists()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("labels.csv", "second,phase\n0,Sewing\n", "labels.csv:2 holds the label 'Sewing'; known are Preparation,"),
        (
            "labels.csv",
            "start,end,phase\n100,200,Dissection\n",
            "has no label for any predicted second, which are 0 to 7",
        ),
        (
            "labels.csv",
            "start,end,phase\n0,4,Dissection\n2,5,Clipping\n",
            "begins at 2, before 'Dissection' ends at 4",
        ),
        ("labels.eaf", "<ANNOTATION_DOCUMENT>", "labels.eaf is not XML"),
        ("labels.eaf", '<!DOCTYPE a [<!ENTITY b "c">]><ANNOTATION_DOCUMENT/>', "entities of its own"),
        ("labels.txt", "x" * 2_000_001, "more than 2 MB"),
        ("labels.xlsx", "PK", "labels.xlsx is no file of labels; those end in .csv, .tsv, .txt, .eaf"),
    ],
    ids=["unknown class", "other video", "overlap", "no XML", "entities", "too large", "Excel"],
)
def test_bad_labels_cost_one_sentence_and_not_the_prediction(demo, video, tmp_path, name, content, reason):
    (tmp_path / name).write_text(content)
    found, _ = visit(demo, video, labels=tmp_path / name)
    (sentence,) = re.findall(r'<p class="warning" role="alert">The labels are not compared: (.*?)</p>', found.timeline)
    assert reason in sentence.replace("&#x27;", "'")
    assert str(tmp_path) not in sentence
    assert len(found.table) == 8
    assert "labeled" not in found.timeline.replace(sentence, "")


def test_labels_that_count_frames_follow_the_rate_of_the_video(demo, video, tmp_path):
    (tmp_path / "labels.txt").write_text("frame\tphase\n" + "\n".join(f"{frame}\tClipping" for frame in range(30)))
    found, _ = visit(demo, video, labels=tmp_path / "labels.txt")  # the video has ten frames a second
    assert "of 3 labeled seconds" in found.timeline


def test_a_corrected_segment_comes_back_from_elan_to_the_millisecond(demo, video):
    found, _ = visit(demo, video)
    rows = [["0:00", "0:02.125", "preparation"], ["", "", ""], ["2.125", "8", "Clipping"], [None, None, None]]
    file, message = demo.correct(rows, found.prediction, VISITOR)
    spans = read_phase_file(Path(file)).spans
    assert [(span.start, span.stop, span.label) for span in spans] == [
        (0.0, 2.125, "Preparation"),
        (2.125, 8.0, "Clipping"),
    ]
    assert Path(file).name == "upload.eaf"
    assert "Saved 2 segments" in message
    assert "labeled seconds" in message
    demo.leave(VISITOR)
    assert not Path(file).exists()


def test_segments_that_nobody_changed_are_those_of_the_prediction(demo, video):
    found, _ = visit(demo, video)
    file, message = demo.correct(found.segments, found.prediction, VISITOR)
    spans = read_phase_file(Path(file)).spans
    assert [(s.start, s.stop, s.label) for s in spans] == [
        (s.start, s.end, s.label) for s in found.prediction.segments
    ]
    assert "Right in 100 % of 8 labeled seconds." in message


def test_independent_classes_are_corrected_in_a_tier_each():
    probabilities = np.zeros((4, 4))
    probabilities[:3, 0] = probabilities[1:, 1] = 0.9
    tools = VideoPrediction("a.mp4", np.arange(4.0), probabilities, NAMES, multi_label=True)
    rows = segment_rows(tools)
    assert rows == [["0:00", "0:03", "Preparation"], ["0:01", "0:04", "Dissection"]]
    tiers = corrected_tiers(rows, tools)
    assert {name: [(each.start, each.end) for each in tier] for name, tier in tiers.items()} == {
        "Preparation": [(0, 3)],
        "Dissection": [(1, 4)],
    }


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([["0:00", "0:02", "Sewing"]], "row 1: 'Sewing' is no class of the model; its classes are Preparation"),
        ([["0:00", "soon", "Clipping"]], "row 1: 'soon' is no time; write 1:02:03, 2:03 or 2:03.500"),
        ([["0:02", "0:02", "Clipping"]], "row 1: the segment begins at 0:02 and ends at 0:02"),
        ([["0:00", "0:09", "Clipping"]], "row 1 ends at 0:09; the video ends at 0:06"),
        (
            [["0:03", "0:05", "Clipping"], ["0:00", "0:04", "Packaging"]],
            "rows 2 and 1 overlap: Packaging ends at 0:04, Clipping begins at 0:03",
        ),
        ([["0:00"]], "row 1: '' is no class"),
        ([["", "", ""], []], "there are no segments: every row is empty"),
    ],
)
def test_rows_that_are_no_segments_are_refused_with_the_row_named(rows, reason):
    with pytest.raises(InputError, match=re.escape(reason)):
        corrected_tiers(rows, prediction())


def test_corrections_are_refused_in_words(demo):
    with pytest.raises(gr.Error, match="Predict a video first"):
        demo.correct([], None, VISITOR)
    with pytest.raises(gr.Error, match="row 1: 'x' is no class"):
        demo.correct([["0", "1", "x"]], prediction(), VISITOR)


def test_every_time_of_a_row_is_read_as_it_was_written():
    for second in (0.0, 0.001, 59.999, 60.0, 754.5, 3599.9999, 36_000.125):
        row = [["0:00", exact_clock(second + 1), "Clipping"]]
        long = VideoPrediction("a.mp4", np.arange(0, 40_000.0, 100), np.eye(4)[[0] * 400], NAMES)
        (segment,) = corrected_tiers(row, long)["phase"]
        assert segment.end == pytest.approx(second + 1, abs=5.1e-4)


def test_labels_that_are_gone_are_said_to_be(tmp_path):
    with pytest.raises(InputError, match=r"^none\.csv cannot be read: No such file"):
        read_labels(tmp_path / "none.csv")
