"""Labels of one data set in the classes of another."""

import datasets
import pytest

from surgvista_hf.datasets_scripts.schema.info import DatasetError
from surgvista_hf.datasets_scripts.schema.label_mapping import map_classes


def phases(*names: str, values=(0, 1, 2, None)) -> datasets.Dataset:
    features = datasets.Features({"phase": datasets.ClassLabel(names=list(names)), "row": datasets.Value("int32")})
    return datasets.Dataset.from_dict({"phase": list(values), "row": list(range(len(values)))}, features)


def test_classes_are_matched_by_name_not_by_number():
    mapped = map_classes(phases("sew", "cut", "tie"), "phase", ["cut", "tie", "sew", "burn"])
    assert mapped["phase"][:] == [2, 0, 1, None]
    assert mapped.features["phase"].names == ["cut", "tie", "sew", "burn"]
    assert mapped["row"][:] == [0, 1, 2, 3]


def test_equal_classes_leave_the_frame_set_as_it_is():
    frames = phases("sew", "cut", "tie")
    assert map_classes(frames, "phase", ["sew", "cut", "tie"]) is frames


def test_classes_of_other_names_are_mapped_or_left_out():
    mapped = map_classes(phases("sewing", "cut", "idle"), "phase", ["cut", "sew"], {"sewing": "sew", "idle": None})
    assert mapped["phase"][:] == [1, 0, None, None]


def test_several_classes_a_frame_are_mapped_each():
    features = datasets.Features({"tools": datasets.List(datasets.ClassLabel(names=["hook", "clip", "other"]))})
    frames = datasets.Dataset.from_dict({"tools": [[0, 1], [], [2], None]}, features)
    mapped = map_classes(frames, "tools", ["clip", "hook"], {"other": None})
    assert mapped["tools"][:] == [[0, 1], [], [], None]


@pytest.mark.parametrize(
    ("mapping", "complaint"),
    [
        ({}, r"the classes sewing of the column 'phase' are none of cut, sew"),
        ({"sewing": "swe"}, r"'sewing' is to be 'swe', which is no class here"),
        ({"sowing": "sew"}, r"has no class 'sowing'; did you mean sewing"),
    ],
)
def test_a_class_without_a_counterpart_is_refused(mapping, complaint):
    with pytest.raises(DatasetError, match=complaint):
        map_classes(phases("sewing", "cut", values=(0, 1)), "phase", ["cut", "sew"], mapping)


def test_numbers_are_no_classes():
    frames = datasets.Dataset.from_dict({"cvs": [[0.0, 1.0]]})
    with pytest.raises(DatasetError, match="are no classes"):
        map_classes(frames, "cvs", ["a", "b"])
