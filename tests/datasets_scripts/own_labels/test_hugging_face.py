"""Folders of videos and data sets as Hugging Face users have them."""

from contextlib import suppress
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.own_labels import hugging_face
from surgvista_hf.datasets_scripts.schema.info import AnnotationError

from .reading import RANDOM, by_video, edited, tiers, written


def videos(folder: Path, *names: str) -> Path:
    for name in names:
        written(folder, name, f"the video {name}")
    return folder


def properties(found) -> dict[str, dict[str, str]]:
    return {labels.video: dict(labels.properties) for labels in found}


def test_a_folder_for_each_class_labels_its_videos(tmp_path):
    videos(tmp_path, "cut/a.mp4", "cut/b.MTS", "sew/a.mp4", "sew/notes.md", "sew/.hidden.mp4")
    assert hugging_face.recognizes(tmp_path)
    assert properties(hugging_face.read(tmp_path)) == {
        "cut/a.mp4": {"label": "cut"},
        "cut/b.MTS": {"label": "cut"},
        "sew/a.mp4": {"label": "sew"},
    }


def test_folders_of_splits_are_above_those_of_classes(tmp_path):
    videos(tmp_path, "train/cut/a.mp4", "val/cut/b.mp4", "test/sew/c.mp4")
    assert properties(hugging_face.read(tmp_path)) == {
        "train/cut/a.mp4": {"label": "cut", "split": "train"},
        "val/cut/b.mp4": {"label": "cut", "split": "validation"},
        "test/sew/c.mp4": {"label": "sew", "split": "test"},
    }


@pytest.mark.parametrize(
    "names",
    [("a.mp4", "b.mp4"), ("train/a.mp4", "test/b.mp4"), ("cut/a.mp4", "b.mp4"), ("cut/a.mp4",), ("cut/notes.txt",)],
)
def test_folders_of_videos_without_classes_are_refused(tmp_path, names):
    videos(tmp_path, *names)
    assert not hugging_face.recognizes(tmp_path)
    with pytest.raises(
        AnnotationError, match="is no folder of videos with labels: it needs a folder for each class, or one of"
    ):
        hugging_face.read(tmp_path)


CSV = 'file_name,patient,grade\nop1.mp4,p1,3\n"site/op 2.mp4","p2, second",\n'
LINES = """{"file_name": "op1.mp4", "patient": "p1", "grade": 3}

{"file_name": "site/op 2.mp4", "patient": "p2, second", "grade": null}
"""


def test_metadata_of_all_forms_give_the_properties_of_videos(tmp_path):
    expected = {"op1.mp4": {"patient": "p1", "grade": "3"}, "site/op 2.mp4": {"patient": "p2, second"}}
    lines = written(tmp_path / "lines", "metadata.jsonl", LINES)
    table = pa.table({"file_name": ["op1.mp4", "site/op 2.mp4"], "patient": ["p1", "p2, second"], "grade": [3, None]})
    (tmp_path / "parquet").mkdir()
    pq.write_table(table, tmp_path / "parquet" / "metadata.parquet")
    for path in (lines, lines.parent, tmp_path / "parquet", tmp_path / "parquet" / "metadata.parquet"):
        assert hugging_face.recognizes(path), path
        assert properties(hugging_face.read(path)) == expected, path
    found = hugging_face.read(written(tmp_path / "csv", "metadata.csv", CSV))
    assert properties(found) == {
        "op1.mp4": expected["op1.mp4"],
        "site/op 2.mp4": {"patient": "p2, second", "grade": ""},
    }
    assert found[1].where == "metadata.csv, line 3"


def test_each_folder_may_have_metadata_of_its_own(tmp_path):
    written(tmp_path, "train/metadata.csv", "video_file_name,label\nop1.mp4,cut\n")
    written(tmp_path, "test/metadata.jsonl", '{"file_name": "op1.mp4", "label": "sew"}\n')
    assert properties(hugging_face.read(tmp_path)) == {
        "test/op1.mp4": {"split": "test", "label": "sew"},
        "train/op1.mp4": {"split": "train", "label": "cut"},
    }


def test_columns_of_segments_are_tiers(tmp_path):
    line = (
        '{"file_name": "op1.mp4",'
        ' "phases": [{"start": 10.5, "end": 20, "label": "sew"}, {"start": 0, "end": 10.5, "label": "cut"}],'
        ' "tools": {"start_time": [1, 2], "end_time": [2, 2], "name": ["grasper", "clip"]}, "empty": [], "numbers": [1, 2],'
        ' "boxes": [{"x": 1}]}\n'
    )
    (labels,) = hugging_face.read(written(tmp_path, "metadata.jsonl", line))
    assert tiers(labels) == {
        "phases": [(0, 10.5, "cut"), (10.5, 20, "sew")],
        "tools": [(1, 2, "grasper"), (2, 2, "clip")],
    }
    assert labels.tiers[0].spans[0].where == "metadata.jsonl, line 1.phases[1]"


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("metadata.csv", "", "has no rows"),
        (
            "metadata.csv",
            "name,label\nop1.mp4,cut\n",
            "line 2: there is no column 'file_name'; the columns are name, label",
        ),
        ("metadata.csv", "file_name,label\nop1.mp4\n", r"metadata\.csv:2 has 1 cells, its header 2"),
        ("metadata.csv", "file_name,label\n,cut\n", "line 2: the file name is empty"),
        (
            "metadata.csv",
            "file_name,label\na.mp4,cut\na.mp4,sew\n",
            "line 3: 'a.mp4' is there twice, first at metadata.csv, line 2",
        ),
        ("metadata.jsonl", '{"file_name": "a.mp4"}\n{"file_name"\n', r"metadata\.jsonl:2 is not JSON"),
        ("metadata.jsonl", "[" * 99_999, r"metadata\.jsonl:1 is not JSON"),
        ("metadata.jsonl", "3\n", "line 1: an object is expected, here is 3"),
        (
            "metadata.jsonl",
            '{"file_name": "a.mp4", "phases": [{"start": 2, "end": 1, "label": "cut"}]}',
            r"line 1.phases\[0\]: the segment ends at 1, before it starts at 2",
        ),
        (
            "metadata.jsonl",
            '{"file_name": "a.mp4", "p": [{"start": 2, "end": 1, "label": "a"}, 5]}',
            "before it starts at 2",
        ),
        ("metadata.parquet", "PAR1 damaged", "cannot be read as a data set"),
    ],
)
def test_metadata_that_cannot_be_understood_are_refused_with_their_line(tmp_path, name, text, complaint):
    with pytest.raises(AnnotationError, match=complaint):
        hugging_face.read(written(tmp_path, name, text))


FEATURES = datasets.Features(
    video=datasets.Video(),
    phase=datasets.ClassLabel(names=["cut", "sew"]),
    tools=datasets.List(datasets.ClassLabel(names=["grasper", "hook"])),
    age=datasets.Value("int32"),
    weight=datasets.Value("float32"),
    day=datasets.Value("date32"),
    segments=datasets.List(
        {
            "start": datasets.Value("float64"),
            "end": datasets.Value("float64"),
            "label": datasets.ClassLabel(names=["cut", "sew"]),
        }
    ),
)


def data_set(*paths: str | None, held: bool = True) -> datasets.Dataset:
    count = len(paths)
    return datasets.Dataset.from_dict(
        {
            "video": [
                {"path": path, "bytes": f"content of {number}".encode() if held else None}
                for number, path in enumerate(paths)
            ],
            "phase": [number % 2 for number in range(count)],
            "tools": [[0, 1][: number % 3] for number in range(count)],
            "age": [60 + number for number in range(count)],
            "weight": [float("nan")] * count,
            "day": [None] * count,
            "segments": [[{"start": 0.5, "end": 2.0, "label": 1}] for _ in range(count)],
        },
        features=FEATURES,
    )


EXPECTED = {
    "op1.mp4": {"phase": "cut", "age": "60", "weight": ""},
    "op2.mp4": {"phase": "sew", "tools": "grasper", "age": "61", "weight": ""},
}


def saved(made: datasets.Dataset, folder: Path, form: str) -> Path:
    if form == "saved":
        made.save_to_disk(str(folder))
    elif form == "splits":
        datasets.DatasetDict(train=made.select([0]), validation=made.select([1])).save_to_disk(str(folder))
    else:
        folder.mkdir()
        made.to_parquet(str(folder / "train-00000-of-00001.parquet"))
    return folder / "train-00000-of-00001.parquet" if form == "file" else folder


@pytest.mark.parametrize("form", ["saved", "parquet", "file"])
def test_a_data_set_with_a_column_of_videos_is_read_and_its_videos_are_written(tmp_path, form):
    path = saved(data_set("D:\\site\\op1.mp4", "data/op2.mp4"), tmp_path / "data", form)
    assert hugging_face.recognizes(path)
    found = hugging_face.read(path)
    assert properties(found) == EXPECTED
    assert tiers(found[0]) == {"segments": [(0.5, 2.0, "sew")]}
    files = hugging_face.extract_videos(path, tmp_path / "videos")
    assert {file.name: file.read_text() for file in files} == {"op1.mp4": "content of 0", "op2.mp4": "content of 1"}
    changed = (tmp_path / "videos" / "op1.mp4").stat().st_mtime_ns
    hugging_face.extract_videos(path, tmp_path / "videos")  # what is there is not written again
    assert (tmp_path / "videos" / "op1.mp4").stat().st_mtime_ns == changed


def test_splits_of_a_data_set_are_properties(tmp_path):
    path = saved(data_set("op1.mp4", "op2.mp4"), tmp_path / "data", "splits")
    assert {name: found["split"] for name, found in properties(hugging_face.read(path)).items()} == {
        "op1.mp4": "train",
        "op2.mp4": "validation",
    }
    (tmp_path / "parquet" / "data").mkdir(parents=True)
    for split, name in (("train", "op1.mp4"), ("test", "op2.mp4")):
        data_set(name).to_parquet(str(tmp_path / "parquet" / "data" / f"{split}-00000-of-00001.parquet"))
    assert {name: found["split"] for name, found in properties(hugging_face.read(tmp_path / "parquet")).items()} == {
        "op1.mp4": "train",
        "op2.mp4": "test",
    }


def test_videos_without_a_name_are_numbered_and_none_is_written_outside_of_the_folder(tmp_path):
    path = saved(data_set(None, "../../..", "a/../../evil.mp4", ".."), tmp_path / "data", "saved")
    names = ["video-00000.mp4", "video-00001.mp4", "evil.mp4", "video-00003.mp4"]
    assert [labels.video for labels in hugging_face.read(path)] == names
    files = hugging_face.extract_videos(path, tmp_path / "videos")
    assert [file.relative_to(tmp_path / "videos").as_posix() for file in files] == names
    assert not list(tmp_path.glob("*.mp4"))


def test_a_data_set_that_only_names_its_videos_gives_their_paths(tmp_path):
    path = tmp_path / "operations.parquet"
    pq.write_table(data_set("site/op1.mp4", "site/op2.mp4", held=False).data.table, path)
    assert [labels.video for labels in hugging_face.read(path)] == ["site/op1.mp4", "site/op2.mp4"]
    assert hugging_face.extract_videos(path, tmp_path / "videos") == []
    assert not (tmp_path / "videos").exists()


def test_two_rows_about_one_video_and_data_sets_without_videos_are_refused(tmp_path):
    path = saved(data_set("a/op1.mp4", "b/op1.mp4"), tmp_path / "twice", "saved")
    with pytest.raises(AnnotationError, match=r"row 1.video: two rows are about the video 'op1.mp4'"):
        hugging_face.read(path)
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "texts"))
    with pytest.raises(AnnotationError, match="texts has no column of videos; its columns are text"):
        hugging_face.read(tmp_path / "texts")
    with pytest.raises(AnnotationError, match="holds no data set with a column of videos"):
        hugging_face.extract_videos(videos(tmp_path / "empty", "notes.txt"), tmp_path / "videos")


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
def test_damaged_data_sets_are_refused_in_one_sentence(tmp_path, name):
    path = saved(data_set("op1.mp4"), tmp_path / "data", "saved")
    (path / name).write_text("damaged")
    with pytest.raises(AnnotationError, match="data cannot be read as a data set: ") as raised:
        hugging_face.read(path)
    assert "\n" not in str(raised.value)


def test_a_name_of_the_hub_is_recognized_and_says_when_it_cannot_be_reached(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hugging_face.recognizes(Path("somebody/operations"))
    for name in ("operations", "a/b/c", "labels/op1.csv", "/somebody/operations"):
        assert not hugging_face.recognizes(Path(name)), name
        with pytest.raises(AnnotationError, match="does not exist"):
            hugging_face.read(Path(name))
    with pytest.raises(
        AnnotationError, match="somebody/operations is neither here nor a data set that can be loaded from the Hub"
    ):
        hugging_face.read(Path("somebody/operations"))
    (tmp_path / "somebody").mkdir()  # then it is a path with a mistake in it
    assert not hugging_face.recognizes(Path("somebody/operations"))


def test_other_folders_and_files_are_not_recognized(tmp_path):
    videos(tmp_path / "operations", "op1/part1.mp4", "op1/labels.eaf", "op2/part1.mp4", "metadata.csv")
    assert not hugging_face.recognizes(tmp_path / "operations")
    assert not hugging_face.recognizes(tmp_path / "operations" / "metadata.csv")
    assert not hugging_face.recognizes(written(tmp_path, "labels/op1.csv", "start,end,label\n0,1,cut\n"))
    assert not hugging_face.recognizes(tmp_path / "labels")
    assert not hugging_face.recognizes(tmp_path / "missing")


@RANDOM
@given(st.sampled_from([("metadata.csv", CSV), ("metadata.jsonl", LINES)]), st.data())
def test_damaged_metadata_raise_nothing_else(tmp_path_factory, form, data):
    name, text = form
    path = written(tmp_path_factory.mktemp("metadata"), name, data.draw(edited(text)))
    with suppress(AnnotationError):
        hugging_face.read(path)


def test_the_same_name_in_two_folders_is_two_videos(tmp_path):
    videos(tmp_path, "cut/a.mp4", "sew/a.mp4")
    assert set(by_video(hugging_face.read(tmp_path))) == {"cut/a.mp4", "sew/a.mp4"}
