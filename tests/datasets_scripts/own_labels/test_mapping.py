"""A mapping says what labels become: it is derived, written, edited and read back."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.own_labels.formats import read_labels
from surgvista_hf.datasets_scripts.own_labels.mapping import (
    ColumnMapping,
    LabelMapping,
    VideoMapping,
    derive_mapping,
    read_mapping,
)
from surgvista_hf.datasets_scripts.own_labels.model import LabeledSpan, LabelTier, VideoLabels
from surgvista_hf.datasets_scripts.own_labels.tracks import shift, video_tracks
from surgvista_hf.datasets_scripts.schema.info import AnnotationError
from surgvista_hf.util.errors import InputError


def tier(name: str, *spans: tuple[float, float, str], rate: float | None = 1.0) -> LabelTier:
    return LabelTier(
        name, tuple(LabeledSpan(a, b, x, f"{name}.csv:{n}") for n, (a, b, x) in enumerate(spans, 2)), rate
    )


def derived(*tiers: LabelTier, **properties: str) -> LabelMapping:
    return derive_mapping([VideoLabels("op1", tiers, properties)], {"op1": VideoMapping(("op1.mp4",), ("op1",))})


def at(labels: VideoLabels, mapping: LabelMapping, *seconds: float, rate: float = 25.0) -> dict[str, list[object]]:
    """The names of the labels of each column at some seconds; `None` where there is no label."""
    tracks = video_tracks(labels, mapping)
    found: dict[str, list[object]] = {name: [] for name in mapping.labels}
    for second in seconds:
        row = {name: value for track in tracks for name, value in (track.at(second, rate) or {}).items()}
        for name, label in mapping.labels.items():
            value = row.get(name)
            if label.kind == "class" and value is not None:
                value = label.names[value]
            elif label.kind == "classes" and value is not None:
                value = [label.names[each] for each in value]
            found[name].append(value)
    return found


def test_a_tier_without_overlaps_is_one_class_and_gaps_have_no_label():
    phases = tier("Phase", (1, 3, "cut"), (3, 4, "-1"), (4, 6, "sew"), (8, 9, "cut"))
    mapping = derived(phases)
    assert mapping.columns["phase"].kind == "class"
    found = at(VideoLabels("op1", (phases,)), mapping, 0, 1, 3, 5.5, 7, 8, 9)
    assert found == {"phase": [None, "cut", None, "sew", None, "cut", None]}


def test_classes_keep_the_order_of_the_labels_and_numbers_that_of_numbers():
    assert derived(tier("step", (0, 1, "sew"), (1, 2, "cut"), (2, 3, "sew"))).columns["step"].classes == ("sew", "cut")
    assert derived(tier("phase", (0, 1, "10"), (1, 2, "2"))).columns["phase"].classes == ("2", "10")


def test_columns_of_zero_and_one_are_a_set_and_only_known_together():
    labels = VideoLabels("op1", (tier("hook", (0, 2, "1"), (2, 4, "0")), tier("grasper", (0, 1, "0"), (1, 3, "1"))))
    mapping = derive_mapping([labels], {})
    assert (mapping.columns["instruments"].classes, mapping.columns["instruments"].gaps) == (
        ("hook", "grasper"),
        "unlabeled",
    )
    assert at(labels, mapping, 0, 1, 2, 3)["instruments"] == [["hook"], ["hook", "grasper"], ["grasper"], None]


def test_intervals_of_instruments_say_that_they_are_absent_elsewhere():
    labels = VideoLabels("op1", (tier("Tool", (0, 3, "hook"), (2, 4, "grasper"), (6, 7, "hook")),))
    mapping = derive_mapping([labels], {})
    assert mapping.columns["tools"].kind == "classes"
    assert at(labels, mapping, 0, 2, 3, 5, 6, 9)["tools"] == [
        ["hook"],
        ["hook", "grasper"],
        ["grasper"],
        [],
        ["hook"],
        [],
    ]


def test_instruments_of_each_second_are_unknown_elsewhere():
    labels = VideoLabels("op1", (tier("tool", (2, 4, "hook"), (4, 5, "grasper")),))
    assert at(labels, derive_mapping([labels], {}), 0, 2, 4, 5)["tools"] == [None, ["hook"], ["grasper"], None]
    marked = VideoLabels("op1", (tier("tool", (2, 3, "hook"), (4, 5, "grasper")),))
    assert at(marked, derive_mapping([marked], {}), 0, 2, 3, 4)["tools"] == [[], ["hook"], [], ["grasper"]]


def test_a_tier_for_each_instrument_needs_no_text():
    labels = VideoLabels("op1", (tier("hook", (0, 3, ""), (5, 6, "")), tier("grasper", (2, 4, "grasper"))))
    mapping = derive_mapping([labels], {})
    assert at(labels, mapping, 0, 2, 4, 5)["instruments"] == [["hook"], ["hook", "grasper"], [], ["hook"]]


def test_lanes_of_instruments_are_one_column():
    labels = VideoLabels("op1", (tier("tool", (0, 3, "hook")), tier("tool 2", (2, 4, "grasper"))))
    mapping = derive_mapping([labels, VideoLabels("op2", labels.tiers[:1])], {})
    assert mapping.columns["tools"].tiers == ("tool", "tool 2")
    assert at(labels, mapping, 0, 2, 3, 5)["tools"] == [["hook"], ["hook", "grasper"], ["grasper"], []]


def test_a_cell_may_hold_several_labels():
    labels = VideoLabels(
        "op1", (tier("tools", (0, 1, "hook, grasper"), (1, 2, "hook"), (2, 3, ""), (3, 4, "grasper"), (4, 5, "bag")),)
    )
    mapping = derive_mapping([labels], {})
    assert mapping.columns["tools"].separator == ","
    assert at(labels, mapping, 0, 1, 2, 3)["tools"] == [["hook", "grasper"], ["hook"], None, ["grasper"]]


def test_triplets_bring_their_components():
    cells = tier("triplets", (0, 1, "hook,cut,fat|grasper,hold,liver"), (1, 2, "hook,cut,liver"), (2, 3, "nan"))
    labels = VideoLabels("op1", (cells,))
    mapping = derive_mapping([labels], {})
    found = at(labels, mapping, 0, 1, 2)
    assert found["triplets"] == [["hook,cut,fat", "grasper,hold,liver"], ["hook,cut,liver"], None]
    assert found["instruments"] == [["hook", "grasper"], ["hook"], None]
    assert found["targets"] == [["fat", "liver"], ["liver"], None]


def test_one_presence_is_yes_or_no():
    labels = VideoLabels("op1", (tier("phase", (0, 9, "cut")), tier("bleeding", (2, 3, "x"), (5, 6, "x"))))
    mapping = derive_mapping([labels], {})
    assert at(labels, mapping, 0, 2, 4, 5, 8)["bleeding"] == ["no", "yes", "no", "yes", "no"]


def test_criteria_and_skill_are_of_frames_or_of_whole_videos():
    frames = VideoLabels("op1", (tier("c1", (0, 2, "1")), tier("c2", (0, 1, "0"), (1, 2, "1"))))
    assert at(frames, derive_mapping([frames], {}), 0, 1, 2)["cvs"] == [[1.0, 0.0], [1.0, 1.0], None]
    whole = VideoLabels("op1", (), {"skill": "expert", "C1": "0,5", "C2": "1", "patient": "7", "age": "41"})
    mapping = derive_mapping([whole, VideoLabels("op2", (), {"skill": "novice"})], {})
    assert mapping.groups == {"patient": "patient"}
    assert mapping.unused == ("age",)
    assert at(whole, mapping, 0, 1e6) == {"skill": ["expert"] * 2, "cvs": [[0.5, 1.0]] * 2}


def test_frames_count_from_one_where_every_video_begins_so():
    labels = VideoLabels("op1", (tier("phase", (1, 26, "cut"), (26, 51, "sew"), rate=None),))
    mapping = derive_mapping([labels], {})
    assert mapping.first_frame == 1
    assert at(labels, mapping, 0, 0.96, 1, 2)["phase"] == ["cut", "cut", "sew", None]
    other = VideoLabels("op2", (tier("phase", (0, 9, "cut"), rate=None),))
    assert derive_mapping([labels, other], {}).first_frame == 0


def test_overlapping_classes_are_refused_with_both_cells():
    labels = VideoLabels("op1", (tier("phase", (0, 5, "cut"), (4, 6, "sew")),))
    with pytest.raises(
        AnnotationError, match=r"phase\.csv:3: 'sew' begins at 4, before 'cut' ends at 5 \(phase\.csv:2\)"
    ):
        video_tracks(labels, derive_mapping([labels], {}))
    phase = derive_mapping([labels], {}).columns["phase"]
    inner = LabelMapping({"phase": replace(phase, overlaps="inner", classes=("cut", "sew", "out of body"))}, {})
    nested = VideoLabels("op1", (tier("phase", (0, 9, "cut"), (2, 5, "out of body"), (8, 12, "sew"), (3, 4, "sew")),))
    assert at(nested, inner, 0, 2, 3, 4, 5, 8, 9, 12)["phase"] == [
        "cut", "out of body", "sew", "out of body", "cut", "sew", "sew", None,
    ]  # fmt: skip
    same = VideoLabels("op1", (tier("phase", (0, 5, "cut"), (4, 6, "cut")),))
    assert at(same, derive_mapping([same], {}), 5)["phase"] == ["cut"]


def test_labels_are_renamed_merged_and_dropped():
    labels = VideoLabels("op1", (tier("phase", (0, 1, "prep"), (1, 2, "Prep."), (2, 3, "pause"), (3, 4, "sew")),))
    column = ColumnMapping(
        "class",
        tiers=("phase",),
        classes=("sew", "Preparation"),
        rename={"prep": "Preparation", "Prep.": "Preparation"},
        drop=("pause",),
    )
    mapping = LabelMapping({"phase": column}, {})
    assert at(labels, mapping, 0, 1, 2, 3)["phase"] == ["Preparation", "Preparation", None, "sew"]
    unknown = VideoLabels("op1", (tier("phase", (0, 1, "sow")),))
    with pytest.raises(AnnotationError, match=r"phase\.csv:2 holds the label 'sow'.*did you mean sew"):
        video_tracks(unknown, mapping)


def test_an_event_without_a_duration_holds_for_one_moment():
    labels = VideoLabels("op1", (tier("Behavior", (2, 2, "bleeding"), (5, 5, "clip"), (5.5, 5.5, "bleeding")),))
    found = at(labels, derive_mapping([labels], {}), 1, 2, 2.9, 3, 5, 5.5, 6.4, 6.6, 99)
    assert found == {"behavior": [None, "bleeding", "bleeding", None, "clip", "bleeding", "bleeding", None, None]}
    mixed = VideoLabels("op1", (tier("phase", (2, 3, "cut"), (5, 5, "sew"), (5.5, 7, "cut")),))
    found = at(mixed, derive_mapping([mixed], {}), 2, 4, 5, 5.5, 8)
    assert found == {"phase": ["cut", None, "sew", "cut", None]}
    counted = VideoLabels("op1", (tier("phase", (50, 50, "cut"), rate=None),))
    assert at(counted, derive_mapping([counted], {}), 1.96, 2, 2.04)["phase"] == [None, "cut", None]


def test_a_list_of_changes_lasts_to_the_end_of_the_video(tmp_path: Path):
    (tmp_path / "op1.csv").write_text("start,phase\n2,cut\n5,sew\n")
    (labels,) = read_labels(tmp_path / "op1.csv").videos
    assert at(labels, derive_mapping([labels], {}), 1, 2, 4, 5, 99)["phase"] == [None, "cut", "cut", "sew", "sew"]


def test_the_labels_of_a_later_file_are_shifted_and_end_with_their_file():
    labels = VideoLabels(
        "op1-2", (tier("phase", (0, 4, "cut"), (4, float("inf"), "sew")), tier("step", (0, 50, "a"), rate=None))
    )
    moved = shift(labels, 10.0, 25.0, 6.0)
    assert [(span.start, span.stop) for span in moved.tiers[0].spans] == [(10, 14), (14, 16)]
    assert [(span.start, span.stop) for span in moved.tiers[1].spans] == [(250, 300)]
    with pytest.raises(AnnotationError, match="begins at 4 s; 'op1-2' ends at 1 s"):
        shift(labels, 10.0, 25.0, 1.0)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(classes=st.lists(NAMES, min_size=1, max_size=6, unique=True), labels=st.lists(NAMES, max_size=4, unique=True))
def test_a_mapping_comes_back_as_it_was_written_whatever_classes_are_called(tmp_path_factory, classes, labels):
    column = ColumnMapping(
        "class", "action", ("tier",), classes=tuple(classes), rename=dict.fromkeys(labels, classes[0]), drop=("no",)
    )
    presence = ColumnMapping(
        "classes", "finding", ("a", "b"), presence=True, classes=("a", "b"), gaps="none", separator=";"
    )
    videos = {"op1": VideoMapping(("op1.mp4",)), "op2": VideoMapping(("a/1.mp4", "a/2.mp4"), ("no", "1"))}
    mapping = LabelMapping({"phase": column, "tools": presence}, videos, {"patient": "Pat."}, 1, ("x",), ("y",))
    path = tmp_path_factory.mktemp("mapping") / "mapping.yaml"
    path.write_text(mapping.to_yaml(), encoding="utf-8")
    assert read_mapping(path) == mapping


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("columns: [", "is not YAML"),
        ("videos: {}", "has no columns; --propose FILE"),
        ("columns: {phase: {kind: class, tiers: [a], classes: [x]}}\ncolums: {}", "no key 'colums'; did you mean columns"),
        ("columns: {phase: {kind: klass, tiers: [a], classes: [x]}}", r"columns\.phase.kind is 'klass'"),
        ("columns: {phase: {kind: class, classes: [x]}}", "must name either tiers or properties"),
        ("columns: {phase: {kind: class, tiers: [a], classes: [x, x]}}", "must name each class once"),
        ("columns: {phase: {kind: class, tiers: [a], classes: [x], rename: {y: z}}}", "makes 'y' 'z', which is no class"),
        ("columns: {phase: {kind: class, tiers: [a], class: [x]}}", "did you mean classes"),
        ("columns: {image: {kind: class, tiers: [a], classes: [x]}}", "a column cannot be called 'image'"),
        ("columns: {phase: {kind: class, tiers: [a], classes: [x]}}\nfirst_frame: 2", "first_frame is '2'; it must be 0 or 1"),
        ("columns: {phase: {kind: class, tiers: [a], classes: [x]}}\ngroups: {ward: b}", "groups has no 'ward'"),
        ("columns: {phase: {kind: class, tiers: [a], classes: [x]}}\nvideos: {op1: {labels: [a]}}", "files"),
        ("columns: {cvs: {kind: numbers, tiers: [a, b], classes: [x]}}", "has 2 numbers and 1 names"),
        ("columns: {phase: {kind: class, tiers: [a], classes: [x]}}\nvideos: {op1: a.mp4, op2: {files: [b.mp4, a.mp4]}}",
         r"videos\.op2 has the file 'a.mp4', which videos\.op1 has already"),
        ("columns: {phase: {kind: class, tiers: [a], classes: [x]}}\nvideos: {op1: {files: [a.mp4, a.mp4]}}",
         r"videos\.op1 has the file 'a.mp4', which videos\.op1 has already"),
        ("columns: {phase: {kind: class, tiers: [a], classes: [x]}}\nvideos: {op1: a.mp4}\nskip_labels: [op1]",
         r"skip_labels leaves out the labels of 'op1', which videos\.op1 uses"),
    ],
)  # fmt: skip
def test_a_wrong_mapping_is_refused_in_one_sentence(tmp_path: Path, text: str, complaint: str):
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint) as caught:
        read_mapping(path)
    assert "\n" not in str(caught.value)


def test_labels_that_are_only_remarks_are_no_column():
    remarks = tier("seen", *((n, n + 1, f"remark {n}") for n in range(400)))
    with pytest.raises(AnnotationError, match=r"nothing that could be a column of labels \(found are seen\)"):
        derived(remarks)


@pytest.mark.parametrize("name", ["label", "Class", "category", "phase"])
def test_a_class_of_whole_videos_is_a_column_that_holds_all_the_time(name):
    labels = [
        VideoLabels(f"op{n}", (), {name: value, "split": "train"}) for n, value in enumerate(("chole", "hernia"))
    ]
    mapping = derive_mapping(labels, {})
    column = name.lower()
    assert (mapping.columns[column].kind, mapping.columns[column].classes) == ("class", ("chole", "hernia"))
    assert at(labels[1], mapping, 0, 1e6) == {column: ["hernia"] * 2}
    assert mapping.groups == {"split": "split"}


def test_step_numbers_are_classes_in_their_order_and_other_decimals_are_numbers():
    found = [(n, n + 1, value) for n, value in enumerate(("1.1", "2.1", "1.10", "1.2"))]
    for name in ("step", "Phase", "task"):
        column = derived(tier(name, *found)).columns[name.lower()]
        assert (column.kind, column.classes) == ("class", ("1.1", "1.2", "1.10", "2.1"))
    assert derived(tier("force", *found)).columns["force"].kind == "numbers"
    assert derived(tier("force", (0, 1, "0,5"), (1, 2, "1,5"), (2, 3, "5,1"))).columns["force"].kind == "numbers"


@pytest.mark.parametrize("name", ["Notizen", "Alter", "Name", "patient name", "Kommentar", "notes"])
def test_what_is_about_persons_or_written_freely_becomes_no_class(name):
    mapping = derived(tier("phase", (0, 9, "cut")), tier(name, (0, 3, "Maria Muster"), (3, 5, "slow"), (5, 9, "61")))
    assert list(mapping.columns) == ["phase"]
    assert mapping.unused == (name,)


def test_texts_of_which_hardly_one_comes_twice_become_no_classes_and_many_classes_do():
    phases = tier("phase", (0, 9, "cut"))
    remarks = derived(phases, tier("seen", *((n, n + 1, f"remark {n}") for n in range(70))))
    assert (list(remarks.columns), remarks.unused) == (["phase"], ("seen",))
    many = derived(phases, tier("seen", *((n, n + 1, f"organ {n % 70}") for n in range(140))))
    assert len(many.columns["seen"].classes) == 70


def test_a_tier_called_name_holds_the_phases_where_nothing_else_does():
    assert derived(tier("name", (0, 3, "cut"), (3, 5, "sew"))).columns["name"].classes == ("cut", "sew")


def test_a_tier_names_the_patient_if_it_has_one_value_in_each_video_and_never_the_hospital():
    phases = tier("phase", (0, 9, "cut"))
    one = derived(phases, tier("Patient ID", (0, 9, "7")), tier("site", (0, 9, "liver")))
    assert (one.groups, list(one.columns)) == ({"patient": "Patient ID"}, ["phase", "site"])
    two = derived(phases, tier("Patient ID", (0, 5, "7"), (5, 9, "8")))
    assert (two.groups, list(two.columns), two.unused) == ({}, ["phase"], ("Patient ID",))
    with pytest.raises(AnnotationError, match=r"nothing that could be a column of labels \(found are Pat\. no\.\)"):
        derived(tier("Pat. no.", (0, 9, "7")))


def test_a_video_that_stands_twice_in_a_mapping_is_refused(tmp_path):
    file = tmp_path / "mapping.yaml"
    file.write_text(
        "columns: {phase: {kind: class, tiers: [phase], classes: [cut]}}\nvideos:\n  op1: a.mp4\n  op1: b.mp4\n"
    )
    with pytest.raises(InputError, match="is not YAML: op1 comes twice"):
        read_mapping(file)
