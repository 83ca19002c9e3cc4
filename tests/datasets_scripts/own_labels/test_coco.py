"""JSON in the style of COCO: frames of videos with objects, labels of whole frames, objects that list all frames."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.own_labels import coco
from surgvista_hf.datasets_scripts.own_labels.frame_names import split_frame_name
from surgvista_hf.datasets_scripts.schema.info import AnnotationError

from .reading import RANDOM, by_video, documents, edited, tiers, written

CATEGORIES = [{"id": 1, "name": "grasper", "supercategory": "tool"}, {"id": 7, "name": "hook"}]


def image(number: int, file_name: str, **more: object) -> dict[str, object]:
    return {"id": number, "file_name": file_name, "width": 854, "height": 480, "license": 1} | more


def box(number: int, image_id: int, category: int) -> dict[str, object]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "bbox": [1, 2, 3, 4],
        "area": 12,
        "iscrowd": 0,
    }


def coco_file(images: list, annotations: list, **more: object) -> dict[str, object]:
    return {
        "info": {"year": 2026},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": CATEGORIES,
    } | more


def test_objects_are_labels_of_their_frames_and_frames_without_any_are_empty(tmp_path):
    made = coco_file(
        [image(1, "op1/000003.jpg"), image(2, "op1/000001.jpg"), image(3, "op2/frame_000009.png")],
        [box(1, 1, 7), box(2, 1, 1), box(3, 3, 1), box(4, 3, 1)],
    )
    found = by_video(coco.read(written(tmp_path, "a.json", made)))
    assert tiers(found["op1"]) == {"category": [(1, 2, ""), (3, 4, "hook"), (3, 4, "grasper")]}
    assert tiers(found["op2"]) == {"category": [(9, 10, "grasper"), (9, 10, "grasper")]}
    assert found["op1"].tiers[0].rate is None
    assert found["op1"].tiers[0].spans[1].where == "a.json, annotations[0]"


def test_videos_and_frames_may_be_named_by_keys(tmp_path):
    made = coco_file(
        [
            image(1, "a.jpg", video_id=4, frame_id=25),
            image(2, "b.jpg", video_id=4, frame_index=26),
            image(3, "c.jpg", video_id=5, frame_number="27", order_in_video=1),
        ],
        [box(1, 1, 1)],
        videos=[{"id": 4, "name": "op4.mp4"}, {"id": 5, "file_name": "site/op5.mp4", "name": "five"}, {"id": 6}],
    )
    found = by_video(coco.read(written(tmp_path, "a.json", made)))
    assert {video: tiers(labels) for video, labels in found.items()} == {
        "op4.mp4": {"category": [(25, 26, "grasper"), (26, 27, "")]},
        "site/op5.mp4": {"category": [(27, 28, "")]},
        "6": {},
    }
    assert found["op4.mp4"].where == "a.json, videos[0]"


def test_labels_of_whole_frames_as_in_endoscapes_have_tiers_of_their_own(tmp_path):
    more = {"is_det_keyframe": True, "video_id": 8, "frame_id": ""}
    made = coco_file(
        [
            image(8014775, "8_14775.jpg", ds=[0.3333333333333333, 0.0, 1.0], is_ds_keyframe=True, **more),
            image(8014800, "8_14800.jpg", ds=None, tags=["smoke", "blood"], phase="cut", **more),
        ],
        [box(1, 8014775, 7)],
    )
    (labels,) = coco.read(written(tmp_path, "annotation_ds_coco.json", made))
    assert labels.video == "8"
    assert tiers(labels) == {
        "category": [(14775, 14776, "hook"), (14800, 14801, "")],
        "ds[0]": [(14775, 14776, "0.3333333333333333")],
        "ds[1]": [(14775, 14776, "0.0")],
        "ds[2]": [(14775, 14776, "1.0")],
        "is_ds_keyframe": [(14775, 14776, "true")],
        "is_det_keyframe": [(14775, 14776, "true"), (14800, 14801, "true")],
        "tags": [(14800, 14801, "smoke"), (14800, 14801, "blood")],
        "phase": [(14800, 14801, "cut")],
    }


def test_objects_that_list_all_frames_of_a_video_are_read(tmp_path):
    made = {
        "videos": [
            {"id": 1, "file_names": ["op1/00000.jpg", "op1/00005.jpg", "op1/00010.jpg"], "length": 3},
            {"id": 2},
        ],
        "annotations": [
            {
                "id": 1,
                "video_id": 1,
                "category_id": 7,
                "bboxes": [[1, 2, 3, 4], None, [1, 2, 3, 4]],
                "areas": [9, None, 9],
            },
            {"id": 2, "video_id": 1, "category_id": 1, "segmentations": [None, {"counts": "a", "size": [1, 2]}, None]},
            {"id": 3, "video_id": 2, "category_id": 1, "bboxes": [None, [1, 2, 3, 4]]},
        ],
        "categories": CATEGORIES,
    }
    found = by_video(coco.read(written(tmp_path, "a.json", made)))
    assert {video: tiers(labels) for video, labels in found.items()} == {
        "1": {"category": [(0, 1, "hook"), (5, 6, "grasper"), (10, 11, "hook")]},
        "2": {"category": [(1, 2, "grasper")]},
    }


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("8_14775.jpg", ("8", 14775)),
        ("op1/000123.jpg", ("op1", 123)),
        ("train/op1/frame_000123.PNG", ("train/op1", 123)),
        ("D:\\frames\\op1\\frame-7.jpeg", ("D:/frames/op1", 7)),
        ("video01_000123.png", ("video01", 123)),
        ("VID68_t50_0007.png", ("VID68_t50", 7)),
        ("000123.jpg", ("", 123)),
        ("000123", ("", 123)),
        ("frame000123.jpg", ("", 123)),
        ("first.jpg", None),
        ("", None),
        ("a/b/", None),
        ("op1/1234567890123.jpg", None),
    ],
)
def test_a_name_of_a_frame_says_its_video_and_number(name, parts):
    assert split_frame_name(name) == parts


IMAGES = [image(1, "op1/1.jpg"), image(2, "op1/2.jpg")]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"images": [', "is not JSON"),
        ([], "it has no list of 'categories'"),
        ({"images": IMAGES, "annotations": []}, "it has no list of 'categories'"),
        ({"categories": {"triplet": {}}}, "categories: a list is expected, here is an object"),
        ({"categories": []}, "it has neither 'images' nor 'videos'"),
        (coco_file(IMAGES, [box(1, 1, 3)]), r"annotations\[0\]: there is no category with the id 3; known are 1, 7"),
        (coco_file(IMAGES, [box(1, 9, 1)]), r"annotations\[0\]: there is no image with the id 9"),
        (
            coco_file([*IMAGES, image(1, "op1/3.jpg")], []),
            r"images\[2\]: the id 1 is there twice, first at images\[0\]",
        ),
        (
            coco_file([*IMAGES, image(3, "op1/01.jpg")], []),
            r"images\[2\]: frame 1 of the video 'op1' is there twice, first at images\[0\]",
        ),
        (coco_file([image(1, "first.jpg")], []), r"images\[0\].file_name: 'first.jpg' holds no number of a frame"),
        (
            coco_file([image(1, "12.jpg")], []),
            r"images\[0\]: neither video_id nor .* nor the name '12.jpg' says the video",
        ),
        (
            coco_file([image(1, "a/1.jpg", frame_id=-1)], []),
            r"frame_id: a number of at least 0 is expected, here is -1",
        ),
        (
            coco_file([image(1, "1.jpg", video_id=3)], [], videos=[{"id": 1}]),
            r"images\[0\]: there is no video '3'; known are 1",
        ),
        (coco_file(IMAGES, [{"id": 1, "category_id": 1}]), r"annotations\[0\]: there is no 'image_id'"),
        (
            {
                "videos": [{"id": 1, "file_names": ["1.jpg"]}],
                "annotations": [{"video_id": 1, "bboxes": [1, 2]}],
                "categories": [],
            },
            r"bboxes: here are 2 frames, the video '1' has 1",
        ),
        (
            {"videos": [{"id": 1}], "annotations": [{"video_id": 2, "bboxes": []}], "categories": []},
            r"annotations\[0\]: there is no video with the id 2; known are 1",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_place(tmp_path, content, complaint):
    with pytest.raises(AnnotationError, match=complaint) as raised:
        coco.read(written(tmp_path, "a.json", content))
    assert str(raised.value).startswith(str(tmp_path / "a.json"))


def test_files_are_recognized_and_other_documents_are_not(tmp_path):
    assert coco.recognizes(written(tmp_path, "a.json", coco_file(IMAGES, [])))
    assert coco.recognizes(written(tmp_path, "b.json", {"annotations": [box(1, 1, 1)] * 9_000, "images": IMAGES}))
    assert not coco.recognizes(written(tmp_path, "c.json", {"project": {"vid_list": []}}))
    assert not coco.recognizes(
        written(tmp_path, "d.json", [{"id": 1, "annotations": [{"result": [{"from_name": "a"}]}]}])
    )


def test_published_labels_in_other_json_are_not_taken_for_it(shared_data):
    for path in (*shared_data.glob("real/cholect50_val/labels/*.json"), *shared_data.glob("annotations/**/*.json")):
        assert not coco.recognizes(path), path


@RANDOM
@given(
    documents(
        "images",
        "videos",
        "annotations",
        "categories",
        "id",
        "file_name",
        "image_id",
        "category_id",
        "a/1.jpg",
        "name",
    )
)
def test_other_documents_raise_nothing_else(tmp_path_factory, document):
    path = written(tmp_path_factory.mktemp("coco"), "a.json", document)
    with suppress(AnnotationError):
        coco.read(path)


@RANDOM
@given(edited(coco_file(IMAGES, [box(1, 1, 1)], videos=[{"id": 1, "name": "op1"}])))
def test_damaged_files_raise_nothing_else(tmp_path_factory, text):
    path = written(tmp_path_factory.mktemp("coco"), "a.json", text)
    with suppress(AnnotationError):
        coco.read(path)


@RANDOM
@given(st.dictionaries(st.integers(0, 500), st.lists(st.sampled_from([1, 7]), max_size=3), min_size=1, max_size=20))
def test_each_frame_has_exactly_its_objects(tmp_path_factory, frames):
    names = {1: "grasper", 7: "hook"}
    images = [image(number, f"op1/{frame:06d}.jpg") for number, frame in enumerate(frames)]
    boxes = [box(0, number, category) for number, found in enumerate(frames.values()) for category in found]
    (labels,) = coco.read(written(tmp_path_factory.mktemp("coco"), "a.json", coco_file(images, boxes)))
    read: dict[int, list[str]] = {}
    for start, stop, value in tiers(labels)["category"]:
        assert stop == start + 1
        read.setdefault(start, []).append(value)
    assert {frame: sorted(found) for frame, found in read.items()} == {
        frame: sorted(names[category] for category in found) or [""] for frame, found in frames.items()
    }
