"""Published JSON of intervals and of instances by frame, and own labels in the same shapes."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.corpora.multibypass140 import PHASES, STEPS
from surgvista_hf.datasets_scripts.own_labels import boris, camma, coco, cvat, elan, label_studio, via
from surgvista_hf.datasets_scripts.schema.info import AnnotationError

from .reading import RANDOM, documents, edited, tiers, written


def interval(start: object, end: object, name: str) -> dict[str, object]:
    return {"start": start, "end": end, "label_name": name, "label_id": 0}


def instance(triplet: int, instrument: int, verb: int, target: int, phase: int) -> list[float]:
    return [triplet, instrument, 1.0, 0.1, 0.1, 0.2, 0.2, verb, target, 1.0, -1.0, -1.0, -1.0, -1.0, phase]


INTERVALS = {"phases": [interval(3000, 6001, "sew"), interval(0, 3000, "cut")], "steps": [], "remark": "none"}
INSTANCES = {
    "video": 1,
    "fps": 1,
    "num_frames": 3,
    "categories": {
        "triplet": {"7": "grasper,grasp,gallbladder", "-1": "null"},
        "instrument": {"0": "grasper", "1": "hook"},
        "phase": {"0": "preparation"},
    },
    "annotations": {
        "23": [],
        "16": [instance(7, 0, 0, 0, 0), instance(-1, 1, -1, -1, 0), instance(-1, 1, -1, -1, 0)],
        "33": [instance(-1, -1, -1, -1, 0)],
    },
}


def test_intervals_are_in_milliseconds_and_instances_in_frames_of_the_rate_of_the_file(tmp_path):
    (labels,) = camma.read(written(tmp_path, "op1.mp4.json", INTERVALS))
    assert labels.video == "op1.mp4"
    assert tiers(labels) == {"phases": [(0, 3000, "cut"), (3000, 6001, "sew")], "steps": []}
    assert labels.tiers[0].rate == 1000
    assert labels.tiers[0].spans[0].where == "op1.mp4.json, phases[1]"
    (labels,) = camma.read(written(tmp_path, "VID01.json", INSTANCES))
    assert labels.video == "VID01"
    assert tiers(labels) == {
        "triplet": [(16, 17, "grasper,grasp,gallbladder"), (23, 24, "")],
        "instrument": [(16, 17, "grasper"), (16, 17, "hook"), (23, 24, "")],
        "phase": [(16, 17, "preparation"), (23, 24, ""), (33, 34, "preparation")],
    }
    assert {tier.rate for tier in labels.tiers} == {1.0}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not JSON"),
        ([], "an object is expected, here is a list"),
        ({"phases": [{"start": 1}]}, "holds neither 'categories' nor lists of intervals with start, end, label_name"),
        ({"phases": [interval(5, 3, "cut")]}, r"phases\[0\]: 'cut' ends at 3 ms, before it starts at 5 ms"),
        (
            {"phases": [interval("soon", 3, "cut")]},
            r'phases\[0\].start: a number of at least 0 is expected, here is "soon"',
        ),
        ({"categories": [], "annotations": {}}, "categories: an object is expected, here is a list"),
        ({"categories": {"other": {}}}, "categories: there are none of triplet, instrument"),
        (INSTANCES | {"fps": 0}, "fps: a rate above 0 is expected"),
        (INSTANCES | {"annotations": {"first": []}}, "'first' is no number of a frame"),
        (INSTANCES | {"annotations": {"1": [[1, 2]]}}, r"annotations.1\[0\]: an instance has 15 numbers, here are 2"),
        (
            INSTANCES | {"annotations": {"1": [instance(8, 0, 0, 0, 0)]}},
            "there is no triplet with the number 8; known are 7, -1",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_place(tmp_path, content, complaint):
    with pytest.raises(AnnotationError, match=complaint):
        camma.read(written(tmp_path, "op1.json", content))


@RANDOM
@given(documents("phases", "start", "end", "label_name", "categories", "annotations", "fps", "triplet", "1"))
def test_other_documents_raise_nothing_else(tmp_path_factory, document):
    path = written(tmp_path_factory.mktemp("camma"), "op1.json", document)
    with suppress(AnnotationError):
        camma.read(path)


@RANDOM
@given(st.sampled_from([INTERVALS, INSTANCES]).flatmap(edited))
def test_damaged_files_raise_nothing_else(tmp_path_factory, text):
    path = written(tmp_path_factory.mktemp("camma"), "op1.json", text)
    with suppress(AnnotationError):
        camma.read(path)


def test_the_published_labels_of_gastric_bypasses_are_read(shared_data):
    files = sorted((shared_data / "annotations" / "multibypass140").rglob("*.json"))
    assert files
    for path in files:
        assert camma.recognizes(path)
        (labels,) = camma.read(path)
        assert labels.video == path.name.removesuffix(".json")
        found = {tier.name: {span.value for span in tier.spans} for tier in labels.tiers}
        assert found["phases"] <= {*PHASES, "severe_index"}
        assert found["steps"] <= set(STEPS)
        content = json.loads(path.read_text())
        assert {tier.name: len(tier.spans) for tier in labels.tiers} == {
            key: len(content[key]) for key in ("phases", "steps")
        }
        assert labels.tiers[0].spans[-1].stop > 10 * 60_000


def test_the_published_labels_of_triplets_are_read(shared_data):
    files = sorted((shared_data / "real" / "cholect50_val" / "labels").glob("*.json"))
    assert len(files) == 5
    frames = set()
    for path in files:
        assert camma.recognizes(path)
        (labels,) = camma.read(path)
        spans = {tier.name: tier.spans for tier in labels.tiers}
        assert {span.value for span in spans["instrument"]} <= {
            "grasper",
            "bipolar",
            "hook",
            "scissors",
            "clipper",
            "irrigator",
            "",
        }
        frames |= {(path.stem, span.start) for found in spans.values() for span in found}
        assert len({span.start for span in spans["phase"]}) == len(spans["phase"])  # one phase a frame
    assert len(frames) == 1128


@pytest.mark.parametrize("reader", [boris, coco, cvat, elan, label_studio, via], ids=lambda reader: reader.FORMAT)
def test_readers_of_other_formats_refuse_the_published_files_in_one_sentence(reader, shared_data):
    files = [*shared_data.glob("real/cholect50_val/labels/VID68.json"), *shared_data.glob("annotations/*/**/*.json")]
    files += [*shared_data.glob("real/*/*.csv")]
    assert len(files) > 8
    for path in files:
        assert not reader.recognizes(path), path
        with pytest.raises(AnnotationError) as raised:
            reader.read(path)
        assert "\n" not in str(raised.value)
