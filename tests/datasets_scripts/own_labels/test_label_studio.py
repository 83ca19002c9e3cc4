"""Exports of Label Studio: JSON, JSON-MIN, what older versions wrote."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.own_labels import label_studio
from surgvista_hf.datasets_scripts.schema.info import AnnotationError

from .reading import RANDOM, documents, edited, tiers, written


def result(value: dict[str, object], control: str = "phase", kind: str = "timelinelabels") -> dict[str, object]:
    return {"value": value, "id": "aZ3", "from_name": control, "to_name": "video", "type": kind, "origin": "manual"}


def timeline(start: int, end: int, *labels: str) -> dict[str, object]:
    return {"ranges": [{"start": start, "end": end}], "timelinelabels": list(labels)}


def annotation(*results: dict[str, object], **more: object) -> dict[str, object]:
    return {
        "id": 11,
        "completed_by": 1,
        "result": list(results),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-01-01T10:00:00Z",
        "lead_time": 12.5,
    } | more


def task(number: int, *annotations: dict[str, object], video: str = "/data/upload/3/1f2e3d4c-op1.mp4", **more: object):
    return {
        "id": number,
        "annotations": list(annotations),
        "file_upload": "1f2e3d4c-op1.mp4",
        "drafts": [],
        "predictions": [{"result": [result(timeline(1, 9, "guess"))]}],
        "data": {"video": video},
        "meta": {},
        "project": 7,
    } | more


def keys(*frames: tuple[int, bool], count: int | None = 1051) -> dict[str, object]:
    sequence = [
        {
            "frame": frame,
            "enabled": enabled,
            "x": 1,
            "y": 2,
            "width": 3,
            "height": 4,
            "rotation": 0,
            "time": frame / 25,
        }
        for frame, enabled in frames
    ]
    return {"framesCount": count, "duration": 42.0, "sequence": sequence, "labels": ["grasper"]}


EXPORT = [
    task(
        1,
        annotation(
            result(timeline(1, 250, "cut")),
            result(timeline(251, 251, "sew", "tie")),
            result(keys((1, True), (18, True), (25, False), (100, True)), "box", "videorectangle"),
            result({"choices": ["good"]}, "quality", "choices"),
            result({"start": 0.5, "end": 2.25, "channel": 0, "labels": ["speech"]}, "sound", "labels"),
            {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
        ),
        data={"video": "/data/upload/3/1f2e3d4c-op1.mp4", "patient": "p1", "age": 61, "more": {"a": 1}},
    ),
    task(2, video="s3://bucket/site/op%202.mp4"),
]


def test_labels_on_the_timeline_regions_sounds_and_choices_are_read(tmp_path):
    first, second = label_studio.read(written(tmp_path, "project-7.json", EXPORT))
    assert (first.video, second.video) == ("op1.mp4", "site/op 2.mp4")
    assert first.properties == {"quality": "good", "patient": "p1", "age": "61"}
    assert tiers(first) == {
        "phase": [
            (0, 250, "cut"),
            (250, 251, "sew"),
            (250, 251, "tie"),
        ],  # frames count from 1 in the file, from 0 here
        "box": [(0, 25, "grasper"), (99, 1051, "grasper")],
        "sound": [(0.5, 2.25, "speech")],
    }
    assert [tier.rate for tier in first.tiers] == [None, None, 1.0]
    assert first.tiers[0].spans[0].where == "project-7.json, [0].annotations[0].result[0].value"
    assert tiers(second) == {}  # nobody has annotated it


def test_the_short_export_says_the_same(tmp_path):
    short = [
        {
            "video": "/data/upload/3/1f2e3d4c-op1.mp4",
            "id": 1,
            "phase": [timeline(1, 250, "cut"), timeline(251, 251, "sew", "tie")],
            "box": [keys((1, True), (25, False), (100, True))],
            "quality": "good",
            "steps": {"choices": ["a", "b"]},
            "annotator": 1,
            "annotation_id": 11,
            "created_at": "2026-01-01T10:00:00Z",
            "lead_time": 12.5,
        }
    ]
    (labels,) = label_studio.read(written(tmp_path, "min.json", short))
    (full, _) = label_studio.read(written(tmp_path, "full.json", EXPORT))
    assert labels.video == "op1.mp4"
    assert labels.properties == {"quality": "good", "steps": "a, b"}
    assert tiers(labels) == {name: spans for name, spans in tiers(full).items() if name != "sound"}


@pytest.mark.parametrize(
    ("data", "video"),
    [
        ({"video": "/data/local-files/?d=site/op%203.mp4"}, "site/op 3.mp4"),
        ({"video": "https://example.com/videos/op1.mp4?token=a"}, "videos/op1.mp4"),
        ({"video": "op1.mp4"}, "op1.mp4"),
        ({"video": "D:\\videos\\op1.mp4"}, "D:\\videos\\op1.mp4"),
        ({"video": "<video src='/data/upload/1/00aa11bb-op1.mp4' width=100% controls>"}, "op1.mp4"),
        ({"title": "first", "recording": "/data/upload/1/op1.MTS"}, "op1.MTS"),
        ({"video_url": "op7"}, "op7"),
        ({"video": "http://[op1.mp4"}, "http://[op1.mp4"),
    ],
)
def test_the_video_is_the_file_behind_what_the_data_of_a_task_name(tmp_path, data, video):
    (labels,) = label_studio.read(written(tmp_path, "a.json", [task(1, data=data)]))
    assert labels.video == video


def test_of_several_annotations_the_finished_one_or_the_ground_truth_counts(tmp_path):
    first, second = annotation(result(timeline(1, 5, "a"))), annotation(result(timeline(1, 5, "b")))
    truth, cancelled = second | {"ground_truth": True}, first | {"was_cancelled": True}
    for annotations in ([first, truth], [cancelled, second]):
        (labels,) = label_studio.read(written(tmp_path, "a.json", [task(1, *annotations)]))
        assert tiers(labels) == {"phase": [(0, 5, "b")]}
    with pytest.raises(
        AnnotationError, match=r"\[0\]\.annotations: there are 2 annotations, 0 of them marked as ground truth"
    ):
        label_studio.read(written(tmp_path, "a.json", [task(1, first, second)]))


def test_choices_for_a_region_and_exports_that_count_from_zero_are_understood(tmp_path):
    value = timeline(0, 10) | {"choices": ["bleeding"]}
    (labels,) = label_studio.read(
        written(tmp_path, "a.json", [task(1, annotation(result(value, "event", "choices")))])
    )
    assert tiers(labels) == {"event": [(0, 10, "bleeding")]}
    (single,) = label_studio.read(written(tmp_path, "b.json", task(1, annotation(result(timeline(2, 3, "a"))))))
    assert tiers(single) == {"phase": [(1, 3, "a")]}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('[{"id": 1, "annotations"', "is not JSON"),
        ([], "holds no tasks"),
        ([3], r"\[0\]: an object is expected, here is 3"),
        ([{"id": 1, "text": "a"}], r"\[0\]: this is no task of Label Studio: it has no 'data' and no 'annotation_id'"),
        ({"images": [], "annotations": [], "categories": []}, "this is no task of Label Studio"),
        ([task(1), task(1)], r"\[1\]: there are two tasks with the id '1', the other at \[0\]"),
        ([task(1, data={"text": "a"})], r"\[0\]: none of text names a video"),
        (
            [task(1, annotation(result(timeline(5, 3, "a"))))],
            r"ranges\[0\]: the range ends at frame 3, before it starts at frame 5",
        ),
        (
            [task(1, annotation(result(timeline(-5, 3, "a"))))],
            r"start: a number of at least 0 is expected, here is -5",
        ),
        (
            [task(1, annotation(result({"ranges": [{"start": 1.5, "end": 3}]})))],
            r"a whole number is expected, here is 1\.5",
        ),
        ([task(1, annotation(result({"ranges": [{"start": 1}], "timelinelabels": ["a"]})))], "there is no 'end'"),
        (
            [task(1, annotation(result({"start": 3, "end": 3, "labels": ["a"]})))],
            "the region from 3 to 3 s has no length",
        ),
        (
            [task(1, annotation(result(keys((5, True), (5, False)))))],
            r"sequence\[1\]: frame 5 does not come after frame 5",
        ),
        (
            [task(1, annotation(result(keys((5, True), (99, True), count=50))))],
            "frame 99 comes after 50, the last one of the video",
        ),
        (
            [{"video": "a.mp4", "id": 1, "annotation_id": 1}, {"video": "a.mp4", "id": 1, "annotation_id": 2}],
            "the task '1' has several annotations",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_place(tmp_path, content, complaint):
    with pytest.raises(AnnotationError, match=complaint) as raised:
        label_studio.read(written(tmp_path, "a.json", content))
    assert str(raised.value).startswith(str(tmp_path / "a.json"))


def test_exports_are_recognized_and_other_documents_are_not(tmp_path):
    assert label_studio.recognizes(written(tmp_path, "a.json", EXPORT))
    assert label_studio.recognizes(
        written(tmp_path, "b.json", [{"video": "a.mp4", "annotation_id": 1, "lead_time": 2}])
    )
    assert not label_studio.recognizes(written(tmp_path, "c.json", {"images": [], "annotations": []}))
    assert not label_studio.recognizes(written(tmp_path, "d.json", "not JSON"))
    assert not label_studio.recognizes(tmp_path)


@RANDOM
@given(
    documents(
        "data", "video", "annotations", "result", "value", "ranges", "start", "end", "sequence", "frame", "a.mp4"
    )
)
def test_other_documents_raise_nothing_else(tmp_path_factory, document):
    path = written(tmp_path_factory.mktemp("ls"), "a.json", document)
    with suppress(AnnotationError):
        label_studio.read(path)


@RANDOM
@given(edited(EXPORT))
def test_damaged_exports_raise_nothing_else(tmp_path_factory, text):
    path = written(tmp_path_factory.mktemp("ls"), "a.json", text)
    with suppress(AnnotationError):
        label_studio.read(path)


@RANDOM
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8))
def test_ranges_cover_exactly_the_frames_that_were_marked(tmp_path_factory, drawn):
    ranges, frame = [], 1
    for gap, length in drawn:
        ranges.append((frame + gap, frame + gap + length))
        frame += gap + length + 2
    made = [task(1, annotation(*(result(timeline(*each, "a")) for each in ranges)))]
    (labels,) = label_studio.read(written(tmp_path_factory.mktemp("ls"), "a.json", made))
    spans = tiers(labels).get("phase", [])
    covered = {frame + 1 for start, stop, _ in spans for frame in range(start, stop)}
    assert covered == {frame for start, end in ranges for frame in range(start, end + 1)}
