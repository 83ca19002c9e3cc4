"""Projects of the VGG Image Annotator, version 3."""

from contextlib import suppress

import pytest
from hypothesis import given

from surgvista_hf.datasets_scripts.own_labels import via
from surgvista_hf.datasets_scripts.schema.info import AnnotationError

from .reading import RANDOM, documents, edited, tiers, written


def attribute(name: str, anchor: str, kind: int, **options: str) -> dict[str, object]:
    return {"aname": name, "anchor_id": anchor, "type": kind, "desc": "", "options": options, "default_option_id": ""}


def entry(view: str, times: list[float], values: dict[str, str], flags: int = 0) -> dict[str, object]:
    return {"vid": view, "flg": flags, "z": times, "xy": [], "av": values}


def project(metadata: dict[str, object], **more: object) -> dict[str, object]:
    return {
        "project": {
            "pid": "__VIA_PROJECT_ID__",
            "rev": "1",
            "rev_timestamp": "1700000000",
            "pname": "phases",
            "data_format_version": "3.1.1",
            "creator": "VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)",
            "created": 1700000000000,
            "vid_list": ["1", "2"],
        },
        "config": {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}, "ui": {}},
        "attribute": {
            "1": attribute("phase", "FILE1_Z2_XY0", 4, a="cut", b="sew"),
            "2": attribute("tool", "FILE1_Z1_XY1", 2, **{"0": "grasper", "1": "hook"}),
            "3": attribute("remark", "FILE1_Z2_XY0", 1),
            "4": attribute("patient", "FILE1_Z0_XY0", 1),
        },
        "file": {
            "1": {"fid": "1", "fname": "op1.mp4", "type": 4, "loc": 1, "src": ""},
            "2": {"fid": 2, "fname": "op2.mp4", "type": 4, "loc": 1, "src": ""},
        },
        "metadata": metadata,
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": [2]}},
    } | more


PROJECT = project(
    {
        "1_b": entry("1", [10.5, 20.25], {"1": "b", "3": "tie, cut"}),
        "1_a": entry("1", [0, 10.5], {"1": "a"}),
        "1_deleted": entry("1", [0, 99], {"1": "a"}, flags=1),
        "1_region": entry("1", [12.04], {"2": "0,1"}) | {"xy": [2, 10, 20, 40, 50]},
        "2_file": entry("2", [], {"4": "p2"}),
    }
)


def test_segments_regions_and_values_of_files_are_read(tmp_path):
    first, second = via.read(written(tmp_path, "via.json", PROJECT))
    assert (first.video, second.video) == ("op1.mp4", "op2.mp4")
    assert tiers(first) == {
        "phase": [(0.0, 10.5, "cut"), (10.5, 20.25, "sew")],
        "remark": [(10.5, 20.25, "tie, cut")],
        "tool": [(12.04, 12.04, "grasper"), (12.04, 12.04, "hook")],
    }
    assert first.tiers[0].spans[0].where == "via.json, metadata.1_a"
    assert tiers(second) == {}
    assert second.properties == {"patient": "p2"}


def test_options_may_be_named_by_their_text_and_the_default_timeline_has_none(tmp_path):
    default = attribute("TEMPORAL-SEGMENTS", "FILE1_Z2_XY0", 4)
    made = project(
        {
            "1_a": entry("1", [0, 1], {"1": "cut"}),
            "1_b": entry("1", [1, 2], {"1": ""}),
            "1_c": entry("1", [2, 3], {"9": "_DEFAULT"}),
        }
    )
    made["attribute"]["9"] = default
    assert tiers(via.read(written(tmp_path, "via.json", made))[0]) == {
        "phase": [(0, 1, "cut"), (1, 2, "")],
        "TEMPORAL-SEGMENTS": [(2, 3, "_DEFAULT")],
    }


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"project": {', "is not JSON"),
        ([1], r"an object is expected, here is a list"),
        (
            {"_via_settings": {}, "_via_img_metadata": {"a": {}}},
            "is a project of VIA 2, which holds images without times",
        ),
        ({"project": {}, "attribute": {}}, "is no project of VIA 3: it has no 'file' and no 'view' and no 'metadata'"),
        (project({"x": entry("7", [0, 1], {"1": "a"})}), "metadata.x: there is no view '7'; known are 1, 2"),
        (
            project({"x": entry("1", [0, 1], {"8": "a"})}),
            "metadata.x.av.8: there is no attribute '8'; known are 1, 2, 3, 4",
        ),
        (
            project({"x": entry("1", [0, 1], {"1": "c"})}),
            "the attribute 'phase' has no option 'c'; known are cut, sew",
        ),
        (project({"x": entry("1", [0, 1], {"2": "0,7"})}), "the attribute 'tool' has no option '7'"),
        (project({"x": entry("1", [2, 1], {"1": "a"})}), "metadata.x.z: the segment from 2 to 1 s has no length"),
        (project({"x": entry("1", [1, 1], {"1": "a"})}), "the segment from 1 to 1 s has no length"),
        (project({"x": entry("1", [0, 1, 2], {"1": "a"})}), "a segment has a start and an end, here are 3 times"),
        (
            project({"x": entry("1", [-1, 1], {"1": "a"})}),
            r"metadata.x.z\[0\]: a number of at least 0 is expected, here is -1",
        ),
        (project({"x": entry("1", [0, 1], {"1": ["a"]})}), "metadata.x.av.1: a text is expected, here is a list"),
        (
            project({}, view={"1": {"fid_list": ["1", "2"]}}),
            "view.1: this view shows 2 files; views of one video are read",
        ),
        (project({}, view={"1": {"fid_list": ["9"]}}), "view.1: there is no file '9'"),
        (
            project({}, file={"1": {"fname": "a.jpg", "type": 2}}, view={"1": {"fid_list": ["1"]}}),
            "'a.jpg' is an image",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_place(tmp_path, content, complaint):
    with pytest.raises(AnnotationError, match=complaint) as raised:
        via.read(written(tmp_path, "via.json", content))
    assert str(raised.value).startswith(str(tmp_path / "via.json"))


def test_projects_are_recognized_and_other_documents_are_not(tmp_path):
    assert via.recognizes(written(tmp_path, "a.json", PROJECT))
    assert via.recognizes(written(tmp_path, "b.json", {"_via_settings": {}, "_via_img_metadata": {}}))
    assert not via.recognizes(written(tmp_path, "c.json", {"images": []}))
    assert not via.recognizes(written(tmp_path, "d.txt", PROJECT))
    assert not via.recognizes(tmp_path)


@RANDOM
@given(documents("attribute", "file", "view", "metadata", "av", "vid", "z", "fid_list", "fname", "type", "aname", "1"))
def test_other_documents_raise_nothing_else(tmp_path_factory, document):
    path = written(tmp_path_factory.mktemp("via"), "via.json", document)
    with suppress(AnnotationError):
        via.read(path)


@RANDOM
@given(edited(PROJECT))
def test_damaged_projects_raise_nothing_else(tmp_path_factory, text):
    path = written(tmp_path_factory.mktemp("via"), "via.json", text)
    with suppress(AnnotationError):
        via.read(path)
