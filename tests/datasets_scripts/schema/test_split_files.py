"""Files of splits: read as people write them, refused where they contradict themselves, never written over."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.schema.split_files import (
    SplitFileError,
    read_split_file,
    write_split_file,
)
from surgvista_hf.util.files import OutputError

KNOWN = {"op1": "op1", "op2": "op2", "op3": "op3", "007": "007"}


def written(folder, text: str, name: str = "splits.yaml"):
    """Write a file and read it."""
    (folder / name).write_text(text, encoding="utf-8")
    return read_split_file(folder / name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("train: [op1, 007]\nval: [op2]\ntest:\n- op3\n", "splits.yaml"),
        ("splits:\n  train: [op1, 007]\n  validation: [op2]\n  test: [op3]\n", "splits.yml"),
        ('\ufeff{"train": ["op1", "007"], "valid": ["op2"], "test": ["op3"]}', "splits.json"),
        ("train: ['op1', '007']\nvalidation: [op2]\ntest: [op3]\npool: []\n", "splits.txt"),
    ],
)
def test_lists_of_ids_are_enough_and_ids_that_look_like_numbers_stay_text(tmp_path, text, name):
    file = written(tmp_path, text, name)
    assert file.splits() == {"train": ("op1", "007"), "validation": ("op2",), "test": ("op3",)}
    assert file.ids("train", None, KNOWN) == ("007", "op1")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("train: [op1, op2]\ntest: [op2]\n", r"1 videos in two splits, or twice in one: op2 \(train, test\)"),
        ("train: [op1, op1]\n", r"op1 \(train, train\)"),
        ("train: [op1]\ntest: [op2]\ngroups: {p1: [op1, op2]}\n", r"1 groups in two splits.*p1 \(test, train\)"),
        ("train: [op1]\ngroups: {p1: [op1], p2: [op1]}\n", "videos in two groups: op1"),
        (
            "folds:\n- {train: [op1], test: [op2]}\n- {train: [op2], test: [op2]}\n",
            "fold 1 has 1 videos in two splits",
        ),
        ("folds: []\n", "folds is a list"),
        ("folds:\n- {train: [op1]}\ntest: [op2]\n", "no other splits stand beside it"),
        ("train: op1\n", r"train is no list of ids, such as train: \[op1, op2\]"),
        ("train: [[op1]]\n", "train is no list of ids"),
        ("all: [op1]\n", "'all' cannot be a split, since it means every video"),
        ("val: [op1]\nvalidation: [op2]\n", "'validation' cannot be a split, since it comes twice"),
        ("train: [op1]\ntrain: [op2]\n", "train comes twice"),
        ("train: []\n", "has no videos"),
        ("- op1\n", "holds no splits"),
        ("", "holds no splits"),
        ("train: [op1\n", "cannot be read as a file of splits"),
        ("format: 9\ntrain: [op1]\n", "has format 9"),
    ],
)
def test_what_contradicts_itself_is_refused_and_named(tmp_path, text, complaint):
    with pytest.raises(SplitFileError, match=complaint):
        written(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SplitFileError, match=r"nowhere\.yaml cannot be read"):
        read_split_file(tmp_path / "nowhere.yaml")


def test_a_fold_is_chosen_where_there_are_folds_and_only_there(tmp_path):
    folds = written(tmp_path, "folds:\n- {train: [op1], test: [op2]}\n- {train: [op2], test: [op1]}\n")
    assert folds.splits(1)["test"] == ("op1",)
    for number, complaint in ((None, "holds 2 folds: choose one"), (2, r"has the folds 0 … 1"), (-1, "no fold -1")):
        with pytest.raises(SplitFileError, match=complaint):
            folds.splits(number)
    with pytest.raises(SplitFileError, match="holds no folds, so fold 0 cannot be chosen"):
        written(tmp_path, "train: [op1]\n").splits(0)


def test_unknown_ids_are_named_with_the_nearest_known_one(tmp_path):
    file = written(tmp_path, "train: [op1]\ntest: [op33]\n")
    with pytest.raises(
        SplitFileError, match=r"names 1 videos that are not in the frame set: op33; did you mean op3\?"
    ):
        file.ids("train", None, KNOWN)
    assert file.ids("train", None, KNOWN, allow_missing=True) == ("op1",)
    with pytest.raises(SplitFileError, match=r"'test' of splits\.yaml is empty"):
        file.ids("test", None, KNOWN, allow_missing=True)
    with pytest.raises(
        SplitFileError, match=r"no split 'validation' in splits.yaml; it has \['train', 'test', 'all'\]"
    ):
        file.ids("validation", None, KNOWN)


def test_the_source_of_clips_stands_for_all_of_them_but_not_beside_one_of_them(tmp_path):
    clips = {"op1_a": "op1", "op1_b": "op1", "op2_a": "op2"}
    assert written(tmp_path, "train: [op1]\ntest: [op2_a]\n").ids("train", None, clips) == ("op1_a", "op1_b")
    with pytest.raises(SplitFileError, match=r"in two splits.*op1_b \(train, test\)"):
        written(tmp_path, "train: [op1]\ntest: [op1_b]\n").ids("train", None, clips)


def test_videos_in_no_split_are_said(tmp_path, caplog):
    written(tmp_path, "train: [op1]\ntest: [op2]\n", "two_of_four.yaml").ids("train", None, KNOWN)
    assert "2 of 4 videos of the frame set are in no split of two_of_four.yaml: 007, op3" in caplog.text


IDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=8)


@given(st.sets(IDS, min_size=2, max_size=12), st.sampled_from(["splits.yaml", "splits.json"]), st.booleans())
@settings(deadline=None, max_examples=60)
def test_every_id_is_read_as_it_was_written(tmp_path_factory, ids, name, has_folds):
    first, *rest = sorted(ids)
    split = {"train": rest, "test": [first]}
    file = tmp_path_factory.mktemp("ids") / name
    write_split_file(file, {"format": 1, "seed": 3, **({"folds": [split]} if has_folds else {"splits": split})})
    assert read_split_file(file).splits(0 if has_folds else None) == {"train": tuple(rest), "test": (first,)}


def test_a_file_is_written_once(tmp_path):
    content = {"format": 1, "seed": 0, "splits": {"train": ["op1"], "test": ["op2"]}}
    file = tmp_path / "splits.yaml"
    assert write_split_file(file, content)
    before = file.read_bytes()
    assert not write_split_file(file, content)
    with pytest.raises(OutputError, match="holds other splits"):
        write_split_file(file, {**content, "splits": {"train": ["op2"], "test": ["op1"]}})
    assert file.read_bytes() == before
    with pytest.raises(SplitFileError, match=r"should end in \.yaml or \.json"):
        write_split_file(tmp_path / "splits.txt", content)
    with pytest.raises(SplitFileError, match="in two splits"):
        write_split_file(tmp_path / "torn.json", {"splits": {"train": ["op1"], "test": ["op1"]}})
    assert not (tmp_path / "torn.json").exists()
    assert write_split_file(tmp_path / "splits.json", content)
    assert json.loads((tmp_path / "splits.json").read_text()) == content
