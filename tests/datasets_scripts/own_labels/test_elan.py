"""Documents of ELAN in the shape of EAF 2.0 to 3.0: all tiers, those that refer to others, slots without a time."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.own_labels import elan
from surgvista_hf.datasets_scripts.own_labels.model import LabeledSpan, LabelTier, VideoLabels
from surgvista_hf.datasets_scripts.own_labels.phase_files import read_phase_file
from surgvista_hf.datasets_scripts.own_labels.writing import write_elan
from surgvista_hf.datasets_scripts.schema.info import AnnotationError
from surgvista_hf.inference import VideoPrediction

from .reading import RANDOM, edited, tiers, written


def alignable(name: str, first: str, second: str, value: str) -> str:
    return (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{name}" TIME_SLOT_REF1="{first}" TIME_SLOT_REF2="{second}">'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
    )


def referring(name: str, parent: str, value: str, before: str = "") -> str:
    previous = f' PREVIOUS_ANNOTATION="{before}"' if before else ""
    return (
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{name}" ANNOTATION_REF="{parent}"{previous}>'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
    )


def tier(name: str, *annotations: str, parent: str = "") -> str:
    above = f' PARENT_REF="{parent}"' if parent else ""
    return f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="{name}"{above}>{"".join(annotations)}</TIER>'


def document(
    *parts: str, slots: dict[str, int | None], header: str = "<HEADER MEDIA_FILE='' TIME_UNITS='milliseconds'/>"
):
    order = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="{name}"' + (f' TIME_VALUE="{value}"/>' if value is not None else "/>")
        for name, value in slots.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-01-01T10:00:00+01:00" FORMAT="3.0" '
        f'VERSION="3.0">\n{header}<TIME_ORDER>{order}</TIME_ORDER>{"".join(parts)}'
        '<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>'
        "<CONTROLLED_VOCABULARY CV_ID='phases'><DESCRIPTION LANG_REF='und'/><CV_ENTRY_ML CVE_ID='c1'>"
        "<CVE_VALUE DESCRIPTION='' LANG_REF='und'>cut</CVE_VALUE></CV_ENTRY_ML></CONTROLLED_VOCABULARY></ANNOTATION_DOCUMENT>"
    )


def media(*attributes: str) -> str:
    files = "".join(f"<MEDIA_DESCRIPTOR {each}/>" for each in attributes)
    return f'<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">{files}</HEADER>'


SLOTS = {"ts1": 0, "ts2": 1500, "ts3": 3000, "ts4": 6000}
SIMPLE = document(
    tier("phase", alignable("a1", "ts1", "ts2", "cut"), alignable("a2", "ts3", "ts4", "sew")),
    tier("tool", alignable("a3", "ts2", "ts4", " grasper &amp; hook ")),
    tier("empty"),
    slots=SLOTS,
    header=media('MEDIA_URL="file:///D:/videos/op1.mp4" MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="./op1.mp4"'),
)


def test_all_tiers_are_read_with_the_video_and_their_places(tmp_path):
    (labels,) = elan.read(written(tmp_path, "anything.eaf", SIMPLE))
    assert labels.video == "op1.mp4"
    assert tiers(labels) == {
        "phase": [(0.0, 1.5, "cut"), (3.0, 6.0, "sew")],
        "tool": [(1.5, 6.0, "grasper & hook")],
        "empty": [],
    }
    assert labels.tiers[0].rate == 1.0
    assert labels.tiers[1].spans[0].where == "anything.eaf, tier 'tool', annotation a3"


@pytest.mark.parametrize(
    ("header", "video"),
    [
        (media('MEDIA_URL="file:///D:/my%20videos/op%201.mp4" MIME_TYPE="video/mp4"'), "D:/my videos/op 1.mp4"),
        (media('MEDIA_URL="file:///D:/my videos/op 1.mp4" MIME_TYPE="video/mp4"'), "D:/my videos/op 1.mp4"),
        (
            media('MEDIA_URL="file:///data/op1.mp4" RELATIVE_MEDIA_URL="../site/op1.mp4" MIME_TYPE="video/mp4"'),
            "../site/op1.mp4",
        ),
        (
            media(
                'MEDIA_URL="file:///D:/op1.wav" MIME_TYPE="audio/x-wav"',
                'MEDIA_URL="file:///D:/op1.MTS" MIME_TYPE="unknown"',
            ),
            "D:/op1.MTS",
        ),
        (media('MEDIA_URL="50%41.mp4" MIME_TYPE="video/mp4"'), "50%41.mp4"),
        ('<HEADER MEDIA_FILE="op2.mpg" TIME_UNITS="milliseconds"/>', "op2.mpg"),
        ('<HEADER MEDIA_FILE=""/>', "labels"),
        ("", "labels"),
    ],
)
def test_the_video_is_the_one_that_the_header_names_and_otherwise_called_as_the_file(tmp_path, header, video):
    text = document(tier("phase", alignable("a1", "ts1", "ts2", "cut")), slots=SLOTS, header=header)
    assert [labels.video for labels in elan.read(written(tmp_path, "labels.eaf", text))] == [video]


def test_times_count_from_the_beginning_of_the_video_also_where_elan_skips_a_part_of_it(tmp_path):
    header = media('MEDIA_URL="op1.mp4" MIME_TYPE="video/mp4" TIME_ORIGIN="12040"')
    text = document(tier("phase", alignable("a1", "ts1", "ts2", "cut")), slots=SLOTS, header=header)
    path = written(tmp_path, "op1.eaf", text)
    assert tiers(elan.read(path)[0]) == {"phase": [(12.04, 13.54, "cut")]}
    assert [(span.start, span.stop) for span in read_phase_file(path).spans] == [(12.04, 13.54)]


def test_slots_without_a_time_divide_the_annotation_above_evenly(tmp_path):
    slots = {"ts1": 1000, "ts2": None, "tsx": 1100, "ts3": None, "ts4": 4000, "ts5": None}
    text = document(
        # the order of tiers in the file says nothing of their order in the hierarchy
        tier("stitch", alignable("b1", "ts1", "ts5", "in"), alignable("b2", "ts5", "ts2", "out"), parent="step"),
        tier(
            "step",
            alignable("a2", "ts1", "ts2", "first"),
            alignable("a3", "ts2", "ts3", "second"),
            alignable("a4", "ts3", "ts4", "third"),
            parent="phase",
        ),
        tier("phase", alignable("a1", "ts1", "ts4", "sew")),
        tier("other", alignable("a9", "ts1", "tsx", "tool")),
        slots=slots,
    )
    assert tiers(elan.read(written(tmp_path, "op1.eaf", text))[0]) == {
        "phase": [(1.0, 4.0, "sew")],
        "step": [(1.0, 2.0, "first"), (2.0, 3.0, "second"), (3.0, 4.0, "third")],
        "stitch": [(1.0, 1.5, "in"), (1.5, 2.0, "out")],
        "other": [(1.0, 1.1, "tool")],
    }


def test_annotations_that_refer_to_others_have_their_times_and_share_them_in_order(tmp_path):
    text = document(
        tier("verb", referring("c1", "b1", "grasp"), referring("c3", "b2", "release"), parent="tool"),
        tier(
            "tool",
            referring("b3", "a2", "third", before="b2"),
            referring("b1", "a2", "first"),
            referring("b2", "a2", "second", before="b1"),
            referring("b0", "a1", "alone"),
            parent="phase",
        ),
        tier("phase", alignable("a1", "ts1", "ts2", "cut"), alignable("a2", "ts3", "ts4", "sew")),
        slots=SLOTS,
    )
    assert tiers(elan.read(written(tmp_path, "op1.eaf", text))[0]) == {
        "phase": [(0.0, 1.5, "cut"), (3.0, 6.0, "sew")],
        "tool": [(0.0, 1.5, "alone"), (3.0, 4.0, "first"), (4.0, 5.0, "second"), (5.0, 6.0, "third")],
        "verb": [(3.0, 4.0, "grasp"), (4.0, 5.0, "release")],
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not XML"),
        (SIMPLE[:-300], "is not XML"),
        (
            "<annotations><version>1.1</version></annotations>",
            "is not an annotation document of ELAN but a <annotations>",
        ),
        ('<!DOCTYPE a [<!ENTITY e "x">]><ANNOTATION_DOCUMENT/>', "declares a document type"),
        (
            '<?xml version="1.0"?>\n<!-- ELAN -->\n<!DOCTYPE a SYSTEM "file:a">\n<ANNOTATION_DOCUMENT/>',
            "declares a document type",
        ),
        (SIMPLE.replace("milliseconds", "NTSC-frames"), "gives times in NTSC-frames; milliseconds are expected"),
        (SIMPLE.replace('"1500"', '"1.5"'), "time slot 'ts2' has the time '1.5'"),
        (SIMPLE.replace('"1500"', '"-1500"'), "time slot 'ts2' has the time '-1500'"),
        (SIMPLE.replace('"1500"', '"¹"'), "time slot 'ts2' has the time '¹'"),
        (SIMPLE.replace('SLOT_ID="ts2"', 'SLOT_ID="ts1"'), "has two time slots 'ts1'"),
        (SIMPLE.replace('"a3"', '"a1"'), "has two annotations 'a1', the second on the tier 'tool'"),
        (SIMPLE.replace('TIER_ID="tool"', 'TIER_ID="phase"'), "has two tiers 'phase'"),
        (
            SIMPLE.replace('REF1="ts3"', 'REF1="ts4"'),
            r"tier 'phase', annotation a2: 'sew' from 6 to 6 s has no length",
        ),
        (SIMPLE.replace('REF2="ts2"', 'REF2="ts9"'), r"annotation a1 \('cut'\) has no time; align it in ELAN"),
        (SIMPLE.replace(' TIME_VALUE="1500"', ""), r"annotation a1 \('cut'\) has no time"),
        (
            document(tier("tool", referring("b1", "a7", "x")), slots={}),
            "'b1' of the tier 'tool' refers to 'a7', which leads to no",
        ),
        (
            document(tier("a", referring("b1", "b2", "x")), tier("b", referring("b2", "b1", "y")), slots={}),
            "which leads to no annotation with times",
        ),
        (
            document(
                tier("phase", alignable("a1", "ts1", "ts2", "cut")),
                tier("tool", referring("b1", "a1", "x"), referring("b2", "a1", "y")),
                slots=SLOTS,
            ),
            "'b1' and 'b2' of the tier 'tool' have the same place below 'a1'",
        ),
        (
            document(
                tier("phase", alignable("a1", "ts1", "ts2", "cut")),
                tier("tool", referring("b1", "a1", "x", "b2"), referring("b2", "a1", "y", "b1")),
                slots=SLOTS,
            ),
            "name no first one and its followers",
        ),
        (
            document(tier("phase"), slots={}, header=media('MEDIA_URL="a.mp4" TIME_ORIGIN="soon"')),
            "'a.mp4' has the time origin 'soon'",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_place(tmp_path, text, complaint):
    with pytest.raises(AnnotationError, match=complaint) as raised:
        elan.read(written(tmp_path, "op1.eaf", text))
    assert str(raised.value).startswith(str(tmp_path / "op1.eaf"))


def test_a_label_may_speak_of_document_types(tmp_path):
    text = SIMPLE.replace("cut", "&lt;!DOCTYPE&gt;", 1)
    assert tiers(elan.read(written(tmp_path, "op1.eaf", text))[0])["phase"][0] == (0.0, 1.5, "<!DOCTYPE>")


def test_documents_are_recognized_by_their_suffix_or_beginning(tmp_path):
    assert elan.recognizes(written(tmp_path, "op1.eaf", "damaged"))
    assert elan.recognizes(written(tmp_path, "op1.xml", SIMPLE))
    assert not elan.recognizes(written(tmp_path, "cvat.xml", "<annotations/>"))
    assert not elan.recognizes(tmp_path)
    assert not elan.recognizes(tmp_path / "missing.eaf")


@RANDOM
@given(edited(SIMPLE))
def test_damaged_documents_raise_nothing_else(tmp_path_factory, text):
    path = written(tmp_path_factory.mktemp("elan"), "op1.eaf", text)
    with suppress(AnnotationError):
        elan.read(path)


VALUES = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8)
MILLISECONDS = st.integers(0, 36_000_000)
TIERS = st.dictionaries(
    VALUES, st.lists(st.tuples(MILLISECONDS, st.integers(1, 10**6), VALUES), max_size=6), max_size=4
)


@RANDOM
@given(TIERS)
def test_what_is_written_is_read_back_to_the_millisecond(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("elan") / "op1.eaf"
    expected = {}
    for name, spans in drawn.items():  # spans of one tier follow each other, here without overlap
        time, expected[name] = 0, []
        for gap, length, value in spans:
            expected[name].append(((time + gap) / 1000, (time + gap + length) / 1000, value))
            time += gap + length
    labels = VideoLabels(
        "op é 1.mp4",
        tuple(LabelTier(name, tuple(LabeledSpan(*span, "") for span in spans)) for name, spans in expected.items()),
    )
    write_elan(labels, path)
    (read,) = elan.read(path)
    assert read.video == "op é 1.mp4"
    assert tiers(read) == expected


@RANDOM
@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=20), st.integers(0, 999))
def test_what_predict_writes_has_the_same_segments(tmp_path_factory, classes, offset):
    folder = tmp_path_factory.mktemp("predicted")
    made = VideoPrediction(
        "op 1.mp4", np.arange(len(classes)) + offset / 1000, np.eye(3)[classes], ["cut", "sew & tie", "<clip>"]
    )
    made.save(folder, ["eaf"])
    (read,) = elan.read(folder / "annotations.eaf")
    assert read.video == "op 1.mp4"
    assert tiers(read) == {
        name: [(round(each.start, 3), round(each.end, 3), each.label) for each in segments]
        for name, segments in made.tiers().items()
    }
