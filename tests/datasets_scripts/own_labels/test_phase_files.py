"""Phase labels of one's own operations, as people and their tools write them."""

from pathlib import Path

import numpy as np
import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.own_labels.phase_files import class_names, read_phase_file
from surgvista_hf.datasets_scripts.schema.info import AnnotationError
from surgvista_hf.inference import VideoPrediction

NAMES = ["cut", "sew"]


def written(folder: Path, text: str, name: str = "op1.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def at(path: Path, seconds=range(6), *, names=NAMES, rate: float = 25.0, tier: str = "") -> list[int | None]:
    """The class of each second."""
    track = read_phase_file(path, tier).track(names)
    return [(track.at(float(second), rate) or {}).get("phase") for second in seconds]


@pytest.mark.parametrize(
    "text",
    [
        "second phase\n0 cut\n1 cut\n2 cut\n3 sew\n4 sew\n5 sew\n",
        "second\tphase\n0\tcut\n1\tcut\n2\tcut\n3\tsew\n4\tsew\n5\tsew\n",
        "0 0\n1 0\n2 0\n3 1\n4 1\n5 1\n",
        "Time (s);Phase\n0,0;cut\n1,0;cut\n2,0;cut\n3,0;sew\n4,0;sew\n5,0;sew\n",
        "frame,label\n" + "".join(f"{frame},{NAMES[frame >= 75]}\n" for frame in range(150)),
        "start,end,phase\n0,3,cut\n3,6,sew\n",
        "0 3 cut\n3 6 sew\n",
        "Begin Time,End Time,Annotation\n00:00:00.000,00:00:03.000,cut\n0:03,0:06.000,sew\n",
        "start_ms,end_ms,label\n0,3000,cut\n3000,6000,sew\n",
        "start frame;end frame;class\n0;74;cut\n75;149;sew\n",
        "id,start,duration,phase\n1,0,3,cut\n2,3,3,sew\n",
        "phase,start,stop\ncut,0,3\nsew,3,6\n",
        "from,to,activity\n0,3,cut\n3,6,sew\n",
    ],
)
def test_a_table_of_moments_or_intervals_says_the_same_whatever_its_columns_are_called(tmp_path, text):
    assert at(written(tmp_path, text)) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("second,phase\n2,cut\n3,cut\n4,sew\n5,sew\n", [None, None, 0, 0, 1, 1]),  # begins late
        ("second,phase\n0,cut\n1,cut\n", [0, 0, None, None, None, None]),  # ends early
        ("second,phase\n0,cut\n1,cut\n4,sew\n5,sew\n", [0, 0, None, None, 1, 1]),  # a gap
        ("second,phase\n0,-1\n1,-1\n2,0\n3,0\n4,\n5,1\n", [None, None, 0, 0, None, 1]),
        ("second,phase\n0,unlabeled\n1,cut\n2,N/A\n3,cut\n4,cut\n5,sew\n", [None, 0, None, 0, 0, 1]),
        ("start,end,phase\n1,3,cut\n4,5,sew\n", [None, 0, 0, None, 1, None]),
    ],
)
def test_what_no_label_speaks_of_has_none(tmp_path, text, expected):
    assert at(written(tmp_path, text)) == expected


def test_a_class_may_be_called_none(tmp_path):
    path = written(tmp_path, "second,phase\n0,none\n1,cut\n2,-1\n3,none\n")
    assert at(path, names=["none", "cut"]) == [0, 1, None, 0, None, None]
    assert at(path) == [None, 0, None, None, None, None]


def test_spreadsheets_are_read_with_their_clock_times_and_whole_numbers(tmp_path):
    book = openpyxl.Workbook()
    book.create_sheet("empty", 0)
    sheet = book.worksheets[1]
    sheet.append(["Start", "End", "Phase"])
    from datetime import time, timedelta

    sheet.append([time(0, 0, 0), time(0, 0, 3), 0.0])
    sheet.append([timedelta(seconds=3), "0:06", 1])
    book.save(tmp_path / "op1.xlsx")
    assert at(tmp_path / "op1.xlsx") == [0, 0, 0, 1, 1, 1]


def test_what_predict_writes_for_elan_comes_back_to_the_millisecond(tmp_path):
    probabilities = np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 3)
    VideoPrediction("op1.mp4", np.arange(6.0) + 0.123, probabilities, NAMES).save(tmp_path, ["eaf"])
    spans = read_phase_file(tmp_path / "annotations.eaf").spans
    assert [(span.start, span.stop, span.label) for span in spans] == [(0.123, 3.123, "cut"), (3.123, 6.123, "sew")]


ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-01-01T10:00:00+01:00" FORMAT="3.0" VERSION="3.0">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="3000"/>
<TIME_SLOT TIME_SLOT_ID="ts3"/><TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="6000"/></TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="surgeon"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1"
 TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts4"><ANNOTATION_VALUE>sew</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="nurse"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2"
 TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>cut</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
</TIER></ANNOTATION_DOCUMENT>
"""


def test_of_several_tiers_one_must_be_named(tmp_path):
    path = written(tmp_path, ELAN, "op1.eaf")
    with pytest.raises(AnnotationError, match=r"surgeon, nurse: name one with --set tier=NAME"):
        read_phase_file(path)
    assert at(path, tier="nurse") == [0, 0, 0, None, None, None]
    assert at(path, tier="surgeon") == [1] * 6
    with pytest.raises(AnnotationError, match="no annotations on a tier 'anaesthetist'"):
        read_phase_file(path, "anaesthetist")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("start,end,phase\n0,4,cut\n3,6,sew\n", r"op1\.csv:3: 'sew' begins at 3, before 'cut' ends at 4"),
        ("start,end,phase\n0,4,cut\n6,5,sew\n", r"op1\.csv:3: an interval from 6 to 5 has no length"),
        ("start,end,phase\n0,soon,cut\n", r"op1\.csv:2 holds 'soon' where a time is expected"),
        ("start,end,phase\n-3,2,cut\n", r"op1\.csv:2 holds '-3' where a time is expected"),
        ("start,end,phase\n0,4,tea\n", r"op1\.csv:2 holds the label 'tea'; known are cut, sew"),
        ("second,phase\n0,cut\n0,sew\n", r"op1\.csv:3 is about 0, which does not come after 0"),
        ("second,phase\n0,cut,red\n", r"op1\.csv:2 has 3 columns, 2 are expected"),
        ("phase\ncut\n", r"has the columns phase; expected are second,phase"),
        ("start_ms,end_frame,phase\n0,4,cut\n", "give times in different units"),
        ("1,2,3,4\n", "has no header and 4 columns"),
        ("second,phase\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_row(tmp_path, text, complaint):
    with pytest.raises(AnnotationError, match=complaint):
        at(written(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("op1.eaf", "<not", "is not XML"),
        ("op1.eaf", "<html></html>", "is not an annotation document of ELAN but a <html>"),
        (
            "op1.eaf",
            ELAN.replace('TIME_SLOT_REF2="ts2"', 'TIME_SLOT_REF2="ts3"'),
            r"annotation a2 \('cut'\) has no time",
        ),
        ("op1.xlsx", "a spreadsheet", "is not a spreadsheet that openpyxl can read"),
    ],
)
def test_damaged_documents_are_refused(tmp_path, name, content, complaint):
    with pytest.raises(AnnotationError, match=complaint):
        read_phase_file(written(tmp_path, content, name), "nurse")


def test_without_a_list_classes_are_called_as_in_the_labels(tmp_path):
    files = [written(tmp_path, "0 sew\n1 cut\n", "a.txt"), written(tmp_path, "0 cut\n1 tie off\n", "b.txt")]
    assert class_names(map(read_phase_file, files)) == ["sew", "cut", "tie off"]
    assert class_names([read_phase_file(written(tmp_path, "0 2\n1 0\n", "c.txt"))]) == [
        "phase_0",
        "phase_1",
        "phase_2",
    ]


@given(st.lists(st.sampled_from([None, "cut", "sew"]), min_size=1, max_size=40))
def test_rows_and_the_intervals_they_make_say_the_same(tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp("rows")
    known = [(second, label) for second, label in enumerate(labels) if label]
    if not known:
        return
    rows = written(folder, "second,phase\n" + "".join(f"{second},{label}\n" for second, label in known), "rows.csv")
    spans = written(folder, "start,end,phase\n" + "".join(f"{s},{s + 1},{name}\n" for s, name in known), "spans.csv")
    if len(known) > 1 and np.median(np.diff([second for second, _ in known])) == 1:
        assert at(rows, range(41)) == at(spans, range(41))
    assert at(spans, range(len(labels))) == [NAMES.index(label) if label else None for label in labels]
