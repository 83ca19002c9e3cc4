"""XML files of CVAT 1.1 for videos and images."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.own_labels import cvat
from surgvista_hf.datasets_scripts.schema.info import AnnotationError

from .reading import RANDOM, by_video, edited, tiers, written

LABELS = "<labels><label><name>grasper</name><attributes></attributes></label></labels>"


def box(frame: object, *attributes: tuple[str, str], outside: int = 0, keyframe: int = 1) -> str:
    inside = "".join(f'<attribute name="{name}">{value}</attribute>' for name, value in attributes)
    return (
        f'<box frame="{frame}" keyframe="{keyframe}" outside="{outside}" occluded="0" xtl="1.0" ytl="1.0" xbr="9.5" ybr="9.0" '
        f'z_order="0">{inside}</box>'
    )


def track(number: int, label: str, *shapes: str) -> str:
    return f'<track id="{number}" label="{label}" source="manual">{"".join(shapes)}</track>'


def export(
    *content: str,
    size: int = 100,
    source: str = "<source>op1.mp4</source>",
    step: str = "",
    kind: str = "task",
    start=0,
):
    stop = start + (size - 1) * int(step.removeprefix("step=") or 1)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta>\n<{kind}><id>5</id>'
        f"<name>first operation</name><size>{size}</size><mode>interpolation</mode><start_frame>{start}</start_frame>"
        f"<stop_frame>{stop}</stop_frame><frame_filter>{step}</frame_filter>{LABELS}{source}</{kind}>"
        f"<dumped>2026-01-01 10:00:00.000000+00:00</dumped></meta>{''.join(content)}</annotations>\n"
    )


def read(tmp_path, text: str, name: str = "annotations.xml"):
    (labels,) = cvat.read(written(tmp_path, name, text))
    return labels


def test_a_track_holds_from_shape_to_shape_until_it_is_outside(tmp_path):
    # as CVAT writes polygons, by key frames
    shapes = [
        f'<polygon frame="{frame}" points="3.0,2.0;3.5,9.0" outside="{outside}" occluded="0" keyframe="1"></polygon>'
        for frame, outside in [(0, 0), (1, 1), (6, 0), (9, 0), (12, 1), (13, 0)]
    ]
    labels = read(tmp_path, export(track(0, "grasper", *shapes), size=20))
    assert labels.video == "op1.mp4"
    assert tiers(labels) == {"object": [(0, 1, "grasper"), (6, 12, "grasper"), (13, 20, "grasper")]}
    assert labels.tiers[0].rate is None
    assert labels.tiers[0].spans[1].where == "annotations.xml, track 0, frame 6"


def test_objects_of_several_tracks_overlap_and_values_of_attributes_have_tiers(tmp_path):
    first = [box(frame, ("state", "open" if frame < 3 else "closed"), keyframe=int(frame == 0)) for frame in range(6)]
    second = [box(4, ("state", "open")), box(8, ("state", "open"), outside=1)]
    labels = read(tmp_path, export(track(0, "grasper", *first, box(6, outside=1)), track(1, "hook", *second)))
    assert tiers(labels) == {
        "object": [(0, 6, "grasper"), (4, 8, "hook")],
        "grasper: state": [(0, 3, "open"), (3, 6, "closed")],
        "hook: state": [(4, 8, "open")],
    }


def test_frames_are_those_of_the_video_also_where_only_some_were_annotated(tmp_path):
    text = export(
        track(0, "grasper", box(10), box(15), box(20, outside=1)),
        track(1, "hook", box(25)),
        size=4,
        step="step=5",
        start=10,
    )
    assert tiers(read(tmp_path, text)) == {"object": [(10, 20, "grasper"), (25, 26, "hook")]}


def test_shapes_of_one_frame_are_tracks_of_one_frame(tmp_path):
    text = export(track(0, "clip", box(7), box(8, outside=1)), track(1, "clip", box(99)))
    assert tiers(read(tmp_path, text)) == {"object": [(7, 8, "clip"), (99, 100, "clip")]}


def test_tags_are_read_from_files_for_videos_and_for_images(tmp_path):
    quality = '<attribute name="quality">good</attribute>'
    tags = f'<tag label="cut" frame="3" source="manual">{quality}</tag><tag label="sew" frame="99"/>'
    assert tiers(read(tmp_path, export(tags))) == {
        "tag": [(3, 4, "cut"), (99, 100, "sew")],
        "cut: quality": [(3, 4, "good")],
    }
    images = """<image id="0" name="frame_000003" width="9" height="9"><tag label="cut" source="manual"></tag>
    <box label="grasper" source="manual" occluded="0" xtl="1" ytl="1" xbr="2" ybr="2" z_order="0"></box></image>
    <image id="1" name="frame_000004" width="9" height="9"></image>
    <image id="2" name="frame_000005.PNG" width="9" height="9"><tag label="sew" source="manual"></tag></image>"""
    assert tiers(read(tmp_path, export(images))) == {
        "tag": [(3, 4, "cut"), (5, 6, "sew")],
        "object": [(3, 4, "grasper")],
    }


def test_images_of_several_videos_are_told_apart_by_their_names(tmp_path):
    images = """<image id="0" name="op1/000000.jpg"><tag label="cut"/></image><image id="1" name="op1/000025.jpg"/>
    <image id="2" name="op2_000007.jpg"><tag label="sew"/></image><image id="3" name="site/op3/frame-12.png"/>"""
    found = by_video(cvat.read(written(tmp_path, "a.xml", export(images, source=""))))
    assert {video: tiers(labels) for video, labels in found.items()} == {
        "op1": {"tag": [(0, 1, "cut")]},
        "op2": {"tag": [(7, 8, "sew")]},
        "site/op3": {},
    }


@pytest.mark.parametrize(
    ("text", "video"),
    [
        (export(), "op1.mp4"),
        (export(kind="job"), "op1.mp4"),
        (export(source=""), "first operation"),
        ("<annotations><version>1.1</version></annotations>", "annotations"),
        (
            "<annotations><meta><project><tasks><task><id>7</id><name>t</name><size>9</size><source>op7.mp4</source></task>"
            "</tasks></project></meta></annotations>",
            "op7.mp4",
        ),
        (export(source="").replace("</meta>", "<source>op8.mp4</source></meta>"), "op8.mp4"),  # CVAT before version 2
    ],
)
def test_the_video_is_the_source_of_the_task_and_otherwise_called_as_the_task_or_file(tmp_path, text, video):
    labels = read(tmp_path, text)
    assert labels.video == video
    assert labels.tiers == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (export()[:-20], "is not XML"),
        ("<ANNOTATION_DOCUMENT/>", "is not of CVAT: it is a document <ANNOTATION_DOCUMENT>, not <annotations>"),
        ('<!DOCTYPE a [<!ENTITY e "e">]><annotations/>', "declares a document type"),
        (export(track(0, "a", box(3), box(3))), "track 0: frame 3 does not come after frame 3"),
        (export(track(0, "a", box(5), box(3, outside=1))), "track 0: frame 3 does not come after frame 5"),
        (export(track(0, "a", box(100))), "track 0: frame 100 comes after 99, the last one of the task"),
        (export(track(0, "a", box(1)), track(0, "b", box(1))), "has two tracks with the id '0'"),
        (export(track(0, "a", box("first"))), "track 0, frame: 'first' is no whole number"),
        (export(track(0, "a", box(-1))), "track 0, frame: '-1' is no whole number"),
        (export(track(0, "a", "<box/>")), "track 0: <box> says no frame"),
        (export('<track id="0"><box frame="1"/></track>'), "track 0: there is no label"),
        (export('<tag label="cut" frame="777"/>'), "tag 0: frame 777 comes after 99"),
        (export('<image id="0" name="first.jpg"/>'), r"image 0 \(first.jpg\): its name holds no number of a frame"),
        (export('<image id="0" name="a/1.jpg"/><image id="0" name="a/2.jpg"/>'), "there are two images with this id"),
        (export().replace("<size>100</size>", "<size>many</size>"), "<size>: 'many' is no whole number"),
        (
            "<annotations><meta><project><tasks><task><name>a</name></task><task><name>b</name></task></tasks></project></meta>"
            "</annotations>",
            "is an export of a project of 2 tasks.*export each task by itself",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_place(tmp_path, text, complaint):
    with pytest.raises(AnnotationError, match=complaint) as raised:
        cvat.read(written(tmp_path, "a.xml", text))
    assert str(raised.value).startswith(str(tmp_path / "a.xml"))


def test_files_of_cvat_are_recognized_and_other_xml_is_not(tmp_path):
    assert cvat.recognizes(written(tmp_path, "a.xml", export(track(0, "a", box(1)))))
    assert not cvat.recognizes(written(tmp_path, "b.xml", "<annotation><object/></annotation>"))  # Pascal VOC
    assert not cvat.recognizes(written(tmp_path, "c.eaf", export()))
    assert not cvat.recognizes(tmp_path)


EXPORTS = [
    export(track(0, "a", box(3, ("x", "y")), box(9, outside=1)), '<tag label="cut" frame="3"/>'),
    export('<image id="0" name="op1/1.jpg"><tag label="cut"/></image>'),
]


@RANDOM
@given(st.sampled_from(EXPORTS).flatmap(edited))
def test_damaged_documents_raise_nothing_else(tmp_path_factory, text):
    path = written(tmp_path_factory.mktemp("cvat"), "a.xml", text)
    with suppress(AnnotationError):
        cvat.read(path)


@RANDOM
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 7))
def test_a_track_has_exactly_the_frames_in_which_it_is_visible(tmp_path_factory, visible, step):
    shapes = [box(step * number, outside=int(not here)) for number, here in enumerate(visible)]
    text = export(track(0, "a", *shapes), size=len(visible), step=f"step={step}")
    labels = read(tmp_path_factory.mktemp("cvat"), text)
    spans = tiers(labels).get("object", [])
    covered = [any(start <= step * number < stop for start, stop, _ in spans) for number in range(len(visible))]
    assert covered == visible
    assert all(before[1] < after[0] for before, after in pairwise(spans))
