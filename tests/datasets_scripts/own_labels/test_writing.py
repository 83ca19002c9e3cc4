"""Labels as files that are handed out for labeling."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.own_labels import elan
from surgvista_hf.datasets_scripts.own_labels.model import LabeledSpan, LabelTier, VideoLabels
from surgvista_hf.datasets_scripts.own_labels.phase_files import read_phase_file
from surgvista_hf.datasets_scripts.own_labels.writing import write_elan, write_intervals
from surgvista_hf.util.errors import InputError

from .reading import RANDOM, tiers


def labels(
    *spans: tuple[float, float, str], rate: float | None = 1.0, video: str = "site/op1.mp4", tier: str = "tool"
):
    return VideoLabels(video, (LabelTier(tier, tuple(LabeledSpan(*span, "here") for span in spans), rate),))


def rows(path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ","))


def test_spans_that_overlap_come_on_tiers_of_their_own(tmp_path):
    made = labels((0, 4, "grasper"), (1, 2, "hook"), (1.5, 3, "clip"), (2, 5, "hook"), (4, 5, "grasper"))
    write_elan(made, tmp_path / "op1.eaf")
    (read,) = elan.read(tmp_path / "op1.eaf")
    assert read.video == "op1.mp4"
    assert tiers(read) == {
        "tool": [(0, 4, "grasper"), (4, 5, "grasper")],
        "tool 2": [(1, 2, "hook"), (2, 5, "hook")],
        "tool 3": [(1.5, 3, "clip")],
    }


def test_tiers_of_overlapping_spans_take_no_name_of_another_tier(tmp_path):
    first = labels((0, 2, "a"), (1, 3, "b")).tiers[0]
    second = labels((0, 1, "c"), tier="tool 2").tiers[0]
    write_elan(VideoLabels("op1.mp4", (second, first)), tmp_path / "op1.eaf")
    assert tiers(elan.read(tmp_path / "op1.eaf")[0]) == {
        "tool 2": [(0, 1, "c")],
        "tool": [(0, 2, "a")],
        "tool 3": [(1, 3, "b")],
    }


def test_events_frames_and_milliseconds_become_times_of_elan(tmp_path):
    write_elan(labels((1.25, 1.25, "clip")), tmp_path / "a.eaf")
    write_elan(labels((25, 50, "cut"), rate=None), tmp_path / "b.eaf", frames_per_second=25, video="other.mp4")
    write_elan(labels((1001, 2002, "cut"), rate=1000.0), tmp_path / "c.eaf")
    write_elan(labels((0, 1, "")), tmp_path / "d.eaf")
    assert tiers(elan.read(tmp_path / "a.eaf")[0]) == {"tool": [(1.25, 1.251, "clip")]}
    assert tiers(elan.read(tmp_path / "b.eaf")[0]) == {"tool": [(1.0, 2.0, "cut")]}
    assert elan.read(tmp_path / "b.eaf")[0].video == "other.mp4"
    assert tiers(elan.read(tmp_path / "c.eaf")[0]) == {"tool": [(1.001, 2.002, "cut")]}
    assert tiers(elan.read(tmp_path / "d.eaf")[0]) == {"tool": [(0, 1, "")]}  # a segment to be labeled


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (labels((0, 1, "a"), rate=None), "the tier 'tool' is in frames; give the frame rate"),
        (labels((2, 1, "a")), "here: an annotation from 2 to 1 s cannot be written"),
        (labels((-1, 1, "a")), "here: an annotation from -1 to 1 s cannot be written"),
        (labels((0, float("nan"), "a")), "cannot be written"),
        (labels((0, 1, "a\x00")), r"'a\\x00' holds a character that an ELAN document cannot hold"),
    ],
)
def test_what_elan_cannot_hold_is_refused_and_leaves_no_file(tmp_path, made, complaint):
    with pytest.raises(InputError, match=complaint):
        write_elan(made, tmp_path / "op1.eaf")
    assert not list(tmp_path.iterdir())


def test_a_table_says_the_unit_of_its_times(tmp_path):
    write_intervals([labels((0.5, 2, "a, b"), (2, 3, ""))], tmp_path / "a.csv")
    write_intervals([labels((500, 2000, "a"), rate=1000.0)], tmp_path / "b.tsv")
    write_intervals([labels((0, 75, "a"), rate=None)], tmp_path / "c.csv")
    assert rows(tmp_path / "a.csv") == [
        ["video", "tier", "start", "end", "label"],
        ["site/op1.mp4", "tool", "0.5", "2", "a, b"],
        ["site/op1.mp4", "tool", "2", "3", ""],
    ]
    assert rows(tmp_path / "b.tsv")[0] == ["video", "tier", "start_ms", "end_ms", "label"]
    assert rows(tmp_path / "c.csv") == [
        ["video", "tier", "start_frame", "end_frame", "label"],
        ["site/op1.mp4", "tool", "0", "74", "a"],  # the last frame belongs to the interval
    ]


def test_tiers_in_different_units_are_written_in_seconds(tmp_path):
    made = [labels((0.5, 2, "a")), labels((500, 2500, "b"), rate=1000.0), labels((25, 50, "c"), rate=None)]
    with pytest.raises(InputError, match="in frames; give the frame rate"):
        write_intervals(made, tmp_path / "a.csv")
    write_intervals(made, tmp_path / "a.csv", frames_per_second=25)
    assert [row[2:] for row in rows(tmp_path / "a.csv")] == [
        ["start", "end", "label"],
        ["0.5", "2", "a"],
        ["0.5", "2.5", "b"],
        ["1", "2", "c"],
    ]


def test_parts_of_frames_need_a_rate(tmp_path):
    made = labels((0.5, 2, "a"), rate=None)
    with pytest.raises(InputError, match=r"here: 0\.5 to 2 are no whole frames; give the frame rate"):
        write_intervals([made], tmp_path / "a.csv")
    write_intervals([made], tmp_path / "a.csv", frames_per_second=10)
    assert rows(tmp_path / "a.csv")[1][2:] == ["0.05", "0.2", "a"]


@RANDOM
@given(
    st.sampled_from([1.0, 1000.0, None]),
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 10**6), st.text(max_size=8)), max_size=8),
)
def test_every_time_and_label_can_be_read_from_the_table_again(tmp_path_factory, rate, drawn):
    path = tmp_path_factory.mktemp("table") / "op1.csv"
    unit = 1000 if rate == 1.0 else 1
    spans = [(start / unit, (start + length) / unit, value) for start, length, value in drawn]
    write_intervals([labels(*spans, rate=rate)], path)
    _, *found = rows(path)
    last = 1 if rate is None and spans else 0  # the table names the last frame that belongs to the interval
    assert [(float(start), float(end) + last, value) for _, _, start, end, value in found] == spans


@RANDOM
@given(
    st.lists(
        st.tuples(st.integers(0, 5000), st.integers(1, 9000), st.sampled_from(["cut", "sew", "tie off"])), min_size=1
    )
)
def test_a_table_of_one_tier_is_read_by_the_reader_of_phases(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("table") / "op1.csv"
    spans, time = [], 0
    for gap, length, value in drawn:
        spans.append(((time + gap) / 1000, (time + gap + length) / 1000, value))
        time += gap + length
    write_intervals([labels(*spans)], path)
    assert [(span.start, span.stop, span.label) for span in read_phase_file(path).spans] == spans


def test_an_error_while_writing_leaves_the_old_table(tmp_path):
    path = tmp_path / "a.csv"
    write_intervals([labels((0, 1, "a"))], path)
    before = path.read_bytes()
    with pytest.raises(InputError):
        write_intervals([labels((0, 1, "a")), labels((0.5, 1, "a"), rate=None)], path)
    assert path.read_bytes() == before
