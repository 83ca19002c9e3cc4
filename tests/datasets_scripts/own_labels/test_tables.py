"""Tables with labels, as people write them: every layout, and every bad spreadsheet with the cell named."""

from collections.abc import Callable
from datetime import datetime, time, timedelta
from itertools import pairwise
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.own_labels.model import VideoLabels
from surgvista_hf.datasets_scripts.own_labels.phase_files import read_phase_file
from surgvista_hf.datasets_scripts.own_labels.tables import read, recognizes
from surgvista_hf.datasets_scripts.schema.info import AnnotationError

Spans = list[tuple[int, int, str]]  # milliseconds, and the label
HEAD = ["start", "end", "phase"]
INFINITE = float("inf")


def written(folder: Path, content: str | bytes, name: str = "op1.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def workbook(path: Path, **sheets: list[list[object]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def spans(labels: VideoLabels, tier: str) -> Spans:
    """The spans of a tier in milliseconds, neighbours of equal label joined, without empty ones."""
    (found,) = (each for each in labels.tiers if each.name == tier)
    rate = found.rate or 25.0
    joined: Spans = []
    for span in found.spans:
        start, stop = round(span.start / rate * 1000), round(span.stop / rate * 1000)
        if joined and joined[-1][1:] == (start, span.value):
            joined[-1] = (joined[-1][0], stop, span.value)
        elif span.value:
            joined.append((start, stop, span.value))
    return joined


def by_video(path: Path, tier: str) -> dict[str, Spans]:
    return {labels.video: spans(labels, tier) for labels in read(path)}


# ------------------------------------------------------------------------------------------- every layout


def clock(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def short_clock(milliseconds: int) -> str:
    return f"{milliseconds // 60000}:{milliseconds % 60000 / 1000:06.3f}"


def seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}"


def comma(milliseconds: int) -> str:
    return seconds(milliseconds).replace(".", ",")


INTERVALS: dict[str, tuple[str, Callable[[int], str], str]] = {
    "seconds": ("start,end,phase", seconds, ","),
    "clock": ("Begin Time;End Time;phase", clock, ";"),
    "minutes and seconds": ("from\tto\tphase", short_clock, "\t"),
    "milliseconds": ("start_ms|stop_ms|phase", str, "|"),
    "decimal commas": ("Start (s);Ende (s);phase", comma, ";"),
    "a quoted comma": ("onset,offset,phase", lambda time: f'"{comma(time)}"', ","),
    "blanks": ("start end phase", seconds, " "),
}
LABELS = st.sampled_from(["cut", "sew", "tie off", "Präparation"])


@st.composite
def labelings(draw: st.DrawFn) -> Spans:
    """Intervals in order, with and without gaps, never two neighbours of equal label."""
    moments = sorted(draw(st.sets(st.integers(0, 4 * 3600 * 1000), min_size=2, max_size=12)))
    found: Spans = []
    for start, stop in pairwise(moments):
        label = draw(st.one_of(st.none(), LABELS))
        if label and not (found and found[-1][2] == label):
            found.append((start, stop, label))
    return found or [(moments[0], moments[1], "cut")]


@pytest.mark.parametrize("layout", INTERVALS)
@settings(max_examples=30, deadline=None)
@given(expected=labelings(), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]), empty=st.booleans())
def test_intervals_come_back_to_the_millisecond(tmp_path_factory, layout, expected, encoding, empty):
    header, format_time, mark = INTERVALS[layout]
    lines = [header, *(mark.join((format_time(a), format_time(b), label)) for a, b, label in expected)]
    lines += [mark * 2, mark * 2] if empty and mark != " " else []
    path = written(tmp_path_factory.mktemp("layout"), "\r\n".join(lines).encode(encoding))
    assert by_video(path, "phase") == {"op1": expected}


@settings(max_examples=30, deadline=None)
@given(expected=labelings())
def test_a_start_with_a_duration_comes_back_to_the_millisecond(tmp_path_factory, expected):
    text = "start;duration;phase\n" + "".join(f"{seconds(a)};{seconds(b - a)};{label}\n" for a, b, label in expected)
    assert by_video(written(tmp_path_factory.mktemp("duration"), text), "phase") == {"op1": expected}


@settings(max_examples=20, deadline=None)
@given(first=labelings(), second=labelings(), decorated=st.booleans())
def test_workbooks_come_back_to_the_millisecond_with_a_video_a_sheet(tmp_path_factory, first, second, decorated):
    head: list[list[object]] = [["Operations of May"], []] if decorated else []
    sheets = {
        name: [*head, ["Start", "End", "phase"], *([timedelta(milliseconds=a), b / 1000, x] for a, b, x in found)]
        for name, found in (("op1", first), ("op2", second))
    }
    path = workbook(tmp_path_factory.mktemp("book") / "labels.xlsx", **sheets)
    assert by_video(path, "phase") == {"op1": first, "op2": second}


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.one_of(st.just(""), LABELS), min_size=3, max_size=40),
    tools=st.lists(st.sampled_from(["0", "1"]), min_size=40, max_size=40),
    by_frame=st.booleans(),
    rate=st.sampled_from([1, 2, 5]),
)
def test_rows_by_second_or_frame_come_back_with_every_column(tmp_path_factory, labels, tools, by_frame, rate):
    step = 25 if by_frame else 1 / rate
    name = "frame" if by_frame else "time (s)"
    rows = [
        f"op7.mp4,{round(row * step, 3):g},{label},{tool}"
        for row, (label, tool) in enumerate(zip(labels, tools, strict=False))
    ]
    path = written(tmp_path_factory.mktemp("rows"), "\n".join((f"video,{name},phase,hook", *rows)))
    (found,) = read(path)
    unit = 1000 if by_frame else 1000 // rate
    for tier, values in (("phase", labels), ("hook", tools)):
        if not any(values):
            continue
        expected: Spans = []
        for row, value in enumerate(values[: len(labels)]):
            if expected and expected[-1][1:] == (row * unit, value):
                expected[-1] = (expected[-1][0], (row + 1) * unit, value)
            elif value:
                expected.append((row * unit, (row + 1) * unit, value))
        assert spans(found, tier) == expected


@settings(max_examples=20, deadline=None)
@given(expected=labelings())
def test_a_column_may_name_the_tier(tmp_path_factory, expected):
    lines = [
        "tier,start,end,label",
        *(f"phase,{seconds(a)},{seconds(b)},{x}" for a, b, x in expected),
        "tool,0,1,hook",
    ]
    path = written(tmp_path_factory.mktemp("tiers"), "\n".join(lines))
    assert by_video(path, "phase") == {"op1": expected}
    assert by_video(path, "tool") == {"op1": [(0, 1000, "hook")]}


# ------------------------------------------------------------------------------------------- what people do


@pytest.mark.parametrize(
    ("text", "tier", "expected"),
    [
        ("start frame,end frame,phase\n0,74,cut\n75,149,sew\n", "phase", [(0, 3000, "cut"), (3000, 6000, "sew")]),
        ("start frame,end frame,phase\n0,75,cut\n75,150,sew\n", "phase", [(0, 3000, "cut"), (3000, 6000, "sew")]),
        ("Start (min),End (min),phase\n0,1.5,cut\n", "phase", [(0, 90000, "cut")]),
        ("second,instrument,verb,target\n0,hook,cut,fat\n0,grasper,hold,\n1,,,\n", "triplets",
         [(0, 1000, "hook,cut,fat"), (0, 1000, "grasper,hold,")]),
        ("second,triplet\n0,\"hook,cut,fat\"\n", "triplet", [(0, 1000, "hook,cut,fat")]),
        ("Operation 12;;\nSurgeon: A;;\nstart;end;phase\n0;5;cut\n", "phase", [(0, 5000, "cut")]),
        ("Zeit;;Was\nvon;bis;Phase\n0;5;cut\n", "Phase", [(0, 5000, "cut")]),
        ("Beginn,Ende,Phase\n0,5,cut\n", "Phase", [(0, 5000, "cut")]),
        ("second,phase\n3,cut\n4,cut\n9,sew\n10,sew\n11,sew\n", "phase", [(3000, 5000, "cut"), (9000, 12000, "sew")]),
        ("start,end,phase,comment\n0,5,cut,\"a, b\"\n", "phase", [(0, 5000, "cut")]),
    ],
)  # fmt: skip
def test_what_people_write_is_understood(tmp_path, text, tier, expected):
    (labels,) = read(written(tmp_path, text))
    assert spans(labels, tier) == expected


TWO_BLOCKS = [
    "start,end,phase,start,end,step\n0,5,prep,0,3,x\n5,9,cut,3,4,y\n,,,4,9,z\n",
    "phase,phase start,phase end,step,step start,step end\nprep,0,5,x,0,3\ncut,5,9,y,3,4\n,,,z,4,9\n",
    "phase,step,phase start,phase end,step start,step end\nprep,x,0,5,0,3\ncut,y,5,9,3,4\n,z,,,4,9\n",
    "step,phase,step end,step start,phase start,phase end\nx,prep,3,0,0,5\ny,cut,4,3,5,9\nz,,9,4,,\n",
    "start,end,phase,,start,end,step\n0,5,prep,,0,3,x\n5,9,cut,,3,4,y\n,,,,4,9,z\n",
    "no,phase,start,end,step,start,end\n1,prep,0,5,x,0,3\n2,cut,5,9,y,3,4\n3,,,,z,4,9\n",
    "phase,,,step,,\nBeginn,Ende,Name,Beginn,Ende,Name\n0,5,prep,0,3,x\n5,9,cut,3,4,y\n,,,4,9,z\n",
    "video,start,end,phase,onset,duration,step\nop1,0,5,prep,0,3,x\n,5,9,cut,3,1,y\n,,,,4,5,z\n",
]


@pytest.mark.parametrize("text", TWO_BLOCKS)
def test_blocks_of_columns_side_by_side_have_times_of_their_own(tmp_path, text):
    (labels,) = read(written(tmp_path, text))
    assert {tier.name for tier in labels.tiers} == {"phase", "step"}
    assert spans(labels, "phase") == [(0, 5000, "prep"), (5000, 9000, "cut")]
    assert spans(labels, "step") == [(0, 3000, "x"), (3000, 4000, "y"), (4000, 9000, "z")]


def test_blocks_below_merged_titles_are_called_after_them(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (
        ["Phase", None, None, "Werkzeug", None, None],
        ["Beginn", "Ende", "Name", "Beginn", "Ende", "Name"],
        [0, 5, "prep", 1, 2, "hook"],
        [5, 9, "cut", None, None, None],
    ):
        sheet.append(row)
    sheet.merge_cells("A1:C1")
    sheet.merge_cells("D1:F1")
    book.save(tmp_path / "op1.xlsx")
    (labels,) = read(tmp_path / "op1.xlsx")
    assert spans(labels, "Phase") == [(0, 5000, "prep"), (5000, 9000, "cut")]
    assert spans(labels, "Werkzeug") == [(1000, 2000, "hook")]


@pytest.mark.parametrize(
    "text",
    [
        "start,end,start,end,phase,step\n0,5,1,3,prep,x\n",
        "phase,start,end,step,start,end,tool\nprep,0,5,x,1,3,hook\n",
        "minute,second,phase\n0,30,prep\n1,10,cut\n",
        "start,end,phase,end\n0,5,prep,7\n",
    ],
)
def test_a_second_column_of_times_that_nothing_explains_is_refused(tmp_path, text):
    with pytest.raises(AnnotationError, match=r"op1\.csv:1 is a second column of times"):
        read(written(tmp_path, text))


@pytest.mark.parametrize("step_end", [3, 5])
def test_times_of_another_block_may_be_equal_by_chance(tmp_path, step_end):
    (labels,) = read(written(tmp_path, f"start,end,phase,start,end,step\n0,5,prep,0,{step_end},x\n"))
    assert (spans(labels, "phase"), spans(labels, "step")) == ([(0, 5000, "prep")], [(0, step_end * 1000, "x")])


def test_times_may_be_called_after_their_labels(tmp_path):
    text = "phase,phase start,phase end,hook start,hook end,hook\nprep,0,5,1,2,x\ncut,5,9,6,8,x\n"
    (labels,) = read(written(tmp_path, text))
    assert spans(labels, "phase") == [(0, 5000, "prep"), (5000, 9000, "cut")]
    assert spans(labels, "hook") == [(1000, 2000, "x"), (6000, 8000, "x")]
    with pytest.raises(AnnotationError, match=r"op1\.csv:3: the column 'hook start' seems to hold times of something"):
        read(written(tmp_path, "start,end,phase,hook start,hook end\n0,5,prep,,\n5,9,cut,6,8\n"))


def test_moments_beside_intervals_have_labels_of_their_own(tmp_path):
    (labels,) = read(written(tmp_path, "start,end,phase,time,tool\n0,5,prep,3,hook\n,,,4,clip\n,,,5,\n"))
    assert spans(labels, "phase") == [(0, 5000, "prep")]
    assert spans(labels, "tool") == [(3000, 4000, "hook"), (4000, 5000, "clip")]


@pytest.mark.parametrize(
    "text",
    [
        "frame,time (s),phase\n0,0,cut\n25,1,cut\n50,2,sew\n75,3,sew\n",
        "second,timestamp,phase\n0,0:00:00,cut\n1,0:00:01,cut\n2,0:00:02,sew\n3,0:00:03,sew\n",
        "second,ms,phase\n0,0,cut\n1,1040,cut\n2,2080,sew\n3,3120,sew\n",
        "Begin Time - hh:mm:ss.ms\tBegin Time - ss.msec\tEnd Time - hh:mm:ss.ms\tEnd Time - ss.msec\tphase\n"
        "00:00:00.000\t0.0\t00:00:02.000\t2.0\tcut\n00:00:02.000\t2.0\t00:00:04.000\t4.0\tsew\n",
        "frame,start,end,phase\n0,0,2,cut\n50,2,4,sew\n",
        "start,end,phase,time\n0,2,cut,2024-03-01 10:00\n2,4,sew,2024-03-01 10:01\n",
    ],
)
def test_times_that_stand_there_twice_are_read_once(tmp_path, text):
    assert by_video(written(tmp_path, text), "phase") == {"op1": [(0, 2000, "cut"), (2000, 4000, "sew")]}


def test_seconds_with_decimals_of_elan_are_seconds(tmp_path):
    text = "Begin Time - ss.msec\tEnd Time - ss.msec\tphase\n0.5\t12.25\tcut\n"
    assert by_video(written(tmp_path, text), "phase") == {"op1": [(500, 12250, "cut")]}


@pytest.mark.parametrize(
    "header",
    ["time,end,Phase", "Zeit,Ende,Phase", "time,end time,Phase", "timestamp,stop,Phase", "t0,t1,Phase",
     "Anfang,Schluss,Phase", "Startzeit,Endzeit,Phase", "time 1,time 2,Phase", "second,until,Phase"],
)  # fmt: skip
@pytest.mark.parametrize("mark", [",", ";"])
def test_a_beginning_with_an_end_is_an_interval_whatever_it_is_called(tmp_path, header, mark):
    text = f"{header}\n0,5,cut\n7,9,sew\n".replace(",", mark)
    assert by_video(written(tmp_path, text), "Phase") == {"op1": [(0, 5000, "cut"), (7000, 9000, "sew")]}


@pytest.mark.parametrize(
    "text",
    [
        "Anfang;Ultimo;Phase\n0;5;cut\n7;9;sew\n",
        "time;Ultimo;Phase\n0:00;0:05;cut\n0:07;0:09;sew\n",
        "video;start;Ultimo;Phase\na;0;50;cut\n;60;90;sew\nb;0;5;cut\nb;7;9;sew\n",
    ],
)
def test_an_end_under_an_unknown_name_is_no_label(tmp_path, text):
    with pytest.raises(AnnotationError, match=r"op1\.csv:2: the column 'Ultimo' holds times after .* name it `end`"):
        read(written(tmp_path, text))


def test_numbers_that_do_not_follow_the_times_are_labels(tmp_path):
    text = "second,phase,count,hook\n0,cut,3,0\n1,cut,2,1\n2,sew,4,1\n"
    assert by_video(written(tmp_path, text), "count") == {
        "op1": [(0, 1000, "3"), (1000, 2000, "2"), (2000, 3000, "4")]
    }
    assert by_video(written(tmp_path, text), "hook") == {"op1": [(0, 1000, "0"), (1000, 3000, "1")]}


def test_a_unit_in_the_cell_counts(tmp_path):
    text = "start,end,phase\n500 ms,90s,cut\n2 min,180,sew\n"
    assert by_video(written(tmp_path, text), "phase") == {"op1": [(500, 90000, "cut"), (120000, 180000, "sew")]}


@pytest.mark.parametrize("name", ["clip", "Clips", "recording"])
def test_a_column_of_0_and_1_names_no_video(tmp_path, name):
    (labels,) = read(written(tmp_path, f"video,second,phase,{name}\nop1,0,cut,0\nop1,1,cut,1\nop1,2,sew,\n"))
    assert labels.video == "op1"
    assert spans(labels, name) == [(0, 1000, "0"), (1000, 2000, "1")]
    (labels,) = read(written(tmp_path, f"second,{name},phase\n0,0,cut\n1,1,cut\n2,1,sew\n"))
    assert (labels.video, spans(labels, name)) == ("op1", [(0, 1000, "0"), (1000, 3000, "1")])


def test_videos_and_clips_may_be_numbered(tmp_path):
    for name in ("case", "surgery", "Fall"):
        assert [each.video for each in read(written(tmp_path, f"{name},start,end,phase\n1,0,5,cut\n"))] == ["1"]
    text = "clips,start,end,phase\n1,0,5,cut\n2,0,5,cut\n"
    assert [each.video for each in read(written(tmp_path, text))] == ["1", "2"]
    assert [each.video for each in read(written(tmp_path, "operation name,start,end,phase\nA,0,5,cut\n"))] == ["A"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "start_ms;end_ms;phase\n0;5.000;cut\n",
            r"op1\.csv:2 holds '5\.000' in the column 'end_ms'.*may be 5 or a thous",
        ),
        ('start_ms,end_ms,phase\n0,"5,000",cut\n"5,000","12,500",sew\n', r"op1\.csv:2 holds '5,000'"),
        ("frame;phase\n0;cut\n1.250;sew\n", r"op1\.csv:3 holds '1\.250' in the column 'frame'"),
        ("start;end;phase\n0;5.000 ms;cut\n", r"op1\.csv:2 holds '5\.000 ms'"),
        ("start_ms;end_ms;phase\n0;1.234.567;cut\n", r"op1\.csv:2 holds '1\.234\.567' where a time is expected"),
        ("start (mm:ss),end (mm:ss),phase\n0,5.30,cut\n", r"op1\.csv:2 holds '5\.30' .*minutes and seconds; .*colon"),
        ("Beginn [min:sek];Ende [min:sek];phase\n0:00;5,30;cut\n", r"op1\.csv:2 holds '5,30' .*minutes and seconds"),
        ("time (hh:mm:ss),phase\n0:00:00,cut\n330,sew\n", r"op1\.csv:3 holds '330' .*minutes and seconds"),
    ],
)
def test_numbers_that_may_be_read_in_two_ways_are_refused_with_their_cell(tmp_path, text, complaint):
    with pytest.raises(AnnotationError, match=complaint):
        read(written(tmp_path, text))


def test_decimals_of_milliseconds_are_understood_where_one_of_them_shows_the_mark(tmp_path):
    text = "start_ms,end_ms,phase\n0.0,500.125,cut\n500.125,1500.5,sew\n"
    assert by_video(written(tmp_path, text), "phase") == {"op1": [(0, 500, "cut"), (500, 1500, "sew")]}


def test_fractions_of_a_day_are_refused(tmp_path):
    rows = [HEAD, [0, 0.00347222, "cut"], [0.00347222, 0.0625, "sew"], [0.0625, 0.125, "tie"]]
    with pytest.raises(AnnotationError, match=r"cell B2 holds '0\.00347222', and all times .* fractions of a day"):
        read(workbook(tmp_path / "op1.xlsx", s=rows))
    with pytest.raises(AnnotationError, match="fractions of a day"):
        read(workbook(tmp_path / "op1.xlsx", s=[["time", "phase"], [0, "cut"], [0.0000578, "sew"]]))
    assert by_video(written(tmp_path, "start,end,phase\n0,0.125,cut\n0.125,0.5,sew\n"), "phase")
    assert by_video(written(tmp_path, "start,end,phase\n0,0.03125,cut\n0.03125,25.5,sew\n"), "phase")


@pytest.mark.parametrize("header", [HEAD, ["start (mm:ss)", "end (mm:ss)", "phase"], ["start_ms", "end_ms", "phase"]])
def test_times_that_excel_knows_as_such_are_understood_whatever_the_header_says(tmp_path, header):
    rows = [header, [time(0, 0, 1), timedelta(hours=25, seconds=1.5), "cut"]]
    assert by_video(workbook(tmp_path / "op1.xlsx", s=rows), "phase") == {"op1": [(1000, 90001500, "cut")]}


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("time,phase\n0,a\n5,b\n15,c\n", [5, 15, INFINITE]),
        ("time,phase\n0:00,a\n4:10,b\n", [250, INFINITE]),
        ("time,phase\n0,a\n5,b\n15,c\n20,a\n", [5, 10, 20, 25]),  # each five seconds, and one is missing
        ("time,phase\n0,a\n5,b\n10,c\n", [5, 10, 15]),  # a row each five seconds
        ("time,phase\n0,a\n1,b\n", [1, 2]),
        ("time,phase\n0,a\n5,a\n15,c\n", [10, 20]),  # nobody writes down that nothing changes
        ("time,phase\n0,a\n0.4,b\n1.6,c\n", [0.4, 0.8, 2.0]),
        ("time,phase\n0,a\n0.4,b\n90,c\n140,d\n", [0.4, 90, 140, INFINITE]),
        ("time,phase\n0,a\n0,b\n15,c\n", [15, 15, 30]),
    ],
)
def test_irregular_moments_of_changing_labels_hold_until_the_next(tmp_path, text, stops):
    (tier,) = read(written(tmp_path, text))[0].tiers
    assert [span.stop for span in tier.spans] == pytest.approx(stops)


def test_whether_rows_are_changes_is_the_same_for_all_videos_of_a_table(tmp_path):
    changes = "video,time,phase\na,0,cut\na,70,sew\na,200,tie\nb,0,cut\nb,60,sew\nb,120,tie\n"
    assert [labels.tiers[0].spans[-1].stop for labels in read(written(tmp_path, changes))] == [INFINITE] * 2
    samples = "video,time,phase\na,0,cut\na,1,cut\na,2,cut\nb,0,cut\nb,5,sew\nb,15,tie\n"
    assert [labels.tiers[0].spans[-1].stop for labels in read(written(tmp_path, samples))] == [3, 20]


@pytest.mark.parametrize("name", ["op1.csv", "op1.tsv", "op1.xlsx"])
def test_labels_that_look_equal_are_equal(tmp_path, name):
    labels = [
        "Präparation A",
        "Pra\u0308paration A",
        "Präparation\u00a0A",
        "Präparation  A",
        "\u200bPräparation A\ufeff",
    ]
    rows: list[list[object]] = [
        ["start", "end", "Pha\u200bse"],
        *([n, n + 1, label] for n, label in enumerate(labels)),
    ]
    if name.endswith("xlsx"):
        path = workbook(tmp_path / name, s=rows)
    else:
        mark = "," if name.endswith("csv") else "\t"
        path = written(tmp_path, "\n".join(mark.join(map(str, row)) for row in rows), name)
    assert by_video(path, "Phase") == {"op1": [(0, 5000, "Präparation A")]}
    assert {span.label for span in read_phase_file(path).spans} == {"Präparation A"}


def test_names_of_videos_that_look_equal_are_equal(tmp_path):
    text = "video,start,end,phase\nBär 1,0,5,cut\nBa\u0308r\u00a01,5,9,sew\n"
    assert by_video(written(tmp_path, text), "phase") == {"Bär 1": [(0, 5000, "cut"), (5000, 9000, "sew")]}


@pytest.mark.parametrize("dash", ["-", "–", "—"])
def test_a_dash_is_no_label(tmp_path, dash):
    text = f"patient,second,phase,tool\n{dash},0,cut,{dash}\n{dash},1,{dash},hook-a\n"
    (labels,) = read(written(tmp_path, text))
    assert (spans(labels, "phase"), spans(labels, "tool")) == ([(0, 1000, "cut")], [(1000, 2000, "hook-a")])
    assert not labels.properties


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        *((name, {"patient": "7"}) for name in ("Pat.-Nr.", "Patientennummer", "PatID", "Pat", "Patient code", "MRN",
                                                "Fall-ID", "Fallnummer", "Pseudonym", "case id")),
        ("Patient", {"Patient": "7"}),  # names that the mapping knows stay
        ("Standort", {"hospital": "7"}),
        ("Klinik", {"Klinik": "7"}),
        ("centre", {"centre": "7"}),
    ],
)  # fmt: skip
def test_patients_and_hospitals_are_properties_and_no_labels(tmp_path, header, expected):
    text = f"video,{header},start,end,phase\nop1,7,0,5,cut\n"
    (labels,) = read(written(tmp_path, text))
    assert (labels.video, dict(labels.properties), [tier.name for tier in labels.tiers]) == (
        "op1",
        expected,
        ["phase"],
    )
    (labels,) = read(written(tmp_path, f"video,{header},skill\nop1,7,3\n"))
    assert dict(labels.properties) == {**expected, "skill": "3"}


@pytest.mark.parametrize("header", ["case id", "Fall-ID", "Fallnummer", "Fall"])
def test_the_number_of_a_case_names_the_video_if_nothing_else_does(tmp_path, header):
    found = read(written(tmp_path, f"{header},start,end,phase\n7,0,5,cut\n8,0,5,cut\n"))
    assert [(each.video, dict(each.properties)) for each in found] == [("7", {}), ("8", {})]


def test_a_second_number_of_the_patient_is_a_property_too(tmp_path):
    (labels,) = read(written(tmp_path, "video,patient,MRN,case id,start,end,phase\nop1,7,99,5,0,5,cut\n"))
    assert dict(labels.properties) == {"patient": "7", "MRN": "99", "case id": "5"}
    assert [tier.name for tier in labels.tiers] == ["phase"]


@pytest.mark.parametrize(("one", "other"), [("P1", "p1"), ("P1", "P 1"), ("P-1", "P1"), ("Müller", "müller")])
@pytest.mark.parametrize("rest", ["start,end,phase|0,5,cut", "skill|3"])
def test_patients_that_only_spelling_tells_apart_are_refused_with_both(tmp_path, one, other, rest):
    header, row = rest.split("|")
    text = f"video,patient,{header}\na,{one},{row}\nb,x,{row}\nc,{other},{row}\n"
    with pytest.raises(AnnotationError, match=rf"op1\.csv:4 holds '{other}' for patient and .*csv:2 holds '{one}'"):
        read(written(tmp_path, text))
    assert len(read(written(tmp_path, text.replace(other, "1-2").replace(one, "12")))) == 3


def test_german_sheets_are_tiers_and_notes(tmp_path):
    path = workbook(
        tmp_path / "op1.xlsx",
        Phasen=[["Startzeit", "Endzeit", "Name"], [0, 5, "cut"]],
        Instrumente=[["Startzeit", "Endzeit", "Name"], [1, 2, "hook"]],
        Notizen=[["Zeit", "Was", "Notiz"], [3, "Rauch", "a"]],
    )
    (labels,) = read(path)
    assert labels.video == "op1"
    assert {tier.name: tier.spans[0].value for tier in labels.tiers} == {"phasen": "cut", "instrumente": "hook"}
    path = workbook(
        tmp_path / "op2.xlsx", Phasen=[["start", "end", "phase"], [0, 5, "cut"]], Notes=[["second", "what"], [3, "a"]]
    )
    assert by_video(path, "phase") == {"op2": [(0, 5000, "cut")]}


def test_a_list_of_changes_holds_each_until_the_next(tmp_path):
    for text in (
        "start,phase\n0:00,cut\n4:10,sew\n21:35,tie\n",
        "time,phase\n0:00,cut\n4:10,sew\n21:35,tie\n40:00,cut\n",
    ):
        (tier,) = read(written(tmp_path, text))[0].tiers
        assert [(span.start, span.value) for span in tier.spans][:3] == [(0, "cut"), (250, "sew"), (1295, "tie")]
        assert [span.stop for span in tier.spans][:2] == [250, 1295]
        assert tier.spans[-1].stop == float("inf")


def test_one_column_names_the_video_and_others_its_properties(tmp_path):
    text = "case,patient,start,end,phase,hospital\nop1,7,0,5,cut,A\n,7,5,9,sew,A\nop2,8,0,2,cut,B\n"
    first, second = read(written(tmp_path, text, "all.csv"))
    assert (first.video, dict(first.properties), spans(first, "phase")) == (
        "op1",
        {"patient": "7", "hospital": "A"},
        [(0, 5000, "cut"), (5000, 9000, "sew")],
    )
    assert (second.video, dict(second.properties)) == ("op2", {"patient": "8", "hospital": "B"})


def test_a_row_a_video_gives_properties(tmp_path):
    found = read(written(tmp_path, "file_name,skill,c1,patient\nop1.mp4,3.0,1,x\nop2.mp4,expert,0,\n"))
    assert {each.video: dict(each.properties) for each in found} == {
        "op1.mp4": {"skill": "3", "c1": "1", "patient": "x"},
        "op2.mp4": {"skill": "expert", "c1": "0"},
    }


def test_sheets_may_be_tiers_and_notes_are_passed_over(tmp_path):
    path = workbook(
        tmp_path / "op1.xlsx",
        phases=[["start", "end", "label"], [0, 5, "cut"]],
        tools=[["start", "end", "label"], [1, 2, "hook"]],
        Legend=[["cut", "tissue is cut"]],
    )
    (labels,) = read(path)
    assert labels.video == "op1"
    assert {tier.name: tier.spans[0].value for tier in labels.tiers} == {"phases": "cut", "tools": "hook"}


def test_merged_cells_hold_for_all_their_rows_and_headers(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    rows = [["Time", None, "Labels", None], ["start", "end", "phase", "step"], [0, 5, "cut", "a"], [5, 9, None, "b"]]
    for row in rows:
        sheet.append(row)
    for area in ("A1:B1", "C1:D1", "C3:C4"):
        sheet.merge_cells(area)
    book.save(tmp_path / "op1.xlsx")
    (labels,) = read(tmp_path / "op1.xlsx")
    assert spans(labels, "phase") == [(0, 9000, "cut")]
    assert spans(labels, "step") == [(0, 5000, "a"), (5000, 9000, "b")]


def test_every_span_knows_its_cell(tmp_path):
    path = workbook(tmp_path / "labels.xlsx", op1=[["start", "end", "phase", "step"], [0, 5, "cut", "a"]], op2=[["x"]])
    phase, step = read(path)[0].tiers
    assert phase.spans[0].where == f"{path}, sheet 'op1', cell C2"
    assert step.spans[0].where == f"{path}, sheet 'op1', cell D2"
    assert read(written(tmp_path, "second,phase\n0,cut\n"))[0].tiers[0].spans[0].where == f"{tmp_path / 'op1.csv'}:2"


# ------------------------------------------------------------------------------------------- what cannot be understood


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([HEAD, [0, "soon", "cut"]], r"sheet 'op1', cell B2 holds 'soon' where a time is expected \(column 'end'\)"),
        ([HEAD, [0, None, "cut"]], r"cell B2 holds '' where a time is expected"),
        (
            [HEAD, [0, 5, "cut"], [datetime(2024, 3, 1, 10, 32), 9, "sew"]],
            r"cell A3 holds '2024-03-01 10:32:00'.*local times",
        ),
        (
            [HEAD, [5, 0, "cut"], [9, 5, "sew"]],
            r"cell A2: every interval ends before it begins; exchange .* 'start' and 'end'",
        ),
        ([HEAD, [0, 5, "cut"], [9, 5, "sew"]], r"cell B3: an interval from 9 to 5 has no length"),
        ([HEAD, [0, 5, datetime(2024, 2, 1)]], r"cell C2 holds the date 2024-02-01 where a label is expected"),
        ([HEAD, [0, 5, "#REF!"]], r"cell C2 holds #REF!, an error of the spreadsheet"),
        ([["second", "phase"], [1, "cut"], [0, "sew"]], r"cell A3 is about 0, which does not come after 1"),
        (
            [["start", "end", "phase", "phase"], [0, 5, "cut", "sew"]],
            r"cell C1 and .*cell D1 both call a column 'phase'",
        ),
        ([["video", "start", "end", "phase"], [None, 0, 5, "cut"]], r"cell A2 names no video"),
        ([["tier", "start", "end", "label"], [None, 0, 5, "cut"]], r"cell A2 names no tier"),
        (
            [["video", "patient", *HEAD], ["a", 1, 0, 5, "x"], ["a", 2, 5, 6, "y"]],
            r"cell B3 holds '2' for patient of 'a'; .*B2",
        ),
        ([["start", "end"], [0, 5]], r"has the columns start, end; expected are"),
    ],
)
def test_a_bad_spreadsheet_is_refused_with_its_cell(tmp_path, rows, complaint):
    with pytest.raises(AnnotationError, match=complaint):
        read(workbook(tmp_path / "labels.xlsx", op1=rows))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('start,end,phase\n0,5,"cut\n5,6,sew\n', r"op1\.csv:2 has a quotation mark that does not fit"),
        (b"start,end,phase\n0,5,\x81\n", r"op1\.csv cannot be read as text"),
        ("start,end,phase\n0,5,cut,9\n", r"op1\.csv:2 has 4 columns, 3 are expected"),
        ("", "has no rows"),
    ],
)
def test_a_bad_text_is_refused_with_its_line(tmp_path, content, complaint):
    with pytest.raises(AnnotationError, match=complaint):
        read(written(tmp_path, content))


def test_clock_times_of_excel_are_seconds(tmp_path):
    path = workbook(tmp_path / "op1.xlsx", s=[HEAD, [time(0, 0, 1), time(1, 2, 3, 500000), "cut"]])
    assert by_video(path, "phase") == {"op1": [(1000, 3723500, "cut")]}


def test_a_text_that_is_no_table_is_not_taken_for_one(tmp_path):
    assert not recognizes(written(tmp_path, "Please read this first.\nThen the rest.\n", "README.txt"))
    assert recognizes(written(tmp_path, "0 cut\n1 sew\n", "op1.txt"))
    assert not recognizes(written(tmp_path, "0 cut\n", "op1.json"))
