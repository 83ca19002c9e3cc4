"""What is wrong with a download is said with file, line, found and expected; nothing is guessed."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.frame_sets.registry import get_builder
from surgvista_hf.datasets_scripts.schema.info import DatasetError
from tests.datasets_scripts.raw_layouts import LAYOUTS, write_frames, write_video


def edit(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / path).read_text(encoding="utf-8")
        assert old in text
        (root / path).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def remove(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def shorten(path: str, lines: int) -> Callable[[Path], None]:
    """An annotation file that ends too early."""
    return lambda root: (root / path).write_text("\n".join((root / path).read_text().splitlines()[:lines]) + "\n")


def move(path: str, to: str) -> Callable[[Path], None]:
    return lambda root: (root / path).rename(root / to)


def json_value(path: str, *keys: str | int, value: object) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        content = json.loads((root / path).read_text())
        place = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        (root / path).write_text(json.dumps(content))

    return change


PHASES = "phase_annotations/video01-phase.txt"
BAD = [
    # data set, what is done to a good download, what the error says
    ("cholec80", remove(PHASES), r"annotations are missing \(video01: no phases\).*--check"),
    ("cholec80", shorten(PHASES, 31), r"video01: the labels cover 30 source frames, the video 100"),
    (
        "cholec80",
        edit(PHASES, "7\tCalotTriangleDissection", "7\tCalot"),
        r"video01-phase\.txt:9 holds the label 'Calot'; known are Prep",
    ),
    ("cholec80", edit(PHASES, "7\tCalot", "8\tCalot"), r"video01-phase\.txt:9 is about frame 8, 7 is expected"),
    (
        "cholec80",
        edit(PHASES, "3\tPreparation", "3\tPreparation\t1"),
        r"video01-phase\.txt:5 has 3 columns, 2 are expected",
    ),
    (
        "cholec80",
        edit(PHASES, "3\tPreparation", "three\tPreparation"),
        r"video01-phase\.txt:5 holds 'three' where a whole number",
    ),
    (
        "cholec80",
        lambda root: (root / PHASES).write_bytes(b"\xff\xfe\x00"),
        r"video01-phase\.txt cannot be read as text",
    ),
    ("cholec80", lambda root: (root / PHASES).write_text("Frame\tPhase\n"), r"video01-phase\.txt has no rows"),
    (
        "cholec80",
        edit("tool_annotations/video01-tool.txt", "25\t", "26\t"),
        r"video01-tool\.txt:3 is 26 .*frame 25 and zeros",
    ),
    ("cholec80", edit("tool_annotations/video01-tool.txt", "0\t1", "0\t2"), r"video01-tool\.txt:2 is 0 2"),
    ("cholec80", move("videos/video01.mp4", "videos/video99.mp4"), r"video99: not among the 80 videos of Cholec80"),
    (
        "cholec80",
        lambda root: write_video(root / "copy/video01.mp4"),
        r"both look like the video of video01; keep one",
    ),
    ("cholec80", lambda root: (root / "videos/video01.mp4").write_bytes(b""), r"video01\.mp4 is empty"),
    ("m2cai16_workflow", remove("test_dataset/test_workflow_video_03.txt"), r"video_30: no phases"),
    (
        "m2cai16_workflow",
        edit("train_dataset/workflow_video_01.txt", "TrocarPlacement", "Other"),
        r":2 holds the label 'Other'",
    ),
    ("autolaparo", edit("labels/label_01.txt", "7\t7", "7\t9"), r"label_01\.txt:8 holds the label 9; known are 1, 2"),
    ("autolaparo", edit("labels/label_01.txt", "1\t1", "1\t0"), r"must count either from 0 to 6 or from 1 to 7"),
    ("autolaparo", edit("labels/label_01.txt", "1\t1\n", ""), r"label_01\.txt:2 is about frame 2, 1 is expected"),
    (
        "cataracts",
        edit("ground_truth/CATARACTS_2020/dev_gt/test01.csv", "1,0\n", "1,19\n"),
        r"test01\.csv:2 holds the label 19",
    ),
    (
        "cataracts",
        edit("ground_truth/CATARACTS_2020/dev_gt/test01.csv", "Frame,Steps\n", ""),
        r"is about frame 2, 1 is expected",
    ),
    ("cataract101", remove("annotations.csv"), r"there is no annotations\.csv"),
    (
        "cataract101",
        edit("annotations.csv", "269;50;2", "269;10;2"),
        r"annotations\.csv:3: frame 10 of video 269 does not come after 20",
    ),
    ("cataract101", edit("annotations.csv", "269;50;2", "269;50;11"), r"annotations\.csv:3 holds the label 11"),
    ("cataract101", edit("annotations.csv", "934;0;1", "935;0;1"), r"is about video 935, which is not among the 101"),
    (
        "cataract101",
        edit("annotations.csv", "269;50;2", "269,50,2"),
        r"annotations\.csv:3 has 1 columns, 3 are expected",
    ),
    (
        "cataract21",
        edit("labels/case_18.csv", "Tonisieren", "Tonifying"),
        r"case_18\.csv:1 holds the label 'Tonifying'",
    ),
    ("pmlr50", edit("blocking_annotations/01.txt", "9\t1\n", ""), r"01\.txt has 9 rows, the phases have 10"),
    (
        "pmlr50",
        edit("phase_annotations/01.txt", "0\t0", "0\t5"),
        r"01\.txt:2 holds the label 5; known are 0, 1, 2, 3, 4",
    ),
    ("esd57", edit("phases/3.txt", "7\t7", "7\t8"), r"3\.txt:9 holds the label 8"),
    (
        "phase_folder",
        edit("phases/monday.txt", "repair", "tea"),
        r"monday\.txt:3 holds the label 'tea'; known are opening, repair",
    ),
    ("phase_folder", edit("classes.txt", "closing", "opening"), r"classes\.txt must name each phase once"),
    ("surgicalactions160", lambda root: write_video(root / "17_x/17_01.mp4"), r"17_01: not among the 160"),
    ("cholec80_cvs", remove("surgeons_annotations.xlsx"), r"there is none of .*surgeons_annotations\.xlsx"),
    ("cholec80_cvs", lambda root: (root / "surgeons_annotations.xlsx").write_bytes(b"x"), r"is not a spreadsheet"),
    (
        "cholect50",
        json_value("labels/VID01.json", "annotations", "0", 0, 0, value=100),
        r"VID01\.json: frame 0 holds triplets 100; there are 100",
    ),
    (
        "cholect50",
        json_value("labels/VID01.json", "annotations", "0", 0, value=[1, 2]),
        r"frame 0 has 2 numbers, 15 are expected",
    ),
    ("cholect50", json_value("labels/VID01.json", "num_frames", value=5), r"announces 5 frames at 1/s and holds 4"),
    (
        "cholect50",
        json_value("labels/VID01.json", "categories", "triplet", value={"17": "x"}),
        r"triplet 17 is 'x', not as published",
    ),
    ("cholect50", edit("labels/VID01.json", "annotations", "annotation"), r"VID01\.json has no \['annotations'\]"),
    ("cholect50", edit("labels/VID01.json", "{", "["), r"VID01\.json:1 is not JSON"),
    (
        "cholect50",
        json_value("labels/VID01.json", "annotations", "1", 2, 14, value=3),
        r"frame 1 has the phases \[0, 3\]",
    ),
    ("cholect45", edit("verb/VID79.txt", "0,0,1,", "0,"), r"VID79\.txt:1 has 9 columns, 11 are expected"),
    ("cholect45", edit("verb/VID79.txt", "2,0,1", "3,0,1"), r"files of triplets and components differ at frame"),
    (
        "prostate21",
        json_value("annos/test/esadv2.json", "annotations", "2", 0, 0, value=58),
        r"pairs triplet 58 .*no release has that",
    ),
    (
        "prostatd",
        json_value("annos/test/esadv2.json", "annotations", "0", value=[[47, 2, 0, 1] + [-1] * 6]),
        r"this is release 1: use the data set prostate21",
    ),
    (
        "prostate21",
        json_value("annos/test/esadv2.json", "annotations", "2", value=[[58, 3, 4, 3] + [-1] * 6]),
        r"this is release 2: use the data set prostatd",
    ),
    (
        "endoscapes",
        lambda root: [remove(f"{part}/annotation_ds_coco.json")(root) for part in ("train", "val", "test")],
        r"holds neither annotation_ds_coco",
    ),
    ("endoscapes", remove("val/annotation_ds_coco.json"), r"say nothing of the videos 121"),
    (
        "endoscapes",
        json_value("val/annotation_ds_coco.json", "images", 0, "ds", value=[0, 2, 0]),
        r"holds \[0, 2, 0\] where three means",
    ),
    (
        "endoscapes",
        lambda root: write_frames(root / "test", ["999_25.jpg"], [0]),
        r"frames of the videos 999; Endoscapes has 1 to 201",
    ),
    ("heichole", edit("Annotations/Phase/Hei-Chole1_Annotation_Phase.csv", "0,0\n", "0,7\n"), r"holds the label 7"),
    (
        "pitvis",
        edit("annotations_01.csv", "1,1,1", "2,1,1"),
        r"annotations_01\.csv:3 is about second 1 of video 2; second 1 of video 1",
    ),
    ("pitvis", edit("annotations_01.csv", "1,2,14", "1,2,15"), r"annotations_01\.csv:4 holds the step 15"),
    ("pitvis", edit("annotations_01.csv", "int_step", "step"), r"\['int_step'\] are missing"),
    (
        "multibypass140",
        edit("labels/bern/labels_by70/BBP03.mp4.json", '"label_id": 0', '"label_id": 1'),
        r"no such interval or label is published",
    ),
    (
        "multibypass140",
        edit("labels/bern/labels_by70/BBP03.mp4.json", '"start": 1000', '"begin": 1000'),
        r"an interval without 'start'",
    ),
    ("multibypass140", edit("labels/bern/labels_by70/BBP03.mp4.json", '"steps"', '"step"'), r"has no \['steps'\]"),
    ("m2cai16_tool", edit("train_dataset/tool_video_09.txt", "50\t", "51\t"), r"tool_video_09\.txt:4"),
    (
        "psi_ava",
        lambda root: (root / "keyframes/CASE001").rename(root / "keyframes/CASE005"),
        r"CASE005: not among the 8",
    ),
    ("lemon", remove("labels.json"), r"there is no labels\.json"),
    ("lemon", edit("labels.json", "cecectomy", "barbecue"), r"names \['barbecue'\]"),
    (
        "lemon",
        lambda root: write_video(root / "videos/elevenChars.mp4"),
        r"says nothing of the videos elevenChars",
    ),
    (
        "folder",
        lambda root: write_video(root / "left.avi".replace("avi", "mov")),
        r"would both be called left; rename one",
    ),
]


@pytest.mark.parametrize(("name", "spoil", "message"), BAD, ids=[f"{name}-{n}" for n, (name, *_) in enumerate(BAD)])
def test_a_spoilt_download_gives_a_typed_error_that_says_where(name, spoil, message, tmp_path):
    LAYOUTS[name](tmp_path / "raw")
    spoil(tmp_path / "raw")
    with pytest.raises(DatasetError) as caught:
        prepare_frame_set(name, tmp_path / "raw", tmp_path / "out")
    assert re.search(message, str(caught.value)), str(caught.value)
    assert not (tmp_path / "out" / "frame_set.json").exists()


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "phase_folder"])
def test_an_empty_folder_says_what_is_expected_and_where_to_get_it(name, tmp_path):
    with pytest.raises(DatasetError) as caught:
        prepare_frame_set(name, tmp_path, tmp_path / "out")
    assert "holds" in str(caught.value)
    with pytest.raises(DatasetError, match="there is no folder"):
        prepare_frame_set(name, tmp_path / "nowhere", tmp_path / "out")


def test_what_is_missing_is_listed_by_video(tmp_path):
    LAYOUTS["cholec80"](tmp_path)
    (tmp_path / PHASES).unlink()
    builder = get_builder("cholec80")
    missing = list(builder.missing(builder.videos(tmp_path)))
    assert ("video01", "phases") in missing
    assert missing.count(("video02", "frames")) == 1
    assert len(missing) == 77 + 1


def test_endoscapes_reads_the_table_of_all_frames_where_the_official_files_are_missing(tmp_path):
    LAYOUTS["endoscapes"](tmp_path)
    rows = ["vid,frame,avg_cvs,other"]
    for part, video in (("train", 1), ("val", 121), ("test", 162)):
        (tmp_path / part / "annotation_ds_coco.json").unlink()
        rows += [
            f'{video},9500,"[0.0, 0.0, 0.6666666666666666]",x',
            f"{video},9525,,x",
            f'{video},29375,"[1.0, 0.3333333333333333, 0.0]",x',
        ]
    (tmp_path / "all_metadata.csv").write_text("\n".join(rows) + "\n")
    builder = get_builder("endoscapes")
    for video in builder.find(tmp_path):
        assert video.extra == {9500: (0.0, 0.0, pytest.approx(2 / 3)), 29375: (1.0, pytest.approx(1 / 3), 0.0)}
